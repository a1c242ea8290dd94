// mcmc_device.cpp - walkers on the device: transfers around the launches of kernels/hmc.h.
#include "mcmc_device.h"
#include "../kernels/device_times.h"
#include <algorithm>
#include <omp.h>

namespace dynkin {

// Mirrored
// -----------------------------------------------------------------------------------------------------

Mirrored::Mirrored(DeviceState& device, std::size_t size, const char* what)
    : device_(device), host_(device, size, what), numbers_(device, size, what) {}

/// After this the host's numbers are the newest, and no copy reads them.
void Mirrored::fetch() {
    if (device_newer_) numbers_.download(device_.compute_stream(), host_.span());
    if (device_newer_ || copying_) cuda::synchronize(device_.compute_stream());
    device_newer_ = copying_ = false;
}

double Mirrored::read(std::size_t n) {
    if (device_newer_) fetch();
    return host_[n];
}

double& Mirrored::change(std::size_t n) {
    if (device_newer_ || copying_) fetch();
    host_newer_ = true;
    return host_[n];
}

void Mirrored::fill(double value) {
    device_newer_ = false;
    fetch();
    std::fill_n(host_.data(), host_.size(), value);
    host_newer_ = true;
}

const double* Mirrored::on_device() {
    if (host_newer_) {
        numbers_.upload(device_.compute_stream(), host_.span());
        host_newer_ = false, copying_ = true;
    }
    return numbers_.data();
}

double* Mirrored::changed_on_device() {
    on_device();
    device_newer_ = true;
    return numbers_.data();
}

// The walkers
// -----------------------------------------------------------------------------------------------------

namespace {
constexpr std::size_t group_numbers = std::size_t{1} << 20; // kept states of one copy, 8 MiB
constexpr std::size_t slack = 8 * 256;                      // of the allocator, for the arrays of both groups
} // namespace

DeviceChains::DeviceChains(const Context& context, const EnergyView& law, std::size_t chains,
                           std::size_t levels, int /*lanes*/)
    : context_(context), device_(context.device_state()), stream_(device_.compute_stream()),
      law_(device_, law), chains_(chains), levels_(levels), d_(dynkin::dimension(law)),
      x_(device_, levels * chains * d_, "states"), gradient_(device_, levels * chains * d_, "gradients"),
      scratch_(device_, cuda::hmc_scratch(law, device_.properties().shared_memory_a_block, levels * chains),
               "moving states"),
      scales_(device_, levels * d_, "masses"), moments_(device_, 2 * levels * d_, "variances"),
      values_(device_, most_quantities * chains, "watched quantities"),
      level_(device_, levels, "temperatures"), coordinates_(device_, most_quantities, "watched coordinates"),
      energy_(device_, levels * chains, "energies"), factor_(device_, levels * chains, "step sizes"),
      acceptance_(device_, levels * chains, "acceptances"),
      acceptance_sum_(device_, levels * chains, "acceptances"),
      swap_sum_(device_, levels * chains, "acceptances of swaps"),
      staging_(device_, std::max(2 * levels * d_, most_quantities * chains), "watched quantities"),
      scales_in_(device_, levels * d_, "masses"), level_in_(device_, levels, "temperatures") {
    factor_.fill(1);
    acceptance_.fill(0);
    clear_sums();
}

double DeviceChains::mean(Mirrored& values, std::size_t level) {
    double sum = 0;
    for (std::size_t c = 0; c < chains_; ++c) sum += values.read(level * chains_ + c);
    return sum / static_cast<double>(chains_);
}

void DeviceChains::clear_sums() {
    acceptance_sum_.fill(0);
    swap_sum_.fill(0);
}

cuda::HmcWalkers DeviceChains::walkers() {
    return {chains_,
            static_cast<int>(levels_),
            x_.data(),
            gradient_.data(),
            energy_.changed_on_device(),
            factor_.on_device(),
            acceptance_.changed_on_device(),
            acceptance_sum_.changed_on_device(),
            swap_sum_.changed_on_device(),
            scratch_.data()};
}

const HmcLevel* DeviceChains::upload(const std::vector<HmcLevel>& levels) {
    cuda::synchronize(stream_); // the copies before
    for (std::size_t k = 0; k < levels_; ++k) {
        std::copy_n(levels[k].scale, d_, scales_in_.data() + k * d_);
        level_in_[k] = levels[k];
        level_in_[k].scale = scales_.data() + k * d_;
    }
    scales_.upload(stream_, scales_in_.span());
    level_.upload(stream_, level_in_.span());
    return level_.data();
}

void DeviceChains::advance(const std::vector<HmcLevel>& levels, const HmcSpan& span) {
    const HmcLevel* level = upload(levels);
    timed(device_, "hmc", [&] { cuda::hmc_advance(stream_, law_.view(), level, span, walkers()); });
}

void DeviceChains::variances(double* mean, double* square) {
    const std::size_t size = levels_ * d_;
    cuda::hmc_variances(stream_, d_, walkers(), moments_.data(), moments_.data() + size);
    moments_.download(stream_, staging_.span().first(2 * size));
    cuda::synchronize(stream_);
    std::copy_n(staging_.data(), size, mean);
    std::copy_n(staging_.data() + size, size, square);
}

cuda::HmcQuantities DeviceChains::watched(const Quantities& quantities) {
    std::vector<std::int32_t> wanted;
    for (const std::size_t i : quantities.coordinates) wanted.push_back(static_cast<std::int32_t>(i));
    if (wanted != watched_) {
        coordinates_.upload(stream_, wanted);
        cuda::synchronize(stream_);
        watched_ = wanted;
    }
    return {coordinates_.data(), wanted.size(), quantities.edges};
}

void DeviceChains::observe(const Quantities& quantities, std::size_t level, std::size_t count, double* out) {
    cuda::HmcWalkers some = walkers();
    some.x += level * chains_ * d_, some.energy += level * chains_, some.chains = count;
    cuda::hmc_observe(stream_, law_.view(), some, 1, watched(quantities), values_.data());
    const std::size_t size = quantities.count() * count;
    values_.download(stream_, staging_.span().first(size));
    cuda::synchronize(stream_);
    std::copy_n(staging_.data(), size, out);
}

std::vector<double> DeviceChains::positions() { return to_host(device_, x_); }

void DeviceChains::set_positions(const std::vector<double>& all) {
    x_.upload(stream_, all);
    cuda::energy_gradient(stream_, law_.view(), levels_ * chains_, x_.data(), energy_.changed_on_device(),
                          gradient_.data());
    cuda::synchronize(stream_);
}

// Kept states
// -----------------------------------------------------------------------------------------------------

/// Two groups of as many rounds as are wanted, are worth a copy, and fit.
void DeviceChains::prepare_kept(std::size_t rounds, std::size_t quantities) {
    const std::size_t round = chains_ * (d_ + quantities);
    const std::size_t wanted = std::min(rounds, std::max<std::size_t>(group_numbers / round, 1));
    if (wanted <= kept_rounds_) return;
    kept_rounds_ = 0;
    for (Kept& kept : kept_) kept.rows = {}, kept.values = {}, kept.rows_out = {}, kept.values_out = {};
    const std::size_t left = device_.memory_left() - std::min<std::uint64_t>(device_.memory_left(), slack);
    const std::size_t fitting = std::clamp<std::size_t>(left / (2 * sizeof(double) * round), 1, wanted);
    for (Kept& kept : kept_) {
        kept.rows = {device_, fitting * chains_ * d_, "kept states"};
        kept.values = {device_, fitting * chains_ * quantities, "watched quantities"};
        kept.rows_out = {device_, fitting * chains_ * d_, "kept states"};
        kept.values_out = {device_, fitting * chains_ * quantities, "watched quantities"};
    }
    kept_rounds_ = fitting;
}

void DeviceChains::collect(Kept& kept, std::size_t quantities, double* rows, const Put& put) {
    if (kept.count == 0) return;
    kept.done.synchronize();
    std::copy_n(kept.rows_out.data(), kept.count * chains_ * d_, rows + kept.first * chains_ * d_);
    const double* values = kept.values_out.data();
#pragma omp parallel for schedule(static) num_threads(context_.threads())
    for (std::size_t c = 0; c < chains_; ++c) {
        double of_chain[most_quantities];
        for (std::size_t round = 0; round < kept.count; ++round) {
            for (std::size_t q = 0; q < quantities; ++q)
                of_chain[q] = values[(round * quantities + q) * chains_ + c];
            put(c, kept.first + round, std::span<const double>(of_chain).first(quantities));
        }
    }
    kept.count = 0;
}

/// One group of rounds moves while the one before is copied on the other stream and recorded on the host.
void DeviceChains::advance_and_keep(const std::vector<HmcLevel>& levels, const HmcSpan& span,
                                    std::size_t rounds, const Quantities& quantities, double* rows,
                                    const Put& put) {
    const std::size_t count = quantities.count();
    prepare_kept(rounds, count);
    const HmcLevel* level = upload(levels);
    const cuda::HmcQuantities what = watched(quantities);
    HmcSpan now = span;
    std::size_t place = 0;
    for (std::size_t first = 0; first < rounds; first += kept_rounds_, place ^= 1) {
        Kept& kept = kept_[place];
        collect(kept, count, rows, put);
        kept.first = first, kept.count = std::min(kept_rounds_, rounds - first);
        for (std::size_t round = 0; round < kept.count; ++round, now.first += span.count) {
            cuda::hmc_advance(stream_, law_.view(), level, now, walkers());
            cuda::copy_on_device(stream_, kept.rows.data() + round * chains_ * d_, x_.data(),
                                 chains_ * d_ * sizeof(double));
            cuda::hmc_observe(stream_, law_.view(), walkers(), 1, what,
                              kept.values.data() + round * chains_ * count);
        }
        kept.computed.record(stream_);
        const DeviceStream copies = device_.copy_stream();
        kept.computed.hold_up(copies);
        kept.rows.download(copies, kept.rows_out.span().first(kept.count * chains_ * d_));
        kept.values.download(copies, kept.values_out.span().first(kept.count * chains_ * count));
        kept.done.record(copies);
    }
    collect(kept_[place], count, rows, put);
    collect(kept_[place ^ 1], count, rows, put);
}

} // namespace dynkin

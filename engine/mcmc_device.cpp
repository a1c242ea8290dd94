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
      scales_(device_, levels * d_, "masses"), moments_(device_, 2 * levels * d_, "variances"),
      level_(device_, levels, "temperatures"), coordinates_(device_, most_quantities, "watched coordinates"),
      energy_(device_, levels * chains, "energies"), factor_(device_, levels * chains, "step sizes"),
      acceptance_(device_, levels * chains, "acceptances"),
      acceptance_sum_(device_, levels * chains, "acceptances"),
      swap_sum_(device_, levels * chains, "acceptances of swaps"), batch_(batch_size(law)),
      x_(device_, levels * batch_ * d_, "states"), gradient_(device_, levels * batch_ * d_, "gradients"),
      scratch_(device_, cuda::hmc_scratch(law, device_.properties().shared_memory_a_block, levels, batch_),
               "moving states"),
      values_(device_, most_quantities * batch_, "watched quantities"),
      store_(device_, resident() ? 0 : levels * chains * d_, "states"),
      staging_(device_, std::max(2 * levels * d_, most_quantities * batch_), "watched quantities"),
      scales_in_(device_, levels * d_, "masses"), level_in_(device_, levels, "temperatures") {
    factor_.fill(1);
    acceptance_.fill(0);
    clear_sums();
}

/// As many chains as the memory holds with their states, and one round of kept states twice.
std::size_t DeviceChains::batch_size(const EnergyView& law) const {
    const auto scratch = [&](std::size_t chains) {
        return cuda::hmc_scratch(law, device_.properties().shared_memory_a_block, levels_, chains);
    };
    constexpr std::size_t whole_blocks = 128;
    const std::size_t numbers =
        levels_ * 2 * d_ + scratch(whole_blocks) / whole_blocks + 2 * d_ + 3 * most_quantities;
    const std::uint64_t rest = slack + scratch(1) * sizeof(double); // of a block that is not full
    const std::size_t left = device_.memory_left() - std::min(device_.memory_left(), rest);
    return std::clamp<std::size_t>(left / (numbers * sizeof(double)), 1, chains_);
}

/// Energies and gradients from the states there.
void DeviceChains::refresh(const Batch& batch) {
    double* energy = energy_.changed_on_device();
    for (std::size_t k = 0; k < levels_; ++k)
        cuda::energy_gradient(stream_, law_.view(), batch.count, x_.data() + k * batch.count * d_,
                              energy + k * chains_ + batch.first, gradient_.data() + k * batch.count * d_);
}

/// The states of a batch come to the device and go back; neither where all stay there.
void DeviceChains::load(const Batch& batch) {
    if (!resident()) x_.upload(stream_, stored(batch));
}
void DeviceChains::save(const Batch& batch) {
    if (!resident()) x_.download(stream_, stored(batch));
}

/// work(batch) with its states on the device.
template <class Work> void DeviceChains::for_batches(const Work& work) {
    for (std::size_t first = 0; first < chains_; first += batch_) {
        const Batch batch{first, std::min(batch_, chains_ - first)};
        load(batch);
        work(batch);
    }
}

/// move(batch) changes its states. Energies and gradients are made anew, which gives the same.
template <class Move> void DeviceChains::move_along(const Move& move) {
    for_batches([&](const Batch& batch) {
        if (!resident()) refresh(batch);
        move(batch);
        save(batch);
    });
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

cuda::HmcWalkers DeviceChains::walkers(const Batch& batch) {
    return {batch.count,
            static_cast<int>(levels_),
            x_.data(),
            gradient_.data(),
            energy_.changed_on_device(),
            factor_.on_device(),
            acceptance_.changed_on_device(),
            acceptance_sum_.changed_on_device(),
            swap_sum_.changed_on_device(),
            scratch_.data(),
            batch.first,
            chains_};
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
    move_along([&](const Batch& batch) {
        timed(device_, "hmc", [&] { cuda::hmc_advance(stream_, law_.view(), level, span, walkers(batch)); });
    });
}

void DeviceChains::variances(double* mean, double* square) {
    const std::size_t size = levels_ * d_;
    double *sums = moments_.data(), *squares = sums + size;
    cuda::fill_zero(stream_, sums, 2 * size * sizeof(double));
    for_batches([&](const Batch& batch) { cuda::hmc_add_sums(stream_, d_, walkers(batch), sums); });
    for_batches([&](const Batch& batch) {
        cuda::hmc_add_squares(stream_, d_, walkers(batch), chains_, sums, squares);
    });
    moments_.download(stream_, staging_.span().first(2 * size));
    cuda::synchronize(stream_);
    for (std::size_t n = 0; n < size; ++n) mean[n] = staging_[n] / static_cast<double>(chains_);
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
    const cuda::HmcQuantities what = watched(quantities);
    for_batches([&](const Batch& batch) {
        if (batch.first >= count) return;
        cuda::HmcWalkers some = walkers(batch);
        some.x += level * batch.count * d_, some.energy += level * chains_;
        some.chains = std::min(batch.count, count - batch.first);
        cuda::hmc_observe(stream_, law_.view(), some, 1, what, values_.data());
        const std::size_t size = quantities.count() * some.chains;
        values_.download(stream_, staging_.span().first(size));
        cuda::synchronize(stream_);
        for (std::size_t q = 0; q < quantities.count(); ++q)
            std::copy_n(staging_.data() + q * some.chains, some.chains, out + q * count + batch.first);
    });
}

std::vector<double> DeviceChains::positions() {
    if (resident()) return to_host(device_, x_);
    cuda::synchronize(stream_);
    std::vector<double> all(levels_ * chains_ * d_);
    for (std::size_t first = 0; first < chains_; first += batch_) {
        const Batch batch{first, std::min(batch_, chains_ - first)};
        for (std::size_t k = 0; k < levels_; ++k)
            std::copy_n(stored(batch).data() + k * batch.count * d_, batch.count * d_,
                        all.data() + (k * chains_ + first) * d_);
    }
    return all;
}

void DeviceChains::set_positions(const std::vector<double>& all) {
    cuda::synchronize(stream_); // copies to and from the store
    for (std::size_t first = 0; first < chains_; first += batch_) {
        const Batch batch{first, std::min(batch_, chains_ - first)};
        if (resident()) x_.upload(stream_, all);
        for (std::size_t k = 0; k < levels_ && !resident(); ++k)
            std::copy_n(all.data() + (k * chains_ + first) * d_, batch.count * d_,
                        stored(batch).data() + k * batch.count * d_);
        load(batch);
        refresh(batch);
    }
    cuda::synchronize(stream_);
}

// Kept states
// -----------------------------------------------------------------------------------------------------

/// Two groups of as many rounds of a batch as are wanted, are worth a copy, and fit.
void DeviceChains::prepare_kept(std::size_t rounds, std::size_t quantities) {
    const std::size_t round = batch_ * (d_ + quantities);
    const std::size_t wanted = std::min(rounds, std::max<std::size_t>(group_numbers / round, 1));
    if (wanted <= kept_rounds_) return;
    kept_rounds_ = 0;
    for (Kept& kept : kept_) kept.rows = {}, kept.values = {}, kept.rows_out = {}, kept.values_out = {};
    const std::size_t left = device_.memory_left() - std::min<std::uint64_t>(device_.memory_left(), slack);
    const std::size_t fitting = std::clamp<std::size_t>(left / (2 * sizeof(double) * round), 1, wanted);
    for (Kept& kept : kept_) {
        kept.rows = {device_, fitting * batch_ * d_, "kept states"};
        kept.values = {device_, fitting * batch_ * quantities, "watched quantities"};
        kept.rows_out = {device_, fitting * batch_ * d_, "kept states"};
        kept.values_out = {device_, fitting * batch_ * quantities, "watched quantities"};
    }
    kept_rounds_ = fitting;
}

void DeviceChains::collect(Kept& kept, std::size_t quantities, double* rows, const Put& put) {
    if (kept.count == 0) return;
    kept.done.synchronize();
    put_kept(kept, quantities, rows, put);
    kept.count = 0;
}

void DeviceChains::put_kept(const Kept& kept, std::size_t quantities, double* rows, const Put& put) const {
    const Batch batch = kept.batch;
    for (std::size_t round = 0; round < kept.count; ++round)
        std::copy_n(kept.rows_out.data() + round * batch.count * d_, batch.count * d_,
                    rows + ((kept.first + round) * chains_ + batch.first) * d_);
    const double* values = kept.values_out.data();
#pragma omp parallel for schedule(static) num_threads(context_.threads())
    for (std::size_t c = 0; c < batch.count; ++c) {
        double of_chain[most_quantities];
        for (std::size_t round = 0; round < kept.count; ++round) {
            for (std::size_t q = 0; q < quantities; ++q)
                of_chain[q] = values[(round * quantities + q) * batch.count + c];
            put(batch.first + c, kept.first + round, std::span<const double>(of_chain).first(quantities));
        }
    }
}

/// One group of rounds moves while the one before is copied on the other stream and recorded on the host.
void DeviceChains::advance_and_keep(const std::vector<HmcLevel>& levels, const HmcSpan& span,
                                    std::size_t rounds, const Quantities& quantities, double* rows,
                                    const Put& put) {
    const std::size_t count = quantities.count();
    prepare_kept(rounds, count);
    const HmcLevel* level = upload(levels);
    const cuda::HmcQuantities what = watched(quantities);
    std::size_t place = 0;
    move_along([&](const Batch& batch) {
        HmcSpan now = span;
        for (std::size_t first = 0; first < rounds; first += kept_rounds_, place ^= 1) {
            Kept& kept = kept_[place];
            collect(kept, count, rows, put);
            kept.batch = batch, kept.first = first, kept.count = std::min(kept_rounds_, rounds - first);
            const std::size_t states = batch.count * d_, values = batch.count * count;
            for (std::size_t round = 0; round < kept.count; ++round, now.first += span.count) {
                cuda::hmc_advance(stream_, law_.view(), level, now, walkers(batch));
                cuda::copy_on_device(stream_, kept.rows.data() + round * states, x_.data(),
                                     states * sizeof(double));
                cuda::hmc_observe(stream_, law_.view(), walkers(batch), 1, what,
                                  kept.values.data() + round * values);
            }
            kept.computed.record(stream_);
            const DeviceStream copies = device_.copy_stream();
            kept.computed.hold_up(copies);
            kept.rows.download(copies, kept.rows_out.span().first(kept.count * states));
            kept.values.download(copies, kept.values_out.span().first(kept.count * values));
            kept.done.record(copies);
        }
    });
    collect(kept_[place], count, rows, put);
    collect(kept_[place ^ 1], count, rows, put);
}

} // namespace dynkin

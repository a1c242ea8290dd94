// metrics_device.cpp - metrics on the device: rows come by in chunks and leave a column for each law, as many
// as the memory holds at a time; laws are sorted and compared there.
#include "../kernels/laws_cuda.h"
#include "../kernels/rows_cuda.h"
#include "../kernels/sort_cuda.h"
#include "device_chunks.h"
#include "energy_device.h"
#include "energy_law.h"
#include "error.h"
#include "metrics_measured.h"
#include "progress.h"
#include <cmath>
#include <vector>

namespace dynkin {

using std::size_t;

namespace {

constexpr size_t most_laws = 4096;       ///< of a launch
constexpr size_t allocator_slack = 8192; ///< bytes that rounding up some thirty arrays may take

/// Rows of a chunk, whole runs of second moments: depends on d alone, and so do no results.
size_t chunk_rows(size_t count, size_t d) {
    const size_t runs = std::max<size_t>((size_t{1} << 20) / d / cuda::moment_run, 1);
    return std::min(runs * cuda::moment_run, count);
}

/// Columns of one set of rows, one for each law.
struct Columns {
    DeviceArray<double> value, cumulated; ///< (laws, rows)
    cuda::LawsView view(size_t rows) const { return {rows, value.data(), cumulated.data()}; }
};

/// One set of rows, on its way.
class DeviceRows {
  public:
    DeviceRows(DeviceState& device, const Rows& rows) : device_(device), rows_(rows) {
        if (!rows.weight.empty()) mass_ = to_device(device, std::span(rows.weight), "weights");
    }

    size_t size() const { return rows_.size(); }
    const double* mass() const { return mass_.data(); }
    ChunkSizes sizes() const { return {chunk_rows(size(), rows_.dimension()) * rows_.dimension(), 0, 0}; }

    /// work(first, used, x) for chunks of rows.
    template <class Work> void pass(const Progress& progress, const Work& work) const {
        const size_t d = rows_.dimension();
        for_chunks(
            device_, &progress, size(), chunk_rows(size(), d), sizes(),
            [&](size_t first, size_t used, ChunkBuffers& b) {
                for (size_t n = 0; n < used; ++n) std::copy_n(rows_[first + n], d, b.rows.data() + n * d);
            },
            [&](size_t first, size_t used, ChunkBuffers& b) { work(first, used, b.rows_there.data()); },
            [](size_t, size_t, ChunkBuffers&) {});
    }

  private:
    DeviceState& device_;
    const Rows& rows_;
    DeviceArray<double> mass_;
};

class DeviceMetrics {
  public:
    DeviceMetrics(const Context& context, const Rows& samples, const Rows& reference, std::uint64_t seed)
        : context_(context), device_(context.device_state()), stream_(device_.compute_stream()),
          d_(reference.dimension()), samples_(device_, samples), reference_(device_, reference),
          directions_(directions_on_device(device_, seed, d_)) {}

    Measured operator()(const Target* target) {
        Measured out;
        out.moments = second_moments(samples_), out.moments_reference = second_moments(reference_);
        if (target && target->has_energy()) {
            const EnergyLaw law(*target);
            const DeviceLaw on_device(device_, law.view());
            out.energy = energies(samples_, on_device);
            out.energy_reference = energies(reference_, on_device);
        }
        compare_laws(out);
        return out;
    }

  private:
    static DeviceArray<double> directions_on_device(DeviceState& device, std::uint64_t seed, size_t d) {
        const Array<double> directions = random_directions(seed, d);
        return to_device(device, directions.span(), "directions of slices");
    }
    Array<double> second_moments(const DeviceRows& rows);
    EnergyMoments energies(const DeviceRows& rows, const DeviceLaw& law);
    std::vector<double> sums(unsigned count, const PairwiseTree& tree);
    double* room_for_sums(unsigned count, const PairwiseTree& tree);

    void compare_laws(Measured& out);
    size_t laws_at_once() const;
    void fill(const DeviceRows& rows, size_t first, size_t count, Columns& columns);
    void sort(const DeviceRows& rows, size_t count, Columns& columns);
    void measure_group(size_t first, size_t count, Measured& out);
    std::vector<double> deviations(size_t count);

    const Context& context_;
    DeviceState& device_;
    DeviceStream stream_;
    size_t d_;
    DeviceRows samples_, reference_;
    DeviceArray<double> directions_, sums_;
    Columns law_, law_reference_;
};

/// Upper triangle of E[x x'].
Array<double> DeviceMetrics::second_moments(const DeviceRows& rows) {
    Progress progress(context_, "moments", rows.size());
    Array<double> moments(d_, d_);
    DeviceArray<double> there(device_, d_ * d_, "second moments");
    cuda::fill_zero(stream_, there.data(), d_ * d_ * sizeof(double));
    const double equal = 1 / static_cast<double>(rows.size());
    rows.pass(progress, [&](size_t first, size_t used, const double* x) {
        cuda::add_second_moments(stream_, used, d_, x, rows.mass() ? rows.mass() + first : nullptr, equal,
                                 false, there.data());
        progress.advance(used);
    });
    there.download(stream_, moments.span());
    cuda::synchronize(stream_);
    return moments;
}

/// Where sums over a tree go, a number for each 256 nodes.
double* DeviceMetrics::room_for_sums(unsigned count, const PairwiseTree& tree) {
    const size_t size = count * cuda::whole(tree).blocks();
    if (sums_.size() < size) sums_ = {}, sums_ = {device_, size, "sums"};
    return sums_.data();
}

std::vector<double> DeviceMetrics::sums(unsigned count, const PairwiseTree& tree) {
    const size_t blocks = cuda::whole(tree).blocks();
    std::vector<double> parts(count * blocks), out(count);
    sums_.download(stream_, parts);
    cuda::synchronize(stream_);
    for (size_t k = 0; k < count; ++k) out[k] = tree_sum(std::span(parts).subspan(k * blocks, blocks));
    return out;
}

EnergyMoments DeviceMetrics::energies(const DeviceRows& rows, const DeviceLaw& law) {
    Progress progress(context_, "energies", rows.size());
    DeviceArray<double> u(device_, rows.size(), "energies"), center(device_, 1, "energies");
    rows.pass(progress, [&](size_t first, size_t used, const double* x) {
        cuda::energy_gradient(stream_, law.view(), used, x, u.data() + first, nullptr);
        progress.advance(used);
    });
    const PairwiseTree tree = PairwiseTree::of(rows.size());
    cuda::means(stream_, 1, rows.size(), u.data(), rows.mass(), room_for_sums(1, tree));
    const std::vector<double> mean = sums(1, tree);
    center.upload(stream_, mean);
    cuda::squared_deviations(stream_, 1, rows.size(), u.data(), rows.mass(), center.data(), sums_.data());
    return {mean[0], std::sqrt(sums(1, tree)[0])};
}

// Laws: the marginals, then the slices
// ---------------------------------------------------------------------------------------------------------

/// The columns of laws [first, first + count), in the order of the rows.
void DeviceMetrics::fill(const DeviceRows& rows, size_t first, size_t count, Columns& columns) {
    Progress progress(context_, "laws", rows.size());
    const size_t marginals = first < d_ ? std::min(count, d_ - first) : 0, slice = std::max(first, d_) - d_;
    rows.pass(progress, [&](size_t row, size_t used, const double* x) {
        double* out = columns.value.data() + row;
        cuda::take_columns(stream_, used, d_, x, first, marginals, rows.size(), out);
        cuda::project(stream_, used, d_, x, count - marginals, directions_.data() + slice * d_, rows.size(),
                      out + marginals * rows.size());
        progress.advance(used);
    });
}

void DeviceMetrics::sort(const DeviceRows& rows, size_t count, Columns& columns) {
    const size_t size = rows.size();
    const bool weighted = rows.mass() != nullptr;
    DeviceArray<double> sorted(device_, size, "sorted values");
    DeviceArray<unsigned char> workspace(device_, cuda::sort_workspace(size, weighted), "sorting");
    for (size_t k = 0; k < count; ++k) {
        double* values = columns.value.data() + k * size;
        cuda::ascending(stream_, size, values, sorted.data(), rows.mass(),
                        weighted ? columns.cumulated.data() + k * size : nullptr, workspace.data(),
                        workspace.size());
        cuda::copy_on_device(stream_, values, sorted.data(), size * sizeof(double));
    }
    if (!weighted) return;
    DeviceArray<double> space(device_, count * cuda::cumulate_space(size), "cumulated weights");
    cuda::cumulate(stream_, static_cast<unsigned>(count), size, columns.cumulated.data(), space.data());
}

std::vector<double> DeviceMetrics::deviations(size_t count) {
    const auto laws = static_cast<unsigned>(count);
    const size_t size = reference_.size();
    const PairwiseTree tree = PairwiseTree::of(size);
    cuda::means(stream_, laws, size, law_reference_.value.data(), nullptr, room_for_sums(laws, tree));
    const DeviceArray<double> center =
        to_device(device_, std::span<const double>(sums(laws, tree)), "means of laws");
    cuda::squared_deviations(stream_, laws, size, law_reference_.value.data(), nullptr, center.data(),
                             sums_.data());
    std::vector<double> out = sums(laws, tree);
    for (double& value : out) value = std::sqrt(value);
    return out;
}

void DeviceMetrics::measure_group(size_t first, size_t count, Measured& out) {
    fill(samples_, first, count, law_), sort(samples_, count, law_);
    fill(reference_, first, count, law_reference_), sort(reference_, count, law_reference_);
    const cuda::LawsView laws = law_.view(samples_.size()), other = law_reference_.view(reference_.size());
    const auto distances = [&](size_t from, size_t number, int power) {
        const auto part = [=](cuda::LawsView v) {
            v.value += from * v.size;
            if (v.cumulated) v.cumulated += from * v.size;
            return v;
        };
        const PairwiseTree tree = PairwiseTree::of(laws.size + other.size - 1);
        const auto many = static_cast<unsigned>(number);
        cuda::quantile_distances(stream_, many, part(laws), part(other), power, room_for_sums(many, tree));
        return sums(many, tree);
    };
    const size_t marginals = first < d_ ? std::min(count, d_ - first) : 0;
    if (marginals > 0) {
        DeviceArray<double> tv(device_, marginals, "total variations"), flag(device_, marginals, "flags");
        cuda::total_variations(stream_, static_cast<unsigned>(marginals), laws, other, tv.data(),
                               flag.data());
        const std::vector<double> variation = to_host(device_, tv), constant = to_host(device_, flag),
                                  distance = distances(0, marginals, 1), deviation = deviations(marginals);
        for (size_t k = 0; k < marginals; ++k) {
            out.total_variation.push_back(variation[k]);
            out.w1.push_back(scaled_w1(distance[k], deviation[k], constant[k] != 0));
        }
    }
    if (marginals == count) return;
    const std::vector<double> squared = distances(marginals, count - marginals, 2);
    out.w2_squared.insert(out.w2_squared.end(), squared.begin(), squared.end());
}

/// What the device's memory holds, beside what passes and sorting take.
size_t DeviceMetrics::laws_at_once() const {
    const size_t n = samples_.size(), m = reference_.size(), most = std::max(n, m);
    const bool weighted = samples_.mass() != nullptr;
    const size_t passes =
        std::max(chunk_buffer_bytes(samples_.sizes()), chunk_buffer_bytes(reference_.sizes()));
    const size_t sorting = most * sizeof(double) + cuda::sort_workspace(most, weighted);
    const size_t blocks = cuda::whole(PairwiseTree::of(n + m - 1)).blocks();
    const size_t numbers = n + m + (weighted ? n + cuda::cumulate_space(n) : 0) + blocks + 4;
    const size_t once = std::max(passes, sorting) + allocator_slack, left = device_.memory_left();
    return std::clamp<size_t>((left - std::min(left, once)) / (numbers * sizeof(double)), 1,
                              std::min(most_laws, d_ + slice_directions));
}

void DeviceMetrics::compare_laws(Measured& out) {
    const size_t all = d_ + slice_directions, at_once = laws_at_once();
    law_.value = {device_, at_once * samples_.size(), "laws of the samples"};
    if (samples_.mass()) law_.cumulated = {device_, at_once * samples_.size(), "cumulated weights"};
    law_reference_.value = {device_, at_once * reference_.size(), "laws of the reference"};
    for (size_t first = 0; first < all; first += at_once)
        measure_group(first, std::min(at_once, all - first), out);
}

} // namespace

Measured measure_on_device(const Context& context, const Rows& samples, const Rows& reference,
                           const Target* target, std::uint64_t seed) {
    return DeviceMetrics(context, samples, reference, seed)(target);
}

} // namespace dynkin

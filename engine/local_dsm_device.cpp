// local_dsm_device.cpp - sums over paths on the device: local laws, draws and features of a basis, the normal
// equations of scores, the entropy production.
#include "device_drift.h"
#include "error.h"
#include "progress.h"
#include "summation.h"
#include <algorithm>
#include <cmath>
#include <span>

namespace dynkin {

using std::size_t;

namespace {

constexpr size_t chunk_numbers = size_t{1} << 23; ///< doubles of a chunk, about; by the problem alone
constexpr size_t tile_rows = 1024;                ///< features of a product, about
constexpr size_t most_tiles = 64;

size_t parts_of(size_t count, size_t size) { return (count + size - 1) / size; }

/// The laws of states, a chunk at a time.
class DeviceLaws {
  public:
    DeviceLaws(DeviceState& device, const DeviceDrift& drift, const cuda::LawPlan& plan, size_t capacity)
        : device_(device), drift_(drift), plan_(plan) {
        const auto d = static_cast<size_t>(plan.d);
        y_ = {device, capacity * d, "states"}, mean_ = {device, capacity * d, "local laws"};
        factor_ = {device, capacity * d * d, "local laws"};
        if (plan.gap == 0) return;
        f_ = {device, capacity * d, "drifts"};
        if (plan.kind != Linearisation::euler) jacobian_ = {device, capacity * d * d, "drifts"};
        if (plan.kind == Linearisation::ito) ito_ = {device, capacity * d * d, "drifts"};
    }
    /// Doubles a path.
    static size_t numbers(size_t d) { return 3 * d + 3 * d * d; }

    /// Enqueues the laws of these rows; failed: null, or a flag a row.
    void make(std::span<const double> rows, unsigned char* failed) {
        const DeviceStream stream = device_.compute_stream();
        const size_t count = rows.size() / static_cast<size_t>(plan_.d);
        y_.upload(stream, rows);
        if (plan_.gap == 0) {
            cuda::copy_on_device(stream, mean_.data(), y_.data(), rows.size_bytes());
            return cuda::fill_zero(stream, factor_.data(), factor_.size() * sizeof(double));
        }
        if (plan_.kind == Linearisation::euler)
            cuda::drift_values(stream, drift_.law(), count, y_.data(), f_.data());
        else
            cuda::drift_derivatives(stream, drift_.law(), drift_.noise(), count, y_.data(), f_.data(),
                                    jacobian_.data(), ito_.data());
        cuda::local_laws(stream, plan_, count, y_.data(), f_.data(), jacobian_.data(), ito_.data(),
                         mean_.data(), factor_.data(), failed);
    }
    const double* mean() const { return mean_.data(); }
    const double* factor() const { return factor_.data(); }

  private:
    DeviceState& device_;
    const DeviceDrift& drift_;
    cuda::LawPlan plan_;
    DeviceArray<double> y_, f_, jacobian_, ito_, mean_, factor_;
};

class ReferenceOnDevice {
  public:
    ReferenceOnDevice(DeviceState& device, const ScoreReference& reference)
        : mean_(to_device(device, std::span<const double>(reference.mean), "the reference")),
          precision_(to_device(device, reference.precision.span(), "the reference")),
          view_{reference.kind, mean_.data(), precision_.data()} {}
    const ReferenceView& view() const { return view_; }

  private:
    DeviceArray<double> mean_, precision_;
    ReferenceView view_;
};

/// How the rows of features of a group are cut: tiles of whole paths, some of which make a chunk. By the
/// problem alone, for products of other sizes may be rounded otherwise.
struct Tiling {
    size_t points, driven;                                  ///< a path, and of a point
    size_t paths, tiles;                                    ///< a tile, and a chunk
    size_t rows() const { return paths * points * driven; } ///< a tile
    size_t chunk() const { return paths * tiles; }          ///< paths

    Tiling(size_t points_a_path, const DeviceBasis& basis, size_t d, size_t group_paths, size_t laws)
        : points(points_a_path), driven(basis.driven()),
          paths(std::max<size_t>(tile_rows / (points * driven), 1)) {
        const size_t columns = basis.terms() + 1,
                     point = driven * columns + 3 * basis.functions() + 2 * d + driven,
                     tile = paths * (points * point + laws) + columns * columns;
        tiles =
            std::clamp<size_t>(chunk_numbers / tile, 1, std::min(most_tiles, parts_of(group_paths, paths)));
    }
};

/// Features and targets of chunks of points, and the sums of their products over a group of paths.
class GroupSums {
  public:
    GroupSums(DeviceState& device, const DeviceDrift& drift, const DeviceBasis& basis,
              const ScoreReference& reference, const Tiling& tiling, bool curvatures)
        : device_(device), drift_(drift), basis_(basis), reference_(device, reference), tiling_(tiling),
          curvatures_(curvatures), columns_(basis.terms() + 1) {
        const size_t points = tiling.chunk() * tiling.points;
        const auto d = static_cast<size_t>(basis.view().dimension);
        table_ = {device, points * basis.functions() * (curvatures ? 3 : 2), "functions of coordinates"};
        if (reference.kind == ReferenceScore::drift) f_ = {device, points * d, "drifts"};
        features_ = {device, points * basis.driven() * columns_, "features"};
        part_ = {device, tiling.tiles * columns_ * columns_, "products of features"};
        sum_ = {device, columns_ * columns_, "products of features"};
        if (!curvatures) return;
        laplacian_runs_ = {device, parts_of(points, cuda::sum_run) * basis.terms(), "Laplacians"};
        laplacian_ = {device, basis.terms(), "Laplacians"};
    }

    void start() {
        const DeviceStream stream = device_.compute_stream();
        cuda::fill_zero(stream, sum_.data(), sum_.size() * sizeof(double));
        cuda::fill_zero(stream, laplacian_.data(), laplacian_.size() * sizeof(double));
    }

    /// Points (count, d) on the device and what their targets have beside the reference, or null.
    void add(size_t count, const double* points, const double* pulls, double weight) {
        const DeviceStream stream = device_.compute_stream();
        const size_t rows = count * basis_.driven(), all = tiling_.rows() * tiling_.tiles;
        if (rows < all) // the rest of the last chunk
            cuda::fill_zero(stream, features_.data() + rows * columns_,
                            (all - rows) * columns_ * sizeof(double));
        cuda::basis_tables(stream, basis_.view(), count, points, curvatures_, table_.data());
        cuda::basis_features(stream, basis_.view(), count, curvatures_, table_.data(), weight, columns_,
                             features_.data());
        if (f_.size() > 0) cuda::drift_values(stream, drift_.law(), count, points, f_.data());
        cuda::score_targets(stream, basis_.view(), reference_.view(), drift_.noise(), count, points,
                            f_.data(), pulls, weight, columns_, features_.data() + basis_.terms());
        cuda::gram_tiles(device_, tiling_.tiles, tiling_.rows(), columns_, features_.data(), part_.data());
        cuda::add_parts(stream, tiling_.tiles, columns_ * columns_, part_.data(), sum_.data());
        if (!curvatures_) return;
        cuda::laplacian_runs(stream, basis_.view(), count, table_.data(), laplacian_runs_.data());
        cuda::add_parts(stream, parts_of(count, cuda::sum_run), basis_.terms(), laplacian_runs_.data(),
                        laplacian_.data());
    }

    void finish(ScoreSums::Group& group) const {
        const size_t terms = basis_.terms();
        std::vector<double> sum(sum_.size()), laplacian(terms);
        sum_.download(device_.compute_stream(), sum);
        if (curvatures_) laplacian_.download(device_.compute_stream(), laplacian);
        cuda::synchronize(device_.compute_stream());
        group.gram = Array<double>(terms, terms), group.right.resize(terms);
        for (size_t k = 0; k < terms; ++k) {
            std::copy_n(sum.data() + k * columns_, k + 1, group.gram.row(k));
            group.right[k] = sum[terms * columns_ + k] + laplacian[k];
        }
    }

  private:
    DeviceState& device_;
    const DeviceDrift& drift_;
    const DeviceBasis& basis_;
    ReferenceOnDevice reference_;
    Tiling tiling_;
    bool curvatures_;
    size_t columns_; ///< features and the target
    DeviceArray<double> table_, f_, features_, part_, sum_, laplacian_runs_, laplacian_;
};

/// For each group: body(group, first, last, used, chunk start) ...
template <class Chunk, class Start, class Finish>
void for_groups(const Context& context, size_t paths, size_t chunk, ScoreSums& sums, const Start& start,
                const Chunk& work, const Finish& finish) {
    sums.groups.resize(score_groups(paths));
    const size_t groups = sums.groups.size();
    for (size_t g = 0; g < groups; ++g) {
        const size_t first = paths * g / groups, last = paths * (g + 1) / groups;
        sums.groups[g].paths = static_cast<double>(last - first);
        start();
        for (size_t from = first; from < last; from += chunk)
            work(from, std::min(chunk, last - from), from - first);
        finish(sums.groups[g], first, last);
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    }
}

size_t largest_group(size_t paths) { return parts_of(paths, score_groups(paths)); }

} // namespace

void law_moments_on_device(const Context& context, const DriftProcess& process, const Array<double>& states,
                           double gap, Linearisation linearisation, Array<double>& sums) {
    DeviceState& device = context.device_state();
    const DeviceStream stream = device.compute_stream();
    const size_t d = process.dimension(), n = states.rows();
    const DeviceDrift drift(device, process);
    const size_t wanted = std::max<size_t>((size_t{1} << 22) / DeviceLaws::numbers(d) / law_run, 1),
                 left = device.memory_left() / (DeviceLaws::numbers(d) * law_run * 9), // and what is small
        runs = std::clamp<size_t>(left, 1, std::min(wanted, sums.rows()));
    DeviceLaws laws(device, drift, {static_cast<int>(d), drift.noise(), gap, linearisation, nullptr, 0},
                    runs * law_run);
    const DeviceArray<double> origin =
        to_device(device, std::span<const double>(states.row(0), d), "the first state");
    DeviceArray<double> out(device, runs * sums.cols(), "moments of the laws");
    for (size_t first = 0; first < n; first += runs * law_run) {
        const size_t used = std::min(runs * law_run, n - first);
        laws.make({states.row(first), used * d}, nullptr);
        cuda::law_moments(stream, static_cast<int>(d), used, laws.mean(), laws.factor(), origin.data(),
                          out.data());
        out.download(stream, {sums.row(first / law_run), parts_of(used, law_run) * sums.cols()});
        cuda::synchronize(stream);
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    }
}

ScoreSums local_score_sums_on_device(const Context& context, const DriftProcess& process,
                                     const ScoreBasis& basis, const ScoreReference& reference,
                                     const Array<double>& states, double gap, std::uint32_t node,
                                     const LocalDsmOptions& options) {
    DeviceState& device = context.device_state();
    const DeviceStream stream = device.compute_stream();
    const size_t d = process.dimension(), paths = states.rows();
    const int signs = options.antithetic ? 2 : 1;
    const double weight = 1 / std::sqrt(static_cast<double>(options.draws * signs));
    const DeviceDrift drift(device, process);
    const DeviceBasis on_device(device, basis);
    const size_t a_path = static_cast<size_t>(options.draws * signs);
    const Tiling tiling(a_path, on_device, d, largest_group(paths), DeviceLaws::numbers(d));
    const int driven = on_device.view().driven_count;
    DeviceLaws laws(
        device, drift,
        {static_cast<int>(d), drift.noise(), gap, options.linearisation, on_device.view().driven, driven},
        tiling.chunk());
    GroupSums group_sums(device, drift, on_device, reference, tiling, false);
    DeviceArray<double> points(device, tiling.chunk() * a_path * d, "draws"),
        pulls(device, tiling.chunk() * a_path * on_device.driven(), "draws");
    DeviceArray<unsigned char> failed(device, largest_group(paths), "flags");
    std::vector<unsigned char> flags(failed.size());
    ScoreSums sums;
    for_groups(
        context, paths, tiling.chunk(), sums, [&] { group_sums.start(); },
        [&](size_t first, size_t used, size_t within) {
            laws.make({states.row(first), used * d}, failed.data() + within);
            cuda::local_draws(stream,
                              {static_cast<int>(d), options.draws, signs, on_device.view().driven, driven,
                               options.seed, first, node},
                              used, laws.mean(), laws.factor(), points.data(), pulls.data());
            group_sums.add(used * a_path, points.data(), pulls.data(), weight);
        },
        [&](ScoreSums::Group& group, size_t first, size_t last) {
            failed.download(stream, std::span(flags).first(last - first));
            group_sums.finish(group);
            const auto bad =
                std::find_if(flags.begin(), flags.begin() + static_cast<std::ptrdiff_t>(last - first),
                             [](unsigned char flag) { return flag != 0; });
            const auto number = first + static_cast<size_t>(bad - flags.begin());
            if (number < last) throw_no_local_law(number, d, states.row(number), gap);
        });
    return sums;
}

ScoreSums implicit_score_sums_on_device(const Context& context, const DriftProcess& process,
                                        const ScoreBasis& basis, const ScoreReference& reference,
                                        const Array<double>& states) {
    DeviceState& device = context.device_state();
    const size_t d = process.dimension(), paths = states.rows();
    const DeviceDrift drift(device, process);
    const DeviceBasis on_device(device, basis);
    const Tiling tiling(1, on_device, d, largest_group(paths), d);
    GroupSums group_sums(device, drift, on_device, reference, tiling, true);
    DeviceArray<double> points(device, tiling.chunk() * d, "states");
    ScoreSums sums;
    for_groups(
        context, paths, tiling.chunk(), sums, [&] { group_sums.start(); },
        [&](size_t first, size_t used, size_t) {
            points.upload(device.compute_stream(), {states.row(first), used * d});
            group_sums.add(used, points.data(), nullptr, 1);
        },
        [&](ScoreSums::Group& group, size_t, size_t) { group_sums.finish(group); });
    return sums;
}

void production_on_device(const Context& context, const DriftProcess& process, const ScoreBasis& basis,
                          const ScoreReference& reference, const Array<double>& coefficients,
                          const Array<double>& states, Array<double>& part) {
    DeviceState& device = context.device_state();
    const DeviceStream stream = device.compute_stream();
    const size_t d = process.dimension(), sets = coefficients.rows(), terms = basis.terms();
    const DeviceDrift drift(device, process);
    const DeviceBasis on_device(device, basis);
    const ReferenceOnDevice at(device, reference);
    std::vector<double> transposed(coefficients.size());
    for (size_t c = 0; c < sets; ++c)
        for (size_t k = 0; k < terms; ++k) transposed[k * sets + c] = coefficients(c, k);
    const DeviceArray<double> by_term =
        to_device(device, std::span<const double>(transposed), "coefficients");
    const size_t numbers = 3 * d + 2 * on_device.functions() + d * terms, groups = part.rows(),
                 largest = parts_of(states.rows(), groups),
                 wanted = std::max<size_t>(chunk_numbers / numbers / cuda::sum_run, 1),
                 left = device.memory_left() / (cuda::sum_run * (numbers + 1) * 9), // and what is small
        runs = std::clamp<size_t>(left, 1, std::min(wanted, parts_of(largest, cuda::sum_run)));
    const size_t chunk = runs * cuda::sum_run;
    DeviceArray<double> x(device, chunk * d, "states"), f(device, chunk * d, "drifts"),
        references(device, chunk * d, "scores"),
        table(device, chunk * 2 * on_device.functions(), "functions of coordinates"),
        features(device, chunk * d * terms, "features"), sums(device, runs * sets, "entropy production");
    const auto chunk_sums = [&](size_t from, size_t used, double* to) {
        x.upload(stream, {states.row(from), used * d});
        cuda::drift_values(stream, drift.law(), used, x.data(), f.data());
        cuda::score_targets(stream, on_device.view(), at.view(), drift.noise(), used, x.data(), f.data(),
                            nullptr, -1, 1, references.data());
        cuda::basis_tables(stream, on_device.view(), used, x.data(), false, table.data());
        cuda::basis_features(stream, on_device.view(), used, false, table.data(), 1, terms, features.data());
        cuda::production_runs(stream, on_device.view(), used, sets, drift.noise(), f.data(),
                              references.data(), features.data(), by_term.data(), sums.data());
        sums.download(stream, {to, parts_of(used, cuda::sum_run) * sets});
        cuda::synchronize(stream);
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    };
    for (size_t g = 0; g < groups; ++g) {
        const size_t first = states.rows() * g / groups, last = states.rows() * (g + 1) / groups;
        Array<double> run_sums(parts_of(last - first, cuda::sum_run), sets);
        for (size_t from = first; from < last; from += chunk)
            chunk_sums(from, std::min(chunk, last - from), run_sums.row((from - first) / cuda::sum_run));
        for (size_t c = 0; c < sets; ++c)
            part(g, c) = pairwise_sum(0, run_sums.rows(), [&](size_t run) { return run_sums(run, c); });
    }
}

} // namespace dynkin

#include "levels_device.h"
#include "../kernels/conditional_cuda.h"
#include "../kernels/device_times.h"
#include "../kernels/exact_cuda.h"
#include "../kernels/table_cuda.h"
#include "conditions_device.h"
#include "error.h"
#include "exact_levels.h"
#include "level_flow.h"
#include "level_table.h"
#include "stationary.h"
#include "table_device.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>
#include <limits>
#include <type_traits>

namespace dynkin {

using kernels::Conditions;
using kernels::kScoreTile;
using std::size_t;

namespace {

/// Tiles at all targets together beyond which more at a time would not fill the device better.
constexpr size_t kEnough = 16384;
constexpr size_t kMostTargets = 65535; ///< of one launch

template <class T> DeviceArray<T> upload(DeviceState& device, const std::vector<T>& host) {
    return to_device(device, std::span<const T>(host), "a level");
}

} // namespace

DeviceConditions device_conditions(DeviceState& device, const Conditions& from) {
    DeviceConditions to;
    cuda::ConditionsView& v = to.view;
    v.feature_count = static_cast<int>(from.features.size());
    v.predictor_count = static_cast<int>(from.predictor.size());
    v.monomials = from.monomials, v.powers = from.powers, v.intercept = from.intercept;
    v.conditions = static_cast<int>(from.conditions.size());
    const size_t monomials = static_cast<size_t>(from.monomials), padded = static_cast<size_t>(v.padded());
    std::vector<double> transform(monomials * padded, 0); // transposed
    std::vector<Conditions::Condition> ranges;
    for (size_t c = 0; c < from.conditions.size(); ++c) {
        const Conditions::Condition& range = from.conditions[c];
        if (c % cuda::kConditionBlock == 0) ranges.push_back({from.monomials, 0});
        ranges.back().first = std::min(ranges.back().first, range.first);
        ranges.back().last = std::max(ranges.back().last, range.last);
        for (size_t m = 0; m < monomials; ++m) transform[m * padded + c] = from.transform[c * monomials + m];
    }
    to.entries = upload(device, from.entries), v.entries = to.entries.data();
    to.predictor = upload(device, from.predictor), v.predictor = to.predictor.data();
    to.groups = upload(device, from.groups), v.groups = to.groups.data();
    to.features = upload(device, from.features), v.features = to.features.data();
    to.exponents = upload(device, from.exponents), v.exponents = to.exponents.data();
    to.transform = upload(device, transform), v.transform = to.transform.data();
    to.ranges = upload(device, ranges), v.ranges = to.ranges.data();
    return to;
}

namespace {

/// The flow of a kernels::ConditionalPlan<T> on the device.
template <class T> struct DeviceFlow {
    DeviceArray<T> table, coefficients, dt;
    cuda::FlowView<T> view{};
};

template <class T> cuda::FlowView<T> flow_view(const kernels::ConditionalPlan<T>& plan) {
    cuda::FlowView<T> v{};
    const kernels::SiteFunctions<T>& f = plan.functions;
    v.steps = static_cast<int>(plan.dt.size()), v.degree = plan.degree,
    v.pairs = cuda::flow_pairs(plan.degree);
    v.conditions = static_cast<int>(plan.conditions.size());
    v.pieces = f.pieces, v.powers = f.degree + 1;
    v.hermite = f.hermite, v.lo = f.lo, v.hi = f.hi;
    v.first_odd = plan.used[0].first, v.last_odd = plan.used[0].last;
    if (plan.degree > 1) v.first_even = plan.used[1].first, v.last_even = plan.used[1].last;
    for (size_t a = 0; a < static_cast<size_t>(plan.degree); ++a) v.lambda[a] = f.lambda[a];
    std::copy(std::begin(f.potential_slope), std::end(f.potential_slope), v.potential_slope);
    for (int n = 0; n < kernels::kMaxDegree + 2; ++n) v.root[n] = std::sqrt(static_cast<T>(n));
    return v;
}

/// Coefficients in the kernels' order: [time][odd a: alpha | even a: alpha][pair].
template <class T>
std::vector<T> pair_coefficients(const kernels::ConditionalPlan<T>& plan, const cuda::FlowView<T>& v) {
    const size_t row = static_cast<size_t>(cuda::flow_row<T>(v.pairs)),
                 size = static_cast<size_t>(v.coefficients_a_time()), conditions = plan.conditions.size();
    std::vector<T> out((plan.dt.size() + 1) * size, 0);
    for (size_t time = 0; time <= plan.dt.size(); ++time)
        for (size_t a = 0; a < static_cast<size_t>(plan.degree); ++a) {
            const bool even = a % 2 == 1; // function a + 1
            const size_t first = static_cast<size_t>(even ? v.first_even : v.first_odd),
                         last = static_cast<size_t>(even ? v.last_even : v.last_odd);
            T* to = &out[time * size] + a / 2;
            if (even) to += static_cast<size_t>(v.last_odd - v.first_odd) * row;
            for (size_t alpha = first; alpha < last; ++alpha, to += row)
                *to = plan.at(time)[a * conditions + alpha];
        }
    return out;
}

template <class T>
DeviceFlow<T> device_flow(DeviceState& device, const kernels::ConditionalPlan<T>& plan, double scale) {
    DeviceFlow<T> to;
    cuda::FlowView<T>& v = to.view = flow_view(plan);
    v.scale = scale;
    if (!v.hermite) {
        std::vector<T> table = plan.functions.coefficients;
        table.resize(static_cast<size_t>(2 * v.pairs * v.powers * v.pieces), 0);
        to.table = upload(device, table), v.table = to.table.data();
    }
    to.coefficients = upload(device, pair_coefficients(plan, v)), v.coefficients = to.coefficients.data();
    to.dt = upload(device, std::vector<T>(plan.dt.begin(), plan.dt.end())), v.dt = to.dt.data();
    return to;
}

} // namespace

DeviceTable device_table(DeviceState& device, const kernels::LawTable& from) {
    DeviceTable to;
    cuda::TableView& v = to.view;
    v.axis_count = static_cast<int>(from.axes.size());
    std::copy(from.axes.begin(), from.axes.end(), v.axes);
    v.predictor_count = static_cast<int>(from.predictor.size());
    v.intercept = from.intercept, v.scale = from.scale, v.lo = from.lo, v.h = from.h;
    to.predictor = upload(device, from.predictor), v.predictor = to.predictor.data();
    to.entries = upload(device, from.entries), v.entries = to.entries.data();
    to.groups = upload(device, from.groups), v.groups = to.groups.data();
    to.density = upload(device, from.density), v.density = to.density.data();
    to.cumulative = upload(device, from.cumulative), v.cumulative = to.cumulative.data();
    return to;
}

namespace {

/// What exact levels refer to, on the device.
struct DeviceExact {
    DeviceArray<double> base, log_z1;
    DeviceArray<kernels::ExactSite> sites;
    DeviceArray<kernels::ExactLink> links;
    DeviceArray<int> neighbours;
    kernels::ExactView view;

    DeviceExact(DeviceState& device, const ExactLevels& from)
        : base(upload(device, from.tables().base)), log_z1(upload(device, from.tables().log_z1)),
          sites(upload(device, from.tables().sites)), links(upload(device, from.tables().links)),
          neighbours(upload(device, from.tables().neighbours)), view(from.view()) {
        view.base = base.data(), view.log_z1 = log_z1.data(), view.sites = sites.data();
        view.links = links.data(), view.neighbours = neighbours.data();
    }
};

/// A reference's law on the device.
struct DeviceReference {
    DeviceArray<double> density, cumulative;
    cuda::ReferenceView view{};
};

template <class T> DeviceReference device_reference(DeviceState& device, const Family& family) {
    DeviceReference to;
    cuda::ReferenceView& v = to.view;
    require(family.potential.size() <= std::size(v.potential), ErrorKind::input,
            "level: the potential's degree is too high");
    std::copy(family.potential.begin(), family.potential.end(), v.potential);
    v.log_normaliser = family.log_normaliser, v.lo = family.lo, v.hi = family.hi;
    v.hermite = family.kind == ReferenceKind::hermite;
    if (v.hermite) return to;
    const StationaryLaw law(family);
    v.law = law.table();
    const size_t nodes = static_cast<size_t>(v.law.cells) + 1;
    to.density = to_device(device, std::span(v.law.density, nodes), "the law of a reference");
    to.cumulative = to_device(device, std::span(v.law.cumulative, nodes), "the law of a reference");
    v.law.density = to.density.data(), v.law.cumulative = to.cumulative.data();
    v.inner_lo = static_cast<double>(std::nextafter(static_cast<T>(family.lo), T{0}));
    v.inner_hi = static_cast<double>(std::nextafter(static_cast<T>(family.hi), T{0}));
    return to;
}

/// Whether no target is a neighbour of another, so that all can be drawn at the same time.
bool independent(const Level& level) {
    return std::none_of(level.neighbours.begin(), level.neighbours.end(), [&](int j) {
        return std::find(level.targets.begin(), level.targets.end(), j) != level.targets.end();
    });
}

} // namespace

template <class T> struct DeviceLevels<T>::Law {
    DeviceConditions conditions;
    DeviceFlow<T> flow;
    DeviceReference reference;
    DeviceTable table;
    DeviceArray<int> targets, neighbours;
    std::shared_ptr<DeviceExact> exact; ///< of all exact levels
    size_t first_site = 0;              ///< there
    bool tabulated = false;
    int slots = 0, warps = 0;
    size_t fewest = 1, together = 1; ///< so many targets must, and can, be drawn at the same time

    /// Of one tile at one target.
    size_t work_bytes() const {
        const size_t numbers = tabulated || exact ? 0 : 2 + static_cast<size_t>(flow.view.conditions);
        return kScoreTile * (sizeof(double) + sizeof(T) * numbers);
    }
    /// So many of its targets at a time for so many tiles in this much memory, without a change of the
    /// results.
    size_t targets_in(size_t bytes, size_t tiles) const {
        const size_t most = std::clamp<size_t>(bytes / (work_bytes() * tiles), fewest, together);
        return most == targets.size() ? most : most / fewest * fewest;
    }
    /// Targets first .. first + count, their numbers in `space`.
    cuda::ConditionalWork<T> work(size_t first, size_t count, std::byte* space, T* x, size_t tiles,
                                  int columns) const {
        cuda::ConditionalWork<T> w{};
        w.tiles = tiles, w.columns = columns, w.slots = slots, w.x = x;
        w.targets = static_cast<int>(count), w.target = targets.data() + first;
        w.neighbours = neighbours.data() + first * static_cast<size_t>(slots);
        const size_t numbers = count * w.particles();
        w.part = reinterpret_cast<double*>(space);
        w.mean = reinterpret_cast<T*>(w.part + numbers), w.z = w.mean + numbers, w.psi = w.z + numbers;
        return w;
    }
};

/// Levels of tiles.
template <class T> struct DeviceLevels<T>::Run {
    size_t first_level, last_level, tiles;
    const T* from;
    T* to; ///< null: x does not change
    double* log_density;
};

/// What lies on the device for some tiles, and the numbers of some targets there.
template <class T> struct DeviceLevels<T>::Batch {
    size_t tiles; ///< at a time
    DeviceArray<T> x;
    DeviceArray<double> log_density;
    DeviceArray<std::byte> space;

    Batch(DeviceState& device, const Run& run, size_t tile_values, const std::vector<Law>& laws) {
        size_t least = 0,
               most = 0; // bytes a tile: as few targets as possible of any level; all of the largest
        for (size_t k = run.first_level; k < run.last_level; ++k) {
            least = std::max(least, laws[k].work_bytes() * laws[k].fewest);
            most = std::max(most, laws[k].work_bytes() * laws[k].together);
        }
        const size_t state = tile_values * sizeof(T) + kScoreTile * sizeof(double),
                     left = device.memory_left();
        tiles = std::clamp<size_t>(left / (state + least), 1, run.tiles);
        const size_t beside = left - std::min(left, state * tiles);
        x = {device, tiles * tile_values, "samples"};
        log_density = {device, tiles * kScoreTile, "log q"};
        space = {device, std::max(least * tiles, std::min({beside, most * tiles, least * kEnough})),
                 "working space of levels"};
    }
};

template <class T> bool DeviceLevels<T>::fits(const Context& context, const DeviceLevel& level) {
    if (level.exact) return true;
    if (level.table) return independent(*level.level);
    if (cuda::flow_pairs(level.level->degree) == 0) return false;
    const auto plan = conditional_plan<T>(*level.level, 1); // coefficients of every time are as large
    const size_t shared = context.device_state().properties().shared_memory_a_block;
    return cuda::flow_warps(flow_view(plan), shared) > 0 &&
           cuda::describe_shared_memory(plan.powers) <= shared;
}

template <class T> DeviceLevels<T>::DeviceLevels(const Context& context, std::span<const DeviceLevel> levels,
                                                 int columns, int steps)
    : context_(context), columns_(columns) {
    DeviceState& device = context.device_state();
    std::shared_ptr<DeviceExact> exact_levels;
    for (const auto& [level, table, exact, number] : levels) {
        Law& law = laws_.emplace_back();
        if (exact) {
            if (!exact_levels) exact_levels = std::make_shared<DeviceExact>(device, *exact);
            law.exact = exact_levels, law.first_site = exact->range(number).first;
            law.targets = upload(device, level->targets);
            law.together = std::min(level->targets.size(), kMostTargets);
            continue;
        }
        law.targets = upload(device, level->targets), law.neighbours = upload(device, level->neighbours);
        law.slots = level->slots, law.tabulated = table != nullptr;
        law.together = independent(*level) ? std::min(level->targets.size(), kMostTargets) : 1;
        if (table) {
            law.table = device_table(device, table->law());
            law.fewest = std::min<size_t>(cuda::kTableProduct, law.together);
            continue;
        }
        const auto plan = conditional_plan<T>(*level, steps);
        law.conditions = device_conditions(device, plan);
        law.flow = device_flow(device, plan, level->scale);
        law.reference = device_reference<T>(device, level->family);
        law.warps = cuda::flow_warps(law.flow.view, device.properties().shared_memory_a_block);
        require(law.warps > 0, ErrorKind::usage,
                fmt::format("level {}: its basis does not fit into the device's shared memory", level->name));
    }
}
template <class T> DeviceLevels<T>::~DeviceLevels() = default;
template <class T> DeviceLevels<T>::DeviceLevels(DeviceLevels&&) noexcept = default;

/// Calls work(law, conditional work, first tile, log q on the device or null) for the targets of every level,
/// batch after batch.
template <class T> template <class Work> void DeviceLevels<T>::run(const Run& all, const Work& work) const {
    if (all.tiles == 0 || all.first_level == all.last_level) return;
    const DeviceStream stream = context_.device_state().compute_stream();
    const size_t tile_values = static_cast<size_t>(columns_) * kScoreTile;
    Batch batch(context_.device_state(), all, tile_values, laws_);
    double* const log_q = all.log_density ? batch.log_density.data() : nullptr;
    for (size_t tile = 0; tile < all.tiles; tile += batch.tiles) {
        const size_t tiles = std::min(batch.tiles, all.tiles - tile);
        batch.x.upload(stream, {all.from + tile * tile_values, tiles * tile_values});
        if (log_q)
            batch.log_density.upload(stream, {all.log_density + tile * kScoreTile, tiles * kScoreTile});
        for (size_t k = all.first_level; k < all.last_level; ++k) {
            const Law& law = laws_[k];
            const size_t targets = law.targets.size(), together = law.targets_in(batch.space.size(), tiles);
            for (size_t first = 0; first < targets; first += together) {
                auto w = law.work(first, std::min(together, targets - first), batch.space.data(),
                                  batch.x.data(), tiles, columns_);
                if (!log_q) w.part = nullptr;
                work(law, w, tile, log_q);
            }
        }
        if (all.to) batch.x.download(stream, {all.to + tile * tile_values, tiles * tile_values});
        if (log_q)
            batch.log_density.download(stream, {all.log_density + tile * kScoreTile, tiles * kScoreTile});
        cuda::synchronize(stream);
        if (context_.interrupt_signal()) return;
    }
}

template <class T> void DeviceLevels<T>::draw(size_t first_level, size_t last_level, std::uint64_t seed,
                                              std::uint64_t first, size_t tiles, T* x,
                                              double* log_density) const {
    const DeviceStream stream = context_.device_state().compute_stream();
    run({first_level, last_level, tiles, x, x, log_density},
        [&](const Law& law, const cuda::ConditionalWork<T>& work, size_t tile, double* log_q) {
            const std::uint64_t sample = first + tile * kScoreTile;
            if constexpr (std::is_same_v<T, float>) {
                if (law.exact) {
                    cuda::draw_exact(stream, law.exact->view,
                                     law.first_site + static_cast<size_t>(work.target - law.targets.data()),
                                     seed, sample, work);
                    if (log_q) cuda::add_parts(stream, work.targets, work.particles(), work.part, log_q);
                    return;
                }
                if (law.tabulated) {
                    cuda::draw_from_table(stream, law.table.view, seed, sample, work);
                    if (log_q)
                        cuda::add_log_products(stream, work.targets, work.particles(), work.part, log_q);
                    return;
                }
            }
            DeviceState& device = context_.device_state();
            timed(device, "conditional.describe", [&] {
                cuda::describe_conditions(stream, law.conditions.view, work);
                cuda::start_flow(stream, law.reference.view, seed, sample, work);
            });
            timed(device, "conditional.flow",
                  [&] { cuda::generate_flow(stream, law.flow.view, law.warps, work); });
            if (log_q) cuda::add_parts(stream, work.targets, work.particles(), work.part, log_q);
        });
}

template <class T> void DeviceLevels<T>::evaluate(size_t tiles, const T* x, double* log_density) const {
    const DeviceStream stream = context_.device_state().compute_stream();
    run({0, laws_.size(), tiles, x, nullptr, log_density},
        [&](const Law& law, const cuda::ConditionalWork<T>& work, size_t, double* log_q) {
            cuda::describe_conditions(stream, law.conditions.view, work);
            cuda::invert_flow(stream, law.flow.view, law.warps, law.reference.view, work);
            cuda::add_parts(stream, work.targets, work.particles(), work.part, log_q);
        });
}

template class DeviceLevels<float>;
template class DeviceLevels<double>;

} // namespace dynkin

#include "local_device.h"
#include <algorithm>
#include <omp.h>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

// The plan
// -----------------------------------------------------------------------------------------------------

namespace {

constexpr size_t group_numbers = size_t{1} << 20; // kept states of one copy, 4 MiB
constexpr size_t slack = 8 * 256;                 // of the allocator, for the arrays of both groups

template <class T> DeviceArray<T> upload(DeviceState& device, const std::vector<T>& host, const char* what) {
    return to_device(device, std::span<const T>(host), what);
}

/// Visits in colours: each after all neighbours that come before it in the list, so that a colour at a time
/// is as good as one after another. Two colours, but for odd periodic sides.
std::vector<std::vector<LocalPlan::Visit>> colours(const LocalPlan& plan,
                                                   const std::vector<LocalPlan::Visit>& visits) {
    std::vector<std::vector<LocalPlan::Visit>> out;
    std::vector<size_t> free(plan.law.lattice.sites()); // first colour after those of the neighbours
    for (const LocalPlan::Visit& visit : visits) {
        const size_t colour = free[static_cast<size_t>(plan.site(visit))];
        if (colour == out.size()) out.emplace_back();
        out[colour].push_back(visit);
        const int* neighbours = plan.neighbours(visit);
        for (int s = 0; s < plan.baths[visit.bath].table.slots(); ++s)
            if (neighbours[s] >= 0) {
                size_t& next = free[static_cast<size_t>(neighbours[s])];
                next = std::max(next, colour + 1);
            }
    }
    return out;
}

} // namespace

DeviceLocalPlan::DeviceLocalPlan(DeviceState& device, const LocalPlan& from, const EnergyView& law)
    : device_(device), law_(device, law) {
    view_.law = std::get<LatticeView>(law_.view());
    view_.terms = static_cast<int>(from.law.site.size()), view_.even = from.even;
    take_baths(from);
    if (from.shape) take_tile(from);
}

const int* DeviceLocalPlan::keep(const std::vector<int>& list) {
    return lists_.emplace_back(upload(device_, list, "places of a lattice")).data();
}

void DeviceLocalPlan::take_baths(const LocalPlan& from) {
    std::vector<cuda::LocalBath> baths;
    for (const LocalPlan::Bath& bath : from.baths) {
        tables_.push_back(device_table(device_, bath.table.law()));
        baths.push_back({tables_.back().view, 0.5 * from.law.coupling * bath.edges, bath.outside});
        view_.slots = bath.table.slots(); // the same for all
    }
    baths_ = upload(device_, baths, "tables of a heat bath"), view_.baths = baths_.data();
    std::vector<int> neighbours;
    for (const LocalPlan::Bath& bath : from.baths)
        neighbours.insert(neighbours.end(), bath.table.neighbours(0),
                          bath.table.neighbours(bath.table.targets().size()));
    view_.neighbours = keep(neighbours);
    view_.all = sweep(from, from.all), view_.walls = sweep(from, from.walls);
}

cuda::LocalSweep DeviceLocalPlan::sweep(const LocalPlan& from, const std::vector<LocalPlan::Visit>& visits) {
    std::vector<size_t> before(from.baths.size(), 0); // targets of the baths before
    for (size_t b = 1; b < before.size(); ++b)
        before[b] = before[b - 1] + from.baths[b - 1].table.targets().size();
    std::vector<cuda::LocalVisit> list;
    std::vector<int> first = {0};
    for (const auto& colour : colours(from, visits)) {
        for (const LocalPlan::Visit& visit : colour) {
            const size_t target = before[visit.bath] + visit.place;
            list.push_back({static_cast<int>(visit.bath), from.site(visit),
                            static_cast<int>(target) * from.baths[visit.bath].table.slots()});
        }
        most_at_once_ = std::max(most_at_once_, static_cast<int>(colour.size()));
        first.push_back(static_cast<int>(list.size()));
    }
    const auto& kept = visits_.emplace_back(upload(device_, list, "places of a lattice"));
    return {kept.data(), keep(first), static_cast<int>(first.size()) - 1};
}

void DeviceLocalPlan::take_tile(const LocalPlan& from) {
    const Lattice& lattice = from.law.lattice;
    view_.side = from.shape->side(), view_.axes = from.shape->axes(), view_.points = from.shape->points();
    view_.periodic = lattice.boundary == Boundary::periodic;
    view_.outside = lattice.boundary == Boundary::fixed ? 1 : 0;
    frame_ = upload(device_, from.frame, "values outside"), view_.frame = frame_.data();
    std::fill(std::begin(view_.sites), std::end(view_.sites), 1);
    for (size_t k = 0; k < lattice.shape.size(); ++k) {
        view_.sites[k] = static_cast<int>(lattice.shape[k]);
        view_.origins[k] = tile_origins(view_.sites[k], view_.side, lattice.boundary);
    }
    std::vector<cuda::LocalLevel> levels;
    for (const LevelTable& level : from.levels) {
        tables_.push_back(device_table(device_, level.law()));
        const std::vector<int> neighbours(level.neighbours(0), level.neighbours(level.targets().size()));
        levels.push_back({tables_.back().view, keep(level.targets()), keep(neighbours),
                          static_cast<int>(level.targets().size()), level.slots()});
    }
    levels_ = upload(device_, levels, "levels of a tile"), view_.levels = levels_.data();
    view_.level_count = static_cast<int>(levels.size());
    std::vector<int> edges;
    for (const auto& [a, b] : from.tile_edges) edges.push_back(a), edges.push_back(b);
    view_.interior = keep(from.interior), view_.interior_count = static_cast<int>(from.interior.size());
    view_.edges = keep(edges), view_.edge_count = static_cast<int>(from.tile_edges.size());
}

// The chains
// -----------------------------------------------------------------------------------------------------

DeviceLocalChains::DeviceLocalChains(const Context& context, const Target& target, const Tile* tile,
                                     size_t chains)
    : context_(context), device_(context.device_state()), stream_(device_.compute_stream()),
      blocks_((chains + kScoreTile - 1) / kScoreTile), d_(target.dimension()) {
    const LocalMoves moves(context, target, tile);
    const EnergyLaw law(target);
    box_ = moves.plan().box;
    plan_ = std::make_unique<DeviceLocalPlan>(device_, moves.plan(), law.view());
    workers_ = cuda::local_workers(plan_->most_at_once());
    coordinates_ = {device_, most_quantities, "watched coordinates"};
    x_ = {device_, blocks_ * d_ * kScoreTile, "states"};
    moves_ = {device_, 2 * blocks_ * kScoreTile, "accepted moves"};
    set_counts(std::vector<MoveCount>(blocks_));
    plan_scratch();
}

/// Half of what is left at most, for kept states need memory too.
void DeviceLocalChains::plan_scratch() {
    const size_t all = blocks_ * kScoreTile / cuda::kLocalGroup,
                 each = cuda::local_scratch(plan_->view(), workers_);
    groups_ =
        each == 0 ? all : std::clamp<size_t>(device_.memory_left() / 2 / (each * sizeof(float)), 1, all);
    scratch_ = {device_, groups_ * each, "points of tiles"};
}

cuda::LocalStates DeviceLocalChains::view() { return {blocks_ * kScoreTile, x_.data(), moves_.data()}; }

Array<float> DeviceLocalChains::states() {
    Array<float> x(blocks_, d_ * kScoreTile);
    x_.download(stream_, x.span());
    cuda::synchronize(stream_);
    return x;
}

void DeviceLocalChains::set_states(const Array<float>& x) {
    x_.upload(stream_, std::span<const float>(x.data(), x.size()));
    cuda::synchronize(stream_);
}

std::vector<MoveCount> DeviceLocalChains::counts() {
    const std::vector<std::uint64_t> moves = to_host(device_, moves_);
    std::vector<MoveCount> out(blocks_);
    for (size_t c = 0; c < moves.size() / 2; ++c)
        out[c / kScoreTile].accepted += moves[2 * c], out[c / kScoreTile].proposed += moves[2 * c + 1];
    return out;
}

void DeviceLocalChains::set_counts(const std::vector<MoveCount>& counts) {
    std::vector<std::uint64_t> moves(moves_.size(), 0); // those of 64 chains with the first of them
    for (size_t b = 0; b < counts.size(); ++b) {
        moves[2 * b * kScoreTile] = counts[b].accepted;
        moves[2 * b * kScoreTile + 1] = counts[b].proposed;
    }
    moves_.upload(stream_, moves);
    cuda::synchronize(stream_);
}

cuda::HmcQuantities DeviceLocalChains::watched(const Quantities& quantities) {
    std::vector<std::int32_t> wanted;
    for (const size_t i : quantities.coordinates) wanted.push_back(static_cast<std::int32_t>(i));
    if (wanted != watched_) {
        coordinates_.upload(stream_, wanted);
        cuda::synchronize(stream_);
        watched_ = wanted;
    }
    return {coordinates_.data(), wanted.size(), quantities.edges};
}

/// Groups of chains one part after another, for they share the working space.
void DeviceLocalChains::move(const cuda::LocalSpan& span) {
    const size_t all = blocks_ * kScoreTile / cuda::kLocalGroup;
    for (size_t first = 0; first < all; first += groups_)
        cuda::local_advance(stream_, plan_->view(), span, view(), workers_, first,
                            std::min(groups_, all - first), scratch_.data());
}

/// Two groups of as many rounds as are wanted, are worth a copy, and fit.
void DeviceLocalChains::prepare_kept(size_t rounds, const LocalWatch& watch) {
    const size_t numbers = watch.rows ? watch.chains * d_ : 0,
                 values = watch.chains * watch.quantities.count();
    const size_t wanted = std::min(rounds, std::max<size_t>(group_numbers / (numbers + values), 1));
    if (wanted <= kept_rounds_ && numbers == kept_numbers_ && values == kept_values_) return;
    for (Kept& kept : kept_) kept.rows = {}, kept.values = {}, kept.rows_out = {}, kept.values_out = {};
    const size_t left = device_.memory_left() - std::min<std::uint64_t>(device_.memory_left(), slack),
                 bytes = 2 * (numbers * sizeof(float) + values * sizeof(double));
    kept_rounds_ = std::clamp<size_t>(left / bytes, 1, wanted), kept_numbers_ = numbers,
    kept_values_ = values;
    for (Kept& kept : kept_) {
        kept.rows = {device_, kept_rounds_ * numbers, "kept states"};
        kept.values = {device_, kept_rounds_ * values, "watched quantities"};
        kept.rows_out = {device_, kept_rounds_ * numbers, "kept states"};
        kept.values_out = {device_, kept_rounds_ * values, "watched quantities"};
    }
}

void DeviceLocalChains::collect(Kept& kept, const LocalWatch& watch) {
    if (kept.count == 0) return;
    kept.done.synchronize();
    if (watch.rows)
        std::copy_n(kept.rows_out.data(), kept.count * kept_numbers_,
                    watch.rows + kept.first * kept_numbers_);
    const size_t quantities = watch.quantities.count(), chains = watch.chains;
    const double* values = kept.values_out.data();
#pragma omp parallel for schedule(static) num_threads(context_.threads())
    for (size_t c = 0; c < chains; ++c) {
        double of_chain[most_quantities];
        for (size_t round = 0; round < kept.count; ++round) {
            for (size_t q = 0; q < quantities; ++q)
                of_chain[q] = values[(round * quantities + q) * chains + c];
            watch.put(c, kept.first + round, std::span<const double>(of_chain).first(quantities));
        }
    }
    kept.count = 0;
}

/// One group of rounds moves while the one before is copied on the other stream and recorded on the host.
void DeviceLocalChains::advance(const LocalRounds& now, const LocalWatch& watch) {
    cuda::LocalSpan span{now.seed, static_cast<std::uint32_t>(now.iteration),
                         static_cast<std::uint32_t>(now.each), now.sweeps};
    if (watch.chains == 0) {
        for (size_t round = 0; round < now.rounds; ++round, span.first += span.count) move(span);
        return cuda::synchronize(stream_);
    }
    prepare_kept(now.rounds, watch);
    const cuda::HmcQuantities what = watched(watch.quantities);
    size_t place = 0;
    for (size_t first = 0; first < now.rounds; first += kept_rounds_, place ^= 1) {
        Kept& kept = kept_[place];
        collect(kept, watch);
        kept.first = first, kept.count = std::min<size_t>(kept_rounds_, now.rounds - first);
        for (size_t round = 0; round < kept.count; ++round, span.first += span.count) {
            move(span);
            cuda::local_observe(stream_, plan_->view(), view(), watch.chains, what,
                                watch.rows ? kept.rows.data() + round * kept_numbers_ : nullptr,
                                kept.values.data() + round * kept_values_);
        }
        kept.computed.record(stream_);
        const DeviceStream copies = device_.copy_stream();
        kept.computed.hold_up(copies);
        if (watch.rows) kept.rows.download(copies, kept.rows_out.span().first(kept.count * kept_numbers_));
        kept.values.download(copies, kept.values_out.span().first(kept.count * kept_values_));
        kept.done.record(copies);
    }
    collect(kept_[place], watch);
    collect(kept_[place ^ 1], watch);
}

} // namespace dynkin

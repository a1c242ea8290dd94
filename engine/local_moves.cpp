#include "local_moves.h"
#include "../kernels/dispatch_cpu.h"
#include "../kernels/local.h"
#include "../kernels/philox.h"
#include "../kernels/strands_cpu.h"
#include "energy_law.h"
#include "error.h"
#include "random.h"
#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <map>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

namespace {

/// sum_m c_m x^m for m >= 1.
inline double polynomial(const double* c, size_t terms, double x) {
    double sum = 0;
    for (size_t m = terms; m-- > 0;) sum = (sum + c[m]) * x;
    return sum;
}

} // namespace

LocalMoves::LocalMoves(const Context& context, const Target& target, const Tile* tile)
    : kernels_(kernels::table_kernels(context.isa())), isa_(context.isa()) {
    const auto* law = std::get_if<LatticeTarget>(&target.law);
    require(law != nullptr, ErrorKind::usage,
            fmt::format("local Metropolis: expected a lattice target, got {}", target.kind));
    plan_.law = *law, plan_.even = target.even();
    energy_ = std::make_unique<EnergyLaw>(target);
    choose_box();
    if (tile) make_tile(context, *tile);
    make_baths(context);
}

LocalMoves::~LocalMoves() = default;

double LocalMoves::site_energy(double x) const {
    return polynomial(plan_.law.site.data(), plan_.law.site.size(), x);
}

/// Beyond the box the site potential alone is 40 kT above its minimum; the values outside are in it.
void LocalMoves::choose_box() {
    double lowest = 0;
    for (int i = -4000; i <= 4000; ++i) lowest = std::min(lowest, site_energy(0.005 * i));
    for (double side : {-1.0, 1.0}) {
        double x = 0.01;
        while (x < 1e4 && site_energy(side * x) < lowest + 40) x *= 1.02;
        plan_.box = std::max(plan_.box, x);
    }
    require(
        plan_.box < 1e4, ErrorKind::usage,
        "local Metropolis: expected a site potential that confines each site (its edges alone do not count)");
    plan_.box = std::max(plan_.box, plan_.law.lattice.outside_reach());
}

LevelTable LocalMoves::bath_table(const Context& context, int edges, double outside,
                                  const Level& places) const {
    const double coupling = plan_.law.coupling;
    return {context, places, std::max(1, places.slots) * plan_.box, plan_.box, [&](double sum, double x) {
                return -site_energy(x) - 0.5 * coupling * edges * x * x + coupling * x * (sum + outside);
            }};
}

void LocalMoves::make_baths(const Context& context) {
    const size_t d = sites();
    std::vector<std::vector<int>> nearest(d);
    const std::vector<int> outer = plan_.law.lattice.outer_edges();
    const std::vector<double> outside = plan_.law.lattice.outer_sums(1);
    for (const auto& [i, j] : plan_.law.lattice.edges())
        nearest[static_cast<size_t>(i)].push_back(j), nearest[static_cast<size_t>(j)].push_back(i);
    // By number of edges and values outside: sites, and their neighbours filled up with zeros.
    using Links = std::pair<int, double>;
    std::map<Links, Level> classes;
    std::vector<std::pair<Links, size_t>> where(d);
    int slots = 0;
    for (const auto& list : nearest) slots = std::max(slots, static_cast<int>(list.size()));
    for (size_t j = 0; j < d; ++j) {
        const Links links{static_cast<int>(nearest[j].size()) + outer[j], outside[j]};
        Level& level = classes[links];
        level.slots = slots, where[j] = {links, level.targets.size()};
        level.targets.push_back(static_cast<int>(j));
        for (int s = 0; s < slots; ++s)
            level.neighbours.push_back(
                static_cast<size_t>(s) < nearest[j].size() ? nearest[j][static_cast<size_t>(s)] : -1);
    }
    std::map<Links, size_t> number;
    for (const auto& [links, level] : classes) {
        number[links] = plan_.baths.size();
        const auto& [edges, values] = links;
        plan_.baths.push_back({edges, values, bath_table(context, edges, values, level)});
    }
    for (int parity : {0, 1})
        for (size_t j = 0; j < d; ++j) {
            size_t rest = j, sum = 0;
            bool wall = false;
            for (size_t k = plan_.law.lattice.shape.size(); k-- > 0; rest /= plan_.law.lattice.shape[k]) {
                const size_t at = rest % plan_.law.lattice.shape[k];
                sum += at, wall = wall || at == 0 || at + 1 == plan_.law.lattice.shape[k];
            }
            if (sum % 2 != static_cast<size_t>(parity)) continue;
            const LocalPlan::Visit visit{number[where[j].first], where[j].second};
            plan_.all.push_back(visit);
            if (wall && plan_.law.lattice.boundary == Boundary::free) plan_.walls.push_back(visit);
        }
}

void LocalMoves::make_tile(const Context& context, const Tile& tile) {
    const Lattice& lattice = plan_.law.lattice;
    if (tile.axes != static_cast<int>(lattice.shape.size()) || tile.coupling != plan_.law.coupling ||
        tile.site != plan_.law.site)
        throw Error(
            ErrorKind::input,
            fmt::format(
                "local Metropolis: expected the tile of a target of {} {}, coupling {:g} and site [{:g}], "
                "got one of {}, {:g} and [{:g}]",
                lattice.shape.size(), lattice.shape.size() == 1 ? "axis" : "axes", plan_.law.coupling,
                fmt::join(plan_.law.site, ", "), tile.axes, tile.coupling, fmt::join(tile.site, ", ")));
    for (size_t n : lattice.shape)
        require(tile_origins(static_cast<int>(n), tile.side, lattice.boundary) > 0, ErrorKind::usage,
                fmt::format("local Metropolis: expected a lattice that tiles of side {} fit into, got {}",
                            tile.side, lattice.describe()));
    plan_.shape.emplace(tile.side, tile.axes);
    for (size_t axis = 0; axis < lattice.shape.size(); ++axis)
        for (int side : {0, 1}) plan_.frame.push_back(static_cast<float>(lattice.outside_value(axis, side)));
    for (const Level& level : tile.levels)
        plan_.levels.emplace_back(context, level, TableOptions{1e-5, 0.15});
    Level odd;
    odd.slots = 2 * tile.axes;
    for (int p = 0; p < plan_.shape->points(); ++p) {
        if (!plan_.shape->interior(p)) continue;
        plan_.interior.push_back(p);
        const auto nearest = plan_.shape->nearest(p);
        for (int q : nearest)
            if (q > p || !plan_.shape->interior(q)) plan_.tile_edges.emplace_back(p, q);
        if (!plan_.shape->odd(p)) continue;
        odd.targets.push_back(p);
        odd.neighbours.insert(odd.neighbours.end(), nearest.begin(), nearest.end());
    }
    plan_.levels.push_back(bath_table(context, 2 * tile.axes, 0, odd));
}

size_t LocalMoves::scratch() const {
    return plan_.shape ? 2 * static_cast<size_t>(plan_.shape->points()) * kScoreTile : 0;
}

void LocalMoves::advance(std::uint64_t seed, std::uint64_t first, std::uint32_t step, bool sweep, float* x,
                         float* scratch, MoveCount& count) const {
    MoveCount baths;
    if (plan_.shape) redraw(seed, first, step, x, scratch, count);
    if (!plan_.shape || sweep)
        heat(seed, first, step, plan_.all, x, plan_.shape ? baths : count);
    else if (!plan_.walls.empty())
        heat(seed, first, step, plan_.walls, x, baths);
    if (!plan_.even) return;
    float sign[kScoreTile];
    for (size_t p = 0; p < kScoreTile; ++p)
        sign[p] = philox(seed, Stream::local_sign, first + p, step, 0).v[0] >> 31 ? -1.0f : 1.0f;
    const size_t d = sites();
    cpu::with_isa(isa_, [&] {
        for (size_t j = 0; j < d; ++j)
            for (size_t p = 0; p < kScoreTile; ++p) x[j * kScoreTile + p] *= sign[p];
    });
}

/// One site after another: p(x' | S) q(x) > u p(x | S) q(x'), q the table.
void LocalMoves::heat(std::uint64_t seed, std::uint64_t first, std::uint32_t step,
                      const std::vector<LocalPlan::Visit>& visits, float* x, MoveCount& count) const {
    std::uint32_t words[4 * kScoreTile];
    float trial[kScoreTile];
    double before[kScoreTile], after[kScoreTile], sum[kScoreTile];
    std::uint64_t accepted = 0;
    const size_t terms = plan_.law.site.size();
    const double* const c = plan_.law.site.data();
    const double coupling = plan_.law.coupling;
    for (const LocalPlan::Visit& visit : visits) {
        const LocalPlan::Bath& bath = plan_.baths[visit.bath];
        const int site = plan_.site(visit);
        const int* const neighbours = plan_.neighbours(visit);
        const int slots = bath.table.slots();
        float* const at = x + static_cast<size_t>(site) * kScoreTile;
        kernels::TableConditions given;
        kernels_.describe(bath.table.law(), x, neighbours, given);
        kernels_.words(seed, static_cast<std::uint32_t>(Stream::local_site), first, step,
                       static_cast<std::uint32_t>(site), words);
        kernels_.draw(bath.table.law(), given, words, trial);
        std::fill_n(before, kScoreTile, 1.0), std::fill_n(after, kScoreTile, 1.0);
        kernels_.density(bath.table.law(), given, at, before);
        kernels_.density(bath.table.law(), given, trial, after);
        const double half = 0.5 * coupling * bath.edges;
        cpu::with_isa(isa_, [&] {
            for (size_t p = 0; p < kScoreTile; ++p) sum[p] = bath.outside;
            for (int s = 0; s < slots; ++s) {
                if (neighbours[s] < 0) continue;
                const float* from = x + static_cast<size_t>(neighbours[s]) * kScoreTile;
                for (size_t p = 0; p < kScoreTile; ++p) sum[p] += static_cast<double>(from[p]);
            }
            double fall[kScoreTile], u[kScoreTile], v[kScoreTile];
            for (size_t p = 0; p < kScoreTile; ++p) u[p] = v[p] = 0;
            for (size_t m = terms; m-- > 0;)
                for (size_t p = 0; p < kScoreTile; ++p) {
                    u[p] = kernels::horner(u[p], c[m], static_cast<double>(at[p]));
                    v[p] = kernels::horner(v[p], c[m], static_cast<double>(trial[p]));
                }
            for (size_t p = 0; p < kScoreTile; ++p)
                fall[p] = kernels::heat_fall(u[p], v[p], static_cast<double>(at[p]),
                                             static_cast<double>(trial[p]), coupling, sum[p], half);
            for (size_t p = 0; p < kScoreTile; ++p) after[p] *= uniform(words[3 * kScoreTile + p]);
            std::uint32_t passed = 0;
            for (size_t p = 0; p < kScoreTile; ++p) {
                const bool good = kernels::heat_test(before[p], after[p], fall[p]);
                passed += good ? 1u : 0u;
                at[p] = good ? trial[p] : at[p];
            }
            accepted += passed;
        });
    }
    count.accepted += accepted, count.proposed += kScoreTile * visits.size();
}

/// sum += factor * (energy of the interior of a tile).
void LocalMoves::tile_energy(const float* x, double factor, double* sum) const {
    const size_t terms = plan_.law.site.size();
    const double* const c = plan_.law.site.data();
    const double half = 0.5 * plan_.law.coupling;
    const int* const interior = plan_.interior.data();
    const std::pair<int, int>* const edges = plan_.tile_edges.data();
    const size_t points = plan_.interior.size(), count = plan_.tile_edges.size();
    cpu::with_isa(isa_, [&] {
        double total[kScoreTile];
        for (size_t p = 0; p < kScoreTile; ++p) total[p] = 0;
        for (size_t e = 0; e < count; ++e) {
            const float *a = x + static_cast<size_t>(edges[e].first) * kScoreTile,
                        *b = x + static_cast<size_t>(edges[e].second) * kScoreTile;
            for (size_t p = 0; p < kScoreTile; ++p)
                total[p] += kernels::half_square(half, static_cast<double>(a[p]), static_cast<double>(b[p]));
        }
        for (size_t i = 0; i < points; ++i) {
            const float* at = x + static_cast<size_t>(interior[i]) * kScoreTile;
            double v[kScoreTile];
            for (size_t p = 0; p < kScoreTile; ++p) v[p] = 0;
            for (size_t m = terms; m-- > 0;)
                for (size_t p = 0; p < kScoreTile; ++p)
                    v[p] = kernels::horner(v[p], c[m], static_cast<double>(at[p]));
            for (size_t p = 0; p < kScoreTile; ++p) total[p] += v[p];
        }
        for (size_t p = 0; p < kScoreTile; ++p) sum[p] += factor * total[p];
    });
}

void LocalMoves::redraw(std::uint64_t seed, std::uint64_t first, std::uint32_t step, float* x, float* scratch,
                        MoveCount& count) const {
    const Lattice& lattice = plan_.law.lattice;
    const size_t points = static_cast<size_t>(plan_.shape->points());
    float *const now = scratch, *const next = scratch + points * kScoreTile;
    const RandomWords random = philox(seed, Stream::tile_origin, 0, step, 0);
    const bool periodic = lattice.boundary == Boundary::periodic;
    std::array<kernels::TileRow, 3> rows;
    rows.fill({0, 1});
    for (size_t k = 0; k < lattice.shape.size(); ++k) {
        const int n = static_cast<int>(lattice.shape[k]), side = plan_.shape->side(),
                  origins = tile_origins(n, side, lattice.boundary);
        rows[k] = kernels::tiles_along(n, side, periodic, lattice.boundary == Boundary::fixed ? 1 : 0,
                                       kernels::tile_origin(random.v[k], origins));
    }
    std::vector<int> place(points);
    const int tiles = rows[0].count * rows[1].count * rows[2].count;
    for (int t = 0; t < tiles; ++t) {
        const std::array<int, 3> tile{t / (rows[1].count * rows[2].count), t / rows[2].count % rows[1].count,
                                      t % rows[2].count};
        for (size_t p = 0; p < points; ++p) {
            const auto at = plan_.shape->coordinates(static_cast<int>(p));
            int site = 0;
            for (size_t k = 0; k < lattice.shape.size() && site >= 0; ++k) {
                const int n = static_cast<int>(lattice.shape[k]);
                const int along =
                    kernels::site_along(n, periodic, rows[k].first + tile[k] * plan_.shape->side() + at[k]);
                site = kernels::next_site(site, static_cast<int>(k), n, along);
            }
            place[p] = site;
            if (site < 0)
                std::fill_n(now + p * kScoreTile, kScoreTile, plan_.frame[static_cast<size_t>(-1 - site)]);
            else
                std::copy_n(x + static_cast<size_t>(site) * kScoreTile, kScoreTile, now + p * kScoreTile);
        }
        std::copy_n(now, points * kScoreTile, next);
        double ratio[kScoreTile] = {}, log_new[kScoreTile] = {};
        const DrawKey key{seed, Stream::local_tile, first, step,
                          static_cast<std::uint32_t>(static_cast<size_t>(t) * points)};
        for (const LevelTable& level : plan_.levels) {
            level.draw(key, next, log_new);
            level.evaluate(now, ratio);
        }
        tile_energy(now, 1, ratio), tile_energy(next, -1, ratio);
        std::uint32_t words[4 * kScoreTile];
        kernels_.words(seed, static_cast<std::uint32_t>(Stream::local_test), first, step,
                       static_cast<std::uint32_t>(t), words);
        bool good[kScoreTile];
        for (size_t p = 0; p < kScoreTile; ++p) {
            good[p] = kernels::tile_test(uniform(words[p]), ratio[p] - log_new[p]);
            count.accepted += good[p];
        }
        count.proposed += kScoreTile;
        for (int point : plan_.interior) {
            const float* from = next + static_cast<size_t>(point) * kScoreTile;
            float* to = x + static_cast<size_t>(place[static_cast<size_t>(point)]) * kScoreTile;
            for (size_t p = 0; p < kScoreTile; ++p) to[p] = good[p] ? from[p] : to[p];
        }
    }
}

void LocalMoves::observe(const float* x, Watched& out) const {
    const auto& law = std::get<LatticeView>(energy_->view());
    const size_t d = law.dimension;
    const bool even = plan_.even;
    cpu::with_isa(isa_, [&] {
        cpu::StrandSum<lanes> sum(d), square(d), sites(d), edges(d);
        for (size_t i = 0; i < d; ++i) {
            double own[lanes], edge[lanes];
            const double outer = law.outer[i], values = law.outer_sum[i], squares = law.outer_square[i];
            for (size_t p = 0; p < lanes; ++p) own[p] = static_cast<double>(x[i * kScoreTile + p]);
            for (size_t p = 0; p < lanes; ++p) edge[p] = outer_energy(1, outer, values, squares, own[p]);
            for (std::int32_t n = law.forward[i]; n < law.first[i + 1]; ++n) {
                const float* const other = x + static_cast<size_t>(law.neighbour[n]) * kScoreTile;
                for (size_t p = 0; p < lanes; ++p)
                    edge[p] += edge_energy(1, own[p], static_cast<double>(other[p]));
            }
            double *s = sum.of(i), *q = square.of(i), *u = sites.of(i), *e = edges.of(i);
            for (size_t p = 0; p < lanes; ++p) s[p] += own[p], q[p] += own[p] * own[p];
            for (size_t p = 0; p < lanes; ++p) u[p] += kernels::site_term(law, own[p]), e[p] += edge[p];
        }
        double total[lanes], site_total[lanes];
        edges.total(out[3].data()), sites.total(site_total);
        sum.total(total), square.total(out[2].data());
        for (size_t p = 0; p < lanes; ++p) {
            out[0][p] = kernels::local_energy(law, site_total[p], out[3][p]);
            out[1][p] = kernels::watched_mean(even, total[p], d), out[2][p] /= static_cast<double>(d);
        }
    });
}

} // namespace dynkin

#include "local_moves.h"
#include "../kernels/dispatch_cpu.h"
#include "../kernels/elementary.h"
#include "../kernels/philox.h"
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
    : kernels_(kernels::table_kernels(context.isa())), isa_(context.isa()), even_(target.even()) {
    const auto* law = std::get_if<LatticeTarget>(&target.law);
    require(law != nullptr, ErrorKind::usage,
            fmt::format("local Metropolis: expected a lattice target, got {}", target.kind));
    law_ = *law;
    choose_box();
    for (const auto& edge : law_.lattice.edges()) edges_.push_back(edge);
    outer_ = law_.lattice.outer_edges();
    if (tile) make_tile(context, *tile);
    make_baths(context);
}

double LocalMoves::site_energy(double x) const { return polynomial(law_.site.data(), law_.site.size(), x); }

/// Beyond the box the site potential alone is 40 kT above its minimum.
void LocalMoves::choose_box() {
    double lowest = 0;
    for (int i = -4000; i <= 4000; ++i) lowest = std::min(lowest, site_energy(0.005 * i));
    for (double side : {-1.0, 1.0}) {
        double x = 0.01;
        while (x < 1e4 && site_energy(side * x) < lowest + 40) x *= 1.02;
        box_ = std::max(box_, x);
    }
    require(
        box_ < 1e4, ErrorKind::usage,
        "local Metropolis: expected a site potential that confines each site (its edges alone do not count)");
}

LevelTable LocalMoves::bath_table(const Context& context, int edges, const Level& places) const {
    const double coupling = law_.coupling;
    return {context, places, std::max(1, places.slots) * box_, box_, [&](double sum, double x) {
                return -site_energy(x) - 0.5 * coupling * edges * x * x + coupling * x * sum;
            }};
}

void LocalMoves::make_baths(const Context& context) {
    const size_t d = sites();
    std::vector<std::vector<int>> nearest(d);
    for (const auto& [i, j] : edges_)
        nearest[static_cast<size_t>(i)].push_back(j), nearest[static_cast<size_t>(j)].push_back(i);
    // By number of edges: sites, and their neighbours filled up with zeros.
    std::map<int, Level> classes;
    std::vector<std::pair<int, size_t>> where(d);
    int slots = 0;
    for (const auto& list : nearest) slots = std::max(slots, static_cast<int>(list.size()));
    for (size_t j = 0; j < d; ++j) {
        const int edges = static_cast<int>(nearest[j].size()) + outer_[j];
        Level& level = classes[edges];
        level.slots = slots, where[j] = {edges, level.targets.size()};
        level.targets.push_back(static_cast<int>(j));
        for (int s = 0; s < slots; ++s)
            level.neighbours.push_back(
                static_cast<size_t>(s) < nearest[j].size() ? nearest[j][static_cast<size_t>(s)] : -1);
    }
    std::map<int, size_t> number;
    for (const auto& [edges, level] : classes) {
        number[edges] = baths_.size();
        baths_.push_back({edges, bath_table(context, edges, level)});
    }
    for (int parity : {0, 1})
        for (size_t j = 0; j < d; ++j) {
            size_t rest = j, sum = 0;
            bool wall = false;
            for (size_t k = law_.lattice.shape.size(); k-- > 0; rest /= law_.lattice.shape[k]) {
                const size_t at = rest % law_.lattice.shape[k];
                sum += at, wall = wall || at == 0 || at + 1 == law_.lattice.shape[k];
            }
            if (sum % 2 != static_cast<size_t>(parity)) continue;
            const Visit visit{number[where[j].first], where[j].second};
            all_.push_back(visit);
            if (wall && law_.lattice.boundary == Boundary::free) walls_.push_back(visit);
        }
}

void LocalMoves::make_tile(const Context& context, const Tile& tile) {
    const Lattice& lattice = law_.lattice;
    if (tile.axes != static_cast<int>(lattice.shape.size()) || tile.coupling != law_.coupling ||
        tile.site != law_.site)
        throw Error(
            ErrorKind::input,
            fmt::format(
                "local Metropolis: expected the tile of a target of {} {}, coupling {:g} and site [{:g}], "
                "got one of {}, {:g} and [{:g}]",
                lattice.shape.size(), lattice.shape.size() == 1 ? "axis" : "axes", law_.coupling,
                fmt::join(law_.site, ", "), tile.axes, tile.coupling, fmt::join(tile.site, ", ")));
    for (size_t n : lattice.shape)
        require(tile_origins(static_cast<int>(n), tile.side, lattice.boundary) > 0, ErrorKind::usage,
                fmt::format("local Metropolis: expected a lattice that tiles of side {} fit into, got {}",
                            tile.side, lattice.describe()));
    shape_.emplace(tile.side, tile.axes);
    for (const Level& level : tile.levels) levels_.emplace_back(context, level, TableOptions{1e-5, 0.15});
    Level odd;
    odd.slots = 2 * tile.axes;
    for (int p = 0; p < shape_->points(); ++p) {
        if (!shape_->interior(p)) continue;
        interior_.push_back(p);
        const auto nearest = shape_->nearest(p);
        for (int q : nearest)
            if (q > p || !shape_->interior(q)) tile_edges_.emplace_back(p, q);
        if (!shape_->odd(p)) continue;
        odd.targets.push_back(p);
        odd.neighbours.insert(odd.neighbours.end(), nearest.begin(), nearest.end());
    }
    levels_.push_back(bath_table(context, 2 * tile.axes, odd));
}

size_t LocalMoves::scratch() const {
    return shape_ ? 2 * static_cast<size_t>(shape_->points()) * kScoreTile : 0;
}

void LocalMoves::advance(std::uint64_t seed, std::uint64_t first, std::uint32_t step, bool sweep, float* x,
                         float* scratch, MoveCount& count) const {
    MoveCount baths;
    if (shape_) redraw(seed, first, step, x, scratch, count);
    if (!shape_ || sweep)
        heat(seed, first, step, all_, x, shape_ ? baths : count);
    else if (!walls_.empty())
        heat(seed, first, step, walls_, x, baths);
    if (!even_) return;
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
                      const std::vector<Visit>& visits, float* x, MoveCount& count) const {
    std::uint32_t words[4 * kScoreTile];
    float trial[kScoreTile];
    double before[kScoreTile], after[kScoreTile], sum[kScoreTile];
    std::uint64_t accepted = 0;
    const size_t terms = law_.site.size();
    const double* const c = law_.site.data();
    const double coupling = law_.coupling;
    for (const Visit& visit : visits) {
        const Bath& bath = baths_[visit.bath];
        const int site = bath.table.targets()[visit.place];
        const int* const neighbours = bath.table.neighbours(visit.place);
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
            for (size_t p = 0; p < kScoreTile; ++p) sum[p] = 0;
            for (int s = 0; s < slots; ++s) {
                if (neighbours[s] < 0) continue;
                const float* from = x + static_cast<size_t>(neighbours[s]) * kScoreTile;
                for (size_t p = 0; p < kScoreTile; ++p) sum[p] += static_cast<double>(from[p]);
            }
            double difference[kScoreTile], u[kScoreTile], v[kScoreTile];
            for (size_t p = 0; p < kScoreTile; ++p) u[p] = v[p] = 0;
            for (size_t m = terms; m-- > 0;)
                for (size_t p = 0; p < kScoreTile; ++p) {
                    u[p] = (u[p] + c[m]) * static_cast<double>(at[p]);
                    v[p] = (v[p] + c[m]) * static_cast<double>(trial[p]);
                }
            for (size_t p = 0; p < kScoreTile; ++p) {
                const double a = static_cast<double>(at[p]), b = static_cast<double>(trial[p]);
                difference[p] = u[p] - v[p] + (b - a) * (coupling * sum[p] - half * (a + b));
            }
            for (size_t p = 0; p < kScoreTile; ++p)
                before[p] *= portable_exp(difference[p]), after[p] *= uniform(words[3 * kScoreTile + p]);
            std::uint32_t passed = 0;
            for (size_t p = 0; p < kScoreTile; ++p) {
                passed += after[p] < before[p] ? 1u : 0u;
                at[p] = after[p] < before[p] ? trial[p] : at[p];
            }
            accepted += passed;
        });
    }
    count.accepted += accepted, count.proposed += kScoreTile * visits.size();
}

/// sum += factor * (energy of the interior of a tile).
void LocalMoves::tile_energy(const float* x, double factor, double* sum) const {
    const size_t terms = law_.site.size();
    const double* const c = law_.site.data();
    const double half = 0.5 * law_.coupling;
    const int* const interior = interior_.data();
    const std::pair<int, int>* const edges = tile_edges_.data();
    const size_t points = interior_.size(), count = tile_edges_.size();
    cpu::with_isa(isa_, [&] {
        double total[kScoreTile];
        for (size_t p = 0; p < kScoreTile; ++p) total[p] = 0;
        for (size_t e = 0; e < count; ++e) {
            const float *a = x + static_cast<size_t>(edges[e].first) * kScoreTile,
                        *b = x + static_cast<size_t>(edges[e].second) * kScoreTile;
            for (size_t p = 0; p < kScoreTile; ++p) {
                const double difference = static_cast<double>(a[p]) - static_cast<double>(b[p]);
                total[p] += half * difference * difference;
            }
        }
        for (size_t i = 0; i < points; ++i) {
            const float* at = x + static_cast<size_t>(interior[i]) * kScoreTile;
            double v[kScoreTile];
            for (size_t p = 0; p < kScoreTile; ++p) v[p] = 0;
            for (size_t m = terms; m-- > 0;)
                for (size_t p = 0; p < kScoreTile; ++p) v[p] = (v[p] + c[m]) * static_cast<double>(at[p]);
            for (size_t p = 0; p < kScoreTile; ++p) total[p] += v[p];
        }
        for (size_t p = 0; p < kScoreTile; ++p) sum[p] += factor * total[p];
    });
}

void LocalMoves::redraw(std::uint64_t seed, std::uint64_t first, std::uint32_t step, float* x, float* scratch,
                        MoveCount& count) const {
    const Lattice& lattice = law_.lattice;
    const size_t points = static_cast<size_t>(shape_->points());
    float *const now = scratch, *const next = scratch + points * kScoreTile;
    const RandomWords random = philox(seed, Stream::tile_origin, 0, step, 0);
    std::array<TileRow, 3> rows{TileRow{0, 1}, TileRow{0, 1}, TileRow{0, 1}};
    for (size_t k = 0; k < lattice.shape.size(); ++k) {
        const int n = static_cast<int>(lattice.shape[k]),
                  origins = tile_origins(n, shape_->side(), lattice.boundary);
        const auto origin = static_cast<int>(
            static_cast<std::uint64_t>(random.v[k]) * static_cast<std::uint64_t>(origins) >> 32);
        rows[k] = tile_row(n, shape_->side(), lattice.boundary, origin);
    }
    std::vector<int> place(points);
    const int tiles = rows[0].count * rows[1].count * rows[2].count;
    for (int t = 0; t < tiles; ++t) {
        const std::array<int, 3> tile{t / (rows[1].count * rows[2].count), t / rows[2].count % rows[1].count,
                                      t % rows[2].count};
        for (size_t p = 0; p < points; ++p) {
            const auto at = shape_->coordinates(static_cast<int>(p));
            int site = 0;
            for (size_t k = 0; k < lattice.shape.size() && site >= 0; ++k) {
                const int n = static_cast<int>(lattice.shape[k]);
                int along = rows[k].first + tile[k] * shape_->side() + at[k];
                if (lattice.boundary == Boundary::periodic) along %= n;
                site = along < 0 || along >= n ? -1 : site * n + along;
            }
            place[p] = site;
            if (site < 0)
                std::fill_n(now + p * kScoreTile, kScoreTile, 0.0f);
            else
                std::copy_n(x + static_cast<size_t>(site) * kScoreTile, kScoreTile, now + p * kScoreTile);
        }
        std::copy_n(now, points * kScoreTile, next);
        double ratio[kScoreTile] = {}, log_new[kScoreTile] = {};
        const DrawKey key{seed, Stream::local_tile, first, step,
                          static_cast<std::uint32_t>(static_cast<size_t>(t) * points)};
        for (const LevelTable& level : levels_) {
            level.draw(key, next, log_new);
            level.evaluate(now, ratio);
        }
        tile_energy(now, 1, ratio), tile_energy(next, -1, ratio);
        std::uint32_t words[4 * kScoreTile];
        kernels_.words(seed, static_cast<std::uint32_t>(Stream::local_test), first, step,
                       static_cast<std::uint32_t>(t), words);
        bool good[kScoreTile];
        for (size_t p = 0; p < kScoreTile; ++p) {
            good[p] = portable_log(uniform(words[p])) < ratio[p] - log_new[p]; // not where it is not a number
            count.accepted += good[p];
        }
        count.proposed += kScoreTile;
        for (int point : interior_) {
            const float* from = next + static_cast<size_t>(point) * kScoreTile;
            float* to = x + static_cast<size_t>(place[static_cast<size_t>(point)]) * kScoreTile;
            for (size_t p = 0; p < kScoreTile; ++p) to[p] = good[p] ? from[p] : to[p];
        }
    }
}

void LocalMoves::energies(const float* x, double* energy, double* edges) const {
    const size_t d = sites(), terms = law_.site.size(), count = edges_.size();
    const double* const c = law_.site.data();
    const double coupling = law_.coupling, constant = law_.site_constant * static_cast<double>(d);
    const std::pair<int, int>* const pairs = edges_.data();
    const int* const outer = outer_.data();
    cpu::with_isa(isa_, [&] {
        for (size_t p = 0; p < kScoreTile; ++p) energy[p] = constant, edges[p] = 0;
        for (size_t e = 0; e < count; ++e) {
            const float *a = x + static_cast<size_t>(pairs[e].first) * kScoreTile,
                        *b = x + static_cast<size_t>(pairs[e].second) * kScoreTile;
            for (size_t p = 0; p < kScoreTile; ++p) {
                const double difference = static_cast<double>(a[p]) - static_cast<double>(b[p]);
                edges[p] += 0.5 * difference * difference;
            }
        }
        for (size_t j = 0; j < d; ++j) {
            const double walls = 0.5 * outer[j];
            for (size_t p = 0; p < kScoreTile; ++p) {
                const double at = static_cast<double>(x[j * kScoreTile + p]);
                double v = 0;
                for (size_t m = terms; m-- > 0;) v = (v + c[m]) * at;
                energy[p] += v, edges[p] += walls * at * at;
            }
        }
        for (size_t p = 0; p < kScoreTile; ++p) energy[p] += coupling * edges[p];
    });
}

} // namespace dynkin

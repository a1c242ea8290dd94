// local_cuda.cu - the kernels of local_cuda.h. A block moves a group of chains, a sector of each site: its
// threads share the tiles, or the sites of a colour, and wait for one another between colours. The twin is
// engine/local_moves.cpp, with the same bits.
#include "elementary.h"
#include "local_cuda.h"
#include "table_device.h"
#include "team.h"
#include <algorithm>

namespace dynkin::cuda {
namespace {

using namespace kernels;

constexpr unsigned most_threads = kLocalGroup * kLocalWorkers;
/// Blocks of a multiprocessor that registers must do for; left to itself the compiler spills for more of
/// them.
constexpr unsigned move_blocks = 2;

/// Where this thread stands in its block.
struct Place {
    unsigned chain = threadIdx.x % kLocalGroup, worker = threadIdx.x / kLocalGroup,
             workers = blockDim.x / kLocalGroup;
};

struct Moves {
    unsigned accepted = 0, proposed = 0;
};

__device__ double potential(const LocalView& v, double x) {
    double sum = 0;
    for (int m = v.terms; m-- > 0;) sum = horner(sum, v.law.site[m], x);
    return sum;
}

// ---- tiles

struct Tiles {
    TileRow row[3];
    int count;

    __device__ Tiles(const LocalView& v, std::uint64_t seed, std::uint32_t step) : count(1) {
        const RandomWords random = philox(seed, Stream::tile_origin, 0, step, 0);
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            row[k] = {0, 1};
            if (k < v.axes)
                row[k] = tiles_along(v.sites[k], v.side, v.periodic, v.outside,
                                     tile_origin(random.v[k], v.origins[k]));
            count *= row[k].count;
        }
    }
    /// The site of a point of tile t, outside the lattice as next_site().
    __device__ int site(const LocalView& v, int t, int point) const {
        int at[3] = {0, 0, 0}, tile[3];
        tile[2] = t % row[2].count, t /= row[2].count;
        tile[1] = t % row[1].count, tile[0] = t / row[1].count;
#pragma unroll
        for (int k = 2; k >= 0; --k)
            if (k < v.axes) at[k] = point % (v.side + 1), point /= v.side + 1;
        int site = 0;
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            if (k >= v.axes) continue;
            const int along = site_along(v.sites[k], v.periodic, row[k].first + tile[k] * v.side + at[k]);
            site = next_site(site, k, v.sites[k], along);
        }
        return site;
    }
};

__device__ double tile_energy(const LocalView& v, const float* x, unsigned stride) {
    const auto value = [&](int point) {
        return static_cast<double>(x[static_cast<unsigned>(point) * stride]);
    };
    const double half = 0.5 * v.law.coupling;
    double total = 0;
    for (int e = 0; e < v.edge_count; ++e)
        total += half_square(half, value(v.edges[2 * e]), value(v.edges[2 * e + 1]));
    for (int i = 0; i < v.interior_count; ++i) total += potential(v, value(v.interior[i]));
    return total;
}

/// log q of the interiors of `now` and `next`.
struct LogDensities {
    double now = 0, next = 0;
};
/// Draws the interior of `next`.
__device__ LogDensities draw_interior(const LocalView& v, std::uint64_t seed, std::uint64_t chain,
                                      std::uint32_t step, std::uint32_t slot, const float* now, float* next,
                                      unsigned stride) {
    LogDensities sum;
    for (int l = 0; l < v.level_count; ++l) {
        const LocalLevel& level = v.levels[l];
        double old = 1, drawn = 1;
        for (int k = 0; k < level.targets; ++k) {
            const int target = level.target[k];
            const int* neighbours = level.neighbours + k * level.slots;
            const unsigned at = static_cast<unsigned>(target) * stride;
            const Given after = describe(level.table, next, static_cast<int>(stride), neighbours);
            const float value = draw(
                level.table, after,
                philox(seed, Stream::local_tile, chain, step, slot + static_cast<std::uint32_t>(target)));
            next[at] = value;
            drawn *= static_cast<double>(density(level.table, after, value));
            const Given before = describe(level.table, now, static_cast<int>(stride), neighbours);
            old *= static_cast<double>(density(level.table, before, now[at]));
            if (k % kLocalProduct == kLocalProduct - 1 || k + 1 == level.targets) {
                sum.next += portable_log(drawn), sum.now += portable_log(old);
                drawn = old = 1;
            }
        }
    }
    return sum;
}

/// `now` and `next`: this thread's points, `stride` apart.
__device__ bool redraw(const LocalView& v, const Tiles& tiles, int t, std::uint64_t seed, std::uint64_t chain,
                       std::uint32_t step, float* x, float* now, unsigned stride) {
    float* const next = now + static_cast<unsigned>(v.points) * stride;
    for (int q = 0; q < v.points; ++q) {
        const int site = tiles.site(v, t, q);
        now[static_cast<unsigned>(q) * stride] = next[static_cast<unsigned>(q) * stride] =
            site < 0 ? v.frame[-1 - site] : x[static_cast<std::size_t>(site) * kScoreTile];
    }
    const LogDensities log_q =
        draw_interior(v, seed, chain, step, static_cast<std::uint32_t>(t * v.points), now, next, stride);
    double ratio = log_q.now + tile_energy(v, now, stride);
    ratio -= tile_energy(v, next, stride);
    const RandomWords words = philox(seed, Stream::local_test, chain, step, static_cast<std::uint32_t>(t));
    const bool good = tile_test(uniform(words.v[0]), ratio - log_q.next);
    for (int i = 0; i < v.interior_count && good; ++i) {
        const int q = v.interior[i];
        x[static_cast<std::size_t>(tiles.site(v, t, q)) * kScoreTile] =
            next[static_cast<unsigned>(q) * stride];
    }
    return good;
}

// ---- heat bath

__device__ bool heat(const LocalView& v, const LocalVisit& visit, std::uint64_t seed, std::uint64_t chain,
                     std::uint32_t step, float* x) {
    const int* neighbours = v.neighbours + visit.first;
    const LocalBath& bath = v.baths[visit.bath];
    float* const at = x + static_cast<std::size_t>(visit.site) * kScoreTile;
    const Given given = describe(bath.table, x, kScoreTile, neighbours);
    const RandomWords words =
        philox(seed, Stream::local_site, chain, step, static_cast<std::uint32_t>(visit.site));
    const float now = *at, trial = draw(bath.table, given, words);
    const double before = static_cast<double>(density(bath.table, given, now)),
                 after = static_cast<double>(density(bath.table, given, trial)) * uniform(words.v[3]);
    double sum = bath.outside;
    for (int s = 0; s < v.slots; ++s)
        if (neighbours[s] >= 0) sum += static_cast<double>(x[neighbours[s] * kScoreTile]);
    const double a = static_cast<double>(now), b = static_cast<double>(trial);
    const double fall = heat_fall(potential(v, a), potential(v, b), a, b, v.law.coupling, sum, bath.half);
    const bool good = heat_test(before, after, fall);
    if (good) *at = trial;
    return good;
}

// ---- iterations

struct BlockMoves {
    unsigned accepted[most_threads], proposed[most_threads];
};

__global__ void __launch_bounds__(most_threads, move_blocks)
    advance_kernel(LocalView v, LocalSpan span, LocalStates states, std::size_t first_group, float* scratch) {
    const Place place;
    const std::size_t chain = (first_group + blockIdx.x) * kLocalGroup + place.chain, d = v.law.dimension;
    float* const x = states.x + chain / kScoreTile * d * kScoreTile + chain % kScoreTile;
    float* const points =
        scratch + blockIdx.x * 2 * static_cast<std::size_t>(v.points) * blockDim.x + threadIdx.x;
    Moves moves;
    for (std::uint32_t step = span.first; step != span.first + span.count; ++step) {
        if (v.side > 0) {
            const Tiles tiles(v, span.seed, step);
            for (int t = static_cast<int>(place.worker); t < tiles.count;
                 t += static_cast<int>(place.workers)) {
                moves.accepted += redraw(v, tiles, t, span.seed, chain, step, x, points, blockDim.x) ? 1 : 0;
                ++moves.proposed;
            }
            __syncthreads();
        }
        const bool everywhere = v.side == 0 || span.sweeps || step % kSweepEvery == 0;
        const LocalSweep& sweep = everywhere ? v.all : v.walls;
        for (int colour = 0; colour < sweep.colours; ++colour) {
            for (int n = sweep.first[colour] + static_cast<int>(place.worker); n < sweep.first[colour + 1];
                 n += static_cast<int>(place.workers)) {
                const bool good = heat(v, sweep.visits[n], span.seed, chain, step, x);
                if (v.side == 0) moves.accepted += good ? 1 : 0, ++moves.proposed;
            }
            __syncthreads();
        }
        if (!v.even) continue;
        if (philox(span.seed, Stream::local_sign, chain, step, 0).v[0] >> 31)
            for (std::size_t i = place.worker; i < d; i += place.workers)
                x[i * kScoreTile] = -x[i * kScoreTile];
        __syncthreads();
    }
    BlockMoves& all = gpu::shared<BlockMoves>();
    all.accepted[threadIdx.x] = moves.accepted, all.proposed[threadIdx.x] = moves.proposed;
    __syncthreads();
    if (place.worker > 0) return;
    std::uint64_t accepted = 0, proposed = 0;
    for (unsigned n = place.chain; n < blockDim.x; n += kLocalGroup)
        accepted += all.accepted[n], proposed += all.proposed[n];
    states.moves[2 * chain] += accepted, states.moves[2 * chain + 1] += proposed;
}

/// A team a chain.
__global__ void __launch_bounds__(team_block)
    observe_kernel(TeamLayout layout, LocalView v, LocalStates states, HmcQuantities quantities, float* rows,
                   double* out) {
    const Team team(layout);
    const std::size_t d = v.law.dimension, chains = layout.count, chain = team.index();
    const bool there = chain < chains;
    const std::size_t n = there ? chain : 0;
    const float* x = states.x + n / kScoreTile * d * kScoreTile + n % kScoreTile;
    const auto value = [x](std::size_t i) { return static_cast<double>(x[i * kScoreTile]); };
    double sum = 0, square = 0, edges = 0, sites = 0;
#pragma unroll 1
    for (std::size_t i = team.lane(); i < d; i += team.size()) {
        const double own = value(i);
        sum += own, square += own * own;
        sites += site_term(v.law, own), edges += edge_term(v.law, i, value);
        if (rows && there) rows[n * d + i] = x[i * kScoreTile];
    }
    sum = team.sum(sum), square = team.sum(square), sites = team.sum(sites), edges = team.sum(edges);
    if (!there) return;
    double* mine = out + chain;
    for (std::size_t q = team.lane(); q < quantities.count; q += team.size())
        mine[q * chains] = value(static_cast<std::size_t>(quantities.coordinates[q]));
    if (team.lane() > 0) return;
    mine += quantities.count * chains;
    mine[0] = local_energy(v.law, sites, edges);
    mine[chains] = watched_mean(v.even, sum, d);
    mine[2 * chains] = square / static_cast<double>(d);
    if (quantities.edges) mine[3 * chains] = edges;
}

} // namespace

unsigned local_workers(int most_at_once) {
    unsigned workers = 1;
    while (workers < kLocalWorkers && workers < static_cast<unsigned>(most_at_once)) workers *= 2;
    return workers;
}

std::size_t local_scratch(const LocalView& view, unsigned workers) {
    return view.side > 0 ? 2 * static_cast<std::size_t>(view.points) * workers * kLocalGroup : 0;
}

void local_advance(DeviceStream stream, const LocalView& view, const LocalSpan& span,
                   const LocalStates& states, unsigned workers, std::size_t first_group, std::size_t groups,
                   float* scratch) {
    if (groups == 0 || span.count == 0) return;
    gpu::launch(advance_kernel, groups, workers * kLocalGroup, 0, stream, view, span, states, first_group,
                scratch);
}

void local_observe(DeviceStream stream, const LocalView& view, const LocalStates& states, std::size_t chains,
                   const HmcQuantities& quantities, float* rows, double* values) {
    if (chains == 0) return;
    const TeamLayout layout{static_cast<unsigned>(strands_of(view.law.dimension)), 0, chains};
    gpu::launch(observe_kernel, layout.blocks(), team_block, layout.shared_bytes(), stream, layout, view,
                states, quantities, rows, values);
}

} // namespace dynkin::cuda

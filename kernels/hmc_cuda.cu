// hmc_cuda.cu - Hamiltonian Monte Carlo on the device, a team of threads a walker; contract in hmc.h, the
// twin is hmc_cpu.cpp.
#include "energy_cuda.h"
#include "hmc.h"
#include "philox.h"
#include <type_traits>

namespace dynkin::cuda {
namespace {

/// Blocks of a multiprocessor that registers must do for; left to itself the compiler spills for more of
/// them.
constexpr unsigned move_blocks = 4, observe_blocks = 5;

/// A walker on its way: element i is of the lane that owns coordinate i.
struct Moving {
    double *x, *q, *g, *scratch;
};

/// Standard normal momenta. Four coordinates share a call of Philox, so they are not drawn by the lanes that
/// own them.
__device__ void draw_momenta(const Team& team, std::size_t d, std::uint64_t seed, std::uint64_t sample,
                             std::uint32_t iteration, double* q) {
    for (std::size_t slot = team.lane(); 4 * slot < d; slot += team.size()) {
        const RandomWords w =
            philox(seed, Stream::chain_momentum, sample, iteration, static_cast<std::uint32_t>(slot));
        double z[4];
        normals_from_uniforms(uniform(w.v[0]), uniform(w.v[1]), z[0], z[1]);
        normals_from_uniforms(uniform(w.v[2]), uniform(w.v[3]), z[2], z[3]);
#pragma unroll
        for (std::size_t k = 0; k < 4; ++k)
            if (4 * slot + k < d) q[4 * slot + k] = z[k];
    }
}

__device__ double kinetic_energy(const Team& team, std::size_t d, const double* q) {
    double sum = 0;
    for (std::size_t i = team.lane(); i < d; i += team.size()) sum += 0.5 * q[i] * q[i];
    return team.sum(sum);
}

/// q -= weight kick s_i g_i; x += step s_i q: a kick, then a drift.
__device__ void kick_drift(const Team& team, std::size_t d, const double* scale, double step, double kick,
                           double weight, const Moving& w) {
    for (std::size_t i = team.lane(); i < d; i += team.size()) {
        const double s = scale[i], ws = weight * s;
        const double q = w.q[i] - kick * ws * w.g[i];
        w.q[i] = q;
        w.x[i] += step * s * q;
    }
}

/// |q|^2 / 2 after the last half kick.
__device__ double last_kick(const Team& team, std::size_t d, const double* scale, double kick,
                            const Moving& w) {
    double sum = 0;
    for (std::size_t i = team.lane(); i < d; i += team.size()) {
        const double half = 0.5 * scale[i];
        const double p = w.q[i] - kick * half * w.g[i];
        sum += 0.5 * p * p;
    }
    return team.sum(sum);
}

/// One trajectory from the state in w; returns U at its end, and the fall of H in `fall`.
template <class View> __device__ double trajectory(const Team& team, const View& law, const HmcLevel& level,
                                                   std::uint64_t seed, int k, std::uint64_t chain,
                                                   std::uint32_t iteration, double step, double u,
                                                   const Moving& w, double& fall) {
    const std::size_t d = law.dimension;
    const double kick = step * level.beta;
    const RandomWords shared = philox(seed, Stream::chain_accept, walker(k, 0), iteration, 1);
    const int steps = leapfrog_steps(level.leapfrog, uniform(shared.v[0]));
    team.sync();
    draw_momenta(team, d, seed, walker(k, chain), iteration, w.q);
    team.sync();
    const double before = kinetic_energy(team, d, w.q);
    for (int n = 0; n < steps; ++n) {
        kick_drift(team, d, level.scale, step, kick, n == 0 ? 0.5 : 1.0, w);
        team.sync();
        gradient(team, law, w.x, w.g, w.scratch);
        team.sync();
    }
    const double after = last_kick(team, d, level.scale, kick, w);
    const double proposed = energy(team, law, w.x, w.scratch);
    fall = (level.beta * u + before) - (level.beta * proposed + after);
    return proposed;
}

/// All iterations of a span without swaps. The last state that was accepted stays in the walkers' own memory,
/// where a refused move finds it.
template <class View, bool in_shared> __global__ void __launch_bounds__(team_block, move_blocks)
    move_kernel(View law, TeamLayout layout, const HmcLevel* levels, HmcSpan span, HmcWalkers walkers) {
    const Team team(layout);
    const int k = static_cast<int>(blockIdx.y);
    const std::size_t d = law.dimension;
    const bool there = team.index() < walkers.chains;
    const std::size_t own = there ? team.index() : 0, n = blockIdx.y * walkers.chains + own;
    const std::size_t chain = walkers.first + own, number = walkers.number(blockIdx.y, own);
    const std::size_t place = std::size_t{blockIdx.y} * gridDim.x * layout.a_block() + team.index();
    double* memory = in_shared ? team.memory() : walkers.scratch + place * 3 * d;
    const Moving w{memory, memory + d, memory + 2 * d, team.memory() + (in_shared ? 3 * d : 0)};
    double *x = walkers.x + n * d, *g = walkers.gradient + n * d;
    const auto fetch = [&] {
        for (std::size_t i = team.lane(); i < d; i += team.size())
            w.x[i] = there ? x[i] : 0.0, w.g[i] = there ? g[i] : 0.0;
    };
    const HmcLevel level = levels[k];
    const double step = level.step * walkers.factor[number];
    double u = there ? walkers.energy[number] : 0.0, sum = there ? walkers.acceptance_sum[number] : 0.0,
           acceptance = 0;
    fetch();
    for (std::uint32_t it = span.first; it != span.first + span.count; ++it) {
        const RandomWords words = philox(span.seed, Stream::chain_accept, walker(k, chain), it, 0);
        const double test = portable_log(uniform(words.v[0])), jitter = step_jitter(uniform(words.v[1]));
        double fall;
        const double proposed =
            trajectory(team, law, level, span.seed, k, chain, it, step * jitter, u, w, fall);
        acceptance = metropolis(fall);
        sum += acceptance;
        if (std::isfinite(fall) && test < fall) {
            u = proposed;
            if (there)
                for (std::size_t i = team.lane(); i < d; i += team.size()) x[i] = w.x[i], g[i] = w.g[i];
        } else {
            fetch();
        }
    }
    if (!there || team.lane() > 0) return;
    walkers.energy[number] = u, walkers.acceptance[number] = acceptance, walkers.acceptance_sum[number] = sum;
}

/// Exchanges of levels k and k + 1, k = parity + 2 blockIdx.y; a team a chain.
__global__ void __launch_bounds__(team_block)
    swap_kernel(TeamLayout layout, std::size_t d, const HmcLevel* levels, std::uint64_t seed,
                std::uint32_t iteration, HmcWalkers walkers) {
    const Team team(layout);
    const std::size_t chain = team.index();
    const bool there = chain < walkers.chains;
    const unsigned k = iteration % 2 + 2 * blockIdx.y;
    const std::size_t own = there ? chain : 0, at = k * walkers.chains + own;
    const std::size_t low = walkers.number(k, own), high = walkers.number(k + 1, own);
    const double u = there ? walkers.energy[low] : 0.0, other = there ? walkers.energy[high] : 0.0;
    const double gain = (levels[k].beta - levels[k + 1].beta) * (u - other);
    const RandomWords w = philox(seed, Stream::chain_swap, walkers.first + chain, iteration, k);
    const bool swapped = portable_log(uniform(w.v[0])) < gain;
    team.sync(); // before lane 0 writes the energies
    if (!there) return;
    if (team.lane() == 0) walkers.swap_sum[low] += gain >= 0 ? 1.0 : portable_exp(gain);
    if (!swapped) return;
    if (team.lane() == 0) walkers.energy[low] = other, walkers.energy[high] = u;
    for (std::size_t i = team.lane(); i < d; i += team.size()) {
        const std::size_t a = at * d + i, b = a + walkers.chains * d;
        const double x = walkers.x[a], g = walkers.gradient[a];
        walkers.x[a] = walkers.x[b], walkers.gradient[a] = walkers.gradient[b];
        walkers.x[b] = x, walkers.gradient[b] = g;
    }
}

/// A thread a coordinate of a level; neighbouring threads read side by side.
__global__ void __launch_bounds__(team_block) sum_kernel(std::size_t d, HmcWalkers walkers, double* sum_out) {
    const std::size_t i = static_cast<std::size_t>(blockIdx.x) * team_block + threadIdx.x;
    if (i >= d) return;
    const double* x = walkers.x + blockIdx.y * walkers.chains * d + i;
    double sum = sum_out[blockIdx.y * d + i];
#pragma unroll 4
    for (std::size_t c = 0; c < walkers.chains; ++c) sum += x[c * d];
    sum_out[blockIdx.y * d + i] = sum;
}
__global__ void __launch_bounds__(team_block)
    square_kernel(std::size_t d, HmcWalkers walkers, double count, const double* sum, double* square_out) {
    const std::size_t i = static_cast<std::size_t>(blockIdx.x) * team_block + threadIdx.x;
    if (i >= d) return;
    const double* x = walkers.x + blockIdx.y * walkers.chains * d + i;
    const double mean = sum[blockIdx.y * d + i] / count;
    double square = square_out[blockIdx.y * d + i];
#pragma unroll 4
    for (std::size_t c = 0; c < walkers.chains; ++c) {
        const double delta = x[c * d] - mean;
        square += delta * delta;
    }
    square_out[blockIdx.y * d + i] = square;
}

__global__ void __launch_bounds__(team_block, observe_blocks)
    observe_kernel(TeamLayout layout, std::size_t d, LatticeView lattice, HmcWalkers walkers,
                   HmcQuantities quantities, double* out) {
    const Team team(layout);
    const std::size_t chains = walkers.chains, chain = team.index();
    const bool there = chain < chains;
    const std::size_t n = blockIdx.y * chains + (there ? chain : 0);
    const double* x = walkers.x + n * d;
    double sum = 0, square = 0, edges = 0;
#pragma unroll 1
    for (std::size_t i = team.lane(); i < d; i += team.size()) {
        const double v = x[i];
        sum += v, square += v * v;
        if (quantities.edges) edges += edge_term(lattice, i, [x](std::size_t j) { return x[j]; });
    }
    sum = team.sum(sum), square = team.sum(square);
    if (quantities.edges) edges = team.sum(edges);
    if (!there) return;
    const std::size_t all = quantities.count + 3 + (quantities.edges ? 1 : 0);
    double* mine = out + blockIdx.y * all * chains + chain;
    for (std::size_t q = team.lane(); q < quantities.count; q += team.size())
        mine[q * chains] = x[quantities.coordinates[q]];
    if (team.lane() > 0) return;
    mine += quantities.count * chains;
    mine[0] = walkers.energy[walkers.number(blockIdx.y, there ? chain : 0)];
    mine[chains] = sum / static_cast<double>(d);
    mine[2 * chains] = square / static_cast<double>(d);
    if (quantities.edges) mine[3 * chains] = edges;
}

TeamLayout layout_of(std::size_t d, std::size_t memory, std::size_t chains) {
    return {static_cast<unsigned>(strands_of(d)), memory, chains};
}

template <class View> void move(DeviceStream stream, const View& view, std::size_t scratch,
                                const HmcLevel* levels, const HmcSpan& span, const HmcWalkers& walkers) {
    const bool in_shared = walkers.scratch == nullptr;
    const TeamLayout layout =
        layout_of(view.dimension, scratch + (in_shared ? 3 * view.dimension : 0), walkers.chains);
    const auto kernel = in_shared ? move_kernel<View, true> : move_kernel<View, false>;
    gpu::launch(kernel, dim3(layout.blocks(), static_cast<unsigned>(walkers.levels)), team_block,
                layout.shared_bytes(), stream, view, layout, levels, span, walkers);
}

} // namespace

std::size_t hmc_scratch(const EnergyView& law, std::size_t shared_memory_a_block, std::size_t levels,
                        std::size_t chains) {
    const std::size_t d = dimension(law);
    const TeamLayout layout = layout_of(d, team_scratch(law) + 3 * d, chains);
    const bool in_shared = layout.shared_bytes() <= shared_memory_a_block;
    // Teams without a chain move too, in memory of their own.
    return in_shared ? 0 : 3 * d * levels * layout.blocks() * layout.a_block();
}

void hmc_advance(DeviceStream stream, const EnergyView& law, const HmcLevel* levels, const HmcSpan& span,
                 const HmcWalkers& walkers) {
    const auto advance = [&](const HmcSpan& part) {
        std::visit(
            [&]<class View>(const View& view) {
                if constexpr (on_device<View>) move(stream, view, team_scratch(law), levels, part, walkers);
            },
            law);
    };
    if (!span.swaps) return advance(span);
    const std::size_t d = dimension(law);
    const TeamLayout layout = layout_of(d, 0, walkers.chains);
    for (std::uint32_t it = span.first; it != span.first + span.count; ++it) {
        advance({span.seed, it, 1, false});
        const unsigned pairs = (static_cast<unsigned>(walkers.levels) - it % 2) / 2;
        if (pairs > 0)
            gpu::launch(swap_kernel, dim3(layout.blocks(), pairs), team_block, layout.shared_bytes(), stream,
                        layout, d, levels, span.seed, it, walkers);
    }
}

void hmc_add_sums(DeviceStream stream, std::size_t dimension, const HmcWalkers& walkers, double* sum) {
    gpu::launch(sum_kernel,
                dim3(gpu::blocks_for(dimension, team_block), static_cast<unsigned>(walkers.levels)),
                team_block, 0, stream, dimension, walkers, sum);
}

void hmc_add_squares(DeviceStream stream, std::size_t dimension, const HmcWalkers& walkers,
                     std::size_t chains, const double* sum, double* square) {
    gpu::launch(square_kernel,
                dim3(gpu::blocks_for(dimension, team_block), static_cast<unsigned>(walkers.levels)),
                team_block, 0, stream, dimension, walkers, static_cast<double>(chains), sum, square);
}

void hmc_observe(DeviceStream stream, const EnergyView& law, const HmcWalkers& walkers, int levels,
                 const HmcQuantities& quantities, double* out) {
    const std::size_t d = dimension(law);
    const auto* lattice = std::get_if<LatticeView>(&law);
    const TeamLayout layout = layout_of(d, 0, walkers.chains);
    gpu::launch(observe_kernel, dim3(layout.blocks(), static_cast<unsigned>(levels)), team_block,
                layout.shared_bytes(), stream, layout, d, lattice ? *lattice : LatticeView{}, walkers,
                quantities, out);
}

} // namespace dynkin::cuda

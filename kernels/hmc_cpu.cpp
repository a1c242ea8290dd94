// hmc_cpu.cpp - Hamiltonian Monte Carlo on tiles of W chains, one lane a chain; contract in hmc.h.
#include "dispatch_cpu.h"
#include "energy_cpu.h"
#include "engine/random.h"
#include "hmc.h"
#include "philox.h"
#include <cstring>

namespace dynkin::cpu {
namespace {

/// Standard normal momenta for coordinates 0 .. d-1 of W chains; kinetic = |q|^2 / 2.
template <int W> inline void draw_momenta(std::size_t d, std::uint64_t seed, std::uint64_t first_walker,
                                          std::uint32_t iteration, double* q, double* kinetic) {
    StrandSum<W> sum(d);
    for (std::size_t i = 0; i < d; i += 4) {
        alignas(64) double normal[4][W];
#pragma omp simd
        for (int lane = 0; lane < W; ++lane) {
            const RandomWords w =
                philox(seed, Stream::chain_momentum, first_walker + static_cast<std::uint64_t>(lane),
                       iteration, static_cast<std::uint32_t>(i / 4));
            normals_from_uniforms(uniform(w.v[0]), uniform(w.v[1]), normal[0][lane], normal[1][lane]);
            normals_from_uniforms(uniform(w.v[2]), uniform(w.v[3]), normal[2][lane], normal[3][lane]);
        }
        for (std::size_t k = 0; k < std::min<std::size_t>(4, d - i); ++k) {
            double *out = q + (i + k) * W, *part = sum.of(i + k);
#pragma omp simd
            for (int lane = 0; lane < W; ++lane) {
                out[lane] = normal[k][lane];
                part[lane] += 0.5 * normal[k][lane] * normal[k][lane];
            }
        }
    }
    sum.total(kinetic);
}

/// Scalars of one tile in one iteration, per lane.
template <int W> struct Lanes {
    alignas(64) double step[W], kick[W], test[W], before[W], after[W], proposed[W];
};

/// q -= weight kick s_i g_i; x += step s_i q: a kick, then a drift.
template <int W> inline void kick_drift(std::size_t d, const double* scale, const Lanes<W>& lanes,
                                        double weight, const double* g, double* q, double* x) {
    for (std::size_t i = 0; i < d; ++i) {
        const double s = scale[i], ws = weight * s;
#pragma omp simd
        for (int lane = 0; lane < W; ++lane) {
            const std::size_t n = i * W + static_cast<std::size_t>(lane);
            q[n] -= lanes.kick[lane] * ws * g[n];
            x[n] += lanes.step[lane] * s * q[n];
        }
    }
}

/// The last half kick; kinetic = |q|^2 / 2.
template <int W> inline void last_kick(std::size_t d, const double* scale, const Lanes<W>& lanes,
                                       const double* g, const double* q, double* kinetic) {
    StrandSum<W> sum(d);
    for (std::size_t i = 0; i < d; ++i) {
        const double half = 0.5 * scale[i];
        double* part = sum.of(i);
#pragma omp simd
        for (int lane = 0; lane < W; ++lane) {
            const std::size_t n = i * W + static_cast<std::size_t>(lane);
            const double p = q[n] - lanes.kick[lane] * half * g[n];
            part[lane] += 0.5 * p * p;
        }
    }
    sum.total(kinetic);
}

/// Draws step sizes and Metropolis thresholds log u of the lanes; returns the number of leapfrog steps.
template <int W> inline int draw_scalars(const HmcLevel& level, std::uint64_t seed, int index,
                                         std::uint64_t first_chain, std::uint32_t iteration,
                                         const double* factor, Lanes<W>& lanes) {
    for (int lane = 0; lane < W; ++lane) {
        const RandomWords w =
            philox(seed, Stream::chain_accept, walker(index, first_chain) + static_cast<std::uint64_t>(lane),
                   iteration, 0);
        lanes.test[lane] = portable_log(uniform(w.v[0]));
        lanes.step[lane] = level.step * factor[lane] * step_jitter(uniform(w.v[1]));
        lanes.kick[lane] = lanes.step[lane] * level.beta;
    }
    const RandomWords shared = philox(seed, Stream::chain_accept, walker(index, 0), iteration, 1);
    return leapfrog_steps(level.leapfrog, uniform(shared.v[0]));
}

/// Metropolis test of every lane; puts the old state back where it fails.
template <int W> inline void accept_or_restore(std::size_t d, double beta, const Lanes<W>& lanes,
                                               const double* old_x, const double* old_g, double* x, double* g,
                                               double* u, double* acceptance, double* acceptance_sum) {
    for (int lane = 0; lane < W; ++lane) {
        const double fall =
            (beta * u[lane] + lanes.before[lane]) - (beta * lanes.proposed[lane] + lanes.after[lane]);
        acceptance[lane] = metropolis(fall);
        acceptance_sum[lane] += acceptance[lane];
        if (std::isfinite(fall) && lanes.test[lane] < fall) {
            u[lane] = lanes.proposed[lane];
            continue;
        }
        for (std::size_t i = 0; i < d; ++i) {
            const std::size_t n = i * W + static_cast<std::size_t>(lane);
            x[n] = old_x[n];
            g[n] = old_g[n];
        }
    }
}

template <int W, class View> inline void move_tile(const View& law, const HmcLevel& level, std::uint64_t seed,
                                                   int index, std::uint32_t iteration,
                                                   const HmcBlock& block) {
    const std::size_t d = law.dimension, size = d * W;
    const auto l = static_cast<std::size_t>(index);
    double *x = block.x + l * size, *g = block.gradient + l * size, *u = block.energy + l * W;
    double *q = block.scratch, *old_x = q + size, *old_g = old_x + size, *rest = old_g + size;
    Lanes<W> lanes;
    const int steps =
        draw_scalars<W>(level, seed, index, block.first_chain, iteration, block.factor + l * W, lanes);
    draw_momenta<W>(d, seed, walker(index, block.first_chain), iteration, q, lanes.before);
    std::memcpy(old_x, x, size * sizeof(double));
    std::memcpy(old_g, g, size * sizeof(double));
    for (int step = 0; step < steps; ++step) {
        kick_drift<W>(d, level.scale, lanes, step == 0 ? 0.5 : 1.0, g, q, x);
        gradient<W>(law, x, g, rest);
    }
    last_kick<W>(d, level.scale, lanes, g, q, lanes.after);
    energy<W>(law, x, lanes.proposed, rest);
    accept_or_restore<W>(d, level.beta, lanes, old_x, old_g, x, g, u, block.acceptance + l * W,
                         block.acceptance_sum + l * W);
}

/// Exchanges of neighbouring levels, with probability min(1, exp((beta_k - beta_k+1)(U_k - U_k+1))).
template <int W> inline void swap_levels(std::size_t d, const HmcLevel* levels, std::uint64_t seed,
                                         std::uint32_t iteration, const HmcBlock& block) {
    const std::size_t size = d * W;
    for (int k = static_cast<int>(iteration % 2); k + 1 < block.levels; k += 2) {
        const auto l = static_cast<std::size_t>(k);
        double *u = block.energy + l * W, *x = block.x + l * size, *g = block.gradient + l * size;
        for (std::size_t lane = 0; lane < W; ++lane) {
            const RandomWords w = philox(seed, Stream::chain_swap, block.first_chain + lane, iteration,
                                         static_cast<std::uint32_t>(k));
            const double gain = (levels[k].beta - levels[k + 1].beta) * (u[lane] - u[W + lane]);
            block.swap_sum[l * W + lane] += gain >= 0 ? 1.0 : portable_exp(gain);
            if (!(portable_log(uniform(w.v[0])) < gain)) continue;
            std::swap(u[lane], u[W + lane]);
            for (std::size_t n = lane; n < size; n += W) {
                std::swap(x[n], x[size + n]);
                std::swap(g[n], g[size + n]);
            }
        }
    }
}

template <int W, class View> struct Advance {
    const View& law;
    const HmcLevel* levels;
    const HmcSpan& span;
    const HmcBlock& block;
    void operator()() const {
        for (std::uint32_t it = span.first; it != span.first + span.count; ++it) {
            for (int k = 0; k < block.levels; ++k) move_tile<W>(law, levels[k], span.seed, k, it, block);
            if (span.swaps) swap_levels<W>(law.dimension, levels, span.seed, it, block);
        }
    }
};

template <int W, class View> struct Refresh {
    const View& law;
    const HmcBlock& block;
    void operator()() const {
        for (std::size_t k = 0; k < static_cast<std::size_t>(block.levels); ++k) {
            const double* x = block.x + k * law.dimension * W;
            energy<W>(law, x, block.energy + k * W, block.scratch);
            gradient<W>(law, x, block.gradient + k * law.dimension * W, block.scratch);
        }
    }
};

} // namespace

std::size_t hmc_scratch(const EnergyView& law, int lanes) {
    return (3 * dimension(law) + scratch_per_lane(law)) * static_cast<std::size_t>(lanes);
}

void hmc_refresh(Isa isa, const EnergyView& law, const HmcBlock& block) {
    std::visit(
        [&]<class View>(const View& view) {
            if (block.lanes == 8)
                with_isa(isa, Refresh<8, View>{view, block});
            else
                with_isa(isa, Refresh<16, View>{view, block});
        },
        law);
}

void hmc_advance(Isa isa, const EnergyView& law, const HmcLevel* levels, const HmcSpan& span,
                 const HmcBlock& block) {
    std::visit(
        [&]<class View>(const View& view) {
            if (block.lanes == 8)
                with_isa(isa, Advance<8, View>{view, levels, span, block});
            else
                with_isa(isa, Advance<16, View>{view, levels, span, block});
        },
        law);
}

} // namespace dynkin::cpu

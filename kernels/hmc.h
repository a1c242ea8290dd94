// hmc.h - Hamiltonian Monte Carlo on a block of chains, with replicas at several temperatures; loops in
// hmc_cpu.cpp.
#pragma once
#include "elementary.h"
#include "energy.h"
#include "engine/context.h"
#include <cstddef>
#include <cstdint>

namespace dynkin {

/// How the replicas of one inverse temperature move: momenta q ~ N(0, 1) per coordinate, x' = scale_i q,
/// q' = -beta scale_i dU/dx_i, so that 1/scale^2 is the diagonal mass.
struct HmcLevel {
    double beta = 1;
    double step = 0.1;   ///< leapfrog step; each chain and iteration uses step * U(0.8, 1.2) * factor
    double leapfrog = 8; ///< mean number of steps; each iteration takes leapfrog * U(0.5, 1.5), rounded, >= 1
    const double* scale = nullptr; ///< one per coordinate
};

/// `lanes` neighbouring chains at all levels. x and gradient: (levels, d, lanes); the others: (levels,
/// lanes).
struct HmcBlock {
    int lanes = 8; ///< 8 or 16
    int levels = 1;
    std::uint64_t first_chain = 0;
    double *x, *gradient, *energy;
    const double* factor;   ///< per chain, times the step (burn-in); 1 otherwise
    double* acceptance;     ///< out: probability in the last iteration
    double* acceptance_sum; ///< added to
    double* swap_sum;       ///< (levels - 1, lanes), probabilities added to
    double* scratch;        ///< hmc_scratch() doubles
};

/// Iterations [first, first + count) of the run; with `swaps`, pairs of levels k, k+1 with k = iteration mod
/// 2, mod 2 ... exchange states after each (deterministic even-odd, Okabe et al. 2001).
struct HmcSpan {
    std::uint64_t seed = 0;
    std::uint32_t first = 0, count = 1;
    bool swaps = false;
};

/// Number of leapfrog steps of an iteration, u uniform on (0, 1).
DYNKIN_HD int leapfrog_steps(double mean, double u) {
    const double steps = mean * (0.5 + u) + 0.5;
    return steps < 1.0 ? 1 : static_cast<int>(steps);
}
/// Step-size jitter, u uniform on (0, 1).
DYNKIN_HD double step_jitter(double u) { return 0.8 + 0.4 * u; }
/// The sample that keys the random numbers of a chain at a level.
DYNKIN_HD std::uint64_t walker(int level, std::uint64_t chain) {
    return static_cast<std::uint64_t>(level) << 32 | chain;
}
/// Probability of a move after which H has fallen by so much; 0 when that is not finite.
DYNKIN_HD double metropolis(double fall) {
    return !std::isfinite(fall) ? 0.0 : (fall >= 0 ? 1.0 : portable_exp(fall));
}

namespace cpu {

std::size_t hmc_scratch(const EnergyView& law, int lanes);

/// Sets energy and gradient of a block from x.
void hmc_refresh(Isa isa, const EnergyView& law, const HmcBlock& block);

/// Neal (2011), Handbook of MCMC, ch. 5: leapfrog, Metropolis test on H = beta U + |q|^2 / 2. Moves whose H
/// is not finite are rejected. Random numbers are keyed (level << 32 | chain, iteration): nothing depends on
/// blocks or threads. Flops per chain and coordinate of an iteration of n steps, on a lattice with z
/// neighbours: n (2 degree + z + 8) + 100.
void hmc_advance(Isa isa, const EnergyView& law, const HmcLevel* levels, const HmcSpan& span,
                 const HmcBlock& block);

} // namespace cpu

namespace cuda {

/// Walkers on the device: all chains, or a batch of neighbouring ones. x and gradient: (levels, chains, d) of
/// the batch; the others of all chains: (levels, all). Pointers are memory of the device.
struct HmcWalkers {
    std::size_t chains;
    int levels;
    double *x, *gradient, *energy;
    const double* factor;
    double *acceptance, *acceptance_sum;
    double* swap_sum;               ///< (levels - 1, all); null for one level
    double* scratch;                ///< hmc_scratch() doubles
    std::size_t first = 0, all = 0; ///< the batch's first chain, and how many there are; 0: the batch is all

    DYNKIN_HD std::size_t number(std::size_t level, std::size_t chain) const {
        return level * (all > 0 ? all : chains) + first + chain;
    }
};

/// What is watched of each walker, in this order: `count` coordinates, energy, mean over coordinates, mean
/// square, and with `edges`, for lattices, the sum over edges of (x_i - x_j)^2 / 2.
struct HmcQuantities {
    const std::int32_t* coordinates; ///< memory of the device
    std::size_t count;
    bool edges;
    std::size_t all() const { return count + 3 + (edges ? 1 : 0); }
};

/// Walkers move in shared memory when 3 d doubles fit into what a block can have (d <= 9 600 on an H100),
/// else in this many doubles of the device's memory, for so many levels of so many chains.
std::size_t hmc_scratch(const EnergyView& law, std::size_t shared_memory_a_block, std::size_t levels,
                        std::size_t chains);

/// cpu::hmc_advance() for all walkers, with the same bits: a team of threads a walker (team.h), all chains of
/// a level the same number of steps, so that all wait together. levels: memory of the device, their scales
/// too. Without swaps one launch, else two an iteration. Throws Error(io) when a launch fails.
void hmc_advance(DeviceStream stream, const EnergyView& law, const HmcLevel* levels, const HmcSpan& span,
                 const HmcWalkers& walkers);

/// sum += each coordinate, and square += its squared deviation from sum / chains, over the batch in the order
/// of its chains, so that batches one after another give what all chains at once give: both (levels, d).
void hmc_add_sums(DeviceStream stream, std::size_t dimension, const HmcWalkers& walkers, double* sum);
void hmc_add_squares(DeviceStream stream, std::size_t dimension, const HmcWalkers& walkers,
                     std::size_t chains, const double* sum, double* square);

/// out: (levels, quantities.all(), chains), for the first `levels` of the walkers.
void hmc_observe(DeviceStream stream, const EnergyView& law, const HmcWalkers& walkers, int levels,
                 const HmcQuantities& quantities, double* out);

} // namespace cuda
} // namespace dynkin

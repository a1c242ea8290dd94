// mcmc.h - training samples of a Boltzmann target by Hamiltonian Monte Carlo or parallel tempering.
#pragma once
#include "checkpoint.h"
#include "context.h"
#include "npy.h"
#include "target.h"
#include <cstdint>
#include <span>
#include <vector>

namespace dynkin {

enum class McmcMethod { hmc, tempering };

struct McmcOptions {
    McmcMethod method = McmcMethod::hmc;
    std::size_t samples = 0; ///< N, rows written
    std::uint64_t seed = 0;
    std::size_t chains = 0; ///< 0: chosen: a power of two near N/100, from 4 to 1024
    int warmup = 0; ///< iterations discarded, at least 50; step size and mass adapt in these only. 0: chosen,
                    ///< its measurement doubled (up to 6400) until it is 50 autocorrelation times
    int thinning = 0; ///< iterations between kept states; 0: 1.5 autocorrelation times, at most 1000
    double target_acceptance = 0.8; ///< in (0.1, 0.99)
    int temperatures = 0; ///< tempering: replicas per chain, at least 2; 0: chosen from the dimension
    int lanes = 0;        ///< chains moved together, 8 or 16; 0: chosen. No effect on results
    CheckpointOptions checkpoint;
};

struct McmcReport {
    double acceptance = 0; ///< mean over chains and kept iterations
    double r_hat_max = 0;  ///< largest split_r_hat over coordinates, energy, mean and mean square
    double ess_min = 0;    ///< smallest effective sample size of the N rows, over the same quantities
    double ess_energy = 0;
    double energy_mean = 0, energy_error = 0; ///< of the rows, with the standard error for their
                                              ///< autocorrelation: sd / sqrt(ess_energy)
    /// The same of the sum over edges of (x_i - x_j)^2 / 2, those to zeros outside included, which is dU/dJ:
    /// the slope of -log Z in the coupling. Lattices only. Not judged by r_hat_max and ess_min.
    double edge_energy = 0, edge_energy_error = 0;
    double autocorrelation_time =
        0; ///< in iterations, from the end of the warm-up: the slowest of the same quantities
    double step_size = 0;
    double leapfrog_steps = 0; ///< mean number an iteration
    std::size_t chains = 0;
    int warmup = 0, thinning = 0, temperatures = 1;
    double swap_acceptance = 0;      ///< mean over pairs of neighbouring temperatures
    std::vector<double> beta;        ///< the ladder, from 1 down
    double gradient_evaluations = 0; ///< after warm-up, all chains and temperatures
};

/// Rank-normalised split R-hat: the larger of the bulk and the folded value (Vehtari et al. 2021, eq. 4 to 6
/// and section 4) of chains stored as values[chain * length + iteration], each cut in two halves. Infinite
/// when the halves do not move. length >= 4.
double split_r_hat(std::span<const double> values, std::size_t chains, std::size_t length);
/// Effective sample size for the mean, of split chains (Vehtari et al. 2021, eq. 10 to 13; Geyer's initial
/// monotone sequence): at most S log10 S for S values, 0 when nothing moves. length >= 4.
double effective_sample_size(std::span<const double> values, std::size_t chains, std::size_t length);

/// Draws options.samples rows into `output` (which has that many rows of target.dimension() numbers), in kept
/// order: row k * chains + c is the k-th kept state of chain c, so neighbouring rows come from different
/// chains, and any contiguous or strided part is a sample of all chains.
///
/// Chains start over-dispersed: sites spread over the region where the site potential is within 4 kT of its
/// minimum, with an offset of the whole chain in addition. Warm-up: crude step sizes per chain; three windows
/// that set the diagonal mass (1 / variance of each coordinate over chains and iterations) and, with
/// tempering, the ladder (equal rejection, Syed et al. 2022); the number of leapfrog steps from {2, ..., 64}
/// by the lag-1 autocorrelation of the slowest quantity per gradient; dual averaging of the step size
/// throughout (Hoffman and Gelman 2014); then, with everything fixed, autocorrelation times, which set the
/// thinning.
///
/// Diagnostics keep at most 64 coordinates and 2^16 values of each quantity: beyond that R-hat is taken from
/// every b-th kept state and the effective sample size from means of b successive ones. Quantities: those
/// coordinates (evenly spread), energy, mean over coordinates, mean square over coordinates.
///
/// Results depend on the options and the seed only: not on threads, lanes, SIMD level, interrupts. With a
/// checkpoint, the state is saved when due and when interrupted (then throws Interrupted); a resumed run
/// needs `output` opened in resume mode with the rows written so far, else throws Error(io); it writes the
/// same bytes and reports the same. The caller removes the checkpoint after output.commit(), so that no
/// moment is without one or the other. Throws Error(usage) for options out of range or a target without
/// energy, Error(numerical) when the energy is not finite near the start or no step size is accepted.
McmcReport run_mcmc(const Context& context, const Target& target, const McmcOptions& options,
                    NpyWriter& output);

} // namespace dynkin

// mcmc.h - training samples of a Boltzmann target by Hamiltonian Monte Carlo or parallel tempering.
#pragma once
#include "checkpoint.h"
#include "context.h"
#include "npy.h"
#include "target.h"
#include <cstdint>
#include <vector>

namespace dynkin {

enum class McmcMethod { hmc, tempering };

struct McmcOptions {
    McmcMethod method = McmcMethod::hmc;
    std::size_t samples = 0;       ///< N, rows written
    std::uint64_t seed = 0;
    std::size_t chains = 0;        ///< 0: chosen (parallel chains, at least 64 when N allows; at least 4)
    int warmup = 0;                ///< iterations discarded, 0: chosen; step size and mass adapt in these only
    int thinning = 0;              ///< iterations between kept states, 0: chosen from the autocorrelation in warm-up
    double target_acceptance = 0.8;
    int temperatures = 0;          ///< tempering: replicas per chain, 0: chosen; ladder adapted in warm-up
    CheckpointOptions checkpoint;
};

struct McmcReport {
    double acceptance = 0;         ///< mean over chains and kept iterations
    double r_hat_max = 0;          ///< rank-normalised split R-hat, largest over coordinates, energy, mean and mean square
    double ess_min = 0;            ///< smallest effective sample size over the same quantities
    double ess_energy = 0;
    double step_size = 0;
    std::size_t chains = 0;
    int warmup = 0, thinning = 0, temperatures = 1;
    double swap_acceptance = 0;
};

/// Split R-hat and effective sample size (Vehtari et al. 2021; Geyer's initial monotone sequence) of chains stored as
/// values[chain * length + iteration].
double split_r_hat(std::span<const double> values, std::size_t chains, std::size_t length);
double effective_sample_size(std::span<const double> values, std::size_t chains, std::size_t length);

/// Draws options.samples rows into `output` (which has that many rows), chain by chain in kept order: row
/// k * chains + c is the k-th kept state of chain c. Checkpointed; a resumed run writes the same bytes.
/// Throws Error(numerical) when the energy is not finite anywhere near the start or no step size is accepted.
McmcReport run_mcmc(const Context& context, const Target& target, const McmcOptions& options, NpyWriter& output);

} // namespace dynkin

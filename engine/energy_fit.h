// energy_fit.h - a model of a Boltzmann target from its energy alone: no training samples.
#pragma once
#include "checkpoint.h"
#include "fit.h"
#include "target.h"
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace dynkin {

/// One round: weigh the last model's samples, resample, move, refit, weigh the new model's samples.
struct EnergyIteration {
    double beta = 1;    ///< inverse temperature of the energy that the rows were weighed and moved with
    double alpha = 0;   ///< exponent of the weights that the rows were resampled with; 0: the rows were kept,
                        ///< NaN: no model before
    double ess_in = 0;  ///< ESS fraction of the untempered weights before resampling; NaN: no model before
    double ess_out = 0; ///< ESS fraction of the new model's samples
    double log_partition = 0, log_partition_error = 0; ///< from the new model's samples
    double acceptance = 0;                             ///< of the moves
    double pairs = 0;                                  ///< FitOptions::level_pairs of this refit
    double seconds = 0;
    std::string failure = {}; ///< why the refit failed, with ess_out 0; not kept across --resume
};

/// One raise of the inverse temperature before the first model.
struct AnnealingStep {
    double beta = 0, ess = 0, acceptance = 0;
};

struct EnergyFitOptions {
    std::size_t rows = 20'000; ///< of the set that each model is fitted to, and weighed with
    /// Of the refits. Lattice and symmetry come from the target, and the structure if it is automatic: levels
    /// with a lattice, else flat. No checkpoint.
    FitOptions fit = {};
    std::size_t early_pairs = 200'000; ///< level_pairs at most, until the ESS fraction has reached `ess`
    double ess = 0.3;                  ///< fraction that tempering and annealing keep, in (0, 1)
    int moves = 5;                     ///< HMC iterations after each resampling
    double gain = 0.02;                ///< relative gain of the ESS that counts as progress
    int max_iterations = 20;           ///< refits
    std::uint64_t seed = 0;
    std::function<void(std::size_t number, const EnergyIteration&)> on_iteration = {}; ///< from 1
    CheckpointOptions checkpoint = {}; ///< the caller removes what it names once the model is safe
};

struct EnergyFitReport {
    std::vector<AnnealingStep> annealing;
    std::vector<EnergyIteration> iterations;
    std::size_t best = 0; ///< iteration whose model is returned
    double ess_fraction = 0, log_partition = 0, log_partition_error = 0; ///< of that model
    bool converged = false, usable = false; ///< usable: ESS fraction at least 0.05
};

/// Fits a model to p ~ exp(-U) without samples of it.
///
/// Start: `rows` walkers over the region where the site potentials are within 4 kT of their minimum.
/// Annealing: beta goes from 0 to 1, each time to where the weights exp(-(beta' - beta) U) have the ESS
/// fraction `ess`; systematic resampling, `moves` HMC iterations with beta' U. Walkers meet no barrier at
/// small beta, and the weights carry the shares of the wells on to beta = 1.
/// Iterations: fit() to the walkers; as many samples of the model by the ODE, with exact log q; weights
/// w = exp(-U) / q. Then the next walkers: systematic resampling by w^alpha, alpha <= 1 the largest with the
/// ESS fraction `ess` (below 0.2 the model is worse than the walkers, which are kept: alpha = 0); `moves` HMC
/// iterations with U; x -> -x at random when U is even. HMC: mass by the walkers' variances, step by
/// acceptance 0.8, trajectories of about a quarter of the slowest period.
///
/// Converged when the weights need no tempering (ESS >= `ess`) and two iterations in a row have not raised
/// the best ESS by more than the fraction `gain`, or no ESS up to 1 could. Not converged after five
/// iterations without such a gain, or max_iterations. The model of the highest ESS is returned (of figures
/// that differ by their noise the largest: high by about one standard error).
///
/// Files: OUTPUT.checkpoint.set0.npy and set1 hold the walkers by turns, .best0 and .best1 the best model
/// (in the system's temporary folder without a checkpoint); gone at the end, kept when interrupted. Same
/// bytes for any number of threads and after any interruption. Throws Error(usage) for a target without
/// energy or options out of range, Error(input) for an energy that is not bounded below, Error(numerical)
/// when no step size is accepted or annealing stalls, and what fit() throws.
Model fit_from_energy(const Context& context, const Target& target, const EnergyFitOptions& options,
                      EnergyFitReport* report = nullptr);

/// Removes the files that an interrupted fit_from_energy() left beside this checkpoint, and it. Error(io) for
/// what cannot be removed.
void remove_energy_fit_state(const CheckpointOptions& checkpoint);

} // namespace dynkin

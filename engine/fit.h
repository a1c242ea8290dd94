// fit.h - from samples to a model without training: references, moments, one linear system per time node.
#pragma once
#include "checkpoint.h"
#include "model.h"
#include <optional>
#include <string>
#include <vector>

namespace dynkin {

enum class Symmetry { automatic, even, none };
/// One joint diffusion, or levels: conditional diffusions of one scalar after another, from coarse to fine.
enum class Structure { automatic, flat, levels };

struct FitOptions {
    std::optional<Process> process = {}; ///< none: fitted, or OU where tails are too heavy for a fitted one
    int degree = 0; ///< of the 1-clusters; 0: 8 with a lattice, 6 without, 4 for OU; in one column by
                    ///< held-out score-matching loss from 2 to 16; 12, 8 in two, three; torus of more:
                    ///< frequencies, 0: 4 with a lattice, 3 without
    int radius = 0; ///< box, torus: largest frequency of the basis in up to three dimensions, 0: chosen
    std::optional<std::vector<PairRule>> pairs =
        {};               ///< none given: nearest:3,all:1 with a lattice, dependent:2,all:1
                          ///< without (all:1 for OU), all:degree in two or three dimensions
    int total_degree = 0; ///< a + b at most this, 0: no limit (degree in two or three dimensions)
    std::optional<Lattice> lattice = {}; ///< of the file's columns; periodic: all sites are equivalent
    bool reflection_symmetric = false;   ///< the law has the lattice's reflections: sites they map onto one
                                         ///< another share a reference
    Symmetry symmetry = Symmetry::automatic;
    bool known_even = false;                    ///< automatic: the target is known to be even
    Structure structure = Structure::automatic; ///< automatic: by held-out log-likelihood
    /// Levels on a lattice: so many halvings from a sublattice of spacing 2^halvings, which is drawn by a
    /// flat block. Negative: from single sites, as far as correlations reach.
    int halvings = -1;
    double level_reach = 0; ///< levels: lattice distance beyond which sites are independent, 0: measured
    std::size_t level_pairs = 1'000'000; ///< levels: at most so many training pairs (row, site) each
    double ridge = -1;             ///< < 0: by held-out score-matching loss (levels: by held-out likelihood)
    int time_nodes = 0;            ///< intervals between nodes, 0: 32 (box and torus: 96)
    double t_min = -1, t_end = -1; ///< < 0: 1e-3 (1e-4 for correlations above 0.9), max(5, 3/lambda_1)
    double reference_scale = 0.6;  ///< of the fitted potential, 0.5 to 0.8
    bool drop_constant = false;
    int dequantise = 0;            ///< > 0: number of integer levels, see DataView
    bool single_precision = false; ///< moments in float32 products
    std::uint64_t seed = 0;
    std::size_t batch = 0;             ///< rows at a time, 0: chosen; does not change the result
    CheckpointOptions checkpoint = {}; ///< the caller removes it once the model is safe
};

/// What became of one level.
struct LevelReport {
    std::string name, descriptors;
    std::size_t targets = 0, pairs = 0, basis_size = 0;
    bool regression = false;
    int conditioning_degree = 0, ridges_raised = 0, steps = 0;
    double ridge = 0, condition = 0;
    double heldout = 0;                                ///< mean log q of the held-out pairs (nats a target)
    std::vector<std::pair<std::string, double>> tried; ///< candidates and their held-out log q
};

struct FitReport {
    std::size_t samples = 0, dimension = 0, dropped = 0, basis_size = 0, moments = 0, outside = 0;
    bool even = false;
    std::string symmetry_reason;
    double ridge = 0, condition = 0;
    int ridges_raised = 0;   ///< nodes at which Cholesky asked for more
    double heldout_loss = 0; ///< integral over t of the held-out loss J at the ridge that was chosen (nats)
    std::vector<std::pair<double, double>> ridge_losses; ///< candidates
    std::vector<std::pair<int, double>> degree_losses; ///< degrees that were tried, each with its best ridge
    int density_degree = 0; ///< one column: of the polynomial density that its moments shrink to, 0: none
    double shrinkage = 0;   ///< by how much, from 0 to 1
    std::string reference;  ///< e.g. "fitted, degree 8, scale 0.6"
    double lambda_1 = 0, product_residual = 0, max_correlation = 0;
    std::vector<LevelReport> levels;
    std::string structure_reason; ///< why flat or levels
    double moment_seconds = 0, moment_gflops = 0, solve_seconds = 0;
};

/// Fits a model. Rows stream three times, and once more a level; memory does not grow with N. Throws
/// Error(input) for a constant column (unless dropped), duplicated columns, fewer samples than the basis
/// needs, more than 1e-4 of the data outside the box of a fitted reference that was asked for;
/// Error(numerical) for a system that cannot be solved; Interrupted after the checkpoint is written.
Model fit(const Context& context, const SampleFile& data, const FitOptions& options,
          FitReport* report = nullptr);

} // namespace dynkin

// local_dsm.h - the score of a nonlinear process in closed form: least squares on draws from local laws
// (local denoising score matching, Singhal, Goldstein, Ranganath, arXiv 2407.07998), and implicit score
// matching.
#pragma once
#include "array.h"
#include "context.h"
#include "score_basis.h"
#include "simulate.h"
#include <cstdint>
#include <vector>

namespace dynkin {

/// What is added to grad h: nothing; the score of the Gaussian with the mean and covariance of y_t; 2 f_i /
/// g_i^2, the stationary score when the drift is a gradient.
enum class ReferenceScore { none, gaussian, drift };

struct ScoreReference {
    ReferenceScore kind = ReferenceScore::gaussian;
    std::vector<double> mean; ///< gaussian
    Array<double> precision;  ///< gaussian: inverse covariance
};

/// The reference's score in the driven coordinates at x. `process`: for the kind drift.
void reference_score(const DriftProcess& process, const ScoreReference& reference, const double* x,
                     double* score);

struct LocalDsmOptions {
    Linearisation linearisation = Linearisation::linear;
    int draws = 4;          ///< for each path, 1 to 64
    bool antithetic = true; ///< each of them with both signs
    std::uint64_t seed = 0;
};

/// Averages over contiguous groups of paths: A = sum_j <d_j phi d_j phi'> over driven coordinates, and b =
/// <grad phi . (score sample - reference)>.
struct ScoreSums {
    struct Group {
        double paths = 0;
        Array<double> gram; ///< lower triangle, sums over paths
        std::vector<double> right;
    };
    std::vector<Group> groups;
};

/// From paths at time t - gap: draws y = m +- L xi from the local law of each, score samples -+ L^-T xi.
/// `node` separates the random numbers of different times. Cost per path: 2 draws K^2 driven flops and a
/// local law. Same bytes for any number of threads. Throws Error(usage), Error(numerical) when the drift or a
/// local law is not finite, or a driven coordinate has no noise after the gap.
ScoreSums local_score_sums(const Context& context, const DriftProcess& process, const ScoreBasis& basis,
                           const ScoreReference& reference, const Array<double>& states, double gap,
                           std::uint32_t node, const LocalDsmOptions& options = {});

/// From paths at time t: b = -<Laplacian phi + grad phi . reference>, integration by parts (Hyvarinen 2005).
ScoreSums implicit_score_sums(const Context& context, const DriftProcess& process, const ScoreBasis& basis,
                              const ScoreReference& reference, const Array<double>& states);

/// The Gaussian with mean and covariance of y_t: of the mixture of local laws for gap > 0, of the states
/// themselves for gap = 0.
ScoreReference gaussian_reference(const Context& context, const DriftProcess& process,
                                  const Array<double>& states, double gap,
                                  Linearisation linearisation = Linearisation::linear);

struct ScoreSolution {
    std::vector<double> coefficients;
    double ridge = 0, condition = 0;
    bool ridge_raised = false;
};
/// (D^-1/2 A D^-1/2 + ridge) D^1/2 c = D^-1/2 b with D = diag(A): the relative ridge. leave_out: a group that
/// is not counted, or none (SIZE_MAX). Throws Error(numerical) when no ridge helps.
ScoreSolution solve_score(const ScoreSums& sums, double ridge = 1e-4, std::size_t leave_out = SIZE_MAX);

/// The same on the context's device: as it is, and, after one another, without each of the groups.
ScoreSolution solve_score(const Context& context, const ScoreSums& sums, double ridge = 1e-4);
std::vector<ScoreSolution> solve_score_without_each(const Context& context, const ScoreSums& sums,
                                                    double ridge);

/// The score in the driven coordinates at row-major x (count, dimension): reference + grad h. score: (count,
/// driven).
void fitted_score(const DriftProcess& process, const ScoreBasis& basis, const ScoreReference& reference,
                  const std::vector<double>& coefficients, std::size_t count, const double* x, double* score);

} // namespace dynkin

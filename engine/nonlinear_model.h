// nonlinear_model.h - a nonlinear forward process with its fitted scores at a grid of times: fit, score,
// samples by time reversal, and the file.
#pragma once
#include "checkpoint.h"
#include "closure.h"
#include "entropy_production.h"
#include "local_dsm.h"
#include <filesystem>
#include <optional>
#include <string>

namespace dynkin {

enum class ScoreEstimator { local, implicit };

struct NonlinearFitOptions {
    BasisKind basis = BasisKind::polynomial;
    int order = 0; ///< 0: 10 in up to two dimensions, 6 in three, 4 up to six, 2 above; cosines 12, 6, 3, 2
    ReferenceScore reference = ReferenceScore::gaussian;
    ScoreEstimator estimator = ScoreEstimator::local;
    LocalDsmOptions local = {}; ///< its seed is not used
    double ridge = 1e-4;
    /// The gap t - s_t: intrinsic_gap / g^2 (g^2: mean over driven coordinates), constant in intrinsic time;
    /// or real_gap, constant in time. At most t. Both 0: intrinsic_gap = 0.12 g^2 / E|J|.
    double intrinsic_gap = 0, real_gap = 0;
    double t_min = 0;              ///< 0: where noise has moved the data by 0.08 standard deviations
    double t_end = 0;              ///< 0: 10 / g^2
    int nodes = 32;                ///< geometric from t_min to t_end
    SimulateOptions simulate = {}; ///< its seed is not used
    std::uint64_t seed = 0;
    CheckpointOptions checkpoint = {}; ///< the caller removes it once the model is safe
};

/// One time at which a score was solved.
struct NonlinearNode {
    double time = 0, gap = 0;
    std::vector<double> coefficients;
    ScoreReference reference;
    std::vector<double> lower, upper; ///< quantiles of the paths at 0.05 %; grad h is frozen beyond them
    double ridge = 0, condition = 0;
    std::optional<EntropyProduction> entropy; ///< when every coordinate has noise
};

struct NonlinearModel {
    DriftProcess process;
    ScoreBasis basis; ///< the same at all times
    std::vector<NonlinearNode> nodes;
    std::vector<double> final_mean; ///< of the paths at the last time
    Array<double> final_factor;     ///< lower Cholesky factor of their covariance
    double step = 0;                ///< largest step of the simulation
    std::vector<std::size_t> sample_shape;
    double training_rows = 0;
    std::string configuration; ///< resolved settings of the fit, JSON
};

/// Simulates one set of paths from the data through all times and solves each score in closed form. Same
/// bytes for any number of threads. Throws Error(usage), Error(input) when data do not match the process,
/// Error(numerical).
NonlinearModel fit_nonlinear(const Context& context, const DriftProcess& process, const Array<double>& data,
                             const NonlinearFitOptions& options = {});

/// The score in the driven coordinates at time t of row-major x (count, dimension) -> (count, driven);
/// between nodes coefficients and reference are linear in log t. Throws Error(usage) for t outside the nodes.
void nonlinear_score(const Context& context, const NonlinearModel& model, double t, std::size_t count,
                     const double* x, double* score);

/// Where reversed paths start: the stationary law of the process where it is known (double well, logistic;
/// mixture with noise sqrt 2), or the Gaussian with the mean and covariance of the paths at the last time.
enum class StartLaw { automatic, stationary, gaussian };
/// Rows [first, first + count) of the prior. Throws Error(usage) when the stationary law is not known.
Array<double> draw_prior(const NonlinearModel& model, StartLaw prior, std::uint64_t seed, std::size_t first,
                         std::size_t count);
/// True when StartLaw::stationary can be drawn, which is then what automatic means.
bool has_stationary_prior(const DriftProcess& process);

struct ReverseReport {
    std::size_t runaways = 0; ///< steps after which a particle was put back to the range of the paths
    std::size_t steps = 0;
};
/// Samples at `time` (0: the first node) from rows of any prior at the last node, in place: dY = (-f + g^2
/// score) ds + g dW, Heun. Row n draws the numbers of particle first + n, so parts of a sequence can be made
/// on their own. steps: of each interval between nodes, 0: 4, or as many as keep four times the step of the
/// simulation, whose tolerance is for single paths.
/// Throws Error(usage) for a time outside the nodes, Error(numerical) for starts that are not finite.
ReverseReport reverse(const Context& context, const NonlinearModel& model, Array<double>& rows,
                      std::uint64_t seed, std::size_t first = 0, double time = 0, int steps = 0);

/// In safetensors layout, format "dynkin-nonlinear" (docs/formats.md). Throws Error(usage) for a process made
/// of a callable, Error(io).
void write_nonlinear_model(const std::filesystem::path& path, const NonlinearModel& model);
/// Throws Error(io), and Error(input) for what is no such model or not consistent.
NonlinearModel read_nonlinear_model(const std::filesystem::path& path);

} // namespace dynkin

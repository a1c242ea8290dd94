// nonlinear_device.h - nonlinear processes on the device: paths, sums over paths, and the reversed process;
// and what the loops of the CPU share with them (private).
#pragma once
#include "../kernels/device.h"
#include "../kernels/fitted_score.h"
#include "drift_view.h"
#include "local_dsm.h"
#include "nonlinear_model.h"
#include "solve.h"
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace dynkin {

/// True when the context has a device and the drift is data; a callable is code of the host.
bool runs_on_device(const Context& context, const DriftProcess& process);

/// Equal steps of all paths, from step number `first` on.
struct PathSteps {
    Scheme scheme;
    std::uint64_t seed;
    std::uint32_t first, count;
    double h;
};

/// Throws Error(numerical).
[[noreturn]] void throw_lost_path(std::size_t path, std::size_t d, const double* before, const double* after,
                                  double time, double h);
[[noreturn]] void throw_no_local_law(std::size_t path, std::size_t d, const double* state, double gap);

/// Groups of a ScoreSums.
std::size_t score_groups(std::size_t paths);

/// Coefficients, reference and range at one time.
struct ScoreAt {
    std::vector<double> coefficients, offset, lower, upper;
    Array<double> precision; ///< empty unless the reference is a Gaussian: score offset - precision x
    ReferenceScore kind;
};

/// `count` steps h backwards from one time to another.
struct ReverseLeap {
    double begin, end;
    int count;
    double h;
    double time(int s) const { return s < count ? begin - s * h : end; }
};

// ---- on the context's device, with the bits of the CPU where no other is said; rows stay on the host and
// pass in chunks

void advance_paths_on_device(const Context& context, const DriftProcess& process, const PathSteps& steps,
                             double time, Array<double>& states);

/// The paths by which the step is chosen: n steps h, and 2n of half the size.
void pilot_paths_on_device(const Context& context, const DriftProcess& process,
                           const SimulateOptions& options, double h, int n,
                           const std::vector<std::size_t>& paths, const Array<double>& start,
                           Array<double>& coarse, Array<double>& fine);

/// sums: a row for each run of law_run paths.
void law_moments_on_device(const Context& context, const DriftProcess& process, const Array<double>& states,
                           double gap, Linearisation linearisation, Array<double>& sums);

/// Products of features by cuBLAS, whose bits are not the CPU's, in tiles of rows that depend on nothing but
/// the problem; tiles are added in their order.
ScoreSums local_score_sums_on_device(const Context& context, const DriftProcess& process,
                                     const ScoreBasis& basis, const ScoreReference& reference,
                                     const Array<double>& states, double gap, std::uint32_t node,
                                     const LocalDsmOptions& options);
ScoreSums implicit_score_sums_on_device(const Context& context, const DriftProcess& process,
                                        const ScoreBasis& basis, const ScoreReference& reference,
                                        const Array<double>& states);

/// What a system of sums has beside its matrix: right side and diagonal, means over the groups but one.
struct ScoreSide {
    double paths = 0;
    std::vector<double> right, scale;
};
ScoreSide score_side(const ScoreSums& sums, double ridge, std::size_t leave_out);
ScoreSolution score_solution(const SolveStatus& status, std::span<const double> coefficients);

/// solve_score() without each of these groups, SIZE_MAX: with all; by the solver of many systems.
std::vector<ScoreSolution> solve_scores_on_device(const Context& context, const ScoreSums& sums, double ridge,
                                                  std::span<const std::size_t> leave_out);

/// part(g, c): the entropy production summed over group g of the rows, a row of `part` each, with the c-th
/// row of coefficients; runs of 256 rows are summed by themselves.
void production_on_device(const Context& context, const DriftProcess& process, const ScoreBasis& basis,
                          const ScoreReference& reference, const Array<double>& coefficients,
                          const Array<double>& states, Array<double>& part);

/// A model's scores and reversed paths.
class DeviceReverse {
  public:
    DeviceReverse(const Context& context, const DriftProcess& process, const ScoreBasis& basis);
    ~DeviceReverse();
    void scores(const ScoreAt& at, std::size_t count, const double* x, double* score) const;
    ReverseReport run(const std::vector<ReverseLeap>& leaps, const std::function<ScoreAt(double)>& score_at,
                      std::uint64_t seed, std::size_t first, Array<double>& rows) const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace dynkin

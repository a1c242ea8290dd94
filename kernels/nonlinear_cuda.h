// nonlinear_cuda.h - nonlinear processes on the device: drifts and paths (drift_cuda.cu), sums over paths
// (score_sums_cuda.cu, products by cuBLAS in products_libraries.cpp), and the reversed process
// (reverse_cuda.cu). Plain C++; all is enqueued on the stream, pointers are the device's.
#pragma once
#include "device.h"
#include "fitted_score.h"
#include <cstddef>
#include <cstdint>
#include <variant>

namespace dynkin::cuda {

/// The drifts that are data, with pointers to the device's memory.
using DriftOnDevice = std::variant<DoubleWellDriftView, MixtureDriftView, LogisticDriftView, SwimmerDriftView,
                                   PolynomialDriftView>;

/// f at rows x (count, d).
void drift_values(DeviceStream stream, const DriftOnDevice& law, std::size_t count, const double* x,
                  double* f);

/// f, and the Jacobian (count, d, d); unless null, what coordinate j adds to the Ito term, ito[n, j, i].
void drift_derivatives(DeviceStream stream, const DriftOnDevice& law, const double* noise, std::size_t count,
                       const double* x, double* f, double* jacobian, double* ito);

struct PathLeap {
    Scheme scheme;
    std::uint64_t seed, first;       ///< the number of the first path
    std::uint32_t first_step, steps; ///< of their random numbers
    double h;
};
/// Paths x (count, d), all steps. lost[n]: 0, or the number of the step, from 1, at which a path left the
/// finite numbers; it stays where it was before.
void advance_paths(DeviceStream stream, const DriftOnDevice& law, const double* noise, const PathLeap& leap,
                   std::size_t count, double* x, std::uint32_t* lost);

/// pilot_path() of rows x, whose numbers are `paths`.
void pilot_paths(DeviceStream stream, const DriftOnDevice& law, const double* noise, Scheme scheme, double h,
                 int n, std::uint64_t seed, std::size_t count, const std::uint64_t* paths, const double* x,
                 double* coarse, double* fine);

// ---- sums over paths

/// linear_law() of states y. jacobian: not for Linearisation::euler; ito: for Linearisation::ito. failed,
/// unless null: whether a mean is not finite or one of the `driven_count` coordinates has no variance.
struct LawPlan {
    int d;
    const double* noise;
    double gap;
    Linearisation kind;
    const int* driven;
    int driven_count;
};
void local_laws(DeviceStream stream, const LawPlan& plan, std::size_t count, const double* y, const double* f,
                const double* jacobian, const double* ito, double* mean, double* factor,
                unsigned char* failed);

/// sums[run, e]: law_moment() over runs of law_run laws.
void law_moments(DeviceStream stream, int d, std::size_t count, const double* mean, const double* factor,
                 const double* origin, double* sums);

/// y = mean + s L xi and the samples of the score - s L^-T xi in the driven coordinates, s = 1 and, with two
/// signs, -1. Point (n draws + q) signs + s of path n: points (.., d), pulls (.., driven_count).
struct DrawPlan {
    int d, draws, signs;
    const int* driven;
    int driven_count;
    std::uint64_t seed, first;
    std::uint32_t node;
};
void local_draws(DeviceStream stream, const DrawPlan& plan, std::size_t count, const double* mean,
                 const double* factor, double* points, double* pulls);

/// Values, slopes and, with `curvatures`, curvatures of all functions of single coordinates at points:
/// table[p, part, function].
void basis_tables(DeviceStream stream, const ScoreBasisView& basis, std::size_t points, const double* x,
                  bool curvatures, double* table);

/// features[p, a, k < terms] = weight * derivative of term k along driven coordinate a; rows `stride` apart.
void basis_features(DeviceStream stream, const ScoreBasisView& basis, std::size_t points, bool curvatures,
                    const double* table, double weight, std::size_t stride, double* features);

/// targets[p, a] = weight (pull - reference), `stride` apart. f: the drift at the points, for
/// ReferenceScore::drift; pulls: null for zeros.
void score_targets(DeviceStream stream, const ScoreBasisView& basis, const ReferenceView& reference,
                   const double* noise, std::size_t points, const double* x, const double* f,
                   const double* pulls, double weight, std::size_t stride, double* targets);

constexpr std::size_t sum_run = 256; ///< points that are summed one after another

/// sums[run, k]: minus the Laplacian of term k over runs of points.
void laplacian_runs(DeviceStream stream, const ScoreBasisView& basis, std::size_t points, const double* table,
                    double* sums);

/// sums[run, c]: the entropy production over runs of points, with coefficients[k, c] of `sets` sets.
/// features, references: of all coordinates.
void production_runs(DeviceStream stream, const ScoreBasisView& basis, std::size_t points, std::size_t sets,
                     const double* noise, const double* f, const double* references, const double* features,
                     const double* coefficients, double* sums);

/// sum[e] += part[b, e] for b = 0 .. parts - 1, one after another.
void add_parts(DeviceStream stream, std::size_t parts, std::size_t size, const double* part, double* sum);

/// part[b] = F' F of rows F (rows, size) of tile b, by cuBLAS, on the compute stream.
void gram_tiles(DeviceState& device, std::size_t tiles, std::size_t rows, std::size_t size,
                const double* features, double* part);

// ---- the reversed process

/// model_score() at rows x; score (count, driven).
void model_scores(DeviceStream stream, const DriftOnDevice& law, const ReverseModel& model,
                  const ScoreAtView& at, std::size_t count, const double* x, double* score);

/// reverse_step() of rows x, whose first is particle `first`. away[n] += 1 where it was put back.
struct ReverseStep {
    std::uint64_t seed, first;
    std::uint32_t step;
    double h;
};
void reverse_steps(DeviceStream stream, const DriftOnDevice& law, const ReverseModel& model,
                   const ScoreAtView& from, const ScoreAtView& to, const ReverseStep& step, std::size_t count,
                   double* x, std::uint32_t* away);

} // namespace dynkin::cuda

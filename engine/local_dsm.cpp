#include "local_dsm.h"
#include "drift_view.h"
#include "error.h"
#include "kernels/fitted_score.h"
#include "nonlinear_device.h"
#include "parallel.h"
#include "solve.h"
#include "summation.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lapacke.h>
#include <numeric>

namespace dynkin {
namespace {

using std::size_t;
constexpr size_t group_count = 16, tile_paths = 32;
constexpr int max_d = max_drift_dimension;

bool finite(const double* x, size_t count) {
    return std::all_of(x, x + count, [](double v) { return std::isfinite(v); });
}

void check_sizes(const DriftProcess& process, const ScoreBasis& basis, const Array<double>& states) {
    require(states.cols() == process.dimension() && basis.dimension() == process.dimension(),
            ErrorKind::usage,
            fmt::format("score: expected {} coordinates, got {} of the states and {} of the basis",
                        process.dimension(), states.cols(), basis.dimension()));
    require(states.rows() >= 1, ErrorKind::usage, "score: expected at least one path");
    require(basis.driven == process.driven(), ErrorKind::usage,
            "score: the basis has other driven coordinates than the process");
}

/// Adds rows of features and their targets to one group's sums, a few hundred at a time.
class RowSums {
  public:
    RowSums(size_t terms, size_t capacity, ScoreSums::Group& group)
        : group_(group), features_(capacity, terms), targets_(capacity) {
        group_.gram = Array<double>(terms, terms), group_.right.assign(terms, 0);
    }
    double* features(size_t rows) {
        if (used_ + rows > targets_.size()) flush();
        return features_.row(used_);
    }
    double* targets() { return targets_.data() + used_; }
    void commit(size_t rows) { used_ += rows; }
    void flush() {
        const int k = static_cast<int>(features_.cols()), n = static_cast<int>(used_);
        if (n == 0) return;
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, k, n, 1, features_.data(), k, 1,
                    group_.gram.data(), k);
        cblas_dgemv(CblasRowMajor, CblasTrans, n, k, 1, features_.data(), k, targets_.data(), 1, 1,
                    group_.right.data(), 1);
        used_ = 0;
    }

  private:
    ScoreSums::Group& group_;
    Array<double> features_;
    std::vector<double> targets_;
    size_t used_ = 0;
};

/// body(group, first, last) for each group of paths in parallel.
template <class Body> ScoreSums over_groups(const Context& context, size_t paths, const Body& body) {
    use_sequential_blas();
    ScoreSums sums;
    sums.groups.resize(score_groups(paths));
    const size_t groups = sums.groups.size();
    parallel_for(context.threads(), groups, [&](size_t g, size_t) {
        const size_t first = paths * g / groups, last = paths * (g + 1) / groups;
        sums.groups[g].paths = static_cast<double>(last - first);
        body(sums.groups[g], first, last);
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    });
    return sums;
}

/// The reference at one point for one driven process; the drift is evaluated only when it is needed.
template <class View> void reference_at(const View& view, const DriftProcess& process,
                                        const ScoreReference& reference, const std::vector<int>& driven,
                                        const double* x, double* score) {
    const ReferenceView at{reference.kind, reference.mean.data(), reference.precision.data()};
    double f[max_d];
    if (reference.kind == ReferenceScore::drift) drift(view, x, f);
    for (size_t a = 0; a < driven.size(); ++a)
        score[a] = reference_component(at, view.dimension, process.noise.data(), f, x, driven[a]);
}

} // namespace

void throw_no_local_law(size_t path, size_t d, const double* state, double gap) {
    throw Error(ErrorKind::numerical, fmt::format("score: no local law at path {}, ({:g}), gap {:g}: the "
                                                  "drift is not finite or too steep there",
                                                  path, fmt::join(state, state + d, ", "), gap));
}

size_t score_groups(size_t paths) { return std::min(group_count, paths); }

void reference_score(const DriftProcess& process, const ScoreReference& reference, const double* x,
                     double* score) {
    const DriftTable table(process);
    const std::vector<int> driven = process.driven();
    std::visit([&](const auto& view) { reference_at(view, process, reference, driven, x, score); },
               table.view());
}

ScoreSums local_score_sums(const Context& context, const DriftProcess& process, const ScoreBasis& basis,
                           const ScoreReference& reference, const Array<double>& states, double gap,
                           std::uint32_t node, const LocalDsmOptions& options) {
    check_sizes(process, basis, states);
    require(gap > 0 && std::isfinite(gap), ErrorKind::usage,
            fmt::format("score: expected a positive gap, got {}", gap));
    require(options.draws >= 1 && options.draws <= 64, ErrorKind::usage,
            fmt::format("score: expected 1 to 64 draws, got {}", options.draws));
    if constexpr (built_with_cuda)
        if (runs_on_device(context, process))
            return local_score_sums_on_device(context, process, basis, reference, states, gap, node, options);
    const size_t d = process.dimension(), terms = basis.terms(), r = basis.driven.size();
    const int signs = options.antithetic ? 2 : 1;
    const double weight = 1 / std::sqrt(static_cast<double>(options.draws * signs));
    const DriftTable table(process);
    const auto paths = [&](const auto& view, ScoreSums::Group& group, size_t first, size_t last) {
        RowSums rows(terms, std::max<size_t>(tile_paths * 8, 1) * r, group);
        LocalLaw law;
        double xi[max_d] = {}, pull[max_d], y[max_d], ref[max_d];
        for (size_t n = first; n < last; ++n) {
            local_law(view, process.noise.data(), states.row(n), gap, options.linearisation, law);
            for (const int i : basis.driven)
                if (!(law.factor[static_cast<size_t>(i) * (d + 1)] > 0) || !finite(law.mean, d))
                    throw_no_local_law(n, d, states.row(n), gap);
            for (int q = 0; q < options.draws; ++q) {
                path_normals(options.seed, Stream::local_draw, n, node, static_cast<std::uint32_t>(8 * q),
                             view.dimension, xi);
                std::copy_n(xi, d, pull);
                solve_transposed(view.dimension, law.factor, pull);
                for (int sign = 1; sign >= (signs == 2 ? -1 : 1); sign -= 2) {
                    local_point(view.dimension, law.mean, law.factor, sign, xi, y);
                    reference_at(view, process, reference, basis.driven, y, ref);
                    double* features = rows.features(r);
                    evaluate(basis, y, features);
                    for (size_t k = 0; k < r * terms; ++k) features[k] *= weight;
                    for (size_t a = 0; a < r; ++a)
                        rows.targets()[a] =
                            weight * (-sign * pull[static_cast<size_t>(basis.driven[a])] - ref[a]);
                    rows.commit(r);
                }
            }
        }
        rows.flush();
    };
    return over_groups(context, states.rows(), [&](ScoreSums::Group& group, size_t first, size_t last) {
        std::visit([&](const auto& view) { paths(view, group, first, last); }, table.view());
    });
}

ScoreSums implicit_score_sums(const Context& context, const DriftProcess& process, const ScoreBasis& basis,
                              const ScoreReference& reference, const Array<double>& states) {
    check_sizes(process, basis, states);
    if constexpr (built_with_cuda)
        if (runs_on_device(context, process))
            return implicit_score_sums_on_device(context, process, basis, reference, states);
    const size_t terms = basis.terms(), r = basis.driven.size();
    const DriftTable table(process);
    const auto paths = [&](const auto& view, ScoreSums::Group& group, size_t first, size_t last) {
        RowSums rows(terms, 8 * tile_paths * r, group);
        std::vector<double> laplacian(terms), total(terms);
        double ref[max_d];
        for (size_t n = first; n < last; ++n) {
            reference_at(view, process, reference, basis.driven, states.row(n), ref);
            double* features = rows.features(r);
            evaluate(basis, states.row(n), features, laplacian.data());
            for (size_t k = 0; k < terms; ++k) total[k] -= laplacian[k];
            for (size_t a = 0; a < r; ++a) rows.targets()[a] = -ref[a];
            rows.commit(r);
        }
        rows.flush();
        for (size_t k = 0; k < terms; ++k) group.right[k] += total[k];
    };
    return over_groups(context, states.rows(), [&](ScoreSums::Group& group, size_t first, size_t last) {
        std::visit([&](const auto& view) { paths(view, group, first, last); }, table.view());
    });
}

namespace {

/// Averages over paths of mean - origin and of its products plus the covariances: d, then the lower triangle
/// of d x d. Runs of law_run paths are summed one after another, and pairwise, on either backend.
std::vector<double> law_moments(const Context& context, const DriftProcess& process,
                                const Array<double>& states, double gap, Linearisation linearisation) {
    const size_t d = process.dimension(), n = states.rows(), runs = (n + law_run - 1) / law_run;
    Array<double> sums(runs, d + d * d);
    const auto add = [&](const auto& view, size_t run) {
        LocalLaw law;
        std::fill_n(law.factor, d * d, 0.0);
        for (size_t row = run * law_run; row < std::min(n, (run + 1) * law_run); ++row) {
            std::copy_n(states.row(row), d, law.mean);
            if (gap > 0) local_law(view, process.noise.data(), states.row(row), gap, linearisation, law);
            for (int e = 0; e < static_cast<int>(sums.cols()); ++e)
                sums(run, static_cast<size_t>(e)) +=
                    law_moment(view.dimension, law.mean, law.factor, states.row(0), e);
        }
    };
    bool done = false;
    if constexpr (built_with_cuda)
        if (runs_on_device(context, process)) {
            law_moments_on_device(context, process, states, gap, linearisation, sums);
            done = true;
        }
    const DriftTable table(process);
    if (!done)
        parallel_for(context.threads(), runs, [&](size_t run, size_t) {
            std::visit([&](const auto& view) { add(view, run); }, table.view());
        });
    std::vector<double> total(sums.cols());
    for (size_t k = 0; k < total.size(); ++k)
        total[k] = pairwise_sum(0, runs, [&](size_t run) { return sums(run, k); }) / static_cast<double>(n);
    return total;
}

} // namespace

ScoreReference gaussian_reference(const Context& context, const DriftProcess& process,
                                  const Array<double>& states, double gap, Linearisation linearisation) {
    const size_t d = process.dimension(), n = states.rows();
    require(
        states.cols() == d && n >= 2, ErrorKind::usage,
        fmt::format("score: expected at least 2 states of {} numbers, got {} of {}", d, n, states.cols()));
    const std::vector<double> total = law_moments(context, process, states, gap, linearisation);
    const double* origin = states.row(0);
    ScoreReference out{ReferenceScore::gaussian, std::vector<double>(d), Array<double>(d, d)};
    for (size_t i = 0; i < d; ++i) {
        out.mean[i] = origin[i] + total[i];
        for (size_t j = 0; j <= i; ++j) out.precision(i, j) = total[d + i * d + j] - total[i] * total[j];
    }
    const int size = static_cast<int>(d);
    const bool good = LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', size, out.precision.data(), size) == 0 &&
                      LAPACKE_dpotri(LAPACK_ROW_MAJOR, 'L', size, out.precision.data(), size) == 0;
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < i; ++j) out.precision(j, i) = out.precision(i, j);
    require(good && finite(out.precision.data(), d * d), ErrorKind::numerical,
            "score: the covariance of the states is singular or not finite");
    return out;
}

ScoreSide score_side(const ScoreSums& sums, double ridge, size_t leave_out) {
    require(!sums.groups.empty(), ErrorKind::usage, "score: no sums to solve");
    require(ridge >= 0 && ridge <= 1, ErrorKind::usage,
            fmt::format("score: expected a ridge from 0 to 1, got {}", ridge));
    const size_t terms = sums.groups[0].right.size();
    ScoreSide out{0, std::vector<double>(terms), std::vector<double>(terms)};
    for (size_t g = 0; g < sums.groups.size(); ++g) {
        if (g == leave_out) continue;
        const ScoreSums::Group& group = sums.groups[g];
        out.paths += group.paths;
        for (size_t k = 0; k < terms; ++k) out.right[k] += group.right[k], out.scale[k] += group.gram(k, k);
    }
    double largest = 0;
    for (size_t k = 0; k < terms; ++k) {
        out.right[k] /= out.paths, out.scale[k] /= out.paths;
        largest = std::max(largest, out.scale[k]);
    }
    require(std::isfinite(largest) && largest > 0, ErrorKind::numerical,
            "score: the Gram matrix is not finite or zero");
    for (double& s : out.scale) s = std::max(s, 1e-14 * largest);
    return out;
}

ScoreSolution score_solution(const SolveStatus& status, std::span<const double> coefficients) {
    require(status.solved, ErrorKind::numerical, "score: the linear system cannot be solved");
    return {{coefficients.begin(), coefficients.end()}, status.ridge, status.condition, status.raised > 0};
}

ScoreSolution solve_score(const ScoreSums& sums, double ridge, size_t leave_out) {
    use_sequential_blas();
    const ScoreSide side = score_side(sums, ridge, leave_out);
    const size_t terms = side.right.size();
    Array<double> gram(terms, terms);
    for (size_t g = 0; g < sums.groups.size(); ++g)
        for (size_t k = 0; k < terms && g != leave_out; ++k)
            for (size_t l = 0; l <= k; ++l) gram(k, l) += sums.groups[g].gram(k, l);
    for (double& x : gram) x /= side.paths;
    std::vector<double> coefficients;
    const SolveStatus status = solve_score_system(gram, side.right, side.scale, ridge, coefficients);
    return score_solution(status, coefficients);
}

namespace {

std::vector<ScoreSolution> solve_scores(const Context& context, const ScoreSums& sums, double ridge,
                                        std::span<const size_t> leave_out) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda) return solve_scores_on_device(context, sums, ridge, leave_out);
    std::vector<ScoreSolution> out(leave_out.size());
    parallel_for(context.threads(), out.size(),
                 [&](size_t k, size_t) { out[k] = solve_score(sums, ridge, leave_out[k]); });
    return out;
}

} // namespace

ScoreSolution solve_score(const Context& context, const ScoreSums& sums, double ridge) {
    const size_t none = SIZE_MAX;
    return std::move(solve_scores(context, sums, ridge, std::span(&none, 1)).front());
}

std::vector<ScoreSolution> solve_score_without_each(const Context& context, const ScoreSums& sums,
                                                    double ridge) {
    std::vector<size_t> each(sums.groups.size());
    std::iota(each.begin(), each.end(), size_t{0});
    return solve_scores(context, sums, ridge, each);
}

void fitted_score(const DriftProcess& process, const ScoreBasis& basis, const ScoreReference& reference,
                  const std::vector<double>& coefficients, size_t count, const double* x, double* score) {
    const DriftTable table(process);
    const size_t terms = basis.terms(), r = basis.driven.size(), d = basis.dimension();
    require(coefficients.size() == terms, ErrorKind::usage,
            fmt::format("score: expected {} coefficients, got {}", terms, coefficients.size()));
    double room[2 * most_functions], gradient[max_d];
    const FunctionTable functions{room, room + most_functions, nullptr, 1};
    const ScoreBasisView in_basis = view_of(basis);
    std::visit(
        [&](const auto& view) {
            for (size_t n = 0; n < count; ++n) {
                reference_at(view, process, reference, basis.driven, x + n * d, score + n * r);
                for (int j = 0; j < in_basis.dimension; ++j)
                    functions.fill(in_basis, j, x[n * d + static_cast<size_t>(j)]);
                potential_gradient(in_basis, coefficients.data(), functions, gradient);
                for (size_t a = 0; a < r; ++a) score[n * r + a] += gradient[a];
            }
        },
        table.view());
}

} // namespace dynkin

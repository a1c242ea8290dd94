#include "entropy_production.h"
#include "error.h"
#include "kernels/fitted_score.h"
#include "nonlinear_device.h"
#include "parallel.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <fmt/format.h>

namespace dynkin {

using std::size_t;

void current_velocity(const DriftProcess& process, const ScoreBasis& basis, const ScoreReference& reference,
                      const std::vector<double>& coefficients, size_t count, const double* x,
                      double* velocity) {
    const size_t d = process.dimension(), r = basis.driven.size();
    std::vector<double> score(count * r);
    drift_values(process, count, x, velocity);
    fitted_score(process, basis, reference, coefficients, count, x, score.data());
    for (size_t n = 0; n < count; ++n)
        for (size_t a = 0; a < r; ++a) {
            const auto i = static_cast<size_t>(basis.driven[a]);
            velocity[n * d + i] -= 0.5 * process.noise[i] * process.noise[i] * score[n * r + a];
        }
}

namespace {

/// out[c] = sum over rows [first, last) of sum_i nu_i^2 / (g_i^2/2) with the c-th row of coefficients. The
/// functions are evaluated once for all of them.
void production(const DriftProcess& process, const ScoreBasis& basis, const ScoreReference& reference,
                const Array<double>& coefficients, const Array<double>& states, size_t first, size_t last,
                double* out) {
    const size_t d = process.dimension(), terms = basis.terms(), sets = coefficients.rows();
    std::vector<double> gradient(d * terms), slope(sets), f((last - first) * d), score(d);
    drift_values(process, last - first, states.row(first), f.data());
    for (size_t n = first; n < last; ++n) {
        reference_score(process, reference, states.row(n), score.data());
        evaluate(basis, states.row(n), gradient.data());
        for (size_t i = 0; i < d; ++i) {
            cblas_dgemv(CblasRowMajor, CblasNoTrans, static_cast<int>(sets), static_cast<int>(terms), 1,
                        coefficients.data(), static_cast<int>(terms), gradient.data() + i * terms, 1, 0,
                        slope.data(), 1);
            for (size_t c = 0; c < sets; ++c)
                out[c] += production_term(process.noise[i], f[(n - first) * d + i], score[i] + slope[c]);
        }
    }
}

} // namespace

EntropyProduction entropy_production(const Context& context, const DriftProcess& process,
                                     const ScoreBasis& basis, const ScoreReference& reference,
                                     const ScoreSums& sums, double ridge, const Array<double>& states) {
    for (size_t i = 0; i < process.dimension(); ++i)
        require(process.noise[i] > 0, ErrorKind::usage,
                fmt::format("entropy production: coordinate {} has no noise, the rate is not defined", i));
    const size_t groups = sums.groups.size(), n = states.rows();
    require(groups >= 2 && n >= groups && states.cols() == process.dimension(), ErrorKind::usage,
            fmt::format("entropy production: expected at least 2 groups of paths, got {} paths in {}", n,
                        groups));
    const auto edge = [&](size_t g) { return n * g / groups; };
    Array<double> coefficients(groups + 1, basis.terms()); // without one group each; the last row: with all
    std::vector<ScoreSolution> solutions = solve_score_without_each(context, sums, ridge);
    solutions.push_back(solve_score(context, sums, ridge));
    for (size_t c = 0; c < solutions.size(); ++c)
        std::copy_n(solutions[c].coefficients.begin(), basis.terms(), coefficients.row(c));
    Array<double> part(groups, groups + 1); // rows of a group x coefficients
    bool done = false;
    if constexpr (built_with_cuda)
        if (runs_on_device(context, process)) {
            production_on_device(context, process, basis, reference, coefficients, states, part);
            done = true;
        }
    if (!done)
        parallel_for(context.threads(), groups, [&](size_t g, size_t) {
            production(process, basis, reference, coefficients, states, edge(g), edge(g + 1), part.row(g));
        });
    const auto rows = static_cast<double>(n), m = static_cast<double>(groups);
    EntropyProduction result;
    for (size_t g = 0; g < groups; ++g) result.plain += part(g, groups) / rows;
    std::vector<double> without(groups);
    double mean = 0, square = 0;
    for (size_t out = 0; out < groups; ++out) {
        for (size_t g = 0; g < groups; ++g)
            if (g != out) without[out] += part(g, out);
        without[out] /= rows - static_cast<double>(edge(out + 1) - edge(out));
        mean += without[out] / m;
    }
    for (const double value : without) square += (value - mean) * (value - mean);
    result.rate = m * result.plain - (m - 1) * mean;
    result.error = std::sqrt((m - 1) / m * square);
    require(std::isfinite(result.rate), ErrorKind::numerical, "entropy production: not finite");
    return result;
}

} // namespace dynkin

// validate_nonlinear.cpp - scores of nonlinear processes in closed form, against densities on a grid: a prior
// of four Gaussians and data from the two moons, the active swimmer, whose noise is degenerate, and its
// moments by closure against simulated paths.
//
// Floors: the error of the same basis fitted to the density itself. Relative to the root mean square score.
#include "engine/closure.h"
#include "engine/local_dsm.h"
#include "engine/target.h"
#include "fokker_planck.h"
#include "record.h"
#include <cstdio>
#include <numbers>
#include <random>

namespace dynkin::validation {
namespace {

using oracle::Grid;
using std::size_t;

std::size_t scaled(double count) { return static_cast<std::size_t>(count * scale()); }

/// A score on points of a grid with weights, and its distance to a fitted one.
struct Truth {
    Array<double> points, score;
    std::vector<double> weight;

    double error(const DriftProcess& process, const ScoreBasis& basis, const ScoreReference& reference,
                 const std::vector<double>& coefficients) const {
        Array<double> fitted(score.rows(), score.cols());
        fitted_score(process, basis, reference, coefficients, points.rows(), points.data(), fitted.data());
        double difference = 0, size = 0;
        for (size_t n = 0; n < score.rows(); ++n)
            for (size_t a = 0; a < score.cols(); ++a) {
                const double e = fitted(n, a) - score(n, a);
                difference += weight[n] * e * e, size += weight[n] * score(n, a) * score(n, a);
            }
        return std::sqrt(difference / size);
    }
};

MixtureDrift four_modes() {
    MixtureDrift law{{.4, .2, .2, .2}, Array<double>(4, 2), {.6, .6, .6, .6}};
    const double corners[] = {1, 1, -1, 1, -1, -1, 1, -1};
    for (size_t k = 0; k < 8; ++k) law.means[k] = 1.2 * corners[k];
    return law;
}

Truth moons_truth(const DriftProcess& process, double t) {
    const Grid g{-4, 4, 241};
    std::vector<double> p(g.n * g.n);
    for (size_t i = 0; i < g.n; ++i)
        for (size_t j = 0; j < g.n; ++j)
            p[i * g.n + j] = oracle::moons(g.at(i) / 2 + 0.5, g.at(j) / 2 + 0.25, 0.1);
    const auto drift = [&](double x, double y, double* out) {
        const double at[] = {x, y};
        drift_values(process, 1, at, out);
    };
    p = oracle::density_2d(g, drift, 1, p, t, 200);
    const double most = *std::max_element(p.begin(), p.end());
    std::vector<size_t> cells;
    for (size_t i = 1; i + 1 < g.n; ++i)
        for (size_t j = 1; j + 1 < g.n; ++j)
            if (p[i * g.n + j] > 1e-5 * most) cells.push_back(i * g.n + j);
    Truth out{Array<double>(cells.size(), 2), Array<double>(cells.size(), 2), {}};
    for (size_t n = 0; n < cells.size(); ++n) {
        const size_t c = cells[n];
        out.points(n, 0) = g.at(c / g.n), out.points(n, 1) = g.at(c % g.n);
        out.score(n, 0) = std::log(p[c + g.n] / p[c - g.n]) / (2 * g.h());
        out.score(n, 1) = std::log(p[c + 1] / p[c - 1]) / (2 * g.h());
        out.weight.push_back(p[c]);
    }
    return out;
}

TEST(ValidateNonlinear, MixturePriorToMoons) {
    const DriftProcess process = drift_process(four_modes(), {std::numbers::sqrt2});
    const double t = 0.2, lambda = 0.1, gap = lambda / 2;
    const Truth truth = moons_truth(process, t);
    const Context context;
    const ScoreBasis basis = cosine_basis(12, {0, 1}, {-4, -4}, {4, 4});
    const ScoreReference reference{ReferenceScore::drift, {}, {}};
    const size_t rows = scaled(1e4);
    const double wider = std::sqrt(1 / scale());
    for (const std::uint64_t seed : {1, 2, 3}) {
        Array<double> data(rows, 2);
        draw_direct(context, parse_target("[target]\nkind = \"moons\"\n", "moons"), seed, 0, rows,
                    data.data());
        for (size_t n = 0; n < rows; ++n)
            data(n, 0) = 2 * (data(n, 0) - 0.5), data(n, 1) = 2 * (data(n, 1) - 0.25);
        Paths paths(context, process, data, t, {.seed = seed});
        paths.advance(t - gap);
        const auto local = [&](const LocalDsmOptions& options) {
            const auto sums =
                local_score_sums(context, process, basis, reference, paths.states(), gap, 0, options);
            return truth.error(process, basis, reference, solve_score(sums).coefficients);
        };
        const double antithetic = local({.draws = 4, .seed = seed}),
                     plain = local({.draws = 1, .antithetic = false, .seed = seed});
        paths.advance(t);
        const auto sums = implicit_score_sums(context, process, basis, reference, paths.states());
        const double implicit = truth.error(process, basis, reference, solve_score(sums).coefficients);
        std::printf("moons: antithetic %.4f plain %.4f implicit %.4f, step %.4g\n", antithetic, plain,
                    implicit, paths.step());
        record("mixture prior to moons", seed, "relative score error", antithetic, "<=", 0.12 * wider);
        record("mixture prior to moons", seed, "error / that of implicit matching", antithetic / implicit,
               "<=", 0.55 * (scale() < 1 ? 1.5 : 1));
        record("mixture prior to moons", seed, "plain draws", plain, "<=", 1e300);
        record("mixture prior to moons", seed, "implicit score matching", implicit, "<=", 1e300);
    }
}

Array<double> normal_rows(size_t rows, std::uint64_t seed) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    Array<double> x(rows, 2);
    for (double& v : x) v = normal(engine);
    return x;
}

TEST(ValidateNonlinear, ActiveSwimmer) {
    const double t = 3, friction = 0.1, lambda = 0.04, gap = lambda / (2 * friction);
    const DriftProcess process = drift_process(SwimmerDrift{friction}, {0, std::sqrt(2 * friction)});
    const Grid gx{-5, 5, 2001}, gv{-4.6, 4.6, 301};
    oracle::SwimmerDensity density(friction, gx, gv, 0.01);
    density.advance(t);
    const std::vector<double>& p = density.density();
    const double most = *std::max_element(p.begin(), p.end());
    std::vector<size_t> cells;
    double mass = 0;
    for (size_t i = 1; i + 1 < gx.n; ++i)
        for (size_t j = 1; j + 1 < gv.n; ++j) {
            const size_t c = i * gv.n + j;
            if (p[c] > 1e-2 * most) mass += p[c] * gx.h() * gv.h();
            if (p[c] > 1e-2 * most && i % 4 == 0 && j % 2 == 0) cells.push_back(c);
        }
    Truth truth{Array<double>(cells.size(), 2), Array<double>(cells.size(), 1), {}};
    for (size_t n = 0; n < cells.size(); ++n) {
        const size_t c = cells[n];
        truth.points(n, 0) = gx.at(c / gv.n), truth.points(n, 1) = gv.at(c % gv.n);
        truth.score[n] = std::log(p[c + 1] / p[c - 1]) / (2 * gv.h());
        truth.weight.push_back(p[c]);
    }
    const Context context;
    const std::uint64_t seed = 1;
    Paths paths(context, process, normal_rows(scaled(1e5), seed), t, {.seed = seed});
    paths.advance(t - gap);
    const ScoreReference reference = gaussian_reference(context, process, paths.states(), gap);
    // 0.6 standard deviations, as fit has it.
    const ScoreBasis basis = polynomial_basis(10, {1}, {0, 0}, {0.51, 0.6});
    const auto sums =
        local_score_sums(context, process, basis, reference, paths.states(), gap, 0, {.seed = seed});
    const double local = truth.error(process, basis, reference, solve_score(sums).coefficients);
    paths.advance(t);
    const auto implicit_sums = implicit_score_sums(context, process, basis, reference, paths.states());
    const double implicit = truth.error(process, basis, reference, solve_score(implicit_sums).coefficients);
    const double gaussian = truth.error(process, basis, reference, std::vector<double>(basis.terms()));
    std::printf("swimmer: mass %.4f local %.4f implicit %.4f gaussian %.4f step %.4g\n", mass, local,
                implicit, gaussian, paths.step());
    record("active swimmer, t = 3", seed, "relative score error on the bulk", local,
           "<=", 0.10 * std::sqrt(1 / scale()));
    record("active swimmer, t = 3", seed, "implicit score matching", implicit, "<=", 1e300);
    record("active swimmer, t = 3", seed, "Gaussian alone", gaussian, "<=", 1e300);
    record("active swimmer, t = 3", seed, "mass of the bulk", mass, ">=", 0.97);
}

TEST(ValidateNonlinear, ClosureOfTheSwimmer) {
    const double t = 3, friction = 0.1;
    const DriftProcess process = drift_process(SwimmerDrift{friction}, {0, std::sqrt(2 * friction)});
    const Context context;
    const std::uint64_t seed = 2;
    const size_t rows = scaled(4e5);
    const Array<double> start = normal_rows(rows, seed);
    const MomentClosure closure(process, 24, {0.7, 1});
    const auto at = MomentClosure::advance(closure.propagator(context, t), closure.averages(context, start));
    Paths paths(context, process, start, t, {.seed = seed});
    paths.advance(t);
    double square = 0, mixed = 0, fourth = 0;
    for (size_t n = 0; n < rows; ++n) {
        const double x = paths.states()(n, 0), v = paths.states()(n, 1), w = 1 / static_cast<double>(rows);
        square += w * x * x, mixed += w * x * v, fourth += w * x * x * x * x;
    }
    const double bar = 3e-3 * std::sqrt(1 / scale());
    std::printf("closure: %.5f %.5f, %.5f %.5f, %.5f %.5f\n", closure.monomial(at, {2, 0}), square,
                closure.monomial(at, {1, 1}), mixed, closure.monomial(at, {4, 0}), fourth);
    record("swimmer, closure", seed, "E x^2", std::abs(closure.monomial(at, {2, 0}) - square), "<=", bar);
    record("swimmer, closure", seed, "E xv", std::abs(closure.monomial(at, {1, 1}) - mixed), "<=", bar);
    record("swimmer, closure", seed, "E x^4", std::abs(closure.monomial(at, {4, 0}) - fourth), "<=", bar);
}

} // namespace
} // namespace dynkin::validation

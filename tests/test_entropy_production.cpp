// test_entropy_production.cpp - current and entropy production against a driven linear system in closed form.
#include "cases.h"
#include "engine/entropy_production.h"
#include "tolerance.h"
#include <numbers>

namespace dynkin {
namespace {

constexpr double omega = 1.5;

/// dX = -X + omega rotated X + sqrt(2) dW from N(0, v I): at time t the law is N(0, s I), s = 1 + (v - 1)
/// exp(-2t); nu = (1/s - 1) x + omega x_perp, so sigma = 2 s [(1/s - 1)^2 + omega^2].
DriftProcess driven() {
    return drift_process(PolynomialDrift{{{{-1, {1, 0}}, {omega, {0, 1}}}, {{-omega, {1, 0}}, {-1, {0, 1}}}}},
                         {std::numbers::sqrt2});
}
Array<double> normals(size_t count, double sd, unsigned seed) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal(0, sd);
    Array<double> x(count, 2);
    for (double& v : x) v = normal(engine);
    return x;
}

TEST(EntropyProduction, OfADrivenLinearSystemIsTheClosedForm) {
    for (const double variance : {1.0, 2.5}) {
        const double t = 0.6, gap = 0.2, s = 1 + (variance - 1) * std::exp(-2 * t);
        const double exact = 2 * s * ((1 / s - 1) * (1 / s - 1) + omega * omega);
        const DriftProcess process = driven();
        const Context context = cases::context(2);
        Paths paths(context, process, normals(20'000, std::sqrt(variance), 5), t, {.step = 0.01, .seed = 1});
        paths.advance(t - gap);
        const ScoreBasis basis = polynomial_basis(4, {0, 1}, {0, 0}, {1, 1});
        const ScoreReference reference = gaussian_reference(context, process, paths.states(), gap);
        const ScoreSums sums = local_score_sums(context, process, basis, reference, paths.states(), gap, 0);
        paths.advance(t);
        const EntropyProduction found =
            entropy_production(context, process, basis, reference, sums, 1e-6, paths.states());
        EXPECT_NEAR(found.rate, exact, tolerance::z_bound * found.error) << found.plain;
        EXPECT_LT(found.error, 0.03 * exact);
        EXPECT_GT(found.error, 0.2 * exact / std::sqrt(20'000.0)); // no less than the average's own
        const auto c = solve_score(sums, 1e-6).coefficients;
        const double x[] = {0.8, -0.5};
        double nu[2];
        current_velocity(process, basis, reference, c, 1, x, nu);
        EXPECT_NEAR(nu[0], (1 / s - 1) * x[0] + omega * x[1], 0.06); // 5 standard errors of the score
        EXPECT_NEAR(nu[1], (1 / s - 1) * x[1] - omega * x[0], 0.06);
    }
}

TEST(EntropyProduction, NeedsNoiseInEveryCoordinate) {
    const auto process = drift_process(SwimmerDrift{}, {0, 0.45});
    const Context context = cases::context();
    const ScoreBasis basis = polynomial_basis(2, {1}, {0, 0}, {1, 1});
    const Array<double> x = normals(100, 1, 1);
    const ScoreReference none{ReferenceScore::none, {}, {}};
    const ScoreSums sums = implicit_score_sums(context, process, basis, none, x);
    cases::expect_error(
        ErrorKind::usage, [&] { entropy_production(context, process, basis, none, sums, 1e-4, x); },
        "coordinate 0 has no noise");
}

} // namespace
} // namespace dynkin

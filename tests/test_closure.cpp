// test_closure.cpp - moments by a truncated generator: linear processes, where they close, and a double well
// against a density on a grid.
#include "cases.h"
#include "engine/closure.h"
#include "engine/matrix_exponential.h"
#include "fokker_planck.h"
#include "tolerance.h"
#include <numbers>

namespace dynkin {
namespace {

TEST(MatrixExponential, OfKnownMatrices) {
    Array<double> turn(2, 2);
    turn(0, 1) = 20, turn(1, 0) = -20; // 5 squarings
    const Array<double> e = matrix_exponential(cases::context(), turn);
    const double bound = 1e-13; // an error of eps, doubled 5 times, and of 9 products in 2 x 2
    EXPECT_NEAR(e(0, 0), std::cos(20.0), bound);
    EXPECT_NEAR(e(0, 1), std::sin(20.0), bound);
    EXPECT_NEAR(e(1, 0), -std::sin(20.0), bound);
    Array<double> shift(3, 3);
    shift(0, 1) = 2, shift(1, 2) = 3;
    const Array<double> s = matrix_exponential(cases::context(), shift);
    EXPECT_NEAR(s(0, 1), 2, bound);
    EXPECT_NEAR(s(0, 2), 3, bound);
    EXPECT_NEAR(s(2, 2), 1, bound);
    Array<double> big(1, 1);
    big[0] = 1e4;
    cases::expect_error(
        ErrorKind::numerical, [&] { matrix_exponential(cases::context(), big); }, "not finite");
    big[0] = NAN;
    cases::expect_error(
        ErrorKind::numerical, [&] { matrix_exponential(cases::context(), big); }, "not finite");
}

TEST(Closure, AveragesAreThoseOfADirectLoop) {
    const auto process = drift_process(SwimmerDrift{}, {0, 0.45});
    const MomentClosure closure(process, 4, {0.7, 1.2});
    for (const size_t count : {size_t{1}, size_t{31}, size_t{10'007}}) {
        const Array<double> x = cases::rows(count, 2, 5);
        const auto averages = closure.averages(cases::context(2), x);
        EXPECT_EQ(averages, closure.averages(cases::context(1), x));
        double square = 0, mixed = 0, fourth = 0;
        for (size_t n = 0; n < count; ++n) {
            const double w = 1 / static_cast<double>(count);
            square += w * x(n, 0) * x(n, 0), mixed += w * x(n, 0) * x(n, 1),
                fourth += w * std::pow(x(n, 1), 4);
        }
        const double rounding = 1e-11; // sums of 1e4 terms below 100
        EXPECT_NEAR(closure.monomial(averages, {2, 0}), square, rounding);
        EXPECT_NEAR(closure.monomial(averages, {1, 1}), mixed, rounding);
        EXPECT_NEAR(closure.monomial(averages, {0, 4}), fourth, rounding);
        EXPECT_NEAR(closure.monomial(averages, {0, 0}), 1, rounding);
    }
}

// Polynomials of bounded degree are closed under a linear generator, so the order does not matter.
TEST(Closure, LinearProcessesCloseExactly) {
    const PolynomialDrift law{{{{-1, {1, 0}}, {3, {0, 1}}, {0.5, {0, 0}}}, {{-3, {1, 0}}, {-1, {0, 1}}}}};
    const auto process = drift_process(law, {1, 0.5});
    Array<double> x(1, 2);
    x[0] = 1, x[1] = -0.5;
    const double t = 0.7, h = 1e-5;
    double m[] = {1, -0.5}, s[] = {0, 0, 0}; // mean; variances and covariance, by Euler's rule
    for (int n = 0; n < std::lround(t / h); ++n) {
        const double a = m[0], b = m[1], p = s[0], q = s[1], c = s[2];
        m[0] += h * (-a + 3 * b + 0.5), m[1] += h * (-3 * a - b);
        s[0] += h * (2 * (-p + 3 * c) + 1), s[1] += h * (2 * (-3 * c - q) + 0.25),
            s[2] += h * (-c + 3 * q - 3 * p - c);
    }
    const double euler = 1e-4; // h |B|^2 t / 2 times the state
    for (const int order : {2, 5}) {
        const MomentClosure closure(process, order, {1, 0.7});
        const auto at = MomentClosure::advance(closure.propagator(cases::context(), t),
                                               closure.averages(cases::context(), x));
        EXPECT_NEAR(closure.monomial(at, {1, 0}), m[0], euler);
        EXPECT_NEAR(closure.monomial(at, {0, 1}), m[1], euler);
        EXPECT_NEAR(closure.monomial(at, {2, 0}), s[0] + m[0] * m[0], euler);
        EXPECT_NEAR(closure.monomial(at, {1, 1}), s[2] + m[0] * m[1], euler);
        EXPECT_NEAR(closure.monomial(at, {0, 2}), s[1] + m[1] * m[1], euler);
    }
}

TEST(Closure, DoubleWellAgainstTheDensity) {
    const auto process = drift_process(DoubleWellDrift{}, {std::numbers::sqrt2});
    const oracle::Grid g{-2.8, 2.8, 1201};
    std::vector<double> start(g.n);
    double sum = 0;
    for (size_t i = 0; i < g.n; ++i) {
        const double u = (g.at(i) - 0.8) / 0.35;
        sum += start[i] = std::exp(-u * u / 2);
    }
    Array<double> rows(20'000, 1); // quantiles of the start: nothing is random
    double below = 0;
    size_t i = 0;
    for (size_t n = 0; n < rows.rows(); ++n) {
        const double wanted = (static_cast<double>(n) + 0.5) / static_cast<double>(rows.rows()) * sum;
        while (below + start[i] < wanted) below += start[i++];
        rows[n] = g.at(i) + g.h() * ((wanted - below) / start[i] - 0.5);
    }
    for (const double t : {0.2, 1.0}) {
        const ClosureChoice choice = choose_closure_scale(cases::context(2), process, rows, 40, t);
        const MomentClosure closure(process, 40, choice.scale);
        const auto at = MomentClosure::advance(closure.propagator(cases::context(), t),
                                               closure.averages(cases::context(2), rows));
        const auto p = oracle::density_1d(
            g, [](double x) { return -4 * x * (x * x - 1); }, 1, start, t, 2000);
        for (const int power : {1, 2, 4}) {
            double exact = 0;
            for (size_t k = 0; k < g.n; ++k) exact += p[k] * std::pow(g.at(k), power) * g.h();
            EXPECT_NEAR(closure.monomial(at, {power}), exact, 2e-3) << t << ' ' << choice.change;
        }
    }
}

TEST(Closure, BadArgumentsAreRefused) {
    const auto logistic = drift_process(LogisticDrift{}, {1.0});
    cases::expect_error(
        ErrorKind::usage, [&] { MomentClosure(logistic, 4, {1}); }, "polynomial drift, got logistic");
    const auto well = drift_process(DoubleWellDrift{4, 1, 0}, {1.0});
    cases::expect_error(
        ErrorKind::usage,
        [&] {
            MomentClosure(well, 30, {1, 1, 1, 1});
        },
        "more than 2048");
    cases::expect_error(
        ErrorKind::usage,
        [&] {
            MomentClosure(well, 4, {1, 1, 0, 1});
        },
        "positive scale");
    cases::expect_error(
        ErrorKind::usage, [&] { MomentClosure(well, 4, {1}); }, "expected 4 scales");
}

} // namespace
} // namespace dynkin

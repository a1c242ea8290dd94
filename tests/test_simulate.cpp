// test_simulate.cpp - local laws against ordinary differential equations and closed forms; paths against the
// laws of linear processes.
#include "cases.h"
#include "engine/simulate.h"
#include "tolerance.h"
#include <numbers>

namespace dynkin {
namespace {

using Matrix = std::vector<double>; // d x d, row-major

DriftProcess linear(const Matrix& b, std::vector<double> noise) {
    const size_t d = noise.size();
    PolynomialDrift law;
    law.components.resize(d);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j) {
            std::vector<int> power(d);
            power[j] = 1;
            law.components[i].push_back({b[i * d + j], power});
        }
    return drift_process(law, std::move(noise));
}

/// m' = B m, S' = B S + S B' + g g' by Runge and Kutta's rule in 20 000 steps.
struct Moments {
    std::vector<double> m;
    Matrix s;
};
Moments integrate(const Matrix& b, const std::vector<double>& noise, Moments state, double t) {
    const size_t d = noise.size();
    const auto slope = [&](const Moments& at) {
        Moments out{std::vector<double>(d), Matrix(d * d)};
        for (size_t i = 0; i < d; ++i)
            for (size_t k = 0; k < d; ++k) {
                out.m[i] += b[i * d + k] * at.m[k];
                for (size_t j = 0; j < d; ++j)
                    out.s[i * d + j] += b[i * d + k] * at.s[k * d + j] + at.s[i * d + k] * b[j * d + k];
            }
        for (size_t i = 0; i < d; ++i) out.s[i * d + i] += noise[i] * noise[i];
        return out;
    };
    const auto add = [&](Moments at, const Moments& by, double h) {
        for (size_t i = 0; i < d; ++i) at.m[i] += h * by.m[i];
        for (size_t i = 0; i < d * d; ++i) at.s[i] += h * by.s[i];
        return at;
    };
    const int steps = 20'000;
    const double h = t / steps;
    for (int n = 0; n < steps; ++n) {
        const Moments k1 = slope(state), k2 = slope(add(state, k1, h / 2)), k3 = slope(add(state, k2, h / 2)),
                      k4 = slope(add(state, k3, h));
        state = add(add(add(add(state, k1, h / 6), k2, h / 3), k3, h / 3), k4, h / 6);
    }
    return state;
}

/// Runge and Kutta in steps of h |B| <= 0.01 err by (h |B|)^4 t |B| / 120 and the rounding of 2e4 steps.
constexpr double ode_tolerance = 1e-9;

TEST(LocalLaw, IsTheLawOfALinearProcess) {
    struct Case {
        Matrix b;
        std::vector<double> noise;
        double gap;
    };
    const Case cases[] = {{{-1.5}, {0.7}, 0.4},
                          {{2.0}, {0.7}, 1.3},
                          {{-100, 1, 0, -0.1}, {0, 0.45}, 0.5}, // stiff and hypoelliptic
                          {{0, 1, 0, 0}, {0, 1}, 0.7},
                          {{-1, 3, -3, -1}, {1, 0.5}, 2},
                          {{0, 1, 0, 0, 0, 1, -1, -2, -3}, {0, 0, 1}, 0.9}};
    for (const Case& c : cases) {
        const size_t d = c.noise.size();
        std::vector<double> y;
        for (size_t i = 0; i < d; ++i) y.push_back(0.5 + static_cast<double>(i));
        const auto law = local_gaussian(linear(c.b, c.noise), y.data(), c.gap);
        const Moments exact = integrate(c.b, c.noise, {y, Matrix(d * d)}, c.gap);
        for (size_t i = 0; i < d; ++i) {
            EXPECT_NEAR(law.mean[i], exact.m[i], ode_tolerance * (1 + std::abs(exact.m[i])));
            for (size_t j = 0; j < d; ++j) {
                double s = 0;
                for (size_t k = 0; k < d; ++k) s += law.factor(i, k) * law.factor(j, k);
                const double size = std::sqrt(exact.s[i * d + i] * exact.s[j * d + j]);
                EXPECT_NEAR(s, exact.s[i * d + j], ode_tolerance * size) << i << ' ' << j;
                if (j > i) {
                    EXPECT_EQ(law.factor(i, j), 0);
                }
            }
        }
    }
}

TEST(LocalLaw, CoordinatesThatNoNoiseReachesStaySharp) {
    const auto law = local_gaussian(linear({-1, 0, 0, -2}, {0, 1}), std::vector<double>{1, 1}.data(), 0.5);
    EXPECT_EQ(law.factor(0, 0), 0);
    EXPECT_EQ(law.factor(1, 0), 0);
    EXPECT_NEAR(law.factor(1, 1), std::sqrt((1 - std::exp(-2.0)) / 4), tolerance::few_operations(1));
}

// One dimension in closed form: with a = f'(y), m = y + (e^(a tau) - 1)/a f + (e^(a tau) - 1 - a tau)/a^2 f''
// g^2/2.
TEST(LocalLaw, DoubleWellByHand) {
    const auto process = drift_process(DoubleWellDrift{}, {std::numbers::sqrt2});
    for (const double y : {-1.7, 0.2, 0.9}) {
        const double f = -4 * y * (y * y - 1), a = 4 - 12 * y * y, tau = 0.05, e = std::expm1(a * tau);
        const auto euler = local_gaussian(process, &y, tau, Linearisation::euler);
        EXPECT_NEAR(euler.mean[0], y + tau * f, tolerance::few_operations(3));
        EXPECT_NEAR(euler.factor[0], std::sqrt(2 * tau), tolerance::few_operations(1));
        const auto law = local_gaussian(process, &y, tau);
        EXPECT_NEAR(law.mean[0], y + e / a * f, tolerance::few_operations(3));
        EXPECT_NEAR(law.factor[0] * law.factor[0], std::expm1(2 * a * tau) / a, tolerance::few_operations(1));
        const auto ito = local_gaussian(process, &y, tau, Linearisation::ito);
        EXPECT_NEAR(ito.mean[0] - law.mean[0], (e - a * tau) / (a * a) * -24 * y,
                    tolerance::few_operations(3));
    }
}

TEST(LocalLaw, BadArgumentsAreRefused) {
    const auto process = drift_process(PolynomialDrift{{{{1, {32}}}}}, {1.0});
    const double x = 1e200, one = 1;
    cases::expect_error(
        ErrorKind::numerical, [&] { local_gaussian(process, &x, 0.1); }, "not finite at (1e+200)");
    cases::expect_error(
        ErrorKind::usage, [&] { local_gaussian(process, &one, -1); }, "gap >= 0");
}

Array<double> starts(size_t count, size_t d, unsigned seed) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    Array<double> x(count, d);
    for (double& v : x) v = normal(engine);
    return x;
}

// Heun's steps of 0.01 change moments of a linear process with |B| <= 3.2 by (h |B|)^2, 1e-3 of their size.
TEST(Paths, HaveTheMomentsOfALinearProcess) {
    const Matrix b = {-1, 3, -3, -1};
    const std::vector<double> noise = {1, 0.5};
    const double weak = 1e-3;
    for (const size_t count : {size_t{1}, size_t{31}, size_t{10'007}}) {
        Array<double> start(count, 2);
        for (size_t n = 0; n < count; ++n) start(n, 0) = 1, start(n, 1) = -0.5;
        const double t = 0.7, rows = static_cast<double>(count);
        Paths paths(cases::context(2), linear(b, noise), start, t, {.step = 0.01, .seed = 3});
        paths.advance(0.2), paths.advance(t);
        const Moments exact = integrate(b, noise, {{1, -0.5}, Matrix(4)}, t);
        for (size_t i = 0; i < 2; ++i) {
            double mean = 0, square = 0;
            for (size_t n = 0; n < count; ++n) {
                const double x = paths.states()(n, i) - exact.m[i];
                mean += x / rows, square += x * x / rows;
            }
            const double variance = exact.s[i * 3];
            EXPECT_NEAR(mean, 0, tolerance::z_bound * std::sqrt(variance / rows) + weak);
            EXPECT_NEAR(square, variance, tolerance::z_bound * variance * std::sqrt(2 / rows) + weak);
        }
    }
}

TEST(Paths, DoNotDependOnThreadsOrOtherPaths) {
    const auto process = drift_process(DoubleWellDrift{2, 1, 0.1}, {1.0, 0.5});
    const Array<double> start = starts(1000, 2, 1);
    Paths one(cases::context(1), process, start, 1, {.seed = 9}),
        two(cases::context(2), process, start, 1, {.seed = 9});
    one.advance(0.3), two.advance(0.3);
    EXPECT_EQ(one.step(), two.step());
    EXPECT_TRUE(cases::same_bytes(one.states(), two.states()));
    Array<double> few(10, 2);
    std::copy_n(start.data(), 20, few.data());
    Paths part(cases::context(1), process, few, 1, {.step = one.step(), .seed = 9});
    part.advance(0.3);
    EXPECT_EQ(0, std::memcmp(part.states().data(), one.states().data(), 20 * sizeof(double)));
}

// A start in the tails, where the drift is 4 x^3, needs smaller steps than one in the wells.
TEST(Paths, StepResolvesTheSteepestStart) {
    const auto process = drift_process(DoubleWellDrift{}, {1.0});
    Array<double> start = starts(600, 1, 2);
    const double step = Paths(cases::context(), process, start, 2).step();
    start[432] = 30;
    Paths tail(cases::context(), process, start, 2);
    EXPECT_LT(tail.step(), step);
    EXPECT_LT(tail.step() * 12 * 900, 4);
    EXPECT_NO_THROW(tail.advance(0.2));
    EXPECT_LT(std::abs(tail.states()[432]), 3);
}

TEST(Paths, FailuresAreNamed) {
    const auto up = drift_process(PolynomialDrift{{{{1, {3}}}}}, {1.0});
    const Array<double> start = starts(10, 1, 2);
    Paths paths(cases::context(), up, start, 1, {.step = 0.01});
    cases::expect_error(
        ErrorKind::numerical, [&] { paths.advance(100); }, "smaller step");
    cases::expect_error(
        ErrorKind::numerical, [&] { Paths(cases::context(), up, start, 5); }, "too steep");
    Array<double> bad = start;
    bad[3] = NAN;
    cases::expect_error(
        ErrorKind::input, [&] { Paths(cases::context(), up, bad, 5); }, "start 3 is not finite");
    cases::expect_error(
        ErrorKind::usage, [&] { Paths(cases::context(), up, start, -1); }, "positive horizon");
    cases::expect_error(
        ErrorKind::usage, [&] { Paths(cases::context(), up, starts(3, 2, 1), 1); }, "starts of 1");
}

} // namespace
} // namespace dynkin

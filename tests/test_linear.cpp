// test_linear.cpp - linear processes: matrix exponentials, exact normal laws, polynomials of higher degree;
// the variance-exploding process.
#include "cases.h"
#include "engine/fit.h"
#include "engine/linear.h"
#include "engine/model_file.h"
#include "engine/sampler.h"
#include "engine/score.h"
#include "tolerance.h"
#include <numbers>

namespace dynkin {
namespace {

using cases::matrix, std::size_t;

/// Scores and log densities of normal laws, relative: what is required. Rounding comes to some 1e-14 with
/// condition numbers of some ten.
constexpr double exact = 1e-9;

LinearProcess whirl() {
    return {matrix(3, {-1, 2, 0.3, -1.5, -0.8, 0.2, 0.1, -0.4, -0.6}),
            matrix(3, {1, 0, 0, 0.3, 0.7, 0, -0.2, 0.1, 1.2})};
}

/// Mean and covariance at time t by Runge-Kutta steps of dm = B m, dC = B C + C B' + S S'; their error is
/// (|B| t / steps)^4, some 1e-13.
oracle::Gaussian carried(oracle::Gaussian g, const LinearProcess& p, double t) {
    const size_t d = g.size(), steps = 20'000;
    using State = std::vector<double>;
    const auto slope = [&](const State& s) {
        State out(d + d * d, 0.0);
        for (size_t i = 0; i < d; ++i)
            for (size_t k = 0; k < d; ++k) {
                out[i] += p.drift(i, k) * s[k];
                for (size_t j = 0; j < d; ++j)
                    out[d + i * d + j] += p.drift(i, k) * s[d + k * d + j] + p.drift(j, k) * s[d + i * d + k];
            }
        for (size_t i = 0; i < d; ++i)
            for (size_t j = 0; j < d; ++j)
                for (size_t k = 0; k < p.noise.cols(); ++k)
                    out[d + i * d + j] += p.noise(i, k) * p.noise(j, k);
        return out;
    };
    const auto plus = [](State a, const State& b, double h) {
        for (size_t k = 0; k < a.size(); ++k) a[k] += h * b[k];
        return a;
    };
    State s(g.mean);
    s.insert(s.end(), g.covariance.begin(), g.covariance.end());
    const double h = t / static_cast<double>(steps);
    for (size_t n = 0; n < steps; ++n) {
        const State a = slope(s), b = slope(plus(s, a, h / 2)), c = slope(plus(s, b, h / 2)),
                    e = slope(plus(s, c, h));
        for (size_t k = 0; k < s.size(); ++k) s[k] += h / 6 * (a[k] + 2 * b[k] + 2 * c[k] + e[k]);
    }
    std::copy_n(s.begin(), d, g.mean.begin());
    std::copy(s.begin() + static_cast<std::ptrdiff_t>(d), s.end(), g.covariance.begin());
    return g;
}

class Linear : public cases::Folder {
  protected:
    Model fitted(const Array<double>& x, const Process& process, int degree, double ridge = 0,
                 double t_min = -1, double t_end = -1) {
        FitOptions options;
        options.process = process, options.degree = degree, options.ridge = ridge;
        options.t_min = t_min, options.t_end = t_end, options.symmetry = Symmetry::none;
        return fit(cases::context(2), data(x), options);
    }
};

TEST(LinearMonomials, AreAllOfThem) {
    const Monomials m(3, 4);
    EXPECT_EQ(m.size(), 35u);
    EXPECT_EQ(std::vector<int>(m.at(1), m.at(1) + 3), (std::vector<int>{1, 0, 0}));
    EXPECT_EQ(m.shifted(0, 1, 2), m.place.at({0, 2, 0}));
    EXPECT_EQ(m.shifted(0, 1, -1), SIZE_MAX);
    const double x[3] = {2, 3, -1};
    std::vector<double> values(m.size());
    m.evaluate(x, values.data());
    EXPECT_EQ(values[m.place.at({1, 2, 1})], -18);
}

/// Degree two: the score is that of the normal law with the data's mean and covariance, carried along.
TEST_F(Linear, ScoreOfDegreeTwoIsNormal) {
    const LinearProcess process = whirl();
    for (size_t rows : {31u, 10'007u}) {
        const Array<double> x = cases::rows(rows, 3, 5);
        const Model model = fitted(x, process, 2, 1e-3);
        const oracle::Gaussian start = oracle::empirical(x);
        for (double t : {0.01, 0.4, 3.0}) {
            const oracle::Gaussian law = carried(start, process, t);
            const Array<double> inverse = oracle::inverse(law.covariance);
            const Array<double> at = cases::rows(rows, 3, 6);
            Array<double> out(rows, 3);
            score(cases::context(2), model, t, rows, at.data(), out.data());
            for (size_t n = 0; n < rows; ++n)
                for (size_t i = 0; i < 3; ++i) {
                    double expected = 0;
                    for (size_t j = 0; j < 3; ++j) expected -= inverse(i, j) * (at(n, j) - law.mean[j]);
                    ASSERT_NEAR(out(n, i), expected, exact * (1 + std::abs(expected))) << rows << ' ' << t;
                }
        }
    }
}

/// E[z^alpha] of a normal law: E[z_i f] = mean_i E[f] + sum_j C_ij E[d_j f] (Stein 1981).
std::vector<double> normal_moments(const Monomials& m, const oracle::Gaussian& law) {
    std::vector<double> out(m.size(), 1.0);
    for (size_t k = 1; k < m.size(); ++k) {
        int i = 0;
        while (m.at(k)[i] == 0) ++i;
        const size_t before = m.shifted(k, i, -1);
        out[k] = law.mean[static_cast<size_t>(i)] * out[before];
        for (int j = 0; j < m.dimension; ++j)
            if (const int power = m.at(before)[j])
                out[k] += law.covariance(static_cast<size_t>(i), static_cast<size_t>(j)) * power *
                          out[m.shifted(before, j, -1)];
    }
    return out;
}

/// Of higher degree the score of a normal law is as exact: its Hermite moments are 0 and stay it.
TEST_F(Linear, ScoreOfANormalLawIsExactAtAnyDegree) {
    const LinearProcess process = whirl();
    const Array<double> x = cases::rows(500, 3, 5), at = cases::rows(100, 3, 6);
    const oracle::Gaussian start = oracle::empirical(x);
    for (const int degree : {3, 4}) {
        Model model = fitted(x, process, degree, 1e-4);
        const auto& [mean, scale] = model.standardization;
        oracle::Gaussian of_z = start;
        for (size_t i = 0; i < 3; ++i) {
            of_z.mean[i] = (start.mean[i] - mean[i]) / scale[i];
            for (size_t j = 0; j < 3; ++j) of_z.covariance(i, j) /= scale[i] * scale[j];
        }
        model.linear->moments = normal_moments(Monomials(3, 2 * degree), of_z);
        for (const double t : {0.01, 0.2, 2.0}) {
            const oracle::Gaussian law = carried(start, process, t);
            const Array<double> inverse = oracle::inverse(law.covariance);
            Array<double> out(at.rows(), 3);
            score(cases::context(2), model, t, at.rows(), at.data(), out.data());
            for (size_t n = 0; n < at.rows(); ++n)
                for (size_t i = 0; i < 3; ++i) {
                    double expected = 0;
                    for (size_t j = 0; j < 3; ++j) expected -= inverse(i, j) * (at(n, j) - law.mean[j]);
                    ASSERT_NEAR(out(n, i), expected, exact * (1 + std::abs(expected))) << degree << ' ' << t;
                }
        }
    }
}

TEST_F(Linear, LogDensityOfDegreeTwoIsNormal) {
    const Array<double> x = cases::rows(500, 3, 5);
    const Model model = fitted(x, whirl(), 2, 1e-3, 0, 1);
    const oracle::Gaussian law = oracle::empirical(x);
    double log_determinant = 0;
    const Array<double> inverse = oracle::inverse(law.covariance, &log_determinant);
    const auto log_q = log_density(cases::context(2), model, 31, x.data(), 800);
    for (size_t n = 0; n < 31; ++n) {
        double square = 0;
        for (size_t i = 0; i < 3; ++i)
            for (size_t j = 0; j < 3; ++j)
                square += (x(n, i) - law.mean[i]) * inverse(i, j) * (x(n, j) - law.mean[j]);
        EXPECT_NEAR(log_q[n], -0.5 * (square + log_determinant + 3 * std::log(2 * std::numbers::pi)), exact)
            << n;
    }
}

/// In one dimension the fits of a linear process and of the Ornstein-Uhlenbeck process are the same
/// polynomial.
TEST_F(Linear, OneDimensionIsTheOrnsteinUhlenbeckFit) {
    const Array<double> x = cases::rows(4000, 1, 8);
    const Model ou = fitted(x, OuProcess{}, 6);
    const double scale = ou.standardization.scale[0], mean = ou.standardization.mean[0];
    // dz = -z dt + sqrt(2) dW is a linear process about 0, so the data are centred.
    Array<double> centred = x;
    for (double& v : centred) v -= mean;
    const Model linear =
        fitted(centred, LinearProcess{matrix(1, {-1}), matrix(1, {std::sqrt(2.0) * scale})}, 6);
    for (size_t node : {4u, 16u, 28u}) {
        const double t = ou.blocks[0].node_time[node];
        Array<double> at(41, 1), shifted(41, 1), a(41, 1), b(41, 1);
        for (size_t n = 0; n < 41; ++n)
            shifted[n] = 0.1 * static_cast<double>(n) - 2, at[n] = shifted[n] + mean;
        score(cases::context(), ou, t, 41, at.data(), a.data());
        score(cases::context(), linear, t, 41, shifted.data(), b.data());
        for (size_t n = 0; n < 41; ++n)
            EXPECT_NEAR(a[n], b[n], 1e-7 * (1 + std::abs(a[n]))) << t << ' ' << at[n]; // condition 1e5 to 1e8
    }
}

TEST_F(Linear, SamplesHaveTheMomentsAndTheDensityOfTheLaw) {
    const Array<double> x = cases::rows(2000, 3, 5);
    const LinearProcess process = whirl();
    const Model model = fitted(x, process, 2, 1e-3);
    const oracle::Gaussian law = carried(oracle::empirical(x), process, model.linear->t_min);
    const size_t count = 5'000;
    for (Method method : {Method::sde, Method::ode}) {
        SampleOptions options;
        options.method = method, options.steps = method == Method::sde ? 8 : 0;
        const Samples drawn = sample(cases::context(2), model, count, options);
        Array<double> rows(count, 3);
        std::copy(drawn.rows.begin(), drawn.rows.end(), rows.begin());
        const oracle::Gaussian got = oracle::empirical(rows);
        for (size_t i = 0; i < 3; ++i) {
            EXPECT_NEAR(got.mean[i], law.mean[i],
                        tolerance::z_bound * std::sqrt(law.covariance(i, i) / count));
            for (size_t j = 0; j < 3; ++j)
                EXPECT_NEAR(got.covariance(i, j), law.covariance(i, j),
                            tolerance::z_bound *
                                std::sqrt(2 * law.covariance(i, i) * law.covariance(j, j) / count));
        }
        if (method == Method::sde) continue;
        const auto log_q = log_density(cases::context(2), model, 100, rows.data());
        for (size_t n = 0; n < 100; ++n)
            EXPECT_NEAR(drawn.log_density[n], log_q[n], 1e-3) << n; // float32 points
    }
}

/// Beyond the data the polynomial is continued so that the flow exists and keeps its mass.
TEST_F(Linear, DensityOfDegreeFourIntegratesToOne) {
    const Array<double> x = cases::rows(4000, 1, 8);
    const Model model = fitted(x, LinearProcess{matrix(1, {-0.7}), matrix(1, {1.2})}, 4);
    Array<double> at(4000, 1);
    for (size_t n = 0; n < 4000; ++n) at[n] = -8 + 0.004 * (static_cast<double>(n) + 0.5);
    double mass = 0;
    for (double log_q : log_density(cases::context(2), model, 4000, at.data())) {
        EXPECT_TRUE(std::isfinite(log_q));
        mass += 0.004 * std::exp(log_q);
    }
    EXPECT_NEAR(mass, 1, 1e-3); // kinks of the velocity at four standard deviations
}

TEST_F(Linear, FileKeepsIt) {
    const Model model = fitted(cases::rows(500, 3, 5), whirl(), 3, 1e-3);
    write_model(path("m"), model);
    const Model back = read_model(path("m"));
    const double at[3] = {0.1, 0.2, 0.3};
    double a[3], b[3];
    score(cases::context(), model, 0.5, 1, at, a), score(cases::context(), back, 0.5, 1, at, b);
    for (int j = 0; j < 3; ++j) EXPECT_EQ(a[j], b[j]);
    TensorFile file = read_tensor_file(path("m"), "dynkin-model", 2);
    file.put("linear.moments", std::vector<double>(7, 1.0));
    write_tensor_file(path("m"), file);
    cases::expect_error(
        ErrorKind::input, [&] { read_model(path("m")); }, "linear.moments");
}

TEST_F(Linear, ProcessesWithoutAStationaryLawAreRefused) {
    const Array<double> x = cases::rows(100, 2, 5);
    const auto refused = [&](std::vector<double> drift, std::vector<double> noise, const char* part) {
        cases::expect_error(
            ErrorKind::input,
            [&] {
                fitted(x, LinearProcess{matrix(2, drift), matrix(2, noise)}, 2);
            },
            part);
    };
    refused({0.1, 0, 0, -1}, {1, 0, 0, 1}, "unstable");
    refused({0, 1, -1, 0}, {1, 0, 0, 1}, "unstable"); // a rotation
    refused({-1, 1, 0, -1}, {1, 0}, "singular");
    refused({-1, 0, 0, NAN}, {1, 0, 0, 1}, "finite");
    const LinearProcess wrong{matrix(3, std::vector<double>(9, -1.0)),
                              matrix(3, std::vector<double>(9, 1.0))};
    cases::expect_error(
        ErrorKind::input, [&] { fitted(x, wrong, 2); }, "expected a drift of 2 x 2");
}

/// Heat polynomials: with M_m = E (z + sqrt(2 t) xi)^m the score sum_k c_k k z^(k-1) minimises E[s^2/2 + s'].
/// They agree with the fit of the Ornstein-Uhlenbeck process in its own time and scale.
TEST_F(Linear, VarianceExplodingProcessHasTheScoreOfHeatPolynomials) {
    const Array<double> x = cases::rows(5000, 1, 3);
    const Model model = fitted(x, VeProcess{}, 6);
    EXPECT_STREQ(process_name(model.process), "ve");
    const double mean = model.standardization.mean[0], scale = model.standardization.scale[0];
    for (size_t node : {8u, 20u, 30u}) {
        const double t = process_time(model.process, model.blocks[0].node_time[node]);
        EXPECT_NEAR(block_time(model.process, t), model.blocks[0].node_time[node], 1e-12);
        constexpr int n = 6;
        // Powers of u = z / s, s^2 = 1 + 2 t, so that the moments stay of order one.
        const long double s = std::sqrt(1 + 2 * static_cast<long double>(t)), noise = 2 * t / (s * s);
        long double moment[2 * n] = {}, factorial[2 * n + 1] = {1};
        for (int m = 1; m <= 2 * n; ++m) factorial[m] = factorial[m - 1] * m;
        for (double value : x)
            for (int m = 0; m < 2 * n; ++m)
                for (int j = 0; 2 * j <= m; ++j)
                    moment[m] += factorial[m] / (factorial[m - 2 * j] * factorial[2 * j]) *
                                 std::pow(static_cast<long double>((value - mean) / scale) / s, m - 2 * j) *
                                 std::pow(noise, j) * factorial[2 * j] / (std::pow(2.0L, j) * factorial[j]) /
                                 5000;
        long double a[n][n + 1];
        for (int k = 1; k <= n; ++k) {
            for (int l = 1; l <= n; ++l) a[k - 1][l - 1] = k * l * moment[k + l - 2];
            a[k - 1][n] = k >= 2 ? -k * (k - 1) * moment[k - 2] : 0;
        }
        for (int k = 0; k < n; ++k)
            for (int r = 0; r < n; ++r) {
                if (r == k) continue;
                const long double f = a[r][k] / a[k][k];
                for (int c = k; c <= n; ++c) a[r][c] -= f * a[k][c];
            }
        for (double z = -2; z <= 2; z += 0.25) {
            const double at = mean + scale * z * static_cast<double>(s);
            double got;
            score(cases::context(), model, t, 1, &at, &got);
            long double expected = 0;
            for (int k = 0; k < n; ++k)
                expected += a[k][n] / a[k][k] * (k + 1) * std::pow(static_cast<long double>(z), k);
            expected /= s * scale;
            EXPECT_NEAR(got, static_cast<double>(expected), exact * (1 + std::abs(got))) << t << ' ' << z;
        }
    }
}

} // namespace
} // namespace dynkin

// test_local_dsm.cpp - scores of nonlinear processes by least squares: the sums against direct ones, linear
// processes whose score is exact, and the bias of the linearisation against a density on a grid.
#include "cases.h"
#include "engine/local_dsm.h"
#include "fokker_planck.h"
#include "kernels/philox.h"
#include "tolerance.h"
#include <numbers>

namespace dynkin {
namespace {

Array<double> normals(size_t count, size_t d, unsigned seed, double mean = 0, double sd = 1) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal(mean, sd);
    Array<double> x(count, d);
    for (double& v : x) v = normal(engine);
    return x;
}
DriftProcess relaxing() { return drift_process(PolynomialDrift{{{{-1, {1}}}}}, {std::numbers::sqrt2}); }

TEST(ScoreBasis, GradientsAndLaplaciansAreDifferenceQuotients) {
    const std::vector<double> center = {0.2, -0.3}, scale = {1.1, 0.8};
    for (const ScoreBasis& basis :
         {polynomial_basis(6, {0, 1}, center, scale), polynomial_basis(5, {1}, center, scale),
          cosine_basis(5, {0, 1}, {-2, -3}, {3, 2})}) {
        const size_t terms = basis.terms(), r = basis.driven.size();
        const double x[] = {0.7, -0.4}, h = 1e-4;
        std::vector<double> gradient(r * terms), laplacian(terms), value(terms), sum(terms);
        evaluate(basis, x, gradient.data(), laplacian.data(), value.data());
        for (size_t a = 0; a < r; ++a) {
            std::vector<double> ignored(r * terms), above(terms), below(terms);
            double up[] = {x[0], x[1]}, down[] = {x[0], x[1]};
            up[basis.driven[a]] += h, down[basis.driven[a]] -= h;
            evaluate(basis, up, ignored.data(), nullptr, above.data());
            evaluate(basis, down, ignored.data(), nullptr, below.data());
            for (size_t k = 0; k < terms; ++k) {
                EXPECT_NEAR(gradient[a * terms + k], (above[k] - below[k]) / (2 * h), 1e-5); // h^2 f''' / 6
                sum[k] += (above[k] - 2 * value[k] + below[k]) / (h * h);
            }
        }
        for (size_t k = 0; k < terms; ++k) EXPECT_NEAR(laplacian[k], sum[k], 1e-4); // eps |f| / h^2
    }
    EXPECT_EQ(polynomial_basis(10, {0, 1}, center, scale).terms(), 65u);
    EXPECT_EQ(polynomial_basis(10, {1}, center, scale).terms(), 55u);
    EXPECT_EQ(cosine_basis(12, {0, 1}, {-4, -4}, {4, 4}).terms(), 122u);
}

TEST(ScoreBasis, CosinesStopAtTheBox) {
    const ScoreBasis basis = cosine_basis(4, {0}, {-1}, {1});
    const double x = 1.5;
    double gradient[4], laplacian[4], value[4];
    evaluate(basis, &x, gradient, laplacian, value);
    for (int k = 0; k < 4; ++k) {
        EXPECT_EQ(gradient[k], 0);
        EXPECT_EQ(laplacian[k], 0);
        EXPECT_NEAR(value[k], k % 2 ? 1 : -1, tolerance::few_operations(1));
    }
}

// dX = -X dt + sqrt(2) dW in one dimension: the local law is exact, mean y e^-gap, variance 1 - e^(-2 gap).
TEST(LocalDsm, SumsAreThoseOfADirectLoop) {
    const ScoreBasis basis = polynomial_basis(3, {0}, {0}, {1});
    const double gap = 0.3, decay = std::exp(-gap), sd = std::sqrt(-std::expm1(-2 * gap));
    for (const size_t count : {size_t{1}, size_t{31}, size_t{10'007}}) {
        const Array<double> states = normals(count, 1, 4);
        const LocalDsmOptions options{.draws = 2, .seed = 8};
        const ScoreReference reference{ReferenceScore::drift, {}, {}};
        const ScoreSums sums =
            local_score_sums(cases::context(2), relaxing(), basis, reference, states, gap, 5, options);
        double gram[3][3] = {}, right[3] = {}, direct_gram[3][3] = {}, direct_right[3] = {};
        for (const auto& group : sums.groups)
            for (size_t k = 0; k < 3; ++k) {
                right[k] += group.right[k];
                for (size_t l = 0; l <= k; ++l) gram[k][l] += group.gram(k, l);
            }
        for (size_t n = 0; n < count; ++n)
            for (std::uint32_t q = 0; q < 2; ++q)
                for (const double sign : {1.0, -1.0}) {
                    const RandomWords w = philox(8, Stream::local_draw, n, 5, 8 * q);
                    double xi, ignored;
                    normal_pair(w.v[0], w.v[1], xi, ignored);
                    const double y = states[n] * decay + sign * sd * xi, target = -sign * xi / sd + y;
                    for (int k = 1; k <= 3; ++k) {
                        const double slope = std::sqrt(k) * oracle::hermite(k - 1, y);
                        direct_right[k - 1] += slope * target / 4;
                        for (int l = 1; l <= k; ++l)
                            direct_gram[k - 1][l - 1] += slope * std::sqrt(l) * oracle::hermite(l - 1, y) / 4;
                    }
                }
        // Sums of up to 4e4 terms of size 30, in another order: n eps times their size.
        const double rounding = static_cast<double>(count) * 4 * 30 * tolerance::eps * 100;
        for (size_t k = 0; k < 3; ++k) {
            EXPECT_NEAR(right[k], direct_right[k], rounding);
            for (size_t l = 0; l <= k; ++l) EXPECT_NEAR(gram[k][l], direct_gram[k][l], rounding);
        }
    }
}

TEST(LocalDsm, SumsDoNotDependOnThreads) {
    const auto process = drift_process(SwimmerDrift{}, {0, 0.45});
    const ScoreBasis basis = polynomial_basis(4, {1}, {0, 0}, {1, 1});
    const Array<double> states = normals(777, 2, 1);
    const ScoreReference reference = gaussian_reference(cases::context(1), process, states, 0.2);
    const auto one = local_score_sums(cases::context(1), process, basis, reference, states, 0.2, 1);
    const auto two = local_score_sums(cases::context(2), process, basis, reference, states, 0.2, 1);
    for (size_t g = 0; g < one.groups.size(); ++g) {
        EXPECT_TRUE(cases::same_bytes(one.groups[g].gram, two.groups[g].gram));
        EXPECT_EQ(one.groups[g].right, two.groups[g].right);
    }
}

/// Law after time t of dX = B X dt + g dW from N(m, I) by many small Euler steps on mean and covariance.
oracle::Gaussian linear_law(const std::vector<double>& b, const std::vector<double>& noise,
                            std::vector<double> mean, double t) {
    const size_t d = noise.size();
    Array<double> s(d, d);
    for (size_t i = 0; i < d; ++i) s(i, i) = 1;
    const int steps = 200'000;
    for (int n = 0; n < steps; ++n) {
        const std::vector<double> m = mean;
        const Array<double> old = s;
        const double h = t / steps;
        for (size_t i = 0; i < d; ++i)
            for (size_t k = 0; k < d; ++k) {
                mean[i] += h * b[i * d + k] * m[k];
                for (size_t j = 0; j < d; ++j)
                    s(i, j) += h * (b[i * d + k] * old(k, j) + old(i, k) * b[j * d + k]);
            }
        for (size_t i = 0; i < d; ++i) s(i, i) += h * noise[i] * noise[i];
    }
    return {mean, s};
}

// The score of a linear process is linear, so degree 2 with any reference holds it, for full noise and for
// noise in the second coordinate only; errors are those of 2e4 paths.
TEST(LocalDsm, LinearProcessesHaveTheirExactScore) {
    const std::vector<double> b = {-1, 1, -0.5, -0.3};
    PolynomialDrift law{{{{-1, {1, 0}}, {1, {0, 1}}}, {{-0.5, {1, 0}}, {-0.3, {0, 1}}}}};
    for (const std::vector<double>& noise : {std::vector<double>{0.8, 0.6}, {0.0, 0.6}}) {
        const auto process = drift_process(law, noise);
        const auto driven = process.driven();
        const double t = 0.8, gap = 0.3;
        Array<double> start = normals(20'000, 2, 7);
        for (size_t n = 0; n < start.rows(); ++n) start(n, 0) += 1;
        Paths paths(cases::context(2), process, start, t, {.step = 0.005, .seed = 2});
        paths.advance(t - gap);
        const oracle::Gaussian exact = linear_law(b, noise, {1, 0}, t);
        const ScoreBasis basis = polynomial_basis(2, driven, {0, 0}, {1, 1});
        for (const ReferenceScore kind :
             {ReferenceScore::none, ReferenceScore::gaussian, ReferenceScore::drift}) {
            // The rest of the score must be a gradient in the driven coordinates, and B is not symmetric.
            if (kind == ReferenceScore::drift && driven.size() == 2) continue;
            ScoreReference reference{kind, {}, {}};
            if (kind == ReferenceScore::gaussian)
                reference = gaussian_reference(cases::context(2), process, paths.states(), gap);
            const auto sums =
                local_score_sums(cases::context(2), process, basis, reference, paths.states(), gap, 0);
            const ScoreSolution solution = solve_score(sums, 1e-9);
            for (const auto& [x, y] : {std::pair(0.0, 0.0), {1.0, 0.5}, {-0.6, 0.8}}) {
                const double point[] = {x, y};
                double score[2];
                fitted_score(process, basis, reference, solution.coefficients, 1, point, score);
                const auto truth = exact.score(point);
                for (size_t a = 0; a < driven.size(); ++a)
                    EXPECT_NEAR(score[a], truth[static_cast<size_t>(driven[a])],
                                0.05) // some 3 / sqrt(2e4) each
                        << noise[0] << ' ' << static_cast<int>(kind);
            }
        }
    }
}

TEST(LocalDsm, ImplicitMatchingOfAGaussianIsItsPrecision) {
    const Array<double> states = normals(10'007, 1, 3, 0.5, 0.7);
    const ScoreBasis basis = polynomial_basis(2, {0}, {0.5}, {0.7});
    const ScoreReference none{ReferenceScore::none, {}, {}};
    const auto solution =
        solve_score(implicit_score_sums(cases::context(2), relaxing(), basis, none, states), 0);
    const oracle::Gaussian seen = oracle::empirical(states);
    for (const double x : {-0.5, 0.5, 2.0}) {
        double score;
        fitted_score(relaxing(), basis, none, solution.coefficients, 1, &x, &score);
        // Implicit matching with degree 2 has the empirical mean and variance for its answer.
        EXPECT_NEAR(score, -(x - seen.mean[0]) / seen.covariance[0], 1e-9);
    }
}

TEST(LocalDsm, BadArgumentsAreRefused) {
    const auto process = relaxing();
    const ScoreBasis basis = polynomial_basis(2, {0}, {0}, {1});
    const ScoreReference none{ReferenceScore::none, {}, {}};
    const Array<double> states = normals(5, 1, 1);
    const Context context = cases::context();
    const auto sums = [&](const ScoreBasis& b, const Array<double>& x, double gap) {
        local_score_sums(context, process, b, none, x, gap, 0);
    };
    cases::expect_error(
        ErrorKind::usage, [&] { sums(basis, states, 0); }, "positive gap");
    cases::expect_error(
        ErrorKind::usage, [&] { sums(basis, normals(5, 2, 1), 1); }, "expected 1 coordinates");
    Array<double> huge = states;
    huge[2] = 1e200;
    const auto steep = drift_process(PolynomialDrift{{{{-1, {3}}}}}, {1.0});
    cases::expect_error(
        ErrorKind::numerical, [&] { local_score_sums(context, steep, basis, none, huge, 1, 0); },
        "path 2, (1e+200)");
    cases::expect_error(
        ErrorKind::usage, [] { polynomial_basis(33, {0}, {0}, {1}); }, "order from 1 to 32");
    cases::expect_error(
        ErrorKind::usage, [] { polynomial_basis(2, {}, {0}, {1}); }, "no coordinate is driven");
    cases::expect_error(
        ErrorKind::usage, [] { polynomial_basis(2, {0}, {0}, {NAN}); }, "scale nan");
    cases::expect_error(
        ErrorKind::usage, [] { solve_score({}, 1); }, "no sums");
}

/// Relative error in L2(p_t) of the score of the mixture of local laws from exact y_s, s = t - gap.
double local_bias(const oracle::Grid& g, const std::vector<double>& before, const std::vector<double>& after,
                  double gap, Linearisation kind) {
    const auto process = drift_process(DoubleWellDrift{}, {std::numbers::sqrt2});
    std::vector<double> density(g.n), slope(g.n);
    for (size_t j = 0; j < g.n; ++j) {
        const double y = g.at(j);
        const auto law = local_gaussian(process, &y, gap, kind);
        for (size_t i = 0; i < g.n; ++i) {
            const double u = (g.at(i) - law.mean[0]) / law.factor[0];
            if (std::abs(u) > 12) continue;
            const double weight = before[j] * std::exp(-u * u / 2) / law.factor[0];
            density[i] += weight, slope[i] -= weight * u / law.factor[0];
        }
    }
    const std::vector<double> exact = oracle::log_slope(after.data(), g.n, g.h());
    const double most = *std::max_element(after.begin(), after.end());
    double error = 0, size = 0;
    for (size_t i = 0; i < g.n; ++i) {
        if (after[i] < 1e-7 * most) continue;
        const double difference = slope[i] / density[i] - exact[i];
        error += after[i] * difference * difference, size += after[i] * exact[i] * exact[i];
    }
    return std::sqrt(error / size);
}

// The bias of the linearisation itself, without sampling: lambda = .02, t = 1 (bar .010; Euler's .043).
TEST(LocalDsm, LinearisationHasLittleBiasInADoubleWell) {
    const oracle::Grid g{-2.8, 2.8, 1201};
    std::vector<double> start(g.n);
    for (size_t i = 0; i < g.n; ++i) {
        const double u = (g.at(i) + 1.2) / 0.25, v = (g.at(i) - 0.8) / 0.35;
        start[i] = std::exp(-u * u / 2) + 0.75 / 0.35 * std::exp(-v * v / 2);
    }
    const auto drift = [](double x) { return -4 * x * (x * x - 1); };
    const double gap = 0.01;
    const auto before = oracle::density_1d(g, drift, 1, start, 1 - gap, 1980);
    const auto after = oracle::density_1d(g, drift, 1, before, gap, 20);
    const double linear = local_bias(g, before, after, gap, Linearisation::linear);
    const double euler = local_bias(g, before, after, gap, Linearisation::euler);
    const double ito = local_bias(g, before, after, gap, Linearisation::ito);
    RecordProperty("bias_linear", std::to_string(linear));
    RecordProperty("bias_euler", std::to_string(euler));
    RecordProperty("bias_ito", std::to_string(ito));
    EXPECT_LE(linear, 0.010) << "Euler's increment: " << euler;
    EXPECT_LT(ito, linear);
    EXPECT_GT(euler, 3 * linear);
    std::printf("bias, lambda .02: linear %.4f, Euler %.4f, Ito %.4f\n", linear, euler, ito);
}

} // namespace
} // namespace dynkin

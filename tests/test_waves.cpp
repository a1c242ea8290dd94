// test_waves.cpp - bases of cosines in a box, and of sines and cosines on a torus: systems, score, densities.
#include "cases.h"
#include "engine/fit.h"
#include "engine/model_file.h"
#include "engine/sampler.h"
#include "engine/score.h"
#include "engine/waves.h"
#include "wave_cases.h"

namespace dynkin {
namespace {

using cases::points, kernels::kScoreTile, oracle::wave, oracle::wave_slope, oracle::frequency_square,
    oracle::term, oracle::term_slope;
using std::numbers::pi, std::size_t;

Array<double> moments_of(const WaveBasis& basis, const Array<double>& u, int threads = 2) {
    MomentSums sums;
    return wave_moments(cases::context(threads), basis, cases::Basis::source(u), {}, sums);
}

/// Averages over N rows of products of at most 3 waves of frequency up to 2 radius, whose recurrence has lost
/// a few units a step, times slopes of radius^2.
double system_tolerance(const WaveBasis& basis) {
    const double radius = basis.radius;
    return tolerance::few_operations(radius * radius * 2 * radius * 6);
}

using Case = cases::WaveCase;
class Waves : public ::testing::TestWithParam<Case> {};

// Systems -------------------------------------------------------------------------------------------------

TEST(WavesByHand, OneCosine) {
    const WaveBasis basis = make_wave_basis(false, 1, 1);
    Array<double> u(2, 1);
    u[0] = 0.4, u[1] = 2;
    const WaveSystem system(basis);
    Array<double> a(1, 1);
    std::vector<double> b;
    const double t = 0.3;
    system.assemble(system.noised(moments_of(basis, u), t), a, b);
    const double once = (std::cos(0.4) + std::cos(2.0)) / 2, twice = (std::cos(0.8) + std::cos(4.0)) / 2;
    EXPECT_NEAR(a(0, 0), (1 - std::exp(-4 * t) * twice) / 2, 1e-15);
    EXPECT_NEAR(b[0], std::exp(-t) * once, 1e-15);
    EXPECT_EQ(system.scaling(), std::vector<double>{0.5});
}

TEST(WavesByHand, IndicesAreThoseWithinTheRadius) {
    EXPECT_EQ(make_wave_basis(false, 2, 2).indices, (std::vector<int>{0, 0, 0, 1, 0, 2, 1, 0, 1, 1, 2, 0}));
    EXPECT_EQ(make_wave_basis(true, 1, 2).size(), 4u);
    EXPECT_EQ(make_wave_basis(true, 2, 1).size(), 4u); // cos and sin of each coordinate
    EXPECT_THROW(make_wave_basis(false, 3, 200), Error);
    EXPECT_THROW(make_wave_basis(false, 4, 2), Error);
    EXPECT_THROW(make_wave_basis(false, 1, 0), Error);
}

/// A(0) and b(0) are averages over the rows.
TEST_P(Waves, SystemIsTheAverageOverTheRows) {
    const auto [periodic, dimension, radius] = GetParam();
    const WaveBasis basis = make_wave_basis(periodic, dimension, radius);
    const size_t d = static_cast<size_t>(dimension), n = basis.size();
    for (size_t rows : {1u, 31u, 10'007u}) {
        const Array<double> u = points(rows, d, 3, periodic ? 2 * pi : pi);
        const WaveSystem system(basis);
        Array<double> a(n, n);
        std::vector<double> b;
        system.assemble(system.noised(moments_of(basis, u), 0), a, b);
        for (size_t k = 0; k < n; k += 1 + n / 9)
            for (size_t l = 0; l <= k; l += 1 + n / 7) {
                const int *at = &basis.indices[(k + 1) * d], *with = &basis.indices[(l + 1) * d];
                double gram = 0, mean = 0;
                for (size_t r = 0; r < rows; ++r) {
                    for (size_t i = 0; i < d; ++i)
                        gram += term_slope(periodic, at, u.row(r), d, i) *
                                term_slope(periodic, with, u.row(r), d, i);
                    mean += term(periodic, at, u.row(r), d);
                }
                const double count = static_cast<double>(rows);
                EXPECT_NEAR(a(k, l), gram / count, system_tolerance(basis)) << rows << ' ' << k << ' ' << l;
                EXPECT_NEAR(b[k], frequency_square(periodic, at, d) * mean / count, system_tolerance(basis));
            }
    }
}

/// A(t) is the average over the walk's steps too: Brownian motion unfolded, by the trapezoidal rule, which is
/// exact here to rounding.
TEST(WavesNoised, SystemOfOnePointIsTheAverageOverItsWalk) {
    for (const bool periodic : {false, true}) {
        const WaveBasis basis = make_wave_basis(periodic, 1, 5);
        const double t = 0.07, start = 1.1;
        Array<double> u(1, 1);
        u[0] = start;
        const WaveSystem system(basis);
        const size_t n = basis.size();
        Array<double> a(n, n);
        std::vector<double> b;
        system.assemble(system.noised(moments_of(basis, u), t), a, b);
        for (size_t k = 0; k < n; ++k)
            for (size_t l = 0; l <= k; ++l) {
                const double expected = oracle::normal_average([&](double z) {
                    const double at = start + std::sqrt(2 * t) * z;
                    return wave_slope(periodic, basis.indices[k + 1], at) *
                           wave_slope(periodic, basis.indices[l + 1], at);
                });
                EXPECT_NEAR(a(k, l), expected, 1e-9) << k << ' ' << l; // of the oracle's Simpson rule
            }
    }
}

TEST_P(Waves, SystemsTendToTheUniformLaw) {
    const auto [periodic, dimension, radius] = GetParam();
    const WaveBasis basis = make_wave_basis(periodic, dimension, radius);
    const WaveSystem system(basis);
    const size_t n = basis.size();
    Array<double> a(n, n);
    std::vector<double> b;
    system.assemble(system.noised(moments_of(basis, points(100, static_cast<size_t>(dimension), 1, pi)), 60),
                    a, b);
    const std::vector<double> diagonal = system.scaling();
    for (size_t k = 0; k < n; ++k)
        for (size_t l = 0; l <= k; ++l)
            EXPECT_NEAR(a(k, l), k == l ? diagonal[k] : 0, system_tolerance(basis));
}

TEST(WavesMoments, DoNotDependOnThreads) {
    const WaveBasis basis = make_wave_basis(false, 2, 6);
    const Array<double> u = points(20'011, 2, 5, pi);
    EXPECT_TRUE(cases::same_bytes(moments_of(basis, u, 1), moments_of(basis, u, 3)));
}

INSTANTIATE_TEST_SUITE_P(Each, Waves,
                         ::testing::Values(Case{false, 1, 7}, Case{false, 2, 6}, Case{false, 3, 3},
                                           Case{true, 1, 5}, Case{true, 2, 4}, Case{true, 3, 2}));

// The field -----------------------------------------------------------------------------------------------

template <class T> void expect_field(bool periodic, int dimension, int radius, Isa isa) {
    WaveBlock block;
    block.periodic = periodic, block.dimension = dimension, block.radius = radius;
    const WaveBasis basis = make_wave_basis(periodic, dimension, radius);
    const size_t d = static_cast<size_t>(dimension), n = basis.size();
    const WaveField<T> field(cases::context(1, isa), block);
    std::vector<double> c(n);
    std::mt19937_64 engine(7);
    double size = 0;
    for (size_t k = 0; k < n; ++k) {
        c[k] = static_cast<double>(engine() % 2001) / 1000 - 1;
        size += std::abs(c[k]) * basis.lambda[k + 1];
    }
    // u beyond the walls as well, since trial points are.
    const Array<double> u = points(kScoreTile, d, 11, 9);
    Array<T> x(d, kScoreTile), gradient(d, kScoreTile), laplacian(kScoreTile), scratch(field.scratch());
    for (size_t j = 0; j < d; ++j)
        for (size_t p = 0; p < kScoreTile; ++p) x(j, p) = static_cast<T>(u(p, j) - 3);
    field.gradient(field.arrange(c), x.data(), gradient.data(), laplacian.data(), scratch.data());
    // Each of radius rotations rounds once, and frequency times the rounding of u.
    const double tolerance = tolerance::unit<T> * size * 4 * (radius + 3);
    for (size_t p = 0; p < kScoreTile; ++p) {
        double at[3], slope[3] = {}, lap = 0;
        for (size_t j = 0; j < d; ++j) at[j] = static_cast<double>(x(j, p));
        for (size_t k = 0; k < n; ++k) {
            const int* index = &basis.indices[(k + 1) * d];
            for (size_t i = 0; i < d; ++i) slope[i] += c[k] * term_slope(periodic, index, at, d, i);
            lap -= c[k] * frequency_square(periodic, index, d) * term(periodic, index, at, d);
        }
        for (size_t i = 0; i < d; ++i)
            EXPECT_NEAR(static_cast<double>(gradient(i, p)), slope[i], tolerance) << i << ' ' << p;
        EXPECT_NEAR(static_cast<double>(laplacian[p]), lap, tolerance) << p;
    }
}

TEST(WavesField, GradientAndLaplacianAreThoseOfTheSum) {
    for (Isa isa : cases::isas())
        for (const Case& c : {Case{false, 1, 40}, Case{false, 2, 9}, Case{false, 3, 4}, Case{true, 1, 17},
                              Case{true, 2, 5}, Case{true, 3, 2}}) {
            expect_field<float>(c.periodic, c.dimension, c.radius, isa);
            expect_field<double>(c.periodic, c.dimension, c.radius, isa);
        }
}

TEST(WavesField, FoldingIsReflectionAndWrapping) {
    EXPECT_NEAR(kernels::folded(-0.25, false), 0.25, 1e-15);
    EXPECT_NEAR(kernels::folded(pi + 0.5, false), pi - 0.5, 1e-15);
    EXPECT_NEAR(kernels::folded(2 * pi + 0.5, false), 0.5, 1e-14);
    EXPECT_NEAR(kernels::folded(-0.25, true), 2 * pi - 0.25, 1e-15);
    EXPECT_NEAR(kernels::folded(7.0, true), 7 - 2 * pi, 1e-15);
    EXPECT_EQ(kernels::folded(1.5f, false), 1.5f);
}

// Models --------------------------------------------------------------------------------------------------

class WaveModels : public cases::Folder {
  protected:
    Model fitted(const Array<double>& x, const Process& process, int radius, double ridge = -1,
                 double t_min = -1, int nodes = 0) {
        FitOptions options;
        options.process = process, options.radius = radius, options.ridge = ridge, options.t_min = t_min;
        options.time_nodes = nodes;
        return fit(cases::context(2), data(x), options);
    }
};

/// A product of two laws of two points each, noised: sums of images. Their logarithms' waves fall off as
/// exp(-m t) (of a theta function).
TEST_F(WaveModels, ScoreOfFewPointsIsThatOfTheHeatKernel) {
    constexpr double t = 1.2;
    constexpr int radius = 14;
    // 14 exp(-14 1.2) in slopes that are 1 at m = 0, over weights that vary by exp(-2 t) squared.
    constexpr double tolerance = 1e-5;
    for (const bool periodic : {false, true}) {
        const double side = periodic ? 2 * pi : pi;
        const double a[2] = {0.9, 1.4}, b[2] = {2.1, 2.4};
        Array<double> x(4, 2);
        for (size_t n = 0; n < 4; ++n) x(n, 0) = a[n & 1], x(n, 1) = b[n >> 1];
        const Process process =
            periodic ? Process(TorusProcess{{0}, {side}}) : Process(BoxProcess{{0}, {side}, 0});
        const Model model = fitted(x, process, radius, 0, t, 4);
        const auto kernel_score = [&](double u, const double* from) {
            double p = 0, slope = 0;
            for (int k = 0; k < 2; ++k)
                for (int image = -8; image <= 8; ++image)
                    for (const double sign : {1.0, -1.0}) {
                        if (periodic && sign < 0) continue;
                        const double z = u - (sign * from[k] + 2 * pi * image),
                                     w = std::exp(-z * z / (4 * t));
                        p += w, slope -= z / (2 * t) * w;
                    }
            return slope / p;
        };
        const Array<double> at = points(10'007, 2, 9, side);
        Array<double> out(at.rows(), 2);
        for (size_t count : {1u, 31u, 10'007u}) {
            score(cases::context(2), model, t, count, at.data(), out.data());
            for (size_t n = 0; n < count; ++n) {
                ASSERT_NEAR(out(n, 0), kernel_score(at(n, 0), a), tolerance) << periodic << ' ' << at(n, 0);
                ASSERT_NEAR(out(n, 1), kernel_score(at(n, 1), b), tolerance) << periodic << ' ' << at(n, 1);
            }
        }
    }
}

TEST_F(WaveModels, DensityIntegratesToOneAndOdeSamplesHaveIt) {
    for (const bool periodic : {false, true}) {
        const double side = periodic ? 2 * pi : 2;
        const Array<double> x = points(5000, 2, 21, side);
        const Process process =
            periodic ? Process(TorusProcess{{0}, {side}}) : Process(BoxProcess{{0}, {side}, 0});
        const Model model = fitted(x, process, periodic ? 4 : 8);
        const size_t grid = 100;
        Array<double> at(grid * grid, 2);
        for (size_t n = 0; n < at.rows(); ++n)
            for (size_t j = 0; j < 2; ++j)
                at(n, j) =
                    side * (static_cast<double>(j ? n % grid : n / grid) + 0.5) / static_cast<double>(grid);
        double mass = 0;
        for (double v : log_density(cases::context(2), model, at.rows(), at.data()))
            mass += std::exp(v) * side * side / static_cast<double>(at.rows());
        EXPECT_NEAR(mass, 1, 0.005);
        SampleOptions options;
        options.method = Method::ode;
        const Samples drawn = sample(cases::context(2), model, 200, options);
        EXPECT_LT(drawn.report.log_density_error, 0.02);
        std::vector<double> rows(drawn.rows.begin(), drawn.rows.end());
        const auto log_q = log_density(cases::context(2), model, 200, rows.data());
        for (size_t n = 0; n < 200; ++n) { // two Heun flows in opposite directions, float32 against float64
            EXPECT_NEAR(drawn.log_density[n], log_q[n], 0.05) << n;
            for (size_t j = 0; j < 2; ++j)
                EXPECT_TRUE(rows[2 * n + j] >= 0 && rows[2 * n + j] <= side * 1.000001);
        }
    }
}

TEST_F(WaveModels, FileAndThreadsKeepTheSamples) {
    const Array<double> x = points(2000, 2, 2, 1);
    const Model model = fitted(x, BoxProcess{}, 6);
    write_model(path("m"), model);
    const Model back = read_model(path("m"));
    for (Method method : {Method::sde, Method::ode}) {
        SampleOptions options;
        options.method = method, options.seed = 5;
        const Samples a = sample(cases::context(1), model, 300, options),
                      b = sample(cases::context(3), back, 300, options);
        EXPECT_TRUE(cases::same_bytes(a.rows, b.rows));
        EXPECT_TRUE(cases::same_bytes(a.log_density, b.log_density));
        EXPECT_EQ(a.report.steps, method == Method::sde ? 48 : 96);
    }
    TensorFile file = read_tensor_file(path("m"), "dynkin-model", 2);
    file.put("waves.shape", std::vector<std::int64_t>{0, 7});
    write_tensor_file(path("m"), file);
    cases::expect_error(
        ErrorKind::input, [&] { read_model(path("m")); }, "waves.coefficients");
}

TEST_F(WaveModels, DataOutsideABoxOrAPeriodAreRefused) {
    const Array<double> x = points(100, 2, 2, 3);
    cases::expect_error(
        ErrorKind::input,
        [&] {
            fitted(x, BoxProcess{{0}, {1}, 0}, 4);
        },
        "within the box [0, 1]");
    cases::expect_error(
        ErrorKind::input,
        [&] {
            fitted(x, TorusProcess{{0, 0}, {4, 2}}, 4);
        },
        "column 1 has values");
    cases::expect_error(
        ErrorKind::usage,
        [&] {
            fitted(x, BoxProcess{{0, 0, 0}, {1, 1, 1}, 0}, 4);
        },
        "columns");
    cases::expect_error(
        ErrorKind::usage,
        [&] {
            fitted(x, BoxProcess{{4}, {4}, 0}, 4);
        },
        "lower < upper");
    FitOptions options;
    options.process = TorusProcess{}, options.degree = 13;
    cases::expect_error(
        ErrorKind::usage, [&] { fit(cases::context(), data(points(1000, 4, 2, 3)), options); },
        "frequencies up to 12");
}

TEST_F(WaveModels, PointsOutsideTheBoxHaveNoDensity) {
    const Model model = fitted(points(500, 2, 2, 1), BoxProcess{{0}, {1}, 0}, 4);
    const double at[6] = {0.5, 0.5, 1.01, 0.5, NAN, 0.5};
    const auto log_q = log_density(cases::context(), model, 3, at);
    EXPECT_TRUE(std::isfinite(log_q[0]));
    EXPECT_EQ(log_q[1], -INFINITY);
    EXPECT_EQ(log_q[2], -INFINITY);
}

/// Four columns: clusters of cosines, with the engine of the fitted references.
TEST_F(WaveModels, BoxesOfManyColumnsHaveClusters) {
    Array<double> x = points(4000, 4, 2, 1);
    for (size_t n = 0; n < x.rows(); ++n) x(n, 3) = std::clamp(0.5 * (x(n, 0) + x(n, 3)), 0.0, 1.0);
    const Model model = fitted(x, BoxProcess{{0}, {1}, 0}, 0);
    ASSERT_EQ(model.blocks.size(), 1u);
    EXPECT_NEAR(model.blocks[0].reference.families[0].lambda[5], 25, 1e-8);
    SampleOptions options;
    options.steps = 48;
    const Samples drawn = sample(cases::context(2), model, 4000, options);
    double mean[4] = {}, product = 0, expected[4] = {}, expected_product = 0;
    for (size_t n = 0; n < 4000; ++n) {
        for (size_t j = 0; j < 4; ++j)
            mean[j] += static_cast<double>(drawn.rows(n, j)) / 4000, expected[j] += x(n, j) / 4000;
        product += static_cast<double>(drawn.rows(n, 0) * drawn.rows(n, 3)) / 4000;
        expected_product += x(n, 0) * x(n, 3) / 4000;
    }
    for (size_t j = 0; j < 4; ++j) EXPECT_NEAR(mean[j], expected[j], 0.03) << j;
    EXPECT_NEAR(product, expected_product, 0.03);
}

} // namespace
} // namespace dynkin

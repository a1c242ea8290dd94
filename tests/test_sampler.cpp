// test_sampler.cpp - samples and likelihoods of exact Gaussian models, laws that must stay as they are, and
// the same bytes however the sequence is divided.
#include "cases.h"
#include "engine/fit.h"
#include "engine/model_file.h"
#include "engine/sampler.h"
#include "tolerance.h"
#include <cmath>
#include <numbers>
#include <random>

namespace dynkin {
namespace {

using std::size_t;

constexpr ReferenceKind kinds[] = {ReferenceKind::hermite, ReferenceKind::fitted};

/// The exact model with a scale and a shift, and the law of its samples at t_min in the units of the data.
struct Case {
    oracle::Gaussian law;
    Model model;
    Case(size_t d, ReferenceKind kind, int intervals = 128)
        : law(cases::gaussian(d)), model(cases::gaussian_model(law, kind, intervals)) {
        law = law.noised(model.blocks[0].t_min);
        for (size_t i = 0; i < d; ++i) {
            const double scale = model.standardization.scale[i] = 1 + 0.5 * static_cast<double>(i);
            const double mean = model.standardization.mean[i] = 3 - static_cast<double>(i);
            law.mean[i] = mean + scale * law.mean[i];
            for (size_t j = 0; j < d; ++j) law.covariance(i, j) *= scale, law.covariance(j, i) *= scale;
        }
    }
};

Array<double> doubles(const Array<float>& x) {
    Array<double> out(x.rows(), x.cols());
    std::copy(x.begin(), x.end(), out.begin());
    return out;
}

/// Mean and covariance within z_bound standard errors, plus a fraction of them for the steps.
void expect_moments(const Array<double>& x, const oracle::Gaussian& law, double bias) {
    const oracle::Gaussian found = oracle::empirical(x);
    const double rows = static_cast<double>(x.rows());
    for (size_t i = 0; i < law.size(); ++i) {
        const double vi = law.covariance(i, i);
        EXPECT_NEAR(found.mean[i], law.mean[i],
                    tolerance::z_bound * std::sqrt(vi / rows) + bias * std::sqrt(vi))
            << i;
        for (size_t j = 0; j <= i; ++j) {
            const double vj = law.covariance(j, j), vij = law.covariance(i, j);
            EXPECT_NEAR(found.covariance(i, j), vij,
                        tolerance::z_bound * std::sqrt((vi * vj + vij * vij) / rows) +
                            bias * std::sqrt(vi * vj))
                << i << ' ' << j;
        }
    }
}

/// A chain of angles, p ~ exp(beta sum_i cos(x_i - x_{i+1})): differences are independent, each of von Mises'
/// law (by rejection from the uniform one).
Array<double> angles(size_t rows, size_t sites, double beta, unsigned seed) {
    std::mt19937_64 engine(seed);
    std::uniform_real_distribution<double> uniform(0, 1);
    const double turn = 2 * std::numbers::pi;
    Array<double> x(rows, sites);
    for (size_t n = 0; n < rows; ++n)
        for (size_t i = 0; i < sites; ++i) {
            double move = turn * uniform(engine);
            while (i > 0 && uniform(engine) > std::exp(beta * (std::cos(move) - 1)))
                move = turn * uniform(engine);
            const double at = (i ? x(n, i - 1) : 0) + move;
            x(n, i) = at - turn * std::floor(at / turn);
        }
    return x;
}

/// E cos(x_i - x_j) = (I_1/I_0)^|i - j|, and log Z = sites log 2 pi + (sites - 1) log I_0.
class Angles : public cases::Folder {
  protected:
    const size_t sites = cases::sized<size_t>(6, 4);
    const double beta = 1.2, order = std::cyl_bessel_i(1, beta) / std::cyl_bessel_i(0, beta);

    Model fitted() {
        FitOptions options;
        options.process = TorusProcess{}, options.degree = 2;
        options.pairs = parse_pair_rules("nearest:2,all:1");
        options.lattice = Lattice{{sites}, Boundary::free};
        return fit(cases::context(2), data(angles(cases::sized(20'000u, 2000u), sites, beta, 3)), options);
    }
    /// -U
    double log_weight(const float* x) const {
        double sum = 0;
        for (size_t i = 0; i + 1 < sites; ++i) sum += beta * std::cos(static_cast<double>(x[i + 1] - x[i]));
        return sum;
    }
};

TEST_F(Angles, SamplesHaveTheOrderOfTheChain) {
    const Model model = fitted();
    EXPECT_EQ(model.blocks.size(), 1u);
    const size_t count = cases::sized(20'000u, 1500u);
    const Samples drawn = sample(cases::context(2), model, count, {});
    EXPECT_EQ(drawn.report.runaways, 0u);
    for (size_t apart = 1; apart <= 2; ++apart) {
        double sum = 0, square = 0, pairs = static_cast<double>(count * (sites - apart));
        for (size_t n = 0; n < count; ++n)
            for (size_t i = 0; i + apart < sites; ++i) {
                ASSERT_TRUE(drawn.rows(n, i) >= 0 && drawn.rows(n, i) <= 6.2832f) << drawn.rows(n, i);
                const double c = std::cos(static_cast<double>(drawn.rows(n, i) - drawn.rows(n, i + apart)));
                sum += c, square += c * c;
            }
        const double mean = sum / pairs, sd = std::sqrt(square / pairs - mean * mean);
        // Of the samples and of the rows that the model was fitted to, as if pairs did not average anything;
        // steps and few waves come on top.
        const double error = sd / std::sqrt(static_cast<double>(count));
        EXPECT_NEAR(mean, std::pow(order, static_cast<double>(apart)), tolerance::z_bound * error + 0.01);
    }
}

TEST_F(Angles, WeightsGiveTheIntegral) {
    const Model model = fitted();
    const size_t count = cases::sized(4000u, 400u);
    SampleOptions options;
    options.method = Method::ode;
    const Samples drawn = sample(cases::context(2), model, count, options);
    const Array<double> rows = doubles(drawn.rows);
    const std::vector<double> log_q = log_density(cases::context(2), model, 64, rows.data());
    for (size_t n = 0; n < 64; ++n) // two flows in opposite directions, float32 and float64
        EXPECT_NEAR(drawn.log_density[n], log_q[n], 0.05) << n;
    double sum = 0, square = 0;
    for (size_t n = 0; n < count; ++n) {
        const double w = std::exp(log_weight(drawn.rows.row(n)) - drawn.log_density[n]);
        sum += w, square += w * w;
    }
    EXPECT_GT(sum * sum / square / static_cast<double>(count), 0.8);
    const double exact = static_cast<double>(sites) * std::log(2 * std::numbers::pi) +
                         static_cast<double>(sites - 1) * std::log(std::cyl_bessel_i(0, beta));
    const double error = std::sqrt(square / (sum * sum) - 1 / static_cast<double>(count));
    EXPECT_NEAR(std::log(sum / static_cast<double>(count)), exact, tolerance::z_bound * error + 0.01);
    // The same angle a turn away.
    std::vector<double> turned(rows.row(0), rows.row(0) + sites);
    turned[2] += 2 * std::numbers::pi, turned[4] -= 4 * std::numbers::pi;
    EXPECT_NEAR(log_density(cases::context(), model, 1, turned.data())[0], log_q[0], 1e-9);
}

TEST_F(Angles, FileKeepsThem) {
    const Model model = fitted();
    write_model(path("m"), model);
    SampleOptions options;
    options.seed = 5;
    EXPECT_TRUE(cases::same_bytes(sample(cases::context(1), model, 200, options).rows,
                                  sample(cases::context(3), read_model(path("m")), 200, options).rows));
    TensorFile file = read_tensor_file(path("m"), "dynkin-model", 2);
    file.metadata["process"] = "box";
    write_tensor_file(path("m"), file);
    cases::expect_error(
        ErrorKind::input, [&] { read_model(path("m")); }, "process");
}

TEST(Sde, GaussianModelsGiveTheirMeanAndCovariance) {
    for (ReferenceKind kind : kinds) {
        const Case exact(3, kind);
        SampleOptions options;
        options.steps = 64, options.seed = 5;
        const Samples out = sample(cases::context(2), exact.model, cases::sized(20'000u, 5000u), options);
        EXPECT_TRUE(out.log_density.empty());
        EXPECT_EQ(out.report.steps, 64);
        EXPECT_LE(out.report.runaways, 10u); // OU: beyond 5 s, 6e-7 of each coordinate a step
        // Strang: dt^2/12 and less, dt = 0.4 at the start; tables: h^2/12 = 2e-4 of variance a step of those
        // that last
        expect_moments(doubles(out.rows), exact.law, 5e-3);
    }
}

TEST(Ode, GaussianModelsGiveTheirMeanAndCovariance) {
    for (ReferenceKind kind : kinds) {
        const Case exact(3, kind);
        SampleOptions options;
        options.method = Method::ode, options.steps = 64, options.seed = 6;
        const Samples out = sample(cases::context(2), exact.model, cases::sized(20'000u, 2000u), options);
        expect_moments(doubles(out.rows), exact.law, 2e-3); // Heun at 64 steps; below
    }
}

double rms_error(const Case& exact, int steps, size_t count) {
    SampleOptions options;
    options.method = Method::ode, options.steps = steps, options.estimate_error = false;
    const Samples out = sample(cases::context(2), exact.model, count, options);
    const Array<double> x = doubles(out.rows);
    double square = 0;
    for (size_t n = 0; n < count; ++n)
        square += std::pow(out.log_density[n] - exact.law.log_density(x.row(n)), 2);
    return std::sqrt(square / static_cast<double>(count));
}

TEST(Ode, LogDensityConvergesToTheExactOneWithOrderTwo) {
    for (ReferenceKind kind : kinds) {
        const Case exact(2, kind);
        const double coarse = rms_error(exact, 16, 640), middle = rms_error(exact, 32, 640),
                     fine = rms_error(exact, 64, 640);
        EXPECT_LT(middle, 0.02); // the bar for 16 coordinates (validate_gaussian)
        EXPECT_NEAR(std::log2(coarse / middle), 2, 0.4);
        EXPECT_NEAR(std::log2(middle / fine), 2, 0.3);
    }
}

TEST(Ode, StepDoublingEstimatesTheError) {
    const Case exact(2, ReferenceKind::hermite);
    SampleOptions options;
    options.method = Method::ode, options.steps = 32;
    const double estimate = sample(cases::context(), exact.model, 640, options).report.log_density_error;
    // Two paths of order two: their errors differ in sign and by a factor of four, so the sum is 3/4 to 5/4
    // of one.
    EXPECT_GT(estimate, 0.5 * rms_error(exact, 32, 256));
    EXPECT_LT(estimate, 2 * rms_error(exact, 32, 256));
}

TEST(LogDensity, ForwardsConvergesToTheExactOneWithOrderTwo) {
    for (ReferenceKind kind : kinds) {
        const Case exact(3, kind);
        const Array<double> x = cases::draw(exact.law, 300, 4);
        double error[3];
        for (int k = 0; k < 3; ++k) {
            const auto found = log_density(cases::context(2), exact.model, 300, x.data(), 16 << k);
            double square = 0;
            for (size_t n = 0; n < 300; ++n)
                square += std::pow(found[n] - exact.law.log_density(x.row(n)), 2);
            error[k] = std::sqrt(square / 300);
        }
        EXPECT_LT(error[1], 0.02);
        EXPECT_NEAR(std::log2(error[0] / error[1]), 2, 0.4);
        EXPECT_NEAR(std::log2(error[1] / error[2]), 2, 0.3);
    }
}

TEST(LogDensity, ForwardsAgreesWithTheSampler) {
    for (ReferenceKind kind : kinds) {
        const Case exact(3, kind);
        SampleOptions options;
        options.method = Method::ode, options.steps = 128;
        const Samples out = sample(cases::context(), exact.model, 200, options);
        const auto forwards = log_density(cases::context(), exact.model, 200, doubles(out.rows).data(), 128);
        for (size_t n = 0; n < 200; ++n)
            EXPECT_NEAR(forwards[n], out.log_density[n], 2e-2) << n; // twice row 4's 128 steps, worst of 200
    }
}

// ---- nothing but the reference: coefficients 0

Model reference_model(bool two_families) {
    Reference reference = cases::fitted_reference(5);
    if (!two_families) reference.family_of.assign(5, 0);
    Model model = cases::empty_model(reference, make_index_set(5, 2, {{0, 1, 1}}, 0, false), 8);
    model.standardization.scale = {1, 2, 1, 0.5, 1};
    return model;
}

TEST(Ode, WithoutCoefficientsTheLawIsTheReference) {
    const Model model = reference_model(true);
    SampleOptions options;
    options.method = Method::ode;
    const Samples out = sample(cases::context(), model, 500, options);
    for (size_t n = 0; n < 500; ++n) {
        double expected = 0;
        for (size_t j = 0; j < 5; ++j) {
            const double scale = model.standardization.scale[j];
            expected += model.blocks[0]
                            .reference.of(static_cast<int>(j))
                            .log_density(static_cast<double>(out.rows(n, j)) / scale) -
                        std::log(scale);
        }
        EXPECT_NEAR(out.log_density[n], expected, 1e-4)
            << n; // rows are float32 in the units of the data: eps32 |z| v'
    }
    EXPECT_EQ(out.report.log_density_error, 0);
}

/// Kolmogorov's distance of one column to the law of a family.
double distance(const Array<float>& x, size_t column, double scale, const Family& family) {
    std::vector<double> z;
    for (size_t n = 0; n < x.rows(); ++n) z.push_back(static_cast<double>(x(n, column)) / scale);
    std::sort(z.begin(), z.end());
    double below = 0, at = family.lo, worst = 0;
    const double h = (family.hi - family.lo) / 20000, rows = static_cast<double>(z.size());
    for (size_t n = 0; n < z.size(); ++n) {
        for (; at + h / 2 < z[n]; at += h) below += h * std::exp(family.log_density(at + h / 2));
        worst = std::max({worst, std::abs(below - static_cast<double>(n) / rows),
                          std::abs(below - static_cast<double>(n + 1) / rows)});
    }
    return worst;
}

TEST(Sde, TheReferenceStaysStationary) {
    const Model model = reference_model(true);
    const size_t count = 20000;
    SampleOptions options;
    options.steps = 16;
    const Samples sde = sample(cases::context(2), model, count, options);
    options.method = Method::ode;
    const Samples ode = sample(cases::context(2), model, count, options);
    for (size_t j = 0; j < 5; ++j) { // P(sqrt(N) D > 2.2) = 2 exp(-2 2.2^2) = 1e-4; tables: h^2
        const Family& family = model.blocks[0].reference.of(static_cast<int>(j));
        const double bound = 2.2 / std::sqrt(static_cast<double>(count)) + 5e-4;
        EXPECT_LT(distance(sde.rows, j, model.standardization.scale[j], family), bound) << j;
        EXPECT_LT(distance(ode.rows, j, model.standardization.scale[j], family), bound) << j;
    }
}

TEST(Sde, CoordinatesAndParticlesAreIndependent) {
    const Model model = reference_model(false);
    const Samples out = sample(cases::context(2), model, 20000);
    const oracle::Gaussian found = oracle::empirical(doubles(out.rows));
    for (size_t i = 0; i < 5; ++i)
        for (size_t j = 0; j < i; ++j) {
            const double scale = std::sqrt(found.covariance(i, i) * found.covariance(j, j));
            EXPECT_NEAR(found.covariance(i, j) / scale, 0, tolerance::z_bound / std::sqrt(20000.0))
                << i << ' ' << j;
        }
    double lagged = 0, square = 0;
    for (size_t n = 0; n + 1 < 20000; ++n) {
        const double a = static_cast<double>(out.rows(n, 0)), b = static_cast<double>(out.rows(n + 1, 0));
        lagged += a * b, square += a * a;
    }
    EXPECT_NEAR(lagged / square, 0, tolerance::z_bound / std::sqrt(20000.0));
}

// ---- division of the sequence

class Sequence : public testing::TestWithParam<std::tuple<ReferenceKind, Method>> {
  protected:
    Case exact{3, std::get<0>(GetParam()), 16};
    SampleOptions options{std::get<1>(GetParam()), 6, 11, false};
};
INSTANTIATE_TEST_SUITE_P(Kinds, Sequence,
                         testing::Combine(testing::ValuesIn(kinds),
                                          testing::Values(Method::sde, Method::ode)));

TEST_P(Sequence, ThreadsLeaveTheSameBytes) {
    const Samples one = sample(cases::context(1), exact.model, 1003, options);
    for (int threads : {2, 5}) {
        const Samples many = sample(cases::context(threads), exact.model, 1003, options);
        EXPECT_TRUE(cases::same_bytes(many.rows, one.rows));
        EXPECT_TRUE(cases::same_bytes(many.log_density, one.log_density));
    }
}

TEST_P(Sequence, AnySplitLeavesTheSameBytes) {
    const Context context = cases::context(2);
    const Samples whole = sample(context, exact.model, 1003, options);
    for (const std::vector<size_t>& parts :
         {std::vector<size_t>{1, 62, 1, 939}, {500, 503}, {64, 64, 875}, {1003}}) {
        Sampling sampling(context, exact.model, options, 1003);
        size_t first = 0, runaways = 0;
        for (size_t part : parts) {
            const auto report = sampling.run(
                first, part, [&](size_t at, size_t count, const float* rows, const double* log_q) {
                    EXPECT_EQ(at, first);
                    EXPECT_EQ(count, part);
                    EXPECT_EQ(std::memcmp(rows, whole.rows.row(at), count * 3 * sizeof(float)), 0)
                        << first << ' ' << part;
                    EXPECT_EQ(log_q != nullptr, options.method == Method::ode);
                    if (log_q) {
                        EXPECT_EQ(std::memcmp(log_q, &whole.log_density[at], count * sizeof(double)), 0);
                    }
                });
            runaways += report.runaways;
            first += part;
        }
        EXPECT_EQ(runaways, whole.report.runaways);
    }
}

TEST_P(Sequence, SeedsChangeEveryParticle) {
    const Samples a = sample(cases::context(), exact.model, 200, options);
    options.seed = 12;
    const Samples b = sample(cases::context(), exact.model, 200, options);
    for (size_t k = 0; k < a.rows.size(); ++k) EXPECT_NE(a.rows[k], b.rows[k]);
}

TEST_P(Sequence, EveryLevelGivesTheSameLaw) { // other roundings, the same random numbers
    const Samples best = sample(cases::context(), exact.model, 300, options);
    for (Isa isa : cases::isas()) {
        const Samples other = sample(cases::context(1, isa), exact.model, 300, options);
        for (size_t k = 0; k < best.rows.size(); ++k)
            EXPECT_NEAR(other.rows[k], best.rows[k], 2e-3)
                << k; // float32 in 6 steps; a table's cell may change at its edge
    }
}

// ---- edges

TEST(Sampling, StepsOutOfRangeAreErrorsAndZeroIsTheDefault) {
    const Case exact(2, ReferenceKind::hermite, 8);
    const double x[] = {0, 0};
    SampleOptions options;
    options.steps = -1;
    cases::expect_error(
        ErrorKind::usage, [&] { sample(cases::context(), exact.model, 1, options); }, "steps");
    cases::expect_error(
        ErrorKind::usage, [&] { log_density(cases::context(), exact.model, 1, x, -1); }, "steps");
    options.steps = 0;
    EXPECT_EQ(sample(cases::context(), exact.model, 1, options).report.steps, exact.model.default_steps);
    const auto by_default = log_density(cases::context(), exact.model, 1, x);
    EXPECT_EQ(by_default, log_density(cases::context(), exact.model, 1, x, exact.model.default_steps));
    EXPECT_EQ(sample(cases::context(), exact.model, 0).rows.size(), 0u);
}

TEST(Sampling, DroppedColumnsComeBackAsTheirConstants) {
    Case exact(2, ReferenceKind::hermite, 8);
    const Samples plain = sample(cases::context(), exact.model, 70);
    exact.model.view.columns = 4, exact.model.view.kept = {1, 3}, exact.model.view.constant = {7.5, 0, -2, 0};
    const Samples wide = sample(cases::context(), exact.model, 70);
    for (size_t n = 0; n < 70; ++n) {
        const float expected[] = {7.5f, plain.rows(n, 0), -2.0f, plain.rows(n, 1)};
        EXPECT_EQ(std::memcmp(wide.rows.row(n), expected, sizeof expected), 0);
    }
}

TEST(Sampling, DequantisedModelsGiveIntegersInRange) {
    Case exact(2, ReferenceKind::hermite, 8);
    exact.model.view.levels = 4;
    exact.model.standardization = {{0.5, 0.5}, {0.4, 0.4}};
    const Samples out = sample(cases::context(), exact.model, 500);
    std::vector<int> seen(4, 0);
    for (float x : out.rows) {
        ASSERT_EQ(x, std::floor(x));
        ASSERT_TRUE(x >= 0 && x <= 3);
        ++seen[static_cast<size_t>(x)];
    }
    for (int count : seen) EXPECT_GT(count, 0);
}

TEST(LogDensity, PointsFarFromTheDataOrNotFiniteHaveNone) {
    for (ReferenceKind kind : kinds) {
        const Case exact(2, kind, 8);
        const double inside = exact.model.standardization.mean[0]; // 2 is the mean of the other
        const double x[] = {inside + 100, 2, inside, 2, NAN, 2, INFINITY, 2, inside, -INFINITY};
        const auto found = log_density(cases::context(), exact.model, 5, x);
        EXPECT_TRUE(std::isfinite(found[1]));
        for (size_t n : {0u, 2u, 3u, 4u}) EXPECT_EQ(found[n], -INFINITY) << n;
        EXPECT_TRUE(log_density(cases::context(), exact.model, 0, nullptr).empty());
    }
}

TEST(LogDensity, EndsAtTheBoxOfAFittedReference) {
    const Case exact(2, ReferenceKind::fitted, 8);
    const double mean = exact.model.standardization.mean[0], x[] = {mean + 8.99, 2, mean + 9.01, 2};
    const auto found = log_density(cases::context(), exact.model, 2, x);
    EXPECT_TRUE(std::isfinite(found[0]));
    EXPECT_EQ(found[1], -INFINITY);
}

TEST(Sampling, AWrongModelGivesRunawaysNotNonsense) {
    Case wild(2, ReferenceKind::hermite, 8);
    for (double& c : wild.model.blocks[0].coefficients) c *= 40;
    const Samples sde = sample(cases::context(), wild.model, 300);
    EXPECT_GT(sde.report.runaways, 0u);
    for (float x : sde.rows) EXPECT_TRUE(std::isfinite(x));
    SampleOptions options;
    options.method = Method::ode;
    const Samples ode = sample(cases::context(), wild.model, 300, options);
    size_t flagged = 0;
    for (double log_q : ode.log_density) {
        EXPECT_FALSE(std::isnan(log_q));
        EXPECT_LT(log_q, INFINITY);
        flagged += log_q == -INFINITY;
    }
    EXPECT_EQ(flagged, ode.report.runaways);
}

TEST(Sampling, AnInterruptStopsIt) {
    const Case exact(2, ReferenceKind::hermite, 8);
    const std::atomic<int> signal{15};
    ContextOptions options;
    options.interrupt_signal = &signal;
    const Context context = cases::context(options);
    EXPECT_THROW(sample(context, exact.model, 1000), Interrupted);
    const double x[] = {0, 0};
    EXPECT_THROW(log_density(context, exact.model, 1, x), Interrupted);
}

} // namespace
} // namespace dynkin

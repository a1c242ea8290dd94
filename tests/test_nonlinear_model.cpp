// test_nonlinear_model.cpp - fit, file, score, priors and time reversal of nonlinear processes.
#include "cases.h"
#include "engine/nonlinear_model.h"
#include "engine/tensor_file.h"
#include "tolerance.h"
#include <algorithm>
#include <nlohmann/json.hpp>
#include <numbers>

namespace dynkin {
namespace {

class NonlinearModelFile : public cases::Folder {};

/// Two peaks, at -1.2 and 0.8.
Array<double> two_peaks(size_t count, unsigned seed) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    Array<double> x(count, 1);
    for (double& v : x) v = engine() % 4 == 0 ? -1.2 + 0.25 * normal(engine) : 0.8 + 0.35 * normal(engine);
    return x;
}

/// Largest distance of two empirical distribution functions.
double kolmogorov(const Array<double>& a, const Array<double>& b) {
    std::vector<double> x(a.begin(), a.end()), y(b.begin(), b.end());
    std::sort(x.begin(), x.end()), std::sort(y.begin(), y.end());
    double most = 0;
    size_t j = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        while (j < y.size() && y[j] <= x[i]) ++j;
        most = std::max(most, std::abs(static_cast<double>(i + 1) / static_cast<double>(x.size()) -
                                       static_cast<double>(j) / static_cast<double>(y.size())));
    }
    return most;
}

DriftProcess well() { return drift_process(DoubleWellDrift{}, {std::numbers::sqrt2}); }

TEST(NonlinearModel, ReversedPathsAreTheDataAndTheForwardPaths) {
    const Array<double> data = two_peaks(4000, 1);
    const Context context = cases::context(2);
    const NonlinearModel model = fit_nonlinear(context, well(), data, {.t_end = 3, .nodes = 16, .seed = 1});
    Array<double> rows = draw_prior(model, StartLaw::automatic, 3, 0, 3000), middle = rows;
    const ReverseReport report = reverse(context, model, rows, 4);
    // Samples of 4000 and 3000 of one law are 0.021 apart on average and beyond 0.047 once in 1e3; the rest
    // is left for the error of the scores, and the first time, at which data have noise of 0.05.
    EXPECT_LT(kolmogorov(rows, data), 0.07);
    EXPECT_LT(static_cast<double>(report.runaways), 1e-3 * 3000 * static_cast<double>(report.steps));
    Paths paths(context, well(), data, 3, {.seed = 5});
    paths.advance(0.3);
    reverse(context, model, middle, 4, 0, 0.3);
    EXPECT_LT(kolmogorov(middle, paths.states()), 0.07);
}

TEST(NonlinearModel, DoesNotDependOnThreadsOrParts) {
    const Array<double> data = two_peaks(500, 2);
    const NonlinearFitOptions options{.t_end = 2, .nodes = 4, .seed = 7};
    const NonlinearModel one = fit_nonlinear(cases::context(1), well(), data, options),
                         two = fit_nonlinear(cases::context(2), well(), data, options);
    EXPECT_EQ(one.configuration, two.configuration);
    for (size_t k = 0; k < one.nodes.size(); ++k) {
        EXPECT_EQ(one.nodes[k].coefficients, two.nodes[k].coefficients);
        ASSERT_TRUE(one.nodes[k].entropy && two.nodes[k].entropy);
        EXPECT_EQ(one.nodes[k].entropy->rate, two.nodes[k].entropy->rate);
    }
    Array<double> whole = draw_prior(one, StartLaw::gaussian, 1, 0, 300),
                  part = draw_prior(one, StartLaw::gaussian, 1, 100, 50);
    reverse(cases::context(2), one, whole, 9);
    reverse(cases::context(1), one, part, 9, 100);
    EXPECT_EQ(0, std::memcmp(whole.row(100), part.data(), 50 * sizeof(double)));
}

TEST(NonlinearModel, PriorsHaveTheirMoments) {
    NonlinearModel model;
    model.process = drift_process(LogisticDrift{2, 0.5}, {std::numbers::sqrt2});
    const auto moments = [&](size_t column) {
        const Array<double> x = draw_prior(model, StartLaw::stationary, 2, 0, 20'000);
        double square = 0, fourth = 0;
        for (size_t n = 0; n < x.rows(); ++n)
            square += x(n, column) * x(n, column) / 2e4, fourth += std::pow(x(n, column), 4) / 2e4;
        return std::pair(square, fourth);
    };
    const double variance = 0.25 * std::numbers::pi * std::numbers::pi / 3; // s^2 pi^2 / 3, kurtosis 4.2
    EXPECT_NEAR(moments(1).first, variance, tolerance::z_bound * variance * std::sqrt(3.2 / 2e4));
    model.process = well();
    // exp(-(x^2 - 1)^2): E x^2 = 1.04192, E x^4 = 1.29192, by quadrature.
    double top = 0, square = 0, fourth = 0;
    for (double x = -4; x < 4; x += 1e-3) {
        const double p = std::exp(-(x * x - 1) * (x * x - 1));
        top += p, square += p * x * x, fourth += p * std::pow(x, 4);
    }
    square /= top, fourth /= top;
    EXPECT_NEAR(moments(0).first, square, tolerance::z_bound * std::sqrt((fourth - square * square) / 2e4));
    MixtureDrift mixture{{1, 3}, Array<double>(2, 2), {0.5, 1}};
    mixture.means(0, 0) = 2;
    model.process = drift_process(mixture, {std::numbers::sqrt2});
    EXPECT_NEAR(moments(0).first, 0.25 * 4.25 + 0.75, tolerance::z_bound * 2 / std::sqrt(2e4));
    model.process = drift_process(mixture, {1.0});
    EXPECT_FALSE(has_stationary_prior(model.process));
    cases::expect_error(
        ErrorKind::usage, [&] { draw_prior(model, StartLaw::stationary, 1, 0, 1); }, "is not known");
}

TEST_F(NonlinearModelFile, IsReadAsItWasWritten) {
    const Context context = cases::context(2);
    Array<double> data(400, 2);
    std::mt19937_64 engine(3);
    std::normal_distribution<double> normal;
    for (double& v : data) v = normal(engine);
    const auto swimmer = drift_process(SwimmerDrift{}, {0, 0.45});
    for (const auto kind : {BasisKind::polynomial, BasisKind::cosine})
        for (const auto reference : {ReferenceScore::none, ReferenceScore::gaussian, ReferenceScore::drift}) {
            NonlinearFitOptions options{
                .basis = kind, .order = 3, .reference = reference, .t_end = 2, .nodes = 3};
            const NonlinearModel model = fit_nonlinear(context, swimmer, data, options);
            write_nonlinear_model(path("m.dynkin"), model);
            const NonlinearModel again = read_nonlinear_model(path("m.dynkin"));
            EXPECT_EQ(again.configuration, model.configuration);
            Array<double> score(400, 1), same(400, 1),
                rows = draw_prior(model, StartLaw::automatic, 1, 0, 50),
                other = draw_prior(again, StartLaw::automatic, 1, 0, 50);
            nonlinear_score(context, model, 0.7, 400, data.data(), score.data());
            nonlinear_score(context, again, 0.7, 400, data.data(), same.data());
            EXPECT_TRUE(cases::same_bytes(score, same));
            reverse(context, model, rows, 1), reverse(context, again, other, 1);
            EXPECT_TRUE(cases::same_bytes(rows, other));
            for (const double v : rows) EXPECT_TRUE(std::isfinite(v));
        }
}

TEST_F(NonlinearModelFile, DamageIsRefused) {
    NonlinearFitOptions options{.order = 2, .t_end = 2, .nodes = 3};
    write_nonlinear_model(path("m"), fit_nonlinear(cases::context(), well(), two_peaks(200, 1), options));
    const TensorFile good = read_tensor_file(path("m"), "dynkin-nonlinear");
    const auto expect_refused = [&](const std::string& part, const auto& change) {
        TensorFile bad = good;
        change(bad);
        write_tensor_file(path("bad"), bad);
        cases::expect_error(
            ErrorKind::input, [&] { read_nonlinear_model(path("bad")); }, part);
    };
    expect_refused("coefficients", [](TensorFile& f) { f.tensors.erase("coefficients"); });
    expect_refused("not finite", [](TensorFile& f) { f.tensors["coefficients"].f64[0] = NAN; });
    expect_refused("ascend", [](TensorFile& f) { f.tensors["node_time"].f64[1] = 0; });
    expect_refused("'scale' is not positive", [](TensorFile& f) { f.tensors["scale"].f64[0] = 0; });
    expect_refused("expected 1 to 32", [](TensorFile& f) { f.tensors["shape"].i64[1] = 1000; });
    expect_refused("drift.kind", [](TensorFile& f) { f.metadata["drift"] = "{\"kind\": \"other\"}"; });
    expect_refused("not a JSON object", [](TensorFile& f) { f.metadata["drift"] = "]"; });
    const auto callable = drift_of(1, [](const auto* x, auto* f) { f[0] = -x[0]; });
    NonlinearModel model =
        fit_nonlinear(cases::context(), drift_process(callable, {1.0}), two_peaks(200, 1), options);
    cases::expect_error(
        ErrorKind::usage, [&] { write_nonlinear_model(path("x"), model); }, "callable");
}

TEST(NonlinearModel, BadInputIsRefused) {
    const Context context = cases::context();
    Array<double> data = two_peaks(200, 1);
    cases::expect_error(
        ErrorKind::input, [&] { fit_nonlinear(context, well(), two_peaks(20, 1)); }, "at least 100 rows");
    cases::expect_error(
        ErrorKind::input, [&] { fit_nonlinear(context, well(), Array<double>(200, 2)); },
        "rows of 1 numbers");
    cases::expect_error(
        ErrorKind::usage, [&] { fit_nonlinear(context, well(), data, {.t_min = 2, .t_end = 1}); },
        "not before");
    cases::expect_error(
        ErrorKind::usage, [&] { fit_nonlinear(context, well(), data, {.intrinsic_gap = 1, .real_gap = 1}); },
        "got both");
    const NonlinearModel model = fit_nonlinear(context, well(), data, {.order = 2, .t_end = 1, .nodes = 3});
    Array<double> rows(3, 1);
    cases::expect_error(
        ErrorKind::usage, [&] { reverse(context, model, rows, 1, 0, 2); }, "a time in");
    double x = 0;
    cases::expect_error(
        ErrorKind::usage, [&] { nonlinear_score(context, model, 1e-9, 1, &x, &x); }, "a time in");
    rows[1] = NAN;
    cases::expect_error(
        ErrorKind::numerical, [&] { reverse(context, model, rows, 1); }, "start 1 is not finite");
    data[5] = INFINITY;
    cases::expect_error(
        ErrorKind::input, [&] { fit_nonlinear(context, well(), data); }, "row 5");
}

} // namespace
} // namespace dynkin

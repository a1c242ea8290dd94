// test_drift.cpp - drifts: values by hand, derivatives by dual numbers against difference quotients, files.
#include "cases.h"
#include "engine/drift.h"
#include "engine/drift_view.h"
#include "tolerance.h"
#include <nlohmann/json.hpp>
#include <numbers>

namespace dynkin {
namespace {

MixtureDrift four_modes() {
    MixtureDrift law{{.4, .2, .2, .2}, Array<double>(4, 2), {.6, .6, .5, .7}};
    const double corners[] = {1, 1, -1, 1, -1, -1, 1, -1};
    for (int k = 0; k < 8; ++k) law.means[static_cast<size_t>(k)] = 1.2 * corners[k];
    return law;
}
PolynomialDrift circling() {
    return {{{{-1, {3, 0}}, {1, {0, 1}}, {0.5, {0, 0}}}, {{-0.1, {0, 1}}, {0.25, {2, 3}}}}};
}
/// f = (sin x - exp(-y)/(1 + x^2), tanh(x y) + sqrt(1 + y^2)).
struct Composite {
    template <class T> void operator()(const T* x, T* f) const {
        using std::exp, std::sin, std::sqrt, std::tanh;
        f[0] = sin(x[0]) - exp(-x[1]) / (T(1.0) + x[0] * x[0]);
        f[1] = tanh(x[0] * x[1]) + sqrt(T(1.0) + x[1] * x[1]);
    }
};
std::vector<DriftProcess> processes() {
    return {drift_process(DoubleWellDrift{2, 1.3, 0.2}, {1.0}),
            drift_process(four_modes(), {std::numbers::sqrt2}),
            drift_process(LogisticDrift{2, 0.7}, {1.0, 0.5}),
            drift_process(SwimmerDrift{0.1}, {0, 0.4}),
            drift_process(circling(), {0.3, 0.4}),
            drift_process(drift_of(2, Composite{}), {1.0, 2.0})};
}

/// Smooth drifts with derivatives up to 30: central differences with step 1e-4 err by 1e-8 h^2 f''' and
/// eps/h.
constexpr double difference_step = 1e-4, difference_tolerance = 1e-5;

TEST(Drift, ValuesByHand) {
    double f[2];
    const double x[] = {0.5, -0.25};
    const auto at = [&](const DriftVariant& law) {
        drift_values(drift_process(law, {1.0}), 1, x, f);
        return std::pair(f[0], f[1]);
    };
    EXPECT_EQ(at(DoubleWellDrift{2, 1, 0.5}), std::pair(1.0, -1.4375));
    EXPECT_EQ(at(SwimmerDrift{0.5}), std::pair(-0.375, 0.125));
    EXPECT_EQ(at(circling()), std::pair(0.125, 0.025 + 0.25 * 0.25 * -0.015625));
    const auto [p, q] = at(LogisticDrift{2, 0.5});
    EXPECT_NEAR(p, -std::tanh(0.5) / 0.5, tolerance::few_operations(1));
    EXPECT_NEAR(q, std::tanh(0.25) / 0.5, tolerance::few_operations(1));
    MixtureDrift one{{3}, Array<double>(1, 2), {2}};
    one.means(0, 0) = 1;
    EXPECT_EQ(at(one), std::pair(0.125, 0.0625));
}

TEST(Drift, MixtureIsTheGradientOfItsLogDensity) {
    const MixtureDrift law = four_modes();
    const auto process = drift_process(law, {1.0});
    const auto log_density = [&](double x, double y) {
        double sum = 0;
        for (size_t k = 0; k < 4; ++k) {
            const double u = x - law.means(k, 0), v = y - law.means(k, 1), s = law.sd[k];
            sum += law.weights[k] * std::exp(-(u * u + v * v) / (2 * s * s)) / (s * s);
        }
        return std::log(sum);
    };
    const double h = difference_step;
    for (const auto& [x, y] : {std::pair(0.1, 0.2), {-1.5, 0.7}, {3.0, -2.0}}) {
        double f[2];
        const double at[] = {x, y};
        drift_values(process, 1, at, f);
        EXPECT_NEAR(f[0], (log_density(x + h, y) - log_density(x - h, y)) / (2 * h), difference_tolerance);
        EXPECT_NEAR(f[1], (log_density(x, y + h) - log_density(x, y - h)) / (2 * h), difference_tolerance);
    }
}

TEST(Drift, JacobiansAndItoTermsAreDifferenceQuotients) {
    for (const DriftProcess& process : processes()) {
        const DriftTable table(process);
        const double h = difference_step, x[] = {0.6, -0.8};
        double jacobian[4], f[2], ito[2], expected_ito[2] = {};
        drift_values(process, 1, x, f, jacobian);
        std::visit([&](const auto& view) { drift_ito(view, process.noise.data(), x, ito); }, table.view());
        for (size_t j = 0; j < 2; ++j) {
            double up[] = {x[0], x[1]}, down[] = {x[0], x[1]}, above[2], below[2];
            up[j] += h, down[j] -= h;
            drift_values(process, 1, up, above);
            drift_values(process, 1, down, below);
            for (size_t i = 0; i < 2; ++i) {
                EXPECT_NEAR(jacobian[i * 2 + j], (above[i] - below[i]) / (2 * h), difference_tolerance)
                    << process.kind;
                const double second = (above[i] - 2 * f[i] + below[i]) / (h * h);
                expected_ito[i] += process.noise[j] * process.noise[j] / 2 * second;
            }
        }
        for (size_t i = 0; i < 2; ++i)
            EXPECT_NEAR(ito[i], expected_ito[i], 1e-4) << process.kind; // rounding: 4 eps f / h^2 times g^2/2
    }
}

TEST(Drift, FilesAreReadAndWrittenAgain) {
    const std::string files[] = {
        "[drift]\nkind = \"double_well\"\ndimension = 3\na = 2\nb = -0.1\nnoise = 0.5\n",
        "[drift]\nkind = \"mixture\"\nweights = [1, 3]\nmeans = [[0, 1.5], [1, -1e-7]]\nsd = 0.6\n",
        "[drift]\nkind = \"logistic\"\nscale = 3\n", "[drift]\nkind = \"swimmer\"\nfriction = 0.1\n",
        "[drift]\nkind = \"polynomial\"\nterms = [[[-1, 3, 0], [1, 0, 1]], []]\nnoise = [0, 0.4]\n"};
    for (const std::string& text : files) {
        const DriftProcess process = parse_drift(text, "d.toml");
        const DriftProcess again = drift_from_json(process.canonical_json, "model");
        EXPECT_EQ(process.canonical_json, again.canonical_json);
        EXPECT_EQ(process.noise, again.noise);
    }
    EXPECT_EQ(parse_drift(files[3], "d").noise, (std::vector<double>{0, std::sqrt(0.2)}));
    EXPECT_EQ(parse_drift(files[1], "d").noise, std::vector<double>(2, std::numbers::sqrt2));
    EXPECT_EQ(parse_drift(files[4], "d").driven(), std::vector<int>{1});
}

TEST(Drift, HostileFilesAreRefusedWithTheirLine) {
    const std::pair<const char*, const char*> cases[] = {
        {"", "expected a table [drift]"},
        {"drift = 3", "t:1: drift: expected a table"},
        {"[drift]\nkind = \"triple_well\"", "t:2: drift.kind: expected one of"},
        {"[drift]\nkind = \"double_well\"\na = nan", "t:3: drift.a: expected a finite number"},
        {"[drift]\nkind = \"double_well\"\ndimension = 17", "expected an integer from 1 to 16"},
        {"[drift]\nkind = \"double_well\"\nc = 1", "unknown key 'c'"},
        {"[drift]\nkind = \"double_well\"\nnoise = 0", "expected noise in at least one"},
        {"[drift]\nkind = \"double_well\"\nnoise = [1, 1]", "expected 1 numbers of noise"},
        {"[drift]\nkind = \"double_well\"\nnoise = -1", "expected numbers >= 0"},
        {"[drift]\nkind = \"logistic\"\nscale = 0", "expected a positive number"},
        {"[drift]\nkind = \"mixture\"\nweights = []", "expected a non-empty array"},
        {"[drift]\nkind = \"mixture\"\nweights = [1, 1]\nmeans = [[0], [1, 2]]\nsd = 1",
         "expected 1 entries"},
        {"[drift]\nkind = \"polynomial\"\nterms = [[[1, 1, 1]]]", "power of each of 1 coordinates"},
        {"[drift]\nkind = \"polynomial\"\nterms = [[[1, 99]]]", "a power from 0 to 32"},
        {"[drift]\nkind = \"polynomial\"\nterms = [[[inf, 1]]]", "a finite coefficient"},
        {"[drift]\nkind = \"polynomial\"\nterms = [3]", "a list of terms"}};
    for (const auto& [text, part] : cases)
        cases::expect_error(
            ErrorKind::input, [&text = text] { parse_drift(text, "t"); }, part);
    cases::expect_error(
        ErrorKind::input, [] { drift_from_json("[1", "model"); }, "not a JSON object");
    const std::string deep = std::string(300'000, '[') + std::string(300'000, ']');
    cases::expect_error(
        ErrorKind::input, [&] { drift_from_json("{\"kind\": " + deep + "}", "model"); }, "not a JSON object");
}

TEST(Drift, WhatIsNotFiniteIsNamed) {
    const auto process = drift_process(PolynomialDrift{{{{1, {32}}}}}, {1.0});
    const double x[] = {1, 1e200};
    double f[2];
    cases::expect_error(
        ErrorKind::numerical, [&] { drift_values(process, 2, x, f); }, "at row 1, (1e+200)");
    cases::expect_error(ErrorKind::usage, [] { drift_process(CallableDrift{2, {}, {}, {}}, {1.0}); });
    cases::expect_error(ErrorKind::usage, [] { drift_process(DoubleWellDrift{17, 1, 0}, {1.0}); });
}

TEST(Drift, PolynomialFormsAreTheSameDrift) {
    for (const DriftProcess& process : processes()) {
        const auto form = polynomial_form(process);
        if (!form) continue;
        const auto same = drift_process(*form, process.noise);
        const double x[] = {0.7, -1.1};
        double f[2], g[2];
        drift_values(process, 1, x, f);
        drift_values(same, 1, x, g);
        for (int i = 0; i < 2; ++i) EXPECT_NEAR(f[i], g[i], tolerance::few_operations(10)) << process.kind;
    }
}

} // namespace
} // namespace dynkin

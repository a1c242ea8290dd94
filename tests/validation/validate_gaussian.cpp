// validate_gaussian.cpp - an autoregressive Gaussian, for which the Ornstein-Uhlenbeck
// reference with degree 2 is exact: the model is N(sample mean, sample covariance) and all that is left is
// the step error of Heun's method.
#include "models.h"
#include <numbers>

namespace dynkin::validation {
namespace {

/// Correlations 0.7^|i - j|, scaled by 1.5 and shifted by 0.8.
Target autoregressive(std::size_t d) {
    Array<double> covariance(d, d);
    for (std::size_t i = 0; i < d; ++i)
        for (std::size_t j = 0; j < d; ++j)
            covariance(i, j) =
                1.5 * 1.5 * std::pow(0.7, std::abs(static_cast<double>(i) - static_cast<double>(j)));
    Target target;
    target.kind = "gaussian";
    target.law = gaussian(std::vector<double>(d, 0.8), std::move(covariance));
    return target;
}

/// N(mean, covariance) of the rows.
Target moment_matched(const Array<double>& x) {
    const std::size_t n = x.rows(), d = x.cols();
    std::vector<double> mean(d);
    Array<double> covariance(d, d);
    for (std::size_t k = 0; k < n; ++k)
        for (std::size_t i = 0; i < d; ++i) mean[i] += x(k, i) / static_cast<double>(n);
    for (std::size_t k = 0; k < n; ++k)
        for (std::size_t i = 0; i < d; ++i)
            for (std::size_t j = 0; j < d; ++j)
                covariance(i, j) += (x(k, i) - mean[i]) * (x(k, j) - mean[j]) / static_cast<double>(n);
    Target target;
    target.kind = "gaussian";
    target.law = gaussian(std::move(mean), std::move(covariance));
    return target;
}

/// Rms over samples of log q - log N(x).
double log_density_error(const Context& context, const Target& law, const Generated& samples) {
    const std::size_t n = samples.x.rows(), d = samples.x.cols();
    const auto& cholesky = std::get<GaussianTarget>(law.law).cholesky;
    double log_normaliser = 0.5 * static_cast<double>(d) * std::log(2 * std::numbers::pi), square = 0;
    for (std::size_t i = 0; i < d; ++i) log_normaliser += std::log(cholesky(i, i));
    std::vector<double> u(n);
    energy(context, law, n, samples.x.data(), u.data());
    for (std::size_t k = 0; k < n; ++k)
        square += std::pow(samples.log_density[k] + u[k] + log_normaliser, 2) / static_cast<double>(n);
    return std::sqrt(square);
}

TEST(ValidateGaussian, HeunIsOfSecondOrderTowardsTheExactDensity) {
    constexpr std::size_t d = 16, rows = 30'000, generated = 4'000;
    const Context context;
    const Folder folder;
    const Ledger ledger{"row 4, AR(1) d = 16", 1};
    const Target target = autoregressive(d);
    const Array<double> x = direct(context, target, rows, ledger.seed);
    write_npy(folder / "train.npy", x);
    const Target exact = moment_matched(x);

    FitOptions options;
    options.process = OuProcess{}, options.degree = 2, options.pairs = parse_pair_rules("all:1");
    options.symmetry = Symmetry::none, options.ridge = 0, options.t_min = 0;
    const Model model = fit(context, SampleFile(folder / "train.npy"), options);

    std::vector<double> errors;
    const std::pair<int, double> bars[] = {{32, 0.02}, {64, 0.005}, {128, 0.0012}};
    for (const auto& [steps, bar] : bars) {
        const std::string with = std::to_string(steps) + " steps";
        const Generated samples =
            generate(context, model, generated, {.method = Method::ode, .steps = steps, .seed = ledger.seed});
        const Weights weights = weigh(context, target, samples);
        errors.push_back(log_density_error(context, exact, samples));
        ledger.at_most("rms log q error, " + with, errors.back(), bar);
        ledger.at_least("ESS, " + with, weights.ess_fraction, 0.99);
        ledger.at_most("flagged, " + with, static_cast<double>(weights.flagged), 0);
    }
    // Steps uniform in log(1 + t/t0): the error's leading term is h^2, the next h^3, and log2 of the ratio of
    // two errors tends to 2.
    for (std::size_t k = 0; k < 2; ++k) {
        const std::string between = bars[k].first == 32 ? "32 to 64 steps" : "64 to 128 steps";
        ledger.at_least("order, " + between, std::log2(errors[k] / errors[k + 1]), 1.9);
        ledger.at_most("order, " + between, std::log2(errors[k] / errors[k + 1]), 2.2);
    }
    ledger.reported("training rows", rows);
    ledger.reported("generated rows", generated);
}

} // namespace
} // namespace dynkin::validation

// preconditioning.cpp - EDM's and those of Dynkin's priors and models.
#include "preconditioning.h"
#include <algorithm>
#include <cmath>
#include <memory>

namespace neural_prior {

using dynkin::Array;
using dynkin::Error;
using dynkin::ErrorKind;
using std::size_t;

Preconditioning edm(const Array<float>& train) {
    const size_t d = train.cols();
    std::vector<double> mean(d);
    double variance = 0;
    for (size_t n = 0; n < train.rows(); ++n)
        for (size_t j = 0; j < d; ++j) mean[j] += train(n, j) / static_cast<double>(train.rows());
    for (size_t n = 0; n < train.rows(); ++n)
        for (size_t j = 0; j < d; ++j)
            variance += std::pow(train(n, j) - mean[j], 2) / static_cast<double>(train.size());
    return {[=](size_t rows, const float* x, const double* sigma, float* out) {
                for (size_t n = 0; n < rows; ++n)
                    for (size_t j = 0; j < d; ++j)
                        out[n * d + j] = static_cast<float>(-sigma[n] * (x[n * d + j] - mean[j]) /
                                                            (sigma[n] * sigma[n] + variance));
            },
            [=](double sigma) { return std::sqrt(variance / (sigma * sigma + variance)); }};
}

namespace {

constexpr float kLargestNoise = 6;

/// sigma s from s, cut.
void normalise(size_t rows, size_t d, const double* sigma, float* score) {
    for (size_t n = 0; n < rows; ++n)
        for (size_t j = 0; j < d; ++j)
            score[n * d + j] =
                std::clamp(static_cast<float>(sigma[n]) * score[n * d + j], -kLargestNoise, kLargestNoise);
}

/// product, gaussian and flat: a score prior.
Base score_prior(const dynkin::Context& context, const dynkin::SampleFile& file,
                 const PriorOptions& options) {
    struct Fitted {
        dynkin::Prior law;
        dynkin::PriorScore<float> score;
        Fitted(const dynkin::Context& context, dynkin::Prior fitted)
            : law(std::move(fitted)), score(context, law) {}
    };
    dynkin::PriorOptions fit;
    fit.kind = dynkin::prior_kind(options.kind);
    if (options.degree) fit.degree = options.degree;
    const auto fitted = std::make_shared<Fitted>(context, dynkin::fit_prior(context, file, fit));
    return [fitted](size_t rows, const float* x, const double* sigma, float* out) {
        const size_t d = fitted->law.dimension();
        const bool one = std::all_of(sigma, sigma + rows, [&](double s) { return s == sigma[0]; });
        fitted->score({rows, x, d, sigma, one ? 1 : rows}, out, d);
        normalise(rows, d, sigma, out);
    };
}

/// ve: a model of the variance exploding process, whose time is that of the noise, sigma^2 = 2 t in units of
/// columns of deviation one. Below its first time the score of that time is taken.
Base exploding(const dynkin::Context& context, const dynkin::SampleFile& file, const PriorOptions& options) {
    dynkin::FitOptions fit;
    fit.process = dynkin::VeProcess{}, fit.degree = options.degree;
    fit.structure = dynkin::Structure::flat, fit.t_min = 1e-4;
    const auto model = std::make_shared<dynkin::Model>(dynkin::fit(context, file, fit));
    return [model, context](size_t rows, const float* x, const double* sigma, float* out) {
        const size_t d = static_cast<size_t>(model->dimension());
        const double first = dynkin::process_time(model->process, model->times().t_min),
                     last = dynkin::process_time(model->process, model->times().t_end);
        const std::vector<double> points(x, x + rows * d);
        std::vector<double> scores(rows * d);
        for (size_t begin = 0, end = 0; begin < rows; begin = end) {
            while (end < rows && sigma[end] == sigma[begin]) ++end;
            dynkin::score(context, *model, std::clamp(0.5 * sigma[begin] * sigma[begin], first, last),
                          end - begin, points.data() + begin * d, scores.data() + begin * d);
        }
        std::transform(scores.begin(), scores.end(), out, [](double s) { return static_cast<float>(s); });
        normalise(rows, d, sigma, out);
    };
}

} // namespace

Base prior(const dynkin::Context& context, const Array<float>& train, const PriorOptions& options) {
    const Folder folder;
    dynkin::write_npy(folder / "train.npy", train);
    const dynkin::SampleFile file(folder / "train.npy");
    return options.kind == "ve" ? exploding(context, file, options) : score_prior(context, file, options);
}

Preconditioning around(const Base& base, const Array<float>& train, double low, double high,
                       std::uint64_t seed) {
    const HeldOut probe = noisy(train, 49, low, high, seed);
    const size_t numbers = probe.rows * train.cols();
    std::vector<float> out(numbers);
    std::vector<double> log_sigma, log_r;
    for (size_t level = 0; level < probe.sigma.size(); ++level) {
        const std::vector<double> sigma(probe.rows, probe.sigma[level]);
        base(probe.rows, probe.x.row(level * probe.rows), sigma.data(), out.data());
        const float* noise = probe.noise.row(level * probe.rows);
        double loss = 0;
        for (size_t k = 0; k < numbers; ++k) loss += std::pow(out[k] + noise[k], 2);
        log_sigma.push_back(std::log(probe.sigma[level]));
        log_r.push_back(0.5 * std::log(std::max(loss / static_cast<double>(numbers), 1e-8)));
    }
    return {base, [=](double sigma) {
                const double step = log_sigma[1] - log_sigma[0], top = static_cast<double>(log_r.size() - 1);
                const double place = std::clamp((std::log(sigma) - log_sigma[0]) / step, 0.0, top);
                const size_t k = std::min(static_cast<size_t>(place), log_r.size() - 2);
                const double part = place - static_cast<double>(k);
                return std::exp((1 - part) * log_r[k] + part * log_r[k + 1]);
            }};
}

} // namespace neural_prior

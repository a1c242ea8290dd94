// stages_prior.cpp - scores of a product prior of degree 6 in float32, at one sigma and at a sigma a row.
#include "engine/prior.h"
#include "stage.h"
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

namespace dynkin::bench {

using std::size_t;

namespace {

constexpr int degree = 6;

/// Uniform laws in windows of several widths; E[phi_r(z)] by midpoints.
Prior uniform_columns(size_t d) {
    constexpr size_t orders = 2 * degree + 1;
    constexpr int points = 20'000;
    ProductPrior law{std::vector<double>(d, 0.1), std::vector<double>(d), Array<double>(orders, d)};
    for (int p = 0; p < points; ++p) {
        const double z = (p + 0.5) * 4 / points - 2;
        double now = 1, before = 0; // sqrt(r + 1) phi_(r + 1) = z phi_r - sqrt(r) phi_(r - 1)
        for (size_t r = 0; r < orders; ++r) {
            law.moments(r, 0) += now / points;
            const double up = (z * now - std::sqrt(static_cast<double>(r)) * before) /
                              std::sqrt(static_cast<double>(r + 1));
            before = now, now = up;
        }
    }
    law.moments(0, 0) = 1;
    for (size_t r = 0; r < orders; ++r) std::fill_n(law.moments.row(r), d, law.moments(r, 0));
    for (size_t j = 0; j < d; ++j) law.scale[j] = 0.4 + 0.02 * static_cast<double>(j % 7);
    return {{.degree = degree}, 1000, {d}, std::move(law)};
}

struct Inputs {
    Prior prior;
    PriorScore<float> score;
    Array<float> x, out;
    std::vector<double> sigma;

    /// Rows of uniform data with noise, at EDM's law of sigma in training: log sigma = -1.2 + 1.2 eps.
    Inputs(const Context& context, size_t rows, size_t d, bool each, std::uint64_t seed)
        : prior(uniform_columns(d)), score(context, prior), x(rows, d), out(rows, d),
          sigma(each ? rows : 1, 0.3) {
        std::mt19937_64 engine(seed);
        std::normal_distribution<double> normal;
        std::uniform_real_distribution<float> data(-0.7f, 0.9f); // within every window
        std::normal_distribution<float> noise;
        Array<float> random(67, d);
        for (float& v : random) v = noise(engine);
        if (each)
            for (double& level : sigma) level = std::exp(-1.2 + 1.2 * normal(engine));
        for (size_t n = 0; n < rows; ++n)
            for (size_t j = 0; j < d; ++j)
                x(n, j) = data(engine) + static_cast<float>(sigma[each ? n : 0]) * random(n % 67, j);
    }
};

} // namespace

std::vector<Stage> prior_stages(Setup& setup) {
    const size_t rows = std::max<size_t>(setup.options.samples / prior_samples_a_row, 64),
                 d = prior_columns_a_site * setup.options.dimension;
    std::vector<Stage> stages;
    for (const bool each : {false, true}) {
        Stage& stage = stages.emplace_back();
        stage.variant = each ? "a sigma a row" : "one sigma", stage.single_precision = true;
        stage.unit = "number", stage.units = static_cast<double>(rows * d);
        // The window, and a polynomial; a sigma a row: four of them and their mean.
        const double polynomial = 2 * (degree - 1), flops = each ? 5 + 4 * polynomial + 7 : 4 + polynomial;
        stage.work = {flops, 8};
        stage.parts[each ? "prior.table" : "prior.scores"] = stage.work;
        const auto inputs = std::make_shared<Inputs>(setup.context, rows, d, each, setup.options.seed);
        stage.run = [inputs, rows, d](size_t) {
            inputs->score({rows, inputs->x.data(), d, inputs->sigma.data(), inputs->sigma.size()},
                          inputs->out.data(), d);
        };
    }
    return stages;
}

} // namespace dynkin::bench

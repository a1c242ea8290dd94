// stages_prior.cpp - scores of each kind of prior in float32, at one sigma and at a sigma a row.
#include "engine/prior.h"
#include "stage.h"
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

namespace dynkin::bench {

using std::size_t;

namespace {

constexpr size_t time_nodes = 41; ///< of the flat prior

/// Uniform laws in windows of several widths; E[phi_r(z)] by midpoints.
Prior product_prior(size_t d, int degree) {
    const size_t orders = static_cast<size_t>(2 * degree + 1);
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

/// A Householder matrix for the vectors.
Prior gaussian_prior(size_t d) {
    GaussianPrior law{std::vector<double>(d, 0.1), std::vector<double>(d), Array<double>(d, d)};
    for (size_t i = 0; i < d; ++i) {
        law.variances[i] = std::pow(static_cast<double>(i + 1) / static_cast<double>(d), 2);
        for (size_t j = 0; j < d; ++j) law.vectors(i, j) = (i == j) - 2 / static_cast<double>(d);
    }
    return {{.kind = PriorKind::gaussian}, 1000, {d}, std::move(law)};
}

/// Small coefficients at every time node.
Prior flat_prior(size_t d, int degree) {
    FlatPrior law;
    law.mean.assign(d, 0.1), law.lower.assign(d, -1), law.upper.assign(d, 1), law.varies.assign(d, 1);
    law.scale = 0.5, law.grid.t_min = 0, law.grid.t_end = 8;
    law.grid.node_time = law.grid.step_times(static_cast<int>(time_nodes) - 1);
    law.single = Array<double>(time_nodes, static_cast<size_t>(degree) * d);
    law.pair = Array<double>(time_nodes, d * (d - 1) / 2);
    std::fill(law.single.begin(), law.single.end(), 0.01);
    std::fill(law.pair.begin(), law.pair.end(), 0.001);
    return {{.kind = PriorKind::flat, .degree = degree}, 1000, {d}, std::move(law)};
}

struct Inputs {
    Prior prior;
    PriorScore<float> score;
    Array<float> x, out;
    std::vector<double> sigma;

    /// Rows of uniform data with noise, at EDM's law of sigma in training: log sigma = -1.2 + 1.2 eps.
    Inputs(const Context& context, Prior from, size_t rows, bool each, std::uint64_t seed)
        : prior(std::move(from)), score(context, prior), x(rows, prior.dimension()), out(x),
          sigma(each ? rows : 1, 0.3) {
        std::mt19937_64 engine(seed);
        std::normal_distribution<double> normal;
        std::uniform_real_distribution<float> data(-0.7f, 0.9f); // within every window
        std::normal_distribution<float> noise;
        const size_t d = prior.dimension();
        Array<float> random(67, d);
        for (float& v : random) v = noise(engine);
        if (each)
            for (double& level : sigma) level = std::exp(-1.2 + 1.2 * normal(engine));
        for (size_t n = 0; n < rows; ++n)
            for (size_t j = 0; j < d; ++j)
                x(n, j) = data(engine) + static_cast<float>(sigma[each ? n : 0]) * random(n % 67, j);
    }
};

/// Of a number. Product: the window, and a polynomial; a sigma a row: four of them and their mean. The
/// others: products of matrices.
double flops_of(PriorKind kind, double d, int degree, bool each) {
    const double polynomial = 2 * (degree - 1);
    switch (kind) {
    case PriorKind::product:
        return each ? 5 + 4 * polynomial + 7 : 4 + polynomial;
    case PriorKind::gaussian:
        return 4 * d;
    case PriorKind::flat:
        return 2 * d * (each ? 4 : 1);
    }
    return 0;
}

} // namespace

std::vector<Stage> prior_stages(Setup& setup) {
    const Options& o = setup.options;
    const size_t rows = std::max<size_t>(o.samples / prior_samples_a_row, 64),
                 columns = prior_columns_a_site * o.dimension;
    const int degree = std::min(o.degree, 10); // the most a prior has
    std::vector<Stage> stages;
    const auto add = [&](PriorKind kind, size_t d, const std::function<Prior()>& prior) {
        for (const bool each : {false, true}) {
            Stage& stage = stages.emplace_back();
            stage.variant = std::string(prior_kind_name(kind)) + (each ? ", a sigma a row" : ", one sigma");
            stage.single_precision = true;
            stage.unit = "number", stage.units = static_cast<double>(rows * d);
            stage.work = {flops_of(kind, static_cast<double>(d), degree, each), 8};
            if (kind == PriorKind::product)
                stage.parts[each ? "prior.table" : "prior.scores"] = stage.work;
            else
                stage.parts["prior.products"] = {stage.work.flops, 0};
            // Made before the first run: some of them are large.
            const auto inputs = std::make_shared<std::unique_ptr<Inputs>>();
            stage.prepare = [=, &context = setup.context, seed = o.seed](size_t) {
                if (!*inputs) *inputs = std::make_unique<Inputs>(context, prior(), rows, each, seed);
            };
            stage.run = [=](size_t) {
                Inputs& in = **inputs;
                in.score({rows, in.x.data(), d, in.sigma.data(), in.sigma.size()}, in.out.data(), d);
            };
        }
    };
    const size_t dense = std::min(columns, prior_most_dense_columns),
                 pairs = std::min<size_t>(2 * o.dimension, 128);
    add(PriorKind::product, columns, [=] { return product_prior(columns, degree); });
    add(PriorKind::gaussian, dense, [=] { return gaussian_prior(dense); });
    add(PriorKind::flat, pairs, [=] { return flat_prior(pairs, degree); });
    return stages;
}

} // namespace dynkin::bench

// problem.cpp - samples, basis, model and level of the benchmarks.
#include "problem.h"
#include "engine/solve.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <numeric>
#include <random>

namespace dynkin::bench {

using std::size_t;

namespace {

Family well() { return fitted_family({0, 0, -0.9, 0, 0.6}, -2.8, 2.8); }

Reference chain_reference(size_t sites) { return {{well()}, std::vector<int>(sites, 0)}; }

IndexSet chain_basis(const Options& options) {
    std::vector<int> places(options.dimension);
    std::iota(places.begin(), places.end(), 0);
    const Lattice lattice{{options.dimension}, Boundary::free};
    const auto rules = parse_pair_rules(fmt::format("nearest:{},all:1", std::min(options.degree, 3)));
    return make_index_set(static_cast<int>(options.dimension), options.degree,
                          select_pairs(places, rules, &lattice, {}), 0, true);
}

/// Monomials u^a v^b with a + 2 b <= 8, those of even a first; u = l + r, v a square.
void set_conditions(Level& level) {
    level.slots = 2, level.predictor = {0.3, 0.3};
    level.descriptors = {{1, {{1, {{0, 1}, {1, 1}}}}}, {2, {{1, {{0, 1}, {1, -1}}}}}};
    level.center = {0, 1}, level.spread = {1.3, 1.7};
    level.lower = {-2.5, -1.2}, level.upper = {2.5, 3};
    constexpr int weight = 8;
    std::vector<int> degree;
    for (int parity = 0; parity < 2; ++parity)
        for (int a = parity; a <= weight; a += 2)
            for (int b = 0; a + 2 * b <= weight; ++b) {
                level.exponents.insert(level.exponents.end(), {a, b});
                degree.push_back(a + 2 * b);
                if (parity == 0) level.even_conditions = static_cast<int>(degree.size());
            }
    const size_t count = degree.size(), evens = static_cast<size_t>(level.even_conditions);
    std::mt19937_64 engine(7);
    std::normal_distribution<double> normal;
    level.transform = Array<double>(count, count);
    for (size_t c = 0; c < count; ++c)
        for (size_t m = c < evens ? 0 : evens; m < (c < evens ? evens : count); ++m)
            level.transform(c, m) = normal(engine) / std::pow(2.5, degree[m]);
}

} // namespace

Array<double> chain_samples(size_t rows, size_t sites, std::uint64_t seed) {
    Array<double> x(rows, sites);
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    for (size_t n = 0; n < rows; ++n) {
        double shared = 0;
        for (size_t j = 0; j < sites; ++j) {
            shared = j ? 0.6 * shared + 0.8 * normal(engine) : normal(engine);
            x(n, j) = std::clamp(std::tanh(1.5 * shared) + 0.3 * normal(engine), -2.6, 2.6);
        }
    }
    return x;
}

Problem::Problem(const Options& options)
    : reference(chain_reference(options.dimension)), basis(chain_basis(options)),
      tables({product_tables(reference.families[0], basis.max_degree())}), plan(basis, reference, tables),
      system(basis, reference, tables, plan) {
    use_sequential_blas();
}

Model flow_model(const Problem& problem) {
    const size_t d = problem.sites();
    Model model;
    model.view.columns = d;
    model.view.kept.resize(d);
    std::iota(model.view.kept.begin(), model.view.kept.end(), 0);
    model.view.constant.assign(d, 0);
    model.standardization = {std::vector<double>(d, 0), std::vector<double>(d, 1)};
    model.sample_shape = {d};
    Block block;
    block.coordinates = model.view.kept;
    block.reference = problem.reference, block.basis = problem.basis;
    block.node_time = block.step_times(16);
    block.coefficients = Array<double>(block.node_time.size(), block.basis.terms.size());
    block.lower.assign(d, -2.6), block.upper.assign(d, 2.6);
    std::mt19937_64 engine(12);
    std::normal_distribution<double> normal;
    const std::vector<double>& lambda = problem.system.eigenvalues();
    for (size_t k = 0; k < lambda.size(); ++k) {
        const double size = 0.01 * normal(engine);
        for (size_t node = 0; node < block.node_time.size(); ++node)
            block.coefficients(node, k) = size * std::exp(-lambda[k] * block.node_time[node]);
    }
    model.blocks.push_back(std::move(block));
    return model;
}

Level conditional_level(const Options& options) {
    Level level;
    level.name = "bench";
    set_conditions(level);
    const int columns = static_cast<int>(options.dimension);
    for (int j = 1; j < columns; j += 2) {
        level.targets.push_back(j);
        level.neighbours.insert(level.neighbours.end(), {j - 1, j + 1 < columns ? j + 1 : -1});
    }
    level.family = well(), level.degree = options.degree, level.scale = 0.8;
    level.node_time = level.step_times(level.steps);
    const size_t p = level.conditions(), n = static_cast<size_t>(level.degree);
    level.coefficients = Array<double>(level.node_time.size(), n * p);
    std::mt19937_64 engine(9);
    std::normal_distribution<double> normal;
    for (size_t k = 0; k < n * p; ++k) {
        const size_t a = k / p + 1;
        if ((a % 2 == 0) != (k % p < static_cast<size_t>(level.even_conditions))) continue;
        const double size = 0.12 * normal(engine) / std::sqrt(static_cast<double>(a * p));
        for (size_t node = 0; node < level.node_time.size(); ++node)
            level.coefficients(node, k) = size * std::exp(-level.family.lambda[a] * level.node_time[node]);
    }
    return level;
}

} // namespace dynkin::bench

#include "level_systems.h"
#include "../kernels/device.h"
#include "error.h"
#include "parallel.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <fmt/format.h>

namespace dynkin {

using std::size_t;

LevelSystems::LevelSystems(const Level& level, const LevelMoments& m)
    : tables(product_tables(level.family, level.degree)), moments(&m) {
    const int p = static_cast<int>(level.conditions());
    for (int a = 1; a <= level.degree; ++a)
        for (int c = 0; c < p; ++c)
            if (level.even_conditions < 0 || (a % 2 == 0) == (c < level.even_conditions))
                terms.push_back({a, c});
    for (const auto& term : terms) lambda.push_back(level.family.lambda[static_cast<size_t>(term.degree)]);
    const size_t nodes = level.node_time.size(), functions = m.single.rows();
    decay = Array<double>(nodes, functions), right = Array<double>(nodes, terms.size());
    for (size_t node = 0; node < nodes; ++node) {
        for (size_t k = 0; k < functions; ++k)
            decay(node, k) = std::exp(-level.family.lambda[k] * level.node_time[node]) / m.count;
        for (size_t k = 0; k < terms.size(); ++k) {
            const auto degree = static_cast<size_t>(terms[k].degree);
            right(node, k) =
                lambda[k] * decay(node, degree) * m.single(degree, static_cast<size_t>(terms[k].condition));
        }
    }
}

namespace {

/// The lower triangle of A, block by block of two degrees.
void fill_matrix(const LevelSystems& systems, const double* decay, Array<double>& a) {
    const std::vector<cuda::LevelTerm>& terms = systems.terms;
    const size_t p = systems.moments->conditions, functions = systems.decay.cols();
    std::vector<size_t> first; // of each degree, and the end
    for (size_t k = 0; k < terms.size(); ++k)
        while (first.size() < static_cast<size_t>(terms[k].degree)) first.push_back(k);
    while (!terms.empty() && first.size() <= static_cast<size_t>(terms.back().degree))
        first.push_back(terms.size());
    std::vector<double> block(p * p);
    for (size_t i = 1; i < first.size(); ++i)
        for (size_t j = 1; j <= i; ++j) {
            std::fill(block.begin(), block.end(), 0.0);
            for (size_t k = 0; k < functions; ++k) {
                const double g = systems.gradient(i, j, k) * decay[k];
                if (g != 0)
                    cblas_daxpy(static_cast<int>(p * p), g, systems.moments->triple.row(k), 1, block.data(),
                                1);
            }
            for (size_t x = first[i - 1]; x < first[i]; ++x)
                for (size_t y = first[j - 1]; y < first[j] && y <= x; ++y)
                    a(x, y) = block[static_cast<size_t>(terms[x].condition) * p +
                                    static_cast<size_t>(terms[y].condition)];
        }
}

std::vector<SolveStatus> solve_on_cpu(const Context& context, const LevelSystems& systems, double ridge,
                                      Array<double>& coefficients) {
    const size_t nodes = systems.right.rows(), size = systems.terms.size();
    std::vector<SolveStatus> status(nodes);
    parallel_for(context.threads(), nodes, [&](size_t node, size_t) {
        Array<double> a(size, size);
        std::vector<double> c;
        fill_matrix(systems, systems.decay.row(node), a);
        status[node] = solve_score_system(a, {systems.right.row(node), size}, systems.lambda, ridge, c);
        if (status[node].solved) std::copy(c.begin(), c.end(), coefficients.row(node));
    });
    return status;
}

std::vector<SolveStatus> solve_systems(const Context& context, const LevelSystems& systems, double ridge,
                                       Array<double>& coefficients) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return solve_level_on_device(context, systems, ridge, coefficients);
    return solve_on_cpu(context, systems, ridge, coefficients);
}

} // namespace

void solve_level(const Context& context, const LevelMoments& moments, double ridge, Level& level,
                 LevelReport& report) {
    const LevelSystems systems(level, moments);
    const size_t nodes = level.node_time.size(), size = systems.terms.size(), p = level.conditions();
    Array<double> c(nodes, size);
    const std::vector<SolveStatus> status = solve_systems(context, systems, ridge, c);
    level.coefficients = Array<double>(nodes, static_cast<size_t>(level.degree) * p);
    report.basis_size = size, report.ridge = ridge, report.ridges_raised = 0, report.condition = 0;
    for (size_t node = 0; node < nodes; ++node) {
        if (!status[node].solved)
            throw Error(
                ErrorKind::numerical,
                fmt::format("fit: level {}: the system at t = {:g} has no solution even with ridge {:g}",
                            level.name, level.node_time[node], status[node].ridge));
        for (size_t k = 0; k < size; ++k)
            level.coefficients(node, static_cast<size_t>(systems.terms[k].degree - 1) * p +
                                         static_cast<size_t>(systems.terms[k].condition)) = c(node, k);
        report.ridges_raised += status[node].raised > 0;
        report.condition = std::max(report.condition, status[node].condition);
    }
}

} // namespace dynkin

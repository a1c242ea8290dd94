#include "model.h"
#include "error.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>
#include <lapacke.h>

namespace dynkin {

using std::size_t;

double TimeGrid::tau(double t) const { return std::log1p((t - t_min) / t0); }
double TimeGrid::time(double tau) const { return t_min + t0 * std::expm1(tau); }

std::vector<double> TimeGrid::step_times(int steps) const {
    require(steps >= 1, ErrorKind::usage, fmt::format("steps: expected at least 1, got {}", steps));
    std::vector<double> t(static_cast<size_t>(steps + 1));
    for (int k = 0; k <= steps; ++k) t[static_cast<size_t>(k)] = time(tau(t_end) * k / steps);
    t.front() = t_min, t.back() = t_end;
    return t;
}

const TimeGrid& Model::times() const {
    require(levels.empty(), ErrorKind::usage,
            "expected a flat model, got one of levels, which diffuse one after another");
    if (waves) return *waves;
    if (linear) return *linear;
    return blocks.front();
}

double process_time(const Process& process, double block_time) {
    return std::holds_alternative<VeProcess>(process) ? 0.5 * std::expm1(2 * block_time) : block_time;
}
double block_time(const Process& process, double process_time) {
    return std::holds_alternative<VeProcess>(process) ? 0.5 * std::log1p(2 * process_time) : process_time;
}

namespace {

/// Second derivatives at the nodes as a matrix: m = result y for values y, spacing 1, not-a-knot.
Array<double> spline_curvature(size_t n) {
    Array<double> a(n, n), rhs(n, n);
    for (size_t k = 1; k + 1 < n; ++k) {
        a(k, k - 1) = 1, a(k, k) = 4, a(k, k + 1) = 1;
        rhs(k, k - 1) = 6, rhs(k, k) = -12, rhs(k, k + 1) = 6;
    }
    // Not-a-knot: the third derivative is continuous at the second and the last but one node.
    a(0, 0) = 1, a(0, 1) = -2, a(0, 2) = 1;
    a(n - 1, n - 1) = 1, a(n - 1, n - 2) = -2, a(n - 1, n - 3) = 1;
    std::vector<int> pivot(n);
    const int size = static_cast<int>(n);
    if (LAPACKE_dgesv(LAPACK_ROW_MAJOR, size, size, a.data(), size, pivot.data(), rhs.data(), size) != 0)
        throw Error(ErrorKind::numerical, "model: spline through the time nodes is singular");
    return rhs;
}

} // namespace

std::vector<double> spline_weights(const TimeGrid& grid, double t) {
    const size_t n = grid.node_time.size();
    const double last = static_cast<double>(n - 1), width = grid.tau(grid.node_time.back()) / last;
    const double position = grid.tau(t) / width;
    require(position > -1e-9 && position < last + 1e-9, ErrorKind::usage,
            fmt::format("time {} is outside the model's range [{}, {}]", t, grid.t_min, grid.t_end));
    std::vector<double> w(n, 0);
    const size_t left = static_cast<size_t>(std::clamp(std::floor(position), 0.0, last - 1));
    const double f = position - static_cast<double>(left);
    if (std::abs(f) < 1e-9 || std::abs(f - 1) < 1e-9 || n < 4) {
        if (n < 4 && f > 1e-9 && f < 1 - 1e-9)
            w[left] = 1 - f, w[left + 1] = f;
        else
            w[left + (f > 0.5 ? 1 : 0)] = 1;
        return w;
    }
    const Array<double> curvature = spline_curvature(n);
    const double p = 1 - f, cp = (p * p * p - p) / 6, cf = (f * f * f - f) / 6;
    for (size_t k = 0; k < n; ++k) w[k] = cp * curvature(left, k) + cf * curvature(left + 1, k);
    w[left] += p, w[left + 1] += f;
    return w;
}

std::vector<double> coefficients_at(const TimeGrid& grid, const Array<double>& coefficients, double t) {
    const std::vector<double> w = spline_weights(grid, t);
    std::vector<double> c(coefficients.cols(), 0);
    for (size_t n = 0; n < w.size(); ++n)
        if (w[n] != 0)
            for (size_t k = 0; k < c.size(); ++k) c[k] += w[n] * coefficients(n, k);
    return c;
}

} // namespace dynkin

#include "time_spline.h"
#include "error.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>
#include <lapacke.h>

namespace dynkin {

using std::size_t;

namespace {

/// Second derivatives at the nodes as a matrix: m = result y for values y, spacing 1, not-a-knot.
Array<double> spline_curvature(size_t n) {
    Array<double> a(n, n), rhs(n, n);
    if (n < 4) return rhs;
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

TimeSpline::TimeSpline(const TimeGrid& grid)
    : grid_(grid), width_(grid.tau(grid.node_time.back()) / static_cast<double>(grid.node_time.size() - 1)),
      curvature_(spline_curvature(grid.node_time.size())) {}

TimeSpline::Place TimeSpline::at(double t) const {
    const size_t n = curvature_.rows();
    const double last = static_cast<double>(n - 1), position = grid_.tau(t) / width_;
    require(position > -1e-9 && position < last + 1e-9, ErrorKind::usage,
            fmt::format("time {} is outside the model's range [{}, {}]", t, grid_.t_min, grid_.t_end));
    Place place;
    place.left = static_cast<size_t>(std::clamp(std::floor(position), 0.0, last - 1));
    const double f = position - static_cast<double>(place.left), p = 1 - f;
    if (std::abs(f) < 1e-9 || std::abs(p) < 1e-9) {
        place.value[f > 0.5] = 1;
        return place;
    }
    place.value[0] = p, place.value[1] = f;
    if (n >= 4) place.curvature[0] = (p * p * p - p) / 6, place.curvature[1] = (f * f * f - f) / 6;
    return place;
}

std::vector<double> TimeSpline::weights(double t) const {
    const Place place = at(t);
    std::vector<double> w(curvature_.rows(), 0);
    const double *const left = curvature_.row(place.left), *const right = curvature_.row(place.left + 1);
    if (place.curvature[0] != 0 || place.curvature[1] != 0)
        for (size_t n = 0; n < w.size(); ++n)
            w[n] = place.curvature[0] * left[n] + place.curvature[1] * right[n];
    for (size_t k = 0; k < 2; ++k) w[place.left + k] += place.value[k];
    return w;
}

} // namespace dynkin

#include "model.h"
#include "error.h"
#include "time_spline.h"
#include <cmath>
#include <fmt/core.h>

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

std::vector<double> spline_weights(const TimeGrid& grid, double t) { return TimeSpline(grid).weights(t); }

std::vector<double> coefficients_at(const TimeGrid& grid, const Array<double>& coefficients, double t) {
    const std::vector<double> w = spline_weights(grid, t);
    std::vector<double> c(coefficients.cols(), 0);
    for (size_t n = 0; n < w.size(); ++n)
        if (w[n] != 0)
            for (size_t k = 0; k < c.size(); ++k) c[k] += w[n] * coefficients(n, k);
    return c;
}

} // namespace dynkin

#include "simulate.h"
#include "drift_view.h"
#include "error.h"
#include "kernels/local_law.h"
#include "nonlinear_device.h"
#include "parallel.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <numeric>

namespace dynkin {
namespace {

using std::size_t;
constexpr size_t tile = 256;
constexpr int max_d = max_drift_dimension;
constexpr double host_steps = 1 << 22, device_steps = 1 << 30; ///< of all paths between two interruptions

std::string point(const double* x, size_t d) { return fmt::format("({:g})", fmt::join(x, x + d, ", ")); }

bool finite(const double* x, size_t d) {
    return std::all_of(x, x + d, [](double v) { return std::isfinite(v); });
}

} // namespace

void throw_lost_path(size_t path, size_t d, const double* before, const double* after, double time,
                     double h) {
    throw Error(ErrorKind::numerical,
                fmt::format("simulate: the drift takes path {} from {} at time {:g} to {}, step {:g}: try a "
                            "smaller step",
                            path, point(before, d), time, point(after, d), h));
}

std::string drift_notice(const Context& context, const DriftProcess& process) {
    if (context.device() != Device::cuda || runs_on_device(context, process)) return "";
    return "a drift that is a callable is code of the host: its process runs on the CPU";
}

bool runs_on_device(const Context& context, const DriftProcess& process) {
    return context.device() == Device::cuda && !std::holds_alternative<CallableDrift>(process.drift);
}

namespace {

/// The rows that the step is chosen by: the first ones, and those with the largest drift.
std::vector<size_t> pilot_rows(const DriftProcess& process, const Array<double>& start) {
    const size_t n = start.rows(), d = start.cols(), few = std::min<size_t>(n, 192);
    std::vector<size_t> rows(few), rest(n - few);
    std::iota(rows.begin(), rows.end(), 0);
    std::iota(rest.begin(), rest.end(), few);
    Array<double> f(n, d);
    drift_values(process, n, start.data(), f.data());
    const auto size = [&](size_t row) {
        return std::inner_product(f.row(row), f.row(row) + d, f.row(row), 0.0);
    };
    const size_t more = std::min<size_t>(rest.size(), 64);
    std::partial_sort(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(more), rest.end(),
                      [&](size_t a, size_t b) {
                          const double left = size(a), right = size(b);
                          return left != right ? left > right : a < b;
                      });
    rows.insert(rows.end(), rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(more));
    return rows;
}

/// Pilot paths, on the CPU or the device, with the same bits.
struct Pilot {
    const Context& context;
    const DriftProcess& process;
    Array<double> start;
    std::vector<size_t> rows; ///< which paths they are
    double horizon;
    SimulateOptions options;

    /// Mean square over rows and coordinates of the difference of paths in n and in 2n steps, and of the
    /// deviation of the latter from their mean; NaN when a path is not finite.
    std::pair<double, double> difference(int n) const {
        const size_t d = start.cols();
        Array<double> coarse(rows.size(), d), fine(rows.size(), d);
        run(n, coarse, fine);
        if (!finite(coarse.data(), coarse.size()) || !finite(fine.data(), fine.size())) return {NAN, 1};
        double error = 0;
        std::vector<double> sum(d), square(d);
        for (size_t row = 0; row < rows.size(); ++row)
            for (size_t i = 0; i < d; ++i) {
                const double x = fine(row, i), difference = coarse(row, i) - x;
                error += difference * difference;
                sum[i] += x, square[i] += x * x;
            }
        const double count = static_cast<double>(rows.size());
        double variance = 0;
        for (size_t i = 0; i < d; ++i) variance += square[i] / count - sum[i] * sum[i] / (count * count);
        for (size_t i = 0; i < d; ++i) variance += 0.01 * process.noise[i] * process.noise[i] * horizon;
        return {error / count, variance};
    }

  private:
    void run(int n, Array<double>& coarse, Array<double>& fine) const {
        const double h = horizon / n;
        if constexpr (built_with_cuda)
            if (runs_on_device(context, process))
                return pilot_paths_on_device(context, process, options, h, n, rows, start, coarse, fine);
        const DriftTable table(process);
        std::visit(
            [&](const auto& view) {
                for (size_t row = 0; row < rows.size(); ++row)
                    pilot_path(view, options.scheme, process.noise.data(), h, n, options.seed, rows[row],
                               start.row(row), coarse.row(row), fine.row(row));
            },
            table.view());
    }
};

/// Halved until the pilot paths do not care.
double choose_step(const Context& context, const DriftProcess& process, const Array<double>& start,
                   double horizon, const SimulateOptions& options) {
    const double length = std::min(horizon, 1.0);
    const std::vector<size_t> rows = pilot_rows(process, start);
    Array<double> part(rows.size(), start.cols());
    for (size_t k = 0; k < rows.size(); ++k) std::copy_n(start.row(rows[k]), start.cols(), part.row(k));
    const Pilot pilot{context, process, std::move(part), rows, length, options};
    for (int n = 4; n <= 1 << 16; n *= 2) {
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
        const auto [error, variance] = pilot.difference(n);
        if (error <= options.tolerance * options.tolerance * variance) return length / (2 * n);
    }
    throw Error(ErrorKind::numerical,
                fmt::format("simulate: paths still change when {} steps in a time of {:g} are halved: the "
                            "drift is too steep where the data are",
                            1 << 16, length));
}

} // namespace

/// The process of some paths and its view.
struct Paths::Law {
    explicit Law(const DriftProcess& p) : process(p), table(process) {}
    const DriftProcess process;
    const DriftTable table;
};

Paths::Paths(const Context& context, const DriftProcess& process, Array<double> start, double horizon,
             const SimulateOptions& options)
    : context_(context), law_(std::make_shared<const Law>(process)), options_(options) {
    const size_t d = process.dimension();
    state_.states = std::move(start);
    const Array<double>& states = state_.states;
    require(states.cols() == d, ErrorKind::usage,
            fmt::format("simulate: expected starts of {} numbers, got {}", d, states.cols()));
    require(states.rows() >= 1, ErrorKind::usage, "simulate: expected at least one start");
    require(std::isfinite(horizon) && horizon > 0, ErrorKind::usage,
            fmt::format("simulate: expected a positive horizon, got {}", horizon));
    require(options.step >= 0 && std::isfinite(options.step), ErrorKind::usage,
            fmt::format("simulate: expected a step >= 0, got {}", options.step));
    require(options.tolerance > 0, ErrorKind::usage, "simulate: expected a positive tolerance");
    for (size_t n = 0; n < states.rows(); ++n)
        require(finite(states.row(n), d), ErrorKind::input,
                fmt::format("simulate: start {} is not finite: {}", n, point(states.row(n), d)));
    state_.step =
        options.step > 0 ? options.step : choose_step(context, law_->process, states, horizon, options);
}

Paths::Paths(const Context& context, const DriftProcess& process, PathsState state,
             const SimulateOptions& options)
    : context_(context), law_(std::make_shared<const Law>(process)), options_(options),
      state_(std::move(state)) {
    require(state_.states.rows() >= 1 && state_.states.cols() == process.dimension() && state_.step > 0 &&
                (state_.left == 0 || state_.h > 0),
            ErrorKind::input, "simulate: the state to go on from does not fit the process");
}

Paths::~Paths() = default;
Paths::Paths(Paths&&) noexcept = default;

Paths Paths::copy() const {
    Paths out(context_, options_);
    out.law_ = law_, out.state_ = state_;
    return out;
}

void Paths::advance(double t, const std::function<void()>& between) {
    PathsState& s = state_;
    require(std::isfinite(t) && t >= s.time && (s.left == 0 || t >= s.target), ErrorKind::usage,
            fmt::format("simulate: expected a time of at least {}, got {}", s.left ? s.target : s.time, t));
    const double paths = static_cast<double>(s.states.rows());
    const auto together = static_cast<std::uint32_t>(
        std::clamp((runs_on_device(context_, law_->process) ? device_steps : host_steps) / paths, 1.0, 1e9));
    while (s.left > 0 || s.time < t) {
        if (s.left == 0) begin(t);
        take(std::min(s.left, together));
        if (s.left == 0) s.time = s.target;
        if (between) between();
        if (const int signal = context_.interrupt_signal()) throw Interrupted(signal);
    }
}

/// Equal steps to t.
void Paths::begin(double t) {
    PathsState& s = state_;
    const double gap = t - s.time, wanted = std::ceil(gap / s.step * (1 - 1e-12));
    require(wanted + s.steps < 4e9, ErrorKind::usage,
            fmt::format("simulate: {:g} steps are too many, the step is {:g}", wanted, s.step));
    s.left = static_cast<std::uint32_t>(std::max(wanted, 1.0));
    s.target = t, s.h = gap / s.left;
}

/// `count` of the steps that are left.
void Paths::take(std::uint32_t count) {
    PathsState& s = state_;
    const PathSteps leap{options_.scheme, options_.seed, s.steps, count, s.h};
    const double start = s.target - s.left * s.h;
    const auto run = [&](const auto& view) {
        const size_t rows = s.states.rows(), d = s.states.cols();
        parallel_for(context_.threads(), (rows + tile - 1) / tile, [&](size_t job, size_t) {
            double xi[max_d] = {};
            for (size_t n = job * tile; n < std::min(rows, (job + 1) * tile); ++n) {
                double* x = s.states.row(n);
                for (std::uint32_t k = 0; k < count; ++k) {
                    path_normals(options_.seed, Stream::forward_noise, n, s.steps + k, 0, view.dimension, xi);
                    double before[max_d];
                    std::copy_n(x, d, before);
                    one_step(view, options_.scheme, law_->process.noise.data(), s.h, std::sqrt(s.h), xi, x);
                    if (!finite(x, d)) throw_lost_path(n, d, before, x, start + k * s.h, s.h);
                }
            }
        });
    };
    bool done = false;
    if constexpr (built_with_cuda)
        if ((done = runs_on_device(context_, law_->process)))
            advance_paths_on_device(context_, law_->process, leap, start, s.states);
    if (!done) std::visit(run, law_->table.view());
    s.steps += count, s.left -= count;
}

LocalGaussian local_gaussian(const DriftProcess& process, const double* y, double gap, Linearisation kind) {
    require(gap >= 0 && std::isfinite(gap), ErrorKind::usage,
            fmt::format("local law: expected a gap >= 0, got {}", gap));
    const size_t d = process.dimension();
    const DriftTable table(process);
    LocalLaw law;
    std::visit([&](const auto& view) { local_law(view, process.noise.data(), y, gap, kind, law); },
               table.view());
    require(finite(law.mean, d) && finite(law.factor, d * d), ErrorKind::numerical,
            fmt::format("local law: not finite at {}", point(y, d)));
    LocalGaussian out{{law.mean, law.mean + d}, Array<double>(d, d)};
    std::copy_n(law.factor, d * d, out.factor.data());
    return out;
}

} // namespace dynkin

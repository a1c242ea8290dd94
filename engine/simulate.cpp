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
    : context_(context), law_(std::make_shared<const Law>(process)), options_(options),
      states_(std::move(start)) {
    const size_t d = process.dimension();
    require(states_.cols() == d, ErrorKind::usage,
            fmt::format("simulate: expected starts of {} numbers, got {}", d, states_.cols()));
    require(states_.rows() >= 1, ErrorKind::usage, "simulate: expected at least one start");
    require(std::isfinite(horizon) && horizon > 0, ErrorKind::usage,
            fmt::format("simulate: expected a positive horizon, got {}", horizon));
    require(options.step >= 0 && std::isfinite(options.step), ErrorKind::usage,
            fmt::format("simulate: expected a step >= 0, got {}", options.step));
    require(options.tolerance > 0, ErrorKind::usage, "simulate: expected a positive tolerance");
    for (size_t n = 0; n < states_.rows(); ++n)
        require(finite(states_.row(n), d), ErrorKind::input,
                fmt::format("simulate: start {} is not finite: {}", n, point(states_.row(n), d)));
    step_ = options.step > 0 ? options.step : choose_step(context, law_->process, states_, horizon, options);
}

Paths::~Paths() = default;
Paths::Paths(Paths&&) noexcept = default;

Paths Paths::copy() const {
    Paths out(context_, options_);
    out.law_ = law_, out.states_ = states_;
    out.time_ = time_, out.step_ = step_, out.steps_ = steps_;
    return out;
}

void Paths::advance(double t) {
    require(std::isfinite(t) && t >= time_, ErrorKind::usage,
            fmt::format("simulate: expected a time of at least {}, got {}", time_, t));
    const double gap = t - time_;
    if (gap == 0) return;
    const double wanted = std::ceil(gap / step_ * (1 - 1e-12));
    require(wanted + steps_ < 4e9, ErrorKind::usage,
            fmt::format("simulate: {:g} steps are too many, the step is {:g}", wanted, step_));
    const auto steps = static_cast<std::uint32_t>(std::max(wanted, 1.0));
    const PathSteps leap{options_.scheme, options_.seed, steps_, steps, gap / steps};
    if constexpr (built_with_cuda)
        if (runs_on_device(context_, law_->process)) {
            advance_paths_on_device(context_, law_->process, leap, time_, states_);
            steps_ += steps, time_ = t;
            return;
        }
    const double h = leap.h, root = std::sqrt(h);
    const size_t rows = states_.rows(), d = states_.cols();
    const auto run = [&](const auto& view) {
        parallel_for(context_.threads(), (rows + tile - 1) / tile, [&](size_t job, size_t) {
            double xi[max_d] = {};
            for (size_t n = job * tile; n < std::min(rows, (job + 1) * tile); ++n) {
                double* x = states_.row(n);
                for (std::uint32_t k = 0; k < steps; ++k) {
                    path_normals(options_.seed, Stream::forward_noise, n, steps_ + k, 0, view.dimension, xi);
                    double before[max_d];
                    std::copy_n(x, d, before);
                    one_step(view, options_.scheme, law_->process.noise.data(), h, root, xi, x);
                    if (!finite(x, d)) throw_lost_path(n, d, before, x, time_ + k * h, h);
                }
            }
            if (const int signal = context_.interrupt_signal()) throw Interrupted(signal);
        });
    };
    std::visit(run, law_->table.view());
    steps_ += steps, time_ = t;
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

// nonlinear_sample.cpp - scores between the nodes, priors, and the reversed process.
#include "drift_view.h"
#include "error.h"
#include "nonlinear_device.h"
#include "nonlinear_model.h"
#include "parallel.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <fmt/format.h>
#include <numbers>

namespace dynkin {
namespace {

using std::size_t;
constexpr size_t tile = 256;
constexpr int max_d = max_drift_dimension;

ScoreAt score_at(const NonlinearModel& model, double t) {
    const auto& nodes = model.nodes;
    require(t >= nodes.front().time && t <= nodes.back().time, ErrorKind::usage,
            fmt::format("score: expected a time in [{:g}, {:g}], got {:g}", nodes.front().time,
                        nodes.back().time, t));
    size_t right = 1;
    while (right + 1 < nodes.size() && nodes[right].time < t) ++right;
    const NonlinearNode &a = nodes[right - 1], &b = nodes[right];
    const double w = std::log(t / a.time) / std::log(b.time / a.time);
    const auto mix = [w](const std::vector<double>& x, const std::vector<double>& y) {
        std::vector<double> out(x.size());
        for (size_t k = 0; k < x.size(); ++k) out[k] = (1 - w) * x[k] + w * y[k];
        return out;
    };
    ScoreAt out{mix(a.coefficients, b.coefficients),
                {},
                mix(a.lower, b.lower),
                mix(a.upper, b.upper),
                {},
                a.reference.kind};
    if (out.kind != ReferenceScore::gaussian) return out;
    const size_t d = a.lower.size();
    out.precision = Array<double>(d, d), out.offset.assign(d, 0);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j) {
            const double p = (1 - w) * a.reference.precision(i, j), q = w * b.reference.precision(i, j);
            out.precision(i, j) = p + q;
            out.offset[i] += p * a.reference.mean[j] + q * b.reference.mean[j];
        }
    return out;
}

ScoreAtView view_of(const ScoreAt& at) {
    return {at.kind,         at.coefficients.data(), at.lower.data(),
            at.upper.data(), at.offset.data(),       at.precision.data()};
}

/// Room for the functions of one point.
struct Room {
    double numbers[2 * most_functions];
    FunctionTable table() { return {numbers, numbers + most_functions, nullptr, 1}; }
};

/// The stationary law exp(2 int f / g^2) of one coordinate of a separable drift, by its distribution function
/// at 4001 nodes.
class LineLaw {
  public:
    LineLaw(const DriftProcess& process, size_t coordinate) {
        const size_t d = process.dimension();
        const double g = process.noise[coordinate];
        const auto slope = [&](double x) {
            std::vector<double> at(d), f(d);
            at[coordinate] = x;
            drift_values(process, 1, at.data(), f.data());
            return 2 * f[coordinate] / (g * g);
        };
        for (half_ = 1; half_ < 1e6; half_ *= 1.3)
            if (tabulate(slope)) return;
        throw Error(ErrorKind::usage, fmt::format("prior: coordinate {} has no stationary law", coordinate));
    }
    double quantile(double u) const {
        const double wanted = u * cumulative_.back();
        const auto next = std::upper_bound(cumulative_.begin() + 1, cumulative_.end() - 1, wanted);
        const double below = *(next - 1), cell = *next - below;
        return -half_ + step() * (static_cast<double>(next - cumulative_.begin() - 1) +
                                  (cell > 0 ? (wanted - below) / cell : 0.5));
    }

  private:
    double step() const { return 2 * half_ / nodes; }
    /// False when the law is not small at both ends.
    template <class Slope> bool tabulate(const Slope& slope) {
        std::vector<double> log_density(nodes + 1);
        for (int k = 0; k < nodes; ++k) {
            const double x = -half_ + k * step(), h = step();
            log_density[static_cast<size_t>(k) + 1] =
                log_density[static_cast<size_t>(k)] +
                h / 6 * (slope(x) + 4 * slope(x + h / 2) + slope(x + h));
        }
        const double top = *std::max_element(log_density.begin(), log_density.end());
        if (!(log_density.front() < top - 36 && log_density.back() < top - 36)) return false;
        cumulative_.assign(1, 0);
        for (size_t k = 0; k < nodes; ++k)
            cumulative_.push_back(cumulative_.back() + std::exp(log_density[k] - top) +
                                  std::exp(log_density[k + 1] - top));
        return true;
    }
    static constexpr int nodes = 4000;
    double half_ = 1;
    std::vector<double> cumulative_;
};

void draw_mixture(const MixtureDrift& law, const double* uniforms, const double* normals, double* x) {
    double total = 0;
    for (const double w : law.weights) total += w;
    double left = uniforms[0] * total;
    size_t k = 0;
    while (k + 1 < law.weights.size() && left >= law.weights[k]) left -= law.weights[k++];
    for (size_t j = 0; j < law.means.cols(); ++j) x[j] = law.means(k, j) + law.sd[k] * normals[j];
}

/// The intervals between nodes, from the last to `time`, in equal steps.
std::vector<ReverseLeap> reverse_leaps(const NonlinearModel& model, double time, int steps) {
    std::vector<ReverseLeap> leaps;
    const auto& nodes = model.nodes;
    for (size_t k = nodes.size() - 1; k > 0 && nodes[k].time > time; --k) {
        const double begin = nodes[k].time, end = std::max(nodes[k - 1].time, time);
        const int count =
            steps > 0 ? steps : std::max(4, static_cast<int>(std::ceil((begin - end) / (4 * model.step))));
        leaps.push_back({begin, end, count, (begin - end) / count});
    }
    return leaps;
}

} // namespace

bool has_stationary_prior(const DriftProcess& process) {
    if (process.driven().size() != process.dimension()) return false;
    if (std::holds_alternative<MixtureDrift>(process.drift)) {
        for (const double g : process.noise)
            if (std::abs(g - std::numbers::sqrt2) > 1e-12) return false;
        return true;
    }
    if (const auto* well = std::get_if<DoubleWellDrift>(&process.drift)) return well->a > 0;
    return std::holds_alternative<LogisticDrift>(process.drift);
}

Array<double> draw_prior(const NonlinearModel& model, StartLaw prior, std::uint64_t seed, size_t first,
                         size_t count) {
    const DriftProcess& process = model.process;
    const size_t d = process.dimension();
    const bool known = has_stationary_prior(process);
    require(prior != StartLaw::stationary || known, ErrorKind::usage,
            fmt::format("prior: the stationary law of {} with this noise is not known", process.kind));
    const bool stationary = prior == StartLaw::stationary || (prior == StartLaw::automatic && known);
    const auto* mixture = std::get_if<MixtureDrift>(&process.drift);
    std::vector<LineLaw> laws;
    if (stationary && !mixture)
        for (size_t j = 0; j < d; ++j) laws.emplace_back(process, j);
    Array<double> x(count, d);
    for (size_t n = 0; n < count; ++n) {
        double xi[max_d], u[max_d];
        path_normals(seed, Stream::reverse_start, first + n, 0, 0, static_cast<int>(d), xi);
        for (size_t j = 0; j < d; ++j)
            u[j] = uniform(
                philox(seed, Stream::reverse_start, first + n, 1, static_cast<std::uint32_t>(j)).v[0]);
        for (size_t j = 0; j < d; ++j) {
            if (stationary) {
                if (!mixture) x(n, j) = laws[j].quantile(u[j]);
                continue;
            }
            x(n, j) = model.final_mean[j];
            for (size_t k = 0; k <= j; ++k) x(n, j) += model.final_factor(j, k) * xi[k];
        }
        if (stationary && mixture) draw_mixture(*mixture, u, xi, x.row(n));
    }
    return x;
}

void nonlinear_score(const Context& context, const NonlinearModel& model, double t, size_t count,
                     const double* x, double* score) {
    const ScoreAt at = score_at(model, t);
    if constexpr (built_with_cuda)
        if (runs_on_device(context, model.process))
            return DeviceReverse(context, model.process, model.basis).scores(at, count, x, score);
    const DriftTable table(model.process);
    const ReverseModel fitted{view_of(model.basis), model.process.noise.data()};
    const size_t d = model.process.dimension(), r = model.basis.driven.size();
    parallel_for(context.threads(), (count + tile - 1) / tile, [&](size_t job, size_t) {
        Room room;
        double f[max_d];
        std::visit(
            [&](const auto& view) {
                for (size_t n = job * tile; n < std::min(count, (job + 1) * tile); ++n) {
                    drift(view, x + n * d, f);
                    model_score(fitted, view_of(at), room.table(), f, x + n * d, score + n * r);
                }
            },
            table.view());
    });
}

ReverseReport reverse(const Context& context, const NonlinearModel& model, Array<double>& rows,
                      std::uint64_t seed, size_t first, double time, int steps) {
    const auto& nodes = model.nodes;
    const size_t d = model.process.dimension();
    if (time == 0) time = nodes.front().time;
    require(rows.cols() == d, ErrorKind::usage,
            fmt::format("reverse: expected rows of {} numbers, got {}", d, rows.cols()));
    require(steps >= 0 && steps <= 1 << 20, ErrorKind::usage,
            fmt::format("reverse: expected 0 to 2^20 steps, got {}", steps));
    require(time >= nodes.front().time && time <= nodes.back().time, ErrorKind::usage,
            fmt::format("reverse: expected a time in [{:g}, {:g}], got {:g}", nodes.front().time,
                        nodes.back().time, time));
    for (size_t k = 0; k < rows.size(); ++k)
        require(std::isfinite(rows[k]), ErrorKind::numerical,
                fmt::format("reverse: start {} is not finite", k / d));
    const DriftTable table(model.process);
    const ReverseModel fitted{view_of(model.basis), model.process.noise.data()};
    std::atomic<size_t> runaways = 0;
    std::uint32_t step = 0;
    const auto walk = [&](const auto& view, const ScoreAt& from, const ScoreAt& to, double h, size_t job) {
        Room room;
        double xi[max_d];
        size_t away = 0;
        for (size_t n = job * tile; n < std::min(rows.rows(), (job + 1) * tile); ++n) {
            path_normals(seed, Stream::reverse_noise, first + n, step, 0, view.dimension, xi);
            away += reverse_step(view, fitted, view_of(from), view_of(to), room.table(), h, xi, rows.row(n));
        }
        runaways += away;
    };
    const std::vector<ReverseLeap> leaps = reverse_leaps(model, time, steps);
    if constexpr (built_with_cuda)
        if (runs_on_device(context, model.process))
            return DeviceReverse(context, model.process, model.basis)
                .run(
                    leaps, [&](double t) { return score_at(model, t); }, seed, first, rows);
    for (const ReverseLeap& leap : leaps) {
        ScoreAt from = score_at(model, leap.time(0));
        for (int s = 0; s < leap.count; ++s, ++step) {
            ScoreAt to = score_at(model, leap.time(s + 1));
            parallel_for(context.threads(), (rows.rows() + tile - 1) / tile, [&](size_t job, size_t) {
                std::visit([&](const auto& view) { walk(view, from, to, leap.h, job); }, table.view());
            });
            from = std::move(to);
            if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
        }
    }
    return {runaways, step};
}

} // namespace dynkin

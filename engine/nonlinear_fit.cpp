// nonlinear_fit.cpp - one set of paths through all times, a linear system at each.
#include "checkpoint_guard.h"
#include "error.h"
#include "nonlinear_nodes.h"
#include "progress.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <lapacke.h>
#include <nlohmann/json.hpp>
#include <numeric>

namespace dynkin {
namespace {

using std::size_t;
constexpr double polynomial_scale = 0.6; ///< of Hermite functions, in standard deviations of the paths

class NonlinearFitter {
  public:
    NonlinearFitter(const Context& context, const DriftProcess& process, const Array<double>& data,
                    NonlinearFitOptions options)
        : context_(context), options_(std::move(options)), data_(data), checkpoint_(options_.checkpoint) {
        model_.process = process;
        check();
        options_.local.seed = options_.simulate.seed = options_.seed;
    }

    NonlinearModel run() {
        choose_times();
        const std::optional<TensorFile> saved = checkpoint_.restore();
        if (saved)
            ahead_ = saved->f64("ahead", 1 + 4 * data_.cols());
        else
            look_ahead();
        choose_basis();
        Paths paths = saved ? restore(*saved) : start(data_, model_.nodes.back().time);
        model_.step = paths.step();
        Progress progress(context_, "scores", model_.nodes.size());
        progress.set(solved_);
        const auto state = [&] { return state_of(paths); };
        guard(context_, checkpoint_, state, [&](const auto& between) {
            for (; solved_ < model_.nodes.size(); between()) {
                solve(paths, solved_, between);
                ++solved_;
                progress.advance(1);
            }
            paths.advance(model_.nodes.back().time, between);
        });
        finish(paths);
        return std::move(model_);
    }

  private:
    void check() const {
        const auto positive = [](double x, const char* what) {
            require(x >= 0 && std::isfinite(x), ErrorKind::usage,
                    fmt::format("fit: expected {} >= 0, got {}", what, x));
        };
        positive(options_.intrinsic_gap, "an intrinsic gap"), positive(options_.real_gap, "a gap");
        positive(options_.t_min, "a first time"), positive(options_.t_end, "a last time");
        require(options_.intrinsic_gap == 0 || options_.real_gap == 0, ErrorKind::usage,
                "fit: expected a gap in intrinsic or in real time, got both");
        require(options_.nodes >= 2 && options_.nodes <= 1024, ErrorKind::usage,
                fmt::format("fit: expected 2 to 1024 times, got {}", options_.nodes));
        const size_t d = model_.process.dimension();
        require(data_.cols() == d, ErrorKind::input,
                fmt::format("fit: expected rows of {} numbers, the dimension of the drift, got {}", d,
                            data_.cols()));
        require(data_.rows() >= 100, ErrorKind::input,
                fmt::format("fit: expected at least 100 rows, got {}", data_.rows()));
        for (size_t n = 0; n < data_.rows(); ++n)
            for (size_t j = 0; j < d; ++j)
                require(std::isfinite(data_(n, j)), ErrorKind::input,
                        fmt::format("fit: row {}, column {} is not finite", n, j));
    }

    /// Mean of g^2 over driven coordinates.
    double intensity() const {
        double sum = 0;
        for (const double g : model_.process.noise) sum += g * g;
        return sum / static_cast<double>(model_.process.driven().size());
    }

    void choose_times() {
        double variance = 0;
        const auto driven = model_.process.driven();
        for (const int j : driven) {
            double mean = 0, square = 0;
            for (size_t n = 0; n < data_.rows(); ++n) {
                const double x = data_(n, static_cast<size_t>(j)) - data_(0, static_cast<size_t>(j));
                mean += x / static_cast<double>(data_.rows());
                square += x * x / static_cast<double>(data_.rows());
            }
            variance += (square - mean * mean) / static_cast<double>(driven.size());
        }
        if (options_.t_end == 0) options_.t_end = 10 / intensity();
        if (options_.t_min == 0)
            options_.t_min =
                std::clamp(0.0064 * variance / intensity(), 1e-6 * options_.t_end, 0.01 * options_.t_end);
        require(options_.t_min < options_.t_end, ErrorKind::usage,
                fmt::format("fit: the first time, {:g}, is not before the last, {:g}", options_.t_min,
                            options_.t_end));
        const double ratio = std::log(options_.t_end / options_.t_min) / (options_.nodes - 1);
        for (int k = 0; k < options_.nodes; ++k)
            model_.nodes.emplace_back().time =
                k + 1 < options_.nodes ? options_.t_min * std::exp(k * ratio) : options_.t_end;
    }

    Paths start(const Array<double>& rows, double horizon) const {
        return Paths(context_, model_.process, rows, horizon, options_.simulate);
    }

    /// A few paths through all times, from which ahead_: the intrinsic gap, since the drift turns so fast; of
    /// each coordinate mean, standard deviation, lowest and highest value.
    void look_ahead() {
        const size_t d = model_.process.dimension(), few = std::min<size_t>(data_.rows(), 4096);
        Array<double> part(few, d);
        for (size_t n = 0; n < few; ++n) std::copy_n(data_.row(n * data_.rows() / few), d, part.row(n));
        Paths paths = start(part, model_.nodes.back().time);
        std::vector<double> low(d, INFINITY), high(d, -INFINITY), sum(d), square(d);
        double steepness = 0;
        Array<double> f(few, d), jacobian(few, d * d);
        for (const NonlinearNode& node : model_.nodes) {
            paths.advance(node.time);
            drift_values(model_.process, few, paths.states().data(), f.data(), jacobian.data());
            for (size_t n = 0; n < few; ++n) {
                double largest = 0;
                for (size_t i = 0; i < d; ++i) {
                    double row = 0;
                    for (size_t j = 0; j < d; ++j) row += std::abs(jacobian(n, i * d + j));
                    largest = std::max(largest, row);
                    const double x = paths.states()(n, i);
                    low[i] = std::min(low[i], x), high[i] = std::max(high[i], x);
                    sum[i] += x, square[i] += x * x;
                }
                steepness += largest;
            }
        }
        const double count = static_cast<double>(few * model_.nodes.size());
        ahead_ = {0.12 * intensity() / std::max(steepness / count, 1e-3)};
        for (size_t i = 0; i < d; ++i) {
            const double center = sum[i] / count;
            ahead_.insert(
                ahead_.end(),
                {center, std::sqrt(std::max(square[i] / count - center * center, 1e-300)), low[i], high[i]});
        }
    }

    void choose_basis() {
        const size_t d = model_.process.dimension();
        if (options_.intrinsic_gap == 0 && options_.real_gap == 0) options_.intrinsic_gap = ahead_[0];
        std::vector<double> center(d), scale(d), low(d), high(d);
        for (size_t i = 0; i < d; ++i) {
            const double* of = ahead_.data() + 1 + 4 * i;
            const double margin = 0.15 * (of[3] - of[2]);
            center[i] = of[0], scale[i] = of[1], low[i] = of[2] - margin, high[i] = of[3] + margin;
        }
        const bool polynomial = options_.basis == BasisKind::polynomial;
        // A ridge relative to the diagonal asks for functions that are not nearly dependent over the tails.
        for (double& s : scale) s *= polynomial_scale;
        if (options_.order == 0)
            options_.order = polynomial ? (d <= 2   ? 10
                                           : d == 3 ? 6
                                           : d <= 6 ? 4
                                                    : 2)
                                        : (d <= 2   ? 12
                                           : d == 3 ? 6
                                           : d <= 6 ? 3
                                                    : 2);
        model_.basis = polynomial ? polynomial_basis(options_.order, model_.process.driven(), center, scale)
                                  : cosine_basis(options_.order, model_.process.driven(), low, high);
        require(data_.rows() >= model_.basis.terms(), ErrorKind::input,
                fmt::format("fit: {} rows are fewer than the {} functions of the basis", data_.rows(),
                            model_.basis.terms()));
    }

    /// The times that are solved, and where the paths are.
    TensorFile state_of(const Paths& paths) const {
        TensorFile file;
        const PathsState& s = paths.state();
        put_nodes(file, std::span(model_.nodes).first(solved_));
        file.put("ahead", ahead_);
        file.put("paths", std::vector<double>(s.states.begin(), s.states.end()));
        file.put("paths_times", std::vector<double>{s.time, s.step, s.target, s.h});
        file.put("paths_steps", std::vector<std::uint64_t>{s.steps, s.left});
        return file;
    }

    Paths restore(const TensorFile& file) {
        PathsState s;
        s.states = Array<double>(data_.rows(), data_.cols());
        const auto& x = file.f64("paths", s.states.size());
        std::copy(x.begin(), x.end(), s.states.begin());
        const auto& times = file.f64("paths_times", 4);
        s.time = times[0], s.step = times[1], s.target = times[2], s.h = times[3];
        const auto& steps = file.u64("paths_steps", 2);
        s.steps = static_cast<std::uint32_t>(steps[0]), s.left = static_cast<std::uint32_t>(steps[1]);
        std::vector<NonlinearNode> nodes =
            read_nodes(file, data_.cols(), model_.basis.terms(), options_.reference);
        require(nodes.size() <= model_.nodes.size(), ErrorKind::input, "fit: a checkpoint of other times");
        std::move(nodes.begin(), nodes.end(), model_.nodes.begin());
        solved_ = static_cast<std::uint32_t>(nodes.size());
        return Paths(context_, model_.process, std::move(s), options_.simulate);
    }

    double gap_at(double t) const {
        const double gap = options_.real_gap > 0 ? options_.real_gap : options_.intrinsic_gap / intensity();
        return std::min(gap, t);
    }

    void solve(Paths& paths, std::uint32_t k, const std::function<void()>& between) {
        NonlinearNode& node = model_.nodes[k];
        const DriftProcess& process = model_.process;
        const bool local = options_.estimator == ScoreEstimator::local;
        node.gap = local ? gap_at(node.time) : 0;
        paths.advance(node.time - node.gap, between);
        const Linearisation kind = options_.local.linearisation;
        node.reference.kind = options_.reference;
        if (options_.reference == ReferenceScore::gaussian)
            node.reference = gaussian_reference(context_, process, paths.states(), node.gap, kind);
        const ScoreSums sums =
            local ? local_score_sums(context_, process, model_.basis, node.reference, paths.states(),
                                     node.gap, k, options_.local)
                  : implicit_score_sums(context_, process, model_.basis, node.reference, paths.states());
        const ScoreSolution solution = solve_score(context_, sums, options_.ridge);
        node.coefficients = solution.coefficients;
        node.ridge = solution.ridge, node.condition = solution.condition;
        set_range(paths.states(), node);
        if (process.driven().size() == process.dimension()) {
            Paths ahead = paths.copy();
            ahead.advance(node.time);
            node.entropy = entropy_production(context_, process, model_.basis, node.reference, sums,
                                              options_.ridge, ahead.states());
        }
    }

    /// Quantiles of the states, widened by what the gap's noise adds.
    void set_range(const Array<double>& states, NonlinearNode& node) const {
        std::vector<double> column(states.rows());
        const auto tail = static_cast<std::ptrdiff_t>(5e-4 * static_cast<double>(states.rows()));
        for (size_t j = 0; j < states.cols(); ++j) {
            for (size_t n = 0; n < states.rows(); ++n) column[n] = states(n, j);
            std::nth_element(column.begin(), column.begin() + tail, column.end());
            const double low = column[static_cast<size_t>(tail)];
            std::nth_element(column.begin(), column.end() - 1 - tail, column.end());
            const double high = *(column.end() - 1 - tail);
            const double wider = model_.process.noise[j] * std::sqrt(node.gap);
            node.lower.push_back(low - wider), node.upper.push_back(high + wider);
        }
    }

    void finish(const Paths& paths) {
        const size_t d = model_.process.dimension();
        const ScoreReference law = gaussian_reference(context_, model_.process, paths.states(), 0);
        model_.final_mean = law.mean;
        model_.final_factor = law.precision;
        const int size = static_cast<int>(d);
        double* a = model_.final_factor.data();
        const bool good = LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', size, a, size) == 0 &&
                          LAPACKE_dpotri(LAPACK_ROW_MAJOR, 'L', size, a, size) == 0 &&
                          LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', size, a, size) == 0;
        require(good, ErrorKind::numerical, "fit: the covariance at the last time is singular");
        for (size_t i = 0; i < d; ++i)
            for (size_t j = i + 1; j < d; ++j) model_.final_factor(i, j) = 0;
        model_.training_rows = static_cast<double>(data_.rows());
        model_.sample_shape = {d};
        describe();
    }

    void describe() {
        const char* kinds[] = {"none", "gaussian", "drift"};
        const char* steps[] = {"euler", "linear", "ito"};
        nlohmann::ordered_json json = {
            {"process", "nonlinear"},
            {"basis", options_.basis == BasisKind::polynomial ? "polynomial" : "cosine"},
            {"order", options_.order},
            {"reference", kinds[static_cast<int>(options_.reference)]},
            {"estimator", options_.estimator == ScoreEstimator::local ? "local" : "implicit"},
            {"linearisation", steps[static_cast<int>(options_.local.linearisation)]},
            {"draws", options_.local.draws},
            {"antithetic", options_.local.antithetic},
            {"ridge", options_.ridge},
            {"intrinsic_gap", options_.intrinsic_gap},
            {"real_gap", options_.real_gap},
            {"t_min", options_.t_min},
            {"t_end", options_.t_end},
            {"nodes", options_.nodes},
            {"scheme", options_.simulate.scheme == Scheme::heun ? "heun" : "euler"},
            {"step", model_.step},
            {"seed", options_.seed}};
        if (!model_.process.canonical_json.empty())
            json["drift"] = nlohmann::ordered_json::parse(model_.process.canonical_json);
        model_.configuration = json.dump();
    }

    const Context& context_;
    NonlinearFitOptions options_;
    const Array<double>& data_;
    NonlinearModel model_;
    Checkpoint checkpoint_;
    std::vector<double> ahead_;
    std::uint32_t solved_ = 0; ///< of the model's times
};

} // namespace

NonlinearModel fit_nonlinear(const Context& context, const DriftProcess& process, const Array<double>& data,
                             const NonlinearFitOptions& options) {
    return NonlinearFitter(context, process, data, options).run();
}

} // namespace dynkin

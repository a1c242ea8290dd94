#include "fit.h"
#include "error.h"
#include "gram.h"
#include "parallel.h"
#include "progress.h"
#include "solve.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/core.h>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

namespace dynkin {
namespace {

using std::size_t;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Sites that the symmetries of the lattice make equivalent share a class: all of them when periodic,
/// otherwise those that reflections (and exchanges of equal axes) map onto one another if the law has them.
/// No lattice: every site by itself.
std::vector<int> site_classes(const std::optional<Lattice>& lattice, bool reflections, int sites) {
    std::vector<int> classes(static_cast<size_t>(sites));
    std::iota(classes.begin(), classes.end(), 0);
    if (!lattice || static_cast<size_t>(sites) != lattice->sites())
        return classes; // some columns were dropped
    if (lattice->boundary == Boundary::periodic) return std::vector<int>(static_cast<size_t>(sites), 0);
    if (!reflections) return classes;
    std::map<std::vector<size_t>, int> seen;
    const auto& shape = lattice->shape;
    for (int i = 0; i < sites; ++i) {
        std::vector<size_t> key;
        size_t rest = static_cast<size_t>(i);
        for (size_t axis = shape.size(); axis-- > 0; rest /= shape[axis]) {
            const size_t x = rest % shape[axis];
            key.push_back(shape[axis] << 32 | std::min(x, shape[axis] - 1 - x));
        }
        std::sort(key.begin(), key.end());
        classes[static_cast<size_t>(i)] = seen.emplace(key, static_cast<int>(seen.size())).first->second;
    }
    return classes;
}

/// Everything that fit() learns on its way; the stages below fill it in order.
class Fitter {
  public:
    Fitter(const Context& context, const SampleFile& data, const FitOptions& options, FitReport& report)
        : context_(context), data_(data), options_(options), report_(report),
          checkpoint_(options.checkpoint) {}

    Model run() {
        saved_ = checkpoint_.restore();
        choose_columns();
        marginals();
        choose_symmetry();
        choose_reference();
        choose_basis();
        choose_times();
        compute_moments();
        solve();
        describe();
        checkpoint_.remove();
        return std::move(model_);
    }

  private:
    [[noreturn]] void reject(const std::string& what) const {
        throw Error(ErrorKind::input, data_.path().string() + ": " + what);
    }
    Block& block() { return model_.blocks.front(); }
    std::string column_name(size_t j) const { return fmt::format("column {}", model_.view.kept[j]); }

    void choose_columns();
    void pool_scales();
    void check_duplicates() const;
    void marginals();
    void choose_symmetry();
    void choose_reference();
    int default_degree(bool hermite) const;
    void use_fitted_reference(std::vector<MarginalSums> pooled);
    void use_hermite_reference();
    size_t count_outside() const;
    void choose_basis();
    void choose_times();
    void compute_moments();
    double choose_ridge(const ScoreSystem& system, const std::vector<double>& train,
                        const std::vector<double>& test);
    void solve();
    void save_moments(const MomentSums& sums);
    void describe();

    const Context& context_;
    const SampleFile& data_;
    const FitOptions& options_;
    FitReport& report_;
    Checkpoint checkpoint_;
    std::optional<TensorFile> saved_;
    Model model_;
    ColumnStatistics columns_;
    MarginalStatistics marginal_;
    std::vector<int> class_;
    std::vector<ProductTables> tables_;
    std::optional<MomentPlan> plan_;
    MomentSums sums_;
    bool even_ = false;
};

void Fitter::choose_columns() {
    DataView& view = model_.view;
    view.columns = data_.cols();
    view.levels = options_.dequantise, view.seed = options_.seed;
    view.constant.assign(view.columns, 0);
    view.kept.resize(view.columns);
    std::iota(view.kept.begin(), view.kept.end(), 0);
    model_.sample_shape = data_.sample_shape();
    if (options_.lattice && options_.lattice->sites() != view.columns)
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected {} columns for the lattice {}, got {}", data_.path().string(),
                                options_.lattice->sites(), options_.lattice->describe(), view.columns));
    DataView raw = view;
    raw.levels = 0; // a pixel is constant before noise is added
    columns_ = column_statistics(context_, data_, raw);
    std::vector<int> kept;
    for (size_t j = 0; j < view.columns; ++j) {
        if (columns_.max[j] > columns_.min[j]) {
            kept.push_back(static_cast<int>(j));
            continue;
        }
        if (!options_.drop_constant)
            reject(fmt::format(
                "column {} is constant ({}): expected every column to vary (--drop-constant leaves such "
                "columns out of the model)",
                j, columns_.min[j]));
        view.constant[j] = view.levels ? (columns_.min[j] + 0.5) / view.levels : columns_.min[j];
    }
    if (kept.empty()) reject("every column is constant");
    report_.dropped = view.columns - kept.size();
    view.kept = std::move(kept);
    if (view.levels || report_.dropped) columns_ = column_statistics(context_, data_, view);
}

void Fitter::pool_scales() {
    auto& mean = model_.standardization.mean;
    auto& scale = model_.standardization.scale;
    mean = columns_.mean, scale = columns_.sd;
    const int classes = 1 + *std::max_element(class_.begin(), class_.end());
    std::vector<double> count(static_cast<size_t>(classes)), first(count), second(count);
    for (size_t j = 0; j < mean.size(); ++j) {
        const size_t k = static_cast<size_t>(class_[j]);
        count[k] += 1, first[k] += mean[j], second[k] += scale[j] * scale[j] + mean[j] * mean[j];
    }
    for (size_t j = 0; j < mean.size(); ++j) {
        const size_t k = static_cast<size_t>(class_[j]);
        mean[j] = even_ ? 0 : first[k] / count[k];
        scale[j] = std::sqrt(second[k] / count[k] - mean[j] * mean[j]);
    }
}

void Fitter::check_duplicates() const {
    const auto& c = marginal_.correlation;
    for (size_t i = 0; i < c.rows(); ++i)
        for (size_t j = 0; j < i; ++j)
            if (std::abs(c(i, j)) > 1 - 1e-9)
                reject(fmt::format(
                    "columns {} and {} are duplicates (correlation {:.12f}): expected linearly independent "
                    "columns, leave one out",
                    model_.view.kept[j], model_.view.kept[i], c(i, j)));
}

void Fitter::marginals() {
    class_ = site_classes(options_.lattice, options_.reflection_symmetric, model_.dimension());
    even_ = options_.symmetry == Symmetry::even ||
            (options_.symmetry == Symmetry::automatic && options_.known_even);
    pool_scales();
    marginal_ = marginal_statistics(context_, data_, model_.view, model_.standardization);
    check_duplicates();
    const auto& c = marginal_.correlation;
    for (size_t i = 0; i < c.rows(); ++i)
        for (size_t j = 0; j < i; ++j)
            report_.max_correlation = std::max(report_.max_correlation, std::abs(c(i, j)));
}

/// Measured symmetry: all odd statistics of first to third order (E z, E (z^3 - 3 z), E z_i z_j^2) within
/// what independent samples of an even law show in 99 of 100 data sets.
void Fitter::choose_symmetry() {
    if (options_.symmetry != Symmetry::automatic || options_.known_even) {
        report_.symmetry_reason =
            options_.symmetry != Symmetry::automatic ? "asked for" : "the target is even";
        report_.even = even_;
        return;
    }
    const double rows = static_cast<double>(data_.rows()), d = static_cast<double>(marginal_.sums.size());
    double worst = 0;
    for (size_t j = 0; j < marginal_.sums.size(); ++j) {
        const auto& s = marginal_.sums[j].power;
        worst = std::max(worst, std::abs(columns_.mean[j] / columns_.sd[j]) * std::sqrt(rows));
        worst = std::max(worst, std::abs(s[3] - 3 * s[1]) / std::sqrt(s[6] - 6 * s[4] + 9 * s[2]));
    }
    const auto& odd = marginal_.odd_correlation;
    const double scale = std::sqrt(static_cast<double>(marginal_.dependence_rows));
    for (size_t i = 0; i < odd.rows(); ++i)
        for (size_t j = 0; j < odd.cols(); ++j)
            if (i != j) worst = std::max(worst, std::abs(odd(i, j)) * scale);
    const double allowed = std::sqrt(2 * std::log((2 * d + d * (d - 1)) / 0.01)); // of so many normal numbers
    even_ = rows >= 1000 && worst < allowed;
    report_.even = even_;
    report_.symmetry_reason =
        rows < 1000 ? "fewer than 1000 samples"
                    : fmt::format("measured: largest odd moment {:.1f} standard errors, {:.1f} allowed",
                                  worst, allowed);
    if (even_) {
        pool_scales();
        marginal_ = marginal_statistics(context_, data_, model_.view, model_.standardization);
    }
}

void Fitter::choose_reference() {
    model_.blocks.emplace_back();
    Block& b = block();
    b.coordinates.resize(static_cast<size_t>(model_.dimension()));
    std::iota(b.coordinates.begin(), b.coordinates.end(), 0);
    const size_t classes = static_cast<size_t>(1 + *std::max_element(class_.begin(), class_.end()));
    std::vector<MarginalSums> pooled(classes);
    for (size_t j = 0; j < class_.size(); ++j) {
        MarginalSums& to = pooled[static_cast<size_t>(class_[j])];
        const MarginalSums& from = marginal_.sums[j];
        if (to.power.empty()) to.power.assign(from.power.size(), 0);
        for (size_t k = 0; k < from.power.size(); ++k) to.power[k] += even_ && k % 2 ? 0 : from.power[k];
        to.count += from.count;
        to.min = std::min(to.min, from.min), to.max = std::max(to.max, from.max);
        to.low_quantile = std::min(to.low_quantile, from.low_quantile);
        to.high_quantile = std::max(to.high_quantile, from.high_quantile);
        b.lower.push_back(from.min), b.upper.push_back(from.max);
    }
    if (even_)
        for (size_t j = 0; j < class_.size(); ++j) {
            b.upper[j] = std::max(-b.lower[j], b.upper[j]), b.lower[j] = -b.upper[j];
        }
    const bool hermite = options_.process == ReferenceKind::hermite;
    if (!hermite) {
        use_fitted_reference(std::move(pooled));
        report_.outside = count_outside();
        const bool heavy = static_cast<double>(report_.outside) > 1e-4 * static_cast<double>(data_.rows());
        if (heavy && options_.process)
            reject(fmt::format("{} of {} samples lie outside the box of the fitted reference, expected at "
                               "most 1e-4 of them: "
                               "heavy tails, use --process ou",
                               report_.outside, data_.rows()));
        if (heavy) use_hermite_reference();
    } else
        use_hermite_reference();
    report_.lambda_1 = INFINITY;
    for (const Family& family : b.reference.families)
        report_.lambda_1 = std::min(report_.lambda_1, family.lambda[1]);
}

int Fitter::default_degree(bool hermite) const {
    const int d = model_.dimension();
    if (d <= 3) return d == 1 ? 10 : d == 2 ? 12 : 8;
    return hermite ? 4 : options_.lattice ? 8 : 6;
}

void Fitter::use_hermite_reference() {
    Block& b = block();
    b.basis.degree = options_.degree ? options_.degree : default_degree(true);
    b.reference.families = {hermite_family(2 * b.basis.degree)};
    b.reference.family_of.assign(b.coordinates.size(), 0);
    report_.reference = "Ornstein-Uhlenbeck (Hermite)";
    if (report_.outside)
        report_.reference += fmt::format(": {} samples lie outside the box of a fitted one", report_.outside);
    report_.outside = 0;
}

void Fitter::use_fitted_reference(std::vector<MarginalSums> pooled) {
    Block& b = block();
    const int degree = b.basis.degree = options_.degree ? options_.degree : default_degree(false);
    int lowest = 8, highest = 2;
    for (MarginalSums& sums : pooled) {
        if (even_)
            sums.low_quantile = -(sums.high_quantile = std::max(-sums.low_quantile, sums.high_quantile));
        const PotentialFit fit = fit_potential(sums, options_.reference_scale, even_);
        b.reference.families.push_back(
            fitted_family(fit.potential, fit.lo, fit.hi, std::max(24, 2 * degree), degree > 8 ? 96 : 48));
        lowest = std::min(lowest, fit.degree), highest = std::max(highest, fit.degree);
    }
    b.reference.family_of = class_;
    report_.reference = fmt::format(
        "fitted, {} potential{} of degree {}, scale {:g}", pooled.size(), pooled.size() == 1 ? "" : "s",
        lowest == highest ? fmt::format("{}", lowest) : fmt::format("{} to {}", lowest, highest),
        options_.reference_scale);
}

/// Samples with a coordinate outside the box of its reference. Reads the data again only if there are any.
size_t Fitter::count_outside() const {
    const Reference& reference = model_.blocks.front().reference;
    const size_t d = marginal_.sums.size(), batch = 4096;
    bool inside = true;
    for (size_t j = 0; j < d; ++j) {
        const Family& f = reference.of(static_cast<int>(j));
        inside = inside && marginal_.sums[j].min >= f.lo && marginal_.sums[j].max <= f.hi;
    }
    if (inside) return 0;
    size_t outside = 0;
    Array<double> x(batch, d);
    for (size_t first = 0; first < data_.rows(); first += batch) {
        const size_t count = std::min(batch, data_.rows() - first);
        model_.view.read(data_, first, count, x.data());
        for (size_t n = 0; n < count; ++n) {
            bool out = false;
            for (size_t j = 0; j < d; ++j) {
                const double z = (x(n, j) - model_.standardization.mean[j]) / model_.standardization.scale[j];
                const Family& f = reference.of(static_cast<int>(j));
                out = out || z < f.lo || z > f.hi;
            }
            outside += out;
        }
    }
    return outside;
}

void Fitter::choose_basis() {
    Block& b = block();
    const int d = model_.dimension(), degree = b.basis.degree;
    std::vector<PairRule> rules;
    int total = options_.total_degree;
    if (options_.pairs)
        rules = *options_.pairs;
    else if (options_.lattice)
        rules = parse_pair_rules("nearest:3,all:1");
    else if (d <= 3) {
        rules = {{PairRule::Kind::all, 1, degree}};
        if (total == 0) total = degree;
    } else
        rules = parse_pair_rules(
            b.reference.families.front().kind == ReferenceKind::hermite ? "all:1" : "dependent:2,all:1");
    Array<double> dependence(marginal_.correlation.rows(), marginal_.correlation.cols());
    for (size_t k = 0; k < dependence.size(); ++k)
        dependence[k] =
            std::max(std::abs(marginal_.correlation[k]), std::abs(marginal_.square_correlation[k]));
    auto pairs =
        select_pairs(model_.view.kept, rules, options_.lattice ? &*options_.lattice : nullptr, dependence);
    for (const Pair& pair : pairs)
        if (2 * pair.degree > b.reference.families.front().top_degree())
            throw Error(ErrorKind::usage,
                        fmt::format("pairs: degree {} needs --degree at least {}", pair.degree, pair.degree));
    b.basis = make_index_set(d, degree, std::move(pairs), total, even_);
    const size_t needed = 10 * static_cast<size_t>(b.basis.max_degree());
    if (data_.rows() < needed)
        reject(fmt::format("expected at least {} samples for a basis of degree {}, got {}", needed,
                           b.basis.max_degree(), data_.rows()));
    for (const Family& family : b.reference.families) {
        tables_.push_back(product_tables(family, b.basis.max_degree()));
        report_.product_residual = std::max(report_.product_residual, tables_.back().residual);
    }
    plan_.emplace(b.basis, b.reference, tables_);
    report_.basis_size = b.basis.terms.size(), report_.moments = plan_->size();
    model_.lattice = options_.lattice;
}

void Fitter::choose_times() {
    Block& b = block();
    const bool strong = report_.max_correlation > 0.9;
    b.t_min = options_.t_min >= 0 ? options_.t_min : strong ? 1e-4 : 1e-3;
    b.t_end = options_.t_end > 0 ? options_.t_end : std::max(5.0, 3 / report_.lambda_1);
    require(b.t_min < b.t_end, ErrorKind::usage,
            fmt::format("times: expected t_min < t_end, got {} and {}", b.t_min, b.t_end));
    require(options_.time_nodes >= 1 && options_.time_nodes <= 1024, ErrorKind::usage,
            fmt::format("time nodes: expected 1 to 1024, got {}", options_.time_nodes));
    model_.default_steps = strong ? 64 : 32;
    b.node_time = b.step_times(options_.time_nodes);
}

void Fitter::save_moments(const MomentSums& sums) {
    TensorFile state;
    state.metadata["stage"] = "moments";
    state.put("train", sums.train), state.put("test", sums.test);
    state.put("rows", std::vector<std::uint64_t>{sums.train_rows, sums.test_rows, sums.next_row});
    checkpoint_.save(std::move(state));
}

void Fitter::compute_moments() {
    const auto start = Clock::now();
    if (saved_) {
        const auto& rows = saved_->u64("rows", 3);
        sums_.train = saved_->f64("train", plan_->size()), sums_.test = saved_->f64("test", plan_->size());
        sums_.train_rows = rows[0], sums_.test_rows = rows[1], sums_.next_row = rows[2];
    }
    const std::uint64_t resumed_at = sums_.next_row;
    const size_t d = static_cast<size_t>(model_.dimension());
    SampleSource source{data_.rows(), [&](size_t first, size_t count, double* z) {
                            model_.view.read(data_, first, count, z);
                            for (size_t n = 0; n < count; ++n)
                                for (size_t j = 0; j < d; ++j)
                                    z[n * d + j] = (z[n * d + j] - model_.standardization.mean[j]) /
                                                   model_.standardization.scale[j];
                        }};
    MomentOptions options;
    options.single_precision = options_.single_precision, options.batch = options_.batch;
    options.after_batch = [&](const MomentSums& sums) {
        const int signal = context_.interrupt_signal();
        if (checkpoint_.enabled() && (signal || checkpoint_.due())) save_moments(sums);
        if (signal) throw Interrupted(signal);
    };
    accumulate_moments(context_, *plan_, block().reference, source, options, sums_);
    report_.moment_seconds = seconds_since(start);
    report_.moment_gflops = 2e-9 * plan_->multiply_adds() * static_cast<double>(data_.rows() - resumed_at) /
                            std::max(report_.moment_seconds, 1e-9);
    if (report_.moment_seconds > 2 && checkpoint_.enabled()) save_moments(sums_);
}

/// Held-out loss J = c' A_test c / 2 - b_test' c of the coefficients from the training rows, integrated over
/// t at five of the nodes; the smallest of the decades wins, then of the half decades beside it.
double Fitter::choose_ridge(const ScoreSystem& system, const std::vector<double>& train,
                            const std::vector<double>& test) {
    const Block& b = block();
    const size_t step = std::max<size_t>((b.node_time.size() - 1) / 4, 1),
                 used = (b.node_time.size() + step - 1) / step;
    const auto mean_train = system.means(train), mean_test = system.means(test);
    std::map<double, double> losses;
    const auto measure = [&](const std::vector<double>& ridges) {
        Array<double> loss(used, ridges.size());
        parallel_for(context_.threads(), used, [&](size_t m, size_t) {
            if (context_.interrupt_signal()) return;
            const double t = b.node_time[m * step];
            Array<double> a_train(system.size(), system.size()), a_test(system.size(), system.size());
            system.gram(train, t, a_train), system.gram(test, t, a_test);
            const auto b_train = system.right_side(mean_train, t), b_test = system.right_side(mean_test, t);
            for (size_t r = 0; r < ridges.size(); ++r) {
                Array<double> a = a_train;
                std::vector<double> c;
                const SolveStatus status = solve_score_system(a, b_train, system.eigenvalues(), ridges[r], c);
                loss(m, r) =
                    status.solved && !status.raised ? score_matching_loss(a_test, b_test, c) : INFINITY;
            }
        });
        if (const int signal = context_.interrupt_signal()) throw Interrupted(signal);
        for (size_t r = 0; r < ridges.size(); ++r) {
            double total = 0; // dt = (t - t_min + t0) d tau
            for (size_t m = 0; m < used; ++m) total += loss(m, r) * (b.node_time[m * step] - b.t_min + b.t0);
            losses[ridges[r]] = total * b.tau(b.t_end) / static_cast<double>(used);
        }
    };
    const auto best = [&] {
        return std::min_element(losses.begin(), losses.end(), [](const auto& x, const auto& y) {
            return (std::isfinite(x.second) ? x.second : 1e300) <
                   (std::isfinite(y.second) ? y.second : 1e300);
        });
    };
    measure({1e-5, 1e-4, 1e-3, 1e-2, 1e-1});
    measure({best()->first * std::sqrt(0.1), best()->first * std::sqrt(10.0)});
    report_.ridge_losses.assign(losses.begin(), losses.end());
    if (!std::isfinite(best()->second))
        throw Error(ErrorKind::numerical,
                    "fit: no ridge up to 0.1 makes the systems of the training rows positive definite");
    report_.heldout_loss = best()->second;
    return best()->first;
}

void Fitter::solve() {
    const auto start = Clock::now();
    Block& b = block();
    const ScoreSystem system(b.basis, b.reference, tables_, *plan_);
    double ridge = options_.ridge;
    if (ridge < 0)
        ridge =
            choose_ridge(system, moment_averages(sums_, Subset::train), moment_averages(sums_, Subset::test));
    const std::vector<double> moments = moment_averages(sums_, Subset::all);
    sums_ = {};
    const std::vector<double> means = system.means(moments);
    const size_t nodes = b.node_time.size();
    b.coefficients = Array<double>(nodes, system.size());
    std::vector<SolveStatus> status(nodes);
    Progress progress(context_, "solve", nodes);
    const size_t chunk = static_cast<size_t>(context_.threads());
    for (size_t first = 0; first < nodes; first += chunk) {
        const size_t last = std::min(nodes, first + chunk);
        parallel_for(context_.threads(), last - first, [&](size_t job, size_t) {
            const size_t m = first + job;
            Array<double> a(system.size(), system.size());
            std::vector<double> c;
            system.gram(moments, b.node_time[m], a);
            status[m] = solve_score_system(a, system.right_side(means, b.node_time[m]), system.eigenvalues(),
                                           ridge, c);
            if (status[m].solved) std::copy(c.begin(), c.end(), b.coefficients.row(m));
        });
        progress.set(last);
        if (progress.interrupted()) progress.throw_interrupted();
    }
    report_.ridge = ridge;
    for (size_t m = 0; m < nodes; ++m) {
        if (!status[m].solved)
            throw Error(ErrorKind::numerical,
                        fmt::format("fit: the system at t = {:g} has no solution even with ridge {:g}",
                                    b.node_time[m], status[m].ridge));
        report_.ridges_raised += status[m].raised > 0;
        report_.condition = std::max(report_.condition, status[m].condition);
    }
    report_.solve_seconds = seconds_since(start);
}

void Fitter::describe() {
    const Block& b = block();
    model_.training_rows = static_cast<double>(data_.rows());
    report_.samples = data_.rows(), report_.dimension = static_cast<size_t>(model_.dimension());
    nlohmann::ordered_json j;
    j["process"] = b.reference.families.front().kind == ReferenceKind::hermite ? "ou" : "fitted";
    j["degree"] = b.basis.degree;
    j["total_degree"] = b.basis.total_degree;
    j["pairs"] = options_.pairs ? format_pair_rules(*options_.pairs) : "default";
    j["symmetry"] = even_ ? "even" : "none";
    j["lattice"] = options_.lattice ? options_.lattice->describe() : "none";
    j["ridge"] = report_.ridge;
    j["time_nodes"] = options_.time_nodes;
    j["t_min"] = b.t_min, j["t_end"] = b.t_end;
    j["reference"] = report_.reference;
    j["drop_constant"] = options_.drop_constant, j["dequantise"] = options_.dequantise;
    j["moment_precision"] = options_.single_precision ? "float32" : "float64";
    j["seed"] = options_.seed, j["samples"] = data_.rows();
    model_.configuration = j.dump();
}

} // namespace

Model fit(const Context& context, const SampleFile& data, const FitOptions& options, FitReport* report) {
    use_sequential_blas();
    FitReport local;
    return Fitter(context, data, options, report ? *report : local).run();
}

} // namespace dynkin

// fit.cpp - the last stages of fit(): basis, times, moments, one linear system per time node.
#include "fit.h"
#include "circle.h"
#include "fitter.h"
#include "node_systems.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/core.h>
#include <map>
#include <nlohmann/json.hpp>

namespace dynkin {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double smooth_ridge = 1e-6; // for rounding alone

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

} // namespace

/// The larger of the correlations of z_i, z_j and of their squares.
Array<double> Fitter::dependence() const {
    Array<double> out(marginal_.correlation.rows(), marginal_.correlation.cols());
    for (size_t k = 0; k < out.size(); ++k)
        out[k] = std::max(std::abs(marginal_.correlation[k]), std::abs(marginal_.square_correlation[k]));
    return out;
}

void Fitter::choose_basis() {
    Block& b = block();
    const int d = model_.dimension(), degree = b.basis.degree,
              each = functions_of_frequency(b.reference.families.front());
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
    auto pairs =
        select_pairs(model_.view.kept, rules, options_.lattice ? &*options_.lattice : nullptr, dependence());
    for (Pair& pair : pairs) {
        if (2 * each * pair.degree > b.reference.families.front().top_degree())
            throw Error(ErrorKind::usage,
                        fmt::format("pairs: degree {} needs --degree at least {}", pair.degree, pair.degree));
        pair.degree *= each;
    }
    b.basis = make_index_set(d, degree, std::move(pairs), total, even_);
    const size_t needed = 10 * static_cast<size_t>(b.basis.max_degree());
    if (rows() < needed)
        reject(fmt::format("expected at least {} samples for a basis of degree {}, got {}", needed,
                           b.basis.max_degree(), rows()));
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
    if (has_walls()) b.t0 = 0.003;
    b.t_min = options_.t_min >= 0 ? options_.t_min : strong || has_walls() ? 1e-4 : 1e-3;
    b.t_end = options_.t_end > 0 ? options_.t_end : std::max(5.0, 3 / report_.lambda_1);
    require(b.t_min < b.t_end, ErrorKind::usage,
            fmt::format("times: expected t_min < t_end, got {} and {}", b.t_min, b.t_end));
    require(options_.time_nodes >= 0 && options_.time_nodes <= 1024, ErrorKind::usage,
            fmt::format("time nodes: expected 1 to 1024, got {}", options_.time_nodes));
    model_.default_steps = strong ? 64 : 32;
    b.node_time = b.step_times(options_.time_nodes ? options_.time_nodes : 32);
}

TensorFile Fitter::moment_state() const {
    TensorFile state;
    state.metadata["stage"] = "moments", state.metadata["structure_reason"] = report_.structure_reason;
    if (sums_.train.empty()) return state;
    state.put("train", sums_.train), state.put("test", sums_.test);
    state.put("rows", std::vector<std::uint64_t>{sums_.train_rows, sums_.test_rows, sums_.next_row});
    return state;
}

void Fitter::pass_over_moments(size_t size, double multiply_adds,
                               const std::function<void(const SampleSource&, const MomentOptions&)>& pass) {
    const auto start = Clock::now();
    if (saved_ && saved_->tensors.contains("rows")) {
        const auto& rows = saved_->u64("rows", 3);
        sums_.train = saved_->f64("train", size), sums_.test = saved_->f64("test", size);
        sums_.train_rows = rows[0], sums_.test_rows = rows[1], sums_.next_row = rows[2];
    }
    const std::uint64_t resumed_at = sums_.next_row;
    const size_t d = static_cast<size_t>(model_.dimension());
    SampleSource source{rows(), [&](size_t first, size_t count, double* z) {
                            model_.view.read(data_, first, count, z);
                            for (size_t n = 0; n < count; ++n)
                                for (size_t j = 0; j < d; ++j)
                                    z[n * d + j] = (z[n * d + j] - model_.standardization.mean[j]) /
                                                   model_.standardization.scale[j];
                        }};
    MomentOptions options;
    options.single_precision = options_.single_precision, options.batch = options_.batch;
    const auto state = [&] { return moment_state(); };
    guard(context_, checkpoint_, state, [&](const auto& between) {
        options.after_batch = [&](const MomentSums&) { between(); };
        pass(source, options);
    });
    report_.moments = size, report_.moment_seconds = seconds_since(start);
    report_.moment_gflops = 2e-9 * multiply_adds * static_cast<double>(rows() - resumed_at) /
                            std::max(report_.moment_seconds, 1e-9);
    if (report_.moment_seconds > 2 && checkpoint_.enabled()) checkpoint_.save(moment_state());
}

void Fitter::compute_moments() {
    pass_over_moments(plan_->size(), plan_->multiply_adds(),
                      [&](const SampleSource& source, const MomentOptions& options) {
                          accumulate_moments(context_, *plan_, block().reference, source, options, sums_);
                      });
}

/// The degree of smallest held-out loss, each with its best ridge: every lower basis is part of the one that
/// the moments were summed for, and so are its moments.
void Fitter::choose_degree(const std::vector<double>& train, const std::vector<double>& test) {
    Block& b = block();
    std::map<double, IndexSet> tried;
    report_.degree_losses.clear();
    for (int degree = 2; degree <= b.basis.degree; degree += even_ ? 2 : 1) {
        IndexSet basis =
            make_index_set(b.basis.sites, degree, b.basis.pairs, b.basis.total_degree, b.basis.even);
        try {
            choose_ridge(ScoreSystem(basis, b.reference, tables_, *plan_), train, test);
        } catch (const Error& error) {
            if (error.kind() != ErrorKind::numerical || degree == 2) throw;
            continue; // too many functions for the rows
        }
        report_.degree_losses.emplace_back(degree, report_.heldout_loss);
        tried.try_emplace(report_.heldout_loss, std::move(basis));
    }
    b.basis = tried.begin()->second;
    report_.basis_size = b.basis.terms.size();
}

/// Held-out loss J = c' A_test c / 2 - b_test' c of the coefficients from the training rows, integrated over
/// t at five of the nodes; the smallest of the decades wins, then of the half decades beside it.
double Fitter::choose_ridge(const ScoreSystem& system, const std::vector<double>& train,
                            const std::vector<double>& test) {
    const Block& b = block();
    const size_t step = std::max<size_t>((b.node_time.size() - 1) / 4, 1),
                 used = (b.node_time.size() + step - 1) / step;
    std::vector<double> times(used);
    for (size_t m = 0; m < used; ++m) times[m] = b.node_time[m * step];
    std::map<double, double> losses;
    const auto measure = [&](const std::vector<double>& ridges) {
        const Array<double> loss = held_out_losses(context_, system, train, test, times, ridges);
        for (size_t r = 0; r < ridges.size(); ++r) {
            double total = 0; // dt = (t - t_min + t0) d tau
            for (size_t m = 0; m < used; ++m) total += loss(m, r) * (times[m] - b.t_min + b.t0);
            losses[ridges[r]] = total * b.tau(b.t_end) / static_cast<double>(used);
        }
    };
    const auto best = [&] {
        return std::min_element(losses.begin(), losses.end(), [](const auto& x, const auto& y) {
            return (std::isfinite(x.second) ? x.second : 1e300) <
                   (std::isfinite(y.second) ? y.second : 1e300);
        });
    };
    if (smooth()) measure({smooth_ridge});
    if (losses.empty() || !std::isfinite(best()->second)) {
        measure({1e-5, 1e-4, 1e-3, 1e-2, 1e-1});
        measure({best()->first * std::sqrt(0.1), best()->first * std::sqrt(10.0)});
    }
    report_.ridge_losses.assign(losses.begin(), losses.end());
    if (!std::isfinite(best()->second))
        throw Error(ErrorKind::numerical,
                    "fit: no ridge up to 0.1 makes the systems of the training rows positive definite");
    report_.heldout_loss = best()->second;
    return best()->first;
}

/// Moments of one column towards those of its smooth density.
void Fitter::shrink(std::vector<double>& moments) const {
    if (!density_ || density_->shrinkage == 0) return;
    const Family& family = model_.blocks.front().reference.families.front();
    const std::vector<double> smooth = density_means(*density_, family, plan_->top_degree());
    const auto place = plan_->triple_place(0, 0, 0);
    for (int r = 0; r <= plan_->top_degree(); ++r)
        if (place.slot[r] >= 0) {
            double& m = moments[place.base + static_cast<size_t>(place.slot[r]) * place.stride];
            m += density_->shrinkage * (smooth[static_cast<size_t>(r)] - m);
        }
}

void Fitter::solve() {
    const auto start = Clock::now();
    Block& b = block();
    if (model_.dimension() == 1 && !has_walls() && options_.ridge != 0) {
        density_ = marginal_density(marginal_.sums[0], even_);
        if (density_) report_.density_degree = density_->degree, report_.shrinkage = density_->shrinkage;
    }
    const bool tries = options_.degree == 0 && !smooth() && model_.dimension() == 1 && !has_walls();
    std::vector<double> train, test;
    if (tries || options_.ridge < 0) {
        train = moment_averages(sums_, Subset::train), test = moment_averages(sums_, Subset::test);
        shrink(train);
    }
    if (tries) choose_degree(train, test);
    const ScoreSystem system(b.basis, b.reference, tables_, *plan_);
    double ridge = options_.ridge;
    if (ridge < 0) ridge = choose_ridge(system, train, test);
    train = {}, test = {};
    std::vector<double> moments = moment_averages(sums_, Subset::all);
    shrink(moments);
    sums_ = {};
    const size_t nodes = b.node_time.size();
    b.coefficients = Array<double>(nodes, system.size());
    const std::vector<SolveStatus> status =
        solve_nodes(context_, system, moments, b.node_time, ridge, b.coefficients);
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
    model_.training_rows = static_cast<double>(rows());
    report_.samples = rows(), report_.dimension = static_cast<size_t>(model_.dimension());
    nlohmann::ordered_json j = {{"structure", model_.levels.empty() ? "flat" : "levels"}};
    j["structure_reason"] = report_.structure_reason;
    j["symmetry"] = even_ ? "even" : "none";
    j["lattice"] = options_.lattice ? options_.lattice->describe() : "none";
    if (!model_.blocks.empty()) {
        const Block& b = block();
        j["process"] = process_name(model_.process);
        j["degree"] = b.basis.degree / functions_of_frequency(b.reference.families.front());
        j["total_degree"] = b.basis.total_degree;
        j["pairs"] = options_.pairs ? format_pair_rules(*options_.pairs) : "default";
        j["ridge"] = report_.ridge;
        j["time_nodes"] = b.node_time.size() - 1;
        j["t_min"] = b.t_min, j["t_end"] = b.t_end;
        j["reference"] = report_.reference;
        j["moment_precision"] = options_.single_precision ? "float32" : "float64";
    }
    if (model_.linear) {
        j["process"] = process_name(model_.process);
        j["degree"] = model_.linear->degree, j["ridge"] = model_.linear->ridge;
        j["t_min"] = model_.linear->t_min, j["t_end"] = model_.linear->t_end;
        j["reference"] = report_.reference;
    }
    if (model_.waves) {
        j["process"] = process_name(model_.process);
        j["radius"] = model_.waves->radius, j["ridge"] = report_.ridge;
        j["time_nodes"] = model_.waves->node_time.size() - 1;
        j["t_min"] = model_.waves->t_min, j["t_end"] = model_.waves->t_end;
        j["reference"] = report_.reference;
        j["lower"] = model_.standardization.mean;
        for (size_t k = 0; k < model_.standardization.mean.size(); ++k)
            j["upper"].push_back(model_.standardization.mean[k] + model_.standardization.scale[k] *
                                                                      (model_.waves->periodic ? 2 : 1) *
                                                                      3.14159265358979323846);
    }
    for (const LevelReport& level : report_.levels)
        j["levels"].push_back({{"name", level.name},
                               {"targets", level.targets},
                               {"pairs", level.pairs},
                               {"basis_size", level.basis_size},
                               {"descriptors", level.descriptors},
                               {"ridge", level.ridge},
                               {"heldout", level.heldout}});
    j["drop_constant"] = options_.drop_constant, j["dequantise"] = options_.dequantise;
    j["seed"] = options_.seed, j["samples"] = rows();
    model_.configuration = j.dump();
}

Model fit(const Context& context, const SampleFile& data, const FitOptions& options, FitReport* report) {
    use_sequential_blas();
    FitReport local;
    return Fitter(context, data, options, report ? *report : local).run();
}

} // namespace dynkin

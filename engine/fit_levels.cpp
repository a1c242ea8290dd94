// fit_levels.cpp - fit() of a multilevel model: which levels, their training pairs, one after another.
#include "../kernels/philox.h"
#include "fitter.h"
#include "model_tensors.h"
#include "parallel.h"
#include "progress.h"
#include "random.h"
#include "sampler.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace dynkin {

bool Fitter::use_levels() {
    std::string& why = report_.structure_reason;
    if (saved_) { // as it was decided before the interruption
        why = saved_->text("structure_reason");
        return saved_->text("stage") == "levels";
    }
    const int d = model_.dimension();
    if (options_.structure != Structure::automatic) {
        why = "asked for";
        return options_.structure == Structure::levels;
    }
    if (d <= 3)
        why = "one joint basis holds three coordinates";
    else if (options_.pairs || options_.total_degree || options_.process)
        why = "a joint basis was asked for";
    else if (rows() < 1000)
        why = "fewer than 1000 samples";
    else if (d > 128) {
        why = "a joint basis would be too large";
        return true;
    } else
        return compare_structures();
    return false;
}

int converged_steps(const Context& context, const Model& flat, size_t rows, const double* x,
                    double tolerance) {
    int steps = flat.default_steps;
    for (auto coarse = log_density(context, flat, rows, x, steps); steps <= 512; steps *= 2) {
        auto fine = log_density(context, flat, rows, x, 2 * steps);
        double square = 0, count = 0;
        for (size_t n = 0; n < rows; ++n)
            if (std::isfinite(coarse[n]) && std::isfinite(fine[n]))
                square += (coarse[n] - fine[n]) * (coarse[n] - fine[n]), count += 1;
        if (square <= count * tolerance * tolerance) return steps;
        coarse = std::move(fine);
    }
    return 0;
}

/// Mean log q of rows [trained, trained + tested) under a model of the first `trained` ones; -inf when it
/// cannot be fitted, when its log q does not converge in steps, or when it leaves every row out.
double Fitter::heldout(Structure structure, size_t trained, size_t tested, std::string& what) const {
    FitOptions options = options_;
    options.structure = structure, options.checkpoint = {};
    options.level_pairs = std::min<size_t>(options.level_pairs, 200'000);
    options.symmetry = even_ ? Symmetry::even : Symmetry::none;
    FitReport report;
    std::optional<Model> model;
    try {
        model = Fitter(context_, data_, options, report, Part{trained, part_.columns}).run();
    } catch (const Error& error) {
        if (error.kind() == ErrorKind::usage) throw;
        what = error.what();
        return -INFINITY;
    }
    std::vector<double> x(tested * static_cast<size_t>(model_.dimension()));
    model_.view.read(data_, trained, tested, x.data());
    int steps = 0;
    if (model->levels.empty()) {
        steps = converged_steps(context_, *model, std::min<size_t>(tested, 256), x.data(), 0.1);
        if (steps == 0) {
            what = "not converged in 512 steps";
            return -INFINITY;
        }
    }
    double sum = 0, worst = 0;
    size_t finite = 0;
    for (double log_q : log_density(context_, *model, tested, x.data(), steps))
        if (std::isfinite(log_q)) sum += log_q, worst = finite++ ? std::min(worst, log_q) : log_q;
    if (finite == 0) {
        what = "none";
        return -INFINITY;
    }
    const double mean =
        (sum + static_cast<double>(tested - finite) * (worst - 10)) / static_cast<double>(tested);
    what = fmt::format("{:.2f}", mean);
    if (finite < tested) what += fmt::format(" ({} rows left out)", tested - finite);
    return mean;
}

bool Fitter::compare_structures() {
    const size_t trained = std::min<size_t>(20'000, rows() / 10 * 9),
                 tested = std::min<size_t>(2'000, rows() - trained);
    std::string flat, levels;
    const double of_flat = heldout(Structure::flat, trained, tested, flat),
                 of_levels = heldout(Structure::levels, trained, tested, levels);
    report_.structure_reason = fmt::format("held-out log q of {} rows after {} others: levels {}, flat {}",
                                           tested, trained, levels, flat);
    return of_levels > of_flat;
}

/// The lattice distance at which correlations have fallen below 0.02.
double Fitter::measured_reach() const {
    if (options_.level_reach > 0) return options_.level_reach;
    const Lattice& lattice = *options_.lattice;
    const auto& c = marginal_.correlation;
    std::vector<double> sum, count;
    for (size_t i = 0; i < c.rows(); ++i)
        for (size_t j = 0; j < i; ++j) {
            const size_t r = static_cast<size_t>(lattice.distance(static_cast<int>(i), static_cast<int>(j)));
            if (r >= sum.size()) sum.resize(r + 1, 0), count.resize(r + 1, 0);
            sum[r] += std::abs(c(i, j)), count[r] += 1;
        }
    size_t reach = sum.size();
    while (reach > 1 && (count[reach - 1] == 0 || sum[reach - 1] < 0.02 * count[reach - 1])) --reach;
    return std::max(8.0, static_cast<double>(reach));
}

/// Pairs from all rows: of each an equal share of the places that look like the targets', at a random offset.
/// Held out: every fifth row.
LevelPairs Fitter::collect_pairs(const LevelPlan& plan) const {
    const size_t width = static_cast<size_t>(plan.slots) + 1, places = plan.training.size() / width,
                 total = rows();
    const std::uint64_t most = std::min<std::uint64_t>(options_.level_pairs, std::uint64_t{total} * places);
    const auto upto = [&](size_t row) {
        return static_cast<size_t>(
            static_cast<double>(row) / static_cast<double>(total) * static_cast<double>(most) + 0.5);
    };
    LevelPairs pairs;
    for (size_t n = 0; n < total; ++n) pairs.train += n % 5 == 4 ? 0 : upto(n + 1) - upto(n);
    pairs.values = Array<float>(width, upto(total));
    const size_t d = static_cast<size_t>(model_.dimension()),
                 batch = std::max<size_t>(1, (size_t{1} << 20) / d);
    std::vector<double> x(batch * d);
    size_t train = 0, test = pairs.train;
    for (size_t first = 0; first < total; first += batch) {
        const size_t count = std::min(batch, total - first);
        model_.view.read(data_, first, count, x.data());
        for (size_t n = first; n < first + count; ++n) {
            const size_t share = upto(n + 1) - upto(n);
            if (share == 0) continue;
            const std::uint64_t start =
                philox(options_.seed, Stream::level_pairs, n, static_cast<std::uint32_t>(plan.stage), 0).v[0];
            size_t& to = n % 5 == 4 ? test : train;
            for (size_t k = 0; k < share; ++k, ++to) {
                const int* place = plan.training.data() + (start + k * places / share) % places * width;
                for (size_t s = 0; s < width; ++s)
                    pairs.values(s, to) =
                        place[s] < 0 ? 0
                                     : static_cast<float>(x[(n - first) * d + static_cast<size_t>(place[s])]);
            }
        }
        if (const int signal = context_.interrupt_signal()) throw Interrupted(signal);
    }
    return pairs;
}

LevelPlans Fitter::plan_levels() const {
    if (!on_lattice()) return dependence_levels(dependence(), 8);
    LatticePlanOptions options;
    options.homogeneous = options_.reflection_symmetric || options_.lattice->boundary == Boundary::periodic;
    options.reflections = options_.reflection_symmetric;
    options.halvings = options_.halvings;
    if (options_.lattice->shape.size() > 1) options.reach = measured_reach();
    return lattice_levels(*options_.lattice, options);
}

/// The block that is drawn before the levels: a flat model of its coordinates alone.
void Fitter::fit_first(const std::vector<int>& coordinates) {
    FitOptions options = options_;
    options.structure = Structure::flat, options.checkpoint = {}, options.lattice = {};
    options.symmetry = even_ ? Symmetry::even : Symmetry::none;
    if (!options.pairs && coordinates.size() > 3) options.pairs = parse_pair_rules("dependent:3,all:1");
    Part part{part_.rows, {}};
    for (int j : coordinates) part.columns.push_back(model_.view.kept[static_cast<size_t>(j)]);
    FitReport report;
    Model first = Fitter(context_, data_, options, report, std::move(part)).run();
    // Levels have no step error, so the block before them must not bring a visible one.
    const size_t some = std::min<size_t>(rows(), 256);
    std::vector<double> x(some * coordinates.size());
    first.view.read(data_, 0, some, x.data());
    const int steps = converged_steps(context_, first, some, x.data(), 0.005);
    model_.default_steps = steps ? steps : 512;
    model_.process = first.process;
    Block& block = model_.blocks.emplace_back(std::move(first.blocks.front()));
    for (size_t k = 0; k < coordinates.size(); ++k) {
        const size_t j = static_cast<size_t>(coordinates[k]);
        model_.standardization.mean[j] = first.standardization.mean[k];
        model_.standardization.scale[j] = first.standardization.scale[k];
        block.coordinates[k] = coordinates[k];
    }
    report_.basis_size = report.basis_size, report_.moments = report.moments, report_.ridge = report.ridge;
    report_.condition = report.condition, report_.reference = report.reference;
    report_.lambda_1 = report.lambda_1, report_.ridges_raised = report.ridges_raised;
}

TensorFile Fitter::level_state() const {
    TensorFile state;
    state.metadata["stage"] = "levels", state.metadata["structure_reason"] = report_.structure_reason;
    nlohmann::json reports = nlohmann::json::array();
    for (const LevelReport& r : report_.levels)
        reports.push_back({r.name, r.descriptors, r.targets, r.pairs, r.basis_size, r.regression,
                           r.conditioning_degree, r.ridges_raised, r.steps, r.ridge, r.condition, r.heldout,
                           r.tried});
    state.metadata["reports"] = reports.dump();
    put_levels(state, model_.levels);
    return state;
}

void Fitter::restore_levels() {
    model_.levels = read_levels(*saved_, model_.dimension());
    for (const auto& r : nlohmann::json::parse(saved_->text("reports")))
        report_.levels.push_back(
            {r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12]});
    saved_.reset();
}

void Fitter::fit_levels() {
    const LevelPlans plans = plan_levels();
    if (on_lattice()) model_.lattice = options_.lattice;
    if (!plans.first.empty()) fit_first(plans.first);
    if (saved_) restore_levels();
    LevelOptions options;
    options.even = even_, options.ridge = options_.ridge, options.degree = options_.degree,
    options.t_end = options_.t_end;
    Progress progress(context_, "levels", plans.levels.size());
    progress.set(model_.levels.size());
    const auto state = [&] { return level_state(); };
    guard(context_, checkpoint_, state, [&](const auto& between) {
        while (model_.levels.size() < plans.levels.size()) {
            const LevelPlan& plan = plans.levels[model_.levels.size()];
            LevelReport report;
            try {
                model_.levels.push_back(fit_level(context_, plan, collect_pairs(plan), options, report));
            } catch (const Error& error) {
                throw Error(error.kind(), fmt::format("{}: {}", data_.path().string(), error.what()));
            }
            report_.levels.push_back(std::move(report));
            progress.advance(1);
            between();
        }
    });
    for (const Level& level : model_.levels)
        model_.default_steps = std::max(model_.default_steps, level.steps);
    for (const LevelReport& r : report_.levels) {
        report_.basis_size += r.basis_size, report_.ridges_raised += r.ridges_raised;
        report_.condition = std::max(report_.condition, r.condition);
        report_.ridge = std::max(report_.ridge, r.ridge);
    }
}

} // namespace dynkin

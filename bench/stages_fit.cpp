// stages_fit.cpp - moments, Gram matrices, systems: what a fit consists of.
#include "engine/parallel.h"
#include "engine/solve.h"
#include "kernels/device.h"
#include "stage.h"
#include <algorithm>

namespace dynkin::bench {

using std::size_t;

namespace {

constexpr double ridge = 1e-2; // of few samples: no factorisation is to be repeated

/// Rows of `x` from a place that moves with the round.
SampleSource source_of(const std::shared_ptr<Array<double>>& x, size_t rows, size_t round) {
    const size_t shift = round % 3 * (x->rows() - rows) / 2;
    return {rows, [x, shift](size_t first, size_t count, double* z) {
                std::copy_n(x->row(shift + first), count * x->cols(), z);
            }};
}

} // namespace

const Problem& Setup::problem() {
    if (!problem_) problem_ = std::make_shared<Problem>(options);
    return *problem_;
}

const Model& Setup::model() {
    if (!model_) model_ = std::make_shared<Model>(flow_model(problem()));
    return *model_;
}

const std::vector<double>& Setup::moments() {
    if (!moments_.empty()) return moments_;
    const size_t rows = std::max<size_t>(options.samples, 5120);
    const auto x = std::make_shared<Array<double>>(chain_samples(rows, options.dimension, options.seed));
    MomentSums sums;
    accumulate_moments(context, problem().plan, problem().reference, source_of(x, rows, 0), {}, sums);
    return moments_ = moment_averages(sums, Subset::all);
}

std::vector<double> Setup::times() const {
    TimeGrid grid;
    return grid.step_times(static_cast<int>(options.nodes) + 1);
}

std::vector<Stage> moment_stages(Setup& setup) {
    const Problem& p = setup.problem();
    const size_t rows = setup.options.samples;
    const auto x =
        std::make_shared<Array<double>>(chain_samples(rows + 2 * 1021, p.sites(), setup.options.seed));
    const double d = static_cast<double>(p.sites()), functions = 1 + d * p.plan.top_degree();
    std::vector<Stage> stages;
    for (const bool single : {false, true}) {
        const double size = single ? 4 : 8, degree = single ? 3 : 7; // of the pieces of functions
        Stage& stage = stages.emplace_back();
        stage.single_precision = single, stage.unit = "sample", stage.units = static_cast<double>(rows);
        stage.work = {2 * p.plan.multiply_adds(), 8 * d};
        stage.parts["moments.functions"] = {2 * degree * d * p.plan.top_degree(), 8 * d + size * functions};
        stage.parts["moments.products"] = {2 * p.plan.multiply_adds(), size * functions};
        stage.run = [&setup, &p, x, rows, single](size_t round) {
            MomentSums sums;
            MomentOptions options;
            options.single_precision = single;
            accumulate_moments(setup.context, p.plan, p.reference, source_of(x, rows, round), options, sums);
        };
    }
    return stages;
}

std::vector<Stage> gram_stages(Setup& setup) {
    const Problem& p = setup.problem();
    const double k = static_cast<double>(p.system.size());
    Stage stage;
    stage.unit = "system", stage.units = static_cast<double>(setup.options.nodes);
    stage.work = {p.system.gram_operations(), 8 * (k * k + static_cast<double>(p.plan.size()))};
    stage.parts["gram"] = {stage.work.flops, 8 * (2 * k * k + static_cast<double>(p.plan.size()))};
    if constexpr (built_with_cuda)
        if (setup.context.device() == Device::cuda) {
            stage.run = gram_on_device(setup);
            return {stage};
        }
    struct State {
        std::vector<double> moments[2], times;
        std::vector<Array<double>> a;
    };
    const auto state = std::make_shared<State>();
    state->moments[0] = state->moments[1] = setup.moments(), state->times = setup.times();
    for (size_t m = 0; m < setup.options.nodes; ++m) state->a.emplace_back(p.system.size(), p.system.size());
    stage.run = [&setup, &p, state](size_t round) {
        parallel_for(setup.context.threads(), state->a.size(), [&](size_t m, size_t) {
            p.system.gram(state->moments[round % 2], state->times[m + 1], state->a[m]);
        });
    };
    return {stage};
}

std::vector<Stage> solve_stages(Setup& setup) {
    const Problem& p = setup.problem();
    const double k = static_cast<double>(p.system.size());
    Stage stage;
    stage.unit = "system", stage.units = static_cast<double>(setup.options.nodes);
    stage.work = {k * k * k / 3 + 2 * k * k, 16 * k * k};
    stage.parts["solve.factor"] = {k * k * k / 3, 32 * k * k}; // scaled, factored
    if constexpr (built_with_cuda)
        if (setup.context.device() == Device::cuda) {
            stage.run = solve_on_device(setup);
            return {stage};
        }
    struct State {
        std::vector<Array<double>> gram, a;
        std::vector<std::vector<double>> b, c;
    };
    const auto state = std::make_shared<State>();
    const std::vector<double> times = setup.times(), means = p.system.means(setup.moments());
    for (size_t m = 0; m < setup.options.nodes; ++m) {
        Array<double>& gram = state->gram.emplace_back(p.system.size(), p.system.size());
        p.system.gram(setup.moments(), times[m + 1], gram);
        state->b.push_back(p.system.right_side(means, times[m + 1]));
    }
    state->c.resize(setup.options.nodes);
    stage.prepare = [state](size_t) { state->a = state->gram; };
    stage.run = [&setup, &p, state](size_t) {
        parallel_for(setup.context.threads(), state->a.size(), [&](size_t m, size_t) {
            solve_score_system(state->a[m], state->b[m], p.system.eigenvalues(), ridge, state->c[m]);
        });
    };
    return {stage};
}

} // namespace dynkin::bench

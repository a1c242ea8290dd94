// stages_sample.cpp - score, reverse SDE, probability-flow ODE, likelihoods, conditional levels.
#include "engine/level_flow.h"
#include "engine/parallel.h"
#include "engine/sampler.h"
#include "engine/score.h"
#include "kernels/device.h"
#include "kernels/score.h"
#include "stage.h"
#include <algorithm>

namespace dynkin::bench {

using kernels::kScoreTile;
using std::size_t;

namespace {

/// Work of grad h of one particle, with Lap h or without: ScoreField::multiply_adds(), and for Lap h the sums
/// of the decays and v' (docs/performance.md, Score).
template <class T> double gradient_flops(const ScoreField<T>& field, bool laplacian) {
    const kernels::ScoreLayout& layout = field.plan().layout;
    return 2 * (field.multiply_adds() +
                (laplacian ? layout.sites * (layout.degree + kernels::kPotentialTerms) : 0));
}

/// What the kernels of the device do for it, and the numbers that they move, by launch; `calls` in a unit.
template <class T> void count_parts(const ScoreField<T>& field, bool laplacian, double calls,
                                    std::map<std::string, Work>& parts) {
    const kernels::ScoreLayout& layout = field.plan().layout;
    const double d = layout.sites, n = layout.degree, lap = laplacian, size = sizeof(T);
    double coupled = 0, rows = 0, products = 0;
    for (const auto& neighbour : layout.neighbours) {
        rows += neighbour.degree, products += neighbour.degree * neighbour.degree;
        coupled = std::max<double>(coupled, neighbour.degree);
    }
    double matrices = static_cast<double>(layout.dense.size());
    for (const auto& dense : layout.dense)
        coupled = std::max<double>({coupled, double(dense.a), double(dense.b)});
    const kernels::SiteFunctions<T>& f = field.plan().families.front();
    const double function = f.hermite ? 3 : 2 * f.degree - 1;
    parts["score.functions"] = {calls * 2 * d * n * (function + 1 + lap),
                                calls * size * d * (2 * coupled + 2 + lap)};
    parts["score.matrices"] = {calls * 2 * matrices * d * d, calls * size * 2 * matrices * d};
    parts["score.sites"] = {calls * 2 *
                                (products + d * coupled + lap * d * (coupled + kernels::kPotentialTerms)),
                            calls * size * (rows + d * (coupled * (1 + lap) + 4 + lap))};
}

double particles(const Setup& setup) { return static_cast<double>(setup.options.samples); }

Stage flow_stage(Setup& setup, Method method) {
    const bool ode = method == Method::ode;
    const double d = static_cast<double>(setup.options.dimension);
    const ScoreField<float> field(setup.context, setup.model().blocks.front());
    Stage stage;
    stage.single_precision = true;
    stage.unit = "particle step", stage.units = particles(setup) * flow_steps;
    // The SDE takes all particles through each step, the ODE each tile or chunk through all.
    stage.work = {2 * gradient_flops(field, ode), ode ? (4 * d + 8) / flow_steps : 8 * d};
    count_parts(field, ode, 2, stage.parts);
    stage.parts["step.transition"] = {0, 8 * d};
    stage.parts["step.flow"] = {2 * d, 8 * d + 16};
    if (ode)
        stage.parts.erase("step.transition");
    else
        stage.parts.erase("step.flow");
    SampleOptions options;
    options.method = method, options.steps = flow_steps, options.seed = setup.options.seed;
    options.estimate_error = false;
    const size_t count = setup.options.samples;
    const auto sampling = std::make_shared<Sampling>(setup.context, setup.model(), options, count);
    stage.run = [sampling, count](size_t round) {
        sampling->run(round * count, count, [](size_t, size_t, const float*, const double*) {});
    };
    return stage;
}

Run score_on_cpu(Setup& setup, bool laplacian) {
    struct State {
        ScoreField<float> field;
        ScoreField<float>::Coefficients c;
        Array<float> z, g, space;
    };
    const size_t d = setup.options.dimension, tiles = (setup.options.samples + kScoreTile - 1) / kScoreTile;
    ScoreField<float> field(setup.context, setup.model().blocks.front());
    const auto c = field.arrange(coefficients_at(setup.model().blocks.front(), 0.1));
    const size_t scratch = field.scratch(), threads = static_cast<size_t>(setup.context.threads());
    const auto state = std::make_shared<State>(State{std::move(field), c, Array<float>(tiles, d * kScoreTile),
                                                     Array<float>(tiles, (d + 1) * kScoreTile),
                                                     Array<float>(threads, scratch)});
    const Array<double> x = chain_samples(kScoreTile, d, setup.options.seed);
    for (size_t tile = 0; tile < tiles; ++tile)
        for (size_t j = 0; j < d; ++j)
            for (size_t p = 0; p < kScoreTile; ++p)
                state->z(tile, j * kScoreTile + p) = static_cast<float>(x(p, j));
    return [&setup, state, d, laplacian](size_t) {
        parallel_for(setup.context.threads(), state->z.rows(), [&](size_t tile, size_t thread) {
            state->field.gradient(state->c, state->z.row(tile), state->g.row(tile),
                                  laplacian ? state->g.row(tile) + d * kScoreTile : nullptr,
                                  state->space.row(thread));
        });
    };
}

} // namespace

std::vector<Stage> score_stages(Setup& setup) {
    const double d = static_cast<double>(setup.options.dimension);
    const ScoreField<float> field(setup.context, setup.model().blocks.front());
    std::vector<Stage> stages;
    for (const bool laplacian : {false, true}) {
        Stage& stage = stages.emplace_back();
        stage.variant = laplacian ? "with Laplacian" : "", stage.single_precision = true;
        stage.unit = "particle", stage.units = particles(setup);
        stage.work = {gradient_flops(field, laplacian), 8 * d + (laplacian ? 4 : 0)};
        count_parts(field, laplacian, 1, stage.parts);
        if constexpr (built_with_cuda)
            if (setup.context.device() == Device::cuda) {
                stage.run = score_on_device(setup, laplacian);
                continue;
            }
        stage.run = score_on_cpu(setup, laplacian);
    }
    return stages;
}

std::vector<Stage> sde_stages(Setup& setup) { return {flow_stage(setup, Method::sde)}; }
std::vector<Stage> ode_stages(Setup& setup) { return {flow_stage(setup, Method::ode)}; }

std::vector<Stage> density_stages(Setup& setup) {
    const size_t d = setup.options.dimension, count = setup.options.samples;
    const ScoreField<double> field(setup.context, setup.model().blocks.front());
    Stage stage;
    stage.unit = "particle step", stage.units = particles(setup) * flow_steps;
    stage.work = {2 * gradient_flops(field, true), (8 * static_cast<double>(d) + 8) / flow_steps};
    count_parts(field, true, 2, stage.parts);
    stage.parts["step.flow"] = {2 * static_cast<double>(d), 16 * static_cast<double>(d) + 16};
    const auto x = std::make_shared<Array<double>>(chain_samples(count + 2 * 1021, d, setup.options.seed));
    stage.run = [&setup, x, count](size_t round) {
        log_density(setup.context, setup.model(), count, x->row(round % 3 * 1021), flow_steps);
    };
    return {stage};
}

namespace {

Run conditional_on_cpu(Setup& setup, const std::shared_ptr<Level>& level) {
    struct State {
        std::shared_ptr<Level> level;
        LevelFlow<float> flow;
        Array<float> x;
        Array<double> log_q, space;
    };
    const size_t d = setup.options.dimension, tiles = (setup.options.samples + kScoreTile - 1) / kScoreTile;
    LevelFlow<float> flow(setup.context, *level, flow_steps);
    const size_t scratch = flow.scratch() / sizeof(double) + 1;
    const auto state = std::make_shared<State>(
        State{level, std::move(flow), Array<float>(tiles, d * kScoreTile), Array<double>(tiles, kScoreTile),
              Array<double>(static_cast<size_t>(setup.context.threads()), scratch)});
    std::fill(state->x.begin(), state->x.end(), 0.5f);
    return [&setup, state](size_t round) {
        parallel_for(setup.context.threads(), state->x.rows(), [&](size_t tile, size_t thread) {
            const std::uint64_t first = (round * state->x.rows() + tile) * kScoreTile;
            state->flow.draw(setup.options.seed, first, state->x.row(tile), state->log_q.row(tile),
                             reinterpret_cast<std::byte*>(state->space.row(thread)));
        });
    };
}

} // namespace

std::vector<Stage> conditional_stages(Setup& setup) {
    const auto level = std::make_shared<Level>(conditional_level(setup.options));
    const auto plan = conditional_plan<float>(*level, flow_steps);
    double coefficients = 0; // that symmetry leaves
    for (const auto& used : plan.used) coefficients += used.last - used.first;
    const double n = level->degree, terms = kernels::kPotentialTerms;
    const double tiles = static_cast<double>((setup.options.samples + kScoreTile - 1) / kScoreTile);
    Stage stage;
    stage.single_precision = true, stage.unit = "particle step";
    stage.units = tiles * kScoreTile * static_cast<double>(level->targets.size()) * flow_steps;
    // Factors at the new time, two evaluations of pieces with slopes, two of v' (docs/performance.md).
    const double pieces = plan.functions.hermite ? 3 : 2 * plan.functions.degree + 3;
    stage.work = {2 * (coefficients + 2 * n * pieces + 2 * terms), 12.0 / flow_steps};
    stage.parts["conditional.flow"] = {stage.work.flops, 4 * static_cast<double>(level->conditions())};
    if constexpr (built_with_cuda)
        if (setup.context.device() == Device::cuda) {
            stage.run = conditional_on_device(setup, level);
            return {stage};
        }
    stage.run = conditional_on_cpu(setup, level);
    return {stage};
}

} // namespace dynkin::bench

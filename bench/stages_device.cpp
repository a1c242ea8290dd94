// stages_device.cpp - stages that the engine runs on the device by classes of their own. Each call of a Run
// only enqueues, or waits as the pipeline does.
#include "engine/device_score.h"
#include "engine/energy_law.h"
#include "engine/gram_device.h"
#include "engine/levels_device.h"
#include "engine/mcmc_device.h"
#include "engine/solve_device.h"
#include "kernels/score.h"
#include "stage.h"
#include <algorithm>

namespace dynkin::bench {

using kernels::kScoreTile;
using std::size_t;

Run gram_on_device(Setup& setup) {
    struct State {
        DeviceScoreSystem system;
        DeviceArray<double> moments[2], a;
        std::vector<double> times;
    };
    DeviceState& device = setup.context.device_state();
    const ScoreSystem& system = setup.problem().system;
    const std::span<const double> moments = setup.moments();
    const size_t k = system.size(), nodes = setup.options.nodes;
    std::vector<double> times = setup.times();
    times.erase(times.begin());
    times.resize(nodes);
    const auto state = std::make_shared<State>(
        State{DeviceScoreSystem(device, system),
              {to_device(device, moments, "the moments"), to_device(device, moments, "the moments")},
              {device, nodes * k * k, "the Gram matrices"},
              times});
    return [state](size_t round) {
        state->system.gram(state->moments[round % 2], state->times, state->a.data());
    };
}

Run solve_on_device(Setup& setup) {
    struct State {
        DeviceSolver solver;
        DeviceArray<double> a;
        Array<double> b, c;
    };
    DeviceState& device = setup.context.device_state();
    const ScoreSystem& system = setup.problem().system;
    const std::vector<double> times = setup.times(), means = system.means(setup.moments());
    const size_t k = system.size(), nodes = setup.options.nodes;
    const auto state = std::make_shared<State>(State{DeviceSolver(device, system.eigenvalues(), nodes),
                                                     {device, nodes * k * k, "the Gram matrices"},
                                                     Array<double>(nodes, k),
                                                     Array<double>(nodes, k)});
    DeviceScoreSystem matrices(device, system);
    matrices.gram(to_device(device, std::span<const double>(setup.moments()), "the moments"),
                  std::span(times).subspan(1, nodes), state->a.data());
    cuda::synchronize(device.compute_stream());
    for (size_t m = 0; m < nodes; ++m) {
        const std::vector<double> side = system.right_side(means, times[m + 1]);
        std::copy(side.begin(), side.end(), state->b.row(m));
    }
    return [state](size_t) { state->solver.solve(state->a.data(), state->b, 1e-2, state->c); };
}

Run score_on_device(Setup& setup, bool laplacian) {
    constexpr size_t inputs = 4; // positions of a chunk, in turn
    struct State {
        ScoreField<float> field;
        DeviceScore<float> score;
        DeviceArray<float> z, gradient, laplacian;
    };
    DeviceState& device = setup.context.device_state();
    const Block& block = setup.model().blocks.front();
    ScoreField<float> field(setup.context, block);
    const auto c = field.arrange(coefficients_at(block, 0.1));
    // The device's part refers to the field's plan, which does not move with the field.
    DeviceScore<float> score(device, field, {c});
    const size_t numbers = score.numbers(), chunk = score.chunk(), d = setup.options.dimension;
    const auto state = std::make_shared<State>(State{std::move(field),
                                                     std::move(score),
                                                     {device, inputs * numbers, "positions"},
                                                     {device, numbers, "gradients"},
                                                     {device, numbers, "Laplacians"}});
    const Array<double> x = chain_samples(kScoreTile, d, setup.options.seed);
    std::vector<float> z(inputs * numbers);
    for (size_t n = 0; n < z.size(); ++n) z[n] = static_cast<float>(x(n % kScoreTile, n % numbers / chunk));
    state->z.upload(device.compute_stream(), z);
    cuda::synchronize(device.compute_stream());
    const size_t count = setup.options.samples;
    return [state, laplacian, count, chunk, numbers](size_t round) {
        cuda::ScoreUpdate<float> update;
        update.gradient = state->gradient.data();
        update.laplacian = laplacian ? state->laplacian.data() : nullptr;
        for (size_t first = 0; first < count; first += chunk, ++round) {
            const size_t rows = (std::min(chunk, count - first) + kScoreTile - 1) / kScoreTile * kScoreTile;
            state->score.gradient(0, state->z.data() + round % inputs * numbers, rows, update);
        }
    };
}

Run conditional_on_device(Setup& setup, const std::shared_ptr<Level>& level) {
    struct State {
        std::shared_ptr<Level> level;
        DeviceLevels<float> levels;
        std::vector<float> x;
        std::vector<double> log_q;
    };
    const size_t d = setup.options.dimension, tiles = (setup.options.samples + kScoreTile - 1) / kScoreTile;
    const DeviceLevel one[] = {{level.get()}};
    const auto state = std::make_shared<State>(
        State{level, DeviceLevels<float>(setup.context, one, static_cast<int>(d), flow_steps),
              std::vector<float>(tiles * d * kScoreTile, 0.5f), std::vector<double>(tiles * kScoreTile)});
    return [&setup, state, tiles](size_t round) {
        state->levels.draw(0, 1, setup.options.seed, round * tiles * kScoreTile, tiles, state->x.data(),
                           state->log_q.data());
    };
}

Run hmc_on_device(Setup& setup, const std::shared_ptr<Target>& target, int iterations, double leapfrog) {
    struct State {
        std::shared_ptr<Target> target;
        EnergyLaw law;
        DeviceChains chains;
        std::vector<double> scale;
        std::vector<HmcLevel> levels;
        State(const Context& context, const std::shared_ptr<Target>& t, size_t count)
            : target(t), law(*t), chains(context, law.view(), count, 1, 0), scale(t->dimension(), 1) {}
    };
    const auto state = std::make_shared<State>(setup.context, target, setup.options.chains);
    state->levels = {{1, 0.1, leapfrog, state->scale.data()}};
    const Array<double> x = chain_samples(setup.options.chains, setup.options.dimension, setup.options.seed);
    state->chains.set_positions({x.begin(), x.end()});
    return [&setup, state, iterations](size_t round) {
        const auto count = static_cast<std::uint32_t>(iterations);
        state->chains.advance(state->levels,
                              {setup.options.seed, static_cast<std::uint32_t>(round) * count, count, false});
    };
}

} // namespace dynkin::bench

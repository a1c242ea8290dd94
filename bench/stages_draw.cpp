// stages_draw.cpp - what stands before and after a model: Markov chains, energies.
#include "engine/energy_law.h"
#include "engine/mcmc_chains.h"
#include "kernels/device.h"
#include "stage.h"
#include <algorithm>

namespace dynkin::bench {

using std::size_t;

namespace {

constexpr int iterations = 8;
constexpr double leapfrog = 8;
constexpr double neighbours = 2, site_degree = 4;

Run hmc_on_cpu(Setup& setup, const std::shared_ptr<Target>& target) {
    struct State {
        std::shared_ptr<Target> target;
        EnergyLaw law;
        McmcChains chains;
        std::vector<double> scale;
        std::vector<HmcLevel> levels;
        State(const Context& context, const std::shared_ptr<Target>& t, size_t count)
            : target(t), law(*t), chains(context, law.view(), count, 1, count <= 8 ? 8 : 16),
              scale(t->dimension(), 1) {}
    };
    const auto state = std::make_shared<State>(setup.context, target, setup.options.chains);
    state->levels = {{1, 0.1, leapfrog, state->scale.data()}};
    const Array<double> x = chain_samples(setup.options.chains, setup.options.dimension, setup.options.seed);
    state->chains.set_positions({x.begin(), x.end()});
    return [&setup, state](size_t round) {
        const auto first = static_cast<std::uint32_t>(round * iterations);
        state->chains.advance(state->levels, {setup.options.seed, first, iterations, false});
    };
}

} // namespace

std::shared_ptr<Target> chain_target(size_t sites) {
    auto target = std::make_shared<Target>();
    target->law = ginzburg_landau({{sites}, Boundary::zero}, 0.03, 0.125, 1.0 / 17);
    target->kind = "ginzburg_landau";
    return target;
}

std::vector<Stage> hmc_stages(Setup& setup) {
    const auto target = chain_target(setup.options.dimension);
    Stage stage;
    stage.unit = "site leapfrog step"; // expected steps: their number is drawn, 4 to 12
    stage.units = static_cast<double>(setup.options.chains * setup.options.dimension) * iterations * leapfrog;
    // Kick, drift and gradient; momenta and energies once an iteration (docs/performance.md).
    const double once = 60 + 2 * site_degree + 2 * neighbours + 10;
    stage.work = {22 + neighbours + once / leapfrog, 32 / leapfrog};
    stage.parts["hmc"] = {stage.work.flops, 4 * (neighbours + 2) + 16 + 32 / leapfrog};
    if constexpr (built_with_cuda)
        if (setup.context.device() == Device::cuda) {
            stage.run = hmc_on_device(setup, target, iterations, leapfrog);
            return {stage};
        }
    stage.run = hmc_on_cpu(setup, target);
    return {stage};
}

std::vector<Stage> energy_stages(Setup& setup) {
    struct State {
        std::shared_ptr<Target> target;
        TargetEnergy energy;
        Array<double> x;
        std::vector<double> out;
    };
    const size_t d = setup.options.dimension, rows = setup.options.samples;
    const auto target = chain_target(d);
    const auto state = std::make_shared<State>(State{target, TargetEnergy(setup.context, *target),
                                                     chain_samples(rows + 2 * 1021, d, setup.options.seed),
                                                     std::vector<double>(rows)});
    Stage stage;
    stage.unit = "sample", stage.units = static_cast<double>(rows);
    const double sites = static_cast<double>(d);
    stage.work = {sites * (2 * site_degree + 2 * neighbours + 5), 8 * (sites + 1)};
    stage.parts["energy"] = stage.work;
    stage.run = [state, rows](size_t round) {
        state->energy(rows, state->x.row(round % 3 * 1021), state->out.data());
    };
    return {stage};
}

} // namespace dynkin::bench

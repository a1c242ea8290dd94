// test_cuda_energy_fit.cpp - models from the energy alone on the device: walkers as on the CPU, bit by bit,
// until the first model; then models that agree.
#include "cases.h"
#include "device_cases.h"
#include "engine/energy_fit.h"
#include <cmath>

namespace dynkin {
namespace {

class CudaEnergyFit : public cases::OnDevice {};

EnergyFitOptions quick() {
    EnergyFitOptions options;
    options.rows = 1000, options.seed = 5, options.max_iterations = 2, options.moves = 3;
    options.fit.level_pairs = 4'000, options.fit.degree = 4, options.fit.time_nodes = 6;
    return options;
}

/// The first model's log q differs by roundings of float32 trajectories, so its figures by less than their
/// noise of 1000 samples; the walkers of the next round are other ones of the same law.
void expect_agreement(const EnergyFitReport& found, const EnergyFitReport& expected) {
    ASSERT_EQ(found.annealing.size(), expected.annealing.size());
    for (std::size_t k = 0; k < found.annealing.size(); ++k) {
        EXPECT_EQ(found.annealing[k].beta, expected.annealing[k].beta) << k;
        EXPECT_EQ(found.annealing[k].ess, expected.annealing[k].ess) << k;
        EXPECT_EQ(found.annealing[k].acceptance, expected.annealing[k].acceptance) << k;
    }
    const EnergyIteration &first = found.iterations.at(0), &other = expected.iterations.at(0);
    EXPECT_EQ(first.acceptance, other.acceptance);
    EXPECT_NEAR(first.ess_out, other.ess_out, 0.02);
    EXPECT_NEAR(first.log_partition, other.log_partition, other.log_partition_error);
    EXPECT_TRUE(found.usable);
}

TEST_P(CudaEnergyFit, TiltedWellsAsOnTheCpu) {
    Target target;
    target.law = DoubleWellTarget{2, 2, 0.3}, target.kind = "test";
    EnergyFitReport found, expected;
    const Model model = fit_from_energy(context(), target, quick(), &found);
    fit_from_energy(cases::cpu_context(), target, quick(), &expected);
    expect_agreement(found, expected);
    EXPECT_FALSE(model.blocks.empty());
}

#if DYNKIN_EMULATED
TEST(CudaEnergyFitMemory, EachAllocationMayFail) {
    Target target;
    target.law = DoubleWellTarget{1, 1, 0.3}, target.kind = "test";
    EnergyFitOptions options = quick();
    options.max_iterations = options.moves = 1, options.fit.degree = 2, options.fit.time_nodes = 2;
    EXPECT_GT(cases::expect_each_allocation_may_fail(
                  [&](const Context& where) { fit_from_energy(where, target, options); }, 0, 7),
              20);
}
#endif

INSTANTIATE_TEST_SUITE_P(Run, CudaEnergyFit, testing::ValuesIn(cases::device_runs()), cases::run_name);

} // namespace
} // namespace dynkin

// test_cuda_fit.cpp - the fit of a flat model on the device: the CPU's coefficients, and the same bytes for
// every batch and budget of memory.
#include "cases.h"
#include "device_cases.h"
#include "engine/fit.h"
#include "engine/transfer_matrix.h"
#include "kernels/cuda_libraries.h"
#include "tolerance.h"

namespace dynkin {
namespace {

using std::size_t;

/// Systems here have conditions up to 1e4, and moments of the two backends differ by a few hundred roundings.
constexpr double coefficients_agree = 1e-10;

class CudaFit : public cases::OnDevice {
  protected:
    static Model fit_rows(const Context& context, const Array<double>& x, const FitOptions& options,
                          FitReport* report = nullptr) {
        const auto path =
            std::filesystem::temp_directory_path() / fmt::format("dynkin-cuda-fit-{}.npy", ::getpid());
        write_npy(path, x);
        const SampleFile file(path); // mapped: the name may go
        std::filesystem::remove(path);
        return fit(context, file, options, report);
    }
};
INSTANTIATE_TEST_SUITE_P(Run, CudaFit, testing::ValuesIn(cases::device_runs()), cases::run_name);

/// Seconds: once.
class CudaFitOfAChain : public CudaFit {};
INSTANTIATE_TEST_SUITE_P(Run, CudaFitOfAChain, testing::Values(cases::device_runs().front()),
                         cases::run_name);

const Context& cpu() {
    static const Context context({.device = Device::cpu, .threads = 1});
    return context;
}

/// Of each node's coefficients, relative to the largest.
double worst_difference(const Model& a, const Model& b) {
    const Array<double>&x = a.blocks[0].coefficients, &y = b.blocks[0].coefficients;
    double worst = 0;
    for (size_t m = 0; m < x.rows(); ++m) {
        double difference = 0, largest = 0;
        for (size_t k = 0; k < x.cols(); ++k) {
            difference = std::max(difference, std::abs(x(m, k) - y(m, k)));
            largest = std::max(largest, std::abs(x(m, k)));
        }
        worst = std::max(worst, difference / largest);
    }
    return worst;
}

TEST_P(CudaFitOfAChain, GinzburgLandauOf16SitesHasTheCoefficientsOfTheCpu) {
    Array<double> x(5000, 16);
    const Target target = read_target(DYNKIN_SOURCE_DIR "/examples/targets/gl16.toml");
    TransferMatrix(std::get<LatticeTarget>(target.law)).draw(cpu(), 1, 0, x.rows(), x.data());
    FitOptions options;
    options.lattice = *target.lattice(), options.reflection_symmetric = true, options.known_even = true;
    options.pairs = parse_pair_rules("nearest:3,all:1"), options.structure = Structure::flat;
    FitReport expected_report;
    const Model expected = fit_rows(cpu(), x, options, &expected_report);
    FitReport report;
    const Model model = fit_rows(context(), x, options, &report);
    const double worst = worst_difference(model, expected);
    EXPECT_LE(worst, coefficients_agree);
    RecordProperty("coefficients", fmt::format("{:.3g}", worst));
    EXPECT_EQ(report.ridge, expected_report.ridge);
    EXPECT_EQ(report.ridges_raised, expected_report.ridges_raised);
    EXPECT_NEAR(report.condition, expected_report.condition, 1e-9 * report.condition);
    EXPECT_NEAR(report.heldout_loss, expected_report.heldout_loss, 1e-9 * std::abs(report.heldout_loss));
    EXPECT_EQ(model.configuration, expected.configuration);
}

FitOptions small() {
    FitOptions options;
    options.process = OuProcess{}, options.degree = 3, options.pairs = parse_pair_rules("all:1"),
    options.time_nodes = 6;
    return options;
}

TEST_P(CudaFit, BatchesAndMemoryLeaveTheSameBytes) {
    const Array<double> x = cases::rows(5501, 3, 1);
    FitOptions options = small();
    const Model whole = fit_rows(context(), x, options);
    const std::uint64_t peak = device().memory_peak();
    EXPECT_LE(worst_difference(fit_rows(cpu(), x, options), whole), coefficients_agree);
    const std::uint64_t libraries = DeviceLibraries::workspace_bytes,
                        part = libraries + 2 * (peak - libraries) / 3;
    const Context tight = cases::device_context(part);
    EXPECT_TRUE(
        cases::same_bytes(fit_rows(tight, x, options).blocks[0].coefficients, whole.blocks[0].coefficients));
    EXPECT_LE(tight.device_state().memory_peak(), part);
    options.batch = 1;
    EXPECT_TRUE(cases::same_bytes(fit_rows(context(), x, options).blocks[0].coefficients,
                                  whole.blocks[0].coefficients));
}

// On eight points, with three slopes each, at most 24 of 126 functions are independent: 102 pivots are
// rounding errors, of either sign.
TEST_P(CudaFit, SingularSystemsHaveTheSameStatus) {
    Array<double> x(400, 3);
    for (size_t n = 0; n < x.rows(); ++n)
        for (size_t j = 0; j < 3; ++j) x(n, j) = n >> j & 1 ? 1 : -1;
    FitOptions options = small();
    options.degree = 6, options.pairs = parse_pair_rules("all:6"), options.total_degree = 12;
    options.t_min = 0, options.ridge = 0, options.symmetry = Symmetry::none;
    FitReport on_cpu, on_device;
    fit_rows(cpu(), x, options, &on_cpu);
    fit_rows(context(), x, options, &on_device);
    EXPECT_EQ(on_cpu.basis_size, 126u);
    EXPECT_EQ(on_cpu.ridges_raised, 1); // at t = 0
    EXPECT_EQ(on_device.ridges_raised, 1);
    EXPECT_EQ(on_device.ridge, on_cpu.ridge);
}

/// Interrupted where the moments begin; goes on from the checkpoint.
TEST_P(CudaFit, AResumedRunEndsInTheSameBytes) {
    const Array<double> x = cases::rows(5501, 3, 1);
    const auto checkpoint =
        std::filesystem::temp_directory_path() / fmt::format("dynkin-cuda-fit-{}", ::getpid());
    FitOptions options = small();
    options.batch = 5120;
    const Model whole = fit_rows(context(), x, options);
    options.checkpoint = {checkpoint, R"({"fit":1})", false, 1e9};
    std::atomic<int> signal{0};
    ContextOptions interrupting{.device = Device::cuda, .threads = 1};
    interrupting.interrupt_signal = &signal;
    interrupting.progress = [&](const ProgressEvent& event) {
        if (std::string(event.stage) == "moments") signal = 15;
    };
    EXPECT_THROW(fit_rows(Context(interrupting), x, options), Interrupted);
    options.checkpoint.resume = true;
    EXPECT_TRUE(cases::same_bytes(fit_rows(context(), x, options).blocks[0].coefficients,
                                  whole.blocks[0].coefficients));
    std::filesystem::remove(checkpoint);
}

#if DYNKIN_EMULATED
class CudaFitMemory : public CudaFit {};
INSTANTIATE_TEST_SUITE_P(Run, CudaFitMemory, testing::Values(cases::device_runs().front()), cases::run_name);

TEST_P(CudaFitMemory, EachAllocationMayFail) {
    const Array<double> x = cases::rows(60, 2, 1);
    EXPECT_GT(
        cases::expect_each_allocation_may_fail([&](const Context& where) { fit_rows(where, x, small()); }),
        20);
}
#endif

} // namespace
} // namespace dynkin

// test_cuda_gram.cpp - Gram matrices of the device: the bytes of the CPU's from the same moments; the direct
// average over the data.
#include "device_cases.h"
#include "engine/gram_device.h"
#include "moment_oracle.h"

namespace dynkin {
namespace {

using cases::Basis;
using std::size_t;

class CudaGram : public cases::OnDevice {
  protected:
    /// times x K x K
    std::vector<double> gram(const Basis& basis, const std::vector<double>& moments,
                             const std::vector<double>& times) const {
        DeviceScoreSystem system(device(), basis.system);
        const size_t k = basis.system.size();
        const auto on_device = to_device(device(), std::span<const double>(moments), "moments");
        DeviceArray<double> a(device(), times.size() * k * k, "matrices");
        system.gram(on_device, times, a.data());
        return to_host(device(), a);
    }
};
INSTANTIATE_TEST_SUITE_P(Run, CudaGram, testing::ValuesIn(cases::device_runs()), cases::run_name);

const Context& cpu() {
    static const Context context({.device = Device::cpu, .threads = 1});
    return context;
}

TEST_P(CudaGram, HasTheBytesOfTheCpu) { // neither contracts multiply-adds; exponentials are the host's
    const std::vector<double> times = {0, 0.02, 0.4, 5};
    for (const cases::MomentLayout& layout : cases::moment_layouts) {
        const Basis basis = cases::make(layout);
        const auto moments = basis.averages(cpu(), cases::rows(301, static_cast<size_t>(layout.sites), 3));
        const std::vector<double> found = gram(basis, moments, times);
        const size_t k = basis.system.size();
        for (size_t node = 0; node < times.size(); ++node) {
            Array<double> expected(k, k);
            basis.system.gram(moments, times[node], expected);
            for (size_t i = 0; i < k; ++i)
                for (size_t j = 0; j <= i; ++j) {
                    ASSERT_EQ(found[(node * k + i) * k + j], expected(i, j))
                        << layout.name << ' ' << i << ' ' << j;
                    ASSERT_EQ(found[(node * k + j) * k + i], expected(i, j)) << "above the diagonal";
                }
        }
    }
}

TEST_P(CudaGram, IsTheAverageOverTheDataAtTimeZero) { // Hermite: its tables are exact and finite
    const Array<double> z = cases::rows(300, 3, 1);
    const Basis basis(cases::hermite_reference(3, 8),
                      make_index_set(3, 4, {{0, 1, 3}, {0, 2, 2}, {1, 2, 3}}, 0, false));
    const auto found = gram(basis, basis.averages(context(), z), {0});
    const oracle::Values values(basis.reference, z, basis.set.max_degree());
    const size_t k = basis.system.size();
    double worst = 0, largest = 0;
    for (size_t i = 0; i < k; ++i)
        for (size_t j = 0; j < k; ++j) {
            const double expected = oracle::gram(values, 3, basis.set.terms[i], basis.set.terms[j]);
            worst = std::max(worst, std::abs(found[i * k + j] - expected));
            largest = std::max(largest, std::abs(expected));
        }
    EXPECT_LE(worst, tolerance::assembly * largest);
}

} // namespace
} // namespace dynkin

// test_cuda_prior.cpp - score priors on the device against the CPU, in every order of threads and streams;
// what they are is tested by test_prior.cpp, on both devices.
#include "cases.h"
#include "device_cases.h"
#include "engine/npy.h"
#include "engine/prior.h"
#include <cmath>
#include <random>
#include <vector>

namespace dynkin {
namespace {

using std::size_t;

/// Scores are of order 1 / sigma: sums of d products, and the condition of a system with ridge 1e-3.
constexpr double rounding = 1e-9, single_rounding = 2e-3;

class CudaPrior : public cases::OnDevice {
  protected:
    void SetUp() override {
        OnDevice::SetUp();
        folder_ = std::filesystem::temp_directory_path() /
                  ("dynkin_cuda_prior_" + std::to_string(::getpid()) + GetParam().name);
        std::filesystem::create_directories(folder_);
    }
    void TearDown() override {
        std::filesystem::remove_all(folder_);
        OnDevice::TearDown();
    }
    SampleFile file(const Array<double>& x) const {
        write_npy(folder_ / "x.npy", x);
        return SampleFile(folder_ / "x.npy");
    }

  private:
    std::filesystem::path folder_;
};

/// Skewed rows, neighbours correlated, one constant column.
Array<double> rows(size_t count, size_t d, unsigned seed) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    Array<double> x(count, d);
    for (size_t n = 0; n < count; ++n) {
        double common = normal(engine);
        for (size_t j = 0; j < d; ++j) {
            common = 0.6 * common + 0.8 * normal(engine);
            x(n, j) = j == 3 ? 1.5 : common + 0.2 * common * common;
        }
    }
    return x;
}

template <class T> std::vector<T> scores(const Context& context, const Prior& prior, const std::vector<T>& x,
                                         size_t stride, const std::vector<double>& sigma) {
    std::vector<T> out(x.size(), T(7));
    PriorScore<T>(context, prior)({x.size() / stride, x.data(), stride, sigma.data(), sigma.size()},
                                  out.data(), stride);
    return out;
}

TEST_P(CudaPrior, FitsAndScoresAreThoseOfTheCpu) {
    constexpr size_t d = 5;
    for (const PriorKind kind : {PriorKind::product, PriorKind::gaussian, PriorKind::flat})
        for (const size_t count : cases::sample_counts()) {
            if (count > 31 && kind == PriorKind::flat) continue; // forty products a level
            const Array<double> data = rows(std::max<size_t>(count, 50), d, 1);
            const SampleFile samples = file(data);
            const PriorOptions options{.kind = kind, .degree = 3};
            const Prior here = fit_prior(cases::cpu_context(), samples, options),
                        there = fit_prior(context(), samples, options);
            const Array<double> points = rows(count, d, 2);
            std::vector<double> x(points.begin(), points.end());
            if (count > 1) x[d] = NAN;
            std::vector<double> each(count);
            for (size_t n = 0; n < count; ++n) each[n] = 0.1 + 0.02 * static_cast<double>(n % 40);
            for (const std::vector<double>& sigma : {std::vector<double>{0.3}, each}) {
                const std::vector<double> a = scores(cases::cpu_context(), here, x, d, sigma),
                                          b = scores(context(), here, x, d, sigma),
                                          c = scores(context(), there, x, d, sigma);
                const std::vector<float> single(x.begin(), x.end()),
                    e = scores(context(), here, single, d, sigma);
                for (size_t k = 0; k < a.size(); ++k) {
                    if (std::isnan(a[k]) || (count > 1 && k / d == 1)) {
                        EXPECT_EQ(std::isnan(a[k]), std::isnan(b[k]));
                        continue;
                    }
                    ASSERT_NEAR(b[k], a[k], rounding * (1 + std::abs(a[k]))) << prior_kind_name(kind) << k;
                    ASSERT_NEAR(c[k], a[k], 100 * rounding * (1 + std::abs(a[k]))) << prior_kind_name(kind);
                    ASSERT_NEAR(e[k], a[k], single_rounding * (1 + std::abs(a[k]))) << prior_kind_name(kind);
                }
            }
        }
}

TEST_P(CudaPrior, StridesAndLittleMemory) {
    constexpr size_t d = 4, stride = 6, count = 500;
    const Array<double> data = rows(200, d, 3), points = rows(count, stride, 4);
    const std::vector<double> x(points.begin(), points.end());
    for (const PriorKind kind : {PriorKind::product, PriorKind::flat}) {
        const Prior prior = fit_prior(cases::cpu_context(), file(data), {.kind = kind, .degree = 2});
        const std::vector<double> a = scores(cases::cpu_context(), prior, x, stride, {0.5}),
                                  b = scores(context(), prior, x, stride, {0.5});
        for (size_t k = 0; k < a.size(); ++k) ASSERT_NEAR(b[k], a[k], rounding * (1 + std::abs(a[k]))) << k;
        if (kind != PriorKind::product) continue;
        const Context narrow = cases::device_context(60'000);
        EXPECT_TRUE(cases::same_bytes(scores(narrow, prior, x, stride, {0.5}), b));
        EXPECT_LE(narrow.device_state().memory_peak(), 60'000u);
    }
}

INSTANTIATE_TEST_SUITE_P(Run, CudaPrior, testing::ValuesIn(cases::device_runs()), cases::run_name);

} // namespace
} // namespace dynkin

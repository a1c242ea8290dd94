// test_cuda_weigh.cpp - sums over weights on the device: with the bits of the CPU, against naive sums, in any
// memory, in every order of threads and streams.
#include "cases.h"
#include "device_cases.h"
#include "engine/target.h"
#include "engine/weigh.h"
#include "engine/weight_sums.h"
#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace dynkin {
namespace {

using std::size_t;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double rounding = 1e-12; // of sums of at most 1e4 positive numbers, relative

class CudaWeigh : public cases::OnDevice {};

std::vector<double> log_weights(size_t count) {
    std::mt19937_64 engine(static_cast<unsigned>(count));
    std::normal_distribution<double> normal;
    std::vector<double> l(count);
    for (size_t n = 0; n < count; ++n) l[n] = 40 + 1.5 * normal(engine);
    if (count > 30) l[3] = -infinity, l[7] = infinity, l[9] = NAN, l[11] = -1e300;
    return l;
}

void expect_same(const Weights& got, const Weights& expected) {
    EXPECT_TRUE(cases::same_bytes(got.weight, expected.weight));
    EXPECT_EQ(got.flagged, expected.flagged);
    const auto figures = [](const Weights& w) {
        return std::vector<double>{w.ess_fraction, w.log_partition, w.log_partition_error, w.largest_share,
                                   w.tail_index};
    };
    EXPECT_TRUE(cases::same_bytes(figures(got), figures(expected)));
}

TEST_P(CudaWeigh, WeightsHaveTheBitsOfTheCpu) {
    for (const size_t count : {size_t{1}, size_t{31}, size_t{64}, size_t{65}, size_t{129}, size_t{10'007}}) {
        const std::vector<double> l = log_weights(count);
        expect_same(importance_weights(context(), l), importance_weights(l));
    }
}

TEST_P(CudaWeigh, WeightsAreThoseOfANaiveSum) {
    for (const size_t count : cases::sample_counts()) {
        const std::vector<double> l = log_weights(count);
        const Weights w = importance_weights(context(), l);
        long double sum = 0, squares = 0;
        for (const double v : l)
            if (std::isfinite(v)) sum += std::exp(static_cast<long double>(v) - 40);
        for (const double v : l)
            if (std::isfinite(v)) squares += std::pow(std::exp(static_cast<long double>(v) - 40) / sum, 2);
        const auto n = static_cast<long double>(count);
        EXPECT_NEAR(w.log_partition, static_cast<double>(40 + std::log(sum / n)), rounding * 40);
        EXPECT_NEAR(w.ess_fraction, static_cast<double>(1 / squares / n), rounding);
        for (size_t k = 0; k < count; ++k)
            if (std::isfinite(l[k])) {
                const auto exact = static_cast<double>(std::exp(static_cast<long double>(l[k]) - 40) / sum);
                ASSERT_NEAR(w.weight[k], exact, rounding * exact);
            }
    }
}

TEST_P(CudaWeigh, MeansHaveTheBitsOfTheCpu) {
    for (const size_t count : cases::sample_counts()) {
        const std::vector<double> w = importance_weights(log_weights(count)).weight;
        std::vector<double> values = log_weights(count);
        if (count > 30) values[7] = 3;
        const WeightedMean got = weighted_mean(context(), w, values), expected = weighted_mean(w, values);
        EXPECT_TRUE(cases::same_bytes(std::vector{got.mean, got.standard_error},
                                      std::vector{expected.mean, expected.standard_error}));
    }
}

TEST_P(CudaWeigh, TheLargestAreThoseOfASort) {
    for (const size_t count : cases::sample_counts()) {
        const std::vector<double> l = log_weights(count);
        std::vector<double> finite;
        for (const double v : l)
            if (std::isfinite(v)) finite.push_back(v);
        std::sort(finite.begin(), finite.end());
        for (const size_t wanted : {size_t{1}, size_t{30}, count + 5}) {
            const size_t expected = std::min(wanted, finite.size());
            EXPECT_EQ(
                WeightSums(context()).largest(l, wanted),
                std::vector<double>(finite.end() - static_cast<std::ptrdiff_t>(expected), finite.end()));
        }
    }
}

/// Pieces of a few nodes instead of one.
TEST_P(CudaWeigh, LittleMemoryGivesTheSameWeights) {
    const std::vector<double> l = log_weights(10'007);
    const Weights whole = importance_weights(context(), l);
    const Context narrow = cases::device_context(60'000);
    expect_same(importance_weights(narrow, l), whole);
    EXPECT_LE(narrow.device_state().memory_peak(), 60'000u);
}

TEST_P(CudaWeigh, NothingToWeighIsRefusedAsOnTheCpu) {
    cases::expect_error(
        ErrorKind::usage, [&] { importance_weights(context(), {}); }, "no samples");
    cases::expect_error(
        ErrorKind::numerical, [&] { importance_weights(context(), std::vector<double>(40, -infinity)); },
        "all 40");
    cases::expect_error(
        ErrorKind::usage,
        [&] {
            weighted_mean(context(), std::vector<double>{0, 0}, std::vector<double>{1, 2});
        },
        "all 0");
}

TEST_P(CudaWeigh, SecondMomentsAreThoseOfTheCpu) {
    const size_t d = 5;
    for (const size_t count : cases::sample_counts()) {
        const Array<double> x = cases::rows(count, d, 3);
        std::vector<double> w(count);
        for (size_t n = 0; n < count; ++n) w[n] = n % 7 == 3 ? 0 : 1 + static_cast<double>(n % 5);
        SecondMoments there(context(), d, true), here(d, true);
        for (size_t first = 0; first < count; first += 3000) { // in three calls, as blocks of a file
            const size_t rows = std::min<size_t>(3000, count - first);
            there.add(rows, w.data() + first, x.row(first)), here.add(rows, w.data() + first, x.row(first));
        }
        const Array<double> mean = there.mean(), expected = here.mean(), error = there.standard_error(),
                            expected_error = here.standard_error();
        for (size_t k = 0; k < mean.size(); ++k) {
            EXPECT_NEAR(mean[k], expected[k], rounding);
            if (count > 1) {
                EXPECT_NEAR(error[k], expected_error[k], 1e-7); // a root of rounding where it is 0
            }
        }
    }
}

class CudaWeighFiles : public CudaWeigh {
  protected:
    void SetUp() override {
        CudaWeigh::SetUp();
        folder_ = std::filesystem::temp_directory_path() / fmt::format("dynkin-weigh-{}", ::getpid());
        std::filesystem::create_directories(folder_);
    }
    void TearDown() override {
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
        CudaWeigh::TearDown();
    }
    std::filesystem::path folder_;
};

TEST_P(CudaWeighFiles, RowsOfAFileHaveTheBitsOfTheCpu) {
    const Target target = parse_target("[target]\nkind = \"double_well\"\ndimension = 5\n", "test");
    for (const size_t count : cases::sample_counts()) {
        Array<double> x = cases::rows(count, 5, 3), q(count, 1);
        for (size_t n = 0; n < count; ++n) q[n] = std::sin(static_cast<double>(n));
        if (count > 30) x(4, 2) = NAN, q[5] = -infinity, x(6, 0) = infinity;
        write_npy(folder_ / "x.npy", x), write_npy(folder_ / "q.npy", q);
        const SampleFile rows(folder_ / "x.npy"), densities(folder_ / "q.npy");
        const WeighedRows expected = weigh_rows(cases::cpu_context(), target, rows, densities);
        const Context narrow = cases::device_context(20'000);
        for (const Context* on : {&context(), &narrow}) {
            const WeighedRows got = weigh_rows(*on, target, rows, densities);
            EXPECT_TRUE(cases::same_bytes(got.log_weight, expected.log_weight));
            for (size_t n = 0; n < count; ++n) { // NaN has many bits
                ASSERT_TRUE(got.energy[n] == expected.energy[n] || std::isnan(expected.energy[n]));
                ASSERT_TRUE(got.site_mean[n] == expected.site_mean[n] || std::isnan(expected.site_mean[n]));
            }
        }
    }
}

#if DYNKIN_EMULATED
TEST(CudaWeighMemory, EachAllocationMayFail) {
    const std::vector<double> l = log_weights(100);
    EXPECT_GE(cases::expect_each_allocation_may_fail(
                  [&](const Context& context) { importance_weights(context, l); }),
              8);
}
#endif

INSTANTIATE_TEST_SUITE_P(Run, CudaWeigh, testing::ValuesIn(cases::device_runs()), cases::run_name);
INSTANTIATE_TEST_SUITE_P(Run, CudaWeighFiles, testing::ValuesIn(cases::device_runs()), cases::run_name);

} // namespace
} // namespace dynkin

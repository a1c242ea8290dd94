// test_cuda_metrics.cpp - laws, projections and second moments on the device: against naive sums, and figures
// with the bits of the CPU, in every order of threads and streams.
#include "cases.h"
#include "device_cases.h"
#include "engine/metrics.h"
#include "engine/target.h"
#include "kernels/laws_cuda.h"
#include "kernels/rows_cuda.h"
#include "kernels/sort_cuda.h"
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace dynkin {
namespace {

using std::size_t;

constexpr double rounding = 1e-12; // sums of at most 1e4 numbers of order 1

class CudaMetrics : public cases::OnDevice {
  protected:
    DeviceStream stream() const { return device().compute_stream(); }
    DeviceArray<double> there(const std::vector<double>& host) const {
        return to_device(device(), std::span<const double>(host), "numbers");
    }
    DeviceArray<double> room(size_t size) const { return {device(), size, "results"}; }
    std::vector<double> tree_sums(unsigned count, size_t terms, const DeviceArray<double>& sums) const {
        const size_t blocks = cuda::whole(PairwiseTree::of(terms)).blocks();
        const std::vector<double> parts = to_host(device(), sums);
        std::vector<double> out;
        for (size_t k = 0; k < count; ++k)
            out.push_back(tree_sum(std::span(parts).subspan(k * blocks, blocks)));
        return out;
    }
};

std::vector<double> normals(size_t count, unsigned seed, double scale = 1, double shift = 0) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    std::vector<double> x(count);
    for (double& v : x) v = shift + scale * normal(engine);
    return x;
}

TEST_P(CudaMetrics, SortingKeepsCompanionsAndTheOrderOfEqualKeys) {
    for (const size_t count : cases::sample_counts()) {
        std::vector<double> keys = normals(count, 3), companions(count);
        for (double& key : keys) key = std::round(4 * key); // many equal ones
        std::iota(companions.begin(), companions.end(), 0.0);
        std::vector<size_t> order(count);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return keys[a] < keys[b]; });
        const DeviceArray<double> in = there(keys), with = there(companions);
        DeviceArray<double> out = room(count), with_out = room(count);
        DeviceArray<unsigned char> workspace(device(), cuda::sort_workspace(count, true), "sorting");
        cuda::ascending(stream(), count, in.data(), out.data(), with.data(), with_out.data(),
                        workspace.data(), workspace.size());
        const std::vector<double> sorted = to_host(device(), out), moved = to_host(device(), with_out);
        for (size_t n = 0; n < count; ++n) {
            ASSERT_EQ(sorted[n], keys[order[n]]);
            ASSERT_EQ(moved[n], static_cast<double>(order[n]));
        }
    }
}

/// The oracle adds one mass after another.
TEST_P(CudaMetrics, CumulatedMassesDoNotFallAndAreThoseOfALoop) {
    for (const size_t count : cases::sample_counts()) {
        std::vector<double> mass = normals(2 * count, 5);
        for (size_t law = 0; law < 2; ++law) {
            double sum = 0;
            for (size_t n = 0; n < count; ++n) sum += std::abs(mass[law * count + n]);
            for (size_t n = 0; n < count; ++n) mass[law * count + n] = std::abs(mass[law * count + n]) / sum;
        }
        DeviceArray<double> masses = there(mass), space = room(2 * cuda::cumulate_space(count));
        cuda::cumulate(stream(), 2, count, masses.data(), space.data());
        const std::vector<double> got = to_host(device(), masses);
        for (size_t law = 0; law < 2; ++law) {
            double sum = 0, before = 0;
            for (size_t n = law * count; n < (law + 1) * count; ++n) {
                sum += mass[n];
                ASSERT_NEAR(got[n], sum, rounding);
                ASSERT_GE(got[n], before);
                before = got[n];
            }
            EXPECT_LE(before, 1);
        }
    }
}

/// The naive integral: all steps of both functions, sorted, and the quantiles found by search at each.
double naive_distance(const std::vector<double>& f, const std::vector<double>& g, int power) {
    std::vector<double> steps;
    for (const auto* law : {&f, &g})
        for (size_t n = 1; n <= law->size(); ++n)
            steps.push_back(static_cast<double>(n) / static_cast<double>(law->size()));
    std::sort(steps.begin(), steps.end());
    double sum = 0, u = 0;
    for (const double next : steps) {
        const double middle = 0.5 * (u + next);
        const auto quantile = [middle](const std::vector<double>& law) {
            const auto at = static_cast<size_t>(middle * static_cast<double>(law.size()));
            return law[std::min(at, law.size() - 1)];
        };
        sum += (next - u) * std::pow(std::abs(quantile(f) - quantile(g)), power);
        u = next;
    }
    return sum;
}

TEST_P(CudaMetrics, QuantileDistancesAreThoseOfANaiveIntegral) {
    for (const size_t count : cases::sample_counts()) {
        const size_t other = count / 2 + 3;
        std::vector<double> f = normals(2 * count, 7, 1.3), g = normals(2 * other, 9, 1, 0.2);
        for (const auto part : {0, 1}) {
            std::sort(f.begin() + part * static_cast<std::ptrdiff_t>(count),
                      f.begin() + (part + 1) * static_cast<std::ptrdiff_t>(count));
            std::sort(g.begin() + part * static_cast<std::ptrdiff_t>(other),
                      g.begin() + (part + 1) * static_cast<std::ptrdiff_t>(other));
        }
        const DeviceArray<double> laws = there(f), reference = there(g);
        const size_t pieces = count + other - 1;
        for (const int power : {1, 2}) {
            DeviceArray<double> sums = room(2 * cuda::whole(PairwiseTree::of(pieces)).blocks());
            cuda::quantile_distances(stream(), 2, {count, laws.data(), nullptr},
                                     {other, reference.data(), nullptr}, power, sums.data());
            const std::vector<double> got = tree_sums(2, pieces, sums);
            for (size_t k = 0; k < 2; ++k)
                EXPECT_NEAR(got[k],
                            naive_distance({f.begin() + static_cast<std::ptrdiff_t>(k * count),
                                            f.begin() + static_cast<std::ptrdiff_t>((k + 1) * count)},
                                           {g.begin() + static_cast<std::ptrdiff_t>(k * other),
                                            g.begin() + static_cast<std::ptrdiff_t>((k + 1) * other)},
                                           power),
                            rounding)
                    << count << " values, power " << power;
        }
    }
}

/// F: 0 and 1 with masses 1/4 and 3/4; G: 1 alone. W1 = 1/4, and a quarter of the mass is elsewhere.
TEST_P(CudaMetrics, TwoValuesAgainstOneByHand) {
    const DeviceArray<double> f = there({0, 1}), cumulated = there({0.25, 1}), g = there({1});
    DeviceArray<double> sums = room(1), tv = room(1), constant = room(1);
    const cuda::LawsView law{2, f.data(), cumulated.data()}, reference{1, g.data(), nullptr};
    cuda::quantile_distances(stream(), 1, law, reference, 1, sums.data());
    EXPECT_EQ(to_host(device(), sums)[0], 0.25);
    cuda::total_variations(stream(), 1, law, reference, tv.data(), constant.data());
    EXPECT_EQ(to_host(device(), tv)[0], 0.25);
    EXPECT_EQ(to_host(device(), constant)[0], 1);
}

TEST_P(CudaMetrics, ProjectionsAndSecondMomentsAreThoseOfLoops) {
    const size_t d = 37, directions = 19; // no multiples of a tile
    for (const size_t count : cases::sample_counts()) {
        const std::vector<double> x = normals(count * d, 11), v = normals(directions * d, 13);
        std::vector<double> mass = normals(count, 15);
        for (double& m : mass) m = m < -0.5 ? 0 : std::abs(m);
        std::vector<double> hidden = x; // rows of mass 0 are not looked at
        for (size_t n = 0; n < count; ++n)
            if (mass[n] == 0) std::fill_n(hidden.begin() + static_cast<std::ptrdiff_t>(n * d), d, NAN);
        const DeviceArray<double> rows = there(x), direction = there(v), behind = there(hidden),
                                  weight = there(mass);
        DeviceArray<double> projected = room(directions * count), means = room(count), moments = room(d * d);
        cuda::fill_zero(stream(), moments.data(), d * d * sizeof(double));
        cuda::project(stream(), count, d, rows.data(), directions, direction.data(), count, projected.data());
        cuda::row_means(stream(), count, d, rows.data(), means.data());
        cuda::add_second_moments(stream(), count, d, behind.data(), weight.data(), 0, true, moments.data());
        const std::vector<double> p = to_host(device(), projected), mean = to_host(device(), means),
                                  s = to_host(device(), moments);
        for (size_t n = 0; n < count; ++n) {
            long double sum = 0;
            for (size_t i = 0; i < d; ++i) sum += x[n * d + i];
            ASSERT_NEAR(mean[n], static_cast<double>(sum) / static_cast<double>(d), rounding);
            for (const size_t k : {size_t{0}, size_t{15}, directions - 1}) {
                long double product = 0;
                for (size_t i = 0; i < d; ++i)
                    product += static_cast<long double>(v[k * d + i]) * x[n * d + i];
                ASSERT_NEAR(p[k * count + n], static_cast<double>(product), rounding);
            }
        }
        for (size_t i = 0; i < d; i += 5)
            for (size_t j = i; j < d; ++j) {
                long double sum = 0;
                for (size_t n = 0; n < count; ++n)
                    sum += static_cast<long double>(mass[n]) * x[n * d + i] * x[n * d + i] * x[n * d + j] *
                           x[n * d + j];
                ASSERT_NEAR(s[i * d + j], static_cast<double>(sum), rounding * static_cast<double>(count));
            }
    }
}

std::vector<double> values_of(const FiguresWithFloor& f) {
    std::vector<double> all;
    for (const Figures& v : {f.figures, f.floor})
        all.insert(all.end(), {v.second_moment_error, v.marginal_tv, v.marginal_w1, v.sliced_w,
                               v.energy_mean_error, v.energy_std_ratio});
    return all;
}

struct Sets {
    Array<double> samples, reference;
    std::vector<double> weight;
    Target target;
};

Sets sets(size_t count, size_t d) {
    Sets s{Array<double>(count, d), Array<double>(count + 5, d), normals(count, 21), {}};
    const std::vector<double> x = normals(s.samples.size(), 17, 0.4),
                              y = normals(s.reference.size(), 19, 0.5);
    std::copy(x.begin(), x.end(), s.samples.data()), std::copy(y.begin(), y.end(), s.reference.data());
    for (double& w : s.weight) w = w < -1 ? 0 : std::abs(w);
    s.weight[0] = 0, s.weight[1] = 1;
    s.samples(0, 0) = NAN;                                                        // of weight 0
    for (size_t n = 0; n < s.reference.rows(); ++n) s.reference(n, d - 1) = 0.25; // a constant site
    s.target =
        parse_target("[target]\nkind = \"double_well\"\ndimension = " + std::to_string(d) + "\n", "test");
    return s;
}

TEST_P(CudaMetrics, FiguresHaveTheBitsOfTheCpu) {
    const Context cpu = cases::cpu_context();
    for (const size_t count : cases::sample_counts()) {
        if (count < 20) continue;
        Sets s = sets(count, 5);
        const auto same = [&](std::span<const double> weight, const Target* target) {
            const auto on_device = values_of(compare(context(), s.samples, weight, s.reference, target, 7)),
                       here = values_of(compare(cpu, s.samples, weight, s.reference, target, 7));
            EXPECT_TRUE(cases::same_bytes(on_device, here)) << count << " rows";
        };
        same(s.weight, &s.target);
        if (count > 31) continue;          // once will do
        std::vector<double> single(count); // a law of one value
        single[3] = 2;
        same(single, &s.target);
        s.samples(0, 0) = 0.1;
        same({}, nullptr);
    }
}

/// A few laws at a time, and as many passes over the rows.
TEST_P(CudaMetrics, LittleMemoryGivesTheSameFigures) {
    const Sets s = sets(1009, 5);
    const auto whole = values_of(compare(context(), s.samples, s.weight, s.reference, &s.target, 7));
    const Context narrow = cases::device_context(400'000); // of 3 MB
    const auto parts = values_of(compare(narrow, s.samples, s.weight, s.reference, &s.target, 7));
    EXPECT_TRUE(cases::same_bytes(parts, whole));
    EXPECT_LE(narrow.device_state().memory_peak(), 400'000u);
}

#if DYNKIN_EMULATED
TEST(CudaMetricsMemory, EachAllocationMayFail) {
    const Sets s = sets(64, 3);
    EXPECT_GE(cases::expect_each_allocation_may_fail([&](const Context& context) {
                  compare(context, s.samples, s.weight, s.reference, &s.target, 7);
              }),
              10);
}
#endif

INSTANTIATE_TEST_SUITE_P(Run, CudaMetrics, testing::ValuesIn(cases::device_runs()), cases::run_name);

} // namespace
} // namespace dynkin

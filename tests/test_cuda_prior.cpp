// test_cuda_prior.cpp - score priors on the device against the CPU, in every order of threads and streams;
// what they are is tested by test_prior.cpp, on both devices.
#include "cases.h"
#include "device_cases.h"
#include "engine/dynkin_c.h"
#include "engine/npy.h"
#include "engine/prior.h"
#include <algorithm>
#include <cmath>
#include <random>
#include <tuple>
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
    std::string folder(const char* name) const { return folder_ / name; }

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
        std::vector<double> each(count);
        for (size_t n = 0; n < count; ++n) each[n] = 0.1 + 0.02 * static_cast<double>(n % 40);
        EXPECT_TRUE(cases::same_bytes(scores(narrow, prior, x, stride, each),
                                      scores(context(), prior, x, stride, each)));
        EXPECT_LE(narrow.device_state().memory_peak(), 60'000u);
    }
}

/// Four polynomials of degree 9 with |v| <= 1, whose coefficients reach some hundred times the score, each
/// rounded in float32; far out the score grows with the distance.
constexpr float table_rounding = 1e-4f;

/// Rows of float32 with levels from below the table to above it, out of order, at the data and far out.
void noisy(const Array<double>& data, size_t count, std::vector<float>& x, std::vector<double>& levels) {
    const size_t d = data.cols();
    const Array<double> noise = rows(count, d, 9);
    for (size_t n = 0; n < count; ++n) {
        levels.push_back(1e-5 *
                         std::pow(10, 10 * static_cast<double>(n * 7 % count) / static_cast<double>(count)));
        for (size_t j = 0; j < d; ++j)
            x.push_back(static_cast<float>(data(n % data.rows(), j) +
                                           (n % 8 == 7 ? 5 : 1) * levels[n] * noise(n, j)));
    }
}

/// Scores of float32 at a sigma a row are those of the CPU's table, and the same bytes whatever the memory
/// holds: all of the table and of the rows; blocks of columns one after another, and few rows.
TEST_P(CudaPrior, TablesOverSigmaAreThoseOfTheCpu) {
    for (const auto& [degree, d, count] : {std::tuple<int, size_t, size_t>{2, 1, 1},
                                           {6, 200, 31},
                                           {10, 67, 301},
                                           {3, 3, 9},
                                           {4, 3, 9},
                                           {5, 3, 9},
                                           {7, 3, 9},
                                           {8, 3, 9},
                                           {9, 3, 9}}) { // a kernel a degree
        const Array<double> data = rows(200, d, 5);
        const Prior prior = fit_prior(cases::cpu_context(), file(data), {.degree = degree});
        std::vector<float> x;
        std::vector<double> levels;
        noisy(data, count, x, levels);
        if (count > 1) x[d + d / 2] = NAN;
        const auto scored = [&](const Context& where, size_t batch) {
            const PriorScore<float> score(where, prior);
            std::vector<float> out(x.size());
            for (size_t first = 0; first < count; first += batch)
                score({std::min(batch, count - first), x.data() + first * d, d, levels.data() + first,
                       NoisyRows<float>::each_row},
                      out.data() + first * d, d);
            return out;
        };
        const std::vector<float> here = scored(cases::cpu_context(), count), there = scored(context(), count);
        for (size_t n = 0; n < count; ++n)
            for (size_t j = 0; j < d; ++j) {
                const float a = here[n * d + j], b = there[n * d + j];
                if (n == 1 && j == d / 2)
                    EXPECT_TRUE(std::isnan(a) && std::isnan(b));
                else
                    ASSERT_NEAR(b, a, table_rounding * (std::abs(a) + 1 / static_cast<float>(levels[n])))
                        << degree << ' ' << n << ' ' << j;
            }
        EXPECT_TRUE(cases::same_bytes(scored(context(), 7), there)) << degree;
        if (d <= 64) continue;
        // a block of columns of the table: 77 K nodes of 64 floats, 120 kB at K = 6
        const size_t bytes = degree == 6 ? 400'000 : 600'000;
        const Context narrow = cases::device_context(bytes);
        EXPECT_TRUE(cases::same_bytes(scored(narrow, count), there)) << degree;
        EXPECT_LE(narrow.device_state().memory_peak(), bytes);
    }
}

TEST_P(CudaPrior, TheInterfaceForCTakesTheDevice) {
    const Array<double> data = rows(100, 5, 6);
    write_prior(folder("p"), fit_prior(cases::cpu_context(), file(data), {.degree = 3}));
    dynkin_prior* prior = nullptr;
    ASSERT_EQ(dynkin_prior_load(folder("p").c_str(), 1, &prior), DYNKIN_OK) << dynkin_last_error();
    const std::vector<double> levels(100, 0.4);
    std::vector<float> x(data.begin(), data.end()),
        out[2] = {std::vector<float>(500), std::vector<float>(500)};
    for (const bool there : {false, true}) {
        ASSERT_EQ(dynkin_prior_set_device(prior, there ? "cuda" : "cpu", there ? 1'000'000 : 0), DYNKIN_OK)
            << dynkin_last_error();
        ASSERT_EQ(dynkin_prior_score_f32(prior, 100, x.data(), 5, levels.data(), DYNKIN_EACH_ROW, DYNKIN_EDM,
                                         out[there].data(), 5),
                  DYNKIN_OK)
            << dynkin_last_error();
    }
    for (size_t k = 0; k < 500; ++k) ASSERT_NEAR(out[1][k], out[0][k], table_rounding * 10);
    dynkin_prior_free(prior);
}

#if DYNKIN_EMULATED
TEST(CudaPriorMemory, EachAllocationOfATableMayFail) {
    const Array<double> data = rows(100, 3, 6);
    const Prior prior = [&] {
        ProductPrior law{std::vector<double>(3, 0.1), std::vector<double>(3, 0.5), Array<double>(5, 3)};
        std::fill_n(law.moments.row(0), 3, 1.0);
        return Prior{{.degree = 2}, 100, {3}, std::move(law)};
    }();
    std::vector<float> x(data.begin(), data.end()), out(x.size());
    const std::vector<double> levels(100, 0.4);
    EXPECT_GE(cases::expect_each_allocation_may_fail([&](const Context& where) {
                  PriorScore<float>(where, prior)({100, x.data(), 3, levels.data(), 100}, out.data(), 3);
              }),
              8);
}
#endif

INSTANTIATE_TEST_SUITE_P(Run, CudaPrior, testing::ValuesIn(cases::device_runs()), cases::run_name);

} // namespace
} // namespace dynkin

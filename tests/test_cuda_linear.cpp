// test_cuda_linear.cpp - linear processes on the device: systems and their solutions against the CPU's, and
// from the same states its bytes; matrix exponentials; the variance-exploding process.
#include "device_cases.h"
#include "engine/device_linear.h"
#include "engine/linear.h"
#include "engine/matrix_exponential.h"
#include "engine/score.h"
#include "kernels/cuda_libraries.h"
#include "process_cases.h"
#include "tolerance.h"
#include <random>
#include <span>
#include <string_view>

namespace dynkin {
namespace {

using std::size_t;

class CudaLinear : public cases::OnDevice {};
INSTANTIATE_TEST_SUITE_P(Run, CudaLinear, testing::ValuesIn(cases::device_runs()), cases::run_name);

LinearProcess whirl() {
    return {cases::matrix(3, {-1, 2, 0.3, -1.5, -0.8, 0.2, 0.1, -0.4, -0.6}),
            cases::matrix(3, {1, 0, 0, 0.3, 0.7, 0, -0.2, 0.1, 1.2})};
}

TEST_P(CudaLinear, MonomialsOfALinearProcessHaveTheBytesOfTheCpu) {
    const Monomials monomials(3, 7); // 120 of them
    for (const size_t rows : cases::sample_counts()) {
        const Array<double> z = cases::rows(rows, 3, 5);
        const auto read = [&](size_t first, size_t count, double* out) {
            std::copy_n(z.row(first), count * 3, out);
        };
        EXPECT_TRUE(cases::same_bytes(monomial_sums(context(), monomials, rows, read),
                                      monomial_sums(cases::cpu_context(), monomials, rows, read)));
    }
}

struct Case {
    Array<double> data;
    Process process;
    int degree;
};
std::vector<Case> all_cases() {
    const LinearProcess single{cases::matrix(1, {-0.7}), cases::matrix(1, {1.2})};
    return {{cases::rows(500, 1, 8), single, 6},
            {cases::rows(500, 2, 5),
             LinearProcess{cases::matrix(2, {-1, 0.5, -0.8, -0.7}), cases::matrix(2, {1, 0, 0.3, 1})}, 1},
            {cases::rows(500, 3, 5), whirl(), 4}}; // 165 moments, 34 functions
}

/// The moments are good to some hundred eps, sums of 165 terms with an exponential of norm 1e2, and the
/// whitening to as many; a ridge of 1e-2 beside a trace of at most 100 multiplies that by 1e4 at most: 1e-10
/// leaves a digit.
constexpr double agreement = 1e-10;

void expect_close(std::span<const double> found, std::span<const double> expected, const char* what) {
    double largest = 0;
    for (const double x : expected) largest = std::max(largest, std::abs(x));
    ASSERT_EQ(found.size(), expected.size());
    for (size_t k = 0; k < found.size(); ++k)
        ASSERT_NEAR(found[k], expected[k], agreement * (largest + 1)) << what << ' ' << k;
}

TEST_P(CudaLinear, StatesAreThoseOfTheCpu) {
    for (const Case& which : all_cases()) {
        const Model model = cases::fitted(cases::cpu_context(), which.data, which.process, which.degree);
        const LinearField field(model);
        const std::vector<double> times = model.linear->step_times(5);
        const auto found = field.at(context(), times), expected = field.at(cases::cpu_context(), times);
        for (size_t m = 0; m < times.size(); ++m) {
            expect_close(found[m].mean, expected[m].mean, "mean");
            expect_close(found[m].factor.span(), expected[m].factor.span(), "factor");
            expect_close(found[m].inverse.span(), expected[m].inverse.span(), "inverse");
            expect_close(found[m].spread.span(), expected[m].spread.span(), "spread");
            expect_close(found[m].c, expected[m].c, "c");
            // Each time is by itself.
            const auto alone = field.at(context(), std::span(&times[m], 1));
            EXPECT_EQ(alone[0].c, found[m].c);
        }
    }
}

TEST_P(CudaLinear, LittleMemoryGivesTheSameStates) {
    if (std::string_view(GetParam().name) != cases::device_runs().front().name)
        GTEST_SKIP() << "the order of threads is no matter";
    const Model model = cases::fitted(cases::cpu_context(), cases::rows(500, 3, 5), whirl(), 3);
    const LinearField field(model);
    const std::vector<double> times = model.linear->step_times(8);
    const size_t matrices =
                     8 * 84 * 84 * sizeof(double), // of the moments; tables, and some systems of 19 x 19
        bytes = DeviceLibraries::workspace_bytes + matrices + 50'000;
    const Context little = cases::device_context(bytes);
    const auto whole = field.at(context(), times), parts = field.at(little, times);
    for (size_t m = 0; m < times.size(); ++m) EXPECT_EQ(parts[m].c, whole[m].c);
    EXPECT_LE(little.device_state().memory_peak(), bytes);
    EXPECT_GT(device().memory_peak(), bytes);
    cases::expect_error(
        ErrorKind::io, [&] { field.at(cases::device_context(bytes - matrices), times); }, "device memory");
}

TEST_P(CudaLinear, LawsThatDoNotExistAreErrorsOfTheCpu) {
    const Case which = all_cases().front();
    Model model = cases::fitted(cases::cpu_context(), which.data, which.process, which.degree);
    const double time = 0.3;
    const auto message = [&](const Context& where) {
        try {
            LinearField(model).at(where, std::span(&time, 1));
        } catch (const Error& error) {
            EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(ErrorKind::numerical));
            return std::string(error.what());
        }
        return std::string();
    };
    for (const double square : {-5.0, static_cast<double>(NAN)}) {
        model.linear->moments[2] = square;
        EXPECT_NE(message(context()), "") << square;
        EXPECT_EQ(message(context()), message(cases::cpu_context()));
    }
}

TEST_P(CudaLinear, ScoresAndDensitiesOfTheSameStatesHaveTheBytesOfTheCpu) {
    for (const Case& which : all_cases()) {
        const Model model = cases::fitted(cases::cpu_context(), which.data, which.process, which.degree);
        const LinearField field(model);
        const std::vector<double> times = model.linear->step_times(3);
        std::vector<double> fine = {times[0]};
        for (size_t k = 1; k < times.size(); ++k)
            fine.push_back(0.5 * (times[k - 1] + times[k])), fine.push_back(times[k]);
        const auto states = field.at(cases::cpu_context(), fine);
        const size_t d = which.data.cols();
        const Array<double> at = cases::rows(1009, d, 6, 2);
        for (const size_t count : {size_t{0}, size_t{1}, size_t{31}, at.rows()}) {
            Array<double> a(count, d), b(count, d);
            DeviceLinear(context(), model, field, {times[1]}, {states[2]}).score(count, at.data(), a.data());
            linear_score(cases::cpu_context(), model, times[1], count, at.data(), b.data());
            EXPECT_TRUE(cases::same_bytes(a, b));
            EXPECT_TRUE(cases::same_bytes(
                DeviceLinear(context(), model, field, times, states).log_density(count, at.data()),
                linear_density(cases::cpu_context(), model, count, at.data(), 3)));
        }
    }
}

TEST_P(CudaLinear, FitsSamplesAndScoresAreThoseOfTheCpu) {
    const Context cpu = cases::cpu_context();
    for (const Case& which : all_cases()) {
        const Model model = cases::fitted(cpu, which.data, which.process, which.degree);
        EXPECT_EQ(cases::fitted(context(), which.data, which.process, which.degree).linear->moments,
                  model.linear->moments);
        const size_t rows = 200, d = which.data.cols();
        for (const Method method : {Method::sde, Method::ode}) {
            const SampleOptions options = cases::few_steps(method, 3);
            const Samples a = sample(context(), model, rows, options), b = sample(cpu, model, rows, options);
            for (size_t k = 0; k < a.rows.size(); ++k) // float32, which may round to the other side
                ASSERT_NEAR(a.rows[k], b.rows[k], 2 * tolerance::eps32 * (1 + std::abs(b.rows[k])));
            expect_close(a.log_density, b.log_density, "log q");
        }
        const Array<double> at = cases::rows(rows, d, 6, 2);
        Array<double> a(rows, d), b(rows, d);
        score(context(), model, 0.3, rows, at.data(), a.data());
        score(cpu, model, 0.3, rows, at.data(), b.data());
        expect_close(a.span(), b.span(), "score");
        expect_close(log_density(context(), model, rows, at.data(), 3),
                     log_density(cpu, model, rows, at.data(), 3), "density");
    }
}

TEST_P(CudaLinear, ExponentialsAreThoseOfTheCpu) {
    std::mt19937_64 engine(3);
    std::normal_distribution<double> normal;
    for (const size_t n : {size_t{1}, size_t{31}, size_t{130}})
        for (const double scale : {0.0, 1e-3, 4.0}) {
            Array<double> a(n, n);
            for (double& x : a) x = scale * normal(engine) / std::sqrt(static_cast<double>(n));
            expect_close(matrix_exponential(context(), a).span(), matrix_exponential(a).span(), "exp");
        }
    Array<double> big(2, 2);
    big[0] = 1e4;
    cases::expect_error(
        ErrorKind::numerical, [&] { matrix_exponential(context(), big); }, "the result is not finite");
    big[0] = NAN;
    cases::expect_error(
        ErrorKind::numerical, [&] { matrix_exponential(context(), big); }, "the matrix is not finite");
}

#if DYNKIN_EMULATED
TEST(CudaLinearMemory, EachAllocationMayFail) {
    const Case which = all_cases().front();
    const Model model = cases::fitted(cases::cpu_context(), which.data, which.process, which.degree);
    const LinearField field(model);
    const std::vector<double> times = model.linear->step_times(2);
    EXPECT_GE(cases::expect_each_allocation_may_fail([&](const Context& where) { field.at(where, times); }),
              20);
    const Array<double> a = cases::rows(5, 5, 1);
    EXPECT_GE(
        cases::expect_each_allocation_may_fail([&](const Context& where) { matrix_exponential(where, a); }),
        2);
}
#endif

/// As the Ornstein-Uhlenbeck process, whose tests have the tolerances (test_cuda_score.cpp).
TEST_P(CudaLinear, TheVarianceExplodingProcessRunsOnTheDevice) {
    const Array<double> x = cases::rows(400, 2, 3);
    const Context cpu = cases::cpu_context();
    const Model model = cases::fitted(cpu, x, VeProcess{}, 4);
    Array<double> a(31, 2), b(31, 2);
    score(context(), model, 0.4, 31, x.data(), a.data());
    EXPECT_GT(device().memory_peak(), 0u);
    score(cpu, model, 0.4, 31, x.data(), b.data());
    for (size_t k = 0; k < a.size(); ++k) EXPECT_NEAR(a[k], b[k], 1e-11 * (1 + std::abs(b[k])));
    const Context fresh = cases::device_context();
    const auto log_q = log_density(fresh, model, 31, x.data(), 8);
    EXPECT_GT(fresh.device_state().memory_peak(), 0u);
    const auto expected = log_density(cpu, model, 31, x.data(), 8);
    for (size_t n = 0; n < 31; ++n) EXPECT_NEAR(log_q[n], expected[n], 1e-9) << n;
}

TEST_P(CudaLinear, TheSameBytesHoweverTheSequenceIsDivided) {
    const Model model = cases::fitted(
        cases::cpu_context(), cases::rows(200, 2, 5),
        LinearProcess{cases::matrix(2, {-1, 0.5, -0.8, -0.7}), cases::matrix(2, {1, 0, 0.3, 1})}, 3);
    for (const Method method : {Method::sde, Method::ode}) {
        const SampleOptions options = cases::few_steps(method, 6);
        const Samples whole = cases::in_parts(context(), model, options, {300}),
                      parts = cases::in_parts(context(), model, options, {37, 64, 1, 198});
        const size_t bytes = DeviceLibraries::workspace_bytes + 80'000; // a few tiles at a time
        const Context little = cases::device_context(bytes);
        const Samples chunks = cases::in_parts(little, model, options, {300});
        EXPECT_TRUE(cases::same_bytes(whole.rows, parts.rows));
        EXPECT_TRUE(cases::same_bytes(whole.log_density, parts.log_density));
        EXPECT_TRUE(cases::same_bytes(whole.rows, chunks.rows));
        EXPECT_TRUE(cases::same_bytes(whole.log_density, chunks.log_density));
        EXPECT_LE(little.device_state().memory_peak(), bytes);
    }
}

TEST_P(CudaLinear, LittleMemoryGivesTheSameMoments) {
    const size_t rows = cases::sample_counts().back();
    const Array<double> z = cases::rows(rows, 2, 3);
    const Monomials monomials(2, 5);
    const auto read = [&](size_t first, size_t count, double* out) {
        std::copy_n(z.row(first), count * 2, out);
    };
    EXPECT_TRUE(cases::same_bytes(monomial_sums(context(), monomials, rows, read),
                                  monomial_sums(cases::device_context(150'000), monomials, rows, read)));
}

} // namespace
} // namespace dynkin

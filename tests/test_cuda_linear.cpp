// test_cuda_linear.cpp - linear processes on the device with the bytes of the CPU; the variance-exploding
// process.
#include "device_cases.h"
#include "engine/linear.h"
#include "engine/score.h"
#include "process_cases.h"

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

TEST_P(CudaLinear, LinearProcessesHaveTheBytesOfTheCpu) {
    const Array<double> x = cases::rows(500, 3, 5), one = cases::rows(500, 1, 8);
    const LinearProcess single{cases::matrix(1, {-0.7}), cases::matrix(1, {1.2})};
    const Context cpu = cases::cpu_context();
    for (const bool many : {false, true}) {
        const Array<double>& data = many ? x : one;
        const Process process = many ? whirl() : single;
        const Model model = cases::fitted(cpu, data, process, 4);
        EXPECT_EQ(cases::fitted(context(), data, process, 4).linear->moments, model.linear->moments);
        const size_t rows = 1009, d = data.cols(); // each particle is by itself
        for (const Method method : {Method::sde, Method::ode}) {
            const SampleOptions options = cases::few_steps(method, 3);
            const Samples a = sample(context(), model, rows, options), b = sample(cpu, model, rows, options);
            EXPECT_TRUE(cases::same_bytes(a.rows, b.rows)) << many;
            EXPECT_TRUE(cases::same_bytes(a.log_density, b.log_density)) << many;
        }
        const Array<double> at = cases::rows(rows, d, 6, 2);
        for (const size_t count : {size_t{0}, size_t{1}, size_t{31}, rows}) {
            Array<double> a(count, d), b(count, d);
            score(context(), model, 0.3, count, at.data(), a.data());
            score(cpu, model, 0.3, count, at.data(), b.data());
            EXPECT_TRUE(cases::same_bytes(a, b));
            EXPECT_TRUE(cases::same_bytes(log_density(context(), model, count, at.data(), 3),
                                          log_density(cpu, model, count, at.data(), 3)));
        }
    }
}

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
        const Context little = cases::device_context(50'000); // a few tiles at a time
        const Samples chunks = cases::in_parts(little, model, options, {300});
        EXPECT_TRUE(cases::same_bytes(whole.rows, parts.rows));
        EXPECT_TRUE(cases::same_bytes(whole.log_density, parts.log_density));
        EXPECT_TRUE(cases::same_bytes(whole.rows, chunks.rows));
        EXPECT_TRUE(cases::same_bytes(whole.log_density, chunks.log_density));
        EXPECT_LE(little.device_state().memory_peak(), 50'000u);
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

// test_cuda_linear.cpp - linear processes on the device: their systems, and from the same systems the bytes
// of the CPU; matrix exponentials; the variance-exploding process.
#include "device_cases.h"
#include "engine/device_linear.h"
#include "engine/linear.h"
#include "engine/matrix_exponential.h"
#include "engine/score.h"
#include "process_cases.h"
#include "tolerance.h"
#include <random>
#include <span>

namespace dynkin {
namespace {

using std::size_t;

class CudaLinear : public cases::OnDevice {};
INSTANTIATE_TEST_SUITE_P(Run, CudaLinear, testing::ValuesIn(cases::device_runs()), cases::run_name);

LinearProcess whirl() {
    return {cases::matrix(3, {-1, 2, 0.3, -1.5, -0.8, 0.2, 0.1, -0.4, -0.6}),
            cases::matrix(3, {1, 0, 0, 0.3, 0.7, 0, -0.2, 0.1, 1.2})};
}

/// Stable in any dimension, coordinates coupled.
LinearProcess damped(size_t d) {
    LinearProcess process{Array<double>(d, d), Array<double>(d, d)};
    for (size_t i = 0; i < d; ++i) {
        process.drift(i, i) = -0.7 - 0.1 * static_cast<double>(i), process.noise(i, i) = 1;
        if (i > 0) process.drift(i, i - 1) = 0.3;
    }
    return process;
}

std::vector<double> monomials_of(const Context& context, const Monomials& monomials, const Array<double>& z) {
    MomentSums sums;
    monomial_sums(context, monomials, cases::Basis::source(z), {}, sums);
    return sums.train;
}

TEST_P(CudaLinear, MonomialsOfALinearProcessHaveTheBytesOfTheCpu) {
    const Monomials monomials(3, 7); // 120 of them
    for (const size_t rows : cases::sample_counts()) {
        const Array<double> z = cases::rows(rows, 3, 5);
        EXPECT_TRUE(cases::same_bytes(monomials_of(context(), monomials, z),
                                      monomials_of(cases::cpu_context(), monomials, z)));
    }
}

/// Systems of condition 1e5 at most (ridge 1e-2), whose solutions differ by roundings: what is required.
constexpr double systems = 1e-10;
/// Samples in float32 of 3 steps from such systems.
constexpr double samples = 1e-5;

template <class A, class B> void expect_near(const A& a, const B& b, double tolerance) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t k = 0; k < a.size(); ++k)
        ASSERT_NEAR(a[k], b[k], tolerance * (1 + std::abs(static_cast<double>(b[k])))) << k;
}

/// What the systems are at the times is solved on the device; law, factors and so on are the host's.
TEST_P(CudaLinear, SystemsAtTheTimesAreThoseOfTheCpu) {
    for (const auto& [d, degree] : {std::pair<size_t, int>{1, 12}, {2, 2}, {3, 4}}) {
        const Array<double> x = cases::rows(500, d, 5);
        const Process process = d == 3 ? whirl() : damped(d);
        const Model model = cases::fitted(cases::cpu_context(), x, process, degree);
        const LinearField field(model);
        for (const size_t count : {size_t{0}, size_t{1}, size_t{31}, size_t{130}}) {
            std::vector<double> times;
            for (size_t k = 0; k < count; ++k) times.push_back(0.01 + 0.02 * static_cast<double>(k));
            const auto a = field.at(context(), times), b = field.at(cases::cpu_context(), times);
            ASSERT_EQ(a.size(), count);
            for (size_t k = 0; k < count; ++k) {
                EXPECT_TRUE(cases::same_bytes(a[k].factor, b[k].factor));
                expect_near(a[k].c, b[k].c, systems);
            }
        }
    }
}

/// From the same states the bytes of the CPU.
TEST_P(CudaLinear, LinearProcessesHaveTheBytesOfTheCpu) {
    const Array<double> x = cases::rows(500, 3, 5);
    const Context cpu = cases::cpu_context();
    const Model model = cases::fitted(cpu, x, whirl(), 4);
    const LinearField field(model);
    const std::vector<double> times = model.linear->step_times(1),
                              at_times = {times[0], 0.5 * (times[0] + times[1]), times[1]};
    DeviceLinear flow(context(), model, field, times, field.at(cpu, at_times)),
        score_there(context(), model, field, {0.3}, field.at(cpu, std::vector<double>{0.3}));
    const size_t rows = 1009;
    const Array<double> at = cases::rows(rows, 3, 6, 2);
    Array<double> a(rows, 3), b(rows, 3);
    score_there.score(rows, at.data(), a.data());
    score(cpu, model, 0.3, rows, at.data(), b.data());
    EXPECT_TRUE(cases::same_bytes(a, b));
    EXPECT_TRUE(
        cases::same_bytes(flow.log_density(rows, at.data()), log_density(cpu, model, rows, at.data(), 1)));
}

TEST_P(CudaLinear, LinearProcessesAreThoseOfTheCpu) {
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
            expect_near(a.rows, b.rows, samples);
            expect_near(a.log_density, b.log_density, samples);
        }
        const Array<double> at = cases::rows(rows, d, 6, 2);
        for (const size_t count : {size_t{0}, size_t{1}, size_t{31}, rows}) {
            Array<double> a(count, d), b(count, d);
            score(context(), model, 0.3, count, at.data(), a.data());
            score(cpu, model, 0.3, count, at.data(), b.data());
            expect_near(a, b, 100 * systems); // polynomials of degree 4 at up to four deviations
            expect_near(log_density(context(), model, count, at.data(), 3),
                        log_density(cpu, model, count, at.data(), 3), 1000 * systems);
        }
    }
}

/// Squarings of a matrix of norm 1e2 at most lose some hundred eps: a digit is left.
constexpr double agreement = 1e-10;

void expect_close(std::span<const double> found, std::span<const double> expected, const char* what) {
    double largest = 0;
    for (const double x : expected) largest = std::max(largest, std::abs(x));
    ASSERT_EQ(found.size(), expected.size());
    for (size_t k = 0; k < found.size(); ++k)
        ASSERT_NEAR(found[k], expected[k], agreement * (largest + 1)) << what << ' ' << k;
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
    const Array<double> a = cases::rows(5, 5, 1);
    EXPECT_GE(
        cases::expect_each_allocation_may_fail([&](const Context& where) { matrix_exponential(where, a); }),
        2);
}

TEST(CudaLinearMemory, EachAllocationOfTheSystemsMayFail) {
    const Model model = cases::fitted(cases::cpu_context(), cases::rows(100, 2, 5), damped(2), 3);
    const LinearField field(model);
    EXPECT_GE(cases::expect_each_allocation_may_fail([&](const Context& where) {
                  field.at(where, std::vector<double>{0.1, 0.2, 0.4});
              }),
              6);
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
        const size_t bytes = (size_t{32} << 20) + 200'000; // cuBLAS's, and a few tiles at a time
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
    EXPECT_TRUE(cases::same_bytes(monomials_of(context(), monomials, z),
                                  monomials_of(cases::device_context(150'000), monomials, z)));
}

} // namespace
} // namespace dynkin

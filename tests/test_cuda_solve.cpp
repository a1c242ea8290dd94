// test_cuda_solve.cpp - regularised systems on the device: by hand, against the CPU's, and where there is no
// solution.
#include "cases.h"
#include "device_cases.h"
#include "engine/solve_device.h"
#include "kernels/cuda_libraries.h"
#include "tolerance.h"

namespace dynkin {
namespace {

using std::size_t;

constexpr size_t large = DeviceSolver::largest_batched + 3;

struct Answer {
    std::vector<SolveStatus> status;
    Array<double> c;
};

class CudaSolve : public cases::OnDevice {
  protected:
    Answer solve(const std::vector<Array<double>>& matrices, const Array<double>& b,
                 std::span<const double> lambda, double ridge) const {
        const size_t n = lambda.size();
        std::vector<double> all;
        for (const Array<double>& a : matrices) all.insert(all.end(), a.begin(), a.end());
        const auto a = to_device(device(), std::span<const double>(all), "matrices");
        DeviceSolver solver(device(), lambda, matrices.size());
        Answer answer{{}, Array<double>(matrices.size(), n)};
        answer.status = solver.solve(a.data(), b, ridge, answer.c);
        EXPECT_TRUE(cases::same_bytes(to_host(device(), a), all)) << "the matrices are kept";
        return answer;
    }
};
INSTANTIATE_TEST_SUITE_P(Run, CudaSolve, testing::ValuesIn(cases::device_runs()), cases::run_name);

/// Eigenvalues between 1 and about 5; both triangles.
Array<double> positive(size_t n, unsigned seed) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    Array<double> g(n, n), a(n, n);
    for (double& x : g) x = normal(engine);
    for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j <= i; ++j) {
            double sum = i == j;
            for (size_t k = 0; k < n; ++k) sum += g(i, k) * g(j, k) / static_cast<double>(n);
            a(i, j) = a(j, i) = sum;
        }
    return a;
}

struct Problem {
    std::vector<Array<double>> matrices;
    Array<double> b;
    std::vector<double> lambda;
};
Problem problem(size_t n, size_t systems) {
    Problem p{{}, Array<double>(systems, n), std::vector<double>(n)};
    for (size_t m = 0; m < systems; ++m) {
        p.matrices.push_back(positive(n, static_cast<unsigned>(m)));
        for (size_t k = 0; k < n; ++k) p.b(m, k) = std::sin(static_cast<double>(k + m) + 1);
    }
    for (size_t k = 0; k < n; ++k) p.lambda[k] = 1 + 0.3 * static_cast<double>(k % 7);
    return p;
}

/// What solve_score_system says to system m.
SolveStatus on_cpu(const Problem& p, size_t m, double ridge, std::vector<double>& c) {
    Array<double> a = p.matrices[m];
    return solve_score_system(a, {p.b.row(m), p.b.cols()}, p.lambda, ridge, c);
}

TEST_P(CudaSolve, TwoByTwoByHand) { // the case of test_solve.cpp
    Array<double> a(2, 2), b(1, 2);
    a[0] = 2, a[1] = a[2] = 1, a[3] = 4;
    b[0] = 1, b[1] = 4;
    const Answer found = solve({a}, b, std::vector<double>{1, 4}, 1);
    ASSERT_TRUE(found.status[0].solved);
    EXPECT_NEAR(found.c[0], 4.0 / 23, tolerance::few_operations(1));
    EXPECT_NEAR(found.c[1], 11.0 / 23, tolerance::few_operations(1));
    EXPECT_NEAR(found.status[0].condition, 3.5 * 3.5 / 5.75, 1e-12);
}

// Both factorisations are backward stable: each solution is within n eps times the condition (below 1e2,
// ridge and scales included) of the exact one, the estimate of the condition likewise.
TEST_P(CudaSolve, AgreesWithTheCpu) {
    for (const size_t n : {size_t{1}, size_t{3}, size_t{31}, size_t{130}, large}) {
        const Problem p = problem(n, n > 100 ? 2 : 5);
        const Answer found = solve(p.matrices, p.b, p.lambda, 1e-3);
        for (size_t m = 0; m < p.matrices.size(); ++m) {
            std::vector<double> expected;
            const SolveStatus status = on_cpu(p, m, 1e-3, expected);
            ASSERT_TRUE(found.status[m].solved) << n;
            EXPECT_EQ(found.status[m].ridge, status.ridge);
            EXPECT_EQ(found.status[m].raised, 0);
            const double bound = 100 * static_cast<double>(n) * tolerance::eps;
            EXPECT_NEAR(found.status[m].condition, status.condition, bound * status.condition);
            for (size_t k = 0; k < n; ++k) ASSERT_NEAR(found.c(m, k), expected[k], bound) << n << ' ' << k;
        }
    }
}

/// Scalings of their own, in batches of what the memory holds.
TEST_P(CudaSolve, EachSystemWithItsOwnScaling) {
    for (const size_t n : {size_t{3}, size_t{31}, large}) {
        const Problem p = problem(n, 5);
        Array<double> lambda(5, n);
        for (size_t m = 0; m < 5; ++m)
            for (size_t k = 0; k < n; ++k) lambda(m, k) = 1 + 0.2 * static_cast<double>((k + 3 * m) % 11);
        const auto part = [&](const Array<double>& all, size_t first, size_t count) {
            Array<double> out(count, n);
            std::copy_n(all.row(first), count * n, out.data());
            return out;
        };
        const auto solved = [&](const Context& where, std::vector<SolveStatus>& status) {
            Array<double> c(5, n);
            const SystemSource source{5,
                                      {},
                                      [&](size_t first, size_t count, double* a) {
                                          for (size_t m = 0; m < count; ++m)
                                              cuda::copy_to_device(
                                                  where.device_state().compute_stream(), a + m * n * n,
                                                  p.matrices[first + m].data(), n * n * sizeof(double));
                                      },
                                      [&](size_t first, size_t count) { return part(p.b, first, count); },
                                      [&](size_t first, size_t count) { return part(lambda, first, count); }};
            status = solve_in_batches(where, source, 1e-3, c, nullptr);
            return c;
        };
        std::vector<SolveStatus> status, in_parts;
        const Array<double> c = solved(context(), status);
        const size_t bytes = DeviceLibraries::workspace_bytes + 8192 + 6 * n * (n + 4) * sizeof(double);
        const Context little = cases::device_context(bytes); // two systems at a time, or three small ones
        EXPECT_TRUE(cases::same_bytes(solved(little, in_parts), c)) << n;
        for (size_t m = 0; m < 5; ++m) {
            std::vector<double> expected;
            Array<double> a = p.matrices[m];
            const SolveStatus on_cpu =
                solve_score_system(a, {p.b.row(m), n}, {lambda.row(m), n}, 1e-3, expected);
            ASSERT_TRUE(status[m].solved && in_parts[m].solved);
            const double bound = 100 * static_cast<double>(n) * tolerance::eps; // as above
            EXPECT_NEAR(status[m].condition, on_cpu.condition, bound * on_cpu.condition);
            for (size_t k = 0; k < n; ++k) ASSERT_NEAR(c(m, k), expected[k], bound) << n << ' ' << m;
        }
    }
}

TEST_P(CudaSolve, SystemsDoNotDependOnTheOthers) {
    for (const size_t n : {size_t{31}, large}) {
        const Problem p = problem(n, 3);
        const Answer all = solve(p.matrices, p.b, p.lambda, 1e-3);
        for (size_t m = 0; m < 3; ++m) {
            Array<double> b(1, n);
            std::copy_n(p.b.row(m), n, b.data());
            const Answer one = solve({p.matrices[m]}, b, p.lambda, 1e-3);
            EXPECT_TRUE(std::equal(one.c.begin(), one.c.end(), all.c.row(m))) << n;
            EXPECT_EQ(one.status[0].condition, all.status[m].condition);
        }
    }
}

TEST_P(CudaSolve, RidgesAreRaisedWhereTheyMustBe) {
    for (const size_t n : {size_t{6}, size_t{40}, large}) {
        Problem p = problem(n, 3);
        p.matrices[1](n - 1, n - 1) = -0.5; // fails in the last column
        for (const double ridge : {1e-3, 0.0}) {
            const Answer found = solve(p.matrices, p.b, p.lambda, ridge);
            for (size_t m = 0; m < 3; ++m) {
                std::vector<double> expected;
                const SolveStatus status = on_cpu(p, m, ridge, expected);
                ASSERT_TRUE(status.solved && found.status[m].solved);
                EXPECT_EQ(found.status[m].raised, status.raised);
                EXPECT_EQ(found.status[m].ridge, status.ridge);
                EXPECT_EQ(status.raised > 0, m == 1);
                for (size_t k = 0; k < n; ++k)
                    ASSERT_NEAR(found.c(m, k), expected[k],
                                static_cast<double>(n) * status.condition * tolerance::eps);
            }
        }
    }
}

TEST_P(CudaSolve, HopelessSystemsAreReportedAndTheOthersSolved) {
    for (const size_t n : {size_t{2}, large})
        for (const double entry : {static_cast<double>(NAN), -3000.0, -static_cast<double>(INFINITY)}) {
            Problem p = problem(n, 4);
            p.matrices[0](n - 1, n - 1) = entry;
            p.matrices[1](1, 0) = p.matrices[1](0, 1) = NAN;
            p.b(2, 0) = NAN;
            const Answer found = solve(p.matrices, p.b, p.lambda, 1e-4);
            for (size_t m = 0; m < 4; ++m) {
                std::vector<double> ignored;
                const SolveStatus status = on_cpu(p, m, 1e-4, ignored);
                EXPECT_EQ(found.status[m].solved, m == 3) << m << ' ' << entry;
                EXPECT_EQ(status.solved, m == 3);
                EXPECT_EQ(found.status[m].raised, status.raised) << m << ' ' << entry;
                EXPECT_EQ(found.status[m].ridge, status.ridge) << m << ' ' << entry;
            }
        }
}

} // namespace
} // namespace dynkin

// test_solve.cpp - the regularised system by hand, against Gauss elimination, and where it has no solution.
#include "cases.h"
#include "engine/solve_device.h"
#include "tolerance.h"

namespace dynkin {
namespace {

using std::size_t;

Array<double> matrix(std::initializer_list<double> values, size_t n) {
    Array<double> a(n, n);
    std::copy(values.begin(), values.end(), a.begin());
    return a;
}

/// A random symmetric positive definite system with eigenvalues of order 1, entries above the diagonal
/// arbitrary.
Array<double> positive(size_t n, unsigned seed) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    Array<double> g(n, n), a(n, n);
    for (double& x : g) x = normal(engine);
    for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j <= i; ++j) {
            a(i, j) = i == j;
            for (size_t k = 0; k < n; ++k) a(i, j) += g(i, k) * g(j, k) / static_cast<double>(n);
            if (j < i) a(j, i) = NAN; // nobody may look there
        }
    return a;
}

/// The system solved by the backend: by LAPACK, which overwrites `a`, or on the device.
SolveStatus solve(Array<double>& a, std::span<const double> b, std::span<const double> lambda, double ridge,
                  std::vector<double>& c) {
    if constexpr (built_with_cuda)
        if (cases::on_device()) {
            const Context context = cases::context();
            DeviceState& device = context.device_state();
            Array<double> both = a, side(1, b.size()), solution(1, b.size());
            for (size_t i = 0; i < a.rows(); ++i) // the device is given both triangles
                for (size_t j = 0; j < i; ++j) both(j, i) = a(i, j);
            std::copy(b.begin(), b.end(), side.begin());
            const auto there = to_device(device, std::span<const double>(both.data(), both.size()), "matrix");
            const auto status =
                DeviceSolver(device, lambda, 1).solve(there.data(), side, ridge, solution).front();
            if (status.solved) c.assign(solution.begin(), solution.end());
            return status;
        }
    return solve_score_system(a, b, lambda, ridge, c);
}

TEST(Solve, TwoByTwoByHand) {
    // D = diag(1, 4), D^-1/2 A D^-1/2 = (2 1/2; 1/2 1), + 1: (3 1/2; 1/2 2); D^-1/2 b = (1, 2);
    // y = (2 - 1, 6 - 1/2) / (6 - 1/4) = (4, 22) / 23, c = (4, 11) / 23.
    Array<double> a = matrix({2, 0, 1, 4}, 2);
    const double b[] = {1, 4}, lambda[] = {1, 4};
    std::vector<double> c;
    const SolveStatus status = solve(a, b, lambda, 1, c);
    ASSERT_TRUE(status.solved);
    EXPECT_NEAR(c[0], 4.0 / 23, tolerance::few_operations(1));
    EXPECT_NEAR(c[1], 11.0 / 23, tolerance::few_operations(1));
    EXPECT_EQ(status.ridge, 1);
    EXPECT_EQ(status.raised, 0);
    // 1-norm 3.5, inverse (2 -1/2; -1/2 3) / 5.75 of norm 3.5 / 5.75
    EXPECT_NEAR(status.condition, 3.5 * 3.5 / 5.75, 1e-12);
}

TEST(Solve, AgreesWithGaussElimination) {
    for (size_t n : {1u, 3u, 31u, 64u}) {
        Array<double> a = positive(n, 7), full(n, n);
        std::vector<double> b(n), lambda(n), c;
        for (size_t k = 0; k < n; ++k)
            b[k] = std::sin(static_cast<double>(k) + 1), lambda[k] = 1 + 0.3 * static_cast<double>(k);
        const double ridge = 1e-3;
        for (size_t i = 0; i < n; ++i)
            for (size_t j = 0; j <= i; ++j)
                full(i, j) = full(j, i) = a(i, j) + (i == j ? ridge * lambda[i] : 0);
        ASSERT_TRUE(solve(a, b, lambda, ridge, c).solved);
        const Array<double> inverse = oracle::inverse(full);
        for (size_t i = 0; i < n; ++i) {
            double expected = 0;
            for (size_t j = 0; j < n; ++j) expected += inverse(i, j) * b[j];
            EXPECT_NEAR(c[i], expected, 100 * static_cast<double>(n) * tolerance::eps)
                << n; // condition < 1e2
        }
    }
}

TEST(Solve, ConditionOfADiagonalMatrixIsTheRatioOfItsEnds) {
    Array<double> a(5, 5);
    for (size_t k = 0; k < 5; ++k) a(k, k) = std::pow(10.0, -static_cast<double>(k));
    std::vector<double> b(5, 1), lambda(5, 1), c;
    EXPECT_NEAR(solve(a, b, lambda, 0, c).condition, 1e4, 1e-8);
}

TEST(Solve, RidgeIsRaisedTenfoldUntilAnIndefiniteMatrixIsPositive) {
    const auto indefinite = [] { return matrix({1, 0, 0, -0.05}, 2); };
    const double b[] = {1, 1}, lambda[] = {1, 1};
    std::vector<double> c;
    Array<double> a = indefinite();
    SolveStatus status = solve(a, b, lambda, 1e-3, c);
    ASSERT_TRUE(status.solved);
    EXPECT_EQ(status.raised, 2); // 1e-3, 1e-2, 1e-1
    EXPECT_NEAR(status.ridge, 0.1, 1e-15);
    EXPECT_NEAR(c[0], 1 / 1.1, 1e-14);
    EXPECT_NEAR(c[1], 1 / 0.05, 1e-12);
    a = indefinite(), status = solve(a, b, lambda, 0, c); // from 0: 1e-12 first
    ASSERT_TRUE(status.solved);
    EXPECT_EQ(status.raised, 12);
    EXPECT_NEAR(status.ridge, 0.1, 1e-12);
}

TEST(Solve, RaisedRidgesSolveTheMatrixThatWasGiven) { // the failed factorisations leave no trace
    for (size_t n : {6u, 40u}) {
        Array<double> a = positive(n, 3), b = a;
        a(n - 1, n - 1) = b(n - 1, n - 1) = -0.5; // fails in the last column
        std::vector<double> side(n, 1), lambda(n, 1), c, direct;
        const SolveStatus raised = solve(a, side, lambda, 1e-3, c);
        ASSERT_TRUE(raised.solved);
        ASSERT_GT(raised.raised, 0);
        ASSERT_TRUE(solve(b, side, lambda, raised.ridge, direct).solved);
        EXPECT_TRUE(cases::same_bytes(c, direct));
    }
}

TEST(Solve, HopelessSystemsAreReportedNotThrown) {
    const double lambda[] = {1, 1}, b[] = {1, 1}, bad[] = {1, NAN};
    std::vector<double> c;
    for (double entry : {static_cast<double>(NAN), -3.0, static_cast<double>(-INFINITY)}) {
        Array<double> a = matrix({1, 0, 0, entry}, 2);
        EXPECT_FALSE(solve(a, b, lambda, 1e-4, c).solved) << entry;
    }
    Array<double> off = matrix({1, 0, NAN, 1}, 2), sound = matrix({1, 0, 0, 1}, 2);
    EXPECT_FALSE(solve(off, b, lambda, 1e-4, c).solved);
    EXPECT_FALSE(solve(sound, bad, lambda, 1e-4, c).solved);
}

TEST(ScoreMatchingLoss, ByHand) {
    const Array<double> a = matrix({2, 99, 1, 4}, 2); // lower triangle: (2 1; 1 4)
    const double b[] = {1, 3}, c[] = {2, -1};
    EXPECT_NEAR(score_matching_loss(a, b, c), 0.5 * (8 - 4 + 4) - (2 - 3), 1e-15);
}

TEST(ScoreMatchingLoss, IsLeastAtTheSolution) {
    const size_t n = 12;
    const Array<double> a = positive(n, 11);
    std::vector<double> b(n), lambda(n, 2.0), c;
    for (size_t k = 0; k < n; ++k) b[k] = std::cos(static_cast<double>(3 * k));
    Array<double> work = a;
    ASSERT_TRUE(solve(work, b, lambda, 0, c).solved);
    const double least = score_matching_loss(a, b, c);
    double bc = 0;
    for (size_t k = 0; k < n; ++k) bc += b[k] * c[k];
    EXPECT_NEAR(least, -0.5 * bc, 1e-13);
    for (size_t k = 0; k < n; ++k)
        for (double step : {-0.01, 0.01}) {
            std::vector<double> moved = c;
            moved[k] += step;
            EXPECT_NEAR(score_matching_loss(a, b, moved) - least, 0.5 * a(k, k) * step * step,
                        1e-13); // exactly quadratic
        }
}

} // namespace
} // namespace dynkin

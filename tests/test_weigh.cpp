// test_weigh.cpp - importance weights, log Z, tail index and weighted means: by hand, against exact laws, and
// limits.
#include "engine/error.h"
#include "engine/weigh.h"
#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <limits>
#include <numbers>
#include <random>

namespace dynkin {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double rounding = 1e-13; // a few hundred roundings of numbers of order 1
constexpr double z_bound = 4.5;    // two-sided probability 7e-6 for a normal error

ErrorKind kind_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.kind();
    }
    ADD_FAILURE() << "no error";
    return ErrorKind::io;
}

TEST(ImportanceWeights, ThreeSamplesByHand) {
    const std::vector<double> log_weight = {0, std::log(3.0), -infinity};
    const Weights w = importance_weights(log_weight);
    EXPECT_NEAR(w.weight[0], 0.25, rounding);
    EXPECT_NEAR(w.weight[1], 0.75, rounding);
    EXPECT_EQ(w.weight[2], 0);
    EXPECT_EQ(w.flagged, 1u);
    EXPECT_NEAR(w.ess_fraction, 1 / 0.625 / 3, rounding);
    EXPECT_NEAR(w.log_partition, std::log(4.0 / 3), rounding);
    // w = 1, 3, 0: mean 4/3, variance 7/3, sd / (mean sqrt 3) = sqrt(7/16)
    EXPECT_NEAR(w.log_partition_error, std::sqrt(7.0 / 16), rounding);
    EXPECT_NEAR(w.largest_share, 0.75, rounding);
    EXPECT_TRUE(std::isnan(w.tail_index));
}

TEST(ImportanceWeights, EqualWeightsHaveNoErrorAndNoTail) {
    const Weights w = importance_weights(std::vector<double>(1000, -12.5));
    EXPECT_NEAR(w.ess_fraction, 1, rounding);
    EXPECT_LE(w.ess_fraction, 1);
    EXPECT_NEAR(w.log_partition, -12.5, rounding);
    EXPECT_NEAR(w.log_partition_error, 0, 1e-7); // the root of a rounding error
    EXPECT_EQ(w.tail_index, 0);
}

TEST(ImportanceWeights, EveryValueThatIsNotFiniteIsAFlag) {
    const Weights w = importance_weights(std::vector<double>{infinity, not_a_number, -infinity, 2});
    EXPECT_EQ(w.flagged, 3u);
    EXPECT_EQ(w.weight, (std::vector<double>{0, 0, 0, 1}));
    EXPECT_NEAR(w.log_partition, 2 - std::log(4.0), rounding);
    EXPECT_NEAR(w.ess_fraction, 0.25, rounding);
}

TEST(ImportanceWeights, OneSampleHasNoStandardError) {
    const Weights w = importance_weights(std::vector<double>{3.0});
    EXPECT_EQ(w.log_partition, 3);
    EXPECT_EQ(w.ess_fraction, 1);
    EXPECT_TRUE(std::isnan(w.log_partition_error));
}

TEST(ImportanceWeights, ALargeShiftMovesOnlyLogZ) {
    std::mt19937_64 engine(1);
    std::normal_distribution<double> normal;
    std::vector<double> a(10'007), b;
    for (double& l : a) l = std::round(normal(engine) * 1024) / 1024; // so that the shift is exact
    for (const double l : a) b.push_back(l - 65536);
    const Weights wa = importance_weights(a), wb = importance_weights(b);
    EXPECT_EQ(wa.weight, wb.weight);
    EXPECT_EQ(wa.tail_index, wb.tail_index);
    EXPECT_NEAR(wa.log_partition, wb.log_partition + 65536, 1e-10);
}

TEST(ImportanceWeights, NothingToWeigh) {
    EXPECT_EQ(kind_of([] { importance_weights({}); }), ErrorKind::usage);
    EXPECT_EQ(kind_of([] { importance_weights(std::vector<double>(40, -infinity)); }), ErrorKind::numerical);
}

/// q = N(0, s^2) for U = x^2/2.
struct Gaussian {
    std::vector<double> log_weight, square;
    Gaussian(std::size_t count, double s, std::uint64_t seed) {
        std::mt19937_64 engine(seed);
        std::normal_distribution<double> normal;
        for (std::size_t n = 0; n < count; ++n) {
            const double z = normal(engine), x = s * z;
            log_weight.push_back(-x * x / 2 + z * z / 2 + std::log(s) + log_partition());
            square.push_back(x * x);
        }
    }
    static double log_partition() { return std::log(2 * std::numbers::pi) / 2; }
    static double ess(double s) { return std::sqrt(2 - 1 / (s * s)) / s; }
};

TEST(ImportanceWeights, GaussianWithinItsErrors) {
    const Gaussian problem(100'000, 1.3, 2);
    const Weights w = importance_weights(problem.log_weight);
    EXPECT_LE(std::abs(w.log_partition - Gaussian::log_partition()), z_bound * w.log_partition_error);
    EXPECT_NEAR(w.log_partition_error, std::sqrt((1 / Gaussian::ess(1.3) - 1) / 1e5), 1e-5);
    EXPECT_NEAR(w.ess_fraction, Gaussian::ess(1.3), 0.01);
    EXPECT_LT(w.tail_index, 0.5); // bounded weights
    const WeightedMean square = weighted_mean(w.weight, problem.square);
    EXPECT_LE(std::abs(square.mean - 1), z_bound * square.standard_error);
}

TEST(ImportanceWeights, StandardErrorsAreCalibrated) {
    constexpr int runs = 400; // the mean of z^2 has standard deviation sqrt(2 / 400) = 0.07
    double partition = 0, mean = 0;
    for (int run = 0; run < runs; ++run) {
        const Gaussian problem(1000, 1.5, 100 + static_cast<std::uint64_t>(run));
        const Weights w = importance_weights(problem.log_weight);
        const WeightedMean square = weighted_mean(w.weight, problem.square);
        partition +=
            std::pow((w.log_partition - Gaussian::log_partition()) / w.log_partition_error, 2) / runs;
        mean += std::pow((square.mean - 1) / square.standard_error, 2) / runs;
    }
    EXPECT_NEAR(partition, 1, z_bound * 0.07);
    EXPECT_NEAR(mean, 1, z_bound * 0.07);
}

TEST(TailIndex, OfParetoWeights) {
    for (const double k : {0.2, 0.5, 0.7, 1.0, 1.5}) {
        std::mt19937_64 engine(3);
        std::uniform_real_distribution<double> uniform;
        std::vector<double> log_weight(100'000);
        for (double& l : log_weight) l = -k * std::log(1 - uniform(engine));
        const double tail = std::ceil(3 * std::sqrt(1e5)), shrunk = (k * tail + 5) / (tail + 10);
        EXPECT_NEAR(pareto_tail_index(log_weight), shrunk, z_bound * (1 + k) / std::sqrt(tail)) << k;
    }
}

TEST(TailIndex, OfAnExponentialTailIsZero) {
    std::mt19937_64 engine(4);
    std::exponential_distribution<double> exponential;
    std::vector<double> log_weight(40'000);
    for (double& l : log_weight) l = std::log(exponential(engine));
    const double tail = 600, shrunk = 5 / (tail + 10);
    EXPECT_NEAR(pareto_tail_index(log_weight), shrunk, z_bound / std::sqrt(tail));
}

TEST(TailIndex, FewOrEqualDraws) {
    std::vector<double> few(24);
    for (std::size_t n = 0; n < few.size(); ++n) few[n] = static_cast<double>(n);
    EXPECT_TRUE(std::isnan(pareto_tail_index(few)));
    few.resize(60, -infinity); // flagged samples are no draws
    EXPECT_TRUE(std::isnan(pareto_tail_index(few)));
    few[24] = 24;
    EXPECT_TRUE(std::isfinite(pareto_tail_index(few)));
    std::vector<double> one_giant(1000, 0.0);
    one_giant[500] = 30;
    EXPECT_EQ(pareto_tail_index(one_giant), infinity);
    std::vector<double> far_apart(100);
    for (std::size_t n = 0; n < far_apart.size(); ++n) far_apart[n] = 1e4 * static_cast<double>(n);
    EXPECT_EQ(pareto_tail_index(far_apart), infinity);
}

TEST(WeightedMeans, EqualWeightsGiveTheUsualError) {
    const WeightedMean mean = weighted_mean(std::vector<double>(4, 0.25), std::vector<double>{1, 2, 3, 6});
    EXPECT_NEAR(mean.mean, 3, rounding);
    EXPECT_NEAR(mean.standard_error, std::sqrt(14.0 / 3 / 4), rounding);
}

TEST(WeightedMeans, ByHandAndScaleFree) {
    // mu = (1 + 3 * 5) / 4 = 4; sum of (w (v - mu))^2 = (9 + 9) / 16, times n / (n - 1) = 2
    for (const double scale : {0.25, 1.0, 1e30}) {
        const std::vector<double> weight = {scale, 3 * scale, 0}, value = {1, 5, not_a_number};
        const WeightedMean mean = weighted_mean(weight, value);
        EXPECT_NEAR(mean.mean, 4, rounding);
        EXPECT_NEAR(mean.standard_error, std::sqrt(18.0 / 16 * 2), rounding);
    }
    EXPECT_TRUE(
        std::isnan(weighted_mean(std::vector<double>{0, 1}, std::vector<double>{1, 2}).standard_error));
}

TEST(WeightedMeans, WrongWeights) {
    const std::vector<double> two = {1, 2};
    for (const auto& weight : {std::vector<double>{1}, {0, 0}, {1, -1}, {1, not_a_number}, {1, infinity}})
        EXPECT_EQ(kind_of([&] { weighted_mean(weight, two); }), ErrorKind::usage);
    EXPECT_EQ(kind_of([] { weighted_mean({}, {}); }), ErrorKind::usage);
}

} // namespace
} // namespace dynkin

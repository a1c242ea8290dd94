// test_weigh.cpp - importance weights, log Z, tail index, weighted means and resampling: by hand, against
// exact laws and naive sums, and limits.
#include "backend.h"
#include "engine/weigh.h"
#include "expect_error.h"
#include "kernels/philox.h"
#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <numbers>
#include <numeric>
#include <random>

namespace dynkin {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double rounding = 1e-13; // a few hundred roundings of numbers of order 1
constexpr double z_bound = 4.5;    // two-sided probability 7e-6 for a normal error

TEST(ImportanceWeights, ThreeSamplesByHand) {
    const std::vector<double> log_weight = {0, std::log(3.0), -infinity};
    const Weights w = importance_weights(cases::context(), log_weight);
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
    const Weights w = importance_weights(cases::context(), std::vector<double>(1000, -12.5));
    EXPECT_NEAR(w.ess_fraction, 1, rounding);
    EXPECT_LE(w.ess_fraction, 1);
    EXPECT_NEAR(w.log_partition, -12.5, rounding);
    EXPECT_NEAR(w.log_partition_error, 0, 1e-7); // the root of a rounding error
    EXPECT_EQ(w.tail_index, 0);
}

TEST(ImportanceWeights, EveryValueThatIsNotFiniteIsAFlag) {
    const Weights w =
        importance_weights(cases::context(), std::vector<double>{infinity, not_a_number, -infinity, 2});
    EXPECT_EQ(w.flagged, 3u);
    EXPECT_EQ(w.weight, (std::vector<double>{0, 0, 0, 1}));
    EXPECT_NEAR(w.log_partition, 2 - std::log(4.0), rounding);
    EXPECT_NEAR(w.ess_fraction, 0.25, rounding);
}

TEST(ImportanceWeights, OneSampleHasNoStandardError) {
    const Weights w = importance_weights(cases::context(), std::vector<double>{3.0});
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
    const Weights wa = importance_weights(cases::context(), a), wb = importance_weights(cases::context(), b);
    EXPECT_EQ(wa.weight, wb.weight);
    EXPECT_EQ(wa.tail_index, wb.tail_index);
    EXPECT_NEAR(wa.log_partition, wb.log_partition + 65536, 1e-10);
}

TEST(ImportanceWeights, NothingToWeigh) {
    cases::expect_error(ErrorKind::usage, [] { importance_weights(cases::context(), {}); });
    cases::expect_error(ErrorKind::numerical,
                        [] { importance_weights(cases::context(), std::vector<double>(40, -infinity)); });
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
    const Weights w = importance_weights(cases::context(), problem.log_weight);
    EXPECT_LE(std::abs(w.log_partition - Gaussian::log_partition()), z_bound * w.log_partition_error);
    EXPECT_NEAR(w.log_partition_error, std::sqrt((1 / Gaussian::ess(1.3) - 1) / 1e5), 1e-5);
    EXPECT_NEAR(w.ess_fraction, Gaussian::ess(1.3), 0.01);
    EXPECT_LT(w.tail_index, 0.5); // bounded weights
    const WeightedMean square = weighted_mean(cases::context(), w.weight, problem.square);
    EXPECT_LE(std::abs(square.mean - 1), z_bound * square.standard_error);
}

TEST(ImportanceWeights, StandardErrorsAreCalibrated) {
    constexpr int runs = 400; // the mean of z^2 has standard deviation sqrt(2 / 400) = 0.07
    double partition = 0, mean = 0;
    for (int run = 0; run < runs; ++run) {
        const Gaussian problem(1000, 1.5, 100 + static_cast<std::uint64_t>(run));
        const Weights w = importance_weights(cases::context(), problem.log_weight);
        const WeightedMean square = weighted_mean(cases::context(), w.weight, problem.square);
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
        EXPECT_NEAR(pareto_tail_index(cases::context(), log_weight), shrunk,
                    z_bound * (1 + k) / std::sqrt(tail))
            << k;
    }
}

TEST(TailIndex, OfAnExponentialTailIsZero) {
    std::mt19937_64 engine(4);
    std::exponential_distribution<double> exponential;
    std::vector<double> log_weight(40'000);
    for (double& l : log_weight) l = std::log(exponential(engine));
    const double tail = 600, shrunk = 5 / (tail + 10);
    EXPECT_NEAR(pareto_tail_index(cases::context(), log_weight), shrunk, z_bound / std::sqrt(tail));
}

TEST(TailIndex, FewOrEqualDraws) {
    std::vector<double> few(24);
    for (std::size_t n = 0; n < few.size(); ++n) few[n] = static_cast<double>(n);
    EXPECT_TRUE(std::isnan(pareto_tail_index(cases::context(), few)));
    few.resize(60, -infinity); // flagged samples are no draws
    EXPECT_TRUE(std::isnan(pareto_tail_index(cases::context(), few)));
    few[24] = 24;
    EXPECT_TRUE(std::isfinite(pareto_tail_index(cases::context(), few)));
    std::vector<double> one_giant(1000, 0.0);
    one_giant[500] = 30;
    EXPECT_EQ(pareto_tail_index(cases::context(), one_giant), infinity);
    std::vector<double> far_apart(100);
    for (std::size_t n = 0; n < far_apart.size(); ++n) far_apart[n] = 1e4 * static_cast<double>(n);
    EXPECT_EQ(pareto_tail_index(cases::context(), far_apart), infinity);
}

TEST(WeightedMeans, EqualWeightsGiveTheUsualError) {
    const WeightedMean mean =
        weighted_mean(cases::context(), std::vector<double>(4, 0.25), std::vector<double>{1, 2, 3, 6});
    EXPECT_NEAR(mean.mean, 3, rounding);
    EXPECT_NEAR(mean.standard_error, std::sqrt(14.0 / 3 / 4), rounding);
}

TEST(WeightedMeans, ByHandAndScaleFree) {
    // mu = (1 + 3 * 5) / 4 = 4; sum of (w (v - mu))^2 = (9 + 9) / 16, times n / (n - 1) = 2
    for (const double scale : {0.25, 1.0, 1e30}) {
        const std::vector<double> weight = {scale, 3 * scale, 0}, value = {1, 5, not_a_number};
        const WeightedMean mean = weighted_mean(cases::context(), weight, value);
        EXPECT_NEAR(mean.mean, 4, rounding);
        EXPECT_NEAR(mean.standard_error, std::sqrt(18.0 / 16 * 2), rounding);
    }
    EXPECT_TRUE(
        std::isnan(weighted_mean(cases::context(), std::vector<double>{0, 1}, std::vector<double>{1, 2})
                       .standard_error));
}

TEST(WeightedMeans, WrongWeights) {
    const std::vector<double> two = {1, 2};
    for (const auto& weight : {std::vector<double>{1}, {0, 0}, {1, -1}, {1, not_a_number}, {1, infinity}})
        cases::expect_error(ErrorKind::usage, [&] { weighted_mean(cases::context(), weight, two); });
    cases::expect_error(ErrorKind::usage, [] { weighted_mean(cases::context(), {}, {}); });
}

// ---- resampling

std::vector<double> skewed_weights(std::size_t count, std::uint64_t seed) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    std::vector<double> weight(count);
    for (double& w : weight) w = engine() % 5 ? std::exp(1.5 * normal(engine)) : 0;
    weight[count / 2] = 1;
    return weight;
}

TEST(Resampling, WholeNumbersOfCopies) {
    const std::vector<std::uint64_t> expected = {1, 2, 0, 5, 0};
    for (std::uint64_t seed = 0; seed < 100; ++seed)
        EXPECT_EQ(resample(std::vector<double>{0.125, 0.25, 0, 0.625, 0}, 8, seed), expected);
}

// Each of the points (k + u) / M is looked up among partial sums in long double.
TEST(Resampling, PointsInTheCumulatedWeights) {
    for (const std::size_t rows : {1, 31, 10'007})
        for (const std::uint64_t count : {1, 30, 10'007, 100'000}) {
            const std::vector<double> weight = skewed_weights(rows, rows);
            std::vector<long double> cumulated(rows);
            std::partial_sum(weight.begin(), weight.end(), cumulated.begin(), std::plus<long double>());
            const RandomWords words = philox(5, Stream::resample, 0, 0, 0);
            const long double u = (words.v[0] + (words.v[1] + 0.5L) * 0x1p-32L) * 0x1p-32L;
            std::vector<std::uint64_t> expected(rows);
            for (std::uint64_t k = 0; k < count; ++k) {
                const long double point = (static_cast<long double>(k) + u) / static_cast<long double>(count);
                ++expected[static_cast<std::size_t>(
                    std::upper_bound(cumulated.begin(), cumulated.end(), point * cumulated.back()) -
                    cumulated.begin())];
            }
            EXPECT_EQ(resample(weight, count, 5), expected) << rows << " rows, " << count << " copies";
        }
}

TEST(Resampling, CopiesAverageToTheWeights) {
    constexpr std::size_t rows = 101, seeds = 4000;
    constexpr std::uint64_t count = 40;
    const std::vector<double> weight = skewed_weights(rows, 7);
    const double sum = std::accumulate(weight.begin(), weight.end(), 0.0);
    std::vector<double> mean(rows);
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
        const std::vector<std::uint64_t> copies = resample(weight, count, seed);
        EXPECT_EQ(std::accumulate(copies.begin(), copies.end(), std::uint64_t{0}), count);
        for (std::size_t n = 0; n < rows; ++n) {
            const double expected = count * weight[n] / sum;
            EXPECT_LT(std::abs(static_cast<double>(copies[n]) - expected), 1);
            mean[n] += static_cast<double>(copies[n]) / seeds;
        }
    }
    for (std::size_t n = 0; n < rows; ++n) { // the floor or the ceiling: a Bernoulli variable
        const double expected = count * weight[n] / sum, part = expected - std::floor(expected);
        EXPECT_LE(std::abs(mean[n] - expected), z_bound * std::sqrt(part * (1 - part) / seeds) + rounding)
            << n;
    }
}

TEST(Resampling, WeightsOfAnyScaleAndManyCopies) {
    const std::vector<double> weight = {1, 2, 4, 0, 9};
    const auto copies = resample(weight, 1'000'003, 1);
    EXPECT_EQ(resample(weight, 1'000'003, 1), copies);
    EXPECT_NE(resample(weight, 1, 1), resample(weight, 1, 2));
    for (const double scale : {0x1p-1000, 0x1p1000}) {
        std::vector<double> scaled = weight;
        for (double& w : scaled) w *= scale;
        EXPECT_EQ(resample(scaled, 1'000'003, 1), copies);
    }
    for (const std::uint64_t count : {std::uint64_t{1} << 40, std::uint64_t{1} << 53}) {
        const auto many = resample(weight, count, 3);
        EXPECT_EQ(std::accumulate(many.begin(), many.end(), std::uint64_t{0}), count);
        EXPECT_EQ(many[3], 0u);
        EXPECT_NEAR(static_cast<double>(many[0]), static_cast<double>(count) / 16, 2);
    }
}

TEST(Resampling, WrongCountsAndWeights) {
    const std::vector<double> good = {1, 2};
    for (const std::uint64_t count : {std::uint64_t{0}, (std::uint64_t{1} << 53) + 1})
        cases::expect_error(ErrorKind::usage, [&] { resample(good, count, 0); });
    for (const auto& weight :
         {std::vector<double>{}, {0, 0}, {1, -1}, {1, not_a_number}, {1, infinity}, {1e308, 1e308}})
        cases::expect_error(ErrorKind::usage, [&] { resample(weight, 1, 0); });
}

// ---- second moments

TEST(WeightedSecondMoments, AreMeansOfProducts) {
    for (const std::size_t rows : {1, 31, 1000})
        for (const std::size_t d : {1, 3, 17}) {
            std::vector<double> weight = skewed_weights(rows, d), x(rows * d);
            std::mt19937_64 engine(6);
            std::normal_distribution<double> normal(0.5, 1);
            for (double& value : x) value = normal(engine);
            for (std::size_t n = 0; n < rows; ++n)
                if (weight[n] == 0) x[n * d] = not_a_number;
            SecondMoments moments(cases::context(), d, true);
            const std::size_t first = rows / 3; // blocks of any length
            moments.add(first, weight.data(), x.data());
            moments.add(rows - first, weight.data() + first, x.data() + first * d);
            const Array<double> mean = moments.mean(), error = moments.standard_error();
            for (std::size_t i = 0; i < d; ++i)
                for (std::size_t j = 0; j < d; ++j) {
                    std::vector<double> product(rows);
                    for (std::size_t n = 0; n < rows; ++n) product[n] = x[n * d + i] * x[n * d + j];
                    const WeightedMean expected = weighted_mean(cases::context(), weight, product);
                    EXPECT_NEAR(mean(i, j), expected.mean, 10 * rounding);
                    if (rows == 1)
                        EXPECT_TRUE(std::isnan(error(i, j)));
                    else
                        EXPECT_NEAR(error(i, j), expected.standard_error, 1e-7); // see the header
                }
        }
}

TEST(WeightedSecondMoments, WrongUse) {
    cases::expect_error(ErrorKind::usage, [] { SecondMoments(cases::context(), 0); });
    cases::expect_error(ErrorKind::usage, [] { SecondMoments(cases::context(), std::size_t{1} << 24); });
    const double nothing = 0, x = 1;
    SecondMoments moments(cases::context(), 1);
    moments.add(1, &nothing, &x);
    cases::expect_error(ErrorKind::usage, [&] { moments.mean(); });
    moments.add(1, &x, &x);
    cases::expect_error(ErrorKind::usage, [&] { moments.standard_error(); });
}

} // namespace
} // namespace dynkin

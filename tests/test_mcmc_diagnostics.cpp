// test_mcmc_diagnostics.cpp - R-hat and effective sample size on series whose answers are known.
#include "engine/error.h"
#include "engine/mcmc.h"
#include <cmath>
#include <gtest/gtest.h>
#include <random>

namespace dynkin {
namespace {

/// Chains of x' = rho x + sqrt(1 - rho^2) z, started from their stationary law N(0, 1).
std::vector<double> autoregressive(double rho, std::size_t chains, std::size_t length, unsigned seed = 1) {
    std::mt19937_64 generator(seed);
    std::normal_distribution<double> normal;
    std::vector<double> values;
    for (std::size_t c = 0; c < chains; ++c) {
        double x = normal(generator);
        for (std::size_t n = 0; n < length; ++n) {
            values.push_back(x);
            x = rho * x + std::sqrt(1 - rho * rho) * normal(generator);
        }
    }
    return values;
}

TEST(EffectiveSampleSize, OfAutoregressiveChainsIsTheTheory) {
    // S (1 - rho) / (1 + rho). Relative standard error sqrt((4 W + 2) / S) with sums up to W = 3
    // autocorrelation times (Sokal 1997, eq. 3.19): below 0.04 for each of these; the bar is three of them.
    for (const auto& [rho, length] :
         {std::pair{0.0, 4000u}, {0.3, 4000u}, {0.5, 4000u}, {0.9, 10000u}, {0.97, 40000u}}) {
        const double expected = 16 * length * (1 - rho) / (1 + rho);
        EXPECT_NEAR(effective_sample_size(autoregressive(rho, 16, length), 16, length) / expected, 1, 0.12)
            << rho;
    }
}

TEST(EffectiveSampleSize, OfAntitheticChainsExceedsTheirLength) {
    const double expected = 64000 * 1.4 / 0.6;
    EXPECT_NEAR(effective_sample_size(autoregressive(-0.4, 16, 4000), 16, 4000) / expected, 1, 0.12);
}

TEST(EffectiveSampleSize, LongMemoryGoesThroughTheTransform) {
    // 1500 lags matter, far beyond the direct sums; fewer independent pieces, so a wider bar.
    const double rho = 0.995, expected = 16.0 * 50000 * (1 - rho) / (1 + rho);
    EXPECT_NEAR(effective_sample_size(autoregressive(rho, 16, 50000), 16, 50000) / expected, 1, 0.2);
}

TEST(EffectiveSampleSize, OfStuckChainsIsSmall) {
    std::vector<double> values = autoregressive(0, 4, 1000);
    for (std::size_t n = 0; n < 1000; ++n) values[n] += 10;
    EXPECT_LE(effective_sample_size(values, 4, 1000), 12);
    EXPECT_EQ(effective_sample_size(std::vector<double>(400, 3.0), 4, 100), 0);
}

TEST(SplitRHat, OfIndependentValuesIsOne) {
    for (const std::size_t chains : {1u, 4u, 64u}) {
        const double r_hat = split_r_hat(autoregressive(0, chains, 1000), chains, 1000);
        EXPECT_LE(r_hat, 1.01) << chains;
        EXPECT_GE(r_hat, 0.99) << chains;
    }
}

TEST(SplitRHat, SeesChainsThatDisagree) {
    std::vector<double> stuck = autoregressive(0, 8, 500);
    for (std::size_t n = 0; n < 500; ++n) stuck[n] += 3;
    EXPECT_GE(split_r_hat(stuck, 8, 500), 1.1);

    std::vector<double> trend = autoregressive(0, 4, 1000); // equal chains, first half against second
    for (std::size_t n = 0; n < trend.size(); ++n) trend[n] += 2.0 * static_cast<double>(n % 1000) / 1000;
    EXPECT_GE(split_r_hat(trend, 4, 1000), 1.05);

    std::vector<double> wide = autoregressive(0, 4, 1000); // equal means, unequal spread: the folded part
    for (std::size_t n = 0; n < 1000; ++n) wide[n] *= 4;
    EXPECT_GE(split_r_hat(wide, 4, 1000), 1.1);

    std::vector<double> frozen = autoregressive(0, 4, 100);
    for (std::size_t n = 0; n < frozen.size(); ++n) frozen[n] = static_cast<double>(n / 100);
    EXPECT_TRUE(std::isinf(split_r_hat(frozen, 4, 100)));
    EXPECT_TRUE(std::isinf(split_r_hat(std::vector<double>(400, 1.0), 4, 100)));
}

TEST(SplitRHat, OfTwoShortChainsByHand) {
    // Two chains 1 2 1 2 | 3 4 3 4 -> halves {1,2} {1,2} {3,4} {3,4}: by ranks z = -a, -b, b, a with mean
    // ranks 1.5, 3.5, 5.5, 7.5 of 8; W = (a - b)^2 / 2, B = var of (-m, -m, m, m) with m = (a + b)/2 = 4 m^2
    // / 3.
    const std::vector<double> values = {1, 2, 1, 2, 3, 4, 3, 4};
    const double a = 1.0675705239, b = 0.2993069314; // Phi^-1(7.125 / 8.25), Phi^-1(5.125 / 8.25)
    const double m = (a + b) / 2, w = (a - b) * (a - b) / 2;
    EXPECT_NEAR(split_r_hat(values, 2, 4), std::sqrt(0.5 + 4 * m * m / 3 / w), 0.01);
}

TEST(SplitRHat, IsUnchangedByMonotoneMapsInTheBulk) {
    // Heavy tails do not hide a shift: exp(x^3) has no mean, the ranks are the same. (The folded part is not
    // the larger here.)
    std::vector<double> values = autoregressive(0, 8, 500);
    for (std::size_t n = 0; n < 500; ++n) values[n] += 1.5;
    const double before = split_r_hat(values, 8, 500);
    for (double& v : values) v = std::exp(v * v * v);
    EXPECT_GE(split_r_hat(values, 8, 500), before - 1e-12);
}

TEST(Diagnostics, RefuseWhatIsTooShort) {
    const std::vector<double> values(6);
    EXPECT_THROW(split_r_hat(values, 2, 3), Error);
    EXPECT_THROW(effective_sample_size(values, 2, 3), Error);
    EXPECT_THROW(split_r_hat(values, 2, 4), Error);
}

} // namespace
} // namespace dynkin

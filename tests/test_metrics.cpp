// test_metrics.cpp - figures against a reference: by hand, against naive integrals, and their invariances.
#include "backend.h"
#include "engine/metrics.h"
#include "expect_error.h"
#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace dynkin {
namespace {

constexpr double rounding = 1e-12; // sums of at most 1e4 numbers of order 1
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

Array<double> normal_rows(std::size_t rows, std::size_t cols, unsigned seed, double scale = 1,
                          double shift = 0) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    Array<double> x(rows, cols);
    for (double& value : x) value = shift + scale * normal(engine);
    return x;
}

Target standard_gaussian(std::size_t d) {
    GaussianTarget law;
    law.mean.assign(d, 0.0);
    law.covariance = Array<double>(d, d);
    for (std::size_t i = 0; i < d; ++i) law.covariance(i, i) = 1;
    law.cholesky = law.covariance;
    Target target;
    target.law = law;
    target.kind = "gaussian";
    return target;
}

std::vector<double> values_of(const Figures& f) {
    return {f.second_moment_error, f.marginal_tv,     f.marginal_w1, f.sliced_w,
            f.energy_mean_error,   f.energy_std_ratio};
}

void expect_close(const Figures& a, const Figures& b, double tolerance) {
    const std::vector<double> x = values_of(a), y = values_of(b);
    for (std::size_t k = 0; k < x.size(); ++k) EXPECT_NEAR(x[k], y[k], tolerance) << "figure " << k;
}

// ---- naive oracles: weights always given, one coordinate

double naive_cdf(const std::vector<double>& x, const std::vector<double>& w, double at) {
    double sum = 0;
    for (std::size_t n = 0; n < x.size(); ++n) sum += x[n] <= at ? w[n] : 0.0;
    return sum;
}

/// W1 as the area between the two distribution functions.
double naive_w1(const std::vector<double>& x, const std::vector<double>& w, const std::vector<double>& y) {
    const std::vector<double> equal(y.size(), 1 / static_cast<double>(y.size()));
    std::vector<double> points = x;
    points.insert(points.end(), y.begin(), y.end());
    std::sort(points.begin(), points.end());
    double area = 0;
    for (std::size_t k = 0; k + 1 < points.size(); ++k)
        area += (points[k + 1] - points[k]) *
                std::abs(naive_cdf(x, w, points[k]) - naive_cdf(y, equal, points[k]));
    return area;
}

/// W2^2 of equally weighted laws: both repeated to the common multiple of their sizes, sorted, paired.
double naive_w2_squared(std::vector<double> x, std::vector<double> y) {
    std::sort(x.begin(), x.end()), std::sort(y.begin(), y.end());
    const std::size_t common = std::lcm(x.size(), y.size());
    double sum = 0;
    for (std::size_t k = 0; k < common; ++k)
        sum += std::pow(x[k * x.size() / common] - y[k * y.size() / common], 2);
    return sum / static_cast<double>(common);
}

double naive_tv(const std::vector<double>& x, const std::vector<double>& w, const std::vector<double>& y) {
    const double lo = *std::min_element(y.begin(), y.end()), hi = *std::max_element(y.begin(), y.end());
    double distance = 0;
    for (int b = 0; b < 60; ++b) {
        const double left = lo + b * (hi - lo) / 60, right = lo + (b + 1) * (hi - lo) / 60;
        const auto inside = [&](double v) { return (v >= left || b == 0) && (v < right || b == 59); };
        double p = 0, q = 0;
        for (std::size_t n = 0; n < x.size(); ++n) p += inside(x[n]) ? w[n] : 0.0;
        for (const double v : y) q += inside(v) ? 1 / static_cast<double>(y.size()) : 0.0;
        distance += std::abs(p - q) / 2;
    }
    return distance;
}

double naive_deviation(const std::vector<double>& y) {
    const auto n = static_cast<double>(y.size());
    const double mean = std::accumulate(y.begin(), y.end(), 0.0) / n;
    double sum = 0;
    for (const double v : y) sum += (v - mean) * (v - mean) / n;
    return std::sqrt(sum);
}

std::vector<double> column(const Array<double>& x, std::size_t i) {
    std::vector<double> values;
    for (std::size_t n = 0; n < x.rows(); ++n) values.push_back(x(n, i));
    return values;
}

double naive_second_moment_error(const Array<double>& x, const std::vector<double>& w,
                                 const Array<double>& y) {
    double error = 0, norm = 0;
    for (std::size_t p = 0; p < x.cols(); ++p)
        for (std::size_t q = 0; q < x.cols(); ++q) {
            double s = 0, s_ref = 0;
            for (std::size_t n = 0; n < x.rows(); ++n) s += w[n] * x(n, p) * x(n, q);
            for (std::size_t n = 0; n < y.rows(); ++n)
                s_ref += y(n, p) * y(n, q) / static_cast<double>(y.rows());
            error += (s - s_ref) * (s - s_ref), norm += s_ref * s_ref;
        }
    return std::sqrt(error / norm);
}

// ---- tests

TEST(Metrics, IntegersShiftedByOneByHand) {
    Array<double> reference(20, 1), samples(20, 1);
    for (std::size_t n = 0; n < 20; ++n)
        reference[n] = static_cast<double>(n), samples[n] = static_cast<double>(n + 1);
    const Figures f = figures(cases::context(1), samples, {}, reference, nullptr, 0);
    EXPECT_NEAR(f.second_moment_error, 400.0 / 2470, rounding); // sums of squares: 2870 and 2470
    EXPECT_NEAR(f.marginal_tv, 0.05, rounding);                 // 0 is missing, 20 falls into the bin of 19
    EXPECT_NEAR(f.marginal_w1, 1 / std::sqrt(399.0 / 12), rounding);
    EXPECT_NEAR(f.sliced_w, 1 / std::sqrt(2470.0 / 20), rounding);
    EXPECT_TRUE(std::isnan(f.energy_mean_error));
    EXPECT_TRUE(std::isnan(f.energy_std_ratio));
}

TEST(Metrics, AgreeWithNaiveOracles) {
    for (const auto& [n, m, d] :
         {std::tuple<std::size_t, std::size_t, std::size_t>{31, 20, 1}, {47, 101, 9}, {997, 313, 3}}) {
        const Array<double> x = normal_rows(n, d, 1, 1.2, 0.1), y = normal_rows(m, d, 2);
        std::vector<double> weight(n);
        std::mt19937_64 engine(3);
        for (double& w : weight) w = std::uniform_real_distribution<double>(0, 1)(engine);
        const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
        for (double& w : weight) w /= total;
        const Figures f = figures(cases::context(2), x, weight, y, nullptr, 0);
        double tv = 0, w1 = 0;
        for (std::size_t i = 0; i < d; ++i) {
            const std::vector<double> a = column(x, i), b = column(y, i);
            tv += naive_tv(a, weight, b) / static_cast<double>(d);
            w1 += naive_w1(a, weight, b) / naive_deviation(b) / static_cast<double>(d);
        }
        EXPECT_NEAR(f.marginal_tv, tv, rounding);
        EXPECT_NEAR(f.marginal_w1, w1, rounding);
        EXPECT_NEAR(f.second_moment_error, naive_second_moment_error(x, weight, y), rounding);
    }
}

TEST(Metrics, SlicedDistanceInOneDimensionIsTheWassersteinDistance) {
    const Array<double> x = normal_rows(31, 1, 4, 1.5, 0.2), y = normal_rows(47, 1, 5);
    double scale = 0;
    for (const double v : y) scale += v * v / 47;
    const double exact = std::sqrt(naive_w2_squared(column(x, 0), column(y, 0)) / scale);
    EXPECT_NEAR(figures(cases::context(1), x, {}, y, nullptr, 6).sliced_w, exact, rounding);
}

TEST(Metrics, SlicedDistanceOfAShift) {
    // W2^2 = (v.a)^2 in direction v, whose mean over directions is |a|^2 / d; the mean of 100 has relative
    // standard deviation sqrt(2 (d - 1) / (d + 2) / 100) = 0.12 for d = 7. Bound: 4.5 of these.
    Array<double> y = normal_rows(1001, 7, 7), x = y;
    for (std::size_t n = 0; n < x.rows(); ++n) x(n, 0) += 3, x(n, 5) -= 4;
    double scale = 0;
    for (const double v : y) scale += v * v / 1001 / 7;
    const double squared = std::pow(figures(cases::context(2), x, {}, y, nullptr, 8).sliced_w, 2) * scale;
    EXPECT_NEAR(squared, 25.0 / 7, 4.5 * 0.12 * 25 / 7);
}

TEST(Metrics, ScaleFree) {
    Array<double> x = normal_rows(313, 5, 9, 1.1), y = normal_rows(401, 5, 10);
    const Figures before = figures(cases::context(1), x, {}, y, nullptr, 0);
    for (double& v : x) v *= 1024;
    for (double& v : y) v *= 1024;
    const Figures after = figures(cases::context(1), x, {}, y, nullptr, 0);
    EXPECT_EQ(before.second_moment_error, after.second_moment_error);
    EXPECT_EQ(before.marginal_tv, after.marginal_tv);
    EXPECT_NEAR(before.marginal_w1, after.marginal_w1, rounding);
    EXPECT_NEAR(before.sliced_w, after.sliced_w, rounding);
}

TEST(Metrics, WeightsAreRepeatedRows) {
    const Array<double> x = normal_rows(61, 4, 11), y = normal_rows(53, 4, 12);
    std::vector<double> weight;
    std::vector<std::size_t> rows;
    for (std::size_t n = 0; n < x.rows(); ++n) {
        weight.push_back(static_cast<double>(n % 4));
        rows.insert(rows.end(), n % 4, n);
    }
    Array<double> repeated(rows.size(), 4);
    for (std::size_t k = 0; k < rows.size(); ++k) std::copy_n(x.row(rows[k]), 4, repeated.row(k));
    const Target target = standard_gaussian(4);
    const Context context = cases::context(2);
    expect_close(figures(context, x, weight, y, &target, 1), figures(context, repeated, {}, y, &target, 1),
                 rounding);
}

TEST(Metrics, RowsOfWeightZeroAreNotLookedAt) {
    const Array<double> x = normal_rows(40, 3, 13), y = normal_rows(50, 3, 14);
    Array<double> longer(41, 3);
    std::copy_n(x.data(), x.size(), longer.data());
    longer(40, 0) = longer(40, 2) = not_a_number;
    std::vector<double> weight(41, 1.0);
    weight[40] = 0;
    const Target target = standard_gaussian(3);
    const Context context = cases::context(1);
    expect_close(figures(context, longer, weight, y, &target, 1), figures(context, x, {}, y, &target, 1),
                 rounding);
}

TEST(Metrics, EnergiesOfTwoGaussians) {
    // U = |x|^2 / 2 of N(0, s^2 I): mean d s^2 / 2, standard deviation s^2 sqrt(d / 2). Bounds: 5 standard
    // errors.
    const double s2 = 1.44, n = 10'007;
    const Array<double> x = normal_rows(10'007, 8, 15, 1.2), y = normal_rows(10'007, 8, 16);
    const Target target = standard_gaussian(8);
    const Figures f = figures(cases::context(2), x, {}, y, &target, 0);
    EXPECT_NEAR(f.energy_mean_error, 4 * (s2 - 1) / 2, 5 * 2 * s2 / std::sqrt(n));
    EXPECT_NEAR(f.energy_std_ratio, s2, 5 * 2 * s2 / std::sqrt(n));
}

TEST(Metrics, TheReferenceItselfIsAtDistanceZeroAndTheFloorIsNot) {
    const Array<double> y = normal_rows(2001, 3, 17);
    const Target target = standard_gaussian(3);
    const FiguresWithFloor result = compare(cases::context(2), y, {}, y, &target, 3);
    EXPECT_EQ(values_of(result.figures), (std::vector<double>{0, 0, 0, 0, 0, 1}));
    // Two halves of 1000: errors of second moments sqrt(2 * 2 / 1000) on the diagonal, of means sqrt(2 /
    // 1000) = 0.045.
    EXPECT_GT(result.floor.second_moment_error, 0.005);
    EXPECT_LT(result.floor.second_moment_error, 0.2);
    EXPECT_GT(result.floor.marginal_w1, 0.01);
    EXPECT_LT(result.floor.marginal_w1, 0.15);
    EXPECT_GT(result.floor.sliced_w, 0.01);
    EXPECT_LT(result.floor.sliced_w, 0.25);
    EXPECT_LT(std::abs(result.floor.energy_mean_error), 4.5 * 0.045);
    EXPECT_NEAR(result.floor.energy_std_ratio, 1, 0.25);
}

TEST(Metrics, TheFloorDependsOnTheReferenceAndTheSeedOnly) {
    const Array<double> y = normal_rows(401, 2, 18);
    const Context context = cases::context(1);
    const auto floor = [&](const Array<double>& x, std::uint64_t seed) {
        return values_of(compare(context, x, {}, y, nullptr, seed).floor);
    };
    const std::vector<double> a = floor(normal_rows(50, 2, 19), 1), b = floor(normal_rows(77, 2, 20), 1);
    EXPECT_TRUE(std::equal(a.begin(), a.begin() + 4, b.begin()));
    EXPECT_NE(a[2], floor(normal_rows(50, 2, 19), 2)[2]);
}

TEST(Metrics, SameBytesForAnyThreadCount) {
    const Array<double> x = normal_rows(10'007, 21, 21), y = normal_rows(997, 21, 22);
    const std::vector<double> weight(10'007, 0.5);
    const Target target = standard_gaussian(21);
    const FiguresWithFloor one = compare(cases::context(1), x, weight, y, &target, 4);
    for (const int threads : {2, 3, 7}) {
        const FiguresWithFloor many = compare(cases::context(threads), x, weight, y, &target, 4);
        EXPECT_EQ(values_of(one.figures), values_of(many.figures));
        EXPECT_EQ(values_of(one.floor), values_of(many.floor));
    }
}

TEST(Metrics, ConstantCoordinates) {
    Array<double> x = normal_rows(100, 2, 23), y = normal_rows(80, 2, 24);
    for (std::size_t n = 0; n < 100; ++n) x(n, 1) = 0.25;
    for (std::size_t n = 0; n < 80; ++n) y(n, 1) = 0.25;
    const Context context = cases::context(1);
    const Figures same = figures(context, x, {}, y, nullptr, 0);
    EXPECT_TRUE(std::isfinite(same.marginal_w1));
    x(7, 1) = 0.5;
    const Figures other = figures(context, x, {}, y, nullptr, 0);
    EXPECT_NEAR(other.marginal_tv, same.marginal_tv + 0.01 / 2,
                rounding); // one of 100 elsewhere, one of two sites
    EXPECT_EQ(other.marginal_w1, std::numeric_limits<double>::infinity());
}

TEST(Metrics, WrongInput) {
    const Context context = cases::context(1);
    const Array<double> good = normal_rows(30, 2, 25), other = normal_rows(30, 3, 26),
                        few = normal_rows(19, 2, 27);
    const Target target = standard_gaussian(3);
    std::vector<double> weight(30, 1.0);
    const auto expect = [&](ErrorKind kind, const Array<double>& x, const Array<double>& y,
                            const Target* t = nullptr) {
        cases::expect_error(kind, [&] { compare(context, x, weight, y, t, 0); });
    };
    expect(ErrorKind::usage, good, other);
    expect(ErrorKind::usage, good, good, &target);
    expect(ErrorKind::usage, good, few);
    expect(ErrorKind::usage, few, good); // and 30 weights for 19 rows
    for (const double bad : {-1.0, not_a_number, std::numeric_limits<double>::infinity()}) {
        weight[3] = bad;
        expect(ErrorKind::usage, good, good);
    }
    std::fill(weight.begin(), weight.end(), 0.0);
    expect(ErrorKind::usage, good, good);
    std::fill(weight.begin(), weight.end(), 1.0);
    Array<double> broken = good;
    broken(5, 1) = not_a_number;
    expect(ErrorKind::input, broken, good);
    expect(ErrorKind::input, good, broken);
}

} // namespace
} // namespace dynkin

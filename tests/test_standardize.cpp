// test_standardize.cpp - rows as they are modelled, and the two passes over them against direct sums.
#include "cases.h"
#include "engine/standardize.h"
#include "tolerance.h"

namespace dynkin {
namespace {

using std::size_t;

class Standardize : public cases::Folder {};

DataView view_of(const SampleFile& file) {
    DataView view;
    view.columns = file.cols();
    view.kept.resize(view.columns);
    std::iota(view.kept.begin(), view.kept.end(), 0);
    view.constant.assign(view.columns, 0);
    return view;
}

Array<double> read(const SampleFile& file, const DataView& view, size_t first, size_t count) {
    Array<double> out(count, view.kept.size());
    view.read(file, first, count, out.data());
    return out;
}

Array<double> integers(size_t rows, size_t cols, int levels) {
    Array<double> x(rows, cols);
    std::mt19937 engine(2);
    for (double& value : x) value = static_cast<double>(engine() % static_cast<unsigned>(levels));
    return x;
}

TEST_F(Standardize, ViewPassesRowsThrough) {
    const Array<double> x = cases::rows(50, 4, 1);
    const SampleFile file = data(x);
    EXPECT_TRUE(cases::same_bytes(read(file, view_of(file), 0, 50), x));
    const Array<double> part = read(file, view_of(file), 17, 9);
    EXPECT_EQ(std::memcmp(part.data(), x.row(17), part.size() * sizeof(double)), 0);
}

TEST_F(Standardize, ViewLeavesDroppedColumnsOut) {
    const Array<double> x = cases::rows(50, 5, 1);
    const SampleFile file = data(x);
    DataView view = view_of(file);
    view.kept = {1, 4};
    const Array<double> found = read(file, view, 10, 30);
    for (size_t n = 0; n < 30; ++n) EXPECT_TRUE(found(n, 0) == x(10 + n, 1) && found(n, 1) == x(10 + n, 4));
}

TEST_F(Standardize, DequantisedNumbersFillTheirCells) {
    const int levels = 5;
    const Array<double> x = integers(4000, 6, levels);
    const SampleFile file = data(x);
    DataView view = view_of(file);
    view.levels = levels, view.seed = 3;
    const Array<double> y = read(file, view, 0, 4000);
    double sum = 0, square = 0;
    for (size_t k = 0; k < y.size(); ++k) {
        const double u = y[k] * levels - x[k]; // uniform on (0, 1)
        ASSERT_TRUE(u > 0 && u < 1);
        sum += u, square += u * u;
    }
    const double rows = static_cast<double>(y.size());
    EXPECT_NEAR(sum / rows, 0.5, tolerance::z_bound * std::sqrt(1 / 12.0 / rows));
    EXPECT_NEAR(square / rows, 1 / 3.0, tolerance::z_bound * std::sqrt(4 / 45.0 / rows));
}

TEST_F(Standardize, DequantisationDependsOnRowColumnAndSeedOnly) {
    const SampleFile file = data(integers(300, 7, 3));
    DataView view = view_of(file);
    view.levels = 3, view.seed = 3;
    const Array<double> whole = read(file, view, 0, 300);
    const Array<double> part = read(file, view, 123, 50);
    EXPECT_EQ(std::memcmp(part.data(), whole.row(123), part.size() * sizeof(double)), 0);
    DataView fewer = view, other = view;
    fewer.kept = {2, 5, 6}, other.seed = 4;
    const Array<double> kept = read(file, fewer, 0, 300), reseeded = read(file, other, 0, 300);
    for (size_t n = 0; n < 300; ++n)
        for (size_t j = 0; j < 3; ++j) EXPECT_EQ(kept(n, j), whole(n, static_cast<size_t>(fewer.kept[j])));
    for (size_t k = 0; k < whole.size(); ++k) EXPECT_NE(whole[k], reseeded[k]);
}

TEST_F(Standardize, NumbersThatAreNoLevelsAreErrorsThatNameThePlace) {
    for (double bad : {-1.0, 3.0, 0.5, 1e300}) {
        Array<double> x = integers(20, 3, 3);
        x(7, 2) = bad;
        const SampleFile file = data(x);
        DataView view = view_of(file);
        view.levels = 3;
        cases::expect_error(
            ErrorKind::input, [&] { read(file, view, 5, 10); }, "row 7, column 2");
        EXPECT_NO_THROW(read(file, view, 8, 10));
    }
}

TEST_F(Standardize, ColumnStatisticsAreThoseOfTheRows) {
    for (size_t rows : {1u, 31u, 5003u}) {
        Array<double> x = cases::rows(rows, 3, 4);
        for (size_t n = 0; n < rows; ++n) x(n, 1) += 1e8, x(n, 2) *= 1e-9; // far from the origin; tiny
        const SampleFile file = data(x);
        const ColumnStatistics s = column_statistics(cases::context(2), file, view_of(file));
        for (size_t j = 0; j < 3; ++j) {
            long double sum = 0, square = 0;
            double low = INFINITY, high = -INFINITY;
            for (size_t n = 0; n < rows; ++n)
                sum += x(n, j), low = std::min(low, x(n, j)), high = std::max(high, x(n, j));
            const long double mean = sum / static_cast<long double>(rows);
            for (size_t n = 0; n < rows; ++n) square += (x(n, j) - mean) * (x(n, j) - mean);
            const double sd = static_cast<double>(std::sqrt(square / static_cast<long double>(rows)));
            // sums of numbers of the size of the spread, about the first row
            const double rounding = static_cast<double>(rows) * tolerance::eps * (high - low);
            EXPECT_NEAR(s.mean[j], static_cast<double>(mean),
                        rounding + tolerance::eps * std::abs(s.mean[j]));
            EXPECT_NEAR(s.sd[j], sd, 4 * rounding);
            EXPECT_EQ(s.min[j], low);
            EXPECT_EQ(s.max[j], high);
        }
    }
}

TEST_F(Standardize, ConstantColumnsHaveNoSpreadAtAll) {
    Array<double> x(1000, 1);
    std::fill(x.begin(), x.end(), 0.1);
    const SampleFile file = data(x);
    const ColumnStatistics s = column_statistics(cases::context(), file, view_of(file));
    EXPECT_EQ(s.sd[0], 0);
    EXPECT_EQ(s.mean[0], 0.1);
    EXPECT_EQ(s.min[0], s.max[0]);
}

/// Standardised rows, as the second pass sees them.
struct Passed {
    Standardization standardization;
    Array<double> z;
    MarginalStatistics found;
    Passed(const SampleFile& file, const Array<double>& x, int threads = 2) : z(x.rows(), x.cols()) {
        const ColumnStatistics s = column_statistics(cases::context(threads), file, view_of(file));
        standardization = {s.mean, s.sd};
        for (size_t n = 0; n < x.rows(); ++n)
            for (size_t j = 0; j < x.cols(); ++j) z(n, j) = (x(n, j) - s.mean[j]) / s.sd[j];
        found = marginal_statistics(cases::context(threads), file, view_of(file), standardization);
    }
};

TEST_F(Standardize, PowerSumsRangesAndQuantilesAreThoseOfTheRows) {
    for (size_t rows : {31u, 5003u}) {
        const Array<double> x = cases::rows(rows, 3, 6);
        const SampleFile file = data(x);
        const Passed passed(file, x);
        for (size_t j = 0; j < 3; ++j) {
            const MarginalSums& s = passed.found.sums[j];
            std::vector<double> column;
            for (size_t n = 0; n < rows; ++n) column.push_back(passed.z(n, j));
            std::sort(column.begin(), column.end());
            EXPECT_EQ(s.count, static_cast<double>(rows));
            EXPECT_EQ(s.min, column.front());
            EXPECT_EQ(s.max, column.back());
            for (size_t k = 0; k < 15; ++k) {
                double sum = 0, absolute = 0;
                for (double z : column) sum += std::pow(z, k), absolute += std::pow(std::abs(z), k);
                EXPECT_NEAR(s.power[k], sum, static_cast<double>(rows + 30) * tolerance::eps * absolute) << k;
            }
            const auto at = [&](double p) {
                return column[static_cast<size_t>(std::ceil(p * static_cast<double>(rows))) - 1];
            };
            EXPECT_NEAR(s.low_quantile, at(0.001), 32.0 / 8192); // bins of the sketch
            EXPECT_NEAR(s.high_quantile, at(0.999), 32.0 / 8192);
        }
    }
}

/// Correlation of f(z_i) and g(z_j) about the means given.
double correlation(const Array<double>& z, size_t i, size_t j, int p, int q) {
    double mp = 0, mq = 0, pp = 0, qq = 0, pq = 0;
    const double rows = static_cast<double>(z.rows());
    for (size_t n = 0; n < z.rows(); ++n)
        mp += std::pow(z(n, i), p) / rows, mq += std::pow(z(n, j), q) / rows;
    if (p == 1 && q == 2) mp = mq = 0; // E z_i z_j^2 over the norms: 0 for symmetric data
    for (size_t n = 0; n < z.rows(); ++n) {
        const double a = std::pow(z(n, i), p) - mp, b = std::pow(z(n, j), q) - mq;
        pp += a * a, qq += b * b, pq += a * b;
    }
    return pq / std::sqrt(pp * qq);
}

TEST_F(Standardize, DependencesAreCorrelationsOfPowers) {
    for (size_t rows : {200u, 5003u}) {
        const Array<double> x = cases::rows(rows, 4, 7);
        const SampleFile file = data(x);
        const Passed passed(file, x);
        EXPECT_EQ(passed.found.dependence_rows, rows);
        for (size_t i = 0; i < 4; ++i)
            for (size_t j = 0; j < 4; ++j) {
                EXPECT_NEAR(passed.found.correlation(i, j), correlation(passed.z, i, j, 1, 1), 1e-10);
                EXPECT_NEAR(passed.found.square_correlation(i, j), correlation(passed.z, i, j, 2, 2), 1e-10);
                EXPECT_NEAR(passed.found.odd_correlation(i, j), correlation(passed.z, i, j, 1, 2), 1e-10);
            }
    }
}

TEST_F(Standardize, DependenceOfManyRowsIsMeasuredOnSomeOfThem) {
    const size_t rows = 450000;
    const Array<double> x = cases::rows(rows, 2, 8);
    const SampleFile file = data(x);
    const Passed passed(file, x);
    EXPECT_LE(passed.found.dependence_rows, 200000u);
    EXPECT_GE(passed.found.dependence_rows, 100000u);
    // two estimates, one of a third of the rows: standard error of a correlation at most 1/sqrt(n)
    EXPECT_NEAR(passed.found.correlation(0, 1), correlation(passed.z, 0, 1, 1, 1),
                tolerance::z_bound / std::sqrt(static_cast<double>(passed.found.dependence_rows)));
}

TEST_F(Standardize, ThreadsLeaveTheSameBytes) {
    const Array<double> x = cases::rows(5003, 5, 9);
    const SampleFile file = data(x);
    const Passed one(file, x, 1), many(file, x, 5);
    EXPECT_TRUE(cases::same_bytes(one.standardization.mean, many.standardization.mean));
    EXPECT_TRUE(cases::same_bytes(one.standardization.scale, many.standardization.scale));
    EXPECT_TRUE(cases::same_bytes(one.found.correlation, many.found.correlation));
    EXPECT_TRUE(cases::same_bytes(one.found.odd_correlation, many.found.odd_correlation));
    for (size_t j = 0; j < 5; ++j)
        EXPECT_TRUE(cases::same_bytes(one.found.sums[j].power, many.found.sums[j].power));
}

TEST_F(Standardize, AnInterruptStopsThePass) {
    const SampleFile file = data(cases::rows(100, 2, 1));
    const std::atomic<int> signal{2};
    ContextOptions options;
    options.interrupt_signal = &signal;
    EXPECT_THROW(column_statistics(cases::context(options), file, view_of(file)), Interrupted);
}

} // namespace
} // namespace dynkin

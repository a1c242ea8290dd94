// test_observables.cpp - observables by hand, against naive sums, and with errors that are known.
#include "cases.h"
#include "engine/error.h"
#include "engine/observables.h"
#include "engine/transfer_matrix.h"
#include "tolerance.h"
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <numbers>
#include <random>

namespace dynkin {
namespace {

using std::size_t;

const Context& one_thread() {
    static const Context context({.threads = 1});
    return context;
}

Array<double> rows_of(std::vector<std::vector<double>> rows) {
    Array<double> x(rows.size(), rows[0].size());
    for (size_t n = 0; n < rows.size(); ++n) std::copy(rows[n].begin(), rows[n].end(), x.row(n));
    return x;
}

double value(const ObservableReport& report, const char* name) {
    const Estimate* found = report.find(name);
    return found ? found->value : std::numeric_limits<double>::quiet_NaN();
}

// Rows (1, 1, 1, 1) and (1, -1, 1, -1) on a ring: m = 1, 0; S(k = pi / 2) = 0; pairs at distance 1: 1, -1.
TEST(Observables, ByHandOnARingOfFour) {
    const Lattice ring{{4}, Boundary::periodic};
    const auto report = observe(one_thread(), rows_of({{1, 1, 1, 1}, {1, -1, 1, -1}}), {}, &ring, {});
    EXPECT_EQ(value(report, "magnetisation"), 0.5);
    EXPECT_EQ(report.find("magnetisation")->error, 0.5); // sd / sqrt(2), sd = 1 / sqrt(2)
    EXPECT_EQ(value(report, "magnetisation_absolute"), 0.5);
    EXPECT_EQ(value(report, "susceptibility"), 4 * (0.5 - 0.25));
    EXPECT_DOUBLE_EQ(value(report, "binder_cumulant"), 1 - 0.5 / (3 * 0.25));
    ASSERT_EQ(report.two_point.size(), 3u);
    EXPECT_EQ(report.two_point[0].value, 1 - 0.25);
    EXPECT_EQ(report.two_point[1].value, 0 - 0.25);
    EXPECT_EQ(report.two_point[2].value, 1 - 0.25);
    EXPECT_EQ(report.chains, 0u);
}

// x = (1, 0 | 0, 0) on 2 x 2 between zeros: m = 1/4, one pair of each axis at distance 1 has product 0. With
// k = pi the sums over slices are 1 - 0 and 1 - 0: S = 1/4, E m^2 - (E m)^2 = 0 for one row.
TEST(Observables, ByHandOnASquareBetweenZeros) {
    const Lattice square{{2, 2}, Boundary::zero};
    const auto x = rows_of({{1, 0, 0, 0}, {0, 0, 0, -1}});
    const auto report =
        observe(one_thread(), x, {}, &square, {parse_polynomial("p", "4 m x[1,1] + x^2", 4, &square)});
    EXPECT_EQ(value(report, "magnetisation"), 0);
    EXPECT_EQ(value(report, "susceptibility"), 4.0 / 16);
    // chi = S = 1/4: length 0
    EXPECT_NEAR(value(report, "correlation_length"), 0, 1e-7);
    ASSERT_EQ(report.two_point.size(), 2u);
    EXPECT_EQ(report.two_point[0].value, 0.25);
    EXPECT_EQ(report.two_point[1].value, 0);
    EXPECT_EQ(value(report, "p"), (0.25 + (1 + 0.25)) / 2); // 4 (-1/4) (-1) + 1/4
}

// ---- a naive oracle: coordinates by division, every pair of sites

struct Place {
    std::vector<size_t> at;
};
Place place(const Lattice& lattice, size_t i) {
    Place p{std::vector<size_t>(lattice.shape.size())};
    for (size_t a = lattice.shape.size(); a-- > 0; i /= lattice.shape[a]) p.at[a] = i % lattice.shape[a];
    return p;
}

/// Distance r along axis a when i and j differ along it alone, else -1; on a ring from i to j upwards.
long along(const Lattice& lattice, size_t axis, const Place& i, const Place& j) {
    for (size_t a = 0; a < lattice.shape.size(); ++a)
        if (a != axis && i.at[a] != j.at[a]) return -1;
    const long n = static_cast<long>(lattice.shape[axis]),
               r = static_cast<long>(j.at[axis]) - static_cast<long>(i.at[axis]);
    return r >= 0 ? r : lattice.boundary == Boundary::periodic ? r + n : -1;
}

struct Naive {
    double susceptibility, binder, length;
    std::vector<double> two_point;
};

Naive naive(const Lattice& lattice, const Array<double>& x, const std::vector<double>& w, size_t distances) {
    const size_t d = x.cols(), side = *std::max_element(lattice.shape.begin(), lattice.shape.end());
    double total = 0, first = 0, second = 0, fourth = 0, structure = 0, axes = 0;
    std::vector<double> pairs(distances), counts(distances);
    for (size_t n = 0; n < x.rows(); ++n) {
        double m = 0;
        for (size_t i = 0; i < d; ++i) m += x(n, i) / static_cast<double>(d);
        total += w[n], first += w[n] * m, second += w[n] * m * m, fourth += w[n] * m * m * m * m;
    }
    const double k = 2 * std::numbers::pi / static_cast<double>(side);
    for (size_t a = 0; a < lattice.shape.size(); ++a) {
        if (lattice.shape[a] != side) continue;
        axes += 1;
        for (size_t i = 0; i < d; ++i)
            for (size_t j = 0; j < d; ++j) {
                const Place p = place(lattice, i), q = place(lattice, j);
                const long r = along(lattice, a, p, q);
                const double angle = k * (static_cast<double>(p.at[a]) - static_cast<double>(q.at[a]));
                double product = 0;
                for (size_t n = 0; n < x.rows(); ++n) product += w[n] / total * x(n, i) * x(n, j);
                structure += std::cos(angle) * product / static_cast<double>(d);
                if (r >= 0 && r < static_cast<long>(distances))
                    pairs[static_cast<size_t>(r)] += product, counts[static_cast<size_t>(r)] += 1;
            }
    }
    structure /= axes;
    first /= total, second /= total, fourth /= total;
    Naive result{static_cast<double>(d) * (second - first * first), 1 - fourth / (3 * second * second), 0,
                 pairs};
    result.length = std::sqrt(result.susceptibility / structure - 1) / (2 * std::sin(k / 2));
    for (size_t r = 0; r < distances; ++r) result.two_point[r] = pairs[r] / counts[r] - first * first;
    return result;
}

Array<double> correlated(size_t rows, size_t d, unsigned seed) {
    std::mt19937_64 generator(seed);
    std::normal_distribution<double> normal;
    Array<double> x(rows, d);
    for (size_t n = 0; n < rows; ++n) {
        const double common = 0.2 + normal(generator);
        for (size_t i = 0; i < d; ++i) x(n, i) = common + 0.5 * normal(generator);
    }
    return x;
}

struct Shape {
    Lattice lattice;
    size_t rows, distances;
};

TEST(Observables, AreThoseOfTheNaiveSums) {
    for (const auto& [lattice, rows, distances] :
         {Shape{{{7}, Boundary::periodic}, 1, 4}, Shape{{{7}, Boundary::zero}, 31, 7},
          Shape{{{4, 6}, Boundary::periodic}, 31, 4}, Shape{{{5, 5}, Boundary::free}, 31, 5},
          Shape{{{3, 2, 3}, Boundary::zero}, 31, 3}, Shape{{{3}, Boundary::periodic}, 10'007, 2}}) {
        SCOPED_TRACE(lattice.describe());
        const Array<double> x = correlated(rows, lattice.sites(), 3);
        std::vector<double> w(rows);
        std::mt19937_64 generator(5);
        for (double& v : w) v = std::exponential_distribution<double>()(generator);
        const Naive expected = naive(lattice, x, w, distances);
        const auto found = observe(one_thread(), x, w, &lattice, {});
        // Sums of rows * d terms of order one, each to an epsilon, and cancellation in differences.
        const double tolerance = 1e-14 * std::sqrt(static_cast<double>(rows * lattice.sites())) * 100;
        if (rows > 1) { // one row: chi is rounding
            EXPECT_NEAR(value(found, "susceptibility"), expected.susceptibility, tolerance);
            EXPECT_NEAR(value(found, "correlation_length"), expected.length,
                        tolerance * (1 + expected.length));
        }
        EXPECT_NEAR(value(found, "binder_cumulant"), expected.binder, tolerance);
        ASSERT_EQ(found.two_point.size(), distances);
        for (size_t r = 0; r < distances; ++r)
            EXPECT_NEAR(found.two_point[r].value, expected.two_point[r], tolerance) << r;
    }
}

TEST(Observables, DoNotDependOnThreadsOrOnHowTheRowsCome) {
    const Lattice lattice{{4, 4}, Boundary::periodic};
    const Array<double> x = correlated(10'007, 16, 4);
    const Context threads({.threads = 4});
    const auto whole = observe(threads, x, {}, &lattice, {});
    Observables parts(16, &lattice, {}, x.rows());
    for (size_t first = 0; first < x.rows(); first += 999)
        parts.add(one_thread(), std::min<size_t>(999, x.rows() - first), x.row(first));
    const auto split = parts.report();
    for (size_t k = 0; k < whole.named.size(); ++k) {
        EXPECT_EQ(whole.named[k].estimate.value, split.named[k].estimate.value);
        EXPECT_EQ(whole.named[k].estimate.error, split.named[k].estimate.error);
    }
}

// ---- errors

/// Errors of every named observable of independent rows are the scatter over repeated experiments.
TEST(Observables, ErrorsAreTheScatterOfRepetitions) {
    const Lattice lattice{{6}, Boundary::periodic};
    const size_t repetitions = 400, rows = 500;
    std::vector<double> sum(6), squares(6), errors(6);
    for (size_t k = 0; k < repetitions; ++k) {
        const Array<double> x = correlated(rows, 6, static_cast<unsigned>(100 + k));
        std::vector<double> w(rows);
        for (size_t n = 0; n < rows; ++n) w[n] = std::exp(0.3 * x(n, 0));
        const auto report = observe(one_thread(), x, w, &lattice, {});
        for (size_t q = 0; q < 6; ++q) {
            const Estimate& e = q < 5 ? report.named[q].estimate : report.two_point[2];
            sum[q] += e.value, squares[q] += e.value * e.value, errors[q] += e.error;
        }
    }
    const auto count = static_cast<double>(repetitions);
    for (size_t q = 0; q < 6; ++q) {
        const double scatter = std::sqrt(squares[q] / count - std::pow(sum[q] / count, 2));
        // Relative standard error of the scatter 1 / sqrt(2 * 400) = 0.035; four of them.
        EXPECT_NEAR(errors[q] / count / scatter, 1, 0.14) << q;
    }
}

TEST(Observables, WeightsOfZeroAreNotLookedAt) {
    const Lattice ring{{4}, Boundary::periodic};
    Array<double> x = rows_of({{1, 1, 1, 1}, {1, -1, 1, -1}, {0, 0, 0, 0}});
    std::fill_n(x.row(2), 4, std::numeric_limits<double>::quiet_NaN());
    const auto report = observe(one_thread(), x, std::vector<double>{2, 2, 0}, &ring, {});
    EXPECT_EQ(value(report, "magnetisation"), 0.5);
    EXPECT_EQ(report.find("magnetisation")->error, 0.5);
}

/// Rows k * chains + c of independent chains x' = rho x + sqrt(1 - rho^2) z in every site.
Array<double> chains_of(double rho, size_t chains, size_t length, size_t d, unsigned seed) {
    std::mt19937_64 generator(seed);
    std::normal_distribution<double> normal;
    Array<double> x(chains * length, d);
    for (size_t c = 0; c < chains; ++c)
        for (size_t i = 0; i < d; ++i) {
            double v = normal(generator);
            for (size_t k = 0; k < length; ++k) {
                x(k * chains + c, i) = v;
                v = rho * v + std::sqrt(1 - rho * rho) * normal(generator);
            }
        }
    return x;
}

TEST(Windowing, FindsTheTimeOfAutoregressiveChains) {
    for (const double rho : {-0.3, 0.0, 0.5, 0.9, 0.97}) {
        const size_t chains = 8, length = 20'000;
        const Array<double> x = chains_of(rho, chains, length, 1, 7);
        std::vector<double> values(x.size());
        for (size_t c = 0; c < chains; ++c)
            for (size_t k = 0; k < length; ++k) values[c * length + k] = x[k * chains + c];
        const Autocorrelation found = integrated_autocorrelation(values, chains, length);
        const double exact = 0.5 * (1 + rho) / (1 - rho);
        // Three standard errors, and what a window of 6 tau leaves out: exp(-6) of tau.
        EXPECT_NEAR(found.tau, exact, 3 * found.tau_error + 0.003 * exact) << rho;
        EXPECT_LE(found.tau_error, 0.07 * found.tau) << rho;
    }
}

TEST(Windowing, ChainsThatDoNotMeetAreOneValueEach) {
    const size_t chains = 16, length = 100;
    std::mt19937_64 generator(1);
    std::normal_distribution<double> normal;
    std::vector<double> values;
    for (size_t c = 0; c < chains; ++c)
        for (size_t k = 0; k < length; ++k) values.push_back((c % 2 ? 1 : -1) + 0.01 * normal(generator));
    const Autocorrelation found = integrated_autocorrelation(values, chains, length);
    // 2 tau within a factor of two of the length: the sum ends at the last lag.
    EXPECT_GE(found.tau, 0.5 * length);
    EXPECT_LE(found.tau, 1.2 * length);
    EXPECT_THROW(integrated_autocorrelation(std::vector<double>(3), 1, 3), Error);
    EXPECT_TRUE(std::isnan(integrated_autocorrelation(std::vector<double>(8, 2.0), 2, 4).tau));
}

/// In chains of x and of x^2 (time of rho^2), and with bins of several rows.
TEST(Windowing, ErrorsOfChainsCountTheirTime) {
    const Lattice ring{{2}, Boundary::periodic};
    const double rho = 0.8;
    const size_t chains = 4, length = 50'000;
    const Array<double> x = chains_of(rho, chains, length, 2, 9);
    const auto report =
        observe(one_thread(), x, {}, &ring, {parse_polynomial("square", "x^2", 2, &ring)}, chains);
    const double tau = 0.5 * (1 + rho) / (1 - rho), tau_square = 0.5 * (1 + rho * rho) / (1 - rho * rho);
    const auto n = static_cast<double>(chains * length);
    const Estimate &m = *report.find("magnetisation"), &square = *report.find("square");
    EXPECT_NEAR(m.tau, tau, 4 * m.tau_error);
    EXPECT_NEAR(m.error / std::sqrt(2 * tau * 0.5 / n), 1, 0.1);
    EXPECT_NEAR(square.tau, tau_square, 4 * square.tau_error);
    EXPECT_NEAR(square.error / std::sqrt(2 * tau_square * 1 / n), 1, 0.1); // Var (x^2 + y^2)/2 = 1
    EXPECT_NEAR(m.value, 0, 4 * m.error);
    EXPECT_NEAR(square.value, 1, 4 * square.error);

    std::vector<Polynomial> many; // so many that rows are binned by four
    for (int k = 0; k < 150; ++k) many.push_back(parse_polynomial("p" + std::to_string(k), "x^2", 2, &ring));
    const auto binned = observe(one_thread(), x, {}, &ring, many, chains);
    EXPECT_NEAR(binned.find("p7")->value, square.value, 1e-12);
    EXPECT_NEAR(binned.find("p7")->error / square.error, 1, 0.05);
    EXPECT_NEAR(binned.find("magnetisation")->tau, m.tau, 0.1 * m.tau);
}

TEST(Observables, TooFewRowsOfAChainHaveNoError) {
    const Lattice ring{{2}, Boundary::periodic};
    const auto report = observe(one_thread(), chains_of(0, 4, 3, 2, 1), {}, &ring, {}, 4);
    EXPECT_TRUE(std::isfinite(value(report, "magnetisation")));
    EXPECT_TRUE(std::isnan(report.find("magnetisation")->error));
}

/// Exact draws against the exact moments, z <= 4 (chance 6e-5 each, 13 of them).
TEST(Observables, OfExactDrawsAreTheTransferMatrix) {
    const LatticeTarget law = ginzburg_landau({{10}, Boundary::zero}, 0.03, 0.125, 1.0 / 17);
    const TransferMatrix exact(law);
    Array<double> x(20'000, 10);
    exact.draw(one_thread(), 3, 0, x.rows(), x.data());
    const auto report = observe(one_thread(), x, {}, &law.lattice, {});
    const Array<double> moments = exact.second_moments();
    double chi = 0;
    for (const double v : moments) chi += v / 10;
    const Estimate& found = *report.find("susceptibility");
    EXPECT_NEAR(found.value, chi, 4 * found.error);
    for (size_t r = 0; r < 10; ++r) {
        double mean = 0;
        for (size_t i = 0; i + r < 10; ++i) mean += moments(i, i + r) / static_cast<double>(10 - r);
        EXPECT_NEAR(report.two_point[r].value, mean, 4 * report.two_point[r].error) << r;
    }
}

// ---- formulas

double of(const std::string& formula, const std::vector<double>& x, const Lattice* lattice = nullptr) {
    const auto report =
        observe(one_thread(), rows_of({x}), {}, nullptr, {parse_polynomial("p", formula, x.size(), lattice)});
    return value(report, "p");
}

TEST(Polynomials, AreWhatTheySay) {
    const std::vector<double> x = {1, 2, 3, -4, 0.5, 1.5}; // m = 2/3, mean of squares 32.5 / 6
    const double m = 2.0 / 3;
    EXPECT_NEAR(of("3", x), 3, 1e-15);
    EXPECT_NEAR(of("x", x), m, 1e-15);
    EXPECT_NEAR(of("m", x), m, 1e-15);
    EXPECT_NEAR(of("x^2", x), 32.5 / 6, 1e-14);
    EXPECT_NEAR(of("m^2", x), m * m, 1e-15);
    EXPECT_NEAR(of("(x - m)^2", x), 32.5 / 6 - m * m, 1e-14);
    EXPECT_NEAR(of("x[1] x[3] - 2*x[0]/4 + 0", x), -8.5, 1e-14);
    EXPECT_NEAR(of("2(x[2] + 1)^2 * 1e-1", x), 3.2, 1e-14);
    EXPECT_NEAR(of("-x[3]^3 + .5", x), 64.5, 1e-13);
    const Lattice lattice{{2, 3}, Boundary::free};
    EXPECT_NEAR(of("x[1,0] x[0, 2] + x[5]", x, &lattice), -12 + 1.5, 1e-14);
    double quartic = 0;
    for (const double v : x) quartic += std::pow(v * v - 1, 2) / 6;
    EXPECT_NEAR(of("(x^2 - 1)^2", x), quartic, 1e-13);
}

TEST(Polynomials, WrongFormulasAreRefused) {
    const Lattice lattice{{2, 3}, Boundary::free};
    for (const char* formula :
         {"",         " ",
          "x +",      "y",
          "x[",       "x[6]",
          "x[-1]",    "x[1,3]",
          "x[0,0,0]", "x[1 2]",
          "x^-1",     "x^1.5",
          "x^17",     "x^9 m^9",
          "(x",       "x)",
          "1/0",      "1/x",
          "inf",      "nan",
          "1e999",    "x^99999999999999999999",
          "1e300^2",  "2**x",
          "x^2^",     "x 2",
          "x^2 .5",   "((((((((((((((((((((((((((((((((((x))))))))))))))))))))))))))))))))))"})
        EXPECT_THROW(parse_polynomial("p", formula, 6, &lattice), Error) << formula;
    EXPECT_THROW(parse_polynomial("p", "x[0,0]", 6, nullptr), Error);
    EXPECT_THROW(parse_polynomial("p", std::string(5000, '1'), 6, nullptr), Error);
    EXPECT_THROW(parse_polynomial("p", "(1 + x[0] + x[1] + x[2] + x[3] + x[4] + x[5])^16", 6, nullptr),
                 Error);
}

TEST(Polynomials, StandInTheTargetsFile) {
    const std::string head = "[target]\nkind = \"lattice\"\nshape = [4]\nboundary = \"free\"\ncoupling = 1\n"
                             "site = [0, 1]\n";
    const Target target = parse_target(head, "t.toml");
    EXPECT_TRUE(parse_observables(head, "t.toml", target).empty());
    const auto found =
        parse_observables(head + "[observables]\nfourth = \"x^4\"\nends = \"x[0] x[3]\"\n", "t.toml", target);
    ASSERT_EQ(found.size(), 2u);
    for (const char* wrong : {"a = 1", "a = \"y\"", "\"a b\" = \"x\"", "\"<b>\" = \"x\"", "\"\" = \"x\"",
                              "two_point = \"x\"", "a = [\"x\"]"})
        EXPECT_THROW(parse_observables(head + "[observables]\n" + wrong + "\n", "t.toml", target), Error)
            << wrong;
    try {
        parse_observables(head + "[observables]\nbad = \"x +\"\n", "t.toml", target);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::input);
        EXPECT_STREQ(error.what(),
                     "t.toml:8: observables.bad: expected a number, x, m or '(' at character 4 of 'x +'");
    }
}

} // namespace
} // namespace dynkin

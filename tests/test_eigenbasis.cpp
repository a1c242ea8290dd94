// test_eigenbasis.cpp - reference families against closed forms, their equation and direct quadrature;
// potentials from moments; transition tables against the semigroup.
#include "cases.h"
#include "kernels/step.h"
#include "tolerance.h"

namespace dynkin {
namespace {

using std::size_t;

const Family& double_well() {
    static const Family family = fitted_family({1.5, 0, -3, 0, 1.5}, -2.6, 2.6);
    return family;
}
const Family& skewed() {
    static const Family family = fitted_family({0, 0.3, -0.4, 0, 0.3}, -3, 3.1);
    return family;
}
const Family& wide_gaussian() {
    static const Family family = fitted_family({0, 0, 0.5}, -9, 9);
    return family;
}

struct Point {
    double phi[26], slope[26];
};
Point at(const Family& family, double z) {
    Point p;
    eigenfunctions(family, z, family.top_degree() + 1, p.phi, p.slope);
    return p;
}

/// Simpson's rule over the stationary law: another one than the engine's.
struct Law {
    static constexpr int intervals = 4000;
    const Family& family;
    double h;
    std::vector<double> node, weight;
    std::vector<Point> point;
    explicit Law(const Family& f) : family(f), h((f.hi - f.lo) / intervals) {
        for (int i = 0; i <= intervals; ++i) {
            node.push_back(i == intervals ? f.hi : f.lo + i * h), point.push_back(at(f, node.back()));
            const int factor = i == 0 || i == intervals ? 1 : i % 2 ? 4 : 2;
            weight.push_back(h / 3 * factor * std::exp(f.log_density(node.back())));
        }
    }
    /// Average of f(z, eigenfunctions at z).
    template <class F> double average(const F& f) const {
        double sum = 0;
        for (size_t i = 0; i < node.size(); ++i) sum += weight[i] * f(node[i], point[i]);
        return sum;
    }
    /// Relative error of the rule for a wave of number k.
    double error(double k) const { return std::pow(k * h, 4) / 180; }
};

TEST(GaussLegendre, IntegratesPolynomialsOfDegree2nMinus1) {
    for (int n : {1, 2, 7, 600}) {
        std::vector<double> node, weight;
        gauss_legendre(n, -1, 3, node, weight);
        EXPECT_TRUE(std::is_sorted(node.begin(), node.end()));
        for (int power : {0, 1, std::min(2 * n - 1, 13)}) {
            double sum = 0;
            for (size_t i = 0; i < node.size(); ++i) sum += weight[i] * std::pow(node[i], power);
            const double exact = (std::pow(3, power + 1) - std::pow(-1, power + 1)) / (power + 1);
            EXPECT_NEAR(sum, exact, tolerance::eps * n * std::pow(3, power + 1)) << n << ' ' << power;
        }
    }
}

TEST(HermiteFamily, EigenfunctionsAreNormalisedHermitePolynomials) {
    const Family family = hermite_family(24);
    for (double z : {-4.2, -1.0, 0.0, 0.3, 2.7}) {
        const Point p = at(family, z);
        for (int n = 0; n <= 24; ++n) {
            const double scale = std::abs(oracle::hermite(n, z)) + std::abs(oracle::hermite(n - 1, z));
            EXPECT_NEAR(p.phi[n], oracle::hermite(n, z),
                        tolerance::hermite(n, z, tolerance::eps) * scale + 1e-18);
            EXPECT_NEAR(p.slope[n], std::sqrt(n) * oracle::hermite(n - 1, z),
                        (8 + tolerance::hermite(n, z, 1)) * tolerance::eps * (p.slope[n] ? 6 : 1) *
                            (scale + 1));
        }
    }
    for (int n = 0; n <= 24; ++n) EXPECT_EQ(family.lambda[static_cast<size_t>(n)], n);
}

TEST(HermiteFamily, LawIsTheStandardNormal) {
    const Family family = hermite_family(2);
    EXPECT_NEAR(family.log_density(1.5), -1.125 - 0.5 * std::log(2 * std::numbers::pi), 1e-15);
    EXPECT_EQ(family.v(3), 4.5);
    EXPECT_EQ(family.dv(3), 3);
}

TEST(FittedFamily, DoubleWellHasTheKnownEigenvalues) { // design.md, section 7, row 3
    const double expected[][2] = {{1, 0.59729805}, {2, 7.0957413}, {4, 21.563892}};
    for (const auto& [n, lambda] : expected) {
        const double found = double_well().lambda[static_cast<size_t>(n)];
        EXPECT_NEAR(found / lambda, 1, tolerance::double_well_eigenvalue) << "lambda_" << n;
        RecordProperty(fmt::format("lambda_{}", n), fmt::format("{:.9g}", found));
    }
}

TEST(FittedFamily, QuadraticPotentialOnAWideBoxReproducesHermite) {
    const Family& family = wide_gaussian();
    const double edge = std::exp(family.log_density(9));
    for (int n = 0; n <= 12; ++n) { // reflection at the ends adds 2 phi phi' times the density there
        const double reflected = 2 * std::sqrt(n) * oracle::hermite(n, 9) * oracle::hermite(n - 1, 9) * edge;
        EXPECT_NEAR(family.lambda[static_cast<size_t>(n)], n, 2 * reflected + 1e-10) << n;
    }
    for (double z : {-3.0, -1.1, 0.0, 0.4, 2.5}) {
        const Point p = at(family, z);
        for (int n = 0; n <= 6; ++n) { // ends: 4e-10 for n = 6; exp(v/2) <= 90 magnifies it
            const double sign = oracle::hermite(n, 1.2815516) < 0 ? -1 : 1;
            EXPECT_NEAR(p.phi[n], sign * oracle::hermite(n, z), 1e-8) << n << " at " << z;
            EXPECT_NEAR(p.slope[n], sign * std::sqrt(n) * oracle::hermite(n - 1, z), 1e-7)
                << n << " at " << z;
        }
    }
    EXPECT_NEAR(family.log_density(0.7), hermite_family(1).log_density(0.7), 1e-12);
}

class Fitted : public testing::TestWithParam<const Family* (*)()> {
  protected:
    const Family& family = *GetParam()();
    const Law law{family};
};
INSTANTIATE_TEST_SUITE_P(Potential, Fitted,
                         testing::Values(
                             +[] { return &double_well(); }, +[] { return &skewed(); },
                             +[] { return &wide_gaussian(); }));

TEST_P(Fitted, LawIsNormalisedOnTheBoxAndZeroOutside) {
    EXPECT_NEAR(law.average([](double, const Point&) { return 1.0; }), 1, tolerance::quadrature);
    EXPECT_EQ(family.log_density(family.lo - 1e-9), -INFINITY);
    EXPECT_EQ(family.log_density(family.hi + 1e-9), -INFINITY);
    EXPECT_TRUE(std::isfinite(family.log_density(family.lo)));
    EXPECT_EQ(family.log_density(NAN), -INFINITY);
}

TEST_P(Fitted, EigenfunctionsAreOrthonormalAndSoAreTheirSlopes) {
    for (int k = 0; k <= 24; ++k)
        for (int l = 0; l <= k; ++l) {
            const double lambda = family.lambda[static_cast<size_t>(k)];
            const double bound = tolerance::quadrature + law.error(2 * std::sqrt(lambda));
            const double phi = law.average([&](double, const Point& p) { return p.phi[k] * p.phi[l]; });
            const double slope = law.average([&](double, const Point& p) { return p.slope[k] * p.slope[l]; });
            EXPECT_NEAR(phi, k == l, bound) << k << ' ' << l;
            EXPECT_NEAR(slope, k == l ? lambda : 0, bound * (lambda + 1)) << k << ' ' << l;
        }
}

/// Norm of f'' - v' f' + lambda f over the law, f = phi_n.
double equation_residual(const Law& law, int n) {
    const Family& family = law.family;
    const double h = 1e-3;
    const auto slope = [&](double z) { return at(family, z).slope[n]; };
    return std::sqrt(law.average([&](double z, const Point& p) {
        if (z < family.lo + 2 * h || z > family.hi - 2 * h) return 0.0;
        const double second =
            (8 * (slope(z + h) - slope(z - h)) - slope(z + 2 * h) + slope(z - 2 * h)) / (12 * h);
        return std::pow(second - family.dv(z) * p.slope[n] + family.lambda[static_cast<size_t>(n)] * p.phi[n],
                        2);
    }));
}

// Differences: h^4 k^5 / 30 = 5e-9 for k = sqrt(lambda) = 11, and rounding k eps / h. 80 polynomials: no
// truncation.
TEST_P(Fitted, EigenfunctionsSolveTheirEquation) {
    const Family fine = fitted_family(family.potential, family.lo, family.hi, 24, 80);
    const Law fine_law(fine);
    for (int n : {1, 2, 5, 8, 12})
        EXPECT_LT(equation_residual(fine_law, n), 1e-7 * (1 + fine.lambda[static_cast<size_t>(n)])) << n;
}

// Ritz values lie above the eigenvalues, by less than residual^2 / gap, and a residual bounds the error of
// the function.
TEST_P(Fitted, FortyEightPolynomialsAreEnoughForTheDegreesInUse) {
    const Family fine = fitted_family(family.potential, family.lo, family.hi, 24, 80);
    for (int n = 1; n <= 8; ++n) {
        const double exact = fine.lambda[static_cast<size_t>(n)];
        EXPECT_NEAR(family.lambda[static_cast<size_t>(n)] / exact, 1, tolerance::double_well_eigenvalue) << n;
        EXPECT_GT(family.lambda[static_cast<size_t>(n)], exact * (1 - 1e-10)) << n;
        EXPECT_LT(equation_residual(law, n), 1e-4 * exact) << n;
    }
}

TEST_P(Fitted, EigenfunctionsArePositiveAtTheNinetyPercentQuantile) {
    double below = 0, z = family.lo;
    for (const double h = law.h / 5; below < 0.9; z += h)
        below += h * std::exp(family.log_density(z + h / 2));
    const Point p = at(family, z);
    for (int n = 0; n <= 24; ++n)
        EXPECT_GT(p.phi[n], -0.2) << n; // near zeros the node beside the quantile decides
}

TEST_P(Fitted, ArgumentsOutsideTheBoxAreClipped) {
    const Point edge = at(family, family.hi), outside = at(family, family.hi + 5);
    for (int n = 0; n <= 24; ++n) EXPECT_EQ(edge.phi[n], outside.phi[n]);
}

TEST_P(Fitted, ProductTablesAreTheirIntegrals) {
    const ProductTables t = product_tables(family, 6);
    double worst = 0;
    for (int k = 0; k <= 6; ++k)
        for (int l = 0; l <= 6; ++l) {
            double kept = 0, scale = 1;
            for (int r = 0; r <= 24; ++r) scale = std::max(scale, std::abs(t.gradient(k, l, r)));
            for (int r = 0; r <= 24; ++r) {
                const double bound = 10 * tolerance::quadrature + law.error(2 * std::sqrt(family.lambda[24]));
                const double a =
                    law.average([&](double, const Point& p) { return p.phi[k] * p.phi[l] * p.phi[r]; });
                const double g =
                    law.average([&](double, const Point& p) { return p.slope[k] * p.slope[l] * p.phi[r]; });
                ASSERT_NEAR(t.product(k, l, r), a, bound);
                ASSERT_NEAR(t.gradient(k, l, r), g, bound * scale);
                kept += t.gradient(k, l, r) * t.gradient(k, l, r);
            }
            const double whole =
                law.average([&](double, const Point& p) { return std::pow(p.slope[k] * p.slope[l], 2); });
            if (whole > 0) worst = std::max(worst, 1 - kept / whole);
        }
    EXPECT_NEAR(t.residual, worst, 1e-8);
    EXPECT_LT(t.residual, 1e-2);
}

TEST(HermiteFamily, ProductTablesAreTheirIntegrals) {
    const ProductTables t = product_tables(hermite_family(12), 6);
    for (int k = 0; k <= 6; ++k)
        for (int l = 0; l <= 6; ++l)
            for (int r = 0; r <= 12; ++r) {
                const auto phi = [](int n, double z) { return oracle::hermite(n, z); };
                const auto slope = [&](int n, double z) { return std::sqrt(n) * phi(n - 1, z); };
                const double a =
                    oracle::normal_average([&](double z) { return phi(k, z) * phi(l, z) * phi(r, z); });
                const double g =
                    oracle::normal_average([&](double z) { return slope(k, z) * slope(l, z) * phi(r, z); });
                EXPECT_NEAR(t.product(k, l, r), a, tolerance::assembly * 100); // entries up to 50
                EXPECT_NEAR(t.gradient(k, l, r), g, tolerance::assembly * 300);
            }
    EXPECT_EQ(t.residual, 0);
}

TEST(FittedFamily, ImpossibleArgumentsAreErrors) {
    cases::expect_error(
        ErrorKind::usage,
        [] {
            fitted_family({0, 0, 1}, 1, 1);
        },
        "lo < hi");
    cases::expect_error(
        ErrorKind::usage,
        [] {
            fitted_family({0, 0, 1}, -1, 1, 24, 24);
        },
        "more polynomials");
    cases::expect_error(
        ErrorKind::numerical,
        [] {
            fitted_family({0, 0, NAN}, -1, 1);
        },
        "not finite");
    cases::expect_error(
        ErrorKind::usage, [] { product_tables(hermite_family(4), 5); }, "degree");
}

/// Power sums of exp(-v) on a box, by quadrature: the moments that infinitely many samples would have.
MarginalSums exact_sums(const std::vector<double>& potential, double reach) {
    const auto v = [&](double z) {
        double sum = 0;
        for (size_t k = potential.size(); k-- > 0;) sum = sum * z + potential[k];
        return sum;
    };
    MarginalSums sums;
    for (int k = 0; k <= 14; ++k)
        sums.power.push_back(oracle::simpson([&](double z) { return std::pow(z, k) * std::exp(-v(z)); },
                                             -reach, reach, 20000));
    sums.count = sums.power[0];
    sums.min = -2, sums.max = 1.8, sums.low_quantile = -1.9, sums.high_quantile = 1.7;
    return sums;
}

/// argmin E[v'^2]/2 - E[v''] over z^1 .. z^degree, by the normal equations.
std::vector<double> naive_potential(const MarginalSums& sums, int degree, double damping) {
    const size_t n = static_cast<size_t>(degree);
    const auto moment = [&](size_t k) { return sums.power[k] / sums.count; };
    Array<double> a(n, n);
    std::vector<double> c(n + 1);
    for (size_t i = 1; i <= n; ++i)
        for (size_t j = 1; j <= n; ++j)
            a(i - 1, j - 1) = static_cast<double>(i * j) * moment(i + j - 2) * (i == j ? 1 + damping : 1);
    const Array<double> b = oracle::inverse(a);
    for (size_t i = 1; i <= n; ++i)
        for (size_t j = 2; j <= n; ++j)
            c[i] += b(i - 1, j - 1) * static_cast<double>(j * (j - 1)) * moment(j - 2);
    return c;
}

TEST(FitPotential, ExactMomentsOfAQuarticGiveTheQuartic) {
    const std::vector<double> quartic = {0, 0.3, -0.8, -0.2, 0.7};
    const MarginalSums sums = exact_sums(quartic, 5);
    for (double scale : {1.0, 0.5}) {
        const PotentialFit fit = fit_potential(sums, scale, false, 4);
        const auto naive = naive_potential(sums, 4, 1e-8);
        ASSERT_EQ(fit.degree, 4);
        for (size_t k = 1; k <= 4; ++k) {
            EXPECT_NEAR(fit.potential[k], scale * quartic[k], 1e-5) << k; // damping 1e-8, condition 1e2
            EXPECT_NEAR(fit.potential[k], scale * naive[k], 1e-11) << k;
        }
        EXPECT_EQ(fit.hi, 1.15 * 2);
        EXPECT_EQ(fit.lo, -1.15 * 2);
    }
}

TEST(FitPotential, SymmetricFitsHaveEvenPowersOnly) {
    const PotentialFit fit = fit_potential(exact_sums({0, 0, -1, 0, 0.5}, 5), 1, true, 4);
    EXPECT_NEAR(fit.potential[2], -1, 1e-5);
    EXPECT_NEAR(fit.potential[4], 0.5, 1e-5);
    EXPECT_EQ(fit.potential[1], 0);
    EXPECT_EQ(fit.potential[3], 0);
}

TEST(FitPotential, TheBoxShrinksToWhereTheLawEnds) {
    MarginalSums sums = exact_sums({0, 0, 0, 0, 0.25}, 6);
    sums.min = -50;
    const PotentialFit fit = fit_potential(sums, 1, true, 4);
    EXPECT_NEAR(0.25 * std::pow(fit.hi, 4), 30, 2.0); // 2000 nodes over 115: steps of 0.058 at a slope of 36
    EXPECT_LE(0.25 * std::pow(fit.hi, 4), 30);
}

TEST(FitPotential, DegreesWithoutAPositiveLeadingCoefficientAreRejected) {
    MarginalSums sums = exact_sums({0, 0, 0.5}, 10);
    for (size_t k = 0; k <= 14; ++k)
        sums.power[k] = k % 2 ? 0 : std::tgamma(static_cast<double>(k) + 1); // Laplace law
    sums.count = 1, sums.min = -12, sums.max = 12, sums.low_quantile = -6.2, sums.high_quantile = 6.2;
    EXPECT_LT(naive_potential(sums, 4, 1e-8)[4], 0);
    const PotentialFit fit = fit_potential(sums, 1, false, 4);
    EXPECT_EQ(fit.degree, 2);
    EXPECT_NEAR(fit.potential[2], 0.25, 1e-6); // the Gaussian of variance 2
}

TEST(FitPotential, APotentialWhoseMinimumHasNoDataIsRejected) {
    MarginalSums sums = exact_sums({0, 0, 0.5}, 10);
    sums.low_quantile = 1, sums.high_quantile = 1.7;
    cases::expect_error(
        ErrorKind::numerical, [&] { fit_potential(sums, 1, false); }, "no polynomial");
}

// ---- transitions

struct Table {
    const Family& family;
    std::vector<float> values;
    double h;
    Table(const Family& f, double dt)
        : family(f), values(TransitionTables::rows * TransitionTables::columns),
          h((f.hi - f.lo) / (TransitionTables::rows - 1)) {
        TransitionTables(f).quantiles(dt, values.data());
    }
    /// Average of f(z(dt)) over z(dt) from z.
    template <class F> double average(double z, const F& f) const {
        const kernels::TransitionView view{values.data(), TransitionTables::rows, TransitionTables::columns,
                                           static_cast<float>(family.lo), static_cast<float>(1 / h)};
        const int draws = 20000;
        double sum = 0;
        for (int k = 0; k < draws; ++k)
            sum += f(static_cast<double>(
                kernels::transition(view, static_cast<float>(z), (static_cast<float>(k) + 0.5f) / draws)));
        return sum / draws;
    }
};

// Cells of width h spread each node evenly, h^2/12 of variance. Jumps at rates exp(-+ v' h/2)/h^2 have the
// variance 2 cosh(v' h/2) dt, so v'^2 h^2/8 too much. Quantiles are joined by lines, in the last cell (3e-5
// of the law) out to 5.3 sd: 1e-3 of the variance.
TEST(TransitionTables, OrnsteinUhlenbeckStepsHaveTheExactMeanAndVariance) {
    for (double dt : {0.004, 0.05, 0.4, 2.0}) {
        const Table table(wide_gaussian(), dt);
        for (double z : {-2.5, -0.02, 1.0, 3.01}) {
            const double mean = table.average(z, [](double x) { return x; });
            const double second = table.average(z, [](double x) { return x * x; });
            const double h2 = table.h * table.h, variance = -std::expm1(-2 * dt);
            EXPECT_NEAR(mean, std::exp(-dt) * z, 0.1 * h2 * dt * std::abs(z) + 1e-3 * std::sqrt(variance))
                << dt << ' ' << z;
            EXPECT_NEAR(second - mean * mean, variance + h2 / 12, (1e-3 + h2 * (z * z + 1) / 8) * variance)
                << dt << ' ' << z;
        }
    }
}

TEST(TransitionTables, StepsEndWithinSixStandardDeviations) { // no jump to the ends of the box
    for (double dt : {0.02, 0.1, 0.4}) { // shorter steps are a few jumps, with the tails of a Poisson law
        const Table table(wide_gaussian(), dt);
        const double sd = std::sqrt(-std::expm1(-2 * dt) + table.h * table.h / 12);
        for (int row = 100; row <= 300; row += 25) {
            const float* q = &table.values[static_cast<size_t>(row * TransitionTables::columns)];
            const double mean = std::exp(-dt) * (-9 + row * table.h);
            EXPECT_GT(q[0], mean - 6 * sd - table.h) << dt << ' ' << row;
            EXPECT_LT(q[TransitionTables::columns - 1], mean + 6 * sd + table.h) << dt << ' ' << row;
            EXPECT_LT(q[0], mean - 5 * sd + table.h) << dt << ' ' << row; // P(z < -5) = 3e-7 > 2^-24
        }
    }
}

TEST(TransitionTables, EigenfunctionsDecayAtTheirRates) {
    for (const Family* family : {&double_well(), &skewed()})
        for (double dt : {0.004, 0.1, 1.0}) {
            const Table table(*family, dt);
            for (double z : {-1.4, -0.3, 0.9})
                for (int n = 1; n <= 3; ++n) {
                    const double found = table.average(z, [&](double x) { return at(*family, x).phi[n]; });
                    // spreading adds h^2/24 phi'', finite differences dt h^2 times fourth derivatives: all
                    // below h^2 lambda
                    const double bound =
                        table.h * table.h * (family->lambda[static_cast<size_t>(n)] + 1) + 1e-4;
                    const double decay = std::exp(-family->lambda[static_cast<size_t>(n)] * dt);
                    EXPECT_NEAR(found, decay * at(*family, z).phi[n], bound) << n << ' ' << dt << ' ' << z;
                }
        }
}

TEST(TransitionTables, StationaryLawIsInvariant) {
    for (const Family* family : {&double_well(), &skewed(), &wide_gaussian()}) {
        const Table table(*family, 0.1);
        const Law law(*family);
        const int n = 200;
        for (int power = 1; power <= 2; ++power) {
            const auto moment = [&](double z) { return std::pow(z, power); };
            const double h = (family->hi - family->lo) / n;
            double after = 0;
            for (int i = 0; i < n; ++i) { // midpoints: exact to rounding for a law that vanishes at both ends
                const double z = family->lo + (i + 0.5) * h;
                after += h * std::exp(family->log_density(z)) * table.average(z, moment);
            }
            const double before = law.average([&](double z, const Point&) { return moment(z); });
            EXPECT_NEAR(after, before, table.h * table.h) << power;
        }
    }
}

TEST(TransitionTables, StationaryQuantilesInvertTheDistributionFunction) {
    std::vector<float> q(TransitionTables::columns);
    TransitionTables(wide_gaussian()).stationary(q.data());
    for (int k = 1; k < 256; ++k) {
        const double s = std::min(k, 256 - k) / 256.0, u = k <= 128 ? 2 * s * s : 1 - 2 * s * s;
        const double cdf = 0.5 * std::erfc(-static_cast<double>(q[static_cast<size_t>(k)]) / std::sqrt(2.0));
        EXPECT_NEAR(cdf, u, 0.1 * 0.045 * 0.045 + 1e-6)
            << k; // histogram of cells of 0.045: curvature h^2/24, h^2/8 inside
    }
}

} // namespace
} // namespace dynkin

// test_eigenfunctions.cpp - reference families against closed forms, their equation and direct quadrature.
#include "cases.h"
#include "references.h"
#include "tolerance.h"

namespace dynkin {
namespace {

using namespace cases;

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

TEST(FittedFamily, DoubleWellHasTheKnownEigenvalues) {
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

} // namespace
} // namespace dynkin

// test_eigenbasis.cpp - potentials from moments, and transition tables against the semigroup.
#include "cases.h"
#include "engine/marginal_density.h"
#include "kernels/score.h"
#include "kernels/step.h"
#include "references.h"
#include "tolerance.h"

namespace dynkin {
namespace {

using namespace cases;

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
    sums.min = -2.2; // v = z^4 is 30 at 2.34; 1.15 * 2.2 lies beyond
    const PotentialFit fit = fit_potential(sums, 4, true, 4);
    EXPECT_EQ(fit.degree, 4);
    EXPECT_NEAR(std::pow(fit.hi, 4), 30, 0.2); // 2000 nodes over 5.06: steps of 0.0025 at a slope of 51
    EXPECT_LE(std::pow(fit.hi, 4), 30);
}

TEST(FitPotential, ADegreeWhoseBoxLeavesDataOutGivesWay) {
    MarginalSums sums = exact_sums({0, 0, 0, 0, 0.25}, 6);
    sums.min = -3;
    EXPECT_EQ(fit_potential(sums, 4, true, 4).degree, 2);
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
        constexpr int tiles = 313, tile = kernels::kScoreTile, draws = tiles * tile;
        double sum = 0;
        for (int k = 0; k < draws; k += tile) {
            float u[tile], x[tile];
            for (int p = 0; p < tile; ++p)
                u[p] = (static_cast<float>(k + p) + 0.5f) / draws, x[p] = static_cast<float>(z);
            kernels::step_kernels(best_isa()).transition(view, u, x);
            for (float value : x) sum += f(static_cast<double>(value));
        }
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

// The density of one column
// -----------------------------------------------------------------------------------------------------

/// Sums of powers of 1e4 rows whose moments are those of exp(-v), by the trapezium rule.
template <class V> MarginalSums exact_sums(const V& v) {
    MarginalSums sums;
    sums.count = 1e4, sums.power.assign(15, 0), sums.min = -2.6, sums.max = 2.6;
    double mass = 0;
    for (int n = -40'000; n <= 40'000; ++n) {
        const double z = 1e-4 * n, p = std::exp(-v(z));
        mass += p;
        double power = p;
        for (double& sum : sums.power) sum += power, power *= z;
    }
    for (double& sum : sums.power) sum *= sums.count / mass;
    return sums;
}

TEST(MarginalDensity, RecoversTheEnergyFromItsMoments) {
    for (const bool even : {true, false}) {
        const double slope = even ? 0 : 0.3;
        const auto found =
            marginal_density(exact_sums([&](double z) { return std::pow(z * z - 1, 2) + slope * z; }), even);
        ASSERT_TRUE(found);
        EXPECT_EQ(found->degree, 4);
        EXPECT_EQ(found->shrinkage, 1);
        const double expected[] = {0, slope, -2, 0, 1};
        for (std::size_t k = 1; k <= 4; ++k) EXPECT_NEAR(found->potential[k], expected[k], 1e-5) << k;
        const std::vector<double> mean =
            density_means(*found, hermite_family(4), 2); // E z, E (z^2 - 1)/sqrt(2)
        const MarginalSums sums = exact_sums([&](double z) { return std::pow(z * z - 1, 2) + slope * z; });
        EXPECT_NEAR(mean[0], 1, 1e-12);
        EXPECT_NEAR(mean[1], sums.power[1] / sums.count, 2e-6); // Newton stops at a squared step of 1e-12
        EXPECT_NEAR(mean[2], (sums.power[2] / sums.count - 1) / std::sqrt(2.0), 2e-6);
    }
}

// Where no polynomial holds the data's moments remain, the more of them the more rows there are.
TEST(MarginalDensity, ShrinksAsOneOverTheRowsWhereItIsWrong) {
    MarginalSums sums = exact_sums([](double z) {
        return -std::log(std::exp(-0.5 * std::pow((z + 1) / 0.2, 2)) / 0.2 +
                         std::exp(-0.5 * std::pow(z - 0.8, 2)));
    });
    const auto few = marginal_density(sums, false);
    for (double& sum : sums.power) sum *= 10;
    sums.count *= 10;
    const auto many = marginal_density(sums, false);
    ASSERT_TRUE(few && many);
    EXPECT_LT(few->shrinkage, 0.5);
    if (few->degree == many->degree) {
        EXPECT_NEAR(many->shrinkage, 0.1 * few->shrinkage, 1e-4);
    }
}

TEST(MarginalDensity, NothingFromNothing) {
    MarginalSums sums = exact_sums([](double z) { return z * z; });
    sums.count = 10;
    EXPECT_FALSE(marginal_density(sums, true));
    sums.count = 1e4, sums.power[2] = NAN;
    EXPECT_FALSE(marginal_density(sums, true));
}

} // namespace
} // namespace dynkin

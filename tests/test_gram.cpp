// test_gram.cpp - A(t) and b(t) from the moments against averages over data, over noised data, and over exact
// laws.
#include "cases.h"
#include "engine/circle.h"
#include "engine/gram_device.h"
#include "engine/solve.h"
#include "tolerance.h"
#include "wave_cases.h"
#include <map>
#include <numbers>

namespace dynkin {
namespace {

using cases::Basis;
using std::size_t;

/// The whole symmetric matrix, from the backend.
Array<double> gram(const Basis& basis, const std::vector<double>& moments, double t) {
    Array<double> a(basis.system.size(), basis.system.size());
    if constexpr (built_with_cuda)
        if (cases::on_device()) {
            const Context context = cases::context();
            DeviceState& device = context.device_state();
            const auto there = to_device<double>(device, moments, "moments");
            DeviceScoreSystem system(device, basis.system);
            DeviceArray<double> matrix(device, a.size(), "matrix");
            system.gram(there, std::span(&t, 1), matrix.data());
            std::ranges::copy(to_host(device, matrix), a.data());
            return a;
        }
    basis.system.gram(moments, t, a);
    for (size_t k = 0; k < a.rows(); ++k)
        for (size_t l = 0; l < k; ++l) {
            EXPECT_EQ(a(l, k), 0) << "only the lower triangle is written";
            a(l, k) = a(k, l);
        }
    return a;
}

double largest(const Array<double>& a) {
    double most = 0;
    for (double x : a) most = std::max(most, std::abs(x));
    return most;
}

Array<double> direct_gram(const Basis& basis, const Array<double>& z) {
    const oracle::Values values(basis.reference, z, basis.set.max_degree());
    const auto& terms = basis.set.terms;
    Array<double> a(terms.size(), terms.size());
    for (size_t k = 0; k < terms.size(); ++k)
        for (size_t l = 0; l < terms.size(); ++l)
            a(k, l) = oracle::gram(values, basis.set.sites, terms[k], terms[l]);
    return a;
}

void expect_near(const Array<double>& found, const Array<double>& expected, double relative) {
    double worst = 0;
    for (size_t k = 0; k < found.size(); ++k) worst = std::max(worst, std::abs(found[k] - expected[k]));
    EXPECT_LE(worst, relative * largest(expected));
    testing::Test::RecordProperty("relative_error", fmt::format("{:.3g}", worst / largest(expected)));
}

IndexSet triangle(int degree, bool even = false) { // pairs of degree 3, 2, 3 and singles
    return make_index_set(3, degree, {{0, 1, 3}, {0, 2, 2}, {1, 2, 3}}, 0, even);
}

// ---- Angles

/// Functions of a circle are waves times sqrt 2, and their clusters' systems those of the joint basis.
TEST(Gram, ClustersOfAnglesHaveTheSystemOfWaves) {
    const int frequencies = 2, functions = 2 * frequencies;
    const Basis basis({{circle_family(2 * functions)}, {0, 0}},
                      make_index_set(2, functions, {{0, 1, functions}}, 0, false));
    const WaveBasis waves = make_wave_basis(true, 2, 3);
    const WaveSystem system(waves);
    std::map<std::pair<int, int>, size_t> place; // of the joint basis
    for (size_t k = 0; k < waves.size(); ++k) place[{waves.indices[2 * k + 2], waves.indices[2 * k + 3]}] = k;
    const auto index = [](const Term& t) {
        return t.j < 0 ? std::pair(t.i == 0 ? t.a : 0, t.i == 0 ? 0 : t.a) : std::pair(t.a, t.b);
    };
    for (const size_t rows : {1u, 31u, 10'007u}) {
        const Array<double> u = cases::points(rows, 2, 5, 2 * std::numbers::pi);
        const std::vector<double> moments = basis.averages(cases::context(2), u);
        MomentSums sums;
        const Array<double> of_waves = wave_moments(cases::context(2), waves, Basis::source(u), {}, sums);
        for (const double t : {0.0, 0.3}) {
            const Array<double> found = gram(basis, moments, t);
            Array<double> joint(waves.size(), waves.size()), expected(found.rows(), found.cols());
            std::vector<double> b;
            system.assemble(system.noised(of_waves, t), joint, b);
            const auto& terms = basis.set.terms;
            for (size_t k = 0; k < terms.size(); ++k)
                for (size_t l = 0; l < terms.size(); ++l) {
                    const size_t p = place.at(index(terms[k])), q = place.at(index(terms[l]));
                    const double factors = (terms[k].j < 0 ? 1 : 2) + (terms[l].j < 0 ? 1 : 2);
                    expected(k, l) = std::pow(2, 0.5 * factors) * joint(std::max(p, q), std::min(p, q));
                }
            expect_near(found, expected, 1e-11); // tables of the waves, and sums of rows in two orders
        }
    }
}

// ---- A Gaussian is exact

TEST(Gram, GaussianDataHaveTheExactGaussianScoreAtEveryTime) {
    const size_t d = 4;
    const Array<double> x = cases::draw(cases::gaussian(d), 5000, 1);
    const oracle::Gaussian law = oracle::empirical(x);
    const Basis basis(cases::hermite_reference(4, 4),
                      make_index_set(4, 2, cases::chain_pairs(4, 1), 0, false));
    const std::vector<double> moments = basis.averages(cases::context(2), x),
                              means = basis.system.means(moments);
    double worst = 0;
    for (double t : {0.0, 0.01, 0.1, 0.5, 1.0, 3.0}) {
        Array<double> a(basis.system.size(), basis.system.size());
        basis.system.gram(moments, t, a);
        std::vector<double> c;
        const auto status =
            solve_score_system(a, basis.system.right_side(means, t), basis.system.eigenvalues(), 0, c);
        ASSERT_TRUE(status.solved && status.raised == 0);
        const Array<double> at = cases::draw({std::vector<double>(d), cases::gaussian(d).covariance}, 500, 2);
        const oracle::Values values(basis.reference, at, 2);
        const oracle::Gaussian noised = law.noised(t);
        double error = 0, scale = 0;
        for (size_t n = 0; n < at.rows(); ++n) {
            const std::vector<double> exact = noised.score(at.row(n));
            for (size_t i = 0; i < d; ++i) {
                double score = -at(n, i);
                for (size_t k = 0; k < c.size(); ++k)
                    score += c[k] * values.derivative(n, basis.set.terms[k], static_cast<int>(i));
                error = std::max(error, std::abs(score - exact[i])),
                scale = std::max(scale, std::abs(exact[i]));
            }
        }
        EXPECT_LE(error / scale, tolerance::gaussian_score) << "t = " << t;
        worst = std::max(worst, error / scale);
    }
    RecordProperty("relative_score_error", fmt::format("{:.3g}", worst));
}

// ---- row 2

TEST(Gram, HermiteAtTimeZeroIsTheAverageOverTheData) {
    const Array<double> z = cases::rows(300, 3, 1);
    for (bool even : {false, true}) {
        Array<double> mirrored(600, 3); // an even basis sees the data and their mirror image
        for (size_t k = 0; k < z.size(); ++k) mirrored[k] = z[k], mirrored[k + z.size()] = -z[k];
        const Basis basis(cases::hermite_reference(3, 8), triangle(4, even));
        expect_near(gram(basis, basis.averages(cases::context(), z), 0),
                    direct_gram(basis, even ? mirrored : z), tolerance::assembly);
    }
}

TEST(Gram, LateTimesGiveTheEigenvalues) {
    const Basis basis(cases::hermite_reference(3, 12), triangle(6));
    const Array<double> a = gram(basis, basis.averages(cases::context(), cases::rows(300, 3, 1)), 40);
    double worst = 0;
    for (size_t k = 0; k < a.rows(); ++k)
        for (size_t l = 0; l < a.rows(); ++l)
            worst = std::max(worst, std::abs(a(k, l) - (k == l ? basis.system.eigenvalues()[k] : 0)));
    EXPECT_LE(worst, tolerance::assembly);
    RecordProperty("error", fmt::format("{:.3g}", worst));
}

/// Rows of independent coordinates from the law of each reference, by inversion of midpoint sums.
Array<double> from_law(const Reference& reference, size_t rows) {
    Array<double> z(rows, static_cast<size_t>(reference.sites()));
    std::mt19937_64 engine(4);
    std::uniform_real_distribution<double> uniform;
    for (size_t n = 0; n < rows; ++n)
        for (size_t j = 0; j < z.cols(); ++j) {
            const Family& family = reference.of(static_cast<int>(j));
            const double u = uniform(engine), h = (family.hi - family.lo) / 4000;
            double below = 0, at = family.lo + h / 2;
            while (at < family.hi - h && below < u) below += h * std::exp(family.log_density(at)), at += h;
            z(n, j) = at;
        }
    return z;
}

// Products of two slopes are expanded in 25 functions; the residual is what that leaves out, as a fraction of
// the square of the norm of the product in the law. Norms of products are up to 3 times the largest mean of
// one.
TEST(Gram, FittedAtTimeZeroIsTheAverageOverTheDataUpToTheTruncation) {
    for (int degree : {2, 4, 6}) {
        const Basis basis(cases::fitted_reference(3),
                          make_index_set(3, degree, cases::chain_pairs(3, 2), 0, false));
        const Array<double> z = from_law(basis.reference, 300);
        double residual = 0;
        for (const ProductTables& t : basis.tables) residual = std::max(residual, t.residual);
        EXPECT_LT(residual, 0.05);
        expect_near(gram(basis, basis.averages(cases::context(), z), 0), direct_gram(basis, z),
                    1e-9 + 3 * std::sqrt(residual));
    }
}

// ---- between

/// Average over x(t) from one row of a product of one-dimensional functions of Hermite polynomials, exactly.
class NoisedHermite {
  public:
    NoisedHermite(const Array<double>& z, int top, double t)
        : sites_(z.cols()), count_(static_cast<size_t>(top + 1)), slopes_(z.rows() * sites_, count_ * count_),
          values_(slopes_) {
        const double decay = std::exp(-t), noise = std::sqrt(-std::expm1(-2 * t));
        for (size_t n = 0; n < z.size(); ++n)
            for (size_t a = 0; a < count_; ++a)
                for (size_t c = 0; c < count_; ++c) {
                    const int p = static_cast<int>(a), q = static_cast<int>(c);
                    const auto average = [&](int k, int l) {
                        return oracle::normal_average([&](double e) {
                            return phi(k, decay * z[n] + noise * e) * phi(l, decay * z[n] + noise * e);
                        });
                    };
                    slopes_(n, a * count_ + c) = std::sqrt(p * q) * average(p - 1, q - 1);
                    values_(n, a * count_ + c) = average(p, q);
                }
    }
    double gram(const Term& k, const Term& l) const {
        double sum = 0;
        const size_t rows = slopes_.rows() / sites_;
        for (size_t n = 0; n < rows; ++n)
            for (size_t i = 0; i < sites_; ++i) {
                double product = degree(k, i) && degree(l, i); // slopes along i of both
                for (size_t j = 0; j < sites_ && product != 0; ++j)
                    product *= factor(n, j, degree(k, j), degree(l, j), i == j);
                sum += product;
            }
        return sum / static_cast<double>(rows);
    }

  private:
    static double phi(int n, double z) { return n < 0 ? 0 : n == 0 ? 1 : n == 1 ? z : oracle::hermite(n, z); }
    static size_t degree(const Term& k, size_t i) {
        return static_cast<size_t>(static_cast<int>(i) == k.i ? k.a : static_cast<int>(i) == k.j ? k.b : 0);
    }
    double factor(size_t row, size_t site, size_t a, size_t c, bool slope) const {
        return (slope ? slopes_ : values_)(row * sites_ + site, a * count_ + c);
    }
    size_t sites_, count_;
    Array<double> slopes_, values_;
};

TEST(Gram, HermiteBetweenIsTheAverageOverTheExactNoisedLaw) {
    const Array<double> z = cases::rows(20, 3, 1);
    const Basis basis(cases::hermite_reference(3, 8), triangle(4));
    const std::vector<double> moments = basis.averages(cases::context(), z);
    for (double t : {0.05, 0.3, 1.5}) {
        const NoisedHermite oracle(z, 4, t);
        Array<double> expected(basis.system.size(), basis.system.size());
        for (size_t k = 0; k < expected.rows(); ++k)
            for (size_t l = 0; l < expected.rows(); ++l)
                expected(k, l) = oracle.gram(basis.set.terms[k], basis.set.terms[l]);
        expect_near(gram(basis, moments, t), expected, tolerance::assembly);
    }
}

/// Each entry within z_bound standard errors of the average over independent copies of noised rows.
void expect_noised(const Basis& basis, const Array<double>& z, double t, const Array<double>& noised,
                   double bias) {
    const oracle::Values values(basis.reference, noised, basis.set.max_degree());
    const Array<double> a = gram(basis, basis.averages(cases::context(), z), t);
    const size_t copies = noised.rows() / z.rows();
    for (size_t k = 0; k < a.rows(); ++k)
        for (size_t l = 0; l <= k; ++l) {
            double sum = 0, square = 0; // over copies; each copy holds every row once
            for (size_t c = 0; c < copies; ++c) {
                double copy = 0;
                for (size_t n = 0; n < z.rows(); ++n)
                    for (int i = 0; i < basis.set.sites; ++i)
                        copy += values.derivative(c * z.rows() + n, basis.set.terms[k], i) *
                                values.derivative(c * z.rows() + n, basis.set.terms[l], i);
                copy /= static_cast<double>(z.rows());
                sum += copy, square += copy * copy;
            }
            const double m = static_cast<double>(copies), mean = sum / m;
            const double error = std::sqrt(std::max(square / m - mean * mean, 0.0) / (m - 1));
            EXPECT_NEAR(a(k, l), mean, tolerance::z_bound * error + bias * (1 + std::abs(mean)))
                << k << ' ' << l;
        }
}

TEST(Gram, HermiteBetweenAgreesWithNoisedCopies) {
    const double t = 0.3;
    const Array<double> z = cases::rows(200, 3, 1);
    const size_t copies = 100;
    Array<double> noised(copies * z.rows(), 3);
    std::mt19937_64 engine(8);
    std::normal_distribution<double> normal;
    for (size_t k = 0; k < noised.size(); ++k)
        noised[k] = std::exp(-t) * z[k % z.size()] + std::sqrt(-std::expm1(-2 * t)) * normal(engine);
    expect_noised(Basis(cases::hermite_reference(3, 6), triangle(3)), z, t, noised, tolerance::assembly);
}

// Reflected Euler steps of 1e-4 have a bias of about dt v'' = 1e-3.
TEST(Gram, FittedBetweenAgreesWithNoisedCopies) {
    const double t = 0.05, dt = 1e-4;
    const Array<double> z = cases::rows(100, 2, 1);
    const Basis basis(cases::fitted_reference(2), make_index_set(2, 3, cases::chain_pairs(2, 2), 0, false));
    const size_t copies = 60;
    Array<double> noised(copies * z.rows(), 2);
    std::mt19937_64 engine(8);
    std::normal_distribution<double> normal;
    for (size_t k = 0; k < noised.size(); ++k) {
        const Family& family = basis.reference.of(static_cast<int>(k % 2));
        double x = z[k % z.size()];
        for (int step = 0; step < 500; ++step) x += -family.dv(x) * dt + std::sqrt(2 * dt) * normal(engine);
        noised[k] = std::clamp(x, family.lo, family.hi);
    }
    expect_noised(basis, z, t, noised, 2e-3);
}

// ---- properties

TEST(Gram, IsPositiveSemidefinite) {
    const Basis basis(cases::hermite_reference(3, 8), triangle(4));
    const std::vector<double> moments = basis.averages(cases::context(), cases::rows(300, 3, 1));
    for (double t : {0.0, 0.02, 1.0}) {
        const Array<double> a = gram(basis, moments, t);
        std::mt19937_64 engine(3);
        std::normal_distribution<double> normal;
        for (int trial = 0; trial < 50; ++trial) {
            std::vector<double> c(a.rows());
            for (double& x : c) x = normal(engine);
            double form = 0;
            for (size_t k = 0; k < c.size(); ++k)
                for (size_t l = 0; l < c.size(); ++l) form += c[k] * a(k, l) * c[l];
            EXPECT_GE(form, 0) << t;
        }
        Array<double> lower = a;
        std::vector<double> zero(a.rows()), c;
        EXPECT_EQ(solve_score_system(lower, zero, basis.system.eigenvalues(), 1e-10, c).raised, 0) << t;
    }
}

TEST(Gram, IsZeroWhereSupportsDoNotMeet) {
    for (bool fitted : {false, true}) {
        const Basis basis(fitted ? cases::fitted_reference(4) : cases::hermite_reference(4, 6),
                          make_index_set(4, 3, cases::chain_pairs(4, 2), 0, false));
        const Array<double> a = gram(basis, basis.averages(cases::context(), cases::rows(100, 4, 1)), 0.1);
        const auto meet = [](const Term& k, const Term& l) {
            return k.i == l.i || k.i == l.j || (k.j >= 0 && (k.j == l.i || k.j == l.j));
        };
        size_t apart = 0;
        for (size_t k = 0; k < a.rows(); ++k)
            for (size_t l = 0; l < a.rows(); ++l)
                if (!meet(basis.set.terms[k], basis.set.terms[l])) {
                    ++apart;
                    EXPECT_EQ(a(k, l), 0);
                }
        EXPECT_GT(apart, 0u);
    }
}

TEST(Gram, OperationsByHand) {
    // phi_1' phi_1', phi_2' phi_1' and phi_2' phi_2' of Hermite have degrees 0, 1 and 0, 2: moments of three
    // degrees, three operations each, for three pairs of terms.
    const Basis one(cases::hermite_reference(1, 4), make_index_set(1, 2, {}, 0, false)),
        two(cases::hermite_reference(2, 4), make_index_set(2, 2, {}, 0, false)),
        pair(cases::hermite_reference(2, 4), make_index_set(2, 2, {{0, 1, 1}}, 0, false));
    EXPECT_EQ(one.system.gram_operations(), 27);
    EXPECT_EQ(two.system.gram_operations(), 2 * 27);
    EXPECT_GT(pair.system.gram_operations(), 2 * 27);
}

TEST(Gram, MeansAndRightSideAreTheDecayedAverages) {
    const Array<double> z = cases::rows(301, 3, 2);
    for (bool fitted : {false, true})
        for (bool even : {false, true}) {
            const Basis basis(fitted ? cases::fitted_reference(3, even) : cases::hermite_reference(3, 8),
                              triangle(4, even));
            const oracle::Values values(basis.reference, z, 4);
            const auto means = basis.system.means(basis.averages(cases::context(), z));
            const auto b = basis.system.right_side(means, 0.2);
            for (size_t k = 0; k < means.size(); ++k) {
                const Term& term = basis.set.terms[k];
                double sum = 0, absolute = 0;
                for (size_t n = 0; n < z.rows(); ++n)
                    sum += values.term(n, term), absolute += std::abs(values.term(n, term));
                const double lambda = oracle::eigenvalue(basis.reference, term);
                EXPECT_NEAR(means[k], sum / 301, 1e-12 * (1 + absolute / 301))
                    << k; // tables: 1e-13 of each factor
                EXPECT_NEAR(basis.system.eigenvalues()[k], lambda, 1e-14 * lambda);
                EXPECT_NEAR(b[k], lambda * std::exp(-lambda * 0.2) * means[k], 1e-14 * (1 + std::abs(b[k])));
            }
        }
}

} // namespace
} // namespace dynkin

// test_perturbation.cpp - the order in delta of the score's error for p_0 ~ exp(-(V + delta W)): the theorem
// of docs/method.md, section 4.5, by quadrature in two dimensions.
#include "cases.h"
#include "engine/solve.h"
#include <array>

namespace dynkin {
namespace {

using cases::Basis;
using std::size_t;

constexpr int kNodes = 160, kTop = 40, kPolynomials = 96; // Gauss-Legendre nodes a site, eigenfunctions kept

Family gaussian() { return fitted_family({0, 0, 0.5}, -9, 9, kTop, kPolynomials); }
/// Single wells, the walls 30 kT above the minimum.
Family quartic() { return fitted_family({0, 0, 0.4, 0, 0.1}, -4, 4, kTop, kPolynomials); }
Family skewed() { return fitted_family({0, 0.3, 0.5, 0.1, 0.08}, -4.2, 4, kTop, kPolynomials); }

/// One site: nodes, probability weights of the stationary law, eigenfunctions and slopes (nodes x functions).
struct Axis {
    std::vector<double> weight;
    Array<double> phi, slope;
    explicit Axis(const Family& family) : phi(kNodes, kTop + 1), slope(kNodes, kTop + 1) {
        std::vector<double> node;
        gauss_legendre(kNodes, family.lo, family.hi, node, weight);
        for (size_t q = 0; q < kNodes; ++q) {
            weight[q] *= std::exp(family.log_density(node[q]));
            eigenfunctions(family, node[q], kTop + 1, phi.row(q), slope.row(q));
        }
    }
};

/// Two sites. Functions of the plane are values on the grid (nodes x nodes) or coefficients (functions x
/// functions).
struct Plane {
    Reference reference;
    Axis x, y;
    Plane(Family first, Family second)
        : reference{{std::move(first), std::move(second)}, {0, 1}}, x(reference.families[0]),
          y(reference.families[1]) {}

    static Array<double> times(const Array<double>& a, const Array<double>& b) {
        Array<double> c(a.rows(), b.cols());
        for (size_t i = 0; i < a.rows(); ++i)
            for (size_t k = 0; k < b.rows(); ++k)
                for (size_t j = 0; j < b.cols(); ++j) c(i, j) += a(i, k) * b(k, j);
        return c;
    }
    static Array<double> transposed(const Array<double>& a) {
        Array<double> b(a.cols(), a.rows());
        for (size_t i = 0; i < a.rows(); ++i)
            for (size_t j = 0; j < a.cols(); ++j) b(j, i) = a(i, j);
        return b;
    }
    /// sum_mn c_mn f_m(x) g_n(y)
    static Array<double> values(const Array<double>& f, const Array<double>& c, const Array<double>& g) {
        return times(times(f, c), transposed(g));
    }
    /// sum over the grid of f_m(x) g_n(y) ratio, ratio relative to the stationary law.
    Array<double> averages(const Array<double>& f, Array<double> ratio, const Array<double>& g) const {
        for (size_t p = 0; p < kNodes; ++p)
            for (size_t q = 0; q < kNodes; ++q) ratio(p, q) *= x.weight[p] * y.weight[q];
        return times(times(transposed(f), ratio), g);
    }
};

/// p_0 ~ exp(-(V + delta W)) and its evolution by Dynkin's formula: p_t / p_inf = sum_mn exp(-(lambda_m +
/// lambda_n) t) rho_mn phi_m phi_n, rho_mn = E_p0[phi_m phi_n].
struct Law {
    const Plane& plane;
    Array<double> ratio, rho; ///< p_0 / p_inf on the grid; coefficients
    Law(const Plane& where, const Array<double>& w, double delta)
        : plane(where), ratio(Plane::values(where.x.phi, w, where.y.phi)) {
        for (double& value : ratio) value = std::exp(-delta * value);
        const double z = plane.averages(plane.x.phi, ratio, plane.y.phi)(0, 0);
        for (double& value : ratio) value /= z;
        rho = plane.averages(plane.x.phi, ratio, plane.y.phi);
    }
    Array<double> coefficients(double t) const {
        const auto &first = plane.reference.of(0).lambda, &second = plane.reference.of(1).lambda;
        Array<double> c = rho;
        for (size_t m = 0; m <= kTop; ++m)
            for (size_t n = 0; n <= kTop; ++n) c(m, n) *= std::exp(-t * (first[m] + second[n]));
        return c;
    }
};

/// Population moments in the order of the plan. Where each stands is read off the plan: sums that hold their
/// own place, counted from 1.
std::vector<double> moments(const Basis& basis, const Law& law) {
    const Plane& p = law.plane;
    std::vector<double> result(basis.plan.size()), place(basis.plan.size());
    std::iota(place.begin(), place.end(), 1.0);
    const auto put = [&](double at, double value) {
        if (at > 0) result[static_cast<size_t>(at) - 1] = value;
    };
    for (int i = 0; i < 2; ++i) {
        const Axis &own = i ? p.y : p.x, &other = i ? p.x : p.y;
        const auto& features = basis.plan.features(i);
        const size_t count = features.size();
        Array<double> products(kNodes,
                               count * count); // feature times feature, both functions of the other site
        for (size_t q = 0; q < kNodes; ++q)
            for (size_t k = 0; k < count * count; ++k)
                products(q, k) = other.phi(q, static_cast<size_t>(features[k / count].b)) *
                                 other.phi(q, static_cast<size_t>(features[k % count].b));
        const Array<double> triple = i ? Plane::transposed(p.averages(products, law.ratio, own.phi))
                                       : p.averages(own.phi, law.ratio, products);
        for (size_t k = 0; k < count * count; ++k) {
            const auto view =
                basis.plan.triple(place.data(), i, static_cast<int>(k / count), static_cast<int>(k % count));
            for (int r = 0; r <= kTop; ++r) put(view(r), triple(static_cast<size_t>(r), k));
        }
    }
    for (int r = 0; r <= kTop; ++r)
        for (int s = 0; s <= kTop; ++s)
            put(basis.plan.pair(place.data(), 0, 1, r, s),
                law.rho(static_cast<size_t>(r), static_cast<size_t>(s)));
    return result;
}

/// The coefficients of terms, placed by degree.
Array<double> placed(const IndexSet& set, const std::vector<double>& c) {
    Array<double> h(kTop + 1, kTop + 1);
    for (size_t k = 0; k < c.size(); ++k) {
        const Term& term = set.terms[k];
        const auto a = static_cast<size_t>(term.a), b = static_cast<size_t>(term.b);
        (term.j >= 0 ? h(a, b) : term.i ? h(0, a) : h(a, 0)) = c[k];
    }
    return h;
}

/// sqrt of E_pt |grad h - grad log(p_t / p_inf)|^2.
double score_error(const Array<double>& h, const Law& law, double t) {
    const Axis &x = law.plane.x, &y = law.plane.y;
    const Array<double> rho = law.coefficients(t), density = Plane::values(x.phi, rho, y.phi);
    const Array<double> slope[2] = {Plane::values(x.slope, rho, y.phi), Plane::values(x.phi, rho, y.slope)};
    const Array<double> model[2] = {Plane::values(x.slope, h, y.phi), Plane::values(x.phi, h, y.slope)};
    double sum = 0;
    for (size_t p = 0; p < kNodes; ++p)
        for (size_t q = 0; q < kNodes; ++q)
            for (int i = 0; i < 2; ++i)
                sum += x.weight[p] * y.weight[q] * density(p, q) *
                       std::pow(model[i](p, q) - slope[i](p, q) / density(p, q), 2);
    return std::sqrt(sum);
}

std::vector<double> galerkin(const Basis& basis, const std::vector<double>& averages, double t) {
    Array<double> a(basis.system.size(), basis.system.size());
    basis.system.gram(averages, t, a);
    std::vector<double> c;
    const auto status = solve_score_system(a, basis.system.right_side(basis.system.means(averages), t),
                                           basis.system.eigenvalues(), 0, c);
    EXPECT_TRUE(status.solved && status.raised == 0);
    return c;
}

/// A = diag(lambda).
std::vector<double> first_order(const Basis& basis, const std::vector<double>& averages, double t) {
    std::vector<double> c = basis.system.right_side(basis.system.means(averages), t);
    for (size_t k = 0; k < c.size(); ++k) c[k] /= basis.system.eigenvalues()[k];
    return c;
}

// ---- the theorem

constexpr std::array deltas = {0.005, 0.01, 0.02, 0.04, 0.08};
constexpr double slope_bound = 0.15; // the next order adds delta times a number of order 1 to the error
constexpr double exact_law = 1e-10;  // as tolerance::quadrature: 160^2 terms, slopes up to degree 40

/// W of total degree 3, with every kind of term.
Array<double> perturbation() {
    Array<double> w(kTop + 1, kTop + 1);
    w(1, 0) = 0.2, w(2, 0) = 0.3, w(0, 1) = -0.3, w(1, 1) = 0.6, w(2, 1) = 0.2;
    return w;
}

/// Least-squares slope of log error against log delta.
double order(const std::array<double, deltas.size()>& error) {
    double x = 0, y = 0, xx = 0, xy = 0;
    const double n = deltas.size();
    for (size_t k = 0; k < deltas.size(); ++k) {
        const double u = std::log(deltas[k]), v = std::log(error[k]);
        x += u / n, y += v / n, xx += u * u / n, xy += u * v / n;
    }
    return (xy - x * y) / (xx - x * x);
}

/// Errors at all deltas with the terms up to a total degree.
struct Errors {
    std::array<double, deltas.size()> first, galerkin;
    Errors(const Plane& plane, int degree, double t) {
        const Basis basis(plane.reference, make_index_set(2, degree, {{0, 1, degree}}, degree, false));
        for (size_t k = 0; k < deltas.size(); ++k) {
            const Law law(plane, perturbation(), deltas[k]);
            const std::vector<double> averages = moments(basis, law);
            first[k] = score_error(placed(basis.set, first_order(basis, averages, t)), law, t);
            galerkin[k] = score_error(placed(basis.set, dynkin::galerkin(basis, averages, t)), law, t);
        }
        const std::string name = fmt::format("degree_{}_t_{}", degree, t);
        testing::Test::RecordProperty(
            name,
            fmt::format("first order {:.2e} to {:.2e}, order {:.3f}; Galerkin {:.2e} to {:.2e}, order {:.3f}",
                        first.front(), first.back(), order(first), galerkin.front(), galerkin.back(),
                        order(galerkin)));
    }
};

// Here the eigenfunctions are the Hermite polynomials, so C_2 = P_t W^2 - (P_t W)^2 has degree 4 (the terms
// of degree 6 and 5 cancel), and the third cumulant has degree 5.
TEST(Perturbation, OrdersInAGaussianReference) {
    const Plane plane(gaussian(), gaussian());
    for (const double t : {1e-3, 0.1, 1.0}) {
        SCOPED_TRACE(t);
        const Errors without(plane, 3, t), with(plane, 4, t);
        EXPECT_NEAR(order(without.first), 2, slope_bound);
        EXPECT_NEAR(order(with.first), 2, slope_bound) << "a larger span does not help the first order";
        EXPECT_NEAR(order(without.galerkin), 2, slope_bound);
        EXPECT_NEAR(order(with.galerkin), 3, slope_bound);
        if (t < 0.01) continue; // these errors reach rounding
        EXPECT_NEAR(order(Errors(plane, 5, t).galerkin), 4, slope_bound);
    }
}

// These eigenfunctions are no polynomials: no finite span holds C_2, but what it leaves out falls fast.
TEST(Perturbation, OrdersInFittedReferences) {
    const Plane plane(quartic(), skewed());
    for (const double t : {1e-3, 0.1, 1.0}) {
        SCOPED_TRACE(t);
        const Errors without(plane, 3, t), with(plane, 8, t);
        EXPECT_NEAR(order(without.first), 2, slope_bound);
        EXPECT_NEAR(order(without.galerkin), 2, slope_bound);
        for (size_t k = 0; k < deltas.size(); ++k) EXPECT_LE(with.galerkin[k], without.galerkin[k] / 25);
    }
}

// The law that the errors are measured against: at t = 0 it is p_0, and that of a Gaussian has a closed form.
TEST(Perturbation, TheEvolvedLawIsExact) {
    const Plane wells(quartic(), skewed()), normal(gaussian(), gaussian());
    for (const double delta : deltas)
        for (const Plane* plane : {&wells, &normal}) {
            Array<double> h = perturbation();
            for (double& value : h) value *= -delta;
            EXPECT_LE(score_error(h, Law(*plane, perturbation(), delta), 0), exact_law) << delta;
        }
    Array<double> w(kTop + 1, kTop + 1);
    w(1, 1) = 1;
    const double delta = 0.1; // exp(-delta x y): precision (1, delta; delta, 1), grad h = z - S_t^-1 z
    Array<double> precision(2, 2);
    precision(0, 0) = precision(1, 1) = 1, precision(0, 1) = precision(1, 0) = delta;
    const oracle::Gaussian law{{0, 0}, oracle::inverse(precision)};
    for (const double t : {0.0, 0.1, 1.0}) {
        const Array<double> p = oracle::inverse(law.noised(t).covariance);
        Array<double> h(kTop + 1, kTop + 1);
        h(1, 1) = -p(0, 1), h(2, 0) = h(0, 2) = (1 - p(0, 0)) / std::sqrt(2.0);
        EXPECT_LE(score_error(h, Law(normal, w, delta), t), exact_law) << t;
    }
}

} // namespace
} // namespace dynkin

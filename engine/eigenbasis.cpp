#include "eigenbasis.h"
#include "circle.h"
#include "error.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>
#include <lapacke.h>
#include <numbers>
#include <numeric>

namespace dynkin {
namespace {

using std::size_t;

double polynomial(std::span<const double> c, double z) {
    double sum = 0;
    for (size_t k = c.size(); k-- > 0;) sum = sum * z + c[k];
    return sum;
}

double derivative(std::span<const double> c, double z) {
    double sum = 0;
    for (size_t k = c.size(); k-- > 1;) sum = sum * z + static_cast<double>(k) * c[k];
    return sum;
}

/// Values and derivatives of the orthonormal polynomials p_0 .. p_{count-1} at z.
void orthonormal(const Family& f, double z, size_t count, double* p, double* dp) {
    p[0] = 1;
    if (dp) dp[0] = 0;
    for (size_t k = 0; k + 1 < count; ++k) {
        const double a = f.recurrence_a[k], b = f.recurrence_b[k], next = f.recurrence_b[k + 1];
        p[k + 1] = ((z - a) * p[k] - (k ? b * p[k - 1] : 0.0)) / next;
        if (dp) dp[k + 1] = (p[k] + (z - a) * dp[k] - (k ? b * dp[k - 1] : 0.0)) / next;
    }
}

/// Probability weights of the stationary law on the quadrature nodes, and log Z.
struct Quadrature {
    std::vector<double> node, weight;
    double log_normaliser = 0;
};

Quadrature stationary_quadrature(const Family& f) {
    Quadrature q;
    gauss_legendre(600, f.lo, f.hi, q.node, q.weight);
    double lowest = std::numeric_limits<double>::infinity();
    for (double z : q.node) lowest = std::min(lowest, f.v(z));
    if (!std::isfinite(lowest))
        throw Error(ErrorKind::numerical,
                    fmt::format("eigenbasis: the potential is not finite on [{}, {}]", f.lo, f.hi));
    double total = 0;
    for (size_t i = 0; i < q.node.size(); ++i) total += q.weight[i] *= std::exp(-(f.v(q.node[i]) - lowest));
    for (double& w : q.weight) w /= total;
    q.log_normaliser = std::log(total) - lowest;
    return q;
}

/// Recurrence of the polynomials orthonormal on the quadrature (Stieltjes; two passes of
/// reorthogonalisation).
void stieltjes(Family& f, const Quadrature& q, size_t count) {
    const size_t n = q.node.size();
    Array<double> p(count, n);
    std::fill_n(p.row(0), n, 1.0);
    f.recurrence_a.assign(count, 0);
    f.recurrence_b.assign(count + 1, 0);
    std::vector<double> next(n);
    for (size_t k = 0; k < count; ++k) {
        double a = 0;
        for (size_t i = 0; i < n; ++i) a += q.weight[i] * q.node[i] * p(k, i) * p(k, i);
        f.recurrence_a[k] = a;
        if (k + 1 == count) break;
        for (size_t i = 0; i < n; ++i)
            next[i] = (q.node[i] - a) * p(k, i) - (k ? f.recurrence_b[k] * p(k - 1, i) : 0.0);
        for (int pass = 0; pass < 2; ++pass)
            for (size_t l = 0; l <= k; ++l) {
                double overlap = 0;
                for (size_t i = 0; i < n; ++i) overlap += q.weight[i] * next[i] * p(l, i);
                for (size_t i = 0; i < n; ++i) next[i] -= overlap * p(l, i);
            }
        double norm = 0;
        for (size_t i = 0; i < n; ++i) norm += q.weight[i] * next[i] * next[i];
        f.recurrence_b[k + 1] = std::sqrt(norm);
        for (size_t i = 0; i < n; ++i) p(k + 1, i) = next[i] / f.recurrence_b[k + 1];
    }
}

/// Makes every eigenfunction positive at the 90 % quantile of the law, so that signs are a convention, not an
/// accident.
void fix_signs(Family& f, const Quadrature& q) {
    double cumulative = 0, at = q.node.back();
    for (size_t i = 0; i < q.node.size(); ++i)
        if ((cumulative += q.weight[i]) >= 0.9) {
            at = q.node[i];
            break;
        }
    const size_t functions = f.lambda.size();
    std::vector<double> phi(functions);
    eigenfunctions(f, at, static_cast<int>(functions), phi.data(), nullptr);
    for (size_t n = 0; n < functions; ++n)
        if (phi[n] < 0)
            for (size_t k = 0; k < f.expansion.rows(); ++k) f.expansion(k, n) *= -1;
}

double log_factorial(int n) { return std::lgamma(n + 1.0); }

double hermite_product(int k, int l, int r) {
    const int twice = k + l - r;
    if (twice < 0 || twice % 2 || r < std::abs(k - l)) return 0;
    const int j = twice / 2;
    const double half = 0.5 * (log_factorial(k) + log_factorial(l) + log_factorial(r));
    return std::exp(half - log_factorial(j) - log_factorial(k - j) - log_factorial(l - j));
}

} // namespace

double Family::v(double z) const { return polynomial(potential, z); }
double Family::dv(double z) const { return derivative(potential, z); }
double Family::log_density(double z) const {
    if (is_circle(*this)) return z - z == 0 ? -log_normaliser : -std::numeric_limits<double>::infinity();
    return z >= lo && z <= hi ? -v(z) - log_normaliser : -std::numeric_limits<double>::infinity();
}

void gauss_legendre(int n, double lo, double hi, std::vector<double>& nodes, std::vector<double>& weights) {
    nodes.resize(static_cast<size_t>(n));
    weights.resize(static_cast<size_t>(n));
    for (int i = 0; i < n; ++i) {
        double x = std::cos(std::numbers::pi * (i + 0.75) / (n + 0.5)), slope = 1;
        for (int iteration = 0; iteration < 100; ++iteration) {
            double p0 = 1, p1 = x;
            for (int k = 2; k <= n; ++k) {
                const double p2 = ((2 * k - 1) * x * p1 - (k - 1) * p0) / k;
                p0 = p1, p1 = p2;
            }
            slope = n * (x * p1 - p0) / (x * x - 1);
            const double step = p1 / slope;
            x -= step;
            if (std::abs(step) < 1e-16) break;
        }
        const size_t at = static_cast<size_t>(n - 1 - i);
        nodes[at] = lo + (hi - lo) * (x + 1) / 2;
        weights[at] = (hi - lo) / ((1 - x * x) * slope * slope);
    }
}

Family circle_family(int top_degree) {
    Family f;
    f.kind = ReferenceKind::fitted;
    f.lo = 0, f.hi = 2 * std::numbers::pi;
    f.potential = {0, 0};
    f.log_normaliser = std::log(f.hi);
    for (int n = 0; n <= top_degree; ++n) f.lambda.push_back((n + 1) / 2 * ((n + 1) / 2));
    return f;
}

Family hermite_family(int top_degree) {
    Family f;
    f.lambda.resize(static_cast<size_t>(top_degree + 1));
    std::iota(f.lambda.begin(), f.lambda.end(), 0.0);
    return f;
}

Family fitted_family(std::vector<double> potential, double lo, double hi, int top_degree, int polynomials) {
    require(lo < hi && polynomials > top_degree, ErrorKind::usage,
            "eigenbasis: expected lo < hi and more polynomials than eigenfunctions");
    Family f;
    f.kind = ReferenceKind::fitted;
    f.lo = lo, f.hi = hi;
    f.potential = std::move(potential);
    const Quadrature q = stationary_quadrature(f);
    f.log_normaliser = q.log_normaliser;
    const size_t m = static_cast<size_t>(polynomials), functions = static_cast<size_t>(top_degree + 1);
    stieltjes(f, q, m);
    Array<double> stiffness(m, m);
    std::vector<double> p(m), dp(m);
    for (size_t i = 0; i < q.node.size(); ++i) {
        orthonormal(f, q.node[i], m, p.data(), dp.data());
        for (size_t k = 0; k < m; ++k)
            for (size_t l = 0; l <= k; ++l) stiffness(k, l) += q.weight[i] * dp[k] * dp[l];
    }
    std::vector<double> eigenvalue(m);
    const int n = polynomials;
    if (LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'V', 'L', n, stiffness.data(), n, eigenvalue.data()) != 0)
        throw Error(ErrorKind::numerical, "eigenbasis: the eigenproblem of the reference did not converge");
    f.lambda.assign(eigenvalue.begin(), eigenvalue.begin() + top_degree + 1);
    f.lambda[0] = 0;
    f.expansion = Array<double>(m, functions);
    for (size_t k = 0; k < m; ++k)
        for (size_t r = 0; r < functions; ++r) f.expansion(k, r) = stiffness(k, r);
    fix_signs(f, q);
    return f;
}

namespace {

void circle_functions(double z, int count, double* phi, double* dphi) {
    phi[0] = 1;
    if (dphi) dphi[0] = 0;
    for (int n = 1; n < count; ++n) {
        const int m = (n + 1) / 2;
        const double c = std::numbers::sqrt2 * std::cos(m * z), s = std::numbers::sqrt2 * std::sin(m * z);
        phi[n] = n % 2 ? c : s;
        if (dphi) dphi[n] = n % 2 ? -m * s : m * c;
    }
}

} // namespace

void eigenfunctions(const Family& f, double z, int count, double* phi, double* dphi) {
    if (is_circle(f)) return circle_functions(z, count, phi, dphi);
    if (f.kind == ReferenceKind::hermite) {
        phi[0] = 1;
        if (count > 1) phi[1] = z;
        for (int k = 1; k + 1 < count; ++k)
            phi[k + 1] = (z * phi[k] - std::sqrt(k) * phi[k - 1]) / std::sqrt(k + 1.0);
        if (dphi)
            for (int k = 0; k < count; ++k) dphi[k] = k ? std::sqrt(k) * phi[k - 1] : 0;
        return;
    }
    const size_t m = f.expansion.rows();
    double p[128], dp[128];
    require(m <= 128, ErrorKind::usage, "eigenbasis: at most 128 polynomials");
    orthonormal(f, std::clamp(z, f.lo, f.hi), m, p, dphi ? dp : nullptr);
    for (int n = 0; n < count; ++n) {
        double value = 0, slope = 0;
        for (size_t k = 0; k < m; ++k) {
            value += f.expansion(k, static_cast<size_t>(n)) * p[k];
            if (dphi) slope += f.expansion(k, static_cast<size_t>(n)) * dp[k];
        }
        phi[n] = value;
        if (dphi) dphi[n] = slope;
    }
}

ProductTables product_tables(const Family& f, int degree) {
    const int top = f.top_degree();
    require(degree <= top, ErrorKind::usage, "eigenbasis: degree beyond the eigenfunctions that are kept");
    ProductTables t;
    t.degree = degree, t.top_degree = top;
    const size_t n = static_cast<size_t>(degree + 1), rs = static_cast<size_t>(top + 1);
    t.a.assign(n * n * rs, 0);
    t.g.assign(n * n * rs, 0);
    if (f.kind == ReferenceKind::hermite) {
        // g = (lambda_k + lambda_l - lambda_r) a / 2, because L is a derivation up to the carre du champ.
        for (size_t k = 0, at = 0; k < n; ++k)
            for (size_t l = 0; l < n; ++l)
                for (size_t r = 0; r < rs; ++r, ++at) {
                    t.a[at] = hermite_product(static_cast<int>(k), static_cast<int>(l), static_cast<int>(r));
                    t.g[at] = 0.5 * (static_cast<double>(k + l) - static_cast<double>(r)) * t.a[at];
                }
        return t;
    }
    const Quadrature q = stationary_quadrature(f);
    Array<double> phi(q.node.size(), rs), dphi(q.node.size(), rs);
    for (size_t i = 0; i < q.node.size(); ++i) eigenfunctions(f, q.node[i], top + 1, phi.row(i), dphi.row(i));
    std::vector<double> square(n * n, 0);
    for (size_t i = 0; i < q.node.size(); ++i)
        for (size_t k = 0; k < n; ++k)
            for (size_t l = 0; l < n; ++l) {
                const double product = q.weight[i] * phi(i, k) * phi(i, l);
                const double gradient = q.weight[i] * dphi(i, k) * dphi(i, l);
                square[k * n + l] += gradient * dphi(i, k) * dphi(i, l);
                double* a = &t.a[(k * n + l) * rs];
                double* g = &t.g[(k * n + l) * rs];
                for (size_t r = 0; r < rs; ++r) a[r] += product * phi(i, r), g[r] += gradient * phi(i, r);
            }
    for (size_t kl = 0; kl < n * n; ++kl) {
        double kept = 0;
        for (size_t r = 0; r < rs; ++r) kept += t.g[kl * rs + r] * t.g[kl * rs + r];
        if (square[kl] > 0) t.residual = std::max(t.residual, 1 - kept / square[kl]);
    }
    return t;
}

namespace {

/// Solves min_c E[v'^2]/2 - E[v''], v = sum_k c_k z^k over the powers given. False when the system is
/// singular.
bool match_score(const MarginalSums& sums, const std::vector<int>& powers, std::vector<double>& potential) {
    const size_t n = powers.size();
    Array<double> a(n, n);
    std::vector<double> b(n);
    for (size_t i = 0; i < n; ++i) {
        const int k = powers[i];
        b[i] = k > 1 ? k * (k - 1) * sums.power[static_cast<size_t>(k - 2)] / sums.count : 0;
        for (size_t j = 0; j < n; ++j)
            a(i, j) = k * powers[j] * sums.power[static_cast<size_t>(k + powers[j] - 2)] / sums.count;
    }
    for (size_t i = 0; i < n; ++i) a(i, i) *= 1 + 1e-8;
    const int size = static_cast<int>(n);
    if (LAPACKE_dposv(LAPACK_ROW_MAJOR, 'L', size, 1, a.data(), size, b.data(), 1) != 0) return false;
    potential.assign(static_cast<size_t>(powers.back() + 1), 0);
    for (size_t i = 0; i < n; ++i) potential[static_cast<size_t>(powers[i])] = b[i];
    return std::all_of(b.begin(), b.end(), [](double x) { return std::isfinite(x); });
}

} // namespace

PotentialFit fit_potential(const MarginalSums& sums, double scale, bool symmetric, int max_degree) {
    for (int degree = max_degree; degree >= 2; degree -= 2) {
        std::vector<int> powers;
        for (int k = symmetric ? 2 : 1; k <= degree; k += symmetric ? 2 : 1) powers.push_back(k);
        PotentialFit fit;
        if (!match_score(sums, powers, fit.potential) || !(fit.potential.back() > 0)) continue;
        for (double& c : fit.potential) c *= scale;
        fit.degree = degree;
        const double reach = 1.15 * std::max(std::abs(sums.min), std::abs(sums.max));
        const int grid = 2000;
        double lowest = std::numeric_limits<double>::infinity(), at = 0;
        for (int i = 0; i <= grid; ++i) {
            const double z = reach * (2.0 * i / grid - 1), v = polynomial(fit.potential, z);
            if (v < lowest) lowest = v, at = z;
        }
        if (!std::isfinite(lowest) || at < sums.low_quantile || at > sums.high_quantile) continue;
        double widest = 0;
        for (int i = 0; i <= grid; ++i) {
            const double z = reach * (2.0 * i / grid - 1);
            if (polynomial(fit.potential, z) - lowest <= 30) widest = std::max(widest, std::abs(z));
        }
        fit.lo = -std::min(reach, widest), fit.hi = std::min(reach, widest);
        if (degree > 2 && (sums.min < fit.lo || sums.max > fit.hi)) continue; // too steep for its own data
        return fit;
    }
    throw Error(ErrorKind::numerical,
                "eigenbasis: no polynomial potential fits the marginal law (degrees 8 to 2 rejected)");
}

TransitionTables::TransitionTables(const Family& f) : lo_(f.lo), hi_(f.hi), vectors_(rows, rows) {
    const double h = (hi_ - lo_) / (rows - 1);
    double lowest = std::numeric_limits<double>::infinity();
    std::vector<double> v(rows), middle(rows - 1), diagonal(rows, 0), off(rows - 1);
    for (int i = 0; i < rows; ++i) lowest = std::min(lowest, v[static_cast<size_t>(i)] = f.v(lo_ + i * h));
    for (double& x : v) x -= lowest;
    for (size_t i = 0; i + 1 < rows; ++i) {
        middle[i] = f.v(lo_ + (static_cast<double>(i) + 0.5) * h) - lowest;
        off[i] = std::exp(-(middle[i] - 0.5 * (v[i] + v[i + 1]))) / (h * h);
        diagonal[i] -= std::exp(-(middle[i] - v[i])) / (h * h);
        diagonal[i + 1] -= std::exp(-(middle[i] - v[i + 1])) / (h * h);
    }
    if (LAPACKE_dstevd(LAPACK_ROW_MAJOR, 'V', rows, diagonal.data(), off.data(), vectors_.data(), rows) != 0)
        throw Error(ErrorKind::numerical,
                    "eigenbasis: the finite-difference generator's eigenproblem did not converge");
    eigenvalue_ = std::move(diagonal);
    root_weight_.resize(rows);
    for (size_t i = 0; i < rows; ++i) root_weight_[i] = std::exp(-0.5 * v[i]);
}

namespace {

/// Quantiles at u_k = 2 (k/n)^2, mirrored, of the histogram `mass` (any total) over cells of width h centred
/// on lo + i h. The outermost two are at 2^-24, the smallest number that uniform_float() gives: at 0 they
/// would be the ends of the box, and one particle in 2^15 would be thrown towards them.
void invert(std::span<const double> mass, double lo, double h, int columns, float* out) {
    const double total = std::accumulate(mass.begin(), mass.end(), 0.0);
    const double n = columns - 1;
    size_t cell = 0;
    double below = 0;
    for (int k = 0; k < columns; ++k) {
        const double s = std::min(k / n, 1 - k / n), tail = std::max(2 * s * s, 0x1p-24);
        const double wanted = total * (k / n <= 0.5 ? tail : 1 - tail);
        while (cell + 1 < mass.size() && below + mass[cell] < wanted) below += mass[cell++];
        const double inside = mass[cell] > 0 ? std::clamp((wanted - below) / mass[cell], 0.0, 1.0) : 0.5;
        const double z = lo + (static_cast<double>(cell) - 0.5 + inside) * h;
        out[k] = static_cast<float>(std::clamp(z, lo, lo + h * static_cast<double>(mass.size() - 1)));
    }
}

} // namespace

void TransitionTables::quantiles(double dt, float* table) const {
    // Eigenvalues ascend to 0; those with exp(lambda dt) < 1e-17 do not contribute.
    size_t first = 0;
    while (first + 1 < rows && eigenvalue_[first] * dt < -40) ++first;
    const size_t kept = rows - first;
    std::vector<double> decay(kept);
    for (size_t m = 0; m < kept; ++m) decay[m] = std::exp(eigenvalue_[first + m] * dt);
    const double h = (hi_ - lo_) / (rows - 1);
    Array<double> transposed(kept, rows);
    for (size_t j = 0; j < rows; ++j)
        for (size_t m = 0; m < kept; ++m) transposed(m, j) = vectors_(j, first + m) * root_weight_[j];
    std::vector<double> mass(rows);
    for (size_t i = 0; i < rows; ++i) {
        std::fill(mass.begin(), mass.end(), 0.0);
        for (size_t m = 0; m < kept; ++m) {
            const double factor = vectors_(i, first + m) * decay[m];
            const double* row = transposed.row(m);
            for (size_t j = 0; j < rows; ++j) mass[j] += factor * row[j];
        }
        for (double& p : mass) p = std::max(p, 0.0);
        invert(mass, lo_, h, columns, table + i * columns);
    }
}

} // namespace dynkin

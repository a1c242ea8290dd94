// linear_field.cpp - the law of a linear process at any time: mean and covariance in closed form, Hermite
// moments carried by the flow, the system of the score.
#include "../kernels/device.h"
#include "error.h"
#include "linear.h"
#include "parallel.h"
#include "solve.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <fmt/core.h>
#include <lapacke.h>
#include <numbers>
#include <numeric>

namespace dynkin {

using std::size_t;

namespace {

/// z at time t given z(0): transition z(0) + shift + normal noise of covariance `noise`.
struct Carried {
    Array<double> transition, noise;
    std::vector<double> shift;
};

/// By power series for a time of at most 1/(4 |B|) and doublings of it, sums in which nothing cancels
/// (docs/method.md, section 11.3).
Carried carry(const LinearEquation& equation, double t) {
    const Array<double>& drift = equation.drift;
    const size_t d = drift.rows();
    double norm = 0;
    for (size_t i = 0; i < d; ++i) {
        double row = 0;
        for (size_t j = 0; j < d; ++j) row += std::abs(drift(i, j));
        norm = std::max(norm, row);
    }
    const int doublings = std::max(0, static_cast<int>(std::ceil(std::log2(std::max(4 * norm * t, 1e-300)))));
    const double h = std::ldexp(t, -doublings);
    // E = sum (B h)^k / k!, psi = int_0^h e^(B s) ds, Q = int_0^h e^(B s) 2 D e^(B' s) ds
    Array<double> power(d, d), spread(d, d), e(d, d), psi(d, d), q(d, d);
    for (size_t i = 0; i < d; ++i) power(i, i) = 1;
    for (size_t k = 0; k < q.size(); ++k) spread[k] = 2 * h * equation.diffusion[k];
    for (int k = 1; k <= 20; ++k) { // the next ones are below rounding
        for (size_t n = 0; n < q.size(); ++n) e[n] += power[n], psi[n] += power[n] * h / k, q[n] += spread[n];
        const Array<double> next = matrix_product(drift, power), left = matrix_product(drift, spread);
        for (size_t i = 0; i < d; ++i)
            for (size_t j = 0; j < d; ++j) {
                power(i, j) = next(i, j) * h / k;
                spread(i, j) = (left(i, j) + left(j, i)) * h / (k + 1);
            }
    }
    for (int k = 0; k < doublings; ++k) {
        const Array<double> more = matrix_product(matrix_product(e, q), e, true),
                            further = matrix_product(e, psi);
        for (size_t n = 0; n < q.size(); ++n) q[n] += more[n], psi[n] += further[n];
        e = matrix_product(e, e);
    }
    Carried out{std::move(e), std::move(q), std::vector<double>(d, 0)};
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j) out.shift[i] += psi(i, j) * equation.shift[j];
    return out;
}

/// Lower Cholesky factor; false unless positive definite.
bool cholesky(Array<double>& a) {
    const int n = static_cast<int>(a.rows());
    for (int i = 0; i < n; ++i)
        for (int j = i + 1; j < n; ++j) a(static_cast<size_t>(i), static_cast<size_t>(j)) = 0;
    return LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', n, a.data(), n) == 0;
}

/// Of a lower triangle.
Array<double> inverse_of(Array<double> factor) {
    const int n = static_cast<int>(factor.rows());
    LAPACKE_dtrtri(LAPACK_ROW_MAJOR, 'L', 'N', n, factor.data(), n);
    return factor;
}

/// Of a Cholesky factor: that of its square is at most some 1e12.
bool well_conditioned(const Array<double>& factor) {
    double least = INFINITY, most = 0;
    for (size_t i = 0; i < factor.rows(); ++i)
        least = std::min(least, factor(i, i)), most = std::max(most, factor(i, i));
    return least > 1e-6 * most;
}

/// a b for a lower triangle a.
Array<double> triangle_times(const Array<double>& a, const Array<double>& b) {
    Array<double> c(a.rows(), b.cols());
    for (size_t i = 0; i < c.rows(); ++i)
        for (size_t j = 0; j < c.cols(); ++j)
            for (size_t k = 0; k <= i; ++k) c(i, j) += a(i, k) * b(k, j);
    return c;
}

/// Moments of y = inverse (x - mean) from those of x.
std::vector<double> whitened_moments(const Monomials& m, const std::vector<double>& of_x,
                                     const std::vector<double>& mean, const Array<double>& inverse) {
    const size_t n = m.size();
    const int d = m.dimension;
    Array<double> polynomial(n, n); // row alpha: y^alpha in powers of x
    polynomial(0, 0) = 1;
    std::vector<double> out(n, 1.0);
    for (size_t k = 1; k < n; ++k) {
        const int* alpha = m.at(k);
        const int i = static_cast<int>(std::find_if(alpha, alpha + d, [](int a) { return a > 0; }) - alpha);
        const double* before = polynomial.row(m.shifted(k, i, -1));
        const double* with = inverse.row(static_cast<size_t>(i));
        double constant = 0;
        for (int j = 0; j <= i; ++j) constant -= with[j] * mean[static_cast<size_t>(j)];
        for (size_t b = 0; b < k; ++b) {
            if (before[b] == 0) continue;
            polynomial(k, b) += constant * before[b];
            for (int j = 0; j <= i; ++j) polynomial(k, m.shifted(b, j, 1)) += with[j] * before[b];
        }
        out[k] = cblas_ddot(static_cast<int>(n), polynomial.row(k), 1, of_x.data(), 1);
    }
    return out;
}

double factorial(int n) { return n < 2 ? 1 : n * factorial(n - 1); }

/// phi_p phi_q = sum_r product(p, q, r) phi_r for phi_n = He_n/sqrt(n!); r = p + q - 2 j.
double hermite_product(int p, int q, int j) {
    return std::sqrt(factorial(p) * factorial(q) * factorial(p + q - 2 * j)) /
           (factorial(j) * factorial(p - j) * factorial(q - j));
}

/// He_n(x)/sqrt(n!) = sum_k h(n, k) x^k.
Array<double> hermite_powers(int degree) {
    const size_t n = static_cast<size_t>(degree) + 1;
    Array<double> h(n, n);
    h(0, 0) = 1;
    for (size_t k = 1; k < n; ++k)
        for (size_t p = 0; p <= k; ++p)
            h(k, p) = ((p > 0 ? h(k - 1, p - 1) : 0) -
                       (k > 1 ? std::sqrt(static_cast<double>(k - 1)) * h(k - 2, p) : 0)) /
                      std::sqrt(static_cast<double>(k));
    return h;
}

} // namespace

LinearField::LinearField(const Model& model)
    : moments_(model.dimension(), 2 * model.linear->degree), basis_(model.dimension(), model.linear->degree),
      equation_(standardised(std::get<LinearProcess>(model.process), model.standardization)) {
    require(model.linear->moments.size() == moments_.size(), ErrorKind::input,
            "linear process: the moments do not fit");
    for (size_t i = 0; i < dimension(); ++i) trace_ += equation_.drift(i, i);
    systems_.ridge = model.linear->ridge;
    list_functions();
    list_products();
    whiten(model.linear->moments);
}

/// E[phi_alpha(w)] of w = factor^-1 (z - mean), the whitened data, from E[z^alpha].
void LinearField::whiten(const std::vector<double>& of_z) {
    const size_t d = dimension();
    start_mean_.assign(of_z.begin() + 1, of_z.begin() + 1 + static_cast<std::ptrdiff_t>(d));
    start_factor_ = Array<double>(d, d);
    double trace = 0;
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j <= i; ++j) {
            std::vector<int> alpha(d, 0);
            ++alpha[i], ++alpha[j];
            start_factor_(i, j) = of_z[moments_.place.at(alpha)] - start_mean_[i] * start_mean_[j];
            if (i == j) trace += start_factor_(i, i);
        }
    Array<double> covariance = start_factor_;
    const bool regular = cholesky(start_factor_) && well_conditioned(start_factor_);
    if (!regular) { // data on a plane: a wider normal law is the reference, and the second moments count
        for (size_t i = 0; i < d; ++i) covariance(i, i) += 1e-6 * trace / static_cast<double>(d);
        start_factor_ = covariance;
        require(trace > 0 && cholesky(start_factor_), ErrorKind::numerical,
                "linear process: the covariance of the data is not positive");
    }
    const std::vector<double> white =
        whitened_moments(moments_, of_z, start_mean_, inverse_of(start_factor_));
    const Array<double> powers = hermite_powers(moments_.degree);
    start_.assign(moments_.size(), 0);
    for (size_t a = 0; a < start_.size(); ++a) {
        int total = 0;
        for (size_t j = 0; j < d; ++j) total += moments_.at(a)[j];
        if (regular && (total == 1 || total == 2)) continue; // 0 by the choice of w
        for (size_t b = 0; b <= a; ++b) {
            double coefficient = 1;
            for (size_t j = 0; j < d && coefficient != 0; ++j) {
                const int p = moments_.at(a)[j], q = moments_.at(b)[j];
                coefficient *= q <= p ? powers(static_cast<size_t>(p), static_cast<size_t>(q)) : 0;
            }
            start_[a] += coefficient * white[b];
        }
    }
}

/// A_kl = sum_i sqrt(k_i l_i) E[phi_{k - e_i} phi_{l - e_i}] as sums of Hermite moments.
void LinearField::list_products() {
    const size_t d = dimension(), size = basis_.size();
    std::vector<int> alpha(d);
    const auto expand = [&](const auto& self, size_t j, const int* k, const int* l, size_t i,
                            double factor) -> void {
        if (j == d) {
            systems_.products.push_back({static_cast<int>(moments_.place.at(alpha)), factor});
            return;
        }
        const int p = k[j] - (j == i), q = l[j] - (j == i);
        for (int both = 0; both <= std::min(p, q); ++both) {
            alpha[j] = p + q - 2 * both;
            self(self, j + 1, k, l, i, factor * hermite_product(p, q, both));
        }
    };
    systems_.first.push_back(0);
    for (size_t k = 1; k < size; ++k) {
        for (size_t l = 1; l <= k; ++l) {
            for (size_t i = 0; i < d; ++i) {
                const int u = basis_.at(k)[i], v = basis_.at(l)[i];
                if (u && v)
                    expand(expand, 0, basis_.at(k), basis_.at(l), i, std::sqrt(static_cast<double>(u) * v));
            }
            systems_.first.push_back(static_cast<int>(systems_.products.size()));
        }
        systems_.lambda.push_back(std::accumulate(basis_.at(k), basis_.at(k) + d, 0.0));
    }
    for (size_t k = 0; k < moments_.size(); ++k)
        for (int j = 0; j < moments_.dimension; ++j) raised_.push_back(moments_.shifted(k, j, 1));
}

/// E[phi_alpha(y)] of y = map w + normal noise that makes its covariance that of w: degree by degree, as
/// sum_alpha E[phi_alpha] s^alpha/sqrt(alpha!) is carried by s -> map' s.
std::vector<double> LinearField::carried_moments(const Array<double>& map) const {
    const size_t d = dimension(), used = Monomials(moments_.dimension, used_degree()).size();
    Array<double> power(used, used); // row alpha: (map' s)^alpha in powers of s
    std::vector<double> out(used, 0.0);
    const auto root = [&](size_t k) {
        double product = 1;
        for (size_t j = 0; j < d; ++j) product *= factorial(moments_.at(k)[j]);
        return std::sqrt(product);
    };
    power(0, 0) = out[0] = 1;
    for (size_t k = 1; k < used; ++k) {
        const int* alpha = moments_.at(k);
        const auto i =
            static_cast<size_t>(std::find_if(alpha, alpha + d, [](int a) { return a > 0; }) - alpha);
        const double* before = power.row(moments_.shifted(k, static_cast<int>(i), -1));
        for (size_t b = 0; b < k; ++b)
            for (size_t j = 0; j < d && before[b] != 0; ++j)
                power(k, raised_[b * d + j]) += map(j, i) * before[b];
        const double weight = start_[k] / root(k);
        for (size_t b = 1; b < used && weight != 0; ++b) out[b] += weight * power(k, b);
    }
    for (size_t k = 1; k < used; ++k) out[k] *= root(k);
    return out;
}

/// How each phi_k follows from others, and what the derivatives of h are sums of.
void LinearField::list_functions() {
    const int d = basis_.dimension;
    const auto root = [](int n) { return std::sqrt(static_cast<double>(n)); };
    functions_.push_back({0, 0, 0, 1, 0});
    for (size_t k = 1; k < basis_.size(); ++k) {
        const int* alpha = basis_.at(k);
        const int i = static_cast<int>(std::find_if(alpha, alpha + d, [](int a) { return a > 0; }) - alpha),
                  n = alpha[i];
        functions_.push_back({i, static_cast<int>(basis_.shifted(k, i, -1)),
                              n > 1 ? static_cast<int>(basis_.shifted(k, i, -2)) : 0, root(n), root(n - 1)});
    }
    const auto add = [](std::vector<kernels::LinearPart>& parts, size_t k, size_t place, double factor) {
        parts.push_back({static_cast<int>(k), static_cast<int>(place), factor});
    };
    first_slope_.push_back(0), first_curvature_.push_back(0);
    for (int i = 0; i < d; ++i) {
        for (size_t k = 1; k < basis_.size(); ++k)
            if (const int n = basis_.at(k)[i]) add(slopes_, k, basis_.shifted(k, i, -1), root(n));
        first_slope_.push_back(static_cast<int>(slopes_.size()));
        for (int j = 0; j < d; ++j) {
            for (size_t k = 1; k < basis_.size(); ++k) {
                const int* alpha = basis_.at(k);
                const int pairs = alpha[i] * (alpha[j] - (i == j ? 1 : 0));
                if (pairs > 0)
                    add(curvatures_, k, i == j ? basis_.shifted(k, i, -2) : basis_.shifted(k, i, -1, j, -1),
                        root(pairs));
            }
            first_curvature_.push_back(static_cast<int>(curvatures_.size()));
        }
    }
}

kernels::LinearModel LinearField::model() const {
    return {basis_.dimension,
            static_cast<int>(basis_.size()),
            functions_.data(),
            slopes_.data(),
            curvatures_.data(),
            first_slope_.data(),
            first_curvature_.data(),
            equation_.shift.data(),
            equation_.drift.data(),
            equation_.diffusion.data(),
            trace_};
}

LinearState LinearField::normal_law(double t, std::vector<double>& moments) const {
    const size_t d = dimension();
    const Carried flow = carry(equation_, t);
    const Array<double> moved = matrix_product(flow.transition, start_factor_);
    LinearState state;
    state.mean = flow.shift;
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j) state.mean[i] += flow.transition(i, j) * start_mean_[j];
    state.factor = matrix_product(moved, moved, true);
    for (size_t k = 0; k < state.factor.size(); ++k) state.factor[k] += flow.noise[k];
    require(cholesky(state.factor), ErrorKind::numerical,
            fmt::format("linear process: the covariance at t = {:g} is not positive definite", t));
    state.inverse = inverse_of(state.factor);
    state.log_normaliser = 0.5 * static_cast<double>(d) * std::log(2 * std::numbers::pi);
    for (size_t i = 0; i < d; ++i) state.log_normaliser += std::log(state.factor(i, i));
    const Array<double> half = triangle_times(state.inverse, equation_.diffusion);
    state.spread = Array<double>(d, d);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j)
            for (size_t k = 0; k <= j; ++k) state.spread(i, j) += half(i, k) * state.inverse(j, k);
    moments = carried_moments(triangle_times(state.inverse, moved));
    return state;
}

std::vector<double> LinearSystems::right_side(const double* moments) const {
    std::vector<double> b(lambda.size());
    for (size_t k = 0; k < b.size(); ++k) b[k] = lambda[k] * moments[k + 1];
    return b;
}

namespace {

std::vector<SolveStatus> solve_systems(const Context& context, const LinearSystems& systems,
                                       const Array<double>& moments, Array<double>& coefficients) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return solve_linear_on_device(context, systems, moments, coefficients);
    const size_t size = systems.lambda.size();
    std::vector<SolveStatus> status(moments.rows());
    parallel_for(context.threads(), moments.rows(), [&](size_t m, size_t) {
        Array<double> a(size, size);
        std::vector<double> c;
        for (size_t row = 0; row < size; ++row)
            for (size_t col = 0; col <= row; ++col)
                a(row, col) =
                    kernels::linear_entry(systems.products.data(), systems.first.data(),
                                          static_cast<int>(row), static_cast<int>(col), moments.row(m));
        status[m] =
            solve_score_system(a, systems.right_side(moments.row(m)), systems.lambda, systems.ridge, c);
        if (status[m].solved) std::copy(c.begin(), c.end(), coefficients.row(m));
    });
    return status;
}

} // namespace

std::vector<LinearState> LinearField::at(const Context& context, const std::vector<double>& times) const {
    const size_t used = Monomials(moments_.dimension, used_degree()).size(), size = systems_.lambda.size();
    std::vector<LinearState> states(times.size());
    Array<double> moments(times.size(), used), c(times.size(), size);
    parallel_for(context.threads(), times.size(), [&](size_t k, size_t) {
        std::vector<double> own;
        states[k] = normal_law(times[k], own);
        std::copy(own.begin(), own.end(), moments.row(k));
    });
    const std::vector<SolveStatus> status = solve_systems(context, systems_, moments, c);
    for (size_t k = 0; k < times.size(); ++k) {
        require(status[k].solved, ErrorKind::numerical,
                fmt::format("linear process: the system at t = {:g} has no solution", times[k]));
        states[k].c.assign(1, 0.0);
        states[k].c.insert(states[k].c.end(), c.row(k), c.row(k) + size);
    }
    return states;
}

LinearState LinearField::at(const Context& context, double t) const {
    return at(context, std::vector<double>{t}).front();
}

} // namespace dynkin

#include "linear.h"
#include "device_linear.h"
#include "error.h"
#include "matrix_exponential.h"
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

Array<double> product(const Array<double>& a, const Array<double>& b, bool transpose_b = false) {
    Array<double> c(a.rows(), transpose_b ? b.rows() : b.cols());
    cblas_dgemm(CblasRowMajor, CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans,
                static_cast<int>(c.rows()), static_cast<int>(c.cols()), static_cast<int>(a.cols()), 1,
                a.data(), static_cast<int>(a.cols()), b.data(), static_cast<int>(b.cols()), 0, c.data(),
                static_cast<int>(c.cols()));
    return c;
}

/// L x^alpha = sum_beta G(alpha, beta) x^beta for the generator L of the equation.
Array<double> generator(const Monomials& m, const LinearEquation& equation) {
    Array<double> g(m.size(), m.size());
    const int d = m.dimension;
    for (size_t k = 0; k < m.size(); ++k)
        for (int i = 0; i < d; ++i) {
            const int* alpha = m.at(k);
            const size_t row = static_cast<size_t>(i);
            if (alpha[i] == 0) continue;
            g(k, m.shifted(k, i, -1)) += alpha[i] * equation.shift[row];
            for (int j = 0; j < d; ++j) {
                g(k, m.shifted(k, i, -1, j, 1)) += alpha[i] * equation.drift(row, static_cast<size_t>(j));
                const int pairs = alpha[i] * (alpha[j] - (i == j ? 1 : 0));
                if (pairs > 0)
                    g(k, m.shifted(k, i, -1, j, -1)) +=
                        pairs * equation.diffusion(row, static_cast<size_t>(j));
            }
        }
    return g;
}

/// Lower Cholesky factor; false unless positive definite.
bool cholesky(Array<double>& a) {
    const int n = static_cast<int>(a.rows());
    for (int i = 0; i < n; ++i)
        for (int j = i + 1; j < n; ++j) a(static_cast<size_t>(i), static_cast<size_t>(j)) = 0;
    return LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', n, a.data(), n) == 0;
}

/// a b for a lower triangle a.
Array<double> triangle_times(const Array<double>& a, const Array<double>& b) {
    Array<double> c(a.rows(), b.cols());
    for (size_t i = 0; i < c.rows(); ++i)
        for (size_t j = 0; j < c.cols(); ++j)
            for (size_t k = 0; k <= i; ++k) c(i, j) += a(i, k) * b(k, j);
    return c;
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

Monomials::Monomials(int d, int most) : dimension(d), degree(most) {
    std::vector<int> alpha(static_cast<size_t>(d), 0);
    const auto extend = [&](const auto& self, size_t from, int left) -> void {
        if (from + 1 == alpha.size()) {
            alpha[from] = left;
            place.emplace(alpha, exponents.size() / alpha.size());
            exponents.insert(exponents.end(), alpha.begin(), alpha.end());
            return;
        }
        for (int a = left; a >= 0; --a) alpha[from] = a, self(self, from + 1, left - a);
    };
    for (int total = 0; total <= most; ++total) extend(extend, 0, total);
}

size_t Monomials::shifted(size_t k, int i, int by, int j, int by_too) const {
    std::vector<int> alpha(at(k), at(k) + dimension);
    alpha[static_cast<size_t>(i)] += by;
    if (j >= 0) alpha[static_cast<size_t>(j)] += by_too;
    const auto found = place.find(alpha);
    return found == place.end() ? SIZE_MAX : found->second;
}

void Monomials::evaluate(const double* x, double* out) const {
    const size_t n = size();
    for (size_t k = 0; k < n; ++k) {
        out[k] = 1;
        for (int j = 0; j < dimension; ++j)
            for (int p = 0; p < at(k)[j]; ++p) out[k] *= x[j];
    }
}

void check_linear(const LinearProcess& process, size_t d) {
    const auto& [drift, noise] = process;
    require(drift.rows() == d && drift.cols() == d, ErrorKind::input,
            fmt::format("linear process: expected a drift of {} x {} numbers, got {} x {}", d, d,
                        drift.rows(), drift.cols()));
    require(noise.rows() == d && noise.cols() >= 1, ErrorKind::input,
            fmt::format("linear process: expected a noise of {} rows, got {} x {}", d, noise.rows(),
                        noise.cols()));
    for (const Array<double>* a : {&drift, &noise})
        for (double x : *a)
            require(std::isfinite(x), ErrorKind::input, "linear process: a number is not finite");
    const int n = static_cast<int>(d);
    Array<double> copy = drift;
    std::vector<double> real(d), imaginary(d);
    require(LAPACKE_dgeev(LAPACK_ROW_MAJOR, 'N', 'N', n, copy.data(), n, real.data(), imaginary.data(),
                          nullptr, n, nullptr, n) == 0,
            ErrorKind::numerical, "linear process: the eigenvalues of the drift do not converge");
    const double largest = *std::max_element(real.begin(), real.end());
    require(
        largest < 0, ErrorKind::input,
        fmt::format("linear process: the drift is unstable, an eigenvalue has real part {:g}, expected all "
                    "below 0: the process would have no stationary law",
                    largest));
    Array<double> covariance = product(noise, noise, true);
    require(LAPACKE_dsyev(LAPACK_ROW_MAJOR, 'N', 'L', n, covariance.data(), n, real.data()) == 0,
            ErrorKind::numerical, "linear process: the eigenvalues of the noise do not converge");
    require(real.front() > 1e-12 * real.back(), ErrorKind::input,
            fmt::format(
                "linear process: noise noise' is singular, its eigenvalues run from {:g} to {:g}: expected "
                "noise in every direction",
                real.front(), real.back()));
}

LinearEquation standardised(const LinearProcess& process, const Standardization& z) {
    const size_t d = z.mean.size();
    LinearEquation out{Array<double>(d, d), product(process.noise, process.noise, true),
                       std::vector<double>(d, 0)};
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j) {
            out.shift[i] += process.drift(i, j) * z.mean[j] / z.scale[i];
            out.drift(i, j) = process.drift(i, j) * z.scale[j] / z.scale[i];
            out.diffusion(i, j) *= 0.5 / (z.scale[i] * z.scale[j]);
        }
    return out;
}

LinearField::LinearField(const Model& model)
    : moments_(model.dimension(), 2 * model.linear->degree), basis_(model.dimension(), model.linear->degree),
      equation_(standardised(std::get<LinearProcess>(model.process), model.standardization)),
      generator_(generator(moments_, equation_)), initial_(model.linear->moments),
      ridge_(model.linear->ridge) {
    require(initial_.size() == moments_.size(), ErrorKind::input, "linear process: the moments do not fit");
    for (size_t i = 0; i < dimension(); ++i) trace_ += equation_.drift(i, i);
    list_functions();
    list_tables();
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

/// What kernels::LinearTables point at.
void LinearField::list_tables() {
    const size_t d = dimension(), n = moments_.size(), k = basis_.size();
    const Array<double> hermite = hermite_powers(basis_.degree);
    for (size_t p = 0; p < n; ++p) {
        const int* alpha = moments_.at(p);
        for (size_t j = 0; j < d; ++j)
            lower_.push_back(alpha[j] > 0 ? static_cast<int>(moments_.shifted(p, static_cast<int>(j), -1))
                                          : -1);
        const auto i =
            static_cast<size_t>(std::find_if(alpha, alpha + d, [](int a) { return a > 0; }) - alpha);
        coordinate_.push_back(static_cast<int>(i < d ? i : 0));
        before_.push_back(i < d ? lower_[p * d + i] : -1);
    }
    hermite_ = Array<double>(k, k);
    for (size_t a = 0; a < k; ++a) {
        if (a > 0) lambda_.push_back(std::accumulate(basis_.at(a), basis_.at(a) + d, 0));
        for (size_t b = 0; b < k; ++b) {
            double coefficient = 1;
            std::vector<int> sum(d);
            for (size_t j = 0; j < d; ++j) {
                const int p = basis_.at(a)[j], q = basis_.at(b)[j];
                coefficient *= q <= p ? hermite(static_cast<size_t>(p), static_cast<size_t>(q)) : 0;
                sum[j] = p + q;
            }
            hermite_(a, b) = coefficient;
            sums_.push_back(static_cast<int>(moments_.place.at(sum)));
        }
    }
}

kernels::LinearTables LinearField::tables() const {
    return {basis_.dimension,
            static_cast<int>(moments_.size()),
            static_cast<int>(basis_.size()),
            moments_.exponents.data(),
            lower_.data(),
            sums_.data(),
            coordinate_.data(),
            before_.data(),
            hermite_.data()};
}

LinearState LinearField::law_at(double t, std::span<const double> moments) const {
    const size_t d = dimension();
    require(std::all_of(moments.begin(), moments.end(), [](double x) { return std::isfinite(x); }),
            ErrorKind::numerical, fmt::format("linear process: the moments at t = {:g} are not finite", t));
    LinearState state;
    state.mean.assign(moments.begin() + 1, moments.begin() + 1 + static_cast<std::ptrdiff_t>(d));
    state.factor = Array<double>(d, d);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j <= i; ++j) {
            std::vector<int> alpha(d, 0);
            ++alpha[i], ++alpha[j];
            state.factor(i, j) = moments[moments_.place.at(alpha)] - state.mean[i] * state.mean[j];
        }
    require(cholesky(state.factor), ErrorKind::numerical,
            fmt::format("linear process: the covariance at t = {:g} is not positive definite", t));
    state.inverse = state.factor;
    LAPACKE_dtrtri(LAPACK_ROW_MAJOR, 'L', 'N', static_cast<int>(d), state.inverse.data(),
                   static_cast<int>(d));
    state.log_normaliser = 0.5 * static_cast<double>(d) * std::log(2 * std::numbers::pi);
    for (size_t i = 0; i < d; ++i) state.log_normaliser += std::log(state.factor(i, i));
    const Array<double> half = triangle_times(state.inverse, equation_.diffusion);
    state.spread = Array<double>(d, d);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j)
            for (size_t k = 0; k <= j; ++k) state.spread(i, j) += half(i, k) * state.inverse(j, k);
    return state;
}

void LinearField::take_solution(double t, const SolveStatus& status, std::span<const double> c,
                                LinearState& state) const {
    require(status.solved, ErrorKind::numerical,
            fmt::format("linear process: the system at t = {:g} has no solution", t));
    state.c.assign(1, 0.0);
    state.c.insert(state.c.end(), c.begin(), c.end());
}

LinearState LinearField::at(double t) const {
    const size_t n = moments_.size(), k = basis_.size();
    Array<double> scaled = generator_;
    for (double& x : scaled) x *= t;
    const Array<double> flow = matrix_exponential(std::move(scaled));
    std::vector<double> moments(n), white(n);
    cblas_dgemv(CblasRowMajor, CblasNoTrans, static_cast<int>(n), static_cast<int>(n), 1, flow.data(),
                static_cast<int>(n), initial_.data(), 1, 0, moments.data(), 1);
    LinearState state = law_at(t, moments);
    const kernels::LinearTables table = tables();
    Array<double> polynomial(n, n); // row alpha: y^alpha in powers of x
    polynomial(0, 0) = white[0] = 1;
    for (size_t p = 1; p < n; ++p) {
        const double* previous = polynomial.row(static_cast<size_t>(before_[p]));
        for (size_t b = 0; b <= p; ++b)
            polynomial(p, b) =
                kernels::whitened_coefficient(table, state.mean.data(), state.inverse.data(),
                                              static_cast<int>(p), static_cast<int>(b), previous);
        white[p] = cblas_ddot(static_cast<int>(n), polynomial.row(p), 1, moments.data(), 1);
    }
    // E[phi_alpha phi_beta] = sum of Hermite coefficients and whitened moments.
    Array<double> powers(k, k), a(k - 1, k - 1);
    for (size_t p = 0; p < powers.size(); ++p) powers[p] = white[static_cast<size_t>(sums_[p])];
    const Array<double> inner = product(product(hermite_, powers), hermite_, true);
    std::vector<double> b(k - 1), c;
    for (size_t p = 1; p < k; ++p) {
        b[p - 1] = kernels::linear_side(table, inner.data(), static_cast<int>(p));
        for (size_t q = 1; q <= p; ++q)
            a(p - 1, q - 1) =
                kernels::linear_matrix(table, inner.data(), static_cast<int>(p), static_cast<int>(q));
    }
    const SolveStatus status = solve_score_system(a, b, lambda_, ridge_, c);
    take_solution(t, status, c, state);
    return state;
}

std::vector<LinearState> LinearField::at(const Context& context, std::span<const double> times) const {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda) return at_on_device(context, times);
    std::vector<LinearState> states(times.size());
    parallel_for(context.threads(), times.size(), [&](size_t k, size_t) { states[k] = at(times[k]); });
    return states;
}

Array<double> monomial_sums(const Context& context, const Monomials& monomials, size_t rows,
                            const std::function<void(size_t first, size_t count, double* z)>& read) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda) return monomial_sums_on_device(context, monomials, rows, read);
    const size_t d = static_cast<size_t>(monomials.dimension), parts = (rows + kLinearRows - 1) / kLinearRows;
    Array<double> sums(parts, monomials.size());
    parallel_for(context.threads(), parts, [&](size_t part, size_t) {
        if (context.interrupt_signal()) return;
        const size_t first = part * kLinearRows, count = std::min(kLinearRows, rows - first);
        std::vector<double> z(count * d), values(monomials.size());
        read(first, count, z.data());
        for (size_t n = 0; n < count; ++n) {
            monomials.evaluate(z.data() + n * d, values.data());
            for (size_t k = 0; k < values.size(); ++k) sums(part, k) += values[k];
        }
    });
    if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    return sums;
}

} // namespace dynkin

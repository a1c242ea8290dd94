// oracles.h - naive answers to compare with: closed forms, direct sums, brute-force integrals. They share no
// code with the engine, except that functions of fitted references come from eigenfunctions(), which
// test_eigenbasis checks against the equation, and against closed forms.
#pragma once
#include "engine/array.h"
#include "engine/eigenbasis.h"
#include "engine/index_set.h"
#include "engine/moments.h"
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

namespace dynkin::oracle {

using std::size_t;

/// He_n(z) / sqrt(n!) by its explicit sum.
inline double hermite(int n, double z) {
    if (n < 0) return 0;
    long double sum = 0;
    for (int m = 0; 2 * m <= n; ++m)
        sum += (m % 2 ? -1.0L : 1.0L) * std::pow(static_cast<long double>(z), n - 2 * m) /
               (std::tgamma(m + 1.0L) * std::tgamma(n - 2 * m + 1.0L) * std::pow(2.0L, m));
    return static_cast<double>(sum * std::sqrt(std::tgamma(n + 1.0L)));
}

/// Composite Simpson rule.
template <class F> double simpson(const F& f, double lo, double hi, int intervals) {
    const double h = (hi - lo) / intervals;
    double sum = f(lo) + f(hi);
    for (int i = 1; i < intervals; ++i) sum += (i % 2 ? 4 : 2) * f(lo + i * h);
    return sum * h / 3;
}

/// Average over a normal variable, by the trapezoid rule: to rounding for polynomials of degree < 60.
template <class F> double normal_average(const F& f) {
    double sum = 0;
    for (int i = -56; i <= 56; ++i) sum += 0.25 * f(0.25 * i) * std::exp(-0.03125 * i * i);
    return sum / std::sqrt(2 * std::numbers::pi);
}

/// phi_n and phi_n' of one coordinate, n <= top.
inline void functions(const Family& family, double z, int top, double* phi, double* slope) {
    if (family.kind == ReferenceKind::fitted) return eigenfunctions(family, z, top + 1, phi, slope);
    for (int n = 0; n <= top; ++n) phi[n] = hermite(n, z), slope[n] = std::sqrt(n) * hermite(n - 1, z);
}

/// phi_n(z_j) and slopes of every row and site.
class Values {
  public:
    Values(const Reference& reference, const Array<double>& z, int top)
        : sites_(z.cols()), count_(static_cast<size_t>(top + 1)), phi_(z.rows(), sites_ * count_),
          slope_(phi_) {
        for (size_t n = 0; n < z.rows(); ++n)
            for (size_t j = 0; j < sites_; ++j)
                functions(reference.of(static_cast<int>(j)), z(n, j), top, phi_.row(n) + j * count_,
                          slope_.row(n) + j * count_);
    }
    size_t rows() const { return phi_.rows(); }
    double phi(size_t row, int site, int n) const { return phi_(row, at(site, n)); }
    double slope(size_t row, int site, int n) const { return slope_(row, at(site, n)); }

    /// phi_k of a term, its derivatives along each coordinate, and its derivative along one.
    double term(size_t row, const Term& k) const {
        return phi(row, k.i, k.a) * (k.j < 0 ? 1 : phi(row, k.j, k.b));
    }
    double derivative(size_t row, const Term& k, int site) const {
        if (site == k.i) return slope(row, k.i, k.a) * (k.j < 0 ? 1 : phi(row, k.j, k.b));
        return site == k.j ? phi(row, k.i, k.a) * slope(row, k.j, k.b) : 0;
    }

  private:
    size_t at(int site, int n) const { return static_cast<size_t>(site) * count_ + static_cast<size_t>(n); }
    size_t sites_, count_;
    Array<double> phi_, slope_;
};

inline double eigenvalue(const Reference& reference, const Term& k) {
    const auto lambda = [&](int site, int n) { return reference.of(site).lambda[static_cast<size_t>(n)]; };
    return lambda(k.i, k.a) + (k.j < 0 ? 0 : lambda(k.j, k.b));
}

/// Average over rows of grad phi_k . grad phi_l.
inline double gram(const Values& values, int sites, const Term& k, const Term& l) {
    double sum = 0;
    for (size_t n = 0; n < values.rows(); ++n)
        for (int i = 0; i < sites; ++i) sum += values.derivative(n, k, i) * values.derivative(n, l, i);
    return sum / static_cast<double>(values.rows());
}

/// Inverse and log determinant by Gauss and Jordan with pivots.
inline Array<double> inverse(Array<double> a, double* log_determinant = nullptr) {
    const size_t n = a.rows();
    Array<double> b(n, n);
    double total = 0;
    for (size_t i = 0; i < n; ++i) b(i, i) = 1;
    for (size_t k = 0; k < n; ++k) {
        size_t pivot = k;
        for (size_t i = k; i < n; ++i)
            if (std::abs(a(i, k)) > std::abs(a(pivot, k))) pivot = i;
        for (size_t j = 0; j < n; ++j) std::swap(a(k, j), a(pivot, j)), std::swap(b(k, j), b(pivot, j));
        const double p = a(k, k);
        total += std::log(std::abs(p));
        for (size_t j = 0; j < n; ++j) a(k, j) /= p, b(k, j) /= p;
        for (size_t i = 0; i < n; ++i) {
            const double factor = a(i, k);
            if (i == k || factor == 0) continue;
            for (size_t j = 0; j < n; ++j) a(i, j) -= factor * a(k, j), b(i, j) -= factor * b(k, j);
        }
    }
    if (log_determinant) *log_determinant = total;
    return b;
}

struct Gaussian {
    std::vector<double> mean;
    Array<double> covariance;

    size_t size() const { return mean.size(); }
    /// The law after time t of dX = -X dt + sqrt(2) dW.
    Gaussian noised(double t) const {
        Gaussian out = *this;
        for (double& m : out.mean) m *= std::exp(-t);
        for (size_t i = 0; i < size(); ++i)
            for (size_t j = 0; j < size(); ++j)
                out.covariance(i, j) =
                    std::exp(-2 * t) * covariance(i, j) - (i == j ? std::expm1(-2 * t) : 0);
        return out;
    }
    std::vector<double> score(const double* x) const {
        const Array<double> precision = inverse(covariance);
        std::vector<double> out(size());
        for (size_t i = 0; i < size(); ++i)
            for (size_t j = 0; j < size(); ++j) out[i] -= precision(i, j) * (x[j] - mean[j]);
        return out;
    }
    double log_density(const double* x) const {
        double log_determinant = 0, sum = 0;
        const Array<double> precision = inverse(covariance, &log_determinant);
        for (size_t i = 0; i < size(); ++i)
            for (size_t j = 0; j < size(); ++j) sum += (x[i] - mean[i]) * precision(i, j) * (x[j] - mean[j]);
        return -0.5 * (sum + log_determinant + static_cast<double>(size()) * std::log(2 * std::numbers::pi));
    }
};

/// Mean and covariance (divided by N) of rows.
inline Gaussian empirical(const Array<double>& x) {
    const size_t d = x.cols();
    const double rows = static_cast<double>(x.rows());
    Gaussian out{std::vector<double>(d), Array<double>(d, d)};
    for (size_t n = 0; n < x.rows(); ++n)
        for (size_t i = 0; i < d; ++i) out.mean[i] += x(n, i) / rows;
    for (size_t n = 0; n < x.rows(); ++n)
        for (size_t i = 0; i < d; ++i)
            for (size_t j = 0; j < d; ++j)
                out.covariance(i, j) += (x(n, i) - out.mean[i]) * (x(n, j) - out.mean[j]) / rows;
    return out;
}

/// Philox4x32-10 as in the paper (Salmon et al. 2011, section 3.3).
inline void philox_rounds(std::uint32_t counter[4], std::uint32_t key0, std::uint32_t key1) {
    for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
        const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter[0],
                            b = std::uint64_t{0xCD9E8D57u} * counter[2];
        const std::uint32_t next[4] = {
            static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key0, static_cast<std::uint32_t>(b),
            static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key1, static_cast<std::uint32_t>(a)};
        std::copy_n(next, 4, counter);
    }
}

} // namespace dynkin::oracle

#include "marginal_density.h"
#include "array.h"
#include <algorithm>
#include <cmath>
#include <lapacke.h>

namespace dynkin {

using std::size_t;

namespace {

constexpr int quadrature = 600;
constexpr double newton_tolerance = 1e-12; // of the squared step, in units of its covariance

/// Nodes with weights p(z) dz.
struct Law {
    std::vector<double> z, p;
    double log_normaliser = 0;

    explicit Law(double reach) : dz_(quadrature) { gauss_legendre(quadrature, -reach, reach, z, dz_); }
    void set(const std::vector<double>& potential) {
        p.resize(z.size());
        double highest = -INFINITY, total = 0;
        for (size_t i = 0; i < z.size(); ++i) {
            double v = 0;
            for (size_t k = potential.size(); k-- > 0;) v = v * z[i] + potential[k];
            p[i] = -v, highest = std::max(highest, -v);
        }
        for (size_t i = 0; i < z.size(); ++i) total += p[i] = dz_[i] * std::exp(p[i] - highest);
        for (double& weight : p) weight /= total;
        log_normaliser = highest + std::log(total);
    }

  private:
    std::vector<double> dz_;
};

/// Minimises c . m + log Z(c) by damped Newton steps from a normal law; false where that does not converge.
bool maximise(const std::vector<int>& powers, const std::vector<double>& mean, Law& law,
              std::vector<double>& potential, double& loss) {
    const size_t n = powers.size();
    potential.assign(static_cast<size_t>(powers.back()) + 1, 0.0);
    potential[2] = 0.5 / std::max(mean[2], 1e-3);
    const auto value = [&](const std::vector<double>& c) {
        law.set(c);
        double sum = law.log_normaliser;
        for (const int k : powers) sum += c[static_cast<size_t>(k)] * mean[static_cast<size_t>(k)];
        return sum;
    };
    loss = value(potential);
    for (int step = 0; step < 200; ++step) {
        std::vector<double> expected(2 * static_cast<size_t>(powers.back()) + 1);
        for (size_t i = 0; i < law.z.size(); ++i) {
            double power = law.p[i];
            for (double& e : expected) e += power, power *= law.z[i];
        }
        Array<double> hessian(n, n);
        std::vector<double> slope(n), scale(n), move(n);
        const auto at = [&](size_t a) { return static_cast<size_t>(powers[a]); };
        for (size_t a = 0; a < n; ++a) scale[a] = std::sqrt(expected[2 * at(a)]);
        for (size_t a = 0; a < n; ++a) {
            slope[a] = move[a] = (expected[at(a)] - mean[at(a)]) / scale[a];
            for (size_t b = 0; b < n; ++b)
                hessian(a, b) =
                    (expected[at(a) + at(b)] - expected[at(a)] * expected[at(b)]) / (scale[a] * scale[b]);
        }
        const int size = static_cast<int>(n);
        if (LAPACKE_dposv(LAPACK_ROW_MAJOR, 'L', size, 1, hessian.data(), size, move.data(), 1) != 0)
            return false;
        double decrement = 0;
        for (size_t a = 0; a < n; ++a) decrement += slope[a] * move[a];
        if (decrement < newton_tolerance) return std::isfinite(loss);
        const std::vector<double> from = potential;
        double length = 1, next = INFINITY;
        for (; length > 1e-6; length /= 2) {
            for (size_t a = 0; a < n; ++a) potential[at(a)] = from[at(a)] + length * move[a] / scale[a];
            next = value(potential);
            if (next <= loss - 0.25 * length * decrement) break;
        }
        if (!(next < loss)) return decrement < 1e-8; // rounding
        loss = next;
    }
    return false;
}

/// The 99.9 % quantile of chi-squared with k degrees of freedom (Wilson and Hilferty 1931): means of
/// polynomials of high degree are far from normal, and T beyond the 95 % quantile in a fifth of samples of
/// the density itself.
double chi_squared_bound(int k) {
    const double variance = 2.0 / (9 * k);
    return k * std::pow(1 - variance + 3.09 * std::sqrt(variance), 3);
}

/// Polynomials z^m, m up to 14, made orthonormal under the density; those in the span of its statistics have
/// the data's means by construction, the others make up T.
double shrinkage(const MarginalSums& sums, const std::vector<int>& powers, const Law& law, bool even) {
    std::vector<std::vector<double>> basis; // at the nodes
    std::vector<std::vector<double>> coefficients;
    double statistic = 0;
    int free = 0;
    const auto inner = [&](const std::vector<double>& a, const std::vector<double>& b) {
        double sum = 0;
        for (size_t i = 0; i < a.size(); ++i) sum += law.p[i] * a[i] * b[i];
        return sum;
    };
    std::vector<int> order{0};
    order.insert(order.end(), powers.begin(), powers.end());
    const int top = static_cast<int>(sums.power.size()) - 1;
    for (int m = powers.back() + 1; m <= top; ++m)
        if (!even || m % 2 == 0) order.push_back(m);
    for (size_t n = 0; n < order.size(); ++n) {
        std::vector<double> f(law.z.size()), c(static_cast<size_t>(top) + 1);
        for (size_t i = 0; i < f.size(); ++i) f[i] = std::pow(law.z[i], order[n]);
        c[static_cast<size_t>(order[n])] = 1;
        const double before = std::sqrt(inner(f, f));
        for (int pass = 0; pass < 2; ++pass)
            for (size_t k = 0; k < basis.size(); ++k) {
                const double overlap = inner(f, basis[k]);
                for (size_t i = 0; i < f.size(); ++i) f[i] -= overlap * basis[k][i];
                for (size_t i = 0; i < c.size(); ++i) c[i] -= overlap * coefficients[k][i];
            }
        const double norm = std::sqrt(inner(f, f));
        if (!(norm > 1e-7 * before)) break; // rounding
        for (double& v : f) v /= norm;
        double mean = 0;
        for (size_t i = 0; i < c.size(); ++i) c[i] /= norm, mean += c[i] * sums.power[i] / sums.count;
        basis.push_back(std::move(f)), coefficients.push_back(std::move(c));
        if (n > powers.size()) statistic += sums.count * mean * mean, ++free;
    }
    return free > 0 ? std::min(1.0, chi_squared_bound(free) / statistic) : 0;
}

} // namespace

std::optional<MarginalDensity> marginal_density(const MarginalSums& sums, bool even) {
    std::vector<double> mean = sums.power;
    for (size_t k = 0; k < mean.size(); ++k) mean[k] = even && k % 2 ? 0 : mean[k] / sums.count;
    const double reach = 2.5 * std::max(std::abs(sums.min), std::abs(sums.max));
    if (!(reach > 0) || !(sums.count >= 100)) return std::nullopt;
    std::optional<MarginalDensity> best;
    double least = INFINITY;
    Law law(reach);
    for (int degree = 2; degree <= 8; degree += 2) {
        std::vector<int> powers;
        for (int k = even ? 2 : 1; k <= degree; k += even ? 2 : 1) powers.push_back(k);
        MarginalDensity density;
        double loss = 0;
        if (!maximise(powers, mean, law, density.potential, loss) || !(density.potential.back() > 0))
            continue;
        const double penalised =
            sums.count * loss + 0.5 * static_cast<double>(powers.size()) * std::log(sums.count);
        if (!(penalised < least)) continue;
        law.set(density.potential);
        density.reach = reach, density.log_normaliser = law.log_normaliser, density.degree = degree;
        density.shrinkage = shrinkage(sums, powers, law, even);
        least = penalised, best = std::move(density);
    }
    return best;
}

std::vector<double> density_means(const MarginalDensity& density, const Family& family, int top_degree) {
    Law law(density.reach);
    law.set(density.potential);
    std::vector<double> mean(static_cast<size_t>(top_degree) + 1), phi(mean);
    for (size_t i = 0; i < law.z.size(); ++i) {
        eigenfunctions(family, law.z[i], top_degree + 1, phi.data(), nullptr);
        for (size_t r = 0; r < mean.size(); ++r) mean[r] += law.p[i] * phi[r];
    }
    return mean;
}

} // namespace dynkin

// local_law.h - the Gaussian law of a linearised process after a gap of time, and one step of its simulation:
// formulas for host and device. docs/method.md, section 11.
#pragma once
#include "drift.h"
#include "engine/simulate.h"
#include "philox.h"

namespace dynkin {

/// Mean, and lower Cholesky factor of the covariance, row-major d x d.
struct LocalLaw {
    double mean[max_drift_dimension];
    double factor[max_drift_dimension * max_drift_dimension];
};

/// What the linear process dX = (f + J (X - y) + m s) ds + g dW needs at a time h: psi = integral of exp(J u)
/// du, chi = integral of psi, and the covariance.
struct LinearFlow {
    double psi[max_drift_dimension * max_drift_dimension];
    double chi[max_drift_dimension * max_drift_dimension];
    double covariance[max_drift_dimension * max_drift_dimension];
};

/// out = a b, square.
DYNKIN_HD void multiply(int d, const double* a, const double* b, double* out) {
    for (int i = 0; i < d; ++i)
        for (int j = 0; j < d; ++j) {
            double sum = 0;
            for (int k = 0; k < d; ++k) sum += a[i * d + k] * b[k * d + j];
            out[i * d + j] = sum;
        }
}

/// The flow at a time h at which |J h| <= 1/4: the power series of Van Loan's block exponential, whose n-th
/// term has J^n h^(n+1)/(n+1)! for psi and, with S_0 = g g', S_(n+1) = J S_n + S_n J', S_n h^(n+1)/(n+1)!
/// for the covariance. 14 terms: the rest is below 2^-53, as |S_n| <= (2 |J|)^n |S_0|.
DYNKIN_HD void linear_flow_series(int d, const double* jacobian, const double* noise, double h,
                                  LinearFlow& flow) {
    constexpr int size = max_drift_dimension * max_drift_dimension;
    double power[size], spread[size], next[size];
    for (int k = 0; k < d * d; ++k) {
        const int i = k / d, j = k % d;
        power[k] = i == j ? h : 0;
        spread[k] = i == j ? noise[i] * noise[i] * h : 0;
        flow.psi[k] = power[k], flow.chi[k] = power[k] * h / 2, flow.covariance[k] = spread[k];
    }
    for (int n = 1; n < 14; ++n) {
        const double scale = h / (n + 1);
        multiply(d, jacobian, power, next);
        for (int k = 0; k < d * d; ++k) {
            power[k] = next[k] * scale;
            flow.psi[k] += power[k], flow.chi[k] += power[k] * h / (n + 2);
        }
        multiply(d, jacobian, spread, next);
        for (int i = 0; i < d; ++i)
            for (int j = 0; j < d; ++j)
                spread[i * d + j] = (next[i * d + j] + next[j * d + i]) * scale; // S is symmetric
        for (int k = 0; k < d * d; ++k) flow.covariance[k] += spread[k];
    }
}

/// From h to 2h: with P = exp(J h) = 1 + J psi, psi += P psi, chi += h psi + P chi (the old psi), and the
/// covariance += P covariance P'. Nothing cancels, whatever the sign of J: the blocks of Van Loan's
/// exponential, squared one by one, without the growing block exp(-J h).
DYNKIN_HD void double_flow(int d, const double* jacobian, double h, LinearFlow& flow) {
    constexpr int size = max_drift_dimension * max_drift_dimension;
    double propagator[size], next[size], spread[size];
    multiply(d, jacobian, flow.psi, propagator);
    for (int i = 0; i < d; ++i) propagator[i * d + i] += 1;
    multiply(d, propagator, flow.chi, next);
    for (int k = 0; k < d * d; ++k) flow.chi[k] += h * flow.psi[k] + next[k];
    multiply(d, propagator, flow.psi, next);
    for (int k = 0; k < d * d; ++k) flow.psi[k] += next[k];
    multiply(d, propagator, flow.covariance, spread);
    for (int i = 0; i < d; ++i)
        for (int j = 0; j < d; ++j) {
            double sum = 0;
            for (int k = 0; k < d; ++k) sum += spread[i * d + k] * propagator[j * d + k];
            next[i * d + j] = sum;
        }
    for (int i = 0; i < d; ++i)
        for (int j = 0; j < d; ++j) flow.covariance[i * d + j] += 0.5 * (next[i * d + j] + next[j * d + i]);
}

DYNKIN_HD LinearFlow linear_flow(int d, const double* jacobian, const double* noise, double gap) {
    double norm = 0;
    for (int i = 0; i < d; ++i) {
        double row = 0;
        for (int j = 0; j < d; ++j) row += std::fabs(jacobian[i * d + j]);
        norm = row > norm ? row : norm;
    }
    int doublings = 0;
    double h = gap;
    for (; norm * h > 0.25 && doublings < 60; ++doublings) h *= 0.5;
    LinearFlow flow;
    linear_flow_series(d, jacobian, noise, h, flow);
    for (int k = 0; k < doublings; ++k, h *= 2) double_flow(d, jacobian, h, flow);
    return flow;
}

/// In place, lower; what is above the diagonal becomes 0. A direction without variance gets a column of
/// zeros.
DYNKIN_HD void cholesky(int d, double* a) {
    for (int j = 0; j < d; ++j) {
        const double whole = a[j * d + j];
        double pivot = whole;
        for (int k = 0; k < j; ++k) pivot -= a[j * d + k] * a[j * d + k];
        const bool flat = !(pivot > 1e-14 * whole);
        const double root = flat ? 0 : std::sqrt(pivot);
        for (int i = j + 1; i < d; ++i) {
            double sum = a[i * d + j];
            for (int k = 0; k < j; ++k) sum -= a[i * d + k] * a[j * d + k];
            a[i * d + j] = flat ? 0 : sum / root;
        }
        a[j * d + j] = root;
        for (int i = 0; i < j; ++i) a[i * d + j] = 0;
    }
}

/// y = L^-T x in place; directions without variance give 0.
DYNKIN_HD void solve_transposed(int d, const double* factor, double* x) {
    for (int i = d - 1; i >= 0; --i) {
        double sum = x[i];
        for (int k = i + 1; k < d; ++k) sum -= factor[k * d + i] * x[k];
        x[i] = factor[i * d + i] > 0 ? sum / factor[i * d + i] : 0;
    }
}

/// The law of y_(s + gap) given y_s = y.
template <class View> DYNKIN_HD void local_law(const View& law, const double* noise, const double* y,
                                               double gap, Linearisation kind, LocalLaw& out) {
    const int d = law.dimension;
    double f[max_drift_dimension], jacobian[max_drift_dimension * max_drift_dimension];
    if (kind == Linearisation::euler) {
        drift(law, y, f);
        for (int i = 0; i < d; ++i) {
            out.mean[i] = y[i] + gap * f[i];
            for (int j = 0; j < d; ++j) out.factor[i * d + j] = i == j ? noise[i] * std::sqrt(gap) : 0;
        }
        return;
    }
    drift_jacobian(law, y, f, jacobian);
    LinearFlow flow = linear_flow(d, jacobian, noise, gap);
    for (int i = 0; i < d; ++i) {
        out.mean[i] = y[i];
        for (int j = 0; j < d; ++j) out.mean[i] += flow.psi[i * d + j] * f[j];
    }
    if (kind == Linearisation::ito) {
        drift_ito(law, noise, y, f);
        for (int i = 0; i < d; ++i)
            for (int j = 0; j < d; ++j) out.mean[i] += flow.chi[i * d + j] * f[j];
    }
    cholesky(d, flow.covariance);
    for (int k = 0; k < d * d; ++k) out.factor[k] = flow.covariance[k];
}

/// d independent standard normals of one path and step, a Philox call for each two.
DYNKIN_HD void path_normals(std::uint64_t seed, Stream stream, std::uint64_t path, std::uint32_t step,
                            std::uint32_t slot, int d, double* xi) {
    for (int i = 0; i < d; i += 2) {
        const RandomWords w = philox(seed, stream, path, step, slot + static_cast<std::uint32_t>(i / 2));
        double first, second;
        normals_from_uniforms(uniform(w.v[0]), uniform(w.v[1]), first, second);
        xi[i] = first;
        if (i + 1 < d) xi[i + 1] = second;
    }
}

/// x after a step h with normals xi; Heun's rule is of second order in the drift, additive noise needs no
/// correction.
template <class View> DYNKIN_HD void euler_step(const View& law, const double* noise, double h, double root,
                                                const double* xi, double* x) {
    double f[max_drift_dimension];
    drift(law, x, f);
    for (int i = 0; i < law.dimension; ++i) x[i] += h * f[i] + root * noise[i] * xi[i];
}
template <class View> DYNKIN_HD void heun_step(const View& law, const double* noise, double h, double root,
                                               const double* xi, double* x) {
    double f[max_drift_dimension], ahead[max_drift_dimension], next[max_drift_dimension];
    drift(law, x, f);
    for (int i = 0; i < law.dimension; ++i) ahead[i] = x[i] + h * f[i] + root * noise[i] * xi[i];
    drift(law, ahead, next);
    for (int i = 0; i < law.dimension; ++i) x[i] += 0.5 * h * (f[i] + next[i]) + root * noise[i] * xi[i];
}

} // namespace dynkin

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
/// du, chi = integral of psi, and the covariance; and room for three matrices more. All d x d.
struct LinearFlow {
    static constexpr int matrices = 6;
    double *psi, *chi, *covariance, *power, *spread, *next;

    /// In memory of `matrices` d^2 numbers.
    DYNKIN_HD static LinearFlow in(double* memory, int d) {
        const int size = d * d;
        return {memory,           memory + size, memory + 2 * size, memory + 3 * size, memory + 4 * size,
                memory + 5 * size};
    }
};

/// Who computes the matrices of one path: a thread of the host alone, or some threads of the device that
/// share its memory. Entry k is of lane k mod size().
struct OneLane {
    DYNKIN_HD int lane() const { return 0; }
    DYNKIN_HD int size() const { return 1; }
    DYNKIN_HD void sync() const {} ///< what any lane wrote before is seen by all after
};

/// This lane's entries of out = a b, square.
template <class Lanes>
DYNKIN_HD void multiply(const Lanes& lanes, int d, const double* a, const double* b, double* out) {
    for (int e = lanes.lane(); e < d * d; e += lanes.size()) {
        const int i = e / d, j = e % d;
        double sum = 0;
        for (int k = 0; k < d; ++k) sum += a[i * d + k] * b[k * d + j];
        out[e] = sum;
    }
}

/// The flow at a time h at which |J h| <= 1/4: the power series of Van Loan's block exponential, whose n-th
/// term has J^n h^(n+1)/(n+1)! for psi and, with S_0 = g g', S_(n+1) = J S_n + S_n J', S_n h^(n+1)/(n+1)!
/// for the covariance. 14 terms: the rest is below 2^-53, as |S_n| <= (2 |J|)^n |S_0|.
template <class Lanes> DYNKIN_HD void linear_flow_series(const Lanes& lanes, int d, const double* jacobian,
                                                         const double* noise, double h,
                                                         const LinearFlow& flow) {
    for (int k = lanes.lane(); k < d * d; k += lanes.size()) {
        const int i = k / d, j = k % d;
        flow.power[k] = i == j ? h : 0;
        flow.spread[k] = i == j ? noise[i] * noise[i] * h : 0;
        flow.psi[k] = flow.power[k], flow.chi[k] = flow.power[k] * h / 2;
        flow.covariance[k] = flow.spread[k];
    }
    lanes.sync();
    for (int n = 1; n < 14; ++n) {
        const double scale = h / (n + 1);
        multiply(lanes, d, jacobian, flow.power, flow.next);
        lanes.sync();
        for (int k = lanes.lane(); k < d * d; k += lanes.size()) {
            flow.power[k] = flow.next[k] * scale;
            flow.psi[k] += flow.power[k], flow.chi[k] += flow.power[k] * h / (n + 2);
        }
        multiply(lanes, d, jacobian, flow.spread, flow.next);
        lanes.sync();
        for (int k = lanes.lane(); k < d * d; k += lanes.size()) {
            flow.spread[k] = (flow.next[k] + flow.next[k % d * d + k / d]) * scale; // S is symmetric
            flow.covariance[k] += flow.spread[k];
        }
        lanes.sync();
    }
}

/// From h to 2h: with P = exp(J h) = 1 + J psi, psi += P psi, chi += h psi + P chi (the old psi), and the
/// covariance += P covariance P'. Nothing cancels, whatever the sign of J: the blocks of Van Loan's
/// exponential, squared one by one, without the growing block exp(-J h).
template <class Lanes> DYNKIN_HD void double_flow(const Lanes& lanes, int d, const double* jacobian, double h,
                                                  const LinearFlow& flow) {
    double* const propagator = flow.power;
    const int first = lanes.lane(), step = lanes.size();
    multiply(lanes, d, jacobian, flow.psi, propagator);
    for (int k = first; k < d * d; k += step)
        if (k / d == k % d) propagator[k] += 1;
    lanes.sync();
    multiply(lanes, d, propagator, flow.chi, flow.next);
    lanes.sync();
    for (int k = first; k < d * d; k += step) flow.chi[k] += h * flow.psi[k] + flow.next[k];
    multiply(lanes, d, propagator, flow.psi, flow.next);
    multiply(lanes, d, propagator, flow.covariance, flow.spread);
    lanes.sync();
    for (int e = first; e < d * d; e += step) {
        const int i = e / d, j = e % d;
        flow.psi[e] += flow.next[e];
        double sum = 0;
        for (int k = 0; k < d; ++k) sum += flow.spread[i * d + k] * propagator[j * d + k];
        flow.next[e] = sum;
    }
    lanes.sync();
    for (int k = first; k < d * d; k += step)
        flow.covariance[k] += 0.5 * (flow.next[k] + flow.next[k % d * d + k / d]);
    lanes.sync();
}

template <class Lanes> DYNKIN_HD void linear_flow(const Lanes& lanes, int d, const double* jacobian,
                                                  const double* noise, double gap, const LinearFlow& flow) {
    double norm = 0;
    for (int i = 0; i < d; ++i) {
        double row = 0;
        for (int j = 0; j < d; ++j) row += std::fabs(jacobian[i * d + j]);
        norm = row > norm ? row : norm;
    }
    int doublings = 0;
    double h = gap;
    for (; norm * h > 0.25 && doublings < 60; ++doublings) h *= 0.5;
    linear_flow_series(lanes, d, jacobian, noise, h, flow);
    for (int k = 0; k < doublings; ++k, h *= 2) double_flow(lanes, d, jacobian, h, flow);
}

/// In place, lower; what is above the diagonal becomes 0. A direction without variance gets a column of
/// zeros. Row i is of lane i mod size().
template <class Lanes> DYNKIN_HD void cholesky(const Lanes& lanes, int d, double* a) {
    for (int j = 0; j < d; ++j) {
        const double whole = a[j * d + j];
        double pivot = whole;
        for (int k = 0; k < j; ++k) pivot -= a[j * d + k] * a[j * d + k];
        const bool flat = !(pivot > 1e-14 * whole);
        const double root = flat ? 0 : std::sqrt(pivot);
        lanes.sync(); // the diagonal has been read
        for (int i = lanes.lane(); i < d; i += lanes.size()) {
            double sum = a[i * d + j];
            for (int k = 0; k < j; ++k) sum -= a[i * d + k] * a[j * d + k];
            a[i * d + j] = i < j ? 0 : i == j ? root : flat ? 0 : sum / root;
        }
        lanes.sync();
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

/// y = mean + sign L xi.
DYNKIN_HD void local_point(int d, const double* mean, const double* factor, int sign, const double* xi,
                           double* y) {
    for (int i = 0; i < d; ++i) {
        double value = mean[i];
        for (int k = 0; k <= i; ++k) value += sign * factor[i * d + k] * xi[k];
        y[i] = value;
    }
}

/// The law of y_(s + gap) given y_s = y, from the drift f, its Jacobian (not for Linearisation::euler) and
/// the Ito term m (for Linearisation::ito). factor: d x d.
template <class Lanes> DYNKIN_HD void linear_law(const Lanes& lanes, int d, const double* noise,
                                                 const double* y, double gap, Linearisation kind,
                                                 const double* f, const double* jacobian, const double* m,
                                                 const LinearFlow& flow, double* mean, double* factor) {
    const int first = lanes.lane(), step = lanes.size();
    if (kind == Linearisation::euler) {
        for (int i = first; i < d; i += step) mean[i] = y[i] + gap * f[i];
        for (int k = first; k < d * d; k += step)
            factor[k] = k / d == k % d ? noise[k / d] * std::sqrt(gap) : 0;
        return;
    }
    linear_flow(lanes, d, jacobian, noise, gap, flow);
    for (int i = first; i < d; i += step) {
        double value = y[i];
        for (int j = 0; j < d; ++j) value += flow.psi[i * d + j] * f[j];
        if (kind == Linearisation::ito)
            for (int j = 0; j < d; ++j) value += flow.chi[i * d + j] * m[j];
        mean[i] = value;
    }
    cholesky(lanes, d, flow.covariance);
    for (int k = first; k < d * d; k += step) factor[k] = flow.covariance[k];
}

/// The same from the drift itself.
template <class View> inline void local_law(const View& law, const double* noise, const double* y, double gap,
                                            Linearisation kind, LocalLaw& out) {
    constexpr int size = max_drift_dimension * max_drift_dimension;
    double f[max_drift_dimension], ito[max_drift_dimension] = {}, jacobian[size],
                                   memory[LinearFlow::matrices * size];
    if (kind == Linearisation::euler)
        drift(law, y, f);
    else
        drift_jacobian(law, y, f, jacobian);
    if (kind == Linearisation::ito) drift_ito(law, noise, y, ito);
    linear_law(OneLane{}, law.dimension, noise, y, gap, kind, f, jacobian, ito,
               LinearFlow::in(memory, law.dimension), out.mean, out.factor);
}

constexpr std::size_t law_run = 256; ///< paths whose moments are summed one after another

/// What one local law adds to entry e of the moments of all: mean - origin (e < d), or (d + i d + j, j <= i)
/// the product of two of its components plus the covariance; 0 above the diagonal.
DYNKIN_HD double law_moment(int d, const double* mean, const double* factor, const double* origin, int e) {
    if (e < d) return mean[e] - origin[e];
    const int i = (e - d) / d, j = (e - d) % d;
    if (j > i) return 0;
    double sum = (mean[i] - origin[i]) * (mean[j] - origin[j]);
    for (int k = 0; k <= j; ++k) sum += factor[i * d + k] * factor[j * d + k];
    return sum;
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

template <class View> DYNKIN_HD void one_step(const View& law, Scheme scheme, const double* noise, double h,
                                              double root, const double* xi, double* x) {
    if (scheme == Scheme::heun)
        heun_step(law, noise, h, root, xi, x);
    else
        euler_step(law, noise, h, root, xi, x);
}

/// Paths in n steps h, and in 2n steps of half the size, of one Brownian motion: what the step of a
/// simulation is chosen by. Both start at x.
template <class View> DYNKIN_HD void pilot_path(const View& law, Scheme scheme, const double* noise, double h,
                                                int n, std::uint64_t seed, std::uint64_t path,
                                                const double* x, double* coarse, double* fine) {
    double first[max_drift_dimension], second[max_drift_dimension], both[max_drift_dimension];
    const double root = std::sqrt(h), half = std::sqrt(0.5);
    for (int i = 0; i < law.dimension; ++i) coarse[i] = fine[i] = x[i];
    for (int k = 0; k < n; ++k) {
        const auto at = static_cast<std::uint32_t>(2 * k);
        path_normals(seed, Stream::forward_pilot, path, at, 0, law.dimension, first);
        path_normals(seed, Stream::forward_pilot, path, at + 1, 0, law.dimension, second);
        for (int i = 0; i < law.dimension; ++i) both[i] = (first[i] + second[i]) * half;
        one_step(law, scheme, noise, h, root, both, coarse);
        one_step(law, scheme, noise, h / 2, root * half, first, fine);
        one_step(law, scheme, noise, h / 2, root * half, second, fine);
    }
}

} // namespace dynkin

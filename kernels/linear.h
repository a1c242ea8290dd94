// linear.h - score, flow and steps backwards of a linear process for one particle: formulas for host and
// device, with the same bits on both. The loops: linear_flow.cpp of the engine, linear_cuda.cu.
// docs/method.md, section 11.3.
#pragma once
#include "elementary.h"
#include "philox.h"
#include "portable.h"
#include <cstddef>
#include <cstdint>

namespace dynkin::kernels {

/// Standard deviations beyond which grad h stays what it is there: a polynomial fitted to the data says
/// nothing beyond them.
constexpr double kLinearReach = 4;

/// phi_k = (y_coordinate phi_once - down phi_twice)/root.
struct LinearFunction {
    int coordinate, once, twice;
    double root, down;
};
/// A derivative has the part c_term root phi_place.
struct LinearPart {
    int term, place;
    double root;
};

/// factor E[phi_place(y)] is a part of an entry of the system of the score.
struct LinearProduct {
    int place;
    double factor;
};

/// What all times share. Matrices are row-major.
struct LinearModel {
    int dimension, size; ///< size: functions phi, phi_0 = 1 included
    const LinearFunction* functions;
    const LinearPart *slopes, *curvatures;
    const int *first_slope, *first_curvature; ///< d + 1: of each coordinate; d d + 1: of each two
    const double *shift, *drift, *diffusion;
    double trace; ///< of the drift
};

/// The law at one time: LinearState of the engine, and spread = inverse D inverse'.
struct LinearLaw {
    const double *mean, *factor, *inverse, *spread, *c;
    double log_normaliser;
};

/// What the SDE needs of the step that ends at a time: z -> mean + gain (z - mean before) + factor noise.
struct LinearStep {
    const double *gain, *factor;
};

/// Numbers that functions with `work` need, and those of runge_kutta() and step_backwards().
DYNKIN_HD int linear_work(int dimension, int size) { return size + 6 * dimension + 1; }

// V: where a particle's numbers stand: double*, or numbers some distance apart (v[i], v + n).

/// Entry (row, col), col <= row, of the system of the score at the time of these moments E[phi(y)]; its
/// products are those from first[row (row + 1) / 2 + col] on.
DYNKIN_HD double linear_entry(const LinearProduct* products, const int* first, int row, int col,
                              const double* moments) {
    const int entry = row * (row + 1) / 2 + col;
    double sum = 0;
    for (int e = first[entry]; e < first[entry + 1]; ++e)
        sum += products[e].factor * moments[products[e].place];
    return sum;
}

/// y = inverse (z - mean)
template <class V> DYNKIN_HD void whiten(const LinearModel& m, const LinearLaw& law, const V& z, const V& y) {
    const int d = m.dimension;
    for (int i = 0; i < d; ++i) {
        double sum = 0;
        for (int j = 0; j <= i; ++j) sum += law.inverse[i * d + j] * (z[j] - law.mean[j]);
        y[i] = sum;
    }
}

/// log N(z; mean, factor factor')
template <class V> DYNKIN_HD double log_normal(const LinearModel& m, const LinearLaw& law, const V& z) {
    const int d = m.dimension;
    double square = 0;
    for (int i = 0; i < d; ++i) {
        double y = 0;
        for (int j = 0; j <= i; ++j) y += law.inverse[i * d + j] * (z[j] - law.mean[j]);
        square += y * y;
    }
    return -0.5 * square - law.log_normaliser;
}

/// phi of y cut to the reach
template <class V> DYNKIN_HD void linear_functions(const LinearModel& m, const V& y, const V& phi) {
    phi[0] = 1;
    for (int k = 1; k < m.size; ++k) {
        const LinearFunction& f = m.functions[k];
        const double at = y[f.coordinate];
        const double cut = at < -kLinearReach ? -kLinearReach : (at > kLinearReach ? kLinearReach : at);
        phi[k] = (cut * phi[f.once] - f.down * phi[f.twice]) / f.root;
    }
}

template <class V>
DYNKIN_HD double sum_parts(const LinearPart* parts, int first, int last, const double* c, const V& phi) {
    double sum = 0;
    for (int e = first; e < last; ++e) sum += c[parts[e].term] * parts[e].root * phi[parts[e].place];
    return sum;
}

/// out = inverse' y: a gradient in y as one in z.
template <class V>
DYNKIN_HD void to_gradient_of_z(const LinearModel& m, const LinearLaw& law, const V& y, const V& out) {
    const int d = m.dimension;
    for (int j = 0; j < d; ++j) {
        double sum = 0;
        for (int i = j; i < d; ++i) sum += law.inverse[i * d + j] * y[i];
        out[j] = sum;
    }
}

/// out = grad_z h, and, with the normal law's, grad log p; y and phi stay at the head of `work`.
template <class V> DYNKIN_HD void linear_gradient(const LinearModel& m, const LinearLaw& law, bool score,
                                                  const V& z, const V& out, const V& work) {
    const int d = m.dimension;
    const V y = work, phi = work + d, slope = phi + m.size;
    whiten(m, law, z, y);
    linear_functions(m, y, phi);
    for (int i = 0; i < d; ++i) {
        slope[i] = sum_parts(m.slopes, m.first_slope[i], m.first_slope[i + 1], law.c, phi);
        if (score) slope[i] -= y[i];
    }
    to_gradient_of_z(m, law, slope, out);
}

/// f = shift + drift z - D grad log p and div f = tr B - tr(D Hess log p), Hess log p = inverse' (Hess_y h -
/// 1) inverse.
template <class V> DYNKIN_HD double linear_velocity(const LinearModel& m, const LinearLaw& law, const V& z,
                                                    const V& f, const V& work) {
    const int d = m.dimension;
    const V y = work, phi = work + d, s = phi + m.size + d;
    linear_gradient(m, law, true, z, s, work);
    for (int i = 0; i < d; ++i) {
        double sum = m.shift[i];
        for (int j = 0; j < d; ++j) sum += m.drift[i * d + j] * z[j] - m.diffusion[i * d + j] * s[j];
        f[i] = sum;
    }
    double divergence = m.trace;
    for (int i = 0; i < d; ++i)
        for (int j = 0; j < d; ++j) {
            const int at = i * d + j;
            const bool within = y[j] < kLinearReach && y[j] > -kLinearReach;
            double curvature =
                within ? sum_parts(m.curvatures, m.first_curvature[at], m.first_curvature[at + 1], law.c, phi)
                       : 0;
            if (i == j) curvature -= 1;
            divergence -= curvature * law.spread[at];
        }
    return divergence;
}

/// One step of the classical Runge-Kutta method for dz = f dt and for the integral of div f. laws(0),
/// laws(1), laws(2): where it starts, halfway, and where it ends.
template <class V, class Laws>
DYNKIN_HD double runge_kutta(const LinearModel& m, double dt, const Laws& laws, const V& z, const V& work) {
    const int d = m.dimension;
    const V f = work, sum = f + d, trial = sum + d, rest = trial + d;
    double divergence = 0;
    for (int j = 0; j < d; ++j) trial[j] = z[j];
    for (int stage = 0; stage < 4; ++stage) {
        const LinearLaw law = laws((stage + 1) / 2);
        const double v = linear_velocity(m, law, trial, f, rest);
        const bool middle = stage == 1 || stage == 2;
        divergence = stage == 0 ? v : divergence + (middle ? 2 * v : v);
        const double ahead = stage < 2 ? 0.5 * dt : dt;
        for (int j = 0; j < d; ++j) {
            sum[j] = stage == 0 ? f[j] : sum[j] + (middle ? 2 * f[j] : f[j]);
            trial[j] = z[j] + ahead * f[j];
        }
    }
    for (int j = 0; j < d; ++j) z[j] += dt / 6 * sum[j];
    return dt / 6 * divergence;
}

/// Normals of a particle for a step, in pairs: d + 1 numbers.
template <class V> DYNKIN_HD void linear_normals(int d, std::uint64_t seed, Stream stream,
                                                 std::uint64_t particle, std::uint32_t step, const V& out) {
    for (int j = 0; j < d; j += 2) {
        const RandomWords w = philox(seed, stream, particle, step, static_cast<std::uint32_t>(j / 2));
        double first, second;
        normals_from_uniforms(uniform(w.v[0]), uniform(w.v[1]), first, second);
        out[j] = first, out[j + 1] = second;
    }
}

/// z from a normal law; its log density.
template <class V> DYNKIN_HD double linear_start(const LinearModel& m, const LinearLaw& law,
                                                 std::uint64_t seed, std::uint64_t particle, const V& z,
                                                 const V& work) {
    const int d = m.dimension;
    linear_normals(d, seed, Stream::sampler_start, particle, 0, work);
    for (int i = 0; i < d; ++i) {
        double sum = law.mean[i];
        for (int j = 0; j <= i; ++j) sum += law.factor[i * d + j] * work[j];
        z[i] = sum;
    }
    return log_normal(m, law, z);
}

/// z += dt D grad h
template <class V> DYNKIN_HD void linear_drift(const LinearModel& m, const LinearLaw& law, double dt,
                                               const V& z, const V& work) {
    const int d = m.dimension;
    linear_gradient(m, law, false, z, work, work + d);
    for (int i = 0; i < d; ++i) {
        double at = z[i];
        for (int j = 0; j < d; ++j) at += dt * m.diffusion[i * d + j] * work[j];
        z[i] = at;
    }
}

/// Strang splitting from time k to the one before: the drift D grad h for dt, the normal law's step
/// backwards, the drift again.
template <class V> DYNKIN_HD void step_backwards(const LinearModel& m, double dt, const LinearLaw& from,
                                                 const LinearLaw& to, const LinearStep& step,
                                                 std::uint64_t seed, std::uint64_t particle, std::uint32_t k,
                                                 const V& z, const V& work) {
    const int d = m.dimension;
    const V moved = work, normal = work + d;
    linear_drift(m, from, dt, z, work);
    linear_normals(d, seed, Stream::sampler_noise, particle, k, normal);
    for (int i = 0; i < d; ++i) {
        double sum = to.mean[i];
        for (int j = 0; j < d; ++j)
            sum += step.gain[i * d + j] * (z[j] - from.mean[j]) +
                   (j <= i ? step.factor[i * d + j] * normal[j] : 0);
        moved[i] = sum;
    }
    for (int i = 0; i < d; ++i) z[i] = moved[i];
    linear_drift(m, to, dt, z, work);
}

} // namespace dynkin::kernels

// drift.h - drifts of nonlinear forward processes: each formula once, for host and device and for duals, and
// the views they read. Jacobians and second derivatives come from the same formula by dual numbers.
#pragma once
#include "elementary.h"
#include "engine/dual.h"
#include "portable.h"
#include <cstddef>
#include <variant>

namespace dynkin {

/// Largest dimension of a nonlinear process: its local laws hold d x d matrices on the stack.
inline constexpr int max_drift_dimension = 16;

/// f_i = -4 a x_i (x_i^2 - 1) - b.
struct DoubleWellDriftView {
    int dimension;
    double a, b;
};
/// f_i = -tanh(x_i / (2 scale)) / scale.
struct LogisticDriftView {
    int dimension;
    double scale;
};
/// f = grad log sum_k exp(log_weight_k - precision_k |x - mean_k|^2 / 2); the log weights hold the
/// normalisation.
struct MixtureDriftView {
    int dimension, components;
    const double *log_weight, *mean, *precision;
};
/// f = (-x^3 + v, -friction v).
struct SwimmerDriftView {
    static constexpr int dimension = 2;
    double friction;
};
/// f_i = sum over the terms first[i] .. first[i+1] of coefficient * prod_j x_j^power[term * dimension + j].
struct PolynomialDriftView {
    int dimension;
    const int* first;
    const double* coefficient;
    const int* power;
};

DYNKIN_HD double elementary_exp(double x) { return portable_exp(x); }
template <class T> DYNKIN_HD Dual<T> elementary_exp(const Dual<T>& x) {
    const T value = elementary_exp(x.value);
    return {value, value * x.slope};
}
DYNKIN_HD double plain(double x) { return x; }
template <class T> DYNKIN_HD double plain(const Dual<T>& x) { return plain(x.value); }

template <class T> DYNKIN_HD void drift(const DoubleWellDriftView& law, const T* x, T* f) {
    for (int i = 0; i < law.dimension; ++i) f[i] = T(-4.0 * law.a) * x[i] * (x[i] * x[i] - T(1.0)) - T(law.b);
}
template <class T> DYNKIN_HD void drift(const LogisticDriftView& law, const T* x, T* f) {
    for (int i = 0; i < law.dimension; ++i)
        f[i] = (T(2.0) / (T(1.0) + elementary_exp(x[i] * T(1 / law.scale))) - T(1.0)) * T(1 / law.scale);
}
template <class T> DYNKIN_HD void drift(const MixtureDriftView& law, const T* x, T* f) {
    const auto exponent = [&](int k) {
        T square(0.0);
        for (int i = 0; i < law.dimension; ++i) {
            const T difference = x[i] - T(law.mean[k * law.dimension + i]);
            square = square + difference * difference;
        }
        return T(law.log_weight[k]) - T(0.5 * law.precision[k]) * square;
    };
    double largest = plain(exponent(0)); // a constant shift: its derivative drops out of the weights
    for (int k = 1; k < law.components; ++k) {
        const double e = plain(exponent(k));
        largest = e > largest ? e : largest;
    }
    T total(0.0);
    for (int i = 0; i < law.dimension; ++i) f[i] = T(0.0);
    for (int k = 0; k < law.components; ++k) {
        const T weight = elementary_exp(exponent(k) - T(largest));
        total = total + weight;
        for (int i = 0; i < law.dimension; ++i)
            f[i] = f[i] - weight * T(law.precision[k]) * (x[i] - T(law.mean[k * law.dimension + i]));
    }
    for (int i = 0; i < law.dimension; ++i) f[i] = f[i] / total;
}
template <class T> DYNKIN_HD void drift(const SwimmerDriftView& law, const T* x, T* f) {
    f[0] = x[1] - x[0] * x[0] * x[0];
    f[1] = T(-law.friction) * x[1];
}
template <class T> DYNKIN_HD void drift(const PolynomialDriftView& law, const T* x, T* f) {
    for (int i = 0; i < law.dimension; ++i) {
        f[i] = T(0.0);
        for (int term = law.first[i]; term < law.first[i + 1]; ++term) {
            T value(law.coefficient[term]);
            for (int j = 0; j < law.dimension; ++j)
                value = value * power(x[j], law.power[term * law.dimension + j]);
            f[i] = f[i] + value;
        }
    }
}

/// f, and one column of its Jacobian: column[i * stride] = d f_i / d x_j.
template <class View>
DYNKIN_HD void drift_slope(const View& law, const double* x, int j, double* f, double* column, int stride) {
    const int d = law.dimension;
    Dual<double> point[max_drift_dimension], value[max_drift_dimension];
    for (int i = 0; i < d; ++i) point[i] = {x[i], i == j ? 1.0 : 0.0};
    drift(law, point, value);
    for (int i = 0; i < d; ++i) f[i] = value[i].value, column[i * stride] = value[i].slope;
}

/// f and its Jacobian J[i d + j] = d f_i / d x_j, one direction after another.
template <class View>
DYNKIN_HD void drift_jacobian(const View& law, const double* x, double* f, double* jacobian) {
    for (int j = 0; j < law.dimension; ++j) drift_slope(law, x, j, f, jacobian + j, law.dimension);
}

/// m_i = g_j^2 / 2 d^2 f_i / d x_j^2, what one coordinate adds to the Ito term.
template <class View>
DYNKIN_HD void drift_curvature(const View& law, const double* noise, const double* x, int j, double* m) {
    const int d = law.dimension;
    using Twice = Dual<Dual<double>>;
    Twice point[max_drift_dimension], value[max_drift_dimension];
    for (int i = 0; i < d; ++i) {
        const double along = i == j ? 1.0 : 0.0;
        point[i] = Twice(Dual<double>(x[i], along), Dual<double>(along, 0.0));
    }
    drift(law, point, value);
    for (int i = 0; i < d; ++i) m[i] = 0.5 * noise[j] * noise[j] * value[i].slope.slope;
}

/// m_i = sum_j g_j^2 / 2 d^2 f_i / d x_j^2, the Ito term.
template <class View>
DYNKIN_HD void drift_ito(const View& law, const double* noise, const double* x, double* m) {
    const int d = law.dimension;
    double part[max_drift_dimension];
    for (int i = 0; i < d; ++i) m[i] = 0;
    for (int j = 0; j < d; ++j) {
        if (noise[j] == 0) continue;
        drift_curvature(law, noise, x, j, part);
        for (int i = 0; i < d; ++i) m[i] += part[i];
    }
}

} // namespace dynkin

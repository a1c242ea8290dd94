// dual.h - forward-mode automatic differentiation: a value with its derivative along one direction. Duals of
// duals carry second derivatives.
#pragma once
#include <cmath>

#ifdef __CUDACC__
#define DYNKIN_DUAL __host__ __device__
#else
#define DYNKIN_DUAL
#endif

namespace dynkin {

/// value + slope * e with e^2 = 0. Arithmetic and the functions below follow the chain rule, so f(x + e)
/// holds f(x) and the derivative of f along the direction whose slopes the arguments carry. T is double or a
/// Dual. Comparisons look at the value.
template <class T> struct Dual {
    T value{}, slope{};

    Dual() = default;
    DYNKIN_DUAL constexpr Dual(double constant) : value(constant), slope(0.0) {}
    DYNKIN_DUAL constexpr Dual(const T& v, const T& s) : value(v), slope(s) {}

    DYNKIN_DUAL Dual operator-() const { return {-value, -slope}; }
    DYNKIN_DUAL friend Dual operator+(const Dual& a, const Dual& b) {
        return {a.value + b.value, a.slope + b.slope};
    }
    DYNKIN_DUAL friend Dual operator-(const Dual& a, const Dual& b) {
        return {a.value - b.value, a.slope - b.slope};
    }
    DYNKIN_DUAL friend Dual operator*(const Dual& a, const Dual& b) {
        return {a.value * b.value, a.slope * b.value + a.value * b.slope};
    }
    DYNKIN_DUAL friend Dual operator/(const Dual& a, const Dual& b) {
        const T quotient = a.value / b.value;
        return {quotient, (a.slope - quotient * b.slope) / b.value};
    }
    DYNKIN_DUAL Dual& operator+=(const Dual& b) { return *this = *this + b; }
    DYNKIN_DUAL Dual& operator-=(const Dual& b) { return *this = *this - b; }
    DYNKIN_DUAL Dual& operator*=(const Dual& b) { return *this = *this * b; }
    DYNKIN_DUAL Dual& operator/=(const Dual& b) { return *this = *this / b; }
    DYNKIN_DUAL friend bool operator<(const Dual& a, const Dual& b) { return a.value < b.value; }
    DYNKIN_DUAL friend bool operator>(const Dual& a, const Dual& b) { return b.value < a.value; }
};

template <class T> DYNKIN_DUAL Dual<T> exp(const Dual<T>& x) {
    using std::exp;
    const T value = exp(x.value);
    return {value, value * x.slope};
}
template <class T> DYNKIN_DUAL Dual<T> log(const Dual<T>& x) {
    using std::log;
    return {log(x.value), x.slope / x.value};
}
template <class T> DYNKIN_DUAL Dual<T> sqrt(const Dual<T>& x) {
    using std::sqrt;
    const T value = sqrt(x.value);
    return {value, x.slope / (T(2.0) * value)};
}
template <class T> DYNKIN_DUAL Dual<T> sin(const Dual<T>& x) {
    using std::cos, std::sin;
    return {sin(x.value), cos(x.value) * x.slope};
}
template <class T> DYNKIN_DUAL Dual<T> cos(const Dual<T>& x) {
    using std::cos, std::sin;
    return {cos(x.value), -(sin(x.value) * x.slope)};
}
template <class T> DYNKIN_DUAL Dual<T> tanh(const Dual<T>& x) {
    using std::tanh;
    const T value = tanh(x.value);
    return {value, (T(1.0) - value * value) * x.slope};
}

/// Integer powers, x^0 = 1.
template <class T> DYNKIN_DUAL T power(const T& x, int exponent) {
    T result(1.0);
    for (int k = 0; k < exponent; ++k) result = result * x;
    return result;
}

} // namespace dynkin

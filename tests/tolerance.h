// tolerance.h - how far a result may be from its oracle, and why.
#pragma once
#include <cmath>

namespace dynkin::tolerance {

constexpr double eps = 0x1p-52, eps32 = 0x1p-23;
template <class T> constexpr double unit = sizeof(T) == 4 ? eps32 : eps;

/// Bars: exact scores, exact Gram matrices, known eigenvalues.
constexpr double gaussian_score = 1e-11, assembly = 1e-12, double_well_eigenvalue = 1e-6;

/// Standard errors: a normal variable is beyond 5 of them once in 2e6 trials; seeds are fixed.
constexpr double z_bound = 5;

/// Integrals of a few smooth functions of size 1 to 1e3 over a law: rounding of 600 terms, eigenvectors to
/// 1e-13.
constexpr double quadrature = 1e-10;

/// Numbers that float32 can hold, computed in a handful of operations on values of size `scale`.
constexpr double few_operations(double scale, double machine = eps) { return 16 * machine * scale; }

/// Interpolation of a wave of number k at m + 1 Chebyshev nodes of a piece of width w: f^(m+1) is at most
/// k^(m+1) times the amplitude, and the node polynomial at most 2 (w/4)^(m+1) = (w/2)^(m+1) / 2^m.
inline double chebyshev(double wave_number, double width, int degree) {
    return std::pow(wave_number * width / 2, degree + 1) /
           (std::pow(2.0, degree) * std::tgamma(degree + 2.0));
}

/// Error of a table of polynomials of degree m on `pieces` of a box, relative to the amplitude |f| + |f'|/k:
/// interpolation; the change to powers of t, which magnifies rounding by up to the coefficients of T_m, (1 +
/// sqrt 2)^m; rounding of the argument, three operations on numbers as large as the box.
inline double table(double wave_number, double box, int pieces, int degree, double machine) {
    return chebyshev(wave_number, box / pieces, degree) + std::pow(1 + std::sqrt(2.0), degree) * machine +
           1.5 * wave_number * box * machine;
}

/// The same for slopes: by Markov's inequality a polynomial of degree m on a piece is at most 2 m^2 / w times
/// as steep as it is high.
inline double table_slope(double wave_number, double box, int pieces, int degree, double machine) {
    return table(wave_number, box, pieces, degree, machine) * 2 * (degree + 1) * (degree + 1) * pieces / box;
}

/// Hermite functions by recurrence, relative to the amplitude: each of n steps adds three roundings, and the
/// argument is rounded once.
inline double hermite(int n, double z, double machine) {
    return (4 * n + std::sqrt(n) * std::abs(z)) * machine;
}

} // namespace dynkin::tolerance

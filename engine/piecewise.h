// piecewise.h - eigenfunctions as piecewise polynomials, for the hot loops (private).
#pragma once
#include "../kernels/moments.h"
#include "../kernels/score.h"
#include "eigenbasis.h"
#include <vector>

namespace dynkin {

/// All functions 0 .. R of a family for the moment pass: relative to the largest value on the box, float64 to
/// 1e-8, float32 to 1e-5 (weighted by the law: 1e-11 and 1e-7).
template <class T> kernels::FunctionTable<T> function_table(const Family& family);

/// phi_1 .. phi_functions of a family for the flows: float32 on 32 pieces of degree 5, float64 on 128 of
/// degree 7. Throws Error(input) for a potential of too high a degree.
template <class T> kernels::SiteFunctions<T> site_functions(const Family& family, int functions);

/// Coefficients of the polynomials of degree `degree` in t in [-1, 1] that interpolate phi_n at the Chebyshev
/// nodes of each of `pieces` equal pieces of [lo, hi]: result[(piece * (degree + 1) + power) * functions +
/// n], n < functions.
std::vector<double> piecewise_coefficients(const Family& family, int functions, int pieces, int degree);

} // namespace dynkin

// matrix_exponential.h - exp of a square matrix (private).
#pragma once
#include "array.h"

namespace dynkin {

/// exp(a): diagonal Pade approximant of order 13, scaling and squaring (Higham, SIAM J. Matrix Anal. Appl. 26
/// (2005) 1179). Throws Error(numerical) when it is not finite.
Array<double> matrix_exponential(Array<double> a);

} // namespace dynkin

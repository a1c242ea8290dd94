// circle.h - coordinates that are angles, where functions are tabulated for one turn. Loops: score_simd.cpp,
// score_cuda.cu, step_cuda.cu.
#pragma once
#include "waves.h"

namespace dynkin::kernels {

/// Whether the functions of a site (SiteFunctions, or ScoreFunctions of the device) are those of a circle:
/// their eigenvalues come in pairs.
template <class Functions> DYNKIN_HD bool on_circle(const Functions& f) {
    return !f.hermite && f.lambda[0] == f.lambda[1];
}

} // namespace dynkin::kernels

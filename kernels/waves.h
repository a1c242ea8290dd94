// waves.h - grad h and Lap h of h(u) = sum_k c_k prod_j f_{k_j}(u_j), f_n cosines (box) or cosines and sines
// (torus), for tiles of particles, one particle a lane. The host loops: waves_simd.cpp (once per SIMD level).
// Formulas: docs/method.md, section 11.1.
#pragma once
#include "engine/context.h"
#include "portable.h"
#include "score.h"
#include <cmath>
#include <cstddef>
#include <vector>

namespace dynkin::kernels {

constexpr int kMaxWaveDimension = 3;

/// u where a reflecting walk in [0, pi], or one on the torus [0, 2 pi), is after a free step to u.
template <class T> DYNKIN_HD T folded(T u, bool periodic) {
    const T turn = static_cast<T>(6.283185307179586), half = static_cast<T>(3.141592653589793);
    const T w = u - turn * std::floor(u / turn);
    return periodic || !(w > half) ? w : turn - w;
}

/// cos and sin of (m + 1) u from those of m u and of u.
template <class V> DYNKIN_HD void next_wave(V first_cos, V first_sin, V& cosine, V& sine) {
    const V c = cosine * first_cos - sine * first_sin;
    sine = sine * first_cos + cosine * first_sin;
    cosine = c;
}

/// Terms that share all factors but the last one, whose number runs from 0 to count - 1.
struct WaveRun {
    int prefix[kMaxWaveDimension - 1];
    int count;
    std::size_t offset; ///< of the coefficients
};

struct WavePlan {
    bool periodic = false;
    int dimension = 0, functions = 0; ///< functions a coordinate, f_0 = 1 included
    std::vector<WaveRun> runs;
    std::size_t scratch() const { ///< numbers of working space a tile
        return 2 * static_cast<std::size_t>(dimension * functions) * kScoreTile;
    }
};

/// Coefficients of one time, by run: c_k and lambda_k c_k.
template <class T> struct WaveCoefficients { std::vector<T> value, decay; };

template <class T> struct WaveKernels {
    /// gradient[coordinate][particle] = d_j h; laplacian[particle] = Lap h. Any u: h is even about the walls,
    /// or periodic.
    void (*gradient)(const WavePlan& plan, const WaveCoefficients<T>& c, const T* u, T* gradient,
                     T* laplacian, T* scratch);
};
template <class T> const WaveKernels<T>& wave_kernels(Isa isa);

} // namespace dynkin::kernels

// waves.h - grad h and Lap h of h(u) = sum_k c_k prod_j f_{k_j}(u_j), f_n cosines (box) or cosines and sines
// (torus), for tiles of particles, one particle a lane; moments, and the entries of the systems. The loops:
// waves_simd.cpp (once per SIMD level) and waves.cpp of the engine, waves_cuda.cu. Formulas: docs/method.md,
// section 11.1.
#pragma once
#include "elementary.h"
#include "engine/context.h"
#include "portable.h"
#include "score.h"
#include <cmath>
#include <cstddef>
#include <vector>

namespace dynkin::kernels {

constexpr int kMaxWaveDimension = 3;

/// Length of a coordinate: u in [0, pi], or [0, 2 pi) on the torus.
DYNKIN_HD double wave_side(bool periodic) { return periodic ? 6.283185307179586 : 3.141592653589793; }
/// Whether the law has a density at u: within the walls; anywhere on the torus.
DYNKIN_HD bool has_density(double u, bool periodic) {
    return periodic ? u - u == 0 : u >= 0 && u <= wave_side(false);
}

/// u where a reflecting walk in [0, pi], or one on the torus [0, 2 pi), is after a free step to u.
template <class T> DYNKIN_HD T folded(T u, bool periodic) {
    const T turn = static_cast<T>(6.283185307179586), half = static_cast<T>(3.141592653589793);
    const T w = u - turn * std::floor(u * static_cast<T>(0.15915494309189535)); // a division takes registers
    return periodic || !(w > half) ? w : turn - w;
}

/// cos u and sin u; any u.
template <class T> DYNKIN_HD void first_wave(T u, T& cosine, T& sine) {
    const double turns = static_cast<double>(u) * 0.15915494309189533577;
    double c, s;
    sincos_turns(turns - std::floor(turns), s, c);
    cosine = static_cast<T>(c), sine = static_cast<T>(s);
}

/// cos and sin of (m + 1) u from those of m u and of u.
template <class V> DYNKIN_HD void next_wave(V first_cos, V first_sin, V& cosine, V& sine) {
    const V c = cosine * first_cos - sine * first_sin;
    sine = sine * first_cos + cosine * first_sin;
    cosine = c;
}

/// f_n, n = 1 .. width - 1, at u: store(n, f_n) takes them in order.
template <class Store> DYNKIN_HD void each_wave(bool periodic, int width, double u, const Store& store) {
    double c1, s1;
    first_wave(u, c1, s1);
    double c = c1, s = s1;
    for (int n = 1; n < width;) {
        store(n++, c);
        if (periodic && n < width) store(n++, s);
        next_wave(c1, s1, c, s);
    }
}

/// f_a f_b = sum_e product[e] f_{index[e]} and f_a' f_b' = sum_e slope[e] f_{index[e]}.
struct WaveProduct {
    int index[2];
    double product[2], slope[2];
};

/// sum_i E[f_{k_i}' f_{l_i}' prod_{j != i} f_{k_j} f_{l_j}]: an entry of A(t). products[a functions + b];
/// moment(s) = E[prod_j f_{s_j}] at the time.
template <int DIMENSION, class Moment> DYNKIN_HD double
wave_entry(const WaveProduct* products, int functions, const int* k, const int* l, const Moment& moment) {
    double sum = 0;
    for (int choice = 0; choice < 1 << DIMENSION; ++choice) {
        int index[DIMENSION];
        double product = 1, slopes = 0; // of the coordinates so far; one of them with its slopes
        for (int j = 0; j < DIMENSION; ++j) {
            const WaveProduct& p = products[k[j] * functions + l[j]];
            const int e = choice >> j & 1;
            index[j] = p.index[e];
            slopes = slopes * p.product[e] + product * p.slope[e];
            product *= p.product[e];
        }
        sum += slopes * moment(index);
    }
    return sum;
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

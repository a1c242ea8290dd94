// functions_simd.h - phi_1 .. phi_n and their slopes for tiles of particles at one SIMD level; included by
// *_simd.cpp only.
#pragma once
#include "score.h"
#include "simd.h"
#include <cmath>

namespace dynkin::kernels {
namespace DYNKIN_ISA {
namespace {

template <class T> constexpr int kVectors = kScoreTile / kLanes<T>; ///< vectors a tile
/// Vectors whose intermediate values fit into the registers together.
template <class T> constexpr int kPart = kRegisters == 32 ? 4 : 2;

/// The float tables have 32 pieces: two registers, looked up by permutation where there is such an
/// instruction.
inline __attribute__((always_inline)) Vector<float> lookup32(const float* table, Index<float> index) {
#if defined(__AVX512F__)
    return _mm512_permutex2var_ps(load(table), __builtin_bit_cast(__m512i, index), load(table + 16));
#else
    return lookup(table, index);
#endif
}
inline __attribute__((always_inline)) Vector<double> lookup32(const double* table, Index<double> index) {
    return lookup(table, index);
}

template <class T> inline __attribute__((always_inline)) Vector<T> clip(Vector<T> x, T lo, T hi) {
    x = x < broadcast(lo) ? broadcast(lo) : x;
    return x > broadcast(hi) ? broadcast(hi) : x;
}

template <class T> inline __attribute__((always_inline)) Index<T> truncate(Vector<T> x) {
    return __builtin_convertvector(x, Index<T>);
}

/// phi[n][particle], slope[n][particle], n = 1 .. functions (stored from 0), for one site.
template <class T>
void evaluate_hermite(const SiteFunctions<T>&, int functions, const T* x, T* phi, T* slope) {
    for (int v = 0; v < kVectors<T>; ++v) {
        const Vector<T> z = load(x + v * kLanes<T>);
        Vector<T> before = broadcast(T{1}), now = z;
        for (int n = 1; n <= functions; ++n) {
            store(phi + (n - 1) * kScoreTile + v * kLanes<T>, now);
            const T root = std::sqrt(static_cast<T>(n));
            store(slope + (n - 1) * kScoreTile + v * kLanes<T>, root * before);
            const Vector<T> next = (z * now - root * before) * (1 / std::sqrt(static_cast<T>(n + 1)));
            before = now, now = next;
        }
    }
}

template <class T>
void evaluate_fitted(const SiteFunctions<T>& f, int functions, const T* x, T* phi, T* slope) {
    const T scale = static_cast<T>(f.pieces) / (f.hi - f.lo);
    Vector<T> t[kVectors<T>];
    Index<T> piece[kVectors<T>];
    for (int v = 0; v < kVectors<T>; ++v) {
        const Vector<T> u = (clip<T>(load(x + v * kLanes<T>), f.lo, f.hi) - f.lo) * scale;
        piece[v] = truncate<T>(clip<T>(u, T{0}, static_cast<T>(f.pieces) - static_cast<T>(0.5)));
        t[v] = 2 * (u - __builtin_convertvector(piece[v], Vector<T>)) - 1;
    }
    for (int n = 0; n < functions; ++n) {
        // Horner's rule for value and slope; a table is loaded once for all particles of the tile's part.
        const T* c = f.coefficients.data() + n * (f.degree + 1) * f.pieces + f.degree * f.pieces;
        for (int part = 0; part < kVectors<T>; part += kPart<T>) {
            Vector<T> p[kPart<T>], dp[kPart<T>];
            const T* power = c;
#pragma GCC unroll 4
            for (int v = 0; v < kPart<T>; ++v) p[v] = lookup32(power, piece[part + v]), dp[v] = Vector<T>{};
            for (int k = 0; k < f.degree; ++k) {
                power -= f.pieces;
#pragma GCC unroll 4
                for (int v = 0; v < kPart<T>; ++v) {
                    dp[v] = dp[v] * t[part + v] + p[v];
                    p[v] = p[v] * t[part + v] + lookup32(power, piece[part + v]);
                }
            }
#pragma GCC unroll 4
            for (int v = 0; v < kPart<T>; ++v) {
                store(phi + n * kScoreTile + (part + v) * kLanes<T>, p[v]);
                store(slope + n * kScoreTile + (part + v) * kLanes<T>, dp[v] * (2 * scale));
            }
        }
    }
}

template <class T>
void evaluate_functions(const SiteFunctions<T>& f, int functions, const T* x, T* phi, T* slope) {
    if (f.hermite)
        evaluate_hermite(f, functions, x, phi, slope);
    else
        evaluate_fitted(f, functions, x, phi, slope);
}

/// v'(z), a polynomial.
template <class T>
inline __attribute__((always_inline)) Vector<T> potential_slope(const SiteFunctions<T>& f, Vector<T> z) {
    Vector<T> dv = broadcast(f.potential_slope[kPotentialTerms - 1]);
#pragma GCC unroll 8
    for (int k = kPotentialTerms - 2; k >= 0; --k) dv = dv * z + f.potential_slope[k];
    return dv;
}

} // namespace
} // namespace DYNKIN_ISA
} // namespace dynkin::kernels

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

/// Values, and slopes over slope_scale().
template <class T>
void evaluate_fitted(const SiteFunctions<T>& f, int functions, const T* x, T* phi, T* slope) {
    constexpr int pieces = kPieces<T>, degree = kPieceDegree<T>;
    const Vector<T> last = broadcast(static_cast<T>(pieces) - static_cast<T>(0.5));
    Vector<T> t[kVectors<T>];
    Index<T> piece[kVectors<T>];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors<T>; ++v) {
        const Vector<T> u = (clip<T>(load(x + v * kLanes<T>), f.lo, f.hi) - f.lo) * f.scale;
        piece[v] = truncate<T>(u < last ? u : last); // NaN: the last
        t[v] = 2 * (u - __builtin_convertvector(piece[v], Vector<T>)) - 1;
    }
    for (int n = 0; n < functions; ++n) {
        // Horner's rule for value and slope; a table is loaded once for all particles of the tile's part.
        const T* c = f.coefficients.data() + n * (degree + 1) * pieces;
        for (int part = 0; part < kVectors<T>; part += kPart<T>) {
            Vector<T> p[kPart<T>], dp[kPart<T>];
#pragma GCC unroll 4
            for (int v = 0; v < kPart<T>; ++v) {
                dp[v] = lookup32(c + degree * pieces, piece[part + v]);
                p[v] = dp[v] * t[part + v] + lookup32(c + (degree - 1) * pieces, piece[part + v]);
            }
#pragma GCC unroll 8
            for (int k = degree - 2; k >= 0; --k)
#pragma GCC unroll 4
                for (int v = 0; v < kPart<T>; ++v) {
                    dp[v] = dp[v] * t[part + v] + p[v];
                    p[v] = p[v] * t[part + v] + lookup32(c + k * pieces, piece[part + v]);
                }
#pragma GCC unroll 4
            for (int v = 0; v < kPart<T>; ++v) {
                store(phi + n * kScoreTile + (part + v) * kLanes<T>, p[v]);
                store(slope + n * kScoreTile + (part + v) * kLanes<T>, dp[v]);
            }
        }
    }
}

/// What the slopes that evaluate_functions() writes are to be multiplied with.
template <class T> T slope_scale(const SiteFunctions<T>& f) { return f.hermite ? T{1} : 2 * f.scale; }

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

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

/// Calls use(n - 1, phi_n, its slope) for n = 1 .. functions, of one vector of particles.
template <class T, class Use>
inline __attribute__((always_inline)) void each_hermite(int functions, Vector<T> z, const Use& use) {
    Vector<T> before = broadcast(T{1}), now = z;
    for (int n = 1; n <= functions; ++n) {
        const T root = std::sqrt(static_cast<T>(n));
        use(n - 1, now, root * before);
        const Vector<T> next = (z * now - root * before) * (1 / std::sqrt(static_cast<T>(n + 1)));
        before = now, now = next;
    }
}

/// Where the particles of a tile stand in the tables of a fitted family.
template <class T> struct TilePlaces {
    Vector<T> t[kVectors<T>];
    Index<T> piece[kVectors<T>];

    TilePlaces(const SiteFunctions<T>& f, const T* x) {
        const Vector<T> last = broadcast(static_cast<T>(kPieces<T>) - static_cast<T>(0.5));
#pragma GCC unroll 4
        for (int v = 0; v < kVectors<T>; ++v) {
            const Vector<T> u = (clip<T>(load(x + v * kLanes<T>), f.lo, f.hi) - f.lo) * f.scale;
            piece[v] = truncate<T>(u < last ? u : last); // NaN: the last
            t[v] = 2 * (u - __builtin_convertvector(piece[v], Vector<T>)) - 1;
        }
    }
};

/// Function n (from 0) and its slope over slope_scale() by Horner's rule, for a part of the tile.
template <class T> inline __attribute__((always_inline)) void
fitted(const SiteFunctions<T>& f, const TilePlaces<T>& at, int n, int part, Vector<T>* p, Vector<T>* dp) {
    constexpr int pieces = kPieces<T>, degree = kPieceDegree<T>;
    const T* c = f.coefficients.data() + n * (degree + 1) * pieces;
#pragma GCC unroll 4
    for (int v = 0; v < kPart<T>; ++v) {
        dp[v] = lookup32(c + degree * pieces, at.piece[part + v]);
        p[v] = dp[v] * at.t[part + v] + lookup32(c + (degree - 1) * pieces, at.piece[part + v]);
    }
#pragma GCC unroll 8
    for (int k = degree - 2; k >= 0; --k)
#pragma GCC unroll 4
        for (int v = 0; v < kPart<T>; ++v) {
            dp[v] = dp[v] * at.t[part + v] + p[v];
            p[v] = p[v] * at.t[part + v] + lookup32(c + k * pieces, at.piece[part + v]);
        }
}

/// phi[n][particle], slope[n][particle], n = 1 .. functions (stored from 0), for one site.
template <class T>
void evaluate_hermite(const SiteFunctions<T>&, int functions, const T* x, T* phi, T* slope) {
    for (int v = 0; v < kVectors<T>; ++v)
        each_hermite<T>(functions, load(x + v * kLanes<T>),
                        [&](int n, Vector<T> value, Vector<T> derivative) {
                            store(phi + n * kScoreTile + v * kLanes<T>, value);
                            store(slope + n * kScoreTile + v * kLanes<T>, derivative);
                        });
}

/// Values, and slopes over slope_scale().
template <class T>
void evaluate_fitted(const SiteFunctions<T>& f, const TilePlaces<T>& at, int functions, T* phi, T* slope) {
    for (int n = 0; n < functions; ++n)
        for (int part = 0; part < kVectors<T>; part += kPart<T>) {
            Vector<T> p[kPart<T>], dp[kPart<T>];
            fitted(f, at, n, part, p, dp);
#pragma GCC unroll 4
            for (int v = 0; v < kPart<T>; ++v) {
                store(phi + n * kScoreTile + (part + v) * kLanes<T>, p[v]);
                store(slope + n * kScoreTile + (part + v) * kLanes<T>, dp[v]);
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
        evaluate_fitted(f, TilePlaces<T>(f, x), functions, phi, slope);
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

// score.h - grad h and Lap h of h = sum_k c_k phi_k for tiles of particles, one particle a lane.
// The host loops: score_simd.cpp (once per SIMD level). Formulas: docs/method.md, section 5.
#pragma once
#include "engine/context.h"
#include <cstddef>
#include <vector>

namespace dynkin::kernels {

constexpr int kScoreTile = 64; ///< particles a tile; state is stored as [tile][site][particle]
constexpr int kMaxDegree = 24; ///< of a one-dimensional factor
constexpr int kPotentialTerms = 9;

/// Of the tables of fitted functions. 32 pieces of float32 are two vector registers, or one cache line.
template <class T> constexpr int kPieces = sizeof(T) == 4 ? 32 : 128;
template <class T> constexpr int kPieceDegree = sizeof(T) == 4 ? 5 : 7;

/// phi_1 .. phi_n of one family: Hermite by recurrence on the line, otherwise polynomials in the local
/// variable on equal pieces of [lo, hi]: coefficients[((n - 1) * (degree + 1) + power) * pieces + piece].
template <class T> struct SiteFunctions {
    bool hermite = false;
    int functions = 0, degree = 0, pieces = 0;
    T lo = 0, hi = 0, scale = 0; ///< scale: pieces a unit of length
    std::vector<T> coefficients;
    T lambda[kMaxDegree] = {};               ///< lambda_1 ..
    T potential_slope[kPotentialTerms] = {}; ///< v'(z) as a polynomial
};

/// The shape of the coefficients: which pairs are stored densely (a matrix per pair of degrees) and which as
/// lists.
struct ScoreLayout {
    int sites = 0;
    int degree = 0; ///< functions a site
    struct Dense {
        int a, b; ///< adds sum_j matrix(i, j) phi_b(x_j) to the factor of phi_a'(x_i)
    };
    std::vector<Dense> dense;
    std::size_t dense_ld = 0; ///< sites, padded
    struct Neighbour {
        int j, degree;      ///< a block of degree x degree coefficients, [a][b]
        std::size_t offset; ///< in ScoreCoefficients::sparse
    };
    std::vector<Neighbour> neighbours;
    std::vector<int> first_neighbour; ///< per site, sites + 1
};

/// Coefficients of one time.
template <class T> struct ScoreCoefficients {
    std::vector<T> single; ///< sites x degree
    std::vector<T> dense;  ///< per dense pair: dense_ld x dense_ld
    std::vector<T> sparse;
};

template <class T> struct ScorePlan {
    ScoreLayout layout;
    std::vector<SiteFunctions<T>> families;
    std::vector<int> family_of;
    std::size_t scratch() const; ///< numbers of working space a tile
};

template <class T> struct ScoreKernels {
    /// gradient[site][particle] = d_i h; laplacian[particle] = Lap h, not computed when null. Positions
    /// outside a family's box are clipped to it and do not contribute to the Laplacian.
    void (*gradient)(const ScorePlan<T>& plan, const ScoreCoefficients<T>& c, const T* x, T* gradient,
                     T* laplacian, T* scratch);
};
template <class T> const ScoreKernels<T>& score_kernels(Isa isa);

} // namespace dynkin::kernels

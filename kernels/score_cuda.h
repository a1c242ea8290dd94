// score_cuda.h - grad h and Lap h on the device; formulas and the shape of the coefficients: score.h.
// Particles are worked on in chunks of a size that depends on the model alone, so that every product of
// matrices has the same shape whatever the batch, and intermediate values stay in the L2 cache.
#pragma once
#include "device.h"
#include "score.h"
#include <cstddef>
#include <cstdint>

namespace dynkin::cuda {

constexpr int particles_a_thread = 4; ///< rows of a chunk in use are a multiple of it

/// SiteFunctions on the device.
template <class T> struct ScoreFunctions {
    bool hermite;
    T lo, hi;
    const T* coefficients; ///< device memory, as in SiteFunctions
    T lambda[kernels::kMaxDegree];
    T potential_slope[kernels::kPotentialTerms];
    T root[kernels::kMaxDegree + 2], inverse_root[kernels::kMaxDegree + 2]; ///< of n, from 1 (Hermite)
};

/// Adds c[w] f to the factors of phi'_{a0 + 1 + w}(x_i), w < W, where f stands `offset` bytes into the
/// values of phi: phi_b(x_j), number ((b - 1) sites + j) chunk. One group a0 = 0, W, ... holds rows [a0 / W *
/// rows
/// + first_row[i], ...).
template <class T, int W> struct alignas(16) ScoreRow {
    T c[W];
    std::uint32_t offset;
};

/// What all times share. Arrays are device memory.
template <class T> struct ScoreShape {
    int sites, degree; ///< functions a site
    int coupled;       ///< products of two sites have degrees up to it
    int width;         ///< W of the rows, 1 to 4
    int dense;         ///< matrices summed over their second degree: dense_of[a - 1] of them, or -1
    std::size_t chunk; ///< particles between two sites of the same array, a multiple of 1024
    const ScoreFunctions<T>* families;
    const std::int32_t* family_of;
    const std::int32_t* first_row; ///< sites + 1
    const std::int32_t* dense_of;  ///< coupled
};

/// Coefficients of one time, device memory.
template <class T> struct ScoreTime {
    const T* single;  ///< sites x degree
    const void* rows; ///< ScoreRow<T, W>
};

/// Values of one chunk, [...][site][particle].
template <class T> struct ScoreValues {
    T *phi, *slope;           ///< phi_1 .. phi_coupled and their slopes
    T *single, *single_decay; ///< sum_a c_a phi_a' and sum_a lambda_a c_a phi_a of the 1-clusters
    T* dense;                 ///< products with the matrices, [dense_of]
};

/// What becomes of g = grad h.
enum class ScoreUse {
    store,   ///< gradient = g
    predict, ///< gradient = g, trial = z + step g
    correct, ///< z += step (gradient + g) / 2
    drift,   ///< z += step g
    project  ///< z += step g, kept within [lo, hi]: kernels::kept_within()
};
template <class T> struct ScoreUpdate {
    ScoreUse use = ScoreUse::store;
    T step = 0;
    T *z = nullptr, *gradient = nullptr, *trial = nullptr; ///< [site][particle]
    T* laplacian = nullptr;               ///< [site][particle]: the part of each site; null: not wanted
    const T *lo = nullptr, *hi = nullptr; ///< project: a number a site
    unsigned char* projected = nullptr;   ///< project: set to 1 for particles below `used` that ran away
    std::size_t used = 0;
    bool box = false; ///< project: a particle stopped by the box is none
};

/// Enqueue, for the first `rows` particles at x: the functions and what 1-clusters add; then, with the
/// products of matrices in values.dense, the sums over neighbours and the update.
template <class T> void score_functions(DeviceStream stream, const ScoreShape<T>& shape,
                                        const ScoreTime<T>& time, const ScoreValues<T>& values, const T* x,
                                        std::size_t rows, bool with_laplacian);
template <class T> void score_sites(DeviceStream stream, const ScoreShape<T>& shape, const ScoreTime<T>& time,
                                    const ScoreValues<T>& values, const T* x, std::size_t rows,
                                    const ScoreUpdate<T>& update);

/// out[i][particle] (+)= sum_j matrix[i][j] phi[j][particle] for a whole chunk, by cuBLAS on its stream.
template <class T> void dense_product(DeviceLibraries& libraries, int sites, std::size_t chunk,
                                      const T* matrix, const T* phi, bool add, T* out);

} // namespace dynkin::cuda

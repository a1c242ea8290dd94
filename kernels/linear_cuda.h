// linear_cuda.h - linear processes on the device: monomials of the data, score, samples and densities.
// Formulas: linear.h. A thread has a particle from its start to its end.
#pragma once
#include "device.h"
#include "linear.h"
#include <cstddef>
#include <cstdint>

namespace dynkin::cuda {

/// Sums of monomials over parts of `part` rows, one row after another: sums[part][monomial]. Monomial k is
/// the product of the coordinates coordinates[q count + k], q < order[k]. Arrays are device memory.
struct MonomialSums {
    int dimension, count;
    const int *order, *coordinates;
    std::size_t rows, part;
    const double* z; ///< rows x dimension
    double* sums;
};
void monomial_sums(DeviceStream stream, const MonomialSums& sums);

/// The matrices of the systems of the score at some times: a[time] (size x size, both triangles) from
/// moments[time] (`used` of them) by linear_entry(). Device memory; enqueued. Cost: 2 flops a product.
struct LinearMatrices {
    int size, used;
    const kernels::LinearProduct* products;
    const int* first;
};
void linear_matrices(DeviceStream stream, const LinearMatrices& systems, std::size_t times,
                     const double* moments, double* a);

/// A model at its times; device memory. Laws one after another, each of law_numbers(): mean, factor, inverse,
/// spread, c, log_normaliser.
struct LinearTimes {
    kernels::LinearModel model;
    const double *times, *laws; ///< times: ascending. laws: at the times; for the flow also between them
    const double* matrices;     ///< SDE: gain and factor of the step to each time but the last
    int steps;
    const double *mean, *scale; ///< of the columns
    double log_scale;           ///< the sum of log scale
    double* work;               ///< [number][particle], linear_numbers() of each particle
    std::size_t chunk;          ///< particles between two numbers
};
inline std::size_t law_numbers(std::size_t dimension, std::size_t size) {
    return dimension + 3 * dimension * dimension + size + 1;
}
inline std::size_t linear_numbers(std::size_t dimension, std::size_t size) {
    return dimension + static_cast<std::size_t>(
                           kernels::linear_work(static_cast<int>(dimension), static_cast<int>(size)));
}

/// Particles first, first + 1, ... of the sequence.
struct LinearRandom {
    std::uint64_t seed, first;
};

/// All are enqueued and work on `particles` particles of a chunk; x, log_q, out: device memory.

/// out[particle][column] = grad log p at the first of the times, of rows x[particle][column].
void linear_scores(DeviceStream stream, const LinearTimes& model, std::size_t particles, const double* x,
                   double* out);
/// Samples by the reverse SDE: x[tile][column][particle of kScoreTile].
void linear_diffuse(DeviceStream stream, const LinearTimes& model, const LinearRandom& random,
                    std::size_t particles, float* x);
/// Samples by the flow, and their log q.
void linear_flow(DeviceStream stream, const LinearTimes& model, const LinearRandom& random,
                 std::size_t particles, float* x, double* log_q);
/// log q of rows x[particle][column].
void linear_log_density(DeviceStream stream, const LinearTimes& model, std::size_t particles, const double* x,
                        double* log_q);

} // namespace dynkin::cuda

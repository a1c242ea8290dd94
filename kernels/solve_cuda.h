// solve_cuda.h - scaled systems and their norms, sums of matrices (solve_cuda.cu), their Cholesky factors by
// cuSOLVER and products by cuBLAS (solve_libraries.cpp), all on the compute stream. Plain C++.
#pragma once
#include "device.h"
#include <cstddef>

namespace dynkin::cuda {

/// One system: its matrix number in the batch, and the ridge it is tried with.
struct RidgeSystem {
    int number;
    double ridge;
};

/// f[number] = D^-1/2 a[number] D^-1/2 + ridge I for `count` systems (size x size, symmetric; a: both
/// triangles), scale = D^-1/2, of system `number` at scale + number * stride; norms[number * size + i]: the
/// sum of the absolute values of row i. Enqueued on the stream.
void scaled_systems(DeviceStream stream, const RidgeSystem* systems, std::size_t count, std::size_t size,
                    const double* a, const double* scale, std::size_t stride, double* f, double* norms);

/// Means over groups of sums that are lower triangles: a[s] = sum of gram[g], g != without[s] (-1: none), one
/// after another, / weight[s]; both triangles. gram: groups x size x size; weight: of `systems`. Enqueued on
/// the stream.
struct GroupMeans {
    std::size_t size;
    int groups;
    const double* gram;
    const int* without;
    const double* weight;
};
void group_means(DeviceStream stream, const GroupMeans& means, std::size_t systems, double* a);

/// out = diagonal I + sum of factor * matrix (size x size) over the terms that are there; out may be one of
/// them. Enqueued on the stream.
struct MatrixTerm {
    double factor;
    const double* matrix;
};
struct MatrixSum {
    std::size_t size;
    double diagonal;
    MatrixTerm terms[4]; ///< matrix null: none
    double* out;
};
void matrix_sum(DeviceStream stream, const MatrixSum& sum);

/// The factor of one symmetric matrix (size x size), over its lower triangle in row-major order; `info`, on
/// the device: 0, or the row at which it is not positive definite. `workspace` of cholesky_workspace()
/// numbers.
std::size_t cholesky_workspace(DeviceState& device, std::size_t size, double* a);
void cholesky(DeviceState& device, std::size_t size, double* a, double* workspace, std::size_t workspace_size,
              int* info);
/// x = A^-1 x with the factor; info: one number on the device, for cuSOLVER's use.
void cholesky_solve(DeviceState& device, std::size_t size, const double* factor, double* x, int* info);

/// The same for `count` systems at once; a, x: arrays of pointers on the device.
void cholesky_batched(DeviceState& device, std::size_t size, double** a, int* info, std::size_t count);
void cholesky_solve_batched(DeviceState& device, std::size_t size, double** factors, double** x, int* info,
                            std::size_t count);

/// y = A x for a symmetric matrix of which both triangles are there.
void symmetric_product(DeviceState& device, std::size_t size, const double* a, const double* x, double* y);

} // namespace dynkin::cuda

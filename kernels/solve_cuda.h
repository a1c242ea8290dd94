// solve_cuda.h - scaled systems and their norms (solve_cuda.cu), their Cholesky factors by cuSOLVER and
// products by cuBLAS (solve_libraries.cpp), all on the compute stream. Plain C++.
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
/// triangles), scale = D^-1/2; norms[number * size + i]: the sum of the absolute values of row i. Enqueued on
/// the stream.
void scaled_systems(DeviceStream stream, const RidgeSystem* systems, std::size_t count, std::size_t size,
                    const double* a, const double* scale, double* f, double* norms);

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

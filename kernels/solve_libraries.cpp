// solve_libraries.cpp - the library calls of solve_cuda.h. Host code: any compiler. The lower triangle in
// row-major order is the upper one in the libraries' order.
#include "cuda_libraries.h"
#include "solve_cuda.h"

namespace dynkin::cuda {
namespace {

constexpr cublasFillMode_t triangle = CUBLAS_FILL_MODE_UPPER;

} // namespace

std::size_t cholesky_workspace(DeviceState& device, std::size_t size, double* a) {
    const DeviceLibraries& libraries = device.libraries();
    const int n = static_cast<int>(size);
    int numbers = 0;
    DYNKIN_CUDA_CHECK(
        libraries.solver.dpotrf_workspace(libraries.solver_handle, triangle, n, a, n, &numbers));
    return static_cast<std::size_t>(numbers);
}

void cholesky(DeviceState& device, std::size_t size, double* a, double* workspace, std::size_t workspace_size,
              int* info) {
    const DeviceLibraries& libraries = device.libraries();
    const int n = static_cast<int>(size);
    DYNKIN_CUDA_CHECK(libraries.solver.dpotrf(libraries.solver_handle, triangle, n, a, n, workspace,
                                              static_cast<int>(workspace_size), info));
}

void cholesky_solve(DeviceState& device, std::size_t size, const double* factor, double* x, int* info) {
    const DeviceLibraries& libraries = device.libraries();
    const int n = static_cast<int>(size);
    DYNKIN_CUDA_CHECK(
        libraries.solver.dpotrs(libraries.solver_handle, triangle, n, 1, factor, n, x, n, info));
}

void cholesky_batched(DeviceState& device, std::size_t size, double** a, int* info, std::size_t count) {
    const DeviceLibraries& libraries = device.libraries();
    const int n = static_cast<int>(size);
    DYNKIN_CUDA_CHECK(libraries.solver.dpotrf_batched(libraries.solver_handle, triangle, n, a, n, info,
                                                      static_cast<int>(count)));
}

void cholesky_solve_batched(DeviceState& device, std::size_t size, double** factors, double** x, int* info,
                            std::size_t count) {
    const DeviceLibraries& libraries = device.libraries();
    const int n = static_cast<int>(size);
    DYNKIN_CUDA_CHECK(libraries.solver.dpotrs_batched(libraries.solver_handle, triangle, n, 1, factors, n, x,
                                                      n, info, static_cast<int>(count)));
}

void symmetric_product(DeviceState& device, std::size_t size, const double* a, const double* x, double* y) {
    const DeviceLibraries& libraries = device.libraries();
    const int n = static_cast<int>(size);
    const double one = 1, zero = 0;
    DYNKIN_CUDA_CHECK(
        libraries.blas.dgemv(libraries.blas_handle, CUBLAS_OP_N, n, n, &one, a, n, x, 1, &zero, y, 1));
}

} // namespace dynkin::cuda

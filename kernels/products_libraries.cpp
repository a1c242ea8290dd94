// products_libraries.cpp - products of matrices by cuBLAS for nonlinear processes and score priors, and
// eigenvectors by cuSOLVER. Host code: any compiler.
#include "cuda_libraries.h"
#include "nonlinear_cuda.h"
#include "prior_cuda.h"

namespace dynkin::cuda {

void gram_tiles(DeviceState& device, std::size_t tiles, std::size_t rows, std::size_t size,
                const double* features, double* part) {
    const DeviceLibraries& libraries = device.libraries();
    const int n = static_cast<int>(size), k = static_cast<int>(rows);
    const auto stride = static_cast<long long>(rows * size), square = static_cast<long long>(size * size);
    const double one = 1, zero = 0;
    // Rows one after another are the columns of cuBLAS.
    DYNKIN_CUDA_CHECK(libraries.blas.dgemm_strided_batched(
        libraries.blas_handle, CUBLAS_OP_N, CUBLAS_OP_T, n, n, k, &one, features, n, stride, features, n,
        stride, &zero, part, n, square, static_cast<int>(tiles)));
}

namespace {

/// Rows one after another are the columns of cuBLAS, so c' = b' a' is what it computes.
template <class Gemm, class T> void row_product(DeviceState& device, const Gemm& gemm, bool transposed,
                                                std::size_t m, std::size_t n, std::size_t k, const T* a,
                                                const T* b, T* c) {
    const T one = 1, zero = 0;
    DYNKIN_CUDA_CHECK(gemm(device.libraries().blas_handle, transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
                           CUBLAS_OP_N, static_cast<int>(n), static_cast<int>(m), static_cast<int>(k), &one,
                           b, static_cast<int>(transposed ? k : n), a, static_cast<int>(k), &zero, c,
                           static_cast<int>(n)));
}

} // namespace

void product(DeviceState& device, bool transposed, std::size_t m, std::size_t n, std::size_t k,
             const double* a, const double* b, double* c) {
    row_product(device, device.libraries().blas.dgemm, transposed, m, n, k, a, b, c);
}
void product(DeviceState& device, bool transposed, std::size_t m, std::size_t n, std::size_t k,
             const float* a, const float* b, float* c) {
    row_product(device, device.libraries().blas.sgemm, transposed, m, n, k, a, b, c);
}

void add_gram(DeviceState& device, std::size_t d, std::size_t rows, const double* x, double* c) {
    const DeviceLibraries& libraries = device.libraries();
    const int n = static_cast<int>(d);
    const double one = 1;
    DYNKIN_CUDA_CHECK(libraries.blas.dsyrk(libraries.blas_handle, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, n,
                                           static_cast<int>(rows), &one, x, n, &one, c, n));
}

std::size_t eigen_workspace(DeviceState& device, std::size_t d, const double* a, const double* values) {
    const DeviceLibraries& libraries = device.libraries();
    const int n = static_cast<int>(d);
    int numbers = 0;
    DYNKIN_CUDA_CHECK(libraries.solver.dsyevd_workspace(libraries.solver_handle, CUSOLVER_EIG_MODE_VECTOR,
                                                        CUBLAS_FILL_MODE_UPPER, n, a, n, values, &numbers));
    return static_cast<std::size_t>(numbers);
}

void eigenvectors(DeviceState& device, std::size_t d, double* a, double* values, double* workspace,
                  std::size_t workspace_size, int* info) {
    const DeviceLibraries& libraries = device.libraries();
    const int n = static_cast<int>(d);
    DYNKIN_CUDA_CHECK(libraries.solver.dsyevd(libraries.solver_handle, CUSOLVER_EIG_MODE_VECTOR,
                                              CUBLAS_FILL_MODE_UPPER, n, a, n, values, workspace,
                                              static_cast<int>(workspace_size), info));
}

} // namespace dynkin::cuda

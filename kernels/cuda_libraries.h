// cuda_libraries.h - cuBLAS and cuSOLVER, opened when a device is used and not before: linked, they would
// keep the program from starting where they are missing, and cost each start up to a second. For sources that
// see CUDA's headers.
#pragma once
#include "cuda_check.h"
#include "device.h"

namespace dynkin {

/// The cuBLAS functions in use; matrices are column-major, alpha and beta stand in host memory.
struct BlasFunctions {
    decltype(&::cublasCreate_v2) create;
    decltype(&::cublasDestroy_v2) destroy;
    decltype(&::cublasSetStream_v2) set_stream;
    decltype(&::cublasSetWorkspace_v2) set_workspace;
    decltype(&::cublasSetMathMode) set_math_mode;
    decltype(&::cublasDgemm_v2) dgemm;
    decltype(&::cublasSgemm_v2) sgemm;
    decltype(&::cublasDgemmStridedBatched) dgemm_strided_batched;
    decltype(&::cublasSgemmStridedBatched) sgemm_strided_batched;
    decltype(&::cublasDsyrk_v2) dsyrk;
    decltype(&::cublasDgemv_v2) dgemv;
    decltype(&::cublasDtrsm_v2) dtrsm;
    decltype(&::cublasDtrsmBatched) dtrsm_batched;
};

/// The cuSOLVER functions in use.
struct SolverFunctions {
    decltype(&::cusolverDnCreate) create;
    decltype(&::cusolverDnDestroy) destroy;
    decltype(&::cusolverDnSetStream) set_stream;
    decltype(&::cusolverDnDpotrf_bufferSize) dpotrf_workspace;
    decltype(&::cusolverDnDpotrf) dpotrf;
    decltype(&::cusolverDnDpotrs) dpotrs;
    decltype(&::cusolverDnDpotrfBatched) dpotrf_batched;
    decltype(&::cusolverDnDpotrsBatched) dpotrs_batched;
    decltype(&::cusolverDnDsyevd_bufferSize) dsyevd_workspace;
    decltype(&::cusolverDnDsyevd) dsyevd;
};

/// Open the libraries at the first call. Throw Error(io) that names what was looked for.
const BlasFunctions& blas_functions();
const SolverFunctions& solver_functions();

/// Handles of a device, on its compute stream; set_stream moves them for calls on another.
struct DeviceLibraries {
    /// Of cuBLAS: what it takes by itself on Hopper and later. The same on every device and whatever memory
    /// is left, for the algorithm that cuBLAS chooses, and so the last bits of its results, may depend on it.
    /// Who sizes arrays by memory_left() opens the libraries that it will use before.
    static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

    explicit DeviceLibraries(DeviceState& device);
    ~DeviceLibraries();
    DeviceLibraries(const DeviceLibraries&) = delete;
    DeviceLibraries& operator=(const DeviceLibraries&) = delete;

    const BlasFunctions& blas;
    const SolverFunctions& solver;
    cublasHandle_t blas_handle = nullptr;
    cusolverDnHandle_t solver_handle = nullptr;

  private:
    DeviceArray<unsigned char> workspace_; ///< of cuBLAS, so that its memory counts within the limit
};

} // namespace dynkin

// cuda_check.cpp - failed calls of the CUDA runtime, cuBLAS and cuSOLVER as Errors.
#include "cuda_check.h"
#include "engine/error.h"
#include <cstring>
#include <fmt/format.h>

namespace dynkin::cuda {
namespace {

const char* name_of(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
        return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
        return "another error";
    }
}

const char* name_of(cusolverStatus_t status) {
    switch (status) {
    case CUSOLVER_STATUS_NOT_INITIALIZED:
        return "CUSOLVER_STATUS_NOT_INITIALIZED";
    case CUSOLVER_STATUS_ALLOC_FAILED:
        return "CUSOLVER_STATUS_ALLOC_FAILED";
    case CUSOLVER_STATUS_INVALID_VALUE:
        return "CUSOLVER_STATUS_INVALID_VALUE";
    case CUSOLVER_STATUS_ARCH_MISMATCH:
        return "CUSOLVER_STATUS_ARCH_MISMATCH";
    case CUSOLVER_STATUS_EXECUTION_FAILED:
        return "CUSOLVER_STATUS_EXECUTION_FAILED";
    case CUSOLVER_STATUS_NOT_SUPPORTED:
        return "CUSOLVER_STATUS_NOT_SUPPORTED";
    default:
        return "another error";
    }
}

/// "kernels/x.cu" of "/home/somebody/dynkin/kernels/x.cu".
const char* path_in_repository(const char* file) {
    const char* found = nullptr;
    for (const char* at = file; (at = std::strstr(at, "kernels/")) != nullptr; ++at) found = at;
    return found ? found : file;
}

} // namespace

std::string failure_text(const std::string& what, const CallSite& site) {
    return fmt::format("{}: {}, {}:{}", site.text, what, path_in_repository(site.file), site.line);
}

void check(cudaError_t status, const CallSite& site) {
    if (status == cudaSuccess) return;
    cudaGetLastError(); // the runtime remembers a failure until it is asked, and would report it twice
    const std::string what = fmt::format("{} ({})", cudaGetErrorString(status), cudaGetErrorName(status));
    throw Error(ErrorKind::io, failure_text(what, site));
}

void check(cublasStatus_t status, const CallSite& site) {
    if (status != CUBLAS_STATUS_SUCCESS)
        throw Error(ErrorKind::io,
                    failure_text(fmt::format("{} ({})", name_of(status), static_cast<int>(status)), site));
}

void check(cusolverStatus_t status, const CallSite& site) {
    if (status != CUSOLVER_STATUS_SUCCESS)
        throw Error(ErrorKind::io,
                    failure_text(fmt::format("{} ({})", name_of(status), static_cast<int>(status)), site));
}

void ignore(cudaError_t status) noexcept {
    if (status != cudaSuccess) cudaGetLastError();
}

} // namespace dynkin::cuda

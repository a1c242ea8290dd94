// cuda_check.h - every call of the CUDA runtime and its libraries is checked; a failure is an Error with the
// call's text, file and line. For sources that see CUDA's headers.
#pragma once
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>
#include <string>

namespace dynkin::cuda {

/// Where a call stands in the source.
struct CallSite {
    const char* text; ///< of the call, or the function that launches
    const char* file;
    int line;
};

/// Throw Error(io), the class of failures of the machine, unless the status is success:
/// "cudaStreamSynchronize(stream): unspecified launch failure (cudaErrorLaunchFailure),
/// kernels/device.cpp:70".
void check(cudaError_t status, const CallSite& site);
void check(cublasStatus_t status, const CallSite& site);
void check(cusolverStatus_t status, const CallSite& site);

/// For destructors: the failure is dropped, and so is the runtime's memory of it. What made the device
/// unusable stays known to it and is reported by the next call that can throw.
void ignore(cudaError_t status) noexcept;

/// The line of a failed call.
std::string failure_text(const std::string& what, const CallSite& site);

} // namespace dynkin::cuda

#define DYNKIN_CUDA_CHECK(call) ::dynkin::cuda::check((call), {#call, __FILE__, __LINE__})

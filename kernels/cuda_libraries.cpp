// cuda_libraries.cpp - library handles of a device.
#include "cuda_libraries.h"

namespace dynkin {

DeviceLibraries::DeviceLibraries(DeviceState& device)
    : blas(blas_functions()), solver(solver_functions()), workspace_(device, workspace_bytes, "cuBLAS") {
    try {
        DYNKIN_CUDA_CHECK(blas.create(&blas_handle));
        DYNKIN_CUDA_CHECK(blas.set_stream(blas_handle, device.compute_stream()));
        // After set_stream, which goes back to the workspace that cuBLAS allocates.
        DYNKIN_CUDA_CHECK(blas.set_workspace(blas_handle, workspace_.data(), workspace_.size()));
        DYNKIN_CUDA_CHECK(solver.create(&solver_handle));
        DYNKIN_CUDA_CHECK(solver.set_stream(solver_handle, device.compute_stream()));
    } catch (...) {
        if (solver_handle) solver.destroy(solver_handle);
        if (blas_handle) blas.destroy(blas_handle);
        throw;
    }
}

DeviceLibraries::~DeviceLibraries() {
    solver.destroy(solver_handle);
    blas.destroy(blas_handle);
}

} // namespace dynkin

// solver.cpp - the stand-in for cuSOLVER: the functions of SolverFunctions, by LAPACK.
#include "kernels/cuda_libraries.h"
#include "libraries.h"
#include <cstring>
#include <lapacke.h>
#include <set>
#include <stdexcept>

struct cusolverDnContext {
    cudaStream_t stream = nullptr;
};

namespace cuemu {
namespace {

std::set<cusolverDnHandle_t> handles;

cusolverStatus_t object(const char* call, const std::string& why) {
    last_objection() = std::string(call) + ": " + why;
    return CUSOLVER_STATUS_INVALID_VALUE;
}

template <class Work>
cusolverStatus_t submit(cusolverDnHandle_t handle, const char* call, const std::string& why, Work work) {
    if (!handles.contains(handle)) {
        last_objection() = std::string(call) + ": not a live handle";
        return CUSOLVER_STATUS_NOT_INITIALIZED;
    }
    if (!why.empty()) return object(call, why);
    if (!is_stream(handle->stream)) return object(call, "the handle has no live stream");
    return enqueue_work(handle->stream, call, work) == cudaSuccess ? CUSOLVER_STATUS_SUCCESS
                                                                   : CUSOLVER_STATUS_EXECUTION_FAILED;
}

cusolverStatus_t create(cusolverDnHandle_t* handle) {
    *handle = new cusolverDnContext;
    handles.insert(*handle);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t destroy(cusolverDnHandle_t handle) {
    if (handles.erase(handle) == 0) return CUSOLVER_STATUS_NOT_INITIALIZED;
    delete handle;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t set_stream(cusolverDnHandle_t handle, cudaStream_t stream) {
    if (!handles.contains(handle)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!is_stream(stream)) return object("cusolverDnSetStream", "not a live stream");
    handle->stream = stream;
    return CUSOLVER_STATUS_SUCCESS;
}

char triangle(cublasFillMode_t fill) { return fill == CUBLAS_FILL_MODE_LOWER ? 'L' : 'U'; }

// Sizes of our own, so that callers ask instead of knowing.
int potrf_size(int n) { return 64 + n; }
int syevd_size(int n) { return 1 + 6 * n + 2 * n * n; }

std::string workspace_objection(const double* workspace, int given, int needed) {
    if (given < needed)
        return "workspace of " + std::to_string(given) + " numbers, expected " + std::to_string(needed);
    return array_objection("workspace", workspace, static_cast<std::size_t>(given));
}

int factorise(cublasFillMode_t fill, int n, double* a, int lda) {
    Aligned<double> matrix(a, n, n, lda);
    return LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, triangle(fill), n, matrix, lda);
}

int solve(cublasFillMode_t fill, int n, int sides, const double* a, int lda, double* b, int ldb) {
    Aligned<const double> factor(a, n, n, lda);
    Aligned<double> x(b, n, sides, ldb);
    return LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, triangle(fill), n, sides, factor, lda, x, ldb);
}

/// Nothing that stood in a workspace survives.
void spoil(double* workspace, int size) {
    std::memset(workspace, 0xff, sizeof(double) * static_cast<std::size_t>(size));
}

cusolverStatus_t dpotrf_workspace(cusolverDnHandle_t handle, cublasFillMode_t, int n, double* a, int lda,
                                  int* size) {
    if (!handles.contains(handle)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    const std::string why = matrix_objection("A", a, n, n, lda);
    if (!why.empty()) return object("cusolverDnDpotrf_bufferSize", why);
    *size = potrf_size(n);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t dpotrf(cusolverDnHandle_t handle, cublasFillMode_t fill, int n, double* a, int lda,
                        double* workspace, int size, int* info) {
    const std::string why =
        first_of({matrix_objection("A", a, n, n, lda), workspace_objection(workspace, size, potrf_size(n)),
                  array_objection("info", info, 1)});
    return submit(handle, "cusolverDnDpotrf", why, [=] {
        *info = factorise(fill, n, a, lda);
        spoil(workspace, size);
    });
}

cusolverStatus_t dpotrs(cusolverDnHandle_t handle, cublasFillMode_t fill, int n, int sides, const double* a,
                        int lda, double* b, int ldb, int* info) {
    const std::string why =
        first_of({matrix_objection("A", a, n, n, lda), matrix_objection("B", b, n, sides, ldb),
                  array_objection("info", info, 1)});
    return submit(handle, "cusolverDnDpotrs", why, [=] { *info = solve(fill, n, sides, a, lda, b, ldb); });
}

/// In enqueued work: the matrices of a batch are known only there.
void require_matrix(const char* call, const double* a, int rows, int columns, int leading) {
    const std::string why = matrix_objection("of the batch", a, rows, columns, leading);
    if (!why.empty()) throw std::runtime_error(std::string(call) + ": " + why);
}

cusolverStatus_t dpotrf_batched(cusolverDnHandle_t handle, cublasFillMode_t fill, int n, double* a[], int lda,
                                int* info, int batch) {
    const auto count = static_cast<std::size_t>(std::max(batch, 0));
    const std::string why = first_of({batch < 0 ? "negative batch" : "", array_objection("A", a, count),
                                      array_objection("info", info, count)});
    return submit(handle, "cusolverDnDpotrfBatched", why, [=] {
        for (std::size_t i = 0; i < count; ++i) {
            require_matrix("cusolverDnDpotrfBatched", a[i], n, n, lda);
            info[i] = factorise(fill, n, a[i], lda);
        }
    });
}

cusolverStatus_t dpotrs_batched(cusolverDnHandle_t handle, cublasFillMode_t fill, int n, int sides,
                                double* a[], int lda, double* b[], int ldb, int* info, int batch) {
    const auto count = static_cast<std::size_t>(std::max(batch, 0));
    const std::string why = first_of(
        {batch < 0 ? "negative batch" : "", sides != 1 ? "only one right-hand side is supported" : "",
         array_objection("A", a, count), array_objection("B", b, count), array_objection("info", info, 1)});
    return submit(handle, "cusolverDnDpotrsBatched", why, [=] {
        *info = 0;
        for (std::size_t i = 0; i < count; ++i) {
            require_matrix("cusolverDnDpotrsBatched", a[i], n, n, lda);
            require_matrix("cusolverDnDpotrsBatched", b[i], n, 1, ldb);
            solve(fill, n, 1, a[i], lda, b[i], ldb);
        }
    });
}

cusolverStatus_t dsyevd_workspace(cusolverDnHandle_t handle, cusolverEigMode_t, cublasFillMode_t, int n,
                                  const double* a, int lda, const double* w, int* size) {
    if (!handles.contains(handle)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    const std::string why = first_of({matrix_objection("A", a, n, n, lda),
                                      array_objection("W", w, static_cast<std::size_t>(std::max(n, 0)))});
    if (!why.empty()) return object("cusolverDnDsyevd_bufferSize", why);
    *size = syevd_size(n);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t dsyevd(cusolverDnHandle_t handle, cusolverEigMode_t job, cublasFillMode_t fill, int n,
                        double* a, int lda, double* w, double* workspace, int size, int* info) {
    const std::string why =
        first_of({matrix_objection("A", a, n, n, lda),
                  array_objection("W", w, static_cast<std::size_t>(std::max(n, 0))),
                  workspace_objection(workspace, size, syevd_size(n)), array_objection("info", info, 1)});
    return submit(handle, "cusolverDnDsyevd", why, [=] {
        const char wanted = job == CUSOLVER_EIG_MODE_VECTOR ? 'V' : 'N';
        Aligned<double> matrix(a, n, n, lda);
        *info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, wanted, triangle(fill), n, matrix, lda, w);
        spoil(workspace, size);
    });
}

} // namespace
} // namespace cuemu

const dynkin::SolverFunctions& dynkin::solver_functions() {
    using namespace cuemu;
    static const SolverFunctions functions{create, destroy,        set_stream,     dpotrf_workspace, dpotrf,
                                           dpotrs, dpotrf_batched, dpotrs_batched, dsyevd_workspace, dsyevd};
    return functions;
}

// blas.cpp - the stand-in for cuBLAS: the functions of BlasFunctions, by CBLAS.
#include "kernels/cuda_libraries.h"
#include "libraries.h"
#include <cblas.h>
#include <set>
#include <stdexcept>
#include <utility>

struct cublasContext {
    cudaStream_t stream = nullptr;
};

namespace cuemu {
namespace {

std::set<cublasHandle_t> handles;

cublasStatus_t object(const char* call, const std::string& why) {
    last_objection() = std::string(call) + ": " + why;
    return CUBLAS_STATUS_INVALID_VALUE;
}

/// Enqueues `work` unless there is an objection to the arguments or to the handle.
template <class Work>
cublasStatus_t submit(cublasHandle_t handle, const char* call, const std::string& why, Work work) {
    if (!handles.contains(handle)) {
        last_objection() = std::string(call) + ": not a live handle";
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    if (!why.empty()) return object(call, why);
    if (!is_stream(handle->stream)) return object(call, "the handle has no live stream");
    return enqueue_work(handle->stream, call, work) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                   : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t create(cublasHandle_t* handle) {
    *handle = new cublasContext;
    handles.insert(*handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t destroy(cublasHandle_t handle) {
    if (handles.erase(handle) == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t set_stream(cublasHandle_t handle, cudaStream_t stream) {
    if (!handles.contains(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!is_stream(stream)) return object("cublasSetStream", "not a live stream");
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t set_workspace(cublasHandle_t handle, void* workspace, std::size_t bytes) {
    if (!handles.contains(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (bytes > 0 && !is_device_memory(workspace, bytes))
        return object("cublasSetWorkspace", "not device memory of that size");
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t set_math_mode(cublasHandle_t handle, cublasMath_t) {
    return handles.contains(handle) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

CBLAS_TRANSPOSE transpose(cublasOperation_t op) { return op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans; }
CBLAS_UPLO triangle(cublasFillMode_t fill) {
    return fill == CUBLAS_FILL_MODE_LOWER ? CblasLower : CblasUpper;
}

std::string scalars_objection(const void* alpha, const void* beta) {
    return alpha && beta ? "" : "alpha or beta is null";
}

template <class T> struct Gemm {
    cublasOperation_t op_a, op_b;
    int m, n, k;
    T alpha;
    const T* a;
    int lda;
    const T* b;
    int ldb;
    T beta;
    T* c;
    int ldc;

    std::string objection() const {
        const bool plain_a = op_a == CUBLAS_OP_N, plain_b = op_b == CUBLAS_OP_N;
        if (k < 0) return "k: negative size";
        return first_of({matrix_objection("A", a, plain_a ? m : k, plain_a ? k : m, lda),
                         matrix_objection("B", b, plain_b ? k : n, plain_b ? n : k, ldb),
                         matrix_objection("C", c, m, n, ldc)});
    }
    void run() const {
        const bool plain_a = op_a == CUBLAS_OP_N, plain_b = op_b == CUBLAS_OP_N;
        Aligned<const T> left(a, plain_a ? m : k, plain_a ? k : m, lda);
        Aligned<const T> right(b, plain_b ? k : n, plain_b ? n : k, ldb);
        Aligned<T> product(c, m, n, ldc);
        if constexpr (std::is_same_v<T, double>)
            cblas_dgemm(CblasColMajor, transpose(op_a), transpose(op_b), m, n, k, alpha, left, lda, right,
                        ldb, beta, product, ldc);
        else
            cblas_sgemm(CblasColMajor, transpose(op_a), transpose(op_b), m, n, k, alpha, left, lda, right,
                        ldb, beta, product, ldc);
    }
};

template <class T> cublasStatus_t gemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                                       int m, int n, int k, const T* alpha, const T* a, int lda, const T* b,
                                       int ldb, const T* beta, T* c, int ldc) {
    const std::string scalars = scalars_objection(alpha, beta);
    if (!scalars.empty()) return object("cublas<t>gemm", scalars);
    const Gemm<T> product{op_a, op_b, m, n, k, *alpha, a, lda, b, ldb, *beta, c, ldc};
    return submit(handle, "cublas<t>gemm", product.objection(), [=] { product.run(); });
}

template <class T>
cublasStatus_t gemm_strided_batched(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                                    int m, int n, int k, const T* alpha, const T* a, int lda,
                                    long long stride_a, const T* b, int ldb, long long stride_b,
                                    const T* beta, T* c, int ldc, long long stride_c, int batch) {
    const char* call = "cublas<t>gemmStridedBatched";
    std::string why = scalars_objection(alpha, beta);
    if (batch < 0) why = "negative batch";
    if (batch > 1 && stride_c < static_cast<long long>(ldc) * (n - 1) + m) why = "matrices C overlap";
    if (!why.empty()) return object(call, why);
    const auto product = [=, alpha = *alpha, beta = *beta](int i) {
        return Gemm<T>{
            op_a, op_b, m, n, k, alpha, a + i * stride_a, lda, b + i * stride_b, ldb, beta, c + i * stride_c,
            ldc};
    };
    for (int i = 0; i < batch && why.empty(); ++i) why = product(i).objection();
    return submit(handle, call, why, [=] {
        for (int i = 0; i < batch; ++i) product(i).run();
    });
}

cublasStatus_t dsyrk(cublasHandle_t handle, cublasFillMode_t fill, cublasOperation_t op, int n, int k,
                     const double* alpha, const double* a, int lda, const double* beta, double* c, int ldc) {
    const bool plain = op == CUBLAS_OP_N;
    std::string why =
        first_of({scalars_objection(alpha, beta), matrix_objection("A", a, plain ? n : k, plain ? k : n, lda),
                  matrix_objection("C", c, n, n, ldc)});
    if (!why.empty()) return object("cublasDsyrk", why);
    return submit(handle, "cublasDsyrk", why, [=, alpha = *alpha, beta = *beta] {
        Aligned<const double> factor(a, plain ? n : k, plain ? k : n, lda);
        Aligned<double> product(c, n, n, ldc);
        cblas_dsyrk(CblasColMajor, triangle(fill), transpose(op), n, k, alpha, factor, lda, beta, product,
                    ldc);
    });
}

cublasStatus_t dgemv(cublasHandle_t handle, cublasOperation_t op, int m, int n, const double* alpha,
                     const double* a, int lda, const double* x, int incx, const double* beta, double* y,
                     int incy) {
    const bool plain = op == CUBLAS_OP_N;
    std::string why = first_of({scalars_objection(alpha, beta), matrix_objection("A", a, m, n, lda),
                                vector_objection("x", x, plain ? n : m, incx),
                                vector_objection("y", y, plain ? m : n, incy)});
    if (!why.empty()) return object("cublasDgemv", why);
    return submit(handle, "cublasDgemv", why, [=, alpha = *alpha, beta = *beta] {
        Aligned<const double> matrix(a, m, n, lda), factor(x, 1, plain ? n : m, std::abs(incx));
        Aligned<double> product(y, 1, plain ? m : n, std::abs(incy));
        cblas_dgemv(CblasColMajor, transpose(op), m, n, alpha, matrix, lda, factor, incx, beta, product,
                    incy);
    });
}

struct TriangularSolve {
    cublasSideMode_t side;
    cublasFillMode_t fill;
    cublasOperation_t op;
    cublasDiagType_t diagonal;
    int m, n;
    double alpha;
    int lda, ldb;

    std::string objection(const double* a, const double* b) const {
        const int order = side == CUBLAS_SIDE_LEFT ? m : n;
        return first_of({matrix_objection("A", a, order, order, lda), matrix_objection("B", b, m, n, ldb)});
    }
    void run(const double* a, double* b) const {
        const bool left = side == CUBLAS_SIDE_LEFT;
        Aligned<const double> factor(a, left ? m : n, left ? m : n, lda);
        Aligned<double> sides(b, m, n, ldb);
        cblas_dtrsm(CblasColMajor, left ? CblasLeft : CblasRight, triangle(fill), transpose(op),
                    diagonal == CUBLAS_DIAG_UNIT ? CblasUnit : CblasNonUnit, m, n, alpha, factor, lda, sides,
                    ldb);
    }
};

cublasStatus_t dtrsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,
                     cublasOperation_t op, cublasDiagType_t diagonal, int m, int n, const double* alpha,
                     const double* a, int lda, double* b, int ldb) {
    if (!alpha) return object("cublasDtrsm", "alpha is null");
    const TriangularSolve solve{side, fill, op, diagonal, m, n, *alpha, lda, ldb};
    return submit(handle, "cublasDtrsm", solve.objection(a, b), [=] { solve.run(a, b); });
}

cublasStatus_t dtrsm_batched(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,
                             cublasOperation_t op, cublasDiagType_t diagonal, int m, int n,
                             const double* alpha, const double* const a[], int lda, double* const b[],
                             int ldb, int batch) {
    const char* call = "cublasDtrsmBatched";
    if (!alpha) return object(call, "alpha is null");
    if (batch < 0) return object(call, "negative batch");
    const auto count = static_cast<std::size_t>(batch);
    const TriangularSolve solve{side, fill, op, diagonal, m, n, *alpha, lda, ldb};
    const std::string why = first_of({array_objection("A", a, count), array_objection("B", b, count)});
    return submit(handle, call, why, [=] { // the pointers are known only when the work runs
        for (std::size_t i = 0; i < count; ++i) {
            const std::string wrong = solve.objection(a[i], b[i]);
            if (!wrong.empty()) throw std::runtime_error(std::string(call) + ": " + wrong);
            solve.run(a[i], b[i]);
        }
    });
}

} // namespace

std::string& last_objection() {
    static std::string objection;
    return objection;
}

} // namespace cuemu

const dynkin::BlasFunctions& dynkin::blas_functions() {
    using namespace cuemu;
    static const BlasFunctions functions{create,
                                         destroy,
                                         set_stream,
                                         set_workspace,
                                         set_math_mode,
                                         gemm<double>,
                                         gemm<float>,
                                         gemm_strided_batched<double>,
                                         gemm_strided_batched<float>,
                                         dsyrk,
                                         dgemv,
                                         dtrsm,
                                         dtrsm_batched};
    return functions;
}

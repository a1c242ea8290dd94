// cuda_libraries_open.cpp - finds cuBLAS and cuSOLVER on this machine. The emulator of the tests stands in
// for this file, so nothing else is in it.
#include "cuda_libraries.h"
#include "engine/error.h"
#include <dlfcn.h>
#include <initializer_list>
#include <string>

namespace dynkin {
namespace {

/// Opens the first that is there, by the loader's own search and then in the toolkit's usual folder. Never
/// closed: the libraries keep threads and device code.
void* open_first(std::initializer_list<const char*> names) {
    std::string tried;
    for (const std::string folder : {"", "/usr/local/cuda/lib64/"})
        for (const char* name : names) {
            if (void* library = dlopen((folder + name).c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
            tried += (tried.empty() ? "" : ", ") + folder + name;
        }
    throw Error(ErrorKind::io, "device: cannot open any of " + tried);
}

template <class Function> void find(void* library, const char* name, Function& function) {
    void* symbol = dlsym(library, name);
    if (!symbol) throw Error(ErrorKind::io, std::string("device: the CUDA library has no ") + name);
    function = reinterpret_cast<Function>(symbol);
}

BlasFunctions open_blas() {
    void* library = open_first({"libcublas.so.13", "libcublas.so.12", "libcublas.so"});
    BlasFunctions f{};
    find(library, "cublasCreate_v2", f.create);
    find(library, "cublasDestroy_v2", f.destroy);
    find(library, "cublasSetStream_v2", f.set_stream);
    find(library, "cublasSetWorkspace_v2", f.set_workspace);
    find(library, "cublasSetMathMode", f.set_math_mode);
    find(library, "cublasDgemm_v2", f.dgemm);
    find(library, "cublasSgemm_v2", f.sgemm);
    find(library, "cublasDgemmStridedBatched", f.dgemm_strided_batched);
    find(library, "cublasSgemmStridedBatched", f.sgemm_strided_batched);
    find(library, "cublasDsyrk_v2", f.dsyrk);
    find(library, "cublasDgemv_v2", f.dgemv);
    find(library, "cublasDtrsm_v2", f.dtrsm);
    find(library, "cublasDtrsmBatched", f.dtrsm_batched);
    return f;
}

SolverFunctions open_solver() {
    void* library = open_first({"libcusolver.so.12", "libcusolver.so.11", "libcusolver.so"});
    SolverFunctions f{};
    find(library, "cusolverDnCreate", f.create);
    find(library, "cusolverDnDestroy", f.destroy);
    find(library, "cusolverDnSetStream", f.set_stream);
    find(library, "cusolverDnDpotrf_bufferSize", f.dpotrf_workspace);
    find(library, "cusolverDnDpotrf", f.dpotrf);
    find(library, "cusolverDnDpotrs", f.dpotrs);
    find(library, "cusolverDnDpotrfBatched", f.dpotrf_batched);
    find(library, "cusolverDnDpotrsBatched", f.dpotrs_batched);
    find(library, "cusolverDnDsyevd_bufferSize", f.dsyevd_workspace);
    find(library, "cusolverDnDsyevd", f.dsyevd);
    return f;
}

} // namespace

const BlasFunctions& blas_functions() {
    static const BlasFunctions functions = open_blas();
    return functions;
}

const SolverFunctions& solver_functions() {
    static const SolverFunctions functions = open_solver();
    return functions;
}

} // namespace dynkin

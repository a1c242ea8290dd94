// gpu.h - what *_cuda.cu files include: nvcc takes the CUDA runtime, a host compiler the emulator of the
// tests.
#pragma once
#include "cuda_check.h"
#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include <cuemu.h>
#endif
#include <concepts>
#include <cstddef>
#include <source_location>
#include <type_traits>
#include <utility>

namespace dynkin::gpu {

/// The blocks of a launch, and where it stands: the default argument is evaluated at the call of launch().
struct Grid {
    dim3 blocks;
    std::source_location where;
    template <std::integral Count> Grid(Count x, std::source_location at = std::source_location::current())
        : blocks(static_cast<unsigned>(x)), where(at) {}
    Grid(dim3 all, std::source_location at = std::source_location::current()) : blocks(all), where(at) {}
};

/// Blocks of `block` threads that cover `count` items.
inline unsigned blocks_for(std::size_t count, unsigned block) {
    return static_cast<unsigned>((count + block - 1) / block);
}

/// Second number of __launch_bounds__ of kernels that ptxas, left to itself, makes spill for occupancy.
constexpr unsigned blocks_asked = 1;

/// Number of this thread in a launch of one axis.
__device__ inline std::size_t thread_number() {
    return static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

constexpr std::size_t default_shared_memory = 48 * 1024; ///< bytes that a kernel may have without asking

#ifdef __CUDACC__
template <class... P> cudaError_t enqueue(void (*kernel)(P...), dim3 grid, dim3 block,
                                          std::size_t shared_bytes, cudaStream_t stream,
                                          std::type_identity_t<P>... arguments) {
    if (shared_bytes > default_shared_memory) {
        const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                        static_cast<int>(shared_bytes));
        if (status != cudaSuccess) return status;
    }
    cudaLaunchConfig_t configuration{};
    configuration.gridDim = grid, configuration.blockDim = block;
    configuration.dynamicSmemBytes = shared_bytes, configuration.stream = stream;
    return cudaLaunchKernelEx(&configuration, kernel, arguments...);
}
/// One S for the block, uninitialised.
template <class S> __device__ __forceinline__ S& shared() {
    __shared__ S s;
    return s;
}
/// The launch's dynamic shared memory, uninitialised.
template <class T> __device__ __forceinline__ T* dynamic_shared() {
    extern __shared__ __align__(16) unsigned char gpu_dynamic_shared[];
    return reinterpret_cast<T*>(gpu_dynamic_shared);
}
#else
using cuemu::dynamic_shared;
using cuemu::enqueue;
using cuemu::shared;
#endif

/// Enqueues a kernel on a stream. Throws Error(io), naming the calling function, file and line, when the
/// launch is refused or an earlier one has failed; what goes wrong while the kernel runs is thrown where the
/// stream is waited for.
template <class... P, class... A> void launch(void (*kernel)(P...), Grid grid, dim3 block,
                                              std::size_t shared_bytes, cudaStream_t stream,
                                              A&&... arguments) {
    static_assert(sizeof...(P) == sizeof...(A));
    const cuda::CallSite site{grid.where.function_name(), grid.where.file_name(),
                              static_cast<int>(grid.where.line())};
    cuda::check(enqueue(kernel, grid.blocks, block, shared_bytes, stream,
                        static_cast<P>(std::forward<A>(arguments))...),
                site);
    cuda::check(cudaGetLastError(), site);
}

} // namespace dynkin::gpu

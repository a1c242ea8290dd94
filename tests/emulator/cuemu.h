// cuemu.h - CUDA kernels on the CPU: what gpu.h includes in place of <cuda_runtime.h> for a host compiler.
// Blocks run one after another; inside a block each thread is a fiber, and they switch only at barriers, warp
// functions and (in random order) atomics, so plain `static` storage serves __shared__.
#pragma once
#include <cuda_runtime.h> // vector types, qualifiers (empty here), declarations of the runtime
#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)
#include "machine.h"
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>

inline thread_local uint3 threadIdx{}, blockIdx{};
inline thread_local dim3 blockDim{}, gridDim{};
constexpr int warpSize = 32;

namespace cuemu {

/// What a kernel did wrong.
struct Fault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// A place in a kernel where threads wait for one another.
struct Site {
    const char *op, *file;
    int line;
};

[[noreturn]] void fail(const std::string& what, Site site); ///< in a kernel: ends the launch with a Fault

enum class Vote { count, all, any };
int block_barrier(unsigned value, Vote vote, Site site);

void maybe_yield(); ///< lets another thread run (in random order only)
void fence();

/// The object of that key for the whole block, filled with 0xff where the block starts; nullptr: the launch's
/// dynamic shared memory.
void* shared_slot(const void* key, std::size_t size, std::size_t align);
template <class T> inline constexpr char key_of = 0;
template <class S> S& shared() { return *static_cast<S*>(shared_slot(&key_of<S>, sizeof(S), alignof(S))); }
template <class T> T* dynamic_shared() { return static_cast<T*>(shared_slot(nullptr, 0, 0)); }

/// A value on its way through a warp.
struct alignas(16) Word {
    unsigned char b[16];
};
struct WarpView {
    unsigned lane, present;
    const Word* values;
};
/// Waits for the lanes in `mask`; then all see what each brought, until the thread's next switch.
WarpView warp_exchange(unsigned mask, Word value, bool orders_memory, Site site);

template <class T> Word to_word(T value) {
    static_assert(sizeof(T) <= sizeof(Word) && std::is_trivially_copyable_v<T>);
    Word word{};
    std::memcpy(&word, &value, sizeof value);
    return word;
}
template <class T>
__attribute__((no_sanitize("thread"))) T warp_read(const WarpView& view, unsigned source, Site site) {
    if (!(view.present >> source & 1))
        fail("reads lane " + std::to_string(source) + ", which takes no part", site);
    T value;
    __builtin_memcpy(&value, &view.values[source], sizeof(T));
    return value;
}
template <class T, class Pick> T shuffle(unsigned mask, T value, Pick source, Site site) {
    const WarpView view = warp_exchange(mask, to_word(value), false, site);
    return warp_read<T>(view, source(view.lane), site);
}
template <class T, class F> T atomic_update(T* p, F f) {
    maybe_yield();
    T old, now;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    do now = f(old);
    while (!__atomic_compare_exchange(p, &old, &now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}

/// A pointer that the kernel is given must be memory of the device, or pinned; structs are not looked into.
template <class P> bool reachable(const P& argument) {
    if constexpr (std::is_pointer_v<P> && !std::is_function_v<std::remove_pointer_t<P>>)
        return is_reachable(argument);
    return true;
}

/// The twin of the launch in gpu.h.
template <class... P> cudaError_t enqueue(void (*kernel)(P...), dim3 grid, dim3 block,
                                          std::size_t shared_bytes, cudaStream_t stream,
                                          std::type_identity_t<P>... arguments) {
    if (!(reachable(arguments) && ...))
        return refuse(cudaErrorIllegalAddress, "a kernel is given a pointer to host memory");
    return enqueue_launch(
        stream, grid, block, shared_bytes,
        [kernel, parameters = std::tuple<P...>(arguments...)] { std::apply(kernel, parameters); });
}

} // namespace cuemu

#define CUEMU_WHERE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define CUEMU_SITE(op)                                                                                       \
    cuemu::Site { op, file, line }

// Barriers and votes
inline void __syncthreads(CUEMU_WHERE) {
    cuemu::block_barrier(0, cuemu::Vote::count, CUEMU_SITE("__syncthreads"));
}
inline int __syncthreads_count(int p, CUEMU_WHERE) {
    return cuemu::block_barrier(p != 0, cuemu::Vote::count, CUEMU_SITE("__syncthreads_count"));
}
inline int __syncthreads_and(int p, CUEMU_WHERE) {
    return cuemu::block_barrier(p != 0, cuemu::Vote::all, CUEMU_SITE("__syncthreads_and"));
}
inline int __syncthreads_or(int p, CUEMU_WHERE) {
    return cuemu::block_barrier(p != 0, cuemu::Vote::any, CUEMU_SITE("__syncthreads_or"));
}
inline void __syncwarp(unsigned mask = ~0u, CUEMU_WHERE) {
    cuemu::warp_exchange(mask, {}, true, CUEMU_SITE("__syncwarp"));
}
inline unsigned __ballot_sync(unsigned mask, int p, CUEMU_WHERE) {
    const auto view = cuemu::warp_exchange(mask, cuemu::to_word(p), false, CUEMU_SITE("__ballot_sync"));
    unsigned votes = 0;
    for (unsigned i = 0; i < 32; ++i)
        if (view.present >> i & 1 && cuemu::warp_read<int>(view, i, {})) votes |= 1u << i;
    return votes;
}
inline int __any_sync(unsigned mask, int p, CUEMU_WHERE) { return __ballot_sync(mask, p, file, line) != 0; }
inline int __all_sync(unsigned mask, int p, CUEMU_WHERE) { return __ballot_sync(mask, !p, file, line) == 0; }

// Shuffles; `width` is a power of two, and lanes beyond a group give the caller's own value.
template <class T> T __shfl_sync(unsigned mask, T v, int source, int width = 32, CUEMU_WHERE) {
    const auto pick = [=](unsigned lane) {
        const auto last = static_cast<unsigned>(width - 1);
        return (lane & ~last) | (static_cast<unsigned>(source) & last);
    };
    return cuemu::shuffle(mask, v, pick, CUEMU_SITE("__shfl_sync"));
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32, CUEMU_WHERE) {
    const auto pick = [=](unsigned lane) {
        const unsigned other = lane ^ static_cast<unsigned>(lanes);
        return other > (lane | static_cast<unsigned>(width - 1)) ? lane : other;
    };
    return cuemu::shuffle(mask, v, pick, CUEMU_SITE("__shfl_xor_sync"));
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, CUEMU_WHERE) {
    const auto pick = [=](unsigned lane) {
        return lane + delta > (lane | static_cast<unsigned>(width - 1)) ? lane : lane + delta;
    };
    return cuemu::shuffle(mask, v, pick, CUEMU_SITE("__shfl_down_sync"));
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, CUEMU_WHERE) {
    const auto pick = [=](unsigned lane) {
        return (lane & static_cast<unsigned>(width - 1)) < delta ? lane : lane - delta;
    };
    return cuemu::shuffle(mask, v, pick, CUEMU_SITE("__shfl_up_sync"));
}

// Atomics (relaxed, as on the device) and fences
template <class T> T atomicAdd(T* p, std::type_identity_t<T> v) {
    return cuemu::atomic_update(p, [=](T old) { return static_cast<T>(old + v); });
}
template <class T> T atomicMax(T* p, std::type_identity_t<T> v) {
    return cuemu::atomic_update(p, [=](T old) { return old < v ? v : old; });
}
template <class T> T atomicMin(T* p, std::type_identity_t<T> v) {
    return cuemu::atomic_update(p, [=](T old) { return v < old ? v : old; });
}
template <class T> T atomicExch(T* p, std::type_identity_t<T> v) {
    return cuemu::atomic_update(p, [=](T) { return v; });
}
template <class T> T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
    return cuemu::atomic_update(p, [=](T old) { return old == expected ? v : old; });
}
inline void __threadfence() { cuemu::fence(); }
inline void __threadfence_block() { cuemu::fence(); }

// Intrinsics: what the kernels use. Approximate ones are the host's functions.
template <class T> T __ldg(const T* p) { return *p; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
template <class T> constexpr T min(T a, T b) { return b < a ? b : a; }
template <class T> constexpr T max(T a, T b) { return a < b ? b : a; }

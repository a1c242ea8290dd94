// random_cuda.cu - the kernels of random.h: one thread a sample.
#include "elementary.h"
#include "gpu.h"
#include "philox.h"
#include "random.h"

namespace dynkin::cuda {
namespace {

constexpr unsigned block_threads = 256;

/// The sample of this thread; those of the last block may be beyond the end.
__device__ std::size_t thread_index() {
    return static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
}

__device__ RandomWords words_at(const RandomCounters& at, std::size_t n) {
    return philox(at.seed, at.purpose, at.first + n, at.step, at.slot);
}

__global__ void __launch_bounds__(block_threads)
    words_kernel(RandomCounters at, std::size_t count, std::uint32_t* out) {
    const std::size_t n = thread_index();
    if (n >= count) return;
    const RandomWords w = words_at(at, n);
    for (std::size_t k = 0; k < 4; ++k) out[k * count + n] = w.v[k];
}

__global__ void __launch_bounds__(block_threads)
    uniforms_kernel(RandomCounters at, std::size_t count, float* out) {
    const std::size_t n = thread_index();
    if (n >= count) return;
    const RandomWords w = words_at(at, n);
    for (std::size_t k = 0; k < 4; ++k) out[k * count + n] = uniform_float(w.v[k]);
}

__global__ void __launch_bounds__(block_threads)
    normals_kernel(RandomCounters at, std::size_t count, float* out) {
    const std::size_t n = thread_index();
    if (n >= count) return;
    const RandomWords w = words_at(at, n);
    for (std::size_t k = 0; k < 4; k += 2) {
        double a, b;
        normals_from_uniforms(uniform(w.v[k]), uniform(w.v[k + 1]), a, b);
        out[k * count + n] = static_cast<float>(a);
        out[(k + 1) * count + n] = static_cast<float>(b);
    }
}

} // namespace

void random_words(DeviceStream stream, const RandomCounters& at, std::size_t count, std::uint32_t* out) {
    if (count == 0) return;
    gpu::launch(words_kernel, gpu::blocks_for(count, block_threads), block_threads, 0, stream, at, count,
                out);
}

void random_uniforms(DeviceStream stream, const RandomCounters& at, std::size_t count, float* out) {
    if (count == 0) return;
    gpu::launch(uniforms_kernel, gpu::blocks_for(count, block_threads), block_threads, 0, stream, at, count,
                out);
}

void random_normals(DeviceStream stream, const RandomCounters& at, std::size_t count, float* out) {
    if (count == 0) return;
    gpu::launch(normals_kernel, gpu::blocks_for(count, block_threads), block_threads, 0, stream, at, count,
                out);
}

} // namespace dynkin::cuda

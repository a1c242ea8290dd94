// linear_cuda.cu - the kernels of linear_cuda.h.
#include "gpu.h"
#include "linear_cuda.h"
#include "score.h"
#include <limits>

namespace dynkin::cuda {
namespace {

using std::size_t;

constexpr unsigned block_threads = 128;
/// Of a multiprocessor, which registers must do for; left to itself the compiler spills for more.
constexpr unsigned blocks_at_once = 4;
constexpr unsigned matrix_threads = 64;
constexpr int staged = 32; ///< rows in shared memory at a time

/// Block: a part and 128 monomials; thread: a monomial.
__global__ void __launch_bounds__(block_threads) monomial_kernel(MonomialSums s) {
    double* rows = gpu::dynamic_shared<double>();
    const int k = static_cast<int>(blockIdx.x * block_threads + threadIdx.x);
    const int order = k < s.count ? s.order[k] : 0;
    const size_t d = static_cast<size_t>(s.dimension), first = blockIdx.y * s.part;
    const size_t count = s.rows - first < s.part ? s.rows - first : s.part;
    double sum = 0;
    for (size_t at = 0; at < count; at += staged) {
        const int now = static_cast<int>(count - at < staged ? count - at : staged);
        __syncthreads(); // the rows before have been read
        for (int n = static_cast<int>(threadIdx.x); n < now * s.dimension; n += block_threads)
            rows[n] = s.z[(first + at) * d + static_cast<size_t>(n)];
        __syncthreads();
        for (int r = 0; r < now; ++r) {
            double value = 1;
            for (int q = 0; q < order; ++q) value *= rows[r * s.dimension + s.coordinates[q * s.count + k]];
            sum += value;
        }
    }
    if (k < s.count) s.sums[blockIdx.y * static_cast<size_t>(s.count) + static_cast<size_t>(k)] = sum;
}

/// blockIdx.x: the time, blockIdx.y: the row.
__global__ void __launch_bounds__(matrix_threads)
    matrix_kernel(LinearMatrices systems, const double* moments, double* a) {
    const int row = static_cast<int>(blockIdx.y);
    const size_t size = static_cast<size_t>(systems.size), time = blockIdx.x;
    moments += time * static_cast<size_t>(systems.used), a += time * size * size;
    for (int col = static_cast<int>(threadIdx.x); col <= row; col += static_cast<int>(matrix_threads)) {
        const double sum = kernels::linear_entry(systems.products, systems.first, row, col, moments);
        a[static_cast<size_t>(row) * size + static_cast<size_t>(col)] = sum;
        a[static_cast<size_t>(col) * size + static_cast<size_t>(row)] = sum;
    }
}

/// Numbers of one particle, in columns of a chunk.
struct Column {
    double* at;
    size_t stride;
    __device__ __forceinline__ double& operator[](int i) const { return at[static_cast<size_t>(i) * stride]; }
    __device__ __forceinline__ Column operator+(int n) const {
        return {at + static_cast<size_t>(n) * stride, stride};
    }
};

__device__ __forceinline__ size_t particle() {
    return static_cast<size_t>(blockIdx.x) * block_threads + threadIdx.x;
}
__device__ __forceinline__ Column numbers(const LinearTimes& t) { return {t.work + particle(), t.chunk}; }

__device__ __forceinline__ kernels::LinearLaw law(const LinearTimes& t, int k) {
    const int d = t.model.dimension, square = d * d;
    const double* at =
        t.laws + static_cast<size_t>(k) * static_cast<size_t>(d + 3 * square + t.model.size + 1);
    const double* c = at + d + 3 * square;
    return {at, at + d, at + d + square, at + d + 2 * square, c, c[t.model.size]};
}

/// z of a row of data.
__device__ __forceinline__ void standardise(const LinearTimes& t, const double* x, const Column& z) {
    const int d = t.model.dimension;
    x += particle() * static_cast<size_t>(d);
    for (int j = 0; j < d; ++j) z[j] = (x[j] - t.mean[j]) / t.scale[j];
}

/// A sample in the units of the data.
__device__ __forceinline__ void finish(const LinearTimes& t, const Column& z, float* x) {
    constexpr size_t tile = kernels::kScoreTile;
    const size_t p = particle(), d = static_cast<size_t>(t.model.dimension);
    for (int j = 0; j < t.model.dimension; ++j)
        x[(p / tile * d + static_cast<size_t>(j)) * tile + p % tile] =
            static_cast<float>(t.mean[j] + t.scale[j] * z[j]);
}

__global__ void __launch_bounds__(block_threads)
    score_kernel(LinearTimes t, size_t particles, const double* x, double* out) {
    if (particle() >= particles) return;
    const int d = t.model.dimension;
    const Column z = numbers(t), gradient = z + d;
    standardise(t, x, z);
    kernels::linear_gradient(t.model, law(t, 0), true, z, gradient, gradient + d);
    out += particle() * static_cast<size_t>(d);
    for (int j = 0; j < d; ++j) out[j] = gradient[j] / t.scale[j];
}

__global__ void __launch_bounds__(block_threads)
    diffuse_kernel(LinearTimes t, LinearRandom random, size_t particles, float* x) {
    if (particle() >= particles) return;
    const int d = t.model.dimension, square = d * d;
    const Column z = numbers(t), work = z + d;
    const std::uint64_t number = random.first + particle();
    kernels::linear_start(t.model, law(t, t.steps), random.seed, number, z, work);
#pragma unroll 1
    for (int k = t.steps; k > 0; --k) {
        const double* gain = t.matrices + static_cast<size_t>(k - 1) * static_cast<size_t>(2 * square);
        kernels::step_backwards(t.model, t.times[k] - t.times[k - 1], law(t, k), law(t, k - 1),
                                {gain, gain + square}, random.seed, number, static_cast<std::uint32_t>(k), z,
                                work);
    }
    finish(t, z, x);
}

__global__ void __launch_bounds__(block_threads, blocks_at_once)
    flow_kernel(LinearTimes t, LinearRandom random, size_t particles, float* x, double* log_q) {
    if (particle() >= particles) return;
    const Column z = numbers(t), work = z + t.model.dimension;
    double log_density =
        kernels::linear_start(t.model, law(t, 2 * t.steps), random.seed, random.first + particle(), z, work);
#pragma unroll 1
    for (int k = t.steps; k > 0; --k)
        log_density -= kernels::runge_kutta(
            t.model, t.times[k - 1] - t.times[k], [&](int n) { return law(t, 2 * k - n); }, z, work);
    log_q[particle()] = log_density - t.log_scale;
    finish(t, z, x);
}

__global__ void __launch_bounds__(block_threads, blocks_at_once)
    density_kernel(LinearTimes t, size_t particles, const double* x, double* log_q) {
    if (particle() >= particles) return;
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const Column z = numbers(t), work = z + t.model.dimension;
    standardise(t, x, z);
    double log_density = -t.log_scale;
#pragma unroll 1
    for (int k = 0; k < t.steps; ++k)
        log_density += kernels::runge_kutta(
            t.model, t.times[k + 1] - t.times[k], [&](int n) { return law(t, 2 * k + n); }, z, work);
    log_density += kernels::log_normal(t.model, law(t, 2 * t.steps), z);
    log_q[particle()] = log_density - log_density == 0 ? log_density : -infinity;
}

unsigned blocks(size_t particles) { return gpu::blocks_for(particles, block_threads); }

} // namespace

void monomial_sums(DeviceStream stream, const MonomialSums& sums) {
    if (sums.rows == 0) return;
    gpu::launch(monomial_kernel,
                dim3(gpu::blocks_for(static_cast<size_t>(sums.count), block_threads),
                     gpu::blocks_for(sums.rows, static_cast<unsigned>(sums.part))),
                block_threads, static_cast<size_t>(staged * sums.dimension) * sizeof(double), stream, sums);
}

void linear_matrices(DeviceStream stream, const LinearMatrices& systems, size_t times, const double* moments,
                     double* a) {
    if (times == 0) return;
    gpu::launch(matrix_kernel, dim3(static_cast<unsigned>(times), static_cast<unsigned>(systems.size)),
                matrix_threads, 0, stream, systems, moments, a);
}

void linear_scores(DeviceStream stream, const LinearTimes& model, size_t particles, const double* x,
                   double* out) {
    if (particles == 0) return;
    gpu::launch(score_kernel, blocks(particles), block_threads, 0, stream, model, particles, x, out);
}

void linear_diffuse(DeviceStream stream, const LinearTimes& model, const LinearRandom& random,
                    size_t particles, float* x) {
    if (particles == 0) return;
    gpu::launch(diffuse_kernel, blocks(particles), block_threads, 0, stream, model, random, particles, x);
}

void linear_flow(DeviceStream stream, const LinearTimes& model, const LinearRandom& random, size_t particles,
                 float* x, double* log_q) {
    if (particles == 0) return;
    gpu::launch(flow_kernel, blocks(particles), block_threads, 0, stream, model, random, particles, x, log_q);
}

void linear_log_density(DeviceStream stream, const LinearTimes& model, size_t particles, const double* x,
                        double* log_q) {
    if (particles == 0) return;
    gpu::launch(density_kernel, blocks(particles), block_threads, 0, stream, model, particles, x, log_q);
}

} // namespace dynkin::cuda

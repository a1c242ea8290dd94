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

/// blockIdx.y: the monomial, from `first` on; thread: a coefficient.
__global__ void __launch_bounds__(block_threads)
    whiten_kernel(kernels::LinearTables t, const double* law, int first, double* polynomial) {
    const int b = static_cast<int>(gpu::thread_number()), k = first + static_cast<int>(blockIdx.y);
    if (b >= t.count) return;
    const size_t n = static_cast<size_t>(t.count);
    double* row = polynomial + static_cast<size_t>(k) * n;
    if (k == 0)
        row[b] = b == 0;
    else
        row[b] = kernels::whitened_coefficient(t, law, law + t.dimension, k, b,
                                               polynomial + static_cast<size_t>(t.before[k]) * n);
}

__global__ void __launch_bounds__(block_threads)
    products_kernel(kernels::LinearTables t, const double* moments, double* out) {
    const size_t k = gpu::thread_number();
    if (k < static_cast<size_t>(t.size) * static_cast<size_t>(t.size)) out[k] = moments[t.sums[k]];
}

/// blockIdx.y: the row, without phi_0.
__global__ void __launch_bounds__(block_threads)
    system_kernel(kernels::LinearTables t, const double* inner, double* a, double* b) {
    const int q = static_cast<int>(gpu::thread_number()), p = static_cast<int>(blockIdx.y), n = t.size - 1;
    if (q > p) return;
    if (q == 0) b[p] = kernels::linear_side(t, inner, p + 1);
    const double value = kernels::linear_matrix(t, inner, p + 1, q + 1);
    a[static_cast<size_t>(p) * static_cast<size_t>(n) + static_cast<size_t>(q)] = value;
    a[static_cast<size_t>(q) * static_cast<size_t>(n) + static_cast<size_t>(p)] = value;
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

void whitened_monomials(DeviceStream stream, const kernels::LinearTables& tables, const double* law,
                        int first, int last, double* polynomial) {
    gpu::launch(whiten_kernel,
                dim3(gpu::blocks_for(static_cast<size_t>(tables.count), block_threads),
                     static_cast<unsigned>(last - first)),
                block_threads, 0, stream, tables, law, first, polynomial);
}

void power_products(DeviceStream stream, const kernels::LinearTables& tables, const double* moments,
                    double* out) {
    const size_t size = static_cast<size_t>(tables.size);
    gpu::launch(products_kernel, blocks(size * size), block_threads, 0, stream, tables, moments, out);
}

void linear_system(DeviceStream stream, const kernels::LinearTables& tables, const double* inner, double* a,
                   double* b) {
    const size_t rows = static_cast<size_t>(tables.size) - 1;
    gpu::launch(system_kernel, dim3(blocks(rows), static_cast<unsigned>(rows)), block_threads, 0, stream,
                tables, inner, a, b);
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

// step_cuda.cu - the kernels of step_cuda.h: a thread has one particle, and one site, four, or all of them.
#include "circle.h"
#include "elementary.h"
#include "gpu.h"
#include "philox.h"
#include "step_cuda.h"

namespace dynkin::cuda {
namespace {

using std::size_t;

constexpr unsigned block_threads = 128;

__device__ __forceinline__ size_t particle_of_thread() {
    return static_cast<size_t>(blockIdx.x) * block_threads + threadIdx.x;
}
__device__ __forceinline__ size_t place(const StepShape& shape, int site, size_t particle) {
    return static_cast<size_t>(site) * shape.chunk + particle;
}
__device__ __forceinline__ RandomWords words(const StepRandom& random, Stream purpose, size_t particle,
                                             int slot) {
    return philox(random.seed, purpose, random.first + particle, random.step,
                  static_cast<std::uint32_t>(slot));
}

/// Standard normals of the four words, as on the CPU by pairs in float64.
__device__ __forceinline__ void four_normals(const RandomWords& w, double (&normal)[4]) {
    normals_from_uniforms(uniform(w.v[0]), uniform(w.v[1]), normal[0], normal[1]);
    normals_from_uniforms(uniform(w.v[2]), uniform(w.v[3]), normal[2], normal[3]);
}

__global__ void __launch_bounds__(block_threads)
    start_kernel(StepShape shape, StepRandom random, size_t particles, float* z) {
    const size_t p = particle_of_thread();
    if (p >= particles) return;
    const int slot = static_cast<int>(blockIdx.y);
    const RandomWords w = words(random, Stream::sampler_start, p, slot);
    double normal[4];
    if (!shape.fitted) four_normals(w, normal);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const int site = 4 * slot + k;
        if (site >= shape.sites) return;
        float value;
        if (shape.fitted) {
            const StepFamily& f = shape.families[shape.of_site[site].family];
            value = static_cast<float>(stationary_quantile(f.law, uniform(w.v[k])));
            value = value < f.lowest ? f.lowest : (value > f.highest ? f.highest : value);
        } else
            value = static_cast<float>(normal[k]);
        z[place(shape, site, p)] = value;
    }
}

template <bool FITTED> __global__ void __launch_bounds__(block_threads)
    reference_kernel(StepShape shape, StepRandom random, StepTransition t, size_t particles, float* z) {
    const size_t p = particle_of_thread();
    if (p >= particles) return;
    const int slot = static_cast<int>(blockIdx.y);
    const RandomWords w = words(random, Stream::sampler_noise, p, slot);
    double normal[4];
    if (!FITTED) four_normals(w, normal);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const int site = 4 * slot + k;
        if (site >= shape.sites) return;
        float& at = z[place(shape, site, p)];
        if (FITTED) {
            const int family = shape.of_site[site].family;
            const StepFamily& f = shape.families[family];
            const kernels::TransitionView view{t.tables + static_cast<size_t>(family) *
                                                              static_cast<size_t>(t.rows * t.columns),
                                               t.rows, t.columns, f.table_lo, f.inverse_h};
            at = kernels::transition(view, at, uniform_float(w.v[k]));
        } else
            at = t.decay * at + t.noise * static_cast<float>(normal[k]);
    }
}

__device__ __forceinline__ double stationary_log_density(const StepFamily& f, double z) {
    double v = f.potential[kernels::kPotentialTerms];
#pragma unroll
    for (int k = kernels::kPotentialTerms - 1; k >= 0; --k) v = v * z + f.potential[k];
    return z >= f.lo && z <= f.hi ? -v - f.log_normaliser : -std::numeric_limits<double>::infinity();
}

template <class T> __global__ void __launch_bounds__(block_threads)
    stationary_kernel(StepShape shape, size_t particles, const T* z, double* log_q) {
    const size_t p = particle_of_thread();
    if (p >= particles) return;
    double sum = log_q[p];
    for (int site = 0; site < shape.sites; ++site)
        sum += stationary_log_density(shape.families[shape.of_site[site].family],
                                      static_cast<double>(z[place(shape, site, p)]));
    log_q[p] = sum;
}

template <class T> __global__ void __launch_bounds__(block_threads)
    flow_kernel(StepShape shape, size_t particles, double dt, const T* first, const T* second,
                double* log_q) {
    const size_t p = particle_of_thread();
    if (p >= particles) return;
    T a = 0, b = 0; // site by site, as on the CPU
#pragma unroll 4
    for (int site = 0; site < shape.sites; ++site)
        a += first[place(shape, site, p)], b += second[place(shape, site, p)];
    log_q[p] -= 0.5 * dt * (static_cast<double>(a) + static_cast<double>(b));
}

__global__ void __launch_bounds__(block_threads)
    finish_kernel(StepShape shape, size_t particles, const float* z, float* x) {
    const size_t p = particle_of_thread();
    if (p >= particles) return;
    const int site = static_cast<int>(blockIdx.y);
    const StepSite& s = shape.of_site[site];
    constexpr size_t tile = kernels::kScoreTile;
    const float at = z[place(shape, site, p)];
    x[(p / tile * static_cast<size_t>(shape.sites) + static_cast<size_t>(site)) * tile + p % tile] =
        static_cast<float>(s.mean +
                           s.scale * static_cast<double>(shape.circle ? kernels::folded(at, true) : at));
}

__device__ __forceinline__ bool within_reach(const StepSite& s, double z) {
    return z >= s.lower && z <= s.upper; // not for NaN
}

__global__ void __launch_bounds__(block_threads)
    finish_density_kernel(StepShape shape, size_t particles, const float* z, double* log_q) {
    const size_t p = particle_of_thread();
    if (p >= particles) return;
    double log_scale = 0;
    bool inside = true;
    for (int site = 0; site < shape.sites; ++site) {
        const StepSite& s = shape.of_site[site];
        log_scale += s.log_scale;
        inside = inside && within_reach(s, static_cast<double>(z[place(shape, site, p)]));
    }
    log_q[p] = inside ? log_q[p] - log_scale : -std::numeric_limits<double>::infinity();
}

__global__ void __launch_bounds__(block_threads)
    standardize_kernel(StepShape shape, size_t particles, const double* x, double* z, double* log_q) {
    const size_t p = particle_of_thread();
    if (p >= particles) return;
    double sum = 0;
    for (int site = 0; site < shape.sites; ++site) {
        const StepSite& s = shape.of_site[site];
        const double value =
            (x[p * static_cast<size_t>(shape.columns) + static_cast<size_t>(s.column)] - s.mean) / s.scale;
        z[place(shape, site, p)] = value;
        sum = within_reach(s, value) ? sum - s.log_scale : -std::numeric_limits<double>::infinity();
    }
    if (log_q) log_q[p] = sum;
}

__global__ void __launch_bounds__(block_threads)
    score_rows_kernel(StepShape shape, size_t particles, const double* z, const double* gradient, double* x) {
    const size_t p = particle_of_thread();
    if (p >= particles) return;
    const int site = static_cast<int>(blockIdx.y);
    const StepSite& s = shape.of_site[site];
    const StepFamily& f = shape.families[s.family];
    const double at = z[place(shape, site, p)];
    double dv = 0;
#pragma unroll
    for (int k = kernels::kPotentialTerms; k > 0; --k) dv = dv * at + static_cast<double>(k) * f.potential[k];
    x[p * static_cast<size_t>(shape.columns) + static_cast<size_t>(s.column)] =
        (gradient[place(shape, site, p)] - dv) / s.scale;
}

dim3 blocks(size_t particles, int groups_of_sites) {
    return dim3(gpu::blocks_for(particles, block_threads), static_cast<unsigned>(groups_of_sites));
}

} // namespace

void start(DeviceStream stream, const StepShape& shape, const StepRandom& random, size_t particles,
           float* z) {
    if (particles == 0) return;
    gpu::launch(start_kernel, blocks(particles, (shape.sites + 3) / 4), block_threads, 0, stream, shape,
                random, particles, z);
}

void reference_step(DeviceStream stream, const StepShape& shape, const StepRandom& random,
                    const StepTransition& transition, size_t particles, float* z) {
    if (particles == 0) return;
    gpu::launch(shape.fitted && !shape.circle ? reference_kernel<true> : reference_kernel<false>,
                blocks(particles, (shape.sites + 3) / 4), block_threads, 0, stream, shape, random, transition,
                particles, z);
}

template <class T> void add_stationary(DeviceStream stream, const StepShape& shape, size_t particles,
                                       const T* z, double* log_q) {
    if (particles == 0) return;
    gpu::launch(stationary_kernel<T>, blocks(particles, 1), block_threads, 0, stream, shape, particles, z,
                log_q);
}
template void add_stationary(DeviceStream, const StepShape&, size_t, const float*, double*);
template void add_stationary(DeviceStream, const StepShape&, size_t, const double*, double*);

template <class T> void add_flow(DeviceStream stream, const StepShape& shape, size_t particles, double dt,
                                 const T* first, const T* second, double* log_q) {
    if (particles == 0) return;
    gpu::launch(flow_kernel<T>, blocks(particles, 1), block_threads, 0, stream, shape, particles, dt, first,
                second, log_q);
}
template void add_flow(DeviceStream, const StepShape&, size_t, double, const float*, const float*, double*);
template void add_flow(DeviceStream, const StepShape&, size_t, double, const double*, const double*, double*);

void finish(DeviceStream stream, const StepShape& shape, size_t particles, const float* z, float* x,
            double* log_q) {
    if (particles == 0) return;
    gpu::launch(finish_kernel, blocks(particles, shape.sites), block_threads, 0, stream, shape, particles, z,
                x);
    if (log_q)
        gpu::launch(finish_density_kernel, blocks(particles, 1), block_threads, 0, stream, shape, particles,
                    z, log_q);
}

void standardize(DeviceStream stream, const StepShape& shape, size_t particles, const double* x, double* z,
                 double* log_q) {
    if (particles == 0) return;
    gpu::launch(standardize_kernel, blocks(particles, 1), block_threads, 0, stream, shape, particles, x, z,
                log_q);
}

void score_rows(DeviceStream stream, const StepShape& shape, size_t particles, const double* z,
                const double* gradient, double* x) {
    if (particles == 0) return;
    gpu::launch(score_rows_kernel, blocks(particles, shape.sites), block_threads, 0, stream, shape, particles,
                z, gradient, x);
}

} // namespace dynkin::cuda

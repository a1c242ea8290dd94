// waves_cuda.cu - the kernels of waves_cuda.h. Nothing but coefficients is read on a particle's way: waves of
// all coordinates follow by rotation in registers, and threads of a warp read the same coefficients.
#include "gpu.h"
#include "philox.h"
#include "waves_cuda.h"
#include <limits>

namespace dynkin::cuda {
namespace {

using kernels::kScoreTile;
using std::size_t;

// ---- moments

__global__ void __launch_bounds__(kMomentTile) functions_kernel(WaveFunctions e) {
    const int tile = static_cast<int>(blockIdx.x), site = static_cast<int>(blockIdx.y),
              sample = static_cast<int>(threadIdx.x), count = tile_samples(e.batch, tile);
    if (sample >= (count + 31) / 32 * 32) return;
    const bool used = sample < count;
    const size_t row = tile_row(tile, used ? sample : count - 1);
    const double u = e.u[row * static_cast<size_t>(e.dimension) + static_cast<size_t>(site)];
    double* out =
        e.table + static_cast<size_t>(tile) * static_cast<size_t>(e.functions) * kMomentTile + sample;
    if (site == 0) *out = used ? 1 : 0;
    out += static_cast<size_t>(site) * static_cast<size_t>(e.width - 1) * kMomentTile;
    kernels::each_wave(e.periodic, e.width, u, [=](int n, double value) {
        out[static_cast<size_t>(n) * kMomentTile] = used ? value : 0;
    });
}

// ---- systems: a thread an entry of the lower triangle

constexpr int edge = 16;

template <int DIMENSION> __global__ void __launch_bounds__(edge* edge)
    matrix_kernel(WaveSystems s, double* a) {
    const int l = static_cast<int>(blockIdx.x) * edge + static_cast<int>(threadIdx.x) % edge,
              k = static_cast<int>(blockIdx.y) * edge + static_cast<int>(threadIdx.x) / edge;
    if (k >= s.size || l > k) return;
    const double* decay = s.decays + static_cast<size_t>(blockIdx.z) * static_cast<size_t>(s.width);
    const auto moment = [=](const int(&index)[DIMENSION]) {
        size_t place = 0;
#pragma unroll
        for (int j = 0; j < DIMENSION; ++j)
            place = place * static_cast<size_t>(s.width) + static_cast<size_t>(index[j]);
        double value = s.moments[place];
#pragma unroll
        for (int j = DIMENSION - 1; j >= 0; --j) value *= decay[index[j]];
        return value;
    };
    const size_t size = static_cast<size_t>(s.size), row = static_cast<size_t>(k),
                 col = static_cast<size_t>(l);
    a += blockIdx.z * size * size;
    a[row * size + col] = a[col * size + row] = kernels::wave_entry<DIMENSION>(
        s.products, s.functions, s.indices + DIMENSION * k, s.indices + DIMENSION * l, moment);
}

// ---- the field

constexpr unsigned block_threads = 128;
/// Of a multiprocessor, which registers must do for; left to itself the compiler spills for more.
constexpr unsigned blocks_at_once = 3;

/// Particles of a thread: two share the coefficients that it loads, where registers do for them.
template <class T> constexpr int own = sizeof(T) == 4 ? 2 : 1;

/// The waves of one coordinate in order: f_0, f_1, ... and their slopes, of all particles of a thread.
template <class T, bool PERIODIC> struct Walk {
    T first_cos[own<T>], first_sin[own<T>], cosine[own<T>], sine[own<T>];
    T frequency;
    bool at_sine;

    __device__ __forceinline__ void restart() {
#pragma unroll
        for (int v = 0; v < own<T>; ++v) cosine[v] = 1, sine[v] = 0;
        frequency = 0, at_sine = false;
    }
    __device__ __forceinline__ void rotate() {
#pragma unroll
        for (int v = 0; v < own<T>; ++v) kernels::next_wave(first_cos[v], first_sin[v], cosine[v], sine[v]);
        frequency += 1;
    }
    __device__ __forceinline__ void next() {
        if (PERIODIC && !at_sine && frequency > 0)
            at_sine = true;
        else
            rotate(), at_sine = false;
    }
    __device__ __forceinline__ T value(int v) const { return PERIODIC && at_sine ? sine[v] : cosine[v]; }
    __device__ __forceinline__ T slope(int v) const {
        return PERIODIC && at_sine ? frequency * cosine[v] : -frequency * sine[v];
    }
};

/// Numbers of the particles of a thread.
template <class T> struct Own {
    T at[own<T>][3]; ///< of the coordinates, the last ones in use
};

/// sum c f, sum c f', sum lambda c f over the last factor, of each run of a group.
template <class T> struct RunSums { T value[wave_runs], slope[wave_runs], decay[wave_runs]; };

template <class T, bool LAPLACIAN>
__device__ __forceinline__ void add_terms(const WaveTerms<T>& terms, T f, T slope, RunSums<T>& sums) {
#pragma unroll
    for (int r = 0; r < wave_runs; ++r) {
        sums.value[r] = std::fma(terms.value[r], f, sums.value[r]);
        sums.slope[r] = std::fma(terms.value[r], slope, sums.slope[r]);
        if (LAPLACIAN) sums.decay[r] = std::fma(terms.decay[r], f, sums.decay[r]);
    }
}

/// The hot loop: terms of one group.
template <class T, bool PERIODIC, bool LAPLACIAN> __device__ __forceinline__ const WaveTerms<T>*
add_group(int frequencies, const WaveTerms<T>* terms, Walk<T, PERIODIC>& last, RunSums<T> (&sums)[own<T>]) {
#pragma unroll
    for (int v = 0; v < own<T>; ++v) sums[v] = {};
    last.restart();
#pragma unroll 1
    for (int m = 0; m < frequencies; ++m) {
        const WaveTerms<T> cosines = *terms++;
#pragma unroll
        for (int v = 0; v < own<T>; ++v)
            add_terms<T, LAPLACIAN>(cosines, last.cosine[v], -last.frequency * last.sine[v], sums[v]);
        if (PERIODIC) {
            const WaveTerms<T> sines = *terms++;
#pragma unroll
            for (int v = 0; v < own<T>; ++v)
                add_terms<T, LAPLACIAN>(sines, last.sine[v], last.frequency * last.cosine[v], sums[v]);
        }
        last.rotate();
    }
    return terms;
}

/// grad h and, unless not wanted, Lap h at u.
template <class T, bool PERIODIC, bool LAPLACIAN> __device__ __forceinline__ void
gradient(const WaveModel<T>& model, int time, const Own<T>& u, Own<T>& g, T (&laplacian)[own<T>]) {
    Walk<T, PERIODIC> outer, middle, last;
#pragma unroll
    for (int v = 0; v < own<T>; ++v) {
        kernels::first_wave(u.at[v][0], outer.first_cos[v], outer.first_sin[v]);
        kernels::first_wave(u.at[v][1], middle.first_cos[v], middle.first_sin[v]);
        kernels::first_wave(u.at[v][2], last.first_cos[v], last.first_sin[v]);
        laplacian[v] = 0;
    }
    g = {};
    outer.restart(), middle.restart();
    const WaveTerms<T>* terms = model.terms_at + static_cast<size_t>(time) * model.terms;
#pragma unroll 1
    for (int k = 0; k < model.groups; ++k) {
        const WaveGroup group = model.group[k];
        if (group.next) outer.next(), middle.restart();
        RunSums<T> sums[own<T>];
        terms = add_group<T, PERIODIC, LAPLACIAN>(group.frequencies, terms, last, sums);
#pragma unroll
        for (int r = 0; r < wave_runs; ++r) {
#pragma unroll
            for (int v = 0; v < own<T>; ++v) {
                const T before = outer.value(v) * middle.value(v);
                g.at[v][0] = std::fma(outer.slope(v) * middle.value(v), sums[v].value[r], g.at[v][0]);
                g.at[v][1] = std::fma(outer.value(v) * middle.slope(v), sums[v].value[r], g.at[v][1]);
                g.at[v][2] = std::fma(before, sums[v].slope[r], g.at[v][2]);
                if (LAPLACIAN) laplacian[v] = std::fma(-before, sums[v].decay[r], laplacian[v]);
            }
            middle.next();
        }
    }
}

/// Particle v of the thread; one that is not there is worked on like the first, and not stored.
template <class T> __device__ __forceinline__ size_t particle(int v) {
    return static_cast<size_t>(blockIdx.x) * (block_threads * own<T>)+static_cast<size_t>(v) * block_threads +
           threadIdx.x;
}
template <class T> __device__ __forceinline__ size_t particle_or_first(int v, size_t particles) {
    const size_t p = particle<T>(v);
    return p < particles ? p : particle<T>(0);
}

template <class T, bool PERIODIC> __device__ __forceinline__ void move(Own<T>& u, T step, const Own<T>& by) {
#pragma unroll
    for (int v = 0; v < own<T>; ++v)
#pragma unroll
        for (int j = 0; j < 3; ++j) u.at[v][j] = kernels::folded(u.at[v][j] + step * by.at[v][j], PERIODIC);
}

/// u of rows of data; 0 of coordinates that are not in use.
__device__ __forceinline__ void standardise(const WaveModel<double>& model, size_t particles, const double* x,
                                            Own<double>& u) {
#pragma unroll
    for (int v = 0; v < own<double>; ++v)
#pragma unroll
        for (int j = 0; j < 3; ++j) {
            const int column = j - (3 - model.dimension);
            u.at[v][j] =
                column < 0
                    ? 0
                    : (x[particle_or_first<double>(v, particles) * static_cast<size_t>(model.dimension) +
                         static_cast<size_t>(column)] -
                       model.mean[j]) /
                          model.scale[j];
        }
}

/// u from the uniform law.
template <bool PERIODIC> __device__ __forceinline__ void
start(const WaveModel<float>& model, const WaveRandom& random, size_t particles, Own<float>& u) {
#pragma unroll
    for (int v = 0; v < own<float>; ++v) {
        const RandomWords w = philox(random.seed, Stream::sampler_start,
                                     random.first + particle_or_first<float>(v, particles), 0, 0);
#pragma unroll
        for (int j = 0; j < 3; ++j) {
            const int column = j - (3 - model.dimension);
            const std::uint32_t word = column == 0 ? w.v[0] : column == 1 ? w.v[1] : w.v[2];
            u.at[v][j] = column < 0 ? 0 : static_cast<float>(kernels::wave_side(PERIODIC) * uniform(word));
        }
    }
}

/// Normals of the step from time k.
__device__ __forceinline__ void noise(const WaveModel<float>& model, const WaveRandom& random,
                                      std::uint32_t k, size_t particles, Own<float>& out) {
#pragma unroll
    for (int v = 0; v < own<float>; ++v) {
        const RandomWords w = philox(random.seed, Stream::sampler_noise,
                                     random.first + particle_or_first<float>(v, particles), k, 0);
        double normal[4];
        normals_from_uniforms(uniform(w.v[0]), uniform(w.v[1]), normal[0], normal[1]);
        normals_from_uniforms(uniform(w.v[2]), uniform(w.v[3]), normal[2], normal[3]);
#pragma unroll
        for (int j = 0; j < 3; ++j) {
            const int column = j - (3 - model.dimension);
            const double value = column == 0 ? normal[0] : column == 1 ? normal[1] : normal[2];
            out.at[v][j] = column < 0 ? 0 : static_cast<float>(value);
        }
    }
}

/// Samples in the units of the data.
__device__ __forceinline__ void finish(const WaveModel<float>& model, const Own<float>& u, size_t particles,
                                       float* x) {
    constexpr size_t tile = kScoreTile;
#pragma unroll
    for (int v = 0; v < own<float>; ++v) {
        const size_t p = particle<float>(v);
        if (p >= particles) continue;
#pragma unroll
        for (int j = 0; j < 3; ++j) {
            const int column = j - (3 - model.dimension);
            if (column < 0) continue;
            x[(p / tile * static_cast<size_t>(model.dimension) + static_cast<size_t>(column)) * tile +
              p % tile] =
                static_cast<float>(model.mean[j] + model.scale[j] * static_cast<double>(u.at[v][j]));
        }
    }
}

template <bool PERIODIC> __global__ void __launch_bounds__(block_threads)
    score_kernel(WaveModel<double> model, size_t particles, const double* x, double* out) {
    if (particle<double>(0) >= particles) return;
    Own<double> u, g;
    double laplacian[own<double>];
    standardise(model, particles, x, u);
    gradient<double, PERIODIC, false>(model, 0, u, g, laplacian);
#pragma unroll
    for (int j = 0; j < 3; ++j) {
        const int column = j - (3 - model.dimension);
        if (column < 0) continue;
        out[particle<double>(0) * static_cast<size_t>(model.dimension) + static_cast<size_t>(column)] =
            g.at[0][j] / model.scale[j];
    }
}

template <bool PERIODIC> __global__ void __launch_bounds__(block_threads)
    diffuse_kernel(WaveModel<float> model, WaveRandom random, size_t particles, float* x) {
    if (particle<float>(0) >= particles) return;
    Own<float> u, by;
    float laplacian[own<float>];
    start<PERIODIC>(model, random, particles, u);
#pragma unroll 1
    for (int stage = 2 * model.steps; stage > 0; --stage) { // before and after the noise of step k
        const int k = (stage + 1) / 2, at = stage / 2;
        const double dt = model.times[k] - model.times[k - 1];
        gradient<float, PERIODIC, false>(model, at, u, by, laplacian);
        move<float, PERIODIC>(u, static_cast<float>(dt), by);
        if (at < k) continue;
        noise(model, random, static_cast<std::uint32_t>(k), particles, by);
        move<float, PERIODIC>(u, static_cast<float>(std::sqrt(2 * dt)), by);
    }
    finish(model, u, particles, x);
}

/// Heun's method for dU = grad h ds, d log q = -Lap h ds, from the last time to the first or back. Trial
/// points are not folded.
template <class T, bool PERIODIC, bool FORWARDS>
__device__ __forceinline__ void flow(const WaveModel<T>& model, Own<T>& u, double (&log_q)[own<T>]) {
    Own<T> before{}, trial = u;
    T lap_before[own<T>] = {};
#pragma unroll 1
    for (int stage = 0; stage < 2 * model.steps; ++stage) {
        const int from = FORWARDS ? stage / 2 : model.steps - stage / 2, to = FORWARDS ? from + 1 : from - 1;
        const double dt =
            FORWARDS ? model.times[to] - model.times[from] : model.times[from] - model.times[to];
        const T step = static_cast<T>(FORWARDS ? -dt : dt), half = static_cast<T>(0.5) * step;
        Own<T> g;
        T laplacian[own<T>];
        gradient<T, PERIODIC, true>(model, stage % 2 ? to : from, trial, g, laplacian);
#pragma unroll
        for (int v = 0; v < own<T>; ++v) {
#pragma unroll
            for (int j = 0; j < 3; ++j) {
                if (stage % 2 == 0) {
                    trial.at[v][j] = u.at[v][j] + step * g.at[v][j], before.at[v][j] = g.at[v][j];
                    continue;
                }
                const T mean = half * (before.at[v][j] + g.at[v][j]);
                trial.at[v][j] = u.at[v][j] = kernels::folded(u.at[v][j] + mean, PERIODIC);
            }
            if (stage % 2 == 0)
                lap_before[v] = laplacian[v];
            else
                log_q[v] -=
                    0.5 * dt * (static_cast<double>(lap_before[v]) + static_cast<double>(laplacian[v]));
        }
    }
}

template <bool PERIODIC> __global__ void __launch_bounds__(block_threads, blocks_at_once)
    flow_kernel(WaveModel<float> model, WaveRandom random, size_t particles, float* x, double* log_q) {
    if (particle<float>(0) >= particles) return;
    Own<float> u;
    double log_density[own<float>];
    start<PERIODIC>(model, random, particles, u);
#pragma unroll
    for (int v = 0; v < own<float>; ++v) log_density[v] = model.log_uniform;
    flow<float, PERIODIC, false>(model, u, log_density);
    finish(model, u, particles, x);
#pragma unroll
    for (int v = 0; v < own<float>; ++v)
        if (particle<float>(v) < particles) log_q[particle<float>(v)] = log_density[v];
}

template <bool PERIODIC> __global__ void __launch_bounds__(block_threads)
    density_kernel(WaveModel<double> model, size_t particles, const double* x, double* log_q) {
    if (particle<double>(0) >= particles) return;
    constexpr double infinity = std::numeric_limits<double>::infinity();
    Own<double> u;
    standardise(model, particles, x, u);
    bool inside = true;
#pragma unroll
    for (int j = 0; j < 3; ++j) inside = inside && kernels::has_density(u.at[0][j], PERIODIC);
    double log_density[own<double>] = {model.log_uniform};
    flow<double, PERIODIC, true>(model, u, log_density);
    log_q[particle<double>(0)] = inside && log_density[0] - log_density[0] == 0 ? log_density[0] : -infinity;
}

template <class T> unsigned blocks(size_t particles) {
    return gpu::blocks_for(particles, block_threads * own<T>);
}

} // namespace

void wave_functions(DeviceStream stream, const WaveFunctions& functions) {
    const int all = tiles(functions.batch);
    if (all == 0) return;
    gpu::launch(functions_kernel,
                dim3(static_cast<unsigned>(all), static_cast<unsigned>(functions.dimension)), kMomentTile, 0,
                stream, functions);
}

void wave_matrices(DeviceStream stream, const WaveSystems& systems, size_t times, double* a) {
    if (times == 0) return;
    const unsigned tiles_along = gpu::blocks_for(static_cast<size_t>(systems.size), edge);
    const auto kernel = systems.dimension == 1   ? matrix_kernel<1>
                        : systems.dimension == 2 ? matrix_kernel<2>
                                                 : matrix_kernel<3>;
    gpu::launch(kernel, dim3(tiles_along, tiles_along, static_cast<unsigned>(times)), edge * edge, 0, stream,
                systems, a);
}

void wave_scores(DeviceStream stream, const WaveModel<double>& model, size_t particles, const double* x,
                 double* out) {
    if (particles == 0) return;
    gpu::launch(model.periodic ? score_kernel<true> : score_kernel<false>, blocks<double>(particles),
                block_threads, 0, stream, model, particles, x, out);
}

void wave_diffuse(DeviceStream stream, const WaveModel<float>& model, const WaveRandom& random,
                  size_t particles, float* x) {
    if (particles == 0) return;
    gpu::launch(model.periodic ? diffuse_kernel<true> : diffuse_kernel<false>, blocks<float>(particles),
                block_threads, 0, stream, model, random, particles, x);
}

void wave_flow(DeviceStream stream, const WaveModel<float>& model, const WaveRandom& random, size_t particles,
               float* x, double* log_q) {
    if (particles == 0) return;
    gpu::launch(model.periodic ? flow_kernel<true> : flow_kernel<false>, blocks<float>(particles),
                block_threads, 0, stream, model, random, particles, x, log_q);
}

void wave_log_density(DeviceStream stream, const WaveModel<double>& model, size_t particles, const double* x,
                      double* log_q) {
    if (particles == 0) return;
    gpu::launch(model.periodic ? density_kernel<true> : density_kernel<false>, blocks<double>(particles),
                block_threads, 0, stream, model, particles, x, log_q);
}

} // namespace dynkin::cuda

// score_cuda.cu - the kernels of score_cuda.h: a block has one site and some particles of a chunk.
#include "circle.h"
#include "cuda_libraries.h"
#include "gpu.h"
#include "score_cuda.h"
#include "step.h"
#include <cmath>

namespace dynkin::cuda {
namespace {

using kernels::kPieceDegree;
using kernels::kPieces;
using std::size_t;

constexpr unsigned block_threads = 128;
constexpr int per_thread = particles_a_thread;
constexpr int tile_rows = 64; // rows of coefficients in shared memory at a time

/// One particle's value and slope of a function at a time; `next(n, phi, slope)` takes them in order.
template <class T, class Next> __device__ __forceinline__ void
hermite_functions(const ScoreFunctions<T>& f, int count, T z, const Next& next) {
    T before = 1, now = z;
    for (int n = 1; n <= count; ++n) {
        const T slope = f.root[n] * before;
        next(n - 1, now, slope);
        const T after = std::fma(z, now, -slope) * f.inverse_root[n + 1];
        before = now, now = after;
    }
}

template <class T, class Next> __device__ __forceinline__ void
fitted_functions(const ScoreFunctions<T>& f, int count, T z, const Next& next) {
    constexpr int pieces = kPieces<T>, degree = kPieceDegree<T>;
    const T scale = static_cast<T>(pieces) / (f.hi - f.lo);
    if (kernels::on_circle(f)) z = kernels::folded(z, true);
    const T clipped = z < f.lo ? f.lo : (z > f.hi ? f.hi : z), u = (clipped - f.lo) * scale;
    const T last = static_cast<T>(pieces) - static_cast<T>(0.5);
    const int piece = static_cast<int>(u > T{0} ? (u < last ? u : last) : T{0}); // 0 for NaN
    const T t = 2 * (u - static_cast<T>(piece)) - 1;
    const T* c = f.coefficients + piece;
#pragma unroll 2
    for (int n = 0; n < count; ++n, c += (degree + 1) * pieces) {
        T p = c[degree * pieces], slope = 0;
#pragma unroll
        for (int k = degree - 1; k >= 0; --k) {
            slope = std::fma(slope, t, p);
            p = std::fma(p, t, c[k * pieces]);
        }
        next(n, p, slope * (2 * scale));
    }
}

template <class T, bool LAPLACIAN> __global__ void __launch_bounds__(block_threads)
    functions_kernel(ScoreShape<T> shape, ScoreTime<T> time, ScoreValues<T> values, const T* x, size_t rows) {
    const size_t p = static_cast<size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (p >= rows) return;
    const int site = static_cast<int>(blockIdx.y);
    const size_t at = static_cast<size_t>(site) * shape.chunk + p;
    const size_t stride = static_cast<size_t>(shape.sites) * shape.chunk; // from one function to the next
    const ScoreFunctions<T>& f = shape.families[shape.family_of[site]];
    const T* c = time.single + site * shape.degree;
    T single = 0, decay = 0;
    const auto next = [&](int n, T phi, T slope) {
        single = std::fma(c[n], slope, single);
        if (LAPLACIAN) decay = std::fma(f.lambda[n] * c[n], phi, decay);
        if (n >= shape.coupled) return;
        values.phi[static_cast<size_t>(n) * stride + at] = phi;
        values.slope[static_cast<size_t>(n) * stride + at] = slope;
    };
    if (f.hermite)
        hermite_functions(f, shape.degree, x[at], next);
    else
        fitted_functions(f, shape.degree, x[at], next);
    values.single[at] = single;
    if (LAPLACIAN) values.single_decay[at] = decay;
}

/// A thread has `groups` times four particles, so that a row of coefficients serves at least eight
/// multiply-adds.
template <int W> constexpr int groups = W == 1 ? 2 : 1;
constexpr int next_group = static_cast<int>(block_threads) * per_thread; ///< from one group to the next

/// Numbers of the particles of one thread.
template <class T, int G> struct Own {
    struct alignas(16) Four {
        T v[per_thread];
    };
    Four group[G];

    __device__ __forceinline__ static Own load(const T* from) {
        Own own;
#pragma unroll
        for (int k = 0; k < G; ++k) own.group[k] = *reinterpret_cast<const Four*>(from + k * next_group);
        return own;
    }
    __device__ __forceinline__ void store(T* to) const {
#pragma unroll
        for (int k = 0; k < G; ++k) *reinterpret_cast<Four*>(to + k * next_group) = group[k];
    }
    __device__ __forceinline__ T& operator[](int v) { return group[v / per_thread].v[v % per_thread]; }
    __device__ __forceinline__ const T& operator[](int v) const {
        return group[v / per_thread].v[v % per_thread];
    }
    static constexpr int size = G * per_thread;
};

template <class T, int W> struct RowTile { ScoreRow<T, W> row[tile_rows]; };

/// rows [first, first + count) of the site, copied by all threads of the block, 16 bytes at a time.
template <class T, int W>
__device__ __forceinline__ void stage(const ScoreRow<T, W>* from, int count, RowTile<T, W>& tile) {
    struct alignas(16) Word {
        std::uint32_t v[4];
    };
    const int words = count * static_cast<int>(sizeof(ScoreRow<T, W>) / sizeof(Word));
#pragma unroll 1
    for (int k = static_cast<int>(threadIdx.x); k < words; k += static_cast<int>(block_threads))
        reinterpret_cast<Word*>(tile.row)[k] = reinterpret_cast<const Word*>(from)[k];
}

/// factor[w][v] += sum over rows of c_w f: the hot loop; at least eight multiply-adds a row.
template <class T, int W, int G> __device__ __forceinline__ void
add_rows(const RowTile<T, W>& tile, int count, const T* phi, Own<T, G> (&factor)[W]) {
#pragma unroll 4
    for (int r = 0; r < count; ++r) {
        const ScoreRow<T, W> row = tile.row[r];
        const auto f =
            Own<T, G>::load(reinterpret_cast<const T*>(reinterpret_cast<const char*>(phi) + row.offset));
#pragma unroll
        for (int w = 0; w < W; ++w)
#pragma unroll
            for (int v = 0; v < f.size; ++v) factor[w][v] = std::fma(row.c[w], f[v], factor[w][v]);
    }
}

/// v'(z) g - decay within the box, 0 outside it; a circle has no outside.
template <class T>
__device__ __forceinline__ T laplacian_part(const ScoreFunctions<T>& f, T z, T g, T decay) {
    T dv = f.potential_slope[kernels::kPotentialTerms - 1];
#pragma unroll
    for (int k = kernels::kPotentialTerms - 2; k >= 0; --k) dv = std::fma(dv, z, f.potential_slope[k]);
    const T part = dv * g - decay;
    return !f.hermite && !kernels::on_circle(f) && (z < f.lo || z > f.hi) ? T{0} : part;
}

template <class T, int G> __device__ __forceinline__ void
apply(const ScoreUpdate<T>& update, size_t at, size_t particle, int site, const Own<T, G>& g) {
    if (update.use == ScoreUse::store || update.use == ScoreUse::predict) g.store(update.gradient + at);
    if (update.use == ScoreUse::store) return;
    auto z = Own<T, G>::load(update.z + at);
    const T step = update.step, half = static_cast<T>(0.5) * step;
    if (update.use == ScoreUse::correct) {
        const auto before = Own<T, G>::load(update.gradient + at);
#pragma unroll
        for (int v = 0; v < z.size; ++v) z[v] += half * (before[v] + g[v]);
    } else
#pragma unroll
        for (int v = 0; v < z.size; ++v) z[v] += step * g[v];
    if (update.use == ScoreUse::project)
#pragma unroll
        for (int v = 0; v < z.size; ++v) {
            const size_t n = particle + static_cast<size_t>(v / per_thread * next_group + v % per_thread);
            const T inside = kernels::kept_within(z[v], update.lo[site], update.hi[site]);
            if (kernels::ran_away(z[v], inside, update.box) && n < update.used) update.projected[n] = 1;
            z[v] = inside;
        }
    z.store((update.use == ScoreUse::predict ? update.trial : update.z) + at);
}

/// g += sum_w phi'_{a0 + 1 + w} factor_w, and the same with lambda phi.
template <class T, int W, int G, bool LAPLACIAN> __device__ __forceinline__ void
multiply_factors(const ScoreShape<T>& shape, const ScoreValues<T>& values, const ScoreFunctions<T>& f, int a0,
                 size_t at, const Own<T, G> (&factor)[W], Own<T, G>& g, Own<T, G>& decay) {
    const size_t stride = static_cast<size_t>(shape.sites) * shape.chunk;
#pragma unroll
    for (int w = 0; w < W; ++w) {
        const int a = a0 + w;
        if (a >= shape.coupled) return;
        const auto slope = Own<T, G>::load(values.slope + static_cast<size_t>(a) * stride + at);
#pragma unroll
        for (int v = 0; v < g.size; ++v) g[v] = std::fma(slope[v], factor[w][v], g[v]);
        if (!LAPLACIAN) continue;
        const auto phi = Own<T, G>::load(values.phi + static_cast<size_t>(a) * stride + at);
#pragma unroll
        for (int v = 0; v < g.size; ++v) decay[v] = std::fma(f.lambda[a] * phi[v], factor[w][v], decay[v]);
    }
}

/// The factors of one site's slopes, W at a time, and what follows from them. The last particles of a block
/// may lie beyond `particles`, but not beyond the chunk.
template <class T, int W, bool LAPLACIAN> __global__ void __launch_bounds__(block_threads, 4)
    sites_kernel(ScoreShape<T> shape, const ScoreRow<T, W>* rows, ScoreValues<T> values, const T* x,
                 size_t particles, ScoreUpdate<T> update) {
    using Numbers = Own<T, groups<W>>;
    RowTile<T, W>& tile = gpu::shared<RowTile<T, W>>();
    const size_t first_particle = static_cast<size_t>(blockIdx.x) * block_threads * Numbers::size +
                                  threadIdx.x * static_cast<unsigned>(per_thread);
    const bool inside = first_particle < particles;
    const size_t particle = inside ? first_particle : 0; // the others help to copy coefficients
    const int site = static_cast<int>(blockIdx.y);
    const size_t at = static_cast<size_t>(site) * shape.chunk + particle;
    const int first = shape.first_row[site], last = shape.first_row[site + 1],
              all = shape.first_row[shape.sites];
    const ScoreFunctions<T>& f = shape.families[shape.family_of[site]];
    Numbers g = Numbers::load(values.single + at), decay{};
    if (LAPLACIAN) decay = Numbers::load(values.single_decay + at);
    for (int a0 = 0; a0 < shape.coupled; a0 += W, rows += all) {
        Numbers factor[W]{};
#pragma unroll
        for (int w = 0; w < W; ++w) {
            const int dense = a0 + w < shape.coupled ? shape.dense_of[a0 + w] : -1;
            if (dense >= 0)
                factor[w] =
                    Numbers::load(values.dense + static_cast<size_t>(dense * shape.sites) * shape.chunk + at);
        }
        for (int begin = first; begin < last; begin += tile_rows) {
            const int count = min(tile_rows, last - begin);
            __syncthreads();
            stage(rows + begin, count, tile);
            __syncthreads();
            add_rows(tile, count, values.phi + particle, factor);
        }
        multiply_factors<T, W, groups<W>, LAPLACIAN>(shape, values, f, a0, at, factor, g, decay);
    }
    if (!inside) return;
    if (LAPLACIAN) {
        const auto z = Numbers::load(x + at);
        Numbers part;
#pragma unroll
        for (int v = 0; v < z.size; ++v) part[v] = laplacian_part(f, z[v], g[v], decay[v]);
        part.store(update.laplacian + at);
    }
    apply(update, at, particle, site, g);
}

template <class T, int W> void launch_sites(DeviceStream stream, const ScoreShape<T>& shape,
                                            const ScoreTime<T>& time, const ScoreValues<T>& values,
                                            const T* x, size_t rows, const ScoreUpdate<T>& update) {
    const dim3 blocks(gpu::blocks_for(rows, block_threads * per_thread * groups<W>),
                      static_cast<unsigned>(shape.sites));
    const auto kernel = update.laplacian ? sites_kernel<T, W, true> : sites_kernel<T, W, false>;
    gpu::launch(kernel, blocks, block_threads, 0, stream, shape,
                static_cast<const ScoreRow<T, W>*>(time.rows), values, x, rows, update);
}

} // namespace

template <class T> void score_functions(DeviceStream stream, const ScoreShape<T>& shape,
                                        const ScoreTime<T>& time, const ScoreValues<T>& values, const T* x,
                                        size_t rows, bool with_laplacian) {
    if (rows == 0) return;
    const dim3 blocks(gpu::blocks_for(rows, block_threads), static_cast<unsigned>(shape.sites));
    const auto kernel = with_laplacian ? functions_kernel<T, true> : functions_kernel<T, false>;
    gpu::launch(kernel, blocks, block_threads, 0, stream, shape, time, values, x, rows);
}

template <class T> void score_sites(DeviceStream stream, const ScoreShape<T>& shape, const ScoreTime<T>& time,
                                    const ScoreValues<T>& values, const T* x, size_t rows,
                                    const ScoreUpdate<T>& update) {
    if (rows == 0) return;
    const auto sites = shape.width == 4   ? launch_sites<T, 4>
                       : shape.width == 3 ? launch_sites<T, 3>
                       : shape.width == 2 ? launch_sites<T, 2>
                                          : launch_sites<T, 1>;
    sites(stream, shape, time, values, x, rows, update);
}

template <class T> void dense_product(DeviceLibraries& libraries, int sites, size_t chunk, const T* matrix,
                                      const T* phi, bool add, T* out) {
    // Column-major, out is (chunk x sites) = phi (chunk x sites) times the transpose of the matrix's rows.
    const T one = 1, before = add ? T{1} : T{0};
    const int particles = static_cast<int>(chunk);
    if constexpr (sizeof(T) == 8)
        DYNKIN_CUDA_CHECK(libraries.blas.dgemm(libraries.blas_handle, CUBLAS_OP_N, CUBLAS_OP_N, particles,
                                               sites, sites, &one, phi, particles, matrix, sites, &before,
                                               out, particles));
    else
        DYNKIN_CUDA_CHECK(libraries.blas.sgemm(libraries.blas_handle, CUBLAS_OP_N, CUBLAS_OP_N, particles,
                                               sites, sites, &one, phi, particles, matrix, sites, &before,
                                               out, particles));
}

#define DYNKIN_INSTANTIATE(T)                                                                                \
    template void score_functions(DeviceStream, const ScoreShape<T>&, const ScoreTime<T>&,                   \
                                  const ScoreValues<T>&, const T*, size_t, bool);                            \
    template void score_sites(DeviceStream, const ScoreShape<T>&, const ScoreTime<T>&,                       \
                              const ScoreValues<T>&, const T*, size_t, const ScoreUpdate<T>&);               \
    template void dense_product(DeviceLibraries&, int, size_t, const T*, const T*, bool, T*);
DYNKIN_INSTANTIATE(float)
DYNKIN_INSTANTIATE(double)
#undef DYNKIN_INSTANTIATE

} // namespace dynkin::cuda

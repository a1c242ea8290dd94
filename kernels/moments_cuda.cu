// moments_cuda.cu - the kernels of moments_cuda.h: eigenfunctions into tiles, and sums of their products.
#include "gpu.h"
#include "moments_cuda.h"

namespace dynkin::cuda {
namespace {

// ---- eigenfunctions: a block takes 32 samples of one site, and turns them through shared memory so that
// both the coefficients (along n) and the table (along samples) are touched in order.

constexpr int warp = 32, evaluation_threads = 256, evaluation_warps = evaluation_threads / warp;

template <class T> struct EvaluatedSamples { T value[most_functions][warp + 1]; };

template <class T> __device__ void evaluate_hermite(const DeviceFunctions<T>& family, T z, bool used,
                                                    int lane, EvaluatedSamples<T>& out) {
    T before = 1, now = z;
    for (int n = 1; n < family.functions; ++n) {
        out.value[n][lane] = used ? now : T{0};
        const T next =
            kernels::hermite_next(z, now, before, family.coefficients[2 * n], family.coefficients[2 * n + 1]);
        before = now, now = next;
    }
}

/// One lane a function: they share a piece of the table.
template <class T> __device__ void evaluate_table(const DeviceFunctions<T>& family, T z, bool used,
                                                  int sample, int lane, EvaluatedSamples<T>& out) {
    const auto [piece, t] = kernels::table_place(z, family.lo, family.scale, family.pieces);
    const T* c = family.coefficients + static_cast<std::size_t>(piece) *
                                           static_cast<std::size_t>((family.degree + 1) * family.stride);
    for (int n = lane; n < family.functions; n += warp) {
        T sum = c[family.degree * family.stride + n];
        for (int power = family.degree - 1; power >= 0; --power)
            sum = fma(sum, t, c[power * family.stride + n]);
        out.value[n][sample] = used ? sum : T{0};
    }
}

template <class T> __global__ void __launch_bounds__(evaluation_threads)
    evaluate_kernel(MomentEvaluation<T> e) {
    constexpr int parts = kMomentTile / warp;
    const int tile = static_cast<int>(blockIdx.x) / parts,
              first = static_cast<int>(blockIdx.x) % parts * warp;
    const int site = static_cast<int>(blockIdx.y), count = tile_samples(e.batch, tile);
    if (first >= count) return;
    auto& samples = gpu::shared<EvaluatedSamples<T>>();
    const DeviceFunctions<T> family = e.families[e.family_of[site]];
    const int lane = static_cast<int>(threadIdx.x) % warp, group = static_cast<int>(threadIdx.x) / warp;
    const auto coordinate = [&](int sample) {
        const std::size_t row = tile_row(tile, min(first + sample, count - 1));
        return static_cast<T>(e.z[row * static_cast<std::size_t>(e.sites) + static_cast<std::size_t>(site)]);
    };
    if (family.hermite) {
        if (group == 0) evaluate_hermite(family, coordinate(lane), first + lane < count, lane, samples);
    } else
        for (int sample = group; sample < warp; sample += evaluation_warps)
            evaluate_table(family, coordinate(sample), first + sample < count, sample, lane, samples);
    __syncthreads();
    T* out = e.table + static_cast<std::size_t>(tile) * static_cast<std::size_t>(e.functions) * kMomentTile +
             first + lane;
    for (int n = 1 + group; n < family.functions; n += evaluation_warps)
        out[(site * e.top + n) * kMomentTile] = samples.value[n][lane];
    if (site == 0 && group == 0) out[0] = first + lane < count ? T{1} : T{0};
}

// ---- sums of products: a block is one warp and owns 2 048 sums, 8 x 8 a thread, over one segment (the
// training or the held-out tiles of a slab). Products are formed on the way into shared memory, 16 samples at
// a time, and operands come back as 16-byte vectors: 8 loads for 64 multiply-adds in float64, 4 in float32.

constexpr int depth = 16, edge = 8; ///< samples a stage; sums a thread along each side

/// 16 bytes of T.
template <class T> struct alignas(16) Pack {
    static constexpr int size = 16 / sizeof(T);
    T v[size];
};

/// Rows are products of two functions, columns the third. The row of `depth` is padded by a vector, so that
/// the samples of a quarter of a warp lie in different banks.
template <class T, int COLUMNS> struct Stage {
    static constexpr int rows = block_sums / COLUMNS, columns = COLUMNS;
    static constexpr int vector = Pack<T>::size;
    static constexpr int lanes_across = columns / edge, lanes_down = warp / lanes_across;
    alignas(16) T product[depth][rows + vector];
    alignas(16) T factor[depth][columns + vector];
    int first[rows], second[rows], third[columns]; ///< where the functions start in a tile of the table
    /// float32: the float64 sums of each thread; registers hold those of the tile at hand.
    double total[sizeof(T) == sizeof(double) ? 1 : edge * edge][warp];
};

template <class T> __device__ const Pack<T>& pack_at(const T* p) {
    return *reinterpret_cast<const Pack<T>*>(p);
}

__device__ float multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ double multiply_add(double a, double b, double c) { return __fma_rn(a, b, c); }

/// The functions of the block's item; those beyond its end are the constant's, and their sums are dropped.
template <class T, int COLUMNS> __device__ void load_item(Stage<T, COLUMNS>& stage, const MomentItem& item,
                                                          const MomentLists& lists, int lane) {
    for (int m = lane; m < stage.rows; m += warp) {
        const MomentProduct p = m < item.products ? lists.products[item.product + m] : MomentProduct{0, 0};
        stage.first[m] = p.first * kMomentTile, stage.second[m] = p.second * kMomentTile;
    }
    for (int n = lane; n < stage.columns; n += warp)
        stage.third[n] = n < item.factors ? lists.factors[item.factor + n] * kMomentTile : 0;
}

/// Samples 0 .. 15 of `functions` into the stage: half a warp along samples, a vector of rows each.
template <class T, int COLUMNS> __device__ void fill(Stage<T, COLUMNS>& stage, const T* functions, int lane) {
    constexpr int vector = Pack<T>::size, halves = warp / depth;
    const int k = lane % depth, half = lane / depth;
    const T* f = functions + k;
#pragma unroll 8 / vector
    for (int m = half * vector; m < stage.rows; m += halves * vector) {
        Pack<T> p;
        for (int v = 0; v < vector; ++v) p.v[v] = f[stage.first[m + v]] * f[stage.second[m + v]];
        *reinterpret_cast<Pack<T>*>(&stage.product[k][m]) = p;
    }
#pragma unroll 8 / vector
    for (int n = half * vector; n < stage.columns; n += halves * vector) {
        Pack<T> p;
        for (int v = 0; v < vector; ++v) p.v[v] = f[stage.third[n + v]];
        *reinterpret_cast<Pack<T>*>(&stage.factor[k][n]) = p;
    }
}

/// sum[i][j] += product of the stage's 16 samples. Vectors of neighbouring threads are neighbours.
template <class T, int COLUMNS> __device__ __forceinline__ void
multiply(const Stage<T, COLUMNS>& stage, int down, int across, T (&sum)[edge][edge]) {
    constexpr int vector = Pack<T>::size, steps = edge / vector;
#pragma unroll 4
    for (int k = 0; k < depth; ++k) {
        Pack<T> a[steps], b[steps];
#pragma unroll
        for (int s = 0; s < steps; ++s) {
            a[s] = pack_at(&stage.product[k][vector * (down + s * stage.lanes_down)]);
            b[s] = pack_at(&stage.factor[k][vector * (across + s * stage.lanes_across)]);
        }
#pragma unroll
        for (int i = 0; i < edge; ++i)
#pragma unroll
            for (int j = 0; j < edge; ++j)
                sum[i][j] = multiply_add(a[i / vector].v[i % vector], b[j / vector].v[j % vector], sum[i][j]);
    }
}

/// Adds the samples of one tile to the thread's sums.
template <class T, int COLUMNS> __device__ __forceinline__ void
add_tile(Stage<T, COLUMNS>& stage, const T* functions, int count, int lane, double (&sum)[edge][edge]) {
    const int down = lane / stage.lanes_across, across = lane % stage.lanes_across;
    const auto run = [&](T(&tile_sum)[edge][edge]) {
        for (int s = 0; s < count; s += depth) {
            __syncthreads();
            fill(stage, functions + s, lane);
            __syncthreads();
            multiply(stage, down, across, tile_sum);
        }
    };
    if constexpr (sizeof(T) == sizeof(double))
        run(sum);
    else {
        T tile_sum[edge][edge] = {};
        run(tile_sum);
#pragma unroll
        for (int i = 0; i < edge; ++i) {
#pragma unroll
            for (int j = 0; j < edge; ++j)
                stage.total[edge * i + j][lane] += static_cast<double>(tile_sum[i][j]);
            __syncwarp(); // eight at a time: otherwise the compiler has all 64 in registers
        }
    }
}

template <class T, int COLUMNS> __device__ double
sum_of(const Stage<T, COLUMNS>& stage, const double (&sum)[edge][edge], int lane, int i, int j) {
    if constexpr (sizeof(T) < sizeof(double))
        return stage.total[edge * i + j][lane];
    else
        return sum[i][j];
}

/// Writes the thread's sums where they belong, or adds them to what stands there.
template <class T, int COLUMNS> __device__ void finish(const Stage<T, COLUMNS>& stage, const MomentItem& item,
                                                       const MomentLists& lists, int lane, bool add,
                                                       const double (&sum)[edge][edge], double* out) {
    using Shape = Stage<T, COLUMNS>;
    constexpr int vector = Shape::vector;
    const int down = lane / Shape::lanes_across, across = lane % Shape::lanes_across;
#pragma unroll
    for (int i = 0; i < edge; ++i) {
        const int m = vector * (down + i / vector * Shape::lanes_down) + i % vector;
        if (m >= item.products) continue;
        double* row = out + lists.product_place[item.product + m];
#pragma unroll
        for (int j = 0; j < edge; ++j) {
            const int n = vector * (across + j / vector * Shape::lanes_across) + j % vector;
            if (n >= item.factors) continue;
            double& place = row[lists.factor_place[item.factor + n]];
            const double value = sum_of(stage, sum, lane, i, j);
            place = add ? place + value : value;
        }
    }
}

/// blockIdx.x: the item; blockIdx.y: the segment (training or held-out tiles of slab y / 2), or, without
/// partial sums, training or held-out tiles of all slabs in turn.
template <class T, int COLUMNS> __global__ void __launch_bounds__(warp)
    accumulate_kernel(const MomentItem* items, MomentLists lists, const T* table, int functions,
                      MomentBatch batch, MomentResult result) {
    auto& stage = gpu::shared<Stage<T, COLUMNS>>();
    const int lane = static_cast<int>(threadIdx.x), y = static_cast<int>(blockIdx.y);
    const MomentItem item = items[blockIdx.x];
    load_item(stage, item, lists, lane);
    const bool held_out = y % 2, split = result.partial != nullptr;
    double* out = split      ? result.partial + static_cast<std::size_t>(y) * result.size
                  : held_out ? result.test
                             : result.train;
    const int last_slab = split ? y / 2 + 1 : slabs(batch);
    for (int slab = split ? y / 2 : 0; slab < last_slab; ++slab) {
        double sum[edge][edge] = {}; // float64 only
        if constexpr (sizeof(T) < sizeof(double))
            for (auto& total : stage.total) total[lane] = 0;
        const int first = max(slab * slab_units - batch.first_unit, 0);
        const int last = min((slab + 1) * slab_units - batch.first_unit, units(batch));
        for (int tile = 5 * first + (held_out ? 4 : 0); tile < 5 * last; ++tile) {
            if (is_held_out(tile) != held_out) continue;
            add_tile(stage,
                     table +
                         static_cast<std::size_t>(tile) * static_cast<std::size_t>(functions) * kMomentTile,
                     tile_samples(batch, tile), lane, sum);
        }
        finish(stage, item, lists, lane, !split, sum, out);
    }
}

constexpr unsigned add_threads = 256;

__global__ void __launch_bounds__(add_threads) add_kernel(int slab_count, MomentResult result) {
    const std::size_t k = static_cast<std::size_t>(blockIdx.x) * add_threads + threadIdx.x;
    if (k >= result.size) return;
    double* total = blockIdx.y ? result.test : result.train;
    double sum = total[k];
    for (int slab = 0; slab < slab_count; ++slab)
        sum += result.partial[(2 * static_cast<std::size_t>(slab) + blockIdx.y) * result.size + k];
    total[k] = sum;
}

} // namespace

template <class T> void evaluate_functions(DeviceStream stream, const MomentEvaluation<T>& evaluation) {
    const auto blocks = static_cast<unsigned>(tiles(evaluation.batch) * (kMomentTile / warp));
    if (blocks == 0) return;
    gpu::launch(evaluate_kernel<T>, dim3(blocks, static_cast<unsigned>(evaluation.sites)), evaluation_threads,
                0, stream, evaluation);
}
template void evaluate_functions(DeviceStream, const MomentEvaluation<float>&);
template void evaluate_functions(DeviceStream, const MomentEvaluation<double>&);

template <class T> void accumulate_products(DeviceStream stream, int columns, const MomentItem* items,
                                            std::size_t item_count, const MomentLists& lists, const T* table,
                                            int functions, const MomentBatch& batch,
                                            const MomentResult& result) {
    if (item_count == 0 || batch.rows == 0) return;
    const dim3 grid(static_cast<unsigned>(item_count),
                    static_cast<unsigned>(result.partial ? 2 * slabs(batch) : 2));
    const auto kernel = columns == 16 ? accumulate_kernel<T, 16> : accumulate_kernel<T, 32>;
    gpu::launch(kernel, grid, warp, 0, stream, items, lists, table, functions, batch, result);
}
template void accumulate_products(DeviceStream, int, const MomentItem*, std::size_t, const MomentLists&,
                                  const float*, int, const MomentBatch&, const MomentResult&);
template void accumulate_products(DeviceStream, int, const MomentItem*, std::size_t, const MomentLists&,
                                  const double*, int, const MomentBatch&, const MomentResult&);

void add_partial(DeviceStream stream, const MomentBatch& batch, const MomentResult& result) {
    if (result.size == 0) return;
    gpu::launch(add_kernel, dim3(gpu::blocks_for(result.size, add_threads), 2), add_threads, 0, stream,
                slabs(batch), result);
}

} // namespace dynkin::cuda

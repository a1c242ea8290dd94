// prior_table_cuda.cu - the device's loop of prior_table.h: a thread has two columns, whose coefficients stay
// in registers for a run of rows of one node. Its twin is prior_table_simd.cpp.
#include "gpu.h"
#include "prior_cuda.h"
#include <algorithm>

namespace dynkin::cuda {
namespace {

using kernels::kPriorBlock, kernels::PriorTableRow, kernels::PriorTableView, std::size_t;

constexpr unsigned most_threads = 128;
constexpr size_t fewest_rows = 8, most_rows = 64, blocks_wanted = 2048; ///< rows of a block of threads
constexpr size_t most_runs = 65'535; ///< blocks of a launch along its second axis

/// Numbers of two columns.
struct Pair {
    float a, b;
};
__device__ __forceinline__ Pair operator*(float s, Pair v) { return {s * v.a, s * v.b}; }
__device__ __forceinline__ Pair operator+(Pair v, float s) { return {v.a + s, v.b + s}; }
__device__ __forceinline__ Pair operator-(Pair v, Pair w) { return {v.a - w.a, v.b - w.b}; }
__device__ __forceinline__ Pair operator/(Pair v, Pair w) { return {v.a / w.a, v.b / w.b}; }
__device__ __forceinline__ Pair multiply_add(Pair u, Pair v, Pair w) {
    return {kernels::multiply_add(u.a, v.a, w.a), kernels::multiply_add(u.b, v.b, w.b)};
}
__device__ __forceinline__ Pair multiply_add(float s, Pair v, Pair w) {
    return {kernels::multiply_add(s, v.a, w.a), kernels::multiply_add(s, v.b, w.b)};
}

/// w cut to [-1, 1]; NaN stays.
__device__ __forceinline__ float cut(float w) { return w < -1.0f ? -1.0f : w > 1.0f ? 1.0f : w; }

/// The score with what falls beyond the window.
__device__ __forceinline__ float with_tail(const PriorTableRow& row, float twice, float w, float v,
                                           float score) {
    return w == v ? score : kernels::multiply_add(-kernels::prior_tail(row, twice), w - v, score);
}

/// What a thread knows of its two columns, `apart` numbers from one to the other (0: it has one).
template <int K> struct Columns {
    Pair middle, twice, coefficients[4 * K];
    unsigned d;
    size_t apart;
};

/// R rows of one node, whose numbers are all asked for before the first is used.
template <int K, int R> __device__ __forceinline__ void
table_rows(const PriorTableRow* rows, const Columns<K>& c, const float* x, float* out) {
    constexpr int together = R < 2 ? R : 2;
    Pair w[R];
    size_t at[R];
    DYNKIN_UNROLL
    for (int q = 0; q < R; ++q) {
        at[q] = static_cast<size_t>(static_cast<unsigned>(rows[q].row)) * c.d;
        w[q] = {x[at[q]], x[at[q] + c.apart]};
    }
    DYNKIN_UNROLL
    for (int first = 0; first < R; first += together) {
        Pair v[together], score[together];
        DYNKIN_UNROLL
        for (int q = 0; q < together; ++q) {
            Pair& own = w[first + q];
            own = kernels::prior_window(rows[first + q], own, c.middle, c.twice);
            v[q] = {cut(own.a), cut(own.b)};
        }
        kernels::tabulated_scores<K, together>(
            rows + first, v, [&](int i, int k) { return c.coefficients[k * K + i]; }, score);
        DYNKIN_UNROLL
        for (int q = 0; q < together; ++q) {
            const PriorTableRow& row = rows[first + q];
            const Pair own = w[first + q];
            out[at[first + q]] = with_tail(row, c.twice.a, own.a, v[q].a, score[q].a);
            if (c.apart) out[at[first + q] + c.apart] = with_tail(row, c.twice.b, own.b, v[q].b, score[q].b);
        }
    }
}

/// blockIdx.x: columns from the block `first` of the table on, two blocks for 64 threads; blockIdx.y: `run`
/// rows.
template <int K> __global__ void __launch_bounds__(most_threads, gpu::blocks_asked)
    table_kernel(PriorTableView table, size_t first, size_t columns, const PriorTableRow* rows, size_t count,
                 size_t run, const float* x, float* out) {
    const size_t thread = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x,
                 block = thread / kPriorBlock * 2, place = block * kPriorBlock + thread % kPriorBlock,
                 column = first * kPriorBlock + place;
    if (place >= columns) return;
    const bool two = place + kPriorBlock < columns;
    const size_t block_size = table.nodes * K * kPriorBlock;
    const float* const values = table.values + block * block_size + thread % kPriorBlock;
    Columns<K> c;
    c.d = static_cast<unsigned>(table.columns), c.apart = two ? kPriorBlock : 0;
    c.middle = {table.middle[column], table.middle[column + c.apart]};
    c.twice = {table.twice[column], table.twice[column + c.apart]};
    x += column, out += column;
    const size_t last = blockIdx.y * run + run < count ? blockIdx.y * run + run : count;
    for (size_t n = blockIdx.y * run; n < last;) {
        const size_t node = rows[n].node;
        DYNKIN_UNROLL
        for (int e = 0; e < 4 * K; ++e) {
            const float* const from = values + (node * K + static_cast<size_t>(e)) * kPriorBlock;
            c.coefficients[e] = {from[0], from[two ? block_size : 0]};
        }
        size_t end = n + 1;
        while (end < last && rows[end].node == node) ++end;
        for (; n + 4 <= end; n += 4) table_rows<K, 4>(rows + n, c, x, out);
        for (; n < end; ++n) table_rows<K, 1>(rows + n, c, x, out);
    }
}

} // namespace

void tabulated_scores(DeviceStream stream, const PriorTableView& table, size_t first, size_t last,
                      const PriorTableRow* rows, size_t count, const float* x, float* out) {
    const size_t columns = std::min(last * kPriorBlock, table.columns) - first * kPriorBlock;
    if (count == 0 || columns == 0) return;
    const unsigned threads = columns <= 2 * kPriorBlock ? kPriorBlock : most_threads,
                   across = gpu::blocks_for(columns, 2 * threads);
    const size_t run = std::max(std::clamp(count * across / blocks_wanted, fewest_rows, most_rows),
                                (count + most_runs - 1) / most_runs);
    const dim3 blocks(across, gpu::blocks_for(count, static_cast<unsigned>(run)));
    kernels::with_prior_degree(table.degree, [&]<int K> {
        gpu::launch(table_kernel<K>, blocks, threads, 0, stream, table, first, columns, rows, count, run, x,
                    out);
    });
}

} // namespace dynkin::cuda

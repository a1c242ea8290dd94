// prior_table_cuda.cu - the device's loop of prior_table.h: a thread has a column, whose coefficients stay in
// registers for a run of rows of one node. Its twin is prior_table_simd.cpp.
#include "gpu.h"
#include "prior_cuda.h"
#include <algorithm>

namespace dynkin::cuda {
namespace {

using kernels::kPriorBlock, kernels::PriorTableRow, kernels::PriorTableView, std::size_t;

constexpr unsigned most_threads = 128;
constexpr size_t fewest_rows = 8, most_rows = 64, blocks_wanted = 2048; ///< rows of a block of threads

/// R rows of one node.
template <int K, int R>
__device__ __forceinline__ void table_rows(const PriorTableRow* rows, const float (&coefficients)[4 * K],
                                           float middle, float twice, size_t d, const float* x, float* out) {
    float w[R], v[R], score[R];
    DYNKIN_UNROLL
    for (int q = 0; q < R; ++q) w[q] = x[rows[q].row * d];
    DYNKIN_UNROLL
    for (int q = 0; q < R; ++q) {
        w[q] = kernels::prior_window(rows[q], w[q], middle, twice);
        v[q] = w[q] < -1.0f ? -1.0f : w[q] > 1.0f ? 1.0f : w[q]; // NaN stays
    }
    kernels::tabulated_scores<K, R>(
        rows, v, [&](int i, int k) { return coefficients[k * K + i]; }, score);
    DYNKIN_UNROLL
    for (int q = 0; q < R; ++q) {
        if (w[q] != v[q])
            score[q] = kernels::multiply_add(-kernels::prior_tail(rows[q], twice), w[q] - v[q], score[q]);
        out[rows[q].row * d] = score[q];
    }
}

/// blockIdx.x: columns from the block `first` of the table on, blockIdx.y: `run` rows.
template <int K> __global__ void __launch_bounds__(most_threads)
    table_kernel(PriorTableView table, size_t first, size_t columns, const PriorTableRow* rows, size_t count,
                 size_t run, const float* x, float* out) {
    const size_t place = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x,
                 column = first * kPriorBlock + place, d = table.columns;
    if (place >= columns) return;
    const float* const values =
        table.values + place / kPriorBlock * table.nodes * K * kPriorBlock + place % kPriorBlock;
    const float middle = table.middle[column], twice = table.twice[column];
    x += column, out += column;
    const size_t last = blockIdx.y * run + run < count ? blockIdx.y * run + run : count;
    for (size_t n = blockIdx.y * run; n < last;) {
        const size_t node = rows[n].node;
        float coefficients[4 * K];
        DYNKIN_UNROLL
        for (int e = 0; e < 4 * K; ++e)
            coefficients[e] = values[(node * K + static_cast<size_t>(e)) * kPriorBlock];
        size_t end = n + 1;
        while (end < last && rows[end].node == node) ++end;
        for (; n + 4 <= end; n += 4) table_rows<K, 4>(rows + n, coefficients, middle, twice, d, x, out);
        for (; n < end; ++n) table_rows<K, 1>(rows + n, coefficients, middle, twice, d, x, out);
    }
}

} // namespace

void tabulated_scores(DeviceStream stream, const PriorTableView& table, size_t first, size_t last,
                      const PriorTableRow* rows, size_t count, const float* x, float* out) {
    const size_t columns = std::min(last * kPriorBlock, table.columns) - first * kPriorBlock;
    if (count == 0 || columns == 0) return;
    const unsigned threads = columns < most_threads ? kPriorBlock : most_threads;
    const unsigned across = gpu::blocks_for(columns, threads);
    const size_t run = std::clamp(count * across / blocks_wanted, fewest_rows, most_rows);
    const dim3 blocks(across, gpu::blocks_for(count, static_cast<unsigned>(run)));
    const auto launch = [&](auto kernel) {
        gpu::launch(kernel, blocks, threads, 0, stream, table, first, columns, rows, count, run, x, out);
    };
    switch (table.degree) {
    case 2:
        return launch(table_kernel<2>);
    case 3:
        return launch(table_kernel<3>);
    case 4:
        return launch(table_kernel<4>);
    case 5:
        return launch(table_kernel<5>);
    case 6:
        return launch(table_kernel<6>);
    case 7:
        return launch(table_kernel<7>);
    case 8:
        return launch(table_kernel<8>);
    case 9:
        return launch(table_kernel<9>);
    case 10:
        return launch(table_kernel<10>);
    }
}

} // namespace dynkin::cuda

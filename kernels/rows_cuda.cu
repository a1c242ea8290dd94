// rows_cuda.cu - the kernels of rows_cuda.h.
#include "gpu.h"
#include "rows_cuda.h"
#include <cstddef>

namespace dynkin::cuda {
namespace {

constexpr unsigned block_threads = 128;
constexpr unsigned lanes = 32, warps = block_threads / lanes;
constexpr unsigned of_a_warp = 4; ///< directions of a warp at a time
constexpr unsigned tile = 16;     ///< columns p and q of a block of second moments
constexpr unsigned staged = 64;   ///< rows of these in shared memory at a time

__global__ void __launch_bounds__(block_threads)
    columns_kernel(std::size_t count, std::size_t d, const double* x, std::size_t first, std::size_t stride,
                   double* out) {
    const std::size_t n = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (n < count) out[blockIdx.y * stride + n] = x[n * d + first + blockIdx.y];
}

struct RowTile {
    double x[lanes][lanes + 1]; ///< [row][coordinate]; the odd length keeps rows in different banks
};

/// Block: 32 rows and 16 directions, four of a warp; lane: a row.
__global__ void __launch_bounds__(block_threads)
    project_kernel(std::size_t count, std::size_t d, const double* x, std::size_t directions, const double* v,
                   std::size_t stride, double* out) {
    auto& rows = gpu::shared<RowTile>();
    const unsigned lane = threadIdx.x % lanes, warp = threadIdx.x / lanes;
    const std::size_t first = static_cast<std::size_t>(blockIdx.x) * lanes,
                      from = (static_cast<std::size_t>(blockIdx.y) * warps + warp) * of_a_warp;
    double sum[of_a_warp] = {};
    for (std::size_t at = 0; at < d; at += lanes) {
        __syncthreads(); // the tile before has been read
        for (unsigned r = warp; r < lanes; r += warps)
            rows.x[r][lane] = first + r < count && at + lane < d ? x[(first + r) * d + at + lane] : 0;
        __syncthreads();
        const auto width = static_cast<unsigned>(d - at < lanes ? d - at : lanes);
        for (unsigned k = 0; k < of_a_warp; ++k) {
            if (from + k >= directions) break;
            const double* direction = v + (from + k) * d + at;
            for (unsigned i = 0; i < width; ++i) sum[k] += direction[i] * rows.x[lane][i];
        }
    }
    if (first + lane >= count) return;
    for (unsigned k = 0; k < of_a_warp; ++k)
        if (from + k < directions) out[(from + k) * stride + first + lane] = sum[k];
}

__global__ void __launch_bounds__(block_threads)
    row_mean_kernel(std::size_t count, std::size_t d, const double* x, double* mean) {
    const std::size_t n = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (n >= count) return;
    double sum = 0;
    for (std::size_t i = 0; i < d; ++i) sum += x[n * d + i];
    mean[n] = sum / static_cast<double>(d);
}

struct MomentTile {
    double mass[staged], left[staged][tile], right[staged][tile];
};

/// Block: 16 x 16 pairs of columns; thread: one pair, all rows in their order.
__global__ void __launch_bounds__(tile* tile, 2)
    moment_kernel(std::size_t count, std::size_t d, const double* x, const double* mass, double equal,
                  bool squares, double* moments) {
    if (blockIdx.x < blockIdx.y) return; // below the diagonal
    auto& rows = gpu::shared<MomentTile>();
    const unsigned column = threadIdx.x % tile, row = threadIdx.x / tile;
    const std::size_t p = static_cast<std::size_t>(blockIdx.y) * tile + row,
                      q = static_cast<std::size_t>(blockIdx.x) * tile + column;
    const std::size_t left = static_cast<std::size_t>(blockIdx.y) * tile + column;
    const bool wanted = p <= q && q < d;
    double total = wanted ? moments[p * d + q] : 0, run = 0;
    for (std::size_t first = 0; first < count; first += staged) {
        __syncthreads(); // the rows before have been read
        for (unsigned r = row; r < staged; r += tile) {
            const std::size_t n = first + r;
            const double m = n < count ? (mass ? mass[n] : equal) : 0;
            const bool there = n < count && m != 0;
            double a = there && left < d ? x[n * d + left] : 0, b = there && q < d ? x[n * d + q] : 0;
            if (squares) a *= a, b *= b;
            rows.left[r][column] = a, rows.right[r][column] = b;
            if (column == 0) rows.mass[r] = m;
        }
        __syncthreads();
        for (unsigned r = 0; r < staged; ++r)
            run += rows.mass[r] * rows.left[r][row] * rows.right[r][column]; // of no row: + 0
        if ((first + staged) % moment_run == 0 || first + staged >= count) total += run, run = 0;
    }
    if (wanted) moments[p * d + q] = total;
}
static_assert(moment_run % staged == 0);

} // namespace

void take_columns(DeviceStream stream, std::size_t count, std::size_t d, const double* x, std::size_t first,
                  std::size_t columns, std::size_t stride, double* out) {
    if (count == 0 || columns == 0) return;
    gpu::launch(columns_kernel, dim3(gpu::blocks_for(count, block_threads), static_cast<unsigned>(columns)),
                block_threads, 0, stream, count, d, x, first, stride, out);
}

void project(DeviceStream stream, std::size_t count, std::size_t d, const double* x, std::size_t directions,
             const double* v, std::size_t stride, double* out) {
    if (count == 0 || directions == 0) return;
    gpu::launch(project_kernel,
                dim3(gpu::blocks_for(count, lanes), gpu::blocks_for(directions, warps * of_a_warp)),
                block_threads, 0, stream, count, d, x, directions, v, stride, out);
}

void row_means(DeviceStream stream, std::size_t count, std::size_t d, const double* x, double* mean) {
    if (count == 0) return;
    gpu::launch(row_mean_kernel, gpu::blocks_for(count, block_threads), block_threads, 0, stream, count, d, x,
                mean);
}

void add_second_moments(DeviceStream stream, std::size_t count, std::size_t d, const double* x,
                        const double* mass, double equal, bool squares, double* moments) {
    if (count == 0) return;
    const unsigned tiles = gpu::blocks_for(d, tile);
    gpu::launch(moment_kernel, dim3(tiles, tiles), tile * tile, 0, stream, count, d, x, mass, equal, squares,
                moments);
}

} // namespace dynkin::cuda

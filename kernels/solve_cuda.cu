// solve_cuda.cu - the kernels of solve_cuda.h.
#include "gpu.h"
#include "solve_cuda.h"

namespace dynkin::cuda {
namespace {

constexpr unsigned block_threads = 128;

struct RowSums {
    double part[block_threads];
};

/// A block a row: blockIdx.x; blockIdx.y: the system.
__global__ void __launch_bounds__(block_threads)
    scale_kernel(const RidgeSystem* systems, std::size_t size, const double* a, const double* scale,
                 std::size_t stride, double* f, double* norms) {
    auto& sums = gpu::shared<RowSums>();
    const RidgeSystem system = systems[blockIdx.y];
    scale += static_cast<std::size_t>(system.number) * stride;
    const std::size_t row = blockIdx.x, first = (static_cast<std::size_t>(system.number) * size + row) * size;
    double sum = 0;
    for (std::size_t k = threadIdx.x; k < size; k += block_threads) {
        double value = a[first + k] * (scale[row] * scale[k]);
        if (k == row) value += system.ridge;
        f[first + k] = value;
        sum += fabs(value);
    }
    sums.part[threadIdx.x] = sum;
    for (unsigned half = block_threads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums.part[threadIdx.x] += sums.part[threadIdx.x + half];
    }
    if (threadIdx.x == 0) norms[static_cast<std::size_t>(system.number) * size + row] = sums.part[0];
}

/// blockIdx.x: the row; blockIdx.y: the system.
__global__ void __launch_bounds__(block_threads) means_kernel(GroupMeans means, double* a) {
    const std::size_t n = means.size, row = blockIdx.x;
    const int without = means.without[blockIdx.y];
    a += blockIdx.y * n * n;
    for (std::size_t column = threadIdx.x; column <= row; column += block_threads) {
        double sum = 0;
        for (int g = 0; g < means.groups; ++g)
            if (g != without) sum += means.gram[(static_cast<std::size_t>(g) * n + row) * n + column];
        a[row * n + column] = a[column * n + row] = sum / means.weight[blockIdx.y];
    }
}

/// blockIdx.y: the row.
__global__ void __launch_bounds__(block_threads) sum_kernel(MatrixSum sum) {
    const std::size_t column = gpu::thread_number(), row = blockIdx.y;
    if (column >= sum.size) return;
    const std::size_t at = row * sum.size + column;
    double value = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k)
        if (sum.terms[k].matrix) value += sum.terms[k].factor * sum.terms[k].matrix[at];
    sum.out[at] = row == column ? value + sum.diagonal : value;
}

} // namespace

void scaled_systems(DeviceStream stream, const RidgeSystem* systems, std::size_t count, std::size_t size,
                    const double* a, const double* scale, std::size_t stride, double* f, double* norms) {
    if (count == 0 || size == 0) return;
    gpu::launch(scale_kernel, dim3(static_cast<unsigned>(size), static_cast<unsigned>(count)), block_threads,
                0, stream, systems, size, a, scale, stride, f, norms);
}

void group_means(DeviceStream stream, const GroupMeans& means, std::size_t systems, double* a) {
    if (systems == 0 || means.size == 0) return;
    gpu::launch(means_kernel, dim3(static_cast<unsigned>(means.size), static_cast<unsigned>(systems)),
                block_threads, 0, stream, means, a);
}

void matrix_sum(DeviceStream stream, const MatrixSum& sum) {
    if (sum.size == 0) return;
    gpu::launch(sum_kernel, dim3(gpu::blocks_for(sum.size, block_threads), static_cast<unsigned>(sum.size)),
                block_threads, 0, stream, sum);
}

} // namespace dynkin::cuda

// solve_cuda.cu - the kernel of solve_cuda.h: one block a row.
#include "gpu.h"
#include "solve_cuda.h"

namespace dynkin::cuda {
namespace {

constexpr unsigned block_threads = 128;

struct RowSums {
    double part[block_threads];
};

/// blockIdx.x: the row; blockIdx.y: the system.
__global__ void __launch_bounds__(block_threads)
    scale_kernel(const RidgeSystem* systems, std::size_t size, const double* a, const double* scale,
                 double* f, double* norms) {
    auto& sums = gpu::shared<RowSums>();
    const RidgeSystem system = systems[blockIdx.y];
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

} // namespace

void scaled_systems(DeviceStream stream, const RidgeSystem* systems, std::size_t count, std::size_t size,
                    const double* a, const double* scale, double* f, double* norms) {
    if (count == 0 || size == 0) return;
    gpu::launch(scale_kernel, dim3(static_cast<unsigned>(size), static_cast<unsigned>(count)), block_threads,
                0, stream, systems, size, a, scale, f, norms);
}

} // namespace dynkin::cuda

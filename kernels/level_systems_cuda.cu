// level_systems_cuda.cu - the kernel of level_systems_cuda.h: a thread an entry.
#include "gpu.h"
#include "level_systems_cuda.h"

namespace dynkin::cuda {
namespace {

constexpr unsigned block_threads = 64;

/// blockIdx.y: the row, blockIdx.z: the node.
__global__ void __launch_bounds__(block_threads)
    matrix_kernel(LevelMatrices level, const double* decay, double* a) {
    const std::size_t row = blockIdx.y,
                      column = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (column > row) return;
    const LevelTerm left = level.terms[row], right = level.terms[column];
    const auto functions = static_cast<std::size_t>(level.functions),
               p = static_cast<std::size_t>(level.conditions);
    const double* gradient =
        level.gradient + static_cast<std::size_t>(left.degree * level.degrees + right.degree) * functions;
    const double* triple = level.triple + static_cast<std::size_t>(left.condition) * p +
                           static_cast<std::size_t>(right.condition);
    decay += blockIdx.z * functions;
    double sum = 0;
    for (std::size_t k = 0; k < functions; ++k) {
        const double g = gradient[k] * decay[k];
        if (g != 0) sum += g * triple[k * p * p];
    }
    a += blockIdx.z * level.size * level.size;
    a[row * level.size + column] = a[column * level.size + row] = sum;
}

} // namespace

void level_matrices(DeviceStream stream, const LevelMatrices& level, std::size_t nodes, const double* decay,
                    double* a) {
    if (nodes == 0 || level.size == 0) return;
    gpu::launch(matrix_kernel,
                dim3(gpu::blocks_for(level.size, block_threads), static_cast<unsigned>(level.size),
                     static_cast<unsigned>(nodes)),
                block_threads, 0, stream, level, decay, a);
}

} // namespace dynkin::cuda

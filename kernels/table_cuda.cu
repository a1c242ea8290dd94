// table_cuda.cu - the kernels of table_cuda.h: one thread a particle and target.
#include "elementary.h"
#include "table_device.h"

namespace dynkin::cuda {
namespace {

constexpr unsigned block_threads = 256;

__global__ void __launch_bounds__(block_threads)
    draw_kernel(TableView v, std::uint64_t seed, std::uint64_t first, ConditionalWork<float> w) {
    const std::size_t n = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (n >= w.particles()) return;
    const int target = w.target[blockIdx.y];
    float* const x = w.x + n / kScoreTile * static_cast<std::size_t>(w.columns) * kScoreTile + n % kScoreTile;
    const Given given =
        describe(v, x, kScoreTile, w.neighbours + blockIdx.y * static_cast<std::size_t>(w.slots));
    const float value =
        draw(v, given, philox(seed, Stream::table_draw, first + n, 0, static_cast<std::uint32_t>(target)));
    x[target * kScoreTile] = value;
    if (w.part) w.part[blockIdx.y * w.particles() + n] = static_cast<double>(density(v, given, value));
}

__global__ void __launch_bounds__(block_threads)
    log_products_kernel(int targets, std::size_t particles, const double* part, double* log_q) {
    const std::size_t n = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (n >= particles) return;
    double sum = log_q[n], product = 1;
    for (int k = 0; k < targets; ++k) {
        product *= part[static_cast<std::size_t>(k) * particles + n];
        if (k % kTableProduct == kTableProduct - 1 || k + 1 == targets)
            sum += portable_log(product), product = 1;
    }
    log_q[n] = sum;
}

} // namespace

void draw_from_table(DeviceStream stream, const TableView& table, std::uint64_t seed, std::uint64_t first,
                     const ConditionalWork<float>& work) {
    if (work.tiles == 0 || work.targets == 0) return;
    const dim3 grid(gpu::blocks_for(work.particles(), block_threads), static_cast<unsigned>(work.targets));
    gpu::launch(draw_kernel, grid, block_threads, 0, stream, table, seed, first, work);
}

void add_log_products(DeviceStream stream, int targets, std::size_t particles, const double* part,
                      double* log_q) {
    if (targets == 0 || particles == 0) return;
    gpu::launch(log_products_kernel, gpu::blocks_for(particles, block_threads), block_threads, 0, stream,
                targets, particles, part, log_q);
}

} // namespace dynkin::cuda

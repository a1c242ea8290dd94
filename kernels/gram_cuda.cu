// gram_cuda.cu - the kernel of gram_cuda.h: one thread an entry and node. Neighbouring entries are of
// neighbouring terms, whose moments mostly lie side by side.
#include "gpu.h"
#include "gram.h"
#include "gram_cuda.h"

namespace dynkin::cuda {
namespace {

constexpr unsigned block_threads = 128;

__device__ kernels::PairMoments pair_moments(const GramTables& tables, const GramPairMoments& at,
                                             const double* moments) {
    return {moments + at.base, at.stride_r, at.stride_s,
            at.position < 0 ? nullptr : tables.slots + at.position};
}

__device__ double part_sum(const GramTables& tables, const GramPart& part, const double* moments,
                           const double* decays) {
    const double* g = tables.gradients + part.gradient;
    if (part.pair >= 0) {
        const GramPair& pair = tables.pairs[part.pair];
        return kernels::pair_sum(g, decays + part.decay, tables.products + pair.product, decays + pair.decay,
                                 tables.degrees, tables.even, pair_moments(tables, pair.all, moments),
                                 pair_moments(tables, pair.odd, moments));
    }
    const double sum = kernels::triple_sum(g, decays + part.decay, tables.degrees,
                                           {moments + part.base, part.stride, tables.slots + part.slots});
    return sum * (decays[part.left] * decays[part.right]);
}

/// blockIdx.y: the node.
__global__ void __launch_bounds__(block_threads)
    gram_kernel(GramTables tables, const double* moments, const double* decays, std::size_t decay_count,
                std::size_t size, double* a) {
    const std::size_t k = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (k >= tables.entry_count) return;
    const GramEntry entry = tables.entries[k];
    decays += blockIdx.y * decay_count, a += blockIdx.y * size * size;
    double sum = 0;
    for (int part = 0; part < entry.count; ++part)
        sum += part_sum(tables, tables.parts[entry.first + part], moments, decays);
    const auto row = static_cast<std::size_t>(entry.row), col = static_cast<std::size_t>(entry.col);
    a[row * size + col] = a[col * size + row] = sum;
}

} // namespace

void gram_matrices(DeviceStream stream, const GramTables& tables, const double* moments, const double* decays,
                   std::size_t decay_count, std::size_t nodes, std::size_t size, double* a) {
    if (nodes == 0 || tables.entry_count == 0) return;
    const dim3 grid(gpu::blocks_for(tables.entry_count, block_threads), static_cast<unsigned>(nodes));
    gpu::launch(gram_kernel, grid, block_threads, 0, stream, tables, moments, decays, decay_count, size, a);
}

} // namespace dynkin::cuda

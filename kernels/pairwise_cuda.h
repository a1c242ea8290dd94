// pairwise_cuda.h - pairwise sums on the device, with the bits of pairwise_sum(); for .cu files, after gpu.h.
#pragma once
#include "device.h"
#include "gpu.h"
#include "pairwise.h"
#include "pairwise_device.h"
#include <cstddef>

namespace dynkin::cuda {

/// Of a multiprocessor, which registers must do for; left to itself the compiler spills for more.
constexpr unsigned pairwise_blocks_at_once = 2;

struct PairwiseShared {
    double sum[pairwise_block];
};

/// What terms derive from: how two sums become one.
struct Added {
    __device__ static double combine(double a, double b) { return a + b; }
};
struct Largest {
    __device__ static double combine(double a, double b) { return a < b ? b : a; }
};

/// Joins neighbours, then neighbours of those, ...: the tree over the block's threads, of which `used`, a
/// power of two, have a number. The result is thread 0's.
template <class Terms> __device__ double block_tree(double value, unsigned used) {
    double* sum = gpu::shared<PairwiseShared>().sum;
    sum[threadIdx.x] = value;
    for (unsigned stride = 1; stride < used; stride *= 2) {
        __syncthreads();
        if (threadIdx.x % (2 * stride) == 0 && threadIdx.x + stride < used)
            sum[threadIdx.x] = Terms::combine(sum[threadIdx.x], sum[threadIdx.x + stride]);
    }
    return sum[threadIdx.x];
}

/// blockIdx.x: nodes first_node + 256 blockIdx.x ..., blockIdx.y: which sum. terms.leaf(y, first, last): the
/// terms of sum y, one after another.
template <class Terms> __global__ void __launch_bounds__(pairwise_block, pairwise_blocks_at_once)
    pairwise_kernel(Terms terms, PairwiseTree tree, std::size_t first_node, unsigned used, double* sums) {
    const std::size_t node = first_node + static_cast<std::size_t>(blockIdx.x) * pairwise_block + threadIdx.x;
    double sum = 0;
    if (threadIdx.x < used)
        sum = node_sum(
            tree.begin(node), tree.begin(node + 1),
            [&](std::size_t first, std::size_t last) { return terms.leaf(blockIdx.y, first, last); },
            [](double a, double b) { return Terms::combine(a, b); });
    sum = block_tree<Terms>(sum, used);
    if (threadIdx.x == 0) sums[static_cast<std::size_t>(blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

/// `count` sums over the nodes of a piece: one number for 256 nodes, sums[y * blocks + x].
template <class Terms> void pairwise_blocks(DeviceStream stream, const Terms& terms, const PairwiseTree& tree,
                                            const PairwisePiece& piece, unsigned count, double* sums) {
    const auto used = static_cast<unsigned>(std::min<std::size_t>(piece.nodes, pairwise_block));
    gpu::launch(pairwise_kernel<Terms>, dim3(static_cast<unsigned>(piece.blocks()), count), pairwise_block, 0,
                stream, terms, tree, piece.first_node, used, sums);
}

} // namespace dynkin::cuda

// pairwise_device.h - pairwise sums on the device as the host sees them: the device sums 256 nodes of the
// tree at a time, the host what is above. Plain C++.
#pragma once
#include "pairwise.h"
#include <algorithm>
#include <cstddef>
#include <span>

namespace dynkin {

namespace cuda {

constexpr unsigned pairwise_block = 256; ///< nodes of one number that comes to the host

/// Some neighbouring nodes of a tree; numbers that are powers of two.
struct PairwisePiece {
    std::size_t first_node = 0, nodes = 1;
    std::size_t blocks() const { return std::max<std::size_t>(nodes / pairwise_block, 1); }
};

/// The whole tree.
inline PairwisePiece whole(const PairwiseTree& tree) { return {0, tree.nodes()}; }

} // namespace cuda

/// The numbers, a power of two of them, joined by the tree: neighbours, then neighbours of those, ...
template <class Combine> double join_tree(std::span<const double> numbers, const Combine& combine) {
    if (numbers.size() == 1) return numbers[0];
    const std::size_t half = numbers.size() / 2;
    const double low = join_tree(numbers.first(half), combine), high = join_tree(numbers.last(half), combine);
    return combine(low, high);
}
inline double tree_sum(std::span<const double> sums) {
    return join_tree(sums, [](double a, double b) { return a + b; });
}

} // namespace dynkin

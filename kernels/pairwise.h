// pairwise.h - the tree by which sums over samples are taken, the same for pairwise_sum() of
// engine/summation.h and for the device.
#pragma once
#include "portable.h"
#include <cstddef>

namespace dynkin {

constexpr std::size_t pairwise_leaf = 64; ///< runs of at most so many terms are summed one after another

/// Terms 0 .. count - 1, halved `depth` times: 2^depth nodes of one size or two neighbouring ones, at most
/// pairwise_leaf + 1 terms.
struct PairwiseTree {
    std::size_t count = 0;
    int depth = 0;

    static PairwiseTree of(std::size_t count) {
        PairwiseTree tree{count, 0};
        while (count >> tree.depth > pairwise_leaf) ++tree.depth;
        return tree;
    }
    std::size_t nodes() const { return std::size_t{1} << depth; }
    /// The first term of a node; of node 2^depth: count.
    DYNKIN_HD std::size_t begin(std::size_t node) const {
        if (node >> depth) return count;
        std::size_t first = 0, last = count;
        for (int bit = depth; bit-- > 0;) {
            const std::size_t middle = first + (last - first) / 2;
            (node >> bit & 1 ? first : last) = middle;
        }
        return first;
    }
};

/// The sum of a node, from leaf(first, last), which sums one term after another; combine(a, b) = a + b.
template <class Leaf, class Combine>
DYNKIN_HD double node_sum(std::size_t first, std::size_t last, const Leaf& leaf, const Combine& combine) {
    if (last - first <= pairwise_leaf) return leaf(first, last);
    const std::size_t middle = first + (last - first) / 2;
    const double low = leaf(first, middle), high = leaf(middle, last);
    return combine(low, high);
}

} // namespace dynkin

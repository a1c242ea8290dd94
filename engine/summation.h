// summation.h - sums in a fixed order, by halves (private: included by .cpp files only).
#pragma once
#include "../kernels/pairwise.h"
#include <cstddef>

namespace dynkin {

/// The sum over [first, last) by halves down to runs of 64, whose sums are leaf(begin, end); asked for in
/// ascending order.
template <class Leaf> double pairwise_runs(std::size_t first, std::size_t last, const Leaf& leaf) {
    if (last - first <= pairwise_leaf) return leaf(first, last);
    const std::size_t middle = first + (last - first) / 2;
    const double low = pairwise_runs(first, middle, leaf), high = pairwise_runs(middle, last, leaf);
    return low + high;
}

/// sum of term(n) for n in [first, last), by halves down to runs of 64: the rounding error grows with
/// log(count), and the value depends on nothing but the terms.
template <class Term> double pairwise_sum(std::size_t first, std::size_t last, const Term& term) {
    return pairwise_runs(first, last, [&](std::size_t begin, std::size_t end) {
        double sum = 0;
        for (std::size_t n = begin; n < end; ++n) sum += term(n);
        return sum;
    });
}

} // namespace dynkin

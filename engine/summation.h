// summation.h - sums in a fixed order, by halves (private: included by .cpp files only).
#pragma once
#include <cstddef>

namespace dynkin {

/// sum of term(n) for n in [first, last), by halves down to runs of 64: the rounding error grows with
/// log(count), and the value depends on nothing but the terms.
template <class Term> double pairwise_sum(std::size_t first, std::size_t last, const Term& term) {
    if (last - first <= 64) {
        double sum = 0;
        for (std::size_t n = first; n < last; ++n) sum += term(n);
        return sum;
    }
    const std::size_t middle = first + (last - first) / 2;
    return pairwise_sum(first, middle, term) + pairwise_sum(middle, last, term);
}

} // namespace dynkin

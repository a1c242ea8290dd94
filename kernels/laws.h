// laws.h - one-dimensional empirical laws: the formulas of their distances, for both backends.
#pragma once
#include "portable.h"
#include <cmath>
#include <cstddef>

namespace dynkin {

constexpr int law_bins = 60;

/// Ascending values, and the mass up to and including each.
struct LawView {
    std::size_t size;
    const double* value;
    const double* cumulated; ///< null: equal masses

    /// Mass of the first n values; exactly 1 for all.
    DYNKIN_HD double first(std::size_t n) const {
        if (n == 0) return 0;
        if (n == size) return 1;
        return cumulated ? cumulated[n - 1] : static_cast<double>(n) / static_cast<double>(size);
    }
    /// How many values lie before the first that `passed` holds for; it holds for all after that one.
    template <class Passed> DYNKIN_HD std::size_t before(const Passed& passed) const {
        std::size_t low = 0, high = size;
        while (low < high) {
            const std::size_t middle = low + (high - low) / 2;
            if (passed(value[middle]))
                high = middle;
            else
                low = middle + 1;
        }
        return low;
    }
};

// Masses are cumulated in runs and groups of runs, so that threads can share the work: the last of a run, or
// group, is what the next one starts from, and the cumulated masses do not fall.
constexpr std::size_t law_run = 64; ///< values of a run, and runs of a group

/// The bin of a value in equal bins over [lo, hi], with the end bins open; it does not fall with the value.
DYNKIN_HD int law_bin(double value, double lo, double hi) {
    const double cut = value < lo ? lo : (value > hi ? hi : value);
    const int bin = static_cast<int>((cut - lo) / (hi - lo) * law_bins);
    return bin < law_bins ? bin : law_bins - 1;
}
/// How many values lie in the bins before `bin`.
DYNKIN_HD std::size_t before_bin(const LawView& law, double lo, double hi, int bin) {
    if (bin == 0) return 0;
    if (bin == law_bins) return law.size;
    return law.before([=](double v) { return law_bin(v, lo, hi) >= bin; });
}
/// Mass of what is not this value.
DYNKIN_HD double mass_elsewhere(const LawView& law, double value) {
    const std::size_t below = law.before([=](double v) { return v >= value; }),
                      not_above = law.before([=](double v) { return v > value; });
    return law.first(below) + (1 - law.first(not_above));
}

/// The integral over u in (0, 1) of |F^-1(u) - G^-1(u)|^power, piece by piece: between two neighbouring steps
/// of either distribution function the two values stay, pieces 0 .. count() - 1. W1 for power 1, W2^2 for 2.
struct QuantilePieces {
    LawView f, g;
    int power;

    DYNKIN_HD std::size_t count() const { return f.size + g.size - 1; }
    /// How many of the first `piece` steps are of F; where both step, F goes first.
    DYNKIN_HD std::size_t steps_of_f(std::size_t piece) const {
        std::size_t low = piece < g.size ? 0 : piece - (g.size - 1);
        std::size_t high = piece < f.size ? piece : f.size - 1;
        while (low < high) {
            const std::size_t middle = low + (high - low) / 2;
            if (f.first(middle + 1) <= g.first(piece - middle))
                low = middle + 1;
            else
                high = middle;
        }
        return low;
    }
    DYNKIN_HD double sum(std::size_t begin, std::size_t end) const {
        std::size_t i = steps_of_f(begin), j = begin - i;
        double u = f.first(i) > g.first(j) ? f.first(i) : g.first(j), total = 0;
        for (std::size_t piece = begin; piece < end; ++piece) {
            const double end_f = f.first(i + 1), end_g = g.first(j + 1), next = end_f < end_g ? end_f : end_g;
            const double gap = std::fabs(f.value[i] - g.value[j]);
            total += (next - u) * (power == 1 ? gap : gap * gap);
            u = next;
            if (i + 1 < f.size && (j + 1 == g.size || end_f <= end_g))
                ++i;
            else
                ++j;
        }
        return total;
    }
};

} // namespace dynkin

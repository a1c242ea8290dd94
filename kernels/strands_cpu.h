// strands_cpu.h - sums over coordinates on the CPU in the order of strands.h, for W samples at a time.
#pragma once
#include "strands.h"
#include <algorithm>
#include <cstddef>

namespace dynkin::cpu {

/// One sum for each of W lanes.
template <int W> class StrandSum {
  public:
    explicit StrandSum(std::size_t dimension) : strands_(strands_of(dimension)) {
        std::fill_n(partial_, strands_ * W, 0.0);
    }
    /// The W partial sums that coordinate i adds to.
    double* of(std::size_t i) { return partial_ + (i & (strands_ - 1)) * W; }
    void total(double* out) {
        for (std::size_t half = strands_ / 2; half > 0; half /= 2) {
            const std::size_t count = half * W;
#pragma omp simd
            for (std::size_t n = 0; n < count; ++n) partial_[n] += partial_[count + n];
        }
        for (int lane = 0; lane < W; ++lane) out[lane] = partial_[lane];
    }

  private:
    std::size_t strands_;
    alignas(64) double partial_[most_strands * W];
};

} // namespace dynkin::cpu

// stationary.h - draws from the stationary law of a fitted reference (private).
#pragma once
#include "eigenbasis.h"
#include <algorithm>
#include <cmath>
#include <vector>

namespace dynkin {

/// Draws from a stationary law on a box: inverse CDF of its density made linear between 4001 nodes.
class StationaryLaw {
  public:
    explicit StationaryLaw(const Family& family) : lo_(family.lo), h_((family.hi - family.lo) / kCells) {
        for (int i = 0; i <= kCells; ++i) density_.push_back(std::exp(family.log_density(node(i))));
        cumulative_.push_back(0);
        for (int i = 0; i < kCells; ++i)
            cumulative_.push_back(cumulative_.back() + 0.5 * h_ *
                                                           (density_[static_cast<std::size_t>(i)] +
                                                            density_[static_cast<std::size_t>(i + 1)]));
    }
    double quantile(double u) const {
        const double wanted = u * cumulative_.back();
        const auto above = std::upper_bound(cumulative_.begin(), cumulative_.end() - 1, wanted);
        const std::size_t cell =
            static_cast<std::size_t>(std::max<std::ptrdiff_t>(above - cumulative_.begin() - 1, 0));
        // area = f0 s + (f1 - f0) s^2 / (2 h), solved without cancellation
        const double area = wanted - cumulative_[cell], f0 = density_[cell],
                     slope = (density_[cell + 1] - f0) / h_;
        const double root = std::sqrt(std::max(f0 * f0 + 2 * slope * area, 0.0));
        const double s = f0 + root > 0 ? 2 * area / (f0 + root) : 0;
        return node(static_cast<int>(cell)) + std::clamp(s, 0.0, h_);
    }

  private:
    static constexpr int kCells = 4000;
    double node(int i) const { return i == kCells ? lo_ + h_ * kCells : lo_ + h_ * i; }
    double lo_, h_;
    std::vector<double> density_, cumulative_;
};

} // namespace dynkin

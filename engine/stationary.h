// stationary.h - draws from the stationary law of a fitted reference (private).
#pragma once
#include "../kernels/step.h"
#include "eigenbasis.h"
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
    double quantile(double u) const { return kernels::stationary_quantile(view(), u); }
    kernels::StationaryView view() const { return {lo_, h_, kCells, density_.data(), cumulative_.data()}; }

  private:
    static constexpr int kCells = 4000;
    double node(int i) const { return lo_ + h_ * i; }
    double lo_, h_;
    std::vector<double> density_, cumulative_;
};

} // namespace dynkin

// weight_sums.h - sums over importance weights, on the CPU or on a device, with the same bits (private).
#pragma once
#include "context.h"
#include <cstddef>
#include <span>
#include <vector>

namespace dynkin {

struct FiniteNumbers {
    double largest = 0; ///< -inf: there are none
    std::size_t count = 0;
};

class WeightSums {
  public:
    WeightSums() = default; ///< on the CPU
    explicit WeightSums(const Context& context)
        : device_(context.device() == Device::cuda ? &context : nullptr) {}

    FiniteNumbers finite(std::span<const double> log_weight) const;
    /// weight = exp(exponent (log_weight - largest)), 0 where that is not finite; returns their sum.
    double exponentials(std::span<const double> log_weight, double largest, double exponent,
                        std::span<double> weight) const;
    /// weight /= divisor; returns the sum of squares.
    double squares(std::span<double> weight, double divisor) const;
    double sum(std::span<const double> weight) const;
    double weighted(std::span<const double> weight, std::span<const double> values) const;
    /// sum of (w / total (v - mean))^2.
    double weighted_squares(std::span<const double> weight, std::span<const double> values, double total,
                            double mean) const;
    /// The `count` largest finite numbers, or all, ascending.
    std::vector<double> largest(std::span<const double> numbers, std::size_t count) const;

  private:
    const Context* device_ = nullptr;
};

} // namespace dynkin

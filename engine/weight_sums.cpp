#include "weight_sums.h"
#include "../kernels/device.h"
#include "../kernels/weights.h"
#include "summation.h"
#include "weights_device.h"
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace dynkin {

using std::size_t;

FiniteNumbers WeightSums::finite(std::span<const double> log_weight) const {
    if constexpr (built_with_cuda)
        if (device_) return finite_on_device(*device_, log_weight);
    FiniteNumbers found{-std::numeric_limits<double>::infinity(), 0};
    for (const double l : log_weight)
        if (std::isfinite(l)) found.largest = std::max(found.largest, l), ++found.count;
    return found;
}

double WeightSums::exponentials(std::span<const double> log_weight, double largest, double exponent,
                                std::span<double> weight) const {
    if constexpr (built_with_cuda)
        if (device_) return exponentials_on_device(*device_, log_weight, largest, exponent, weight);
    return pairwise_sum(0, weight.size(),
                        [&](size_t n) { return weight[n] = weight_of(log_weight[n], largest, exponent); });
}

double WeightSums::squares(std::span<double> weight, double divisor) const {
    if constexpr (built_with_cuda)
        if (device_) return squares_on_device(*device_, weight, divisor);
    return pairwise_sum(0, weight.size(), [&](size_t n) {
        weight[n] /= divisor;
        return weight[n] * weight[n];
    });
}

double WeightSums::sum(std::span<const double> weight) const {
    if constexpr (built_with_cuda)
        if (device_) return sum_on_device(*device_, weight);
    return pairwise_sum(0, weight.size(), [&](size_t n) { return weight[n]; });
}

double WeightSums::weighted(std::span<const double> weight, std::span<const double> values) const {
    if constexpr (built_with_cuda)
        if (device_) return weighted_sum_on_device(*device_, weight, values);
    return pairwise_sum(0, weight.size(), [&](size_t n) { return dynkin::weighted(weight[n], values[n]); });
}

double WeightSums::weighted_squares(std::span<const double> weight, std::span<const double> values,
                                    double total, double mean) const {
    if constexpr (built_with_cuda)
        if (device_) return weighted_squares_on_device(*device_, weight, values, total, mean);
    return pairwise_sum(0, weight.size(),
                        [&](size_t n) { return weighted_square(weight[n], values[n], total, mean); });
}

std::vector<double> WeightSums::largest(std::span<const double> numbers, size_t count) const {
    if constexpr (built_with_cuda)
        if (device_) return largest_on_device(*device_, numbers, count);
    std::vector<double> found;
    found.reserve(numbers.size());
    std::copy_if(numbers.begin(), numbers.end(), std::back_inserter(found),
                 [](double l) { return std::isfinite(l); });
    if (found.size() > count) {
        const auto end = found.begin() + static_cast<std::ptrdiff_t>(count);
        std::nth_element(found.begin(), end, found.end(), std::greater<>{});
        found.resize(count);
    }
    std::sort(found.begin(), found.end());
    return found;
}

} // namespace dynkin

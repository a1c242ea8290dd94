// weights.h - the terms of importance weights, for both backends.
#pragma once
#include "elementary.h"
#include "portable.h"
#include <cmath>
#include <limits>

namespace dynkin {

/// -U - log q; -inf, which flags the sample, where either is not finite (log q = -inf is a flag, not w =
/// inf).
DYNKIN_HD double log_weight_of(double energy, double log_density) {
    const bool valid = std::isfinite(energy) && std::isfinite(log_density);
    return valid ? -energy - log_density : -std::numeric_limits<double>::infinity();
}
/// w = exp(exponent (l - largest)), 0 for flagged samples.
DYNKIN_HD double weight_of(double log_weight, double largest, double exponent) {
    return std::isfinite(log_weight) ? portable_exp(exponent * (log_weight - largest)) : 0.0;
}
/// Values of weight 0 are not looked at.
DYNKIN_HD double weighted(double weight, double value) { return weight > 0 ? weight * value : 0.0; }
/// The square of w / sum w (v - mean).
DYNKIN_HD double weighted_square(double weight, double value, double total, double mean) {
    const double term = weight > 0 ? weight / total * (value - mean) : 0.0;
    return term * term;
}

} // namespace dynkin

// score_basis.h - functions of one coordinate and their first two derivatives, for host and device.
#pragma once
#include "elementary.h"
#include "portable.h"

namespace dynkin {

/// He_n(u) / sqrt(n!), n <= top, and its derivatives: h_n' = sqrt(n) h_(n-1).
DYNKIN_HD void hermite_values(int top, double u, double* h, double* slope, double* curvature) {
    h[0] = 1, slope[0] = 0, curvature[0] = 0;
    for (int n = 0; n < top; ++n) {
        h[n + 1] = (u * h[n] - (n > 0 ? std::sqrt(static_cast<double>(n)) * h[n - 1] : 0)) /
                   std::sqrt(static_cast<double>(n + 1));
        slope[n + 1] = std::sqrt(static_cast<double>(n + 1)) * h[n];
        curvature[n + 1] = std::sqrt(static_cast<double>(n + 1)) * slope[n];
    }
}

/// cos(n u), n <= top, u cut to [0, pi], by the recurrence of angles. Outside the box the functions are
/// constant; their slopes are continuous, for at its ends they are 0.
DYNKIN_HD void cosine_values(int top, double u, double* h, double* slope, double* curvature) {
    constexpr double pi = 3.14159265358979323846;
    const bool inside = u >= 0 && u <= pi;
    const double turn = (u < 0 ? 0 : u > pi ? pi : u) / (2 * pi);
    double sine, cosine;
    sincos_turns(turn, sine, cosine);
    double c = 1, s = 0;
    for (int n = 0; n <= top; ++n) {
        h[n] = c, slope[n] = inside ? -n * s : 0;
        curvature[n] = inside ? -static_cast<double>(n) * n * c : 0;
        const double next = c * cosine - s * sine;
        s = s * cosine + c * sine, c = next;
    }
}

} // namespace dynkin

// score_basis.h - functions of one coordinate and their first two derivatives, and derivatives of their
// products, for host and device.
#pragma once
#include "elementary.h"
#include "portable.h"

namespace dynkin {

/// put(n, h, h', h'') for h_n = He_n(u) / sqrt(n!), n <= top: h_n' = sqrt(n) h_(n-1).
template <class Put> DYNKIN_HD void hermite_functions(int top, double u, const Put& put) {
    double before = 0, h = 1, slope = 0;
    put(0, 1.0, 0.0, 0.0);
    for (int n = 0; n < top; ++n) {
        const double root = std::sqrt(static_cast<double>(n + 1));
        const double next = (u * h - (n > 0 ? std::sqrt(static_cast<double>(n)) * before : 0)) / root;
        const double next_slope = root * h, curvature = root * slope;
        put(n + 1, next, next_slope, curvature);
        before = h, h = next, slope = next_slope;
    }
}

/// put(n, h, h', h'') for h_n = cos(n u), n <= top, u cut to [0, pi], by the recurrence of angles. Outside
/// the box the functions are constant; their slopes are continuous, for at its ends they are 0.
template <class Put> DYNKIN_HD void cosine_functions(int top, double u, const Put& put) {
    constexpr double pi = 3.14159265358979323846;
    const bool inside = u >= 0 && u <= pi;
    const double turn = (u < 0 ? 0 : u > pi ? pi : u) / (2 * pi);
    double sine, cosine;
    sincos_turns(turn, sine, cosine);
    double c = 1, s = 0;
    for (int n = 0; n <= top; ++n) {
        put(n, c, inside ? -n * s : 0, inside ? -static_cast<double>(n) * n * c : 0);
        const double next = c * cosine - s * sine;
        s = s * cosine + c * sine, c = next;
    }
}

/// He_n(u) / sqrt(n!), n <= top, and its derivatives.
DYNKIN_HD void hermite_values(int top, double u, double* h, double* slope, double* curvature) {
    hermite_functions(top, u,
                      [&](int n, double a, double b, double c) { h[n] = a, slope[n] = b, curvature[n] = c; });
}

/// What kernels read of a ScoreBasis: phi_k(x) = prod over factors first[k] .. first[k + 1] of
/// h_degree((x_coordinate - center) / scale).
struct ScoreBasisView {
    bool cosine;
    int order, dimension, terms, driven_count;
    const int* driven;
    const double *center, *scale;
    const int *first, *coordinate, *degree;

    /// Of one coordinate's functions.
    DYNKIN_HD int width() const { return order + 1; }
};

/// put(n, h, slope, curvature) of coordinate j at x, with respect to x.
template <class Put>
DYNKIN_HD void coordinate_functions(const ScoreBasisView& basis, int j, double x, const Put& put) {
    const double u = (x - basis.center[j]) / basis.scale[j], by = 1 / basis.scale[j];
    const auto scaled = [&](int n, double h, double slope, double curvature) {
        put(n, h, slope * by, curvature * (by * by));
    };
    if (basis.cosine)
        cosine_functions(basis.order, u, scaled);
    else
        hermite_functions(basis.order, u, scaled);
}

/// First and second derivative of term k along coordinate `along`, which need be none of its factors. table:
/// value(e), slope(e), curvature(e) of function e = coordinate * width + degree.
template <class Table> DYNKIN_HD void term_derivatives(const ScoreBasisView& basis, int k, int along,
                                                       const Table& table, double& first, double& second) {
    double slope = 0, curvature = 0, rest = 1;
    for (int f = basis.first[k]; f < basis.first[k + 1]; ++f) {
        const int j = basis.coordinate[f], e = j * basis.width() + basis.degree[f];
        if (j == along)
            slope = table.slope(e), curvature = table.curvature(e);
        else
            rest *= table.value(e);
    }
    first = slope * rest, second = curvature * rest;
}

/// sum_k c_k d phi_k along each driven coordinate, one term after another.
template <class Table> DYNKIN_HD void potential_gradient(const ScoreBasisView& basis,
                                                         const double* coefficients, const Table& table,
                                                         double* gradient) {
    for (int a = 0; a < basis.driven_count; ++a) gradient[a] = 0;
    for (int k = 0; k < basis.terms; ++k)
        for (int a = 0; a < basis.driven_count; ++a) {
            double first, second;
            term_derivatives(basis, k, basis.driven[a], table, first, second);
            gradient[a] += coefficients[k] * first;
        }
}

/// Values, slopes and, unless null, curvatures of all functions of one point; function e at [e * stride].
struct FunctionTable {
    double *values, *slopes, *curvatures;
    int stride;

    DYNKIN_HD double value(int e) const { return values[e * stride]; }
    DYNKIN_HD double slope(int e) const { return slopes[e * stride]; }
    DYNKIN_HD double curvature(int e) const { return curvatures ? curvatures[e * stride] : 0; }

    DYNKIN_HD void fill(const ScoreBasisView& basis, int j, double x) const {
        const int at = j * basis.width();
        coordinate_functions(basis, j, x, [&](int n, double h, double slope, double curvature) {
            values[(at + n) * stride] = h, slopes[(at + n) * stride] = slope;
            if (curvatures) curvatures[(at + n) * stride] = curvature;
        });
    }
};

} // namespace dynkin

// energy.h - energies and forces of the targets: each formula once, for host and device, and the views they
// read.
#pragma once
#include "device.h"
#include "engine/context.h"
#include "portable.h"
#include <cstddef>
#include <cstdint>
#include <variant>

namespace dynkin {

/// Highest power of a site potential; coefficients above the degree in use are zero.
inline constexpr int max_site_degree = 12;

/// U = sum_edges (J/2)(x_i - x_j)^2 + sum_i [(J/2) sum_b (x_i - b)^2 + V(x_i)], b the fixed values outside
/// that i has edges to, V(x) = sum_m c_m x^m + constant. Neighbours of i stand at neighbour[first[i] ..
/// first[i+1]), those with j > i from forward[i] on.
struct LatticeView {
    std::size_t dimension;
    const std::int32_t *first, *forward, *neighbour;
    const double* outer;        ///< edges from i to fixed values outside
    const double* outer_sum;    ///< sum of these values
    const double* outer_square; ///< and of their squares
    double coupling, constant;
    int degree;
    double site[max_site_degree]; ///< c_1, c_2, ...
};
/// U = |L^-1 (x - mean)|^2 / 2 + log_normaliser, covariance = L L' (lower, row-major).
struct GaussianView {
    std::size_t dimension;
    const double *mean, *cholesky;
    double log_normaliser;
};
/// U = -log sum_k exp(log_weight_k - U_k(x)).
struct MixtureView {
    std::size_t dimension, components;
    const GaussianView* component;
    const double* log_weight;
};
/// U = sum_i a (x_i^2 - 1)^2 + b x_i.
struct DoubleWellView {
    std::size_t dimension;
    double a, b;
};
/// U = sum over pairs (x, y) of a x^4 - b x^2 + c x + y^2/2.
struct ManyWellView {
    std::size_t dimension;
    double a, b, c;
};
/// U from a function of the user's (engine/plugin.h), on the host only.
struct PluginView {
    std::size_t dimension;
    int (*energy)(const double*, std::size_t, std::size_t, std::size_t, const double*, double*, double*);
    const double* parameters;
    std::size_t parameter_count;
    bool has_gradient;
};
using EnergyView =
    std::variant<LatticeView, GaussianView, MixtureView, DoubleWellView, ManyWellView, PluginView>;

inline std::size_t dimension(const EnergyView& law) {
    return std::visit([](const auto& view) { return view.dimension; }, law);
}

/// sum_m c_m x^m, m = 1 .. Degree, by Horner's rule.
template <int Degree> DYNKIN_HD double site_energy(const double* c, double x) {
    double v = c[Degree - 1] * x;
    for (int m = Degree - 1; m > 0; --m) v = (v + c[m - 1]) * x;
    return v;
}
/// sum_m m c_m x^(m-1).
template <int Degree> DYNKIN_HD double site_gradient(const double* c, double x) {
    double v = Degree * c[Degree - 1];
    for (int m = Degree - 1; m > 0; --m) v = v * x + m * c[m - 1];
    return v;
}
/// (J/2)(x - y)^2.
DYNKIN_HD double edge_energy(double coupling, double x, double y) {
    const double difference = x - y;
    return 0.5 * coupling * difference * difference;
}
/// sum_b (J/2)(x - b)^2 over a site's edges to the outside. Values of zero leave the bits of links (J/2) x^2.
DYNKIN_HD double outer_energy(double coupling, double links, double sum, double square, double x) {
    return links * edge_energy(coupling, x, 0.0) + coupling * (0.5 * square - sum * x);
}
/// The edges of site i to later sites and to the outside, J = 1; x(j): the value of site j.
template <class X> DYNKIN_HD double edge_term(const LatticeView& law, std::size_t i, const X& x) {
    const double own = x(i);
    double sum = outer_energy(1, law.outer[i], law.outer_sum[i], law.outer_square[i], own);
    for (std::int32_t n = law.forward[i]; n < law.first[i + 1]; ++n)
        sum += edge_energy(1, own, x(static_cast<std::size_t>(law.neighbour[n])));
    return sum;
}
/// Derivative of all edges of a site: J (links x - sum of neighbours), those outside counted in both.
DYNKIN_HD double edge_gradient(double coupling, double links, double x, double neighbour_sum) {
    return coupling * (links * x - neighbour_sum);
}
DYNKIN_HD double double_well_energy(double a, double b, double x) {
    const double w = x * x - 1.0;
    return a * w * w + b * x;
}
DYNKIN_HD double double_well_gradient(double a, double b, double x) {
    return 4.0 * a * x * (x * x - 1.0) + b;
}
DYNKIN_HD double many_well_energy(double a, double b, double c, double x) {
    return ((a * x * x - b) * x + c) * x;
}
DYNKIN_HD double many_well_gradient(double a, double b, double c, double x) {
    return (4.0 * a * x * x - 2.0 * b) * x + c;
}

namespace cpu {

/// energies[n] = U(x_n), and gradients (count, d) unless null, for row-major x (count, d). Rows go in tiles
/// of 8, one row a lane, so each row's result depends on that row alone. Sums over coordinates go by
/// strands.h. Cost of the lattice per site and row, with z neighbours: energy 2 degree + 2z + 2 flops,
/// gradient 2 degree + z + 2.
void energy_gradient(Isa isa, int threads, const EnergyView& law, std::size_t count, const double* x,
                     double* energies, double* gradients);

} // namespace cpu

namespace cuda {

/// The same on the device, with the same bits, enqueued on the stream: all pointers, those of the law too,
/// are memory of the device. A team of threads a row (team.h), so that rows are read and written side by
/// side: 8 (d + 1) bytes a row, 8 d more with gradients, and the lattice's tables, shared by all rows, from
/// the cache; a Gaussian reads its factor, 4 d^2 bytes, once a row, with gradients three times. Throws
/// Error(io) when the launch fails.
void energy_gradient(DeviceStream stream, const EnergyView& law, std::size_t count, const double* x,
                     double* energies, double* gradients);
/// Bytes of shared memory a block of it takes. More than DeviceProperties::shared_memory_a_block is refused
/// by the launch: Gaussians and mixtures of more than some 28 000 numbers.
std::size_t energy_shared_memory(const EnergyView& law);

} // namespace cuda
} // namespace dynkin

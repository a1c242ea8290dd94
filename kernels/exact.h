// exact.h - a site of a lattice drawn from its own conditional law, made linear between the nodes of a grid
// (engine/exact_levels.h): each formula once, for host and device, and the order of sums that both share. The
// loops: exact_cpu.cpp, exact_cuda.cu.
#pragma once
#include "elementary.h"
#include "engine/context.h"
#include "portable.h"
#include "score.h"
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace dynkin::kernels {

/// The grid's cells lie in groups of five, one group a lane of a warp. The mass of a group is the sum of its
/// cells in their order; the mass up to its end follows in five steps, in the k-th of which each group adds
/// what the one 2^k before has (Hillis and Steele 1986).
constexpr int kExactGroups = 32, kExactCells = 5, kExactNodes = kExactGroups * kExactCells + 1;

/// Its known neighbours, and the neighbours drawn later, over which it is integrated.
struct ExactSite {
    int target;
    int base; ///< offset in `base`
    int first_neighbour, last_neighbour, first_link, last_link;
};
/// A neighbour that is drawn later, with its own other neighbours.
struct ExactLink {
    int table; ///< offset in `log_z1`
    int first_neighbour, last_neighbour;
};

/// All sites; pointers are memory of the host or of the device.
struct ExactView {
    double coupling, box, step; ///< node i at -box + step i
    double reach;               ///< log_z1 begins at the sum -reach, and has one entry a step
    double last;                ///< largest position that leaves entries for all nodes
    const double* base;         ///< -V(x) - J n x^2 / 2 at the nodes
    const double* log_z1;
    const ExactSite* sites;
    const ExactLink* links;
    const int* neighbours; ///< coordinates
};

/// Sum of neighbours; value(j): of coordinate j.
template <class Value> DYNKIN_HD double exact_sum(const int* list, int first, int last, const Value& value) {
    double sum = 0;
    for (int n = first; n < last; ++n) sum += value(list[n]);
    return sum;
}
/// J S x at node i: at + slope i.
struct ExactLine {
    double at, slope;
};
DYNKIN_HD ExactLine exact_line(const ExactView& v, double sum) {
    return {-v.coupling * sum * v.box, v.coupling * sum * v.step};
}
/// log Z1(x + a) at node i: between entries i and i + 1 of a table.
struct ExactPlace {
    const double* table;
    double fraction;
    DYNKIN_HD double at(int i) const { return table[i] + fraction * (table[i + 1] - table[i]); }
};
DYNKIN_HD ExactPlace exact_place(const ExactView& v, const ExactLink& link, double a) {
    const double wanted = (a - v.box + v.reach) / v.step;
    const double position = wanted > 0 ? (wanted < v.last ? wanted : v.last) : 0; // 0 for NaN
    const int first = static_cast<int>(position);
    return {v.log_z1 + link.table + first, position - first};
}
/// Mass of a cell from the densities at its ends, in units of the step.
DYNKIN_HD double exact_mass(double low, double high) { return 0.5 * (low + high); }

/// Where a cell of densities low and high has this mass below: in [0, 1], of low s + (high - low) s^2 / 2.
DYNKIN_HD double exact_inverse(double low, double high, double mass) {
    const double square = low * low + 2 * (high - low) * mass;
    const double root = std::sqrt(square > 0 ? square : 0);
    const double s = low + root > 0 ? 2 * mass / (low + root) : 0;
    return s > 0 ? (s < 1 ? s : 1) : 0;
}
DYNKIN_HD float exact_value(const ExactView& v, int cell, double s) {
    return static_cast<float>(-v.box + v.step * (cell + s));
}
DYNKIN_HD double exact_log_density(const ExactView& v, double low, double high, double s, double total) {
    return portable_log((low + (high - low) * s) / (total * v.step));
}

} // namespace dynkin::kernels

namespace dynkin::cpu {

/// Draws sites first_site <= k < last_site of particles first .. first + 63 of a tile,
/// x[coordinate][particle] (Stream::sampler_start, slot = target / 4), and adds log q unless null.
void draw_exact(Isa isa, const kernels::ExactView& view, std::size_t first_site, std::size_t last_site,
                std::uint64_t seed, std::uint64_t first, float* x, double* log_density);

} // namespace dynkin::cpu

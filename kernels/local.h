// local.h - moves of single sites and of tiles of a lattice (engine/local_moves.h): the formulas, for host
// and device, and what is watched of the chains. The host's loops stand in engine/local_moves.cpp, those of
// the device in local_cuda.cu.
#pragma once
#include "elementary.h"
#include "energy.h"
#include "portable.h"
#include <cstddef>
#include <cstdint>

namespace dynkin::kernels {

constexpr std::uint32_t kSweepEvery =
    32;                          ///< iterations with tiles from one heat bath over all sites to the next
constexpr int kLocalProduct = 8; ///< so many densities are multiplied before their logarithm is taken

/// Tiles along one axis: how many, and from where.
struct TileRow {
    int first = 0, count = 0;
};
/// Of n sites; walls: 1 for a fixed boundary, whose values are at -1 and n. Periodic: origins 0 .. n - 1,
/// otherwise those between the walls.
DYNKIN_HD TileRow tiles_along(int sites, int side, bool periodic, int walls, int origin) {
    if (periodic) return {origin, sites / side};
    return {origin - walls, (sites - 1 + 2 * walls - origin) / side};
}
/// One of so many origins, from a uniform word.
DYNKIN_HD int tile_origin(std::uint32_t word, int origins) {
    return static_cast<int>(static_cast<std::uint64_t>(word) * static_cast<std::uint64_t>(origins) >> 32);
}
/// The coordinate of a point at -1 <= at < 2 n; outside -1 below and -2 above.
DYNKIN_HD int site_along(int sites, bool periodic, int at) {
    if (periodic) return at < sites ? at : at - sites;
    return at < sites ? at : -2;
}
/// The site of a point from that of the axes before and its coordinate on this one. Outside: -1 - k, k its
/// place among the values outside (Lattice::outside), of the first axis whose end it is beyond.
DYNKIN_HD int next_site(int site, int axis, int sites, int along) {
    if (site < 0) return site;
    return along < 0 ? along - 2 * axis : site * sites + along;
}

/// sum_m c_m x^m, m >= 1, by Horner's rule from 0: one step, from the highest power on.
DYNKIN_HD double horner(double sum, double c, double x) { return (sum + c) * x; }
DYNKIN_HD double half_square(double half_coupling, double a, double b) {
    const double difference = a - b;
    return half_coupling * difference * difference;
}
/// The fall of the energy when a site goes from a to b: of its potential, from va to vb, and of its n edges
/// to neighbours of this sum; half: J n / 2.
DYNKIN_HD double heat_fall(double va, double vb, double a, double b, double coupling, double sum,
                           double half) {
    return va - vb + (b - a) * (coupling * sum - half * (a + b));
}
/// Metropolis test of a site: p(b) q(a) > u p(a) q(b), before = q(a), after = q(b) u.
DYNKIN_HD bool heat_test(double before, double after, double fall) {
    return after < before * portable_exp(fall);
}
/// Of a tile; not where the ratio is not a number.
DYNKIN_HD bool tile_test(double u, double log_ratio) { return portable_log(u) < log_ratio; }

/// U from the sum of the sites' potentials and that of the edges at J = 1.
DYNKIN_HD double local_energy(const LatticeView& law, double sites, double edges) {
    return sites + law.constant * static_cast<double>(law.dimension) + law.coupling * edges;
}
DYNKIN_HD double site_term(const LatticeView& law, double x) {
    return law.degree <= 4 ? site_energy<4>(law.site, x) : site_energy<max_site_degree>(law.site, x);
}
/// The mean over sites, or its square where its sign is a coin.
DYNKIN_HD double watched_mean(bool even, double sum, std::size_t sites) {
    const double mean = sum / static_cast<double>(sites);
    return even ? mean * mean : mean;
}

} // namespace dynkin::kernels

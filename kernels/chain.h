// chain.h - exact draws of a chain or ring, site after site, from tabulated messages
// (engine/transfer_matrix.h).
#pragma once
#include "device.h"
#include "elementary.h"
#include "engine/context.h"
#include "philox.h"
#include "portable.h"
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace dynkin {

/// Points origin + p step, p < points; every table of points has `stride` entries, a multiple of 8, zero from
/// `points` on. Site i is `gap` edges from the end: d - 1 - i on an open chain, d - i on a ring, back at x_0.
/// The density of x_i given x_{i-1} is exp(-(J/2)(x - x_{i-1})^2) m(x), with m up to a factor
///   open:             message row `gap`
///   ring, gap >= 2:   sum over r < rank[gap] of power(gap, r) psi_r(x_0) psi_r(x), psi = message rows
///   ring, gap = 1:    weight(x) exp(-(J/2)(x - x_0)^2)
/// and that of x_0 is `first`.
struct ChainView {
    std::size_t sites, points, stride;
    std::size_t messages; ///< rows
    bool ring;
    double coupling, origin, step;
    std::size_t reach;   ///< points on either side of x_{i-1} that are looked at first
    double slack;        ///< most that a density exceeds its linear interpolant by, as a factor
    const double* gauss; ///< exp(-(J/2)(m step)^2), m = -stride .. stride, pointer at m = 0
    const double *first, *weight, *message, *power;
    const std::uint32_t* rank; ///< by gap; the last of them, rank[sites], is the row length of power
};

/// Sums over points go in as many lanes, point k in lane k mod 8, so that the CPU's vectors and eight threads
/// of the device add alike.
inline constexpr std::size_t chain_lanes = 8;
inline constexpr std::uint32_t chain_attempts = 1000;

/// Where the neighbour stands: its nearest point and its distance from that.
struct ChainNeighbour {
    std::size_t centre;
    double offset;
};

/// Points [from, to), multiples of 8, with weights p: those of the linear interpolant of a density.
struct ChainWindow {
    std::size_t from, to;
    double lane[chain_lanes]; ///< sums of p over the points of each lane
    double total;
};

DYNKIN_HD ChainNeighbour locate(const ChainView& v, double x) {
    const double at = std::clamp((x - v.origin) / v.step, 0.0, static_cast<double>(v.points - 1));
    const auto centre = static_cast<std::size_t>(at + 0.5);
    return {centre, x - (v.origin + static_cast<double>(centre) * v.step)};
}

/// Six-point Lagrange interpolation of a table at the position t, in points.
DYNKIN_HD double interpolate(const ChainView& v, const double* table, double t) {
    const double last = static_cast<double>(v.points - 6);
    const double base = std::clamp(std::floor(t) - 2, 0.0, last);
    const double s = t - base, s1 = s - 1, s2 = s - 2, s3 = s - 3, s4 = s - 4, s5 = s - 5;
    const double* f = table + static_cast<std::size_t>(base);
    const double low = s * s1 * s2, high = s3 * s4 * s5;
    return (f[5] * s * s1 * s2 * s3 * s4 - f[0] * s1 * s2 * high) / 120 +
           (f[1] * s * s2 * high - f[4] * low * s3 * s5) / 24 +
           (f[3] * low * s4 * s5 - f[2] * s * s1 * high) / 12;
}

DYNKIN_HD ChainWindow window_around(const ChainView& v, std::size_t centre, std::size_t reach) {
    const std::size_t from = centre > reach ? (centre - reach) / chain_lanes * chain_lanes : 0;
    const std::size_t to = std::min(v.stride, (centre + reach + chain_lanes) / chain_lanes * chain_lanes);
    return {from, to, {}, 0};
}

/// Whether the window holds the mass: the weights at its ends, unless they are the ends of the box.
DYNKIN_HD bool is_wide_enough(const ChainView& v, const ChainWindow& w, const double* p) {
    const double count = static_cast<double>(w.to - w.from), small = 1e-12 * w.total;
    return w.total > 0 && (w.from == 0 || p[w.from] * count < small) &&
           (w.to == v.stride || p[w.to - 1] * count < small);
}

/// A point of the window with probability p / total: lane after lane, the lane's points in order.
DYNKIN_HD std::size_t choose(const ChainWindow& w, const double* p, double u) {
    double rest = u * w.total;
    std::size_t j = 0;
#ifdef __CUDA_ARCH__
#pragma unroll // so that the lanes stay in registers
#endif
    for (std::size_t k = 0; k + 1 < chain_lanes; ++k)
        if (j == k && rest >= w.lane[k]) rest -= w.lane[k], j = k + 1;
    std::size_t point = w.from + j;
    while (point + chain_lanes < w.to && rest >= p[point]) rest -= p[point], point += chain_lanes;
    return point;
}

/// x_site of the row, a point of the window and a triangular step from it, which have the law of the linear
/// interpolant, tested against the density m and the Gaussian about the neighbour. False after too many
/// attempts.
DYNKIN_HD bool draw_site(const ChainView& v, const ChainWindow& w, const double* p, const double* m,
                         double coupling, const ChainNeighbour& near, std::uint64_t seed, std::uint64_t row,
                         std::size_t site, double& x) {
    const auto weight = [&](double point) { // of a point given as a whole number
        return point >= static_cast<double>(w.from) && point < static_cast<double>(w.to)
                   ? p[static_cast<std::size_t>(point)]
                   : 0.0;
    };
    for (std::uint32_t attempt = 0; attempt < chain_attempts; ++attempt) {
        const RandomWords word =
            philox(seed, Stream::exact_draw, row, static_cast<std::uint32_t>(site), attempt);
        const double t = static_cast<double>(choose(w, p, uniform(word.v[0]))) +
                         (uniform(word.v[1]) + uniform(word.v[2]) - 1);
        if (!(t >= 0 && t <= static_cast<double>(v.points - 1))) continue;
        const double below = std::floor(t), part = t - below;
        const double linear = (1 - part) * weight(below) + part * weight(below + 1);
        const double u = (t - static_cast<double>(near.centre)) * v.step;
        const double density = interpolate(v, m, t) * portable_exp(coupling * u * (near.offset - 0.5 * u));
        if (uniform(word.v[3]) * linear * v.slack > density) continue;
        x = v.origin + t * v.step;
        return true;
    }
    return false;
}

namespace cpu {

/// Rows [first, first + count) of the sequence of this seed (Stream::exact_draw: row, site, attempt). False
/// when a site was refused 1000 times in succession, which tables of finite numbers cannot do. Some 3 flops a
/// point of the window and site, on a ring 2 rank[gap] more.
bool draw_chains(Isa isa, int threads, const ChainView& view, std::uint64_t seed, std::size_t first,
                 std::size_t count, double* x);

} // namespace cpu

namespace cuda {

/// Eight threads draw a row.
struct ChainTeams {
    std::size_t count; ///< rows at a time
    double* memory;    ///< chain_memory() doubles of each
    int* failed;       ///< of each; set when a site was refused too often
};
inline std::size_t chain_memory(const ChainView& view) {
    return 2 * view.stride + (view.ring ? view.rank[view.sites] : 0);
}

/// cpu::draw_chains() on the device, with the same bits; rank: view.rank[view.sites] (0 on an open chain).
/// Pointers, those of the view too, are memory of the device. Throws Error(io) when the launch fails.
void draw_chains(DeviceStream stream, const ChainView& view, std::size_t rank, std::uint64_t seed,
                 std::size_t first, std::size_t count, double* x, const ChainTeams& teams);

} // namespace cuda
} // namespace dynkin

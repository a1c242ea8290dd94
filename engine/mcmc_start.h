// mcmc_start.h - over-dispersed first states of the chains, McmcChains or DeviceChains; private to engine/.
#pragma once
#include "error.h"
#include "kernels/elementary.h"
#include "kernels/energy.h"
#include "kernels/philox.h"
#include "target.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <vector>

namespace dynkin {

struct Range {
    double centre = 0, half = 1;
};

/// Where V(x) is within 4 kT of its minimum, on a grid of [-B, B], B the first power of two with V(+-B) >
/// V(0) + 50.
template <class V> Range range_of_potential(const V& potential) {
    double box = 0x1p-20;
    while (box < 0x1p40 && !(std::min(potential(box), potential(-box)) > potential(0.0) + 50)) box *= 2;
    constexpr int points = 4000;
    double lowest = std::numeric_limits<double>::infinity(), from = 0, to = 0;
    const auto at = [&](int n) { return box * (2.0 * n / points - 1); };
    for (int n = 0; n <= points; ++n) lowest = std::min(lowest, potential(at(n)));
    bool found = false;
    for (int n = 0; n <= points; ++n)
        if (potential(at(n)) <= lowest + 4) {
            if (!found) from = at(n);
            found = true, to = at(n);
        }
    return {0.5 * (from + to), std::max(0.5 * (to - from), box / points)};
}

inline std::vector<Range> start_ranges(const LatticeTarget& t) {
    LatticeTarget alone =
        t; // one site by itself, tied to zero by its share of the coupling when its own terms do not bind it
    alone.lattice = {{1}, Boundary::free};
    const bool bound = unbounded_reason(alone).empty();
    std::vector<double> c = t.site;
    if (!bound) c.resize(std::max<std::size_t>(c.size(), 2), 0.0);
    if (!bound) c[1] = std::max(c[1], 0.0) + 0.05 * std::abs(t.coupling);
    const auto potential = [&](double x) {
        double v = 0;
        for (std::size_t m = c.size(); m-- > 0;) v = (v + c[m]) * x;
        return v;
    };
    return std::vector<Range>(t.lattice.sites(), range_of_potential(potential));
}
inline std::vector<Range> start_ranges(const GaussianTarget& t) {
    std::vector<Range> ranges;
    for (std::size_t i = 0; i < t.mean.size(); ++i)
        ranges.push_back({t.mean[i], 3 * std::sqrt(t.covariance(i, i))});
    return ranges;
}
inline std::vector<Range> start_ranges(const GaussianMixtureTarget& t) {
    std::vector<Range> ranges;
    for (std::size_t i = 0; i < t.components.at(0).mean.size(); ++i) {
        double from = std::numeric_limits<double>::infinity(), to = -from;
        for (const GaussianTarget& component : t.components) {
            const Range r = start_ranges(component)[i];
            from = std::min(from, r.centre - r.half), to = std::max(to, r.centre + r.half);
        }
        ranges.push_back({0.5 * (from + to), 0.5 * (to - from)});
    }
    return ranges;
}
inline std::vector<Range> start_ranges(const DoubleWellTarget& t) {
    return std::vector<Range>(t.dimension,
                              range_of_potential([&](double x) { return double_well_energy(t.a, t.b, x); }));
}
inline std::vector<Range> start_ranges(const ManyWellTarget& t) {
    const Range well = range_of_potential([&](double x) { return many_well_energy(t.a, t.b, t.c, x); });
    std::vector<Range> ranges(t.dimension, well);
    for (std::size_t i = 1; i < t.dimension; i += 2) ranges[i] = {0, 3};
    return ranges;
}
inline std::vector<Range> start_ranges(const PluginTarget& t) {
    return std::vector<Range>(t.dimension,
                              {0.5 * (t.start_low + t.start_high), 0.5 * (t.start_high - t.start_low)});
}
inline std::vector<Range> start_ranges(const ToyTarget& t) {
    throw Error(ErrorKind::usage,
                fmt::format("draw: {} has no energy, it can only be drawn directly", t.name));
}

/// x_i = centre_i + half_i (0.6 s + 0.5 z_i) shrink, s uniform on (-1.5, 1.5) for the whole chain, z_i
/// standard normal.
inline void place_chain(double* x, const std::vector<Range>& ranges, std::uint64_t seed, std::size_t level,
                        std::size_t chain, double shrink) {
    const auto words = [&](std::uint32_t slot) {
        return philox(seed, Stream::chain_start, chain, static_cast<std::uint32_t>(level), slot);
    };
    const double offset = 0.6 * (3 * uniform(words(0xffffffffu).v[0]) - 1.5);
    double z[4];
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        if (i % 4 == 0) {
            const RandomWords w = words(static_cast<std::uint32_t>(i / 4));
            normals_from_uniforms(uniform(w.v[0]), uniform(w.v[1]), z[0], z[1]);
            normals_from_uniforms(uniform(w.v[2]), uniform(w.v[3]), z[2], z[3]);
        }
        x[i] = ranges[i].centre + shrink * ranges[i].half * (offset + 0.5 * z[i % 4]);
    }
}

/// Places all walkers; those whose energy is not finite come nearer to the centre, by halves.
template <class Chains> void start_chains(Chains& chains, const std::vector<Range>& ranges,
                                          std::uint64_t seed, const Target& target) {
    std::vector<double> shrink(chains.levels() * chains.chains(), 1.0), x(shrink.size() * ranges.size());
    for (int attempt = 0; attempt < 30; ++attempt) {
        for (std::size_t n = 0; n < shrink.size(); ++n)
            place_chain(x.data() + n * ranges.size(), ranges, seed, n / chains.chains(), n % chains.chains(),
                        shrink[n]);
        chains.set_positions(x);
        bool finite = true;
        for (std::size_t n = 0; n < shrink.size(); ++n)
            if (!std::isfinite(chains.energy(n / chains.chains(), n % chains.chains()))) {
                finite = false;
                shrink[n] *= 0.5;
            }
        if (finite) return;
    }
    throw Error(ErrorKind::numerical,
                fmt::format("draw: the energy of {} is not finite anywhere near the start of the chains",
                            target.source.empty() ? target.kind : target.source));
}

} // namespace dynkin

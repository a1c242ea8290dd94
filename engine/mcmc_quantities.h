// mcmc_quantities.h - what is watched of the walkers of a run; private to engine/.
#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>

namespace dynkin {

inline constexpr std::size_t record_coordinates = 64, most_quantities = record_coordinates + 4;

/// The quantities that diagnostics follow: up to `limit` evenly spread coordinates, then energy, mean, mean
/// square; and one that is only averaged, for lattices: the sum over edges of (x_i - x_j)^2 / 2.
struct Quantities {
    std::vector<std::size_t> coordinates;
    bool edges;
    Quantities(std::size_t dimension, std::size_t limit, bool with_edges = false) : edges(with_edges) {
        const std::size_t count = std::min(dimension, limit);
        for (std::size_t n = 0; n < count; ++n) coordinates.push_back(n * dimension / count);
    }
    std::size_t energy() const { return coordinates.size(); }
    std::size_t judged() const { return coordinates.size() + 3; }
    std::size_t count() const { return judged() + (edges ? 1 : 0); }
};

} // namespace dynkin

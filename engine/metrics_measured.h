// metrics_measured.h - what both backends measure of two sets of rows, before it becomes figures (private).
#pragma once
#include "array.h"
#include "context.h"
#include "target.h"
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dynkin {

constexpr std::size_t slice_directions = 100; ///< of the sliced distance

/// Some rows of an array, with weights that are positive and sum to 1.
struct Rows {
    const Array<double>* data;
    std::vector<std::size_t> index; ///< empty: all rows
    std::vector<double> weight;     ///< empty: equal weights

    std::size_t size() const { return index.empty() ? data->rows() : index.size(); }
    std::size_t dimension() const { return data->cols(); }
    const double* operator[](std::size_t n) const { return data->row(index.empty() ? n : index[n]); }
    double mass(std::size_t n) const { return weight.empty() ? 1 / static_cast<double>(size()) : weight[n]; }
};

struct EnergyMoments {
    double mean = 0, deviation = 0;
};

/// The same numbers on every backend. Of each site: total variation and W1 in standard deviations of the
/// reference; of each direction: W2^2; energies only with a target that has one.
struct Measured {
    Array<double> moments, moments_reference; ///< upper triangles of E[x x']
    std::vector<double> total_variation, w1, w2_squared;
    EnergyMoments energy, energy_reference;
};

/// Unit vectors (100, d), uniform over directions.
Array<double> random_directions(std::uint64_t seed, std::size_t d);

/// W1 in standard deviations of the reference: of a constant one 0, or infinity where the distance is not.
double scaled_w1(double distance, double deviation, bool constant);

/// On the device of the context, in as many passes over the rows as its memory asks for. Throws Error(io)
/// when it does not hold one law of each set and d^2 numbers twice, Interrupted.
Measured measure_on_device(const Context& context, const Rows& samples, const Rows& reference,
                           const Target* target, std::uint64_t seed);

} // namespace dynkin

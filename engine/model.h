// model.h - a fitted model: how data become z, and an ordered list of diffusions of z.
#pragma once
#include "index_set.h"
#include "moments.h"
#include "standardize.h"
#include <optional>
#include <string>
#include <vector>

namespace dynkin {

/// One diffusion: its coordinates, reference, basis, and coefficients c_k(t) at time nodes. A flat model has
/// one block with all coordinates; multilevel models condition later blocks on earlier ones.
struct Block {
    std::vector<int> coordinates; ///< indices into the modelled columns
    Reference reference;
    IndexSet basis;
    double t_min = 1e-3, t_end = 5, t0 = 0.02;
    std::vector<double> node_time;    ///< ascending, uniform in tau = log(1 + (t - t_min)/t0)
    Array<double> coefficients;       ///< node_time.size() x K
    std::vector<double> lower, upper; ///< range of the data, per coordinate

    double tau(double t) const;
    double time(double tau) const;
    /// t_min = result[0] < ... < result[steps] = t_end, uniform in tau.
    std::vector<double> step_times(int steps) const;
};

struct Model {
    DataView view;
    Standardization standardization;
    std::vector<std::size_t> sample_shape; ///< trailing shape of the data file, written again by sample
    std::optional<Lattice> lattice;
    std::vector<Block> blocks;
    int default_steps = 32;
    double training_rows = 0;
    std::string configuration; ///< resolved settings of the fit, JSON

    int dimension() const { return static_cast<int>(view.kept.size()); } ///< modelled columns
};

/// Weights w with c(t) = sum_n w_n c(node n): the cubic spline in tau through the nodes, not-a-knot at the
/// ends. Times outside the nodes are an Error(usage).
std::vector<double> spline_weights(const Block& block, double t);
/// c(t) of a block.
std::vector<double> coefficients_at(const Block& block, double t);

} // namespace dynkin

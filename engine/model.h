// model.h - a fitted model: how data become z, and an ordered list of diffusions of z.
#pragma once
#include "index_set.h"
#include "moments.h"
#include "process.h"
#include "standardize.h"
#include <optional>
#include <string>
#include <vector>

namespace dynkin {

/// Diffusion times, uniform in tau = log(1 + (t - t_min)/t0).
struct TimeGrid {
    double t_min = 1e-3, t_end = 5, t0 = 0.02;
    std::vector<double> node_time; ///< ascending, where the systems are solved

    double tau(double t) const;
    double time(double tau) const;
    /// t_min = result[0] < ... < result[steps] = t_end, uniform in tau.
    std::vector<double> step_times(int steps) const;
};

/// One diffusion: its coordinates, reference, basis, and coefficients c_k(t) at time nodes.
struct Block : TimeGrid {
    std::vector<int> coordinates; ///< indices into the modelled columns
    Reference reference;
    IndexSet basis;
    Array<double> coefficients;       ///< node_time.size() x K
    std::vector<double> lower, upper; ///< range of the data, per coordinate
};

/// One joint diffusion of all modelled columns in a box or on a torus. u = (x - mean)/scale lies in [0, pi]^d
/// (box) or [0, 2 pi)^d; h(u) = sum_k c_k(t) prod_j f_{k_j}(u_j) over all k != 0 of frequency |k|_2 <=
/// radius, f_n = cos n u (box), f_{2m-1} = cos m u and f_{2m} = sin m u (torus) (docs/method.md,
/// section 11.1).
struct WaveBlock : TimeGrid {
    bool periodic = false;
    int dimension = 0;
    int radius = 0;
    Array<double> coefficients; ///< node_time.size() x K, k in lexicographic order

    /// k of every term, K x dimension.
    std::vector<int> indices() const;
};

/// One joint diffusion of all modelled columns by a linear process. At every time the law is known by its
/// moments; the score's potential is a polynomial in the whitened coordinates (docs/method.md, section 11.3).
struct LinearBlock : TimeGrid {
    int degree = 0;              ///< of the potential
    double ridge = 0;            ///< of the systems, solved where they are needed
    std::vector<double> moments; ///< E[z^alpha] of the data, |alpha| <= 2 degree, by degree, then reversed
                                 ///< lexicographic
};

/// A number made from neighbouring coordinates: f = sum_g c_g (sum_e w_e x_{slot e})^power.
struct Descriptor {
    struct Entry {
        int slot;
        double weight;
    };
    struct Group {
        double coefficient;
        std::vector<Entry> entries;
    };
    int power = 1; ///< also its weight in the degree of the conditioning basis, and its parity under x -> -x
    std::vector<Group> groups;
};

/// A conditional diffusion of one scalar, shared by equivalent sites: each target's z = (x - intercept -
/// predictor) / scale diffuses while the descriptors of its neighbours are frozen (eigenvalue 0), so h =
/// sum_{a, alpha} c_{a,alpha}(t) phi_a(z) psi_alpha(descriptors). The probability flow in Heun steps is a
/// monotone map of z whose derivative is known exactly, and so is log q (docs/method.md, section 10).
struct Level : TimeGrid {
    std::string name;         ///< e.g. "E4h", for reports
    int stage = 0;            ///< targets of one stage are drawn at the same time
    std::vector<int> targets; ///< modelled columns
    int slots = 0;            ///< neighbours of a target
    std::vector<int>
        neighbours; ///< targets x slots: a modelled column drawn before, or -1: a known zero outside
    std::vector<double> predictor; ///< per slot
    double intercept = 0, scale = 1;
    std::vector<Descriptor> descriptors;
    /// u_k = (descriptor_k - center_k) / spread_k, cut to [lower_k, upper_k], the range of the training data.
    std::vector<double> center, spread, lower, upper;
    std::vector<int> exponents; ///< monomials of u, [monomial][descriptor]
    Array<double> transform;    ///< psi = transform * monomials, orthonormal over the training data
    int even_conditions = -1;   ///< symmetric: so many psi are even, the others odd; -1: no symmetry
    Family family;
    int degree = 6;             ///< of phi_a(z)
    Array<double> coefficients; ///< node_time.size() x (degree * conditions)
    int steps = 32;             ///< of the flow, unless others are asked for

    std::size_t conditions() const { return transform.rows(); }
};

/// The law of the interior of a tile of a lattice given its frame, for Markov chains (local_metropolis.h) on
/// lattices of any size: points of (side + 1)^axes in C order, the frame at coordinates 0 and side. The
/// levels draw the interior points of even coordinate sum one after another, from coarse to fine; the odd
/// ones follow from the target.
struct Tile {
    int side = 8, axes = 2; ///< side 4, 8 or 16
    double coupling = 1;    ///< of the target that it was fitted for, with its site potential
    std::vector<double> site;
    std::vector<Level> levels; ///< columns are points of the tile; at most two descriptors each
};

struct Model {
    DataView view;
    Standardization standardization;
    std::vector<std::size_t> sample_shape; ///< trailing shape of the data file, written again by sample
    std::optional<Lattice> lattice;
    Process process;                   ///< of the blocks, resolved; levels have fitted ones
    std::vector<Block> blocks;         ///< drawn first, jointly; none or one
    std::vector<Level> levels;         ///< then these, in order
    std::optional<WaveBlock> waves;    ///< instead of blocks and levels
    std::optional<LinearBlock> linear; ///< likewise
    std::optional<Tile> tile;
    int default_steps = 32; ///< of the block; levels have their own, and this is the largest
    double training_rows = 0;
    std::string configuration; ///< resolved settings of the fit, JSON

    int dimension() const { return static_cast<int>(view.kept.size()); } ///< modelled columns
    /// Of the one diffusion of a flat model; Error(usage) for a model of levels.
    const TimeGrid& times() const;
};

/// The times of the process of a flat model, and the time that its block has then: another one for the
/// variance-exploding process, tau = log(1 + 2 t)/2.
double process_time(const Process& process, double block_time);
double block_time(const Process& process, double process_time);

/// Weights w with c(t) = sum_n w_n c(node n): the cubic spline in tau through the nodes, not-a-knot at the
/// ends. Times outside the nodes are an Error(usage).
std::vector<double> spline_weights(const TimeGrid& grid, double t);
/// c(t), from the coefficients at the nodes (one row each).
std::vector<double> coefficients_at(const TimeGrid& grid, const Array<double>& coefficients, double t);
/// c(t) of a block.
inline std::vector<double> coefficients_at(const Block& block, double t) {
    return coefficients_at(block, block.coefficients, t);
}

} // namespace dynkin

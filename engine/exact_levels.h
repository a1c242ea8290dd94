// exact_levels.h - the last levels of a known nearest-neighbour target, drawn from their own conditionals
// (private).
#pragma once
#include "../kernels/exact.h"
#include "context.h"
#include "model.h"
#include "target.h"
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace dynkin {

/// For a lattice target the sites of the last stage are independent given their neighbours,
///   p(x | S) ~ exp(-site(x) - J n x^2 / 2 + J x S),   n edges, S the sum of the neighbours and of the fixed
/// values outside,
/// and integrate to Z1_n(S). A site of the stage before whose neighbours q all belong to the last stage, and
/// touch no other of its own stage, has
///   p(x | a) ~ exp(-site(x) - J n x^2 / 2) prod_q Z1_{n_q}(x + a_q),   a_q the sum of q's other neighbours.
/// Both are one-dimensional. They are drawn from (and log q is that of) the density made linear between the
/// nodes of a grid of step `box / 80`, so that the weights see no error at all.
class ExactLevels {
  public:
    /// `stages`: 1 the last one, 2 the one before as well. Throws Error(usage) for a target without lattice,
    /// another lattice than the model's, a site potential that does not confine, or stages that are not of
    /// these kinds.
    ExactLevels(const Context& context, const Target& target, const Model& model, int stages);

    /// Whether level k of the model is drawn here.
    bool draws(std::size_t k) const { return ranges_[k].last > ranges_[k].first; }
    std::size_t sites() const { return tables_.sites.size(); } ///< drawn exactly
    /// As LevelFlow<float>::draw().
    void draw(std::size_t k, std::uint64_t seed, std::uint64_t first, float* x, double* log_density) const;

    /// Sites of all levels and what they refer to, in the host's memory.
    struct Tables {
        std::vector<double> base, log_z1;
        std::vector<kernels::ExactSite> sites;
        std::vector<kernels::ExactLink> links;
        std::vector<int> neighbours;
    };
    /// The sites of level k, which are not neighbours of one another.
    struct Range {
        std::size_t first = 0, last = 0;
    };
    Range range(std::size_t k) const { return ranges_[k]; }
    const Tables& tables() const { return tables_; }
    kernels::ExactView view() const;

  private:
    struct Geometry {
        std::vector<std::vector<int>> nearest;
        std::vector<int> stage, edges;
        std::vector<double> outside; ///< sum of the fixed values
    };
    void choose_box(double outside);
    void classify(const Model& model, const LatticeTarget& law, int stages);
    void place(const Geometry& g, const Lattice& lattice, int target, int last);
    /// A site's edges, and the sum of the fixed values at the end of some.
    using Links = std::pair<int, double>;
    static Links links_of(const Geometry& g, int site) {
        return {g.edges[static_cast<std::size_t>(site)], g.outside[static_cast<std::size_t>(site)]};
    }
    int base_of(Links links);
    int log_z1_of(Links links);
    double node(int i) const { return -box_ + step_ * i; }
    double site_energy(double x) const;

    Isa isa_;
    double coupling_ = 0, box_ = 0, step_ = 0, reach_ = 0;
    std::size_t entries_ = 0; ///< of log Z1_n(S), S from -reach_ in steps of step_
    std::vector<double> site_;
    std::vector<Range> ranges_;          ///< per level of the model
    std::map<Links, int> base_, log_z1_; ///< offsets in the tables
    Tables tables_;
};

} // namespace dynkin

// exact_levels.h - the last levels of a known nearest-neighbour target, drawn from their own conditionals
// (private).
#pragma once
#include "context.h"
#include "model.h"
#include "target.h"
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace dynkin {

/// For a lattice target the sites of the last stage are independent given their neighbours,
///   p(x | S) ~ exp(-site(x) - J n x^2 / 2 + J x S),   n edges, S the sum of the neighbours,
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
    bool draws(std::size_t k) const { return kind_[k] != Kind::model; }
    std::size_t sites() const { return sites_; }                         ///< drawn exactly
    std::size_t scratch() const { return 2 * nodes() * sizeof(double); } ///< bytes a thread
    /// As LevelFlow<float>::draw().
    void draw(std::size_t k, std::uint64_t seed, std::uint64_t first, float* x, double* log_density,
              std::byte* scratch) const;

  private:
    enum class Kind { model, last, decimated };
    /// Of one site: its edges, and for the decimated the neighbours' other neighbours.
    struct Site {
        int target, edges;
        std::vector<int> neighbours; ///< known ones
        struct Group {
            int edges;
            std::vector<int> others;
        };
        std::vector<Group> groups;
    };
    std::size_t nodes() const { return 161; }
    struct Geometry {
        std::vector<std::vector<int>> nearest;
        std::vector<int> stage, edges;
    };
    Site place(const Geometry& g, const Lattice& lattice, int target, int last) const;
    void choose_box();
    void classify(const Model& model, const LatticeTarget& law, int stages);
    void make_tables();
    double site_energy(double x) const;
    /// log density on the grid, not normalised.
    void fill(const Site& site, const float* x, std::size_t particle, double* row) const;

    Isa isa_;
    double coupling_ = 0, box_ = 0, step_ = 0;
    std::vector<double> site_;
    std::vector<Kind> kind_;
    std::vector<std::vector<Site>> places_;     ///< per level of the model
    std::map<int, std::vector<double>> base_;   ///< -site(x) - J n x^2 / 2 on the grid, by n
    std::map<int, std::vector<double>> log_z1_; ///< log Z1_n(S), S from -table_reach_ in steps of step_
    double table_reach_ = 0;
    std::size_t sites_ = 0;
};

} // namespace dynkin

// level_plan.h - which coordinates are drawn when, and given which others: the levels of a multilevel model
// (private).
#pragma once
#include "array.h"
#include "target.h"
#include <string>
#include <vector>

namespace dynkin {

/// What the conditioning basis is made from; the fit tries those of a plan's list and keeps the likeliest.
enum class DescriptorKind {
    none,       ///< no conditions: a marginal
    predictor,  ///< the linear predictor
    squares,    ///< the linear predictor and the sum of |weight| x^2
    interval,   ///< l + r and (l - r)^2 of the two ends of an interval that the target halves
    ends,       ///< l and r
    decimation, ///< sum_k a_k^m, m = 1, 2, 3; a_k: the sum of the k-th group of slots
};

/// One class of equivalent targets.
struct LevelPlan {
    std::string name;
    int stage = 0;
    std::vector<int> targets, neighbours; ///< as in Level
    int slots = 0;
    std::vector<int> training; ///< rows (site, neighbours...): every place of the lattice that looks the same
    std::vector<int> shell;    ///< per slot: slots of one shell share a weight in the predictor
    std::vector<std::vector<int>> groups; ///< of slots, for DescriptorKind::decimation
    std::vector<DescriptorKind> kinds;
    double spacing = 1; ///< distance to the nearest neighbour, lattice units
};

/// The coordinates of the block that is drawn first (none: no block), and the levels after it.
struct LevelPlans {
    std::vector<int> first;
    std::vector<LevelPlan> levels;
};

struct LatticePlanOptions {
    bool homogeneous = true; ///< sites have the same law but for the boundary: equivalent ones share a model
    bool reflections = true; ///< so do mirror images, where the values outside are the same
    double reach = 8;        ///< distance (lattice units) beyond which sites are taken to be independent
    int halvings = -1;       ///< >= 0: the sublattice of spacing 2^halvings comes first, in a block
};

/// Levels of a lattice. One axis: intervals are split, the largest power of two first. Two and three: sites
/// at multiples of a power of two, then the points between them, from spacing to half the spacing; every step
/// in as many colours as are needed to keep neighbours apart; each site given the four nearest shells of
/// known ones.
LevelPlans lattice_levels(const Lattice& lattice, const LatticePlanOptions& options);

/// Levels of coordinates without a lattice. First, in a block (one alone: a level), those that depend least
/// on one another, a quarter of all and 48 at most; then one after another those that what is known says most
/// about, each given at most `most` others.
LevelPlans dependence_levels(const Array<double>& dependence, int most);

} // namespace dynkin

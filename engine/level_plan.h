// level_plan.h - which coordinates are drawn when, and given which others: the levels of a multilevel model (private).
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

/// Levels of a lattice. One axis: intervals are split, the largest power of two first. Two and three: sites at multiples
/// of a power of two, then the points between them, from spacing to half the spacing; every step in as many colours as
/// are needed to keep neighbours apart; the four nearest shells of known sites. `homogeneous`: all sites have the same
/// law but for the boundary, so that equivalent sites share a model (otherwise each has its own); `reflections`: so do
/// mirror images. `reach`: distance (lattice units) beyond which sites are taken to be independent.
std::vector<LevelPlan> lattice_levels(const Lattice& lattice, bool homogeneous, bool reflections, double reach);

/// Levels of coordinates without a lattice: those of `first` are drawn before (by the block of the model), the others
/// one after another, each given at most `most` of the coordinates before it that depend on it most.
std::vector<LevelPlan> dependence_levels(const std::vector<int>& first, const Array<double>& dependence, int most);

} // namespace dynkin

// index_set.h - which tensor-product eigenfunctions make up the score: 1-clusters and 2-clusters.
#pragma once
#include "target.h"
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace dynkin {

/// "These pairs of sites get all products phi_a phi_b, 1 <= a, b <= degree". Several rules: the largest
/// degree wins.
struct PairRule {
    enum class Kind { all, range, dependent };
    Kind kind = Kind::all;
    int range = 1; ///< range: lattice distance at most this
    int degree = 1;
};

/// "nearest:3,all:1", "range2:2", "dependent:2" (the 2 d pairs of largest measured dependence). Throws
/// Error(usage).
std::vector<PairRule> parse_pair_rules(std::string_view text);
std::string format_pair_rules(const std::vector<PairRule>& rules);

/// phi_a(x_i), or phi_a(x_i) phi_b(x_j) with i < j; j = -1 for a 1-cluster.
struct Term {
    int i, a, j, b;
};

struct Pair {
    int i, j, degree;
};

/// Terms ordered: 1-clusters by site, then pairs.
struct IndexSet {
    int sites = 0;
    int degree = 6;       ///< of the 1-clusters
    int total_degree = 0; ///< a + b at most this (0: no limit, but a + b = 2 is always in)
    bool even = false;    ///< terms of odd total degree left out
    std::vector<Pair> pairs;
    std::vector<Term> terms;

    int max_degree() const; ///< largest degree of a one-dimensional factor
};

/// `pairs` sorted and unique, i < j. Throws Error(usage) unless they are, and for a degree outside 1 .. 24 or
/// an index outside.
IndexSet make_index_set(int sites, int degree, std::vector<Pair> pairs, int total_degree, bool even);

/// The pairs the rules select among sites that stand at `places` of the lattice. `lattice` may be null unless
/// a rule needs distances; `dependence` (sites x sites) may be empty unless a rule needs it. Throws
/// Error(usage) otherwise.
std::vector<Pair> select_pairs(const std::vector<int>& places, const std::vector<PairRule>& rules,
                               const Lattice* lattice, const Array<double>& dependence);

} // namespace dynkin

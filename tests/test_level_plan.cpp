// test_level_plan.cpp - every lattice is covered once, from coarse to fine, and training places look like the
// targets.
#include "cases.h"
#include "engine/level_plan.h"
#include <map>
#include <set>

namespace dynkin {
namespace {

using std::size_t;

std::vector<Lattice> lattices() {
    std::vector<Lattice> all;
    for (Boundary boundary : {Boundary::periodic, Boundary::free, Boundary::zero})
        for (const std::vector<size_t>& shape : std::vector<std::vector<size_t>>{{2},
                                                                                 {3},
                                                                                 {8},
                                                                                 {9},
                                                                                 {50},
                                                                                 {64},
                                                                                 {250},
                                                                                 {4, 4},
                                                                                 {5, 5},
                                                                                 {6, 10},
                                                                                 {7, 9},
                                                                                 {16, 16},
                                                                                 {2, 3},
                                                                                 {1, 16},
                                                                                 {4, 4, 4},
                                                                                 {3, 4, 5}})
            all.push_back({shape, boundary});
    return all;
}

bool neighbours(const Lattice& lattice, int i, int j) {
    for (const auto& [a, b] : lattice.edges())
        if ((a == i && b == j) || (a == j && b == i)) return true;
    return false;
}

/// Every site once, and every neighbour drawn before its target, in an earlier stage.
void expect_order(const LevelPlans& plans, size_t sites, const std::string& what) {
    std::vector<int> stage(sites, -2);
    for (int j : plans.first) stage[static_cast<size_t>(j)] = -1;
    size_t count = plans.first.size();
    for (const LevelPlan& plan : plans.levels)
        for (int j : plan.targets) {
            EXPECT_EQ(stage[static_cast<size_t>(j)], -2) << what << " site " << j << " twice";
            stage[static_cast<size_t>(j)] = plan.stage, ++count;
        }
    EXPECT_EQ(count, sites) << what;
    for (const LevelPlan& plan : plans.levels) {
        EXPECT_EQ(plan.neighbours.size(), plan.targets.size() * static_cast<size_t>(plan.slots)) << what;
        EXPECT_EQ(plan.shell.size(), static_cast<size_t>(plan.slots)) << what;
        for (size_t k = 0; k < plan.neighbours.size(); ++k) {
            if (plan.neighbours[k] < 0) continue;
            EXPECT_LT(stage[static_cast<size_t>(plan.neighbours[k])], plan.stage) << what << " " << plan.name;
        }
    }
}

TEST(LevelPlan, EverySiteOnceAfterItsNeighbours) {
    for (const Lattice& lattice : lattices())
        for (int halvings : {-1, 1, 2})
            for (bool homogeneous : {true, false}) {
                LatticePlanOptions options;
                options.halvings = halvings, options.homogeneous = options.reflections = homogeneous;
                expect_order(lattice_levels(lattice, options), lattice.sites(),
                             fmt::format("{} halvings {}", lattice.describe(), halvings));
            }
}

TEST(LevelPlan, SitesOfOneStageAreNeverNeighbours) {
    for (const Lattice& lattice : lattices()) {
        if (lattice.sites() == 3 && lattice.boundary == Boundary::periodic) continue;
        std::map<int, std::vector<int>> stages;
        for (const LevelPlan& plan : lattice_levels(lattice, {}).levels)
            stages[plan.stage].insert(stages[plan.stage].end(), plan.targets.begin(), plan.targets.end());
        for (const auto& [stage, sites] : stages)
            for (int i : sites)
                for (int j : sites)
                    EXPECT_FALSE(neighbours(lattice, i, j))
                        << lattice.describe() << " stage " << stage << ": " << i << ", " << j;
    }
}

/// Squared distances of the slots, sorted; a zero outside counts as -1.
std::vector<int> distances(const Lattice& lattice, const int* row, int slots) {
    std::vector<int> out;
    for (int s = 1; s <= slots; ++s) out.push_back(row[s] < 0 ? -1 : lattice.distance(row[0], row[s]));
    return out;
}

TEST(LevelPlan, TrainingPlacesLookLikeTheTargets) {
    for (const Lattice& lattice : lattices())
        for (const LevelPlan& plan : lattice_levels(lattice, {}).levels) {
            const size_t width = static_cast<size_t>(plan.slots) + 1;
            ASSERT_EQ(plan.training.size() % width, 0u);
            std::set<std::vector<int>> trained;
            for (size_t k = 0; k < plan.training.size(); k += width)
                trained.insert({plan.training.begin() + static_cast<std::ptrdiff_t>(k),
                                plan.training.begin() + static_cast<std::ptrdiff_t>(k + width)});
            for (size_t t = 0; t < plan.targets.size(); ++t) {
                std::vector<int> row{plan.targets[t]};
                row.insert(row.end(), plan.neighbours.begin() + static_cast<std::ptrdiff_t>(t * (width - 1)),
                           plan.neighbours.begin() + static_cast<std::ptrdiff_t>((t + 1) * (width - 1)));
                const auto outside = [&](auto begin) {
                    return std::count(begin, begin + plan.slots + 1, -1) > 0;
                };
                if (!outside(row.begin()) && !outside(plan.training.begin())) {
                    EXPECT_EQ(distances(lattice, row.data(), plan.slots),
                              distances(lattice, plan.training.data(), plan.slots))
                        << lattice.describe() << " " << plan.name;
                }
                std::multiset<int> own(row.begin(), row.end());
                EXPECT_TRUE(std::any_of(trained.begin(), trained.end(),
                                        [&](const auto& other) {
                                            return other[0] == row[0] &&
                                                   std::multiset<int>(other.begin(), other.end()) == own;
                                        }))
                    << lattice.describe() << " " << plan.name << ": a target is no training place";
            }
        }
}

/// The values that a site sees within two steps, with their way to it: what no two sites of a class may
/// differ in.
std::multiset<double> walls_beside(const Lattice& lattice, int site) {
    std::multiset<double> seen;
    size_t rest = static_cast<size_t>(site);
    for (size_t axis = lattice.shape.size(); axis-- > 0; rest /= lattice.shape[axis]) {
        const size_t at = rest % lattice.shape[axis];
        if (at == 0) seen.insert(lattice.outside_value(axis, 0));
        if (at + 1 == lattice.shape[axis]) seen.insert(lattice.outside_value(axis, 1));
    }
    return seen;
}

TEST(LevelPlan, OtherValuesOutsideAreOtherClasses) {
    for (const Lattice& lattice :
         {Lattice{{8, 8}, Boundary::fixed, {1, 1, -1, -1}}, Lattice{{8, 8}, Boundary::fixed, {1, 0, 0, 0}},
          Lattice{{4, 3, 4}, Boundary::fixed, {1, 1, 0, 2, 1, 1}}, Lattice{{13}, Boundary::fixed, {1, -1}},
          Lattice{{16}, Boundary::fixed, {2, 2}}}) {
        expect_order(lattice_levels(lattice, {}), lattice.sites(), lattice.describe());
        for (const LevelPlan& plan : lattice_levels(lattice, {}).levels) {
            for (int target : plan.targets)
                EXPECT_EQ(walls_beside(lattice, target), walls_beside(lattice, plan.targets[0])) << plan.name;
            for (size_t k = 0; k < plan.training.size(); k += static_cast<size_t>(plan.slots) + 1)
                EXPECT_EQ(walls_beside(lattice, plan.training[k]), walls_beside(lattice, plan.targets[0]))
                    << lattice.describe() << ' ' << plan.name;
        }
    }
    // Rows of 1 and columns of -1: reflections remain, the exchange of axes does not.
    const Lattice square{{8, 8}, Boundary::fixed, {1, 1, -1, -1}},
        zero{{8, 8}, Boundary::fixed, {0, 0, 0, 0}};
    const auto last = [](const Lattice& lattice) {
        size_t count = 0;
        const auto levels = lattice_levels(lattice, {}).levels;
        for (const LevelPlan& plan : levels) count += plan.stage == levels.back().stage;
        return count;
    };
    EXPECT_EQ(last(zero), 3u);   // corners, sides, inside
    EXPECT_EQ(last(square), 4u); // two kinds of sides
}

/// A chain's conditionals given both ends of an interval: pooled where no end is a value other than zero.
TEST(LevelPlan, IntervalsThatEndAtAValueHaveTheirOwnModel) {
    const Lattice zero{{7}, Boundary::zero}, held{{7}, Boundary::fixed, {1, 1}},
        twisted{{7}, Boundary::fixed, {1, -1}};
    const auto count = [](const Lattice& lattice) { return lattice_levels(lattice, {}).levels.size(); };
    EXPECT_EQ(count(zero), 3u); // 8, 4 and 2 long
    EXPECT_EQ(count(held), 6u); // 8; 4 left, right; 2 left, inside, right
    EXPECT_EQ(count(twisted), 6u);
    for (const LevelPlan& plan : lattice_levels(held, {}).levels)
        EXPECT_EQ(plan.training.size() / 3, plan.stage == 0            ? 1u
                                            : plan.targets.size() == 1 ? 2u
                                                                       : 5u)
            << plan.name; // either end trains both
}

TEST(LevelPlan, PeriodicSitesAllTrainEveryLevel) {
    const Lattice lattice{{16, 16}, Boundary::periodic};
    const auto levels = lattice_levels(lattice, {}).levels;
    EXPECT_EQ(levels.size(), 13u); // A8 and C8 to C2 in two colours, E8 and E4 by direction, E2
    for (const LevelPlan& plan : levels) {
        std::set<int> places;
        for (size_t k = 0; k < plan.training.size(); k += static_cast<size_t>(plan.slots) + 1)
            places.insert(plan.training[k]);
        EXPECT_EQ(places.size(), 256u) << plan.name;
    }
    EXPECT_EQ(levels.back().targets.size(), 128u);
    EXPECT_EQ(levels.back().slots, 4);
    EXPECT_EQ(std::set<int>(levels.back().shell.begin(), levels.back().shell.end()).size(), 1u);
    EXPECT_EQ(levels[11].groups.size(), 4u); // the exact sums of the last decimation
    for (const auto& group : levels[11].groups) EXPECT_EQ(group.size(), 3u);
}

TEST(LevelPlan, HalvingsStartFromASublattice) {
    LatticePlanOptions options;
    options.halvings = 2;
    EXPECT_EQ(lattice_levels({{16}, Boundary::periodic}, options).first, (std::vector<int>{0, 4, 8, 12}));
    EXPECT_EQ(lattice_levels({{16}, Boundary::zero}, options).first, (std::vector<int>{3, 7, 11, 15}));
    EXPECT_EQ(lattice_levels({{10}, Boundary::free}, options).first, (std::vector<int>{0, 4, 8, 9}));
    EXPECT_EQ(lattice_levels({{8, 8}, Boundary::periodic}, options).first, (std::vector<int>{0, 4, 32, 36}));
}

TEST(LevelPlan, DependenceDecidesWithoutALattice) {
    const size_t d = 12;
    Array<double> dependence(d, d);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j)
            dependence(i, j) = std::pow(0.8, std::abs(static_cast<double>(i) - static_cast<double>(j)));
    const LevelPlans plans = dependence_levels(dependence, 2);
    EXPECT_EQ(plans.first.size(), 3u);
    expect_order(plans, d, "chain");
    // A coordinate between two known neighbours is given those two.
    const LevelPlan& last = plans.levels.back();
    for (int j : last.neighbours) EXPECT_LE(std::abs(j - last.targets[0]), 2);
}

} // namespace
} // namespace dynkin

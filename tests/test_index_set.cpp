// test_index_set.cpp - which pairs the rules select and which terms follow, counted by hand.
#include "cases.h"
#include <set>

namespace dynkin {
namespace {

using std::size_t;

std::string selected(const std::vector<Pair>& pairs) {
    std::string text;
    for (const Pair& p : pairs) text += fmt::format("{}-{}:{} ", p.i, p.j, p.degree);
    return text;
}

std::vector<int> places(int sites) {
    std::vector<int> list(static_cast<size_t>(sites));
    std::iota(list.begin(), list.end(), 0);
    return list;
}

TEST(PairRules, TextSurvivesParsingAndFormatting) {
    for (const char* text : {"nearest:3,all:1", "range2:2", "dependent:2,all:1", "all:24", "none"})
        EXPECT_EQ(format_pair_rules(parse_pair_rules(text)), text);
    EXPECT_TRUE(parse_pair_rules("").empty());
    EXPECT_EQ(format_pair_rules(parse_pair_rules("range1:2")), "nearest:2");
}

TEST(PairRules, MalformedTextIsAnErrorThatNamesIt) {
    for (const char* text :
         {"nearest", "nearest:", "nearest:0", "nearest:25", "nearest:3x", "close:1", "range:2", "range0:1",
          "rangex:1", "all:1,", ",all:1", "all:-1", "all:99999999999"})
        cases::expect_error(
            ErrorKind::usage, [&] { parse_pair_rules(text); }, "pairs: ");
}

TEST(SelectPairs, RangeFollowsTheLattice) {
    const Lattice chain{{5}, Boundary::free}, ring{{5}, Boundary::periodic};
    EXPECT_EQ(selected(select_pairs(places(5), parse_pair_rules("nearest:2"), &chain, {})),
              "0-1:2 1-2:2 2-3:2 3-4:2 ");
    EXPECT_EQ(selected(select_pairs(places(5), parse_pair_rules("nearest:2"), &ring, {})),
              "0-1:2 0-4:2 1-2:2 2-3:2 3-4:2 ");
    const Lattice square{{2, 3}, Boundary::free};
    EXPECT_EQ(selected(select_pairs(places(6), parse_pair_rules("range2:1"), &square, {})),
              "0-1:1 0-2:1 0-3:1 0-4:1 1-2:1 1-3:1 1-4:1 1-5:1 2-4:1 2-5:1 3-4:1 3-5:1 4-5:1 ");
}

TEST(SelectPairs, TheLargestDegreeOfSeveralRulesWins) {
    const Lattice chain{{3}, Boundary::free};
    for (const char* rules : {"nearest:3,all:1", "all:1,nearest:3"})
        EXPECT_EQ(selected(select_pairs(places(3), parse_pair_rules(rules), &chain, {})),
                  "0-1:3 0-2:1 1-2:3 ");
}

TEST(SelectPairs, SitesKeepTheirPlacesWhenColumnsAreDropped) {
    const Lattice chain{{5}, Boundary::free}; // column 2 was dropped: sites 1 and 2 stand at 1 and 3
    EXPECT_EQ(selected(select_pairs({0, 1, 3, 4}, parse_pair_rules("nearest:2"), &chain, {})),
              "0-1:2 2-3:2 ");
}

TEST(SelectPairs, DependentTakesTheTwoDLargest) {
    const int d = 6;
    Array<double> dependence(d, d);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j)
            dependence(i, j) = dependence(j, i) = 1.0 / static_cast<double>(1 + i + j + i * j);
    const auto pairs = select_pairs(places(d), parse_pair_rules("dependent:2"), nullptr, dependence);
    EXPECT_EQ(pairs.size(), 12u);
    double smallest = 1, largest_left = 0;
    std::set<std::pair<int, int>> chosen;
    for (const Pair& p : pairs) {
        chosen.emplace(p.i, p.j);
        smallest = std::min(smallest, dependence(static_cast<size_t>(p.i), static_cast<size_t>(p.j)));
    }
    for (size_t i = 0; i < d; ++i)
        for (size_t j = i + 1; j < d; ++j)
            if (!chosen.count({static_cast<int>(i), static_cast<int>(j)}))
                largest_left = std::max(largest_left, dependence(i, j));
    EXPECT_GT(smallest, largest_left);
}

TEST(SelectPairs, OneSiteHasNoPairs) {
    EXPECT_TRUE(
        select_pairs({0}, parse_pair_rules("all:3,dependent:2"), nullptr, Array<double>(1, 1)).empty());
}

TEST(SelectPairs, RulesWithoutWhatTheyNeedAreErrors) {
    cases::expect_error(
        ErrorKind::usage,
        [] {
            select_pairs({0, 1}, parse_pair_rules("nearest:1"), nullptr, {});
        },
        "lattice");
    cases::expect_error(
        ErrorKind::usage,
        [] {
            select_pairs({0, 1}, parse_pair_rules("dependent:1"), nullptr, {});
        },
        "dependence");
}

TEST(MakeIndexSet, SinglesBySiteThenPairs) {
    const IndexSet set = make_index_set(2, 2, {{0, 1, 2}}, 0, false);
    const int expected[][4] = {{0, 1, -1, 0}, {0, 2, -1, 0}, {1, 1, -1, 0}, {1, 2, -1, 0},
                               {0, 1, 1, 1},  {0, 1, 1, 2},  {0, 2, 1, 1},  {0, 2, 1, 2}};
    ASSERT_EQ(set.terms.size(), std::size(expected));
    for (size_t k = 0; k < set.terms.size(); ++k) {
        const Term& t = set.terms[k];
        const int found[] = {t.i, t.a, t.j, t.b};
        EXPECT_TRUE(std::equal(found, found + 4, expected[k])) << "term " << k;
    }
    EXPECT_EQ(set.max_degree(), 2);
}

TEST(MakeIndexSet, EvenSetsHaveEvenTotalDegree) {
    const IndexSet set = make_index_set(4, 6, cases::chain_pairs(4, 3), 0, true);
    EXPECT_EQ(set.terms.size(),
              4u * 3 + 3 * 5 + 3); // 3 even singles a site, 5 of 9 products, (1,1) of 3 far pairs
    for (const Term& t : set.terms) EXPECT_EQ((t.a + t.b) % 2, 0);
}

TEST(MakeIndexSet, TotalDegreeLimitsPairsButKeepsTheFirstProduct) {
    EXPECT_EQ(make_index_set(2, 6, {{0, 1, 6}}, 6, false).terms.size(), 12u + 15); // a + b <= 6
    EXPECT_EQ(make_index_set(2, 6, {{0, 1, 6}}, 1, false).terms.size(), 12u + 1);
    EXPECT_EQ(make_index_set(2, 1, {{0, 1, 3}}, 0, false).max_degree(), 3);
}

TEST(MakeIndexSet, ImpossibleBasesAreErrors) {
    const auto make = [](int sites, int degree, std::vector<Pair> pairs) {
        return [=] { make_index_set(sites, degree, pairs, 0, false); };
    };
    cases::expect_error(ErrorKind::usage, make(2, 0, {}), "degree");
    cases::expect_error(ErrorKind::usage, make(2, 25, {}), "degree");
    cases::expect_error(ErrorKind::usage, make(0, 2, {}));
    for (const Pair& pair :
         {Pair{1, 0, 1}, Pair{0, 0, 1}, Pair{-1, 1, 1}, Pair{0, 2, 1}, Pair{0, 1, 0}, Pair{0, 1, 25}})
        cases::expect_error(ErrorKind::usage, make(2, 2, {pair}), "pair");
    cases::expect_error(ErrorKind::usage, make(3, 2, {{0, 1, 1}, {0, 1, 2}}), "pair"); // not unique
    cases::expect_error(ErrorKind::usage, make(3, 2, {{0, 2, 1}, {0, 1, 2}}), "pair"); // not sorted
}

} // namespace
} // namespace dynkin

// test_moments.cpp - every average the plan promises against a direct sum; the same bytes however the work is
// divided.
#include "cases.h"
#include "engine/error.h"
#include "tolerance.h"
#include <set>

namespace dynkin {
namespace {

using cases::Basis;
using std::size_t;

/// One wanted average: phi_r(x_i) phi_b(x_j) phi_d(x_q), j or q < 0: the constant; `pair`: from pair(), d
/// unused.
struct Wanted {
    int i, r, j, b, q, d;
    bool pair;
    auto operator<=>(const Wanted&) const = default;
};

/// What A(t) is made of, from its definition: for each two terms that meet at i, the r (and s) whose
/// coefficient is not negligible.
std::set<Wanted> wanted(const Basis& basis) {
    std::set<Wanted> all;
    struct Active {
        int a, j, b;
    };
    const auto family = [&](int site) {
        return static_cast<size_t>(basis.reference.family_of[static_cast<size_t>(site)]);
    };
    const auto table = [&](int site) -> const ProductTables& { return basis.tables[family(site)]; };
    const auto negligible = [](const std::vector<double>& values) {
        double most = 0;
        for (double x : values) most = std::max(most, std::abs(x));
        return 1e-11 * most;
    };
    std::vector<double> small_g, small_a;
    for (const ProductTables& t : basis.tables)
        small_g.push_back(negligible(t.g)), small_a.push_back(negligible(t.a));
    for (int i = 0; i < basis.set.sites; ++i) {
        std::vector<Active> active;
        for (const Term& t : basis.set.terms) {
            if (t.i == i) active.push_back({t.a, t.j, t.b});
            if (t.j == i) active.push_back({t.b, t.i, t.a});
        }
        const ProductTables& own = table(i);
        for (const Active& u : active)
            for (const Active& v : active)
                for (int r = 0; r <= own.top_degree; ++r) {
                    if (std::abs(own.gradient(u.a, v.a, r)) < small_g[family(i)]) continue;
                    if (basis.set.even && (u.a + v.a + r) % 2) continue; // 0 but for rounding
                    if (u.j < 0 || u.j != v.j) {
                        all.insert({i, r, u.j, u.b, v.j, v.b, false});
                        continue;
                    }
                    const ProductTables& other = table(u.j);
                    for (int s = 0; s <= other.top_degree; ++s)
                        if (!(basis.set.even && (u.b + v.b + s) % 2) &&
                            std::abs(other.product(u.b, v.b, s)) >= small_a[family(u.j)])
                            all.insert({i, r, u.j, s, -1, 0, true});
                }
    }
    for (const Term& t : basis.set.terms) all.insert({t.i, t.a, -1, 0, t.j, t.b, false}); // means
    return all;
}

/// Relative error of one function at z, given how the kernels evaluate it. Solutions of f'' - v' f' + lambda
/// f = 0 vary at rates up to sqrt(lambda), or v' near the ends of the box.
template <class T> double function_error(const Family& family, int n, double z) {
    if (n == 0) return 0;
    const double unit = tolerance::unit<T>;
    if (family.kind == ReferenceKind::hermite) return tolerance::hermite(n, z, unit);
    const bool single = sizeof(T) == 4;
    const double rate = std::max(std::sqrt(family.lambda[static_cast<size_t>(n)]), std::abs(family.dv(z)));
    return tolerance::table(rate, family.hi - family.lo, single ? 512 : 256, single ? 3 : 7, unit);
}

/// Direct averages over some rows of everything that is wanted, and how far the engine's may be from them.
template <class T> class Naive {
  public:
    Naive(const Basis& basis, const Array<double>& z, Subset subset)
        : basis_(basis), values_(basis.reference, z, basis.reference.families[0].top_degree()),
          functions_(basis.reference.families[0].lambda.size()), factors_(z.rows() * z.cols() * functions_) {
        for (size_t n = 0; n < z.rows(); ++n) {
            if (subset == Subset::all || (n % 5 == 4) == (subset == Subset::test)) rows_.push_back(n);
            for (size_t j = 0; j < z.cols(); ++j)
                for (size_t r = 0; r < functions_; ++r)
                    factors_[(n * z.cols() + j) * functions_ + r] =
                        evaluate(n, static_cast<int>(j), static_cast<int>(r), z(n, j));
        }
        if (!rows_.empty())
            for (const Wanted& w : wanted(basis)) answers_.push_back(answer(w));
    }

    void expect(const std::vector<double>& averages) const {
        const MomentPlan& plan = basis_.plan;
        for (const auto& [w, average, bound] : answers_) {
            const double found = w.pair ? plan.pair(averages.data(), w.i, w.j, w.r, w.b)
                                        : plan.triple(averages.data(), w.i, plan.feature(w.i, w.j, w.b),
                                                      plan.feature(w.i, w.q, w.d))(w.r);
            ASSERT_NEAR(found, average, bound)
                << (w.pair ? "pair" : "triple") << " site " << w.i << " r " << w.r << "; " << w.j << ' '
                << w.b << "; " << w.q << ' ' << w.d;
        }
    }

  private:
    struct Factor {
        double value, amplitude, error;
    };
    struct Answer {
        Wanted wanted;
        double average, bound;
    };
    Factor evaluate(size_t row, int site, int n, double z) const {
        if (n == 0) return {1, 1, 0};
        const Family& family = basis_.reference.of(site);
        const double value = values_.phi(row, site, n);
        const double amplitude = std::abs(value) + std::abs(values_.slope(row, site, n)) /
                                                       std::sqrt(family.lambda[static_cast<size_t>(n)]);
        return {value, amplitude, amplitude * function_error<T>(family, n, z)};
    }
    Factor factor(size_t row, int site, int n) const {
        if (site < 0) return {1, 1, 0};
        const auto sites = static_cast<size_t>(basis_.set.sites);
        return factors_[(row * sites + static_cast<size_t>(site)) * functions_ + static_cast<size_t>(n)];
    }
    Answer answer(const Wanted& w) const {
        double sum = 0, bound = 0;
        const double rows = static_cast<double>(rows_.size());
        for (size_t n : rows_) {
            const Factor a = factor(n, w.i, w.r), b = factor(n, w.j, w.b), c = factor(n, w.q, w.d);
            const double product = a.value * b.value * c.value;
            sum += product;
            bound += a.error * b.amplitude * c.amplitude + a.amplitude * b.error * c.amplitude +
                     a.amplitude * b.amplitude * c.error;
            // Rounding: three operations in precision T, the sum of a tile of 256 in T, all tiles in float64.
            bound += std::abs(product) * (260 * tolerance::unit<T> + rows * tolerance::eps);
        }
        return {w, sum / rows, bound / rows};
    }
    const Basis& basis_;
    oracle::Values values_;
    size_t functions_;
    std::vector<Factor> factors_;
    std::vector<size_t> rows_;
    std::vector<Answer> answers_;
};

template <class T> void expect_promised(const Basis& basis, const Array<double>& z,
                                        const std::vector<Context>& contexts, Subset subset) {
    const Naive<T> naive(basis, z, subset);
    for (const Context& context : contexts) naive.expect(basis.averages(context, z, subset, sizeof(T) == 4));
}

std::vector<Context> every_level(int threads) {
    std::vector<Context> contexts;
    for (Isa isa : cases::isas()) contexts.push_back(cases::context(threads, isa));
    return contexts;
}

struct Layout {
    const char* name;
    bool fitted, even;
    int sites, degree, near, total;
};
void PrintTo(const Layout& layout, std::ostream* out) { *out << layout.name; }

Basis make(const Layout& l) {
    Reference reference =
        l.fitted ? cases::fitted_reference(l.sites, l.even) : cases::hermite_reference(l.sites, 2 * l.degree);
    return Basis(std::move(reference),
                 make_index_set(l.sites, l.degree, cases::chain_pairs(l.sites, l.near), l.total, l.even));
}

const Layout layouts[] = {
    {"hermite 1 site", false, false, 1, 4, 0, 0},     {"fitted 1 site", true, false, 1, 6, 0, 0},
    {"hermite chain", false, false, 3, 4, 3, 0},      {"hermite even", false, true, 3, 4, 3, 0},
    {"fitted chain", true, false, 3, 6, 3, 0},        {"fitted even", true, true, 3, 6, 3, 0},
    {"fitted total degree", true, false, 3, 5, 5, 5}, {"pairs above the singles", false, false, 3, 1, 2, 0},
    {"far pairs only", true, false, 3, 3, 1, 0},      {"hermite 7 sites", false, false, 7, 3, 2, 0},
    {"fitted even 7 sites", true, true, 7, 4, 2, 0},
};

class Promises : public testing::TestWithParam<Layout> {};
INSTANTIATE_TEST_SUITE_P(Layout, Promises, testing::ValuesIn(layouts));

TEST_P(Promises, AverageIsThatOfTheDirectSumAtEveryLevel) {
    const Basis basis = make(GetParam());
    for (size_t rows : {1u, 31u, 300u}) {
        const Array<double> z = cases::rows(rows, static_cast<size_t>(GetParam().sites), 3);
        expect_promised<double>(basis, z, every_level(1), Subset::all);
    }
}

TEST_P(Promises, SinglePrecisionStaysWithinItsRounding) {
    const Basis basis = make(GetParam());
    const Array<double> z = cases::rows(300, static_cast<size_t>(GetParam().sites), 4);
    expect_promised<float>(basis, z, every_level(2), Subset::all);
}

TEST_P(Promises, TrainingAndHeldOutRowsAreSplitByFives) {
    const Basis basis = make(GetParam());
    for (size_t rows : {4u, 9u, 259u}) {
        const Array<double> z = cases::rows(rows, static_cast<size_t>(GetParam().sites), 5);
        expect_promised<double>(basis, z, {cases::context(2)}, Subset::train);
        expect_promised<double>(basis, z, {cases::context(2)}, Subset::test);
    }
}

TEST(Moments, ManyRowsInBothPrecisions) {
    for (bool fitted : {false, true}) {
        const Basis basis = make({"", fitted, false, 3, 4, 2, 0});
        const Array<double> z = cases::rows(10007, 3, 6);
        expect_promised<double>(basis, z, {cases::context(2)}, Subset::all);
        expect_promised<float>(basis, z, {cases::context(2)}, Subset::test);
    }
}

// A reference that is not the one of an equal basis: families in another order, a site that shares none.
TEST(Moments, MixedPairDegreesAndFamilies) {
    Reference reference = cases::fitted_reference(4);
    reference.family_of = {1, 1, 0, 1};
    const Basis basis(reference,
                      make_index_set(4, 4, {{0, 1, 4}, {0, 3, 1}, {1, 2, 2}, {2, 3, 3}}, 0, false));
    expect_promised<double>(basis, cases::rows(300, 4, 8), {cases::context(1)}, Subset::all);
}

// ---- division of the work

MomentSums run(const Basis& basis, const Array<double>& z, int threads, size_t batch, bool single,
               std::function<void(const MomentSums&)> after = {}) {
    MomentSums sums;
    accumulate_moments(cases::context(threads), basis.plan, basis.reference, Basis::source(z),
                       {single, batch, after}, sums);
    return sums;
}

void expect_same(const MomentSums& a, const MomentSums& b) {
    EXPECT_TRUE(cases::same_bytes(a.train, b.train));
    EXPECT_TRUE(cases::same_bytes(a.test, b.test));
    EXPECT_EQ(a.train_rows, b.train_rows);
    EXPECT_EQ(a.test_rows, b.test_rows);
    EXPECT_EQ(a.next_row, b.next_row);
}

class Division : public testing::TestWithParam<Layout> {};
INSTANTIATE_TEST_SUITE_P(Layout, Division, testing::Values(layouts[4], layouts[9], layouts[10]));

TEST_P(Division, ThreadsAndBatchesLeaveTheSameBytes) {
    const Basis basis = make(GetParam());
    const Array<double> z = cases::rows(6007, static_cast<size_t>(GetParam().sites), 9);
    for (bool single : {false, true}) {
        const MomentSums one = run(basis, z, 1, 0, single);
        for (int threads : {2, 3, 7}) expect_same(run(basis, z, threads, 0, single), one);
        for (size_t batch : {1u, 1280u, 1281u, 5000u, 100000u})
            expect_same(run(basis, z, 2, batch, single), one);
    }
}

TEST_P(Division, SumsThatContinueAreThoseOfOneRun) {
    const Basis basis = make(GetParam());
    const Array<double> z = cases::rows(6007, static_cast<size_t>(GetParam().sites), 9);
    const MomentSums whole = run(basis, z, 2, 0, false);
    struct Stop {};
    for (std::uint64_t stop : {1280u, 3840u}) {
        MomentSums sums;
        const MomentOptions options{false, 1280, [&](const MomentSums& s) {
                                        if (s.next_row == stop) throw Stop{};
                                    }};
        EXPECT_THROW(accumulate_moments(cases::context(2), basis.plan, basis.reference, Basis::source(z),
                                        options, sums),
                     Stop);
        EXPECT_EQ(sums.next_row, stop);
        accumulate_moments(cases::context(1), basis.plan, basis.reference, Basis::source(z), {}, sums);
        expect_same(sums, whole);
    }
}

TEST(Moments, CountsAreThoseOfTheRows) {
    const Basis basis = make(layouts[0]);
    for (size_t rows : {1u, 4u, 5u, 1284u, 1285u}) {
        const MomentSums sums = run(basis, cases::rows(rows, 1, 1), 1, 0, false);
        EXPECT_EQ(sums.test_rows, rows / 5);
        EXPECT_EQ(sums.train_rows, rows - rows / 5);
        EXPECT_EQ(sums.next_row, rows);
    }
}

TEST(Moments, AveragesOfAllAreThoseOfBothParts) {
    const Basis basis = make(layouts[2]);
    const MomentSums sums = run(basis, cases::rows(1001, 3, 2), 1, 0, false);
    const auto train = moment_averages(sums, Subset::train), test = moment_averages(sums, Subset::test),
               all = moment_averages(sums, Subset::all);
    for (size_t k = 0; k < all.size(); ++k)
        EXPECT_NEAR(all[k] * 1001, train[k] * 801 + test[k] * 200,
                    1e-12 * (std::abs(train[k] * 801) + std::abs(test[k] * 200)));
}

TEST(Moments, SumsOfAnotherPlanAreRefused) {
    const Basis basis = make(layouts[2]), other = make(layouts[0]);
    MomentSums sums = run(other, cases::rows(10, 1, 2), 1, 0, false);
    const Array<double> z = cases::rows(10, 3, 2);
    cases::expect_error(
        ErrorKind::usage,
        [&] {
            accumulate_moments(cases::context(1), basis.plan, basis.reference, Basis::source(z), {}, sums);
        },
        "another plan");
}

TEST(Moments, WhatTheSourceThrowsPassesThrough) {
    const Basis basis = make(layouts[2]);
    const SampleSource broken{10, [](size_t, size_t, double*) { throw Error(ErrorKind::input, "row 3"); }};
    MomentSums sums;
    cases::expect_error(
        ErrorKind::input,
        [&] { accumulate_moments(cases::context(2), basis.plan, basis.reference, broken, {}, sums); },
        "row 3");
}

TEST(MomentPlan, UnknownFeaturesAreErrors) {
    const Basis basis = make(layouts[2]);
    EXPECT_EQ(basis.plan.feature(0, -1, 0), 0);
    cases::expect_error(
        ErrorKind::usage, [&] { basis.plan.feature(0, 0, 1); }, "no such feature");
    cases::expect_error(
        ErrorKind::usage, [&] { basis.plan.feature(0, 1, 4); }, "no such feature");
}

TEST(MomentPlan, EvenBasesNeedFewerSums) {
    EXPECT_LT(make(layouts[5]).plan.multiply_adds(), 0.6 * make(layouts[4]).plan.multiply_adds());
}

} // namespace
} // namespace dynkin

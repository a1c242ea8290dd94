// moment_oracle.h - bases of many kinds, and the direct averages of everything that their Gram matrices need.
#pragma once
#include "cases.h"
#include "tolerance.h"
#include <set>

namespace dynkin::cases {

/// One wanted average: phi_r(x_i) phi_b(x_j) phi_d(x_q), j or q < 0: the constant; `pair`: from pair(), d
/// unused.
struct Wanted {
    int i, r, j, b, q, d;
    bool pair;
    auto operator<=>(const Wanted&) const = default;
};

/// What A(t) is made of, from its definition: for each two terms that meet at i, the r (and s) whose
/// coefficient is not negligible.
inline std::set<Wanted> wanted(const Basis& basis) {
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

struct MomentLayout {
    const char* name;
    bool fitted, even;
    int sites, degree, near, total;
};
inline void PrintTo(const MomentLayout& layout, std::ostream* out) { *out << layout.name; }

inline Basis make(const MomentLayout& l) {
    Reference reference =
        l.fitted ? fitted_reference(l.sites, l.even) : hermite_reference(l.sites, 2 * l.degree);
    return Basis(std::move(reference),
                 make_index_set(l.sites, l.degree, chain_pairs(l.sites, l.near), l.total, l.even));
}

inline const MomentLayout moment_layouts[] = {
    {"hermite 1 site", false, false, 1, 4, 0, 0},
    {"fitted 1 site", true, false, 1, 6, 0, 0},
    {"hermite chain", false, false, 3, 4, 3, 0},
    {"hermite even", false, true, 3, 4, 3, 0},
    {"fitted chain", true, false, 3, 6, 3, 0},
    {"fitted even", true, true, 3, 6, 3, 0},
    {"fitted total degree", true, false, 3, 5, 5, 5},
    {"pairs above the singles", false, false, 3, 1, 2, 0},
    {"far pairs only", true, false, 3, 3, 1, 0},
    {"hermite 7 sites", false, false, 7, 3, 2, 0},
    {"fitted even 7 sites", true, true, 7, 4, 2, 0},
    // Far pairs all around: more columns than a vector has lanes, an odd and an even number of them.
    {"fitted 20 sites", true, false, 20, 2, 1, 0},
    {"fitted even 21 sites", true, true, 21, 2, 1, 0},
};

inline void expect_same(const MomentSums& a, const MomentSums& b) {
    EXPECT_TRUE(same_bytes(a.train, b.train));
    EXPECT_TRUE(same_bytes(a.test, b.test));
    EXPECT_EQ(a.train_rows, b.train_rows);
    EXPECT_EQ(a.test_rows, b.test_rows);
    EXPECT_EQ(a.next_row, b.next_row);
}

} // namespace dynkin::cases

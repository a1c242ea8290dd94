// test_score.cpp - grad h and Lap h against sums over terms and finite differences, at every SIMD level; the
// score in the units of the data against exact Gaussians.
#include "cases.h"
#include "engine/score.h"
#include "kernels/score.h"
#include "tolerance.h"

namespace dynkin {
namespace {

using kernels::kScoreTile;
using std::size_t;

struct Layout {
    const char* name;
    bool fitted;
    IndexSet set;
};
void PrintTo(const Layout& layout, std::ostream* out) { *out << layout.name; }

std::vector<Pair> all_pairs(int sites, int degree) {
    std::vector<Pair> pairs;
    for (int i = 0; i < sites; ++i)
        for (int j = i + 1; j < sites; ++j) pairs.push_back({i, j, degree});
    return pairs;
}

std::vector<Layout> layouts() {
    std::vector<Layout> all;
    for (bool fitted : {false, true}) {
        all.push_back({"one site", fitted, make_index_set(1, 6, {}, 0, false)});
        all.push_back(
            {"three sites, lists", fitted, make_index_set(3, 4, cases::chain_pairs(3, 3), 0, false)});
        all.push_back({"lists of degree 5", fitted, make_index_set(3, 2, all_pairs(3, 5), 0, false)});
        all.push_back({"nine sites, matrix at (1,1)", fitted,
                       make_index_set(9, 4, cases::chain_pairs(9, 3), 0, false)});
        all.push_back(
            {"thirteen sites, four matrices", fitted, make_index_set(13, 3, all_pairs(13, 2), 0, false)});
        all.push_back(
            {"even, matrix and lists", fitted, make_index_set(8, 4, cases::chain_pairs(8, 3), 0, true)});
        all.push_back({"seven sites, no matrix", fitted, make_index_set(7, 2, all_pairs(7, 1), 0, false)});
    }
    return all;
}

/// A tile of positions inside the wells, where functions vary at rates up to sqrt(lambda): the boundary
/// layers are down by exp(v(z) - v(end)) < 1e-10.
template <class T> Array<double> positions(int sites) {
    Array<double> x = cases::rows(kScoreTile, static_cast<size_t>(sites), 2);
    for (double& value : x) value = static_cast<double>(static_cast<T>(std::clamp(value, -1.7, 1.7)));
    return x;
}

std::vector<double> coefficients(size_t count) {
    std::mt19937_64 engine(12);
    std::normal_distribution<double> normal;
    std::vector<double> c(count);
    for (double& value : c) value = 0.3 * normal(engine);
    return c;
}

/// grad h and Lap h of every row as sums over terms, and bounds for what the kernels may differ.
template <class T> struct Naive {
    Array<double> gradient, gradient_bound;
    std::vector<double> laplacian, laplacian_bound;

    Naive(const Reference& reference, const IndexSet& set, const std::vector<double>& c,
          const Array<double>& x)
        : gradient(x.rows(), x.cols()), gradient_bound(x.rows(), x.cols()), laplacian(x.rows()),
          laplacian_bound(x.rows()) {
        const oracle::Values values(reference, x, set.max_degree());
        for (size_t n = 0; n < x.rows(); ++n)
            for (size_t k = 0; k < c.size(); ++k)
                for (const auto& [i, a, j, b] :
                     {set.terms[k], Term{set.terms[k].j, set.terms[k].b, set.terms[k].i, set.terms[k].a}}) {
                    if (i < 0) continue;
                    const Factor own = factor(reference, values, x, n, i, a);
                    const Factor other =
                        j < 0 ? Factor{1, 0, 1, 0, 0} : factor(reference, values, x, n, j, b);
                    const double lambda = reference.of(i).lambda[static_cast<size_t>(a)],
                                 size = std::abs(c[k]);
                    const double dv = reference.of(i).dv(x(n, static_cast<size_t>(i)));
                    const double slope_bound = size * (own.slope_error * other.amplitude +
                                                       own.amplitude * std::sqrt(lambda) * other.error);
                    const double value_bound =
                        size * (own.error * other.amplitude + own.amplitude * other.error);
                    gradient(n, static_cast<size_t>(i)) += c[k] * own.slope * other.value;
                    gradient_bound(n, static_cast<size_t>(i)) += slope_bound;
                    laplacian[n] += c[k] * other.value * (dv * own.slope - lambda * own.value);
                    laplacian_bound[n] += std::abs(dv) * slope_bound + lambda * value_bound;
                }
    }

  private:
    struct Factor {
        double value, slope, amplitude, error, slope_error;
    };
    static Factor factor(const Reference& reference, const oracle::Values& values, const Array<double>& x,
                         size_t row, int site, int n) {
        const Family& f = reference.of(site);
        const double rate = std::sqrt(f.lambda[static_cast<size_t>(n)]), unit = tolerance::unit<T>;
        const double value = values.phi(row, site, n), slope = values.slope(row, site, n);
        const double amplitude = std::abs(value) + std::abs(slope) / rate;
        const bool single = sizeof(T) == 4;
        const int pieces = single ? 32 : 128, degree = single ? 5 : 7;
        const bool hermite = f.kind == ReferenceKind::hermite;
        const double recurrence = tolerance::hermite(n, x(row, static_cast<size_t>(site)), unit);
        // Sums of at most 64 products of three factors: 64 + 4 roundings of each.
        const double value_error =
            68 * unit + (hermite ? recurrence : tolerance::table(rate, f.hi - f.lo, pieces, degree, unit));
        const double slope_error =
            68 * unit * rate +
            (hermite ? recurrence * rate : tolerance::table_slope(rate, f.hi - f.lo, pieces, degree, unit));
        return {value, slope, amplitude, amplitude * value_error, amplitude * slope_error};
    }
};

/// One tile through the kernels: [site][particle] in and out.
template <class T> struct Tile {
    Array<T> gradient;
    std::vector<T> laplacian;
    Tile(const Context& context, const Block& block, const std::vector<double>& c, const Array<double>& x,
         bool with = true)
        : gradient(x.cols(), kScoreTile), laplacian(kScoreTile, T{-77}) {
        const ScoreField<T> field(context, block);
        Array<T> z(x.cols(), kScoreTile), scratch(field.scratch());
        for (size_t i = 0; i < x.cols(); ++i)
            for (size_t p = 0; p < kScoreTile; ++p) z(i, p) = static_cast<T>(x(p, i));
        field.gradient(field.arrange(c), z.data(), gradient.data(), with ? laplacian.data() : nullptr,
                       scratch.data());
    }
};

Block block_of(const Layout& layout) {
    Reference reference = layout.fitted ? cases::fitted_reference(layout.set.sites)
                                        : cases::hermite_reference(layout.set.sites, 12);
    return cases::empty_model(std::move(reference), layout.set, 4).blocks.front();
}

class Fields : public testing::TestWithParam<Layout> {
  protected:
    const Block block = block_of(GetParam());
    const std::vector<double> c = coefficients(block.basis.terms.size());

    template <class T> void expect_naive(Isa isa) const {
        const Array<double> x = positions<T>(block.basis.sites);
        const Naive<T> naive(block.reference, block.basis, c, x);
        const Tile<T> tile(cases::context(1, isa), block, c, x),
            alone(cases::context(1, isa), block, c, x, false);
        for (size_t n = 0; n < x.rows(); ++n) {
            for (size_t i = 0; i < x.cols(); ++i)
                ASSERT_NEAR(static_cast<double>(tile.gradient(i, n)), naive.gradient(n, i),
                            naive.gradient_bound(n, i))
                    << i;
            ASSERT_NEAR(static_cast<double>(tile.laplacian[n]), naive.laplacian[n], naive.laplacian_bound[n]);
        }
        EXPECT_TRUE(cases::same_bytes(tile.gradient, alone.gradient));
        EXPECT_EQ(alone.laplacian[0], T{-77}) << "no Laplacian was asked for";
    }
};
INSTANTIATE_TEST_SUITE_P(Layout, Fields, testing::ValuesIn(layouts()));

TEST_P(Fields, DoubleIsTheSumOverTermsAtEveryLevel) {
    for (Isa isa : cases::isas()) expect_naive<double>(isa);
}

TEST_P(Fields, FloatIsTheSumOverTermsAtEveryLevel) {
    for (Isa isa : cases::isas()) expect_naive<float>(isa);
}

TEST_P(Fields, LaplacianIsTheDivergenceOfTheGradient) {
    const double h = 1e-4;
    const Array<double> x = positions<double>(block.basis.sites);
    const Tile<double> tile(cases::context(), block, c, x);
    for (size_t n = 0; n < x.rows(); n += 13) {
        double divergence = 0;
        for (size_t i = 0; i < x.cols(); ++i) {
            Array<double> moved(2, x.cols());
            for (size_t j = 0; j < x.cols(); ++j) moved(0, j) = moved(1, j) = x(n, j);
            moved(0, i) -= h, moved(1, i) += h;
            const Naive<double> naive(block.reference, block.basis, c, moved);
            divergence += (naive.gradient(1, i) - naive.gradient(0, i)) / (2 * h);
        }
        // h^2 k^3 / 6 of each slope with k^2 = lambda <= 50, rounding k^2 eps / h; the equation of phi_6
        // holds to 3e-6 lambda
        EXPECT_NEAR(tile.laplacian[n], divergence, 1e-5 * (2 + std::abs(divergence))) << n;
    }
}

TEST(ScoreField, OutsideTheBoxTheGradientIsThatOfTheEndAndTheLaplacianNothing) {
    const Block block = block_of({"", true, make_index_set(2, 3, {{0, 1, 2}}, 0, false)});
    const auto c = coefficients(block.basis.terms.size());
    Array<double> at(kScoreTile, 2), beyond(kScoreTile, 2);
    const Family& f = block.reference.families[0];
    for (size_t n = 0; n < kScoreTile; ++n) {
        at(n, 0) = n % 2 ? f.hi : f.lo,
              beyond(n, 0) = n % 2 ? f.hi + 1 + static_cast<double>(n) : f.lo - 0.01;
        at(n, 1) = beyond(n, 1) = 0.02 * static_cast<double>(n) - 0.6;
    }
    for (Isa isa : cases::isas()) {
        const Tile<double> edge(cases::context(1, isa), block, c, at),
            outside(cases::context(1, isa), block, c, beyond);
        EXPECT_TRUE(cases::same_bytes(edge.gradient, outside.gradient));
        // What remains is the part of site 1, as where site 0 stands at its end but with nothing of its own.
        for (size_t n = 0; n < kScoreTile; ++n) {
            Array<double> row(1, 2);
            row(0, 0) = at(n, 0), row(0, 1) = at(n, 1);
            double own = 0;
            const oracle::Values values(block.reference, row, 3);
            for (size_t k = 0; k < c.size(); ++k) {
                const Term& t = block.basis.terms[k];
                const double lambda = f.lambda[static_cast<size_t>(t.i == 0 ? t.a : 0)];
                if (t.i == 0)
                    own += c[k] * (f.dv(row(0, 0)) * values.derivative(0, t, 0) - lambda * values.term(0, t));
            }
            EXPECT_NEAR(edge.laplacian[n] - outside.laplacian[n], own,
                        1e-6 * (1 + std::abs(own) + std::abs(edge.laplacian[n])));
        }
    }
}

TEST(ScoreField, LargestDegreeAndOddTailsOfTheTile) {
    const Block block = block_of({"", false, make_index_set(1, 12, {}, 0, false)});
    std::vector<double> c(12, 0);
    c[11] = 1; // grad h = sqrt(12) phi_11
    const Array<double> x = positions<double>(1);
    const Tile<double> tile(cases::context(), block, c, x);
    for (size_t n = 0; n < kScoreTile; ++n)
        EXPECT_NEAR(tile.gradient(0, n), std::sqrt(12.0) * oracle::hermite(11, x(n, 0)), 1e-12);
}

// ---- score() in the units of the data

/// x = mean + scale z of a Gaussian law of z.
struct Scaled {
    oracle::Gaussian law = cases::gaussian(3), data = law;
    Standardization standardization{{1, -20, 0.5}, {2, 0.1, 30}};
    Scaled() {
        for (size_t i = 0; i < 3; ++i) {
            data.mean[i] = standardization.mean[i] + standardization.scale[i] * law.mean[i];
            for (size_t j = 0; j < 3; ++j)
                data.covariance(i, j) *= standardization.scale[i] * standardization.scale[j];
        }
    }
    oracle::Gaussian noised(double t) const { // the noise is one of z
        oracle::Gaussian out = law.noised(t);
        for (size_t i = 0; i < 3; ++i) {
            out.mean[i] = standardization.mean[i] + standardization.scale[i] * out.mean[i];
            for (size_t j = 0; j < 3; ++j)
                out.covariance(i, j) *= standardization.scale[i] * standardization.scale[j];
        }
        return out;
    }
};

TEST(Score, OfAnExactGaussianModelIsExactInTheUnitsOfTheData) {
    const Scaled scaled;
    for (ReferenceKind kind : {ReferenceKind::hermite, ReferenceKind::fitted}) {
        Model model = cases::gaussian_model(scaled.law, kind, 16);
        model.standardization = scaled.standardization;
        // fitted: its eigenfunctions are those of Hermite to 1e-11 of the norm; tables; |z| < 4 magnifies by
        // exp(v/2) < 3e3
        const double bound = kind == ReferenceKind::hermite ? tolerance::gaussian_score : 1e-7;
        for (size_t node : {0u, 5u, 16u})
            for (size_t count : {1u, 64u, 65u, 130u}) {
                const double t = model.blocks[0].node_time[node];
                const oracle::Gaussian exact = scaled.noised(t);
                const Array<double> x = cases::draw(exact, count, 3);
                Array<double> found(count, 3);
                score(cases::context(2), model, t, count, x.data(), found.data());
                for (size_t n = 0; n < count; ++n) {
                    const auto expected = exact.score(x.row(n));
                    for (size_t i = 0; i < 3; ++i)
                        ASSERT_NEAR(found(n, i) * scaled.standardization.scale[i],
                                    expected[i] * scaled.standardization.scale[i], 20 * bound);
                }
            }
    }
}

TEST(Score, BetweenNodesTheSplineAddsItsError) {
    const oracle::Gaussian law = cases::gaussian(2);
    const Model model = cases::gaussian_model(law, ReferenceKind::hermite, 32);
    const Array<double> x = cases::draw(law, 50, 3);
    Array<double> found(50, 2);
    for (double t : {0.0013, 0.07, 0.9, 4.1}) {
        score(cases::context(), model, t, 50, x.data(), found.data());
        for (size_t n = 0; n < 50; ++n)
            for (size_t i = 0; i < 2; ++i)
                EXPECT_NEAR(found(n, i), law.noised(t).score(x.row(n))[i], 2e-4) << t; // (6.4/32)^4/24 = 7e-5
    }
}

TEST(Score, ThreadsLeaveTheSameBytesAndNoPointsAreFine) {
    const Model model = cases::gaussian_model(cases::gaussian(3), ReferenceKind::fitted, 8);
    const Array<double> x = cases::draw(cases::gaussian(3), 1000, 5);
    Array<double> one(1000, 3), many(1000, 3);
    score(cases::context(1), model, 0.01, 1000, x.data(), one.data());
    score(cases::context(5), model, 0.01, 1000, x.data(), many.data());
    EXPECT_TRUE(cases::same_bytes(one, many));
    score(cases::context(1), model, 0.01, 0, nullptr, nullptr);
}

TEST(Score, TimesOutsideTheModelAreErrors) {
    const Model model = cases::gaussian_model(cases::gaussian(1), ReferenceKind::hermite, 8);
    double x = 0, out;
    for (double t : {0.0, 13.0, -1.0, static_cast<double>(NAN)})
        cases::expect_error(
            ErrorKind::usage, [&] { score(cases::context(), model, t, 1, &x, &out); }, "outside");
}

} // namespace
} // namespace dynkin

// test_score.cpp - grad h and Lap h against sums over terms and finite differences, at every SIMD level; the
// score in the units of the data against exact Gaussians.
#include "engine/device_score.h"
#include "engine/score.h"
#include "score_cases.h"

namespace dynkin {
namespace {

using cases::block_of;
using cases::coefficients;
using cases::Layout;
using cases::positions;
using kernels::kScoreTile;
using oracle::Naive;
using std::size_t;

/// One tile through the kernels of the backend: [site][particle] in and out.
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
        if constexpr (built_with_cuda)
            if (context.device() == Device::cuda) {
                on_device(context.device_state(), field, c, z, with);
                return;
            }
        field.gradient(field.arrange(c), z.data(), gradient.data(), with ? laplacian.data() : nullptr,
                       scratch.data());
    }

  private:
    /// The tile as the first particles of a chunk; the Laplacian comes in parts, one of each site.
    void on_device(DeviceState& device, const ScoreField<T>& field, const std::vector<double>& c,
                   const Array<T>& z, bool with) {
        DeviceScore<T> score(device, field, {field.arrange(c)});
        std::vector<T> x(score.numbers(), T{0});
        const auto at = [&](size_t i) { return static_cast<std::ptrdiff_t>(i * score.chunk()); };
        for (size_t i = 0; i < z.rows(); ++i) std::copy_n(z.row(i), kScoreTile, x.begin() + at(i));
        const auto there = to_device<T>(device, x, "positions");
        DeviceArray<T> slopes(device, x.size(), "gradient"), parts(device, with ? x.size() : 0, "Laplacian");
        cuda::ScoreUpdate<T> update;
        update.gradient = slopes.data(), update.laplacian = parts.data();
        score.gradient(0, there.data(), kScoreTile, update);
        const auto slope = to_host(device, slopes), part = to_host(device, parts);
        if (with) std::fill(laplacian.begin(), laplacian.end(), T{0});
        for (size_t i = 0; i < z.rows(); ++i) {
            std::copy_n(slope.begin() + at(i), kScoreTile, gradient.row(i));
            for (size_t p = 0; with && p < kScoreTile; ++p) laplacian[p] += part[i * score.chunk() + p];
        }
    }
};

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
INSTANTIATE_TEST_SUITE_P(Layout, Fields, testing::ValuesIn(cases::layouts()));

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

// test_cuda_score.cpp - grad h and Lap h on the device against sums over terms, and score() against exact
// Gaussians and the CPU.
#include "device_cases.h"
#include "engine/device_score.h"
#include "engine/score.h"
#include "kernels/step.h"
#include "score_cases.h"

namespace dynkin {
namespace {

using cases::Layout;
using kernels::kScoreTile;
using std::size_t;

constexpr int per_thread = cuda::particles_a_thread;
size_t whole(size_t count) { return (count + per_thread - 1) / per_thread * per_thread; }

/// A block on the device with the same coefficients at two times but for a factor, and `count` particles that
/// repeat the rows of a tile.
template <class T> struct Chunk {
    DeviceState& device;
    ScoreField<T> field;
    DeviceScore<T> score;
    size_t sites, count;
    DeviceArray<T> x, gradient, laplacian;

    Chunk(const Context& context, const Block& block, const std::vector<double>& c, const Array<double>& tile,
          size_t particles)
        : device(context.device_state()), field(context, block),
          score(device, field, {field.arrange(scaled(c, 7)), field.arrange(c)}), sites(tile.cols()),
          count(particles), gradient(device, score.numbers(), "gradient"),
          laplacian(device, score.numbers(), "laplacian") {
        std::vector<T> host(score.numbers(), T{0});
        for (size_t n = 0; n < count; ++n)
            for (size_t i = 0; i < sites; ++i)
                host[i * score.chunk() + n] = static_cast<T>(tile(n % kScoreTile, i));
        x = to_device<T>(device, host, "positions");
    }
    static std::vector<double> scaled(std::vector<double> c, double factor) {
        for (double& value : c) value *= factor;
        return c;
    }
    /// The second time.
    void run(cuda::ScoreUpdate<T> update, bool with_laplacian) {
        update.gradient = gradient.data();
        update.laplacian = with_laplacian ? laplacian.data() : nullptr;
        score.gradient(1, x.data(), whole(count), update);
    }
};

class CudaScore : public testing::TestWithParam<std::tuple<cases::DeviceRun, Layout>> {
  protected:
    void SetUp() override { std::get<0>(GetParam()).apply(); }

    template <class T> void expect_naive(size_t count) const {
        const Context context = cases::device_context();
        const Block block = cases::block_of(std::get<1>(GetParam()));
        const auto c = cases::coefficients(block.basis.terms.size());
        const Array<double> tile = cases::positions<T>(block.basis.sites);
        const oracle::Naive<T> naive(block.reference, block.basis, c, tile);
        Chunk<T> chunk(context, block, c, tile, count);
        chunk.run({}, true);
        const auto gradient = to_host(chunk.device, chunk.gradient);
        const auto parts = to_host(chunk.device, chunk.laplacian);
        for (size_t n = 0; n < count; ++n) {
            double laplacian = 0;
            for (size_t i = 0; i < chunk.sites; ++i) {
                const size_t at = i * chunk.score.chunk() + n, row = n % kScoreTile;
                laplacian += static_cast<double>(parts[at]);
                ASSERT_NEAR(static_cast<double>(gradient[at]), naive.gradient(row, i),
                            naive.gradient_bound(row, i))
                    << n << ' ' << i;
            }
            ASSERT_NEAR(laplacian, naive.laplacian[n % kScoreTile], naive.laplacian_bound[n % kScoreTile])
                << n;
        }
        chunk.run({}, false);
        EXPECT_TRUE(cases::same_bytes(gradient, to_host(chunk.device, chunk.gradient)))
            << "with and without the Laplacian";
    }

  private:
    cases::Downloads downloads_;
};

std::vector<Layout> device_layouts() {
    std::vector<Layout> all = cases::layouts();
    // 72 rows a site, more than are in shared memory at a time
    all.push_back({"lists of degree 12", false, make_index_set(7, 2, cases::all_pairs(7, 12), 0, false)});
    return all;
}
INSTANTIATE_TEST_SUITE_P(Run, CudaScore,
                         testing::Combine(testing::ValuesIn(cases::device_runs()),
                                          testing::ValuesIn(device_layouts())));

TEST_P(CudaScore, DoubleIsTheSumOverTerms) {
    for (size_t count : {1u, 31u}) expect_naive<double>(count);
}

TEST_P(CudaScore, FloatIsTheSumOverTerms) {
    for (size_t count : {1u, 31u}) expect_naive<float>(count);
}

class CudaScoreRuns : public cases::OnDevice {};
INSTANTIATE_TEST_SUITE_P(Run, CudaScoreRuns, testing::ValuesIn(cases::device_runs()), cases::run_name);

/// Nine sites with a matrix and lists.
Layout both_layouts(bool fitted) {
    return {"", fitted, make_index_set(9, 4, cases::chain_pairs(9, 3), 0, false)};
}

TEST_P(CudaScoreRuns, ManyParticlesAreLikeFew) {
    for (bool fitted : {false, true}) {
        const Block block = cases::block_of(both_layouts(fitted));
        const auto c = cases::coefficients(block.basis.terms.size());
        const Array<double> tile = cases::positions<float>(9);
        Chunk<float> few(context(), block, c, tile, 64), many(context(), block, c, tile, 10'007);
        few.run({}, true), many.run({}, true);
        const auto one = to_host(device(), few.gradient), all = to_host(device(), many.gradient);
        const auto one_part = to_host(device(), few.laplacian), parts = to_host(device(), many.laplacian);
        // A GEMM may round a column by its place among the others: each is within the bound of the sum over
        // terms.
        const oracle::Naive<float> naive(block.reference, block.basis, c, tile);
        for (size_t n = 0; n < 10'007; ++n) {
            const size_t row = n % kScoreTile;
            double difference = 0;
            for (size_t i = 0; i < 9; ++i) {
                const size_t at = i * many.score.chunk() + n, as = i * few.score.chunk() + row;
                ASSERT_NEAR(all[at], one[as], 2 * naive.gradient_bound(row, i)) << n << ' ' << i;
                difference += static_cast<double>(parts[at]) - static_cast<double>(one_part[as]);
            }
            ASSERT_NEAR(difference, 0, 2 * naive.laplacian_bound[row]) << n;
        }
    }
}

TEST_P(CudaScoreRuns, StepsMoveParticlesAsTheySay) {
    const Block block = cases::block_of(both_layouts(true));
    const auto c = cases::coefficients(block.basis.terms.size());
    const Array<double> tile = cases::positions<double>(9);
    const size_t count = 31;
    Chunk<double> chunk(context(), block, c, tile, count);
    chunk.run({}, false);
    const auto g = to_host(device(), chunk.gradient), x = to_host(device(), chunk.x);
    const auto moved = [&](cuda::ScoreUse use, double step) {
        auto z = to_device<double>(device(), x, "z");
        DeviceArray<double> trial(device(), x.size(), "trial");
        cuda::ScoreUpdate<double> update;
        update.use = use, update.step = step, update.z = z.data(), update.trial = trial.data();
        chunk.run(update, true);
        return to_host(device(), use == cuda::ScoreUse::predict ? trial : z);
    };
    const auto predicted = moved(cuda::ScoreUse::predict, -0.25); // leaves g, for the next
    const auto corrected = moved(cuda::ScoreUse::correct, 0.5), drifted = moved(cuda::ScoreUse::drift, 0.125);
    for (size_t i = 0; i < 9; ++i)
        for (size_t n = 0; n < count; ++n) {
            const size_t at = i * chunk.score.chunk() + n;
            ASSERT_EQ(predicted[at], x[at] + -0.25 * g[at]);
            ASSERT_EQ(corrected[at], x[at] + 0.25 * (g[at] + g[at]));
            ASSERT_EQ(drifted[at], x[at] + 0.125 * g[at]);
        }
}

TEST_P(CudaScoreRuns, ProjectionKeepsParticlesAndCountsThoseInUse) {
    const Block block = cases::block_of({"", false, make_index_set(2, 2, {{0, 1, 1}}, 0, false)});
    const std::vector<double> none(block.basis.terms.size(), 0.0);
    Array<double> tile(kScoreTile, 2);
    for (size_t n = 0; n < kScoreTile; ++n) tile(n, 0) = 0.25 * static_cast<double>(n) - 8, tile(n, 1) = 0.5;
    const size_t count = 63;
    for (bool box : {false, true}) {
        Chunk<float> chunk(context(), block, none, tile, 64);
        const std::vector<float> lo{-2, 0}, hi{3, 1};
        const auto lower = to_device<float>(device(), lo, "lo"), upper = to_device<float>(device(), hi, "hi");
        DeviceArray<unsigned char> flags(device(), 64, "flags");
        cuda::fill_zero(device().compute_stream(), flags.data(), 64);
        cuda::ScoreUpdate<float> update;
        update.use = cuda::ScoreUse::project, update.step = 1, update.z = chunk.x.data();
        update.lo = lower.data(), update.hi = upper.data(), update.projected = flags.data();
        update.used = count, update.box = box;
        chunk.run(update, false);
        const auto z = to_host(device(), chunk.x);
        const auto flagged = to_host(device(), flags);
        for (size_t n = 0; n < 64; ++n) {
            const double x = tile(n, 0);
            EXPECT_EQ(static_cast<double>(z[n]), std::clamp(x, -2.0, 3.0));
            EXPECT_EQ(z[chunk.score.chunk() + n], 0.5f);
            EXPECT_EQ(flagged[n] == 1, !box && n < count && (x < -2 || x > 3)) << n;
        }
    }
    const float infinity = std::numeric_limits<float>::infinity(),
                nan = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(kernels::kept_within(nan, 1.0f, 3.0f), 2);
    EXPECT_EQ(kernels::kept_within(-infinity, 1.0f, 3.0f), 1);
    for (float wild : {infinity, -infinity, nan})
        EXPECT_TRUE(kernels::ran_away(wild, kernels::kept_within(wild, 1.0f, 3.0f), true));
}

TEST_P(CudaScoreRuns, TheScoreOfAGaussianModelIsExactAndThatOfTheCpu) {
    for (ReferenceKind kind : {ReferenceKind::hermite, ReferenceKind::fitted}) {
        const oracle::Gaussian law = cases::gaussian(3);
        Model model = cases::gaussian_model(law, kind, 16);
        model.standardization = {{1, -20, 0.5}, {2, 0.1, 30}};
        // as in test_score.cpp, where the bounds are derived
        const double bound = 20 * (kind == ReferenceKind::hermite ? tolerance::gaussian_score : 1e-7);
        const double t = model.blocks[0].node_time[5];
        for (size_t count : {1u, 31u, 10'007u}) {
            const Array<double> z = cases::draw(law.noised(t), count, 3);
            Array<double> x(count, 3), found(count, 3), cpu(count, 3);
            for (size_t n = 0; n < count; ++n)
                for (size_t i = 0; i < 3; ++i)
                    x(n, i) = model.standardization.mean[i] + model.standardization.scale[i] * z(n, i);
            score(context(), model, t, count, x.data(), found.data());
            score(cases::cpu_context(), model, t, count, x.data(), cpu.data());
            for (size_t n = 0; n < count; ++n) {
                const auto expected = n < 31 ? law.noised(t).score(z.row(n)) : std::vector<double>();
                for (size_t i = 0; i < 3; ++i) {
                    const double scale = model.standardization.scale[i];
                    ASSERT_NEAR(found(n, i) * scale, cpu(n, i) * scale, bound) << n;
                    if (n < 31) {
                        ASSERT_NEAR(found(n, i) * scale, expected[i], bound) << n;
                    }
                }
            }
        }
    }
}

TEST_P(CudaScoreRuns, NoPointsAndChunksThatAreNotFull) {
    const Model model = cases::gaussian_model(cases::gaussian(3), ReferenceKind::hermite, 8);
    score(context(), model, 0.1, 0, nullptr, nullptr);
    const size_t count = score_chunk(3) + 5;
    const Array<double> x = cases::draw(cases::gaussian(3), count, 5);
    Array<double> all(count, 3), end(5, 3);
    score(context(), model, 0.1, count, x.data(), all.data());
    score(context(), model, 0.1, 5, x.row(count - 5), end.data());
    EXPECT_EQ(0, std::memcmp(all.row(count - 5), end.data(), 15 * sizeof(double)));
}

} // namespace
} // namespace dynkin

// test_level_table.cpp - levels as tables: they integrate to one, draw what they say, and stay near the flow.
#include "cases.h"
#include "engine/error.h"
#include "engine/level_fit.h"
#include "engine/level_flow.h"
#include "engine/level_table.h"
#include "engine/sampler.h"
#include "tolerance.h"
#include <gtest/gtest.h>
#include <random>

namespace dynkin {
namespace {

using kernels::kScoreTile;
using std::size_t;

/// x = 0.8 (l + r) + noise whose law bends with l - r: column 0 given columns 1 and 2.
Level make_level(DescriptorKind kind) {
    LevelPlan plan;
    plan.name = "test", plan.targets = {0}, plan.slots = 2, plan.neighbours = {1, 2}, plan.shell = {0, 1};
    plan.kinds = {kind};
    LevelPairs pairs;
    pairs.values = Array<float>(3, 20000), pairs.train = 16000;
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    for (size_t n = 0; n < pairs.size(); ++n) {
        const float l = normal(engine), r = normal(engine), e = normal(engine);
        pairs.values(1, n) = l, pairs.values(2, n) = r;
        pairs.values(0, n) = 0.8f * (l + r) + (0.5f + 0.1f * (l - r) * (l - r)) * std::tanh(2 * e);
    }
    LevelOptions options;
    options.ridge = 1e-4, options.degree = 6;
    LevelReport report;
    return fit_level(cases::context(2), plan, pairs, options, report);
}
const Level& predictor() {
    static const Level level = make_level(DescriptorKind::predictor);
    return level;
}
const Level& squares() {
    static const Level level = make_level(DescriptorKind::squares);
    return level;
}
Level marginal() {
    Level level = predictor(); // the functions that do not depend on conditions
    level.descriptors.clear(), level.center.clear(), level.spread.clear(), level.lower.clear();
    level.upper.clear(), level.exponents.clear();
    level.transform = Array<double>(1, 1), level.transform[0] = 1, level.even_conditions = -1;
    const size_t all = predictor().conditions(), degree = static_cast<size_t>(level.degree);
    level.coefficients = Array<double>(level.node_time.size(), degree);
    for (size_t node = 0; node < level.node_time.size(); ++node)
        for (size_t a = 0; a < degree; ++a)
            level.coefficients(node, a) = predictor().coefficients(node, a * all);
    return level;
}

/// q at the x of a tile, all with the same neighbours.
std::vector<double> density(const LevelTable& table, const std::vector<float>& at, float l, float r) {
    std::vector<double> out;
    for (size_t first = 0; first < at.size(); first += kScoreTile) {
        float x[3 * kScoreTile];
        double log_q[kScoreTile] = {};
        for (size_t p = 0; p < kScoreTile; ++p)
            x[p] = at[std::min(first + p, at.size() - 1)], x[kScoreTile + p] = l, x[2 * kScoreTile + p] = r;
        table.evaluate(x, log_q);
        for (size_t p = 0; p < kScoreTile && first + p < at.size(); ++p) out.push_back(std::exp(log_q[p]));
    }
    return out;
}

constexpr float conditions[][2] = {{0, 0}, {0.3f, -0.7f}, {2, 1.5f}, {-9, 4}};

TEST(LevelTable, EveryRowIntegratesToOne) {
    for (const Level& level : {marginal(), predictor(), squares()}) {
        const LevelTable table(cases::context(2), level);
        const auto& law = table.law();
        const size_t stride = kernels::kTableStride;
        for (size_t first = 0; first < law.density.size(); first += stride) {
            double sum = 0;
            for (size_t i = 0; i + 1 < stride; ++i)
                sum += 0.5 * static_cast<double>(law.density[first + i] + law.density[first + i + 1]);
            // Each density is rounded to float32.
            EXPECT_NEAR(sum * static_cast<double>(law.h), 1, 4 * tolerance::eps32) << first / stride;
        }
    }
}

/// And so does what evaluate() makes of them, between the rows and beyond.
TEST(LevelTable, DensitiesIntegrateToOne) {
    for (const Level& level : {predictor(), squares()})
        for (Isa isa : cases::isas()) {
            const LevelTable table(cases::context(2, isa), level);
            for (const auto& [l, r] : conditions) {
                const size_t count = 4000;
                const double reach = 10, step = 2 * reach / static_cast<double>(count);
                const double middle = static_cast<double>(0.8f * (l + r));
                std::vector<float> x(count);
                for (size_t i = 0; i < count; ++i)
                    x[i] = static_cast<float>(middle - reach + step * (static_cast<double>(i) + 0.5));
                double sum = 0, highest = 0;
                for (double q : density(table, x, l, r)) sum += q, highest = std::max(highest, q);
                EXPECT_NEAR(sum * step, 1, step * highest); // the ends of the table, half a step each
            }
        }
}

/// Draws at fixed conditions against the distribution function of what evaluate() says.
TEST(LevelTable, DrawsFollowTheDensityWhichIsTheSameFromBothSides) {
    for (const Level& level : {predictor(), squares()})
        for (Isa isa : cases::isas()) {
            const LevelTable table(cases::context(1, isa), level);
            const float l = 0.3f, r = -0.7f;
            std::vector<float> drawn;
            for (size_t tile = 0; tile < 400; ++tile) {
                float x[3 * kScoreTile];
                double log_q[kScoreTile] = {}, again[kScoreTile] = {};
                for (size_t p = 0; p < kScoreTile; ++p) x[kScoreTile + p] = l, x[2 * kScoreTile + p] = r;
                table.draw({7, Stream::table_draw, tile * kScoreTile, 0, 0}, x, log_q);
                table.evaluate(x, again);
                for (size_t p = 0; p < kScoreTile; ++p) {
                    EXPECT_EQ(log_q[p], again[p]);
                    EXPECT_TRUE(std::isfinite(log_q[p]));
                    drawn.push_back(x[p]);
                }
            }
            std::sort(drawn.begin(), drawn.end());
            const size_t count = 20000;
            const float low = drawn.front() - 0.01f,
                        step = (drawn.back() + 0.01f - low) / static_cast<float>(count);
            std::vector<float> x(count);
            for (size_t i = 0; i < count; ++i) x[i] = low + step * (static_cast<float>(i) + 0.5f);
            double below = 0, furthest = 0;
            size_t n = 0;
            const auto q = density(table, x, l, r);
            for (size_t i = 0; i < count; ++i) {
                below += q[i] * static_cast<double>(step);
                while (n < drawn.size() && drawn[n] < low + step * static_cast<float>(i + 1)) ++n;
                furthest = std::max(
                    furthest, std::abs(below - static_cast<double>(n) / static_cast<double>(drawn.size())));
            }
            // Kolmogorov: P(sqrt(n) D > 2.5) = 2 exp(-2 2.5^2) = 7e-6.
            EXPECT_LT(furthest * std::sqrt(static_cast<double>(drawn.size())), 2.5);
        }
}

TEST(LevelTable, IsNearTheFlow) {
    for (const Level& level : {predictor(), squares()}) {
        const Context context = cases::context();
        const LevelTable table(context, level);
        const LevelFlow<float> flow(context, level, 0);
        std::vector<std::byte> scratch(flow.scratch());
        std::mt19937 engine(2);
        std::normal_distribution<float> normal;
        std::vector<double> differences;
        for (size_t tile = 0; tile < 50; ++tile) {
            float x[3 * kScoreTile];
            double log_q[kScoreTile] = {}, log_flow[kScoreTile] = {};
            for (size_t p = kScoreTile; p < 3 * kScoreTile; ++p) x[p] = normal(engine);
            table.draw({3, Stream::table_draw, tile * kScoreTile, 0, 0}, x, log_q);
            flow.evaluate(x, log_flow, scratch.data());
            for (size_t p = 0; p < kScoreTile; ++p) differences.push_back(std::abs(log_q[p] - log_flow[p]));
        }
        // Interpolation between rows and nodes; in the far tails, where both are guesses, they may differ by
        // more.
        std::sort(differences.begin(), differences.end());
        EXPECT_LT(differences[differences.size() / 2], 0.03);
        EXPECT_LT(differences[differences.size() * 9 / 10], 0.3);
    }
}

TEST(LevelTable, SamplesDoNotDependOnThreads) {
    Model model = cases::gaussian_model(cases::gaussian(2), ReferenceKind::fitted, 16);
    model.view.columns = 3, model.view.kept = {0, 1, 2}, model.view.constant.assign(3, 0);
    model.standardization.mean.assign(3, 0), model.standardization.scale.assign(3, 1);
    model.levels = {squares()};
    model.levels[0].targets = {2}, model.levels[0].neighbours = {0, 1};
    SampleOptions options;
    options.method = Method::ode, options.tables = true, options.steps = 8, options.estimate_error = false;
    const Samples one = sample(cases::context(1), model, 1000, options),
                  three = sample(cases::context(3), model, 1000, options);
    EXPECT_EQ(one.report.table_sites, 1u);
    EXPECT_TRUE(std::equal(one.rows.begin(), one.rows.end(), three.rows.begin()));
    EXPECT_EQ(one.log_density, three.log_density);
}

TEST(LevelTable, ThreeDescriptorsAreRefused) {
    Level level = squares();
    level.descriptors.push_back(level.descriptors[0]);
    EXPECT_FALSE(LevelTable::fits(level));
    EXPECT_THROW(LevelTable(cases::context(), level), Error);
}

} // namespace
} // namespace dynkin

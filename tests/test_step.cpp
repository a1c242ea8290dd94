// test_step.cpp - random numbers and reference transitions of a tile, at every SIMD level, against one
// particle at a time.
#include "cases.h"
#include "kernels/elementary.h"
#include "kernels/philox.h"
#include "kernels/score.h"
#include "kernels/step.h"
#include "tolerance.h"

namespace dynkin::kernels {
namespace {

constexpr std::uint32_t stream = static_cast<std::uint32_t>(Stream::test);
constexpr std::uint64_t firsts[] = {0, 17, 0xffffffe0, 0xffffffffffc0}; // the third tile passes 2^32

class StepLevels : public testing::TestWithParam<Isa> {
  protected:
    const StepKernels& step = step_kernels(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Isa, StepLevels, testing::ValuesIn(cases::isas()));

TEST_P(StepLevels, UniformsAreThoseOfThePhiloxWords) {
    float u[4 * kScoreTile];
    for (std::uint64_t first : firsts) {
        step.uniforms(9, stream, first, 3, 2, u);
        for (std::uint64_t p = 0; p < kScoreTile; ++p)
            for (std::uint64_t k = 0; k < 4; ++k)
                ASSERT_EQ(u[k * kScoreTile + p],
                          uniform_float(philox(9, Stream::test, first + p, 3, 2).v[k]));
    }
}

TEST_P(StepLevels, NormalsAreThoseOfThePhiloxWords) {
    float n[4 * kScoreTile];
    for (std::uint64_t first : firsts) {
        step.normals(9, stream, first, 3, 2, n);
        for (std::uint64_t p = 0; p < kScoreTile; ++p) {
            const RandomWords w = philox(9, Stream::test, first + p, 3, 2);
            double z[4];
            normal_pair(w.v[0], w.v[1], z[0], z[1]), normal_pair(w.v[2], w.v[3], z[2], z[3]);
            for (std::uint64_t k = 0; k < 4; ++k) // float64 to a few ulp, then rounded to float32
                ASSERT_NEAR(n[k * kScoreTile + p], z[k], tolerance::eps32 * (0.5 * std::abs(z[k]) + 1e-6));
        }
    }
}

/// Columns that bend, so that a wrong cell shows.
struct Table {
    static constexpr int rows = 5, columns = 9;
    std::vector<float> values;
    TransitionView view;
    Table() {
        for (int i = 0; i < rows; ++i)
            for (int k = 0; k < columns; ++k)
                values.push_back(static_cast<float>(i * i + 10 * k + (k * k) % 7));
        view = {values.data(), rows, columns, -2.0f, 1.0f}; // starts at -2, -1, 0, 1, 2
    }
    double at(double row, double column) const { // bilinear
        const int i = std::min(static_cast<int>(row), rows - 2),
                  k = std::min(static_cast<int>(column), columns - 2);
        double sum = 0;
        for (int di = 0; di < 2; ++di)
            for (int dk = 0; dk < 2; ++dk)
                sum += (di ? row - i : 1 - row + i) * (dk ? column - k : 1 - column + k) *
                       static_cast<double>(values[static_cast<std::size_t>((i + di) * columns + k + dk)]);
        return sum;
    }
};

TEST(QuantilePosition, InvertsTheSpacingOfTheColumns) {
    for (int k = 0; k <= 256; ++k) {
        const double s = std::min(k, 256 - k) / 256.0;
        const double u = k <= 128 ? 2 * s * s : 1 - 2 * s * s;
        // sqrt doubles the distance of columns near the ends: u is rounded to eps32, du/dk = 4 s / n
        const double slope = std::max(4 * s / 256, 1e-4);
        EXPECT_NEAR(quantile_position(static_cast<float>(u), 256), k,
                    tolerance::eps32 / slope + 256 * tolerance::eps32 * 4);
    }
}

/// One tile through the kernel: particles and uniforms given, the rest of the tile at 0 and 1/2.
std::vector<float> step_tile(const StepKernels& step, const Table& table, std::vector<float> z,
                             std::vector<float> u) {
    const std::size_t used = z.size();
    z.resize(kScoreTile, 0.0f), u.resize(kScoreTile, 0.5f);
    step.transition(table.view, u.data(), z.data());
    z.resize(used);
    return z;
}

TEST_P(StepLevels, TransitionIsBilinearInTheTable) {
    const Table table;
    for (double z : {-2.0, -1.7, -0.5, 0.0, 0.99, 2.0})
        for (double u : {0.0001, 0.1, 0.31, 0.5, 0.77, 0.9999}) {
            const double s = std::sqrt(0.5 * std::min(u, 1 - u)), column = 8 * (u < 0.5 ? s : 1 - s);
            const float found = step_tile(step, table, {static_cast<float>(z)}, {static_cast<float>(u)})[0];
            EXPECT_NEAR(found, table.at(z + 2, column),
                        tolerance::few_operations(100, tolerance::eps32) / std::max(s, 0.01))
                << z << ' ' << u;
        }
}

TEST_P(StepLevels, TransitionsFromOutsideTheTableStartAtItsEnds) {
    const Table table;
    for (float u : {0x1p-24f, 0.3f, 1 - 0x1p-24f}) {
        const auto z = step_tile(step, table, {-100.0f, -2.0f, 100.0f, 2.0f, INFINITY, -INFINITY, NAN},
                                 std::vector<float>(7, u));
        EXPECT_EQ(z[0], z[1]);
        EXPECT_EQ(z[2], z[3]);
        EXPECT_EQ(z[4], z[3]);
        EXPECT_EQ(z[5], z[1]);
        EXPECT_TRUE(std::isfinite(z[6]));
    }
}

TEST_P(StepLevels, TransitionOfATileTreatsEachParticleAlike) {
    const Table table;
    std::vector<float> z, u;
    for (int p = 0; p < kScoreTile; ++p) {
        u.push_back((static_cast<float>(p) + 0.5f) / kScoreTile);
        z.push_back(-3.0f + 0.1f * static_cast<float>(p));
    }
    const auto together = step_tile(step, table, z, u);
    for (std::size_t p = 0; p < kScoreTile; ++p)
        EXPECT_EQ(together[p], step_tile(step, table, {z[p]}, {u[p]})[0]) << p;
}

} // namespace
} // namespace dynkin::kernels

// test_cuda_levels.cpp - levels on the device: against a naive oracle, and against the CPU's flows.
#include "cases.h"
#include "device_cases.h"
#include "engine/fit.h"
#include "engine/level_fit.h"
#include "engine/level_flow.h"
#include "engine/level_moments.h"
#include "engine/level_systems.h"
#include "engine/level_table.h"
#include "engine/levels_device.h"
#include "engine/sampler.h"
#include "engine/transfer_matrix.h"
#include "kernels/cuda_libraries.h"
#include "tolerance.h"
#include <atomic>
#include <cmath>

namespace dynkin {
namespace {

using kernels::kScoreTile;
using std::size_t;

/// Conditions of two slots: l + r and (l - r)^2, monomials up to a degree; symmetric ones: even before odd.
void set_conditions(Level& level, int degree, bool even) {
    level.slots = 2, level.predictor = {0.3, 0.25}, level.intercept = even ? 0 : 0.1;
    level.descriptors = {{1, {{1, {{0, 1}, {1, 1}}}}}, {2, {{0.5, {{0, 1}, {1, -1}}}, {0.25, {{0, 1}}}}}};
    level.center = {even ? 0 : 0.2, 1.1}, level.spread = {1.3, 1.7};
    level.lower = {-2.5, -1.2}, level.upper = {2.5, 3};
    std::vector<std::vector<int>> all;
    for (int parity = 0; parity < 2; ++parity)
        for (int a = 0; a <= degree; ++a)
            for (int b = 0; a + 2 * b <= degree; ++b)
                if (a % 2 == parity) all.push_back({a, b});
    size_t evens = 0;
    for (const auto& e : all) {
        level.exponents.insert(level.exponents.end(), e.begin(), e.end());
        evens += e[0] % 2 == 0;
    }
    std::mt19937_64 engine(7);
    std::normal_distribution<double> normal;
    level.transform = Array<double>(all.size(), all.size());
    for (size_t c = 0; c < all.size(); ++c)
        for (size_t m = even && c >= evens ? evens : 0; m < (even && c < evens ? evens : all.size()); ++m)
            level.transform(c, m) = normal(engine) / std::pow(2.5, all[m][0] + 2 * all[m][1]);
    if (even) level.even_conditions = static_cast<int>(evens);
}

/// Solved at the times of the steps, so that nothing is interpolated between them.
void set_flow(Level& level, const Family& family, int degree, int steps) {
    level.family = family, level.degree = degree, level.scale = 0.8;
    level.t_min = 1e-3, level.t_end = 4, level.steps = steps;
    level.node_time = level.step_times(steps);
    const size_t p = level.conditions(), n = static_cast<size_t>(degree);
    level.coefficients = Array<double>(level.node_time.size(), n * p);
    std::mt19937_64 engine(9);
    std::normal_distribution<double> normal;
    for (size_t k = 0; k < n * p; ++k) {
        const size_t a = k / p + 1, c = k % p;
        const bool vanishes =
            level.even_conditions >= 0 && (a % 2 == 0) != (c < static_cast<size_t>(level.even_conditions));
        const double size = 0.12 * normal(engine) / std::sqrt(static_cast<double>(a * p));
        for (size_t node = 0; node < level.node_time.size() && !vanishes; ++node)
            level.coefficients(node, k) = size * std::exp(-family.lambda[a] * level.node_time[node]);
    }
}

struct Shape {
    const char* name;
    bool fitted, even;
    int degree, conditioning;
};
constexpr Shape shapes[] = {{"fitted", true, false, 8, 3},       {"symmetric", true, true, 7, 5},
                            {"rich", true, true, 14, 12},        {"richest", true, false, 24, 4},
                            {"few", true, false, 1, 1},          {"Ornstein-Uhlenbeck", false, false, 4, 2},
                            {"symmetric OU", false, true, 5, 3}, {"medium", true, false, 11, 2}};

/// Seven columns: 2 alone; 0 and 4 given 2; 1 and 3 given both sides; 5, and 6 given 5, in one level.
std::vector<Level> make_levels(const Shape& shape, int steps = 20) {
    const Family well = fitted_family({0, 0, -0.6, 0, 0.3}, -3, 3),
                 skewed = fitted_family({0, 0.2, 0.1, 0, 0.2}, -3, 3);
    const Family& family = !shape.fitted ? hermite_family(24) : shape.even ? well : skewed;
    std::vector<Level> levels(4);
    Level& alone = levels.front();
    alone.transform = Array<double>(1, 1), alone.transform[0] = 1;
    if (shape.even) alone.even_conditions = 1;
    alone.targets = {2};
    for (size_t k = 1; k < 4; ++k) set_conditions(levels[k], shape.conditioning, shape.even);
    levels[1].targets = {0, 4}, levels[1].neighbours = {2, -1, -1, 2};
    levels[2].targets = {1, 3}, levels[2].neighbours = {0, 2, 2, 4};
    levels[3].targets = {5, 6}, levels[3].neighbours = {4, -1, 5, 4};
    for (Level& level : levels) {
        level.name = shape.name;
        set_flow(level, family, shape.degree, steps);
    }
    return levels;
}
constexpr size_t columns = 7;

/// g and g' of one scalar given its conditions: sums over closed eigenfunctions.
struct Slope {
    double g = 0, derivative = 0;
    Slope(const Level& level, size_t node, const std::vector<double>& psi, double z) {
        const size_t n = static_cast<size_t>(level.degree);
        std::vector<double> phi(n + 1), slope(n + 1);
        oracle::functions(level.family, z, level.degree, phi.data(), slope.data());
        for (size_t a = 1; a <= n; ++a) {
            double e = 0;
            for (size_t c = 0; c < psi.size(); ++c)
                e += level.coefficients(node, (a - 1) * psi.size() + c) * psi[c];
            g += e * slope[a];
            if (z >= level.family.lo && z <= level.family.hi)
                derivative += e * (level.family.dv(z) * slope[a] - level.family.lambda[a] * phi[a]);
        }
    }
};

std::vector<double> oracle_conditions(const Level& level, double l, double r) {
    if (level.slots == 0) return {1};
    const auto cut = [&](size_t k, double f) {
        return std::min(std::max((f - level.center[k]) / level.spread[k], level.lower[k]), level.upper[k]);
    };
    const double u = cut(0, l + r), v = cut(1, 0.5 * (l - r) * (l - r) + 0.25 * l * l);
    std::vector<double> psi(level.conditions(), 0);
    for (size_t c = 0; c < psi.size(); ++c)
        for (size_t m = 0; m < level.transform.cols(); ++m)
            psi[c] += level.transform(c, m) * std::pow(u, level.exponents[2 * m]) *
                      std::pow(v, level.exponents[2 * m + 1]);
    return psi;
}

/// x from z of the reference, and log q there.
double oracle_draw(const Level& level, double l, double r, double z, double& log_q) {
    const std::vector<double> psi = oracle_conditions(level, l, r);
    log_q += level.family.log_density(z) - std::log(level.scale);
    for (size_t k = level.node_time.size() - 1; k > 0; --k) {
        const double dt = level.node_time[k] - level.node_time[k - 1];
        const Slope now(level, k, psi, z), next(level, k - 1, psi, z + dt * now.g);
        z += 0.5 * dt * (now.g + next.g);
        log_q -= std::log(1 + 0.5 * dt * (now.derivative + next.derivative * (1 + dt * now.derivative)));
    }
    const double mean = level.slots == 0 ? level.intercept
                                         : level.intercept + level.predictor[0] * l + level.predictor[1] * r;
    return mean + level.scale * z;
}

template <class T> T& at(Array<T>& x, size_t n, int column) {
    return x(n / kScoreTile, static_cast<size_t>(column) * kScoreTile + n % kScoreTile);
}

/// The double tables hold a function to 1e-12 of its amplitude, and the steepest of those here is multiplied
/// by v' up to 30 in the slope of the map.
constexpr double density_tolerance = 1e-9;

/// How far two evaluations of a level's map in T may be apart. Each Heun step rounds z, of the size of the
/// box, in four operations; the displacements of all steps together are at most the box, and a slope from a
/// table of degree m has up to (1 + sqrt 2)^m roundings of its size (tolerance.h), m = 5 and 7. Roundings add
/// like random numbers: six standard deviations of their sum. Later steps stretch what came before by at most
/// `stretch`, and so do the levels: what is drawn later moves by less than its neighbours (the predictor's
/// weights), so three generations of them at most triple it.
template <class T> double trajectory(int steps, double box, double stretch) {
    const double table = std::pow(1 + std::sqrt(2.0), sizeof(T) == 4 ? 5 : 7);
    return 3 * 6 * std::sqrt(4 * steps + table) * tolerance::unit<T> * box * stretch;
}
/// log q moves by |d log q / dx| < 20 for each of the columns, like random numbers.
double log_density_of(double trajectory, size_t columns) {
    return 20 * std::sqrt(static_cast<double>(columns)) * trajectory;
}

class CudaLevels : public cases::OnDevice {};
INSTANTIATE_TEST_SUITE_P(Run, CudaLevels, testing::ValuesIn(cases::device_runs()), cases::run_name);

TEST_P(CudaLevels, DensitiesAreThoseOfTheOracle) {
    for (const Shape& shape : shapes) {
        const std::vector<Level> levels = make_levels(shape, 6);
        Array<double> x(1, columns * kScoreTile);
        std::vector<double> expected(kScoreTile, 0), found(kScoreTile, 0);
        for (size_t n = 0; n < kScoreTile; ++n)
            for (const Level& level : levels)
                for (size_t k = 0; k < level.targets.size(); ++k) {
                    const auto value = [&](size_t slot) {
                        const int j = level.slots ? level.neighbours[2 * k + slot] : -1;
                        return j < 0 ? 0 : at(x, n, j);
                    };
                    const double z =
                        -1.5 + 3 * std::fmod(0.37 * static_cast<double>(n) + 0.21 * level.targets[k], 1);
                    at(x, n, level.targets[k]) = oracle_draw(level, value(0), value(1), z, expected[n]);
                }
        DeviceLevels<double>(context(), flows_of(levels), columns, 0).evaluate(1, x.data(), found.data());
        size_t finite = 0;
        for (size_t n = 0; n < kScoreTile; ++n) {
            if (!std::isfinite(expected[n])) continue; // folded: neither has an inverse
            EXPECT_NEAR(found[n], expected[n], density_tolerance) << shape.name << ' ' << n;
            ++finite;
        }
        EXPECT_GT(finite, kScoreTile / 2) << shape.name;
    }
}

template <class T> struct Drawn {
    Array<T> x;
    std::vector<double> log_q;
    explicit Drawn(size_t tiles) : x(tiles, columns * kScoreTile), log_q(tiles * kScoreTile, 0) {}
};
template <class T> Drawn<T> on_cpu(const std::vector<Level>& levels, size_t tiles, std::uint64_t first,
                                   Isa isa = Isa::automatic) {
    Drawn<T> out(tiles);
    const Context context = cases::context(1, isa);
    for (const Level& level : levels) {
        const LevelFlow<T> flow(context, level, 0);
        Array<double> space(flow.scratch() / sizeof(double) + 1);
        for (size_t tile = 0; tile < tiles; ++tile)
            flow.draw(5, first + tile * kScoreTile, out.x.row(tile), &out.log_q[tile * kScoreTile],
                      reinterpret_cast<std::byte*>(space.data()));
    }
    return out;
}
template <class T> Drawn<T> on_device(const Context& context, const std::vector<Level>& levels, size_t tiles,
                                      std::uint64_t first) {
    Drawn<T> out(tiles);
    DeviceLevels<T>(context, flows_of(levels), columns, 0)
        .draw(0, levels.size(), 5, first, tiles, out.x.data(), out.log_q.data());
    return out;
}

template <class T> void expect_near(const Drawn<T>& found, const Drawn<T>& expected, const char* name) {
    const double bound = trajectory<T>(20, 3, 4);
    for (size_t n = 0; n < found.x.size(); ++n)
        ASSERT_NEAR(static_cast<double>(found.x[n]), static_cast<double>(expected.x[n]), bound)
            << name << ' ' << n;
    for (size_t n = 0; n < found.log_q.size(); ++n)
        ASSERT_NEAR(found.log_q[n], expected.log_q[n], log_density_of(bound, columns)) << name << ' ' << n;
}

TEST_P(CudaLevels, DrawsAreThoseOfTheCpu) {
    const std::uint64_t first = 0xffffffe0; // passes 2^32
    for (const Shape& shape : shapes) {
        const std::vector<Level> levels = make_levels(shape);
        const auto found = on_device<float>(context(), levels, 3, first);
        for (Isa isa : cases::isas()) expect_near(found, on_cpu<float>(levels, 3, first, isa), shape.name);
        expect_near(on_device<double>(context(), levels, 1, first), on_cpu<double>(levels, 1, first),
                    shape.name);
    }
}

TEST_P(CudaLevels, DensitiesAreThoseOfTheCpu) {
    for (const Shape& shape : shapes) {
        const std::vector<Level> levels = make_levels(shape);
        Drawn<double> drawn = on_cpu<double>(levels, 2, 0);
        for (size_t n = 0; n < 10; ++n)
            drawn.x(0, 2 * kScoreTile + n) = 2 * static_cast<double>(n) - 9; // beyond
        std::vector<double> expected(2 * kScoreTile, 0), found(2 * kScoreTile, 0);
        for (const Level& level : levels) {
            const LevelFlow<double> flow(cases::context(), level, 0);
            Array<double> space(flow.scratch() / sizeof(double) + 1);
            for (size_t tile = 0; tile < 2; ++tile)
                flow.evaluate(drawn.x.row(tile), &expected[tile * kScoreTile],
                              reinterpret_cast<std::byte*>(space.data()));
        }
        DeviceLevels<double>(context(), flows_of(levels), columns, 0)
            .evaluate(2, drawn.x.data(), found.data());
        for (size_t n = 0; n < found.size(); ++n) {
            ASSERT_EQ(std::isfinite(found[n]), std::isfinite(expected[n])) << shape.name << ' ' << n;
            if (std::isfinite(found[n])) {
                ASSERT_NEAR(found[n], expected[n], density_tolerance) << shape.name << ' ' << n;
            }
        }
    }
}

TEST_P(CudaLevels, FloatDensitiesAreThoseOfTheirDraws) {
    for (const Shape& shape : {shapes[0], shapes[2], shapes[3], shapes[7]}) {
        const std::vector<Level> levels = make_levels(shape);
        const Drawn<float> drawn = on_device<float>(context(), levels, 2, 0);
        std::vector<double> found(2 * kScoreTile, 0);
        DeviceLevels<float>(context(), flows_of(levels), columns, 0)
            .evaluate(2, drawn.x.data(), found.data());
        // Newton's method stops at 1e-6 of |z| + 1 in each step.
        const double bound = log_density_of(trajectory<float>(20, 3, 4) + 20 * 1e-6, columns);
        for (size_t n = 0; n < found.size(); ++n)
            ASSERT_NEAR(found[n], drawn.log_q[n], bound) << shape.name << ' ' << n;
    }
}

/// Tables: the same bits, but for a float ulp here and there where a multiply-add is fused on one side only;
/// seldom (once in 2^20) that decides between two rows of a table, and then the draw is another one of the
/// same law.
TEST_P(CudaLevels, TablesDrawWhatTheyDrawOnTheCpu) {
    const std::vector<Level> levels = make_levels(shapes[0]);
    const Context cpu({.device = Device::cpu, .threads = 1});
    std::vector<LevelTable> tables;
    for (const Level& level : levels) tables.emplace_back(cpu, level);
    std::vector<DeviceLevel> sources = flows_of(levels);
    for (size_t k = 0; k < 3; ++k) sources[k].table = &tables[k];
    EXPECT_TRUE(DeviceLevels<float>::fits(context(), sources[2]));
    EXPECT_FALSE(DeviceLevels<float>::fits(context(), {&levels[3], &tables[3]})); // 6 is given 5
    const size_t tiles = 9;
    Drawn<float> found(tiles), expected(tiles);
    DeviceLevels<float>(context(), sources, columns, 0)
        .draw(0, 3, 5, 70, tiles, found.x.data(), found.log_q.data());
    for (size_t tile = 0; tile < tiles; ++tile)
        for (size_t k = 0; k < 3; ++k)
            tables[k].draw({5, Stream::table_draw, 70 + tile * kScoreTile, 0, 0}, expected.x.row(tile),
                           &expected.log_q[tile * kScoreTile]);
    size_t others = 0;
    for (size_t n = 0; n < found.log_q.size(); ++n) {
        bool same = std::abs(found.log_q[n] - expected.log_q[n]) < 1e-4;
        for (int j = 0; j < 5; ++j) same &= std::abs(at(found.x, n, j) - at(expected.x, n, j)) < 1e-4f;
        others += !same;
    }
    EXPECT_LE(others, 1u);
}

/// Logarithms are taken of products of eight densities, however many targets the memory holds.
TEST_P(CudaLevels, TablesOfManyTargetsDoNotDependOnTheMemory) {
    Level level = make_levels(shapes[0])[1];
    const size_t width = 21, tiles = 5;
    level.targets.resize(width - 1), level.neighbours.assign(2 * (width - 1), 0);
    std::iota(level.targets.begin(), level.targets.end(), 1);
    const LevelTable table(Context({.device = Device::cpu, .threads = 1}), level);
    const DeviceLevel source{&level, &table};
    const auto draw = [&](const Context& on) {
        std::pair<Array<float>, std::vector<double>> out;
        out.first = Array<float>(tiles, width * kScoreTile);
        std::fill(out.first.begin(), out.first.end(), 0.4f), out.second.assign(tiles * kScoreTile, 0);
        const DeviceLevels<float> levels(on, {&source, 1}, static_cast<int>(width), 0);
        levels.draw(0, 1, 5, 0, tiles, out.first.data(), out.second.data());
        return out;
    };
    const auto whole = draw(context()), parts = draw(cases::device_context(620 << 10));
    EXPECT_TRUE(cases::same_bytes(parts.first, whole.first));
    EXPECT_TRUE(cases::same_bytes(parts.second, whole.second));
    Array<float> x(1, width * kScoreTile);
    std::vector<double> log_q(kScoreTile, 0);
    std::fill(x.begin(), x.end(), 0.4f);
    table.draw({5, Stream::table_draw, 64, 0, 0}, x.data(), log_q.data());
    for (size_t n = 0; n < kScoreTile; ++n) EXPECT_NEAR(log_q[n], whole.second[kScoreTile + n], 1e-4) << n;
}

/// Ten thousand particles, in one launch a level and in as many batches as a small memory needs.
TEST_P(CudaLevels, ResultsDoNotDependOnTheMemory) {
    const std::vector<Level> levels = make_levels(shapes[4], 3);
    const size_t tiles = 157;
    const auto whole = on_device<float>(context(), levels, tiles, 0);
    for (std::uint64_t memory : {std::uint64_t{300} << 10, std::uint64_t{1} << 20}) {
        const Context small = cases::device_context(memory);
        const auto parts = on_device<float>(small, levels, tiles, 0);
        EXPECT_TRUE(cases::same_bytes(parts.x, whole.x)) << memory;
        EXPECT_TRUE(cases::same_bytes(parts.log_q, whole.log_q)) << memory;
        EXPECT_LE(small.device_state().memory_peak(), memory);
    }
    const auto later = on_device<float>(context(), levels, 2, 3 * kScoreTile);
    EXPECT_EQ(std::memcmp(later.x.data(), whole.x.row(3), later.x.size() * sizeof(float)), 0);
    const Context none = cases::device_context(20 << 10);
    cases::expect_error(
        ErrorKind::io, [&] { on_device<float>(none, levels, 1, 0); }, "device memory");
}

LevelPairs make_pairs(size_t count, size_t train) {
    LevelPairs pairs;
    pairs.values = Array<float>(3, count), pairs.train = train;
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    for (size_t n = 0; n < count; ++n) {
        const float l = normal(engine), r = normal(engine), e = normal(engine);
        pairs.values(1, n) = l, pairs.values(2, n) = r;
        pairs.values(0, n) = 0.3f * l + 0.25f * r + 0.7f * std::tanh(2 * e);
    }
    return pairs;
}

/// Sums of n products, each to a few units of the functions' table (1e-8 of its largest value, functions.h):
/// 1e-7 of n times the largest product of a kind is far above both.
TEST_P(CudaLevels, MomentsAreThoseOfTheOracle) {
    const size_t train = 31, count = 10'007; // the sums from 31 on are of 9 976 pairs: two slabs
    const LevelPairs pairs = make_pairs(count, train);
    for (const Shape& shape :
         {Shape{"", true, false, 5, 3}, Shape{"", true, true, 4, 4}, Shape{"", false, true, 3, 2}}) {
        Level level;
        set_conditions(level, shape.conditioning, shape.even);
        set_flow(level, shape.fitted ? fitted_family({0, 0, 0.1, 0, 0.2}, -3, 3, 8) : hermite_family(6),
                 shape.degree, 4);
        const size_t r = static_cast<size_t>(level.family.top_degree()) + 1, p = level.conditions();
        Array<double> triple(r, p * p), single(r, p), size(r, p * p);
        for (size_t n = train; n < count; ++n) {
            const double l = static_cast<double>(pairs.values(1, n)),
                         other = static_cast<double>(pairs.values(2, n));
            const double z =
                (static_cast<double>(pairs.values(0, n)) - level.intercept - 0.3 * l - 0.25 * other) /
                level.scale;
            std::vector<double> phi(r), slope(r);
            oracle::functions(level.family, z, static_cast<int>(r) - 1, phi.data(), slope.data());
            const std::vector<double> psi = oracle_conditions(level, l, other);
            for (size_t k = 0; k < r; ++k)
                for (size_t a = 0; a < p; ++a) {
                    single(k, a) += phi[k] * psi[a];
                    for (size_t b = 0; b < p; ++b) {
                        triple(k, a * p + b) += phi[k] * psi[a] * psi[b];
                        size(k, a * p + b) += std::abs(phi[k] * psi[a] * psi[b]);
                    }
                }
        }
        const LevelMoments found = level_moments_on_device(context(), level, pairs, train, count);
        EXPECT_EQ(found.count, static_cast<double>(count - train));
        const auto odd = [&](size_t a) { return static_cast<int>(a) >= level.even_conditions; };
        for (size_t k = 0; k < r; ++k)
            for (size_t a = 0; a < p; ++a) {
                const bool kept = level.even_conditions < 0 || odd(a) == (k % 2 == 1);
                if (kept) {
                    ASSERT_NEAR(found.single(k, a), single(k, a), 1e-7 * static_cast<double>(count))
                        << k << ' ' << a;
                }
                for (size_t b = 0; b < p; ++b) {
                    const bool vanishes = level.even_conditions >= 0 && (odd(a) != odd(b)) != (k % 2 == 1);
                    ASSERT_NEAR(found.triple(k, a * p + b), vanishes ? 0 : triple(k, a * p + b),
                                1e-7 * size(k, a * p + b))
                        << k << ' ' << a << ' ' << b;
                }
            }
        const LevelMoments parts =
            level_moments_on_device(cases::device_context(3 << 20), level, pairs, train, count);
        EXPECT_TRUE(cases::same_bytes(parts.triple, found.triple));
        EXPECT_TRUE(cases::same_bytes(parts.single, found.single));
    }
}

/// By Gaussian elimination, of A from its definition.
std::vector<double> naive_coefficients(const LevelSystems& systems, size_t node, double ridge) {
    const size_t size = systems.terms.size(), p = systems.moments->conditions;
    std::vector<std::vector<long double>> a(size, std::vector<long double>(size + 1, 0));
    for (size_t x = 0; x < size; ++x) {
        const auto [i, alpha] = systems.terms[x];
        for (size_t y = 0; y < size; ++y) {
            const auto [j, beta] = systems.terms[y];
            for (size_t k = 0; k < systems.decay.cols(); ++k)
                a[x][y] +=
                    static_cast<long double>(
                        systems.gradient(static_cast<size_t>(i), static_cast<size_t>(j), k)) *
                    systems.decay(node, k) *
                    systems.moments->triple(k, static_cast<size_t>(alpha) * p + static_cast<size_t>(beta));
            a[x][y] /= std::sqrt(static_cast<long double>(systems.lambda[x]) * systems.lambda[y]);
        }
        a[x][x] += ridge;
        a[x][size] = systems.right(node, x) / std::sqrt(static_cast<long double>(systems.lambda[x]));
    }
    for (size_t k = 0; k < size; ++k)
        for (size_t x = 0; x < size; ++x) {
            if (x == k) continue;
            const long double factor = a[x][k] / a[k][k];
            for (size_t y = k; y <= size; ++y) a[x][y] -= factor * a[k][y];
        }
    std::vector<double> c(size);
    for (size_t k = 0; k < size; ++k)
        c[k] = static_cast<double>(a[k][size] / a[k][k] /
                                   std::sqrt(static_cast<long double>(systems.lambda[k])));
    return c;
}

/// With a ridge of 1e-3 and norms of order 1 conditions are below 1e5, so 1e-10 is far above the rounding of
/// any order of the sums.
TEST_P(CudaLevels, SystemsAreThoseOfTheCpuAndOfAnOracle) {
    constexpr double ridge = 1e-3, systems_agree = 1e-10;
    const LevelPairs pairs = make_pairs(2'000, 2'000);
    for (const Shape& shape :
         {Shape{"", true, false, 5, 3}, Shape{"", true, true, 4, 4}, Shape{"", false, true, 1, 2}}) {
        Level level;
        set_conditions(level, shape.conditioning, shape.even);
        set_flow(level, shape.fitted ? fitted_family({0, 0, 0.1, 0, 0.2}, -3, 3, 24) : hermite_family(10),
                 shape.degree, 6);
        level.name = "test";
        const LevelMoments moments = level_moments_on_device(context(), level, pairs, 0, 2'000);
        Level found = level, expected = level, parts = level;
        LevelReport report, expected_report, parts_report;
        solve_level(context(), moments, ridge, found, report);
        solve_level(Context({.device = Device::cpu, .threads = 1}), moments, ridge, expected,
                    expected_report);
        EXPECT_EQ(report.basis_size, expected_report.basis_size);
        ASSERT_EQ(report.ridges_raised + expected_report.ridges_raised, 0); // so the oracle needs none
        EXPECT_NEAR(report.condition, expected_report.condition, systems_agree * report.condition);
        double largest = 0;
        for (const double c : expected.coefficients) largest = std::max(largest, std::abs(c));
        for (size_t k = 0; k < found.coefficients.size(); ++k)
            ASSERT_NEAR(found.coefficients[k], expected.coefficients[k], systems_agree * largest) << k;
        const LevelSystems systems(level, moments);
        for (const size_t node : {size_t{0}, level.node_time.size() - 1}) {
            const std::vector<double> naive = naive_coefficients(systems, node, ridge);
            for (size_t k = 0; k < naive.size(); ++k)
                ASSERT_NEAR(found.coefficients(node, static_cast<size_t>(systems.terms[k].degree - 1) *
                                                             level.conditions() +
                                                         static_cast<size_t>(systems.terms[k].condition)),
                            naive[k], systems_agree * largest);
        }
        // A few systems at a time.
        const std::uint64_t one =
            8 * (4 * systems.terms.size() * systems.terms.size() + moments.triple.size());
        solve_level(cases::device_context(DeviceLibraries::workspace_bytes + one + 120'000), moments, ridge,
                    parts, parts_report);
        EXPECT_TRUE(cases::same_bytes(parts.coefficients, found.coefficients));
    }
}

/// One level from its pairs on both: the same systems to 1e-12, solved with a condition up to 1e3.
TEST_P(CudaLevels, FittedLevelsAreThoseOfTheCpu) {
    LevelPlan plan;
    plan.name = "test", plan.targets = {0}, plan.slots = 2, plan.neighbours = {1, 2}, plan.shell = {0, 1};
    plan.kinds = {DescriptorKind::squares};
    const LevelPairs pairs = make_pairs(6'000, 5'000);
    LevelOptions options;
    options.ridge = 1e-3, options.degree = 5;
    LevelReport report, expected_report;
    const Level found = fit_level(context(), plan, pairs, options, report),
                expected = fit_level(Context({.device = Device::cpu, .threads = 1}), plan, pairs, options,
                                     expected_report);
    EXPECT_EQ(report.descriptors, expected_report.descriptors);
    EXPECT_EQ(found.steps, expected.steps);
    EXPECT_NEAR(report.heldout, expected_report.heldout, 1e-5);
    ASSERT_EQ(found.coefficients.size(), expected.coefficients.size());
    double largest = 0;
    for (double c : expected.coefficients) largest = std::max(largest, std::abs(c));
    for (size_t k = 0; k < found.coefficients.size(); ++k)
        ASSERT_NEAR(found.coefficients[k], expected.coefficients[k], 1e-9 * largest) << k;
}

Target chain(size_t sites) {
    Target target;
    target.law =
        ginzburg_landau({{sites}, Boundary::zero}, 0.03, 0.125, 1.0 / static_cast<double>(sites + 1));
    target.kind = "ginzburg_landau", target.source = "test";
    return target;
}

class CudaLevelModels : public cases::Folder {};

/// The CPU, although there is a device.
Context cpu_context() { return Context({.device = Device::cpu, .threads = 2}); }

Array<double> exact_rows(const Target& target, size_t count) {
    Array<double> x(count, target.dimension());
    TransferMatrix(std::get<LatticeTarget>(target.law)).draw(cpu_context(), 1, 0, count, x.data());
    return x;
}

FitOptions options_for(const Target& target) {
    FitOptions options;
    options.structure = Structure::levels, options.lattice = *target.lattice();
    options.reflection_symmetric = true, options.known_even = true, options.level_pairs = 10'000;
    return options;
}

void expect_near(const Samples& found, const Samples& expected) {
    // 64 steps at most in boxes of 3 standard deviations, narrowed to the two wells: S = 10.
    const double bound = trajectory<float>(64, 3, 10);
    ASSERT_EQ(found.rows.size(), expected.rows.size());
    ASSERT_EQ(found.log_density.size(), expected.log_density.size());
    for (size_t n = 0; n < found.rows.size(); ++n)
        ASSERT_NEAR(static_cast<double>(found.rows[n]), static_cast<double>(expected.rows[n]), bound) << n;
    for (size_t n = 0; n < found.log_density.size(); ++n)
        ASSERT_NEAR(found.log_density[n], expected.log_density[n], log_density_of(bound, 16)) << n;
}

TEST_F(CudaLevelModels, GinzburgLandauOfSixteenSites) {
    const Target target = chain(16);
    const Model model = fit(cpu_context(), data(exact_rows(target, 4'000)), options_for(target));
    cases::device_runs().front().apply();
    const Context cpu = cpu_context(), device = cases::device_context(),
                  small = cases::device_context(1 << 20);
    const size_t count = 807;
    SampleOptions options;
    options.seed = 3;
    for (const Method method : {Method::sde, Method::ode}) {
        options.method = method;
        const Samples found = sample(device, model, count, options);
        expect_near(found, sample(cpu, model, count, options));
        const Samples parts = sample(small, model, count, options);
        EXPECT_TRUE(cases::same_bytes(parts.rows, found.rows));
        EXPECT_TRUE(cases::same_bytes(parts.log_density, found.log_density));
    }
    std::vector<double> x;
    for (float value : sample(cpu, model, count, options).rows) x.push_back(static_cast<double>(value));
    x[5 * 16 + 3] = 50; // far out: -inf on both
    const auto expected = log_density(cpu, model, count, x.data()),
               found = log_density(device, model, count, x.data());
    EXPECT_EQ(found[5], -INFINITY);
    EXPECT_EQ(expected[5], -INFINITY);
    for (size_t n = 0; n < count; ++n)
        if (n != 5) {
            ASSERT_NEAR(found[n], expected[n], density_tolerance) << n;
        }
}

/// Of the first levels, which draw the first `width` columns.
Model model_of(size_t levels, size_t width) {
    Model model;
    model.levels = make_levels(shapes[4], 3), model.levels.resize(levels);
    model.view.columns = width, model.view.constant.assign(width, 0);
    for (int j = 0; j < static_cast<int>(width); ++j) model.view.kept.push_back(j);
    return model;
}

#if DYNKIN_EMULATED
TEST(CudaLevelsMemory, EachAllocationOfMomentsAndSystemsMayFail) {
    const LevelPairs pairs = make_pairs(130, 100);
    Level level;
    set_conditions(level, 3, false), set_flow(level, fitted_family({0, 0, 0.1, 0, 0.2}, -3, 3, 8), 4, 4);
    EXPECT_GT(cases::expect_each_allocation_may_fail([&](const Context& where) {
                  LevelReport report;
                  solve_level(where, level_moments_on_device(where, level, pairs, 0, 130), 1e-3, level,
                              report);
              }),
              30);
}

/// These, and held-out densities, for one choice after another.
TEST(CudaLevelsMemory, EachAllocationOfAFitMayFail) {
    LevelPlan plan;
    plan.name = "test", plan.targets = {0}, plan.slots = 2, plan.neighbours = {1, 2}, plan.shell = {0, 1};
    plan.kinds = {DescriptorKind::predictor};
    const LevelPairs pairs = make_pairs(130, 100);
    LevelOptions options;
    options.degree = 2, options.ridge = 1e-3;
    const auto fit_one = [&](const Context& where) {
        LevelReport report;
        fit_level(where, plan, pairs, options, report);
    };
    EXPECT_GT(cases::expect_each_allocation_may_fail(fit_one, 0, 29), 100);
}

TEST(CudaLevelsMemory, EachAllocationOfSamplesMayFail) {
    const Model model = model_of(3, 5);
    SampleOptions options;
    options.method = Method::ode;
    for (const bool tables : {false, true}) {
        options.tables = tables;
        EXPECT_GT(cases::expect_each_allocation_may_fail(
                      [&](const Context& where) { sample(where, model, 65, options); }),
                  10);
    }
    const std::vector<double> x(3 * 5, 0.1);
    EXPECT_GT(cases::expect_each_allocation_may_fail(
                  [&](const Context& where) { log_density(where, model, 3, x.data()); }),
              10);
}
#endif

TEST_F(CudaLevelModels, InterruptionsEndTheRun) {
    const Model model = model_of(4, columns);
    cases::device_runs().front().apply();
    std::atomic<int> signal{2};
    const Context context({.device = Device::cuda, .interrupt_signal = &signal});
    EXPECT_THROW(sample(context, model, 100), Interrupted);
    const std::vector<double> x(columns, 0.1);
    EXPECT_THROW(log_density(context, model, 1, x.data()), Interrupted);
}

} // namespace
} // namespace dynkin

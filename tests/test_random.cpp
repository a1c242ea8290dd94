// test_random.cpp - Philox against published answers, named streams that never share counters, laws of what
// is made of words.
#include "cases.h"
#include "kernels/elementary.h"
#include "kernels/philox.h"
#include "tolerance.h"
#include <set>
#include <tuple>

namespace dynkin {
namespace {

struct KnownAnswer {
    std::uint32_t counter[4], key[2], words[4];
};

// Random123 1.14, tests/kat_vectors, philox4x32 10.
constexpr KnownAnswer known_answers[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

/// The stream and sample that philox() puts into the first two words of a counter.
RandomWords from_counter(const std::uint32_t counter[4], const std::uint32_t key[2]) {
    return philox(std::uint64_t{key[1]} << 32 | key[0], static_cast<Stream>(counter[1] >> 16),
                  std::uint64_t{counter[1] & 0xffff} << 32 | counter[0], counter[2], counter[3]);
}

TEST(Philox, GivesTheKnownAnswersOfRandom123) {
    for (const KnownAnswer& answer : known_answers) {
        const RandomWords words = from_counter(answer.counter, answer.key);
        for (int k = 0; k < 4; ++k) EXPECT_EQ(words.v[k], answer.words[k]) << "word " << k;
    }
}

TEST(Philox, AgreesWithTheRoundsOfThePaper) {
    std::mt19937 engine(5);
    for (int n = 0; n < 1000; ++n) {
        std::uint32_t counter[4], key[2];
        for (auto& w : counter) w = static_cast<std::uint32_t>(engine());
        for (auto& w : key) w = static_cast<std::uint32_t>(engine());
        const RandomWords words = from_counter(counter, key);
        oracle::philox_rounds(counter, key[0], key[1]);
        for (int k = 0; k < 4; ++k) ASSERT_EQ(words.v[k], counter[k]);
    }
}

// Philox is a bijection of counters for each key: four equal words mean equal counters.
TEST(Philox, DistinctArgumentsNeverShareACounter) {
    const std::uint64_t samples[] = {0,           1,           0xffff,         0xffffffff,
                                     0x100000000, 0x100000001, 0xffff00000000, 0xffffffffffff};
    const std::uint32_t numbers[] = {0, 1, 2, 0xffff, 0x10000, 0xffffffff};
    std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>> seen;
    size_t calls = 0;
    for (std::uint32_t stream : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, 10u, 11u, 1000u})
        for (std::uint64_t sample : samples)
            for (std::uint32_t step : numbers)
                for (std::uint32_t slot : numbers) {
                    const RandomWords w = philox(7, static_cast<Stream>(stream), sample, step, slot);
                    seen.emplace(w.v[0], w.v[1], w.v[2], w.v[3]);
                    ++calls;
                }
    EXPECT_EQ(seen.size(), calls);
}

TEST(Stream, NumbersAreDistinctAndFitTheCounter) {
    const Stream all[] = {Stream::sampler_start,  Stream::sampler_noise, Stream::chain_start,
                          Stream::chain_momentum, Stream::chain_accept,  Stream::chain_swap,
                          Stream::direct_draw,    Stream::output_order,  Stream::projection,
                          Stream::half_split,     Stream::dequantise,    Stream::test};
    std::set<std::uint32_t> numbers;
    for (Stream stream : all) {
        EXPECT_LT(static_cast<std::uint32_t>(stream), 1u << 16);
        numbers.insert(static_cast<std::uint32_t>(stream));
    }
    EXPECT_EQ(numbers.size(), std::size(all));
}

TEST(Uniform, StaysInsideTheOpenIntervalAndAscends) {
    EXPECT_EQ(uniform(0), 0x1p-33);
    EXPECT_EQ(uniform(0xffffffffu), 1 - 0x1p-33);
    EXPECT_EQ(uniform_float(0), 0x1p-24f);
    EXPECT_LT(uniform_float(0xffffffffu), 1.0f);
    EXPECT_EQ(uniform_float(0xffffffffu) + uniform_float(0), 1.0f);
    EXPECT_LT(uniform(0x7fffffffu), uniform(0x80000000u));
}

/// Averages of f over `count` draws are within z_bound standard errors of the law's.
template <class F>
void expect_average(const std::vector<double>& x, double mean, double variance, const F& f) {
    double sum = 0;
    for (double value : x) sum += f(value);
    const double rows = static_cast<double>(x.size());
    EXPECT_NEAR(sum / rows, mean, tolerance::z_bound * std::sqrt(variance / rows));
}

TEST(Uniform, HasTheMomentsOfTheUniformLaw) {
    std::vector<double> u;
    for (std::uint64_t n = 0; n < 50000; ++n)
        for (std::uint32_t word : philox(3, Stream::test, n, 1, 2).v) u.push_back(uniform(word));
    expect_average(u, 1.0 / 2, 1.0 / 12, [](double x) { return x; });
    expect_average(u, 1.0 / 3, 4.0 / 45, [](double x) { return x * x; });
    expect_average(u, 0.01, 0.01 * 0.99, [](double x) { return x < 0.01; });
    expect_average(u, 0.01, 0.01 * 0.99, [](double x) { return x > 0.99; });
}

TEST(NormalPair, HasTheMomentsOfIndependentNormals) {
    std::vector<double> x, products;
    for (std::uint64_t n = 0; n < 100000; ++n) {
        const RandomWords w = philox(4, Stream::test, n, 0, 0);
        double a, b;
        normal_pair(w.v[0], w.v[1], a, b);
        x.push_back(a), x.push_back(b), products.push_back(a * b);
    }
    expect_average(x, 0, 1, [](double z) { return z; });
    expect_average(x, 1, 2, [](double z) { return z * z; });
    expect_average(x, 0, 15, [](double z) { return z * z * z; });
    expect_average(x, 3, 96, [](double z) { return z * z * z * z; });
    expect_average(x, 0.0227501, 0.0222325, [](double z) { return z > 2; });
    expect_average(products, 0, 1, [](double z) { return z; });
}

TEST(NormalPair, IsFiniteForEveryWord) {
    for (std::uint32_t a : {0u, 1u, 0x7fffffffu, 0xffffffffu})
        for (std::uint32_t b : {0u, 0x3fffffffu, 0x40000000u, 0x80000000u, 0xc0000000u, 0xffffffffu}) {
            double x, y;
            normal_pair(a, b, x, y);
            EXPECT_LT(std::hypot(x, y), 6.8);
            double u, v;
            normals_from_uniforms(uniform(a), uniform(b), u, v);
            EXPECT_NEAR(x, u, tolerance::few_operations(6.8)) << a << ' ' << b;
            EXPECT_NEAR(y, v, tolerance::few_operations(6.8)) << a << ' ' << b;
        }
}

} // namespace
} // namespace dynkin

// test_cuda_random.cpp - random numbers of the device against those of the CPU.
#include "device_cases.h"
#include "kernels/philox.h"
#include "kernels/random.h"
#include "kernels/score.h"
#include "kernels/step.h"
#include <bit>
#include <cstdint>
#include <cstdlib>

namespace dynkin::cuda {
namespace {

using kernels::kScoreTile;

const std::vector<std::size_t> counts = cases::sample_counts();
/// Samples that pass 2^32, where the counter's second word begins to count.
RandomCounters counters(std::uint64_t first) { return {9, Stream::test, first, 3, 2}; }
constexpr std::uint64_t firsts[] = {0, 0xffffffe0};

class CudaRandom : public cases::OnDevice {
  protected:
    template <class T, class Launch>
    std::vector<T> numbers(Launch launch, std::uint64_t first, std::size_t count) {
        DeviceArray<T> out(device(), 4 * count, "random numbers");
        launch(device().compute_stream(), counters(first), count, out.data());
        return to_host(device(), out);
    }
};
INSTANTIATE_TEST_SUITE_P(Run, CudaRandom, testing::ValuesIn(cases::device_runs()), cases::run_name);

TEST_P(CudaRandom, WordsAreThoseOfTheCpu) {
    for (const std::size_t count : counts)
        for (const std::uint64_t first : firsts) {
            const auto found = numbers<std::uint32_t>(random_words, first, count);
            for (std::size_t n = 0; n < count; ++n) {
                const RandomWords expected = philox(9, Stream::test, first + n, 3, 2);
                for (std::size_t k = 0; k < 4; ++k) ASSERT_EQ(found[k * count + n], expected.v[k]) << n;
            }
        }
}

TEST_P(CudaRandom, UniformsAreThoseOfTheCpu) {
    for (const std::size_t count : counts) {
        const auto found = numbers<float>(random_uniforms, 17, count);
        for (std::size_t n = 0; n < count; ++n)
            for (std::size_t k = 0; k < 4; ++k)
                ASSERT_EQ(found[k * count + n], uniform_float(philox(9, Stream::test, 17 + n, 3, 2).v[k]))
                    << n;
    }
}

/// How many float32 numbers lie between two, both finite.
std::int64_t ulps(float a, float b) {
    const auto place = [](float x) {
        const auto bits = std::bit_cast<std::int32_t>(x);
        return static_cast<std::int64_t>(bits < 0 ? INT32_MIN - bits : bits);
    };
    return std::abs(place(a) - place(b));
}

TEST_P(CudaRandom, NormalsAreThoseOfTheCpu) {
    // The CPU's loops may fuse multiply-adds: float64 to a few of its ulps, then one rounding to float32.
    // Next to a zero of the sine an ulp of the angle is more than an ulp of the number; hence 4 float32 ulps
    // and not 1.
    const kernels::StepKernels& cpu = kernels::step_kernels(best_isa());
    for (const std::size_t count : counts)
        for (const std::uint64_t first : firsts) {
            const auto found = numbers<float>(random_normals, first, count);
            float tile[4 * kScoreTile];
            for (std::size_t n = 0; n < count; ++n) {
                const std::size_t p = n % kScoreTile;
                if (p == 0) cpu.normals(9, static_cast<std::uint32_t>(Stream::test), first + n, 3, 2, tile);
                for (std::size_t k = 0; k < 4; ++k)
                    ASSERT_LE(ulps(found[k * count + n], tile[k * kScoreTile + p]), 4) << n << ' ' << k;
            }
        }
}

TEST_P(CudaRandom, NoNumbersAreNoLaunch) {
    EXPECT_NO_THROW(random_words(device().compute_stream(), counters(0), 0, nullptr));
    EXPECT_NO_THROW(random_uniforms(device().compute_stream(), counters(0), 0, nullptr));
    EXPECT_NO_THROW(random_normals(device().compute_stream(), counters(0), 0, nullptr));
}

} // namespace
} // namespace dynkin::cuda

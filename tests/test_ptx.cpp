// test_ptx.cpp - translated PTX: what instructions give, worked by hand from the definition of PTX
// (planted/instructions.ptx), and what launches of translated kernels refuse.
#include "machine.h"
#include "ptx.h"
#include <array>
#include <bit>
#include <gtest/gtest.h>
#include <numeric>

extern "C" void __cudaRegisterFunction(void**, const char*, char*, const char*, int, uint3*, uint3*, dim3*,
                                       dim3*, int*);

namespace ptx {
namespace {

using Words = std::vector<std::uint64_t>;

std::uint64_t word(double x) { return std::bit_cast<std::uint64_t>(x); }
// In the low half of a word that was 0.
std::uint64_t word(float x) { return std::bit_cast<std::uint32_t>(x); }
std::uint64_t word(int x) { return static_cast<std::uint32_t>(x); }

std::uint64_t address(const void* memory) { return reinterpret_cast<std::uint64_t>(memory); }

/// The words that a kernel of (in, out) leaves in an array of zeros.
Words run(const char* name, const Words& in, std::size_t count, unsigned threads = 1,
          std::size_t dynamic = 0) {
    const Kernel* kernel = find(std::string("planted_") + name);
    if (!kernel) throw std::runtime_error(std::string("no kernel ") + name);
    Words out(count);
    const std::array parameters{address(in.data()), address(out.data())};
    cuemu::run_grid(1, threads, kernel->shared_bytes + dynamic,
                    [&] { kernel->run(address(parameters.data()), address(cuemu::dynamic_shared<char>())); });
    return out;
}

/// The message of the Fault that it throws.
template <class F> std::string fault_of(F run) {
    try {
        run();
    } catch (const cuemu::Fault& fault) {
        return fault.what();
    }
    return "no fault";
}

class PtxInstructions : public testing::Test {
  protected:
    void SetUp() override { cuemu::reset(); }
};

TEST_F(PtxInstructions, Bits) {
    const Words in{0x9234abcd, 0x01020304, 0x8000000000000001, 0x00ff00ff00ff00ff};
    EXPECT_EQ(run("bits", in, 23), (Words{0x010bcd04,         // bfi: bcd at bit 8
                                          0xd1020304,         // only four bits have a place
                                          0x01020304,         // no bits
                                          0x9234abcd,         // all bits
                                          0x7f,               // 1 << 6 | 3f
                                          0x00ff00ff00ff00ff, // beyond the end
                                          0xbc,               // bfe
                                          0xfffffff9,         // 1001 and its sign
                                          0xfffffff9,         // likewise, of bits beyond the end
                                          0x9,                // unsigned: zeros
                                          0xffffffffff800000,
                                          0,
                                          16,         // popc
                                          8,          // clz
                                          32,         // of 0
                                          0xb3d52c49, // brev
                                          0x02030492, // the high word of 01020304:9234abcd << 8
                                          0x9234abcd, // << 32
                                          0x049234ab, // the low word of >> 8
                                          0x01020304, // >> 32
                                          0x01cd3403, // prmt: bytes 5, 2, 0, 7 from below
                                          0xffff9200, // byte 3, and signs
                                          0x6d005704}));
}

TEST_F(PtxInstructions, Integers) {
    const Words in{word(-7), 3, 0x100000002};
    EXPECT_EQ(run("integers", in, 22), (Words{0xffffffffffffffeb, // -21
                                              0x2ffffffeb,
                                              0xffffffff, // the high word of -21
                                              1,          // (2^32 + 2)^2 >> 64
                                              word(-22),
                                              0xffffffed, // -21 + 2^32 + 2
                                              word(-2),
                                              word(-1),
                                              0x55555553,
                                              0,          // shifted by 32
                                              0xffffffff, // by 99
                                              0xf,
                                              49, // (-7)^2 of 16 bits
                                              3,
                                              0xfffffff9,
                                              7,
                                              0xfffffff9, // of the byte f9
                                              0xf9,
                                              0xfffffff9,
                                              0xfffffffffffffff9,
                                              0xfffffff9,
                                              0x200000001}));
}

TEST_F(PtxInstructions, Numbers) {
    const double above = 1 + 0x1p-30, below = 1 - 0x1p-30;
    EXPECT_EQ(run("numbers", {word(above), word(below), word(-1.0)}, 15),
              (Words{word(-0x1p-60), // rounded once
                     word(0.0),      // twice
                     word(-0x1p-26f), word(0.0f), word(2 + 3 * 0x1p-13f),
                     word(1 + 0x1p-31), // the root of 1 + 2^-30
                     0x3eaaaaab,        // 1/3
                     word(above),       // of it and NaN
                     word(below),
                     word(0.0f),  // the larger of -0 and 0
                     word(-0.0f), // the smaller of 0 and -0
                     word(-above), word(-above), word(-0x1p-149f), 0x3f800400}));
}

TEST_F(PtxInstructions, RoundingsToIntegers) {
    const auto rounded = [](double x) { return run("roundings", {word(x)}, 8); };
    EXPECT_EQ(rounded(2.5), (Words{2, 2, 2, 3, 2, 2, 2, word(2.0)}));
    EXPECT_EQ(rounded(3.5), (Words{4, 3, 3, 4, 3, 3, 3, word(3.0)}));
    EXPECT_EQ(rounded(-2.5),
              (Words{word(-2), word(-2), word(-3), word(-2), word(-2), 0, 0, word(-3.0)})); // unsigned: 0
    constexpr std::uint64_t most = 0x7fffffff, least = 0x80000000;
    EXPECT_EQ(rounded(1e30), (Words{most, most, most, most, most, 0xffffffff, ~0ull, word(1e30)}));
    EXPECT_EQ(rounded(-1e30), (Words{least, least, least, least, least, 0, 0, word(-1e30)}));
    Words of_nan = rounded(std::numeric_limits<double>::quiet_NaN());
    EXPECT_TRUE(std::isnan(std::bit_cast<double>(of_nan.back())));
    of_nan.pop_back();
    EXPECT_EQ(of_nan, (Words{least, least, least, least, 0, 0, 1ull << 63}));
}

TEST_F(PtxInstructions, ConversionsToNumbers) {
    const auto converted = [](std::uint64_t a, std::uint64_t b, double x) {
        return run("conversions", {a, b, word(x)}, 6);
    };
    EXPECT_EQ(converted(0xff000001, (1ull << 53) + 1, 1 + 0x1p-24),
              (Words{word(-16777215.0f), word(4278190080.0f), word(-16777215.0), word(0x1p53), word(1.0f),
                     word(1.0)}));
    EXPECT_EQ(converted(16777217, 3, 1 + 3 * 0x1p-24), // halfway, to even
              (Words{word(16777216.0f), word(16777216.0f), word(16777217.0), word(3.0), word(1 + 0x1p-22f),
                     word(1 + 0x1p-22)}));
}

TEST_F(PtxInstructions, Comparisons) {
    const auto holds = [](double a, double b) { return run("comparisons", {word(a), word(b)}, 1)[0]; };
    const double nan = std::numeric_limits<double>::quiet_NaN();
    EXPECT_EQ(holds(1, 2), 0x338e); // ne lt le neu ltu leu num, not nan
    EXPECT_EQ(holds(2, 2), 0x3a69); // eq le ge equ leu geu num, not nan
    EXPECT_EQ(holds(2, 1), 0x3cb2); // ne gt ge neu gtu geu num, not nan
    EXPECT_EQ(holds(0.0, -0.0), 0x3a69);
    EXPECT_EQ(holds(nan, 1), 0xfc0); // all that end in u
    EXPECT_EQ(holds(1, nan), 0xfc0);
}

TEST_F(PtxInstructions, Selections) {
    EXPECT_EQ(run("selections", {word(-7), 3}, 8), (Words{1, word(-2.0), 0, 0, 1, 1, 1, 0}));
    EXPECT_EQ(run("selections", {3, 7}, 8), (Words{1, word(1.0), 1, 0, 0, 1, 0, 1}));
}

TEST_F(PtxInstructions, WarpsExchange) {
    const Words found = run("warp", {}, 32 * 8, 32);
    for (std::uint64_t l = 0; l < 32; ++l) {
        const Words of_lane(found.begin() + static_cast<std::ptrdiff_t>(8 * l),
                            found.begin() + static_cast<std::ptrdiff_t>(8 * l + 8));
        const bool up = l >= 2, down = l % 16 < 12;
        EXPECT_EQ(of_lane, (Words{100 + (l ^ 5), 103 + l / 8 * 8, up ? 98 + l : 100 + l, up,
                                  down ? 104 + l : 100 + l, down, 0xf0000000, 1}))
            << l;
    }
}

TEST_F(PtxInstructions, ABarrierOrdersSharedMemoryAndItsLackShows) {
    Words in(100);
    std::iota(in.begin(), in.end(), 0);
    const Words expected(in.rbegin(), in.rend());
    for (const cuemu::Order order : {cuemu::Order::forward, cuemu::Order::reverse, cuemu::Order::random}) {
        cuemu::settings.order = order;
        EXPECT_EQ(run("reverse", in, 100, 100, 800), expected);
        EXPECT_NE(run("race", in, 100, 100, 800), expected);
    }
}

TEST_F(PtxInstructions, MemoryOfTheThreadAndGenericAddresses) {
    EXPECT_EQ(run("memory", {10}, 1), Words{110});
}

TEST_F(PtxInstructions, Atomics) { EXPECT_EQ(run("atomics", {}, 4, 64), (Words{192, 63, word(2016.0), 9})); }

TEST_F(PtxInstructions, RegistersThatWereNeverSetAreNoZeros) {
    const Words found = run("unset", {}, 2);
    EXPECT_EQ(found[0], 0xffffffff);
    EXPECT_TRUE(std::isnan(std::bit_cast<double>(found[1])));
}

TEST_F(PtxInstructions, VectorsMustBeAligned) {
    alignas(16) static const std::uint64_t memory[4]{};
    const std::array parameters{address(memory), address(memory)};
    const auto misaligned = [&] { find("planted_misaligned")->run(address(parameters.data()), 0); };
    EXPECT_NE(fault_of(misaligned).find("instructions.ptx:"), std::string::npos) << fault_of(misaligned);
    EXPECT_NE(fault_of(misaligned).find("not aligned to 16"), std::string::npos);
}

// ---- launches

class PtxLaunches : public testing::Test {
  protected:
    void SetUp() override {
        cuemu::reset();
        ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    }
    void TearDown() override { cudaStreamDestroy(stream_); }

    /// Registers a kernel as nvcc's objects do; its address in the host's code is that of `host`.
    void registered(const char& host, const char* name) const {
        __cudaRegisterFunction(nullptr, &host, nullptr, name, -1, nullptr, nullptr, nullptr, nullptr,
                               nullptr);
    }
    std::string launch(const char& host, std::vector<void*> arguments, unsigned threads = 1,
                       std::size_t shared_bytes = 0) const {
        cudaLaunchConfig_t how{};
        how.gridDim = 1, how.blockDim = threads, how.dynamicSmemBytes = shared_bytes, how.stream = stream_;
        cudaError_t status = cudaLaunchKernelExC(&how, &host, arguments.data());
        if (status == cudaSuccess) status = cudaStreamSynchronize(stream_);
        return cudaGetErrorString(status);
    }

  private:
    cudaStream_t stream_ = nullptr;
};

TEST_F(PtxLaunches, PassStructsByValue) {
    static const char host = 0;
    registered(host, "planted_struct");
    std::uint32_t first = 5;
    struct {
        std::uint8_t flags[4] = {1, 2, 3, 250};
        float pair[2] = {1.5f, 0.25f};
        double x = -2;
        std::uint64_t n = 42;
    } by_value;
    Words out(5);
    std::uint64_t* to = out.data();
    EXPECT_EQ(launch(host, {&first, &by_value, &to}), "no error");
    EXPECT_EQ(out, (Words{5, 250, word(1.25f), word(-2.0), 42}));
}

TEST_F(PtxLaunches,
       FindKernelsOfAnotherCompilation) { // with other hashes, and maybe a process, in their names
    static const char host = 0, other = 0;
    registered(host, "_ZN39_GLOBAL__N__76543210_7_some_cu_fedcba986kernelEPm");
    Words out(1);
    std::uint64_t* to = out.data();
    EXPECT_EQ(launch(host, {&to}), "no error");
    EXPECT_EQ(out, Words{3});
    registered(other, "_ZN45_GLOBAL__N__76543210_7_some_cu_fedcba98_123456kernelEPm");
    EXPECT_EQ(launch(other, {&to}), "no error");
    registered(other, "_ZN40_GLOBAL__N__76543210_8_other_cu_fedcba986kernelEPm");
    EXPECT_NE(launch(other, {&to}), "no error");
}

TEST_F(PtxLaunches, RefuseWhatADeviceWould) {
    static const char host = 0, nobody = 0, stranger = 0;
    registered(host, "planted_bits");
    registered(nobody, "nobody");
    const Words in(4);
    Words out(23);
    const std::uint64_t *from = in.data(), *to = out.data();
    const std::vector<void*> arguments{&from, &to};
    EXPECT_EQ(launch(nobody, arguments), "emulator: no translated PTX of nobody");
    EXPECT_EQ(launch(stranger, arguments), "emulator: a launch of what is no kernel");
    EXPECT_EQ(launch(host, arguments, 33), "emulator: more threads than the kernel's launch bounds");
    EXPECT_EQ(launch(host, arguments, 1, 49153), "emulator: more shared memory than the kernel may have");
    EXPECT_EQ(cudaFuncSetAttribute(&host, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024 + 1),
              cudaErrorInvalidValue);
    EXPECT_EQ(cudaFuncSetAttribute(&host, cudaFuncAttributeMaxDynamicSharedMemorySize, 49153), cudaSuccess);
    EXPECT_EQ(launch(host, arguments, 1, 49153), "no error");
}

} // namespace
} // namespace ptx

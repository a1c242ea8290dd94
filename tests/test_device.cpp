// test_device.cpp - the device of a context: found or not, memory within its limit, copies, streams and
// events.
#include "cases.h"
#include "device_cases.h"
#include "engine/device_chunks.h"
#include "kernels/cuda_check.h"
#include "kernels/device_times.h"
#include <utility>

namespace dynkin {
namespace {

using cases::expect_error;

class CudaDevice : public cases::OnDevice {};
INSTANTIATE_TEST_SUITE_P(Run, CudaDevice, testing::ValuesIn(cases::device_runs()), cases::run_name);

std::vector<int> counting(std::size_t size) {
    std::vector<int> values(size);
    std::iota(values.begin(), values.end(), 1);
    return values;
}

TEST_P(CudaDevice, AutomaticTakesTheDevice) {
    const Context automatic;
    EXPECT_EQ(automatic.device(), Device::cuda);
    EXPECT_EQ(automatic.device_name(), device().properties().name);
    EXPECT_EQ(automatic.device_notice(), "");
    EXPECT_GT(device().properties().multiprocessors, 0);
    EXPECT_GT(device().properties().l2_cache, 0u);
    EXPECT_GT(device().properties().clock, 0);
    EXPECT_GE(device().properties().driver, device().properties().runtime / 1000 * 1000);
    const Context copy = context();
    EXPECT_EQ(&copy.device_state(), &context().device_state());
}

TEST_P(CudaDevice, TheCpuIsTakenWhenAskedFor) {
    const Context cpu({.device = Device::cpu});
    EXPECT_EQ(cpu.device(), Device::cpu);
    EXPECT_EQ(cpu.device_name(), "cpu");
    EXPECT_EQ(cpu.device_notice(), "");
}

TEST_P(CudaDevice, NumbersComeBackAsTheyWent) {
    for (const std::size_t size : {1, 31, 10'007}) {
        const std::vector<int> values = counting(size);
        const auto array = to_device<int>(device(), values, "numbers");
        EXPECT_EQ(to_host(device(), array), values);
    }
}

TEST_P(CudaDevice, PartsOfAnArrayAreCopied) {
    auto array = to_device<int>(device(), std::vector<int>(10, 0), "numbers");
    const std::vector<int> three = {1, 2, 3};
    array.upload(device().compute_stream(), three, 4);
    std::vector<int> found(4);
    array.download(device().compute_stream(), found, 3);
    cuda::synchronize(device().compute_stream());
    EXPECT_EQ(found, (std::vector<int>{0, 1, 2, 3}));
    cuda::fill_zero(device().compute_stream(), array.data() + 5, sizeof(int));
    EXPECT_EQ(to_host(device(), array), (std::vector<int>{0, 0, 0, 0, 1, 0, 3, 0, 0, 0}));
}

TEST_P(CudaDevice, ArraysMoveAndMayBeEmpty) {
    const std::uint64_t before = device().memory_in_use();
    {
        DeviceArray<int> none, empty(device(), 0, "nothing");
        EXPECT_EQ(empty.data(), nullptr);
        DeviceArray<int> a(device(), 7, "a");
        const int* data = a.data();
        DeviceArray<int> b = std::move(a);
        EXPECT_EQ(b.data(), data);
        EXPECT_EQ(b.size(), 7u);
        none = std::move(b);
        EXPECT_EQ(none.data(), data);
        none = DeviceArray<int>(device(), 3, "c");
        PinnedArray<int> pinned(device(), 5, "pinned"), taken = std::move(pinned);
        EXPECT_EQ(taken.size(), 5u);
    }
    EXPECT_EQ(device().memory_in_use(), before);
}

TEST_P(CudaDevice, MemoryIsLimited) {
    const std::uint64_t mebi = 1 << 20;
    const Context limited = cases::device_context(mebi);
    DeviceState& state = limited.device_state();
    EXPECT_EQ(state.memory_limit(), mebi);
    {
        const DeviceArray<char> most(state, mebi - 256, "most");
        EXPECT_EQ(state.memory_left(), 256u);
        expect_error(
            ErrorKind::io, [&] { DeviceArray<char>(state, 1000, "the moments"); },
            "device memory: the moments need 1000 bytes, 256 bytes are left of the 1.0 MiB");
        const DeviceArray<char> last(state, 1, "last");
        EXPECT_EQ(state.memory_left(), 0u);
    }
    EXPECT_EQ(state.memory_in_use(), 0u);
    EXPECT_EQ(state.memory_peak(), mebi);
}

TEST_P(CudaDevice, TheLimitLeavesAReserve) {
    EXPECT_LT(device().memory_limit(), device().properties().memory);
    expect_error(
        ErrorKind::usage, [] { cases::device_context(std::uint64_t{1} << 50); },
        "device memory: asked for 1048576.0 GiB");
}

TEST_P(CudaDevice, EventsOrderStreams) {
    // The copy of a second batch into the only buffer must wait for the work on the first, and the other way
    // round.
    const std::size_t size = 1000;
    DeviceArray<int> buffer(device(), size, "buffer"), seen(device(), 3 * size, "seen");
    std::vector<PinnedArray<int>> batches;
    DeviceEvent copied, used, start(true), end(true);
    start.record(device().compute_stream());
    for (int k = 0; k < 3; ++k) {
        batches.emplace_back(device(), size, "batch");
        std::fill_n(batches.back().data(), size, k + 1);
        used.hold_up(device().copy_stream());
        buffer.upload(device().copy_stream(), batches.back().span());
        copied.record(device().copy_stream());
        copied.hold_up(device().compute_stream());
        cuda::copy_on_device(device().compute_stream(), seen.data() + static_cast<std::size_t>(k) * size,
                             buffer.data(), size * sizeof(int));
        used.record(device().compute_stream());
    }
    end.record(device().compute_stream());
    const std::vector<int> found = to_host(device(), seen);
    for (std::size_t i = 0; i < found.size(); ++i) ASSERT_EQ(found[i], static_cast<int>(i / size) + 1) << i;
    end.synchronize();
    EXPECT_GE(DeviceEvent::milliseconds(start, end), 0.0);
}

TEST_P(CudaDevice, PartsAreTimedByNameWhereAsked) {
    DeviceArray<int> numbers(device(), 1000, "numbers");
    int calls = 0;
    const auto work = [&] {
        cuda::fill_zero(device().compute_stream(), numbers.data(), 1000 * sizeof(int));
        ++calls;
    };
    DeviceTimes times;
    timed(device(), "before", work);
    device().time_by(&times);
    for (const char* part : {"one", "other", "one"}) timed(device(), part, work);
    device().time_by(nullptr);
    timed(device(), "after", work);
    EXPECT_EQ(calls, 5);
    const auto seconds = times.take();
    ASSERT_EQ(seconds.size(), 2u);
    EXPECT_GE(seconds.at("one"), 0.0);
    EXPECT_GE(seconds.at("other"), 0.0);
    EXPECT_TRUE(times.take().empty());
}

TEST_P(CudaDevice, ChunksOfNoParticlesAreNoWork) { // nor is a chunk of none divided by
    const auto never = [](std::size_t, std::size_t, const ChunkBuffers&) { ADD_FAILURE(); };
    for (const std::size_t chunk : {std::size_t{0}, std::size_t{64}})
        for_chunks(device(), nullptr, 0, chunk, {chunk, chunk, chunk}, never, never, never);
}

TEST_P(CudaDevice, FailuresNameTheCallTheFileAndTheLine) {
    expect_error(
        ErrorKind::io, [] { DYNKIN_CUDA_CHECK(cudaEventSynchronize(nullptr)); },
        "cudaEventSynchronize(nullptr): ");
    expect_error(
        ErrorKind::io, [] { DYNKIN_CUDA_CHECK(cudaErrorInvalidValue); },
        fmt::format("test_device.cpp:{}", __LINE__ - 1));
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

#if DYNKIN_EMULATED
TEST(CudaDeviceSearch, WithoutADeviceTheCpuIsTakenAndTheReasonKept) {
    cuemu::reset();
    cuemu::settings.devices = 0;
    const Context automatic;
    EXPECT_EQ(automatic.device(), Device::cpu);
    EXPECT_EQ(automatic.device_name(), "cpu");
    EXPECT_EQ(automatic.device_notice(), "there is no CUDA driver");
    expect_error(
        ErrorKind::usage, [] { cases::device_context(); },
        "device: there is no CUDA driver, expected cpu or auto, got cuda");
    EXPECT_EQ(Context({.device = Device::cpu}).device_notice(), "");
    cuemu::reset();
}
#endif

} // namespace
} // namespace dynkin

// test_emulator.cpp - faults of the kind that the emulator is there to show, each planted and each seen.
#include "cases.h"
#include "device_cases.h"
#include "kernels/cuda_libraries.h"
#include "kernels/gpu.h"
#include "kernels/random.h"

namespace dynkin {
namespace {

using cases::expect_error;

constexpr unsigned block_threads = 64;
struct Tile {
    int v[block_threads];
};

/// out[t] = in[t + 1], cyclic within a block, then the tile is overwritten: too early unless all have read.
template <bool barrier> __global__ void rotate(const int* in, int* out) {
    int* tile = gpu::shared<Tile>().v;
    const unsigned t = threadIdx.x;
    tile[t] = in[t];
    __syncthreads();
    const int value = tile[(t + 1) % block_threads];
    if (barrier) __syncthreads();
    tile[t] = -1;
    out[t] = value;
}

/// The sum over a block, the tile read up to `last`.
__global__ void sum(const int* in, int last, int* out) {
    int* tile = gpu::shared<Tile>().v;
    tile[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    if (threadIdx.x > 0) return;
    int total = 0;
    for (int i = 0; i <= last; ++i) total += tile[i];
    *out = total;
}

/// Half of the block waits for the other, which does not come.
__global__ void half_a_barrier(int* out) {
    if (threadIdx.x < block_threads / 2) __syncthreads();
    out[threadIdx.x] = 1;
}

__global__ void early_shuffle(int* out) {
    int value = static_cast<int>(threadIdx.x);
    if (threadIdx.x < 16) value = __shfl_sync(0x0000ffffu, value, 20); // a lane that is not in the mask
    out[threadIdx.x] = value;
}

__global__ void add_one(int* x) { ++x[threadIdx.x]; }

class Emulator : public testing::Test {
  protected:
    Emulator() : before_(cuemu::live_allocations().count) {
        cuemu::reset();
        context_.emplace(cases::device_context());
    }
    ~Emulator() override {
        context_.reset();
        EXPECT_EQ(cuemu::live_allocations().count, before_);
        cuemu::reset();
    }
    DeviceState& device() { return context_->device_state(); }
    DeviceStream stream() { return device().compute_stream(); }
    DeviceArray<int> numbers() {
        std::vector<int> values(block_threads);
        std::iota(values.begin(), values.end(), 0);
        return to_device<int>(device(), values, "numbers");
    }
    template <class Action> void expect_failure(const Action& action, const std::string& part) {
        expect_error(
            ErrorKind::io,
            [&] {
                action();
                cuda::synchronize(stream());
            },
            part);
        cuemu::reset();
    }

  private:
    std::size_t before_;
    std::optional<Context> context_;
};

// ---- in kernels

template <bool barrier> bool rotates(DeviceState& device, const DeviceArray<int>& in, cuemu::Order order) {
    cuemu::settings.order = order;
    DeviceArray<int> out(device, block_threads, "out");
    gpu::launch(rotate<barrier>, 1, block_threads, 0, device.compute_stream(), in.data(), out.data());
    const auto found = to_host(device, out);
    for (unsigned t = 0; t < block_threads; ++t)
        if (found[t] != static_cast<int>((t + 1) % block_threads)) return false;
    return true;
}

TEST_F(Emulator, TheBarrierMakesTheRightAnswerInEveryOrder) {
    const auto in = numbers();
    for (const auto order : {cuemu::Order::forward, cuemu::Order::reverse, cuemu::Order::random})
        EXPECT_TRUE(rotates<true>(device(), in, order));
}

#if defined(__SANITIZE_THREAD__)
TEST_F(Emulator, ARemovedBarrierIsADataRace) {
    const auto in = numbers(); // in forward order the answer is right
    EXPECT_DEATH(rotates<false>(device(), in, cuemu::Order::forward), "data race");
}
#else
TEST_F(Emulator, ARemovedBarrierShowsInReverseAndRandomOrder) {
    const auto in = numbers();
    EXPECT_FALSE(rotates<false>(device(), in, cuemu::Order::reverse));
    EXPECT_FALSE(rotates<false>(device(), in, cuemu::Order::random));
}
#endif

TEST_F(Emulator, ABarrierThatNotAllReachIsNamed) {
    DeviceArray<int> out(device(), block_threads, "out");
    expect_failure([&] { gpu::launch(half_a_barrier, 1, block_threads, 0, stream(), out.data()); },
                   "deadlock in block (0,0,0)");
}

TEST_F(Emulator, AShuffleFromALaneOutsideTheMaskIsNamed) {
    DeviceArray<int> out(device(), 32, "out");
    expect_failure([&] { gpu::launch(early_shuffle, 1, 32, 0, stream(), out.data()); },
                   "reads lane 20, which takes no part");
}

#if defined(__SANITIZE_ADDRESS__)
TEST_F(Emulator, AnOffByOneInATileIsSeenByAddressSanitizer) {
    const auto in = numbers();
    DeviceArray<int> out(device(), 1, "out");
    gpu::launch(sum, 1, block_threads, 0, stream(), in.data(), static_cast<int>(block_threads) - 1,
                out.data());
    EXPECT_EQ(to_host(device(), out)[0], 64 * 63 / 2);
    EXPECT_DEATH(
        {
            gpu::launch(sum, 1, block_threads, 0, stream(), in.data(), static_cast<int>(block_threads),
                        out.data());
            cuda::synchronize(stream());
        },
        "heap-buffer-overflow");
}
#endif

// ---- launches

TEST_F(Emulator, ALaunchThatIsRefusedIsAnError) {
    DeviceArray<int> x(device(), block_threads, "x");
    expect_failure([&] { gpu::launch(add_one, 1, 2048, 0, stream(), x.data()); },
                   "invalid launch configuration");
    expect_failure([&] { gpu::launch(add_one, 1, block_threads, 1 << 20, stream(), x.data()); },
                   "invalid launch configuration");
    cuemu::settings.failing_launch = 1;
    expect_failure([&] { gpu::launch(add_one, 1, block_threads, 0, stream(), x.data()); },
                   fmt::format("test_emulator.cpp:{}", __LINE__ - 1));
}

TEST_F(Emulator, AnErrorThatNobodyCheckedSurfacesAtTheNextLaunch) {
    DeviceArray<int> x(device(), block_threads, "x");
    (void)gpu::enqueue(add_one, 1, 2048, 0, stream(), x.data()); // refused, and the status dropped
    expect_failure([&] { gpu::launch(add_one, 1, block_threads, 0, stream(), x.data()); },
                   "invalid launch configuration");
}

TEST_F(Emulator, ALaunchFailureInALibraryRoutineNamesTheRoutine) {
    DeviceArray<std::uint32_t> out(device(), 4, "out");
    cuemu::settings.failing_launch = 1;
    expect_failure(
        [&] {
            cuda::random_words(stream(), {1, Stream::test, 0, 0, 0}, 1, out.data());
        },
        "dynkin::cuda::random_words");
}

TEST_F(Emulator, HostPointersGivenToAKernelAreRefused) {
    int x[block_threads] = {};
    expect_failure([&] { gpu::launch(add_one, 1, block_threads, 0, stream(), x); }, "pointer to host memory");
}

TEST_F(Emulator, TheDefaultStreamIsRefused) {
    DeviceArray<int> x(device(), block_threads, "x");
    expect_failure([&] { gpu::launch(add_one, 1, block_threads, 0, nullptr, x.data()); }, "default stream");
}

// ---- waiting

TEST_F(Emulator, AMissingSynchronisationGivesWrongNumbers) {
    auto x = numbers();
    PinnedArray<int> host(device(), block_threads, "host");
    gpu::launch(add_one, 1, block_threads, 0, stream(), x.data());
    x.download(stream(), host.span());
    EXPECT_NE(host[5], 6); // not waited for
    cuda::synchronize(stream());
    EXPECT_EQ(host[5], 6);
}

TEST_F(Emulator, APinnedBufferThatIsReusedTooEarlyGivesWrongNumbers) {
    DeviceArray<int> x(device(), block_threads, "x");
    PinnedArray<int> host(device(), block_threads, "host");
    std::fill_n(host.data(), block_threads, 1);
    x.upload(stream(), host.span());
    std::fill_n(host.data(), block_threads, 2); // before the copy was waited for
    EXPECT_EQ(to_host(device(), x)[0], 2);
}

/// A copy, and work on another stream that needs it.
int copied_then_used(DeviceState& device, bool with_event) {
    auto x = to_device<int>(device, std::vector<int>(block_threads, 10), "x");
    PinnedArray<int> host(device, block_threads, "host");
    std::fill_n(host.data(), block_threads, 20);
    DeviceEvent copied;
    x.upload(device.copy_stream(), host.span());
    copied.record(device.copy_stream());
    if (with_event) copied.hold_up(device.compute_stream());
    gpu::launch(add_one, 1, block_threads, 0, device.compute_stream(), x.data());
    const int found = to_host(device, x)[0];
    cuda::synchronize(device.copy_stream());
    return found;
}

TEST_F(Emulator, AMissingEventGivesWrongNumbers) {
    EXPECT_EQ(copied_then_used(device(), true), 21);
    EXPECT_NE(copied_then_used(device(), false), 21);
    cuemu::settings.schedule = cuemu::Schedule::at_once; // where it would not be seen
    EXPECT_EQ(copied_then_used(device(), false), 21);
}

/// Work on a buffer, and a copy on another stream that overwrites it afterwards.
int used_then_overwritten(DeviceState& device, bool with_event) {
    auto x = to_device<int>(device, std::vector<int>(block_threads, 10), "x");
    DeviceArray<int> seen(device, block_threads, "seen");
    PinnedArray<int> next(device, block_threads, "next");
    std::fill_n(next.data(), block_threads, 20);
    DeviceEvent used;
    cuda::copy_on_device(device.compute_stream(), seen.data(), x.data(), block_threads * sizeof(int));
    used.record(device.compute_stream());
    if (with_event) used.hold_up(device.copy_stream());
    x.upload(device.copy_stream(), next.span());
    const int found = to_host(device, seen)[0];
    cuda::synchronize(device.copy_stream());
    return found;
}

TEST_F(Emulator, ABufferOverwrittenTooEarlyGivesWrongNumbers) {
    cuemu::settings.schedule = cuemu::Schedule::others_first;
    EXPECT_EQ(used_then_overwritten(device(), true), 10);
    EXPECT_EQ(used_then_overwritten(device(), false), 20);
}

// ---- memory

/// What an operation does: memory of both kinds, a library, work, a result.
std::vector<int> small_routine(DeviceState& device) {
    PinnedArray<int> in(device, block_threads, "the input");
    std::fill_n(in.data(), block_threads, 7);
    DeviceArray<int> x(device, block_threads, "the numbers");
    (void)device.libraries();
    DeviceArray<int> y(device, block_threads, "the result");
    x.upload(device.compute_stream(), in.span());
    gpu::launch(rotate<true>, 1, block_threads, 0, device.compute_stream(), x.data(), y.data());
    return to_host(device, y);
}

/// Runs the routine on a fresh context with its k-th allocation failing; false: it has no k-th allocation.
bool fails_clearly(int k) {
    const Context context = cases::device_context();
    const std::vector<int> expected(block_threads, 7);
    cuemu::settings.failing_allocation = k;
    try {
        EXPECT_EQ(small_routine(context.device_state()), expected);
        return false;
    } catch (const Error& error) {
        const std::string text = error.what();
        EXPECT_EQ(error.kind(), ErrorKind::io);
        EXPECT_NE(text.find("memory: "), std::string::npos) << text;
        EXPECT_NE(text.find(" need "), std::string::npos) << text;
    }
    EXPECT_EQ(small_routine(context.device_state()), expected); // the device is as good as before
    return true;
}

TEST_F(Emulator, EveryAllocationThatFailsIsAClearErrorAndLeaksNothing) {
    const std::size_t live = cuemu::live_allocations().count;
    int failures = 0;
    for (; fails_clearly(failures + 1); ++failures) EXPECT_EQ(cuemu::live_allocations().count, live);
    EXPECT_EQ(cuemu::live_allocations().count, live);
    EXPECT_EQ(failures, 4);
}

TEST_F(Emulator, MemoryFreedTwiceIsRefused) {
    void* memory = device().allocate(100, "memory");
    DYNKIN_CUDA_CHECK(cudaFree(memory));
    EXPECT_EQ(cudaFree(memory), cudaErrorInvalidValue);
    EXPECT_NE(std::string(cudaGetErrorString(cudaErrorInvalidValue)).find("freed before"), std::string::npos);
    EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
    int on_the_host = 0;
    EXPECT_EQ(cudaFree(&on_the_host), cudaErrorInvalidValue);
    cuemu::reset();
}

TEST_F(Emulator, CopiesTheWrongWayAreRefused) {
    auto x = numbers();
    std::vector<int> host(block_threads);
    expect_failure([&] { cuda::copy_to_device(stream(), host.data(), x.data(), 4); },
                   "the destination is not device memory");
    expect_failure([&] { cuda::copy_to_host(stream(), x.data(), host.data(), 4); },
                   "the destination is device memory");
    expect_failure([&] { cuda::copy_on_device(stream(), x.data(), host.data(), 4); },
                   "the source is not device memory");
}

TEST_F(Emulator, CopiesBeyondAnAllocationAreRefused) {
    auto x = numbers();
    std::vector<int> host(block_threads + 1);
    expect_failure([&] { x.upload(stream(), host); },
                   "reaches beyond its allocation: 260 bytes, 256 are there");
    expect_failure([&] { x.download(stream(), std::span(host).first(block_threads), 1); },
                   "the source reaches beyond its allocation");
}

TEST_F(Emulator, FreshMemoryIsNeitherZeroNorLastTimesValue) {
    { const auto used = numbers(); }
    DeviceArray<int> x(device(), block_threads, "x");
    EXPECT_EQ(to_host(device(), x), std::vector<int>(block_threads, -1));
}

// ---- libraries

class EmulatedLibraries : public Emulator {
  protected:
    /// C = A B for matrices of order n that end where their allocations end.
    cublasStatus_t product(int n, int lda, std::size_t numbers_of_a) {
        const DeviceArray<double> a(device(), numbers_of_a, "A"), b(device(), 64, "B");
        DeviceArray<double> c(device(), 64, "C");
        const double one = 1, zero = 0;
        const auto& l = device().libraries();
        const auto status = l.blas.dgemm(l.blas_handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &one, a.data(),
                                         lda, b.data(), n, &zero, c.data(), n);
        cuda::synchronize(stream());
        return status;
    }
};

TEST_F(EmulatedLibraries, AWrongLeadingDimensionIsRefused) {
    EXPECT_EQ(product(8, 8, 64), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(product(8, 7, 64), CUBLAS_STATUS_INVALID_VALUE); // shorter than a column
    EXPECT_EQ(product(8, 9, 64), CUBLAS_STATUS_INVALID_VALUE); // the last column lies beyond the end
    EXPECT_EQ(product(8, 9, 71), CUBLAS_STATUS_SUCCESS);
    expect_error(
        ErrorKind::io, [] { DYNKIN_CUDA_CHECK(CUBLAS_STATUS_INVALID_VALUE); }, "CUBLAS_STATUS_INVALID_VALUE");
}

TEST_F(EmulatedLibraries, AWorkspaceThatIsTooSmallIsRefused) {
    DeviceArray<double> a(device(), 64, "A"), workspace(device(), 1, "workspace");
    DeviceArray<int> info(device(), 1, "info");
    const auto& l = device().libraries();
    EXPECT_EQ(l.solver.dpotrf(l.solver_handle, CUBLAS_FILL_MODE_LOWER, 8, a.data(), 8, workspace.data(), 1,
                              info.data()),
              CUSOLVER_STATUS_INVALID_VALUE);
    EXPECT_EQ(l.solver.dpotrf(l.solver_handle, CUBLAS_FILL_MODE_LOWER, 8, a.data(), 8, workspace.data(), 1000,
                              info.data()),
              CUSOLVER_STATUS_INVALID_VALUE);
}

TEST_F(EmulatedLibraries, HostPointersAndDeadHandlesAreRefused) {
    double x[4] = {}, one = 1, zero = 0;
    const DeviceArray<double> a(device(), 4, "A");
    const auto& l = device().libraries();
    EXPECT_EQ(l.blas.dgemv(l.blas_handle, CUBLAS_OP_N, 2, 2, &one, a.data(), 2, x, 1, &zero, x, 1),
              CUBLAS_STATUS_INVALID_VALUE);
    EXPECT_EQ(l.blas.dgemv(nullptr, CUBLAS_OP_N, 2, 2, &one, a.data(), 2, a.data(), 1, &zero, x, 1),
              CUBLAS_STATUS_INVALID_VALUE);
    cublasHandle_t fresh = nullptr;
    EXPECT_EQ(l.blas.create(&fresh), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(l.blas.set_stream(fresh, nullptr), CUBLAS_STATUS_INVALID_VALUE);
    EXPECT_EQ(l.blas.destroy(fresh), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(l.blas.destroy(fresh), CUBLAS_STATUS_NOT_INITIALIZED);
}

} // namespace
} // namespace dynkin

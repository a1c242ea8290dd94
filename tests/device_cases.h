// device_cases.h - how a test of the device is repeated: in every order of threads and streams that the
// emulator knows, or once on the machine's own GPU (DYNKIN_TEST_DEVICE=gpu).
#pragma once
#include "engine/context.h"
#include "engine/error.h"
#include "engine/solve.h"
#include "kernels/device.h"
#include <cstdlib>
#include <gtest/gtest.h>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#if DYNKIN_EMULATED
#include "machine.h"
#endif

namespace dynkin::cases {

#if DYNKIN_EMULATED
struct DeviceRun {
    const char* name;
    cuemu::Order order;
    cuemu::Schedule schedule;
    void apply() const {
        cuemu::reset();
        cuemu::settings.order = order, cuemu::settings.schedule = schedule;
    }
};
inline std::vector<DeviceRun> device_runs() {
    return {{"forward", cuemu::Order::forward, cuemu::Schedule::when_needed},
            {"reverse", cuemu::Order::reverse, cuemu::Schedule::others_first},
            {"random", cuemu::Order::random, cuemu::Schedule::when_needed},
            {"at_once", cuemu::Order::forward, cuemu::Schedule::at_once}};
}
inline std::size_t live_allocations() { return cuemu::live_allocations().count; }
inline std::uint64_t downloaded() { return cuemu::statistics.downloaded; }
#else
struct DeviceRun {
    const char* name;
    void apply() const {}
};
inline std::vector<DeviceRun> device_runs() { return {{"gpu"}}; }
inline std::size_t live_allocations() { return 0; }
inline std::uint64_t downloaded() { return 0; }
#endif

/// How many samples an operation is tested with: below a warp, and above a block. With sanitizers, which slow
/// the emulator down thirtyfold, the large one is smaller, unless DYNKIN_TEST_SIZES is "full".
inline std::vector<std::size_t> sample_counts() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const char* sizes = std::getenv("DYNKIN_TEST_SIZES");
    if (!sizes || std::string_view(sizes) != "full") return {1, 31, 1009};
#endif
    return {1, 31, 10'007};
}

inline std::ostream& operator<<(std::ostream& out, const DeviceRun& run) { return out << run.name; }

inline Context device_context(std::uint64_t memory = 0) {
    return Context({.device = Device::cuda, .device_memory = memory, .threads = 1});
}

/// The other backend: `automatic` would be the device here.
inline Context cpu_context() { return Context({.device = Device::cpu, .threads = 1}); }

#if DYNKIN_EMULATED
/// Each allocation of operation(context), of device or pinned memory, made to fail in turn: an Error that
/// says what was asked, and nothing is left behind; at last it passes with all of them. Returns how many
/// there are. `memory`: of the contexts, as for device_context(). `stride`: 2 for every second one and so on,
/// for an operation that takes long, and whose parts are tested alone.
template <class Operation>
int expect_each_allocation_may_fail(const Operation& operation, std::uint64_t memory = 0, int stride = 1) {
    device_runs().front().apply();
    use_sequential_blas();
    const std::size_t live = live_allocations();
    for (int k = 1;; k += stride) {
        std::string message;
        {
            const Context context = device_context(memory);
            cuemu::settings.failing_allocation = k;
            try {
                operation(context);
            } catch (const Error& error) {
                message = error.what();
                EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(ErrorKind::io)) << message;
            }
        }
        const bool reached = std::exchange(cuemu::settings.failing_allocation, 0) == 0;
        EXPECT_EQ(live_allocations(), live) << "allocation " << k << " failed, others were not freed";
        if (!reached) {
            EXPECT_EQ(message, "") << "no allocation failed";
            return k - 1;
        }
        EXPECT_NE(message.find("memory: "), std::string::npos) << k << ": " << message;
        EXPECT_NE(message.find(" need "), std::string::npos) << k << ": " << message;
        if (testing::Test::HasFailure()) return k;
    }
}
#endif

/// Records with a test, of whose fixture it is a member, what the test copies to the host (for
/// compare_devices).
class Downloads {
  public:
    Downloads() = default;
    Downloads(const Downloads&) = delete;
    Downloads& operator=(const Downloads&) = delete;
    ~Downloads() { testing::Test::RecordProperty("downloaded", std::to_string(downloaded() - before_)); }

  private:
    std::uint64_t before_ = downloaded();
};

/// A test with a context on the device; it fails when it leaves memory behind.
class OnDevice : public testing::TestWithParam<DeviceRun> {
  protected:
    void SetUp() override {
        GetParam().apply();
        use_sequential_blas(); // its threads are unknown to ThreadSanitizer
        live_before_ = live_allocations();
        context_.emplace(device_context());
    }
    void TearDown() override {
        context_.reset();
        EXPECT_EQ(live_allocations(), live_before_) << "allocations were not freed";
    }
    const Context& context() const { return *context_; }
    DeviceState& device() const { return context_->device_state(); }

  private:
    std::optional<Context> context_;
    std::size_t live_before_ = 0;
    Downloads downloads_;
};

/// For INSTANTIATE_TEST_SUITE_P(Run, Suite, ..., run_name).
inline std::string run_name(const testing::TestParamInfo<DeviceRun>& info) { return info.param.name; }

} // namespace dynkin::cases

// on_device.cpp - linked with the objects of tests that take their contexts from backend.h: makes them tests
// of the device. Each must launch kernels there, else it is a test of the CPU under a wrong name, and leave
// no memory behind.
#include "backend.h"
#include <gtest/gtest.h>
#if DYNKIN_EMULATED
#include "machine.h"
#endif

namespace dynkin::cases {
namespace {

#if DYNKIN_EMULATED
class Watch : public testing::EmptyTestEventListener {
    void OnTestStart(const testing::TestInfo&) override {
        launches_ = cuemu::statistics.launches, live_ = cuemu::live_allocations().count;
    }
    void OnTestEnd(const testing::TestInfo& test) override {
        if (test.result()->Skipped()) return;
        EXPECT_GT(cuemu::statistics.launches, launches_)
            << "no kernel ran: on_device.cmake lists what has no work for the device";
        EXPECT_EQ(cuemu::live_allocations().count, live_) << "allocations were not freed";
    }
    std::uint64_t launches_ = 0;
    std::size_t live_ = 0;
};
#endif

const bool prepared = [] {
    backend = {Device::cuda, DYNKIN_EMULATED != 0};
#if DYNKIN_EMULATED
    testing::UnitTest::GetInstance()->listeners().Append(new Watch); // gtest's from here on
#endif
    return true;
}();

} // namespace
} // namespace dynkin::cases

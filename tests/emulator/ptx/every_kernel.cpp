// every_kernel.cpp - where DYNKIN_PTX_EVERY_KERNEL is set, a run of the tests must have launched every
// translated kernel.
#include "ptx.h"
#include <cstdlib>
#include <gtest/gtest.h>

namespace ptx {
namespace {

class EveryKernel : public testing::Environment {
    void TearDown() override {
        if (!std::getenv("DYNKIN_PTX_EVERY_KERNEL")) return;
        for (const std::string& name : never_launched()) ADD_FAILURE() << "no test launches " << name;
    }
};
[[maybe_unused]] const testing::Environment* const every_kernel =
    testing::AddGlobalTestEnvironment(new EveryKernel);

} // namespace
} // namespace ptx

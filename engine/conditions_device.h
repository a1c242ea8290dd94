// conditions_device.h - how the conditions of a level follow from other coordinates, on the device (private).
#pragma once
#include "../kernels/conditional_cuda.h"
#include "../kernels/device.h"

namespace dynkin {

/// kernels::Conditions on the device.
struct DeviceConditions {
    DeviceArray<kernels::Conditions::Entry> entries, predictor;
    DeviceArray<kernels::Conditions::Group> groups;
    DeviceArray<kernels::Conditions::Feature> features;
    DeviceArray<int> exponents;
    DeviceArray<double> transform;
    DeviceArray<kernels::Conditions::Condition> ranges;
    cuda::ConditionsView view{};
};
DeviceConditions device_conditions(DeviceState& device, const kernels::Conditions& from);

} // namespace dynkin

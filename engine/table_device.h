// table_device.h - a level's table on the device (private).
#pragma once
#include "../kernels/device.h"
#include "../kernels/table_cuda.h"

namespace dynkin {

/// kernels::LawTable on the device.
struct DeviceTable {
    DeviceArray<kernels::LawTable::Entry> predictor, entries;
    DeviceArray<kernels::LawTable::Group> groups;
    DeviceArray<float> density;
    DeviceArray<std::int32_t> cumulative;
    cuda::TableView view{};
};
DeviceTable device_table(DeviceState& device, const kernels::LawTable& from); // levels_device.cpp

} // namespace dynkin

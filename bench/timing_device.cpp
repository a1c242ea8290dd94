// timing_device.cpp - clocks of the device.
#include "kernels/device_times.h"
#include "timing.h"
#include <algorithm>

namespace dynkin::bench {

struct DeviceTimer {
    explicit DeviceTimer(DeviceState& device)
        : device(device), flush(device, 2 * std::max<std::size_t>(device.properties().l2_cache, 1 << 20),
                                "the buffer that flushes the L2 cache") {}

    void empty_cache() { cuda::fill_zero(device.compute_stream(), flush.data(), flush.size()); }

    DeviceState& device;
    DeviceArray<unsigned char> flush;
    DeviceEvent from{true}, to{true};
    DeviceTimes times;
};

std::shared_ptr<DeviceTimer> make_device_timer(DeviceState& device) {
    return std::make_shared<DeviceTimer>(device);
}

double device_seconds(DeviceTimer& timer, const Run& run, std::size_t round) {
    timer.empty_cache();
    timer.from.record(timer.device.compute_stream());
    run(round);
    timer.to.record(timer.device.compute_stream());
    timer.to.synchronize();
    return 1e-3 * DeviceEvent::milliseconds(timer.from, timer.to);
}

std::map<std::string, double> device_part_seconds(DeviceTimer& timer, const Run& run, std::size_t round) {
    timer.empty_cache();
    timer.device.time_by(&timer.times);
    try {
        run(round);
        timer.device.time_by(nullptr);
    } catch (...) {
        timer.device.time_by(nullptr);
        throw;
    }
    return timer.times.take();
}

} // namespace dynkin::bench

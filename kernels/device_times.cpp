// device_times.cpp - see device_times.h.
#include "device_times.h"

namespace dynkin {

void DeviceTimes::begin(DeviceStream stream, const char* part) {
    if (used_ == pairs_.size()) pairs_.emplace_back();
    pairs_[used_].part = part;
    pairs_[used_].from.record(stream);
}

void DeviceTimes::end(DeviceStream stream) { pairs_[used_++].to.record(stream); }

std::map<std::string, double> DeviceTimes::take() {
    std::map<std::string, double> seconds;
    for (std::size_t k = 0; k < used_; ++k) {
        const Pair& pair = pairs_[k];
        pair.to.synchronize();
        seconds[pair.part] += 1e-3 * DeviceEvent::milliseconds(pair.from, pair.to);
    }
    used_ = 0;
    return seconds;
}

} // namespace dynkin

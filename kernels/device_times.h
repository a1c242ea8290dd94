// device_times.h - how long the parts of an operation take on the device, by events around them: for
// `dynkin bench`, which so measures what the pipeline enqueues and no copy of it.
#pragma once
#include "device.h"
#include <map>
#include <string>
#include <vector>

namespace dynkin {

/// Pairs of events on the compute stream, by name. Parts follow one another and do not nest.
class DeviceTimes {
  public:
    void begin(DeviceStream stream, const char* part);
    void end(DeviceStream stream);
    /// Seconds of each part, all its pairs together, since the last call; waits for them.
    std::map<std::string, double> take();

  private:
    struct Pair {
        const char* part = nullptr;
        DeviceEvent from{true}, to{true};
    };
    std::vector<Pair> pairs_; ///< the first `used_` of them; events are made once
    std::size_t used_ = 0;
};

/// work() enqueues on the compute stream; it is a part of that name where the device's parts are timed.
template <class Work> void timed(DeviceState& device, const char* part, const Work& work) {
    if (DeviceTimes* const times = device.times()) {
        times->begin(device.compute_stream(), part);
        work();
        times->end(device.compute_stream());
    } else
        work();
}

} // namespace dynkin

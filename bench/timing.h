// timing.h - repeated runs and their times (private).
#pragma once
#include "bench.h"
#include <map>
#include <memory>
#include <utility>

namespace dynkin::bench {

/// One run; the number of the repeat chooses its inputs, so that they are not in caches from the one before.
using Run = std::function<void(std::size_t round)>;

/// Events and the buffer that flushes the L2 cache; builds with CUDA only.
struct DeviceTimer;
std::shared_ptr<DeviceTimer> make_device_timer(DeviceState& device);
/// Between an event before the run and one after it, with nothing of the inputs in the L2 cache.
double device_seconds(DeviceTimer& timer, const Run& run, std::size_t round);
/// Of the parts of one run.
std::map<std::string, double> device_part_seconds(DeviceTimer& timer, const Run& run, std::size_t round);

class Timer {
  public:
    Timer(const Context& context, int repeats);

    /// After one run that is not timed. prepare(): before each, not timed; may be empty.
    Seconds operator()(const Run& run, const Run& prepare = {});
    /// Of two that are run in turn, on the CPU.
    std::pair<Seconds, Seconds> in_turn(const Run& run, const Run& prepare, const Run& other);
    /// Spreads of the parts over the repeats; empty on the CPU.
    std::map<std::string, Spread> parts(const Run& run, const Run& prepare = {});
    int repeats() const { return repeats_; }

  private:
    void begin(const Run& prepare);

    const Context& context_;
    int repeats_;
    std::size_t round_ = 0;
    std::shared_ptr<DeviceTimer> device_;
};

} // namespace dynkin::bench

// context.h - where work runs and how it reports: device, threads, SIMD level, progress, interruption.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace dynkin {

class DeviceState; // private to the library

/// automatic: the CUDA device when the build and the machine have one, else the CPU.
enum class Device { automatic, cpu, cuda };

/// SIMD level of the CPU kernels. The same level gives the same bytes on every machine that has it.
enum class Isa { automatic, baseline, avx2, avx512 };

/// One report of long work: `done` of `total` units of `stage`.
struct ProgressEvent {
    const char* stage;
    std::uint64_t done, total;
};

struct ContextOptions {
    Device device = Device::automatic;
    std::uint64_t device_memory = 0; ///< bytes to use on the device; 0: all that is free, less a reserve
    int threads = 0;                 ///< 0: as many as the process may use
    Isa isa = Isa::automatic;
    std::function<void(const ProgressEvent&)> progress =
        {};                                             ///< called from the thread that called the library
    const std::atomic<int>* interrupt_signal = nullptr; ///< becomes non-zero when the work is to stop
};

/// Made once and passed first to every operation. Movable-from never; copies are cheap and equal.
class Context {
  public:
    /// Throws Error(usage) when the device, that much of its memory or the SIMD level is not to be had here,
    /// or threads < 0; Error(io) when the device asked for fails.
    explicit Context(ContextOptions options = {});

    int threads() const { return threads_; }
    Isa isa() const { return isa_; }
    Device device() const { return options_.device; } ///< cpu or cuda
    std::string device_name() const;                  ///< "cpu", or the name the driver gives the device
    /// Why `automatic` chose the CPU although the build has CUDA, one line; else "".
    const std::string& device_notice() const { return device_notice_; }
    /// Streams and memory of the device, for the library's own sources; device() must be cuda. Copies of a
    /// context share it.
    DeviceState& device_state() const { return *device_state_; }
    std::string isa_name() const;

    void report(const char* stage, std::uint64_t done, std::uint64_t total) const;
    /// Non-zero once a signal has asked the work to stop.
    int interrupt_signal() const;

  private:
    ContextOptions options_;
    int threads_;
    Isa isa_;
    std::string device_notice_;
    std::shared_ptr<DeviceState> device_state_;
};

/// The best level this processor has; never `automatic`.
Isa best_isa();

} // namespace dynkin

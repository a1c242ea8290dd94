// machine.h - the emulated device as tests see it: in which order its threads and streams run, what fails,
// what is allocated; and what the parts of the emulator tell one another.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <functional>
#include <string>

namespace cuemu {

/// In which order the threads of a block run between two points where they wait for one another. A missing
/// barrier gives the right answer in some orders only.
enum class Order { forward, reverse, random };

/// When enqueued work runs. A missing wait gives the right answer on some schedules only.
enum class Schedule {
    at_once,     ///< where it is enqueued
    when_needed, ///< when the host waits for it, and no sooner; other streams only as far as their events are
                 ///< needed
    others_first ///< likewise, but every other stream runs as far as its events allow before each command
};

struct Settings {
    Order order = Order::forward;
    std::uint64_t seed = 1; ///< of Order::random
    Schedule schedule = Schedule::when_needed;
    bool strict_exit = true; ///< a thread that has returned breaks a later barrier (devices let it pass)
    std::size_t shared_memory = 227 * 1024; ///< bytes that a block may have
    std::size_t stack = 256 * 1024;         ///< bytes of a thread
    int devices = 1;
    std::size_t memory = std::size_t{4} << 30; ///< bytes of the device
    int failing_allocation = 0;                ///< k: the k-th allocation from here on fails; 0: none
    int failing_launch = 0;                    ///< likewise for launches of kernels
    bool digest = false;                       ///< of what is copied to the host, in Statistics::downloaded
};

/// The initial value takes DYNKIN_EMULATOR_ORDER (forward, reverse, random) and DYNKIN_EMULATOR_SCHEDULE
/// (at_once, when_needed, others_first) from the environment, no device when DYNKIN_EMULATOR_DEVICES is 0,
/// and `digest` when DYNKIN_EMULATOR_DIGEST is set.
extern Settings settings;
Settings settings_from_environment();

struct Statistics {
    std::uint64_t threads = 0, switches = 0, launches = 0, allocations = 0;
    std::uint64_t downloaded = 0; ///< a sum of the copies' digests, the same whatever their order
};
extern Statistics statistics;

struct Live {
    std::size_t count = 0, bytes = 0;
};
Live live_allocations(); ///< of device and pinned memory

/// As a new process would find the device: settings of the environment, no error, nothing enqueued.
/// Allocations, streams and events stay with their owners.
void reset();

// ---- between the parts of the emulator

/// Remembers a failure for cudaGetLastError, with words for cudaGetErrorString; returns it.
cudaError_t refuse(cudaError_t status, const std::string& why);

/// The failure of enqueued work, after which every call fails, as on a device; else cudaSuccess.
cudaError_t broken();

bool is_device_memory(const void* memory, std::size_t bytes); ///< all of it, in one allocation
bool is_reachable(const void* memory); ///< from kernels: null, or device or pinned memory
cudaError_t enqueue_work(cudaStream_t stream, const char* call, std::function<void()> work);
bool is_stream(cudaStream_t stream);
void run_stream(cudaStream_t stream); ///< all that is enqueued on it
void run_everything();

cudaError_t enqueue_launch(cudaStream_t stream, dim3 grid, dim3 block, std::size_t shared_bytes,
                           std::function<void()> thread);
/// Runs the threads of a launch. Throws Fault.
void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& thread);

} // namespace cuemu

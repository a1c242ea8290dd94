// context.cpp - resolves what the user asked for (threads, SIMD level, device) into what this machine has.
#include "engine/context.h"
#include "engine/error.h"
#include "kernels/device.h"
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fmt/format.h>
#include <sched.h>
#include <utility>

namespace dynkin {
namespace {

constexpr int max_threads = 4096; // beyond it OpenMP aborts the process instead of reporting

const char* name_of(Isa isa) {
    switch (isa) {
    case Isa::automatic:
        return "auto";
    case Isa::baseline:
        return "baseline";
    case Isa::avx2:
        return "avx2";
    case Isa::avx512:
        return "avx512";
    }
    return "unknown";
}

/// The processors this process may run on. The mask grows until the kernel accepts it (more than 1024 CPUs).
int usable_processors() {
    for (int capacity = 1024; capacity <= 1 << 20; capacity *= 2) {
        cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(capacity));
        if (!set) break;
        const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(capacity));
        const bool ok = sched_getaffinity(0, bytes, set) == 0;
        const bool too_small = !ok && errno == EINVAL;
        const int count = ok ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (ok && count > 0) return count;
        if (!too_small) break;
    }
    return 1;
}

/// OMP_NUM_THREADS may be a list, one entry a nesting level; the first is ours. 0: unset or not a positive
/// number.
int threads_from_environment() {
    const char* text = std::getenv("OMP_NUM_THREADS");
    if (!text) return 0;
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    const bool well_formed = end != text && (*end == '\0' || *end == ',' || *end == ' ');
    return well_formed && value > 0 ? static_cast<int>(std::min<long>(value, max_threads)) : 0;
}

int resolve_threads(int asked) {
    if (asked < 0 || asked > max_threads)
        throw Error(ErrorKind::usage,
                    fmt::format("threads: expected 0 (automatic) to {}, got {}", max_threads, asked));
    if (asked > 0) return asked;
    const int from_environment = threads_from_environment();
    return from_environment > 0 ? from_environment : std::min(usable_processors(), max_threads);
}

Isa resolve_isa(Isa asked) {
    const Isa best = best_isa();
    if (asked == Isa::automatic) return best;
    if (asked > best)
        throw Error(ErrorKind::usage, fmt::format("isa: this processor has no {}, its best level is {}",
                                                  name_of(asked), name_of(best)));
    return asked;
}

/// The device, or nullptr when work is to run on the CPU; then `notice` says why, unless that was asked for
/// or the build has no CUDA.
std::shared_ptr<DeviceState> open_device(const ContextOptions& asked, std::string& notice) {
    if (asked.device == Device::cpu) return nullptr;
    const bool required = asked.device == Device::cuda;
    if constexpr (!built_with_cuda) {
        require(!required, ErrorKind::usage,
                "device: this build has no CUDA backend, expected cpu or auto, got cuda");
    } else {
        notice = device_obstacle();
        if (required && !notice.empty())
            throw Error(ErrorKind::usage, "device: " + notice + ", expected cpu or auto, got cuda");
        if (!notice.empty()) return nullptr;
        try {
            return std::make_shared<DeviceState>(asked.device_memory);
        } catch (const Error& error) {
            if (required || error.kind() == ErrorKind::usage) throw;
            notice = error.what();
        }
    }
    return nullptr;
}

} // namespace

Isa best_isa() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return Isa::avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
    return Isa::baseline;
}

Context::Context(ContextOptions options)
    : options_(std::move(options)), threads_(resolve_threads(options_.threads)),
      isa_(resolve_isa(options_.isa)) {
    device_state_ = open_device(options_, device_notice_);
    options_.device = device_state_ ? Device::cuda : Device::cpu;
}

std::string Context::device_name() const {
    if constexpr (built_with_cuda)
        if (device_state_) return device_state_->properties().name;
    return "cpu";
}

std::string Context::isa_name() const { return name_of(isa_); }

void Context::report(const char* stage, std::uint64_t done, std::uint64_t total) const {
    if (options_.progress) options_.progress({stage, done, total});
}

int Context::interrupt_signal() const {
    return options_.interrupt_signal ? options_.interrupt_signal->load(std::memory_order_relaxed) : 0;
}

} // namespace dynkin

// device.cpp - finds the CUDA device and owns streams, events and memory. Host code: any compiler.
#include "device.h"
#include "cuda_check.h"
#include "cuda_libraries.h"
#include "engine/error.h"
#include <algorithm>
#include <fmt/format.h>

namespace dynkin {
namespace {

constexpr int device_ordinal = 0;
constexpr int oldest_capability = 80;               // the oldest architecture that kernels are compiled for
constexpr std::uint64_t least_reserve = 256u << 20; // for the driver's own needs: stacks, printf, modules
constexpr std::size_t granularity = 256;            // of the allocator

std::size_t granules(std::size_t bytes) { return (bytes + granularity - 1) / granularity * granularity; }

std::string bytes_text(std::uint64_t bytes) {
    if (bytes < 1u << 20) return fmt::format("{} bytes", bytes);
    const double mebi = static_cast<double>(bytes) / (1 << 20);
    return mebi < 1024 ? fmt::format("{:.1f} MiB ({} bytes)", mebi, bytes)
                       : fmt::format("{:.1f} GiB ({} bytes)", mebi / 1024, bytes);
}

cudaDeviceProp properties_of_device() {
    cudaDeviceProp properties{};
    DYNKIN_CUDA_CHECK(cudaGetDeviceProperties(&properties, device_ordinal));
    return properties;
}

int attribute(cudaDeviceAttr which) {
    int value = 0;
    DYNKIN_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device_ordinal));
    return value;
}

struct DeviceMemory {
    std::size_t free = 0, total = 0;
};
DeviceMemory device_memory() {
    DeviceMemory memory;
    DYNKIN_CUDA_CHECK(cudaMemGetInfo(&memory.free, &memory.total));
    return memory;
}

std::uint64_t resolve_limit(std::uint64_t asked) {
    const DeviceMemory memory = device_memory();
    if (asked > memory.free)
        throw Error(ErrorKind::usage, fmt::format("device memory: asked for {}, the device has {} free",
                                                  bytes_text(asked), bytes_text(memory.free)));
    if (asked > 0) return asked;
    const std::uint64_t reserve = std::max<std::uint64_t>(least_reserve, memory.total / 20);
    return memory.free > reserve ? memory.free - reserve : 0;
}

DeviceStream make_stream() {
    cudaStream_t stream = nullptr;
    DYNKIN_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

} // namespace

std::string device_obstacle() {
    int driver = 0, count = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        cuda::ignore(cudaGetLastError());
        return "there is no CUDA driver";
    }
    const cudaError_t status = cudaGetDeviceCount(&count);
    cuda::ignore(status);
    if (status == cudaErrorInsufficientDriver)
        return fmt::format("the CUDA driver is for {}.{}, expected {}.{} or later", driver / 1000,
                           driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
        return "there is no CUDA device";
    if (status != cudaSuccess)
        return fmt::format("the CUDA driver says '{}' ({})", cudaGetErrorString(status),
                           cudaGetErrorName(status));
    cudaDeviceProp properties{};
    if (const cudaError_t failure = cudaGetDeviceProperties(&properties, device_ordinal);
        failure != cudaSuccess) {
        cuda::ignore(failure);
        return fmt::format("the CUDA driver says '{}' ({})", cudaGetErrorString(failure),
                           cudaGetErrorName(failure));
    }
    if (10 * properties.major + properties.minor < oldest_capability)
        return fmt::format("{} has compute capability {}.{}, expected {}.{} or later", properties.name,
                           properties.major, properties.minor, oldest_capability / 10,
                           oldest_capability % 10);
    return "";
}

DeviceState::DeviceState(std::uint64_t memory_limit) {
    const cudaDeviceProp found = properties_of_device();
    properties_ = {found.name,
                   found.major,
                   found.minor,
                   found.multiProcessorCount,
                   found.totalGlobalMem,
                   found.sharedMemPerBlockOptin,
                   static_cast<std::size_t>(found.l2CacheSize),
                   attribute(cudaDevAttrClockRate),
                   attribute(cudaDevAttrMemoryClockRate)};
    DYNKIN_CUDA_CHECK(cudaDriverGetVersion(&properties_.driver));
    DYNKIN_CUDA_CHECK(cudaRuntimeGetVersion(&properties_.runtime));
    limit_ = resolve_limit(memory_limit);
    compute_ = make_stream();
    try {
        copy_ = make_stream();
    } catch (...) {
        cuda::ignore(cudaStreamDestroy(compute_));
        throw;
    }
}

DeviceState::~DeviceState() {
    libraries_.reset();
    cuda::ignore(cudaStreamDestroy(copy_));
    cuda::ignore(cudaStreamDestroy(compute_));
}

void* DeviceState::allocate(std::size_t bytes, const char* what) {
    if (bytes == 0) return nullptr;
    const std::size_t taken = granules(bytes);
    if (taken > memory_left())
        throw Error(ErrorKind::io,
                    fmt::format("device memory: {} need {}, {} are left of the {} allowed", what,
                                bytes_text(bytes), bytes_text(memory_left()), bytes_text(limit_)));
    void* memory = nullptr;
    const cudaError_t status = cudaMalloc(&memory, bytes);
    if (status == cudaErrorMemoryAllocation) {
        cuda::ignore(status);
        const DeviceMemory now = device_memory();
        throw Error(ErrorKind::io, fmt::format("device memory: {} need {}, the device has {} free", what,
                                               bytes_text(bytes), bytes_text(now.free)));
    }
    cuda::check(status, {"cudaMalloc(&memory, bytes)", __FILE__, __LINE__});
    in_use_ += taken, peak_ = std::max(peak_, in_use_);
    return memory;
}

void DeviceState::release(void* memory, std::size_t bytes) noexcept {
    if (!memory) return;
    cuda::ignore(cudaFree(memory));
    in_use_ -= granules(bytes);
}

void* DeviceState::allocate_pinned(std::size_t bytes, const char* what) {
    if (bytes == 0) return nullptr;
    void* memory = nullptr;
    const cudaError_t status = cudaMallocHost(&memory, bytes);
    if (status == cudaErrorMemoryAllocation) {
        cuda::ignore(status);
        throw Error(ErrorKind::io, fmt::format("pinned host memory: {} need {}, the system refuses them",
                                               what, bytes_text(bytes)));
    }
    cuda::check(status, {"cudaMallocHost(&memory, bytes)", __FILE__, __LINE__});
    return memory;
}

void DeviceState::release_pinned(void* memory) noexcept {
    if (memory) cuda::ignore(cudaFreeHost(memory));
}

DeviceLibraries& DeviceState::libraries() {
    if (!libraries_) libraries_.reset(new DeviceLibraries(*this));
    return *libraries_;
}

void DeviceState::LibrariesDeleter::operator()(DeviceLibraries* libraries) const { delete libraries; }

namespace cuda {

void synchronize(DeviceStream stream) { DYNKIN_CUDA_CHECK(cudaStreamSynchronize(stream)); }

void copy_to_device(DeviceStream stream, void* device, const void* host, std::size_t bytes) {
    if (bytes) DYNKIN_CUDA_CHECK(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream));
}

void copy_to_host(DeviceStream stream, void* host, const void* device, std::size_t bytes) {
    if (bytes) DYNKIN_CUDA_CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream));
}

void copy_on_device(DeviceStream stream, void* to, const void* from, std::size_t bytes) {
    if (bytes) DYNKIN_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
}

void fill_zero(DeviceStream stream, void* device, std::size_t bytes) {
    if (bytes) DYNKIN_CUDA_CHECK(cudaMemsetAsync(device, 0, bytes, stream));
}

} // namespace cuda

DeviceEvent::DeviceEvent(bool timed) {
    DYNKIN_CUDA_CHECK(cudaEventCreateWithFlags(&event_, timed ? cudaEventDefault : cudaEventDisableTiming));
}

DeviceEvent::~DeviceEvent() {
    if (event_) cuda::ignore(cudaEventDestroy(event_));
}

void DeviceEvent::record(DeviceStream stream) { DYNKIN_CUDA_CHECK(cudaEventRecord(event_, stream)); }

void DeviceEvent::hold_up(DeviceStream stream) const {
    DYNKIN_CUDA_CHECK(cudaStreamWaitEvent(stream, event_, 0));
}

void DeviceEvent::synchronize() const { DYNKIN_CUDA_CHECK(cudaEventSynchronize(event_)); }

double DeviceEvent::milliseconds(const DeviceEvent& from, const DeviceEvent& to) {
    float elapsed = 0;
    DYNKIN_CUDA_CHECK(cudaEventElapsedTime(&elapsed, from.event_, to.event_));
    return elapsed;
}

} // namespace dynkin

// memory.cpp - the part of the CUDA runtime that owns memory: heap blocks of the exact size (AddressSanitizer
// guards their ends), filled with 0xff and known one by one, so that every wrong pointer is refused by name.
#include "machine.h"
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

namespace cuemu {
namespace {

enum class Kind { device, pinned };
struct Allocation {
    std::size_t size;
    Kind kind;
};
std::map<const char*, Allocation> allocations; // by first byte

struct Place {
    const Allocation* allocation = nullptr; // nullptr: memory that the runtime does not know
    std::size_t left = 0;                   // bytes from the pointer to the allocation's end
};

/// A pointer to an allocation's end is no part of it, unless it is empty.
Place place_of(const void* memory) {
    const char* p = static_cast<const char*>(memory);
    auto after = allocations.upper_bound(p);
    if (after == allocations.begin()) return {};
    const auto& [first, allocation] = *--after;
    const auto offset = static_cast<std::size_t>(p - first);
    if (offset >= allocation.size) return {};
    return {&allocation, allocation.size - offset};
}

bool is_on_device(const Place& place) { return place.allocation && place.allocation->kind == Kind::device; }

cudaError_t allocate(void** memory, std::size_t bytes, Kind kind, const std::string& call) {
    if (broken()) return broken();
    ++statistics.allocations;
    if (settings.failing_allocation > 0 && --settings.failing_allocation == 0)
        return refuse(cudaErrorMemoryAllocation, call + ": this allocation was to fail");
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    if (kind == Kind::device && bytes > free)
        return refuse(cudaErrorMemoryAllocation, call + ": out of memory");
    if (bytes == 0) return *memory = nullptr, cudaSuccess;
    if (posix_memalign(memory, 256, bytes))
        return refuse(cudaErrorMemoryAllocation, call + ": the host is out of memory");
    std::memset(*memory, 0xff, bytes);
    allocations[static_cast<const char*>(*memory)] = {bytes, kind};
    return cudaSuccess;
}

cudaError_t release(void* memory, Kind kind, const std::string& call) {
    if (!memory) return broken();
    run_everything(); // as the driver does before it gives memory back
    const auto found = allocations.find(static_cast<const char*>(memory));
    if (found == allocations.end())
        return refuse(cudaErrorInvalidValue, call + ": not an allocation, or freed before");
    if (found->second.kind != kind)
        return refuse(cudaErrorInvalidValue, call + ": the memory is of the other kind");
    allocations.erase(found);
    std::free(memory);
    return broken();
}

/// One end of a copy: "" when the memory is where the copy's direction says, and large enough.
std::string objection(const char* end, const void* memory, std::size_t bytes, bool on_device) {
    const Place place = place_of(memory);
    if (!memory) return std::string(end) + " is null";
    if (is_on_device(place) != on_device)
        return std::string(end) + (on_device ? " is not device memory" : " is device memory");
    if (place.allocation && bytes > place.left)
        return std::string(end) + " reaches beyond its allocation: " + std::to_string(bytes) + " bytes, " +
               std::to_string(place.left) + " are there";
    return "";
}

cudaError_t check_copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, const char* call) {
    if (broken()) return broken();
    if (kind != cudaMemcpyHostToDevice && kind != cudaMemcpyDeviceToHost && kind != cudaMemcpyDeviceToDevice)
        return refuse(cudaErrorInvalidValue, std::string(call) + ": the copy's direction must be said");
    std::string why = objection("the destination", to, bytes, kind != cudaMemcpyDeviceToHost);
    if (why.empty()) why = objection("the source", from, bytes, kind != cudaMemcpyHostToDevice);
    return why.empty() ? cudaSuccess : refuse(cudaErrorInvalidValue, std::string(call) + ": " + why);
}

/// Of bytes (FNV-1a by words).
std::uint64_t digest_of(const void* memory, std::size_t bytes) {
    const char* p = static_cast<const char*>(memory);
    std::uint64_t digest = 0xcbf29ce484222325 ^ bytes;
    for (std::size_t k = 0; k < bytes; k += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, p + k, bytes - k < 8 ? bytes - k : 8);
        digest = (digest ^ word ^ word >> 32) * 0x100000001b3;
    }
    return digest;
}

/// To be called when the copy is done.
void count_copy(const void* to, std::size_t bytes, cudaMemcpyKind kind) {
    if (settings.digest && kind == cudaMemcpyDeviceToHost) statistics.downloaded += digest_of(to, bytes);
}

} // namespace

Live live_allocations() {
    Live live;
    for (const auto& [first, allocation] : allocations) ++live.count, live.bytes += allocation.size;
    return live;
}

bool is_device_memory(const void* memory, std::size_t bytes) {
    const Place place = place_of(memory);
    return is_on_device(place) && bytes <= place.left;
}

bool is_reachable(const void* memory) { return !memory || place_of(memory).allocation; }

} // namespace cuemu

using namespace cuemu;

extern "C" {

cudaError_t cudaDriverGetVersion(int* version) {
    *version = settings.devices > 0 ? CUDART_VERSION : 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = settings.devices;
    return settings.devices > 0 ? cudaSuccess : refuse(cudaErrorNoDevice, "there is none");
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    if (device < 0 || device >= settings.devices) return refuse(cudaErrorInvalidDevice, "no such device");
    std::memset(properties, 0, sizeof *properties);
    std::strcpy(properties->name, "emulated device");
    properties->major = 9, properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024, properties->multiProcessorCount = 4;
    properties->sharedMemPerBlock = 48 << 10, properties->sharedMemPerBlockOptin = settings.shared_memory;
    properties->totalGlobalMem = settings.memory;
    properties->l2CacheSize = 1 << 20;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    if (device < 0 || device >= settings.devices) return refuse(cudaErrorInvalidDevice, "no such device");
    if (attribute != cudaDevAttrClockRate && attribute != cudaDevAttrMemoryClockRate)
        return refuse(cudaErrorInvalidValue, "cudaDeviceGetAttribute: not an attribute that is emulated");
    *value = 1'000'000; // kHz
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    std::size_t used = 0;
    for (const auto& [first, allocation] : allocations)
        if (allocation.kind == Kind::device) used += allocation.size;
    *total = settings.memory;
    *free = used < settings.memory ? settings.memory - used : 0;
    return broken();
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
    return allocate(memory, bytes, Kind::device, "cudaMalloc");
}
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
    return allocate(memory, bytes, Kind::pinned, "cudaMallocHost");
}
cudaError_t cudaFree(void* memory) { return release(memory, Kind::device, "cudaFree"); }
cudaError_t cudaFreeHost(void* memory) { return release(memory, Kind::pinned, "cudaFreeHost"); }

/// From and to memory that is not pinned the driver works as here: what it reads is taken at once, and what
/// it writes is there when the call returns.
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    if (const cudaError_t status = check_copy(to, from, bytes, kind, "cudaMemcpyAsync")) return status;
    if (kind == cudaMemcpyHostToDevice && !place_of(from).allocation) {
        const char* bytes_now = static_cast<const char*>(from);
        const auto staged = std::make_shared<std::vector<char>>(bytes_now, bytes_now + bytes);
        return enqueue_work(stream, "cudaMemcpyAsync", [=] { std::memcpy(to, staged->data(), bytes); });
    }
    const cudaError_t status = enqueue_work(stream, "cudaMemcpyAsync", [=] {
        std::memmove(to, from, bytes);
        count_copy(to, bytes, kind);
    });
    if (status == cudaSuccess && kind == cudaMemcpyDeviceToHost && !place_of(to).allocation)
        run_stream(stream);
    return status ? status : broken();
}

/// Does not wait for the streams, which do not block the default stream.
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    if (const cudaError_t status = check_copy(to, from, bytes, kind, "cudaMemcpy")) return status;
    std::memmove(to, from, bytes);
    count_copy(to, bytes, kind);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
    if (broken()) return broken();
    const std::string why = objection("the destination", memory, bytes, true);
    if (!why.empty()) return refuse(cudaErrorInvalidValue, "cudaMemsetAsync: " + why);
    return enqueue_work(stream, "cudaMemsetAsync", [=] { std::memset(memory, value, bytes); });
}
}

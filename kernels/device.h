// device.h - the CUDA device of a context: its properties, streams, budgeted memory and library handles, and
// the owners of what lies on it. Plain C++: CUDA's headers are seen by kernels/ only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

struct CUstream_st;
struct CUevent_st;

namespace dynkin {

/// Whether this build has the CUDA backend. Without it nothing below is defined, so what uses it stands under
/// `if constexpr (built_with_cuda)`.
inline constexpr bool built_with_cuda = DYNKIN_CUDA != 0;

using DeviceStream = CUstream_st*; ///< cudaStream_t

struct DeviceProperties {
    std::string name;         ///< as the driver has it, "NVIDIA H100 80GB HBM3"
    int major = 0, minor = 0; ///< compute capability
    int multiprocessors = 0;
    std::uint64_t memory = 0;              ///< bytes
    std::size_t shared_memory_a_block = 0; ///< bytes that a kernel can ask for
    std::size_t l2_cache = 0;              ///< bytes
    int clock = 0, memory_clock = 0;       ///< kHz, the highest
    int driver = 0, runtime = 0;           ///< versions of CUDA, 13000 for 13.0
};

/// Whether the first CUDA device (CUDA_VISIBLE_DEVICES chooses another) can be used: "" or the reason why
/// not.
std::string device_obstacle();

struct DeviceLibraries; // cuda_libraries.h
class DeviceTimes;      // device_times.h

/// One device in use. Work goes to two streams, so that copies run beside kernels; nothing uses the default
/// stream. One host thread at a time. Owners of memory and events must not outlive it.
class DeviceState {
  public:
    /// memory_limit: bytes that this process may allocate there, 0: what is free less a reserve for the
    /// driver and for other processes. Throws Error(usage) when that much is not free, Error(io) when CUDA
    /// fails.
    explicit DeviceState(std::uint64_t memory_limit);
    ~DeviceState();
    DeviceState(const DeviceState&) = delete;
    DeviceState& operator=(const DeviceState&) = delete;

    const DeviceProperties& properties() const { return properties_; }
    DeviceStream compute_stream() const { return compute_; }
    DeviceStream copy_stream() const { return copy_; }

    std::uint64_t memory_limit() const { return limit_; }
    std::uint64_t memory_in_use() const { return in_use_; }
    std::uint64_t memory_peak() const { return peak_; }
    /// Bytes that can still be allocated within the limit.
    std::uint64_t memory_left() const { return limit_ - in_use_; }

    /// Uninitialised device memory, 256-byte aligned; nullptr for 0 bytes. Throws Error(io) that names
    /// `what`, the bytes asked for and the bytes left when the limit, or the device, does not allow it.
    void* allocate(std::size_t bytes, const char* what);
    void release(void* memory, std::size_t bytes) noexcept; ///< waits for the work on the device
    /// Host memory that the device copies from and to while the host does other work.
    void* allocate_pinned(std::size_t bytes, const char* what);
    void release_pinned(void* memory) noexcept;

    /// cuBLAS and cuSOLVER, opened at the first call.
    DeviceLibraries& libraries();

    /// What times the parts of the engine's operations (device_times.h); null: nothing does.
    DeviceTimes* times() const { return times_; }
    void time_by(DeviceTimes* times) { times_ = times; }

  private:
    struct LibrariesDeleter {
        void operator()(DeviceLibraries*) const;
    };
    DeviceProperties properties_;
    DeviceStream compute_ = nullptr, copy_ = nullptr;
    std::uint64_t limit_ = 0, in_use_ = 0, peak_ = 0;
    std::unique_ptr<DeviceLibraries, LibrariesDeleter> libraries_;
    DeviceTimes* times_ = nullptr;
};

namespace cuda {

/// Waits until all work on the stream is done. Throws Error(io) when any of it has failed.
void synchronize(DeviceStream stream);
/// Enqueue a copy. `host` may be used again, or read, after the stream was waited for, or an event recorded
/// after the copy; copies from and to memory that is not pinned hold up the host.
void copy_to_device(DeviceStream stream, void* device, const void* host, std::size_t bytes);
void copy_to_host(DeviceStream stream, void* host, const void* device, std::size_t bytes);
void copy_on_device(DeviceStream stream, void* to, const void* from, std::size_t bytes);
void fill_zero(DeviceStream stream, void* device, std::size_t bytes);

} // namespace cuda

/// Owned, uninitialised numbers on the device.
template <class T> class DeviceArray {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    DeviceArray() = default;
    /// `what` names the array in the error when memory runs out; a string literal.
    DeviceArray(DeviceState& device, std::size_t size, const char* what)
        : device_(&device), size_(size), data_(static_cast<T*>(device.allocate(size * sizeof(T), what))) {}
    DeviceArray(DeviceArray&& other) noexcept { swap(other); }
    DeviceArray& operator=(DeviceArray other) noexcept {
        swap(other);
        return *this;
    }
    ~DeviceArray() {
        if (data_) device_->release(data_, size_ * sizeof(T));
    }

    std::size_t size() const { return size_; }
    T* data() { return data_; }
    const T* data() const { return data_; }

    /// host -> elements first .. of this array; see copy_to_device().
    void upload(DeviceStream stream, std::span<const T> host, std::size_t first = 0) {
        cuda::copy_to_device(stream, data_ + first, host.data(), host.size_bytes());
    }
    /// Elements first .. of this array -> host; see copy_to_host().
    void download(DeviceStream stream, std::span<T> host, std::size_t first = 0) const {
        cuda::copy_to_host(stream, host.data(), data_ + first, host.size_bytes());
    }

  private:
    void swap(DeviceArray& other) noexcept {
        std::swap(device_, other.device_), std::swap(size_, other.size_), std::swap(data_, other.data_);
    }
    DeviceState* device_ = nullptr;
    std::size_t size_ = 0;
    T* data_ = nullptr;
};

/// Owned, uninitialised numbers of the host in memory that the device reaches by itself.
template <class T> class PinnedArray {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    PinnedArray() = default;
    PinnedArray(DeviceState& device, std::size_t size, const char* what)
        : device_(&device), size_(size),
          data_(static_cast<T*>(device.allocate_pinned(size * sizeof(T), what))) {}
    PinnedArray(PinnedArray&& other) noexcept { swap(other); }
    PinnedArray& operator=(PinnedArray other) noexcept {
        swap(other);
        return *this;
    }
    ~PinnedArray() {
        if (data_) device_->release_pinned(data_);
    }

    std::size_t size() const { return size_; }
    T* data() { return data_; }
    const T* data() const { return data_; }
    T& operator[](std::size_t i) { return data_[i]; }
    const T& operator[](std::size_t i) const { return data_[i]; }
    std::span<T> span() { return {data_, size_}; }
    std::span<const T> span() const { return {data_, size_}; }

  private:
    void swap(PinnedArray& other) noexcept {
        std::swap(device_, other.device_), std::swap(size_, other.size_), std::swap(data_, other.data_);
    }
    DeviceState* device_ = nullptr;
    std::size_t size_ = 0;
    T* data_ = nullptr;
};

/// A point in a stream that another stream, or the host, can wait for.
class DeviceEvent {
  public:
    explicit DeviceEvent(bool timed = false);
    ~DeviceEvent();
    DeviceEvent(DeviceEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
    DeviceEvent& operator=(DeviceEvent&& other) noexcept {
        std::swap(event_, other.event_);
        return *this;
    }

    void record(DeviceStream stream);
    /// What is enqueued on the stream from now on runs after the recorded point. No wait when none was
    /// recorded.
    void hold_up(DeviceStream stream) const;
    void synchronize() const; ///< the host waits
    /// Milliseconds between two points that were passed; both timed.
    static double milliseconds(const DeviceEvent& from, const DeviceEvent& to);

  private:
    CUevent_st* event_ = nullptr;
};

/// A device copy of host numbers; waits until it is there. For parameters and tests, not for streams of data.
template <class T> DeviceArray<T> to_device(DeviceState& device, std::span<const T> host, const char* what) {
    DeviceArray<T> array(device, host.size(), what);
    array.upload(device.compute_stream(), host);
    cuda::synchronize(device.compute_stream());
    return array;
}

/// A host copy of device numbers, after all that the compute stream has to do before.
template <class T> std::vector<T> to_host(DeviceState& device, const DeviceArray<T>& array) {
    std::vector<T> host(array.size());
    array.download(device.compute_stream(), host);
    cuda::synchronize(device.compute_stream());
    return host;
}

} // namespace dynkin

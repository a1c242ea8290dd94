// peaks_device.cpp - what the device can do: cuBLAS's GEMM as the library's handle has it (no TF32), copies
// within its memory and from pinned memory of the host.
#include "kernels/cuda_libraries.h"
#include "peaks.h"
#include "timing.h"
#include <algorithm>
#include <random>
#include <type_traits>

namespace dynkin::bench {

using std::size_t;

namespace {

template <class T> Seconds time_gemm(DeviceState& device, Timer& timer, int n) {
    const size_t size = static_cast<size_t>(n) * static_cast<size_t>(n);
    std::vector<T> numbers(size); // a device that multiplies zeros draws less power than one at work
    std::mt19937 engine(1);
    for (T& x : numbers) x = static_cast<T>(engine()) / static_cast<T>(4294967296.0) - T(0.5);
    const DeviceArray<T> a = to_device(device, std::span<const T>(numbers), "matrices"),
                         b = to_device(device, std::span<const T>(numbers), "matrices");
    DeviceArray<T> c[2] = {{device, size, "matrices"}, {device, size, "matrices"}};
    DeviceLibraries& libraries = device.libraries();
    const T one = 1, zero = 0;
    return timer([&](size_t round) {
        if constexpr (std::is_same_v<T, double>)
            DYNKIN_CUDA_CHECK(libraries.blas.dgemm(libraries.blas_handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n,
                                                   &one, a.data(), n, b.data(), n, &zero, c[round % 2].data(),
                                                   n));
        else
            DYNKIN_CUDA_CHECK(libraries.blas.sgemm(libraries.blas_handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n,
                                                   &one, a.data(), n, b.data(), n, &zero, c[round % 2].data(),
                                                   n));
    });
}

Seconds time_copy(DeviceState& device, Timer& timer, size_t bytes) {
    DeviceArray<unsigned char> from(device, bytes, "copies"), to(device, bytes, "copies");
    cuda::fill_zero(device.compute_stream(), from.data(), bytes);
    return timer([&](size_t round) {
        unsigned char *a = from.data(), *b = to.data();
        if (round % 2) std::swap(a, b);
        cuda::copy_on_device(device.compute_stream(), b, a, bytes);
    });
}

Seconds time_upload(DeviceState& device, Timer& timer, size_t bytes) {
    PinnedArray<unsigned char> from(device, bytes, "copies");
    DeviceArray<unsigned char> to(device, bytes, "copies");
    std::fill_n(from.data(), bytes, static_cast<unsigned char>(1));
    return timer([&](size_t) { to.upload(device.compute_stream(), from.span()); });
}

} // namespace

Peaks peaks_of_device(const Context& context, int repeats, bool small) {
    DeviceState& device = context.device_state();
    Timer timer(context, repeats);
    Peaks peaks;
    const int n = small ? 96 : 4096;
    const size_t fitting = device.memory_left() / 4;
    const size_t copied = std::min(
        std::max<size_t>(small ? 1 << 20 : 512 << 20, small ? 0 : 8 * device.properties().l2_cache), fitting);
    const size_t sent = std::min<size_t>(small ? 1 << 20 : 256 << 20, fitting);
    peaks.gemm64_flops = peaks.gemm32_flops = 2.0 * n * n * n;
    peaks.gemm64 = time_gemm<double>(device, timer, n);
    peaks.gemm32 = time_gemm<float>(device, timer, n);
    peaks.bandwidth_bytes = 2 * static_cast<double>(copied); // read and written
    peaks.bandwidth = time_copy(device, timer, copied);
    peaks.to_device_bytes = static_cast<double>(sent);
    peaks.to_device = time_upload(device, timer, sent);
    return peaks;
}

} // namespace dynkin::bench

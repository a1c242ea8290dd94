// device_chunks.h - particles of a long sequence through the device, a chunk at a time (private; only in
// builds with CUDA).
#pragma once
#include "../kernels/device.h"
#include "progress.h"
#include <algorithm>
#include <array>
#include <cstddef>

namespace dynkin {

/// What a chunk brings and takes, on both sides; sizes of a whole chunk, 0: none.
struct ChunkSizes {
    std::size_t rows = 0;    ///< in: float64
    std::size_t values = 0;  ///< out: float32
    std::size_t numbers = 0; ///< out: float64
};

class ChunkBuffers {
  public:
    ChunkBuffers(DeviceState& device, const ChunkSizes& sizes)
        : rows(device, sizes.rows, "rows"), values(device, sizes.values, "values"),
          numbers(device, sizes.numbers, "results"), rows_there(device, sizes.rows, "rows"),
          values_there(device, sizes.values, "values"), numbers_there(device, sizes.numbers, "results") {}

    PinnedArray<double> rows;
    PinnedArray<float> values;
    PinnedArray<double> numbers;
    DeviceArray<double> rows_there;
    DeviceArray<float> values_there;
    DeviceArray<double> numbers_there;
    DeviceEvent arrived, worked, returned;
};

/// Device bytes that for_chunks() takes.
inline std::size_t chunk_buffer_bytes(const ChunkSizes& sizes) {
    return 2 * (8 * sizes.rows + 4 * sizes.values + 8 * sizes.numbers);
}

/// For the chunks of `count` particles (0: nothing is done), each from `first` on, `used` of them:
/// load(first, used, buffers) fills buffers.rows; work(first, used, buffers) enqueues on the compute stream
/// what makes values_there and numbers_there of rows_there; store(first, used, buffers) takes values and
/// numbers. The next chunk is loaded and copied, and results go back, on the copy stream while the device
/// works. progress: null, or what to throw Interrupted by.
template <class Load, class Work, class Store>
void for_chunks(DeviceState& device, const Progress* progress, std::size_t count, std::size_t chunk,
                const ChunkSizes& sizes, const Load& load, const Work& work, const Store& store) {
    if (count == 0) return;
    const std::size_t chunks = (count + chunk - 1) / chunk;
    const DeviceStream compute = device.compute_stream(), copy = device.copy_stream();
    std::array<ChunkBuffers, 2> both{ChunkBuffers(device, sizes), ChunkBuffers(device, sizes)};
    const auto used = [&](std::size_t c) { return std::min(chunk, count - c * chunk); };
    const auto bring = [&](std::size_t c) {
        ChunkBuffers& b = both[c % 2];
        load(c * chunk, used(c), b);
        b.rows_there.upload(copy, b.rows.span());
        b.arrived.record(copy);
    };
    const auto retire = [&](std::size_t c) {
        both[c % 2].returned.synchronize();
        store(c * chunk, used(c), both[c % 2]);
        if (!progress || !progress->interrupted()) return;
        cuda::synchronize(compute), cuda::synchronize(copy);
        progress->throw_interrupted();
    };
    for (std::size_t c = 0; c < chunks; ++c) {
        ChunkBuffers& b = both[c % 2];
        if (c == 0) bring(0);
        b.arrived.hold_up(compute);
        work(c * chunk, used(c), b);
        b.worked.record(compute);
        if (c > 0) retire(c - 1);
        if (c + 1 < chunks) bring(c + 1);
        b.worked.hold_up(copy);
        b.values_there.download(copy, b.values.span());
        b.numbers_there.download(copy, b.numbers.span());
        b.returned.record(copy);
    }
    retire(chunks - 1);
}

/// out (count, width) of rows x (count, d), both on the host, by for_chunks(): work(used, rows, results)
/// enqueues a chunk; its pointers are the device's. progress: null, or what shows how many rows are done.
template <class Work> void map_rows(DeviceState& device, Progress* progress, std::size_t count,
                                    std::size_t chunk, std::size_t d, const double* x, std::size_t width,
                                    double* out, const Work& work) {
    const auto load = [&](std::size_t first, std::size_t used, ChunkBuffers& b) {
        std::copy_n(x + first * d, used * d, b.rows.data());
    };
    const auto enqueue = [&](std::size_t, std::size_t used, ChunkBuffers& b) {
        work(used, b.rows_there.data(), b.numbers_there.data());
    };
    const auto store = [&](std::size_t first, std::size_t used, const ChunkBuffers& b) {
        std::copy_n(b.numbers.data(), used * width, out + first * width);
        if (progress) progress->set(first + used);
    };
    for_chunks(device, progress, count, chunk, {chunk * d, 0, chunk * width}, load, enqueue, store);
}

} // namespace dynkin

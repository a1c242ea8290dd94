// device_score.h - the score field of one block on the device (private; only in builds with CUDA).
#pragma once
#include "../kernels/score_cuda.h"
#include "score.h"
#include <vector>

namespace dynkin {

/// grad h and Lap h of a block at some times for chunks of particles. One stream: the device's compute
/// stream. Device memory: coefficients of all times, and values of one chunk.
template <class T> class DeviceScore {
  public:
    /// Throws Error(io) when the device's memory is too small.
    DeviceScore(DeviceState& device, const ScoreField<T>& field,
                const std::vector<kernels::ScoreCoefficients<T>>& times);

    std::size_t chunk() const { return shape_.chunk; } ///< particles
    std::size_t numbers() const { return numbers_; }   ///< of one chunk: [site][particle]
    /// Enqueues grad h at time number `time` of the first `rows` particles at x and what `update` says of it;
    /// rows are a multiple of cuda::particles_a_thread.
    void gradient(std::size_t time, const T* x, std::size_t rows, const cuda::ScoreUpdate<T>& update);

  private:
    void upload(const std::vector<kernels::ScoreCoefficients<T>>& times);
    template <int W>
    std::vector<unsigned char> pack_rows(const std::vector<kernels::ScoreCoefficients<T>>& times) const;
    std::vector<unsigned char> packed_rows(const std::vector<kernels::ScoreCoefficients<T>>& times) const;

    DeviceState& device_;
    const kernels::ScorePlan<T>& plan_;
    cuda::ScoreShape<T> shape_{};
    std::size_t numbers_ = 0, row_bytes_ = 0; ///< row_bytes_: of one time
    std::vector<std::int32_t> first_row_, dense_of_;
    DeviceArray<T> tables_;
    DeviceArray<cuda::ScoreFunctions<T>> families_;
    DeviceArray<std::int32_t> family_of_, first_row_there_, dense_of_there_;
    DeviceArray<T> single_, dense_;
    DeviceArray<unsigned char> rows_;
    DeviceArray<T> space_;
    cuda::ScoreValues<T> values_{};
};

/// Particles in a chunk for so many sites: enough for a device's threads, few enough for its L2 cache.
std::size_t score_chunk(std::size_t sites);

} // namespace dynkin

// team.h - the threads of a device that share one sample or chain; for .cu files, after gpu.h.
#pragma once
#include "gpu.h"
#include "strands.h"
#include <cstddef>

namespace dynkin::cuda {

inline constexpr unsigned team_block = 128; ///< threads of a block, one team of the largest size
static_assert(team_block == most_strands);

/// What a kernel of teams needs to find its place.
struct TeamLayout {
    unsigned size;      ///< threads of a team, a power of two: strands_of(dimension)
    std::size_t memory; ///< doubles of shared memory a team
    std::size_t count;  ///< samples or chains, one a team

    __host__ __device__ unsigned a_block() const { return team_block / size; } ///< teams
    unsigned blocks() const { return gpu::blocks_for(count, a_block()); }
    /// Teams of more than a warp exchange partial sums in shared memory too.
    __host__ __device__ std::size_t exchange() const { return size > 32 ? size : 0; }
    std::size_t shared_bytes() const { return a_block() * (exchange() + memory) * sizeof(double); }
};

/// A team of this thread's block. Coordinate i is of lane i mod size, as of the strand of that number, so the
/// lanes' partial sums are the strands'. Teams beyond the count have no sample, but take part in all that
/// waits.
class Team {
  public:
    __device__ explicit Team(const TeamLayout& layout)
        : size_(layout.size), lane_(threadIdx.x % layout.size),
          index_(static_cast<std::size_t>(blockIdx.x) * (team_block / layout.size) +
                 threadIdx.x / layout.size),
          exchange_(gpu::dynamic_shared<double>() +
                    threadIdx.x / layout.size * (layout.exchange() + layout.memory)) {}

    __device__ unsigned lane() const { return lane_; }
    __device__ unsigned size() const { return size_; }
    __device__ std::size_t index() const { return index_; }
    /// This lane's first coordinate that is not below j.
    __device__ std::size_t first_from(std::size_t j) const { return j + ((lane_ - j) & (size_ - 1)); }
    __device__ bool owns(std::size_t i) const { return (i & (size_ - 1)) == lane_; }
    __device__ double* memory() const { return exchange_ + (size_ > 32 ? size_ : 0); }
    /// What any lane wrote before is seen by all lanes after.
    __device__ void sync() const {
        if (size_ > 32)
            __syncthreads();
        else
            __syncwarp();
    }
    /// The strands' sum (strands.h), the same for all lanes. The memory of the team is as after sync().
    __device__ double sum(double partial) const {
        sync();
        if (size_ > 32) {
            exchange_[lane_] = partial;
            __syncthreads();
            const unsigned low = lane_ % 32;
            partial = size_ == 64 ? exchange_[low] + exchange_[low + 32]
                                  : (exchange_[low] + exchange_[low + 64]) +
                                        (exchange_[low + 32] + exchange_[low + 96]);
            __syncthreads(); // before the next sum
        }
        for (unsigned half = (size_ < 32 ? size_ : 32) / 2; half > 0; half /= 2)
            partial += __shfl_xor_sync(~0u, partial, static_cast<int>(half));
        return partial;
    }

  private:
    unsigned size_, lane_;
    std::size_t index_;
    double* exchange_;
};

} // namespace dynkin::cuda

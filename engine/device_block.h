// device_block.h - the samplers of one block on the device (private; only in builds with CUDA).
// Their twins on the CPU stand in sampler.cpp and score.cpp.
#pragma once
#include "../kernels/step_cuda.h"
#include "array.h"
#include "device_score.h"
#include "model.h"
#include "progress.h"
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace dynkin {

/// A block, and the times and coefficients of its steps, ascending. What is referred to outlives the
/// samplers.
template <class T> struct BlockSteps {
    const Context& context;
    const Model& model;
    const Block& block;
    const ScoreField<T>& field;
    const std::vector<double>& times;
    const std::vector<kernels::ScoreCoefficients<T>>& coefficients;
};

/// What steps need of a block besides the score, on the device.
class DeviceSteps {
  public:
    DeviceSteps(DeviceState& device, const Model& model, const Block& block);
    const cuda::StepShape& shape() const { return shape_; }

  private:
    DeviceArray<double> laws_;
    DeviceArray<cuda::StepFamily> families_;
    DeviceArray<cuda::StepSite> sites_;
    cuda::StepShape shape_{};
};

/// Heun's method for dY = grad h ds, d log q = -Lap h ds, a chunk at a time.
template <class T> class DeviceFlow {
  public:
    explicit DeviceFlow(const BlockSteps<T>& plan);

    std::size_t chunk() const { return score_.chunk(); }
    std::size_t numbers() const { return score_.numbers(); } ///< of the positions of a chunk
    const cuda::StepShape& shape() const { return steps_.shape(); }
    T* positions() { return space_.data(); } ///< of the chunk in work, [site][particle]
    /// Enqueues all steps of the first `rows` particles, from t_min to t_end or back. log_q: device memory.
    void run(bool forwards, std::size_t rows, double* log_q);

  private:
    void step(std::size_t from, std::size_t to, std::size_t rows, double* log_q);

    DeviceState& device_;
    const std::vector<double>& times_;
    DeviceSteps steps_;
    DeviceScore<T> score_;
    DeviceArray<T> space_; ///< positions, trial positions, gradient, two Laplacians by site
};

/// Where a batch of the samplers goes: x in tiles [column][particle] of kScoreTile particles, `columns` a
/// tile; log q by tile, or null.
struct BlockTarget {
    std::uint64_t first = 0; ///< particle of the sequence
    std::size_t count = 0;
    Array<float>* x = nullptr;
    Array<double>* log_density = nullptr;
};

/// The reverse SDE by Strang splitting: all particles of a part step by step, so that the tables of a step
/// are made once. A batch is split into parts that fit the device's memory; results do not depend on how.
class DeviceDiffusion {
  public:
    DeviceDiffusion(const BlockSteps<float>& plan, std::uint64_t seed);
    /// Returns the number of particles that ran away.
    std::size_t run(const BlockTarget& target, Progress& progress);

  private:
    /// The tables of a step, made on the host while the device does the step before.
    struct Slot {
        PinnedArray<float> tables;
        DeviceArray<float> tables_there;
        DeviceEvent arrived, used;
    };
    void make_bounds();
    void make_tables(std::size_t k); ///< of the step from time k to time k - 1
    void reserve(std::size_t chunks);
    void step(std::size_t k, std::uint64_t first, std::size_t count);
    std::size_t run_part(const BlockTarget& target, std::size_t begin, std::size_t count, Progress& progress);
    std::size_t runaways(std::size_t count) const;
    float* chunk_positions(std::size_t chunk) { return positions_.data() + chunk * score_.numbers(); }

    const BlockSteps<float> plan_;
    const std::uint64_t seed_;
    DeviceState& device_;
    DeviceSteps steps_;
    DeviceScore<float> score_;
    std::vector<std::unique_ptr<TransitionTables>> transitions_; ///< fitted: one a family
    std::array<Slot, 2> slots_;
    DeviceArray<float> bounds_; ///< [time][lo, hi][site]
    std::size_t capacity_ = 0;  ///< chunks
    DeviceArray<float> positions_;
    DeviceArray<unsigned char> projected_;
};

/// The samplers of a block; each takes its device memory when it is first used, and throws Error(io) when
/// there is too little.
class DeviceBlock {
  public:
    DeviceBlock(const BlockSteps<float>& plan, std::uint64_t seed) : plan_(plan), seed_(seed) {}

    void flow(const BlockTarget& target, Progress& progress);
    /// Returns the number of particles that ran away.
    std::size_t diffuse(const BlockTarget& target, Progress& progress);

  private:
    const BlockSteps<float> plan_;
    const std::uint64_t seed_;
    std::unique_ptr<DeviceFlow<float>> flow_; ///< made when first used, as is the other
    std::unique_ptr<DeviceDiffusion> diffusion_;
};

/// Positions of `used` particles as finish() of step_cuda.h leaves them, from `first` of the target on.
void store_tiles(const Block& block, std::size_t first, std::size_t used, const float* values,
                 const BlockTarget& target);

/// log q of rows, as block_density() of sampler.cpp.
std::vector<double> device_density(const BlockSteps<double>& plan, std::size_t count, const double* x);

/// As score() of score.h.
void device_score(const Context& context, const Model& model, const ScoreField<double>& field,
                  const kernels::ScoreCoefficients<double>& coefficients, std::size_t count, const double* x,
                  double* out);

} // namespace dynkin

// device_waves.h - score, samples and densities of a model in a box or on a torus on the device (private;
// only in builds with CUDA). Their twins on the CPU stand in wave_flow.cpp.
#pragma once
#include "../kernels/waves_cuda.h"
#include "array.h"
#include "context.h"
#include "model.h"
#include "progress.h"
#include <cstdint>
#include <vector>

namespace dynkin {

/// A model whose diffusion is `waves`, at ascending times, in device memory. Particles pass through the
/// device in chunks that the memory holds, each particle by itself, so that results do not depend on chunks.
/// T: float for samples, double for the score and densities.
template <class T> class DeviceWaves {
  public:
    DeviceWaves(const Context& context, const Model& model, const std::vector<double>& times);

    /// As WaveSampler::generate(), by the SDE and by the flow, for whole tiles.
    void diffuse(std::uint64_t seed, std::uint64_t first, Array<float>& x,
                 Progress& progress) requires(sizeof(T) == 4);
    void flow(std::uint64_t seed, std::uint64_t first, Array<float>& x, Array<double>& log_density,
              Progress& progress) requires(sizeof(T) == 4);
    /// As wave_density() and, at the first of the times, wave_score().
    std::vector<double> log_density(std::size_t count, const double* x) requires(sizeof(T) == 8);
    void score(std::size_t count, const double* x, double* out) requires(sizeof(T) == 8);

  private:
    const Context& context_;
    DeviceState& device_;
    DeviceArray<cuda::WaveGroup> groups_;
    DeviceArray<cuda::WaveTerms<T>> terms_;
    DeviceArray<double> times_;
    cuda::WaveModel<T> model_{};
};

} // namespace dynkin

// device_linear.h - a linear process on the device (private; defined in builds with CUDA only): from the same
// states at the times, what is done for each row or particle has the host's bits. Its
// twins on the CPU stand in linear.cpp and linear_flow.cpp.
#pragma once
#include "../kernels/linear_cuda.h"
#include "linear.h"

namespace dynkin {

/// As monomial_sums().
void monomial_sums_on_device(const Context& context, const Monomials& monomials, const SampleSource& source,
                             const MomentOptions& options, MomentSums& sums);

/// A model at ascending times in device memory, with the states that the use needs. Particles pass through
/// the device in chunks that the memory holds, each by itself, so that results do not depend on chunks.
class DeviceLinear {
  public:
    DeviceLinear(const Context& context, const Model& model, const LinearField& field,
                 const std::vector<double>& times, const std::vector<LinearState>& states);
    /// For draw() by the SDE.
    void take_steps(const std::vector<LinearStepMatrices>& steps);

    /// As LinearSampler::generate().
    void draw(Method method, std::uint64_t seed, std::size_t first, Array<float>& x,
              Array<double>& log_density, Progress& progress);
    /// As linear_density() and, at the first of the times, linear_score().
    std::vector<double> log_density(std::size_t count, const double* x);
    void score(std::size_t count, const double* x, double* out);

  private:
    struct Sizes {
        std::size_t rows, values, numbers; ///< of one particle
    };
    std::size_t reserve(std::size_t count, const Sizes& of_one);

    const Context& context_;
    DeviceState& device_;
    DeviceArray<kernels::LinearFunction> functions_;
    DeviceArray<kernels::LinearPart> slopes_, curvatures_;
    DeviceArray<int> first_slope_, first_curvature_;
    DeviceArray<double> equation_, laws_, matrices_, times_, columns_, work_;
    cuda::LinearTimes model_{};
};

} // namespace dynkin

// exponential_device.h - exp of square matrices of one size on the device (private; defined in builds with
// CUDA only).
#pragma once
#include "../kernels/device.h"
#include "matrix_exponential.h"

namespace dynkin {

/// As matrix_exponential(), with memory for six matrices of that size.
class DeviceExponential {
  public:
    DeviceExponential(DeviceState& device, std::size_t size);

    /// exp(factor a), |factor| times the 1-norm of a given; a, and what is returned until the next call, on
    /// the device. Enqueued on the compute stream.
    const double* run(const double* a, double factor, double norm);

    void product(int a, int b, int to); ///< of scaled_exponential()
    void sum(double diagonal, MatrixTerms terms, int to);

  private:
    double* at(int k) { return matrices_.data() + static_cast<std::size_t>(k) * size_ * size_; }

    DeviceState& device_;
    std::size_t size_;
    DeviceArray<double> matrices_;
};

} // namespace dynkin

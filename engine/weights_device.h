// weights_device.h - the sums of weigh.h on the device: numbers of the host pass through it in pieces, by the
// tree of pairwise_sum(), so that results have the CPU's bits (private; defined in builds with CUDA only).
#pragma once
#include "array.h"
#include "context.h"
#include "target.h"
#include "weigh.h"
#include "weight_sums.h"
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace dynkin {

FiniteNumbers finite_on_device(const Context& context, std::span<const double> log_weight);
/// weight = exp(exponent (log_weight - largest)); returns their sum.
double exponentials_on_device(const Context& context, std::span<const double> log_weight, double largest,
                              double exponent, std::span<double> weight);
/// weight /= divisor; returns the sum of squares.
double squares_on_device(const Context& context, std::span<double> weight, double divisor);
double sum_on_device(const Context& context, std::span<const double> weight);
double weighted_sum_on_device(const Context& context, std::span<const double> weight,
                              std::span<const double> values);
double weighted_squares_on_device(const Context& context, std::span<const double> weight,
                                  std::span<const double> values, double total, double mean);
/// The `count` largest finite numbers, or all, ascending.
std::vector<double> largest_on_device(const Context& context, std::span<const double> numbers,
                                      std::size_t count);

/// weigh_rows() of weigh.h.
WeighedRows weigh_rows_on_device(const Context& context, const Target& target, const SampleFile& samples,
                                 const SampleFile& log_density);

/// The sums of SecondMoments, upper triangles: of w x x', and with errors of w^2 x x' and w^2 (x^2)(x^2)'.
class DeviceSecondMoments {
  public:
    DeviceSecondMoments(const Context& context, std::size_t dimension, bool with_errors);
    void add(std::size_t count, const double* weight, const double* x);
    /// Into the lower triangle.
    void read(Array<double>& first, Array<double>& squares, Array<double>& fourth) const;

  private:
    struct State;
    std::shared_ptr<State> state_;
};

} // namespace dynkin

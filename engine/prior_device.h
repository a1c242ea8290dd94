// prior_device.h - score priors on the device: scores of batches, and the sums of a fit (private).
#pragma once
#include "../kernels/device.h"
#include "prior.h"
#include "prior_tables.h"
#include <memory>
#include <vector>

namespace dynkin {

/// x / alpha = x_0 + sigma eps.
struct NoiseLevel {
    double sigma = 1, alpha = 1;
};

/// Of the rows of a batch: one for all, or one each. Which of the two chooses how scores are computed, never
/// how many rows there are.
struct NoiseLevels {
    bool each = false;
    std::vector<NoiseLevel> levels;

    const NoiseLevel& of(std::size_t row) const { return levels[each ? row : 0]; }
};

/// A prior in the device's memory; calls from several threads wait for one another. Results agree with the
/// CPU's but for rounding.
template <class T> class DevicePrior {
  public:
    DevicePrior(const Context& context, const Prior& prior);
    ~DevicePrior();
    void score(const NoisyRows<T>& in, const NoiseLevels& levels, T* out, std::size_t out_stride) const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Sums over a batch of rows (count, d) for the fit of a prior. Runs of rows are summed by themselves and
/// added in their order, whatever the memory holds.
class DevicePriorSums {
  public:
    /// covariance: for add_products().
    DevicePriorSums(const Context& context, std::size_t d, std::size_t batch, int top, bool covariance);
    ~DevicePriorSums();

    void range(const double* x, std::size_t count, double* least, double* most);
    /// sums[k, j] += sum of z^k, z = (x - middle) inverse.
    void add_powers(const double* x, std::size_t count, const double* middle, const double* inverse,
                    Array<double>& sums);
    /// first[j] += sum of x - shift; the products of these are added up on the device (cuBLAS).
    void add_products(const double* x, std::size_t count, const double* shift, double* first);
    /// The lower triangle of the products.
    Array<double> products() const;
    void restore_products(const Array<double>& products);
    /// Ascending eigenvalues and, one a column, eigenvectors of a symmetric matrix whose lower triangle is
    /// given, by cuSOLVER. False when it finds none.
    bool eigenvectors(Array<double>& matrix, std::vector<double>& values);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace dynkin

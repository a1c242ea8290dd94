// prior_flat.h - the coefficients of a flat prior at any noise level (private).
#pragma once
#include "prior_device.h"
#include "time_spline.h"
#include <algorithm>

namespace dynkin {

/// What a flat prior's scores are computed from: rows of coefficients, of each time node the values and then
/// the curvatures, so that a noise level adds up the four rows of the nodes around it.
class FlatNodes {
  public:
    explicit FlatNodes(const FlatPrior& law);

    kernels::FlatPlace at(const NoiseLevel& level) const;
    /// 1 / sqrt(scale^2 + sigma^2).
    double spread(const NoiseLevel& level) const;
    kernels::FlatView view() const;
    const Array<double>& columns() const { return columns_; } ///< mean, lower, upper, varies: 4 x padded
    const Array<double>& single() const { return single_; }   ///< (2 nodes K) x padded
    /// Coefficients of the pairs of row k as a symmetric matrix, d x d from row k d on.
    template <class T> Array<T> matrices() const {
        Array<T> all(pair_.rows() * d_, d_);
        for (std::size_t k = 0; k < pair_.rows(); ++k) {
            const double* from = pair_.row(k);
            for (std::size_t i = 0; i < d_; ++i)
                for (std::size_t j = i + 1; j < d_; ++j)
                    all(k * d_ + i, j) = all(k * d_ + j, i) = static_cast<T>(*from++);
        }
        return all;
    }

  private:
    double scale_, t_end_;
    std::size_t d_;
    TimeSpline spline_;
    Array<double> columns_, single_, pair_;
};

/// The four matrices added up, by rows.
template <class T> void flat_matrix(const Array<T>& matrices, const kernels::FlatPlace& place, T* out) {
    const std::size_t d = matrices.cols();
    std::fill_n(out, d * d, T(0));
    for (std::size_t q = 0; q < 4; ++q) {
        const T weight = static_cast<T>(place.weight[q]), *const from = matrices.row((place.first + q) * d);
        for (std::size_t k = 0; k < d * d; ++k) out[k] += weight * from[k];
    }
}

/// Rows of a batch with a level each, in the order of their places.
struct FlatOrder {
    std::vector<kernels::FlatPlace> place; ///< of the rows
    std::vector<std::size_t> rows;

    FlatOrder(const FlatNodes& nodes, const NoiseLevels& levels, std::size_t count);
    /// Where the run of rows that have the place of rows[k] ends, at `last` or before.
    std::size_t end_of_run(std::size_t k, std::size_t last) const;
};

} // namespace dynkin

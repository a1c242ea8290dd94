// rows_cuda.h - what metrics and weights need of rows (count, d) on the device: columns, projections, second
// moments. Plain C++; all is enqueued on the stream.
#pragma once
#include "device.h"
#include <cstddef>

namespace dynkin::cuda {

/// out[k * stride + n] = x[n, first + k] for k < columns.
void take_columns(DeviceStream stream, std::size_t count, std::size_t d, const double* x, std::size_t first,
                  std::size_t columns, std::size_t stride, double* out);

/// out[k * stride + n] = sum over i in their order of v[k, i] x[n, i], for `directions` rows of v.
void project(DeviceStream stream, std::size_t count, std::size_t d, const double* x, std::size_t directions,
             const double* v, std::size_t stride, double* out);

/// mean[n] = sum over i in their order of x[n, i], over d.
void row_means(DeviceStream stream, std::size_t count, std::size_t d, const double* x, double* mean);

constexpr std::size_t moment_run = 256; ///< rows whose products are summed before they are added

/// moments[p, q] += sum of m (x_p x_q), p <= q, or with `squares` of m (x_p^2 x_q^2): runs of 256 rows one
/// after another, (m x_p) x_q in the order of the rows. mass: one a row, or null: `equal`. Rows of mass 0 are
/// not looked at.
void add_second_moments(DeviceStream stream, std::size_t count, std::size_t d, const double* x,
                        const double* mass, double equal, bool squares, double* moments);

} // namespace dynkin::cuda

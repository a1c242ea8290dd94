// prior_cuda.h - score priors on the device (prior_cuda.cu, prior_table_cuda.cu), and products of matrices by
// cuBLAS and eigenvectors by cuSOLVER (products_libraries.cpp). Plain C++; all is enqueued on the compute
// stream, rows are contiguous, T is float or double.
#pragma once
#include "device.h"
#include "prior.h"
#include "prior_table.h"
#include <cstddef>

namespace dynkin::cuda {

using kernels::FlatPlace;
using kernels::FlatView;
using kernels::HermiteTables;
using kernels::MarginalView;

/// Noise of rows: x / alpha = x_0 + sigma eps; spread = 1 / hypot(scale, sigma), of flat priors. stride 1: a
/// level a row; 0: one for all.
struct NoiseView {
    const double *sigma, *alpha, *spread;
    std::size_t stride;
};

/// curves[level]: prior_curves() of all coordinates, (K + 3) x padded.
template <class T> void prior_curves(DeviceStream stream, const HermiteTables* tables, int degree,
                                     const MarginalView& marginals, double ridge, const NoiseView& noise,
                                     std::size_t levels, T* curves);

/// out[n, j] for `count` rows n, those of `numbers` or (null) the first ones, each by the equations of its
/// own level (noise.stride 1).
template <class T> void prior_row_scores(DeviceStream stream, const HermiteTables* tables,
                                         const MarginalView& marginals, double ridge, const NoiseView& noise,
                                         const std::size_t* numbers, std::size_t count, std::size_t d,
                                         const T* x, T* out);

/// The same of rows in the order of their nodes, from the blocks [first, last) of a table, whose values alone
/// stand at table.values. x, out: rows of table.columns numbers.
void tabulated_scores(DeviceStream stream, const kernels::PriorTableView& table, std::size_t first,
                      std::size_t last, const kernels::PriorTableRow* rows, std::size_t count, const float* x,
                      float* out);

/// The same of a flat prior.
template <class T> void flat_curves(DeviceStream stream, const HermiteTables* tables, int degree,
                                    const FlatView& law, const NoiseView& noise, const FlatPlace* places,
                                    std::size_t levels, T* curves);

/// out[n, j] = prior_score() with the row's curve, `curve_stride` apart (0: one for all); with `product`,
/// + spread / alpha product[n, j].
template <class T> void prior_scores(DeviceStream stream, int degree, std::size_t d, std::size_t padded,
                                     const T* curves, std::size_t curve_stride, std::size_t rows, const T* x,
                                     const T* product, const NoiseView& noise, T* out);

/// out = x / alpha - mean.
template <class T> void centre(DeviceStream stream, std::size_t d, std::size_t rows, const T* x,
                               const double* mean, const NoiseView& noise, T* out);
/// x[n, k] *= -1 / (alpha (variance_k + sigma^2)).
template <class T> void shrink(DeviceStream stream, std::size_t d, std::size_t rows, const double* variances,
                               const NoiseView& noise, T* x);
/// y = spread (x / alpha - mean), x / alpha cut to [lower - 3 sigma, upper + 3 sigma].
template <class T> void reduce(DeviceStream stream, const FlatView& law, std::size_t rows, const T* x,
                               const NoiseView& noise, T* y);
/// out[n, q, j] = weight[q] x[n, j], the weights of the row's place.
template <class T> void weigh_rows(DeviceStream stream, std::size_t d, std::size_t rows,
                                   const FlatPlace* places, const T* x, T* out);

/// c = a b for a (m, k), b (k, n), or with `transposed` a b' for b (n, k).
void product(DeviceState& device, bool transposed, std::size_t m, std::size_t n, std::size_t k,
             const double* a, const double* b, double* c);
void product(DeviceState& device, bool transposed, std::size_t m, std::size_t n, std::size_t k,
             const float* a, const float* b, float* c);

// ---- sums of a fit, over runs of prior_run rows x (rows, d)

constexpr std::size_t prior_run = 1024;

/// least[run, j], most[run, j].
void column_ranges(DeviceStream stream, std::size_t d, std::size_t rows, const double* x, double* least,
                   double* most);
/// sums[run, k, j] = sum of z^k, z = (x - middle) inverse, k = 0 .. top.
void power_runs(DeviceStream stream, int top, std::size_t d, std::size_t rows, const double* x,
                const double* middle, const double* inverse, double* sums);
/// c += x' x, the lower triangle.
void add_gram(DeviceState& device, std::size_t d, std::size_t rows, const double* x, double* c);
/// Eigenvalues, ascending, and eigenvectors, one a row, of a whose lower triangle is given; info: 0, or not
/// found.
std::size_t eigen_workspace(DeviceState& device, std::size_t d, const double* a, const double* values);
void eigenvectors(DeviceState& device, std::size_t d, double* a, double* values, double* workspace,
                  std::size_t workspace_size, int* info);

} // namespace dynkin::cuda

// moments_device.h - the moment pass on the device (private).
#pragma once
#include "../kernels/moments_cuda.h"
#include "moments.h"
#include <functional>
#include <span>

namespace dynkin {

/// accumulate_moments() on the context's device; `sums` are of the plan. The sum of each product over five
/// thousand rows is formed by itself and added to those before, so that the bytes depend neither on batches
/// nor on memory (but differ from the CPU's by rounding). Rows are read while the device works on those
/// before. options.batch is rounded up to 5 120 rows, and down to what the device's memory holds; where it is
/// 0, after_batch is called after the last batch, and twice a second before. Sums to continue must end with a
/// group of 1 280 rows, as those of after_batch do.
void accumulate_moments_on_device(const Context& context, const MomentPlan& plan, const Reference& reference,
                                  const SampleSource& source, const MomentOptions& options, MomentSums& sums);

/// Products of functions on the device: the groups name them by their place in the tables of 256 samples
/// that evaluate() enqueues for a batch of rows z (row-major, `sites` numbers each), as evaluate_functions()
/// of moments_cuda.h does. Function 0 is the constant.
template <class T> struct DeviceMoments {
    std::span<const kernels::MomentGroup> groups;
    std::size_t sites;
    int functions;
    std::function<void(DeviceStream, const cuda::MomentBatch& batch, const double* z, T* table)> evaluate;
};

/// The pass of accumulate_moments_on_device() over other functions than those of a reference.
template <class T> void sum_products_on_device(const Context& context, const DeviceMoments<T>& moments,
                                               const SampleSource& source, const MomentOptions& options,
                                               MomentSums& sums);

} // namespace dynkin

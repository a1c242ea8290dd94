// exact_cuda.h - sites drawn from their own conditional laws (exact.h) on the device. The kernel:
// exact_cuda.cu.
#pragma once
#include "conditional_cuda.h"
#include "exact.h"
#include <cstddef>
#include <cstdint>

namespace dynkin::cuda {

/// cpu::draw_exact() with the same bits, of work.targets sites from first_site on: x, and part = log q unless
/// null. Of `work`, only tiles, columns, targets, x and part are used; the view is memory of the device. The
/// sites must not be neighbours of one another. Enqueued on the stream; throws Error(io) when the launch
/// fails.
void draw_exact(DeviceStream stream, const kernels::ExactView& view, std::size_t first_site,
                std::uint64_t seed, std::uint64_t first, const ConditionalWork<float>& work);

} // namespace dynkin::cuda

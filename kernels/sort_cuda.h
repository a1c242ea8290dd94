// sort_cuda.h - numbers in ascending order on the device, by CUB's radix sort. Plain C++.
#pragma once
#include "device.h"
#include <cstddef>

namespace dynkin::cuda {

/// Bytes of workspace that ascending() takes for `count` numbers, with or without companions.
std::size_t sort_workspace(std::size_t count, bool companions);

/// out = keys in ascending order; equal keys in the order in which they stand. Not for NaN. companions_out,
/// unless null: companions in the order of their keys. Nothing overlaps. workspace: sort_workspace(count)
/// bytes of the device. Enqueued on the stream.
void ascending(DeviceStream stream, std::size_t count, const double* keys, double* out,
               const double* companions, double* companions_out, void* workspace,
               std::size_t workspace_bytes);

} // namespace dynkin::cuda

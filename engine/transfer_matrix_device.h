// transfer_matrix_device.h - exact draws of a chain or ring on the device; private to engine/. Defined in
// builds with CUDA only.
#pragma once
#include "kernels/chain.h"
#include "kernels/device.h"
#include <cstddef>
#include <cstdint>

namespace dynkin {

/// cpu::draw_chains() with the tables of a view on the host and x on the host. The rows go in parts that fit
/// into the device's memory, whatever their size the same.
bool draw_chains_on_device(DeviceState& device, const ChainView& host, std::uint64_t seed, std::size_t first,
                           std::size_t count, double* x);

} // namespace dynkin

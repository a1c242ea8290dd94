// prior_table_device.h - the table of prior_table.h in the device's memory (private; defined in builds with
// CUDA only).
#pragma once
#include "../kernels/prior_cuda.h"
#include "prior_table.h"
#include <span>

namespace dynkin {

/// The host's table, kept on the device where it takes at most half of the memory left; otherwise blocks of
/// columns pass through one after another, with the same results.
class DevicePriorTable {
  public:
    /// Throws Error(io) when not even one block fits.
    DevicePriorTable(const Context& context, PriorTable table);

    const PriorTable& host() const { return table_; }
    /// Enqueues out[row, j] of rows in the order of their nodes; x, out: rows of the table's columns.
    void score(std::span<const kernels::PriorTableRow> rows, const float* x, float* out);

  private:
    std::size_t block_numbers() const { return table_.values().cols() * table_.view().nodes; }

    DeviceState& device_;
    PriorTable table_;
    std::size_t together_ = 0; ///< blocks on the device at a time
    DeviceArray<float> middle_, twice_, values_;
    DeviceArray<kernels::PriorTableRow> rows_;
};

} // namespace dynkin

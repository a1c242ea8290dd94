#include "prior_table_device.h"
#include "../kernels/device_times.h"
#include <algorithm>
#include <utility>

namespace dynkin {

using std::size_t;

namespace {
constexpr const char* what = "the table of a prior";
}

DevicePriorTable::DevicePriorTable(const Context& context, PriorTable table)
    : device_(context.device_state()), table_(std::move(table)) {
    if (!table_.usable()) return;
    middle_ = to_device(device_, table_.middle().span(), what);
    twice_ = to_device(device_, table_.twice().span(), what);
    const size_t fitting = device_.memory_left() / 2 / (block_numbers() * sizeof(float));
    together_ = std::clamp<size_t>(fitting, 1, table_.blocks());
    values_ = {device_, together_ * block_numbers(), what};
    if (together_ == table_.blocks()) values_.upload(device_.compute_stream(), table_.values().span());
}

void DevicePriorTable::score(std::span<const kernels::PriorTableRow> rows, const float* x, float* out) {
    if (rows.empty()) return;
    const DeviceStream stream = device_.compute_stream();
    if (rows_.size() < rows.size()) rows_ = {}, rows_ = {device_, rows.size(), "rows of a prior"};
    rows_.upload(stream, rows);
    kernels::PriorTableView view = table_.view();
    view.middle = middle_.data(), view.twice = twice_.data(), view.values = values_.data();
    const size_t blocks = table_.blocks();
    for (size_t first = 0; first < blocks; first += together_) {
        const size_t last = std::min(blocks, first + together_);
        if (together_ < blocks)
            values_.upload(stream, table_.values().span().subspan(first * block_numbers(),
                                                                  (last - first) * block_numbers()));
        timed(device_, "prior.table",
              [&] { cuda::tabulated_scores(stream, view, first, last, rows_.data(), rows.size(), x, out); });
    }
}

} // namespace dynkin

// table_cuda.h - levels drawn from tables (table.h) on the device. The kernels: table_cuda.cu.
#pragma once
#include "conditional_cuda.h"
#include "table.h"
#include <cstddef>
#include <cstdint>

namespace dynkin::cuda {

constexpr int kTableProduct = 8; ///< so many densities are multiplied before their logarithm is taken

/// kernels::LawTable in device memory.
struct TableView {
    const kernels::LawTable::Entry *predictor, *entries;
    const kernels::LawTable::Group* groups;
    kernels::LawTable::Axis axes[2];
    int axis_count, predictor_count;
    float intercept, scale, lo, h;
    const float* density;
    const std::int32_t* cumulative;
};

/// x of the targets by the inverse of the distribution function, from the words of philox(seed,
/// Stream::table_draw, first + particle, 0, target); part = the density (not its logarithm) unless null. Of
/// `work`, mean, z and psi are not used. Throw Error(io) when a launch fails.
void draw_from_table(DeviceStream stream, const TableView& table, std::uint64_t seed, std::uint64_t first,
                     const ConditionalWork<float>& work);
/// log_q[particle] += log of the products of kTableProduct densities part[target][particle], targets in
/// order.
void add_log_products(DeviceStream stream, int targets, std::size_t particles, const double* part,
                      double* log_q);

} // namespace dynkin::cuda

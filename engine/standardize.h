// standardize.h - the first two passes over the data: scale, and what the references and the basis are chosen
// from.
#pragma once
#include "array.h"
#include "context.h"
#include "eigenbasis.h"
#include "npy.h"
#include <cstdint>
#include <vector>

namespace dynkin {

/// How the rows of a file become the numbers that are modelled: integers made continuous, columns dropped.
struct DataView {
    std::size_t columns = 0;      ///< of the file
    std::vector<int> kept;        ///< columns that are modelled
    std::vector<double> constant; ///< per column of the file: its value where it is dropped
    int levels = 0; ///< > 0: integers 0 .. levels-1 become (x + u)/levels, u uniform, by row and column
    std::uint64_t seed = 0; ///< of u

    /// Rows [first, first + count) of the modelled columns, row-major. Throws Error(input) for values that
    /// are not integers in range when levels > 0; `integers` false: numbers that are continuous already.
    void read(const SampleFile& file, std::size_t first, std::size_t count, double* out) const;
};

/// x = mean + scale z, per modelled column.
struct Standardization {
    std::vector<double> mean, scale;
};

/// What one pass over the raw columns gives.
struct ColumnStatistics {
    std::vector<double> mean, sd, min, max;
};
/// Of the first `most` rows.
ColumnStatistics column_statistics(const Context& context, const SampleFile& file, const DataView& view,
                                   std::size_t most = SIZE_MAX);

/// What one pass over the standardised columns gives. Dependences are measured on at most 2e5 rows
/// (fewer in high dimension).
struct MarginalStatistics {
    std::vector<MarginalSums> sums;   ///< per column
    Array<double> correlation;        ///< of z_i and z_j
    Array<double> square_correlation; ///< of z_i^2 and z_j^2
    Array<double> odd_correlation;    ///< of z_i and z_j^2: 0 for symmetric data
    std::size_t dependence_rows = 0;
};
MarginalStatistics marginal_statistics(const Context& context, const SampleFile& file, const DataView& view,
                                       const Standardization& z, std::size_t most = SIZE_MAX);

} // namespace dynkin

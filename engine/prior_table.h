// prior_table.h - a product prior's polynomials over noise levels, for batches whose rows have a level each
// (private).
#pragma once
#include "../kernels/prior.h"
#include "../kernels/prior_table.h"
#include "array.h"
#include "prior_device.h"
#include <vector>

namespace dynkin {

/// Of sigma score of what is within three sigma of the data's range, relative to its largest there or 1: the
/// most that a table may be wrong halfway between its nodes.
constexpr double kPriorTableError = 5e-4;

/// Cubic B-splines in log sigma through the polynomials that K equations a column give at nodes: four a
/// factor e, or up to 24 where the error asks for it, from 1e-4 to 1e4 of the median scale. 77 K numbers of
/// float32 a column as a rule, at most 446 K. A function of the prior alone.
class PriorTable {
  public:
    /// `marginals` of `columns` columns, padded.
    PriorTable(const Context& context, const kernels::HermiteTables& tables,
               const kernels::MarginalView& marginals, std::size_t columns, double ridge);

    /// False where the error is above kPriorTableError at the finest nodes: nothing is tabulated.
    bool usable() const { return usable_; }
    double error() const { return error_; } ///< estimated at all midpoints, as above
    bool contains(const NoiseLevel& level) const {
        return usable_ && level.sigma >= least_ && level.sigma <= most_;
    }
    kernels::PriorTableRow row(std::size_t n, const NoiseLevel& level) const;
    kernels::PriorTableView view() const {
        return {degree_, columns_, nodes_, middle_.data(), twice_.data(), values_.data()};
    }
    const Array<float>& middle() const { return middle_; }
    const Array<float>& twice() const { return twice_; }
    const Array<float>& values() const { return values_; }
    std::size_t blocks() const { return middle_.size() / kernels::kPriorBlock; }

  private:
    class Block;
    double fill(const Context& context, const kernels::HermiteTables& tables,
                const kernels::MarginalView& marginals, double ridge);

    int degree_;
    std::size_t columns_, nodes_ = 0;
    double least_ = 0, most_ = 0, step_ = 0, error_ = 0;
    bool usable_ = false;
    Array<float> middle_, twice_, values_;
};

/// The numbers of rows in the order of their nodes, and of the others, as they stand.
struct TabulatedRows {
    std::vector<kernels::PriorTableRow> rows;
    std::vector<std::size_t> others;

    /// Of rows [first, first + count) of a batch, counted from `first`.
    TabulatedRows(const PriorTable& table, const NoiseLevels& levels, std::size_t first, std::size_t count);
};

} // namespace dynkin

// prior_table.cpp - tables of a product prior over noise levels, block by block of columns, and the order of
// rows.
#include "prior_table.h"
#include "parallel.h"
#include <algorithm>
#include <cmath>
#include <numbers>

namespace dynkin {

using kernels::kPriorBlock;
using std::size_t;

namespace {

constexpr double kRange = 1e4;
constexpr int kDensities[] = {4, 6, 8, 12, 16, 24}; ///< nodes a factor e

/// The inverse of sampling a cubic B-spline, c_k = sqrt 3 sum_j (sqrt 3 - 2)^|j| f_(k + j), cut where it is
/// below rounding of float32.
constexpr int kReach = 12;

double median_scale(const double* scale, size_t columns) {
    std::vector<double> positive;
    for (size_t j = 0; j < columns; ++j)
        if (scale[j] > 0) positive.push_back(scale[j]);
    if (positive.empty()) return 1;
    const auto middle = positive.begin() + static_cast<std::ptrdiff_t>(positive.size() / 2);
    std::nth_element(positive.begin(), middle, positive.end());
    return *middle;
}

} // namespace

/// Sixty-four columns of a prior, by the equations.
class PriorTable::Block {
  public:
    Block(const Context& context, const kernels::HermiteTables& tables, const kernels::MarginalView& m,
          double ridge, size_t block)
        : kernels_(kernels::prior_kernels<double>(context.isa())), tables_(tables), ridge_(ridge),
          middle_(kPriorBlock), scale_(kPriorBlock),
          moments_(static_cast<size_t>(2 * tables.degree + 1), kPriorBlock),
          curves_(static_cast<size_t>(tables.degree + 3), kPriorBlock) {
        const size_t first = block * kPriorBlock, used = std::min(kPriorBlock, m.padded - first);
        std::copy_n(m.middle + first, used, middle_.data());
        std::copy_n(m.scale + first, used, scale_.data());
        for (size_t r = 0; r < moments_.rows(); ++r)
            std::copy_n(m.moments + r * m.padded + first, used, moments_.row(r));
        std::fill_n(moments_.row(0), kPriorBlock, 1.0);
    }
    /// out[i * 64 + j]: coefficients of sigma score.
    void solve(double sigma, double* out) {
        kernels_.solve(tables_, {kPriorBlock, middle_.data(), scale_.data(), moments_.data()}, ridge_, sigma,
                       1, curves_.data());
        const size_t numbers = static_cast<size_t>(tables_.degree) * kPriorBlock;
        for (size_t k = 0; k < numbers; ++k) out[k] = sigma * curves_.row(3)[k];
    }

  private:
    const kernels::PriorKernels<double>& kernels_;
    const kernels::HermiteTables& tables_;
    double ridge_;
    Array<double> middle_, scale_, moments_, curves_;
};

PriorTable::PriorTable(const Context& context, const kernels::HermiteTables& tables,
                       const kernels::MarginalView& marginals, size_t columns, double ridge)
    : degree_(tables.degree), columns_(columns) {
    const size_t padded = (columns + kPriorBlock - 1) / kPriorBlock * kPriorBlock;
    middle_ = Array<float>(padded), twice_ = Array<float>(padded);
    for (size_t j = 0; j < columns; ++j) {
        middle_[j] = static_cast<float>(marginals.middle[j]);
        twice_[j] = static_cast<float>(2 * marginals.scale[j]);
    }
    const double scale = median_scale(marginals.scale, columns), width = 2 * std::log(kRange);
    least_ = scale / kRange, most_ = scale * kRange;
    for (const int density : kDensities) {
        const double intervals = std::ceil(density * width);
        step_ = width / intervals, nodes_ = static_cast<size_t>(intervals) + 3;
        error_ = fill(context, tables, marginals, ridge);
        if (error_ <= kPriorTableError) {
            usable_ = true;
            return;
        }
    }
    values_ = {};
}

/// Node k is at log sigma = log least + (k - 1) step. Returns the error at midpoints.
double PriorTable::fill(const Context& context, const kernels::HermiteTables& tables,
                        const kernels::MarginalView& marginals, double ridge) {
    const size_t numbers = static_cast<size_t>(degree_) * kPriorBlock;
    values_ = Array<float>(blocks() * nodes_, numbers);
    std::vector<double> errors(blocks());
    const auto sigma_at = [&](double node) { return least_ * std::exp((node - 1) * step_); };
    double weight[4];
    kernels::spline_basis(0.5, weight);
    parallel_for(context.threads(), blocks(), [&](size_t block, size_t) {
        Block own(context, tables, marginals, ridge, block);
        Array<double> exact(nodes_ + 2 * kReach, numbers);
        for (size_t k = 0; k < exact.rows(); ++k)
            own.solve(sigma_at(static_cast<double>(k) - kReach), exact.row(k));
        std::vector<double> sum(numbers);
        for (size_t k = 0; k < nodes_; ++k) {
            std::fill(sum.begin(), sum.end(), 0.0);
            for (int j = -kReach; j <= kReach; ++j) {
                const double factor = std::numbers::sqrt3 * std::pow(std::numbers::sqrt3 - 2, std::abs(j));
                const double* const from = exact.row(static_cast<size_t>(static_cast<int>(k) + kReach + j));
                for (size_t e = 0; e < numbers; ++e) sum[e] += factor * from[e];
            }
            float* const to = values_.row(block * nodes_ + k);
            for (size_t e = 0; e < numbers; ++e) to[e] = static_cast<float>(sum[e]);
        }
        constexpr int points = 9;
        for (size_t k = 0; k + 3 < nodes_; ++k) {
            own.solve(sigma_at(static_cast<double>(k) + 1.5), sum.data());
            for (size_t j = 0; j < kPriorBlock; ++j) {
                double largest = 1, difference = 0;
                for (int p = 0; p < points; ++p) {
                    const double v = std::cos(std::numbers::pi * p / (points - 1));
                    double is = 0, was = 0;
                    for (size_t i = static_cast<size_t>(degree_); i-- > 0;) {
                        double c = 0;
                        for (size_t q = 0; q < 4; ++q)
                            c += weight[q] *
                                 static_cast<double>(values_(block * nodes_ + k + q, i * kPriorBlock + j));
                        is = is * v + c, was = was * v + sum[i * kPriorBlock + j];
                    }
                    largest = std::max(largest, std::abs(was));
                    difference = std::max(difference, std::abs(is - was));
                }
                const double error = difference / largest;
                if (!(error <= errors[block])) errors[block] = error;
            }
        }
    });
    double most = 0;
    for (const double error : errors) most = error <= most ? most : error; // NaN stays
    return most;
}

kernels::PriorTableRow PriorTable::row(size_t n, const NoiseLevel& level) const {
    const double place = std::log(level.sigma / least_) / step_,
                 node = std::clamp(std::floor(place), 0.0, static_cast<double>(nodes_ - 4));
    kernels::PriorTableRow row{n, static_cast<size_t>(node)};
    row.alpha = static_cast<float>(level.alpha);
    row.reach = static_cast<float>(3 * level.alpha * level.sigma);
    row.inverse = static_cast<float>(1 / level.sigma);
    row.slope = static_cast<float>(1 / (level.alpha * level.sigma));
    double weight[4];
    kernels::spline_basis(place - node, weight);
    for (int k = 0; k < 4; ++k) row.weight[k] = static_cast<float>(weight[k] / (level.alpha * level.sigma));
    return row;
}

TabulatedRows::TabulatedRows(const PriorTable& table, const NoiseLevels& levels, size_t first, size_t count) {
    std::vector<kernels::PriorTableRow> unordered;
    std::vector<size_t> place(table.view().nodes + 1);
    for (size_t n = 0; n < count; ++n) {
        const NoiseLevel& level = levels.of(first + n);
        if (!table.contains(level)) {
            others.push_back(n);
            continue;
        }
        unordered.push_back(table.row(n, level));
        ++place[unordered.back().node + 1];
    }
    for (size_t k = 1; k < place.size(); ++k) place[k] += place[k - 1];
    rows.resize(unordered.size());
    for (const kernels::PriorTableRow& row : unordered) rows[place[row.node]++] = row;
}

} // namespace dynkin

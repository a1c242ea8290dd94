#include "standardize.h"
#include "../kernels/philox.h"
#include "error.h"
#include "progress.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <fmt/core.h>

namespace dynkin {

using std::size_t;

void DataView::read(const SampleFile& file, size_t first, size_t count, double* out) const {
    const size_t d = kept.size();
    const bool all = d == columns;
    std::vector<double> rows;
    double* source = out;
    if (!all) rows.resize(count * columns), source = rows.data();
    file.read(first, count, source);
    if (!all)
        for (size_t n = 0; n < count; ++n)
            for (size_t j = 0; j < d; ++j)
                out[n * d + j] = source[n * columns + static_cast<size_t>(kept[j])];
    if (levels == 0) return;
    for (size_t n = 0; n < count; ++n)
        for (size_t j = 0; j < d; ++j) {
            double& x = out[n * d + j];
            if (x != std::floor(x) || x < 0 || x >= levels)
                throw Error(
                    ErrorKind::input,
                    fmt::format(
                        "{}: row {}, column {}: expected an integer from 0 to {} (dequantised data), got {}",
                        file.path().string(), first + n, kept[j], levels - 1, x));
            const auto column = static_cast<std::uint32_t>(kept[j]);
            const RandomWords words = philox(seed, Stream::dequantise, first + n, 0, column / 4);
            x = (x + uniform(words.v[column % 4])) / levels;
        }
}

namespace {

/// Calls `use(rows, first, count)` for the first `most` rows in turn, modelled columns.
template <class Use> void for_each_batch(const Context& context, const SampleFile& file, const DataView& view,
                                         const char* stage, size_t multiple, size_t most, Use use) {
    const size_t d = view.kept.size();
    const size_t batch = std::max<size_t>((size_t{1} << 21) / d / multiple, 1) * multiple;
    const size_t total = std::min(most, file.rows());
    Array<double> rows(std::min(batch, total), d);
    Progress progress(context, stage, total);
    for (size_t first = 0; first < total; first += batch) {
        const size_t count = std::min(batch, total - first);
        view.read(file, first, count, rows.data());
        use(rows.data(), first, count);
        progress.advance(count);
        if (progress.interrupted()) progress.throw_interrupted();
    }
}

} // namespace

ColumnStatistics column_statistics(const Context& context, const SampleFile& file, const DataView& view,
                                   size_t most) {
    const size_t d = view.kept.size();
    const int threads = context.threads();
    std::vector<double> shift(d), sum(d), square(d);
    ColumnStatistics s;
    s.min.assign(d, INFINITY), s.max.assign(d, -INFINITY);
    for_each_batch(context, file, view, "scale", 1, most, [&](const double* x, size_t first, size_t count) {
        if (first == 0)
            shift.assign(x, x + d); // sums about the first row: no cancellation far from the origin
#pragma omp parallel for schedule(static) num_threads(threads)
        for (size_t j = 0; j < d; ++j) {
            double total = sum[j], squares = square[j], low = s.min[j], high = s.max[j];
            for (size_t n = 0; n < count; ++n) {
                const double value = x[n * d + j], y = value - shift[j];
                total += y, squares += y * y;
                low = std::min(low, value), high = std::max(high, value);
            }
            sum[j] = total, square[j] = squares, s.min[j] = low, s.max[j] = high;
        }
    });
    const double rows = static_cast<double>(std::min(most, file.rows()));
    for (size_t j = 0; j < d; ++j) {
        const double mean = sum[j] / rows;
        s.mean.push_back(shift[j] + mean);
        s.sd.push_back(std::sqrt(std::max(0.0, square[j] / rows - mean * mean)));
    }
    return s;
}

namespace {

constexpr int kPowers = 15;   ///< z^0 .. z^14
constexpr int kBins = 8192;   ///< of the quantile sketch, over [-16, 16] standard deviations
constexpr size_t kTile = 256; ///< rows of one product: results do not depend on the batch

struct Sketch {
    std::vector<double> count = std::vector<double>(kBins, 0);
    void add(double z) {
        count[static_cast<size_t>(std::clamp((z + 16) * (kBins / 32.0), 0.0, kBins - 1.0))] += 1;
    }
    double quantile(double p, double total) const {
        double below = 0;
        for (size_t k = 0; k < kBins; ++k)
            if ((below += count[k]) >= p * total) return (static_cast<double>(k) + 0.5) * (32.0 / kBins) - 16;
        return 16;
    }
};

/// Sums of z z', z^2 z^2' and z z^2' over tiles of rows.
class Dependence {
  public:
    explicit Dependence(size_t d)
        : d_(d), cross_{Array<double>(d, d), Array<double>(d, d), Array<double>(d, d)}, square_(kTile, d) {}
    void add(const double* z, size_t count) {
        for (size_t k = 0; k < count * d_; ++k) square_[k] = z[k] * z[k];
        const double* left[3] = {z, square_.data(), z};
        const double* right[3] = {z, square_.data(), square_.data()};
        const int d = static_cast<int>(d_), n = static_cast<int>(count);
        for (int k = 0; k < 3; ++k)
            cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, d, d, n, 1, left[k], d, right[k], d, 1,
                        cross_[k].data(), d);
        rows_ += count;
    }
    /// Correlations of the quantities, given the mean of z^2 (z has mean 0) and of z^4.
    void finish(MarginalStatistics& out) const {
        const double rows = static_cast<double>(rows_);
        out.dependence_rows = rows_;
        out.correlation = cross_[0], out.square_correlation = cross_[1], out.odd_correlation = cross_[2];
        for (size_t i = 0; i < d_; ++i)
            for (size_t j = 0; j < d_; ++j) {
                const double mi = cross_[0](i, i) / rows, mj = cross_[0](j, j) / rows;
                const double vi = cross_[1](i, i) / rows - mi * mi, vj = cross_[1](j, j) / rows - mj * mj;
                const auto over = [](double value, double variance) {
                    return variance > 1e-300 ? value / std::sqrt(variance) : 0;
                };
                out.correlation(i, j) = over(cross_[0](i, j) / rows, mi * mj);
                out.square_correlation(i, j) = over(cross_[1](i, j) / rows - mi * mj, vi * vj);
                out.odd_correlation(i, j) = over(cross_[2](i, j) / rows, mi * (vj + mj * mj));
            }
    }

  private:
    size_t d_, rows_ = 0;
    Array<double> cross_[3], square_;
};

} // namespace

MarginalStatistics marginal_statistics(const Context& context, const SampleFile& file, const DataView& view,
                                       const Standardization& standardization, size_t most) {
    const size_t d = view.kept.size(), rows = std::min(most, file.rows());
    const int threads = context.threads();
    MarginalStatistics out;
    out.sums.resize(d);
    for (MarginalSums& s : out.sums) s.power.assign(kPowers, 0);
    std::vector<Sketch> sketches(d);
    Dependence dependence(d);
    // Every stride-th tile: enough rows for a correlation, at a cost of about 3e10 flops at most.
    const size_t wanted = std::clamp(4'000'000'000 / (d * d), size_t{4096}, size_t{200'000});
    const size_t stride = (rows + wanted - 1) / wanted * kTile;
    for_each_batch(context, file, view, "marginals", kTile, most, [&](double* x, size_t first, size_t count) {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (size_t j = 0; j < d; ++j) {
            MarginalSums& s = out.sums[j];
            for (size_t n = 0; n < count; ++n) {
                const double z = x[n * d + j] =
                    (x[n * d + j] - standardization.mean[j]) / standardization.scale[j];
                double power = 1;
                for (int k = 0; k < kPowers; ++k, power *= z) s.power[static_cast<size_t>(k)] += power;
                s.min = std::min(s.min, z), s.max = std::max(s.max, z);
                sketches[j].add(z);
            }
        }
        for (size_t tile = 0; tile < count; tile += kTile)
            if ((first + tile) % stride == 0) dependence.add(x + tile * d, std::min(kTile, count - tile));
    });
    for (size_t j = 0; j < d; ++j) {
        MarginalSums& s = out.sums[j];
        s.count = static_cast<double>(rows);
        s.low_quantile = sketches[j].quantile(0.001, s.count),
        s.high_quantile = sketches[j].quantile(0.999, s.count);
    }
    dependence.finish(out);
    return out;
}

} // namespace dynkin

#include "prior_flat.h"
#include <cblas.h>
#include <cmath>
#include <numeric>

namespace dynkin {

using std::size_t;

namespace {

/// Rows of values, each followed by that of its curvature.
Array<double> with_curvature(const Array<double>& values, const Array<double>& curvature) {
    const size_t nodes = values.rows(), columns = values.cols();
    Array<double> out(2 * nodes, columns);
    for (size_t m = 0; m < nodes; ++m) std::copy_n(values.row(m), columns, out.row(2 * m));
    if (columns > 0)
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(nodes),
                    static_cast<int>(columns), static_cast<int>(nodes), 1, curvature.data(),
                    static_cast<int>(nodes), values.data(), static_cast<int>(columns), 0, out.row(1),
                    static_cast<int>(2 * columns));
    return out;
}

} // namespace

FlatNodes::FlatNodes(const FlatPrior& law)
    : scale_(law.scale), t_end_(law.grid.t_end), d_(law.mean.size()), spline_(law.grid),
      columns_(4, prior_padded(d_)), pair_(with_curvature(law.pair, spline_.curvature())) {
    std::copy(law.mean.begin(), law.mean.end(), columns_.row(0));
    std::copy(law.lower.begin(), law.lower.end(), columns_.row(1));
    std::copy(law.upper.begin(), law.upper.end(), columns_.row(2));
    std::copy(law.varies.begin(), law.varies.end(), columns_.row(3));
    const Array<double> rows = with_curvature(law.single, spline_.curvature());
    const size_t degree = rows.cols() / d_;
    single_ = Array<double>(rows.rows() * degree, columns_.cols());
    for (size_t m = 0; m < rows.rows(); ++m)
        for (size_t k = 0; k < degree; ++k)
            for (size_t j = 0; j < d_; ++j) single_(m * degree + k, j) = rows(m, j * degree + k);
}

kernels::FlatPlace FlatNodes::at(const NoiseLevel& level) const {
    const double t = 0.5 * std::log1p(level.sigma / scale_ * (level.sigma / scale_));
    const TimeSpline::Place at = spline_.at(std::min(t, t_end_));
    return {2 * at.left, {at.value[0], at.curvature[0], at.value[1], at.curvature[1]}};
}

double FlatNodes::spread(const NoiseLevel& level) const { return 1 / std::hypot(scale_, level.sigma); }

kernels::FlatView FlatNodes::view() const {
    return {d_,
            columns_.cols(),
            columns_.row(0),
            columns_.row(1),
            columns_.row(2),
            columns_.row(3),
            single_.data()};
}

FlatOrder::FlatOrder(const FlatNodes& nodes, const NoiseLevels& levels, size_t count)
    : place(count), rows(count) {
    for (size_t n = 0; n < count; ++n) place[n] = nodes.at(levels.of(n));
    std::iota(rows.begin(), rows.end(), size_t{0});
    std::stable_sort(rows.begin(), rows.end(),
                     [&](size_t a, size_t b) { return place[a].first < place[b].first; });
}

size_t FlatOrder::end_of_run(size_t k, size_t last) const {
    const size_t first = place[rows[k]].first;
    while (k < last && place[rows[k]].first == first) ++k;
    return k;
}

} // namespace dynkin

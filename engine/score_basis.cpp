#include "score_basis.h"
#include "error.h"
#include "kernels/drift.h"
#include "kernels/score_basis.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <numbers>

namespace dynkin {
namespace {

using std::size_t;
constexpr int max_order = 32;
constexpr size_t max_terms = 4096;

/// All multi-indices k with norm(k) <= order^norm_power, in lexicographic order, that touch a driven one.
class Enumerate {
  public:
    Enumerate(ScoreBasis& basis, bool squares) : basis_(basis), squares_(squares) {
        index_.assign(basis.dimension(), 0);
        basis_.first = {0};
        descend(0, squares ? basis.order * basis.order : basis.order);
    }

  private:
    void descend(size_t j, int left) {
        if (j == index_.size()) return add();
        for (int n = 0; n <= left && (!squares_ || n * n <= left); ++n) {
            index_[j] = n;
            descend(j + 1, left - (squares_ ? n * n : n));
        }
        index_[j] = 0;
    }
    void add() {
        if (std::none_of(basis_.driven.begin(), basis_.driven.end(),
                         [&](int j) { return index_[static_cast<size_t>(j)] > 0; }))
            return;
        require(basis_.terms() < max_terms, ErrorKind::usage,
                fmt::format("score basis: order {} in {} coordinates has more than {} terms", basis_.order,
                            basis_.dimension(), max_terms));
        for (size_t j = 0; j < index_.size(); ++j)
            if (index_[j])
                basis_.coordinate.push_back(static_cast<int>(j)), basis_.degree.push_back(index_[j]);
        basis_.first.push_back(static_cast<int>(basis_.degree.size()));
    }

    ScoreBasis& basis_;
    bool squares_;
    std::vector<int> index_;
};

ScoreBasis make(BasisKind kind, int order, std::vector<int> driven, std::vector<double> center,
                std::vector<double> scale) {
    const size_t d = center.size();
    require(order >= 1 && order <= max_order, ErrorKind::usage,
            fmt::format("score basis: expected an order from 1 to {}, got {}", max_order, order));
    require(d >= 1 && d <= static_cast<size_t>(max_drift_dimension) && scale.size() == d, ErrorKind::usage,
            fmt::format("score basis: expected 1 to {} coordinates, got {} centres and {} scales",
                        max_drift_dimension, d, scale.size()));
    for (size_t j = 0; j < d; ++j)
        require(std::isfinite(center[j]) && scale[j] > 0 && std::isfinite(scale[j]), ErrorKind::usage,
                fmt::format("score basis: coordinate {} has centre {} and scale {}", j, center[j], scale[j]));
    require(!driven.empty(), ErrorKind::usage, "score basis: no coordinate is driven");
    for (const int j : driven)
        require(j >= 0 && static_cast<size_t>(j) < d, ErrorKind::usage,
                fmt::format("score basis: there is no coordinate {}", j));
    ScoreBasis basis{kind, order, std::move(driven), std::move(center), std::move(scale), {}, {}, {}};
    Enumerate(basis, kind == BasisKind::cosine);
    return basis;
}

} // namespace

ScoreBasis polynomial_basis(int order, std::vector<int> driven, std::vector<double> center,
                            std::vector<double> scale) {
    return make(BasisKind::polynomial, order, std::move(driven), std::move(center), std::move(scale));
}

ScoreBasis cosine_basis(int order, std::vector<int> driven, const std::vector<double>& low,
                        const std::vector<double>& high) {
    require(low.size() == high.size(), ErrorKind::usage, "score basis: low and high differ in length");
    std::vector<double> scale(low.size());
    for (size_t j = 0; j < low.size(); ++j) scale[j] = (high[j] - low[j]) / std::numbers::pi;
    return make(BasisKind::cosine, order, std::move(driven), low, std::move(scale));
}

void evaluate(const ScoreBasis& basis, const double* x, double* gradient, double* laplacian, double* value) {
    constexpr int width = max_order + 1;
    double h[max_drift_dimension][width], slope[max_drift_dimension][width],
        curvature[max_drift_dimension][width];
    for (size_t j = 0; j < basis.dimension(); ++j) {
        const double u = (x[j] - basis.center[j]) / basis.scale[j], by = 1 / basis.scale[j];
        if (basis.kind == BasisKind::polynomial)
            hermite_values(basis.order, u, h[j], slope[j], curvature[j]);
        else
            cosine_values(basis.order, u, h[j], slope[j], curvature[j]);
        for (int n = 0; n <= basis.order; ++n) slope[j][n] *= by, curvature[j][n] *= by * by;
    }
    const size_t terms = basis.terms();
    for (size_t k = 0; k < terms; ++k) {
        const int begin = basis.first[k], end = basis.first[k + 1];
        double sum = 0;
        for (size_t a = 0; a < basis.driven.size(); ++a) {
            double first = 0, second = 0, rest = 1;
            for (int e = begin; e < end; ++e) {
                const int j = basis.coordinate[static_cast<size_t>(e)],
                          n = basis.degree[static_cast<size_t>(e)];
                if (j == basis.driven[a])
                    first = slope[j][n], second = curvature[j][n];
                else
                    rest *= h[j][n];
            }
            gradient[a * terms + k] = first * rest;
            sum += second * rest;
        }
        if (laplacian) laplacian[k] = sum;
        if (!value) continue;
        value[k] = 1;
        for (int e = begin; e < end; ++e)
            value[k] *= h[basis.coordinate[static_cast<size_t>(e)]][basis.degree[static_cast<size_t>(e)]];
    }
}

} // namespace dynkin

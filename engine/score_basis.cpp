#include "score_basis.h"
#include "drift_view.h"
#include "error.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <numbers>

namespace dynkin {
namespace {

using std::size_t;
constexpr int max_order = max_basis_order;
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

ScoreBasisView view_of(const ScoreBasis& basis) {
    return {basis.kind == BasisKind::cosine,
            basis.order,
            static_cast<int>(basis.dimension()),
            static_cast<int>(basis.terms()),
            static_cast<int>(basis.driven.size()),
            basis.driven.data(),
            basis.center.data(),
            basis.scale.data(),
            basis.first.data(),
            basis.coordinate.data(),
            basis.degree.data()};
}

void evaluate(const ScoreBasis& basis, const double* x, double* gradient, double* laplacian, double* value) {
    double room[3 * most_functions];
    const FunctionTable table{room, room + most_functions, room + 2 * most_functions, 1};
    const ScoreBasisView view = view_of(basis);
    for (int j = 0; j < view.dimension; ++j) table.fill(view, j, x[j]);
    const size_t terms = basis.terms();
    for (size_t k = 0; k < terms; ++k) {
        double sum = 0;
        for (size_t a = 0; a < basis.driven.size(); ++a) {
            double second;
            term_derivatives(view, static_cast<int>(k), basis.driven[a], table, gradient[a * terms + k],
                             second);
            sum += second;
        }
        if (laplacian) laplacian[k] = sum;
        if (!value) continue;
        value[k] = 1;
        for (auto e = static_cast<size_t>(basis.first[k]); e < static_cast<size_t>(basis.first[k + 1]); ++e)
            value[k] *= table.value(basis.coordinate[e] * view.width() + basis.degree[e]);
    }
}

} // namespace dynkin

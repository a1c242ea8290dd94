// drift_view.h - what kernels read of a drift and of the basis of a score: views of plain structs, and of a
// user's callable on the host (private).
#pragma once
#include "drift.h"
#include "kernels/drift.h"
#include "kernels/score_basis.h"
#include "score_basis.h"
#include <variant>
#include <vector>

namespace dynkin {

/// A callable, with the same three functions as the formulas in kernels/drift.h.
struct CallableDriftView {
    int dimension;
    const CallableDrift* law;
};
inline void drift(const CallableDriftView& view, const double* x, double* f) { view.law->value(x, f); }
inline void drift(const CallableDriftView& view, const Dual<double>* x, Dual<double>* f) {
    view.law->slope(x, f);
}
inline void drift(const CallableDriftView& view, const Dual<Dual<double>>* x, Dual<Dual<double>>* f) {
    view.law->curvature(x, f);
}

using DriftView = std::variant<DoubleWellDriftView, MixtureDriftView, LogisticDriftView, SwimmerDriftView,
                               PolynomialDriftView, CallableDriftView>;

/// The view of a process and the numbers it points to; the process must outlive it.
class DriftTable {
  public:
    explicit DriftTable(const DriftProcess& process);
    DriftTable(const DriftTable&) = delete;
    const DriftView& view() const { return view_; }

  private:
    std::vector<double> numbers_, more_, precision_;
    std::vector<int> first_, power_;
    DriftView view_;
};

/// Largest order of a basis, and functions of single coordinates that one has at most.
inline constexpr int max_basis_order = 32, most_functions = max_drift_dimension * (max_basis_order + 1);

/// The basis must outlive it.
ScoreBasisView view_of(const ScoreBasis& basis);

} // namespace dynkin

// time_spline.h - coefficients between the time nodes of a grid (private).
#pragma once
#include "array.h"
#include "model.h"
#include <cstddef>
#include <vector>

namespace dynkin {

/// The cubic spline in tau through the nodes, not-a-knot at the ends (fewer than four nodes: linear).
class TimeSpline {
  public:
    explicit TimeSpline(const TimeGrid& grid);

    /// c(t) = sum_k value[k] c_(left + k) + curvature[k] m_(left + k), m = curvature() c. At a node exactly
    /// its coefficients.
    struct Place {
        std::size_t left = 0;
        double value[2] = {0, 0}, curvature[2] = {0, 0};
    };
    /// Times outside the nodes are an Error(usage).
    Place at(double t) const;
    /// w with c(t) = sum_n w_n c_n.
    std::vector<double> weights(double t) const;
    /// Second derivatives at the nodes, in units of their spacing, from the values there: nodes x nodes.
    const Array<double>& curvature() const { return curvature_; }

  private:
    TimeGrid grid_;
    double width_;
    Array<double> curvature_;
};

} // namespace dynkin

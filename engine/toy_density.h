// toy_density.h - log densities of the two-dimensional toys (private).
#pragma once
#include "target.h"

namespace dynkin {

/// Quadrature nodes of one toy, set up once for many points.
class ToyDensity {
  public:
    /// Throws Error(usage) for moons whose noise is below 0.01.
    explicit ToyDensity(const ToyTarget& toy);
    /// log p(x), -inf where it underflows or outside the checkerboard's fields (1e-6 beyond them counts as
    /// within: samples are float32).
    double operator()(const double* x) const;

  private:
    /// A curve with the weight of each node, and its point.
    struct Node {
        double x, y, weight;
    };
    double moons(const double* x) const;
    double two_spirals(const double* x) const;

    const ToyTarget& toy_;
    std::vector<Node> nodes_;
};

} // namespace dynkin

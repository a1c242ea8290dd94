// closure.h - moments of a process with polynomial drift at any time, from moments of the data: a truncated
// generator and its matrix exponential. Nothing is simulated.
#pragma once
#include "array.h"
#include "context.h"
#include "drift.h"
#include <vector>

namespace dynkin {

/// Hermite functions phi_k(x) = prod_j He_(k_j)(x_j / scale_j) / sqrt(k_j!), |k|_1 <= order, and the
/// generator L = f . grad + sum g_j^2/2 d_j^2 on them: L phi_k = sum_r G_rk phi_r, r beyond the order
/// dropped. Then d/dt E[phi_k] = sum_r G_rk E[phi_r].
class MomentClosure {
  public:
    /// Throws Error(usage): the drift is no polynomial, more than 2048 functions, scale not positive.
    MomentClosure(const DriftProcess& process, int order, std::vector<double> scale);

    std::size_t size() const { return index_.rows(); }
    int order() const { return order_; }
    const std::vector<double>& scale() const { return scale_; }
    /// Averages of the functions over rows; the same bytes for any number of threads.
    std::vector<double> averages(const Context& context, const Array<double>& states) const;
    /// exp(G' t), size x size: moments at a time t later. Cost some 20 products of matrices, on the context's
    /// device. Throws Error(numerical) when it is not finite: the truncation grows without bound, choose
    /// another order or scale.
    Array<double> propagator(const Context& context, double t) const;
    /// propagator * moments.
    static std::vector<double> advance(const Array<double>& propagator, const std::vector<double>& moments);
    /// E[prod_j x_j^power_j], |power|_1 <= order. Throws Error(usage).
    double monomial(const std::vector<double>& moments, const std::vector<int>& power) const;

  private:
    int order_;
    std::vector<double> scale_;
    Array<int> index_;        ///< size x dimension, graded
    Array<double> generator_; ///< G_rk
    std::size_t place(const std::vector<int>& k) const;
};

/// How far the moments up to degree 4 move when the order is halved, at the latest of the times, relative to
/// the spread of the data.
struct ClosureChoice {
    std::vector<double> scale;
    double change = 0;
};
/// Scales factor * rms_j of the data, the factor from 0.5 to 1.4 for which that is least.
ClosureChoice choose_closure_scale(const Context& context, const DriftProcess& process,
                                   const Array<double>& states, int order, double time);

} // namespace dynkin

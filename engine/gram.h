// gram.h - the linear system A(t) c = b(t) of score matching, from the moments alone.
#pragma once
#include "array.h"
#include "eigenbasis.h"
#include "index_set.h"
#include "moments.h"
#include <span>
#include <vector>

namespace dynkin {

/// What is needed to write down A(t) and b(t) for any t. Views the arguments; they must outlive it.
///   A_kl(t) = E_pt[grad phi_k . grad phi_l]
///   b_k(t)  = lambda_k exp(-lambda_k t) E_p0[phi_k]
/// (docs/method.md, section 4: A as sums of triples and pairs of moments).
class ScoreSystem {
  public:
    ScoreSystem(const IndexSet& set, const Reference& reference, const std::vector<ProductTables>& tables,
                const MomentPlan& plan);

    std::size_t size() const { return set_.terms.size(); } ///< K
    /// lambda_k of every term.
    const std::vector<double>& eigenvalues() const { return lambda_; }
    /// E_p0[phi_k] of every term, from averaged moments.
    std::vector<double> means(std::span<const double> moments) const;
    /// Lower triangle of A(t) into `a` (K x K, row-major; the rest is 0). Cost: sum over sites of (terms
    /// there)^2 R / 2.
    void gram(std::span<const double> moments, double t, Array<double>& a) const;
    /// Operations of one gram(), of its sums over degrees alone: what the bench counts.
    double gram_operations() const;
    /// b(t) from means().
    std::vector<double> right_side(std::span<const double> means, double t) const;

  private:
    friend class DeviceScoreSystem; // gram_device.h: the same sums on the device
    /// A term as seen from one of its sites: phi_a(x_i) times a feature.
    struct Active {
        int term, a, feature;
    };
    const IndexSet& set_;
    const Reference& reference_;
    const std::vector<ProductTables>& tables_;
    const MomentPlan& plan_;
    std::vector<double> lambda_;
    std::vector<std::vector<Active>> active_; ///< per site, terms ascending
};

} // namespace dynkin

// eigenbasis.h - one-dimensional reference diffusions and the eigenfunctions of their generators.
#pragma once
#include "array.h"
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace dynkin {

enum class ReferenceKind { hermite, fitted };

/// One reference diffusion dz = -v'(z) dt + sqrt(2) dW with stationary law exp(-v)/Z on [lo, hi] (reflecting)
/// and the eigenfunctions phi_0 = 1, phi_1, ... of its generator L f = f'' - v' f': L phi_n = -lambda_n
/// phi_n, orthonormal. Hermite: v = z^2/2 on the line, phi_n = He_n / sqrt(n!), lambda_n = n. Fitted: v a
/// polynomial, phi_n expanded in the polynomials p_0 .. p_{M-1} that are orthonormal for exp(-v)
/// (docs/method.md, section 3).
struct Family {
    ReferenceKind kind = ReferenceKind::hermite;
    double lo = -std::numeric_limits<double>::infinity();
    double hi = std::numeric_limits<double>::infinity();
    std::vector<double> potential = {0, 0, 0.5};     ///< v(z) = sum_k potential[k] z^k
    double log_normaliser = 0.918938533204672741780; ///< log Z
    std::vector<double> lambda;                      ///< lambda_0 = 0 .. lambda_R
    std::vector<double> recurrence_a,
        recurrence_b;        ///< b_{k+1} p_{k+1} = (z - a_k) p_k - b_k p_{k-1} (fitted)
    Array<double> expansion; ///< phi_n = sum_k expansion(k, n) p_k (fitted; M x (R+1))

    int top_degree() const { return static_cast<int>(lambda.size()) - 1; } ///< R
    double v(double z) const;
    double dv(double z) const;
    double log_density(double z) const; ///< -v - log Z; -inf outside [lo, hi]
};

/// The Ornstein-Uhlenbeck reference with eigenfunctions up to degree R.
Family hermite_family(int top_degree);

/// The reference of a polynomial potential on [lo, hi]: `polynomials` orthonormal polynomials by Stieltjes
/// with reorthogonalisation on 600 Gauss-Legendre nodes, Galerkin matrix of p' p', symmetric eigenproblem.
/// Eigenfunctions are positive at the 90 % quantile of the law. Throws Error(numerical) when the potential is
/// not finite on the box.
Family fitted_family(std::vector<double> potential, double lo, double hi, int top_degree = 24,
                     int polynomials = 48);

/// phi[n], dphi[n] for n = 0 .. count-1 at z, by the recurrences (the exact evaluation; tables approximate
/// it). dphi may be null. Fitted: z is clipped to [lo, hi].
void eigenfunctions(const Family& family, double z, int count, double* phi, double* dphi);

/// Integrals over the stationary law, for k, l <= degree and r <= R:
/// products a(k, l, r) = <phi_k phi_l phi_r>, gradients g(k, l, r) = <phi_k' phi_l' phi_r>.
/// Hermite: exact and finite; fitted: quadrature, exact up to rounding.
struct ProductTables {
    int degree = 0, top_degree = 0;
    std::vector<double> a, g;
    double product(int k, int l, int r) const { return a[index(k, l, r)]; }
    double gradient(int k, int l, int r) const { return g[index(k, l, r)]; }
    /// All r at once.
    const double* products(int k, int l) const { return &a[index(k, l, 0)]; }
    const double* gradients(int k, int l) const { return &g[index(k, l, 0)]; }
    /// 1 - sum_r g^2 / integral (phi_k')^2 (phi_l')^2: what the truncation at R leaves out; worst over k, l.
    double residual = 0;

  private:
    std::size_t index(int k, int l, int r) const {
        return (static_cast<std::size_t>(k) * static_cast<std::size_t>(degree + 1) +
                static_cast<std::size_t>(l)) *
                   static_cast<std::size_t>(top_degree + 1) +
               static_cast<std::size_t>(r);
    }
};
ProductTables product_tables(const Family& family, int degree);

/// Power sums of one standardised coordinate and its quantile sketch: all that fitting a potential needs.
struct MarginalSums {
    double count = 0;
    std::vector<double> power; ///< sum of z^k, k = 0 .. 14
    double min = std::numeric_limits<double>::infinity(), max = -std::numeric_limits<double>::infinity();
    double low_quantile = 0, high_quantile = 0; ///< 0.1 % and 99.9 %
};

struct PotentialFit {
    std::vector<double> potential;
    double lo = 0, hi = 0;
    int degree = 0; ///< of the polynomial that was accepted
};

/// The potential of the fitted reference: v = scale * polynomial by linear score matching, min E[v'^2/2 -
/// v''], degree 8, 6, 4, 2 until the leading coefficient is positive and the minimum lies between the
/// quantiles; box 1.15 max|z|, shrunk so that v - min v <= 30; a degree whose box leaves data out gives way
/// to a lower one (docs/method.md, section 3). `symmetric`: even powers only.
PotentialFit fit_potential(const MarginalSums& sums, double scale, bool symmetric, int max_degree = 8);

/// Nodes and weights of the n-point Gauss-Legendre rule on [lo, hi].
void gauss_legendre(int n, double lo, double hi, std::vector<double>& nodes, std::vector<double>& weights);

/// Quantiles of the reference transition z(0) -> z(dt): an inverse-CDF table over a grid of starting points,
/// from the eigen-decomposition of a finite-difference generator on 401 nodes. Row i: start lo + i h. Column
/// k: quantile at u = 2 (k/n)^2 for k/n <= 1/2 and mirrored above (dense at both ends; k = 0 at 2^-24), n =
/// columns - 1.
class TransitionTables {
  public:
    static constexpr int rows = 401, columns = 257;
    explicit TransitionTables(const Family& family);
    /// Fills table[rows * columns] for a step dt > 0.
    void quantiles(double dt, float* table) const;

  private:
    double lo_ = 0, hi_ = 0;
    std::vector<double> eigenvalue_, root_weight_;
    Array<double> vectors_;
};

} // namespace dynkin

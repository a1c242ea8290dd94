// transfer_matrix.h - one-dimensional lattice targets exactly: log Z, second moments, independent samples.
#pragma once
#include "array.h"
#include "context.h"
#include "target.h"
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dynkin {

/// The transfer matrix of a chain or ring (Kramers and Wannier 1941; for fields Scalapino, Sears, Ferrell
/// 1972): with V the site potential,
///   S(x, y) = exp(-V(x)/2 - (J/2)(x - y)^2 - V(y)/2) = sum_r lambda_r v_r(x) v_r(y),
/// so that Z = sum_r lambda_r^d on a ring, and <u, S^(d-1) u> on an open chain, u(x) = exp(-V(x)/2), times
/// exp(-J (x - b)^2 / 2) at an end beside a fixed value b. Integrals are trapezium sums, whose error is of
/// the order of rounding when the step is half of the narrowest width 1 / sqrt(K), K = max V'' + 2 |J|, as it
/// is here.
///
/// A ring is summed over its modes, an open chain by messages S^i u. The box leaves out less than 1e-13 of
/// every site. Cost for n = 2 sqrt(K) times the box: n^3 (ring) or d n^2 (open), second moments d n^2 or
/// d^2 n^2 (less where S is a narrow band); memory n^2 and d (ring: n) times 4n doubles. Sequential: same
/// bytes for any number of threads.
class TransferMatrix {
  public:
    /// Throws Error(usage) when the lattice has more than one axis, Error(input) when exp(-U) cannot be
    /// normalised, Error(numerical) when the coupling is so stiff that n would exceed 4096.
    explicit TransferMatrix(const LatticeTarget& target);

    /// log of the integral of exp(-U), U with its constant term. Measured error below 1e-12 d.
    double log_partition() const { return log_partition_; }
    /// E[x_i].
    std::vector<double> means() const;
    /// E[x_i x_j], not centred (d, d).
    Array<double> second_moments() const;
    /// E of the sum over edges of (x_i - x_j)^2 / 2, those to fixed values outside included: -d log Z / dJ.
    double edge_energy() const;
    /// E[U].
    double energy_mean() const;

    /// Rows [first, first + count) of the infinite sequence of independent samples of this seed, as doubles
    /// (count, d): x_0 from its marginal, then each x_i given x_{i-1} (and x_0 on a ring), by rejection from
    /// the linear interpolant of its density on points 1 / (8 sqrt K) apart (acceptance 0.997). Exact up to
    /// the interpolation of the messages (relative error of the density below 1e-6) and the 2^-32 of the
    /// uniform numbers. Parallel over rows, on the context's device; same bytes for any device, thread count
    /// and split. Throws Error(usage) when first + count > 2^48.
    void draw(const Context& context, std::uint64_t seed, std::size_t first, std::size_t count,
              double* x) const;

  private:
    double potential(double x) const; ///< V with its constant
    void choose_box();
    void choose_step();
    bool box_is_wide_enough();
    void solve();
    void solve_ring();
    void solve_open();
    void multiply(std::size_t rows, const double* in, double* out) const;
    double pass(double outside, Array<double>& messages, std::vector<double>& scale) const;
    const Array<double>& later() const { return back_.size() > 0 ? back_ : messages_; }
    /// -J (x - b)^2 / 2 at an end, 0 if free.
    double end(int side, double x) const {
        const double apart = x - outside_[side];
        return -0.5 * target_.coupling * outer_ * apart * apart;
    }
    double site_average(std::size_t i, const std::vector<double>& f) const;
    Array<double> pair_moments(std::size_t reach) const;
    void ring_pairs(std::size_t reach, Array<double>& moments) const;
    void open_pairs(std::size_t reach, Array<double>& moments) const;
    void tabulate();
    void tabulate_open();
    void tabulate_ring();
    Array<double> extended(const Array<double>& functions) const;
    double node(std::size_t g) const { return lo_ + static_cast<double>(g) * h_; }
    double point(std::size_t p) const { return lo_ + static_cast<double>(p) * step_; }

    LatticeTarget target_;
    std::size_t d_;
    bool ring_;
    double outer_;           ///< edges from each end to a fixed value outside: 1 or 0
    double outside_[2] = {}; ///< that before the first, and after the last site

    // Nodes lo + g h, g < n, and what stands on them.
    double lo_ = 0, hi_ = 0, h_ = 0;
    std::size_t n_ = 0;
    double lowest_ = 0;          ///< min V; weights are exp(-(V - lowest))
    Array<double> matrix_;       ///< S h
    std::vector<double> lambda_; ///< ring: in units of the largest, down to 1e-17
    Array<double> vectors_;      ///< ring: v_r (rank, n)
    Array<double> messages_;     ///< open: S^i u over its maximum (d, n), from the first site on
    Array<double> back_;         ///< the same from the last site on; empty where the ends are alike
    std::vector<double> scale_;  ///< open: maximum of S times the message before
    Array<double> marginal_;     ///< density of x_i (d, n), on a ring (1, n)
    double log_partition_ = 0;

    // Tables of draw() at points lo + p h / 4 (kernels/chain.h).
    double step_ = 0;
    std::size_t points_ = 0, stride_ = 0;
    std::vector<double> gauss_, first_, weight_;
    Array<double> table_, powers_;
    std::vector<std::uint32_t> ranks_;
};

} // namespace dynkin

// linear.h - linear stochastic differential equations: moments by one matrix exponential, score, densities
// and samples (private).
#pragma once
#include "../kernels/linear.h"
#include "array.h"
#include "context.h"
#include "model.h"
#include "moments.h"
#include "progress.h"
#include "sampler.h"
#include "solve.h"
#include <algorithm>
#include <map>
#include <memory>
#include <vector>

namespace dynkin {

/// A B, or A B' if transpose_b: matrices row by row.
Array<double> matrix_product(const Array<double>& a, const Array<double>& b, bool transpose_b = false);

/// All exponents alpha with |alpha| <= degree: by degree, then x_0's exponent descending, and so on.
struct Monomials {
    Monomials(int dimension, int degree);

    int dimension, degree;
    std::vector<int> exponents; ///< size() x dimension
    std::map<std::vector<int>, std::size_t> place;

    std::size_t size() const { return exponents.size() / static_cast<std::size_t>(dimension); }
    const int* at(std::size_t k) const { return exponents.data() + k * static_cast<std::size_t>(dimension); }
    /// Place of alpha + change e_i + change e_j (j < 0: none); SIZE_MAX when an exponent would be negative or
    /// the degree too high.
    std::size_t shifted(std::size_t k, int i, int by, int j = -1, int by_too = 0) const;
    /// x^alpha of all of them.
    void evaluate(const double* x, double* out) const;
};

/// dz = (shift + drift z) dt + noise dW in the standardised coordinates of a model.
struct LinearEquation {
    Array<double> drift, diffusion; ///< diffusion D = noise noise'/2
    std::vector<double> shift;
};
LinearEquation standardised(const LinearProcess& process, const Standardization& z);
/// Throws Error(input) unless the shapes fit d columns, all numbers are finite, every eigenvalue of the drift
/// has a negative real part, and noise noise' is positive definite.
void check_linear(const LinearProcess& process, std::size_t dimension);

/// The law at one time: the normal law N(mean, factor factor') times exp(h(y)), y = factor^-1 (z - mean), h =
/// sum_alpha c_alpha He_alpha(y)/sqrt(alpha!).
struct LinearState {
    std::vector<double> mean, c;
    Array<double> factor, inverse; ///< lower triangles
    Array<double> spread;          ///< inverse D inverse'
    double log_normaliser = 0;     ///< of the normal law

    kernels::LinearLaw law() const {
        return {mean.data(), factor.data(), inverse.data(), spread.data(), c.data(), log_normaliser};
    }
};

/// What the systems of the score are made of, at all times.
struct LinearSystems {
    std::vector<kernels::LinearProduct> products;
    std::vector<int> first; ///< of each entry of the lower triangle, row by row, and the end
    std::vector<double> lambda;
    double ridge;

    /// b of the moments of a time.
    std::vector<double> right_side(const double* moments) const;
};

/// Everything of one model, at any time.
class LinearField {
  public:
    explicit LinearField(const Model& model);
    /// The laws at the times; the systems of the score are solved on the context's device, as many at once as
    /// its memory holds. Throws Error(numerical) where a covariance is not positive definite or a system has
    /// no solution; Interrupted.
    std::vector<LinearState> at(const Context& context, const std::vector<double>& times) const;
    LinearState at(const Context& context, double t) const;
    std::size_t dimension() const { return static_cast<std::size_t>(basis_.dimension); }
    const LinearEquation& equation() const { return equation_; }
    /// What the formulas of kernels/linear.h need beside the law of a time. h is evaluated at y cut to four
    /// standard deviations, so that its gradient is constant beyond them.
    kernels::LinearModel model() const;
    std::size_t work() const {
        return static_cast<std::size_t>(
            kernels::linear_work(basis_.dimension, static_cast<int>(basis_.size())));
    }

  private:
    /// The normal law at t, and the Hermite moments that the system needs.
    LinearState normal_law(double t, std::vector<double>& moments) const;
    void list_functions();
    void list_products();
    void whiten(const std::vector<double>& of_z);
    /// Of the moments that the systems need.
    int used_degree() const { return std::max(2 * basis_.degree - 2, basis_.degree); }
    std::vector<double> carried_moments(const Array<double>& map) const;

    Monomials moments_, basis_; ///< up to twice the degree of the potential, and up to it
    LinearEquation equation_;
    double trace_ = 0; ///< of the drift
    LinearSystems systems_;
    std::vector<std::size_t> raised_; ///< place of alpha + e_j, by alpha and j
    std::vector<kernels::LinearFunction> functions_;
    std::vector<kernels::LinearPart> slopes_, curvatures_;
    std::vector<int> first_slope_, first_curvature_;
    std::vector<double> start_mean_,
        start_; ///< of the data: mean, E[phi_alpha(w)] of w = factor^-1 (z - mean)
    Array<double> start_factor_;
};

/// The step backwards from one time to the one before, as kernels::LinearStep.
struct LinearStepMatrices {
    Array<double> gain, factor;

    kernels::LinearStep step() const { return {gain.data(), factor.data()}; }
};

/// coefficients.row(k) of the moments.row(k) of a time, where solved. Defined in builds with CUDA only.
std::vector<SolveStatus> solve_linear_on_device(const Context& context, const LinearSystems& systems,
                                                const Array<double>& moments, Array<double>& coefficients);

class DeviceLinear; // device_linear.h

class LinearSampler {
  public:
    LinearSampler(const Context& context, const Model& model, const SampleOptions& options);
    /// As WaveSampler::generate(). The same bytes on the device.
    void generate(std::size_t first, Array<float>& x, Array<double>& log_density, Progress& progress);

  private:
    void generate_on_device(std::size_t first, Array<float>& x, Array<double>& log_density,
                            Progress& progress);

    const Context& context_;
    const Model& model_;
    const SampleOptions& options_;
    LinearField field_;
    std::vector<double> times_;
    std::vector<LinearState> states_; ///< at the times; ODE: and between them
    std::vector<LinearStepMatrices> steps_;
    std::shared_ptr<DeviceLinear> device_; ///< shared: its destructor exists in builds with CUDA only
};

/// sum_j log scale_j
double log_scales(const Model& model);
/// Goes on with sums.train, the sums of all monomials of z, as accumulate_moments(): by parts of kLinearRows
/// rows, in order. The same bits on the device. Reports progress as "moments"; throws Interrupted, with sums
/// complete.
constexpr std::size_t kLinearRows = 4096;
void monomial_sums(const Context& context, const Monomials& monomials, const SampleSource& source,
                   const MomentOptions& options, MomentSums& sums);
/// Adds the sums of `count` parts, which end before next_row.
void add_parts(const double* parts, std::size_t count, std::size_t next_row, MomentSums& sums);

/// log q of rows of the modelled columns, by the probability flow (Runge-Kutta of order four).
std::vector<double> linear_density(const Context& context, const Model& model, std::size_t count,
                                   const double* x, int steps);
/// grad log p_t of rows of the modelled columns.
void linear_score(const Context& context, const Model& model, double t, std::size_t count, const double* x,
                  double* out);

} // namespace dynkin

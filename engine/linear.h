// linear.h - linear stochastic differential equations: moments by one matrix exponential, score, densities
// and samples (private).
#pragma once
#include "array.h"
#include "context.h"
#include "model.h"
#include "progress.h"
#include "sampler.h"
#include <map>
#include <vector>

namespace dynkin {

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
    double log_normaliser = 0;     ///< of the normal law
};

/// Everything of one model, at any time.
class LinearField {
  public:
    explicit LinearField(const Model& model);
    LinearState at(double t) const;
    std::size_t dimension() const { return static_cast<std::size_t>(basis_.dimension); }
    const LinearEquation& equation() const { return equation_; }
    /// grad_z h at z. `work`: work() numbers. Here and below h is evaluated at y cut to four standard
    /// deviations, so that its gradient is constant beyond them.
    void gradient(const LinearState& state, const double* z, double* out, double* work) const;
    /// The probability flow's velocity f = shift + drift z - D grad log p_t, and div f.
    double velocity(const LinearState& state, const double* z, double* f, double* work) const;
    /// grad log p_t.
    void score(const LinearState& state, const double* z, double* out, double* work) const;
    std::size_t work() const { return basis_.size() + 4 * dimension() + 3 * dimension() * dimension(); }

  private:
    /// Where phi_k comes from: coordinate i with exponent n >= 1, and the places of alpha - e_i and - 2 e_i.
    struct Recurrence {
        int coordinate, exponent;
        std::size_t once, twice;
    };
    double whiten(const LinearState& state, const double* z, double* y) const;
    void functions(const double* y, double* phi) const;

    void derivatives(const LinearState& state, const double* phi, double* slope, double* curvature) const;

    Monomials moments_, basis_; ///< up to twice the degree of the potential, and up to it
    LinearEquation equation_;
    Array<double> generator_;
    std::vector<Recurrence> recurrence_;
    /// shifts_[k d d + i d + j]: place of alpha - e_i - e_j; lower_[k d + i]: of alpha - e_i.
    std::vector<std::size_t> lower_, shifts_;
    std::vector<double> initial_;
    double ridge_;
};

class LinearSampler {
  public:
    LinearSampler(const Context& context, const Model& model, const SampleOptions& options);
    /// As WaveSampler::generate().
    void generate(std::size_t first, Array<float>& x, Array<double>& log_density, Progress& progress);

  private:
    /// What the SDE needs of the step that ends at a time: y -> mean + gain (z - mean before) + factor noise.
    struct Step {
        Array<double> gain, factor;
    };
    double start(std::uint64_t particle, double* z) const;
    void diffuse(std::uint64_t particle, double* z, double* work) const;

    const Context& context_;
    const Model& model_;
    const SampleOptions& options_;
    LinearField field_;
    std::vector<double> times_;
    std::vector<LinearState> states_; ///< at the times; ODE: and between them
    std::vector<Step> steps_;
};

/// log q of rows of the modelled columns, by the probability flow (Runge-Kutta of order four).
std::vector<double> linear_density(const Context& context, const Model& model, std::size_t count,
                                   const double* x, int steps);
/// grad log p_t of rows of the modelled columns.
void linear_score(const Context& context, const Model& model, double t, std::size_t count, const double* x,
                  double* out);

} // namespace dynkin

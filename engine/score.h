// score.h - the score of a fitted model, and the tables the samplers evaluate it from.
#pragma once
#include "array.h"
#include "context.h"
#include "model.h"
#include <memory>
#include <vector>

namespace dynkin {

/// out[n] = grad log p_t(x_n) = (-grad V(z) + grad h_t(z)) / scale, x (count, d) in the units of the data
/// (modelled columns), in float64. t in [t_min, t_end]. Throws Error(usage) outside. Fitted reference: z is
/// clipped to its box in grad h.
void score(const Context& context, const Model& model, double t, std::size_t count, const double* x,
           double* out);

namespace kernels {
template <class T> struct ScorePlan;
template <class T> struct ScoreCoefficients;
template <class T> struct ScoreKernels;
} // namespace kernels

/// grad h and Lap h of one block for tiles of kScoreTile particles, stored [site][particle], in precision T.
template <class T> class ScoreField {
  public:
    ScoreField(const Context& context, const Block& block);
    ~ScoreField();
    ScoreField(ScoreField&&) noexcept;

    using Coefficients = kernels::ScoreCoefficients<T>;
    /// The coefficients of one time in the layout of the kernels. c: in the order of the basis' terms.
    Coefficients arrange(const std::vector<double>& c) const;
    std::size_t scratch() const; ///< numbers of working space a thread
    void gradient(const Coefficients& c, const T* x, T* gradient, T* laplacian, T* scratch) const;
    const kernels::ScorePlan<T>& plan() const { return *plan_; }
    /// Multiply-adds a particle: eigenfunctions, coefficients, products with phi'; without the Laplacian.
    /// What the bench counts.
    double multiply_adds() const;

  private:
    const Block& block_;
    std::unique_ptr<kernels::ScorePlan<T>> plan_;
    const kernels::ScoreKernels<T>* kernels_;
};

} // namespace dynkin

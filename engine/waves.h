// waves.h - bases of products of cosines (box) or of sines and cosines (torus): moments, systems, score,
// sampler (private).
#pragma once
#include "../kernels/waves.h"
#include "array.h"
#include "context.h"
#include "model.h"
#include "moments.h"
#include "progress.h"
#include "sampler.h"
#include "solve.h"
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace dynkin {

/// All k of frequency |k|_2 <= radius, in lexicographic order; k = 0 is the first.
struct WaveBasis {
    bool periodic = false;
    int dimension = 0, radius = 0, functions = 0; ///< functions a coordinate
    std::vector<int> indices;                     ///< (K + 1) x dimension
    std::vector<double> lambda;                   ///< |frequency|^2, K + 1
    std::vector<double> square;                   ///< mean of phi_k^2 under the uniform law, K + 1

    std::size_t size() const { return lambda.size() - 1; } ///< K
    int width() const; ///< functions of a coordinate up to twice the radius
};
/// Throws Error(usage) for more than 6000 functions.
WaveBasis make_wave_basis(bool periodic, int dimension, int radius);

/// E[prod_j f_{n_j}(u_j)] for n_j below 2 radius + 1 (torus: 4 radius + 1), row-major: every product of two
/// functions of the basis is a sum of these. `read` fills rows of u. Cost: 2 N n^d flops in matrix products;
/// on the context's device, with sums in the order of moments_device.h. As accumulate_moments() it goes on
/// with `sums`, and calls options.after_batch; on the CPU all rows are of sums.train.
Array<double> wave_moments(const Context& context, const WaveBasis& basis, const SampleSource& source,
                           const MomentOptions& options, MomentSums& sums);
void wave_moments_on_device(const Context& context, const WaveBasis& basis, const SampleSource& source,
                            const MomentOptions& options, MomentSums& sums);

/// A(t) c = b(t) from the moments (docs/method.md, section 11.1).
class WaveSystem {
  public:
    explicit WaveSystem(const WaveBasis& basis);
    /// What the system is scaled by: lambda_k <phi_k^2>.
    std::vector<double> scaling() const;
    /// The moments at time t: each times exp(-|frequency|^2 t).
    Array<double> noised(const Array<double>& moments, double t) const;
    /// Of two functions of a coordinate, functions x functions.
    const std::vector<kernels::WaveProduct>& products() const { return products_; }
    /// Of each function of a coordinate: exp(-frequency^2 t).
    std::vector<double> decays(double t) const;
    /// Lower triangle of A and b from moments at one time.
    void assemble(const Array<double>& noised, Array<double>& a, std::vector<double>& b) const;
    std::vector<double> right_side(const Array<double>& noised) const; ///< b
    /// Solves A(t) c = b(t) at each of the times but those that `status` has already, on the context's
    /// device: coefficients.row(m) where status[m].solved. The same matrices on both, to the last bit.
    /// between() is called after some of them; status and coefficients are complete then. Reports progress as
    /// "solve"; throws Interrupted.
    void solve(const Context& context, const Array<double>& moments, std::span<const double> times,
               double ridge, std::vector<SolveStatus>& status, Array<double>& coefficients,
               const std::function<void()>& between = {}) const;

  private:
    void solve_on_device(const Context& context, const Array<double>& moments, std::span<const double> times,
                         double ridge, std::vector<SolveStatus>& status, Array<double>& coefficients) const;
    kernels::WaveProduct product(int a, int b) const;
    template <int DIMENSION> void fill(const Array<double>& noised, Array<double>& a) const;

    const WaveBasis& basis_;
    std::size_t width_; ///< of the table of moments, along one coordinate
    std::vector<kernels::WaveProduct> products_;
    std::vector<std::size_t> place_; ///< of each term in the table
};

/// h at any point, from coefficients of one time.
template <class T> class WaveField {
  public:
    WaveField(const Context& context, const WaveBlock& block);
    kernels::WaveCoefficients<T> arrange(const std::vector<double>& c) const;
    std::size_t scratch() const { return plan_.scratch(); }
    void gradient(const kernels::WaveCoefficients<T>& c, const T* u, T* gradient, T* laplacian,
                  T* scratch) const {
        kernels_->gradient(plan_, c, u, gradient, laplacian, scratch);
    }

  private:
    kernels::WavePlan plan_;
    std::vector<double> lambda_;
    const kernels::WaveKernels<T>* kernels_;
};

template <class T> class DeviceWaves; // device_waves.h

/// Draws tiles of particles of a model whose diffusion is `waves`.
class WaveSampler {
  public:
    WaveSampler(const Context& context, const Model& model, const SampleOptions& options);
    /// Values [tile][column][particle] in the units of the data, and log q [tile][particle] for the ODE.
    void generate(std::size_t first, Array<float>& x, Array<double>& log_density, Progress& progress);

  private:
    void start(std::uint64_t first, float* u) const;
    void flow(float* u, double* log_q, float* space) const;
    void diffuse(std::uint64_t first, float* u, float* space) const;

    void generate_on_device(std::size_t first, Array<float>& x, Array<double>& log_density,
                            Progress& progress);

    const Context& context_;
    const Model& model_;
    const WaveBlock& block_;
    const SampleOptions& options_;
    WaveField<float> field_;
    std::size_t sites_;
    std::vector<double> times_;
    std::vector<kernels::WaveCoefficients<float>> coefficients_;
    double log_uniform_ = 0;                     ///< log density of the uniform law, in the units of the data
    std::shared_ptr<DeviceWaves<float>> device_; ///< shared: its destructor exists in builds with CUDA only
};

/// log density of the uniform law on the box or torus, in the units of the data.
double log_uniform(const Model& model);
/// log q of rows of the modelled columns; -inf outside the box. Torus: any x, of its period.
std::vector<double> wave_density(const Context& context, const Model& model, std::size_t count,
                                 const double* x, int steps);
/// grad log p_t of rows of the modelled columns.
void wave_score(const Context& context, const Model& model, double t, std::size_t count, const double* x,
                double* out);

} // namespace dynkin

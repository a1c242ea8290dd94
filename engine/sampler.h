// sampler.h - new samples from a model by the reverse SDE or the probability-flow ODE, and likelihoods by the
// ODE.
#pragma once
#include "array.h"
#include "context.h"
#include "model.h"
#include "target.h"
#include <cstdint>
#include <functional>
#include <memory>

namespace dynkin {

enum class Method { sde, ode };

struct SampleOptions {
    Method method = Method::sde;
    int steps = 0; ///< 0: the model's default (32, or 64 for strongly correlated data)
    std::uint64_t seed = 0;
    bool estimate_error = true; ///< ode: step-doubling at 256 particles
    /// Stages at the end that are drawn from the target's own conditionals instead of the model's: 1 the last
    /// (the odd sites of a square lattice), 2 the one before as well (5/8 of the sites). Needs the target,
    /// nearest-neighbour.
    int exact_stages = 0;
    const Target* target = nullptr;
    bool tables =
        false; ///< levels with at most two descriptors from tables of their laws: much faster than the flow
};

struct SampleReport {
    std::size_t samples = 0;
    int steps = 0;
    std::size_t runaways = 0;    ///< sde: particles that were projected or not finite; ode: log q = -inf
    std::size_t exact_sites = 0; ///< drawn from the target's own conditionals
    std::size_t table_sites = 0; ///< drawn from tables
    double log_density_error =
        0; ///< ode: rms difference of log q to twice the steps, at 256 of the samples (nats)
};

/// Rows [first, first + count) of the generated sequence in the columns of the data file (count x
/// view.columns), with log_density (nats, of the modelled columns in their continuous units) for Method::ode,
/// null otherwise.
using SampleSink =
    std::function<void(std::size_t first, std::size_t count, const float* rows, const double* log_density)>;

/// Steps unless others are asked for.
int default_steps(const Model& model, Method method);

/// Generates parts of the infinite sequence of particles of one model and seed. float32 positions, log q in
/// float64. Same bytes for any division of the sequence and any thread count. SDE: Strang splitting, half
/// step of the drift 2 grad h, exact reference transition, half step. ODE: Heun.
class Sampling {
  public:
    /// `total`: of the whole run, for progress. Throws Error(usage) for steps < 0.
    Sampling(const Context& context, const Model& model, const SampleOptions& options, std::size_t total);
    ~Sampling();

    /// Particles [first, first + count), handed to the sink in order. Throws Interrupted after a signal.
    SampleReport run(std::size_t first, std::size_t count, const SampleSink& sink);
    /// ode: rms difference of log q to twice the steps, at up to 256 particles of the first run() (nats).
    double log_density_error() const;

  private:
    class Engine;
    std::unique_ptr<Engine> engine_;
};

struct Samples {
    Array<float> rows;
    std::vector<double> log_density; ///< empty for the SDE
    SampleReport report;
};
/// All at once, in memory.
Samples sample(const Context& context, const Model& model, std::size_t count,
               const SampleOptions& options = {});

/// log q of rows of the modelled columns (count x dimension, continuous units): the probability-flow ODE
/// forwards, Heun, float64. -inf outside the box of the reference (OU: the range of the data, a margin of 15
/// % and 6 standard deviations of the noise). Throws Error(usage) for steps < 0.
std::vector<double> log_density(const Context& context, const Model& model, std::size_t count,
                                const double* x, int steps = 0);

} // namespace dynkin

// stage.h - one stage made ready to run, and the makers of all of them (private).
#pragma once
#include "problem.h"
#include "timing.h"
#include <map>
#include <memory>

namespace dynkin::bench {

/// What a Figure is measured from. The pipeline's own functions are called in run().
struct Stage {
    std::string variant;
    bool single_precision = false;
    std::string unit;
    double units = 0; ///< of a run
    Work work;
    std::map<std::string, Work> parts; ///< of a unit, by the names that the engine gives them
    Run run, prepare;
};

/// What stages are made from; made once, at the first stage that needs it.
class Setup {
  public:
    Setup(const Context& context, const Options& options) : context(context), options(options) {}
    const Problem& problem();
    const Model& model();
    /// Averages over some samples.
    const std::vector<double>& moments();
    std::vector<double> times() const; ///< of `nodes` systems

    const Context& context;
    const Options options;

  private:
    std::shared_ptr<Problem> problem_;
    std::shared_ptr<Model> model_;
    std::vector<double> moments_;
};

std::vector<Stage> moment_stages(Setup& setup);
std::vector<Stage> gram_stages(Setup& setup);
std::vector<Stage> solve_stages(Setup& setup);
std::vector<Stage> score_stages(Setup& setup);
std::vector<Stage> sde_stages(Setup& setup);
std::vector<Stage> ode_stages(Setup& setup);
std::vector<Stage> density_stages(Setup& setup);
std::vector<Stage> conditional_stages(Setup& setup);
std::vector<Stage> hmc_stages(Setup& setup);
std::vector<Stage> energy_stages(Setup& setup);
std::vector<Stage> prior_stages(Setup& setup);

// What of them runs on the device by other classes of the engine than on the CPU; builds with CUDA only.
Run gram_on_device(Setup& setup);
Run solve_on_device(Setup& setup);
Run score_on_device(Setup& setup, bool laplacian);
Run conditional_on_device(Setup& setup, const std::shared_ptr<Level>& level);
Run hmc_on_device(Setup& setup, const std::shared_ptr<Target>& target, int iterations, double leapfrog);

constexpr int flow_steps = 32;

/// A lattice's coupling and site potential of degree 4.
std::shared_ptr<Target> chain_target(std::size_t sites);

} // namespace dynkin::bench

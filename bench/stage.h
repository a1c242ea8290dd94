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

/// Of one of stage_names(); of those below.
std::vector<Stage> make_stages(Setup& setup, const std::string& name);
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

/// A prior has 48 columns a site (3072 for 64 sites: an image of 32 x 32 in colour), and a row for 16
/// samples.
constexpr std::size_t prior_columns_a_site = 48, prior_samples_a_row = 16;
constexpr std::size_t prior_most_dense_columns = 3072; ///< of the gaussian prior
/// float64 numbers of its data, scores and, in the worst case, both once more, for a sample and site.
constexpr double prior_numbers_a_sample = 2.0 * prior_columns_a_site / prior_samples_a_row;

/// A lattice's coupling and site potential of degree 4.
std::shared_ptr<Target> chain_target(std::size_t sites);

} // namespace dynkin::bench

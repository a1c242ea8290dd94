// fitter.h - the stages of fit(), in order: fit_data.cpp (columns, symmetry, reference) and fit.cpp (basis,
// moments, systems).
#pragma once
#include "checkpoint_guard.h"
#include "error.h"
#include "fit.h"
#include "gram.h"
#include "level_fit.h"
#include "marginal_density.h"
#include "waves.h"
#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace dynkin {

using std::size_t;

/// Steps of the flow, doubled from the model's own until log q of the rows moves by no more than `tolerance`
/// (rms, nats) when they are doubled again; 0 when 512 are not enough. With fewer, log q of a flat model is
/// no density at all: where correlations are near 1 it can come out tens of nats above the truth.
int converged_steps(const Context& context, const Model& flat, size_t rows, const double* x,
                    double tolerance);

/// Everything that fit() learns on its way; the stages below fill it in order.
class Fitter {
  public:
    /// What is fitted: the first `rows` of the file, and only these columns (none given: all).
    struct Part {
        size_t rows = SIZE_MAX;
        std::vector<int> columns = {};
    };
    Fitter(const Context& context, const SampleFile& data, const FitOptions& options, FitReport& report)
        : Fitter(context, data, options, report, Part{}) {}
    Fitter(const Context& context, const SampleFile& data, const FitOptions& options, FitReport& report,
           Part part)
        : context_(context), data_(data), options_(options), report_(report), part_(std::move(part)),
          checkpoint_(options.checkpoint) {}

    Model run() {
        require(!options_.process || options_.process->index() < 2 || options_.structure != Structure::levels,
                ErrorKind::usage, "fit: levels have fitted references, expected no other process");
        saved_ = checkpoint_.restore();
        choose_columns();
        if (has_walls()) choose_box();
        const bool waves = has_walls() && model_.dimension() <= kernels::kMaxWaveDimension;
        if (waves || is_linear()) {
            if (waves)
                fit_waves();
            else
                fit_linear();
            describe();
            return std::move(model_);
        }
        marginals();
        choose_symmetry();
        if (use_levels())
            fit_levels();
        else
            fit_block();
        describe();
        return std::move(model_);
    }

  private:
    [[noreturn]] void reject(const std::string& what) const {
        throw Error(ErrorKind::input, data_.path().string() + ": " + what);
    }
    Block& block() { return model_.blocks.front(); }

    size_t rows() const { return std::min(part_.rows, data_.rows()); }
    Array<double> dependence() const;
    bool on_lattice() const {
        return options_.lattice && model_.view.kept.size() == options_.lattice->sites();
    }

    bool use_levels();
    bool compare_structures();
    double heldout(Structure structure, size_t trained, size_t tested, std::string& what) const;
    void fit_levels();
    void fit_first(const std::vector<int>& coordinates);
    TensorFile level_state() const;
    void restore_levels();
    void fit_block() {
        choose_reference();
        choose_basis();
        choose_times();
        compute_moments();
        solve();
    }
    bool has_walls() const;
    void choose_box();
    bool is_linear() const;
    void fit_linear();
    void fit_waves();
    void solve_waves(const WaveBasis& basis);
    TensorFile wave_state(const std::vector<SolveStatus>& status) const;
    std::vector<SolveStatus> restore_waves();
    LevelPlans plan_levels() const;
    LevelPairs collect_pairs(const LevelPlan& plan) const;
    double measured_reach() const;

    void choose_columns();
    void pool_scales();
    void check_duplicates() const;
    void marginals();
    void choose_symmetry();
    void choose_reference();
    int default_degree(bool hermite) const;
    void use_fitted_reference(std::vector<MarginalSums> pooled);
    void use_box_reference();
    void use_circles();
    void measure_angles();
    void use_hermite_reference();
    size_t count_outside() const;
    void choose_basis();
    void choose_degree(const std::vector<double>& train, const std::vector<double>& test);
    void choose_times();
    TensorFile moment_state() const;
    /// Goes on with sums_ through the rows, standardised: pass(source, options) adds `size` moments to them
    /// and calls options.after_batch. Saves itself.
    void pass_over_moments(size_t size, double multiply_adds,
                           const std::function<void(const SampleSource&, const MomentOptions&)>& pass);
    void compute_moments();
    double choose_ridge(const ScoreSystem& system, const std::vector<double>& train,
                        const std::vector<double>& test);
    void solve();
    void shrink(std::vector<double>& moments) const;
    /// The moments are those of a density, so that no degree and no ridge need guard against their noise.
    bool smooth() const { return density_ && density_->shrinkage == 1; }
    void describe();

    const Context& context_;
    const SampleFile& data_;
    const FitOptions& options_;
    FitReport& report_;
    Part part_;
    Checkpoint checkpoint_;
    std::optional<TensorFile> saved_;
    Model model_;
    ColumnStatistics columns_;
    MarginalStatistics marginal_;
    std::vector<int> class_;
    std::vector<ProductTables> tables_;
    std::optional<MomentPlan> plan_;
    std::optional<MarginalDensity> density_; ///< one column: what its moments shrink to
    MomentSums sums_;
    bool even_ = false;
};

} // namespace dynkin

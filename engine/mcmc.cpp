// mcmc.cpp - one run of Hamiltonian Monte Carlo or parallel tempering: start, warm-up, kept states,
// checkpoint, report.
#include "mcmc.h"
#include "error.h"
#include "mcmc_adaptation.h"
#include "mcmc_archive.h"
#include "mcmc_chains.h"
#include "mcmc_device.h"
#include "mcmc_plan.h"
#include "mcmc_record.h"
#include "mcmc_start.h"
#include "progress.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <optional>
#include <span>

namespace dynkin {
namespace {

constexpr std::size_t measured_chains = 64, measured_coordinates = 16; // for autocorrelation times
constexpr double draw_cost = 4; // of momenta, test and copies, in leapfrog steps
constexpr std::uint64_t longest_measurement = 6400;

// The run
// ------------------------------------------------------------------------------------------------------

/// Chains: McmcChains on the CPU, DeviceChains on the device.
template <class Chains> class Run {
  public:
    Run(const Context& context, const Target& target, const McmcOptions& options, NpyWriter& output)
        : context_(context), target_(target), options_(options), output_(output), law_(target),
          plan_(options, target.dimension()), watched_(target.dimension(), measured_coordinates),
          recorded_(target.dimension(), record_coordinates, target.lattice() != nullptr),
          chains_(context, law_.view(), plan_.chains, plan_.levels, plan_.lanes),
          checkpoint_(options.checkpoint) {}

    McmcReport operator()() {
        if (const auto saved = checkpoint_.restore())
            restore(*saved);
        else
            begin();
        warm_up();
        draw();
        return report();
    }

  private:
    void begin();
    void warm_up();
    void draw();
    McmcReport report();

    void iterate();
    void after_iteration();
    void end_of_stage();
    void begin_stage(Stage stage, std::uint64_t part);
    void adapt_steps();
    void adapt_burn_in();
    void collect_variances();
    void adapt_ladder();
    void compare_lengths();
    void measure();
    void end_of_measurement();
    void require_moving(double acceptance) const;
    std::vector<HmcLevel> levels(bool adapting) const;

    void prepare_draw();
    std::size_t rounds_at_once() const;
    void save_if_due(const Progress& progress);
    void save();
    void restore(const TensorFile& saved);
    template <class Archive> void transfer(Archive& archive);

    const Context& context_;
    const Target& target_;
    const McmcOptions& options_;
    NpyWriter& output_;
    EnergyLaw law_;
    Plan plan_;
    Quantities watched_, recorded_;
    Chains chains_;
    Checkpoint checkpoint_;

    std::vector<LevelState> levels_;
    Stage stage_ = Stage::burn_in;
    std::uint64_t part_ = 0, done_ = 0, length_ = 0; ///< window or candidate; iterations of this stage
    std::uint64_t iteration_ = 0, warmup_ = 0, thinning_ = 0, round_ = 0, rounds_ = 0;
    double slowest_ = 0;           ///< autocorrelation time in iterations
    std::vector<double> measured_; ///< (quantity, chain, iteration)
    std::optional<Record> record_;
};

template <class Chains> void Run<Chains>::begin() {
    const std::vector<Range> ranges = std::visit([](const auto& t) { return start_ranges(t); }, target_.law);
    start_chains(chains_, ranges, options_.seed, target_);
    const std::vector<double> beta = plan_.ladder(chains_.dimension());
    levels_.resize(plan_.levels);
    for (std::size_t k = 0; k < plan_.levels; ++k) {
        levels_[k].beta = beta[k];
        for (const Range& range : ranges) levels_[k].scale.push_back(0.5 * range.half);
        levels_[k].step.restart(0.5 * std::pow(static_cast<double>(ranges.size()), -0.25));
    }
    begin_stage(Stage::burn_in, 0);
}

template <class Chains> void Run<Chains>::begin_stage(Stage stage, std::uint64_t part) {
    stage_ = stage, part_ = part, done_ = 0, length_ = plan_.length(stage, part);
    chains_.clear_sums();
    for (LevelState& level : levels_) {
        if (stage == Stage::window) level.variance.restart(chains_.dimension());
        if (stage == Stage::lengths) level.leapfrog = lengths[part];
        level.lag1.restart();
    }
    if (stage == Stage::measure)
        measured_.assign(watched_.count() * std::min(plan_.chains, measured_chains) * length_, 0.0);
}

template <class Chains> void Run<Chains>::warm_up() {
    Progress progress(context_, "warm-up", plan_.warmup);
    while (stage_ != Stage::draw) {
        iterate();
        after_iteration();
        if (++done_ == length_) end_of_stage();
        progress.set(std::min(iteration_, plan_.warmup));
        save_if_due(progress);
    }
    progress.set(plan_.warmup);
}

template <class Chains> std::vector<HmcLevel> Run<Chains>::levels(bool adapting) const {
    std::vector<HmcLevel> list;
    for (const LevelState& level : levels_)
        list.push_back({level.beta, adapting ? level.step.step() : level.step.mean_step(), level.leapfrog,
                        level.scale.data()});
    return list;
}

template <class Chains> void Run<Chains>::iterate() {
    const bool swaps = plan_.levels > 1 && stage_ != Stage::lengths && stage_ != Stage::burn_in;
    const bool adapting = stage_ == Stage::window || stage_ == Stage::lengths || stage_ == Stage::settle;
    chains_.advance(levels(adapting), {options_.seed, static_cast<std::uint32_t>(iteration_), 1, swaps});
    ++iteration_;
}

template <class Chains> void Run<Chains>::after_iteration() {
    switch (stage_) {
    case Stage::burn_in:
        return adapt_burn_in();
    case Stage::window:
        collect_variances();
        return adapt_steps();
    case Stage::lengths:
        compare_lengths();
        return adapt_steps();
    case Stage::settle:
        return adapt_steps();
    default:
        return measure();
    }
}

template <class Chains> void Run<Chains>::adapt_steps() {
    for (std::size_t k = 0; k < plan_.levels; ++k)
        levels_[k].step.update(chains_.mean_acceptance(k), options_.target_acceptance);
}

/// Each chain by itself: a step that is refused shrinks, so that no start is stuck.
template <class Chains> void Run<Chains>::adapt_burn_in() {
    for (std::size_t k = 0; k < plan_.levels; ++k)
        for (std::size_t c = 0; c < chains_.padded(); ++c) {
            const double acceptance = chains_.acceptance(k, c);
            double& factor = chains_.factor(k, c);
            factor = std::min(
                factor * (acceptance < 0.1 ? 0.5 : std::exp(0.3 * (acceptance - options_.target_acceptance))),
                1e6);
        }
}

template <class Chains> void Run<Chains>::collect_variances() {
    const std::size_t d = chains_.dimension();
    const double batch = static_cast<double>(plan_.chains);
    std::vector<double> mean(plan_.levels * d), square(mean.size());
    chains_.variances(mean.data(), square.data());
    for (std::size_t k = 0; k < plan_.levels; ++k) {
        CoordinateVariance& variance = levels_[k].variance;
        for (std::size_t i = 0; i < d; ++i) variance.merge(i, batch, mean[k * d + i], square[k * d + i]);
        variance.count += batch;
    }
}

template <class Chains> void Run<Chains>::compare_lengths() {
    const std::size_t quantities = watched_.count();
    std::vector<double> now(quantities * plan_.chains);
    for (std::size_t k = 0; k < plan_.levels; ++k) {
        chains_.observe(watched_, k, plan_.chains, now.data());
        levels_[k].lag1.update(now, quantities);
    }
}

template <class Chains> void Run<Chains>::measure() {
    const std::size_t count = std::min(plan_.chains, measured_chains);
    std::vector<double> now(watched_.count() * count);
    chains_.observe(watched_, 0, count, now.data());
    for (std::size_t n = 0; n < now.size(); ++n) measured_[n * length_ + done_] = now[n];
}

template <class Chains> void Run<Chains>::adapt_ladder() {
    if (plan_.levels == 1) return;
    std::vector<double> beta, rejection;
    const std::uint64_t first = iteration_ - length_;
    for (std::size_t k = 0; k < plan_.levels; ++k) beta.push_back(levels_[k].beta);
    for (std::size_t k = 0; k + 1 < plan_.levels; ++k) {
        const std::uint64_t attempts = (length_ + ((first + k) % 2 == 0 ? 1 : 0)) / 2;
        rejection.push_back(1 - chains_.mean_swap_sum(k) / static_cast<double>(attempts));
    }
    const std::vector<double> ladder = equal_rejection_ladder(beta, rejection);
    for (std::size_t k = 0; k < plan_.levels; ++k) levels_[k].beta = ladder[k];
}

template <class Chains> void Run<Chains>::end_of_stage() {
    const std::uint64_t next = part_ + 1;
    switch (stage_) {
    case Stage::burn_in:
        for (std::size_t k = 0; k < plan_.levels; ++k) {
            std::vector<double> factor;
            for (std::size_t c = 0; c < plan_.chains; ++c) factor.push_back(chains_.factor(k, c));
            std::nth_element(factor.begin(), factor.begin() + static_cast<std::ptrdiff_t>(factor.size() / 2),
                             factor.end());
            const double step = levels_[k].step.mean_step() * factor[factor.size() / 2];
            if (!(step > 1e-12)) require_moving(0);
            levels_[k].step.restart(step);
            for (std::size_t c = 0; c < chains_.padded(); ++c) chains_.factor(k, c) = 1;
        }
        return begin_stage(Stage::window, 0);
    case Stage::window:
        for (LevelState& level : levels_) level.adopt_variances();
        adapt_ladder();
        return next < windows ? begin_stage(Stage::window, next) : begin_stage(Stage::lengths, 0);
    case Stage::lengths:
        for (LevelState& level : levels_) {
            const double cost = (level.leapfrog + draw_cost) * level.lag1.longest_time();
            if (cost < level.best_cost) level.best_cost = cost, level.best_leapfrog = level.leapfrog;
        }
        if (next < std::size(lengths)) return begin_stage(Stage::lengths, next);
        for (LevelState& level : levels_) {
            level.leapfrog = level.best_leapfrog;
            level.step.restart(level.step.mean_step());
        }
        return begin_stage(Stage::settle, 0);
    case Stage::settle:
        return begin_stage(Stage::measure, 0);
    default:
        return end_of_measurement();
    }
}

template <class Chains> void Run<Chains>::require_moving(double acceptance) const {
    if (acceptance < 0.02)
        throw Error(
            ErrorKind::numerical,
            fmt::format("draw: no step size is accepted for {} (acceptance {:.2g}, step {:.2g} of a standard "
                        "deviation): is the energy smooth?",
                        target_.source.empty() ? target_.kind : target_.source, acceptance,
                        levels_[0].step.mean_step()));
}

/// The slowest quantity sets the thinning; a measurement too short for it is repeated at twice the length.
template <class Chains> void Run<Chains>::end_of_measurement() {
    const std::size_t count = std::min(plan_.chains, measured_chains), size = count * length_;
    require_moving(chains_.mean_acceptance_sum(0) / static_cast<double>(length_));
    slowest_ = 1;
    for (std::size_t q = 0; q < watched_.count(); ++q) {
        const double ess =
            effective_sample_size(std::span(measured_).subspan(q * size, size), count, length_);
        slowest_ = std::max(slowest_, ess > 0 ? static_cast<double>(size) / ess : static_cast<double>(size));
    }
    if (!options_.warmup && static_cast<double>(length_) < 50 * slowest_ &&
        2 * length_ <= longest_measurement) {
        const std::uint64_t longer = 2 * length_;
        begin_stage(Stage::measure, 0);
        length_ = longer;
        measured_.assign(watched_.count() * count * length_, 0.0);
        return;
    }
    measured_.clear();
    warmup_ = iteration_;
    thinning_ = options_.thinning
                    ? static_cast<std::uint64_t>(options_.thinning)
                    : static_cast<std::uint64_t>(std::clamp(std::ceil(1.5 * slowest_), 1.0, 1000.0));
    stage_ = Stage::draw;
    chains_.clear_sums();
    prepare_draw();
}

template <class Chains> void Run<Chains>::prepare_draw() {
    // At least 8 states a chain and 400 in all, so that there is an R-hat; those beyond the samples are not
    // written.
    const std::size_t wanted = (options_.samples + plan_.chains - 1) / plan_.chains;
    rounds_ = std::max({wanted, std::size_t{8}, (400 + plan_.chains - 1) / plan_.chains});
    if (rounds_ > (std::numeric_limits<std::uint32_t>::max() - iteration_) / thinning_)
        throw Error(ErrorKind::usage,
                    fmt::format("draw: {} iterations of each chain are more than 2^32; use more chains",
                                static_cast<double>(rounds_) * static_cast<double>(thinning_)));
    record_.emplace(recorded_.count(), plan_.chains, rounds_, options_.samples);
}

/// Bounded by 16 MiB of rows and about 2^28 coordinate updates, so that interrupts are seen soon.
template <class Chains> std::size_t Run<Chains>::rounds_at_once() const {
    const double row = static_cast<double>(plan_.chains * chains_.dimension());
    double work = 0;
    for (const LevelState& level : levels_) work += level.leapfrog + draw_cost;
    const double most = std::min(0x1p21 / row, 0x1p28 / (row * work * static_cast<double>(thinning_)));
    return static_cast<std::size_t>(std::max(most, 1.0));
}

template <class Chains> void Run<Chains>::draw() {
    if (!record_) prepare_draw();
    const std::size_t d = chains_.dimension(), count = plan_.chains, most = rounds_at_once();
    std::vector<double> rows(most * count * d);
    const std::vector<HmcLevel> fixed = levels(false);
    Progress progress(context_, "draw", rounds_);
    progress.set(round_);
    while (round_ < rounds_) {
        const std::size_t now = std::min<std::size_t>(most, rounds_ - round_);
        const HmcSpan span{options_.seed, static_cast<std::uint32_t>(iteration_),
                           static_cast<std::uint32_t>(thinning_), plan_.levels > 1};
        chains_.advance_and_keep(fixed, span, now, recorded_, rows.data(),
                                 [&](std::size_t chain, std::size_t round, std::span<const double> values) {
                                     record_->put(chain, round_ + round, values);
                                 });
        const std::size_t first = round_ * count;
        if (first < options_.samples)
            output_.write(first, std::min(now * count, options_.samples - first), rows.data());
        round_ += now;
        iteration_ += now * thinning_;
        progress.set(round_);
        if (round_ < rounds_) save_if_due(progress);
    }
}

// Checkpoint
// ---------------------------------------------------------------------------------------------------

template <class Chains> template <class Archive> void Run<Chains>::transfer(Archive& archive) {
    auto stage = static_cast<std::uint64_t>(stage_);
    archive("position", stage, part_, done_, length_, iteration_, warmup_, thinning_, round_, rounds_);
    stage_ = static_cast<Stage>(stage);
    archive("slowest", slowest_);
    archive("measured", measured_);
    for (std::size_t k = 0; k < levels_.size(); ++k)
        levels_[k].transfer(archive, "level" + std::to_string(k));
    std::vector<double> factor, acceptance, swaps;
    if constexpr (std::is_same_v<Archive, Loader>) {
        std::vector<double> x;
        archive("x", x);
        require(x.size() == plan_.levels * plan_.chains * chains_.dimension(), ErrorKind::input,
                archive.file.source + ": the checkpoint is of another number of chains");
        chains_.set_positions(x);
        archive("factor", factor), archive("acceptance", acceptance), archive("swaps", swaps);
    }
    constexpr bool saving = std::is_same_v<Archive, Saver>;
    factor.resize(plan_.levels * plan_.chains), acceptance.resize(factor.size()), swaps.resize(factor.size());
    for (std::size_t n = 0; n < factor.size(); ++n) {
        const std::size_t k = n / plan_.chains, c = n % plan_.chains;
        const auto move = [](double& a, double& b) { saving ? (b = a) : (a = b); };
        move(chains_.factor(k, c), factor[n]);
        move(chains_.acceptance_sum(k, c), acceptance[n]);
        move(chains_.swap_sum(k, c), swaps[n]);
    }
    if constexpr (saving) {
        archive("x", chains_.positions());
        archive("factor", factor), archive("acceptance", acceptance), archive("swaps", swaps);
    }
}

template <class Chains> void Run<Chains>::save_if_due(const Progress& progress) {
    const bool stop = progress.interrupted();
    if (checkpoint_.enabled() && (stop || checkpoint_.due())) save();
    if (stop) progress.throw_interrupted();
}

template <class Chains> void Run<Chains>::save() {
    output_.sync();
    Saver saver;
    transfer(saver);
    if (record_) record_->transfer(saver);
    checkpoint_.save(std::move(saver.file));
    output_.keep();
}

template <class Chains> void Run<Chains>::restore(const TensorFile& saved) {
    levels_.resize(plan_.levels);
    Loader loader{saved};
    transfer(loader);
    if (stage_ != Stage::draw) return;
    const std::size_t rows = std::min(round_ * plan_.chains, options_.samples);
    output_.require_rows_present(rows);
    record_.emplace(recorded_.count(), plan_.chains, rounds_, options_.samples);
    record_->transfer(loader);
}

// Report
// -------------------------------------------------------------------------------------------------------

template <class Chains> McmcReport Run<Chains>::report() {
    const double iterations = static_cast<double>(rounds_ * thinning_);
    McmcReport r;
    r.chains = plan_.chains;
    r.warmup = static_cast<int>(warmup_);
    r.thinning = static_cast<int>(thinning_);
    r.temperatures = static_cast<int>(plan_.levels);
    r.acceptance = chains_.mean_acceptance_sum(0) / iterations;
    r.autocorrelation_time = slowest_;
    r.step_size = levels_[0].step.mean_step();
    r.leapfrog_steps = levels_[0].leapfrog;
    for (const LevelState& level : levels_) {
        r.beta.push_back(level.beta);
        r.gradient_evaluations += level.leapfrog * iterations * static_cast<double>(plan_.chains);
    }
    for (std::size_t k = 0; k + 1 < plan_.levels; ++k)
        r.swap_acceptance += chains_.mean_swap_sum(k) / (0.5 * iterations);
    if (plan_.levels > 1) r.swap_acceptance /= static_cast<double>(plan_.levels - 1);
    const std::size_t count = recorded_.judged();
    std::vector<double> r_hat(count), ess(count);
#pragma omp parallel for schedule(dynamic) num_threads(context_.threads())
    for (std::size_t q = 0; q < count; ++q) {
        r_hat[q] = split_r_hat(record_->of(record_->first, q), plan_.chains, record_->length);
        ess[q] = record_->effective_rows(q);
    }
    r.r_hat_max = *std::max_element(r_hat.begin(), r_hat.end());
    r.ess_min = *std::min_element(ess.begin(), ess.end());
    r.ess_energy = ess[recorded_.energy()];
    r.energy_mean = record_->mean(recorded_.energy());
    r.energy_error = record_->error(recorded_.energy());
    if (recorded_.edges) {
        r.edge_energy = record_->mean(recorded_.judged());
        r.edge_energy_error = record_->error(recorded_.judged());
    }
    return r;
}

void check(const Target& target, const McmcOptions& options) {
    const auto within = [](bool good, const char* name, const char* expected, auto got) {
        if (!good)
            throw Error(ErrorKind::usage, fmt::format("draw: {}: expected {}, got {}", name, expected, got));
    };
    within(target.has_energy(), "target", "one with an energy", target.kind);
    within(options.samples > 0, "samples", "at least 1", options.samples);
    within(options.chains <= (std::size_t{1} << 24), "chains", "at most 2^24", options.chains);
    within(options.warmup == 0 || (options.warmup >= 50 && options.warmup <= 1 << 30), "warmup",
           "at least 50", options.warmup);
    within(options.thinning >= 0 && options.thinning <= 1 << 20, "thinning", "1 to 2^20", options.thinning);
    within(options.target_acceptance > 0.1 && options.target_acceptance < 0.99, "acceptance",
           "a number in (0.1, 0.99)", options.target_acceptance);
    within(options.temperatures == 0 || (options.temperatures >= 2 && options.temperatures <= 256),
           "temperatures", "2 to 256", options.temperatures);
    within(options.lanes == 0 || options.lanes == 8 || options.lanes == 16, "lanes", "8 or 16",
           options.lanes);
}

/// A template, so that a build without CUDA does not make the device's run.
template <bool with_cuda> McmcReport run_on(const Context& context, const Target& target,
                                            const McmcOptions& options, NpyWriter& output) {
    if constexpr (with_cuda)
        if (context.device() == Device::cuda && target.has_device_energy())
            return Run<DeviceChains>(context, target, options, output)();
    return Run<McmcChains>(context, target, options, output)();
}

} // namespace

McmcReport run_mcmc(const Context& context, const Target& target, const McmcOptions& options,
                    NpyWriter& output) {
    check(target, options);
    return run_on<built_with_cuda>(context, target, options, output);
}

} // namespace dynkin

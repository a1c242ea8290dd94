// energy_fit.cpp - walkers are annealed, fitted, drawn anew from the model, weighed, resampled and moved, in
// turns.
#include "energy_fit.h"
#include "error.h"
#include "fitter.h"
#include "kernels/device.h"
#include "kernels/philox.h"
#include "mcmc_chains.h"
#include "mcmc_device.h"
#include "mcmc_start.h"
#include "model_file.h"
#include "npy.h"
#include "progress.h"
#include "sampler.h"
#include "weigh.h"
#include "weight_sums.h"
#include <atomic>
#include <chrono>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <optional>
#include <unistd.h>

namespace dynkin {
namespace {

using std::size_t;
using Clock = std::chrono::steady_clock;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double wanted_acceptance = 0.8, quarter_period = 1.5, usable_ess = 0.05;
constexpr double least_exponent = 0.2; // below it the model's samples are worse than the walkers at hand
constexpr double step_error = 0.002;   // nats, rms of log q: below the error of log Z from 1e5 samples
constexpr int lanes = 16, most_raises = 2000, hopeless = 5;

/// Purposes of the random words of one round.
enum class Use : std::uint32_t { resample, sample, flip };

RandomWords words(std::uint64_t seed, std::uint64_t sample, std::uint64_t round, Use use) {
    return philox(seed, Stream::energy_fit, sample, static_cast<std::uint32_t>(round),
                  static_cast<std::uint32_t>(use));
}
std::uint64_t round_seed(std::uint64_t seed, std::uint64_t round, Use use) {
    const RandomWords w = words(seed, 0, round, use);
    return std::uint64_t{w.v[0]} << 32 | w.v[1];
}

/// Weights exp(exponent (l - largest l)), 0 where l is not finite, and their ESS as a fraction of the finite
/// ones.
struct Tempered {
    std::vector<double> weight;
    double ess = 0;

    Tempered(const WeightSums& sums, std::span<const double> log_weight, double exponent)
        : weight(log_weight.size()) {
        const FiniteNumbers finite = sums.finite(log_weight);
        if (finite.count == 0) return;
        const double sum = sums.exponentials(log_weight, finite.largest, exponent, weight);
        ess = sum * sum / sums.squares(weight, 1) / static_cast<double>(finite.count);
    }
};

/// The largest exponent in [0, 1] that keeps the ESS fraction; the ESS falls with the exponent.
double largest_exponent(const WeightSums& sums, std::span<const double> log_weight, double ess) {
    if (Tempered(sums, log_weight, 1).ess >= ess) return 1;
    double low = 0, high = 1;
    for (int k = 0; k < 40; ++k) {
        const double middle = 0.5 * (low + high);
        (Tempered(sums, log_weight, middle).ess >= ess ? low : high) = middle;
    }
    return low;
}

/// All of them, if that can be; what could not be removed, and why, or "".
std::string remove_files(const std::string& prefix) {
    std::string left;
    for (const char* name : {".set0.npy", ".set1.npy", ".best0", ".best1"}) {
        std::error_code error;
        std::filesystem::remove(prefix + name, error);
        if (error) left = prefix + name + ": " + error.message();
    }
    return left;
}

/// Chains: where the walkers are, McmcChains or DeviceChains.
template <class Chains> class EnergyFitter {
  public:
    EnergyFitter(const Context& context, const Target& target, const EnergyFitOptions& options,
                 EnergyFitReport& report)
        : context_(context), target_(target), options_(options), report_(report), law_(target),
          d_(target.dimension()), chains_(context, law_.view(), options.rows, 1, lanes), sums_(context),
          scale_(d_, 1.0), checkpoint_(options.checkpoint) {
        static std::atomic<int> runs{0};
        prefix_ = checkpoint_.enabled() ? options.checkpoint.path.string()
                                        : (std::filesystem::temp_directory_path() /
                                           fmt::format("dynkin_energy_fit_{}_{}", ::getpid(), runs++))
                                              .string();
        fit_ = options.fit;
        fit_.checkpoint = {};
        if (const Lattice* lattice = target.lattice())
            fit_.lattice = *lattice, fit_.reflection_symmetric = true;
        if (fit_.structure == Structure::automatic)
            fit_.structure = target.lattice() ? Structure::levels : Structure::flat;
        fit_.known_even = target.even();
    }
    ~EnergyFitter() {
        if (!checkpoint_.enabled()) remove_files(prefix_);
    }

    Model run() {
        if (const auto saved = checkpoint_.restore())
            restore(*saved);
        else
            start();
        anneal();
        while (!finished_) iterate();
        finish();
        return std::move(*best_);
    }

  private:
    void start();
    void anneal();
    void iterate();
    void finish();

    void measure_scale();
    double move(int iterations);
    void take(const Tempered& tempered, const double* x);
    std::optional<Model> refit(EnergyIteration& now);
    void weigh(const Model& model, EnergyIteration& now);
    void judge(std::optional<Model> model, double ess);

    std::string set_file() const { return fmt::format("{}.set{}.npy", prefix_, set_); }
    std::string best_file() const { return fmt::format("{}.best{}", prefix_, best_place_); }
    void write_set();
    void save(const char* stage);
    void restore(const TensorFile& saved);

    const Context& context_;
    const Target& target_;
    const EnergyFitOptions& options_;
    EnergyFitReport& report_;
    EnergyLaw law_;
    size_t d_;
    Chains chains_;
    WeightSums sums_;
    FitOptions fit_;
    std::string prefix_;

    double beta_ = 0, step_ = 0;
    std::vector<double> scale_;
    std::uint64_t moves_ = 0, rounds_ = 0; ///< HMC iterations, resamplings so far
    bool annealed_ = false, finished_ = false;
    Samples drawn_; ///< of the newest model, with log_weight_
    std::vector<double> log_weight_;
    EnergyIteration next_; ///< alpha, ess_in and acceptance of the walkers at hand
    double best_ess_ = -1;
    std::uint64_t stale_ = 0, set_ = 0, best_place_ = 0;
    std::optional<Model> best_;
    Checkpoint checkpoint_;
};

// Walkers
// ---------------------------------------------------------------------------------------------------

template <class Chains> void EnergyFitter<Chains>::start() {
    start_chains(chains_, std::visit([](const auto& t) { return start_ranges(t); }, target_.law),
                 options_.seed, target_);
    step_ = 0.5 * std::pow(static_cast<double>(d_), -0.25);
}

template <class Chains> void EnergyFitter<Chains>::measure_scale() {
    std::vector<double> mean(d_), square(d_);
    chains_.variances(mean.data(), square.data());
    for (size_t i = 0; i < d_; ++i)
        if (square[i] > 0 && std::isfinite(square[i]))
            scale_[i] = std::sqrt(square[i] / static_cast<double>(options_.rows));
}

/// HMC at beta_; the step follows the mean acceptance, and so does the number of steps to a quarter of the
/// slowest period. Returns the acceptance of the last iteration.
template <class Chains> double EnergyFitter<Chains>::move(int iterations) {
    measure_scale();
    double acceptance = 0;
    for (int k = 0; k < iterations; ++k) {
        const double leapfrog = std::clamp(quarter_period / step_, 2.0, 64.0);
        chains_.advance({{beta_, step_, leapfrog, scale_.data()}},
                        {options_.seed, static_cast<std::uint32_t>(moves_++), 1, false});
        acceptance = chains_.mean_acceptance(0);
        step_ = std::min(step_ * std::exp(acceptance < 0.1 ? -0.7 : acceptance - wanted_acceptance), 1.0);
        if (const int signal = context_.interrupt_signal()) throw Interrupted(signal);
    }
    return acceptance;
}

/// The walkers become a systematic resample of the rows, each x -> -x at random when U is even.
template <class Chains> void EnergyFitter<Chains>::take(const Tempered& tempered, const double* x) {
    const std::uint64_t round = rounds_++;
    const auto copies =
        resample(tempered.weight, options_.rows, round_seed(options_.seed, round, Use::resample));
    const bool even = target_.even();
    std::vector<double> rows;
    rows.reserve(options_.rows * d_);
    for (size_t n = 0; n < copies.size(); ++n)
        for (std::uint64_t k = 0; k < copies[n]; ++k) {
            const std::uint64_t row = rows.size() / d_;
            const bool flip = even && (words(options_.seed, row, round, Use::flip).v[0] & 1);
            for (size_t i = 0; i < d_; ++i) rows.push_back(flip ? -x[n * d_ + i] : x[n * d_ + i]);
        }
    chains_.set_positions(rows);
}

template <class Chains> void EnergyFitter<Chains>::anneal() {
    if (annealed_) return;
    Progress progress(context_, "anneal", 1000);
    while (beta_ < 1) {
        if (context_.interrupt_signal() || checkpoint_.due()) {
            write_set(), save("anneal");
            if (progress.interrupted()) progress.throw_interrupted();
        }
        std::vector<double> log_weight(options_.rows);
        for (size_t n = 0; n < log_weight.size(); ++n) log_weight[n] = -(1 - beta_) * chains_.energy(0, n);
        const double part = largest_exponent(sums_, log_weight, options_.ess);
        beta_ = part == 1 ? 1 : beta_ + part * (1 - beta_);
        const Tempered tempered(sums_, log_weight, part);
        take(tempered, chains_.positions().data());
        const double acceptance = move(options_.moves);
        report_.annealing.push_back({beta_, tempered.ess, acceptance});
        progress.set(static_cast<std::uint64_t>(1000 * beta_));
        if (report_.annealing.size() >= most_raises)
            throw Error(ErrorKind::numerical,
                        fmt::format("fit: beta is {:.3g} after {} raises: the energy of {} varies too much",
                                    beta_, most_raises, target_.source));
    }
    next_.acceptance = move(4 * options_.moves);
    if (next_.acceptance < 0.02)
        throw Error(ErrorKind::numerical,
                    fmt::format("fit: no step size is accepted for {} (acceptance {:.2g}): is the energy "
                                "smooth?",
                                target_.source, next_.acceptance));
    next_.alpha = next_.ess_in = not_a_number;
    annealed_ = true;
    write_set(), save("iterate");
}

// Models
// ----------------------------------------------------------------------------------------------------

/// A set that cannot be fitted costs a turn, unless it is the first.
template <class Chains> std::optional<Model> EnergyFitter<Chains>::refit(EnergyIteration& now) {
    FitOptions fit_options = fit_;
    fit_options.level_pairs = static_cast<size_t>(now.pairs);
    try {
        Model model = fit(context_, SampleFile(set_file()), fit_options);
        // Levels have no step error in log q, and log Z shows that of a flat model.
        if (model.levels.empty()) {
            const int steps = converged_steps(context_, model, std::min<size_t>(options_.rows, 256),
                                              chains_.positions().data(), step_error);
            model.default_steps = steps ? steps : 512;
        }
        return model;
    } catch (const Error& error) {
        if (!best_ || error.kind() != ErrorKind::numerical) throw;
        now.failure = error.what();
        now.ess_out = 0, now.log_partition = now.log_partition_error = not_a_number;
        return {};
    }
}

template <class Chains> void EnergyFitter<Chains>::weigh(const Model& model, EnergyIteration& now) {
    SampleOptions options;
    options.method = Method::ode, options.estimate_error = false;
    options.seed = round_seed(options_.seed, rounds_, Use::sample);
    drawn_ = sample(context_, model, options_.rows, options);
    const std::vector<double> x(drawn_.rows.begin(), drawn_.rows.end());
    log_weight_.resize(options_.rows);
    energy(context_, target_, options_.rows, x.data(), log_weight_.data());
    for (size_t n = 0; n < log_weight_.size(); ++n)
        log_weight_[n] = std::isfinite(drawn_.log_density[n]) ? -log_weight_[n] - drawn_.log_density[n]
                                                              : -std::numeric_limits<double>::infinity();
    const Weights weights = importance_weights(context_, log_weight_);
    now.ess_out = weights.ess_fraction;
    now.log_partition = weights.log_partition, now.log_partition_error = weights.log_partition_error;
}

/// Keeps the best model; says when to stop.
template <class Chains> void EnergyFitter<Chains>::judge(std::optional<Model> model, double ess) {
    const bool first_of_many = report_.iterations.size() > 1 &&
                               report_.iterations.rbegin()[1].pairs < report_.iterations.back().pairs;
    stale_ = ess > best_ess_ * (1 + options_.gain) || first_of_many ? 0 : stale_ + 1;
    if (ess > best_ess_) {
        best_ess_ = ess, best_ = std::move(model), report_.best = report_.iterations.size() - 1;
        best_place_ = 1 - best_place_;
        if (checkpoint_.enabled()) write_model(best_file(), *best_);
    }
    const bool nothing_to_gain = best_ess_ * (1 + options_.gain) >= 1;
    report_.converged = best_ess_ >= options_.ess && (stale_ >= 2 || nothing_to_gain);
    finished_ = report_.converged || stale_ >= hopeless ||
                report_.iterations.size() >= static_cast<size_t>(options_.max_iterations);
}

template <class Chains> void EnergyFitter<Chains>::iterate() {
    const auto began = Clock::now();
    const size_t most = fit_.level_pairs;
    EnergyIteration now = next_;
    now.pairs = static_cast<double>(best_ess_ >= options_.ess ? most : std::min(most, options_.early_pairs));
    std::optional<Model> model = refit(now);
    if (model) weigh(*model, now);
    now.seconds = std::chrono::duration<double>(Clock::now() - began).count();
    report_.iterations.push_back(now);
    judge(std::move(model), now.ess_out);
    if (options_.on_iteration) options_.on_iteration(report_.iterations.size(), now);
    if (finished_) return;
    next_.ess_in = now.ess_out;
    next_.alpha = now.failure.empty() ? largest_exponent(sums_, log_weight_, options_.ess) : 0;
    if (next_.alpha >= least_exponent) {
        const std::vector<double> x(drawn_.rows.begin(), drawn_.rows.end());
        take(Tempered(sums_, log_weight_, next_.alpha), x.data());
    } else
        next_.alpha = 0;
    next_.acceptance = move(options_.moves);
    write_set(), save("iterate");
}

template <class Chains> void EnergyFitter<Chains>::finish() {
    const EnergyIteration& best = report_.iterations[report_.best];
    report_.ess_fraction = best.ess_out;
    report_.log_partition = best.log_partition, report_.log_partition_error = best.log_partition_error;
    report_.usable = best.ess_out >= usable_ess;
}

// State
// -----------------------------------------------------------------------------------------------------

template <class Chains> void EnergyFitter<Chains>::write_set() {
    set_ = 1 - set_;
    std::vector<size_t> shape = target_.sample_shape();
    shape.insert(shape.begin(), options_.rows);
    NpyWriter writer(set_file(), shape, 8);
    writer.write(0, options_.rows, chains_.positions().data());
    writer.commit();
}

template <class Chains> void EnergyFitter<Chains>::save(const char* stage) {
    if (!checkpoint_.enabled()) return;
    TensorFile state;
    state.metadata["stage"] = stage;
    state.put("counts", std::vector<std::uint64_t>{moves_, rounds_, annealed_, stale_, set_, best_place_,
                                                   report_.best});
    state.put("numbers",
              std::vector<double>{beta_, step_, best_ess_, next_.alpha, next_.ess_in, next_.acceptance});
    std::vector<double> annealing, iterations;
    for (const AnnealingStep& s : report_.annealing)
        annealing.insert(annealing.end(), {s.beta, s.ess, s.acceptance});
    for (const EnergyIteration& i : report_.iterations)
        iterations.insert(iterations.end(), {i.beta, i.alpha, i.ess_in, i.ess_out, i.log_partition,
                                             i.log_partition_error, i.acceptance, i.pairs, i.seconds});
    state.put("annealing", annealing), state.put("iterations", iterations);
    checkpoint_.save(std::move(state));
}

template <class Chains> void EnergyFitter<Chains>::restore(const TensorFile& saved) {
    const auto& counts = saved.u64("counts", 7);
    const auto& numbers = saved.f64("numbers", 6);
    moves_ = counts[0], rounds_ = counts[1], annealed_ = counts[2] != 0, stale_ = counts[3], set_ = counts[4],
    best_place_ = counts[5], report_.best = counts[6];
    beta_ = numbers[0], step_ = numbers[1], best_ess_ = numbers[2], next_.alpha = numbers[3],
    next_.ess_in = numbers[4], next_.acceptance = numbers[5];
    const auto &annealing = saved.f64("annealing"), &iterations = saved.f64("iterations");
    for (size_t n = 0; n + 3 <= annealing.size(); n += 3)
        report_.annealing.push_back({annealing[n], annealing[n + 1], annealing[n + 2]});
    for (size_t n = 0; n + 9 <= iterations.size(); n += 9) {
        const double* v = iterations.data() + n;
        report_.iterations.push_back({v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], {}});
    }
    const Array<double> rows = read_npy(set_file());
    require(rows.size() == options_.rows * d_, ErrorKind::input,
            fmt::format("{}: expected {} numbers, got {}; delete {} or drop --resume", set_file(),
                        options_.rows * d_, rows.size(), prefix_));
    chains_.set_positions({rows.begin(), rows.end()});
    if (!report_.iterations.empty()) best_ = read_model(best_file());
}

void check(const Target& target, const EnergyFitOptions& options) {
    if (!target.has_energy())
        throw Error(ErrorKind::usage,
                    fmt::format("fit: {} has no energy, it can only be drawn; fit its samples instead",
                                target.source.empty() ? target.kind : target.source));
    if (const auto* law = std::get_if<LatticeTarget>(&target.law))
        if (const std::string reason = unbounded_reason(*law); !reason.empty())
            throw Error(ErrorKind::input,
                        fmt::format("{}: exp(-U) cannot be normalised: {}", target.source, reason));
    require(options.rows >= 1000 && options.rows < std::uint64_t{1} << 32, ErrorKind::usage,
            fmt::format("fit: expected 1000 to 2^32 - 1 rows, got {}", options.rows));
    require(options.ess > 0 && options.ess < 1, ErrorKind::usage,
            fmt::format("fit: expected an ESS fraction between 0 and 1, got {}", options.ess));
    require(options.moves >= 1 && options.max_iterations >= 1, ErrorKind::usage,
            "fit: expected at least one move and one iteration");
    require(options.fit.dequantise == 0 && !options.fit.drop_constant, ErrorKind::usage,
            "fit: there are no data to dequantise or columns to drop");
}

/// A template, so that a build without CUDA does not make the device's fitter.
template <bool with_cuda> Model fit_on(const Context& context, const Target& target,
                                       const EnergyFitOptions& options, EnergyFitReport& report) {
    if constexpr (with_cuda)
        if (context.device() == Device::cuda && target.has_device_energy())
            return EnergyFitter<DeviceChains>(context, target, options, report).run();
    return EnergyFitter<McmcChains>(context, target, options, report).run();
}

} // namespace

Model fit_from_energy(const Context& context, const Target& target, const EnergyFitOptions& options,
                      EnergyFitReport* report) {
    check(target, options);
    EnergyFitReport local;
    EnergyFitReport& filled = report ? *report : local;
    filled = {};
    return fit_on<built_with_cuda>(context, target, options, filled);
}

void remove_energy_fit_state(const CheckpointOptions& checkpoint) {
    Checkpoint(checkpoint).remove(); // first: it counts on the others
    const std::string left = remove_files(checkpoint.path.string());
    if (!left.empty()) throw Error(ErrorKind::io, "cannot remove " + left);
}

} // namespace dynkin

// draw.cpp - `dynkin draw`: samples of a target, directly where that is possible, else by Markov chains.
#include "command.h"
#include "draw_model.h"
#include "engine/error.h"
#include "engine/file.h"
#include "engine/mcmc.h"
#include "engine/npy.h"
#include "engine/progress.h"
#include "engine/target.h"
#include "engine/transfer_matrix.h"
#include "gnuplot.h"
#include "observe.h"
#include "report_pages.h"
#include "run_state.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <memory>
#include <optional>

namespace dynkin::app {
namespace {

constexpr double r_hat_limit = 1.05;

struct Options {
    Common common;
    std::string target, output, sampler = "auto", dtype = "f4", model, start, report;
    std::size_t samples = 0, chains = 0;
    int warmup = 0, thinning = 0, temperatures = 0;
    double acceptance = 0.8;
    bool allow_unconverged = false;
};

std::string sampler_of(const Options& o, const Target& target) {
    const std::string sampler = o.sampler != "auto"          ? o.sampler
                                : target.can_draw_directly() ? "direct"
                                                             : "hmc";
    if (sampler == "direct" && !target.can_draw_directly())
        throw Error(ErrorKind::usage,
                    fmt::format("--sampler direct: {} cannot be drawn directly", target.kind));
    if (sampler == "exact" && !(target.lattice() && target.lattice()->shape.size() == 1))
        throw Error(ErrorKind::usage,
                    fmt::format("--sampler exact: expected a lattice of one axis, got {}",
                                target.lattice() ? target.lattice()->describe() : target.kind));
    if (sampler != "direct" && !target.has_energy())
        throw Error(ErrorKind::usage,
                    fmt::format("--sampler {}: {} has no energy, it can only be drawn directly", sampler,
                                target.kind));
    if ((sampler == "direct" || sampler == "exact") && (o.chains || o.warmup || o.thinning || o.temperatures))
        throw Error(ErrorKind::usage, fmt::format("--chains, --warmup, --thinning and --temperatures are for "
                                                  "Markov chains, and this is {} draw",
                                                  sampler == "direct" ? "a direct" : "an exact"));
    check_local(sampler, o.model, o.start);
    if (sampler != "tempering" && o.temperatures)
        throw Error(ErrorKind::usage, "--temperatures: only --sampler tempering has temperatures");
    return sampler;
}

/// Everything that determines the bytes written; the target by its parameters.
nlohmann::ordered_json configuration_of(const Options& o, const Target& target, const std::string& sampler) {
    return {{"command", "draw"},
            {"target", nlohmann::ordered_json::parse(target.canonical_json)},
            {"samples", o.samples},
            {"sampler", sampler},
            {"chains", o.chains},
            {"warmup", o.warmup},
            {"thinning", o.thinning},
            {"acceptance", o.acceptance},
            {"temperatures", o.temperatures},
            {"model", o.model},
            {"start", o.start},
            {"dtype", o.dtype},
            {"seed", o.common.seed}};
}

/// The output, and whether it goes on from what an interrupted run left. A checkpoint of another
/// configuration is refused; one whose partial output is gone is of no use.
NpyWriter open_output(const Options& o, const Target& target, CheckpointOptions& checkpoint) {
    std::vector<std::size_t> shape = {o.samples};
    for (const std::size_t n : target.sample_shape()) shape.push_back(n);
    const int bytes = o.dtype == "f8" ? 8 : 4;
    if (checkpoint.resume && Checkpoint(checkpoint).restore()) {
        try {
            return NpyWriter(o.output, shape, bytes, OutputFile::Mode::resume);
        } catch (const Error& error) {
            warn(fmt::format("{}; starting again", error.what()));
        }
    }
    checkpoint.resume = false;
    NpyWriter output(o.output, shape, bytes);
    Checkpoint(checkpoint).remove(); // an older run's: its rows are gone
    return output;
}

/// Where independent rows come from: rows [first, first + count) into x; and, for lattices, averages over
/// them.
class Rows {
  public:
    Rows(const Context& context, const Target& target, const Options& o, const std::string& sampler)
        : context_(context), target_(target), edges_(target), seed_(o.common.seed) {
        if (sampler != "exact") return;
        auto& lattice = std::get<LatticeTarget>(edges_.law);
        exact_.emplace(lattice);
        lattice.coupling = 1, lattice.site.clear(), lattice.site_constant = 0;
        sums_ = {exact_->energy_mean(), 0, 0, exact_->edge_energy(), 0, 0};
    }
    void draw(std::size_t first, std::size_t count, double* x) {
        if (!exact_) return draw_direct(context_, target_, seed_, first, count, x);
        exact_->draw(context_, seed_, first, count, x);
        add(target_, count, x, sums_.data());
        add(edges_, count, x, sums_.data() + 3);
    }
    void put_report(Result& result, std::size_t samples) const {
        result["acceptance"] = 1.0, result["r_hat_max"] = 1.0, result["ess_min"] = samples;
        if (!exact_) return;
        result["log_partition"] = exact_->log_partition();
        put_mean(result, "energy_mean", "energy_error", sums_.data(), samples);
        put_mean(result, "edge_energy", "edge_energy_error", sums_.data() + 3, samples);
    }
    std::vector<double>& sums() { return sums_; }

  private:
    /// One by one in the order of the rows: the same sums for any split.
    void add(const Target& target, std::size_t count, const double* x, double* sums) {
        values_.resize(count);
        energy(context_, target, count, x, values_.data());
        for (const double value : values_) {
            const double deviation = value - sums[0];
            sums[1] += deviation, sums[2] += deviation * deviation;
        }
    }
    static void put_mean(Result& result, const char* mean, const char* error, const double* sums,
                         std::size_t samples) {
        const double n = static_cast<double>(samples), shift = sums[1] / n;
        result[mean] = sums[0] + shift;
        result[error] = std::sqrt((sums[2] / n - shift * shift) / (n - 1)); // null for one row
    }

    const Context& context_;
    const Target& target_;
    Target edges_; ///< U = sum over edges of (x_i - x_j)^2 / 2
    std::uint64_t seed_;
    std::optional<TransferMatrix> exact_;
    std::vector<double> sums_; ///< of energy and edges: exact mean, sums of deviations and of their squares
    std::vector<double> values_;
};

/// Rows in blocks; the state between them is their number and sums over them.
void draw_rows(const Context& context, const Target& target, const Options& o,
               const CheckpointOptions& options, NpyWriter& output, Rows& rows) {
    Checkpoint checkpoint(options);
    std::size_t next = 0;
    if (const auto saved = checkpoint.restore()) {
        next = saved->u64("rows", 1)[0];
        if (!rows.sums().empty()) rows.sums() = saved->f64("sums", rows.sums().size());
    }
    output.require_rows_present(next);
    const std::size_t d = target.dimension(), given = batch_from_environment();
    const std::size_t block = given ? given : std::max<std::size_t>((std::size_t{1} << 20) / d, 1);
    std::vector<double> x(std::min(block, o.samples) * d);
    Progress progress(context, "draw", o.samples);
    while (next < o.samples) {
        const std::size_t count = std::min(block, o.samples - next);
        rows.draw(next, count, x.data());
        output.write(next, count, x.data());
        next += count;
        progress.set(next);
        if (checkpoint.enabled() && (progress.interrupted() || checkpoint.due())) {
            output.sync();
            TensorFile state;
            state.put("rows", std::vector<std::uint64_t>{next});
            if (!rows.sums().empty()) state.put("sums", rows.sums());
            checkpoint.save(std::move(state));
            output.keep();
        }
        if (progress.interrupted()) progress.throw_interrupted();
    }
}

McmcReport draw_chains(const Context& context, const Target& target, const Options& o,
                       const std::string& sampler, const CheckpointOptions& checkpoint, NpyWriter& output) {
    McmcOptions options;
    options.method = sampler == "tempering" ? McmcMethod::tempering : McmcMethod::hmc;
    options.samples = o.samples, options.seed = o.common.seed, options.chains = o.chains;
    options.warmup = o.warmup, options.thinning = o.thinning, options.temperatures = o.temperatures;
    options.target_acceptance = o.acceptance;
    options.checkpoint = checkpoint;
    return run_mcmc(context, target, options, output);
}

void put_report(Result& result, const Target& target, const McmcReport& report) {
    result["acceptance"] = report.acceptance;
    result["r_hat_max"] = report.r_hat_max;
    result["ess_min"] = report.ess_min;
    result["ess_energy"] = report.ess_energy;
    result["energy_mean"] = report.energy_mean, result["energy_error"] = report.energy_error;
    if (target.lattice())
        result["edge_energy"] = report.edge_energy, result["edge_energy_error"] = report.edge_energy_error;
    result["chains"] = report.chains, result["warmup"] = report.warmup, result["thinning"] = report.thinning;
    result["autocorrelation_time"] = report.autocorrelation_time;
    if (report.leapfrog_steps > 0) {
        result["step_size"] = report.step_size, result["leapfrog_steps"] = report.leapfrog_steps;
        result["gradient_evaluations"] = report.gradient_evaluations;
        result["temperatures"] = report.temperatures;
    }
    if (report.temperatures > 1)
        result["swap_acceptance"] = report.swap_acceptance, result["beta"] = report.beta;
}

int unconverged(const Options& o, const McmcReport& report) {
    if (report.swap_acceptance < 0.1 && report.temperatures > 1)
        warn(
            fmt::format("neighbouring temperatures exchange in {:.2g} of the trials: use more --temperatures",
                        report.swap_acceptance));
    if (report.r_hat_max <= r_hat_limit) return 0;
    const std::string what =
        fmt::format("R-hat is {:.3g}, above {}: the chains disagree, {} is complete but not a sample of the "
                    "target; try --sampler tempering or a longer --warmup and --thinning",
                    report.r_hat_max, r_hat_limit, o.output);
    if (o.allow_unconverged)
        warn(what);
    else
        say_error(what + " (--allow-unconverged accepts it)");
    return o.allow_unconverged ? 0 : static_cast<int>(ErrorKind::numerical);
}

/// From the file, which a pipe or /dev/null is not.
ObservableReport put_observables(const Context& context, const Options& o, const Target& target,
                                 const std::vector<Polynomial>& polynomials, std::size_t chains,
                                 Result& result) {
    if (!std::filesystem::is_regular_file(o.output)) return {};
    result.stage("observables");
    ObservableReport report =
        observe_file(context, SampleFile(o.output), target.lattice(), polynomials, {}, chains, false);
    const auto observables = observables_json(report);
    if (!observables.empty()) result["observables"] = observables;
    return report;
}

void check_report(const Options& o, const std::string& sampler) {
    if (o.report.empty()) return;
    require(sampler != "direct" && sampler != "exact", ErrorKind::usage,
            "--report: shows Markov chains, and this is " +
                std::string(sampler == "direct" ? "a direct draw" : "an exact draw"));
    require(!std::filesystem::exists(o.output) || std::filesystem::is_regular_file(o.output),
            ErrorKind::usage, "--report: reads the samples back, and " + o.output + " is no regular file");
    require_gnuplot();
}

void write_report(const Context& context, const Options& o, const Target& target, const McmcReport& report,
                  const ObservableReport& observables, Result& result, ReportFolder& folder) {
    const auto figures = result.json();
    result.stage("report");
    write_chains(context,
                 {SampleFile(o.output),
                  target,
                  report.chains,
                  static_cast<std::size_t>(report.thinning),
                  observables,
                  figures,
                  {{"target", o.target},
                   {"samples", o.output},
                   {"sampler", result["sampler"].get<std::string>()},
                   {"seed", std::to_string(o.common.seed)},
                   {"dynkin", DYNKIN_VERSION}}},
                 folder);
    folder.commit();
}

int run(const Options& o) {
    require(o.samples >= 1, ErrorKind::usage, "-n: expected at least 1 sample, got 0");
    require_distinct(o.output, {o.target, o.model, o.start});
    require_writable(o.output);
    const Target target = read_target(o.target);
    const std::vector<Polynomial> polynomials = read_observables(o.target, target);
    const std::string sampler = sampler_of(o, target);
    check_report(o, sampler);
    std::optional<ReportFolder> folder;
    if (!o.report.empty()) folder.emplace(o.report);
    const Context context = make_context(
        o.common, sampler == "direct" || !target.has_device_energy() ? Runs::on_cpu : Runs::on_cpu_or_device);
    Result result("draw", o.common, context);
    result.stage("draw");
    nlohmann::ordered_json configuration = configuration_of(o, target, sampler);
    nlohmann::ordered_json identity = configuration;
    identify_local(o.model, o.start, identity);
    CheckpointOptions checkpoint = checkpoint_of(o.output, identity, o.common, context);
    NpyWriter output = open_output(o, target, checkpoint);
    result["samples"] = o.samples, result["dimension"] = target.dimension(), result["sampler"] = sampler;
    McmcReport report;
    if (sampler == "direct" || sampler == "exact") {
        Rows rows(context, target, o, sampler);
        draw_rows(context, target, o, checkpoint, output, rows);
        rows.put_report(result, o.samples);
    } else {
        report =
            is_local(sampler)
                ? draw_local(context, target, o.model,
                             {o.samples, o.common.seed, o.chains, o.warmup, o.thinning, o.start, checkpoint},
                             output)
                : draw_chains(context, target, o, sampler, checkpoint, output);
        put_report(result, target, report);
        configuration["chosen"] = {{"chains", report.chains},
                                   {"warmup", report.warmup},
                                   {"thinning", report.thinning},
                                   {"temperatures", report.temperatures}};
    }
    result.stage("write");
    output.commit();
    Checkpoint(checkpoint).remove();
    configuration["target-file"] = o.target;
    write_configuration(o.output, configuration);
    const ObservableReport observables =
        put_observables(context, o, target, polynomials, report.chains, result);
    if (folder) write_report(context, o, target, report, observables, result, *folder);
    result.print();
    return unconverged(o, report);
}

const char* const footer =
    R"(Gaussians, mixtures and the two-dimensional toys are drawn directly. Other targets: Hamiltonian Monte Carlo on parallel
chains (hmc), or on replicas at several temperatures that exchange states (tempering), for targets with barriers.
model: chains that redraw whole tiles of a lattice from a model's conditionals (fit --tile), with a Metropolis test each;
heatbath: single sites of a lattice. Neither depends on how good the model is, but for its speed.
Lattices of one axis can be drawn exactly, by transfer matrix, with log Z (exact).
Observables of lattices, and of the table [observables] of the target's file (docs/formats.md), come with errors that
count their autocorrelation: tau is the integrated time 1/2 + sum rho(t) in kept states of a chain, 1/2 when independent.
0 means chosen: chains near N/100, thinning 1.5 autocorrelation times. Rows come chain after chain for each kept state.
Exit code 4 when R-hat is above 1.05; the samples are kept.

Examples:
  dynkin draw target.toml -n 30000 -o train.npy
  dynkin draw target.toml -n 30000 -o train.npy --sampler tempering --json
  dynkin draw target.toml -n 30000 -o new.npy --sampler model --model model.dynkin)";

} // namespace

Command draw_command(CLI::App& parent) {
    CLI::App* command =
        parent.add_subcommand("draw", "samples of a target, with R-hat and effective sample size");
    auto options = std::make_shared<Options>();
    Options& o = *options;
    command
        ->add_option_function<std::string>(
            "target",
            [command, options](const std::string& path) {
                options->target = path;
                apply_settings(*command, path);
            },
            "target, TOML; settings in its table [draw] hold unless flags are given")
        ->required()
        ->type_name("FILE")
        ->configurable(false);
    command->add_option("-n,--samples", o.samples, "number of samples")->required();
    command->add_option("-o,--output", o.output, "the samples, .npy")->required()->type_name("FILE");
    command->add_option("--sampler", o.sampler, "auto, direct, exact, hmc, tempering, model or heatbath")
        ->check(CLI::IsMember({"auto", "direct", "exact", "hmc", "tempering", "model", "heatbath"}))
        ->capture_default_str();
    command->add_option("--model", o.model, "with a tile (fit --tile), for --sampler model")
        ->type_name("FILE");
    command
        ->add_option("--start", o.start,
                     "first states, .npy, for --sampler model and heatbath; none: over-dispersed")
        ->type_name("FILE");
    command->add_option("--chains", o.chains, "parallel chains, 0: chosen")->capture_default_str();
    command->add_option("--warmup", o.warmup, "iterations discarded, 0: chosen")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command->add_option("--thinning", o.thinning, "iterations between kept states, 0: chosen")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command->add_option("--acceptance", o.acceptance, "wanted acceptance, which sets the step size")
        ->capture_default_str();
    command->add_option("--temperatures", o.temperatures, "replicas per chain (tempering), 0: chosen")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command->add_option("--dtype", o.dtype, "of the samples")
        ->check(CLI::IsMember({"f4", "f8"}))
        ->capture_default_str();
    command->add_flag_callback(
        "--f4", [options] { options->dtype = "f4"; }, "the same as --dtype f4");
    command
        ->add_option(
            "--report", o.report,
            "a folder for report.html with traces and ranks of the chains, PNG, figures.csv, summary.json; "
            "by gnuplot")
        ->check(CLI::Validator(named, ""))
        ->type_name("DIR");
    command->add_flag("--allow-unconverged", o.allow_unconverged,
                      "exit code 0 even when R-hat is above 1.05");
    add_common_flags(*command, o.common, true);
    command->footer(footer);
    return {command, [options] { return run(*options); }};
}

} // namespace dynkin::app

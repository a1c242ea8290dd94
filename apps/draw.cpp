// draw.cpp - `dynkin draw`: samples of a target, directly where that is possible, else by Markov chains.
#include "command.h"
#include "engine/error.h"
#include "engine/file.h"
#include "engine/mcmc.h"
#include "engine/npy.h"
#include "engine/progress.h"
#include "engine/target.h"
#include "run_state.h"
#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <optional>

namespace dynkin::app {
namespace {

constexpr double r_hat_limit = 1.05;

struct Options {
    Common common;
    std::string target, output, sampler = "auto", dtype = "f4";
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
    if (sampler != "direct" && !target.has_energy())
        throw Error(ErrorKind::usage,
                    fmt::format("--sampler {}: {} has no energy, it can only be drawn directly", sampler,
                                target.kind));
    if (sampler == "direct" && (o.chains || o.warmup || o.thinning || o.temperatures))
        throw Error(ErrorKind::usage, "--chains, --warmup, --thinning and --temperatures are for Markov "
                                      "chains, and this is a direct draw");
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
    return NpyWriter(o.output, shape, bytes);
}

/// Rows in blocks; the state between them is their number.
void draw_rows(const Context& context, const Target& target, const Options& o,
               const CheckpointOptions& options, NpyWriter& output) {
    Checkpoint checkpoint(options);
    std::size_t next = 0;
    if (const auto saved = checkpoint.restore()) next = saved->u64("rows", 1)[0];
    if (next > output.rows_present())
        throw Error(
            ErrorKind::io,
            fmt::format("{}.partial: {} rows, and the checkpoint was saved after {}: delete the checkpoint "
                        "to start again",
                        o.output, output.rows_present(), next));
    const std::size_t d = target.dimension(), given = batch_from_environment();
    const std::size_t block = given ? given : std::max<std::size_t>((std::size_t{1} << 20) / d, 1);
    std::vector<double> x(std::min(block, o.samples) * d);
    Progress progress(context, "draw", o.samples);
    while (next < o.samples) {
        const std::size_t count = std::min(block, o.samples - next);
        draw_direct(context, target, o.common.seed, next, count, x.data());
        output.write(next, count, x.data());
        next += count;
        progress.set(next);
        if (checkpoint.enabled() && (progress.interrupted() || checkpoint.due())) {
            output.sync(), output.keep();
            TensorFile state;
            state.put("rows", std::vector<std::uint64_t>{next});
            checkpoint.save(std::move(state));
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

void put_report(Result& result, const McmcReport& report) {
    result["acceptance"] = report.acceptance;
    result["r_hat_max"] = report.r_hat_max;
    result["ess_min"] = report.ess_min;
    result["ess_energy"] = report.ess_energy;
    result["chains"] = report.chains, result["warmup"] = report.warmup, result["thinning"] = report.thinning;
    result["autocorrelation_time"] = report.autocorrelation_time;
    result["step_size"] = report.step_size, result["leapfrog_steps"] = report.leapfrog_steps;
    result["gradient_evaluations"] = report.gradient_evaluations;
    result["temperatures"] = report.temperatures;
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

int run(const Options& o) {
    const Context context = make_context(o.common);
    Result result("draw", o.common, context);
    result.stage("draw");
    require(o.samples >= 1, ErrorKind::usage, "-n: expected at least 1 sample, got 0");
    require_distinct(o.output, {o.target});
    require_writable(o.output);
    const Target target = read_target(o.target);
    const std::string sampler = sampler_of(o, target);
    nlohmann::ordered_json configuration = configuration_of(o, target, sampler);
    CheckpointOptions checkpoint = checkpoint_of(o.output, configuration, o.common, context);
    NpyWriter output = open_output(o, target, checkpoint);
    result["samples"] = o.samples, result["dimension"] = target.dimension(), result["sampler"] = sampler;
    McmcReport report;
    if (sampler == "direct") {
        draw_rows(context, target, o, checkpoint, output);
        result["acceptance"] = 1.0, result["r_hat_max"] = 1.0, result["ess_min"] = o.samples;
    } else {
        report = draw_chains(context, target, o, sampler, checkpoint, output);
        put_report(result, report);
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
    result.print();
    return unconverged(o, report);
}

const char* const footer =
    R"(Gaussians, mixtures and the two-dimensional toys are drawn directly. Other targets: Hamiltonian Monte Carlo on parallel
chains (hmc), or on replicas at several temperatures that exchange states (tempering), for targets with barriers.
0 means chosen: chains near N/100, thinning 1.5 autocorrelation times. Rows come chain after chain for each kept state.
Exit code 4 when R-hat is above 1.05; the samples are kept.

Examples:
  dynkin draw target.toml -n 30000 -o train.npy
  dynkin draw target.toml -n 30000 -o train.npy --sampler tempering --json)";

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
    command->add_option("--sampler", o.sampler, "auto, direct, hmc or tempering")
        ->check(CLI::IsMember({"auto", "direct", "hmc", "tempering"}))
        ->capture_default_str();
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
    command->add_flag("--allow-unconverged", o.allow_unconverged,
                      "exit code 0 even when R-hat is above 1.05");
    add_common_flags(*command, o.common, true);
    command->footer(footer);
    return {command, [options] { return run(*options); }};
}

} // namespace dynkin::app

// weigh.cpp - `dynkin weigh`: importance weights of generated samples, log Z, effective sample size, weighted
// means.
#include "engine/weigh.h"
#include "command.h"
#include "engine/error.h"
#include "engine/npy.h"
#include "engine/progress.h"
#include "engine/target.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <memory>

namespace dynkin::app {
namespace {

struct Options {
    Common common;
    std::string samples, log_density, target, output;
    bool strict = false;
};

/// What one pass over the samples leaves in memory: three numbers a sample.
struct Pass {
    std::vector<double> log_weight, energy, site_mean;
};

/// One block of samples: log w = -U - log q, -inf where either is not finite (log q = -inf is a flag, not w =
/// inf).
void weigh_block(const Context& context, const Target& target, std::size_t first, std::size_t count,
                 const std::vector<double>& x, const std::vector<double>& log_density, Pass& pass) {
    energy(context, target, count, x.data(), pass.energy.data() + first);
    const std::size_t d = target.dimension();
    for (std::size_t n = 0; n < count; ++n) {
        const double u = pass.energy[first + n], log_q = log_density[n];
        const bool valid = std::isfinite(u) && std::isfinite(log_q);
        pass.log_weight[first + n] = valid ? -u - log_q : -std::numeric_limits<double>::infinity();
        double sum = 0;
        for (std::size_t i = 0; i < d; ++i) sum += x[n * d + i];
        pass.site_mean[first + n] = sum / static_cast<double>(d);
    }
}

Pass read_and_weigh(const Context& context, const Target& target, const SampleFile& samples,
                    const SampleFile& log_density) {
    const std::size_t rows = samples.rows(), d = samples.cols();
    Pass pass{std::vector<double>(rows), std::vector<double>(rows), std::vector<double>(rows)};
    const std::size_t block = std::clamp<std::size_t>((1u << 20) / d, 1, rows);
    std::vector<double> x(block * d), log_q(block);
    Progress progress(context, "weigh", rows);
    for (std::size_t first = 0; first < rows; first += block) {
        if (progress.interrupted()) progress.throw_interrupted();
        const std::size_t count = std::min(block, rows - first);
        samples.read_any(first, count, x.data());
        log_density.read_any(first, count, log_q.data());
        weigh_block(context, target, first, count, x, log_q, pass);
        progress.advance(count);
    }
    return pass;
}

void check_inputs(const SampleFile& samples, const SampleFile& log_density, const Target& target) {
    if (!target.has_energy())
        throw Error(ErrorKind::input,
                    fmt::format("{}: a target with an energy is needed, and {} can only be drawn",
                                target.source, target.kind));
    if (samples.cols() != target.dimension())
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected {} numbers a sample, the dimension of {}, got {}",
                                samples.path().string(), target.dimension(), target.source, samples.cols()));
    if (log_density.cols() != 1)
        throw Error(ErrorKind::input, fmt::format("{}: expected one number a sample, got {}",
                                                  log_density.path().string(), log_density.cols()));
    if (log_density.rows() != samples.rows())
        throw Error(ErrorKind::input,
                    fmt::format("{}: {} log densities for the {} samples of {}", log_density.path().string(),
                                log_density.rows(), samples.rows(), samples.path().string()));
}

void put_mean(Result& result, const std::string& name, const Weights& weights,
              const std::vector<double>& values) {
    const WeightedMean mean = weighted_mean(weights.weight, values);
    result[name.c_str()] = mean.mean;
    result[(name + "_error").c_str()] = mean.standard_error;
}

void put_figures(Result& result, const Weights& weights, Pass& pass) {
    result["samples"] = weights.weight.size();
    result["ess_fraction"] = weights.ess_fraction;
    result["log_partition"] = weights.log_partition;
    result["log_partition_error"] = weights.log_partition_error;
    result["flagged"] = weights.flagged;
    result["largest_share"] = weights.largest_share;
    result["tail_index"] = weights.tail_index;
    put_mean(result, "energy_mean", weights, pass.energy);
    put_mean(result, "magnetisation", weights, pass.site_mean);
    for (double& m : pass.site_mean) m *= m;
    put_mean(result, "magnetisation_squared", weights, pass.site_mean);
}

/// Warns when the weights are not to be trusted; true when they are.
bool trusted(const Weights& weights) {
    bool good = true;
    if (weights.tail_index > 0.7) {
        warn(fmt::format("tail index {:.3g} > 0.7: the largest weights dominate, errors are underestimated",
                         weights.tail_index));
        good = false;
    }
    if (weights.ess_fraction < 0.01) {
        warn(fmt::format("effective sample size is {:.3g} % of the samples, below 1 %",
                         100 * weights.ess_fraction));
        good = false;
    }
    return good;
}

int run(const Options& options) {
    const Context context = make_context(options.common);
    Result result("weigh", options.common, context);
    result.stage("weigh");
    require_distinct(options.output, {options.samples, options.log_density, options.target});
    require_writable(options.output);
    const Target target = read_target(options.target);
    const SampleFile samples(options.samples), log_density(options.log_density);
    check_inputs(samples, log_density, target);
    Pass pass = read_and_weigh(context, target, samples, log_density);
    result.stage("weights");
    const Weights weights = importance_weights(pass.log_weight);
    put_figures(result, weights, pass);
    result.stage("write");
    NpyWriter writer(options.output, {weights.weight.size()}, 8);
    writer.write(0, weights.weight.size(), weights.weight.data());
    writer.commit();
    write_configuration(options.output, {{"command", "weigh"},
                                         {"samples", options.samples},
                                         {"log-density", options.log_density},
                                         {"target", options.target},
                                         {"strict", options.strict}});
    result.print();
    const bool good = trusted(weights);
    if (good || !options.strict) return 0;
    say_error(fmt::format("--strict: the weights are not to be trusted; {} is complete", options.output));
    return static_cast<int>(ErrorKind::numerical);
}

const char* const footer =
    R"(Writes the weights, f8 of shape (N), which sum to 1; samples whose log density or energy is not finite
have weight 0, are counted in `flagged`, and count as zeros in log Z and the effective sample size.
Standard errors: of log Z by the delta method, sd(w) / (mean(w) sqrt(N)); of weighted means by linearisation.
magnetisation is the mean over sites. Memory: about 40 bytes a sample.

Example:
  dynkin weigh new.npy --log-density logq.npy --target target.toml -o weights.npy --json)";

} // namespace

Command weigh_command(CLI::App& parent) {
    CLI::App* command =
        parent.add_subcommand("weigh", "importance weights, log Z, effective sample size, weighted means");
    auto options = std::make_shared<Options>();
    command->add_option("samples", options->samples, "samples, .npy of shape (N, d) or (N, *lattice)")
        ->required()
        ->type_name("FILE");
    command->add_option("--log-density", options->log_density, "log q of each sample, .npy of shape (N)")
        ->required()
        ->type_name("FILE");
    command->add_option("--target", options->target, "target with an energy")->required()->type_name("TOML");
    command->add_option("-o,--output", options->output, "weights, .npy")->required()->type_name("FILE");
    command->add_flag("--strict", options->strict,
                      "exit with 4 when tail_index > 0.7 or ess_fraction < 0.01");
    add_common_flags(*command, options->common, false);
    command->footer(footer);
    return {command, [options] { return run(*options); }};
}

} // namespace dynkin::app

// weigh.cpp - `dynkin weigh`: importance weights of generated samples, log Z, effective sample size, weighted
// means; a resampled set of equal weights.
#include "engine/weigh.h"
#include "command.h"
#include "engine/error.h"
#include "engine/model_file.h"
#include "engine/npy.h"
#include "engine/progress.h"
#include "engine/target.h"
#include "observe.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <memory>
#include <optional>

namespace dynkin::app {
namespace {

constexpr std::uint64_t most_resampled = std::uint64_t{1} << 40;

struct Options {
    Common common;
    std::string samples, log_density, target, model, output, resampled, second_moments, second_moments_error;
    std::optional<std::uint64_t> resample_count;
    bool strict = false;

    /// All files that are asked for.
    std::vector<std::string> outputs() const {
        std::vector<std::string> files = {output};
        for (const std::string& file : {resampled, second_moments, second_moments_error})
            if (!file.empty()) files.push_back(file);
        return files;
    }
};

/// Rows in memory at a time: 8 MiB of them, whatever the samples.
std::size_t block_rows(const SampleFile& samples) {
    return std::clamp<std::size_t>((1u << 20) / samples.cols(), 1, samples.rows());
}

/// The resampled set on its way to a file, in the type and shape of the samples.
class Resampled {
  public:
    Resampled(const std::string& path, const SampleFile& samples, const std::vector<double>& weight,
              std::uint64_t count, std::uint64_t seed)
        : copies_(resample(weight, count, seed)), writer_(path, shape(samples, count), bytes(samples)),
          buffer_(block_rows(samples) * samples.cols()), cols_(samples.cols()) {}

    std::size_t distinct() const {
        return static_cast<std::size_t>(
            std::count_if(copies_.begin(), copies_.end(), [](std::uint64_t n) { return n > 0; }));
    }
    /// The samples [first, first + count) as often as they are taken.
    void write(std::size_t first, std::size_t count, const double* x) {
        for (std::size_t n = 0; n < count; ++n)
            for (std::uint64_t copy = 0; copy < copies_[first + n]; ++copy) {
                std::copy_n(x + n * cols_, cols_, buffer_.data() + held_ * cols_);
                if (++held_ == buffer_.size() / cols_) flush();
            }
        flush();
    }
    NpyWriter& file() { return writer_; }

  private:
    static std::vector<std::size_t> shape(const SampleFile& samples, std::uint64_t count) {
        std::vector<std::size_t> shape = samples.sample_shape();
        shape.insert(shape.begin(), count);
        return shape;
    }
    static int bytes(const SampleFile& samples) {
        const NpyType& type = samples.header().type;
        return type.kind == 'f' && type.bytes == 4 ? 4 : 8;
    }
    void flush() {
        writer_.write(written_, held_, buffer_.data());
        written_ += held_, held_ = 0;
    }

    std::vector<std::uint64_t> copies_;
    NpyWriter writer_;
    std::vector<double> buffer_;
    std::size_t cols_, held_ = 0, written_ = 0;
};

/// The second pass, for what needs the weights: each block of samples to whoever is there.
void reread(const Context& context, const SampleFile& samples, const std::vector<double>& weight,
            Resampled* resampled, SecondMoments* moments) {
    if (!resampled && !moments) return;
    const std::size_t rows = samples.rows(), block = block_rows(samples);
    std::vector<double> x(block * samples.cols());
    Progress progress(context, "samples", rows);
    for (std::size_t first = 0; first < rows; first += block) {
        if (progress.interrupted()) progress.throw_interrupted();
        const std::size_t count = std::min(block, rows - first);
        samples.read_any(first, count, x.data());
        if (resampled) resampled->write(first, count, x.data());
        if (moments) moments->add(count, weight.data() + first, x.data());
        progress.advance(count);
    }
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

void put_mean(const Context& context, Result& result, const std::string& name, const Weights& weights,
              const std::vector<double>& values) {
    const WeightedMean mean = weighted_mean(context, weights.weight, values);
    result[name.c_str()] = mean.mean;
    result[(name + "_error").c_str()] = mean.standard_error;
}

void put_figures(const Context& context, Result& result, const Weights& weights, WeighedRows& pass) {
    result["samples"] = weights.weight.size();
    result["ess_fraction"] = weights.ess_fraction;
    result["log_partition"] = weights.log_partition;
    result["log_partition_error"] = weights.log_partition_error;
    result["flagged"] = weights.flagged;
    result["largest_share"] = weights.largest_share;
    result["tail_index"] = weights.tail_index;
    put_mean(context, result, "energy_mean", weights, pass.energy);
    put_mean(context, result, "magnetisation", weights, pass.site_mean);
    for (double& m : pass.site_mean) m *= m;
    put_mean(context, result, "magnetisation_squared", weights, pass.site_mean);
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

/// Options that do not go together, and outputs that would overwrite an input or one another.
void check_options(const Options& options) {
    const bool counted = options.resample_count.has_value();
    require(!counted || !options.resampled.empty(), ErrorKind::usage,
            "--resample-count: expected --resampled FILE with it");
    require(!counted || (*options.resample_count >= 1 && *options.resample_count <= most_resampled),
            ErrorKind::usage,
            fmt::format("--resample-count: expected 1 to {} samples, got {}", most_resampled,
                        options.resample_count.value_or(0)));
    std::vector<std::filesystem::path> taken = {options.samples, options.log_density, options.target};
    for (const std::string& output : options.outputs()) {
        const std::string configuration = output + ".json";
        require_distinct(output, taken), require_distinct(configuration, taken);
        taken.insert(taken.end(), {output, configuration});
        require_writable(output);
    }
}

nlohmann::ordered_json configuration_of(const Options& options, std::uint64_t resample_count) {
    nlohmann::ordered_json json = {
        {"command", "weigh"},       {"samples", options.samples}, {"log-density", options.log_density},
        {"target", options.target}, {"output", options.output},   {"strict", options.strict}};
    if (!options.resampled.empty())
        json.update({{"resampled", options.resampled},
                     {"resample-count", resample_count},
                     {"seed", options.common.seed}});
    if (!options.second_moments.empty()) json["second-moments"] = options.second_moments;
    if (!options.second_moments_error.empty()) json["second-moments-error"] = options.second_moments_error;
    return json;
}

NpyWriter matrix_file(const std::string& path, const Array<double>& values) {
    NpyWriter file(path, {values.rows(), values.cols()}, 8);
    file.write(0, values.rows(), values.data());
    return file;
}

std::uint64_t resample_count(const Options& options, const Weights& weights) {
    const double effective = weights.ess_fraction * static_cast<double>(weights.weight.size());
    return options.resample_count.value_or(static_cast<std::uint64_t>(std::max(std::round(effective), 1.0)));
}

/// Writes everything and only then gives the files their names.
void write_outputs(const Context& context, const Options& options, const SampleFile& samples,
                   const Weights& weights, Result& result) {
    std::vector<NpyWriter> files;
    files.emplace_back(options.output, std::vector<std::size_t>{weights.weight.size()}, 8);
    files.back().write(0, weights.weight.size(), weights.weight.data());
    std::optional<Resampled> resampled;
    const std::uint64_t count = resample_count(options, weights);
    if (!options.resampled.empty()) {
        resampled.emplace(options.resampled, samples, weights.weight, count, options.common.seed);
        result["resampled"] = count, result["resampled_distinct"] = resampled->distinct();
    }
    const bool errors = !options.second_moments_error.empty();
    std::optional<SecondMoments> moments;
    if (errors || !options.second_moments.empty()) moments.emplace(context, samples.cols(), errors);
    reread(context, samples, weights.weight, resampled ? &*resampled : nullptr,
           moments ? &*moments : nullptr);
    if (!options.second_moments.empty())
        files.push_back(matrix_file(options.second_moments, moments->mean()));
    if (errors) files.push_back(matrix_file(options.second_moments_error, moments->standard_error()));
    if (resampled) resampled->file().commit();
    for (NpyWriter& file : files) file.commit();
    for (const std::string& output : options.outputs())
        write_configuration(output, configuration_of(options, count));
}

/// Where the variance of log w comes from: one row a stage of the model, from coarse to fine.
void put_stages(const Context& context, const Options& options, const Target& target, Result& result) {
    const Model model = read_model(options.model);
    const Lattice *wanted = target.lattice(), *got = model.lattice ? &*model.lattice : nullptr;
    if (static_cast<std::size_t>(model.dimension()) != target.dimension() ||
        (wanted && got && !(*wanted == *got)))
        throw Error(
            ErrorKind::input,
            fmt::format("{}: expected a model of {}, as {} has it, got {}", options.model,
                        wanted ? wanted->describe() : fmt::format("{} coordinates", target.dimension()),
                        options.target,
                        got ? got->describe() : fmt::format("{} coordinates", model.dimension())));
    auto stages = nlohmann::ordered_json::array();
    for (const StageVariance& s : stage_variances(context, model, target, options.common.seed))
        stages.push_back(
            {{"name", s.name}, {"targets", s.targets}, {"variance", s.own}, {"from_here", s.from_here}});
    result["stages"] = stages;
}

int run(const Options& options) {
    const Context context = make_context(options.common, Runs::on_cpu_or_device);
    Result result("weigh", options.common, context);
    result.stage("weigh");
    check_options(options);
    const Target target = read_target(options.target);
    const std::vector<Polynomial> polynomials = read_observables(options.target, target);
    const SampleFile samples(options.samples), log_density(options.log_density);
    check_inputs(samples, log_density, target);
    WeighedRows pass = weigh_rows(context, target, samples, log_density);
    result.stage("weights");
    const Weights weights = importance_weights(context, pass.log_weight);
    put_figures(context, result, weights, pass);
    pass = {};
    if (!options.model.empty()) {
        result.stage("stages");
        put_stages(context, options, target, result);
    }
    result.stage("observables");
    const auto observables = observables_json(
        observe_file(context, samples, target.lattice(), polynomials, weights.weight, 0, true));
    if (!observables.empty()) result["observables"] = observables;
    result.stage("write");
    write_outputs(context, options, samples, weights, result);
    result.print();
    const bool good = trusted(weights);
    if (good || !options.strict) return 0;
    say_error(fmt::format("--strict: the weights are not to be trusted; {} is complete",
                          fmt::join(options.outputs(), ", ")));
    return static_cast<int>(ErrorKind::numerical);
}

const char* const footer =
    R"(Writes the weights, f8 of shape (N), which sum to 1; samples whose log density or energy is not finite
have weight 0, are counted in `flagged`, and count as zeros in log Z and the effective sample size.
Standard errors: of log Z by the delta method, sd(w) / (mean(w) sqrt(N)); of weighted means by linearisation.
magnetisation is the mean over sites. Observables of lattices, and of the table [observables] of the target's file
(name = "x^4 - m^2": see docs/formats.md), stand in a table of their own. Memory: about 40 bytes a sample, and up to
64 MiB for observables.
--resampled takes every sample floor or ceil of M w times (systematic resampling, fixed by --seed) in the
order of the file: M samples of equal weight, whose means are those of the weights on average over seeds. They
repeat samples, which is not more information: standard errors are those of the weights.

Examples:
  dynkin weigh new.npy --log-density logq.npy --target target.toml -o weights.npy --json
  dynkin weigh new.npy --log-density logq.npy --target target.toml -o weights.npy --resampled equal.npy)";

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
    command
        ->add_option("--model", options->model,
                     "a model of levels: reports what each adds to the variance of log w")
        ->type_name("FILE");
    command->add_option("-o,--output", options->output, "weights, .npy")->required()->type_name("FILE");
    command
        ->add_option("--resampled", options->resampled,
                     "samples of equal weight, .npy of shape (M, d) or (M, *lattice) and the samples' type")
        ->type_name("FILE");
    command->add_option("--resample-count", options->resample_count,
                        "M (default: the effective sample size, rounded)");
    command
        ->add_option("--second-moments", options->second_moments,
                     "weighted means of x_i x_j, .npy of shape (d, d)")
        ->type_name("FILE");
    command
        ->add_option("--second-moments-error", options->second_moments_error,
                     "their standard errors, .npy of shape (d, d)")
        ->type_name("FILE");
    command->add_flag("--strict", options->strict,
                      "exit with 4 when tail_index > 0.7 or ess_fraction < 0.01");
    add_common_flags(*command, options->common, false);
    command->footer(footer);
    return {command, [options] { return run(*options); }};
}

} // namespace dynkin::app

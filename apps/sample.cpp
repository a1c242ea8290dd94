// sample.cpp - `dynkin sample`: new samples from a model, with their log density on request.
#include "command.h"
#include "engine/error.h"
#include "engine/model_file.h"
#include "engine/npy.h"
#include "engine/sampler.h"
#include "fit_nonlinear.h"
#include "run_state.h"
#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <optional>

namespace dynkin::app {
namespace {

struct Options {
    Common common;
    std::string model, output, log_density, method = "sde", dtype = "f4", exact_last = "none", target,
                                            prior = "auto";
    std::size_t samples = 0;
    int steps = 0;
    bool tables = false;
    double time = 0;
};

nlohmann::ordered_json configuration_of(const Options& o, int steps) {
    return {{"command", "sample"}, {"model", o.model},      {"samples", o.samples},
            {"method", o.method},  {"steps", steps},        {"log-density", o.log_density},
            {"dtype", o.dtype},    {"seed", o.common.seed}, {"exact-last", o.exact_last},
            {"target", o.target},  {"tables", o.tables}};
}

/// Both outputs and the state between batches: rows so far, projected particles, error estimate.
class Output {
  public:
    Output(const Options& o, const Model& model, CheckpointOptions checkpoint)
        : checkpoint_(std::move(checkpoint)) {
        if (const auto saved = checkpoint_.restore(); saved && continues(o, model, *saved)) return;
        open(o, model, OutputFile::Mode::create);
        checkpoint_.remove(); // an older run's: its rows are gone
    }

    std::size_t next() const { return next_; }

    void write(std::size_t first, std::size_t count, const float* rows, const double* log_density) {
        rows_->write(first, count, rows);
        if (log_density_) log_density_->write(first, count, log_density);
        next_ = first + count;
    }
    void save_if(bool now) {
        if (!checkpoint_.enabled() || !(now || checkpoint_.due())) return;
        rows_->sync();
        if (log_density_) log_density_->sync();
        TensorFile state;
        state.put("counts", std::vector<std::uint64_t>{next_, runaways});
        state.put("error", std::vector<double>{error});
        checkpoint_.save(std::move(state));
        keep();
    }
    void commit() {
        if (log_density_) log_density_->commit();
        rows_->commit();
        checkpoint_.remove();
    }

    std::uint64_t runaways = 0;
    std::size_t exact_sites = 0, table_sites = 0;
    double error = 0;

  private:
    void open(const Options& o, const Model& model, OutputFile::Mode mode) {
        rows_.reset(), log_density_.reset();
        std::vector<std::size_t> shape = {o.samples};
        shape.insert(shape.end(), model.sample_shape.begin(), model.sample_shape.end());
        rows_.emplace(o.output, shape, o.dtype == "f8" ? 8 : 4, mode);
        if (!o.log_density.empty())
            log_density_.emplace(o.log_density, std::vector<std::size_t>{o.samples}, 8, mode);
    }
    /// Takes up the state of an interrupted run, if the rows that it counts on are there.
    bool continues(const Options& o, const Model& model, const TensorFile& saved) {
        const auto& counts = saved.u64("counts", 2);
        error = saved.f64("error", 1)[0];
        try {
            open(o, model, OutputFile::Mode::resume);
            for (const auto* file : {&rows_, &log_density_})
                require(!*file || (*file)->rows_present() >= counts[0], ErrorKind::io,
                        fmt::format("cannot resume {}: fewer rows than the checkpoint counts on", o.output));
        } catch (const Error& failure) {
            warn(fmt::format("{}; starting again", failure.what()));
            error = 0;
            return false;
        }
        next_ = counts[0], runaways = counts[1];
        return true;
    }
    /// What is written stays on disk for --resume.
    void keep() {
        rows_->keep();
        if (log_density_) log_density_->keep();
    }

    Checkpoint checkpoint_;
    std::optional<NpyWriter> rows_, log_density_;
    std::uint64_t next_ = 0;
};

/// Batches until all rows are written; state is saved between batches, and when a signal stops the work.
void generate(const Context& context, const Model& model, const Options& o, SampleOptions settings,
              Output& output) {
    const std::size_t chosen =
        std::clamp<std::size_t>((std::size_t{1} << 22) / model.view.columns, 1024, 1 << 18);
    const std::size_t given = batch_from_environment(), batch = given ? given : chosen;
    const auto sink = [&](std::size_t first, std::size_t count, const float* rows,
                          const double* log_density) { output.write(first, count, rows, log_density); };
    Sampling sampling(context, model, settings, o.samples);
    try {
        while (output.next() < o.samples) {
            const std::size_t first = output.next();
            const SampleReport report = sampling.run(first, std::min(batch, o.samples - first), sink);
            output.runaways += report.runaways, output.exact_sites = report.exact_sites;
            output.table_sites = report.table_sites;
            if (first == 0) output.error = sampling.log_density_error();
            output.save_if(false);
        }
    } catch (const Interrupted&) {
        output.save_if(true);
        throw;
    }
}

int run_nonlinear(const Options& o) {
    require(o.samples >= 1, ErrorKind::usage, "-n: expected at least 1 sample, got 0");
    require(o.method == "sde" && o.log_density.empty() && o.target.empty() && !o.tables, ErrorKind::usage,
            "a nonlinear process is reversed by its SDE: no --method ode, --log-density, --target, --tables");
    return run_nonlinear_sample(o.common, {o.model, o.output, o.prior, o.dtype, o.samples, o.steps, o.time});
}

int run(const Options& o) {
    if (is_nonlinear_model(o.model)) return run_nonlinear(o);
    require(o.prior == "auto" && o.time == 0, ErrorKind::usage,
            "--prior, --time: go with models of a nonlinear process");
    const Context context = make_context(o.common, Runs::on_cpu_or_device);
    Result result("sample", o.common, context);
    result.stage("sample");
    require(o.samples >= 1, ErrorKind::usage, "-n: expected at least 1 sample, got 0");
    require(o.log_density.empty() || o.method == "ode", ErrorKind::usage,
            "--log-density: only --method ode has a log density");
    require_distinct(o.output, {o.model, o.log_density});
    require_writable(o.output);
    if (!o.log_density.empty()) require_distinct(o.log_density, {o.model}), require_writable(o.log_density);
    require(o.exact_last == "none" || !o.target.empty(), ErrorKind::usage,
            "--exact-last: draws from the target's own conditionals, so it needs --target");
    const Model model = read_model(o.model);
    std::optional<Target> target;
    if (!o.target.empty()) target = read_target(o.target);
    SampleOptions settings;
    settings.exact_stages = o.exact_last == "all" ? 2 : o.exact_last == "odd" ? 1 : 0;
    settings.target = target ? &*target : nullptr;
    settings.method = o.method == "ode" ? Method::ode : Method::sde;
    settings.tables = o.tables;
    settings.steps = o.steps, settings.seed = o.common.seed;
    const int steps = o.steps ? o.steps : default_steps(model, o.method == "ode" ? Method::ode : Method::sde);
    nlohmann::ordered_json identity = configuration_of(o, steps);
    identity["device"] = device_of(context);
    identity["model_checksum"] = checksum(read_file(o.model, std::uint64_t{1} << 36));
    Output output(o, model, checkpoint_of(o.output, identity, o.common, context));
    generate(context, model, o, settings, output);
    result.stage("write");
    output.commit();
    write_configuration(o.output, configuration_of(o, steps));
    result["samples"] = o.samples, result["dimension"] = model.view.columns;
    result["steps"] = steps, result["method"] = o.method;
    result["runaways"] = output.runaways;
    if (settings.exact_stages) result["exact_sites"] = output.exact_sites;
    if (settings.tables) result["table_sites"] = output.table_sites;
    if (settings.method == Method::ode) result["log_density_error"] = output.error;
    result.print();
    if (output.runaways)
        warn(fmt::format("{} of {} particles {}", output.runaways, o.samples,
                         settings.method == Method::ode
                             ? "left the reference's box: their log density is -inf"
                             : "were projected back to where data can be"));
    return 0;
}

const char* const footer =
    R"(sde: reverse diffusion, Strang splitting. ode: probability flow, Heun, with exact likelihoods up to step error,
for dynkin weigh. Data that were dequantised come back as integers.

Examples:
  dynkin sample model.dynkin -n 100000 -o new.npy
  dynkin sample model.dynkin -n 100000 -o new.npy --method ode --log-density logq.npy
  dynkin sample model.dynkin -n 100000 -o new.npy --method ode --log-density logq.npy --exact-last all --target t.toml)";

} // namespace

Command sample_command(CLI::App& parent) {
    CLI::App* command = parent.add_subcommand("sample", "generate samples from a model");
    auto options = std::make_shared<Options>();
    Options& o = *options;
    command->add_option("model", o.model, "a model that fit wrote")->required()->type_name("FILE");
    command->add_option("-n,--samples", o.samples, "number of samples")->required();
    command->add_option("-o,--output", o.output, "the samples, .npy")->required()->type_name("FILE");
    command->add_option("--method", o.method, "sampler")
        ->check(CLI::IsMember({"sde", "ode"}))
        ->capture_default_str();
    command->add_option("--log-density", o.log_density, "log q of each sample, .npy (ode)")
        ->type_name("FILE");
    command->add_option("--steps", o.steps, "time steps, 0: 32, or 64 for strongly correlated data")
        ->check(CLI::Range(0, 1 << 20))
        ->capture_default_str();
    auto* target =
        command->add_option("--target", o.target, "the target, for --exact-last")->type_name("TOML");
    command
        ->add_option("--exact-last", o.exact_last,
                     "draw the last levels from the target's own conditionals: odd (the last one), all (the "
                     "one before "
                     "as well: 5/8 of a square lattice)")
        ->check(CLI::IsMember({"none", "odd", "all"}))
        ->needs(target)
        ->capture_default_str();
    command->add_flag(
        "--tables", o.tables,
        "levels with at most two descriptors from tables of their laws: several times faster, and log q "
        "has no step error");
    command
        ->add_option("--prior", o.prior,
                     "nonlinear process: where reversed paths start: stationary, gaussian, a file of samples "
                     "(.npy) or of a law that can be drawn (.toml); auto: stationary where it is known")
        ->capture_default_str();
    command->add_option("--time", o.time, "nonlinear process: of the samples, 0: the model's first")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command->add_option("--dtype", o.dtype, "of the samples")
        ->check(CLI::IsMember({"f4", "f8"}))
        ->capture_default_str();
    add_common_flags(*command, o.common, true);
    command->footer(footer);
    return {command, [options] { return run(*options); }};
}

} // namespace dynkin::app

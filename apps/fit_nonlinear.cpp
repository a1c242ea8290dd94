// fit_nonlinear.cpp - nonlinear forward processes on the command line: fit, score, sample.
#include "fit_nonlinear.h"
#include "engine/error.h"
#include "engine/nonlinear_model.h"
#include "engine/npy.h"
#include "engine/target.h"
#include "engine/tensor_file.h"
#include "run_state.h"
#include <algorithm>
#include <filesystem>
#include <fmt/format.h>

namespace dynkin::app {
namespace {

using Json = nlohmann::ordered_json;

/// All rows of a file, in float64.
Array<double> read_rows(const SampleFile& file) {
    Array<double> x(file.rows(), file.cols());
    file.read(0, file.rows(), x.data());
    return x;
}

/// One list a figure, an entry a time; those of entropy production where it is defined.
void put_nodes(Result& result, const NonlinearModel& model) {
    std::vector<double> time, gap, rate, error;
    for (const NonlinearNode& node : model.nodes) {
        time.push_back(node.time), gap.push_back(node.gap);
        if (!node.entropy) continue;
        rate.push_back(node.entropy->rate), error.push_back(node.entropy->error);
    }
    result["node_time"] = time, result["node_gap"] = gap;
    if (!rate.empty()) result["entropy_production"] = rate, result["entropy_production_error"] = error;
}

NonlinearFitOptions options_of(const Common& common, const NonlinearFlags& flags, const NonlinearRun& run) {
    NonlinearFitOptions fit;
    fit.basis = flags.basis == "cosine" ? BasisKind::cosine : BasisKind::polynomial;
    fit.order = run.degree;
    fit.reference = flags.reference_score == "none"    ? ReferenceScore::none
                    : flags.reference_score == "drift" ? ReferenceScore::drift
                                                       : ReferenceScore::gaussian;
    fit.estimator = flags.estimator == "implicit" ? ScoreEstimator::implicit : ScoreEstimator::local;
    fit.local.linearisation = flags.linearisation == "euler" ? Linearisation::euler
                              : flags.linearisation == "ito" ? Linearisation::ito
                                                             : Linearisation::linear;
    fit.local.draws = flags.draws, fit.local.antithetic = !flags.plain_draws;
    if (run.ridge >= 0) fit.ridge = run.ridge;
    fit.intrinsic_gap = flags.intrinsic_gap, fit.real_gap = flags.gap;
    fit.t_min = std::max(run.t_min, 0.0), fit.t_end = std::max(run.t_end, 0.0);
    if (run.time_nodes) fit.nodes = run.time_nodes;
    fit.simulate.step = flags.step;
    fit.seed = common.seed;
    return fit;
}

/// Everything on the command line that the model depends on.
Json identity_of(const NonlinearFlags& flags, const NonlinearRun& run, const Common& common) {
    return {{"command", "fit"},
            {"samples", run.samples},
            {"seed", common.seed},
            {"process", "nonlinear"},
            {"drift", run.drift},
            {"basis", flags.basis},
            {"degree", run.degree},
            {"reference-score", flags.reference_score},
            {"estimator", flags.estimator},
            {"linearisation", flags.linearisation},
            {"draws", flags.draws},
            {"plain-draws", flags.plain_draws},
            {"intrinsic-gap", flags.intrinsic_gap},
            {"gap", flags.gap},
            {"step", flags.step},
            {"ridge", run.ridge},
            {"t-min", run.t_min},
            {"t-end", run.t_end},
            {"time-nodes", run.time_nodes}};
}

/// Starts of reversed paths: the rows of a file, of a target that can be drawn, or of the model's own prior.
Array<double> starts(const Context& context, const NonlinearModel& model, const NonlinearSampling& run,
                     std::uint64_t seed, std::size_t first, std::size_t count) {
    const std::size_t d = model.process.dimension();
    const auto check = [&](std::size_t got) {
        require(got == d, ErrorKind::input,
                fmt::format("{}: expected {} numbers a sample, the dimension of {}, got {}", run.prior, d,
                            run.model, got));
    };
    if (run.prior == "auto") return draw_prior(model, StartLaw::automatic, seed, first, count);
    if (run.prior == "stationary") return draw_prior(model, StartLaw::stationary, seed, first, count);
    if (run.prior == "gaussian") return draw_prior(model, StartLaw::gaussian, seed, first, count);
    Array<double> x(count, d);
    if (std::filesystem::path(run.prior).extension() == ".toml") {
        const Target target = read_target(run.prior);
        check(target.dimension());
        draw_direct(context, target, seed, first, count, x.data());
        return x;
    }
    const SampleFile file(run.prior);
    check(file.cols());
    require(first + count <= file.rows(), ErrorKind::input,
            fmt::format("{}: expected at least {} rows, one a sample, got {}", run.prior, run.samples,
                        file.rows()));
    file.read(first, count, x.data());
    return x;
}

const char* const group = "Nonlinear process (--process nonlinear)";

} // namespace

void require_no_nonlinear_flags(const CLI::App& command) {
    for (const CLI::Option* option : command.get_options())
        require(option->get_group() != group || option->count() == 0, ErrorKind::usage,
                option->get_name() + ": goes with --process nonlinear");
}

void add_nonlinear_flags(CLI::App& command, NonlinearFlags& o) {
    command.add_option("--basis", o.basis, "functions of the score; --degree is their order")
        ->check(CLI::IsMember({"polynomial", "cosine"}))
        ->capture_default_str()
        ->group(group);
    command
        .add_option("--reference-score", o.reference_score,
                    "added to the functions: that of a Gaussian, 2 f/g^2, or none")
        ->check(CLI::IsMember({"gaussian", "drift", "none"}))
        ->capture_default_str()
        ->group(group);
    command.add_option("--estimator", o.estimator, "local laws, or implicit score matching")
        ->check(CLI::IsMember({"local", "implicit"}))
        ->capture_default_str()
        ->group(group);
    command.add_option("--linearisation", o.linearisation, "of the local laws; ito: with g^2 f''/2")
        ->check(CLI::IsMember({"euler", "linear", "ito"}))
        ->capture_default_str()
        ->group(group);
    command.add_option("--draws", o.draws, "from each local law, each with both signs")
        ->check(CLI::Range(1, 64))
        ->capture_default_str()
        ->group(group);
    command.add_flag("--plain-draws", o.plain_draws, "each draw with one sign only")->group(group);
    auto* intrinsic = command.add_option("--intrinsic-gap", o.intrinsic_gap,
                                         "of the local laws in integral of g^2, 0: chosen");
    intrinsic->check(CLI::NonNegativeNumber)->capture_default_str()->group(group);
    command.add_option("--gap", o.gap, "of the local laws in time, 0: --intrinsic-gap")
        ->check(CLI::NonNegativeNumber)
        ->excludes(intrinsic)
        ->capture_default_str()
        ->group(group);
    command.add_option("--step", o.step, "largest step of the simulation, 0: by doubling")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str()
        ->group(group);
}

int run_nonlinear_fit(const Common& common, const NonlinearFlags& flags, const NonlinearRun& run) {
    require(!run.drift.empty(), ErrorKind::usage, "--process nonlinear: needs --drift");
    const Context context = make_context(common, Runs::on_cpu_or_device);
    Result result("fit", common, context);
    result.stage("fit");
    require_distinct(run.output, {run.samples, run.drift});
    require_writable(run.output);
    const DriftProcess process = read_drift(run.drift);
    const SampleFile data(run.samples);
    require(data.cols() == process.dimension(), ErrorKind::input,
            fmt::format("{}: expected {} numbers a sample, the dimension of {}, got {}", run.samples,
                        process.dimension(), run.drift, data.cols()));
    NonlinearFitOptions options = options_of(common, flags, run);
    Json identity = identity_of(flags, run, common);
    identity["drift_law"] = Json::parse(process.canonical_json);
    identity["input"] = data.fingerprint();
    identity["device"] = device_of(context);
    options.checkpoint = checkpoint_of(run.output, identity, common, context);
    NonlinearModel model = fit_nonlinear(context, process, read_rows(data), options);
    result.stage("write");
    write_nonlinear_model(run.output, model);
    Checkpoint(options.checkpoint).remove();
    Json written = {{"command", "fit"},
                    {"samples", run.samples},
                    {"process", "nonlinear"},
                    {"drift", run.drift},
                    {"seed", common.seed}};
    written["resolved"] = Json::parse(model.configuration);
    write_configuration(run.output, written);
    result["samples"] = data.rows(), result["dimension"] = process.dimension();
    result["process"] = "nonlinear", result["drift"] = process.kind;
    result["basis_size"] = model.basis.terms(), result["step"] = model.step;
    result["t_min"] = model.nodes.front().time, result["t_end"] = model.nodes.back().time;
    double condition = 0;
    for (const NonlinearNode& node : model.nodes) condition = std::max(condition, node.condition);
    result["condition"] = condition, result["ridge"] = model.nodes.front().ridge;
    put_nodes(result, model);
    result.print();
    return 0;
}

bool is_nonlinear_model(const std::string& path) { return tensor_format(path) == "dynkin-nonlinear"; }

int run_nonlinear_score(const Common& common, const std::string& model_path, const std::string& points_path,
                        double time, const std::string& output) {
    const Context context = make_context(common, Runs::on_cpu_or_device);
    Result result("score", common, context);
    result.stage("score");
    require_distinct(output, {model_path, points_path});
    require_writable(output);
    const NonlinearModel model = read_nonlinear_model(model_path);
    const double first_time = model.nodes.front().time, last_time = model.nodes.back().time;
    require(time >= first_time && time <= last_time, ErrorKind::usage,
            fmt::format("-t: expected a time in the model's range [{:g}, {:g}], got {:g}", first_time,
                        last_time, time));
    const SampleFile points(points_path);
    const std::size_t d = model.process.dimension(), r = model.basis.driven.size();
    require(points.cols() == d, ErrorKind::input,
            fmt::format("{}: expected {} numbers a point, the dimension of {}, got {}", points_path, d,
                        model_path, points.cols()));
    NpyWriter writer(output, {points.rows(), r}, 8);
    const std::size_t given = batch_from_environment(), batch = given ? given : 1 << 14;
    Array<double> x(batch, d), scores(batch, r);
    double square = 0;
    for (std::size_t first = 0; first < points.rows(); first += batch) {
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
        const std::size_t count = std::min(batch, points.rows() - first);
        points.read(first, count, x.data());
        nonlinear_score(context, model, time, count, x.data(), scores.data());
        writer.write(first, count, scores.data());
        for (std::size_t k = 0; k < count * r; ++k) square += scores[k] * scores[k];
    }
    writer.commit();
    write_configuration(
        output, {{"command", "score"}, {"model", model_path}, {"points", points_path}, {"time", time}});
    result["points"] = points.rows(), result["dimension"] = d, result["time"] = time;
    result["driven"] = model.basis.driven;
    result["mean_square_score"] = square / static_cast<double>(points.rows());
    result.print();
    return 0;
}

int run_nonlinear_sample(const Common& common, const NonlinearSampling& run) {
    require(!common.resume, ErrorKind::usage, "--resume: sampling a nonlinear process keeps no checkpoint");
    const Context context = make_context(common, Runs::on_cpu_or_device);
    Result result("sample", common, context);
    result.stage("sample");
    require_distinct(run.output, {run.model, run.prior});
    require_writable(run.output);
    const NonlinearModel model = read_nonlinear_model(run.model);
    const double first_time = model.nodes.front().time, last_time = model.nodes.back().time,
                 time = run.time > 0 ? run.time : first_time;
    require(time >= first_time && time <= last_time, ErrorKind::usage,
            fmt::format("--time: expected a time in the model's range [{:g}, {:g}], got {:g}", first_time,
                        last_time, time));
    std::vector<std::size_t> shape = {run.samples};
    shape.insert(shape.end(), model.sample_shape.begin(), model.sample_shape.end());
    NpyWriter writer(run.output, shape, run.dtype == "f8" ? 8 : 4);
    const std::size_t given = batch_from_environment(), batch = given ? given : 1 << 16;
    std::size_t runaways = 0, steps = 0;
    for (std::size_t first = 0; first < run.samples; first += batch) {
        const std::size_t count = std::min(batch, run.samples - first);
        Array<double> rows = starts(context, model, run, common.seed, first, count);
        const ReverseReport report = reverse(context, model, rows, common.seed, first, time, run.steps);
        runaways += report.runaways, steps = report.steps;
        writer.write(first, count, rows.data());
        context.report("sample", first + count, run.samples);
    }
    result.stage("write");
    writer.commit();
    write_configuration(run.output, {{"command", "sample"},
                                     {"model", run.model},
                                     {"samples", run.samples},
                                     {"prior", run.prior},
                                     {"time", time},
                                     {"steps", run.steps},
                                     {"dtype", run.dtype},
                                     {"seed", common.seed}});
    result["samples"] = run.samples, result["dimension"] = model.process.dimension();
    result["process"] = "nonlinear", result["time"] = time, result["steps"] = steps;
    result["runaways"] = runaways;
    result.print();
    if (runaways)
        warn(fmt::format("{} steps of {} took a particle out of the range of the paths, and it was put back",
                         runaways, steps * run.samples));
    return 0;
}

} // namespace dynkin::app

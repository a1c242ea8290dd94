// score.cpp - `dynkin score`: grad log p_t of a model at points of a file.
#include "engine/score.h"
#include "command.h"
#include "engine/error.h"
#include "engine/model_file.h"
#include "engine/tensor_file.h"
#include "fit_nonlinear.h"
#include "points.h"
#include "prior.h"
#include <cmath>
#include <fmt/format.h>
#include <memory>

namespace dynkin::app {
namespace {

struct Options {
    Common common;
    std::string model, points, output, sigma, convention = "edm", precision = "float64";
    double time = -1;
};

int run(const Options& o) {
    const bool headless = !o.sigma.empty() && !tensor_format(o.model); // whose reader says what is wrong
    if (headless || is_prior_file(o.model)) {
        require(o.time < 0, ErrorKind::usage, "-t: a prior has noise levels, --sigma, and no times");
        return run_prior_score(o.common, {o.model, o.points, o.output, o.sigma, o.convention, o.precision});
    }
    require(o.sigma.empty(), ErrorKind::usage, "--sigma: goes with a prior (fit --prior)");
    require(o.precision == "float64", ErrorKind::usage, "--precision: goes with a prior (fit --prior)");
    require(o.time >= 0, ErrorKind::usage, "-t: a model needs a diffusion time");
    if (is_nonlinear_model(o.model))
        return run_nonlinear_score(o.common, o.model, o.points, o.time, o.output);
    const Context context = make_context(o.common, Runs::on_cpu_or_device);
    Result result("score", o.common, context);
    result.stage("score");
    require_distinct(o.output, {o.model, o.points});
    require_writable(o.output);
    const Model model = read_model(o.model);
    require(model.levels.empty(), ErrorKind::usage,
            fmt::format("{}: expected a flat model (fit --levels flat), got one of levels, which diffuse one "
                        "after another "
                        "and have no joint score",
                        o.model));
    const double t_min = process_time(model.process, model.times().t_min),
                 t_end = process_time(model.process, model.times().t_end);
    require(
        o.time >= t_min && o.time <= t_end, ErrorKind::usage,
        fmt::format("-t: expected a time in the model's range [{:g}, {:g}], got {:g}", t_min, t_end, o.time));
    const SampleFile points(o.points);
    check_points(points, model, o.model);
    const auto d = static_cast<std::size_t>(model.dimension());
    NpyWriter writer(o.output, {points.rows(), d}, 8);
    std::vector<double> scores;
    double square = 0;
    for_each_point_batch(context, points, model, [&](std::size_t first, std::size_t count, const double* x) {
        scores.resize(count * d);
        score(context, model, o.time, count, x, scores.data());
        writer.write(first, count, scores.data());
        for (double s : scores) square += s * s;
    });
    writer.commit();
    write_configuration(o.output,
                        {{"command", "score"}, {"model", o.model}, {"points", o.points}, {"time", o.time}});
    result["points"] = points.rows(), result["dimension"] = d, result["time"] = o.time;
    result["mean_square_score"] = square / static_cast<double>(points.rows());
    result.print();
    return 0;
}

const char* const footer =
    R"(Writes f8 of shape (N, d), d the modelled columns: the gradient of log p_t with respect to x in the units of the
data, in float64 (of a nonlinear process: with respect to the coordinates that have noise). t runs from the model's t_min (almost the data) to its t_end (the reference law).

Example:
  dynkin score model.dynkin points.npy -t 0.1 -o score.npy
  dynkin score images.prior noisy.npy --sigma 0.5 --convention edm -o score.npy)";

} // namespace

Command score_command(CLI::App& parent) {
    CLI::App* command = parent.add_subcommand("score", "the score of a model at given points and time");
    auto options = std::make_shared<Options>();
    Options& o = *options;
    command->add_option("model", o.model, "a model or a prior that fit wrote")->required()->type_name("FILE");
    command->add_option("points", o.points, "points, .npy")->required()->type_name("FILE");
    command->add_option("-t,--time", o.time, "diffusion time, of a model");
    command->add_option("--sigma", o.sigma, "noise level, of a prior: a number, or an .npy of one a point");
    command
        ->add_option("--convention", o.convention,
                     "of a prior; edm: x_0 + sigma eps, vp: sqrt(1 - sigma^2) x_0 + sigma eps")
        ->check(CLI::IsMember({"edm", "vp"}))
        ->capture_default_str();
    command
        ->add_option("--precision", o.precision,
                     "of a prior; float32 writes f4 and takes a product at a sigma a point from its table, "
                     "within 5e-4 of max(1, |sigma score|)")
        ->check(CLI::IsMember({"float32", "float64"}))
        ->capture_default_str();
    command->add_option("-o,--output", o.output, "the scores, .npy")->required()->type_name("FILE");
    add_common_flags(*command, o.common, false);
    command->footer(footer);
    return {command, [options] { return run(*options); }};
}

} // namespace dynkin::app

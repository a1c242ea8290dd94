// density.cpp - `dynkin density`: log-likelihoods of given points by the probability-flow ODE.
#include "command.h"
#include "engine/error.h"
#include "engine/model_file.h"
#include "engine/sampler.h"
#include "points.h"
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <memory>

namespace dynkin::app {
namespace {

struct Options {
    Common common;
    std::string model, points, output;
    int steps = 0;
};

/// Mean of the finite values with its standard error, and how many are -inf.
struct Summary {
    double sum = 0, square = 0;
    std::size_t finite = 0, outside = 0;
    void add(double x) {
        if (!std::isfinite(x))
            ++outside;
        else
            ++finite, sum += x, square += x * x;
    }
    double mean() const {
        return finite ? sum / static_cast<double>(finite) : std::numeric_limits<double>::quiet_NaN();
    }
    double error() const {
        const double n = static_cast<double>(finite);
        return std::sqrt(std::max(square / n - mean() * mean(), 0.0) / n);
    }
};

/// Rms difference of log q to twice the steps, at the first 256 points.
double step_error(const Context& context, const Model& model, std::size_t count, const double* x, int steps,
                  const std::vector<double>& values) {
    const std::size_t some = std::min<std::size_t>(count, 256);
    const std::vector<double> finer =
        log_density(context, model, some, x, 2 * (steps ? steps : default_steps(model, Method::ode)));
    double square = 0, used = 0;
    for (std::size_t n = 0; n < some; ++n)
        if (std::isfinite(values[n]) && std::isfinite(finer[n]))
            square += (values[n] - finer[n]) * (values[n] - finer[n]), used += 1;
    return used > 0 ? std::sqrt(square / used) : 0;
}

int run(const Options& o) {
    const Context context = make_context(o.common, Runs::on_cpu_or_device);
    Result result("density", o.common, context);
    result.stage("density");
    require_distinct(o.output, {o.model, o.points});
    require_writable(o.output);
    const Model model = read_model(o.model);
    const SampleFile points(o.points);
    check_points(points, model, o.model);
    NpyWriter writer(o.output, {points.rows()}, 8);
    Summary summary;
    double doubling = -1;
    for_each_point_batch(context, points, model, [&](std::size_t first, std::size_t count, const double* x) {
        const std::vector<double> values = log_density(context, model, count, x, o.steps);
        writer.write(first, count, values.data());
        for (double value : values) summary.add(value);
        if (doubling < 0 && model.levels.empty())
            doubling = step_error(context, model, count, x, o.steps, values);
    });
    writer.commit();
    const int steps = o.steps ? o.steps : model.default_steps;
    write_configuration(o.output,
                        {{"command", "density"}, {"model", o.model}, {"points", o.points}, {"steps", steps}});
    const double d = model.dimension();
    result["points"] = points.rows(), result["dimension"] = model.dimension(), result["steps"] = steps;
    result["log_density_mean"] = summary.mean(), result["log_density_error"] = summary.error();
    result["bits_per_dimension"] =
        -summary.mean() / d / std::log(2.0) +
        (model.view.levels ? std::log2(static_cast<double>(model.view.levels)) : 0.0);
    if (doubling >= 0) result["log_density_step_error"] = doubling;
    result["outside"] = summary.outside;
    result.print();
    if (summary.outside)
        warn(fmt::format("{} of {} points lie outside the model's box: their log density is -inf, and means "
                         "leave them out",
                         summary.outside, points.rows()));
    return 0;
}

const char* const footer =
    R"(Writes log q, f8 of shape (N), nats, of the modelled columns. Data that were dequantised: log density of
(x + u)/L; bits_per_dimension is then on the scale of the integers (an upper bound on their code length).

Example:
  dynkin density model.dynkin points.npy -o logq.npy --steps 64)";

} // namespace

Command density_command(CLI::App& parent) {
    CLI::App* command =
        parent.add_subcommand("density", "log-likelihood of points under a model, by its ODE");
    auto options = std::make_shared<Options>();
    Options& o = *options;
    command->add_option("model", o.model, "a model that fit wrote")->required()->type_name("FILE");
    command->add_option("points", o.points, "points, .npy")->required()->type_name("FILE");
    command->add_option("-o,--output", o.output, "the log densities, .npy")->required()->type_name("FILE");
    command->add_option("--steps", o.steps, "time steps, 0: the model's default")
        ->check(CLI::Range(0, 1 << 20))
        ->capture_default_str();
    add_common_flags(*command, o.common, false);
    command->footer(footer);
    return {command, [options] { return run(*options); }};
}

} // namespace dynkin::app

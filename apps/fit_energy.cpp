// fit_energy.cpp - `dynkin fit --from-energy`: progress, figures and files of a fit without samples.
#include "fit_energy.h"
#include "engine/energy_fit.h"
#include "engine/error.h"
#include "engine/model_file.h"
#include "run_state.h"
#include <cmath>
#include <cstdio>
#include <fmt/format.h>

namespace dynkin::app {
namespace {

using Json = nlohmann::ordered_json;

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json table(const std::vector<EnergyIteration>& iterations) {
    Json list = Json::array();
    for (const EnergyIteration& i : iterations)
        list.push_back({{"beta", i.beta},
                        {"alpha", number(i.alpha)},
                        {"ess_in", number(i.ess_in)},
                        {"ess_out", i.ess_out},
                        {"log_partition", number(i.log_partition)},
                        {"log_partition_error", number(i.log_partition_error)},
                        {"acceptance", i.acceptance},
                        {"level_pairs", i.pairs},
                        {"seconds", i.seconds}});
    return list;
}

Json table(const std::vector<AnnealingStep>& steps) {
    Json list = Json::array();
    for (const AnnealingStep& s : steps)
        list.push_back({{"beta", s.beta}, {"ess", s.ess}, {"acceptance", s.acceptance}});
    return list;
}

void say(std::size_t number, const EnergyIteration& i) {
    const std::string from = std::isfinite(i.alpha)
                                 ? fmt::format("alpha {:.3f}  ESS {:.3f} ->", i.alpha, i.ess_in)
                                 : std::string("annealed         ESS       ->");
    if (!i.failure.empty()) warn(i.failure);
    std::fprintf(stderr, "iteration %2zu  beta %.3g  %s %.3f  log Z %.4f +- %.4f  %.1f s\n", number, i.beta,
                 from.c_str(), i.ess_out, i.log_partition, i.log_partition_error, i.seconds);
}

int verdict(const EnergyFitReport& report, const std::string& output) {
    const std::string after = fmt::format("not converged after {} iterations: the ESS fraction is {:.3g}",
                                          report.iterations.size(), report.ess_fraction);
    if (!report.usable) {
        say_error(after + fmt::format(", never usable; {} is complete but no sample of the target", output));
        return static_cast<int>(ErrorKind::numerical);
    }
    if (!report.converged) warn(after + " and may still rise");
    return 0;
}

} // namespace

int run_energy_fit(const Common& common, const std::string& target_path, const std::string& output,
                   std::size_t rows, const FitOptions& fit, Json configuration) {
    require(!target_path.empty(), ErrorKind::usage, "--from-energy: expected --target");
    const Context context = make_context(common, Runs::on_cpu_or_device);
    Result result("fit", common, context);
    result.stage("fit");
    require_distinct(output, {target_path});
    require_writable(output);
    const Target target = read_target(target_path);
    EnergyFitOptions options;
    if (rows) options.rows = rows;
    options.fit = fit, options.seed = common.seed;
    configuration["from-energy"] = true, configuration["rows"] = options.rows;
    Json identity = configuration;
    identity["target"] = Json::parse(target.canonical_json);
    identity["device"] = device_of(context);
    options.checkpoint = checkpoint_of(output, identity, common, context);
    if (!common.quiet) options.on_iteration = say;
    EnergyFitReport report;
    const Model model = fit_from_energy(context, target, options, &report);
    result.stage("write");
    write_model(output, model);
    remove_energy_fit_state(options.checkpoint);
    configuration["resolved"] = Json::parse(model.configuration);
    write_configuration(output, configuration);
    result["rows"] = options.rows, result["dimension"] = target.dimension();
    result["ess_fraction"] = report.ess_fraction;
    result["log_partition"] = report.log_partition;
    result["log_partition_error"] = report.log_partition_error;
    result["converged"] = report.converged;
    result["best_iteration"] = report.best + 1;
    result["iterations"] = table(report.iterations);
    result["annealing"] = table(report.annealing);
    result.print();
    return verdict(report, output);
}

} // namespace dynkin::app

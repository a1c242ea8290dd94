// evaluate.cpp - `dynkin evaluate`: how close samples are to a reference, each figure next to its floor.
#include "command.h"
#include "engine/error.h"
#include "engine/metrics.h"
#include "engine/npy.h"
#include "engine/progress.h"
#include "engine/target.h"
#include "gnuplot.h"
#include "observe.h"
#include "report_pages.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <memory>
#include <optional>

namespace dynkin::app {
namespace {

struct Options {
    Common common;
    std::string samples, reference, target, weights, log_density, report;
    std::uint64_t max_rows = 1'000'000;
};

/// Rows k N / count for k < count: all when count = N, evenly spread otherwise. NaN and Inf pass on when
/// `any`.
Array<double> read_spread(const Context& context, const SampleFile& file, std::size_t count, bool any) {
    const std::size_t rows = file.rows(), d = file.cols(),
                      block = std::clamp<std::size_t>((1u << 20) / d, 1, rows);
    const double stride = static_cast<double>(rows) / static_cast<double>(count);
    const auto place = [&](std::size_t k) {
        return count == rows ? k
                             : std::min(rows - 1, static_cast<std::size_t>(static_cast<double>(k) * stride));
    };
    Array<double> result(count, d);
    std::vector<double> x(block * d);
    Progress progress(context, "read", rows);
    std::size_t k = 0;
    for (std::size_t first = 0; first < rows; first += block) {
        if (progress.interrupted()) progress.throw_interrupted();
        const std::size_t taken = std::min(block, rows - first);
        if (any)
            file.read_any(first, taken, x.data());
        else
            file.read(first, taken, x.data());
        for (; k < count && place(k) < first + taken; ++k)
            std::copy_n(x.data() + (place(k) - first) * d, d, result.row(k));
        progress.advance(taken);
    }
    return result;
}

struct Samples {
    Array<double> rows;
    std::vector<double> weight; ///< empty: equal
};

void check_weights(const std::vector<double>& weight, const std::string& path) {
    const auto bad =
        std::find_if(weight.begin(), weight.end(), [](double w) { return !(std::isfinite(w) && w >= 0); });
    if (bad != weight.end())
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected weights that are not negative, got {}", path, *bad));
    if (std::all_of(weight.begin(), weight.end(), [](double w) { return w == 0; }))
        throw Error(ErrorKind::input, fmt::format("{}: all weights are 0", path));
}

std::size_t rows_used(const SampleFile& file, std::uint64_t max_rows) {
    if (file.rows() <= max_rows) return file.rows();
    warn(fmt::format("{}: {} of {} rows are used, evenly spread (--max-rows)", file.path().string(), max_rows,
                     file.rows()));
    return max_rows;
}

Samples read_samples(const Context& context, const Options& options, const SampleFile& file) {
    Samples samples;
    const std::size_t count = rows_used(file, options.max_rows);
    const bool weighted = !options.weights.empty(); // runaways have weight 0, and compare() checks the others
    samples.rows = read_spread(context, file, count, weighted);
    if (weighted) {
        const SampleFile weights(options.weights);
        if (weights.cols() != 1 || weights.rows() != file.rows())
            throw Error(
                ErrorKind::input,
                fmt::format("{}: expected {} weights, one for each sample of {}, got {} rows of {} numbers",
                            options.weights, file.rows(), options.samples, weights.rows(), weights.cols()));
        const Array<double> values = read_spread(context, weights, count, true);
        samples.weight.assign(values.begin(), values.end());
        check_weights(samples.weight, options.weights);
    }
    return samples;
}

void check_dimension(const std::string& path, std::size_t got, std::size_t expected, const std::string& of) {
    if (got != expected)
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected dimension {}, that of {}, got {}", path, expected, of, got));
}

void check_rows(const std::string& path, std::size_t rows) {
    if (rows < 20)
        throw Error(ErrorKind::input, fmt::format("{}: expected at least 20 rows, got {}", path, rows));
}

void put_figures(Result& result, const FiguresWithFloor& measured, bool with_energy) {
    const auto put = [&](const std::string& name, double Figures::*figure) {
        result[name.c_str()] = measured.figures.*figure;
        result[(name + "_floor").c_str()] = measured.floor.*figure;
        if (!std::isfinite(measured.figures.*figure))
            warn(name + " is not finite: constant coordinates or energies, or energies that are not finite");
    };
    put("second_moment_error", &Figures::second_moment_error);
    put("marginal_tv", &Figures::marginal_tv);
    put("marginal_w1", &Figures::marginal_w1);
    put("sliced_w", &Figures::sliced_w);
    if (!with_energy) return;
    put("energy_mean_error", &Figures::energy_mean_error);
    put("energy_std_ratio", &Figures::energy_std_ratio);
}

std::optional<Target> target_of(const Options& options, std::size_t dimension) {
    if (options.target.empty()) return {};
    Target target = read_target(options.target);
    check_dimension(options.target, target.dimension(), dimension, options.reference);
    if (!target.has_energy() && options.log_density.empty())
        warn(options.target + ": this target has no energy; energies are not compared");
    return target;
}

/// E[log p - log q] over the reference, for a law whose density is known: what a model loses against the
/// exact entropy -E[log p].
void put_entropy_gap(Result& result, const Context& context, const Options& options, const Target& target,
                     const Array<double>& reference) {
    const SampleFile file(options.log_density);
    if (file.cols() != 1 || file.rows() != reference.rows())
        throw Error(
            ErrorKind::input,
            fmt::format("{}: expected {} numbers, one for each row of {} that is used, got {} rows of {}",
                        options.log_density, reference.rows(), options.reference, file.rows(), file.cols()));
    const std::size_t n = reference.rows();
    std::vector<double> log_p(n), log_q(n);
    file.read_any(0, n, log_q.data());
    exact_log_density(context, target, n, reference.data(), log_p.data());
    double count = 0, entropy = 0, sum = 0, square = 0;
    for (std::size_t k = 0; k < n; ++k) {
        if (!std::isfinite(log_p[k]) || !std::isfinite(log_q[k])) continue;
        const double gap = log_p[k] - log_q[k];
        count += 1, entropy -= log_p[k], sum += gap, square += gap * gap;
    }
    const double mean = sum / count;
    result["entropy"] = entropy / count;
    result["entropy_gap"] = mean;
    result["entropy_gap_error"] = std::sqrt(std::max(square / count - mean * mean, 0.0) / count);
    result["entropy_gap_left_out"] = n - static_cast<std::size_t>(count);
}

/// The shape of one sample: the target's, else that of a file that has several axes.
std::vector<std::size_t> shape_of(const std::optional<Target>& target, const SampleFile& samples,
                                  const SampleFile& reference) {
    if (target) return target->sample_shape();
    return samples.sample_shape().size() > 1 ? samples.sample_shape() : reference.sample_shape();
}

Facts facts_of(const Options& options) {
    Facts facts = {{"samples", options.samples}, {"reference", options.reference}};
    for (const auto& [name, file] : {std::pair{"target", options.target}, {"weights", options.weights}})
        if (!file.empty()) facts.emplace_back(name, file);
    facts.emplace_back("seed", std::to_string(options.common.seed));
    facts.emplace_back("dynkin", DYNKIN_VERSION);
    return facts;
}

int run(const Options& options) {
    const Context context = make_context(options.common, Runs::on_cpu_or_device);
    Result result("evaluate", options.common, context);
    std::optional<ReportFolder> folder;
    if (!options.report.empty()) require_gnuplot(), folder.emplace(options.report);
    result.stage("read");
    const SampleFile reference_file(options.reference), samples_file(options.samples);
    check_dimension(options.samples, samples_file.cols(), reference_file.cols(), options.reference);
    const std::optional<Target> target = target_of(options, reference_file.cols());
    const std::vector<Polynomial> polynomials =
        target ? read_observables(options.target, *target) : std::vector<Polynomial>{};
    check_rows(options.reference, reference_file.rows());
    check_rows(options.samples, samples_file.rows());
    const Samples samples = read_samples(context, options, samples_file);
    const Array<double> reference =
        read_spread(context, reference_file, rows_used(reference_file, options.max_rows), false);
    result.stage("figures");
    const FiguresWithFloor measured = compare(context, samples.rows, samples.weight, reference,
                                              target ? &*target : nullptr, options.common.seed);
    result["samples"] = samples.rows.rows();
    result["reference"] = reference.rows();
    result["floor_rows"] = reference.rows() / 2;
    result["dimension"] = reference.cols();
    put_figures(result, measured, target && target->has_energy());
    if (!options.log_density.empty()) put_entropy_gap(result, context, options, *target, reference);
    ObservableReport of_samples, of_reference;
    if (target) {
        result.stage("observables");
        of_samples = observe(context, samples.rows, samples.weight, target->lattice(), polynomials);
        of_reference = observe(context, reference, {}, target->lattice(), polynomials);
        const auto observables = observables_json(of_samples, of_reference);
        if (!observables.empty()) result["observables"] = observables;
    }
    if (folder) {
        const auto figures = result.json();
        result.stage("report");
        write_evaluation(context,
                         {samples.rows, samples.weight, reference, target ? &*target : nullptr,
                          shape_of(target, samples_file, reference_file), of_samples, of_reference, figures,
                          facts_of(options), options.common.seed},
                         *folder);
        folder->commit();
    }
    result.print();
    return 0;
}

const char* const footer = R"(Figures (0 for equal laws but for noise; energy_std_ratio: 1):
  second_moment_error  relative Frobenius error of E[x x']
  marginal_tv          total variation of the marginals, 60 bins, mean over sites
  marginal_w1          1-Wasserstein distance of the marginals in standard deviations of the reference, mean over sites
  sliced_w             sliced 2-Wasserstein distance, 100 directions, over the root mean square of the reference
  energy_mean_error    difference of the mean energies in standard deviations of the reference (with --target)
  energy_std_ratio     ratio of the standard deviations of the energy (with --target)
  entropy_gap          mean of log p - log q over the reference, nats (with --log-density; laws of known density)
Observables of lattices, and of the table [observables] of the target's file (docs/formats.md), stand beside those of
the reference; deviation is their difference in joint standard errors of independent rows.
The floor is the same figure between two random halves of the reference, so at half its size.

Example:
  dynkin evaluate new.npy --against train.npy --target target.toml --weights weights.npy
  dynkin evaluate new.npy --against train.npy --target target.toml --report report)";

} // namespace

Command evaluate_command(CLI::App& parent) {
    CLI::App* command =
        parent.add_subcommand("evaluate", "distances of samples from a reference, with their floors");
    auto options = std::make_shared<Options>();
    command->add_option("samples", options->samples, "samples, .npy of shape (N, d) or (N, *lattice)")
        ->required()
        ->type_name("FILE");
    command->add_option("--against", options->reference, "reference samples, .npy")
        ->required()
        ->type_name("FILE");
    auto* target =
        command->add_option("--target", options->target, "target, to compare energies")->type_name("TOML");
    command->add_option("--weights", options->weights, "weights of the samples, .npy of shape (N)")
        ->type_name("FILE");
    command
        ->add_option(
            "--log-density", options->log_density,
            "log q of the reference samples (dynkin density), .npy of shape (N): gap to the exact entropy")
        ->needs(target)
        ->type_name("FILE");
    command
        ->add_option("--max-rows", options->max_rows,
                     "most rows read of each file, evenly spread (memory: 8 d bytes a row)")
        ->check(CLI::Range(std::uint64_t{20}, std::uint64_t{1} << 40));
    command
        ->add_option("--report", options->report,
                     "a folder for report.html (one page with its pictures), PNG, figures.csv, summary.json; "
                     "by gnuplot")
        ->check(CLI::Validator(named, ""))
        ->type_name("DIR");
    add_common_flags(*command, options->common, false);
    command->footer(footer);
    return {command, [options] { return run(*options); }};
}

} // namespace dynkin::app

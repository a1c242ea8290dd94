// main.cpp - the same network trained around EDM's preconditioning, around a closed-form score (residual),
// and around EDM's after first being fitted to that score (distillation); held-out losses of several seeds.
#include "training.h"
#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace neural_prior {
namespace {

using dynkin::Error;
using dynkin::ErrorKind;
using std::size_t;

struct Options {
    DataOptions data;
    std::string output, scaling = "range";
    PriorOptions prior;
    TrainingOptions training;
    std::vector<std::string> methods = {"edm", "residual", "distillation"};
    size_t seeds = 3, distil_steps = 1000, judged_levels = 16;
    double judged_from = 0.05, judged_to = 5;
    bool quiet = false;
};

std::atomic<int> interrupt_signal{0};

void on_signal(int signal) {
    if (interrupt_signal != 0) _exit(128 + signal); // asked twice
    interrupt_signal = signal;
}

/// A bar on a terminal, a line every ten seconds otherwise.
class ProgressPrinter {
  public:
    void operator()(const dynkin::ProgressEvent& event) {
        const auto now = std::chrono::steady_clock::now();
        const bool terminal = isatty(2), end = event.done == event.total;
        if (!terminal && !end && now - last_ < std::chrono::seconds(10)) return;
        last_ = now;
        std::fputs(fmt::format("{}{} {}/{}{}", terminal ? "\r\x1b[K" : "", event.stage, event.done,
                               event.total, terminal && !end ? "" : "\n")
                       .c_str(),
                   stderr);
    }

  private:
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

struct Run {
    std::uint64_t seed;
    std::string method;
    std::vector<Point> curve;
};

/// 0, 1, 2, 3, 5 and 7 times the powers of ten from ten, and the last step.
std::vector<size_t> judged_steps(size_t steps) {
    std::vector<size_t> out{0};
    for (size_t power = 10; power <= steps; power *= 10)
        for (const size_t digit : {1, 2, 3, 5, 7})
            if (digit * power < steps) out.push_back(digit * power);
    if (steps > 0) out.push_back(steps);
    return out;
}

std::vector<Run> train_all(const dynkin::Context& context, const Options& options) {
    std::vector<Run> runs;
    for (size_t k = 0; k < options.seeds; ++k) {
        TrainingOptions training = options.training;
        training.seed += k;
        const Data data = load(context, options.data, training.seed);
        const HeldOut held_out = noisy(data.held_out, options.judged_levels, options.judged_from,
                                       options.judged_to, training.seed + 1'000'000);
        const Base closed_form = prior(context, data.train, options.prior);
        for (const std::string& method : options.methods) {
            const Preconditioning preconditioning =
                method == "residual" ? around(closed_form, data.train, training.lowest_sigma(),
                                              training.highest_sigma(), training.seed + 2'000'000)
                                     : edm(data.train);
            const Teacher teacher{closed_form, method == "distillation" ? options.distil_steps : 0};
            const std::string name = fmt::format("{}, seed {}", method, training.seed);
            runs.push_back({training.seed, method,
                            train(context, name.c_str(), data.train, held_out, preconditioning, teacher,
                                  training, judged_steps(training.steps))});
        }
    }
    return runs;
}

std::string csv(const std::vector<Run>& runs, const std::vector<double>& sigma) {
    std::string out = "seed,method,step,loss";
    for (const double s : sigma) out += fmt::format(",loss_sigma_{:.4g}", s);
    out += '\n';
    for (const Run& run : runs)
        for (const Point& point : run.curve) {
            out += fmt::format("{},{},{},{:.6f}", run.seed, run.method, point.step, point.mean());
            for (const double loss : point.loss) out += fmt::format(",{:.6f}", loss);
            out += '\n';
        }
    return out;
}

/// Mean over the seeds and their standard deviation.
std::string summary(const std::vector<Run>& runs, const Options& options) {
    const size_t last = options.training.steps;
    std::vector<size_t> steps;
    for (const size_t step : {size_t{0}, size_t{300}, size_t{1000}, size_t{3000}, last})
        if (step <= last && (steps.empty() || step > steps.back())) steps.push_back(step);
    std::string out = fmt::format("{:<14}", "step");
    for (const size_t step : steps) out += fmt::format("{:>17}", step);
    out += '\n';
    for (const std::string& method : options.methods) {
        out += fmt::format("{:<14}", method);
        for (const size_t step : steps) {
            double sum = 0, square = 0, count = 0;
            for (const Run& run : runs)
                for (const Point& point : run.curve)
                    if (run.method == method && point.step == step)
                        sum += point.mean(), square += point.mean() * point.mean(), count += 1;
            const double mean = sum / count, spread = std::sqrt(std::max(0.0, square / count - mean * mean));
            out +=
                fmt::format("{:>8.4f} +- {:.4f}", mean, spread * std::sqrt(count / std::max(1.0, count - 1)));
        }
        out += '\n';
    }
    return out;
}

nlohmann::ordered_json configuration(const Options& o) {
    const TrainingOptions& t = o.training;
    return {{"command", "neural_prior"},
            {"data", o.data.source.string()},
            {"rows", o.data.rows},
            {"held-out", o.data.held_out},
            {"scaling", o.scaling},
            {"prior", o.prior.kind},
            {"degree", o.prior.degree},
            {"methods", o.methods},
            {"seed", t.seed},
            {"seeds", o.seeds},
            {"width", t.width},
            {"layers", t.layers},
            {"steps", t.steps},
            {"distil-steps", o.distil_steps},
            {"batch", t.batch},
            {"batch-levels", t.levels},
            {"rate", t.rate},
            {"weight-decay", t.weight_decay},
            {"average", t.average},
            {"sigma-mean", t.sigma_mean},
            {"sigma-sd", t.sigma_sd},
            {"judge-from", o.judged_from},
            {"judge-to", o.judged_to},
            {"judge-levels", o.judged_levels}};
}

void add_options(CLI::App& app, Options& o) {
    TrainingOptions& t = o.training;
    app.option_defaults()->always_capture_default();
    const auto whole = [&](const char* flag, size_t& value, const char* text, size_t low, size_t high) {
        app.add_option(flag, value, text)->check(CLI::Range(low, high));
    };
    const auto real = [&](const char* flag, double& value, const char* text, double low, double high) {
        app.add_option(flag, value, text)->check(CLI::Range(low, high));
    };
    app.add_option("data", o.data.source, "samples, .npy, or a law that can be drawn directly, .toml")
        ->required();
    app.add_option("-o,--output", o.output, "held-out losses, .csv")->required();
    whole("--rows", o.data.rows, "rows to draw of a law", 20, 100'000'000);
    whole("--held-out", o.data.held_out, "rows to judge by (0: a fifth, at most 4000)", 0, 100'000'000);
    app.add_option("--scaling", o.scaling,
                   "range: all numbers to [-1, 1]; columns: each to mean 0, deviation 1")
        ->check(CLI::IsMember({"range", "columns"}));
    app.add_option("--prior", o.prior.kind,
                   "product, gaussian, flat; ve: model of the variance exploding process")
        ->check(CLI::IsMember({"product", "gaussian", "flat", "ve"}));
    app.add_option("--degree", o.prior.degree, "of the prior (0: its default)")->check(CLI::Range(0, 24));
    app.add_option("--methods", o.methods, "edm, residual, distillation")
        ->delimiter(',')
        ->check(CLI::IsMember({"edm", "residual", "distillation"}));
    app.add_option("--seed", t.seed, "first seed")
        ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 62));
    whole("--seeds", o.seeds, "how many seeds, each with its own split, noise and network", 1, 1000);
    whole("--width", t.width, "of the hidden layers", 1, 65536);
    whole("--layers", t.layers, "hidden layers", 1, 100);
    whole("--steps", t.steps, "training steps", 0, 1'000'000'000);
    whole("--distil-steps", o.distil_steps, "of these, steps that distillation fits to the prior", 0,
          1'000'000'000);
    whole("--batch", t.batch, "rows in a step", 1, 1'000'000);
    whole("--batch-levels", t.levels, "noise levels in a step, strata of their law", 1, 1'000'000);
    real("--rate", t.rate, "step size of AdamW", 0, 10);
    real("--weight-decay", t.weight_decay, "of AdamW", 0, 10);
    real("--average", t.average, "decay of the averaged weights", 0, 0.999999);
    real("--sigma-mean", t.sigma_mean, "mean of log sigma", -10, 10);
    real("--sigma-sd", t.sigma_sd, "its standard deviation", 0.01, 3);
    real("--judge-from", o.judged_from, "lowest noise level judged", 1e-6, 1e6);
    real("--judge-to", o.judged_to, "highest", 1e-6, 1e6);
    whole("--judge-levels", o.judged_levels, "how many, uniform in log sigma", 1, 10'000);
    app.add_option("--threads", t.threads, "threads")->check(CLI::Range(1, 1024));
    app.add_flag("--quiet", o.quiet, "no progress on stderr");
}

void check(const Options& o) {
    const auto finite = {
        o.training.rate,     o.training.weight_decay, o.training.average, o.training.sigma_mean,
        o.training.sigma_sd, o.judged_from,           o.judged_to};
    for (const double number : finite)
        dynkin::require(std::isfinite(number), ErrorKind::usage, "options: expected finite numbers, got NaN");
    dynkin::require(
        o.judged_from <= o.judged_to, ErrorKind::usage,
        fmt::format("--judge-from: expected at most --judge-to, {}, got {}", o.judged_to, o.judged_from));
    dynkin::require(o.training.levels <= o.training.batch, ErrorKind::usage,
                    fmt::format("--batch-levels: expected at most --batch, {}, got {}", o.training.batch,
                                o.training.levels));
    dynkin::require(o.prior.kind != "ve" || o.scaling == "columns", ErrorKind::usage,
                    "--prior ve: its noise is that of columns of deviation one; add --scaling columns");
    dynkin::require_writable(o.output);
}

int run(Options options) {
    options.data.columns = options.scaling == "columns";
    check(options);
    dynkin::ContextOptions where;
    where.device = dynkin::Device::cpu, where.threads = options.training.threads;
    if (!options.quiet) where.progress = ProgressPrinter();
    where.interrupt_signal = &interrupt_signal;
    std::signal(SIGINT, on_signal);
    std::signal(SIGTERM, on_signal);
    std::signal(SIGPIPE, SIG_IGN); // writes fail instead, and say why
    const std::vector<Run> runs = train_all(dynkin::Context(where), options);
    const HeldOut levels =
        noisy(dynkin::Array<float>(1, 1), options.judged_levels, options.judged_from, options.judged_to, 0);
    dynkin::write_file(options.output, csv(runs, levels.sigma));
    dynkin::write_file(options.output + ".json", configuration(options).dump(2) + "\n");
    const std::string text = summary(runs, options);
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
        throw Error(ErrorKind::io, "stdout: cannot write the summary");
    return 0;
}

/// OpenBLAS, which torch multiplies with, chooses its kernels when it is loaded and takes the slowest on
/// processors younger than itself: the program starts itself again with those of the SIMD level.
void choose_blas_kernels(char** argv) {
    const dynkin::Isa isa = dynkin::best_isa();
    if (std::getenv("OPENBLAS_CORETYPE") || isa == dynkin::Isa::baseline) return;
    setenv("OPENBLAS_CORETYPE", isa == dynkin::Isa::avx512 ? "SkylakeX" : "Haswell", 1);
    execv("/proc/self/exe", argv);
}

int fail(int code, const std::string& message) {
    std::fputs(("error: " + message.substr(0, message.find('\n')) + "\n").c_str(), stderr);
    return code;
}

} // namespace
} // namespace neural_prior

int main(int argc, char** argv) {
    using namespace neural_prior;
    choose_blas_kernels(argv);
    CLI::App app{
        "A network trained around EDM's preconditioning, a closed-form score, and after distillation.",
        "neural_prior"};
    Options options;
    add_options(app, options);
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        std::fputs(app.help().c_str(), stdout);
        return 0;
    } catch (const CLI::ParseError& error) {
        return fail(2, std::string(error.what()) + "; see 'neural_prior --help'");
    }
    try {
        return run(options);
    } catch (const dynkin::Interrupted& interrupted) {
        return fail(128 + interrupted.signal(),
                    interrupted.signal() == SIGINT ? "interrupted by SIGINT" : "interrupted by SIGTERM");
    } catch (const Error& error) {
        return fail(static_cast<int>(error.kind()), error.what());
    } catch (const std::bad_alloc&) {
        return fail(5, "out of memory");
    } catch (const std::exception& error) {
        return fail(1, error.what());
    }
}

// bench.cpp - `dynkin bench`: rates of the stages beside the peaks of the same run, and how cost grows.
#include "bench/bench.h"
#include "command.h"
#include "engine/error.h"
#include "engine/file.h"
#include <algorithm>
#include <cmath>
#include <ctime>
#include <fmt/format.h>
#include <fstream>
#include <memory>

namespace dynkin::app {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
    Common common;
    bench::Options sizes;
    std::string output, scaling, clock = "wall";
    std::vector<std::string> recorded;
};

bool by_processor(const Options& o, const Context& context) {
    return o.clock == "processor" && context.device() == Device::cpu;
}

/// The clock that rates are taken from.
double seconds_of(const bench::Seconds& seconds, bool processor) {
    return processor ? seconds.processor.median : seconds.wall.median;
}

Json spread_json(const bench::Spread& spread) {
    return {{"median", spread.median},
            {"least", spread.least},
            {"lower_quartile", spread.lower},
            {"upper_quartile", spread.upper}};
}

/// Flops and bytes a second, as absolute rates and as percentages of the peaks.
class Rates {
  public:
    Rates(const bench::Peaks& peaks, bool processor)
        : gemm64_(peaks.gemm64_flops / seconds_of(peaks.gemm64, processor)),
          gemm32_(peaks.gemm32_flops / seconds_of(peaks.gemm32, processor)),
          bandwidth_(peaks.bandwidth_bytes / seconds_of(peaks.bandwidth, processor)), peaks_(peaks),
          processor_(processor) {}

    bool processor() const { return processor_; }

    Json peaks_json() const {
        Json json{{"gemm_float64_gflops", 1e-9 * gemm64_},
                  {"gemm_float32_gflops", 1e-9 * gemm32_},
                  {"bandwidth_gbytes", 1e-9 * bandwidth_}};
        if (peaks_.to_device_bytes > 0)
            json["to_device_gbytes"] = 1e-9 * peaks_.to_device_bytes / peaks_.to_device.wall.median;
        Json seconds{{"gemm_float64", spread_json(peaks_.gemm64.wall)},
                     {"gemm_float32", spread_json(peaks_.gemm32.wall)},
                     {"bandwidth", spread_json(peaks_.bandwidth.wall)}};
        if (peaks_.to_device_bytes > 0) seconds["to_device"] = spread_json(peaks_.to_device.wall);
        json["seconds"] = seconds;
        return json;
    }

    /// Adds what is counted of `units` units done in so many seconds; `gemm`: a rate of that time, or 0.
    void add(Json& json, const bench::Work& work, double units, double seconds, bool single,
             double gemm = 0) const {
        if (!(seconds > 0)) return; // below the clock's resolution
        if (work.flops > 0) {
            const double rate = work.flops * units / seconds;
            json["flops_per_unit"] = work.flops, json["gflops"] = 1e-9 * rate;
            if (gemm > 0) json["gemm_gflops"] = 1e-9 * gemm;
            json["percent_of_gemm"] = 100 * rate / (gemm > 0 ? gemm : single ? gemm32_ : gemm64_);
        }
        if (work.bytes > 0) {
            const double rate = work.bytes * units / seconds;
            json["bytes_per_unit"] = work.bytes, json["gbytes"] = 1e-9 * rate;
            json["percent_of_bandwidth"] = 100 * rate / bandwidth_;
        }
    }

  private:
    double gemm64_, gemm32_, bandwidth_;
    const bench::Peaks& peaks_;
    bool processor_;
};

Json figure_json(const bench::Figure& figure, const Rates& rates) {
    const double seconds = seconds_of(figure.seconds, rates.processor());
    Json json{{"stage", figure.stage}};
    if (!figure.variant.empty()) json["variant"] = figure.variant;
    json["precision"] = figure.single_precision ? "float32" : "float64";
    json["unit"] = figure.unit, json["units"] = figure.units;
    json["units_per_second"] = figure.units / seconds;
    const double gemm_seconds = seconds_of(figure.gemm, rates.processor());
    rates.add(json, figure.work, figure.units, seconds, figure.single_precision,
              gemm_seconds > 0 ? figure.gemm_flops / gemm_seconds : 0);
    json["seconds"] = spread_json(figure.seconds.wall);
    if (figure.seconds.processor.median > 0)
        json["processor_seconds"] = spread_json(figure.seconds.processor);
    if (figure.parts.empty()) return json;
    double all = 0;
    Json parts = Json::array();
    for (const bench::Part& part : figure.parts) {
        Json& out = parts.emplace_back(Json{{"part", part.name}});
        rates.add(out, part.work, figure.units, part.seconds.median, figure.single_precision);
        out["seconds"] = spread_json(part.seconds);
        all += part.seconds.median;
    }
    json["device_seconds"] = all, json["parts"] = parts;
    return json;
}

/// One line: name, precision, units a second, quartiles, and the percentages that were counted.
std::string line_of(const std::string& name, const std::string& precision, double rate,
                    const std::string& unit, const Json& json, const char* clock = "seconds") {
    const Json& s = json.at(clock);
    const double median = s.at("median");
    const auto percent = [&](const char* key) {
        return json.contains(key) ? fmt::format("{:7.1f}", json.at(key).get<double>()) : "      -";
    };
    const auto number = [&](const char* key) {
        return json.contains(key) ? fmt::format("{:9.1f}", json.at(key).get<double>()) : "        -";
    };
    return fmt::format(
        "{:<24} {:<8} {:>10.3e} {:<20} {:>10.4g} {:>5.1f} {} {} {} {}\n", name, precision, rate, unit + "s/s",
        1e3 * median,
        median > 0
            ? 50 * (s.at("upper_quartile").get<double>() - s.at("lower_quartile").get<double>()) / median
            : 0.0,
        number("gflops"), percent("percent_of_gemm"), number("gbytes"), percent("percent_of_bandwidth"));
}

const std::string heading =
    fmt::format("{:<24} {:<8} {:>10} {:<20} {:>10} {:>5} {:>9} {:>7} {:>9} {:>7}\n", "stage", "", "rate", "",
                "ms a run", "+- %", "Gflop/s", "% GEMM", "GB/s", "% bandw");

std::string figure_text(const Json& json, bool processor) {
    const std::string precision = json.at("precision"), unit = json.at("unit");
    const double units = json.at("units");
    std::string name = json.at("stage");
    if (json.contains("variant")) name += ", " + json.at("variant").get<std::string>();
    std::string text = line_of(name, precision, json.at("units_per_second"), unit, json,
                               processor ? "processor_seconds" : "seconds");
    if (json.contains("parts"))
        for (const Json& part : json.at("parts")) {
            const double seconds = part.at("seconds").at("median");
            text += line_of("  " + part.at("part").get<std::string>(), "", seconds > 0 ? units / seconds : 0,
                            unit, part);
        }
    return text;
}

std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    return "unknown";
}

Json machine_json(const Context& context) {
    char date[32];
    const std::time_t now = std::time(nullptr);
    std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
    Json json{{"date", date}, {"processor", processor_name()}};
    if (context.device() == Device::cpu) return json;
    const bench::DeviceFacts facts = bench::device_facts(context);
    json["compute_capability"] = fmt::format("{}.{}", facts.major, facts.minor);
    json["multiprocessors"] = facts.multiprocessors, json["memory_bytes"] = facts.memory;
    json["l2_cache_bytes"] = facts.l2_cache, json["clock_mhz"] = facts.clock / 1000;
    json["memory_clock_mhz"] = facts.memory_clock / 1000;
    json["driver_cuda"] = fmt::format("{}.{}", facts.driver / 1000, facts.driver % 1000 / 10);
    json["toolkit"] = fmt::format("{}.{}", facts.runtime / 1000, facts.runtime % 1000 / 10);
    return json;
}

/// KEY=VALUE of --record, for what the program cannot know: commit, driver, clocks.
Json recorded_json(const std::vector<std::string>& recorded) {
    Json json = Json::object();
    for (const std::string& entry : recorded) {
        const auto equals = entry.find('=');
        if (equals == std::string::npos || equals == 0)
            throw Error(ErrorKind::usage, fmt::format("--record: expected KEY=VALUE, got '{}'", entry));
        json[entry.substr(0, equals)] = entry.substr(equals + 1);
    }
    return json;
}

Json sizes_json(const bench::Options& sizes) {
    return {{"dimension", sizes.dimension}, {"degree", sizes.degree}, {"samples", sizes.samples},
            {"chains", sizes.chains},       {"nodes", sizes.nodes},   {"repeats", sizes.repeats}};
}

void run_stages(const Options& o, const Context& context, const bench::Options& sizes, Result& result) {
    result.stage("peaks");
    const bench::Peaks peaks = bench::measure_peaks(context, sizes);
    const Rates rates(peaks, by_processor(o, context));
    result["clock"] = rates.processor() ? "processor" : context.device() == Device::cpu ? "wall" : "events";
    result["peaks"] = rates.peaks_json();
    Json stages = Json::array();
    if (!o.common.json) {
        const Json& p = result["peaks"];
        write_stdout(
            fmt::format("{}: GEMM float64 {:.1f}, float32 {:.1f} Gflop/s, bandwidth {:.1f} GB/s{}\n{}",
                        context.device_name(), p["gemm_float64_gflops"].get<double>(),
                        p["gemm_float32_gflops"].get<double>(), p["bandwidth_gbytes"].get<double>(),
                        bench::emulated(context) ? " (emulated: no figure means anything)" : "", heading));
    }
    result.stage("stages");
    bench::measure_stages(context, sizes, [&](const bench::Figure& figure) {
        stages.push_back(figure_json(figure, rates));
        if (!o.common.json) write_stdout(figure_text(stages.back(), rates.processor()));
    });
    result["stages"] = stages;
}

void run_scaling(const Options& o, const Context& context, const bench::Options& sizes,
                 const ContextOptions& where, Result& result) {
    result.stage("scaling");
    const bool processor = by_processor(o, context);
    result["clock"] = processor ? "processor" : context.device() == Device::cpu ? "wall" : "events";
    std::string table =
        "axis,value,stage,precision,device,threads,dimension,degree,samples,chains,unit,units,"
        "seconds,least,lower_quartile,upper_quartile\n";
    std::size_t points = 0;
    bench::measure_scaling(where, sizes, [&](const bench::ScalingPoint& p) {
        const bench::Figure& f = p.figure;
        const bench::Spread& s = processor ? f.seconds.processor : f.seconds.wall;
        const std::string line =
            fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{:.6g},{:.6g},{:.6g},{:.6g}\n", p.axis, p.value,
                        f.stage, f.single_precision ? "float32" : "float64", context.device_name(), p.threads,
                        p.options.dimension, p.options.degree, p.options.samples, p.options.chains, f.unit,
                        f.units, s.median, s.least, s.lower, s.upper);
        if (!o.common.json)
            write_stdout(fmt::format("{:<10} {:>8} {:<12} {:<8} {:>10.4g} ms\n", p.axis, p.value, f.stage,
                                     f.single_precision ? "float32" : "float64", 1e3 * s.median));
        table += line, ++points;
    });
    write_file(o.scaling, table);
    result["points"] = points;
}

int run(const Options& o) {
    Common silent = o.common; // the pipeline's progress would be measured too
    silent.quiet = true;
    const Context context = make_context(silent, Runs::on_cpu_or_device);
    if (!o.common.quiet && !context.device_notice().empty())
        notice("running on the CPU: " + context.device_notice());
    const Json recorded = recorded_json(o.recorded);
    require(o.scaling.empty() || o.output.empty(), ErrorKind::usage,
            "--scaling: writes its own table, --output is of the stages");
    for (const std::string& file : {o.output, o.scaling})
        if (!file.empty()) require_writable(file);
    bench::Options sizes = o.sizes;
    sizes.seed = o.common.seed;
    sizes = bench::resolved(context, sizes);
    Result result("bench", o.common, context);
    result["emulated"] = bench::emulated(context);
    result["machine"] = machine_json(context);
    if (!recorded.empty()) result["recorded"] = recorded;
    result["sizes"] = sizes_json(sizes);
    if (o.scaling.empty())
        run_stages(o, context, sizes, result);
    else
        run_scaling(o, context, sizes, context_options(silent, Runs::on_cpu_or_device), result);
    if (!o.output.empty())
        write_file(o.output, result.json().dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    if (o.common.json) result.print();
    return 0;
}

const char* const footer =
    R"(Times are medians of the repeats, after one that is not counted; +- is half of the distance between the quartiles.
Flops and bytes are counted from the algorithm (docs/performance.md). Percentages are of GEMM (float32 without TF32) of
the same precision, on the CPU run in turn with the stage, and of the bandwidth of STREAM's triad (CPU) or of a copy
within the device's memory, measured in the same run. Bytes that caches serve can exceed 100 %.

CPU: a steady clock; on a machine that others use, --clock processor counts the time of this process alone.
Device: CUDA events around each run, with the L2 cache flushed before it; indented lines are its launches by kind, timed
in runs of their own, and the rest of the run's time is the host's and the bus's.

Examples:
  dynkin bench
  dynkin bench --stage moments --stage ode --dimension 256 --output rates.json
  dynkin bench --scaling scaling.csv --clock processor)";

} // namespace

Command bench_command(CLI::App& parent) {
    CLI::App* command = parent.add_subcommand("bench", "rates of the stages beside the machine's peaks");
    auto options = std::make_shared<Options>();
    Options& o = *options;
    bench::Options& sizes = o.sizes;
    command->add_option("--stage", sizes.stages, "what to measure; all unless given, can be repeated")
        ->check(CLI::IsMember(bench::stage_names()));
    command->add_option("--dimension", sizes.dimension,
                        "sites of the chain (0: chosen for the device, as below)");
    command->add_option("--degree", sizes.degree, "of the 1-clusters");
    command->add_option("--samples", sizes.samples, "rows and particles of a run");
    command->add_option("--chains", sizes.chains, "of Hamiltonian Monte Carlo");
    command->add_option("--nodes", sizes.nodes, "systems of a run");
    command->add_option("--repeats", sizes.repeats, "timed runs of each stage");
    command->add_option("--clock", o.clock, "of rates on the CPU: wall, or processor time over the threads")
        ->check(CLI::IsMember({"wall", "processor"}))
        ->capture_default_str();
    command->add_option("-o,--output", o.output, "what --json prints, in a file")->type_name("FILE");
    command
        ->add_option("--scaling", o.scaling,
                     "instead: times over samples, dimension, degree and threads up to these, as CSV")
        ->type_name("FILE");
    command->add_option("--record", o.recorded, "KEY=VALUE to stand in the JSON, can be repeated")
        ->type_name("TEXT");
    add_common_flags(*command, o.common, false);
    command->footer(footer);
    return {command, [options] { return run(*options); }};
}

} // namespace dynkin::app

// command.h - what all subcommands share: common flags, settings files, the JSON result, the resolved
// configuration, progress bar and messages.
#pragma once
#include "engine/context.h"
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#ifndef DYNKIN_VERSION
#define DYNKIN_VERSION "0.1.0"
#endif

namespace dynkin::app {

/// The common flags: --seed --threads --device --device-memory --isa --quiet --json --config (and --resume
/// where long work is done).
struct Common {
    std::uint64_t seed = 0, device_memory = 0;
    int threads = 0;
    std::string device = "auto", isa = "auto";
    bool quiet = false, json = false, resume = false;
};

/// Registers the common flags. `--config FILE` applies the settings of that file while the command line is
/// parsed, before CLI11 looks for required options: a key of the file counts as given, and flags on the
/// command line win. `common` and `command` must outlive the parse.
void add_common_flags(CLI::App& command, Common& common, bool resumable);

/// The option's type: "UINT", "INT", "FLOAT", "TEXT" or what the command named it, without its validators.
/// Options of the first three are checked strictly (main), so a command must not rename these types.
std::string type_of(const CLI::Option& option);

/// Where the work of a command can run so far.
enum class Runs { on_cpu, on_cpu_or_device };

/// The context of this run. A command that runs on the CPU only takes --device auto as cpu and refuses cuda;
/// for others one line of notice on stderr when auto looks for a device in vain, nothing with --quiet.
/// Progress bar on stderr when it is a terminal, a line every ten seconds otherwise, nothing with --quiet;
/// SIGINT and SIGTERM set its interrupt signal. A second SIGINT ends the process at once (code 130).
Context make_context(const Common& common, Runs runs = Runs::on_cpu);
/// What it makes the context from, for commands that need several.
ContextOptions context_options(const Common& common, Runs runs);

/// Collects the figures of a run; prints them as aligned text (`name  value`; the device too when it is not
/// the CPU) or, with --json, as one JSON object with command, version, seed, device, threads, isa, the
/// figures, and seconds per stage. NaN and Inf are null in JSON.
class Result {
  public:
    Result(const char* command, const Common& common, const Context& context);
    /// A figure: number, text, list or object. In text, objects become `name.key`, and a figure `x` with a
    /// figure `x_floor` beside it becomes one line of a table with the columns figure, value, floor.
    nlohmann::ordered_json& operator[](const char* key) { return json_[key]; }
    void stage(const char* name);  ///< starts timing a stage; ends the one before
    nlohmann::ordered_json json(); ///< of what --json prints; ends the stage
    /// To stdout, once, last. Throws Error(io) when stdout is closed or full.
    void print();

  private:
    void end_stage();
    nlohmann::ordered_json json_ = nlohmann::ordered_json::object(),
                           seconds_ = nlohmann::ordered_json::object();
    bool as_json_;
    std::string stage_;
    std::chrono::steady_clock::time_point started_;
};

/// One line on stderr, "notice: ...", "warning: ..." or "error: ...", clear of the progress bar. Warnings and
/// errors are shown with --quiet too.
void notice(const std::string& message);
void warn(const std::string& message);
void say_error(const std::string& message);

/// What CLI11 says, with its ranges up to 1.8e308 left out.
std::string parse_error_text(const CLI::Error& error);

/// Writes `text` to stdout and flushes it; throws Error(io) when stdout is closed or full.
void write_stdout(const std::string& text);

/// Writes `<output>.json`: the resolved configuration of the run that made `output` (every option with its
/// value, version, inputs by path). No time, no host, no threads: the same run writes the same bytes.
/// `version` is added when it is absent.
void write_configuration(const std::filesystem::path& output, const nlohmann::ordered_json& configuration);

/// Throws Error(usage) when `output` is one of the files it is made from.
void require_distinct(const std::filesystem::path& output, const std::vector<std::filesystem::path>& inputs);

/// Settings from the TOML file given by --config (and from [<command>] of a target file): keys are the long
/// flags without dashes. Options that have a value already (command line, an earlier file) keep it. Values
/// must have the option's type: flags true or false, integers, numbers, text (a number is accepted for text,
/// since options such as `ridge` take both), lists for options that take several values. Throws Error(input)
/// naming file, line and key for an unknown key, a wrong type, a value the option refuses, or a table that is
/// no command's.
void apply_settings(CLI::App& command, const std::filesystem::path& toml);

// Each subcommand registers itself; its callback returns through an exit code.
struct Command {
    CLI::App* app;
    std::function<int()> run;
};
Command draw_command(CLI::App& parent);
Command fit_command(CLI::App& parent);
Command sample_command(CLI::App& parent);
Command weigh_command(CLI::App& parent);
Command evaluate_command(CLI::App& parent);
Command score_command(CLI::App& parent);
Command density_command(CLI::App& parent);
Command info_command(CLI::App& parent);
Command bench_command(CLI::App& parent);
Command man_command(CLI::App& parent);
Command completion_command(CLI::App& parent);

} // namespace dynkin::app

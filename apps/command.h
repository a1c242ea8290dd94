// command.h - what all subcommands share: common flags, the JSON result, the resolved configuration, progress bar.
#pragma once
#include "engine/context.h"
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace dynkin::app {

/// The common flags: --seed --threads --device --isa --quiet --json (and --resume where long work is done).
struct Common {
    std::uint64_t seed = 0;
    int threads = 0;
    std::string device = "auto", isa = "auto";
    bool quiet = false, json = false, resume = false;
};
void add_common_flags(CLI::App& command, Common& common, bool resumable);

/// The context of this run: progress bar on stderr when it is a terminal, a line every ten seconds otherwise, nothing
/// with --quiet; SIGINT and SIGTERM set its interrupt signal.
Context make_context(const Common& common);

/// Collects the figures of a run; prints them as aligned text (`name  value`) or, with --json, as one JSON object.
class Result {
  public:
    Result(const char* command, const Common& common, const Context& context);
    nlohmann::ordered_json& operator[](const char* key) { return json_[key]; }
    void stage(const char* name); ///< starts timing a stage; ends the one before
    void print();                 ///< to stdout, once, last
  private:
    nlohmann::ordered_json json_;
    bool as_json_;
    std::string stage_;
    std::chrono::steady_clock::time_point started_;
};

/// A warning on stderr: "warning: ...". Shown with --quiet too.
void warn(const std::string& message);

/// Writes `<output>.json`: the resolved configuration of the run that made `output` (every option with its value,
/// version, inputs by path). No time, no host: the same run writes the same bytes.
void write_configuration(const std::filesystem::path& output, const nlohmann::ordered_json& configuration);

/// Settings from the TOML file given by --config (and from [<command>] of a target file): keys are the long flags without
/// dashes; an unknown key is an input error naming file and line; flags on the command line win.
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

} // namespace dynkin::app

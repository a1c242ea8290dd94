// program.cpp - the command line: every subcommand with its options, and numbers read strictly.
#include "program.h"
#include <charconv>
#include <cmath>
#include <cstdint>
#include <fmt/format.h>
#include <system_error>
#include <type_traits>

namespace dynkin::app {
namespace {

const char* const description = "Training-free diffusion sampler for Boltzmann targets p(x) ~ exp(-U(x)).";

const char* const footer = R"(Examples:
  dynkin draw target.toml -n 30000 -o train.npy
  dynkin fit train.npy --target target.toml -o model.dynkin
  dynkin sample model.dynkin -n 100000 --method ode -o new.npy --log-density logq.npy
  dynkin weigh new.npy --log-density logq.npy --target target.toml -o weights.npy
  dynkin evaluate new.npy --against train.npy --target target.toml --weights weights.npy
  dynkin info model.dynkin

'dynkin COMMAND --help' tells more. Every flag can stand in a TOML file given by --config, in the table [COMMAND];
flags on the command line win.

Exit codes:
  0 success           2 wrong usage          3 the content of a file is wrong
  4 numerical failure 5 a file or stdout cannot be opened, read or written, the device fails, or out of memory
  1 internal error    130 SIGINT             143 SIGTERM)";

template <class T> bool parses(const std::string& text, T& value) {
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    return error == std::errc() && stop == end;
}

/// Rewrites an integer in plain decimals (CLI11 would read 010 as eight); returns what is wrong with it, or
/// "".
template <class T> std::string plain_integer(std::string& text) {
    T value = 0;
    double real = 0;
    if (!parses(text, value)) {
        const bool whole = parses(text, real) && real == std::floor(real) && std::abs(real) <= 0x1p53;
        if (!whole || (real < 0 && std::is_unsigned_v<T>))
            return fmt::format("expected {}, got '{}'",
                               std::is_unsigned_v<T> ? "an integer from 0 to 2^64 - 1" : "an integer", text);
        value = static_cast<T>(real);
    }
    text = std::to_string(value);
    return {};
}

std::string plain_number(std::string& text) {
    double value = 0;
    if (parses(text, value) && std::isfinite(value)) return {};
    return fmt::format("expected a finite number, got '{}'", text);
}

/// Makes every integer and number option of a command refuse what CLI11 would wrap, truncate or read as
/// octal: signs on unsigned, overflow, empty text, NaN and Inf. Integers may be written 1e5.
void require_plain_numbers(CLI::App& command) {
    for (CLI::Option* option : command.get_options()) {
        const std::string type = type_of(*option);
        if (type == "UINT") option->transform(CLI::Validator(plain_integer<std::uint64_t>, ""));
        if (type == "INT") option->transform(CLI::Validator(plain_integer<std::int64_t>, ""));
        if (type == "FLOAT") option->transform(CLI::Validator(plain_number, ""));
    }
}

} // namespace

Program::Program() : app_{description, "dynkin"} {
    app_.footer(footer);
    app_.set_version_flag("--version", std::string("dynkin ") + DYNKIN_VERSION);
    app_.option_defaults()->always_capture_default();
    app_.require_subcommand(1);
    for (const auto make :
         {draw_command, fit_command, sample_command, weigh_command, evaluate_command, score_command,
          density_command, info_command, bench_command, man_command, completion_command})
        commands_.push_back(make(app_));
    for (const Command& command : commands_) require_plain_numbers(*command.app);
}

const Command& Program::parse(int argc, const char* const* argv) {
    app_.parse(argc, argv);
    for (const Command& command : commands_)
        if (command.app->parsed()) return command;
    throw CLI::RequiredError("A subcommand");
}

std::string Program::usage_hint() const {
    std::string name = app_.get_name();
    for (const CLI::App* command : app_.get_subcommands()) name += " " + command->get_name();
    return "; see '" + name + " --help'";
}

} // namespace dynkin::app

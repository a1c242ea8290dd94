// dynkin.cpp - the program: finds the subcommand, runs it, turns failures into one line and an exit code.
#include "command.h"
#include "engine/error.h"
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <new>
#include <system_error>
#include <type_traits>
#include <unistd.h>

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

/// Puts a placeholder at each standard descriptor that is closed, so that no output file gets its number. The
/// placeholder of stdout refuses to be written, so that a lost result is an error.
void occupy_standard_descriptors() {
    for (int descriptor = 0; descriptor < 3; ++descriptor)
        if (fcntl(descriptor, F_GETFD) == -1 && open("/dev/null", descriptor == 2 ? O_WRONLY : O_RDONLY) < 0)
            _exit(5);
}

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

std::string usage_hint(const CLI::App& program) {
    std::string name = program.get_name();
    for (const CLI::App* command : program.get_subcommands()) name += " " + command->get_name();
    return "; see '" + name + " --help'";
}

int run(int argc, char** argv) {
    CLI::App program{description, "dynkin"};
    program.footer(footer);
    program.set_version_flag("--version", std::string("dynkin ") + DYNKIN_VERSION);
    program.option_defaults()->always_capture_default();
    program.require_subcommand(1);
    std::vector<Command> commands;
    for (const auto make :
         {draw_command, fit_command, sample_command, weigh_command, evaluate_command, score_command,
          density_command, info_command, bench_command, man_command, completion_command})
        commands.push_back(make(program));
    for (const Command& command : commands) require_plain_numbers(*command.app);
    try {
        program.parse(argc, argv);
    } catch (const CLI::CallForVersion& version) {
        write_stdout(std::string(version.what()) + "\n");
        return 0;
    } catch (const CLI::CallForHelp&) {
        write_stdout(program.help());
        return 0;
    } catch (const CLI::ParseError& error) {
        say_error(parse_error_text(error) + usage_hint(program));
        return static_cast<int>(ErrorKind::usage);
    }
    for (const Command& command : commands)
        if (command.app->parsed()) {
            try {
                return command.run();
            } catch (const Interrupted& interrupted) {
                const bool resumable = command.app->get_option_no_throw("--resume") != nullptr;
                say_error(std::string("interrupted by ") +
                          (interrupted.signal() == SIGINT ? "SIGINT" : "SIGTERM") +
                          (resumable ? "; the same command with --resume continues" : ""));
                return 128 + interrupted.signal();
            }
        }
    return static_cast<int>(ErrorKind::usage);
}

} // namespace
} // namespace dynkin::app

namespace dynkin::app {
namespace {

/// OpenBLAS chooses its kernels when it is loaded, takes the slowest on processors younger than itself, and
/// cannot be told later. So the program starts itself again with the kernels that go with --isa (or the best
/// level), which also makes the same level give the same bytes on every machine. A choice of the user's is
/// left alone.
void choose_blas_kernels(int argc, char** argv) {
    if (std::getenv("OPENBLAS_CORETYPE")) return;
    Isa isa = best_isa();
    for (int k = 1; k < argc; ++k) {
        const std::string_view at = argv[k];
        const std::string_view level = at.starts_with("--isa=")        ? at.substr(6)
                                       : at == "--isa" && k + 1 < argc ? argv[k + 1]
                                                                       : "";
        if (level == "avx2" && isa == Isa::avx512) isa = Isa::avx2;
        if (level == "baseline") isa = Isa::baseline;
    }
    const char* name = isa == Isa::avx512 ? "SkylakeX" : isa == Isa::avx2 ? "Haswell" : "Prescott";
    if (setenv("OPENBLAS_CORETYPE", name, 1) == 0) execv("/proc/self/exe", argv);
}

} // namespace
} // namespace dynkin::app

int main(int argc, char** argv) {
    using namespace dynkin;
#if defined(__x86_64__)
    app::choose_blas_kernels(argc, argv);
#endif
    app::occupy_standard_descriptors();
    std::signal(SIGPIPE, SIG_IGN); // the calls fail instead, and say why
    std::signal(SIGXFSZ, SIG_IGN);
    try {
        return app::run(argc, argv);
    } catch (const Error& error) {
        app::say_error(error.what());
        return static_cast<int>(error.kind());
    } catch (const std::bad_alloc&) {
        app::say_error("out of memory");
        return static_cast<int>(ErrorKind::io);
    } catch (const std::system_error& error) { // std::filesystem::filesystem_error is one of these
        app::say_error(error.what());
        return static_cast<int>(ErrorKind::io);
    } catch (const std::exception& error) {
        app::say_error(std::string("internal error: ") + error.what());
        return 1;
    }
}

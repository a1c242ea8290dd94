// dynkin.cpp - the program: finds the subcommand, runs it, turns failures into one line and an exit code.
#include "command.h"
#include "engine/error.h"
#include "program.h"
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fcntl.h>
#include <filesystem>
#include <new>
#include <system_error>
#include <unistd.h>

namespace dynkin::app {
namespace {

/// Puts a placeholder at each standard descriptor that is closed, so that no output file gets its number. The
/// placeholder of stdout refuses to be written, so that a lost result is an error.
void occupy_standard_descriptors() {
    for (int descriptor = 0; descriptor < 3; ++descriptor)
        if (fcntl(descriptor, F_GETFD) == -1 && open("/dev/null", descriptor == 2 ? O_WRONLY : O_RDONLY) < 0)
            _exit(5);
}

/// For exceptions that cannot leave where they are thrown, as a library's noexcept function that finds no
/// memory.
[[noreturn]] void on_terminate() {
    try {
        if (const auto exception = std::current_exception()) std::rethrow_exception(exception);
    } catch (const std::bad_alloc&) {
        std::fputs("error: out of memory; a file named *.partial may be left\n", stderr);
        _exit(static_cast<int>(ErrorKind::io));
    } catch (...) { // a defect, which a core shows best
    }
    std::abort();
}

int run(const Command& command) {
    try {
        return command.run();
    } catch (const Interrupted& interrupted) {
        const bool resumable = command.app->get_option_no_throw("--resume") != nullptr;
        say_error(std::string("interrupted by ") + (interrupted.signal() == SIGINT ? "SIGINT" : "SIGTERM") +
                  (resumable ? "; the same command with --resume continues" : ""));
        return 128 + interrupted.signal();
    }
}

int run(int argc, char** argv) {
    Program program;
    const Command* command = nullptr;
    try {
        command = &program.parse(argc, argv);
    } catch (const CLI::CallForVersion& version) {
        write_stdout(std::string(version.what()) + "\n");
        return 0;
    } catch (const CLI::CallForHelp&) {
        write_stdout(program.help());
        return 0;
    } catch (const CLI::ParseError& error) {
        say_error(parse_error_text(error) + program.usage_hint());
        return static_cast<int>(ErrorKind::usage);
    }
    return run(*command);
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
    std::set_terminate(app::on_terminate);
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

#include "gnuplot.h"
#include "engine/error.h"
#include "engine/file.h"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

namespace dynkin::app {
namespace {

constexpr int not_found = 127; // as a shell has it

struct Run {
    int status;
    std::string messages;
};

/// A pipe's or file's end that closes itself.
class Descriptor {
  public:
    explicit Descriptor(int number) : number_(number) {}
    ~Descriptor() { close(); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int number() const { return number_; }
    void close() {
        if (number_ >= 0) ::close(number_);
        number_ = -1;
    }

  private:
    int number_;
};

[[noreturn]] void fail(const char* call) {
    throw Error(ErrorKind::io, fmt::format("gnuplot: {}: {}", call, std::strerror(errno)));
}

/// In the child, after fork: only calls that are safe there.
[[noreturn]] void become_gnuplot(const char* folder, const char* script, int messages) {
    const int nothing = open("/dev/null", O_RDWR);
    if (chdir(folder) != 0 || dup2(nothing, 0) < 0 || dup2(messages, 1) < 0 || dup2(messages, 2) < 0)
        _exit(1);
    execlp("gnuplot", "gnuplot", "-d", script, static_cast<char*>(nullptr));
    _exit(errno == ENOENT ? not_found : 1);
}

/// `script`: a file in `folder`, or an option.
Run run_process(const std::string& folder, const std::string& script) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
    Descriptor read_end(ends[0]), write_end(ends[1]);
    const pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) become_gnuplot(folder.c_str(), script.c_str(), write_end.number());
    write_end.close();
    Run run{0, {}};
    char buffer[4096];
    while (true) {
        const ssize_t got = read(read_end.number(), buffer, sizeof buffer);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        if (run.messages.size() < 1u << 16) run.messages.append(buffer, static_cast<std::size_t>(got));
    }
    while (waitpid(child, &run.status, 0) < 0)
        if (errno != EINTR) fail("waitpid");
    return run;
}

/// What gnuplot complains of: its last line that says something, where it points at no place.
std::string complaint(const std::string& messages) {
    std::string found = "no message";
    std::size_t start = 0;
    while (start < messages.size()) {
        const std::size_t end = std::min(messages.find('\n', start), messages.size());
        const std::string line = messages.substr(start, end - start);
        if (line.find_first_not_of(" \t^") != std::string::npos) found = line;
        start = end + 1;
    }
    return excerpt(found, 200);
}

[[noreturn]] void throw_missing() {
    throw Error(ErrorKind::io, "gnuplot: not found in PATH; reports need it (Debian package gnuplot-nox)");
}

} // namespace

void require_gnuplot() {
    const Run run = run_process("/", "--version");
    if (WIFEXITED(run.status) && WEXITSTATUS(run.status) == not_found) throw_missing();
    if (!WIFEXITED(run.status) || WEXITSTATUS(run.status) != 0)
        throw Error(ErrorKind::io, "gnuplot: 'gnuplot --version' fails: " + complaint(run.messages));
}

void run_gnuplot(const std::string& script, const std::filesystem::path& folder) {
    const std::filesystem::path file = folder / "plots.gp";
    write_file(file, script);
    const Run run = run_process(folder.string(), "plots.gp");
    if (WIFEXITED(run.status) && WEXITSTATUS(run.status) == not_found) throw_missing();
    if (!WIFEXITED(run.status) || WEXITSTATUS(run.status) != 0)
        throw Error(ErrorKind::io, "gnuplot: " + complaint(run.messages));
    std::filesystem::remove(file);
}

} // namespace dynkin::app

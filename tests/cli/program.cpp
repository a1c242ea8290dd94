// program.cpp - see program.h.
#include "program.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace dynkin::cli_test {

namespace {

using Clock = std::chrono::steady_clock;

std::filesystem::path temporary_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "dynkin-test-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp: " + name);
    return name;
}

// In the child between fork and exec.
[[noreturn]] void become_program(const Arguments& arguments, const Conditions& conditions,
                                 const std::filesystem::path& streams) {
    const int in = open("/dev/null", O_RDONLY);
    const int out = open((streams / "out").c_str(), O_WRONLY | O_CREAT, 0600);
    const int err = open((streams / "err").c_str(), O_WRONLY | O_CREAT, 0600);
    dup2(in, 0), dup2(out, 1), dup2(err, 2);
    for (const auto& [name, value] : conditions.environment) setenv(name.c_str(), value.c_str(), 1);
    if (conditions.largest_file) {
        std::signal(SIGXFSZ, SIG_IGN); // so that write() returns an error
        const rlimit limit{conditions.largest_file, conditions.largest_file};
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    std::vector<char*> argv{const_cast<char*>("dynkin")};
    for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    // Sanitized, the program always holds the emulated device; users' has none.
    if (conditions.program.empty()) setenv("DYNKIN_EMULATOR_DEVICES", "0", 1);
    execv(conditions.program.empty() ? DYNKIN_PROGRAM : conditions.program.c_str(), argv.data());
    _exit(127);
}

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Waits for the end, sending the signals that are due.
int wait_for(pid_t child, const Conditions& conditions, Clock::time_point start) {
    int status = 0;
    bool signalled = conditions.signal == 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        const double elapsed = seconds_since(start);
        if (!signalled && elapsed >= conditions.signal_after &&
            (conditions.signal_once.empty() || std::filesystem::exists(conditions.signal_once)))
            kill(child, conditions.signal), signalled = true;
        if (elapsed > conditions.timeout) {
            kill(child, SIGKILL);
            ADD_FAILURE() << "killed after " << conditions.timeout << " s";
            waitpid(child, &status, 0);
            break;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return status;
}

} // namespace

Outcome run(const Arguments& arguments, const Conditions& conditions) {
    const auto streams = temporary_folder();
    for (const char* name : {"out", "err"})
        write_bytes(streams / name, ""); // it may be killed before it has them
    const auto start = Clock::now();
    const pid_t child = fork();
    if (child == -1) throw std::runtime_error("fork failed");
    if (child == 0) become_program(arguments, conditions, streams);
    const int status = wait_for(child, conditions, start);
    Outcome outcome;
    outcome.seconds = seconds_since(start);
    outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    outcome.out = read_bytes(streams / "out");
    outcome.err = read_bytes(streams / "err");
    std::filesystem::remove_all(streams);
    if (outcome.err.starts_with("notice: running on the CPU: ")) {
        const std::size_t length = outcome.err.find('\n') + 1;
        outcome.notice = outcome.err.substr(0, length);
        outcome.err.erase(0, length);
    }
    return outcome;
}

std::string read_bytes(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path.string());
    return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
    std::ofstream file(path, std::ios::binary);
    file << bytes;
    if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

std::string npy_bytes(const std::string& descr, const std::string& shape, const std::string& data) {
    std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
    header.resize(117, ' ');
    header += '\n';
    const auto length = static_cast<char>(header.size());
    return std::string("\x93NUMPY\x01\x00", 8) + length + '\0' + header + data;
}

std::string npy_bytes(std::size_t rows, std::size_t cols, const std::vector<double>& values) {
    std::string data(values.size() * sizeof(double), '\0');
    std::memcpy(data.data(), values.data(), data.size());
    return npy_bytes("<f8", "(" + std::to_string(rows) + ", " + std::to_string(cols) + ")", data);
}

std::vector<double> some_samples(std::size_t rows, std::size_t cols) {
    std::vector<double> values(rows * cols);
    std::uint64_t state = 1; // splitmix64
    for (double& value : values) {
        double sum = 0;
        for (int k = 0; k < 6; ++k) {
            std::uint64_t z = state += 0x9e3779b97f4a7c15u;
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
            z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
            sum += static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53 - 0.5;
        }
        value = sum * std::sqrt(2.0) + 0.05 * sum * sum;
    }
    return values;
}

InFolder::InFolder() : folder_(temporary_folder()) {}

InFolder::~InFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
}

std::vector<std::string> InFolder::files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_))
        names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

Outcome InFolder::succeed(const Arguments& arguments, const Conditions& conditions) const {
    Outcome outcome = run(arguments, conditions);
    EXPECT_EQ(outcome.exit_code, 0) << testing::PrintToString(arguments) << '\n' << outcome.err;
    return outcome;
}

std::string InFolder::chain_target(int sites) const {
    std::ostringstream toml;
    toml << "[target]\nkind = \"ginzburg_landau\"\nshape = [" << sites
         << "]\nlambda = 0.03\nbeta = 0.125\nspacing = " << 1.0 / (sites + 1) << "\nboundary = \"zero\"\n";
    write_bytes(path("target.toml"), toml.str());
    return path("target.toml");
}

} // namespace dynkin::cli_test

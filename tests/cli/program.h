// program.h - runs the built program in a folder of its own and looks at what it printed, returned and left
// behind.
#pragma once
#include <cstdint>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace dynkin::cli_test {

using Arguments = std::vector<std::string>;

/// What a run is given besides its arguments.
struct Conditions {
    std::map<std::string, std::string> environment;
    std::uint64_t largest_file = 0; ///< bytes; 0: no limit. Writes beyond it fail, as on a full disk.
    int signal = 0;                 ///< sent `signal_after` seconds after the start, unless the run has ended
    double signal_after = 0;
    std::string signal_once; ///< path; and not before this file exists
    std::string program;     ///< path; empty: dynkin as users have it
    double timeout = 300;    ///< seconds; a run that takes longer is killed and fails the test
};

struct Outcome {
    int exit_code = -1; ///< 128 + signal when a signal ended the run, as a shell has it
    std::string out, err;
    std::string notice; ///< that there is no device, which depends on the machine; not in err
    double seconds = 0;
};

/// Runs `dynkin arguments...`.
Outcome run(const Arguments& arguments, const Conditions& conditions = {});

std::string read_bytes(const std::filesystem::path& path);
void write_bytes(const std::filesystem::path& path, const std::string& bytes);

/// A .npy file, right or wrong: header text as given, `data` after it.
std::string npy_bytes(const std::string& descr, const std::string& shape, const std::string& data);
/// float64 rows, shape (rows, cols), row-major values.
std::string npy_bytes(std::size_t rows, std::size_t cols, const std::vector<double>& values);
/// Independent, slightly skewed numbers that any fit accepts.
std::vector<double> some_samples(std::size_t rows, std::size_t cols);

/// A test with an empty folder that goes away with it.
class InFolder : public testing::Test {
  protected:
    InFolder();
    ~InFolder() override;
    std::string path(const std::string& name) const { return (folder_ / name).string(); }
    /// Names of the files in the folder, sorted.
    std::vector<std::string> files() const;
    /// Runs the program, expects success; returns what it printed.
    Outcome succeed(const Arguments& arguments, const Conditions& conditions = {}) const;
    /// Writes target.toml, a short Ginzburg-Landau chain; returns its path.
    std::string chain_target(int sites = 6) const;

  private:
    std::filesystem::path folder_;
};

} // namespace dynkin::cli_test

// arguments.cpp - libFuzzer target of the command line: parsed, nothing done. An input is one argument a
// line; after an empty line comes the content of a settings file, which the argument @ stands for.
#include "apps/program.h"
#include "engine/error.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace {

/// The settings file: "/proc/self/fd/N" of a file in memory.
class Settings {
  public:
    Settings()
        : descriptor_(memfd_create("settings", 0)), path_("/proc/self/fd/" + std::to_string(descriptor_)) {}
    const std::string& write(std::string_view content) const {
        const auto size = static_cast<ssize_t>(content.size());
        if (ftruncate(descriptor_, 0) != 0 || pwrite(descriptor_, content.data(), content.size(), 0) != size)
            std::perror("settings"), std::abort();
        return path_;
    }

  private:
    int descriptor_;
    std::string path_;
};

void replace_file(std::string& argument, const std::string& path) {
    if (argument == "@") argument = path;
    if (argument.ends_with("=@")) argument.replace(argument.size() - 1, 1, path);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace dynkin;
    static const Settings settings;
    std::string_view rest(reinterpret_cast<const char*>(data), size);
    std::vector<std::string> arguments = {"dynkin"};
    while (!rest.empty()) {
        const std::size_t end = std::min(rest.find('\n'), rest.size());
        const std::string_view line = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
        if (line.empty()) break;
        arguments.emplace_back(line.substr(0, line.find('\0')));
    }
    const std::string& path = settings.write(rest);
    std::vector<const char*> argv;
    for (std::string& argument : arguments) {
        // No files but the one: what stands in the machine's, or a pipe, must not decide.
        if (argument.find('/') != std::string::npos) return 0;
        replace_file(argument, path);
        argv.push_back(argument.c_str());
    }
    app::Program program;
    try {
        program.parse(static_cast<int>(argv.size()), argv.data());
    } catch (const CLI::CallForHelp&) {
        if (program.help().empty()) std::abort();
    } catch (const CLI::CallForVersion&) {
    } catch (const CLI::ParseError& error) {
        if (app::parse_error_text(error).empty() || program.usage_hint().empty()) std::abort();
    } catch (const Error& error) {
        if (error.kind() == ErrorKind::numerical || !*error.what()) std::abort();
    }
    return 0;
}

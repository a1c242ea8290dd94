// command.cpp - common flags, settings files, results, configuration files, progress and signals of all
// subcommands.
#include "command.h"
#include "engine/error.h"
#include "engine/file.h"
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fmt/format.h>
#include <map>
#include <optional>
#include <string_view>
#include <sys/ioctl.h>
#include <toml++/toml.h>
#include <unistd.h>

namespace dynkin::app {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// ---- signals

std::atomic<int> interrupt_signal{0};
std::atomic<std::int64_t> first_signal_ms{0};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<std::int64_t>::is_always_lock_free);

// timeout(1) signals the process and then its group: two signals within 100 ms are one request to stop.
extern "C" void on_signal(int signal) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    const std::int64_t ms = static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
    int none = 0;
    if (interrupt_signal.compare_exchange_strong(none, signal))
        first_signal_ms = ms;
    else if (signal == SIGINT && ms - first_signal_ms > 100)
        _exit(128 + SIGINT);
}

void install_handlers() {
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
}

// ---- progress and messages

bool stderr_is_terminal() {
    const char* kind = std::getenv("TERM");
    return isatty(STDERR_FILENO) == 1 && kind && std::strcmp(kind, "dumb") != 0;
}

std::string rate_text(double rate) {
    const char* suffix[] = {"", "k", "M", "G", "T"};
    int power = 0;
    for (; rate >= 1000 && power < 4; ++power) rate /= 1000;
    return fmt::format("{:.3g}{}/s", rate, suffix[power]);
}

std::string duration_text(double seconds) {
    const auto s = static_cast<long>(std::min(std::max(seconds, 0.0), 3.6e8));
    if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
    return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

/// Prints progress events; one stage at a time.
class ProgressPrinter {
  public:
    explicit ProgressPrinter(bool bar) : bar_(bar) {}

    void operator()(const ProgressEvent& event) {
        if (event.total == 0) return;
        if (stage_ != event.stage || event.done < first_done_) begin(event);
        const bool ended = event.done >= event.total;
        if (bar_) {
            std::fputs(("\r\x1b[K" + (ended ? "" : clipped(bar_text(event)))).c_str(), stderr);
            std::fflush(stderr);
        } else if (seconds_since(printed_) >= 10 || (ended && lines_ > 0)) {
            std::fputs((line_text(event) + "\n").c_str(), stderr);
            printed_ = Clock::now();
            ++lines_;
        }
        if (ended) stage_.clear();
    }

  private:
    void begin(const ProgressEvent& event) {
        stage_ = event.stage;
        first_done_ = event.done;
        started_ = printed_ = Clock::now();
        lines_ = 0;
    }
    std::string line_text(const ProgressEvent& event) const {
        const double part = static_cast<double>(event.done) / static_cast<double>(event.total);
        std::string text = fmt::format("{:>3.0f} %", std::floor(100 * part));
        const double elapsed = seconds_since(started_);
        if (event.done > first_done_ && elapsed > 0) {
            const double rate = static_cast<double>(event.done - first_done_) / elapsed;
            text += "  " + rate_text(rate);
            if (event.done < event.total)
                text += "  ETA " + duration_text(static_cast<double>(event.total - event.done) / rate);
        }
        return bar_ ? text : stage_ + "  " + text;
    }
    std::string bar_text(const ProgressEvent& event) const {
        const double part = static_cast<double>(event.done) / static_cast<double>(event.total);
        const auto filled = static_cast<std::size_t>(24 * std::min(part, 1.0));
        return fmt::format("{:<12} [{}{}] {}", stage_, std::string(filled, '#'),
                           std::string(24 - filled, '.'), line_text(event));
    }
    static std::string clipped(std::string text) {
        winsize size{};
        const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
        return text.substr(0, known ? size.ws_col - 1u : 79u);
    }

    bool bar_;
    std::string stage_;
    std::uint64_t first_done_ = 0;
    Clock::time_point started_, printed_;
    int lines_ = 0;
};

void say(const char* kind, std::string message) {
    std::replace(message.begin(), message.end(), '\n', ' ');
    std::fprintf(stderr, "%s%s: %s\n", stderr_is_terminal() ? "\r\x1b[K" : "", kind, message.c_str());
    std::fflush(stderr);
}

// ---- text of results

std::string value_text(const Json& value) {
    if (value.is_number_float())
        return std::isnan(value.get<double>()) ? "nan" : fmt::format("{:.4g}", value.get<double>());
    if (value.is_string()) return value.get<std::string>();
    if (value.is_null()) return "-";
    if (!value.is_array()) return value.dump(-1, ' ', false, Json::error_handler_t::replace);
    std::string text;
    const std::size_t shown = value.size() > 12 ? 10 : value.size();
    for (std::size_t i = 0; i < shown; ++i) text += (i ? ", " : "") + value_text(value[i]);
    return text + (shown < value.size() ? fmt::format(", ... ({} values)", value.size()) : "");
}

using Rows = std::vector<std::pair<std::string, Json>>;

void flatten(const std::string& prefix, const Json& object, Rows& rows) {
    for (const auto& [key, value] : object.items()) {
        if (value.is_object())
            flatten(prefix + key + ".", value, rows);
        else
            rows.emplace_back(prefix + key, value);
    }
}

/// One line an observable: its name, value, error and what else there is; the two-point function distance by
/// distance.
std::string observables_text(const Json& observables) {
    if (observables.empty()) return {};
    std::vector<std::string> columns;
    std::string more;
    Rows rows; // name, entry
    for (const auto& [name, entry] : observables.items()) {
        const bool list = entry.contains("distance");
        if (!list) rows.emplace_back(name, entry);
        const std::size_t length = list ? entry["distance"].size() : 0, shown = length > 16 ? 12 : length;
        if (shown < length) more = fmt::format("{}: {} distances more in --json\n", name, length - shown);
        for (std::size_t r = 0; r < shown; ++r) {
            Json one = Json::object();
            for (const auto& [key, values] : entry.items())
                if (key != "distance") one[key] = values[r];
            rows.emplace_back(name + " " + value_text(entry["distance"][r]), one);
        }
    }
    for (const auto& item : rows[0].second.items()) columns.push_back(item.key());
    std::size_t width = 10;
    for (const auto& row : rows) width = std::max(width, row.first.size());
    std::string text = fmt::format("{:<{}}", "observable", width);
    for (const std::string& column : columns)
        text += fmt::format("  {:>{}}", column, std::max<std::size_t>(column.size(), 10));
    text += "\n";
    for (const auto& [name, entry] : rows) {
        text += fmt::format("{:<{}}", name, width);
        for (const std::string& column : columns)
            text +=
                fmt::format("  {:>{}}", value_text(entry[column]), std::max<std::size_t>(column.size(), 10));
        text += "\n";
    }
    return text + more;
}

/// Aligned lines `name  value`; then figures that have a floor, as a table of three columns; then
/// observables; then the times.
std::string figures_text(Json figures, const std::string& times) {
    const Json observables = figures.value("observables", Json::object());
    figures.erase("observables");
    Rows rows;
    flatten("", figures, rows);
    std::map<std::string, std::string> floors;
    for (const auto& [name, value] : rows)
        if (name.size() > 6 && name.ends_with("_floor") &&
            std::any_of(rows.begin(), rows.end(),
                        [&, &floor = name](const auto& row) { return row.first + "_floor" == floor; }))
            floors[name.substr(0, name.size() - 6)] = value_text(value);
    std::size_t width = 7;
    for (const auto& row : rows) width = std::max(width, row.first.size());
    std::string lines, table;
    for (const auto& [name, value] : rows) {
        if (floors.contains(name))
            table += fmt::format("{:<{}}  {:>10}  {:>10}\n", name, width, value_text(value), floors[name]);
        else if (!(name.ends_with("_floor") && floors.contains(name.substr(0, name.size() - 6))))
            lines += fmt::format("{:<{}}  {}\n", name, width, value_text(value));
    }
    if (!table.empty())
        lines += fmt::format("{:<{}}  {:>10}  {:>10}\n", "figure", width, "value", "floor") + table;
    lines += observables_text(observables);
    if (!times.empty()) lines += fmt::format("{:<{}}  {}\n", "seconds", width, times);
    return lines;
}

// ---- settings

[[noreturn]] void fail_at(const std::filesystem::path& path, const toml::node& node,
                          const std::string& message) {
    throw Error(ErrorKind::input, fmt::format("{}:{}: {}", path.string(), node.source().begin.line, message));
}

/// A TOML scalar as the command line would have it; nothing when it is not of the option's type.
std::optional<std::string> scalar_text(const toml::node& node, const std::string& type) {
    if (const auto* value = node.as_integer()) return std::to_string(value->get());
    if (type == "UINT" || type == "INT") return {};
    if (const auto* value = node.as_floating_point()) return fmt::format("{}", value->get());
    if (type == "FLOAT") return {};
    if (const auto* value = node.as_string()) return value->get();
    return {};
}

std::string expected_text(const CLI::Option& option, const std::string& type) {
    if (option.get_items_expected_max() == 0) return "true or false";
    const std::string one = type == "UINT"    ? "an integer, not negative"
                            : type == "INT"   ? "an integer"
                            : type == "FLOAT" ? "a number"
                                              : "text";
    return option.get_items_expected_max() > 1 ? one + ", or a list of such" : one;
}

/// The results that this TOML value stands for; throws when its type is not the option's.
std::vector<std::string> results_of(const CLI::Option& option, const std::string& key, const toml::node& node,
                                    const std::filesystem::path& path) {
    const std::string type = type_of(option);
    std::vector<std::string> results;
    if (option.get_items_expected_max() == 0) {
        if (const auto* value = node.as_boolean())
            results.push_back(option.get_flag_value(key, value->get() ? "true" : "false"));
    } else if (const auto* list = node.as_array(); list && option.get_items_expected_max() > 1) {
        for (const toml::node& item : *list) {
            const auto text = scalar_text(item, type);
            if (!text)
                fail_at(path, item, fmt::format("key '{}': expected {}", key, expected_text(option, type)));
            results.push_back(*text);
        }
    } else if (const auto text = scalar_text(node, type)) {
        results.push_back(*text);
    }
    if (results.empty())
        fail_at(path, node, fmt::format("key '{}': expected {}", key, expected_text(option, type)));
    return results;
}

std::string known_keys(const CLI::App& command) {
    std::string keys;
    for (const CLI::Option* option : command.get_options())
        if (option->get_configurable())
            for (const std::string& name : option->get_lnames()) keys += (keys.empty() ? "" : ", ") + name;
    return keys;
}

bool is_command(CLI::App& command, const std::string& name) {
    if (!command.get_parent()) return false;
    const auto named = [&](const CLI::App* other) { return other->get_name() == name; };
    return !command.get_parent()->get_subcommands(named).empty();
}

void apply_key(CLI::App& command, const std::string& key, const toml::node& node,
               const std::filesystem::path& path) {
    CLI::Option* option = command.get_option_no_throw("--" + key);
    if (!option || !option->get_configurable())
        fail_at(path, node,
                fmt::format("unknown key {} in [{}]; known: {}", excerpt(key), command.get_name(),
                            known_keys(command)));
    const std::vector<std::string> results = results_of(*option, key, node, path);
    if (option->count() > 0) return;
    try {
        for (const std::string& result : results) option->add_result(result);
        option->run_callback();
    } catch (const CLI::Error& error) {
        fail_at(path, node, fmt::format("key '{}': {}", key, parse_error_text(error)));
    }
}

/// Rewrites 8G, 512 MiB or 1000000 in bytes; returns what is wrong with it, or "". (CLI11's own takes -1 for
/// 2^64 - 1.)
std::string plain_bytes(std::string& text) {
    const char* end = text.data() + text.size();
    std::uint64_t number = 0;
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    std::string_view unit(stop, static_cast<std::size_t>(end - stop));
    unit.remove_prefix(std::min(unit.find_first_not_of(' '), unit.size()));
    const std::string_view letters = "KMGT", letter = unit.substr(0, 1), rest = unit.substr(letter.size());
    const std::size_t power = unit.empty() ? 0 : letters.find(letter) + 1; // 0 when it is none of them
    const bool known = unit.empty() || (power > 0 && (rest.empty() || rest == "B" || rest == "iB"));
    if (error != std::errc() || !known || number > UINT64_MAX >> 10 * power)
        return fmt::format("expected bytes, as 512M or 8G, got '{}'", text);
    text = std::to_string(number << 10 * power);
    return {};
}

} // namespace

std::string type_of(const CLI::Option& option) {
    const std::string name = option.get_type_name();
    return name.substr(0, name.find_first_of(": "));
}

void add_common_flags(CLI::App& command, Common& common, bool resumable) {
    const std::string group = "Common options";
    command.add_option("--seed", common.seed, "seed of every random number")->group(group);
    command
        .add_option("--threads", common.threads, "threads (0: all there are); results do not depend on it")
        ->check(CLI::NonNegativeNumber)
        ->group(group);
    command.add_option("--device", common.device, "auto, cpu or cuda")
        ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
        ->group(group);
    command
        .add_option("--device-memory", common.device_memory,
                    "memory to use on the device, as 8G or 512M (0: all that is free, less a reserve)")
        ->type_name("SIZE")
        ->transform(CLI::Validator(plain_bytes, ""))
        ->group(group);
    command.add_option("--isa", common.isa, "SIMD level: auto, baseline, avx2 or avx512")
        ->check(CLI::IsMember({"auto", "baseline", "avx2", "avx512"}))
        ->group(group);
    if (resumable)
        command.add_flag("--resume", common.resume, "continue from OUTPUT.checkpoint if there is one")
            ->group(group);
    command.add_flag("--quiet", common.quiet, "no progress on stderr")->group(group);
    command.add_flag("--json", common.json, "print the result as one JSON object")->group(group);
    command
        .add_option_function<std::string>(
            "--config", [&command](const std::string& path) { apply_settings(command, path); },
            fmt::format("TOML file with settings in [{}]; flags win over it", command.get_name()))
        ->type_name("FILE")
        ->configurable(false)
        ->group(group);
}

ContextOptions context_options(const Common& common, Runs runs) {
    ContextOptions options;
    options.device = common.device == "cpu"    ? Device::cpu
                     : common.device == "cuda" ? Device::cuda
                     : runs == Runs::on_cpu    ? Device::cpu
                                               : Device::automatic;
    options.device_memory = common.device_memory;
    options.isa = common.isa == "baseline" ? Isa::baseline
                  : common.isa == "avx2"   ? Isa::avx2
                  : common.isa == "avx512" ? Isa::avx512
                                           : Isa::automatic;
    options.threads = common.threads;
    if (!common.quiet) options.progress = ProgressPrinter(stderr_is_terminal());
    options.interrupt_signal = &interrupt_signal;
    return options;
}

Context make_context(const Common& common, Runs runs) {
    install_handlers();
    Context context(context_options(common, runs));
    require(runs == Runs::on_cpu_or_device || context.device() == Device::cpu, ErrorKind::usage,
            "device: this command runs on the CPU only, expected cpu or auto, got cuda");
    if (!common.quiet && !context.device_notice().empty())
        notice("running on the CPU: " + context.device_notice());
    return context;
}

Result::Result(const char* command, const Common& common, const Context& context)
    : seconds_(Json::object()), as_json_(common.json) {
    json_ = Json{{"command", command},           {"version", DYNKIN_VERSION},
                 {"seed", common.seed},          {"device", context.device_name()},
                 {"threads", context.threads()}, {"isa", context.isa_name()}};
}

void Result::end_stage() {
    if (stage_.empty()) return;
    const double before = seconds_.contains(stage_) ? seconds_[stage_].get<double>() : 0;
    seconds_[stage_] = before + seconds_since(started_);
    stage_.clear();
}

void Result::stage(const char* name) {
    end_stage();
    stage_ = name;
    started_ = Clock::now();
}

Json Result::json() {
    end_stage();
    Json all = json_;
    all["seconds"] = seconds_;
    return all;
}

void Result::print() {
    if (as_json_) return write_stdout(json().dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    end_stage();
    Json figures = json_;
    for (const char* key : {"command", "version", "seed", "threads", "isa"}) figures.erase(key);
    if (figures["device"] == "cpu") figures.erase("device");
    std::string times;
    for (const auto& [name, value] : seconds_.items())
        times += fmt::format("{}{} {:.3g}", times.empty() ? "" : ", ", name, value.get<double>());
    write_stdout(figures_text(figures, times));
}

std::string parse_error_text(const CLI::Error& error) {
    const std::string message = error.what();
    const auto range = message.find(" not in range 0.000000 to 1797"); // CLI11's way to say "positive"
    return range == std::string::npos ? message : message.substr(0, range) + " is out of range";
}

void notice(const std::string& message) { say("notice", message); }
void warn(const std::string& message) { say("warning", message); }
void say_error(const std::string& message) { say("error", message); }

void write_stdout(const std::string& text) {
    errno = 0;
    const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
    if (!written || std::fflush(stdout) != 0)
        throw Error(ErrorKind::io, fmt::format("stdout: cannot write the result: {}", std::strerror(errno)));
}

void write_configuration(const std::filesystem::path& output, const Json& configuration) {
    Json json = configuration;
    if (!json.contains("version")) json["version"] = DYNKIN_VERSION;
    std::filesystem::path path = output;
    path += ".json";
    write_file(path, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void require_distinct(const std::filesystem::path& output, const std::vector<std::filesystem::path>& inputs) {
    for (const auto& input : inputs) {
        std::error_code ignored;
        if (output == input || std::filesystem::equivalent(output, input, ignored))
            throw Error(ErrorKind::usage, fmt::format("output {} is also an input", output.string()));
    }
}

void apply_settings(CLI::App& command, const std::filesystem::path& path) {
    toml::table file;
    try {
        file = toml::parse(read_file(path), path.string());
    } catch (const toml::parse_error& error) {
        throw Error(ErrorKind::input,
                    fmt::format("{}:{}:{}: {}", path.string(), error.source().begin.line,
                                error.source().begin.column, excerpt(error.description(), 200)));
    }
    for (const auto& [name, node] : file) {
        const std::string key(name.str());
        const bool other = key == "target" || key == "observables" || is_command(command, key);
        if (key != command.get_name() && !other)
            fail_at(path, node,
                    fmt::format("{} is no command's table; settings of this command stand in [{}]",
                                excerpt(key), command.get_name()));
        if (!node.is_table()) fail_at(path, node, fmt::format("'{}': expected a table [{}]", key, key));
    }
    if (const toml::table* settings = file[command.get_name()].as_table())
        for (const auto& [name, node] : *settings) apply_key(command, std::string(name.str()), node, path);
}

} // namespace dynkin::app

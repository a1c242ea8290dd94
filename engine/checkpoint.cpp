// checkpoint.cpp - checkpoints are tensor files that say what run they belong to.
#include "engine/checkpoint.h"
#include "engine/error.h"
#include "engine/file.h"
#include "engine/json_text.h"
#include <fmt/format.h>
#include <map>
#include <optional>
#include <set>
#include <system_error>

namespace dynkin {
namespace {

using json = nlohmann::json;
constexpr const char* format_name = "dynkin-checkpoint";
constexpr const char* remedy = "delete it or drop --resume";

/// The leaves of a JSON text by dotted path; nothing when it is not JSON. Empty objects and arrays are
/// leaves.
std::optional<std::map<std::string, json>> leaves(const std::string& text) {
    const json parsed = parse_json<json>(text);
    if (parsed.is_discarded()) return std::nullopt;
    std::map<std::string, json> result;
    const auto collect = [&](const auto& self, const std::string& path, const json& value) -> void {
        if (!value.is_structured() || value.empty()) {
            result[path] = value;
            return;
        }
        for (const auto& [key, child] : value.items())
            self(self, path.empty() ? key : path + "." + key, child);
    };
    collect(collect, "", parsed);
    return result;
}

/// "'fit.degree' was 6, now 8" for the first key that differs; empty when none does.
std::string first_difference(const std::string& saved, const std::string& now) {
    if (saved == now) return "";
    const auto before = leaves(saved), after = leaves(now);
    if (!before || !after) return fmt::format("the run was {}, now {}", excerpt(saved), excerpt(now));
    std::set<std::string> keys;
    for (const auto* each : {&*before, &*after})
        for (const auto& [key, value] : *each) keys.insert(key);
    const auto text = [](const std::map<std::string, json>& values, const std::string& key) {
        const auto at = values.find(key);
        return at == values.end()
                   ? "absent"
                   : excerpt(at->second.dump(-1, ' ', false, json::error_handler_t::replace), 200);
    };
    for (const std::string& key : keys) {
        const auto a = before->find(key), b = after->find(key);
        if (a == before->end() || b == after->end() || a->second != b->second)
            return fmt::format("{} was {}, now {}", excerpt(key), text(*before, key), text(*after, key));
    }
    return "";
}

} // namespace

Checkpoint::Checkpoint(CheckpointOptions options)
    : options_(std::move(options)), last_(std::chrono::steady_clock::now()) {}

std::optional<TensorFile> Checkpoint::restore() {
    if (!enabled() || !options_.resume) return std::nullopt;
    const std::string name = options_.path.string();
    std::error_code error;
    const auto status = std::filesystem::status(options_.path, error);
    if (status.type() == std::filesystem::file_type::not_found) return std::nullopt;
    TensorFile state;
    std::string difference;
    try {
        state = read_tensor_file(options_.path, format_name);
        difference = first_difference(state.text("identity"), options_.identity);
    } catch (const Error& damage) {
        if (damage.kind() != ErrorKind::input) throw;
        throw Error(ErrorKind::input, fmt::format("cannot resume: {}; {}", damage.what(), remedy));
    }
    if (!difference.empty())
        throw Error(ErrorKind::input, fmt::format("cannot resume from {}: {}; {}", name, difference, remedy));
    last_ = std::chrono::steady_clock::now();
    return state;
}

bool Checkpoint::due() const {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - last_;
    return enabled() && elapsed.count() >= options_.interval_seconds;
}

void Checkpoint::save(TensorFile state) {
    if (!enabled()) return;
    state.format = format_name;
    state.version = 1;
    state.metadata["identity"] = options_.identity;
    write_tensor_file(options_.path, state);
    last_ = std::chrono::steady_clock::now(); // from the end of the save: a slow disk must not eat the whole
                                              // interval
}

void Checkpoint::remove() {
    if (!enabled()) return;
    std::error_code error;
    std::filesystem::remove(options_.path.string() + ".partial", error); // left by a run killed during a save
    std::filesystem::remove(options_.path, error);
    if (error)
        throw Error(ErrorKind::io,
                    fmt::format("cannot remove {}: {}", options_.path.string(), error.message()));
}

} // namespace dynkin

#include "run_state.h"
#include "engine/error.h"
#include <cstdlib>
#include <fmt/core.h>

namespace dynkin::app {
namespace {

double positive_number(const char* name, double otherwise) {
    const char* text = std::getenv(name);
    if (!text || !*text) return otherwise;
    char* end = nullptr;
    const double value = std::strtod(text, &end);
    if (*end || !(value > 0 && value < 1e15))
        throw Error(ErrorKind::usage, fmt::format("{}: expected a positive number, got '{}'", name, text));
    return value;
}

} // namespace

CheckpointOptions checkpoint_of(const std::string& output, nlohmann::ordered_json configuration,
                                const Common& common, const Context& context) {
    configuration["isa"] = context.isa_name();
    configuration["version"] = DYNKIN_VERSION;
    CheckpointOptions options;
    options.path = output + ".checkpoint";
    options.identity = configuration.dump();
    options.resume = common.resume;
    options.interval_seconds = positive_number("DYNKIN_CHECKPOINT_SECONDS", options.interval_seconds);
    return options;
}

std::size_t batch_from_environment() { return static_cast<std::size_t>(positive_number("DYNKIN_BATCH", 0)); }

} // namespace dynkin::app

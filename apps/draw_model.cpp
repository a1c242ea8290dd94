#include "draw_model.h"
#include "engine/error.h"
#include "engine/file.h"
#include "engine/model_file.h"
#include <fmt/format.h>

namespace dynkin::app {

void check_local(const std::string& sampler, const std::string& model, const std::string& start) {
    require(sampler != "model" || !model.empty(), ErrorKind::usage,
            "--sampler model: expected --model with the file that fit --tile wrote");
    require(sampler == "model" || model.empty(), ErrorKind::usage, "--model: goes with --sampler model");
    require(is_local(sampler) || start.empty(), ErrorKind::usage,
            "--start: goes with --sampler model and --sampler heatbath");
}

void identify_local(const std::string& model, const std::string& start, nlohmann::ordered_json& identity) {
    if (!model.empty()) identity["model_checksum"] = checksum(read_file(model, std::uint64_t{1} << 36));
    if (!start.empty()) identity["start_fingerprint"] = SampleFile(start).fingerprint();
}

McmcReport draw_local(const Context& context, const Target& target, const std::string& model,
                      const LocalOptions& options, NpyWriter& output) {
    if (model.empty()) return run_local_metropolis(context, target, nullptr, options, output);
    const Model with_tile = read_model(model);
    if (!with_tile.tile)
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected a model with a tile (fit --tile 8), got one without", model));
    try {
        return run_local_metropolis(context, target, &*with_tile.tile, options, output);
    } catch (const Error& error) {
        if (error.kind() != ErrorKind::input) throw;
        throw Error(error.kind(), fmt::format("{}: {}", model, error.what()));
    }
}

} // namespace dynkin::app

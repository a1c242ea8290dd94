// draw_model.h - `dynkin draw --sampler model` and `--sampler heatbath`.
#pragma once
#include "engine/context.h"
#include "engine/local_metropolis.h"
#include "engine/npy.h"
#include "engine/target.h"
#include <nlohmann/json.hpp>
#include <string>

namespace dynkin::app {

inline bool is_local(const std::string& sampler) { return sampler == "model" || sampler == "heatbath"; }

/// Throws Error(usage) for a model or first states that the sampler does not use, or a model it lacks.
void check_local(const std::string& sampler, const std::string& model, const std::string& start);

/// What a resumed run must agree on beside the options: the content of the files.
void identify_local(const std::string& model, const std::string& start, nlohmann::ordered_json& identity);

/// `model` empty: heat bath. Throws Error(input) for a model without a tile.
McmcReport draw_local(const Context& context, const Target& target, const std::string& model,
                      const LocalOptions& options, NpyWriter& output);

} // namespace dynkin::app

// run_state.h - what makes a run resumable: the checkpoint beside its output and what the run must agree on.
#pragma once
#include "command.h"
#include "engine/checkpoint.h"
#include "engine/npy.h"
#include <string>

namespace dynkin::app {

/// OUTPUT.checkpoint, with `configuration` (and the SIMD level, which decides the bytes) as identity. The
/// environment variable DYNKIN_CHECKPOINT_SECONDS sets the interval between saves.
CheckpointOptions checkpoint_of(const std::string& output, nlohmann::ordered_json configuration,
                                const Common& common, const Context& context);

/// "cpu" or "cuda": part of the identity where the two round differently.
inline const char* device_of(const Context& context) {
    return context.device() == Device::cuda ? "cuda" : "cpu";
}

/// Rows or particles at a time from the environment variable DYNKIN_BATCH, 0 when it is not set: never
/// changes results.
std::size_t batch_from_environment();

} // namespace dynkin::app

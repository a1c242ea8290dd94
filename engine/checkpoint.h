// checkpoint.h - state of long work, so that a killed run continues to bit-identical results.
#pragma once
#include "tensor_file.h"
#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace dynkin {

/// Where and how often long work saves itself, and whether it starts from what was saved.
struct CheckpointOptions {
    std::filesystem::path path;  ///< empty: none
    std::string identity;        ///< everything that determines the result (configuration, inputs, SIMD level), as JSON text
    bool resume = false;
    double interval_seconds = 20;
};

/// Saves and restores TensorFiles of format "dynkin-checkpoint" whose metadata hold the stage and the identity.
class Checkpoint {
  public:
    explicit Checkpoint(CheckpointOptions options);
    /// With --resume: what was saved. Throws Error(input) when the identity differs, naming the first key of the
    /// JSON object that differs with both values. Nothing saved: empty (the work starts from the beginning).
    std::optional<TensorFile> restore();
    /// True when a save is due (interval), never when no path is set.
    bool due() const;
    void save(TensorFile state);
    void remove(); ///< after success
    bool enabled() const { return !options_.path.empty(); }

  private:
    CheckpointOptions options_;
    std::chrono::steady_clock::time_point last_;
};

} // namespace dynkin

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
    std::filesystem::path path = {}; ///< empty: none
    /// Everything that determines the result (configuration, inputs, SIMD level), as JSON text.
    std::string identity = {};
    bool resume = false;
    double interval_seconds = 20;
};

/// Saves and restores TensorFiles of format "dynkin-checkpoint" whose metadata hold the identity, beside what
/// the caller puts there. A save is atomic: a run killed during it finds the one before. Without a path every
/// call does nothing.
class Checkpoint {
  public:
    explicit Checkpoint(CheckpointOptions options);
    /// With --resume: what was saved. Throws Error(input) when the identity differs, naming the first key of
    /// the JSON object that differs (dotted, in alphabetical order) with both values, or when the file is
    /// damaged: the message says to delete it or drop --resume. Nothing saved, or no --resume: empty (the
    /// work starts from the beginning).
    std::optional<TensorFile> restore();
    /// True when a save is due (interval), never when no path is set.
    bool due() const;
    void save(TensorFile state); ///< sets format and identity, and the time for due()
    void remove();               ///< after success; also without --resume
    bool enabled() const { return !options_.path.empty(); }

  private:
    CheckpointOptions options_;
    std::chrono::steady_clock::time_point last_;
};

} // namespace dynkin

// model_file.h - models on disk: one file in safetensors layout (docs/formats.md).
#pragma once
#include "model.h"
#include "tensor_file.h"
#include <filesystem>
#include <string>

namespace dynkin {

/// Written by temporary name, fsync and rename. Throws Error(io).
void write_model(const std::filesystem::path& path, const Model& model);

/// Throws Error(io) when it cannot be read, Error(input) when it is not a model of this version, is damaged,
/// or is not consistent (sizes, ranges, finite numbers): the message names file and place.
Model read_model(const std::filesystem::path& path);

/// The name of the process of a model that was read as tensors, for `info`; "" when it has no block that
/// says.
std::string process_of(const TensorFile& model);

} // namespace dynkin

// model_tensors.h - levels as tensors, for models and checkpoints (private).
#pragma once
#include "model.h"
#include "tensor_file.h"
#include <string>
#include <vector>

namespace dynkin {

/// Names begin with `prefix`.
void put_levels(TensorFile& file, const std::vector<Level>& levels, const std::string& prefix = "");
/// Throws Error(input) for what is not consistent in itself; columns are below `dimension`.
std::vector<Level> read_levels(const TensorFile& file, int dimension, const std::string& prefix = "");

} // namespace dynkin

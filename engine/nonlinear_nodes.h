// nonlinear_nodes.h - solved times of a nonlinear model as tensors, in model files and checkpoints (private).
#pragma once
#include "nonlinear_model.h"
#include "tensor_file.h"
#include <span>

namespace dynkin {

/// Nothing for no nodes.
void put_nodes(TensorFile& file, std::span<const NonlinearNode> nodes);
/// Throws Error(input) for what does not fit a process of d coordinates and a basis of so many terms.
std::vector<NonlinearNode> read_nodes(const TensorFile& file, std::size_t d, std::size_t terms,
                                      ReferenceScore kind);

} // namespace dynkin

// points.h - streams the points of a file through a model: what score and density share.
#pragma once
#include "command.h"
#include "engine/model.h"
#include "engine/npy.h"
#include <functional>

namespace dynkin::app {

/// Throws Error(input) when the points have another dimension than the model's data file.
void check_points(const SampleFile& points, const Model& model, const std::string& model_path);

/// Calls use(first, count, x) for all points in batches, x: modelled columns in continuous units (integers
/// are dequantised when the model's data were).
void for_each_point_batch(
    const Context& context, const SampleFile& points, const Model& model,
    const std::function<void(std::size_t first, std::size_t count, const double* x)>& use);

} // namespace dynkin::app

// level_moments_cuda.h - the functions whose products a level's moments sum, for pairs on the device; the
// sums are those of moments_cuda.h. The kernels: level_moments_cuda.cu.
#pragma once
#include "conditional_cuda.h"
#include "moments_cuda.h"
#include <cstddef>

namespace dynkin::cuda {

/// table[(tile * (R + 1 + conditions) + f) * 256 + s] for pair 256 tile + s of `pairs`, 0 for those beyond up
/// to the end of the tiles: f = k: phi_k(z), k = 0 .. R; then psi. z = (x - mean) / scale, x in column 0.
struct LevelFunctions {
    std::size_t pairs, tiles; ///< tiles of 256
    DeviceFunctions<double> family;
    int conditions;
    double scale;
    double* table;
};

/// work: tiles of 64 pairs, as many as LevelFunctions::tiles of 256 are; mean and psi of one target as
/// describe_conditions() leaves them. Enqueued on the stream; throws Error(io) when the launch fails.
void level_functions(DeviceStream stream, const LevelFunctions& functions,
                     const ConditionalWork<double>& work);

} // namespace dynkin::cuda

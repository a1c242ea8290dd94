// level_systems_cuda.h - the matrices of a level at many time nodes on the device. Plain C++.
#pragma once
#include "device.h"
#include <cstddef>

namespace dynkin::cuda {

/// phi_degree psi_condition.
struct LevelTerm {
    int degree, condition;
};
/// Memory of the device. gradient[(i (degrees) + j) functions + k] = g_ijk, i and j < degrees.
struct LevelMatrices {
    std::size_t size; ///< terms
    const LevelTerm* terms;
    int degrees, functions, conditions;
    const double* gradient;
    const double* triple; ///< (functions, conditions^2)
};

/// a[node] (size x size, both triangles): sum over k in their order of g_abk decay[node, k] triple[k, alpha
/// beta]. Enqueued on the stream. Cost: 3 functions flops an entry of the lower triangle.
void level_matrices(DeviceStream stream, const LevelMatrices& level, std::size_t nodes, const double* decay,
                    double* a);

} // namespace dynkin::cuda

// step_cuda.h - what the samplers of a block do on the device besides the score: starts, reference
// transitions, log q, and the way between rows of data and chunks [site][particle]. Formulas: step.h.
#pragma once
#include "device.h"
#include "score.h"
#include "stationary.h"
#include "step.h"
#include <cstddef>
#include <cstdint>

namespace dynkin::cuda {

/// One reference family.
struct StepFamily {
    bool fitted;
    StationaryTable law;       ///< fitted; device memory
    float lowest, highest;     ///< fitted: of a start, just inside the box
    float table_lo, inverse_h; ///< fitted: starts of the transition table
    double lo, hi;             ///< -v - log Z holds between, the density is 0 outside
    double potential[kernels::kPotentialTerms + 1], log_normaliser; ///< v as a polynomial
};

/// One coordinate: z = (x - mean) / scale of column `column`; the model holds for lower <= z <= upper.
struct StepSite {
    int family, column;
    double mean, scale, log_scale, lower, upper;
};

/// What all steps share. Arrays are device memory.
struct StepShape {
    int sites, columns; ///< columns: of rows of data
    std::size_t chunk;  ///< particles between two sites
    bool fitted;
    const StepFamily* families;
    const StepSite* of_site;
    bool circle; ///< fitted, and all coordinates are angles: the reference is a free walk
};

/// Random numbers of particles first, first + 1, ... of the sequence.
struct StepRandom {
    std::uint64_t seed, first;
    std::uint32_t step;
};

/// One step of the reference diffusion: exp(-dt) and sqrt(1 - exp(-2 dt)), on a circle 1 and sqrt(2 dt), or
/// the tables of all families.
struct StepTransition {
    float decay, noise;
    int rows, columns;
    const float* tables; ///< [family][row][column]; device memory
};

/// All are enqueued and work on the first `particles` of a chunk.

/// z from the stationary law.
void start(DeviceStream stream, const StepShape& shape, const StepRandom& random, std::size_t particles,
           float* z);
/// z(dt) from z, in place.
void reference_step(DeviceStream stream, const StepShape& shape, const StepRandom& random,
                    const StepTransition& transition, std::size_t particles, float* z);
/// log_q += sum of the log stationary densities.
template <class T> void add_stationary(DeviceStream stream, const StepShape& shape, std::size_t particles,
                                       const T* z, double* log_q);
/// log_q -= (sum of first + sum of second) dt / 2, of the sites' parts of Lap h.
template <class T> void add_flow(DeviceStream stream, const StepShape& shape, std::size_t particles,
                                 double dt, const T* first, const T* second, double* log_q);

/// x[tile][site][particle of kScoreTile] = mean + scale z; log_q, unless null: less sum log scale, and -inf
/// where a coordinate is out of reach.
void finish(DeviceStream stream, const StepShape& shape, std::size_t particles, const float* z, float* x,
            double* log_q);
/// z of rows x[particle][column]; log_q, unless null: -sum log scale, or -inf out of reach.
void standardize(DeviceStream stream, const StepShape& shape, std::size_t particles, const double* x,
                 double* z, double* log_q);
/// x[particle][column] = (gradient - v') / scale of the coordinates, each in its own column.
void score_rows(DeviceStream stream, const StepShape& shape, std::size_t particles, const double* z,
                const double* gradient, double* x);

} // namespace dynkin::cuda

// waves_cuda.h - bases of waves on the device: functions for the moments, entries of the systems, score,
// samples and densities. Formulas: waves.h. A thread has a particle, or two, from its start to its end.
#pragma once
#include "device.h"
#include "moments_cuda.h"
#include "waves.h"
#include <cstddef>
#include <cstdint>

namespace dynkin::cuda {

/// Functions of the coordinates u of a batch in tables as evaluate_functions() of moments_cuda.h writes them:
/// number 1 + coordinate (width - 1) + n - 1 is f_n.
struct WaveFunctions {
    MomentBatch batch;
    bool periodic;
    int dimension, width, functions; ///< functions: of the table
    const double* u;                 ///< rows x dimension
    double* table;
};
void wave_functions(DeviceStream stream, const WaveFunctions& functions);

/// A(t) at some times, both triangles, from the moments of WaveSystem. Arrays are device memory.
struct WaveSystems {
    int dimension, functions, width, size; ///< size: K
    const kernels::WaveProduct* products;  ///< functions x functions
    const int* indices;                    ///< K x dimension
    const double *moments, *decays;        ///< decays: [time][width]
};
void wave_matrices(DeviceStream stream, const WaveSystems& systems, std::size_t times, double* a);

/// Coefficients are kept for `wave_runs` neighbouring runs of WavePlan at a time, which differ in the factor
/// of the last coordinate but one. WaveTerms: what they are for one function of the last coordinate, cosines
/// and (torus) sines of frequency 0, 1, ...; 0 where a run has ended, and for sin 0.
constexpr int wave_runs = 8;
template <class T> struct alignas(16) WaveTerms { T value[wave_runs], decay[wave_runs]; };
struct WaveGroup {
    int frequencies; ///< of the last coordinate
    int next;        ///< 1: the first with another factor of the last coordinate but two
};

/// A model at some times; device memory. Coordinates are the last `dimension` of three.
template <class T> struct WaveModel {
    bool periodic;
    int dimension, groups;
    const WaveGroup* group;
    std::size_t terms;            ///< of one time
    const WaveTerms<T>* terms_at; ///< [time][group, frequency, cosine and sine]
    const double* times;          ///< ascending
    int steps;                    ///< one fewer
    double mean[3], scale[3];
    double log_uniform;
};

/// Particles first, first + 1, ... of the sequence.
struct WaveRandom {
    std::uint64_t seed, first;
};

/// All are enqueued and work on `particles` particles of a chunk; x, log_q: device memory.

/// out[particle][coordinate] = grad log p at the first of the times, of rows x[particle][coordinate].
void wave_scores(DeviceStream stream, const WaveModel<double>& model, std::size_t particles, const double* x,
                 double* out);
/// Samples by the reverse SDE: x[tile][coordinate][particle of kScoreTile].
void wave_diffuse(DeviceStream stream, const WaveModel<float>& model, const WaveRandom& random,
                  std::size_t particles, float* x);
/// Samples by the flow, and their log q.
void wave_flow(DeviceStream stream, const WaveModel<float>& model, const WaveRandom& random,
               std::size_t particles, float* x, double* log_q);
/// log q of rows x[particle][coordinate].
void wave_log_density(DeviceStream stream, const WaveModel<double>& model, std::size_t particles,
                      const double* x, double* log_q);

} // namespace dynkin::cuda

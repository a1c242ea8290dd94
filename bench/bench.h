// bench.h - rates of the pipeline's stages beside the peaks of the same machine in the same run: what
// `dynkin bench` shows. Private to the program.
#pragma once
#include "engine/context.h"
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace dynkin::bench {

/// The problem is a chain of `dimension` sites with a fitted reference: 1-clusters to `degree`, neighbours to
/// 3 x 3, all pairs at (1, 1), even. 0: chosen for the device.
struct Options {
    std::vector<std::string> stages = {}; ///< empty: all
    std::size_t dimension = 0;
    int degree = 0;
    std::size_t samples = 0; ///< rows, particles
    std::size_t chains = 0;  ///< of Hamiltonian Monte Carlo
    std::size_t nodes = 0;   ///< systems, one a time
    int repeats = 0;
    std::uint64_t seed = 0;
};
/// With all that was left open. Throws Error(usage) for what is out of range or too large for memory.
Options resolved(const Context& context, Options options);

/// Names of the stages, in the order of the pipeline.
std::vector<std::string> stage_names();

/// Of some repeats; quartiles interpolated.
struct Spread {
    double median = 0, least = 0, lower = 0, upper = 0;
};
Spread spread_of(std::vector<double> values);

/// Seconds of a run. CPU: by a steady clock, and the process's own time over the threads, which other
/// programs on the machine lengthen less. Device: between two events on the compute stream, host included.
struct Seconds {
    Spread wall, processor; ///< processor: zeros on a device
};

/// What a unit takes, counted from the algorithm and not measured (docs/performance.md). 0: not counted.
struct Work {
    double flops = 0, bytes = 0;
};

/// Launches of one kind within a run on the device, timed by events around them.
struct Part {
    std::string name;
    Work work; ///< of a unit of the stage; bytes: beyond registers and the block's shared memory
    Spread seconds;
};

struct Figure {
    std::string stage, variant; ///< variant: "" or what is different
    bool single_precision = false;
    std::string unit;
    double units = 0; ///< of a run
    Work work;        ///< bytes: inputs and results of the stage, once
    Seconds seconds = {};
    std::vector<Part> parts = {};
    Seconds gemm = {}; ///< CPU: of GEMM in the stage's precision, run in turn with it; zeros on a device
    double gemm_flops = 0;
};

/// GEMM by OpenBLAS or cuBLAS (float32 without TF32), flops a second; triad or copy on the device, bytes a
/// second.
struct Peaks {
    Seconds gemm32, gemm64, bandwidth, to_device;                                        ///< of one run each
    double gemm32_flops = 0, gemm64_flops = 0, bandwidth_bytes = 0, to_device_bytes = 0; ///< of a run
};

Peaks measure_peaks(const Context& context, const Options& options);

/// Runs the stages asked for; show() is called with each figure. Throws Interrupted.
void measure_stages(const Context& context, const Options& options,
                    const std::function<void(const Figure&)>& show);

/// How cost grows: each axis (samples, dimension, degree, threads) by itself, the others as in `options`.
struct ScalingPoint {
    std::string axis;
    std::size_t value;
    Options options;
    int threads;
    Figure figure;
};
void measure_scaling(const ContextOptions& where, const Options& options,
                     const std::function<void(const ScalingPoint&)>& show);

/// For reports; context.device() must be cuda.
struct DeviceFacts {
    int major, minor, multiprocessors;
    std::uint64_t memory, l2_cache; ///< bytes
    int clock, memory_clock;        ///< kHz, the highest
    int driver, runtime;            ///< versions of CUDA, 13000 for 13.0
};
DeviceFacts device_facts(const Context& context);

/// Whether the device is the tests' emulator, whose times mean nothing.
bool emulated(const Context& context);

} // namespace dynkin::bench

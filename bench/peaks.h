// peaks.h - the peaks of each kind of device (private).
#pragma once
#include "bench.h"
#include "timing.h"

namespace dynkin::bench {

/// GEMM of one precision on all threads of the CPU, each with its own matrices: OpenBLAS at its best, without
/// its synchronisation. For peaks_of_cpu(), and to be run in turn with a stage: a virtual processor's speed
/// changes within seconds.
struct Gemm {
    double flops;
    Run run;
};
Gemm cpu_gemm(int threads, bool single_precision, bool small);

Peaks peaks_of_cpu(const Context& context, int repeats, bool small);
Peaks peaks_of_device(const Context& context, int repeats, bool small); ///< builds with CUDA only

} // namespace dynkin::bench

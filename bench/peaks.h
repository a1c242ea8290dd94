// peaks.h - the peaks of each kind of device (private).
#pragma once
#include "bench.h"

namespace dynkin::bench {

Peaks peaks_of_cpu(const Context& context, int repeats, bool small);
Peaks peaks_of_device(const Context& context, int repeats, bool small); ///< builds with CUDA only

} // namespace dynkin::bench

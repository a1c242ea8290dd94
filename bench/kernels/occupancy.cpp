// occupancy.cpp - theoretical occupancy by CUDA's own formula, for devices that are not there. Reads lines of
// `architecture threads registers static-shared dynamic-shared`, writes the share of a multiprocessor's warps
// of each.
#include <cstddef>
#include <cstdio>
#include <cuda_occupancy.h>

namespace {

/// What cudaGetDeviceProperties says of an A100 (80), H100 (90) or B200 (100); CUDA programming guide,
/// compute capabilities.
cudaOccDeviceProp properties(int architecture) {
    cudaOccDeviceProp p;
    p.computeMajor = architecture / 10, p.computeMinor = architecture % 10;
    p.maxThreadsPerBlock = 1024, p.maxThreadsPerMultiprocessor = 2048;
    p.regsPerBlock = 65536, p.regsPerMultiprocessor = 65536;
    p.warpSize = 32;
    p.numSms = architecture == 80 ? 108 : architecture == 90 ? 132 : 148;
    p.sharedMemPerBlock = 48 * 1024;
    p.reservedSharedMemPerBlock = 1024;
    p.sharedMemPerMultiprocessor = (architecture == 80 ? 164 : 228) * std::size_t{1024};
    p.sharedMemPerBlockOptin = p.sharedMemPerMultiprocessor - p.reservedSharedMemPerBlock;
    return p;
}

} // namespace

int main() {
    int architecture, threads, registers;
    std::size_t fixed, dynamic;
    while (std::scanf("%d %d %d %zu %zu", &architecture, &threads, &registers, &fixed, &dynamic) == 5) {
        const cudaOccDeviceProp device = properties(architecture);
        cudaOccFuncAttributes kernel;
        kernel.maxThreadsPerBlock = threads, kernel.numRegs = registers, kernel.sharedSizeBytes = fixed;
        kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
        kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        kernel.maxDynamicSharedSizeBytes = device.sharedMemPerBlockOptin - fixed;
        kernel.numBlockBarriers = 1;
        const cudaOccDeviceState state;
        cudaOccResult result;
        const cudaOccError status =
            cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads, dynamic);
        if (status != CUDA_OCC_SUCCESS) {
            std::fprintf(stderr, "cuda_occupancy.h: error %d for sm_%d\n", status, architecture);
            return 1;
        }
        const int warps = (threads + device.warpSize - 1) / device.warpSize;
        std::printf("%.4f\n", result.activeBlocksPerMultiprocessor * warps /
                                  (1.0 * device.maxThreadsPerMultiprocessor / device.warpSize));
    }
}

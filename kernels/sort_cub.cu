// sort_cub.cu - sorting by CUB, which says beforehand how much memory it takes. Not for the emulator, which
// has std::stable_sort in its place.
#include "cuda_check.h"
#include "sort_cuda.h"
#include <cub/device/device_radix_sort.cuh>

namespace dynkin::cuda {
namespace {

cudaError_t sort(void* workspace, std::size_t& bytes, cudaStream_t stream, std::size_t count,
                 const double* keys, double* out, const double* companions, double* companions_out) {
    constexpr int first_bit = 0, last_bit = 8 * sizeof(double);
    if (companions_out)
        return cub::DeviceRadixSort::SortPairs(workspace, bytes, keys, out, companions, companions_out, count,
                                               first_bit, last_bit, stream);
    return cub::DeviceRadixSort::SortKeys(workspace, bytes, keys, out, count, first_bit, last_bit, stream);
}

} // namespace

std::size_t sort_workspace(std::size_t count, bool companions) {
    std::size_t bytes = 0;
    double* some = nullptr; // asked for its size, the library looks at no pointer
    DYNKIN_CUDA_CHECK(sort(nullptr, bytes, nullptr, count, nullptr, some, nullptr,
                           companions ? reinterpret_cast<double*>(alignof(double)) : nullptr));
    return bytes;
}

void ascending(DeviceStream stream, std::size_t count, const double* keys, double* out,
               const double* companions, double* companions_out, void* workspace,
               std::size_t workspace_bytes) {
    if (count == 0) return;
    DYNKIN_CUDA_CHECK(sort(workspace, workspace_bytes, stream, count, keys, out, companions, companions_out));
}

} // namespace dynkin::cuda

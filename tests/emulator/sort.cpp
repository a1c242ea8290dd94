// sort.cpp - the stand-in for kernels/sort_cub.cu, which the emulator cannot run: std::stable_sort.
#include "kernels/sort_cuda.h"
#include "libraries.h"
#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace dynkin::cuda {

std::size_t sort_workspace(std::size_t count, bool companions) {
    return 256 + count * sizeof(double) * (companions ? 2 : 1);
}

void ascending(DeviceStream stream, std::size_t count, const double* keys, double* out,
               const double* companions, double* companions_out, void* workspace,
               std::size_t workspace_bytes) {
    using cuemu::array_objection;
    if (count == 0) return;
    std::string why = cuemu::first_of(
        {array_objection("keys", keys, count), array_objection("out", out, count),
         array_objection("workspace", static_cast<unsigned char*>(workspace), workspace_bytes)});
    if (companions_out && why.empty())
        why = cuemu::first_of({array_objection("companions", companions, count),
                               array_objection("companions_out", companions_out, count)});
    if (workspace_bytes < sort_workspace(count, companions_out != nullptr))
        why = "the workspace is too small";
    if (!why.empty()) throw std::invalid_argument("ascending: " + why);
    const cudaError_t status = cuemu::enqueue_work(stream, "ascending", [=] {
        std::vector<std::size_t> order(count);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [=](std::size_t a, std::size_t b) { return keys[a] < keys[b]; });
        for (std::size_t n = 0; n < count; ++n) {
            out[n] = keys[order[n]];
            if (companions_out) companions_out[n] = companions[order[n]];
        }
        std::fill_n(static_cast<unsigned char*>(workspace), workspace_bytes,
                    static_cast<unsigned char>(0xff));
    });
    if (status != cudaSuccess) throw std::runtime_error("ascending: the device has failed");
}

} // namespace dynkin::cuda

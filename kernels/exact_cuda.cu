// exact_cuda.cu - the kernel of exact_cuda.h: a warp for a particle and site, a group of cells a lane. The
// twin is exact_cpu.cpp.
#include "exact_cuda.h"
#include "gpu.h"
#include "philox.h"

namespace dynkin::cuda {
namespace {

using namespace kernels;

constexpr unsigned warp = 32, block_threads = 256; // eight particles share a sector of x
constexpr int kEnds = kExactCells + 1;             ///< nodes of a lane; the last is also the next lane's
static_assert(warp == kExactGroups);

/// Densities at this lane's nodes, relative to the highest of all lanes.
__device__ void fill(const ExactView& v, const ExactSite& site, const float* x, int first, double* row) {
    const auto value = [x](int j) {
        return static_cast<double>(x[static_cast<std::size_t>(j) * kScoreTile]);
    };
    const double* const base = v.base + site.base + first;
    const ExactLine line =
        exact_line(v, exact_sum(v.neighbours, site.first_neighbour, site.last_neighbour, value));
#pragma unroll
    for (int k = 0; k < kEnds; ++k) row[k] = base[k] + line.at + line.slope * (first + k);
    for (int n = site.first_link; n < site.last_link; ++n) {
        const ExactLink link = v.links[n];
        const ExactPlace place =
            exact_place(v, link, exact_sum(v.neighbours, link.first_neighbour, link.last_neighbour, value));
#pragma unroll
        for (int k = 0; k < kEnds; ++k) row[k] += place.at(first + k);
    }
    double highest = row[0];
#pragma unroll
    for (int k = 1; k < kEnds; ++k) highest = row[k] > highest ? row[k] : highest;
    for (int reach = warp / 2; reach > 0; reach /= 2) {
        const double other = __shfl_xor_sync(~0u, highest, reach);
        highest = other > highest ? other : highest;
    }
#pragma unroll
    for (int k = 0; k < kEnds; ++k) row[k] = portable_exp(row[k] - highest);
}

__global__ void __launch_bounds__(block_threads)
    exact_kernel(ExactView v, std::size_t first_site, std::uint64_t seed, std::uint64_t first,
                 ConditionalWork<float> w) {
    const std::size_t n = static_cast<std::size_t>(blockIdx.x) * (block_threads / warp) + threadIdx.x / warp;
    if (n >= w.particles()) return; // a whole warp
    const unsigned lane = threadIdx.x % warp;
    const ExactSite site = v.sites[first_site + blockIdx.y];
    float* const x = w.x + n / kScoreTile * static_cast<std::size_t>(w.columns) * kScoreTile + n % kScoreTile;
    double row[kEnds];
    fill(v, site, x, static_cast<int>(lane) * kExactCells, row);

    double end = exact_mass(row[0], row[1]);
#pragma unroll
    for (int k = 1; k < kExactCells; ++k) end += exact_mass(row[k], row[k + 1]);
    for (unsigned reach = 1; reach < warp; reach *= 2) {
        const double before = __shfl_up_sync(~0u, end, reach);
        end += lane >= reach ? before : 0.0;
    }
    const double total = __shfl_sync(~0u, end, warp - 1);
    const double before = __shfl_up_sync(~0u, end, 1), start = lane > 0 ? before : 0.0;
    const auto slot = static_cast<std::uint32_t>(site.target);
    const RandomWords words = philox(seed, Stream::sampler_start, first + n, 0, slot / 4);
    const std::uint32_t word = slot % 4 == 0   ? words.v[0]
                               : slot % 4 == 1 ? words.v[1]
                               : slot % 4 == 2 ? words.v[2]
                                               : words.v[3];
    const double wanted = uniform(word) * total;
    const unsigned below = __ballot_sync(~0u, lane + 1 < warp && end <= wanted);
    if (lane != static_cast<unsigned>(__popc(below))) return;

    double low = row[0], high = row[1], under = start, sum = 0;
    int cell = 0;
#pragma unroll
    for (int k = 0; k + 1 < kExactCells; ++k) {
        sum += exact_mass(row[k], row[k + 1]);
        if (start + sum <= wanted) cell = k + 1, under = start + sum, low = row[k + 1], high = row[k + 2];
    }
    const double s = exact_inverse(low, high, wanted - under);
    x[static_cast<std::size_t>(site.target) * kScoreTile] =
        exact_value(v, static_cast<int>(lane) * kExactCells + cell, s);
    if (w.part) w.part[blockIdx.y * w.particles() + n] = exact_log_density(v, low, high, s, total);
}

} // namespace

void draw_exact(DeviceStream stream, const ExactView& view, std::size_t first_site, std::uint64_t seed,
                std::uint64_t first, const ConditionalWork<float>& work) {
    if (work.tiles == 0 || work.targets == 0) return;
    const dim3 grid(gpu::blocks_for(work.particles() * warp, block_threads),
                    static_cast<unsigned>(work.targets));
    gpu::launch(exact_kernel, grid, block_threads, 0, stream, view, first_site, seed, first, work);
}

} // namespace dynkin::cuda

// table_cuda.cu - the kernels of table_cuda.h: one thread a particle and target, with the operations of
// table_simd.cpp in their order, multiply-adds fused as there.
#include "elementary.h"
#include "gpu.h"
#include "philox.h"
#include "table_cuda.h"
#include <cmath>

namespace dynkin::cuda {
namespace {

using kernels::kTableCells;
using kernels::kTableStride;
using kernels::LawTable;

constexpr unsigned block_threads = 256;

/// The mean, and per axis the row below and the fraction above it.
struct Given {
    float mean;
    int row;
    float fraction[2];
};

__device__ float at_least(float v, float bound) { return v > bound ? v : bound; }
__device__ float at_most(float v, float bound) { return v < bound ? v : bound; }

__device__ float weighted(const LawTable::Entry* entries, int first, int last, const float* x,
                          const int* neighbours) {
    float sum = 0;
    for (int e = first; e < last; ++e) {
        const int at = neighbours[entries[e].slot];
        if (at >= 0) sum = fmaf(entries[e].weight, x[at * kScoreTile], sum);
    }
    return sum;
}

/// sum_g c_g (sum_e w_e x_e)^power
__device__ float descriptor(const TableView& v, const LawTable::Axis& axis, const float* x,
                            const int* neighbours) {
    float value = 0;
    for (int g = axis.first; g < axis.last; ++g) {
        const LawTable::Group group = v.groups[g];
        const float sum = weighted(v.entries, group.first, group.last, x, neighbours);
        float product = group.coefficient * sum;
        for (int m = 1; m < axis.power; ++m) product *= sum;
        value += product;
    }
    return value;
}

__device__ Given describe(const TableView& v, const float* x, const int* neighbours) {
    Given out{};
    const float linear = weighted(v.predictor, 0, v.predictor_count, x, neighbours);
    out.mean = v.intercept + linear;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
        if (k >= v.axis_count) continue;
        const LawTable::Axis& axis = v.axes[k];
        const float value = axis.predictor ? linear : descriptor(v, axis, x, neighbours);
        const float top = static_cast<float>(axis.rows - 1);
        float share = at_most(at_least((value - axis.offset) * axis.inverse, 0.0f), 1.0f);
        if (axis.power == 2) share = sqrtf(share);
        const float at = share * top;
        const int below = static_cast<int>(at_most(at, top - 0.5f));
        out.fraction[k] = at - static_cast<float>(below);
        out.row += below * axis.stride;
    }
    return out;
}

__device__ float draw(const TableView& v, const Given& given, const RandomWords& words) {
    int row = given.row;
#pragma unroll
    for (int k = 0; k < 2; ++k)
        if (k < v.axis_count && uniform_float(words.v[k + 1]) < given.fraction[k]) row += v.axes[k].stride;
    const int start = row * kTableStride;
    const auto wanted = static_cast<std::int32_t>(words.v[0] ^ 0x80000000u);
    int cell = start;
#pragma unroll
    for (int half = kTableCells / 2; half > 0; half /= 2)
        if (v.cumulative[cell + half] <= wanted) cell += half;
    const auto low = static_cast<std::uint32_t>(v.cumulative[cell]),
               high = static_cast<std::uint32_t>(v.cumulative[cell + 1]);
    // Halved, since a cell may hold more than 2^31.
    const float below = static_cast<float>((static_cast<std::uint32_t>(wanted) - low) >> 1) + 0.25f,
                mass = static_cast<float>((high - low) >> 1) + 0.5f;
    const float share = at_most(below / mass, 1.0f);
    const float a = v.density[cell], b = v.density[cell + 1];
    const float root = sqrtf(fmaf(a, a, share * fmaf(-a, a, b * b)));
    const float s = at_most(share * (a + b) / (a + root + 1e-30f), 1.0f);
    const float z = fmaf(v.h, static_cast<float>(cell - start) + s, v.lo);
    return fmaf(v.scale, z, given.mean);
}

__device__ float density(const TableView& v, const Given& given, float x) {
    const float inverse_scale = 1 / v.scale, inverse_h = 1 / v.h;
    const float at = fmaf(x - given.mean, inverse_scale, -v.lo) * inverse_h;
    // What was drawn at an end may come back beside it, by rounding.
    const float margin = 1e-3f, top = static_cast<float>(kTableCells);
    const bool inside = at >= -margin && at <= top + margin;
    const float place = at_most(at_least(at, 0.0f), top);
    const int cell = static_cast<int>(at_most(place, top - 0.5f));
    const float s = place - static_cast<float>(cell);
    const float* const node = v.density + given.row * kTableStride + cell;
    const auto value = [&](int offset) { return fmaf(s, node[offset + 1] - node[offset], node[offset]); };
    float q = value(0);
    if (v.axis_count > 0) {
        const int first = v.axes[0].stride * kTableStride;
        q = fmaf(given.fraction[0], value(first) - q, q);
        if (v.axis_count > 1) {
            const int second = v.axes[1].stride * kTableStride;
            float other = value(second);
            other = fmaf(given.fraction[0], value(first + second) - other, other);
            q = fmaf(given.fraction[1], other - q, q);
        }
    }
    return inside ? q * inverse_scale : 0.0f;
}

__global__ void __launch_bounds__(block_threads)
    draw_kernel(TableView v, std::uint64_t seed, std::uint64_t first, ConditionalWork<float> w) {
    const std::size_t n = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (n >= w.particles()) return;
    const int target = w.target[blockIdx.y];
    float* const x = w.x + n / kScoreTile * static_cast<std::size_t>(w.columns) * kScoreTile + n % kScoreTile;
    const Given given = describe(v, x, w.neighbours + blockIdx.y * static_cast<std::size_t>(w.slots));
    const float value =
        draw(v, given, philox(seed, Stream::table_draw, first + n, 0, static_cast<std::uint32_t>(target)));
    x[target * kScoreTile] = value;
    if (w.part) w.part[blockIdx.y * w.particles() + n] = static_cast<double>(density(v, given, value));
}

__global__ void __launch_bounds__(block_threads)
    log_products_kernel(int targets, std::size_t particles, const double* part, double* log_q) {
    const std::size_t n = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (n >= particles) return;
    double sum = log_q[n], product = 1;
    for (int k = 0; k < targets; ++k) {
        product *= part[static_cast<std::size_t>(k) * particles + n];
        if (k % kTableProduct == kTableProduct - 1 || k + 1 == targets)
            sum += portable_log(product), product = 1;
    }
    log_q[n] = sum;
}

} // namespace

void draw_from_table(DeviceStream stream, const TableView& table, std::uint64_t seed, std::uint64_t first,
                     const ConditionalWork<float>& work) {
    if (work.tiles == 0 || work.targets == 0) return;
    const dim3 grid(gpu::blocks_for(work.particles(), block_threads), static_cast<unsigned>(work.targets));
    gpu::launch(draw_kernel, grid, block_threads, 0, stream, table, seed, first, work);
}

void add_log_products(DeviceStream stream, int targets, std::size_t particles, const double* part,
                      double* log_q) {
    if (targets == 0 || particles == 0) return;
    gpu::launch(log_products_kernel, gpu::blocks_for(particles, block_threads), block_threads, 0, stream,
                targets, particles, part, log_q);
}

} // namespace dynkin::cuda

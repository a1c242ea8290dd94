// table_device.h - table_formulas.h for one particle of a thread: what table_cuda.cu and local_cuda.cu share.
#pragma once
#include "gpu.h"
#include "philox.h"
#include "table_cuda.h"
#include "table_formulas.h"
#include <cmath>

namespace dynkin::cuda {

/// One particle.
struct Lane {
    using Floats = float;
    using Ints = int;
    static DYNKIN_HD float all(float x) { return x; }
    static DYNKIN_HD float load(const float* p) { return *p; }
    static DYNKIN_HD float fused(float a, float b, float c) { return fmaf(a, b, c); }
    template <class T> static DYNKIN_HD T lookup(const T* table, int index) { return table[index]; }
    static DYNKIN_HD float to_floats(int v) { return static_cast<float>(v); }
    static DYNKIN_HD int to_ints(float v) { return static_cast<int>(v); }
    static DYNKIN_HD float root(float v) { return sqrtf(v); }
    static DYNKIN_HD float at_least(float v, float bound) { return v > bound ? v : bound; }
    static DYNKIN_HD float at_most(float v, float bound) { return v < bound ? v : bound; }
    static DYNKIN_HD int if_at_most(int v, int bound, int then) { return v <= bound ? then : 0; }
    static DYNKIN_HD int half_difference(int high, int low) {
        return static_cast<int>((static_cast<std::uint32_t>(high) - static_cast<std::uint32_t>(low)) >> 1);
    }
    static DYNKIN_HD float if_between(float v, float low, float high, float then) {
        return v >= low && v <= high ? then : 0.0f;
    }
};
using Formulas = kernels::TableFormulas<Lane>;
using Given = kernels::TableGiven<Lane>;

/// x: coordinate j of this particle at j * stride.
__device__ __forceinline__ Given describe(const TableView& v, const float* x, int stride,
                                          const int* neighbours) {
    Given out{};
    const float linear = Formulas::weighted(v.predictor, 0, v.predictor_count, x, stride, neighbours);
    out.mean = v.intercept + linear;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
        if (k >= v.axis_count) continue;
        const kernels::LawTable::Axis& axis = v.axes[k];
        const float value =
            axis.predictor ? linear : Formulas::descriptor(v.entries, v.groups, axis, x, stride, neighbours);
        Formulas::place(axis, value, out.row, out.fraction[k]);
    }
    return out;
}

__device__ __forceinline__ float draw(const TableView& v, const Given& given, const RandomWords& words) {
    int row = given.row;
#pragma unroll
    for (int k = 0; k < 2; ++k)
        if (k < v.axis_count && uniform_float(words.v[k + 1]) < given.fraction[k]) row += v.axes[k].stride;
    const float z =
        Formulas::invert(v.density, v.cumulative, v.h, v.lo, row, static_cast<std::int32_t>(words.v[0]));
    return fmaf(v.scale, z, given.mean);
}

__device__ __forceinline__ float density(const TableView& v, const Given& given, float x) {
    const int strides[2] = {v.axes[0].stride * kernels::kTableStride,
                            v.axes[1].stride * kernels::kTableStride};
    return Formulas::density(v.density, v.scale, v.h, v.lo, v.axis_count, strides, given, x);
}

} // namespace dynkin::cuda

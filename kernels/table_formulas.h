// table_formulas.h - the formulas of table.h, for one particle (the device) or a vector of them (the host's
// loops). L names the numbers, `Floats` and `Ints`, and what is done with them lane by lane; multiply-adds
// are fused where L::fused is written and nowhere else, so that both have the same bits.
#pragma once
#include "portable.h"
#include "table.h"
#include <cstdint>

namespace dynkin::kernels {

/// The mean, and per axis the row below and the fraction above it.
template <class L> struct TableGiven {
    typename L::Floats mean;
    typename L::Ints row;
    typename L::Floats fraction[2];
};

template <class L> struct TableFormulas {
    using Floats = typename L::Floats;
    using Ints = typename L::Ints;

    /// sum_e w_e x_e; coordinate j of x stands at j * stride.
    static DYNKIN_HD Floats weighted(const LawTable::Entry* entries, int first, int last, const float* x,
                                     int stride, const int* neighbours) {
        Floats sum = L::all(0);
        for (int e = first; e < last; ++e) {
            const int at = neighbours[entries[e].slot];
            if (at >= 0) sum = L::fused(L::all(entries[e].weight), L::load(x + at * stride), sum);
        }
        return sum;
    }
    /// sum_g c_g (sum_e w_e x_e)^power
    static DYNKIN_HD Floats descriptor(const LawTable::Entry* entries, const LawTable::Group* groups,
                                       const LawTable::Axis& axis, const float* x, int stride,
                                       const int* neighbours) {
        Floats value = L::all(0);
        for (int g = axis.first; g < axis.last; ++g) {
            const LawTable::Group group = groups[g];
            const Floats sum = weighted(entries, group.first, group.last, x, stride, neighbours);
            Floats product = group.coefficient * sum;
            for (int m = 1; m < axis.power; ++m) product = product * sum;
            value = value + product;
        }
        return value;
    }
    /// The row below and the fraction above it on an axis.
    static DYNKIN_HD Floats share(const LawTable::Axis& axis, Floats value) {
        const Floats v = L::at_most(L::at_least((value - axis.offset) * axis.inverse, 0.0f), 1.0f);
        return axis.power == 2 ? L::root(v) : v;
    }
    static DYNKIN_HD void place(const LawTable::Axis& axis, Floats value, Ints& row, Floats& fraction) {
        const float top = static_cast<float>(axis.rows - 1);
        const Floats at = share(axis, value) * top;
        const Ints below = L::to_ints(L::at_most(at, top - 0.5f));
        fraction = at - L::to_floats(below);
        row = row + below * axis.stride;
    }

    /// x in a row by the inverse of its distribution function, from a uniform word.
    static DYNKIN_HD Floats invert(const float* density, const std::int32_t* cumulative, float h, float lo,
                                   Ints row, Ints word) {
        const Ints start = row * kTableStride, wanted = word ^ static_cast<std::int32_t>(0x80000000u);
        Ints cell = start;
#if defined(__CUDA_ARCH__)
#pragma unroll
#elif !defined(__CUDACC__)
#pragma GCC unroll 8
#endif
        for (int half = kTableCells / 2; half > 0; half /= 2)
            cell = cell + L::if_at_most(L::lookup(cumulative + half, cell), wanted, half);
        const Ints low = L::lookup(cumulative, cell), high = L::lookup(cumulative + 1, cell);
        // Halved, since a cell may hold more than 2^31.
        const Floats below = L::to_floats(L::half_difference(wanted, low)) + 0.25f,
                     mass = L::to_floats(L::half_difference(high, low)) + 0.5f;
        const Floats share = L::at_most(below / mass, 1.0f);
        const Floats a = L::lookup(density, cell), b = L::lookup(density + 1, cell);
        const Floats root = L::root(L::fused(a, a, share * L::fused(-a, a, b * b)));
        const Floats s = L::at_most(share * (a + b) / (a + root + 1e-30f), 1.0f);
        return L::fused(L::all(h), L::to_floats(cell - start) + s, L::all(lo));
    }

    /// q(x); 0 beyond the table. strides: of the axes, in nodes.
    static DYNKIN_HD Floats density(const float* nodes, float scale, float h, float lo, int axes,
                                    const int* strides, const TableGiven<L>& given, Floats x) {
        const float inverse_scale = 1 / scale, inverse_h = 1 / h;
        const Floats at = L::fused(x - given.mean, L::all(inverse_scale), L::all(-lo)) * inverse_h;
        // What was drawn at an end may come back beside it, by rounding.
        const float margin = 1e-3f, top = static_cast<float>(kTableCells);
        const Floats in_range = L::at_most(L::at_least(at, 0.0f), top);
        const Ints cell = L::to_ints(L::at_most(in_range, top - 0.5f));
        const Floats s = in_range - L::to_floats(cell);
        const Ints index = given.row * kTableStride + cell;
        const auto value = [&](int offset) {
            const Floats a = L::lookup(nodes + offset, index), b = L::lookup(nodes + offset + 1, index);
            return L::fused(s, b - a, a);
        };
        Floats q = value(0);
        if (axes > 0) {
            q = L::fused(given.fraction[0], value(strides[0]) - q, q);
            if (axes > 1) {
                Floats other = value(strides[1]);
                other = L::fused(given.fraction[0], value(strides[0] + strides[1]) - other, other);
                q = L::fused(given.fraction[1], other - q, q);
            }
        }
        return L::if_between(at, -margin, top + margin, q * inverse_scale);
    }
};

} // namespace dynkin::kernels

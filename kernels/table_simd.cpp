// table_simd.cpp - the host loops of table.h for one SIMD level.
#include "elementary.h"
#include "philox.h"
#include "simd.h"
#include "table.h"

namespace dynkin::kernels {
namespace DYNKIN_ISA {
namespace {

constexpr int kTile = kScoreTile, kWidth = kLanes<float>;
using Floats = Vector<float>;
using Ints = Index<float>;

Ints load_ints(const std::int32_t* p) {
    Ints v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
Ints lookup_ints(const std::int32_t* table, Ints index) {
#if defined(__AVX512F__)
    return __builtin_bit_cast(Ints,
                              _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), 0xffff,
                                                          __builtin_bit_cast(__m512i, index), table, 4));
#elif defined(__AVX2__)
    return __builtin_bit_cast(Ints, _mm256_i32gather_epi32(table, __builtin_bit_cast(__m256i, index), 4));
#else
    Ints v;
    for (int lane = 0; lane < kWidth; ++lane) v[lane] = table[index[lane]];
    return v;
#endif
}
Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }
Ints to_ints(Floats v) { return __builtin_convertvector(v, Ints); } // towards zero
Floats square_root(Floats v) {
    for (int lane = 0; lane < kWidth; ++lane) v[lane] = std::sqrt(v[lane]);
    return v;
}
Floats at_least(Floats v, float bound) { return v > broadcast(bound) ? v : broadcast(bound); }
Floats at_most(Floats v, float bound) { return v < broadcast(bound) ? v : broadcast(bound); }

/// sum_g c_g (sum_e w_e x_e)^power for the lanes from p.
Floats descriptor(const LawTable& table, const LawTable::Axis& axis, const float* x, const int* neighbours) {
    Floats value = {};
    for (int g = axis.first; g < axis.last; ++g) {
        const auto& group = table.groups.data()[g];
        Floats sum = {};
        for (int e = group.first; e < group.last; ++e) {
            const auto& entry = table.entries.data()[e];
            const int at = neighbours[entry.slot];
            if (at >= 0) sum += entry.weight * load(x + at * kTile);
        }
        Floats product = group.coefficient * sum;
        for (int m = 1; m < axis.power; ++m) product *= sum;
        value += product;
    }
    return value;
}

void describe(const LawTable& table, const float* x, const int* neighbours, TableConditions& out) {
    const LawTable::Entry* const first = table.predictor.data();
    const LawTable::Entry* const last = first + table.predictor.size();
    const int axes = static_cast<int>(table.axes.size());
    for (int p = 0; p < kTile; p += kWidth) {
        Floats linear = {};
        for (const LawTable::Entry* e = first; e != last; ++e) {
            const int at = neighbours[e->slot];
            if (at >= 0) linear += e->weight * load(x + at * kTile + p);
        }
        store(out.mean + p, table.intercept + linear);
        Ints row = {};
        for (int k = 0; k < 2; ++k) {
            Floats fraction = {};
            if (k < axes) {
                const LawTable::Axis& axis = table.axes.data()[k];
                const Floats value = axis.predictor ? linear : descriptor(table, axis, x + p, neighbours);
                const float top = static_cast<float>(axis.rows - 1);
                Floats share = at_most(at_least((value - axis.offset) * axis.inverse, 0.0f), 1.0f);
                if (axis.power == 2) share = square_root(share);
                const Floats at = share * top;
                const Ints below = to_ints(at_most(at, top - 0.5f));
                fraction = at - to_floats(below);
                row += below * axis.stride;
            }
            store(out.fraction[k] + p, fraction);
        }
        std::memcpy(out.row + p, &row, sizeof row);
    }
}

void words(std::uint64_t seed, std::uint32_t stream, std::uint64_t first, std::uint32_t step,
           std::uint32_t slot, std::uint32_t* out) {
    for (int p = 0; p < kTile; ++p) {
        const RandomWords w =
            philox(seed, static_cast<Stream>(stream), first + static_cast<std::uint64_t>(p), step, slot);
        for (int k = 0; k < 4; ++k) out[k * kTile + p] = w.v[k];
    }
}

Floats uniforms(const std::uint32_t* w) { // 23 bits
    Ints bits;
    std::memcpy(&bits, w, sizeof bits);
    return (to_floats((bits >> 9) & 0x7fffff) + 0.5f) * 0x1p-23f;
}

void draw(const LawTable& table, const TableConditions& given, const std::uint32_t* words, float* x) {
    const int axes = static_cast<int>(table.axes.size());
    const std::int32_t* const cumulative = table.cumulative.data();
    const float* const density = table.density.data();
    for (int p = 0; p < kTile; p += kWidth) {
        Ints row = load_ints(given.row + p);
        for (int k = 0; k < axes; ++k)
            row += (uniforms(words + (k + 1) * kTile + p) < load(given.fraction[k] + p)) &
                   table.axes.data()[k].stride;
        const Ints start = row * kTableStride;
        Ints wanted;
        std::memcpy(&wanted, words + p, sizeof wanted);
        wanted ^= static_cast<std::int32_t>(0x80000000u);
        Ints cell = start;
#pragma GCC unroll 8
        for (int half = kTableCells / 2; half > 0; half /= 2)
            cell += (lookup_ints(cumulative + half, cell) <= wanted) & half;
        const Ints low = lookup_ints(cumulative, cell), high = lookup_ints(cumulative + 1, cell);
        // Halved, since a cell may hold more than 2^31.
        const Floats below = to_floats(((wanted - low) >> 1) & 0x7fffffff) + 0.25f,
                     mass = to_floats(((high - low) >> 1) & 0x7fffffff) + 0.5f;
        const Floats share = at_most(below / mass, 1.0f);
        const Floats a = lookup(density, cell), b = lookup(density + 1, cell);
        const Floats root = square_root(a * a + share * (b * b - a * a));
        const Floats s = at_most(share * (a + b) / (a + root + 1e-30f), 1.0f);
        const Floats z = table.lo + table.h * (to_floats(cell - start) + s);
        store(x + p, load(given.mean + p) + table.scale * z);
    }
}

void density(const LawTable& table, const TableConditions& given, const float* x, double* product) {
    const int axes = static_cast<int>(table.axes.size());
    const float* const nodes = table.density.data();
    const float inverse_scale = 1 / table.scale, inverse_h = 1 / table.h;
    for (int p = 0; p < kTile; p += kWidth) {
        const Floats at = ((load(x + p) - load(given.mean + p)) * inverse_scale - table.lo) * inverse_h;
        // What was drawn at an end may come back beside it, by rounding.
        const float margin = 1e-3f, top = static_cast<float>(kTableCells);
        const Ints inside = (at >= broadcast(-margin)) & (at <= broadcast(top + margin));
        const Floats place = at_most(at_least(at, 0.0f), top);
        const Ints cell = to_ints(at_most(place, top - 0.5f));
        const Floats s = place - to_floats(cell);
        const Ints index = load_ints(given.row + p) * kTableStride + cell;
        const auto value = [&](int offset) {
            const Floats a = lookup(nodes + offset, index), b = lookup(nodes + offset + 1, index);
            return a + s * (b - a);
        };
        Floats q = value(0);
        if (axes > 0) {
            const int first = table.axes.data()[0].stride * kTableStride;
            const Floats f = load(given.fraction[0] + p);
            q += f * (value(first) - q);
            if (axes > 1) {
                const int second = table.axes.data()[1].stride * kTableStride;
                Floats other = value(second);
                other += f * (value(first + second) - other);
                q += load(given.fraction[1] + p) * (other - q);
            }
        }
        q *= inverse_scale;
        q = inside ? q : Floats{};
        for (int lane = 0; lane < kWidth; ++lane) product[p + lane] *= static_cast<double>(q[lane]);
    }
}

void add_log(double* product, double* sum) {
    for (int p = 0; p < kTile; ++p) sum[p] += portable_log(product[p]);
    for (int p = 0; p < kTile; ++p) product[p] = 1;
}

} // namespace
} // namespace DYNKIN_ISA

const TableKernels& DYNKIN_ISA_NAME(table_kernels)() {
    static const TableKernels kernels{DYNKIN_ISA::describe, DYNKIN_ISA::words, DYNKIN_ISA::draw,
                                      DYNKIN_ISA::density, DYNKIN_ISA::add_log};
    return kernels;
}

} // namespace dynkin::kernels

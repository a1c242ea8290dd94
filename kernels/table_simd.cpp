// table_simd.cpp - the host loops of table.h for one SIMD level; compiled without contraction
// (table_formulas.h).
#include "elementary.h"
#include "philox.h"
#include "simd.h"
#include "table.h"
#include "table_formulas.h"

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

/// As many particles as a vector has lanes.
struct Lanes {
    using Floats = Vector<float>;
    using Ints = Index<float>;
    static Floats all(float x) { return broadcast(x); }
    static Floats load(const float* p) { return DYNKIN_ISA::load(p); }
    static Floats fused(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
        return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
        return _mm256_fmadd_ps(a, b, c);
#else
        return a * b + c;
#endif
    }
    static Floats lookup(const float* table, Ints index) { return DYNKIN_ISA::lookup(table, index); }
    static Ints lookup(const std::int32_t* table, Ints index) {
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
    static Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }
    static Ints to_ints(Floats v) { return __builtin_convertvector(v, Ints); } // towards zero
    static Floats root(Floats v) {
        for (int lane = 0; lane < kWidth; ++lane) v[lane] = std::sqrt(v[lane]);
        return v;
    }
    static Floats at_least(Floats v, float bound) { return v > broadcast(bound) ? v : broadcast(bound); }
    static Floats at_most(Floats v, float bound) { return v < broadcast(bound) ? v : broadcast(bound); }
    static Ints if_at_most(Ints v, Ints bound, int then) { return (v <= bound) & then; }
    static Ints half_difference(Ints high, Ints low) { return ((high - low) >> 1) & 0x7fffffff; }
    static Floats if_between(Floats v, float low, float high, Floats then) {
        const Ints inside = (v >= broadcast(low)) & (v <= broadcast(high));
        return inside ? then : Floats{};
    }
};
using Formulas = TableFormulas<Lanes>;

void describe(const LawTable& table, const float* x, const int* neighbours, TableConditions& out) {
    const LawTable::Entry* const entries = table.entries.data();
    const int axes = static_cast<int>(table.axes.size()),
              predictor = static_cast<int>(table.predictor.size());
    for (int p = 0; p < kTile; p += kWidth) {
        const Floats linear =
            Formulas::weighted(table.predictor.data(), 0, predictor, x + p, kTile, neighbours);
        store(out.mean + p, table.intercept + linear);
        Ints row = {};
        for (int k = 0; k < 2; ++k) {
            Floats fraction = {};
            if (k < axes) {
                const LawTable::Axis& axis = table.axes.data()[k];
                const Floats value = axis.predictor ? linear
                                                    : Formulas::descriptor(entries, table.groups.data(), axis,
                                                                           x + p, kTile, neighbours);
                Formulas::place(axis, value, row, fraction);
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
    return (Lanes::to_floats((bits >> 9) & 0x7fffff) + 0.5f) * 0x1p-23f;
}

void draw(const LawTable& table, const TableConditions& given, const std::uint32_t* words, float* x) {
    const int axes = static_cast<int>(table.axes.size());
    for (int p = 0; p < kTile; p += kWidth) {
        Ints row = load_ints(given.row + p), word;
        for (int k = 0; k < axes; ++k)
            row += (uniforms(words + (k + 1) * kTile + p) < load(given.fraction[k] + p)) &
                   table.axes.data()[k].stride;
        std::memcpy(&word, words + p, sizeof word);
        const Floats z =
            Formulas::invert(table.density.data(), table.cumulative.data(), table.h, table.lo, row, word);
        store(x + p, Lanes::fused(broadcast(table.scale), z, load(given.mean + p)));
    }
}

void density(const LawTable& table, const TableConditions& given, const float* x, double* product) {
    const int axes = static_cast<int>(table.axes.size());
    int strides[2] = {0, 0};
    for (int k = 0; k < axes; ++k) strides[k] = table.axes.data()[k].stride * kTableStride;
    for (int p = 0; p < kTile; p += kWidth) {
        const TableGiven<Lanes> here{load(given.mean + p),
                                     load_ints(given.row + p),
                                     {load(given.fraction[0] + p), load(given.fraction[1] + p)}};
        const Floats q = Formulas::density(table.density.data(), table.scale, table.h, table.lo, axes,
                                           strides, here, load(x + p));
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

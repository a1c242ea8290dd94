// prior_table_simd.cpp - the host loop of prior_table.h for one SIMD level: a few rows of one node at a time,
// so that coefficients are loaded once for them, and what the next rows need on its way from memory.
#include "prior.h"
#include "prior_table.h"
#include "simd.h"
#include <algorithm>

namespace dynkin::kernels {
namespace DYNKIN_ISA {
namespace {

using std::size_t;
using V = Vector<float>;
constexpr size_t L = static_cast<size_t>(kLanes<float>);
constexpr int kMostRows = kRegisters >= 32 ? 4 : 2; ///< four sums a row stay in registers

/// w cut to [-one, one]; NaN stays.
inline __attribute__((always_inline)) V cut(V w, V one) {
#if defined(__AVX512F__)
    return __builtin_bit_cast(
        V, _mm512_min_ps(__builtin_bit_cast(__m512, one),
                         _mm512_max_ps(__builtin_bit_cast(__m512, -one), __builtin_bit_cast(__m512, w))));
#else
    const V above = w < -one ? -one : w;
    return above > one ? one : above;
#endif
}

/// x and out of a block's columns, for rows and for those to be fetched.
template <int R> struct Pointers {
    const float *x[R], *next_x[R];
    float *out[R], *next_out[R];
};

/// One block; what is beyond the window is left in `excess`, and a number that is not 0 in `beyond` if there
/// is any.
template <int K, int R> inline __attribute__((always_inline)) void
block_scores(const float* middle, const float* twice, const float* coefficients, const PriorTableRow* rows,
             const Pointers<R>& p, float (&excess)[R][kPriorBlock], V (&beyond)[R]) {
    for (V& each : beyond) each = V{};
    for (size_t j = 0; j < kPriorBlock; j += L) {
        const V m = load(middle + j), width = load(twice + j), one = broadcast(1.0f);
        V v[R], score[R];
#pragma GCC unroll 4
        for (int q = 0; q < R; ++q) {
            __builtin_prefetch(p.next_x[q] + j), __builtin_prefetch(p.next_out[q] + j, 1);
            const V w = prior_window(rows[q], load(p.x[q] + j), m, width);
            v[q] = cut(w, one);
            const V rest = w - v[q];
            store(&excess[q][j], rest);
            beyond[q] += rest * rest;
        }
        tabulated_scores<K, R>(
            rows, v,
            [&](int i, int k) {
                return load(coefficients + static_cast<size_t>(k * K + i) * kPriorBlock + j);
            },
            score);
#pragma GCC unroll 4
        for (int q = 0; q < R; ++q) store(p.out[q] + j, score[q]);
    }
}

/// Any that is not 0, NaN as well.
inline __attribute__((always_inline)) bool any(V beyond) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask(__builtin_bit_cast(__m512, beyond), _mm512_setzero_ps(), _CMP_NEQ_UQ) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_ps(
               _mm256_cmp_ps(__builtin_bit_cast(__m256, beyond), _mm256_setzero_ps(), _CMP_NEQ_UQ)) != 0;
#else
    bool found = false;
    for (size_t lane = 0; lane < L; ++lane) found |= !(beyond[static_cast<int>(lane)] == 0);
    return found;
#endif
}

template <int K, int R> void group(const PriorTableView& t, size_t first, size_t last,
                                   const PriorTableRow* rows, const PriorTableRow* next, const float* x,
                                   size_t x_stride, float* out, size_t out_stride) {
    float excess[R][kPriorBlock], part_x[R][kPriorBlock], part[R][kPriorBlock];
    for (size_t block = first; block < last; ++block) {
        const size_t column = block * kPriorBlock, columns = std::min(kPriorBlock, t.columns - column);
        const bool whole = columns == kPriorBlock;
        const float* const c =
            t.values + (block * t.nodes + rows->node) * static_cast<size_t>(K) * kPriorBlock;
        Pointers<R> p;
        for (int q = 0; q < R; ++q) {
            p.x[q] = x + rows[q].row * x_stride + column, p.out[q] = out + rows[q].row * out_stride + column;
            p.next_x[q] = x + next[q].row * x_stride + column;
            p.next_out[q] = out + next[q].row * out_stride + column;
            if (whole) continue;
            std::fill_n(part_x[q], kPriorBlock, 0.0f);
            std::copy_n(p.x[q], columns, part_x[q]);
            p.x[q] = part_x[q], p.out[q] = part[q];
            p.next_x[q] = part_x[q], p.next_out[q] = part[q];
        }
        constexpr size_t line = 64 / sizeof(float);
        for (size_t k = std::max(rows->node + 4, next->node); k < next->node + 4;
             ++k) // nodes that come into use
            for (size_t j = 0; j < K * kPriorBlock; j += line)
                __builtin_prefetch(c + (k - rows->node) * K * kPriorBlock + j);
        V beyond[R];
        block_scores<K, R>(t.middle + column, t.twice + column, c, rows, p, excess, beyond);
        for (int q = 0; q < R; ++q)
            if (any(beyond[q])) {
#pragma omp simd
                for (size_t j = 0; j < kPriorBlock; ++j)
                    p.out[q][j] -= prior_tail(rows[q], t.twice[column + j]) * excess[q][j];
            }
        for (int q = 0; !whole && q < R; ++q)
            std::copy_n(part[q], columns, out + rows[q].row * out_stride + column);
    }
}

template <int K> void scores(const PriorTableView& t, size_t first, size_t last, const PriorTableRow* rows,
                             size_t count, const float* x, size_t x_stride, float* out, size_t out_stride) {
    for (size_t n = 0; n < count;) {
        size_t same = 1;
        while (same < kMostRows && n + same < count && rows[n + same].node == rows[n].node) ++same;
        const size_t used = same >= 4 ? 4 : same >= 2 ? 2 : 1;
        const PriorTableRow* const next = rows + std::min(n + used, count - used); // some to fetch, always
        if constexpr (kMostRows >= 4)
            if (used == 4) group<K, 4>(t, first, last, rows + n, next, x, x_stride, out, out_stride);
        if (used == 2) group<K, 2>(t, first, last, rows + n, next, x, x_stride, out, out_stride);
        if (used == 1) group<K, 1>(t, first, last, rows + n, next, x, x_stride, out, out_stride);
        n += used;
    }
}

void score(const PriorTableView& t, size_t first, size_t last, const PriorTableRow* rows, size_t count,
           const float* x, size_t x_stride, float* out, size_t out_stride) {
    with_prior_degree(t.degree,
                      [&]<int K> { scores<K>(t, first, last, rows, count, x, x_stride, out, out_stride); });
}

} // namespace
} // namespace DYNKIN_ISA

const PriorTableKernels& DYNKIN_ISA_NAME(prior_table_kernels)() {
    static const PriorTableKernels kernels{DYNKIN_ISA::score};
    return kernels;
}

} // namespace dynkin::kernels

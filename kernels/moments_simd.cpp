// moments_simd.cpp - the host loops of moments.h for one SIMD level.
#include "moments.h"
#include "simd.h"
#include <algorithm>

namespace dynkin::kernels {
namespace DYNKIN_ISA {
namespace {

constexpr int kRowStep = kRegisters == 32 ? 24 : 8; ///< broadcast rows a register block
/// Samples a block: rows of one register block stay in the first-level cache; float32 sums end here in
/// float64.
template <class T> constexpr int kDepth = 1024 / static_cast<int>(sizeof(T)) < kMomentTile
                                              ? 1024 / static_cast<int>(sizeof(T))
                                              : kMomentTile;
template <class T>
constexpr int kRowStride = kDepth<T> + 64 / static_cast<int>(sizeof(T)); ///< no 4 KiB aliasing

/// sums[m][lane] = sum_s rows[m][s] column[s][lane]: ROWS accumulators in registers, one column load a
/// sample.
template <int ROWS, class T>
inline __attribute__((always_inline)) void multiply(const T* rows, const T* column, Vector<T>* sums) {
    Vector<T> sum[ROWS] = {};
    for (int s = 0; s < kDepth<T>; ++s) {
        const Vector<T> c = load(column + s * kLanes<T>);
#pragma GCC unroll 24
        for (int m = 0; m < ROWS; ++m) sum[m] += broadcast(rows[m * kRowStride<T> + s]) * c;
    }
    for (int m = 0; m < ROWS; ++m) sums[m] = sum[m];
}

template <class T> void multiply_rows(int rows, const T* row, const T* column, Vector<T>* sums) {
    if (kRowStep == 24 && rows > 16) return multiply<24>(row, column, sums);
    if (kRowStep == 24 && rows > 8) return multiply<16>(row, column, sums);
    if (rows > 4) return multiply<8>(row, column, sums);
    return multiply<4>(row, column, sums);
}

/// Transposes a square of kLanes vectors in registers: log2(kLanes) rounds of exchanges.
template <class T> inline __attribute__((always_inline)) void transpose(Vector<T>* v) {
#pragma GCC unroll 4
    for (int h = 1; h < kLanes<T>; h *= 2) {
        Index<T> low, high;
        for (int lane = 0; lane < kLanes<T>; ++lane) {
            low[lane] = lane & h ? kLanes<T> + lane - h : lane;
            high[lane] = lane & h ? kLanes<T> + lane : lane + h;
        }
#pragma GCC unroll 16
        for (int k = 0; k < kLanes<T>; ++k)
            if (!(k & h)) {
                const Vector<T> a = v[k], b = v[k + h];
                v[k] = __builtin_shuffle(a, b, low);
                v[k + h] = __builtin_shuffle(a, b, high);
            }
    }
}

/// Columns as panels of kLanes: panel[p][s][lane]; missing columns are 0.
template <class T> void pack_columns(const MomentGroup& group, const T* functions, int sample, T* panel) {
    constexpr int lanes = kLanes<T>;
    const int n = static_cast<int>(group.cols.size());
    for (int p = 0; p * lanes < n; ++p, panel += kDepth<T> * lanes) {
        const T* from[lanes];
        for (int lane = 0; lane < lanes; ++lane) {
            const int column = group.cols[static_cast<std::size_t>(std::min(p * lanes + lane, n - 1))];
            from[lane] = functions + static_cast<std::size_t>(column) * kMomentTile + sample;
        }
        const int used = std::min(lanes, n - p * lanes);
        for (int s = 0; s < kDepth<T>; s += lanes) {
            Vector<T> v[lanes];
            for (int lane = 0; lane < lanes; ++lane)
                v[lane] = lane < used ? load(from[lane] + s) : Vector<T>{};
            transpose<T>(v);
            for (int k = 0; k < lanes; ++k) store(panel + (s + k) * lanes, v[k]);
        }
    }
}

/// Adds the sums of one register block to float64 results.
template <class T> inline void add(Vector<T> sum, double* out) {
    constexpr int wide = kVectorBytes / 8;
    if constexpr (sizeof(T) == 8)
        store(out, load(out) + sum);
    else {
        T values[kLanes<T>];
        store(values, sum);
        typedef float Half __attribute__((vector_size(kVectorBytes / 2)));
        for (int k = 0; k < kLanes<T>; k += wide) {
            Half half;
            std::memcpy(&half, values + k, sizeof half);
            store(out + k, load(out + k) + __builtin_convertvector(half, Vector<double>));
        }
    }
}

template <class T>
void pack_rows(const MomentGroup& group, int first, int count, const T* functions, int sample, T* rows) {
    const int per_weight = static_cast<int>(group.rows.size());
    for (int m = 0; m < count; ++m) {
        const auto at = static_cast<std::size_t>(first + m);
        const int weight = group.weights[at / static_cast<std::size_t>(per_weight)];
        const int row = group.rows[at % static_cast<std::size_t>(per_weight)];
        const T* w = functions + static_cast<std::size_t>(weight) * kMomentTile + sample;
        const T* r = functions + static_cast<std::size_t>(row) * kMomentTile + sample;
        T* out = rows + m * kRowStride<T>;
        for (int s = 0; s < kDepth<T>; ++s) out[s] = w[s] * r[s];
    }
    const int padded = count > 16 ? 24 : count > 8 ? 16 : count > 4 ? 8 : 4;
    std::fill_n(rows + count * kRowStride<T>, (padded - count) * kRowStride<T>, T{0});
}

template <class T> void accumulate(const MomentGroup& group, int first, int last, const T* functions,
                                   double* result, T* scratch) {
    const int per_weight = static_cast<int>(group.rows.size());
    const int panels = (static_cast<int>(group.cols.size()) + kLanes<T> - 1) / kLanes<T>;
    T* rows = scratch;
    T* panel = scratch + kRowStep * kRowStride<T>;
    Vector<T> sums[kRowStep];
    for (int sample = 0; sample < kMomentTile; sample += kDepth<T>) {
        pack_columns(group, functions, sample, panel);
        for (int m = first; m < last;) {
            int count = std::min(kRowStep, last - m);
            if (group.triangular) count = std::min(count, per_weight - m % per_weight);
            pack_rows(group, m, count, functions, sample, rows);
            const int place = m % per_weight; // among the weight's rows
            for (int p = 0; p < panels; ++p) {
                // On and below the diagonal only: whole steps of 8 rows above it are left out.
                const int skip = group.triangular ? std::max(0, (p * kLanes<T> - place) / 8 * 8) : 0;
                if (skip >= count) break;
                multiply_rows(count - skip, rows + skip * kRowStride<T>, panel + p * kDepth<T> * kLanes<T>,
                              sums);
                for (int k = skip; k < count; ++k)
                    add<T>(sums[k - skip], result + group.offset +
                                               static_cast<std::size_t>(m + k) * group.ld +
                                               static_cast<std::size_t>(p * kLanes<T>));
            }
            m += count;
        }
    }
}

template <class T> void evaluate_hermite(int functions, const T* z, int count, T* values) {
    for (int s = 0; s < kMomentTile; ++s) values[kMomentTile + s] = s < count ? z[s] : T{0};
    for (int n = 1; n + 1 < functions; ++n) {
        const T down = static_cast<T>(std::sqrt(static_cast<double>(n)));
        const T norm = static_cast<T>(1 / std::sqrt(n + 1.0));
        T* next = values + (n + 1) * kMomentTile;
        const T* now = values + n * kMomentTile;
        for (int s = 0; s < kMomentTile; ++s) {
            const T before = n > 1 ? values[(n - 1) * kMomentTile + s] : T{1};
            next[s] = s < count ? hermite_next(z[s], now[s], before, down, norm) : T{0};
        }
    }
}

template <class T> void evaluate(const FunctionTable<T>& table, const T* z, int count, T* values) {
    if (table.hermite) return evaluate_hermite(table.functions, z, count, values);
    constexpr int kMost = 64;
    alignas(64) T row[kMost];
    const T scale = static_cast<T>(table.pieces / (table.hi - table.lo)), lo = static_cast<T>(table.lo);
    for (int s = 0; s < kMomentTile; ++s) {
        if (s >= count) {
            for (int n = 1; n < table.functions; ++n) values[n * kMomentTile + s] = 0;
            continue;
        }
        const auto [piece, t] = table_place(z[s], lo, scale, table.pieces);
        const T* c =
            table.coefficients.data() +
            static_cast<std::size_t>(piece) * static_cast<std::size_t>((table.degree + 1) * table.stride);
        for (int n = 0; n < table.stride; ++n) row[n] = c[table.degree * table.stride + n];
        for (int power = table.degree - 1; power >= 0; --power)
            for (int n = 0; n < table.stride; ++n) row[n] = row[n] * t + c[power * table.stride + n];
        for (int n = 1; n < table.functions; ++n) values[n * kMomentTile + s] = row[n];
    }
}

} // namespace
} // namespace DYNKIN_ISA

template <class T> const MomentKernels<T>& DYNKIN_ISA_NAME(moment_kernels)() {
    static const MomentKernels<T> kernels{DYNKIN_ISA::evaluate<T>, DYNKIN_ISA::accumulate<T>,
                                          DYNKIN_ISA::kRowStep};
    return kernels;
}
template const MomentKernels<float>& DYNKIN_ISA_NAME(moment_kernels)<float>();
template const MomentKernels<double>& DYNKIN_ISA_NAME(moment_kernels)<double>();

} // namespace dynkin::kernels

// moments_simd.cpp - the host loops of moments.h for one SIMD level.
#include "moments.h"
#include "simd.h"
#include <algorithm>
#include <array>
#include <utility>

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

/// Adds the sums of one row of a register block to float64 results.
template <class T> inline __attribute__((always_inline)) void add(Vector<T> sum, double* out) {
    if constexpr (sizeof(T) == 8)
        store(out, load(out) + sum);
    else {
        typedef float Half __attribute__((vector_size(kVectorBytes / 2)));
        constexpr int wide = kVectorBytes / 8;
        Half half[2];
        std::memcpy(half, &sum, sizeof sum);
        for (int k = 0; k < 2; ++k)
            store(out + k * wide, load(out + k * wide) + __builtin_convertvector(half[k], Vector<double>));
    }
}

/// Rows of a block and what they are multiplied with: rows[m][s], weight[s] (no weight: nullptr, and products
/// with the weight are in the rows).
template <class T> struct Factors {
    const T *rows, *weight;
    int count; ///< at most kRowStep; further rows up to a multiple of 4 are read, and their sums dropped
};

/// out[m * ld + lane] += sum_s rows[m][s] weight[s] column[s][lane]: ROWS accumulators in registers, one
/// column load a sample. The results are asked for before they are needed.
template <int ROWS, bool WEIGHTED, class T> inline __attribute__((always_inline)) void
multiply(const Factors<T>& f, const T* column, double* out, std::size_t ld) {
    for (int m = 0; m < f.count; ++m) __builtin_prefetch(out + static_cast<std::size_t>(m) * ld, 1);
    const T* rows = f.rows;
    Vector<T> sum[ROWS] = {};
    for (int s = 0; s < kDepth<T>; ++s) {
        Vector<T> c = load(column + s * kLanes<T>);
        if constexpr (WEIGHTED) c *= broadcast(f.weight[s]);
#pragma GCC unroll 24
        for (int m = 0; m < ROWS; ++m) sum[m] += broadcast(rows[m * kRowStride<T> + s]) * c;
    }
#pragma GCC unroll 24
    for (int m = 0; m < ROWS; ++m)
        if (m < ROWS - 3 || m < f.count) add<T>(sum[m], out + static_cast<std::size_t>(m) * ld);
}

template <bool WEIGHTED, class T>
void multiply_rows(const Factors<T>& f, const T* column, double* out, std::size_t ld) {
    if constexpr (kRowStep == 24) {
        if (f.count > 20) return multiply<24, WEIGHTED>(f, column, out, ld);
        if (f.count > 16) return multiply<20, WEIGHTED>(f, column, out, ld);
        if (f.count > 12) return multiply<16, WEIGHTED>(f, column, out, ld);
        if (f.count > 8) return multiply<12, WEIGHTED>(f, column, out, ld);
    }
    if (f.count > 4) return multiply<8, WEIGHTED>(f, column, out, ld);
    return multiply<4, WEIGHTED>(f, column, out, ld);
}

/// Exchanges the upper half of each 2 H lanes of a with the lower half of b's.
template <class T, int H, int... LANE> inline __attribute__((always_inline)) void
exchange(Vector<T>& a, Vector<T>& b, std::integer_sequence<int, LANE...>) {
    const Vector<T> low = __builtin_shufflevector(a, b, (LANE & H ? kLanes<T> + LANE - H : LANE)...);
    b = __builtin_shufflevector(a, b, (LANE & H ? kLanes<T> + LANE : LANE + H)...);
    a = low;
}

/// Transposes a square of kLanes vectors in registers: log2(kLanes) rounds of exchanges.
template <class T, int H = 1> inline __attribute__((always_inline)) void transpose(Vector<T>* v) {
    if constexpr (H < kLanes<T>) {
#pragma GCC unroll 16
        for (int k = 0; k < kLanes<T>; ++k)
            if (!(k & H)) exchange<T, H>(v[k], v[k + H], std::make_integer_sequence<int, kLanes<T>>());
        transpose<T, 2 * H>(v);
    }
}

/// out[s * stride + lane] = f[list[first + lane]](sample + s), s < depth; 0 where the list has ended.
template <class T> void pack_panel(const std::vector<int>& list, int first, const T* functions, int sample,
                                   int depth, T* out, std::size_t stride) {
    constexpr int lanes = kLanes<T>;
    const int n = static_cast<int>(list.size()), used = std::min(lanes, n - first);
    alignas(64) static constexpr T zeros[kMomentTile] = {};
    const T* from[lanes];
    for (int lane = 0; lane < lanes; ++lane) {
        const int column = list[static_cast<std::size_t>(std::min(first + lane, n - 1))];
        from[lane] =
            lane < used ? functions + static_cast<std::size_t>(column) * kMomentTile + sample : zeros;
    }
    for (int s = 0; s < depth; s += lanes) {
        Vector<T> v[lanes];
#pragma GCC unroll 16
        for (int lane = 0; lane < lanes; ++lane) v[lane] = load(from[lane] + s);
        transpose<T>(v);
#pragma GCC unroll 16
        for (int k = 0; k < lanes; ++k) store(out + static_cast<std::size_t>(s + k) * stride, v[k]);
    }
}

/// Columns as panels of kLanes, from panel `begin` to `end`: panel[p - begin][s][lane].
template <class T>
void pack_columns(const MomentGroup& group, int begin, int end, const T* functions, int sample, T* panel) {
    for (int p = begin; p < end; ++p, panel += kDepth<T> * kLanes<T>)
        pack_panel(group.cols, p * kLanes<T>, functions, sample, kDepth<T>, panel, kLanes<T>);
}

/// Products of weights and rows from place `first` of the flattened range.
template <class T>
void pack_products(const MomentGroup& group, int first, int count, const T* functions, int sample, T* rows) {
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
    const int padded = (count + 3) / 4 * 4;
    std::fill_n(rows + count * kRowStride<T>, (padded - count) * kRowStride<T>, T{0});
}

/// The rows of one weight and three of zeros behind them.
template <class T> void pack_rows(const MomentGroup& group, const T* functions, int sample, T* rows) {
    for (const int row : group.rows) {
        std::copy_n(functions + static_cast<std::size_t>(row) * kMomentTile + sample, kDepth<T>, rows);
        rows += kRowStride<T>;
    }
    std::fill_n(rows, 3 * kRowStride<T>, T{0});
}

/// Sum of the lanes, by halves.
template <class T, int H, int... LANE>
inline __attribute__((always_inline)) T sum_of(Vector<T> v, std::integer_sequence<int, LANE...> lanes) {
    if constexpr (H == 0)
        return v[0];
    else
        return sum_of<T, H / 2>(v + __builtin_shufflevector(v, v, (LANE ^ H)...), lanes);
}
template <class T> inline __attribute__((always_inline)) T sum_of(Vector<T> v) {
    return sum_of<T, kLanes<T> / 2>(v, std::make_integer_sequence<int, kLanes<T>>());
}

/// The few columns behind the last full panel, n >= first_column: samples side by side in a vector instead of
/// columns, from the table as it is.
template <class T> void multiply_rim(const MomentGroup& group, const Factors<T>& f, int first_column,
                                     const T* functions, int sample, double* out) {
    constexpr int parts = kDepth<T> / kLanes<T>;
    for (std::size_t n = static_cast<std::size_t>(first_column); n < group.cols.size(); ++n) {
        const T* column = functions + static_cast<std::size_t>(group.cols[n]) * kMomentTile + sample;
        T weighted[kDepth<T>];
        for (int s = 0; s < kDepth<T>; ++s) weighted[s] = f.weight ? f.weight[s] * column[s] : column[s];
        for (int m = 0; m < f.count; ++m) {
            const T* row = f.rows + m * kRowStride<T>;
            Vector<T> sum[4] = {};
            for (int k = 0; k < parts; k += 4)
                for (int chain = 0; chain < 4; ++chain)
                    sum[chain] +=
                        load(row + (k + chain) * kLanes<T>) * load(weighted + (k + chain) * kLanes<T>);
            out[static_cast<std::size_t>(m) * group.ld + n] +=
                sum_of<T>((sum[0] + sum[1]) + (sum[2] + sum[3]));
        }
    }
}

/// Columns in panels; the others are so few that a panel of them would mostly multiply zeros.
template <class T> int paneled_columns(const MomentGroup& group) {
    const int n = static_cast<int>(group.cols.size()), rim = n % kLanes<T>;
    return group.pairs == MomentPairs::all && rim <= kLanes<T> / 2 ? n - rim : n;
}

/// The panels [begin, end) of columns, packed, with rows [first, last) of the flattened range.
template <class T> void multiply_panels(const MomentGroup& group, int first, int last, int begin, int end,
                                        const T* functions, int sample, const T* panel, T* rows,
                                        double* result) {
    const int per_weight = static_cast<int>(group.rows.size());
    const bool many = moment_rows_are_shared(group);
    for (int m = first; m < last;) {
        const int place = m % per_weight; // among the weight's rows
        // As many blocks as needed, of about the same size.
        const int left = many ? std::min(last - m, per_weight - place) : last - m;
        const int blocks = (left + kRowStep - 1) / kRowStep;
        const int count = std::min(left, ((left + blocks - 1) / blocks + 3) / 4 * 4);
        Factors<T> f{rows, nullptr, count};
        if (!many)
            pack_products(group, m, count, functions, sample, rows);
        else {
            const int weight = group.weights[static_cast<std::size_t>(m / per_weight)];
            f.rows = rows + place * kRowStride<T>;
            if (weight != 0) f.weight = functions + static_cast<std::size_t>(weight) * kMomentTile + sample;
        }
        for (int p = begin; p < end; ++p) {
            // On and below the diagonal only: whole steps of 4 rows above it are left out.
            const int skip =
                group.pairs == MomentPairs::lower ? std::max(0, (p * kLanes<T> - place) / 4 * 4) : 0;
            if (skip >= count) break;
            const Factors<T> below{f.rows + skip * kRowStride<T>, f.weight, count - skip};
            const T* column = panel + (p - begin) * kDepth<T> * kLanes<T>;
            double* out = result + group.offset + static_cast<std::size_t>(m + skip) * group.ld +
                          static_cast<std::size_t>(p * kLanes<T>);
            if (f.weight)
                multiply_rows<true>(below, column, out, group.ld);
            else
                multiply_rows<false>(below, column, out, group.ld);
        }
        if (begin == 0)
            multiply_rim(group, f, paneled_columns<T>(group), functions, sample,
                         result + group.offset + static_cast<std::size_t>(m) * group.ld);
        m += count;
    }
}

// ---- cyclic groups

constexpr int kMostWeights = (kRegisters - 6) / 2; ///< beside two lines of sums: products, a weight

/// A block of samples of a cyclic group: functions[s * stride + n], weights[s * weight_stride + w].
template <class T> struct CyclicBlock {
    const T *functions, *weights;
    std::size_t stride, weight_stride;
};

/// out[w * weight_ld + l * ld + lane] += sum_s weight[w] f[column + lane] f[column + lane + line + l], l <
/// lines.
template <int WEIGHTS, class T> void multiply_lines(const CyclicBlock<T>& block, int column, int line,
                                                    int lines, double* out, std::size_t ld,
                                                    std::size_t weight_ld) {
    constexpr int kLines = kMostWeights * 2 / WEIGHTS;
    for (int w = 0; w < WEIGHTS; ++w)
        for (int l = 0; l < lines; ++l)
            __builtin_prefetch(
                out + static_cast<std::size_t>(w) * weight_ld + static_cast<std::size_t>(l) * ld, 1);
    const T *f = block.functions + column, *weights = block.weights;
    Vector<T> sum[WEIGHTS][kLines] = {};
    for (int s = 0; s < kMomentCyclicDepth; ++s, f += block.stride, weights += block.weight_stride) {
        const Vector<T> c = load(f);
        Vector<T> product[kLines];
#pragma GCC unroll 8
        for (int l = 0; l < kLines; ++l) product[l] = c * load(f + line + l);
#pragma GCC unroll 16
        for (int w = 0; w < WEIGHTS; ++w) {
            const Vector<T> weight = broadcast(weights[w]);
#pragma GCC unroll 8
            for (int l = 0; l < kLines; ++l) sum[w][l] += weight * product[l];
        }
    }
#pragma GCC unroll 16
    for (int w = 0; w < WEIGHTS; ++w)
#pragma GCC unroll 8
        for (int l = 0; l < kLines; ++l)
            if (l < lines)
                add<T>(sum[w][l],
                       out + static_cast<std::size_t>(w) * weight_ld + static_cast<std::size_t>(l) * ld);
}

/// Lines [first, last) of all columns, for WEIGHTS weights from `weight` on.
template <int WEIGHTS, class T> void multiply_cyclic(const MomentGroup& group, CyclicBlock<T> block,
                                                     int weight, int first, int last, double* result) {
    constexpr int lines = kMostWeights * 2 / WEIGHTS;
    const std::size_t weight_ld = group.lines() * group.ld;
    block.weights += weight;
    result += group.offset + static_cast<std::size_t>(weight) * weight_ld;
    for (int column = 0; column < static_cast<int>(group.rows.size()); column += kLanes<T>)
        for (int line = first; line < last; line += lines)
            multiply_lines<WEIGHTS>(block, column, line, std::min(lines, last - line),
                                    result + static_cast<std::size_t>(line) * group.ld + column, group.ld,
                                    weight_ld);
}

/// multiply_cyclic for each number of weights in turn, from the least.
constexpr int kLeastWeights =
    static_cast<int>(kMomentCyclicWeights) - 1; ///< of a part: all are parted evenly
template <class T, int... W> constexpr auto cyclic_kernels(std::integer_sequence<int, W...>) {
    return std::array{multiply_cyclic<kLeastWeights + W, T>...};
}

/// A sample's functions side by side: out[s * stride + n] = f[list[n]](sample + s).
template <class T>
void pack_samples(const std::vector<int>& list, const T* functions, int sample, T* out, std::size_t stride) {
    for (std::size_t n = 0; n < list.size(); n += kLanes<T>)
        pack_panel(list, static_cast<int>(n), functions, sample, kMomentCyclicDepth, out + n, stride);
}

template <class T> void accumulate_cyclic(const MomentGroup& group, int first, int last, const T* functions,
                                          double* result, T* scratch) {
    static constexpr auto kernels =
        cyclic_kernels<T>(std::make_integer_sequence<int, kMostWeights - kLeastWeights + 1>());
    const int weights = static_cast<int>(group.weights.size());
    const int parts = (weights + kMostWeights - 1) / kMostWeights;
    std::vector<int> around(moment_cyclic_stride<T>(group));
    for (std::size_t n = 0; n < around.size(); ++n) around[n] = group.rows[n % group.rows.size()];
    T* packed_weights = scratch + kMomentCyclicDepth * around.size();
    const CyclicBlock<T> block{scratch, packed_weights, around.size(),
                               static_cast<std::size_t>((weights + kLanes<T> - 1) / kLanes<T> * kLanes<T>)};
    for (int sample = 0; sample < kMomentTile; sample += kMomentCyclicDepth) {
        pack_samples(around, functions, sample, scratch, block.stride);
        pack_samples(group.weights, functions, sample, packed_weights, block.weight_stride);
        for (int part = 0; part < parts; ++part) {
            const int begin = weights * part / parts, count = weights * (part + 1) / parts - begin;
            kernels[static_cast<std::size_t>(count - kLeastWeights)](group, block, begin, first, last,
                                                                     result);
        }
    }
}

template <class T> void accumulate(const MomentGroup& group, int first, int last, const T* functions,
                                   double* result, T* scratch) {
    if (group.cyclic()) return accumulate_cyclic(group, first, last, functions, result, scratch);
    const int panels = (paneled_columns<T>(group) + kLanes<T> - 1) / kLanes<T>;
    T* panel = scratch;
    T* rows = scratch + kMomentPanels * kDepth<T> * kLanes<T>;
    for (int sample = 0; sample < kMomentTile; sample += kDepth<T>) {
        if (moment_rows_are_shared(group)) pack_rows(group, functions, sample, rows);
        for (int begin = 0; begin == 0 || begin < panels; begin += kMomentPanels) { // a rim alone too
            const int end = std::min(panels, begin + kMomentPanels);
            pack_columns(group, begin, end, functions, sample, panel);
            multiply_panels(group, first, last, begin, end, functions, sample, panel, rows, result);
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

/// As many samples at a time as a vector has lanes: functions side by side in a piece's polynomials, then
/// samples side by side.
template <class T> void evaluate(const FunctionTable<T>& table, const T* z, int count, T* values) {
    if (table.hermite) return evaluate_hermite(table.functions, z, count, values);
    constexpr int lanes = kLanes<T>;
    const T scale = static_cast<T>(table.pieces / (table.hi - table.lo)), lo = static_cast<T>(table.lo);
    for (int s = 0; s < kMomentTile; s += lanes) {
        const T* piece[lanes];
        T t[lanes];
        for (int k = 0; k < lanes; ++k) {
            const auto place = table_place(s + k < count ? z[s + k] : lo, lo, scale, table.pieces);
            t[k] = place.t;
            piece[k] =
                table.coefficients.data() + static_cast<std::size_t>(place.piece) *
                                                static_cast<std::size_t>((table.degree + 1) * table.stride);
        }
        for (int n = 0; n < table.functions; n += lanes) {
            Vector<T> v[lanes];
#pragma GCC unroll 16
            for (int k = 0; k < lanes; ++k) v[k] = load(piece[k] + table.degree * table.stride + n);
            for (int power = table.degree - 1; power >= 0; --power)
#pragma GCC unroll 16
                for (int k = 0; k < lanes; ++k)
                    v[k] = v[k] * broadcast(t[k]) + load(piece[k] + power * table.stride + n);
#pragma GCC unroll 16
            for (int k = 0; k < lanes; ++k)
                if (s + k >= count) v[k] = Vector<T>{};
            transpose<T>(v);
#pragma GCC unroll 16
            for (int k = 0; k < lanes; ++k)
                if (n + k > 0 && n + k < table.functions) store(values + (n + k) * kMomentTile + s, v[k]);
        }
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

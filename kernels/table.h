// table.h - a one-dimensional law given up to two descriptors as a table: rows over the descriptors, each a
// density linear between equidistant nodes; between rows the mixture of those beside it, so that every law is
// normalised. The host loops: table_simd.cpp (once per SIMD level). Formulas: docs/method.md, section 10.
#pragma once
#include "../engine/context.h"
#include "portable.h"
#include "score.h"
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dynkin::kernels {

constexpr int kTableCells = 128;              ///< of a row; a power of two
constexpr int kTableStride = kTableCells + 1; ///< nodes of a row

/// x = mean + scale z, mean = intercept + sum of weights; z lies in [lo, lo + kTableCells * h].
struct LawTable {
    struct Entry {
        int slot;
        float weight;
    };
    struct Group {
        float coefficient;
        int first, last; ///< entries
    };
    /// A descriptor sum_g c_g (sum_e w_e x_e)^power. v = (value - offset) * inverse, cut to [0, 1], is its
    /// row in units of the last; sqrt(v) for squares, whose tail is long.
    struct Axis {
        int power = 1, first = 0, last = 0; ///< groups
        bool predictor = false;             ///< the value is mean - intercept
        float offset = 0, inverse = 0;
        int rows = 1, stride = 0; ///< stride: between rows, in rows of the table
    };
    std::vector<Entry> predictor, entries;
    std::vector<Group> groups;
    std::vector<Axis> axes; ///< at most two
    float intercept = 0, scale = 1, lo = 0, h = 1;
    std::vector<float> density;           ///< of z: [row][node]
    std::vector<std::int32_t> cumulative; ///< [row][node]: 2^32 times the distribution function, minus 2^31
};

/// What a tile of kScoreTile particles is conditioned on: the mean, and the row below and the fraction above
/// it per axis.
struct TableConditions {
    float mean[kScoreTile];
    std::int32_t row[kScoreTile];
    float fraction[2][kScoreTile];
};

struct TableKernels {
    /// x[coordinate][particle]; neighbours[slot]: a coordinate, or -1 for a zero.
    void (*describe)(const LawTable& table, const float* x, const int* neighbours,
                     TableConditions& conditions);
    /// words[k][particle], k = 0 .. 3: of one Philox call for each particle.
    void (*words)(std::uint64_t seed, std::uint32_t stream, std::uint64_t first, std::uint32_t step,
                  std::uint32_t slot, std::uint32_t* words);
    /// x by the inverse of the distribution function of a row that is chosen by its share in the mixture.
    void (*draw)(const LawTable& table, const TableConditions& conditions, const std::uint32_t* words,
                 float* x);
    /// product *= q(x); q is 0 beyond the table.
    void (*density)(const LawTable& table, const TableConditions& conditions, const float* x,
                    double* product);
    /// sum += log(product), product = 1.
    void (*add_log)(double* product, double* sum);
};
const TableKernels& table_kernels(Isa isa);

} // namespace dynkin::kernels

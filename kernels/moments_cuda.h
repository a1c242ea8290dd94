// moments_cuda.h - the device's side of moments.h: functions evaluated into tiles, and sums of products over
// slabs of tiles. Plain C++: what the engine enqueues.
#pragma once
#include "device.h"
#include "moments.h"
#include <cstddef>

namespace dynkin::cuda {

using kernels::kMomentTile;

/// Rows come in units of 1 280: four training tiles and one held-out tile (row % 5 == 4). Units come in slabs
/// whose sums are formed by themselves and added in order, so that what is summed with what depends neither
/// on batches nor on how many slabs run at once. Units and slabs are counted from row 0 of all data.
constexpr int unit_rows = 5 * kMomentTile, slab_units = 4, slab_rows = slab_units * unit_rows;

/// Rows that stand on the device together: they start with a unit, number `first_unit` of its slab.
struct MomentBatch {
    std::size_t rows = 0;
    int first_unit = 0;
};

DYNKIN_HD int units(const MomentBatch& batch) {
    return static_cast<int>((batch.rows + unit_rows - 1) / unit_rows);
}
DYNKIN_HD int tiles(const MomentBatch& batch) { return 5 * units(batch); }
DYNKIN_HD int slabs(const MomentBatch& batch) {
    return (batch.first_unit + units(batch) + slab_units - 1) / slab_units;
}
/// Tiles 5 u .. 5 u + 3 are for training, 5 u + 4 is held out; those of the last unit may be empty.
DYNKIN_HD bool is_held_out(int tile) { return tile % 5 == 4; }
/// Samples in a tile of the batch.
DYNKIN_HD int tile_samples(const MomentBatch& batch, int tile) {
    const std::size_t start = static_cast<std::size_t>(tile / 5) * unit_rows;
    const int rows = static_cast<int>(
        start < batch.rows ? std::min<std::size_t>(unit_rows, batch.rows - start) : std::size_t{0});
    if (is_held_out(tile)) return rows / 5;
    const int left = rows - rows / 5 - tile % 5 * kMomentTile;
    return left < 0 ? 0 : left < kMomentTile ? left : kMomentTile;
}
/// Row of the batch that is sample s of a tile.
DYNKIN_HD std::size_t tile_row(int tile, int s) {
    const int q = tile % 5 * kMomentTile + s; // among the unit's training rows
    const int row = is_held_out(tile) ? 5 * s + 4 : q / 4 * 5 + q % 4;
    return static_cast<std::size_t>(tile / 5) * unit_rows + static_cast<std::size_t>(row);
}

/// FunctionTable with its coefficients on the device; Hermite: sqrt(n) and 1 / sqrt(n + 1) at 2 n, 2 n + 1.
template <class T> struct DeviceFunctions {
    bool hermite;
    int functions, pieces, degree, stride;
    T lo, scale;
    const T* coefficients;
};
constexpr int most_functions = 64; ///< of one family

/// z: batch.rows x sites, row-major; table[(tile * functions + f) * 256 + s]: function 0 is 1 for the samples
/// of a tile and 0 beyond, 1 + site * top + n - 1 is phi_n of the site. Beyond a tile's samples only what
/// completes a group of 32 is written.
template <class T> struct MomentEvaluation {
    MomentBatch batch;
    int sites, top, functions;
    const DeviceFunctions<T>* families;
    const int* family_of; ///< per site
    const double* z;
    T* table;
};
template <class T> void evaluate_functions(DeviceStream stream, const MomentEvaluation<T>& evaluation);

/// A block sums f[first] f[second] f[factor] for some products of two functions and some factors, at most
/// 2048 / columns and `columns`. Where a sum stands in the result is the sum of two places.
struct MomentProduct {
    int first, second;
};
struct MomentItem {
    int product, products; ///< first and count, in the lists
    int factor, factors;
};
struct MomentLists {
    const MomentProduct* products;
    const std::size_t* product_place;
    const int* factors;
    const std::size_t* factor_place;
};
constexpr int block_sums = 2048;

/// Where sums go: `size` numbers each. With `partial` (2 slabs(batch) x size) the slabs run side by side, and
/// add_partial adds them; without, each block adds its slabs one after another. The bytes are the same.
struct MomentResult {
    std::size_t size;
    double *train, *test, *partial;
};

/// Enqueues the sums of a batch. columns: 16 or 32, the shape of every item. Sums of T over a tile are added
/// up in float64.
template <class T> void accumulate_products(DeviceStream stream, int columns, const MomentItem* items,
                                            std::size_t item_count, const MomentLists& lists, const T* table,
                                            int functions, const MomentBatch& batch,
                                            const MomentResult& result);
/// train += partial of slab 0, 1, ...; likewise test. Places that no item writes must be 0 in `partial`.
void add_partial(DeviceStream stream, const MomentBatch& batch, const MomentResult& result);

} // namespace dynkin::cuda

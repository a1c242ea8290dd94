// tile_fit.h - the conditionals of a tile from samples of a known nearest-neighbour target.
#pragma once
#include "context.h"
#include "fit.h"
#include "model.h"
#include "npy.h"
#include "target.h"
#include <cstdint>
#include <vector>

namespace dynkin {

struct TileOptions {
    int side = 8;                ///< 4, 8 or 16: the interior has (side - 1)^axes points
    std::size_t pairs = 300'000; ///< at most so many training pairs for each point
    double ridge = -1;           ///< < 0: by held-out likelihood
    std::uint64_t seed = 0;
};

/// Levels for the even points of the interior, each from pairs at all translates and mirror images of the
/// tile in the rows of `data` (columns are the sites of the target's lattice). Throws Error(usage) for a
/// target that is no lattice, a side that is not 4, 8 or 16, a lattice that no such tile fits into, or
/// another number of columns; Error(input) and Error(numerical) as fit().
Tile fit_tile(const Context& context, const SampleFile& data, const Target& target,
              const TileOptions& options, std::vector<LevelReport>* reports = nullptr);

} // namespace dynkin

// local_metropolis.h - Markov chains on a nearest-neighbour lattice that redraw whole tiles, or single sites.
#pragma once
#include "checkpoint.h"
#include "context.h"
#include "mcmc.h"
#include "model.h"
#include "npy.h"
#include "target.h"
#include <cstdint>
#include <filesystem>

namespace dynkin {

struct LocalOptions {
    std::size_t samples = 0; ///< N, rows written
    std::uint64_t seed = 0;
    std::size_t chains = 0; ///< 0: chosen: near N/100, from 64 to 1024. They move 64 together
    int warmup = 0; ///< iterations discarded, at least 64. 0: chosen, the measurement at its end doubled (up
                    ///< to 6400) until R-hat is 1.02 or less and it is 50 autocorrelation times
    int thinning = 0; ///< iterations between kept states; 0: 1.5 autocorrelation times, at most 1000
    std::filesystem::path start = {}; ///< first states, .npy, in turn; empty: over-dispersed, as run_mcmc()
    CheckpointOptions checkpoint;
};

/// Draws options.samples rows into `output`, in the order of run_mcmc(), with its diagnostics.
///
/// With a tile each iteration puts tiles side by side from a random origin, as many as fit (a periodic axis:
/// all around; a boundary: between the walls, the zeros outside a frame of zeros), draws the interior of each
/// from the tile's conditionals given its frame, and accepts or refuses each by itself (Metropolis-Hastings,
/// log q of old and new exact): tiles do not see one another, so the chain is unbiased whatever the model, on
/// lattices of any size. Sites beside a free boundary, which no tile reaches, follow by heat bath; and so do
/// all in every 32nd iteration, for states outside the tables. Without: one sweep of a heat bath over the
/// even sites, then the odd ones. The heat bath draws from a table of p(x | sum of the neighbours) and
/// corrects it by a Metropolis test. For an even target each iteration ends with a change of sign of all
/// sites, by a fair coin for each chain.
///
/// Results depend on the options and the seed only, not on threads or interrupts; checkpoints as for
/// run_mcmc(). The mean over coordinates, whose sign is that coin, is followed by its square. `acceptance` is
/// that of tiles (of single sites without a tile). Throws Error(usage) for a target that is no lattice or
/// whose site potential does not confine, options out of range, and lattices without room for a tile;
/// Error(input) for a tile of another target.
McmcReport run_local_metropolis(const Context& context, const Target& target, const Tile* tile,
                                const LocalOptions& options, NpyWriter& output);

} // namespace dynkin

// random.h - the named random streams. Every random number of the program is
// philox(seed; stream, sample, step, slot), so it depends on nothing else: not on threads, batches or
// restarts.
#pragma once
#include <cstdint>

namespace dynkin {

/// One entry a purpose, so that no two purposes ever share numbers. Values are stable: they are part of
/// results.
enum class Stream : std::uint32_t {
    sampler_start = 1,  ///< sample: start from the reference law; slot = coordinate / 4
    sampler_noise = 2,  ///< sample: SDE noise; step, slot = coordinate / 4
    chain_start = 3,    ///< draw: first state of each chain
    chain_momentum = 4, ///< draw: HMC momenta
    chain_accept = 5,   ///< draw: Metropolis test, step-size jitter, number of leapfrog steps
    chain_swap = 6,     ///< draw: replica exchange
    direct_draw = 7,    ///< draw: targets that are sampled directly (Gaussians, mixtures, toys)
    output_order = 8,   ///< draw: permutation of the kept samples
    projection = 9,     ///< evaluate: directions of the sliced distance
    half_split = 10,    ///< evaluate: the two halves of the reference
    dequantise = 11,    ///< integer data made continuous
    resample = 12,      ///< weigh: offset of systematic resampling
    exact_draw = 13,    ///< draw: chains by transfer matrix; step = site, slot = attempt
    level_pairs = 20,   ///< fit: which places of the lattice a row gives to the training pairs of a level
    energy_fit = 21,    ///< fit: resampling, samples and reflections of a fit from the energy; step = round
    tile_pairs = 22,    ///< fit: the same for the levels of a tile; step = level
    table_draw = 30,    ///< sample: levels drawn from tables; slot = coordinate
    tile_origin = 31,   ///< draw: where the tiles of an iteration lie; the same for all chains
    local_tile = 32,    ///< draw: the interior of tiles; slot = tile and point
    local_test = 33,    ///< draw: Metropolis test of tiles; slot = tile
    local_site = 34,    ///< draw: heat bath; slot = site
    local_sign = 35,    ///< draw: x -> -x of all sites
    forward_noise = 60, ///< fit: noise of forward paths; sample = path, slot = coordinate / 2
    forward_pilot = 61, ///< fit: the same for the paths that the step is chosen by
    local_draw = 62,    ///< fit: draws from local laws; step = time node, slot = 8 draw + coordinate / 2
    reverse_start = 63, ///< sample: start of a reversed nonlinear process
    reverse_noise = 64, ///< sample: its noise; slot = coordinate / 2
    test = 1000,        ///< tests only
};

} // namespace dynkin

// local_cuda.h - chains that redraw tiles and single sites of a lattice (local.h) on the device. The kernels:
// local_cuda.cu.
#pragma once
#include "hmc.h"
#include "local.h"
#include "table_cuda.h"
#include <cstddef>
#include <cstdint>

namespace dynkin::cuda {

constexpr unsigned kLocalGroup = 8;    ///< chains a block: of a site, one sector of memory
constexpr unsigned kLocalWorkers = 32; ///< threads a chain, at most

/// Points of a tile with one table, in the order in which they are drawn.
struct LocalLevel {
    TableView table;
    const int *target, *neighbours; ///< [target], [target][slot]: points
    int targets, slots;
};
/// Sites of one number of edges and one sum of values outside.
struct LocalBath {
    TableView table;
    double half; ///< J n / 2
    double outside;
};
struct LocalVisit {
    int bath, site;
    int first; ///< of its neighbours, `slots` of them, -1 for none
};
/// A heat bath: visits of colour k, first[k] .. first[k + 1], see only sites of other colours.
struct LocalSweep {
    const LocalVisit* visits;
    const int* first;
    int colours;
};
/// Everything in memory of the device.
struct LocalView {
    LatticeView law;
    int terms; ///< of the site potential
    bool even;
    const LocalBath* baths;
    const int* neighbours;
    int slots;
    LocalSweep all, walls; ///< walls: sites that no tile reaches

    int side;                  ///< of tiles; 0: none
    int axes, points, outside; ///< outside: 1 for a fixed boundary
    const float* frame;        ///< its values, two an axis
    bool periodic;
    int sites[3], origins[3]; ///< along the axes; 1 beyond
    const LocalLevel* levels;
    int level_count;
    const int *interior, *edges; ///< points; pairs of points
    int interior_count, edge_count;
};
/// Iterations first .. first + count; sweeps: each with a heat bath over all sites.
struct LocalSpan {
    std::uint64_t seed;
    std::uint32_t first, count;
    bool sweeps;
};
/// [chain / 64][site][chain % 64], a multiple of 64 chains.
struct LocalStates {
    std::size_t chains;
    float* x;
    std::uint64_t* moves; ///< [chain][accepted, proposed], added to
};

/// Threads a chain that have something to do.
unsigned local_workers(int most_at_once);
/// Floats of working space for each group of kLocalGroup chains that moves at a time.
std::size_t local_scratch(const LocalView& view, unsigned workers);

/// Groups first_group .. + groups (of kLocalGroup chains) move by a span, with the CPU's bits. `scratch` is
/// theirs. Enqueued on the stream; throw Error(io) when a launch fails.
void local_advance(DeviceStream stream, const LocalView& view, const LocalSpan& span,
                   const LocalStates& states, unsigned workers, std::size_t first_group, std::size_t groups,
                   float* scratch);
/// rows (chains, sites) unless null, and values (quantities.all(), chains) of the first `chains`; the mean
/// over sites is squared for an even law.
void local_observe(DeviceStream stream, const LocalView& view, const LocalStates& states, std::size_t chains,
                   const HmcQuantities& quantities, float* rows, double* values);

} // namespace dynkin::cuda

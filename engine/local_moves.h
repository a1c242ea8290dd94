// local_moves.h - one iteration of the chains of local_metropolis.h, for 64 of them (private).
#pragma once
#include "context.h"
#include "level_table.h"
#include "model.h"
#include "target.h"
#include "tile.h"
#include <cstdint>
#include <optional>
#include <vector>

namespace dynkin {

/// How many proposals were accepted, and how many there were.
struct MoveCount {
    std::uint64_t accepted = 0, proposed = 0;
};

/// States of 64 chains stand as x[site][chain].
class LocalMoves {
  public:
    /// tile null: heat bath only.
    LocalMoves(const Context& context, const Target& target, const Tile* tile);

    std::size_t sites() const { return law_.lattice.sites(); }
    std::size_t scratch() const;        ///< floats a thread
    double box() const { return box_; } ///< states beyond have no way back
    /// Iteration `step` of chains first .. first + 63; `sweep`: a heat bath over all sites in any case.
    void advance(std::uint64_t seed, std::uint64_t first, std::uint32_t step, bool sweep, float* x,
                 float* scratch, MoveCount& count) const;
    /// U and the sum over edges of (x_i - x_j)^2 / 2 of each chain.
    void energies(const float* x, double* energy, double* edges) const;

  private:
    /// Sites of one number of edges, with a table of their law given the sum of their neighbours.
    struct Bath {
        int edges = 0;
        LevelTable table;
    };
    struct Visit {
        std::size_t bath, place; ///< place: which target of the bath's table
    };
    double site_energy(double x) const;
    void choose_box();
    LevelTable bath_table(const Context& context, int edges, const Level& places) const;
    void make_baths(const Context& context);
    void make_tile(const Context& context, const Tile& tile);
    void heat(std::uint64_t seed, std::uint64_t first, std::uint32_t step, const std::vector<Visit>& visits,
              float* x, MoveCount& count) const;
    void redraw(std::uint64_t seed, std::uint64_t first, std::uint32_t step, float* x, float* scratch,
                MoveCount& count) const;
    void tile_energy(const float* x, double factor, double* sum) const;

    const kernels::TableKernels& kernels_;
    Isa isa_;
    LatticeTarget law_;
    bool even_;
    double box_ = 0;
    std::vector<Bath> baths_;
    std::vector<Visit> all_, walls_; ///< walls_: those no tile reaches
    std::optional<TileShape> shape_;
    std::vector<LevelTable> levels_; ///< of the tile, the odd points last
    std::vector<int> interior_;
    std::vector<std::pair<int, int>> tile_edges_,
        edges_; ///< of the tile with an interior point; of the lattice
    std::vector<int> outer_;
};

} // namespace dynkin

// local_moves.h - one iteration of the chains of local_metropolis.h, for 64 of them (private).
#pragma once
#include "context.h"
#include "level_table.h"
#include "model.h"
#include "target.h"
#include "tile.h"
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace dynkin {

class EnergyLaw;

/// How many proposals were accepted, and how many there were.
struct MoveCount {
    std::uint64_t accepted = 0, proposed = 0;
};

/// What moves consist of.
struct LocalPlan {
    /// Sites of one number of edges and one sum of values outside, with a table of their law given the sum of
    /// their neighbours.
    struct Bath {
        int edges = 0;
        double outside = 0;
        LevelTable table;
    };
    struct Visit {
        std::size_t bath, place; ///< place: which target of the bath's table
    };
    LatticeTarget law;
    bool even = false;
    double box = 0; ///< states beyond have no way back
    std::vector<Bath> baths;
    std::vector<Visit> all, walls; ///< in order; walls: those no tile reaches
    std::optional<TileShape> shape;
    std::vector<LevelTable> levels; ///< of the tile, the odd points last
    std::vector<int> interior;
    std::vector<float> frame;                    ///< values outside, two an axis
    std::vector<std::pair<int, int>> tile_edges; ///< with an interior point

    int site(const Visit& visit) const { return baths[visit.bath].table.targets()[visit.place]; }
    const int* neighbours(const Visit& visit) const {
        return baths[visit.bath].table.neighbours(visit.place);
    }
};

/// States of 64 chains stand as x[site][chain].
class LocalMoves {
  public:
    /// tile null: heat bath only. The target must outlive it.
    LocalMoves(const Context& context, const Target& target, const Tile* tile);
    ~LocalMoves();

    const LocalPlan& plan() const { return plan_; }
    std::size_t sites() const { return plan_.law.lattice.sites(); }
    std::size_t scratch() const; ///< floats a thread
    /// Iteration `step` of chains first .. first + 63; `sweep`: a heat bath over all sites in any case.
    void advance(std::uint64_t seed, std::uint64_t first, std::uint32_t step, bool sweep, float* x,
                 float* scratch, MoveCount& count) const;

    static constexpr int lanes = 8;
    /// Of eight chains: energy, mean over sites (its square for an even law), mean square, and the sum over
    /// edges of (x_i - x_j)^2 / 2, by strands.h.
    using Watched = std::array<std::array<double, lanes>, 4>;
    /// x: the first of the eight.
    void observe(const float* x, Watched& out) const;

  private:
    double site_energy(double x) const;
    void choose_box();
    LevelTable bath_table(const Context& context, int edges, double outside, const Level& places) const;
    void make_baths(const Context& context);
    void make_tile(const Context& context, const Tile& tile);
    void heat(std::uint64_t seed, std::uint64_t first, std::uint32_t step,
              const std::vector<LocalPlan::Visit>& visits, float* x, MoveCount& count) const;
    void redraw(std::uint64_t seed, std::uint64_t first, std::uint32_t step, float* x, float* scratch,
                MoveCount& count) const;
    void tile_energy(const float* x, double factor, double* sum) const;

    const kernels::TableKernels& kernels_;
    Isa isa_;
    LocalPlan plan_;
    std::unique_ptr<const EnergyLaw> energy_;
};

} // namespace dynkin

// tile.h - the points of a tile and the order in which its interior is drawn (private).
#pragma once
#include "level_plan.h"
#include "model.h"
#include <array>
#include <vector>

namespace dynkin {

/// Tiles of (side + 1)^axes points in C order.
class TileShape {
  public:
    TileShape(int side, int axes);
    int side() const { return side_; }
    int axes() const { return axes_; }
    int points() const { return points_; }
    std::array<int, 3> coordinates(int point) const;
    int point(const std::array<int, 3>& at) const; ///< -1 outside
    bool interior(int point) const;
    bool odd(int point) const; ///< sum of the coordinates
    std::vector<int> nearest(int point) const;

  private:
    int side_, axes_, points_;
};

/// One level for each even point of the interior, coarse to fine, given the nearest points of the frame and
/// of those before it. Training rows are of points of the tile.
std::vector<LevelPlan> tile_levels(const TileShape& shape);

/// Origins of the tiles along one axis (kernels::tiles_along); 0: no room.
int tile_origins(int sites, int side, Boundary boundary);

} // namespace dynkin

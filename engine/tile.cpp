#include "tile.h"
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <numeric>

namespace dynkin {

using std::size_t;

TileShape::TileShape(int side, int axes) : side_(side), axes_(axes), points_(1) {
    for (int k = 0; k < axes; ++k) points_ *= side + 1;
}

std::array<int, 3> TileShape::coordinates(int point) const {
    std::array<int, 3> at{};
    for (int k = axes_; k-- > 0; point /= side_ + 1) at[static_cast<size_t>(k)] = point % (side_ + 1);
    return at;
}

int TileShape::point(const std::array<int, 3>& at) const {
    int point = 0;
    for (int k = 0; k < axes_; ++k) {
        const int x = at[static_cast<size_t>(k)];
        if (x < 0 || x > side_) return -1;
        point = point * (side_ + 1) + x;
    }
    return point;
}

bool TileShape::interior(int point) const {
    const auto at = coordinates(point);
    return std::all_of(at.begin(), at.begin() + axes_, [&](int x) { return x > 0 && x < side_; });
}

bool TileShape::odd(int point) const {
    const auto at = coordinates(point);
    return (at[0] + at[1] + at[2]) % 2 != 0;
}

std::vector<int> TileShape::nearest(int point) const {
    std::vector<int> out;
    const auto at = coordinates(point);
    for (int k = 0; k < axes_; ++k)
        for (int step : {-1, 1}) {
            auto next = at;
            next[static_cast<size_t>(k)] += step;
            if (const int other = this->point(next); other >= 0) out.push_back(other);
        }
    return out;
}

namespace {

/// Even interior points: those at multiples of half the scale, most of their coordinates half way first,
/// scale by scale.
std::vector<int> order(const TileShape& shape) {
    std::vector<int> out;
    for (int scale = shape.side(); scale >= 2; scale /= 2)
        for (int halves = shape.axes(); halves >= 1; --halves)
            for (int p = 0; p < shape.points(); ++p) {
                const auto at = shape.coordinates(p);
                int count = 0;
                bool fits = shape.interior(p) && !shape.odd(p);
                for (int k = 0; k < shape.axes(); ++k) {
                    const int rest = at[static_cast<size_t>(k)] % scale;
                    count += rest == scale / 2;
                    fits = fits && (rest == 0 || rest == scale / 2);
                }
                if (fits && count == halves) out.push_back(p);
            }
    return out;
}

/// The nearest known points, whole shells, until there are enough; on one axis the two that enclose it.
std::vector<int> neighbours(const TileShape& shape, int point, const std::vector<char>& known) {
    const auto here = shape.coordinates(point);
    std::map<int, std::vector<int>> shells;
    for (int p = 0; p < shape.points(); ++p) {
        if (!known[static_cast<size_t>(p)]) continue;
        int d2 = 0;
        const auto at = shape.coordinates(p);
        for (size_t k = 0; k < 3; ++k) d2 += (at[k] - here[k]) * (at[k] - here[k]);
        shells[d2].push_back(p);
    }
    const size_t enough = shape.axes() == 1 ? 2 : shape.axes() == 2 ? 24 : 36;
    std::vector<int> out;
    for (const auto& [d2, points] : shells) {
        if (out.size() >= enough) break;
        out.insert(out.end(), points.begin(), points.end());
    }
    return out;
}

} // namespace

std::vector<LevelPlan> tile_levels(const TileShape& shape) {
    std::vector<char> known(static_cast<size_t>(shape.points()));
    for (int p = 0; p < shape.points(); ++p) known[static_cast<size_t>(p)] = !shape.interior(p);
    std::vector<LevelPlan> plans;
    for (int p : order(shape)) {
        LevelPlan plan;
        plan.name = "tile";
        const auto at = shape.coordinates(p);
        for (int k = 0; k < shape.axes(); ++k) plan.name += fmt::format(" {}", at[static_cast<size_t>(k)]);
        plan.stage = static_cast<int>(plans.size());
        plan.targets = {p}, plan.neighbours = neighbours(shape, p, known);
        plan.slots = static_cast<int>(plan.neighbours.size());
        plan.shell.resize(plan.neighbours.size());
        std::iota(plan.shell.begin(), plan.shell.end(), 0);
        plan.kinds = {shape.axes() == 1 ? DescriptorKind::interval : DescriptorKind::predictor};
        if (shape.axes() == 1) plan.shell = {0, 0};
        plan.training = {p};
        plan.training.insert(plan.training.end(), plan.neighbours.begin(), plan.neighbours.end());
        plans.push_back(std::move(plan));
        known[static_cast<size_t>(p)] = 1;
    }
    return plans;
}

int tile_origins(int sites, int side, Boundary boundary) {
    if (boundary == Boundary::periodic) return sites < side ? 0 : sites;
    const int walls = boundary == Boundary::fixed ? 1 : 0;
    return std::max(0, std::min(side, sites + 2 * walls - side));
}

} // namespace dynkin

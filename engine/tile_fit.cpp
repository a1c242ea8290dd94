#include "tile_fit.h"
#include "../kernels/local.h"
#include "../kernels/philox.h"
#include "error.h"
#include "level_fit.h"
#include "level_table.h"
#include "parallel.h"
#include "progress.h"
#include "random.h"
#include "tile.h"
#include <algorithm>
#include <array>
#include <fmt/format.h>

namespace dynkin {

using std::size_t;

namespace {

/// Where the points of all tiles of a lattice lie: sites, or as kernels::next_site() on the wall.
class Places {
  public:
    Places(const Lattice& lattice, const TileShape& shape) : lattice_(lattice), shape_(shape) {
        std::array<int, 3> from{}, to{1, 1, 1};
        const int walls = lattice.boundary == Boundary::fixed ? 1 : 0;
        for (size_t k = 0; k < lattice.shape.size(); ++k) {
            const int n = static_cast<int>(lattice.shape[k]);
            from[k] = -walls;
            to[k] = lattice.boundary == Boundary::periodic ? n : n + walls - shape.side();
        }
        for (int x = from[0]; x < to[0]; ++x)
            for (int y = from[1]; y < to[1]; ++y)
                for (int z = from[2]; z < to[2]; ++z) origins_.push_back({x, y, z});
        std::array<int, 3> permutation{0, 1, 2};
        do {
            bool fits = true;
            for (int k = shape.axes(); k < 3; ++k) fits = fits && permutation[static_cast<size_t>(k)] == k;
            for (int signs = 0; fits && signs < 1 << shape.axes(); ++signs)
                symmetries_.push_back({permutation, signs});
        } while (std::next_permutation(permutation.begin(), permutation.end()));
    }

    size_t size() const { return origins_.size() * symmetries_.size(); }
    /// The value at a point of the wall.
    float outside(int site) const {
        const int k = -1 - site;
        return static_cast<float>(lattice_.outside_value(static_cast<size_t>(k / 2), k % 2));
    }
    /// The sites of these points of the tile at one place.
    void sites(size_t place, const std::vector<int>& points, int* out) const {
        const auto& origin = origins_[place / symmetries_.size()];
        const auto& [permutation, signs] = symmetries_[place % symmetries_.size()];
        for (int point : points) {
            const auto at = shape_.coordinates(point);
            int site = 0;
            for (size_t k = 0; k < lattice_.shape.size() && site >= 0; ++k) {
                const int along = at[static_cast<size_t>(permutation[k])],
                          n = static_cast<int>(lattice_.shape[k]);
                int x = origin[k] + (signs >> k & 1 ? shape_.side() - along : along);
                if (lattice_.boundary == Boundary::periodic) x %= n;
                site = kernels::next_site(site, static_cast<int>(k), n, x < n ? x : -2);
            }
            *out++ = site;
        }
    }

  private:
    const Lattice& lattice_;
    const TileShape& shape_;
    std::vector<std::array<int, 3>> origins_;
    std::vector<std::pair<std::array<int, 3>, int>> symmetries_;
};

/// From every row an equal share of the places, spread evenly from a random one. Held out: every fifth row.
LevelPairs collect(const Context& context, const SampleFile& data, const Places& places,
                   const LevelPlan& plan, const TileOptions& options) {
    const size_t rows = data.rows(), d = data.cols(), width = plan.training.size();
    const double most = std::min(static_cast<double>(options.pairs),
                                 static_cast<double>(rows) * static_cast<double>(places.size()));
    const auto upto = [&](size_t row) {
        return static_cast<size_t>(static_cast<double>(row) / static_cast<double>(rows) * most + 0.5);
    };
    LevelPairs pairs;
    for (size_t n = 0; n < rows; ++n) pairs.train += n % 5 == 4 ? 0 : upto(n + 1) - upto(n);
    pairs.values = Array<float>(width, upto(rows));
    const size_t batch = std::max<size_t>(1, (size_t{1} << 20) / d);
    std::vector<float> x(batch * d);
    std::vector<int> sites(width);
    size_t train = 0, test = pairs.train;
    for (size_t first = 0; first < rows; first += batch) {
        const size_t count = std::min(batch, rows - first);
        data.read(first, count, x.data());
        for (size_t n = first; n < first + count; ++n) {
            const size_t share = upto(n + 1) - upto(n);
            const std::uint64_t start =
                philox(options.seed, Stream::tile_pairs, n, static_cast<std::uint32_t>(plan.stage), 0).v[0];
            size_t& to = n % 5 == 4 ? test : train;
            for (size_t k = 0; k < share; ++k, ++to) {
                places.sites((start + k * places.size() / share) % places.size(), plan.training,
                             sites.data());
                for (size_t s = 0; s < width; ++s)
                    pairs.values(s, to) = sites[s] < 0 ? places.outside(sites[s])
                                                       : x[(n - first) * d + static_cast<size_t>(sites[s])];
            }
        }
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    }
    return pairs;
}

} // namespace

Tile fit_tile(const Context& context, const SampleFile& data, const Target& target,
              const TileOptions& options, std::vector<LevelReport>* reports) {
    const auto* law = std::get_if<LatticeTarget>(&target.law);
    require(law != nullptr, ErrorKind::usage,
            fmt::format("tile: expected a lattice target, got {}", target.kind));
    require(options.side == 4 || options.side == 8 || options.side == 16, ErrorKind::usage,
            fmt::format("tile: expected side 4, 8 or 16, got {}", options.side));
    require(data.cols() == law->lattice.sites(), ErrorKind::usage,
            fmt::format("tile: expected {} numbers a sample, got {}", law->lattice.sites(), data.cols()));
    const TileShape shape(options.side, static_cast<int>(law->lattice.shape.size()));
    const Places places(law->lattice, shape);
    for (size_t n : law->lattice.shape)
        require(tile_origins(static_cast<int>(n), options.side, law->lattice.boundary) > 0, ErrorKind::usage,
                fmt::format("tile: expected a lattice that tiles of side {} fit into, got {}", options.side,
                            law->lattice.describe()));
    Tile tile{options.side, shape.axes(), law->coupling, law->site, {}};
    const auto plans = tile_levels(shape);
    LevelOptions level;
    level.even = target.even(), level.ridge = options.ridge;
    Progress progress(context, "tile", plans.size());
    for (const LevelPlan& plan : plans) {
        LevelReport report;
        try {
            tile.levels.push_back(
                fit_level(context, plan, collect(context, data, places, plan, options), level, report));
        } catch (const Interrupted&) {
            throw;
        } catch (const Error& error) {
            throw Error(error.kind(), fmt::format("{}: {}", data.path().string(), error.what()));
        }
        if (!LevelTable::fits(tile.levels.back()))
            throw Error(ErrorKind::input,
                        fmt::format("{}: {} has too few or too heavy-tailed pairs for a table",
                                    data.path().string(), report.name));
        if (reports) reports->push_back(std::move(report));
        progress.advance(1);
        if (progress.interrupted()) progress.throw_interrupted();
    }
    return tile;
}

} // namespace dynkin

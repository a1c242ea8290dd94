#include "level_trial.h"
#include "level_flow.h"
#include "levels_device.h"
#include "parallel.h"
#include <algorithm>
#include <cmath>
#include <numeric>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

namespace {

/// The level alone, as a model of pairs: target in row 0, slots in the rows after it.
Level pair_level(Level level) {
    level.targets = {0}, level.neighbours.resize(static_cast<size_t>(level.slots));
    std::iota(level.neighbours.begin(), level.neighbours.end(), 1);
    return level;
}

/// log q[tile][particle] of the level's targets: those drawn given the tiles that fill(tile, x) makes, or
/// those in them.
template <class Fill> std::vector<double> log_density_of_tiles(const Context& context, const Level& level,
                                                               bool drawn, size_t tiles, const Fill& fill) {
    const Level alone = pair_level(level);
    const size_t values = (static_cast<size_t>(level.slots) + 1) * kScoreTile;
    std::vector<double> log_q(tiles * kScoreTile, 0);
    const DeviceLevel source{&alone};
    if (const auto device = levels_on_device<float>(context, {&source, 1}, level.slots + 1, 0)) {
        Array<float> x(tiles, values);
        for (size_t tile = 0; tile < tiles; ++tile) fill(tile, x.row(tile));
        if constexpr (built_with_cuda) {
            if (drawn)
                device->draw(0, 1, 0, 0, tiles, x.data(), log_q.data());
            else
                device->evaluate(tiles, x.data(), log_q.data());
        }
        return log_q;
    }
    const LevelFlow<float> flow(context, alone, 0);
    const size_t scratch = flow.scratch() / sizeof(float);
    Array<float> space(static_cast<size_t>(context.threads()), (scratch + values + 15) / 16 * 16);
    parallel_for(context.threads(), tiles, [&](size_t tile, size_t thread) {
        std::byte* const work = reinterpret_cast<std::byte*>(space.row(thread));
        float* const x = space.row(thread) + scratch;
        fill(tile, x);
        double* const out = &log_q[tile * kScoreTile];
        if (drawn)
            flow.draw(0, tile * kScoreTile, x, out, work);
        else
            flow.evaluate(x, out, work);
    });
    return log_q;
}

} // namespace

void choose_steps(const Context& context, const LevelPairs& pairs, Level& level) {
    const size_t tiles = 256, rows = pairs.values.rows();
    for (;; level.steps += level.steps / 2) {
        const auto log_q = log_density_of_tiles(context, level, true, tiles, [&](size_t tile, float* x) {
            for (size_t k = 1; k < rows; ++k)
                for (size_t q = 0; q < kScoreTile; ++q)
                    x[k * kScoreTile + q] =
                        pairs.values(k, (tile * kScoreTile + q) * pairs.size() / (tiles * kScoreTile));
        });
        const auto finite = [](double value) { return std::isfinite(value); };
        if (level.steps >= 256 || std::all_of(log_q.begin(), log_q.end(), finite)) return;
    }
}

double heldout_likelihood(const Context& context, const Level& level, const LevelPairs& pairs, size_t most) {
    const size_t available = pairs.size() - pairs.train, count = std::min(most, available),
                 tiles = (count + kScoreTile - 1) / kScoreTile, rows = pairs.values.rows();
    const auto log_q = log_density_of_tiles(context, level, false, tiles, [&](size_t tile, float* x) {
        for (size_t k = 0; k < rows; ++k)
            for (size_t q = 0; q < kScoreTile; ++q) {
                const size_t n = std::min(tile * kScoreTile + q, count - 1);
                x[k * kScoreTile + q] = pairs.values(k, pairs.train + n * available / count);
            }
    });
    std::vector<double> total(tiles, 0);
    for (size_t n = 0; n < count; ++n)
        total[n / kScoreTile] += std::isfinite(log_q[n]) ? std::max(log_q[n], -50.0) : -50.0;
    return std::accumulate(total.begin(), total.end(), 0.0) / static_cast<double>(count);
}

} // namespace dynkin

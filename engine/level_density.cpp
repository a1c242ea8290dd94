// level_density.cpp - log q of the levels of a model at given points, on the CPU or the device.
#include "level_flow.h"
#include "levels_device.h"
#include "parallel.h"
#include "progress.h"
#include <algorithm>
#include <cmath>
#include <limits>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

namespace {

/// values[column][particle] of one tile from rows; the last row again where there is none.
void read_tile(const double* x, size_t d, size_t first, size_t count, double* values) {
    for (size_t j = 0; j < d; ++j)
        for (size_t p = 0; p < kScoreTile; ++p)
            values[j * kScoreTile + p] = x[std::min(first + p, count - 1) * d + j];
}

} // namespace

void add_log_density_of_levels(const Context& context, const Model& model, size_t count, const double* x,
                               int steps, double* out) {
    const size_t d = static_cast<size_t>(model.dimension()), tiles = (count + kScoreTile - 1) / kScoreTile;
    Progress progress(context, "density", count);
    const auto finish = [&](size_t first, size_t rows, const double* log_q) {
        for (size_t p = 0; p < rows; ++p)
            out[first + p] = std::isfinite(out[first + p] + log_q[p])
                                 ? out[first + p] + log_q[p]
                                 : -std::numeric_limits<double>::infinity();
    };
    if (const auto device =
            levels_on_device<double>(context, flows_of(model.levels), model.dimension(), steps)) {
        const size_t at_once = std::min(tiles, std::max((size_t{1} << 22) / d / kScoreTile, size_t{1}));
        Array<double> values(at_once, d * kScoreTile);
        for (size_t tile = 0; tile < tiles; tile += at_once) {
            const size_t part = std::min(at_once, tiles - tile), first = tile * kScoreTile;
            for (size_t k = 0; k < part; ++k) read_tile(x, d, first + k * kScoreTile, count, values.row(k));
            std::vector<double> log_q(part * kScoreTile, 0);
            if constexpr (built_with_cuda) device->evaluate(part, values.data(), log_q.data());
            if (progress.interrupted()) progress.throw_interrupted();
            finish(first, std::min(log_q.size(), count - first), log_q.data());
            progress.set(std::min(first + log_q.size(), count));
        }
        return;
    }
    std::vector<LevelFlow<double>> levels;
    size_t scratch = 0;
    for (const Level& level : model.levels) {
        levels.emplace_back(context, level, steps);
        scratch = std::max(scratch, levels.back().scratch());
    }
    Array<double> space(static_cast<size_t>(context.threads()), d * kScoreTile + scratch / sizeof(double));
    parallel_for(context.threads(), tiles, [&](size_t tile, size_t thread) {
        if (context.interrupt_signal()) return;
        double* values = space.row(thread);
        const size_t first = tile * kScoreTile, rows = std::min<size_t>(kScoreTile, count - first);
        read_tile(x, d, first, count, values);
        double log_q[kScoreTile] = {};
        for (const auto& level : levels)
            level.evaluate(values, log_q, reinterpret_cast<std::byte*>(values + d * kScoreTile));
        finish(first, rows, log_q);
        if (thread == 0) progress.set(first + rows);
    });
    if (progress.interrupted()) progress.throw_interrupted();
}

} // namespace dynkin

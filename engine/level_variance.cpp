// level_variance.cpp - how much each stage of a multilevel model adds to the variance of log w.
#include "error.h"
#include "level_flow.h"
#include "parallel.h"
#include "weigh.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

std::vector<StageVariance> stage_variances(const Context& context, const Model& model, const Target& target,
                                           std::uint64_t seed) {
    constexpr size_t copies = 4, tiles = 64;
    const size_t d = static_cast<size_t>(model.dimension());
    require(!model.levels.empty() && model.blocks.empty() && model.view.kept.size() == model.view.columns,
            ErrorKind::usage, "stage variances: expected a model of levels of all columns");
    require(target.has_energy() && target.dimension() == d, ErrorKind::usage,
            fmt::format("stage variances: expected a target of dimension {} with an energy, got {}", d,
                        target.dimension()));
    std::vector<LevelFlow<float>> flows;
    size_t scratch = 0;
    for (const Level& level : model.levels) {
        flows.emplace_back(context, level, 0);
        scratch = std::max(scratch, flows.back().scratch());
    }
    std::vector<StageVariance> out;
    for (size_t k = 0; k < model.levels.size(); ++k) {
        const Level& level = model.levels[k];
        if (out.empty() || level.stage != model.levels[k - 1].stage)
            out.push_back({level.name.substr(0, level.name.find('.')), 0, 0, 0});
        out.back().targets += level.targets.size();
    }
    Array<double> space(static_cast<size_t>(context.threads()), scratch / sizeof(double) + 1);
    for (size_t stage = 0, next = 0; stage < out.size(); ++stage) {
        const size_t first = next; // levels before it are shared by the copies of a group
        while (next < flows.size() && model.levels[next].stage == model.levels[first].stage) ++next;
        std::vector<double> variance(tiles, 0);
        parallel_for(context.threads(), tiles, [&](size_t tile, size_t thread) {
            std::byte* const work = reinterpret_cast<std::byte*>(space.row(thread));
            std::vector<float> x(d * kScoreTile);
            std::vector<double> rows(d * kScoreTile), u(kScoreTile);
            double log_q[kScoreTile] = {};
            for (size_t k = 0; k < flows.size(); ++k) {
                if (k == first)
                    for (size_t i = 0; i < d * kScoreTile; ++i) x[i] = x[i / copies * copies];
                flows[k].draw(seed, tile * kScoreTile, x.data(), k < first ? nullptr : log_q, work);
            }
            for (size_t p = 0; p < kScoreTile; ++p)
                for (size_t j = 0; j < d; ++j) rows[p * d + j] = static_cast<double>(x[j * kScoreTile + p]);
            ContextOptions alone;
            alone.device = Device::cpu, alone.threads = 1, alone.isa = context.isa();
            energy(Context(alone), target, kScoreTile, rows.data(), u.data());
            for (size_t p = 0; p < kScoreTile; p += copies) {
                double mean = 0, square = 0;
                for (size_t c = 0; c < copies; ++c) mean -= (u[p + c] + log_q[p + c]) / copies;
                for (size_t c = 0; c < copies; ++c) square += std::pow(u[p + c] + log_q[p + c] + mean, 2);
                variance[tile] += square / (copies - 1) / (kScoreTile / copies);
            }
        });
        double sum = 0;
        for (double v : variance) sum += v;
        out[stage].from_here = sum / tiles;
    }
    for (size_t k = 0; k < out.size(); ++k)
        out[k].own = out[k].from_here - (k + 1 < out.size() ? out[k + 1].from_here : 0);
    return out;
}

} // namespace dynkin

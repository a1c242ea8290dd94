#include "level_table.h"
#include "error.h"
#include "level_flow.h"
#include "parallel.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>
#include <limits>

namespace dynkin {

using kernels::kScoreTile;
using kernels::kTableCells;
using kernels::kTableStride;
using std::size_t;

namespace {

constexpr int kRows[3][2] = {{1, 1}, {97, 1}, {33, 17}}; ///< of the axes, by the number of descriptors
constexpr int kSumRows = 193;
constexpr size_t kStarts = 4 * kScoreTile;
constexpr size_t kProduct = 8; ///< so many densities are multiplied before their logarithm is taken

/// The level with z for x and its descriptors for the neighbours.
Level bare(const Level& level) {
    Level out = level;
    out.slots = static_cast<int>(level.descriptors.size());
    out.targets = {0}, out.neighbours.clear(), out.predictor.assign(level.descriptors.size(), 0);
    for (int k = 0; k < out.slots; ++k) {
        out.neighbours.push_back(k + 1);
        out.descriptors[static_cast<size_t>(k)] = {1, {{1, {{k, 1}}}}};
    }
    out.intercept = 0, out.scale = 1;
    return out;
}

/// Where the flow carries points of the reference: z ascending, log q, and the mass below.
struct Carried {
    std::vector<double> z, log_q, below;

    double mass_below(double at) const {
        const size_t above = static_cast<size_t>(std::lower_bound(z.begin(), z.end(), at) - z.begin());
        if (above == 0) return 0;
        if (above == z.size()) return below.back();
        const double f = (at - z[above - 1]) / (z[above] - z[above - 1]);
        return below[above - 1] + f * (below[above] - below[above - 1]);
    }
    /// The cubic through the four points around; 0 beyond the first and the last.
    double density(double at, double h) const {
        const size_t above = static_cast<size_t>(std::lower_bound(z.begin(), z.end(), at) - z.begin());
        if (z.size() < 4 || above == 0 || above == z.size()) return 0;
        const size_t first = std::clamp<size_t>(above, 2, z.size() - 2) - 2;
        double value = 0;
        for (size_t k = first; k < first + 4; ++k) {
            double weight = 1;
            for (size_t l = first; l < first + 4; ++l)
                if (l != k) weight *= (at - z[l]) / (z[k] - z[l]);
            value += weight * log_q[k];
        }
        // A peak narrower than a cell must not have more mass than the points that made it.
        const double mean = (mass_below(at + h) - mass_below(at - h)) / (2 * h);
        return std::min(std::exp(std::min(value, 50.0)), 1.5 * mean);
    }
};

/// q at all nodes of all rows, from where the flow carries kStarts points of the reference's box; 0 where it
/// never arrives.
std::vector<double> flow_density(const Context& context, const Level& level, const kernels::LawTable& law,
                                 size_t rows) {
    const Level alone = bare(level);
    const LevelFlow<double> flow(context, alone, 0);
    const size_t features = law.axes.size();
    const Family& f = level.family;
    const double step = (f.hi - f.lo) / (kStarts - 1);
    std::vector<double> density(rows * kTableStride);
    Array<double> space(static_cast<size_t>(context.threads()),
                        (2 + features) * kScoreTile + flow.scratch() / sizeof(double) + 1);
    parallel_for(context.threads(), rows, [&](size_t row, size_t thread) {
        double* const z = space.row(thread);
        double* const x = z + kScoreTile;
        size_t rest = row;
        for (size_t k = features; k-- > 0;) {
            const auto& axis = law.axes[k];
            const double at = static_cast<double>(rest / static_cast<size_t>(axis.stride)) / (axis.rows - 1),
                         share = axis.power == 2 ? at * at : at;
            rest %= static_cast<size_t>(axis.stride);
            const double u = level.lower[k] + share * (level.upper[k] - level.lower[k]);
            std::fill_n(x + (k + 1) * kScoreTile, kScoreTile, level.center[k] + level.spread[k] * u);
        }
        Carried carried;
        double below = 0, last = 0;
        for (size_t first = 0; first < kStarts; first += kScoreTile) {
            double log_q[kScoreTile] = {};
            for (size_t p = 0; p < kScoreTile; ++p) z[p] = f.lo + step * static_cast<double>(first + p);
            flow.carry(z, x, log_q, reinterpret_cast<std::byte*>(x + (1 + features) * kScoreTile));
            for (size_t p = 0; p < kScoreTile; ++p) {
                const double start = f.log_density(z[p]);
                below += first + p == 0 ? 0 : 0.5 * step * (std::exp(last) + std::exp(start)), last = start;
                if (!std::isfinite(log_q[p]) || (!carried.z.empty() && x[p] <= carried.z.back() + 1e-9))
                    continue;
                carried.z.push_back(x[p]), carried.log_q.push_back(log_q[p]), carried.below.push_back(below);
            }
        }
        const double h = static_cast<double>(law.h);
        for (size_t i = 0; i < kTableStride; ++i)
            density[row * kTableStride + i] =
                carried.density(static_cast<double>(law.lo) + h * static_cast<double>(i), h);
    });
    return density;
}

} // namespace

void LevelTable::take_places(const Level& level) {
    targets_ = level.targets, neighbours_ = level.neighbours, slots_ = static_cast<size_t>(level.slots);
}

size_t LevelTable::rows() const {
    size_t rows = 1;
    for (const auto& axis : law_.axes) rows *= static_cast<size_t>(axis.rows);
    return rows;
}

void LevelTable::make_axes(const Level& level) {
    for (size_t s = 0; s < level.predictor.size(); ++s)
        if (level.predictor[s] != 0)
            law_.predictor.push_back({static_cast<int>(s), static_cast<float>(level.predictor[s])});
    const auto is_predictor = [&](const Descriptor& d) {
        if (d.power != 1 || d.groups.size() != 1 || d.groups[0].coefficient != 1) return false;
        std::vector<double> weights(level.predictor.size(), 0);
        for (const auto& entry : d.groups[0].entries)
            weights[static_cast<size_t>(entry.slot)] += entry.weight;
        return weights == level.predictor;
    };
    int stride = 1;
    for (size_t k = 0; k < level.descriptors.size(); ++k) {
        const Descriptor& d = level.descriptors[k];
        kernels::LawTable::Axis axis;
        axis.power = d.power, axis.first = static_cast<int>(law_.groups.size());
        axis.predictor = is_predictor(d);
        for (const auto& group : d.groups) {
            const int first = static_cast<int>(law_.entries.size());
            for (const auto& entry : group.entries)
                law_.entries.push_back({entry.slot, static_cast<float>(entry.weight)});
            law_.groups.push_back(
                {static_cast<float>(group.coefficient), first, static_cast<int>(law_.entries.size())});
        }
        axis.last = static_cast<int>(law_.groups.size());
        axis.rows = kRows[level.descriptors.size()][k], axis.stride = stride, stride *= axis.rows;
        const double range = level.spread[k] * (level.upper[k] - level.lower[k]);
        axis.offset = static_cast<float>(level.center[k] + level.spread[k] * level.lower[k]);
        axis.inverse = range > 0 ? static_cast<float>(1 / range) : 0;
        law_.axes.push_back(axis);
    }
    law_.intercept = static_cast<float>(level.intercept), law_.scale = static_cast<float>(level.scale);
}

/// Rows of non-negative numbers become densities that integrate to 1.
void LevelTable::fill(const std::vector<double>& density, double floor) {
    const double h = static_cast<double>(law_.h), uniform = 1 / (kTableCells * h);
    law_.density.resize(density.size()), law_.cumulative.resize(density.size());
    for (size_t first = 0; first < density.size(); first += kTableStride) {
        const double* p = &density[first];
        float* to = &law_.density[first];
        std::int32_t* cumulative = &law_.cumulative[first];
        const auto total = [&](const auto* at) {
            double sum = 0;
            for (size_t i = 0; i + 1 < kTableStride; ++i)
                sum += 0.5 * h * (static_cast<double>(at[i]) + static_cast<double>(at[i + 1]));
            return sum;
        };
        const double sum = total(p), share = sum > 0 ? floor : 1;
        for (size_t i = 0; i < kTableStride; ++i)
            to[i] = static_cast<float>((sum > 0 ? (1 - share) * p[i] / sum : 0) + share * uniform);
        const double rounded = total(to);
        double below = 0;
        for (size_t i = 0; i < kTableStride; ++i) {
            cumulative[i] = static_cast<std::int32_t>(
                std::clamp(std::floor(below / rounded * 0x1p32 + 0.5) - 0x1p31, -0x1p31, 0x1p31 - 1));
            if (i + 1 < kTableStride)
                below += 0.5 * h * (static_cast<double>(to[i]) + static_cast<double>(to[i + 1]));
        }
        cumulative[kTableCells] = std::numeric_limits<std::int32_t>::max();
    }
}

LevelTable::LevelTable(const Context& context, const Level& level, const TableOptions& options)
    : kernels_(kernels::table_kernels(context.isa())) {
    require(fits(level), ErrorKind::usage,
            fmt::format("level {}: expected at most two descriptors and a fitted reference for a table",
                        level.name));
    take_places(level), make_axes(level);
    const double width = level.family.hi - level.family.lo, lo = level.family.lo - options.margin * width;
    law_.lo = static_cast<float>(lo);
    law_.h = static_cast<float>((1 + 2 * options.margin) * width / kTableCells);
    fill(flow_density(context, level, law_, rows()), options.floor);
}

LevelTable::LevelTable(const Context& context, const Level& places, double reach, double box,
                       const std::function<double(double, double)>& log_density)
    : kernels_(kernels::table_kernels(context.isa())) {
    take_places(places);
    for (int s = 0; s < places.slots; ++s) law_.entries.push_back({s, 1});
    law_.groups.push_back({1, 0, places.slots});
    law_.axes.push_back(
        {1, 0, 1, false, static_cast<float>(-reach), static_cast<float>(1 / (2 * reach)), kSumRows, 1});
    law_.lo = static_cast<float>(-box), law_.h = static_cast<float>(2 * box / kTableCells);
    std::vector<double> density;
    for (int row = 0; row < kSumRows; ++row) {
        const double sum = reach * (2.0 * row / (kSumRows - 1) - 1);
        std::vector<double> values;
        for (int i = 0; i <= kTableCells; ++i)
            values.push_back(
                log_density(sum, static_cast<double>(law_.lo) + static_cast<double>(law_.h) * i));
        const double highest = *std::max_element(values.begin(), values.end());
        for (double v : values) density.push_back(std::exp(v - highest));
    }
    fill(density, 1e-6);
}

void LevelTable::draw(const DrawKey& key, float* x, double* log_density) const {
    kernels::TableConditions given;
    std::uint32_t words[4 * kScoreTile];
    double product[kScoreTile];
    std::fill_n(product, kScoreTile, 1.0);
    for (size_t k = 0; k < targets_.size(); ++k) {
        const int target = targets_[k];
        float* const at = x + static_cast<size_t>(target) * kScoreTile;
        kernels_.describe(law_, x, neighbours_.data() + k * slots_, given);
        kernels_.words(key.seed, static_cast<std::uint32_t>(key.stream), key.first, key.step,
                       key.slot + static_cast<std::uint32_t>(target), words);
        kernels_.draw(law_, given, words, at);
        if (!log_density) continue;
        kernels_.density(law_, given, at, product);
        if (k % kProduct == kProduct - 1 || k + 1 == targets_.size()) kernels_.add_log(product, log_density);
    }
}

void LevelTable::evaluate(const float* x, double* log_density) const {
    kernels::TableConditions given;
    double product[kScoreTile];
    std::fill_n(product, kScoreTile, 1.0);
    for (size_t k = 0; k < targets_.size(); ++k) {
        kernels_.describe(law_, x, neighbours_.data() + k * slots_, given);
        kernels_.density(law_, given, x + static_cast<size_t>(targets_[k]) * kScoreTile, product);
        if (k % kProduct == kProduct - 1 || k + 1 == targets_.size()) kernels_.add_log(product, log_density);
    }
}

} // namespace dynkin

// levels_device.h - the levels of a model on the device: every level of a batch there, one after another
// (private).
#pragma once
#include "../kernels/device.h"
#include "context.h"
#include "model.h"
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace dynkin {

class ExactLevels;
class LevelTable;

/// One level of a model, and how it is to be drawn.
struct DeviceLevel {
    const Level* level;
    const LevelTable* table = nullptr;  ///< from this one (T = float), or
    const ExactLevels* exact = nullptr; ///< as its level `number` (T = float), else by the flow
    std::size_t number = 0;
};

/// The twin of LevelFlow<T>, LevelTable and ExactLevels, for many tiles at a time. Coordinates stand as
/// x[tile][column][particle], tiles of kScoreTile particles, in the units of the data. To be used where
/// context.device() is cuda.
template <class T> class DeviceLevels {
  public:
    /// Whether the level can be drawn there: the basis of conditions of a flow fits into the shared memory of
    /// a block; the targets of a table are not neighbours of one another.
    static bool fits(const Context& context, const DeviceLevel& level);
    /// Uploads the laws of all levels. steps 0: each level's own. `columns`: of a tile.
    DeviceLevels(const Context& context, std::span<const DeviceLevel> levels, int columns, int steps);
    ~DeviceLevels();
    DeviceLevels(DeviceLevels&&) noexcept;

    /// Draws the targets of levels first_level <= k < last_level for the particles first .. of so many tiles,
    /// given what is in x, and adds log q[tile][particle] unless null (NaN where the discrete map has no
    /// inverse). As many tiles at a time as the device's memory allows, which does not change the results.
    /// Throws Error(io) when not even one fits. Returns early, with x undefined, when the context is
    /// interrupted.
    void draw(std::size_t first_level, std::size_t last_level, std::uint64_t seed, std::uint64_t first,
              std::size_t tiles, T* x, double* log_density) const;
    /// Adds log q of the targets of all levels; the rest as LevelFlow::evaluate() and draw().
    void evaluate(std::size_t tiles, const T* x, double* log_density) const;

  private:
    struct Law;
    struct Batch;
    struct Run;
    template <class Work> void run(const Run& all, const Work& work) const;

    const Context& context_;
    int columns_;
    std::vector<Law> laws_;
};

/// The levels on the device; null where there is none, or where it cannot hold all of them: then the CPU's
/// LevelFlow and LevelTable are to be used.
template <class T> std::shared_ptr<DeviceLevels<T>>
levels_on_device(const Context& context, std::span<const DeviceLevel> levels, int columns, int steps) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda && !levels.empty() &&
            std::all_of(levels.begin(), levels.end(),
                        [&](const DeviceLevel& level) { return DeviceLevels<T>::fits(context, level); }))
            return std::make_shared<DeviceLevels<T>>(context, levels, columns, steps);
    return nullptr;
}

/// All of them by their flows.
inline std::vector<DeviceLevel> flows_of(std::span<const Level> levels) {
    std::vector<DeviceLevel> out;
    for (const Level& level : levels) out.push_back({&level});
    return out;
}

} // namespace dynkin

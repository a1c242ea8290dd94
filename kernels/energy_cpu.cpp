// energy_cpu.cpp - energies and gradients of rows of samples on the CPU; formulas in energy.h, tiles in
// energy_cpu.h.
#include "energy_cpu.h"
#include "dispatch_cpu.h"
#include <vector>

namespace dynkin::cpu {
namespace {

constexpr int width = 8;

/// Rows [0, count) of x, count <= W, into a tile; the lanes beyond repeat the last row.
inline void load_tile(std::size_t d, std::size_t count, const double* rows, double* tile) {
    for (std::size_t lane = 0; lane < width; ++lane) {
        const double* row = rows + std::min(lane, count - 1) * d;
        for (std::size_t i = 0; i < d; ++i) tile[i * width + lane] = row[i];
    }
}

template <class View> struct Tile {
    const View& law;
    std::size_t count;
    const double* x;
    double *energies, *gradients; // gradients may be null
    double *position, *force, *scratch;

    void operator()() const {
        const std::size_t d = law.dimension;
        load_tile(d, count, x, position);
        double u[width];
        energy<width>(law, position, u, scratch);
        for (std::size_t lane = 0; lane < count; ++lane) energies[lane] = u[lane];
        if (!gradients) return;
        gradient<width>(law, position, force, scratch);
        for (std::size_t lane = 0; lane < count; ++lane)
            for (std::size_t i = 0; i < d; ++i) gradients[lane * d + i] = force[i * width + lane];
    }
};

template <class View> void run_tiles(Isa isa, int threads, const View& law, std::size_t scratch,
                                     std::size_t count, const double* x, double* energies,
                                     double* gradients) {
    const std::size_t d = law.dimension;
    const std::size_t tiles = (count + width - 1) / width;
    // A thread is woken for no less than some 50 microseconds of work.
    const int team =
        static_cast<int>(std::clamp<std::size_t>(count * d / 16384, 1, static_cast<std::size_t>(threads)));
#pragma omp parallel num_threads(team)
    {
        std::vector<double> memory((2 * d + scratch) * width);
        double *position = memory.data(), *force = position + d * width, *rest = force + d * width;
#pragma omp for schedule(static)
        for (std::size_t t = 0; t < tiles; ++t) {
            const std::size_t first = t * width;
            with_isa(isa, Tile<View>{law, std::min<std::size_t>(width, count - first), x + first * d,
                                     energies + first, gradients ? gradients + first * d : nullptr, position,
                                     force, rest});
        }
    }
}

} // namespace

void energy_gradient(Isa isa, int threads, const EnergyView& law, std::size_t count, const double* x,
                     double* energies, double* gradients) {
    const std::size_t scratch = scratch_per_lane(law);
    std::visit(
        [&](const auto& view) { run_tiles(isa, threads, view, scratch, count, x, energies, gradients); },
        law);
}

} // namespace dynkin::cpu

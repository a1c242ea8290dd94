// energy_cuda.cu - energies and gradients of rows of samples on the device, a team of threads a row; the
// loops stand in energy_cuda.h.
#include "energy_cuda.h"
#include <type_traits>

namespace dynkin::cuda {
namespace {

/// Rows of teams of less than a block are staged in shared memory; longer ones are a block's own and stay
/// where they are, for each of its threads reads them side by side.
template <class View> __global__ void __launch_bounds__(team_block)
    energy_kernel(View law, TeamLayout layout, const double* x, double* energies, double* gradients) {
    const Team team(layout);
    const std::size_t d = law.dimension, n = team.index();
    const bool there = n < layout.count, staged = layout.size < team_block;
    double* scratch = team.memory();
    const double* position = x + n * d;
    if (staged) {
        double* stage = scratch + (layout.memory - 2 * d);
        for (std::size_t i = team.lane(); i < d; i += team.size()) stage[i] = there ? position[i] : 0.0;
        position = stage;
        team.sync();
    }
    const double u = energy(team, law, position, scratch);
    if (there && team.lane() == 0) energies[n] = u;
    if (!gradients) return;
    double* force = staged ? scratch + (layout.memory - d) : gradients + n * d;
    gradient(team, law, position, force, scratch);
    if (staged && there)
        for (std::size_t i = team.lane(); i < d; i += team.size()) gradients[n * d + i] = force[i];
}

} // namespace

std::size_t energy_shared_memory(const EnergyView& law) {
    TeamLayout layout{static_cast<unsigned>(strands_of(dimension(law))), team_scratch(law), 1};
    if (layout.size < team_block) layout.memory += 2 * dimension(law);
    return layout.shared_bytes();
}

void energy_gradient(DeviceStream stream, const EnergyView& law, std::size_t count, const double* x,
                     double* energies, double* gradients) {
    if (count == 0) return;
    const std::size_t d = dimension(law);
    TeamLayout layout{static_cast<unsigned>(strands_of(d)), team_scratch(law), count};
    if (layout.size < team_block) layout.memory += 2 * d;
    std::visit(
        [&]<class View>(const View& view) {
            if constexpr (on_device<View>)
                gpu::launch(energy_kernel<View>, layout.blocks(), team_block, layout.shared_bytes(), stream,
                            view, layout, x, energies, gradients);
        },
        law);
}

} // namespace dynkin::cuda

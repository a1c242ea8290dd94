// level_flow.h - a level made ready to draw its targets and to evaluate their density, tile by tile
// (private).
#pragma once
#include "../kernels/conditional.h"
#include "context.h"
#include "model.h"
#include "stationary.h"
#include <cstddef>
#include <cstdint>
#include <optional>

namespace dynkin {

/// How the level's conditions follow from its neighbours, for the kernels.
kernels::Conditions level_conditions(const Level& level);
/// The level's conditions and flow in this many steps (0: the level's own), for the kernels.
template <class T> kernels::ConditionalPlan<T> conditional_plan(const Level& level, int steps);

/// Coordinates stand as x[column][particle] in tiles of kScoreTile particles, in the units of the data.
template <class T> class LevelFlow {
  public:
    /// steps 0: the level's own.
    LevelFlow(const Context& context, const Level& level, int steps);

    std::size_t scratch() const { return space_; } ///< bytes a thread, for the calls below
    /// Draws all targets of particles first .. first + 63 given what is in x, and adds log q to log_density
    /// unless null (NaN where the discrete map has no inverse).
    void draw(std::uint64_t seed, std::uint64_t first, T* x, double* log_density, std::byte* scratch) const;
    /// draw() of the first target, from these z of the reference instead of random ones.
    void carry(const T* z, T* x, double* log_density, std::byte* scratch) const;
    /// Adds log q of the targets in x: the exact density of what draw() gives, -inf or NaN where it never
    /// arrives.
    void evaluate(const T* x, double* log_density, std::byte* scratch) const;

  private:
    struct Space {
        T *mean, *z, *psi;
        double* stretch;
        void* kernel;
    };
    Space divide(std::byte* scratch) const;
    void finish(int target, const Space& space, T* x, double* log_density) const;
    void start(std::uint64_t seed, std::uint64_t first, int target, T* z, double* log_density) const;

    const Level& level_;
    kernels::ConditionalPlan<T> plan_;
    const kernels::ConditionalKernels<T>& kernels_;
    std::optional<StationaryLaw> law_;
    std::size_t space_ = 0;
};

/// out[n] += log q of all levels of the model at the rows x (count x dimension); -inf where it is not finite.
/// steps 0: each level's own. On the context's device. Throws Interrupted after a signal.
void add_log_density_of_levels(const Context& context, const Model& model, std::size_t count, const double* x,
                               int steps, double* out);

} // namespace dynkin

// level_trial.h - what the flow of a level makes of training pairs (private).
#pragma once
#include "context.h"
#include "level_fit.h"
#include "model.h"
#include <cstddef>

namespace dynkin {

/// Mean log q of at most `most` held-out pairs; where log q is not finite, -50. On the context's device.
double heldout_likelihood(const Context& context, const Level& level, const LevelPairs& pairs,
                          std::size_t most);

/// Half as many steps more until the discrete map is monotone at all of 16384 draws given conditions of the
/// data. On the context's device.
void choose_steps(const Context& context, const LevelPairs& pairs, Level& level);

} // namespace dynkin

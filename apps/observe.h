// observe.h - observables of draw, weigh and evaluate: measured from a file or an array, shown in the result.
#pragma once
#include "engine/npy.h"
#include "engine/observables.h"
#include <nlohmann/json.hpp>
#include <span>

namespace dynkin::app {

/// One pass over a file. Weights, or chains (rows k * chains + c), or neither. `interruptible`: throws
/// Interrupted; draw, whose output is complete by then, goes on instead.
ObservableReport observe_file(const Context& context, const SampleFile& samples, const Lattice* lattice,
                              const std::vector<Polynomial>& polynomials, std::span<const double> weights,
                              std::size_t chains, bool interruptible);

/// {name: {value, error, and for chains tau, tau_error}, two_point: the same with lists, and distance}; null
/// when there are none.
nlohmann::ordered_json observables_json(const ObservableReport& report);
/// With reference, reference_error and deviation, the difference in joint standard errors.
nlohmann::ordered_json observables_json(const ObservableReport& samples, const ObservableReport& reference);

} // namespace dynkin::app

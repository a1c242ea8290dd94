// fit_energy.h - `dynkin fit --from-energy`: a model without samples.
#pragma once
#include "command.h"
#include "engine/fit.h"
#include <cstddef>
#include <string>

namespace dynkin::app {

/// `fit`: options of the refits; `configuration`: of the whole command. Returns the exit code: 4 when the
/// model, which is written, is not usable. Throws Error(usage) without a target.
int run_energy_fit(const Common& common, const std::string& target, const std::string& output,
                   std::size_t rows, const FitOptions& fit, nlohmann::ordered_json configuration);

} // namespace dynkin::app

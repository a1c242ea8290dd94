// energy_law.h - the tables behind a target's energy, and the view that kernels read; private to engine/.
#pragma once
#include "kernels/energy.h"
#include "target.h"
#include <vector>

namespace dynkin {

/// Owns what `view` points to; not copyable, since the view points into it. Throws Error(usage) for a target
/// without energy. The target must outlive it.
class EnergyLaw {
  public:
    explicit EnergyLaw(const Target& target);
    EnergyLaw(const EnergyLaw&) = delete;
    EnergyLaw& operator=(const EnergyLaw&) = delete;
    const EnergyView& view() const { return view_; }

  private:
    LatticeView lattice_view(const LatticeTarget& target);
    MixtureView mixture_view(const GaussianMixtureTarget& target);

    std::vector<std::int32_t> first_, forward_, neighbour_;
    std::vector<double> outer_, outer_sum_, outer_square_, log_weight_;
    std::vector<GaussianView> components_;
    EnergyView view_;
};

} // namespace dynkin

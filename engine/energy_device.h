// energy_device.h - a law's tables on the device, and energies of rows that lie on the host; private to
// engine/. Defined in builds with CUDA only.
#pragma once
#include "error.h"
#include "kernels/device.h"
#include "kernels/energy.h"
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace dynkin {

/// Owns what `view` points to, in memory of the device.
class DeviceLaw {
  public:
    DeviceLaw(DeviceState& device, const EnergyView& host);
    const EnergyView& view() const { return view_; }

  private:
    LatticeView copy(const LatticeView& host);
    GaussianView copy(const GaussianView& host);
    MixtureView copy(const MixtureView& host);
    DoubleWellView copy(const DoubleWellView& host) { return host; }
    ManyWellView copy(const ManyWellView& host) { return host; }
    PluginView copy(const PluginView&) { throw Error(ErrorKind::usage, "energy: a plugin's is the host's"); }
    const double* numbers(const double* host, std::size_t count);
    const std::int32_t* places(const std::int32_t* host, std::size_t count);

    DeviceState& device_;
    std::vector<DeviceArray<double>> numbers_;
    std::vector<DeviceArray<std::int32_t>> places_;
    DeviceArray<GaussianView> components_;
    EnergyView view_;
};

/// A law on the device with the buffers that rows go through.
class DeviceEnergy;
std::shared_ptr<DeviceEnergy> make_device_energy(DeviceState& device, const EnergyView& host);
/// energy_gradient() of kernels/energy.h for rows, energies and gradients on the host.
void energy_on_device(DeviceEnergy& energy, std::size_t count, const double* x, double* energies,
                      double* gradients);

} // namespace dynkin

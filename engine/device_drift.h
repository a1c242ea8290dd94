// device_drift.h - a drift, its noise and a basis in the device's memory (private; only in builds with CUDA).
#pragma once
#include "../kernels/nonlinear_cuda.h"
#include "nonlinear_device.h"

namespace dynkin {

/// The device's copy of a process whose drift is data.
class DeviceDrift {
  public:
    DeviceDrift(DeviceState& device, const DriftProcess& process);
    const cuda::DriftOnDevice& law() const { return law_; }
    const double* noise() const { return noise_.data(); }

  private:
    DeviceArray<double> noise_, first_, second_, third_;
    DeviceArray<int> begin_, power_;
    cuda::DriftOnDevice law_;
};

class DeviceBasis {
  public:
    DeviceBasis(DeviceState& device, const ScoreBasis& basis);
    const ScoreBasisView& view() const { return view_; }
    std::size_t terms() const { return static_cast<std::size_t>(view_.terms); }
    std::size_t driven() const { return static_cast<std::size_t>(view_.driven_count); }
    /// Functions of single coordinates.
    std::size_t functions() const { return static_cast<std::size_t>(view_.dimension * view_.width()); }

  private:
    DeviceArray<double> center_, scale_;
    DeviceArray<int> driven_, first_, coordinate_, degree_;
    ScoreBasisView view_;
};

} // namespace dynkin

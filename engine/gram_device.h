// gram_device.h - the systems of score matching on the device (private).
#pragma once
#include "../kernels/device.h"
#include "../kernels/gram_cuda.h"
#include "gram.h"
#include <map>
#include <span>
#include <vector>

namespace dynkin {

/// What ScoreSystem::gram sums, as lists on the device. Both must outlive their use.
class DeviceScoreSystem {
  public:
    DeviceScoreSystem(DeviceState& device, const ScoreSystem& system);

    std::size_t size() const { return system_.size(); } ///< K
    void reserve(std::size_t times);                    ///< allocates now what gram() needs for so many
    /// A(t) at each of the times into a (times x K x K, both triangles), from averaged moments on the device.
    /// The same bytes as ScoreSystem::gram gives from the same moments. Enqueued on the compute stream.
    void gram(const DeviceArray<double>& moments, std::span<const double> times, double* a);

  private:
    struct Lists;
    void list_site(int site, Lists& lists) const;
    cuda::GramPart triple_part(int site, int p, int q, Lists& lists) const;
    cuda::GramPart pair_part(int site, int neighbour, int b, int d, Lists& lists) const;
    std::size_t decay_count() const {
        return 1 + system_.reference_.families.size() * static_cast<std::size_t>(degrees_);
    }
    int family_of(int site) const { return system_.reference_.family_of[static_cast<std::size_t>(site)]; }
    int decay_of(int site, int degree) const { return 1 + family_of(site) * degrees_ + degree; }

    DeviceState& device_;
    const ScoreSystem& system_;
    int degrees_; ///< R + 1
    DeviceArray<cuda::GramEntry> entries_;
    DeviceArray<cuda::GramPart> parts_;
    DeviceArray<cuda::GramPair> pairs_;
    DeviceArray<int> slots_;
    DeviceArray<double> gradients_, products_, decays_;
};

} // namespace dynkin

// local_device.h - the chains of run_local_metropolis() on the device, the twin of local_chains.h: states
// stay there. Private to local_metropolis.cpp; defined in builds with CUDA only.
#pragma once
#include "context.h"
#include "energy_device.h"
#include "energy_law.h"
#include "kernels/device.h"
#include "kernels/local_cuda.h"
#include "local_chains.h"
#include "table_device.h"
#include <memory>
#include <vector>

namespace dynkin {

/// A LocalPlan on the device.
class DeviceLocalPlan {
  public:
    DeviceLocalPlan(DeviceState& device, const LocalPlan& from, const EnergyView& law);
    const cuda::LocalView& view() const { return view_; }
    int most_at_once() const { return most_at_once_; } ///< tiles, or sites of one colour

  private:
    const int* keep(const std::vector<int>& list);
    void take_baths(const LocalPlan& from);
    void take_tile(const LocalPlan& from);
    cuda::LocalSweep sweep(const LocalPlan& from, const std::vector<LocalPlan::Visit>& visits);

    DeviceState& device_;
    DeviceLaw law_;
    std::vector<DeviceTable> tables_;
    std::vector<DeviceArray<int>> lists_;
    DeviceArray<float> frame_;
    std::vector<DeviceArray<cuda::LocalVisit>> visits_;
    DeviceArray<cuda::LocalBath> baths_;
    DeviceArray<cuda::LocalLevel> levels_;
    cuda::LocalView view_{};
    int most_at_once_ = 1;
};

/// As LocalChains, with the same bits (at the SIMD levels with fused multiply-adds). As many chains move at a
/// time as there is working space for, which does not change the results.
class DeviceLocalChains {
  public:
    DeviceLocalChains(const Context& context, const Target& target, const Tile* tile, std::size_t chains);

    double box() const { return box_; }
    Array<float> states();
    void set_states(const Array<float>& x);
    std::vector<MoveCount> counts();
    void set_counts(const std::vector<MoveCount>& counts);
    /// put is called for rounds in their order, of several chains at a time.
    void advance(const LocalRounds& now, const LocalWatch& watch);

  private:
    /// States and quantities of some rounds on the way to the host.
    struct Kept {
        DeviceArray<float> rows;
        DeviceArray<double> values;
        PinnedArray<float> rows_out;
        PinnedArray<double> values_out;
        DeviceEvent computed, done;
        std::size_t first = 0, count = 0; // rounds in flight; 0: none
    };
    void move(const cuda::LocalSpan& span);
    void plan_scratch();
    void prepare_kept(std::size_t rounds, const LocalWatch& watch);
    void collect(Kept& kept, const LocalWatch& watch);
    cuda::HmcQuantities watched(const Quantities& quantities);
    cuda::LocalStates view();

    const Context& context_;
    DeviceState& device_;
    DeviceStream stream_;
    double box_ = 0;
    std::unique_ptr<DeviceLocalPlan> plan_;
    std::size_t blocks_, d_; ///< of 64 chains
    unsigned workers_ = 1;
    std::size_t groups_ = 0; ///< that move at a time
    DeviceArray<float> x_, scratch_;
    DeviceArray<std::uint64_t> moves_;
    DeviceArray<std::int32_t> coordinates_;
    std::vector<std::int32_t> watched_; ///< what coordinates_ holds
    Kept kept_[2];
    std::size_t kept_rounds_ = 0, kept_values_ = 0, kept_numbers_ = 0; ///< capacity of each
};

} // namespace dynkin

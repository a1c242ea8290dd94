// mcmc_device.h - the walkers of a run (chains x temperatures) on the device, the twin of mcmc_chains.h:
// states stay there, what the warm-up learns from comes to the host. Private to mcmc.cpp; defined in builds
// with CUDA only.
#pragma once
#include "context.h"
#include "energy_device.h"
#include "kernels/device.h"
#include "kernels/hmc.h"
#include "mcmc_quantities.h"
#include <functional>
#include <span>
#include <vector>

namespace dynkin {

/// One number a walker that host and device both use; copied when the other side asks for what it does not
/// have.
class Mirrored {
  public:
    Mirrored(DeviceState& device, std::size_t size, const char* what);
    double read(std::size_t n);
    double& change(std::size_t n);
    void fill(double value);
    const double* on_device();
    double* changed_on_device(); ///< by what is enqueued next

  private:
    void fetch();
    DeviceState& device_;
    PinnedArray<double> host_;
    DeviceArray<double> numbers_;
    bool host_newer_ = false, device_newer_ = false, copying_ = false;
};

/// All calls wait for the device where they return numbers, and only there. Walker level * chains + chain.
/// States that the device's memory does not hold at once stay on the host, and a batch of chains after
/// another is there: the same numbers, for no chain depends on another.
class DeviceChains {
  public:
    DeviceChains(const Context& context, const EnergyView& law, std::size_t chains, std::size_t levels,
                 int lanes);

    std::size_t chains() const { return chains_; }
    std::size_t padded() const { return chains_; }
    std::size_t levels() const { return levels_; }
    std::size_t dimension() const { return d_; }
    double energy(std::size_t level, std::size_t chain) { return energy_.read(level * chains_ + chain); }
    double acceptance(std::size_t level, std::size_t chain) {
        return acceptance_.read(level * chains_ + chain);
    }
    double& factor(std::size_t level, std::size_t chain) { return factor_.change(level * chains_ + chain); }
    double& acceptance_sum(std::size_t level, std::size_t chain) {
        return acceptance_sum_.change(level * chains_ + chain);
    }
    double& swap_sum(std::size_t pair, std::size_t chain) { return swap_sum_.change(pair * chains_ + chain); }

    /// Means over chains, summed in the order of the chains.
    double mean_acceptance(std::size_t level) { return mean(acceptance_, level); }
    double mean_acceptance_sum(std::size_t level) { return mean(acceptance_sum_, level); }
    double mean_swap_sum(std::size_t pair) { return mean(swap_sum_, pair); }
    void clear_sums();

    /// As those of McmcChains. put is called for rounds in their order, of several chains at a time.
    using Put = std::function<void(std::size_t chain, std::size_t round, std::span<const double> values)>;
    void advance(const std::vector<HmcLevel>& levels, const HmcSpan& span);
    void advance_and_keep(const std::vector<HmcLevel>& levels, const HmcSpan& span, std::size_t rounds,
                          const Quantities& quantities, double* rows, const Put& put);
    void observe(const Quantities& quantities, std::size_t level, std::size_t count, double* out);
    void variances(double* mean, double* square);
    std::vector<double> positions();
    void set_positions(const std::vector<double>& all);

  private:
    /// Kept states and their quantities on the way to the host: (rounds, chains, d) and (rounds, quantities,
    /// chains).
    struct Batch {
        std::size_t first, count; // chains
    };
    struct Kept {
        DeviceArray<double> rows, values;
        PinnedArray<double> rows_out, values_out;
        DeviceEvent computed, done;
        Batch batch{0, 0};
        std::size_t first = 0, count = 0; // rounds in flight; 0: none
    };
    bool resident() const { return batch_ == chains_; }
    std::size_t batch_size(const EnergyView& law) const;
    std::span<double> stored(const Batch& batch) {
        return store_.span().subspan(batch.first * levels_ * d_, batch.count * levels_ * d_);
    }
    void refresh(const Batch& batch);
    void load(const Batch& batch);
    void save(const Batch& batch);
    template <class Work> void for_batches(const Work& work);
    template <class Move> void move_along(const Move& move);
    void put_kept(const Kept& kept, std::size_t quantities, double* rows, const Put& put) const;
    double mean(Mirrored& values, std::size_t level);
    cuda::HmcWalkers walkers(const Batch& batch);
    cuda::HmcQuantities watched(const Quantities& quantities);
    const HmcLevel* upload(const std::vector<HmcLevel>& levels);
    void prepare_kept(std::size_t rounds, std::size_t quantities);
    void collect(Kept& kept, std::size_t quantities, double* rows, const Put& put);

    const Context& context_;
    DeviceState& device_;
    DeviceStream stream_;
    DeviceLaw law_;
    std::size_t chains_, levels_, d_;
    DeviceArray<double> scales_, moments_;
    DeviceArray<HmcLevel> level_;
    DeviceArray<std::int32_t> coordinates_;
    Mirrored energy_, factor_, acceptance_, acceptance_sum_, swap_sum_;
    std::size_t batch_; ///< chains on the device at once
    DeviceArray<double> x_, gradient_, scratch_, values_;
    PinnedArray<double> store_;   ///< unless all are there: (levels, chains, d) of each batch
    PinnedArray<double> staging_; ///< (2, levels, d) or (quantities, chains)
    PinnedArray<double> scales_in_;
    PinnedArray<HmcLevel> level_in_;
    std::vector<std::int32_t> watched_; ///< what coordinates_ holds
    Kept kept_[2];
    std::size_t kept_rounds_ = 0; ///< capacity of each
};

} // namespace dynkin

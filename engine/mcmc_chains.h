// mcmc_chains.h - the walkers of a run (chains x temperatures) on the CPU, in blocks of lanes: how they move
// on threads, and what is watched of them. The twin for the device is mcmc_device.h. Private to engine/.
#pragma once
#include "array.h"
#include "context.h"
#include "energy_law.h"
#include "kernels/hmc.h"
#include "kernels/strands_cpu.h"
#include "mcmc_quantities.h"
#include <array>
#include <omp.h>
#include <span>
#include <vector>

namespace dynkin {

/// Chains c = block * lanes + lane; lanes beyond the last chain move too and are never looked at.
class McmcChains {
  public:
    McmcChains(const Context& context, const EnergyView& law, std::size_t chains, std::size_t levels,
               int lanes)
        : context_(context), law_(law), chains_(chains), levels_(levels),
          lanes_(static_cast<std::size_t>(lanes)), d_(dynkin::dimension(law)),
          blocks_((chains + lanes_ - 1) / lanes_), x_(blocks_, levels * d_ * lanes_),
          gradient_(blocks_, levels * d_ * lanes_), energy_(blocks_, levels * lanes_),
          factor_(blocks_, levels * lanes_), acceptance_(blocks_, levels * lanes_),
          acceptance_sum_(blocks_, levels * lanes_), swap_sum_(blocks_, levels * lanes_),
          scratch_(static_cast<std::size_t>(context.threads()), cpu::hmc_scratch(law, lanes)) {
        std::fill(factor_.begin(), factor_.end(), 1.0);
    }

    std::size_t chains() const { return chains_; }
    std::size_t padded() const { return blocks_ * lanes_; }
    std::size_t levels() const { return levels_; }
    std::size_t dimension() const { return d_; }
    double& x(std::size_t level, std::size_t chain, std::size_t i) {
        return x_(chain / lanes_, (level * d_ + i) * lanes_ + chain % lanes_);
    }
    double& energy(std::size_t level, std::size_t chain) { return at(energy_, level, chain); }
    double& factor(std::size_t level, std::size_t chain) { return at(factor_, level, chain); }
    double& acceptance(std::size_t level, std::size_t chain) { return at(acceptance_, level, chain); }
    double& acceptance_sum(std::size_t level, std::size_t chain) { return at(acceptance_sum_, level, chain); }
    double& swap_sum(std::size_t pair, std::size_t chain) { return at(swap_sum_, pair, chain); }

    /// Means over chains, summed in the order of the chains.
    double mean_acceptance(std::size_t level) { return mean(acceptance_, level); }
    double mean_acceptance_sum(std::size_t level) { return mean(acceptance_sum_, level); }
    double mean_swap_sum(std::size_t pair) { return mean(swap_sum_, pair); }
    void clear_sums() {
        std::fill(acceptance_sum_.begin(), acceptance_sum_.end(), 0.0);
        std::fill(swap_sum_.begin(), swap_sum_.end(), 0.0);
    }

    /// Threads worth waking for so many updates of a number, about 1 ns each: a small share costs more in
    /// waiting for the others than it saves, above all when the processors are busy.
    int threads(double updates) const {
        const double most = std::min(updates / 1e5, static_cast<double>(blocks_));
        return std::clamp(static_cast<int>(most), 1, context_.threads());
    }

    /// span.count iterations.
    void advance(const std::vector<HmcLevel>& levels, const HmcSpan& span) {
        advance_and_visit(levels, span, 1, [](std::size_t, std::size_t, std::size_t) {});
    }

    /// `rounds` times span.count iterations; after each, the states at beta = 1 go to rows (rounds, chains,
    /// d), and put(chain, round, values) is called with the quantities: on several threads, but those of a
    /// chain one after another in the order of rounds. put must not throw.
    template <class Put> void advance_and_keep(const std::vector<HmcLevel>& levels, const HmcSpan& span,
                                               std::size_t rounds, const Quantities& quantities, double* rows,
                                               const Put& put) {
        advance_and_visit(levels, span, rounds, [&](std::size_t round, std::size_t first, std::size_t end) {
            std::array<double, most_quantities> values;
            for (std::size_t c = first; c < end; ++c) {
                for (std::size_t i = 0; i < d_; ++i) rows[(round * chains_ + c) * d_ + i] = x(0, c, i);
                observe_one(quantities, 0, c, values.data(), 1);
                put(c, round, std::span<const double>(values).first(quantities.count()));
            }
        });
    }

    /// Energies and gradients from x, after x was set.
    void refresh() {
#pragma omp parallel for schedule(dynamic)                                                                   \
    num_threads(threads(4.0 * static_cast <double>(levels_ * chains_ * d_)))
        for (std::size_t b = 0; b < blocks_; ++b) cpu::hmc_refresh(context_.isa(), law_, view(b));
    }

    /// The quantities of the first `count` chains of a level: out[q * count + chain].
    void observe(const Quantities& quantities, std::size_t level, std::size_t count, double* out) {
#pragma omp parallel for schedule(static) num_threads(threads(static_cast <double>(count * d_)))
        for (std::size_t c = 0; c < count; ++c) observe_one(quantities, level, c, out + c, count);
    }

    /// Mean over chains of each coordinate and sum of squared deviations from it: both (levels, d).
    void variances(double* mean_out, double* square_out) {
        const double count = static_cast<double>(chains_);
#pragma omp parallel for schedule(static) num_threads(threads(count* static_cast <double>(levels_ * d_)))
        for (std::size_t n = 0; n < levels_ * d_; ++n) {
            const std::size_t level = n / d_, i = n % d_;
            double mean = 0, square = 0;
            for (std::size_t c = 0; c < chains_; ++c) mean += x(level, c, i);
            mean /= count;
            for (std::size_t c = 0; c < chains_; ++c) {
                const double delta = x(level, c, i) - mean;
                square += delta * delta;
            }
            mean_out[n] = mean, square_out[n] = square;
        }
    }

    /// Positions as (levels, chains, d), independent of lanes, and back; padding lanes copy chain 0.
    std::vector<double> positions() {
        std::vector<double> all(levels_ * chains_ * d_);
        for_each([&](std::size_t l, std::size_t c, std::size_t i, double& v) {
            all[(l * chains_ + c) * d_ + i] = v;
        });
        return all;
    }
    void set_positions(const std::vector<double>& all) {
        for_each([&](std::size_t l, std::size_t c, std::size_t i, double& v) {
            v = all[(l * chains_ + c) * d_ + i];
        });
        fill_padding();
        refresh();
    }
    void fill_padding() {
        for (std::size_t l = 0; l < levels_; ++l)
            for (std::size_t c = chains_; c < padded(); ++c)
                for (std::size_t i = 0; i < d_; ++i) x(l, c, i) = x(l, 0, i);
    }

  private:
    double& at(Array<double>& values, std::size_t level, std::size_t chain) {
        return values(chain / lanes_, level * lanes_ + chain % lanes_);
    }
    template <class Visit> void advance_and_visit(const std::vector<HmcLevel>& levels, HmcSpan span,
                                                  std::size_t rounds, const Visit& visit) {
        double steps = 0;
        for (const HmcLevel& level : levels) steps += level.leapfrog + 5;
        const int team = threads(steps * static_cast<double>(chains_ * d_ * span.count * rounds));
#pragma omp parallel for schedule(dynamic) num_threads(team)
        for (std::size_t b = 0; b < blocks_; ++b) {
            const HmcBlock block = view(b);
            HmcSpan now = span;
            for (std::size_t round = 0; round < rounds; ++round, now.first += span.count) {
                cpu::hmc_advance(context_.isa(), law_, levels.data(), now, block);
                visit(round, b * lanes_, std::min((b + 1) * lanes_, chains_));
            }
        }
    }
    /// The quantities of one walker: out[q * stride].
    void observe_one(const Quantities& quantities, std::size_t level, std::size_t chain, double* out,
                     std::size_t stride) {
        const auto value = [&](std::size_t i) { return x(level, chain, i); };
        const auto sum_of = [&](const auto& term) {
            cpu::StrandSum<1> sum(d_);
            for (std::size_t i = 0; i < d_; ++i) *sum.of(i) += term(i);
            double total;
            sum.total(&total);
            return total;
        };
        for (const std::size_t i : quantities.coordinates) {
            *out = value(i);
            out += stride;
        }
        out[0] = energy(level, chain);
        out[stride] = sum_of(value) / static_cast<double>(d_);
        out[2 * stride] =
            sum_of([&](std::size_t i) { return value(i) * value(i); }) / static_cast<double>(d_);
        if (!quantities.edges) return;
        const auto& lattice = std::get<LatticeView>(law_);
        out[3 * stride] = sum_of([&](std::size_t i) { return edge_term(lattice, i, value); });
    }
    double mean(Array<double>& values, std::size_t level) {
        double sum = 0;
        for (std::size_t c = 0; c < chains_; ++c) sum += at(values, level, c);
        return sum / static_cast<double>(chains_);
    }
    template <class F> void for_each(const F& f) {
        for (std::size_t l = 0; l < levels_; ++l)
            for (std::size_t c = 0; c < chains_; ++c)
                for (std::size_t i = 0; i < d_; ++i) f(l, c, i, x(l, c, i));
    }
    HmcBlock view(std::size_t b) {
        return {static_cast<int>(lanes_),
                static_cast<int>(levels_),
                b * lanes_,
                x_.row(b),
                gradient_.row(b),
                energy_.row(b),
                factor_.row(b),
                acceptance_.row(b),
                acceptance_sum_.row(b),
                swap_sum_.row(b),
                scratch_.row(static_cast<std::size_t>(omp_get_thread_num()))};
    }

    const Context& context_;
    const EnergyView& law_;
    std::size_t chains_, levels_, lanes_, d_, blocks_;
    Array<double> x_, gradient_, energy_, factor_, acceptance_, acceptance_sum_, swap_sum_, scratch_;
};

} // namespace dynkin

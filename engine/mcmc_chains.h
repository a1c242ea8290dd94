// mcmc_chains.h - the walkers of a run (chains x temperatures) in blocks of lanes, how they move on threads,
// and what is watched of them; private to mcmc.cpp.
#pragma once
#include "array.h"
#include "context.h"
#include "energy_law.h"
#include "kernels/hmc.h"
#include <omp.h>
#include <vector>

namespace dynkin {

/// The quantities that diagnostics follow: up to `limit` evenly spread coordinates, then energy, mean, mean
/// square; and one that is only averaged, for lattices: the sum over edges of (x_i - x_j)^2 / 2.
struct Quantities {
    std::vector<std::size_t> coordinates;
    bool edges;
    Quantities(std::size_t dimension, std::size_t limit, bool with_edges = false) : edges(with_edges) {
        const std::size_t count = std::min(dimension, limit);
        for (std::size_t n = 0; n < count; ++n) coordinates.push_back(n * dimension / count);
    }
    std::size_t energy() const { return coordinates.size(); }
    std::size_t judged() const { return coordinates.size() + 3; }
    std::size_t count() const { return judged() + (edges ? 1 : 0); }
};

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

    /// `rounds` times span.count iterations; after each, visit(round, first_chain, end_chain) for the chains
    /// of a block, on the thread that moved them. visit must not throw.
    template <class Visit>
    void advance(const std::vector<HmcLevel>& levels, HmcSpan span, std::size_t rounds, const Visit& visit) {
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

    /// Energies and gradients from x, after x was set.
    void refresh() {
#pragma omp parallel for schedule(dynamic)                                                                   \
    num_threads(threads(4.0 * static_cast <double>(levels_ * chains_ * d_)))
        for (std::size_t b = 0; b < blocks_; ++b) cpu::hmc_refresh(context_.isa(), law_, view(b));
    }

    /// The quantities of one walker: out[q * stride].
    void observe(const Quantities& quantities, std::size_t level, std::size_t chain, double* out,
                 std::size_t stride) {
        double sum = 0, square = 0;
        for (std::size_t i = 0; i < d_; ++i) {
            const double v = x(level, chain, i);
            sum += v;
            square += v * v;
        }
        for (const std::size_t i : quantities.coordinates) {
            *out = x(level, chain, i);
            out += stride;
        }
        out[0] = energy(level, chain);
        out[stride] = sum / static_cast<double>(d_);
        out[2 * stride] = square / static_cast<double>(d_);
        if (quantities.edges) out[3 * stride] = edge_sum(std::get<LatticeView>(law_), level, chain);
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
    double edge_sum(const LatticeView& lattice, std::size_t level, std::size_t chain) {
        double sum = 0;
        for (std::size_t i = 0; i < d_; ++i) {
            const double own = x(level, chain, i);
            sum += lattice.outer[i] * edge_energy(1, own, 0);
            for (std::int32_t n = lattice.forward[i]; n < lattice.first[i + 1]; ++n)
                sum += edge_energy(1, own, x(level, chain, static_cast<std::size_t>(lattice.neighbour[n])));
        }
        return sum;
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

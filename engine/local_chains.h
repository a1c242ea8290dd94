// local_chains.h - the chains of run_local_metropolis() on the CPU, 64 together: how they move on threads,
// and what is watched of them. The twin for the device is local_device.h. Private to engine/.
#pragma once
#include "array.h"
#include "context.h"
#include "kernels/local.h"
#include "local_moves.h"
#include "mcmc_quantities.h"
#include "parallel.h"
#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace dynkin {

/// `rounds` times `each` iterations, from this one on; `sweeps`: each with a heat bath over all sites.
struct LocalRounds {
    std::uint64_t seed = 0;
    std::uint64_t iteration = 0, rounds = 1, each = 1;
    bool sweeps = false;
};

/// What is wanted after each round: the quantities of the first `chains`, and unless null the states in rows
/// (round, chain, site). put(chain, round, values) is called for the rounds of a chain in their order, from
/// several threads; it must not throw.
struct LocalWatch {
    using Put = std::function<void(std::size_t chain, std::size_t round, std::span<const double> values)>;
    const Quantities& quantities;
    std::size_t chains; ///< 0: nothing
    float* rows;
    const Put& put;
};

/// Chains beyond the last one, to a multiple of 64, move too and are counted, and never looked at.
class LocalChains {
  public:
    LocalChains(const Context& context, const Target& target, const Tile* tile, std::size_t chains)
        : context_(context), moves_(context, target, tile),
          blocks_((chains + kernels::kScoreTile - 1) / kernels::kScoreTile), d_(target.dimension()),
          x_(blocks_, d_ * kernels::kScoreTile),
          scratch_(static_cast<std::size_t>(context.threads()), moves_.scratch() + 1), counts_(blocks_) {}

    double box() const { return moves_.plan().box; }
    /// [64 chains][site][chain]
    const Array<float>& states() { return x_; }
    void set_states(Array<float> x) { x_ = std::move(x); }
    /// Of each 64 chains, since they were last set.
    std::vector<MoveCount> counts() { return counts_; }
    void set_counts(const std::vector<MoveCount>& counts) { counts_ = counts; }

    void advance(const LocalRounds& now, const LocalWatch& watch) {
        parallel_for(context_.threads(), blocks_, [&](std::size_t block, std::size_t thread) {
            std::uint64_t step = now.iteration;
            for (std::uint64_t round = 0; round < now.rounds; ++round) {
                for (std::uint64_t k = 0; k < now.each; ++k, ++step)
                    moves_.advance(now.seed, block * kernels::kScoreTile, static_cast<std::uint32_t>(step),
                                   now.sweeps || step % kernels::kSweepEvery == 0, x_.row(block),
                                   scratch_.row(thread), counts_[block]);
                for (std::size_t p = 0; p < kernels::kScoreTile; p += LocalMoves::lanes)
                    look(watch, block * kernels::kScoreTile + p, round);
            }
        });
    }

  private:
    const float* at(std::size_t chain) const {
        return x_.row(chain / kernels::kScoreTile) + chain % kernels::kScoreTile;
    }
    /// Eight chains from `first` on.
    void look(const LocalWatch& watch, std::size_t first, std::size_t round) const {
        if (first >= watch.chains) return;
        const std::size_t count = std::min<std::size_t>(LocalMoves::lanes, watch.chains - first),
                          quantities = watch.quantities.count();
        const float* const x = at(first);
        LocalMoves::Watched all;
        moves_.observe(x, all);
        for (std::size_t p = 0; p < count; ++p) {
            std::array<double, most_quantities> values;
            double* out = values.data();
            for (const std::size_t i : watch.quantities.coordinates)
                *out++ = static_cast<double>(x[i * kernels::kScoreTile + p]);
            for (std::size_t k = 0; k < 4; ++k) out[k] = all[k][p];
            watch.put(first + p, round, std::span<const double>(values).first(quantities));
        }
        for (std::size_t p = 0; p < count && watch.rows; ++p)
            for (std::size_t i = 0; i < d_; ++i)
                watch.rows[(round * watch.chains + first + p) * d_ + i] = x[i * kernels::kScoreTile + p];
    }

    const Context& context_;
    LocalMoves moves_;
    std::size_t blocks_, d_;
    Array<float> x_, scratch_;
    std::vector<MoveCount> counts_;
};

} // namespace dynkin

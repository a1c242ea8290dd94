// mcmc_plan.h - how many chains, temperatures and iterations a run takes; private to mcmc.cpp.
#pragma once
#include "mcmc.h"
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <vector>

namespace dynkin {

inline constexpr int lengths[] = {2, 4, 8, 16, 32, 64}; // candidates for the mean number of leapfrog steps

enum class Stage : std::uint64_t { burn_in, window, lengths, settle, measure, draw };
inline constexpr std::uint64_t windows = 3;

struct Plan {
    std::size_t chains, levels;
    int lanes;
    std::uint64_t warmup;

    explicit Plan(const McmcOptions& options, std::size_t d) {
        const std::size_t wished = std::bit_floor(std::max<std::size_t>(options.samples / 100, 1));
        chains = options.chains ? options.chains : std::clamp<std::size_t>(wished, 4, 1024);
        const bool tempered = options.method == McmcMethod::tempering;
        // With heat capacity d/2, levels log(1/beta) apart by 1 / sqrt(d/2) exchange about half of the time.
        const double spacing = 1 / std::sqrt(0.5 * static_cast<double>(d));
        const auto chosen = static_cast<std::size_t>(std::min(2 + std::ceil(std::log(10.0) / spacing), 64.0));
        levels = !tempered              ? 1
                 : options.temperatures ? static_cast<std::size_t>(options.temperatures)
                                        : chosen;
        lanes = options.lanes ? options.lanes : chains * levels < 64 || chains <= 8 ? 8 : 16;
        warmup = options.warmup            ? static_cast<std::uint64_t>(options.warmup)
                 : chains < 32 || tempered ? 2400
                                           : 1200;
    }
    /// Iterations of a stage of the warm-up; windows double.
    std::uint64_t length(Stage stage, std::uint64_t part) const {
        const auto share = [&](double fraction) {
            return std::max<std::uint64_t>(static_cast<std::uint64_t>(fraction * static_cast<double>(warmup)),
                                           4);
        };
        switch (stage) {
        case Stage::burn_in:
            return share(0.1);
        case Stage::window:
            return share(0.05) << part;
        case Stage::lengths:
            return std::max<std::uint64_t>(share(0.15) / std::size(lengths), 2);
        case Stage::settle:
            return share(0.07);
        default:
            return share(0.33);
        }
    }
    /// Inverse temperatures evenly spaced in the logarithm, down to 0.1 or as far as few levels reach.
    std::vector<double> ladder(std::size_t d) const {
        std::vector<double> beta(levels, 1.0);
        const double reach = 1.5 * static_cast<double>(levels - 1) / std::sqrt(0.5 * static_cast<double>(d));
        const double last = std::min(std::log(10.0), reach);
        for (std::size_t k = 1; k < levels; ++k)
            beta[k] = std::exp(-last * static_cast<double>(k) / static_cast<double>(levels - 1));
        return beta;
    }
};

} // namespace dynkin

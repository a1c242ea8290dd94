// training.h - a network of LibTorch, trained by denoising score matching. The only source that sees torch is
// training.cpp.
#pragma once
#include "preconditioning.h"

namespace neural_prior {

struct TrainingOptions {
    std::size_t width = 256, layers = 3; ///< hidden
    std::size_t steps = 12'000, batch = 128;
    std::size_t levels = 16;                 ///< noise levels in a batch: strata of EDM's log-normal law
    double rate = 1e-3, weight_decay = 0.01; ///< AdamW
    double average = 0.995;                  ///< decay of the average of the weights, which is what is judged
    double sigma_mean = -1.2, sigma_sd = 1.2; ///< of log sigma, cut at four deviations; EDM's
    std::uint64_t seed = 1;
    int threads = 1; ///< of torch

    double lowest_sigma() const;
    double highest_sigma() const;
};

/// mean of |sigma s + eps|^2 / d at each level of the held-out rows; without a score it is 1.
struct Point {
    std::size_t step = 0;
    std::vector<double> loss;
    double mean() const;
};

/// What the first steps of a network are fitted to instead of data, |P_network + r F - P|^2: distillation.
struct Teacher {
    Base base;
    std::size_t steps = 0;
};

/// Trains and judges at the given steps. Steps for the teacher count. Batches depend on the seed alone, so
/// that all methods see the same; float32 on the CPU. Throws Error(numerical) when a loss is not finite,
/// Interrupted.
std::vector<Point> train(const dynkin::Context& context, const char* name, const dynkin::Array<float>& rows,
                         const HeldOut& held_out, const Preconditioning& around, const Teacher& teacher,
                         const TrainingOptions& options, const std::vector<std::size_t>& judged_at);

} // namespace neural_prior

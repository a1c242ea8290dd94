// level_systems.h - the linear systems of a level at its time nodes (private).
#pragma once
#include "../kernels/level_systems_cuda.h"
#include "context.h"
#include "fit.h"
#include "level_moments.h"
#include "model.h"
#include "solve.h"
#include <vector>

namespace dynkin {

/// A(t) c = b(t): A_(a alpha)(b beta) = sum_k g_abk exp(-lambda_k t) E[phi_k psi_alpha psi_beta].
struct LevelSystems {
    std::vector<cuda::LevelTerm> terms; ///< by degree
    std::vector<double> lambda;         ///< of each term
    Array<double> decay;                ///< (nodes, R + 1): exp(-lambda_k t) over the number of pairs
    Array<double> right;                ///< b: (nodes, terms)
    ProductTables tables;
    const LevelMoments* moments;

    LevelSystems(const Level& level, const LevelMoments& moments);
    double gradient(std::size_t i, std::size_t j, std::size_t k) const {
        return tables.gradient(static_cast<int>(i), static_cast<int>(j), static_cast<int>(k));
    }
};

/// The coefficients of the level at every node; condition and ridges of the report. On the device of the
/// context, as many systems at a time as its memory holds. Throws Error(numerical) for a system without a
/// solution.
void solve_level(const Context& context, const LevelMoments& moments, double ridge, Level& level,
                 LevelReport& report);

/// c: (nodes, terms). Defined in builds with CUDA only. Throws Error(io) when the memory does not hold one.
std::vector<SolveStatus> solve_level_on_device(const Context& context, const LevelSystems& systems,
                                               double ridge, Array<double>& c);

} // namespace dynkin

// node_systems.h - the systems of score matching at many times, on the context's device (private).
#pragma once
#include "context.h"
#include "gram.h"
#include "solve.h"
#include <span>
#include <vector>

namespace dynkin {

/// Solves A(t) c = b(t) at each of the times: coefficients.row(m) where status[m].solved (times x K). The
/// memory of the device bounds how many are solved at once, not what comes out. Reports progress as "solve";
/// throws Interrupted.
std::vector<SolveStatus> solve_nodes(const Context& context, const ScoreSystem& system,
                                     std::span<const double> moments, std::span<const double> times,
                                     double ridge, Array<double>& coefficients);

/// loss(m, r) = c' A_test c / 2 - b_test' c at times[m], c from the training moments with ridges[r]; infinite
/// where that ridge does not suffice. Throws Interrupted.
Array<double> held_out_losses(const Context& context, const ScoreSystem& system,
                              std::span<const double> train, std::span<const double> test,
                              std::span<const double> times, std::span<const double> ridges);

// The same on the device of the context.
std::vector<SolveStatus> solve_nodes_on_device(const Context& context, const ScoreSystem& system,
                                               std::span<const double> moments, std::span<const double> times,
                                               double ridge, Array<double>& coefficients);
Array<double> held_out_losses_on_device(const Context& context, const ScoreSystem& system,
                                        std::span<const double> train, std::span<const double> test,
                                        std::span<const double> times, std::span<const double> ridges);

} // namespace dynkin

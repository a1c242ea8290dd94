// solve.h - the regularised symmetric system of one time node, and its conditioning.
#pragma once
#include "array.h"
#include <span>
#include <vector>

namespace dynkin {

/// What happened to one system: data, not an exception, because a singular system can be expected.
struct SolveStatus {
    double ridge = 0;     ///< that was used: the one asked for, or raised tenfold until Cholesky succeeded
    int raised = 0;       ///< how often
    double condition = 0; ///< estimate of the 1-norm condition of the scaled, regularised matrix
    bool solved = false;  ///< false when even a ridge of 1 fails (matrix not finite)
};

/// After a factorisation failed: the next ridge to try. False: there is none.
bool raise_ridge(SolveStatus& status);

/// Solves (D^-1/2 A D^-1/2 + ridge I) y = D^-1/2 b, c = D^-1/2 y, D = diag(lambda). `a`: lower triangle,
/// overwritten. Cholesky (LAPACK), K^3/3 flops, one thread.
SolveStatus solve_score_system(Array<double>& a, std::span<const double> b, std::span<const double> lambda,
                               double ridge, std::vector<double>& c);

/// J = c' A c / 2 - b' c with the lower triangle of A: the score-matching loss up to a constant.
double score_matching_loss(const Array<double>& a, std::span<const double> b, std::span<const double> c);

/// Keeps OpenBLAS to one thread: parallelism is over systems, and results must not depend on its thread
/// count.
void use_sequential_blas();

} // namespace dynkin

#include "solve.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <lapacke.h>

namespace dynkin {

using std::size_t;

void use_sequential_blas() { openblas_set_num_threads(1); }

bool raise_ridge(SolveStatus& status) {
    if (!(status.ridge < 1)) return false;
    status.ridge = status.ridge > 0 ? std::min(10 * status.ridge, 1.0) : 1e-12;
    ++status.raised;
    return true;
}

SolveStatus solve_score_system(Array<double>& a, std::span<const double> b, std::span<const double> lambda,
                               double ridge, std::vector<double>& c) {
    const size_t n = b.size();
    const int size = static_cast<int>(n);
    std::vector<double> scale(n), diagonal(n);
    for (size_t k = 0; k < n; ++k) scale[k] = 1 / std::sqrt(lambda[k]);
    // The lower triangle in row-major order is the upper one in LAPACK's; the copy above it keeps A for
    // another try.
    for (size_t k = 0; k < n; ++k)
        for (size_t l = 0; l <= k; ++l) a(k, l) *= scale[k] * scale[l];
    for (size_t k = 0; k < n; ++k) {
        diagonal[k] = a(k, k);
        for (size_t l = 0; l < k; ++l) a(l, k) = a(k, l);
    }
    SolveStatus status;
    status.ridge = ridge;
    for (;;) {
        double norm = 0;
        for (size_t k = 0; k < n; ++k) {
            a(k, k) = diagonal[k] + status.ridge;
            norm = std::max(norm, cblas_dasum(size, a.row(k), 1)); // of a full row: the mirror is intact
        }
        if (LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'U', size, a.data(), size) == 0) {
            double reciprocal = 0;
            LAPACKE_dpocon(LAPACK_COL_MAJOR, 'U', size, a.data(), size, norm, &reciprocal);
            status.condition = reciprocal > 0 ? 1 / reciprocal : INFINITY;
            break;
        }
        if (!raise_ridge(status)) return status;
        for (size_t k = 0; k < n; ++k)
            for (size_t l = 0; l < k; ++l) a(k, l) = a(l, k);
    }
    c.resize(n);
    for (size_t k = 0; k < n; ++k) c[k] = scale[k] * b[k];
    LAPACKE_dpotrs(LAPACK_COL_MAJOR, 'U', size, 1, a.data(), size, c.data(), size);
    for (size_t k = 0; k < n; ++k) c[k] *= scale[k];
    status.solved = std::all_of(c.begin(), c.end(), [](double x) { return std::isfinite(x); });
    return status;
}

double score_matching_loss(const Array<double>& a, std::span<const double> b, std::span<const double> c) {
    const int n = static_cast<int>(b.size());
    std::vector<double> ac(b.size());
    cblas_dsymv(CblasColMajor, CblasUpper, n, 1, a.data(), n, c.data(), 1, 0, ac.data(), 1);
    return 0.5 * cblas_ddot(n, ac.data(), 1, c.data(), 1) - cblas_ddot(n, b.data(), 1, c.data(), 1);
}

} // namespace dynkin

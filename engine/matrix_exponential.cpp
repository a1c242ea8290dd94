#include "matrix_exponential.h"
#include "error.h"
#include "solve.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <lapacke.h>
#include <vector>

namespace dynkin {
namespace {

using std::size_t;

Array<double> product(const Array<double>& a, const Array<double>& b) {
    const int n = static_cast<int>(a.rows());
    Array<double> out(a.rows(), a.rows());
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a.data(), n, b.data(), n, 0,
                out.data(), n);
    return out;
}

/// c0 + c2 a2 + c4 a4 + c6 a6.
Array<double> even(const Array<double>& a2, const Array<double>& a4, const Array<double>& a6, double c0,
                   double c2, double c4, double c6) {
    Array<double> out(a2.rows(), a2.rows());
    for (size_t k = 0; k < out.size(); ++k) out[k] = c2 * a2[k] + c4 * a4[k] + c6 * a6[k];
    for (size_t i = 0; i < out.rows(); ++i) out(i, i) += c0;
    return out;
}

Array<double> pade(const Array<double>& a) {
    // b_k = (26 - k)! 13! / (26! k! (13 - k)!), scaled so that b_13 = 1.
    double b[14];
    b[13] = 1;
    for (int k = 12; k >= 0; --k) b[k] = b[k + 1] * (26 - k) * (k + 1) / (13 - k);
    const Array<double> a2 = product(a, a), a4 = product(a2, a2), a6 = product(a4, a2);
    Array<double> odd = product(a6, even(a2, a4, a6, 0, b[9], b[11], b[13]));
    Array<double> rest = even(a2, a4, a6, b[1], b[3], b[5], b[7]);
    for (size_t k = 0; k < odd.size(); ++k) odd[k] += rest[k];
    const Array<double> u = product(a, odd);
    Array<double> v = product(a6, even(a2, a4, a6, 0, b[8], b[10], b[12]));
    rest = even(a2, a4, a6, b[0], b[2], b[4], b[6]);
    Array<double> left(a.rows(), a.rows()), right(a.rows(), a.rows());
    for (size_t k = 0; k < v.size(); ++k) v[k] += rest[k], left[k] = v[k] - u[k], right[k] = v[k] + u[k];
    const int n = static_cast<int>(a.rows());
    std::vector<int> pivots(a.rows());
    require(LAPACKE_dgesv(LAPACK_ROW_MAJOR, n, n, left.data(), n, pivots.data(), right.data(), n) == 0,
            ErrorKind::numerical, "matrix exponential: the matrix is not finite");
    return right;
}

} // namespace

Array<double> matrix_exponential(Array<double> a) {
    use_sequential_blas();
    const size_t n = a.rows();
    double norm = 0;
    for (size_t j = 0; j < n; ++j) {
        double column = 0;
        for (size_t i = 0; i < n; ++i) column += std::abs(a(i, j));
        norm = std::max(norm, column);
        require(std::isfinite(column), ErrorKind::numerical, "matrix exponential: the matrix is not finite");
    }
    int squarings = 0;
    double scale = 1;
    for (; norm * scale > 5.37; scale /= 2) ++squarings;
    for (double& x : a) x *= scale;
    Array<double> out = pade(a);
    for (int k = 0; k < squarings; ++k) out = product(out, out);
    for (const double x : out)
        require(std::isfinite(x), ErrorKind::numerical, "matrix exponential: the result is not finite");
    return out;
}

} // namespace dynkin

#include "matrix_exponential.h"
#include "../kernels/device.h"
#include "error.h"
#include "solve.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <vector>

namespace dynkin {
namespace {

using std::size_t;

/// The matrices of scaled_exponential() in memory of the host.
class HostMatrices {
  public:
    explicit HostMatrices(Array<double> a) {
        const size_t n = a.rows();
        all_.push_back(std::move(a));
        while (all_.size() < exponential_matrices) all_.emplace_back(n, n);
    }
    Array<double>& at(int k) { return all_[static_cast<size_t>(k)]; }

    void product(int a, int b, int to) {
        const int n = static_cast<int>(at(a).rows());
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, at(a).data(), n, at(b).data(), n,
                    0, at(to).data(), n);
    }
    void sum(double diagonal, MatrixTerms terms, int to) {
        Array<double>& out = at(to);
        for (size_t k = 0; k < out.size(); ++k) {
            double value = 0;
            for (const auto& [factor, matrix] : terms) value += factor * at(matrix)[k];
            out[k] = k / out.rows() == k % out.rows() ? value + diagonal : value;
        }
    }

  private:
    std::vector<Array<double>> all_;
};

} // namespace

double one_norm(const Array<double>& a) {
    double norm = 0;
    for (size_t j = 0; j < a.cols(); ++j) {
        double column = 0;
        for (size_t i = 0; i < a.rows(); ++i) column += std::abs(a(i, j));
        norm = std::max(norm, column);
        require(std::isfinite(column), ErrorKind::numerical, "matrix exponential: the matrix is not finite");
    }
    return norm;
}

void require_finite_exponential(const double* exponential, size_t count) {
    require(std::all_of(exponential, exponential + count, [](double x) { return std::isfinite(x); }),
            ErrorKind::numerical, "matrix exponential: the result is not finite");
}

Array<double> matrix_exponential(Array<double> a) {
    use_sequential_blas();
    const int squarings = exponential_squarings(one_norm(a));
    for (double& x : a) x = std::ldexp(x, -squarings);
    HostMatrices matrices(std::move(a));
    Array<double> out = std::move(matrices.at(scaled_exponential(matrices, squarings)));
    require_finite_exponential(out.data(), out.size());
    return out;
}

Array<double> matrix_exponential(const Context& context, Array<double> a) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda) return matrix_exponential_on_device(context, a, one_norm(a));
    return matrix_exponential(std::move(a));
}

} // namespace dynkin

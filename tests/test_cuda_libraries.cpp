// test_cuda_libraries.cpp - the functions of cuBLAS and cuSOLVER in use, against sums written out. On the
// emulator this tests the stand-in; on a GPU, that the stand-in means what the libraries mean.
#include "cases.h"
#include "device_cases.h"
#include "kernels/cuda_libraries.h"
#include "tolerance.h"

namespace dynkin {
namespace {

/// Column-major numbers with a leading dimension larger than the column.
struct Matrix {
    int rows, columns, leading;
    std::vector<double> values;
    Matrix(int r, int c, unsigned seed = 0) : rows(r), columns(c), leading(r + 3) {
        std::mt19937_64 engine(seed);
        std::normal_distribution<double> normal;
        values.resize(static_cast<std::size_t>(leading * columns));
        for (double& x : values) x = normal(engine);
    }
    double& at(int i, int j) { return values[static_cast<std::size_t>(i + j * leading)]; }
    double at(int i, int j) const { return values[static_cast<std::size_t>(i + j * leading)]; }
};

/// B B' + n I
Matrix positive_definite(int n, unsigned seed) {
    const Matrix b(n, n, seed);
    Matrix a(n, n);
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j) {
            a.at(i, j) = i == j ? n : 0;
            for (int k = 0; k < n; ++k) a.at(i, j) += b.at(i, k) * b.at(j, k);
        }
    return a;
}

class CudaLibraries : public cases::OnDevice {
  protected:
    DeviceArray<double> up(const Matrix& m) { return to_device<double>(device(), m.values, "matrix"); }
    Matrix down(const DeviceArray<double>& array, Matrix shape) {
        shape.values = to_host(device(), array);
        return shape;
    }
    int info(const DeviceArray<int>& array) { return to_host(device(), array)[0]; }
    DeviceLibraries& libraries() { return device().libraries(); }
    const double one = 1, zero = 0;
};
INSTANTIATE_TEST_SUITE_P(Run, CudaLibraries, testing::ValuesIn(cases::device_runs()), cases::run_name);

TEST_P(CudaLibraries, GeneralProduct) {
    const int m = 5, n = 7, k = 31;
    const Matrix a(k, m, 1), b(k, n, 2);
    Matrix c(m, n, 3);
    const auto da = up(a), db = up(b);
    auto dc = up(c);
    const double alpha = 0.5, beta = -2;
    DYNKIN_CUDA_CHECK(libraries().blas.dgemm(libraries().blas_handle, CUBLAS_OP_T, CUBLAS_OP_N, m, n, k,
                                             &alpha, da.data(), a.leading, db.data(), b.leading, &beta,
                                             dc.data(), c.leading));
    const Matrix found = down(dc, c);
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
            double expected = beta * c.at(i, j);
            for (int l = 0; l < k; ++l) expected += alpha * a.at(l, i) * b.at(l, j);
            EXPECT_NEAR(found.at(i, j), expected, tolerance::few_operations(k));
        }
    EXPECT_EQ(found.values[static_cast<std::size_t>(m)],
              c.values[static_cast<std::size_t>(m)]); // the padding
}

TEST_P(CudaLibraries, SymmetricProductAndMatrixTimesVector) {
    const int n = 6, k = 31;
    const Matrix a(n, k, 1), x(k, 1, 2);
    Matrix c(n, n), y(n, 1);
    const auto da = up(a), dx = up(x);
    auto dc = up(c), dy = up(y);
    const auto& l = libraries();
    DYNKIN_CUDA_CHECK(l.blas.dsyrk(l.blas_handle, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, n, k, &one, da.data(),
                                   a.leading, &zero, dc.data(), c.leading));
    DYNKIN_CUDA_CHECK(l.blas.dgemv(l.blas_handle, CUBLAS_OP_N, n, k, &one, da.data(), a.leading, dx.data(), 1,
                                   &zero, dy.data(), 1));
    const Matrix product = down(dc, c), image = down(dy, y);
    for (int i = 0; i < n; ++i) {
        double sum = 0;
        for (int q = 0; q < k; ++q) sum += a.at(i, q) * x.at(q, 0);
        EXPECT_NEAR(image.at(i, 0), sum, tolerance::few_operations(k));
        for (int j = 0; j <= i; ++j) {
            double expected = 0;
            for (int q = 0; q < k; ++q) expected += a.at(i, q) * a.at(j, q);
            EXPECT_NEAR(product.at(i, j), expected, tolerance::few_operations(k));
        }
    }
}

TEST_P(CudaLibraries, ProductsOfABatch) {
    const int n = 3, batch = 5, stride = n * n;
    std::vector<float> a(static_cast<std::size_t>(stride * batch)), b = a;
    for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i), b[i] = static_cast<float>(i % 7);
    const auto da = to_device<float>(device(), a, "a"), db = to_device<float>(device(), b, "b");
    DeviceArray<float> dc(device(), a.size(), "c");
    const float alpha = 1, beta = 0;
    const auto& l = libraries();
    DYNKIN_CUDA_CHECK(l.blas.sgemm_strided_batched(l.blas_handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &alpha,
                                                   da.data(), n, stride, db.data(), n, stride, &beta,
                                                   dc.data(), n, stride, batch));
    const auto c = to_host(device(), dc);
    for (int s = 0; s < batch; ++s)
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < n; ++j) {
                float expected = 0; // small integers: exact
                for (int k = 0; k < n; ++k)
                    expected += a[static_cast<std::size_t>(s * stride + i + k * n)] *
                                b[static_cast<std::size_t>(s * stride + k + j * n)];
                EXPECT_EQ(c[static_cast<std::size_t>(s * stride + i + j * n)], expected);
            }
}

TEST_P(CudaLibraries, CholeskySolvesASystem) {
    const int n = 31;
    const Matrix a = positive_definite(n, 4), b(n, 2, 5);
    auto da = up(a), db = up(b);
    DeviceArray<int> status(device(), 1, "status");
    const auto& l = libraries();
    int size = 0;
    DYNKIN_CUDA_CHECK(
        l.solver.dpotrf_workspace(l.solver_handle, CUBLAS_FILL_MODE_LOWER, n, da.data(), a.leading, &size));
    DeviceArray<double> workspace(device(), static_cast<std::size_t>(size), "workspace");
    DYNKIN_CUDA_CHECK(l.solver.dpotrf(l.solver_handle, CUBLAS_FILL_MODE_LOWER, n, da.data(), a.leading,
                                      workspace.data(), size, status.data()));
    EXPECT_EQ(info(status), 0);
    DYNKIN_CUDA_CHECK(l.solver.dpotrs(l.solver_handle, CUBLAS_FILL_MODE_LOWER, n, 2, da.data(), a.leading,
                                      db.data(), b.leading, status.data()));
    const Matrix x = down(db, b);
    for (int s = 0; s < 2; ++s)
        for (int i = 0; i < n; ++i) {
            double product = 0;
            for (int k = 0; k < n; ++k) product += a.at(i, k) * x.at(k, s);
            EXPECT_NEAR(product, b.at(i, s), tolerance::few_operations(n));
        }
}

TEST_P(CudaLibraries, ASystemThatIsNotDefiniteIsReported) {
    Matrix a = positive_definite(5, 6);
    a.at(3, 3) = -1;
    auto da = up(a);
    DeviceArray<int> status(device(), 1, "status");
    DeviceArray<double> workspace(device(), 10'000, "workspace");
    const auto& l = libraries();
    int size = 0;
    DYNKIN_CUDA_CHECK(
        l.solver.dpotrf_workspace(l.solver_handle, CUBLAS_FILL_MODE_LOWER, 5, da.data(), a.leading, &size));
    ASSERT_LE(size, 10'000);
    DYNKIN_CUDA_CHECK(l.solver.dpotrf(l.solver_handle, CUBLAS_FILL_MODE_LOWER, 5, da.data(), a.leading,
                                      workspace.data(), size, status.data()));
    EXPECT_EQ(info(status), 4);
}

TEST_P(CudaLibraries, CholeskyOfABatch) {
    const int n = 7, batch = 3;
    std::vector<Matrix> a, b;
    std::vector<DeviceArray<double>> da, db;
    std::vector<double*> pa, pb;
    for (unsigned s = 0; s < batch; ++s) {
        a.push_back(positive_definite(n, 10 + s)), b.emplace_back(n, 1, 20 + s);
        da.push_back(up(a.back())), db.push_back(up(b.back()));
        pa.push_back(da.back().data()), pb.push_back(db.back().data());
    }
    auto dpa = to_device<double*>(device(), pa, "pointers"),
         dpb = to_device<double*>(device(), pb, "pointers");
    DeviceArray<int> status(device(), batch, "status");
    const auto& l = libraries();
    const int leading = a[0].leading;
    DYNKIN_CUDA_CHECK(l.solver.dpotrf_batched(l.solver_handle, CUBLAS_FILL_MODE_LOWER, n, dpa.data(), leading,
                                              status.data(), batch));
    EXPECT_EQ(to_host(device(), status), std::vector<int>(batch, 0));
    DYNKIN_CUDA_CHECK(l.solver.dpotrs_batched(l.solver_handle, CUBLAS_FILL_MODE_LOWER, n, 1, dpa.data(),
                                              leading, dpb.data(), b[0].leading, status.data(), batch));
    for (std::size_t s = 0; s < batch; ++s) {
        const Matrix x = down(db[s], b[s]);
        for (int i = 0; i < n; ++i) {
            double product = 0;
            for (int k = 0; k < n; ++k) product += a[s].at(i, k) * x.at(k, 0);
            EXPECT_NEAR(product, b[s].at(i, 0), tolerance::few_operations(n));
        }
    }
}

TEST_P(CudaLibraries, TriangularSystems) {
    const int n = 6, sides = 4;
    const Matrix a = positive_definite(n, 7), b(n, sides, 8);
    const auto da = up(a);
    auto db = up(b), batched = up(b);
    const auto& l = libraries();
    DYNKIN_CUDA_CHECK(l.blas.dtrsm(l.blas_handle, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N,
                                   CUBLAS_DIAG_NON_UNIT, n, sides, &one, da.data(), a.leading, db.data(),
                                   b.leading));
    const Matrix x = down(db, b);
    for (int s = 0; s < sides; ++s)
        for (int i = 0; i < n; ++i) {
            double product = 0;
            for (int k = 0; k <= i; ++k) product += a.at(i, k) * x.at(k, s);
            EXPECT_NEAR(product, b.at(i, s), tolerance::few_operations(n));
        }
    const std::vector<const double*> pa = {da.data()};
    const std::vector<double*> pb = {batched.data()};
    const auto dpa = to_device<const double*>(device(), pa, "pointers");
    const auto dpb = to_device<double*>(device(), pb, "pointers");
    DYNKIN_CUDA_CHECK(l.blas.dtrsm_batched(l.blas_handle, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_LOWER,
                                           CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, n, sides, &one, dpa.data(),
                                           a.leading, dpb.data(), b.leading, 1));
    const Matrix again = down(batched, b);
    for (int s = 0; s < sides; ++s)
        for (int i = 0; i < n; ++i)
            EXPECT_NEAR(again.at(i, s), x.at(i, s), tolerance::few_operations(1 + std::abs(x.at(i, s))));
}

TEST_P(CudaLibraries, EigenvectorsOfASymmetricMatrix) {
    const int n = 9;
    const Matrix a = positive_definite(n, 9);
    auto da = up(a);
    DeviceArray<double> w(device(), n, "eigenvalues");
    DeviceArray<int> status(device(), 1, "status");
    const auto& l = libraries();
    int size = 0;
    DYNKIN_CUDA_CHECK(l.solver.dsyevd_workspace(l.solver_handle, CUSOLVER_EIG_MODE_VECTOR,
                                                CUBLAS_FILL_MODE_LOWER, n, da.data(), a.leading, w.data(),
                                                &size));
    DeviceArray<double> workspace(device(), static_cast<std::size_t>(size), "workspace");
    DYNKIN_CUDA_CHECK(l.solver.dsyevd(l.solver_handle, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, n,
                                      da.data(), a.leading, w.data(), workspace.data(), size, status.data()));
    EXPECT_EQ(info(status), 0);
    const Matrix v = down(da, a);
    const auto values = to_host(device(), w);
    for (int s = 0; s < n; ++s)
        for (int i = 0; i < n; ++i) {
            double product = 0;
            for (int k = 0; k < n; ++k) product += a.at(i, k) * v.at(k, s);
            EXPECT_NEAR(product, values[static_cast<std::size_t>(s)] * v.at(i, s),
                        tolerance::few_operations(values.back()));
        }
}

} // namespace
} // namespace dynkin

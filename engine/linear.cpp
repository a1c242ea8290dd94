#include "linear.h"
#include "device_linear.h"
#include "error.h"
#include "parallel.h"
#include "solve.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <fmt/core.h>
#include <lapacke.h>

namespace dynkin {

using std::size_t;

Array<double> matrix_product(const Array<double>& a, const Array<double>& b, bool transpose_b) {
    Array<double> c(a.rows(), transpose_b ? b.rows() : b.cols());
    cblas_dgemm(CblasRowMajor, CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans,
                static_cast<int>(c.rows()), static_cast<int>(c.cols()), static_cast<int>(a.cols()), 1,
                a.data(), static_cast<int>(a.cols()), b.data(), static_cast<int>(b.cols()), 0, c.data(),
                static_cast<int>(c.cols()));
    return c;
}

Monomials::Monomials(int d, int most) : dimension(d), degree(most) {
    std::vector<int> alpha(static_cast<size_t>(d), 0);
    const auto extend = [&](const auto& self, size_t from, int left) -> void {
        if (from + 1 == alpha.size()) {
            alpha[from] = left;
            place.emplace(alpha, exponents.size() / alpha.size());
            exponents.insert(exponents.end(), alpha.begin(), alpha.end());
            return;
        }
        for (int a = left; a >= 0; --a) alpha[from] = a, self(self, from + 1, left - a);
    };
    for (int total = 0; total <= most; ++total) extend(extend, 0, total);
}

size_t Monomials::shifted(size_t k, int i, int by, int j, int by_too) const {
    std::vector<int> alpha(at(k), at(k) + dimension);
    alpha[static_cast<size_t>(i)] += by;
    if (j >= 0) alpha[static_cast<size_t>(j)] += by_too;
    const auto found = place.find(alpha);
    return found == place.end() ? SIZE_MAX : found->second;
}

void Monomials::evaluate(const double* x, double* out) const {
    const size_t n = size();
    for (size_t k = 0; k < n; ++k) {
        out[k] = 1;
        for (int j = 0; j < dimension; ++j)
            for (int p = 0; p < at(k)[j]; ++p) out[k] *= x[j];
    }
}

void check_linear(const LinearProcess& process, size_t d) {
    const auto& [drift, noise] = process;
    require(drift.rows() == d && drift.cols() == d, ErrorKind::input,
            fmt::format("linear process: expected a drift of {} x {} numbers, got {} x {}", d, d,
                        drift.rows(), drift.cols()));
    require(noise.rows() == d && noise.cols() >= 1, ErrorKind::input,
            fmt::format("linear process: expected a noise of {} rows, got {} x {}", d, noise.rows(),
                        noise.cols()));
    for (const Array<double>* a : {&drift, &noise})
        for (double x : *a)
            require(std::isfinite(x), ErrorKind::input, "linear process: a number is not finite");
    const int n = static_cast<int>(d);
    Array<double> copy = drift;
    std::vector<double> real(d), imaginary(d);
    require(LAPACKE_dgeev(LAPACK_ROW_MAJOR, 'N', 'N', n, copy.data(), n, real.data(), imaginary.data(),
                          nullptr, n, nullptr, n) == 0,
            ErrorKind::numerical, "linear process: the eigenvalues of the drift do not converge");
    const double largest = *std::max_element(real.begin(), real.end());
    require(
        largest < 0, ErrorKind::input,
        fmt::format("linear process: the drift is unstable, an eigenvalue has real part {:g}, expected all "
                    "below 0: the process would have no stationary law",
                    largest));
    Array<double> covariance = matrix_product(noise, noise, true);
    require(LAPACKE_dsyev(LAPACK_ROW_MAJOR, 'N', 'L', n, covariance.data(), n, real.data()) == 0,
            ErrorKind::numerical, "linear process: the eigenvalues of the noise do not converge");
    require(real.front() > 1e-12 * real.back(), ErrorKind::input,
            fmt::format(
                "linear process: noise noise' is singular, its eigenvalues run from {:g} to {:g}: expected "
                "noise in every direction",
                real.front(), real.back()));
}

LinearEquation standardised(const LinearProcess& process, const Standardization& z) {
    const size_t d = z.mean.size();
    LinearEquation out{Array<double>(d, d), matrix_product(process.noise, process.noise, true),
                       std::vector<double>(d, 0)};
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j) {
            out.shift[i] += process.drift(i, j) * z.mean[j] / z.scale[i];
            out.drift(i, j) = process.drift(i, j) * z.scale[j] / z.scale[i];
            out.diffusion(i, j) *= 0.5 / (z.scale[i] * z.scale[j]);
        }
    return out;
}

void monomial_sums(const Context& context, const Monomials& monomials, const SampleSource& source,
                   const MomentOptions& options, MomentSums& sums) {
    if (sums.train.empty()) sums.train.assign(monomials.size(), 0), sums.test.assign(monomials.size(), 0);
    require(sums.train.size() == monomials.size() &&
                (sums.next_row % kLinearRows == 0 || sums.next_row == source.rows),
            ErrorKind::usage, "linear process: the sums to continue belong to other moments");
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return monomial_sums_on_device(context, monomials, source, options, sums);
    const size_t d = static_cast<size_t>(monomials.dimension), rows = source.rows,
                 together = 8 * static_cast<size_t>(context.threads());
    Array<double> of_part(together, monomials.size());
    Progress progress(context, "moments", rows);
    progress.set(sums.next_row);
    while (sums.next_row < rows) {
        const size_t start = sums.next_row,
                     parts = std::min(together, (rows - start + kLinearRows - 1) / kLinearRows);
        parallel_for(context.threads(), parts, [&](size_t part, size_t) {
            const size_t first = start + part * kLinearRows, count = std::min(kLinearRows, rows - first);
            std::vector<double> z(count * d), values(monomials.size());
            source.read(first, count, z.data());
            std::fill_n(of_part.row(part), values.size(), 0.0);
            for (size_t n = 0; n < count; ++n) {
                monomials.evaluate(z.data() + n * d, values.data());
                for (size_t k = 0; k < values.size(); ++k) of_part(part, k) += values[k];
            }
        });
        add_parts(of_part.data(), parts, std::min(rows, start + parts * kLinearRows), sums);
        progress.set(sums.next_row);
        if (options.after_batch) options.after_batch(sums);
        if (progress.interrupted()) progress.throw_interrupted();
    }
}

void add_parts(const double* parts, size_t count, size_t next_row, MomentSums& sums) {
    const size_t size = sums.train.size();
    for (size_t part = 0; part < count; ++part)
        for (size_t k = 0; k < size; ++k) sums.train[k] += parts[part * size + k];
    sums.next_row = sums.train_rows = next_row;
}

} // namespace dynkin

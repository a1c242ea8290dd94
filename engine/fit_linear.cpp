// fit_linear.cpp - fit() of a linear process: moments of the data in monomials; the systems are solved where
// they are needed.
#include "fitter.h"
#include "linear.h"
#include "parallel.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/core.h>
#include <lapacke.h>

namespace dynkin {
namespace {

/// Of the matrix exponential.
constexpr size_t kMostMonomials = 500;

/// Smallest rate -Re lambda and largest |lambda| of a stable drift.
std::pair<double, double> rates(Array<double> drift) {
    const int n = static_cast<int>(drift.rows());
    std::vector<double> real(drift.rows()), imaginary(drift.rows());
    LAPACKE_dgeev(LAPACK_ROW_MAJOR, 'N', 'N', n, drift.data(), n, real.data(), imaginary.data(), nullptr, n,
                  nullptr, n);
    double largest = 0;
    for (size_t k = 0; k < real.size(); ++k) largest = std::max(largest, std::hypot(real[k], imaginary[k]));
    return {-*std::max_element(real.begin(), real.end()), largest};
}

} // namespace

bool Fitter::is_linear() const {
    return options_.process && std::holds_alternative<LinearProcess>(*options_.process);
}

void Fitter::fit_linear() {
    const auto start = std::chrono::steady_clock::now();
    const auto& process = std::get<LinearProcess>(*options_.process);
    const size_t d = static_cast<size_t>(model_.dimension());
    check_linear(process, d);
    model_.process = process;
    model_.standardization = {columns_.mean, columns_.sd};
    LinearBlock& b = model_.linear.emplace();
    b.degree = options_.degree ? options_.degree : d <= 3 ? 4 : 2;
    require(b.degree <= 12, ErrorKind::usage,
            fmt::format("fit: expected a degree of at most 12 for a linear process, got {}", b.degree));
    const Monomials monomials(model_.dimension(), 2 * b.degree);
    require(
        monomials.size() <= kMostMonomials, ErrorKind::usage,
        fmt::format("fit: degree {} in {} coordinates needs {} moments, expected at most {}: lower --degree",
                    b.degree, d, monomials.size(), kMostMonomials));
    b.ridge = options_.ridge >= 0 ? options_.ridge : rows() >= 30'000 ? 1e-4 : rows() >= 10'000 ? 1e-3 : 1e-2;
    const auto [slow, fast] = rates(process.drift);
    b.t_min = options_.t_min >= 0 ? options_.t_min : 1e-3 / fast;
    b.t_end = options_.t_end > 0 ? options_.t_end : 3 / slow; // the law at the end need not be stationary
    b.t0 = 0.5 / fast;
    require(b.t_min < b.t_end, ErrorKind::usage,
            fmt::format("times: expected t_min < t_end, got {} and {}", b.t_min, b.t_end));
    model_.default_steps = 128;

    const auto& [mean, scale] = model_.standardization;
    const Array<double> sums =
        monomial_sums(context_, monomials, rows(), [&](size_t first, size_t count, double* z) {
            model_.view.read(data_, first, count, z);
            for (size_t k = 0; k < count * d; ++k) z[k] = (z[k] - mean[k % d]) / scale[k % d];
        });
    b.moments.assign(monomials.size(), 0);
    for (size_t part = 0; part < sums.rows(); ++part)
        for (size_t k = 0; k < monomials.size(); ++k)
            b.moments[k] += sums(part, k) / static_cast<double>(rows());
    b.moments[0] = 1;
    LinearField(model_).at(context_, std::span(&b.t_min, 1)); // or an error that says what is wrong
    report_.moment_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    report_.moments = monomials.size(),
    report_.basis_size = Monomials(model_.dimension(), b.degree).size() - 1;
    report_.ridge = b.ridge, report_.lambda_1 = slow, report_.heldout_loss = NAN;
    report_.symmetry_reason = "not used", report_.structure_reason = "one joint basis";
    report_.reference = fmt::format("linear process, polynomials of degree {}", b.degree);
}

} // namespace dynkin

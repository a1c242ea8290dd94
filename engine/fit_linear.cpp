// fit_linear.cpp - fit() of a linear process: moments of the data in monomials; the systems are solved where
// they are needed.
#include "fitter.h"
#include "linear.h"
#include <algorithm>
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

    pass_over_moments(monomials.size(), static_cast<double>(monomials.size()),
                      [&](const SampleSource& source, const MomentOptions& options) {
                          monomial_sums(context_, monomials, source, options, sums_);
                      });
    b.moments = moment_averages(sums_, Subset::all);
    b.moments[0] = 1;
    LinearField(model_).at(context_, b.t_min); // or an error that says what is wrong
    report_.basis_size = Monomials(model_.dimension(), b.degree).size() - 1;
    report_.ridge = b.ridge, report_.lambda_1 = slow, report_.heldout_loss = NAN;
    report_.symmetry_reason = "not used", report_.structure_reason = "one joint basis";
    report_.reference = fmt::format("linear process, polynomials of degree {}", b.degree);
}

} // namespace dynkin

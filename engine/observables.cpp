// observables.cpp - means over configurations and their errors: by linearisation, and for chains by the
// windowing method.
#include "observables.h"
#include "autocovariance.h"
#include "error.h"
#include "parallel.h"
#include "summation.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <numbers>
#include <numeric>

namespace dynkin {
namespace {

using std::size_t;

constexpr double no_number = std::numeric_limits<double>::quiet_NaN();
constexpr size_t most_distances = 129, most_numbers = size_t{1} << 23; // numbers in bins
constexpr size_t job_rows = 64;                                        // rows a job

/// Where the means of a lattice stand.
namespace at {
enum : size_t { mean, absolute, square, fourth, structure, pairs };
}

double whole_power(double x, int p) {
    double result = 1;
    for (; p > 0; p >>= 1, x *= x)
        if (p & 1) result *= x;
    return result;
}

double product_sum(const double* a, const double* b, size_t count) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < count; ++i) sum += a[i] * b[i];
    return sum;
}

} // namespace

Autocorrelation integrated_autocorrelation(std::span<const double> values, size_t chains, size_t length) {
    require(length >= 4 && chains >= 1 && values.size() == chains * length, ErrorKind::usage,
            "integrated_autocorrelation: expected chains * length values and a length of at least 4");
    const auto total = static_cast<double>(values.size()), n = static_cast<double>(length);
    const double mean = pairwise_sum(0, values.size(), [&](size_t k) { return values[k]; }) / total;
    std::vector<double> centred(values.begin(), values.end());
    for (double& v : centred) v -= mean;
    Autocovariance covariance(std::move(centred), chains, length);
    Autocorrelation result;
    result.variance = covariance(0);
    if (!(result.variance > 0)) return {no_number, no_number, 0, result.variance};
    double tau = 0.5;
    size_t window = 0;
    do {
        ++window;
        tau += covariance(window) / result.variance * n / (n - static_cast<double>(window));
    } while (window + 1 < length && static_cast<double>(window) < 6 * std::max(tau, 1.0));
    const double width = 2 * static_cast<double>(window) + 1;
    // Antithetic chains: no more than S log10 S effective values, as effective_sample_size() has it.
    result.tau = std::max(tau * (1 + width / total), 0.5 / std::max(std::log10(total), 1.0));
    result.tau_error = result.tau * std::sqrt(2 * width / total);
    result.window = window;
    return result;
}

const Estimate* ObservableReport::find(std::string_view name) const {
    for (const NamedEstimate& entry : named)
        if (entry.name == name) return &entry.estimate;
    return nullptr;
}

Observables::Observables(size_t dimension, const Lattice* lattice, std::vector<Polynomial> polynomials,
                         size_t rows, size_t chains)
    : dimension_(dimension), rows_(rows), chains_(chains), length_(chains ? rows / chains : rows),
      polynomials_(std::move(polynomials)) {
    require(rows >= 1 && dimension >= 1, ErrorKind::usage, "Observables: expected at least one row");
    require(!lattice || lattice->sites() == dimension, ErrorKind::usage,
            "Observables: expected rows of as many numbers as the lattice has sites");
    if (lattice) set_lattice(*lattice);
    for (const Polynomial& p : polynomials_)
        for (const Polynomial::Term& term : p.terms) top_power_ = std::max(top_power_, term.each);
    count_ += polynomials_.size();
    if (count_ == 0) return;
    const size_t streams = std::max<size_t>(chains_, 1), length = (rows + streams - 1) / streams;
    const auto bins_of = [&](size_t rows_each) { return (length + rows_each - 1) / rows_each * streams; };
    if (bins_of(1) * count_ > most_numbers) { // with the first row of each bin, twice the numbers
        bin_ = (2 * length * streams * count_ + most_numbers - 1) / most_numbers;
        bin_ = std::min(bin_, std::max<size_t>(length / 4, 1));
        first_ = Array<double>(bins_of(bin_), count_);
    }
    sums_ = Array<double>(bins_of(bin_), count_);
    weight_.assign(sums_.rows(), 0.0);
}

void Observables::set_lattice(const Lattice& lattice) {
    periodic_ = lattice.boundary == Boundary::periodic;
    side_ = *std::max_element(lattice.shape.begin(), lattice.shape.end());
    distances_ = std::min(periodic_ ? side_ / 2 + 1 : side_, most_distances);
    size_t stride = dimension_;
    for (const size_t n : lattice.shape) {
        stride /= n;
        if (n == side_) strides_.push_back(stride);
    }
    for (size_t j = 0; j < side_; ++j) {
        const double angle = 2 * std::numbers::pi * static_cast<double>(j) / static_cast<double>(side_);
        cosine_.push_back(std::cos(angle)), sine_.push_back(std::sin(angle));
    }
    count_ = at::pairs + distances_;
}

/// Adds what one of the longest axes has: pair products and the wave of length `side`.
void Observables::measure_axis(const double* x, size_t stride, double* out) const {
    const size_t line = side_ * stride;
    const double share = 1 / (static_cast<double>(dimension_) * static_cast<double>(strides_.size()));
    std::vector<double> slice(side_);
    for (const double* first = x; first < x + dimension_; first += line) {
        for (size_t j = 0; j < side_; ++j)
            slice[j] = std::accumulate(first + j * stride, first + (j + 1) * stride, slice[j]);
        for (size_t r = 0; r < distances_; ++r) {
            double sum = product_sum(first, first + r * stride, line - r * stride),
                   present = 1; // of the pairs
            if (periodic_)
                sum += product_sum(first, first + line - r * stride, r * stride);
            else
                present = static_cast<double>(side_ - r) / static_cast<double>(side_);
            out[at::pairs + r] += sum / present * share;
        }
    }
    const double c = product_sum(slice.data(), cosine_.data(), side_),
                 s = product_sum(slice.data(), sine_.data(), side_);
    out[at::structure] += (c * c + s * s) * share;
}

void Observables::measure_polynomials(const double* x, double mean, double* out) const {
    std::vector<double> power(static_cast<size_t>(top_power_) + 1, 0.0); // means of x_i^p
    for (size_t i = 0; i < dimension_; ++i) {
        double p = 1;
        for (double& sum : power) sum += p, p *= x[i];
    }
    for (double& sum : power) sum /= static_cast<double>(dimension_);
    for (const Polynomial& p : polynomials_) {
        double value = 0;
        for (const Polynomial::Term& term : p.terms) {
            double product =
                term.coefficient * power[static_cast<size_t>(term.each)] * whole_power(mean, term.mean);
            for (const auto& [site, degree] : term.sites) product *= whole_power(x[site], degree);
            value += product;
        }
        *out++ = value;
    }
}

/// The means' terms of one row.
void Observables::measure(const double* x, double* out) const {
    const double mean = std::accumulate(x, x + dimension_, 0.0) / static_cast<double>(dimension_);
    if (!strides_.empty()) {
        out[at::mean] = mean, out[at::absolute] = std::abs(mean), out[at::square] = mean * mean;
        out[at::fourth] = out[at::square] * out[at::square];
        std::fill_n(out + at::structure, distances_ + at::pairs - at::structure, 0.0);
        for (const size_t stride : strides_) measure_axis(x, stride, out);
    }
    if (!polynomials_.empty()) measure_polynomials(x, mean, out + count_ - polynomials_.size());
}

void Observables::take(const double* values, double weight) {
    const size_t streams = std::max<size_t>(chains_, 1), row = next_++;
    if (weight == 0) return;
    const size_t bin = row / streams / bin_ * streams + row % streams;
    if (bin_ > 1 && weight_[bin] == 0) std::copy_n(values, count_, first_.row(bin));
    weight_[bin] += weight;
    for (size_t k = 0; k < count_; ++k) sums_(bin, k) += weight * values[k];
}

void Observables::add(const Context& context, size_t count, const double* x, const double* weight) {
    require(count <= rows_ - next_, ErrorKind::usage, "Observables: more rows than announced");
    require(!weight || chains_ == 0, ErrorKind::usage, "Observables: weights are for independent rows");
    if (count_ == 0) return;
    const size_t block = std::min(count, size_t{64} * job_rows);
    Array<double> values(block, count_);
    for (size_t first = 0; first < count; first += block) {
        const size_t taken = std::min(block, count - first);
        parallel_for(context.threads(), (taken + job_rows - 1) / job_rows, [&](size_t job, size_t) {
            for (size_t n = job * job_rows; n < std::min(taken, (job + 1) * job_rows); ++n)
                if (!weight || weight[first + n] != 0) measure(x + (first + n) * dimension_, values.row(n));
        });
        for (size_t n = 0; n < taken; ++n) take(values.row(n), weight ? weight[first + n] : 1.0);
    }
}

std::vector<double> Observables::means() const {
    std::vector<double> mean(count_);
    const double total = pairwise_sum(0, weight_.size(), [&](size_t b) { return weight_[b]; });
    for (size_t k = 0; k < count_; ++k)
        mean[k] = pairwise_sum(0, weight_.size(), [&](size_t b) { return sums_(b, k); }) / total;
    return mean;
}

/// The error of sum_b W_b f_b / sum_b W_b, f the linear combination and W_b the weights of the bins.
void Observables::of_independent(const std::vector<Part>& parts, Estimate& result) const {
    const std::vector<double> mean = means();
    double total = 0, squares = 0, used = 0;
    for (size_t b = 0; b < weight_.size(); ++b) {
        if (!(weight_[b] > 0)) continue;
        double deviation = 0;
        for (const Part& p : parts)
            deviation += p.derivative * (sums_(b, p.mean) - weight_[b] * mean[p.mean]);
        total += weight_[b], squares += deviation * deviation, used += 1;
    }
    if (used > 1) result.error = std::sqrt(squares * used / (used - 1)) / total;
    result.tau = 0.5;
}

void Observables::of_chains(const std::vector<Part>& parts, Estimate& result) const {
    const size_t length = length_ / bin_; // bins that are full
    if (length < 4) return;
    std::vector<double> values(chains_ * length), rows;
    const auto combined = [&](const Array<double>& a, size_t bin) {
        double value = 0;
        for (const Part& p : parts) value += p.derivative * a(bin, p.mean);
        return value;
    };
    for (size_t c = 0; c < chains_; ++c)
        for (size_t k = 0; k < length; ++k)
            values[c * length + k] = combined(sums_, k * chains_ + c) / static_cast<double>(bin_);
    const Autocorrelation found = integrated_autocorrelation(values, chains_, length);
    const bool moves = found.variance > 0;
    result.error = moves ? std::sqrt(2 * found.tau * found.variance / static_cast<double>(values.size())) : 0;
    double rows_in_tau = 1;
    if (bin_ > 1) { // tau of rows by the variance of rows: those that begin the bins
        for (size_t b = 0; b < length * chains_; ++b) rows.push_back(combined(first_, b));
        const double mean = std::accumulate(rows.begin(), rows.end(), 0.0) / static_cast<double>(rows.size());
        double variance = 0;
        for (const double v : rows) variance += (v - mean) * (v - mean) / static_cast<double>(rows.size());
        rows_in_tau = static_cast<double>(bin_) * found.variance / variance;
    }
    result.tau = found.tau * rows_in_tau, result.tau_error = found.tau_error * rows_in_tau;
}

Estimate Observables::estimate(double value, const std::vector<Part>& parts) const {
    Estimate result{.value = value};
    if (!std::isfinite(value)) return result;
    if (chains_)
        of_chains(parts, result);
    else
        of_independent(parts, result);
    return result;
}

void Observables::put_lattice(const std::vector<double>& mean, ObservableReport& report) const {
    const auto d = static_cast<double>(dimension_);
    const auto put = [&](const char* name, double value, const std::vector<Part>& parts) {
        report.named.push_back({name, estimate(value, parts)});
    };
    put("magnetisation", mean[at::mean], {{at::mean, 1}});
    put("magnetisation_absolute", mean[at::absolute], {{at::absolute, 1}});
    const double chi = d * (mean[at::square] - mean[at::mean] * mean[at::mean]),
                 slope = -2 * d * mean[at::mean];
    put("susceptibility", chi, {{at::square, d}, {at::mean, slope}});
    const double squared = mean[at::square] * mean[at::square];
    put("binder_cumulant", 1 - mean[at::fourth] / (3 * squared),
        {{at::fourth, -1 / (3 * squared)},
         {at::square, 2 * mean[at::fourth] / (3 * squared * mean[at::square])}});
    const double half = std::sin(std::numbers::pi / static_cast<double>(side_)),
                 factor = 1 / (4 * half * half), s = mean[at::structure],
                 length = side_ > 1 ? std::sqrt((chi / s - 1) * factor) : no_number,
                 outer = factor / (2 * length);
    put("correlation_length", length,
        {{at::square, outer * d / s},
         {at::mean, outer * slope / s},
         {at::structure, -outer * chi / (s * s)}});
    for (size_t r = 0; r < distances_; ++r)
        report.two_point.push_back(estimate(mean[at::pairs + r] - mean[at::mean] * mean[at::mean],
                                            {{at::pairs + r, 1}, {at::mean, -2 * mean[at::mean]}}));
}

ObservableReport Observables::report() const {
    ObservableReport report;
    report.chains = chains_;
    if (count_ == 0) return report;
    const std::vector<double> mean = means();
    if (!strides_.empty()) put_lattice(mean, report);
    for (size_t p = 0; p < polynomials_.size(); ++p) {
        const size_t k = count_ - polynomials_.size() + p;
        report.named.push_back({polynomials_[p].name, estimate(mean[k], {{k, 1}})});
    }
    return report;
}

ObservableReport observe(const Context& context, const Array<double>& x, std::span<const double> weights,
                         const Lattice* lattice, const std::vector<Polynomial>& polynomials, size_t chains) {
    require(weights.empty() || weights.size() == x.rows(), ErrorKind::usage,
            "observe: expected one weight a row, or none");
    Observables observables(x.cols(), lattice, polynomials, x.rows(), chains);
    observables.add(context, x.rows(), x.data(), weights.empty() ? nullptr : weights.data());
    return observables.report();
}

} // namespace dynkin

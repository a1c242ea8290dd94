#include "closure.h"
#include "error.h"
#include "kernels/drift.h"
#include "kernels/score_basis.h"
#include "matrix_exponential.h"
#include "parallel.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <numeric>

namespace dynkin {
namespace {

using std::size_t;
constexpr size_t max_functions = 2048;
constexpr int max_order = 64;

/// Coefficients on the Hermite functions 0 .. n + power of x^power h_n(x / scale): u h_n = sqrt(n+1) h_(n+1)
/// + sqrt(n) h_(n-1).
std::vector<double> times_power(int n, int power, double scale) {
    std::vector<double> c(static_cast<size_t>(n + power) + 1);
    c[static_cast<size_t>(n)] = 1;
    for (int p = 0; p < power; ++p) {
        std::vector<double> next(c.size());
        for (size_t r = 0; r < c.size(); ++r) {
            if (r + 1 < c.size()) next[r + 1] += scale * std::sqrt(static_cast<double>(r + 1)) * c[r];
            if (r > 0) next[r - 1] += scale * std::sqrt(static_cast<double>(r)) * c[r];
        }
        c = std::move(next);
    }
    return c;
}

int total(const std::vector<int>& k) { return std::accumulate(k.begin(), k.end(), 0); }

/// Calls use(index, coefficient) for every product function in the tensor product of expansions.
template <class Use> void expand(const std::vector<std::vector<double>>& factors, int order,
                                 std::vector<int>& index, size_t j, double coefficient, const Use& use) {
    if (j == factors.size()) return use(index, coefficient);
    for (size_t r = 0; r < factors[j].size(); ++r) {
        if (factors[j][r] == 0) continue;
        index[j] = static_cast<int>(r);
        if (std::accumulate(index.begin(), index.begin() + static_cast<std::ptrdiff_t>(j) + 1, 0) > order)
            break;
        expand(factors, order, index, j + 1, coefficient * factors[j][r], use);
    }
    index[j] = 0;
}

void list_indices(int left, size_t j, std::vector<int>& index, std::vector<int>& out) {
    if (j == index.size()) {
        require(out.size() / index.size() < max_functions, ErrorKind::usage,
                fmt::format("closure: more than {} functions, choose a lower order", max_functions));
        out.insert(out.end(), index.begin(), index.end());
        return;
    }
    for (index[j] = 0; index[j] <= left; ++index[j]) list_indices(left - index[j], j + 1, index, out);
    index[j] = 0;
}

} // namespace

size_t MomentClosure::place(const std::vector<int>& k) const {
    size_t low = 0, high = index_.rows(); // lexicographic
    while (high - low > 1) {
        const size_t middle = (low + high) / 2;
        const int* row = index_.row(middle);
        (std::lexicographical_compare(k.begin(), k.end(), row, row + k.size()) ? high : low) = middle;
    }
    return low;
}

MomentClosure::MomentClosure(const DriftProcess& process, int order, std::vector<double> scale)
    : order_(order), scale_(std::move(scale)) {
    const size_t d = process.dimension();
    const auto polynomial = polynomial_form(process);
    require(polynomial.has_value(), ErrorKind::usage,
            fmt::format("closure: expected a polynomial drift, got {}", process.kind));
    require(order >= 1 && order <= max_order, ErrorKind::usage,
            fmt::format("closure: expected an order from 1 to {}, got {}", max_order, order));
    require(scale_.size() == d, ErrorKind::usage,
            fmt::format("closure: expected {} scales, got {}", d, scale_.size()));
    for (const double s : scale_)
        require(s > 0 && std::isfinite(s), ErrorKind::usage,
                fmt::format("closure: expected a positive scale, got {}", s));
    std::vector<int> index(d), all;
    list_indices(order, 0, index, all);
    index_ = Array<int>(all.size() / d, d);
    std::copy(all.begin(), all.end(), index_.begin());
    generator_ = Array<double>(size(), size());
    for (size_t k = 0; k < size(); ++k) {
        const int* own = index_.row(k);
        const auto add = [&](const std::vector<int>& at, double value) { generator_(place(at), k) += value; };
        for (size_t i = 0; i < d; ++i) {
            std::vector<int> lower(own, own + d), at(d);
            const double by = 1 / scale_[i];
            if (own[i] >= 2) {
                lower[i] = own[i] - 2;
                add(lower, 0.5 * process.noise[i] * process.noise[i] * by * by *
                               std::sqrt(static_cast<double>(own[i]) * (own[i] - 1)));
            }
            if (own[i] == 0) continue;
            lower[i] = own[i] - 1;
            for (const auto& term : polynomial->components[i]) {
                std::vector<std::vector<double>> factors;
                for (size_t j = 0; j < d; ++j)
                    factors.push_back(times_power(lower[j], term.power[j], scale_[j]));
                expand(factors, order, at, 0, term.coefficient * by * std::sqrt(static_cast<double>(own[i])),
                       add);
            }
        }
    }
}

std::vector<double> MomentClosure::averages(const Context& context, const Array<double>& states) const {
    const size_t d = scale_.size(), n = states.rows(), groups = std::min<size_t>(16, n);
    require(states.cols() == d && n >= 1, ErrorKind::usage,
            fmt::format("closure: expected rows of {} numbers, got {} of {}", d, n, states.cols()));
    Array<double> sums(groups, size());
    parallel_for(context.threads(), groups, [&](size_t g, size_t) {
        double h[max_drift_dimension][max_order + 1], slope[max_order + 1], curvature[max_order + 1];
        for (size_t row = n * g / groups; row < n * (g + 1) / groups; ++row) {
            for (size_t j = 0; j < d; ++j)
                hermite_values(order_, states(row, j) / scale_[j], h[j], slope, curvature);
            for (size_t k = 0; k < size(); ++k) {
                double product = 1;
                for (size_t j = 0; j < d; ++j) product *= h[j][index_(k, j)];
                sums(g, k) += product;
            }
        }
    });
    std::vector<double> out(size());
    for (size_t k = 0; k < size(); ++k) {
        for (size_t g = 0; g < groups; ++g) out[k] += sums(g, k);
        out[k] /= static_cast<double>(n);
    }
    return out;
}

Array<double> MomentClosure::propagator(const Context& context, double t) const {
    require(t >= 0 && std::isfinite(t), ErrorKind::usage,
            fmt::format("closure: expected a time >= 0, got {}", t));
    Array<double> a(size(), size());
    for (size_t r = 0; r < size(); ++r)
        for (size_t k = 0; k < size(); ++k) a(k, r) = generator_(r, k) * t;
    return matrix_exponential(context, std::move(a));
}

std::vector<double> MomentClosure::advance(const Array<double>& propagator,
                                           const std::vector<double>& moments) {
    require(propagator.rows() == moments.size(), ErrorKind::usage,
            fmt::format("closure: expected {} moments, got {}", propagator.rows(), moments.size()));
    std::vector<double> out(moments.size());
    for (size_t k = 0; k < out.size(); ++k)
        out[k] = std::inner_product(moments.begin(), moments.end(), propagator.row(k), 0.0);
    return out;
}

double MomentClosure::monomial(const std::vector<double>& moments, const std::vector<int>& power) const {
    require(power.size() == scale_.size() && moments.size() == size() && total(power) <= order_ &&
                *std::min_element(power.begin(), power.end()) >= 0,
            ErrorKind::usage,
            fmt::format("closure: expected {} powers of total degree at most {}", scale_.size(), order_));
    std::vector<std::vector<double>> factors;
    for (size_t j = 0; j < power.size(); ++j) factors.push_back(times_power(0, power[j], scale_[j]));
    std::vector<int> index(power.size());
    double sum = 0;
    expand(factors, order_, index, 0, 1,
           [&](const std::vector<int>& at, double value) { sum += value * moments[place(at)]; });
    return sum;
}

ClosureChoice choose_closure_scale(const Context& context, const DriftProcess& process,
                                   const Array<double>& states, int order, double time) {
    require(order >= 8, ErrorKind::usage,
            fmt::format("closure: expected an order of at least 8 to choose the scale, got {}", order));
    const size_t d = process.dimension(), n = states.rows();
    require(states.cols() == d && n >= 1, ErrorKind::usage,
            fmt::format("closure: expected rows of {} numbers, got {} of {}", d, n, states.cols()));
    std::vector<double> rms(d);
    for (size_t row = 0; row < n; ++row)
        for (size_t j = 0; j < d; ++j) rms[j] += states(row, j) * states(row, j) / static_cast<double>(n);
    for (double& r : rms) r = r > 0 ? std::sqrt(r) : 1;
    std::vector<int> index(d), low;
    list_indices(4, 0, index, low);
    const auto moments = [&](int m, const std::vector<double>& scale) {
        const MomentClosure closure(process, m, scale);
        const auto at =
            MomentClosure::advance(closure.propagator(context, time), closure.averages(context, states));
        std::vector<double> out;
        for (size_t k = 0; k < low.size(); k += d) {
            const std::vector<int> power(low.begin() + static_cast<std::ptrdiff_t>(k),
                                         low.begin() + static_cast<std::ptrdiff_t>(k + d));
            double unit = 1;
            for (size_t j = 0; j < d; ++j) unit *= std::pow(rms[j], power[j]);
            out.push_back(closure.monomial(at, power) / unit);
        }
        return out;
    };
    ClosureChoice best{{}, INFINITY};
    for (const double factor : {0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.4}) {
        std::vector<double> scale = rms;
        for (double& s : scale) s *= factor;
        try {
            const auto half = moments(order / 2, scale), whole = moments(order, scale);
            double change = 0;
            for (size_t k = 0; k < half.size(); ++k) change = std::max(change, std::abs(half[k] - whole[k]));
            if (change < best.change) best = {scale, change};
        } catch (const Error& error) {
            if (error.kind() != ErrorKind::numerical) throw; // this truncation grows without bound
        }
    }
    require(!best.scale.empty(), ErrorKind::numerical,
            "closure: the moments grow without bound at every scale, choose a shorter time");
    return best;
}

} // namespace dynkin

// metrics.cpp - second moments, marginals, sliced Wasserstein distance and energies of samples against a
// reference.
#include "metrics.h"
#include "../kernels/philox.h"
#include "error.h"
#include "parallel.h"
#include "progress.h"
#include "summation.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>
#include <vector>

namespace dynkin {
namespace {

constexpr std::size_t bins = 60;
constexpr std::size_t directions = 100;

/// task(k) for k < count on the threads of the context; reports progress, stops at a signal, and passes
/// exceptions on.
template <class Task>
void run_all(const Context& context, const char* stage, std::size_t count, const Task& task) {
    Progress progress(context, stage, count);
    std::atomic<std::size_t> done{0};
    parallel_for(context.threads(), count, [&](std::size_t k, std::size_t thread) {
        if (progress.interrupted()) return;
        task(k);
        const std::size_t finished = ++done;
        if (thread == 0) progress.set(finished); // the thread that called the library
    });
    if (progress.interrupted()) progress.throw_interrupted();
    progress.set(count);
}

/// Some rows of an array, with weights that sum to 1.
struct Rows {
    const Array<double>* data;
    std::vector<std::size_t> index; ///< empty: all rows
    std::vector<double> weight;     ///< empty: equal weights

    std::size_t size() const { return index.empty() ? data->rows() : index.size(); }
    std::size_t dimension() const { return data->cols(); }
    const double* operator[](std::size_t n) const { return data->row(index.empty() ? n : index[n]); }
    double mass(std::size_t n) const { return weight.empty() ? 1 / static_cast<double>(size()) : weight[n]; }
};

/// A one-dimensional empirical law: ascending values, each with its mass.
struct Law {
    std::vector<double> value, mass; ///< mass empty: equal

    double mass_of(std::size_t n) const {
        return mass.empty() ? 1 / static_cast<double>(value.size()) : mass[n];
    }
    /// Cumulated mass up to and including value n, given the one before; exactly 1 at the end.
    double cumulate(double before, std::size_t n) const {
        if (n + 1 == value.size()) return 1;
        return mass.empty() ? static_cast<double>(n + 1) / static_cast<double>(value.size())
                            : std::min(before + mass[n], 1.0);
    }
};

/// The law of the values f(row); `value` is any function of a row.
template <class F> Law law_of(const Rows& rows, const F& value) {
    Law law;
    const std::size_t count = rows.size();
    if (rows.weight.empty()) {
        law.value.resize(count);
        for (std::size_t n = 0; n < count; ++n) law.value[n] = value(rows[n]);
        std::sort(law.value.begin(), law.value.end());
        return law;
    }
    std::vector<std::pair<double, double>> pairs;
    pairs.reserve(count);
    for (std::size_t n = 0; n < count; ++n)
        if (rows.weight[n] > 0) pairs.emplace_back(value(rows[n]), rows.weight[n]);
    std::sort(pairs.begin(), pairs.end());
    for (const auto& [v, w] : pairs) law.value.push_back(v), law.mass.push_back(w);
    return law;
}

/// Integral over u in (0, 1) of |F^-1(u) - G^-1(u)|^power: W1 for power 1, W2^2 for power 2.
double quantile_distance(const Law& f, const Law& g, int power) {
    double sum = 0, lost = 0, u = 0; // compensated: millions of small terms
    std::size_t i = 0, j = 0;
    double end_f = f.cumulate(0, 0), end_g = g.cumulate(0, 0);
    for (;;) {
        const double next = std::min(end_f, end_g), gap = std::abs(f.value[i] - g.value[j]);
        const double term = (next - u) * (power == 1 ? gap : gap * gap) - lost;
        const double total = sum + term;
        lost = (total - sum) - term;
        sum = total;
        u = next;
        const bool step_f = end_f <= next && i + 1 < f.value.size(),
                   step_g = end_g <= next && j + 1 < g.value.size();
        if (!step_f && !step_g) return sum;
        if (step_f) ++i, end_f = f.cumulate(end_f, i);
        if (step_g) ++j, end_g = g.cumulate(end_g, j);
    }
}

double mean_of(const Law& law) {
    return pairwise_sum(0, law.value.size(), [&](std::size_t n) { return law.mass_of(n) * law.value[n]; });
}

double deviation_of(const Law& law) {
    const double mean = mean_of(law);
    return std::sqrt(pairwise_sum(0, law.value.size(), [&](std::size_t n) {
        return law.mass_of(n) * (law.value[n] - mean) * (law.value[n] - mean);
    }));
}

std::vector<double> histogram(const Law& law, double lo, double hi) {
    std::vector<double> mass(bins);
    for (std::size_t n = 0; n < law.value.size(); ++n) {
        const double place = (std::clamp(law.value[n], lo, hi) - lo) / (hi - lo) * static_cast<double>(bins);
        mass[std::min(static_cast<std::size_t>(place), bins - 1)] += law.mass_of(n);
    }
    return mass;
}

double total_variation(const Law& law, const Law& reference) {
    const double lo = reference.value.front(), hi = reference.value.back();
    if (!(hi > lo))
        return pairwise_sum(0, law.value.size(),
                            [&](std::size_t n) { return law.value[n] == lo ? 0.0 : law.mass_of(n); });
    const std::vector<double> p = histogram(law, lo, hi), q = histogram(reference, lo, hi);
    double sum = 0;
    for (std::size_t b = 0; b < bins; ++b) sum += std::abs(p[b] - q[b]);
    return sum / 2;
}

/// W1 in standard deviations of the reference.
double scaled_w1(const Law& law, const Law& reference) {
    const double distance = quantile_distance(law, reference, 1);
    const bool constant = reference.value.front() == reference.value.back();
    if (!constant) return distance / deviation_of(reference);
    return distance > 0 ? std::numeric_limits<double>::infinity() : 0.0;
}

double mean_of(const std::vector<double>& values) {
    return pairwise_sum(0, values.size(), [&](std::size_t n) { return values[n]; }) /
           static_cast<double>(values.size());
}

void put_marginals(const Context& context, const Rows& samples, const Rows& reference, Figures& out) {
    const std::size_t d = reference.dimension();
    std::vector<double> tv(d), w1(d);
    run_all(context, "marginals", d, [&](std::size_t i) {
        const auto column = [i](const double* x) { return x[i]; };
        const Law law = law_of(samples, column), law_ref = law_of(reference, column);
        tv[i] = total_variation(law, law_ref);
        w1[i] = scaled_w1(law, law_ref);
    });
    out.marginal_tv = mean_of(tv);
    out.marginal_w1 = mean_of(w1);
}

std::vector<double> random_direction(std::uint64_t seed, std::size_t number, std::size_t d) {
    std::vector<double> v(d + 3);
    for (std::size_t i = 0; i < d; i += 4) {
        const RandomWords r = philox(seed, Stream::projection, number, 0, static_cast<std::uint32_t>(i / 4));
        normal_pair(r.v[0], r.v[1], v[i], v[i + 1]);
        double third = 0, fourth = 0;
        normal_pair(r.v[2], r.v[3], third, fourth);
        if (i + 2 < d) v[i + 2] = third;
        if (i + 3 < d) v[i + 3] = fourth;
    }
    v.resize(d);
    double norm = 0;
    for (const double c : v) norm += c * c;
    for (double& c : v) c /= std::sqrt(norm);
    return v;
}

/// Row p of S = E[x x'] for p in [begin, end), columns p and up: sums over runs of 256 samples, then over
/// runs.
void moment_rows(const Rows& rows, std::size_t begin, std::size_t end, Array<double>& moments) {
    const std::size_t d = rows.dimension();
    Array<double> run(end - begin, d);
    for (std::size_t first = 0; first < rows.size(); first += 256) {
        const std::size_t last = std::min(first + 256, rows.size());
        std::fill(run.begin(), run.end(), 0.0);
        for (std::size_t n = first; n < last; ++n) {
            const double* x = rows[n];
            const double mass = rows.mass(n);
            if (mass == 0) continue; // its numbers may be anything
            for (std::size_t p = begin; p < end; ++p) {
                const double factor = mass * x[p];
                double* sum = run.row(p - begin);
                for (std::size_t q = p; q < d; ++q) sum[q] += factor * x[q];
            }
        }
        for (std::size_t p = begin; p < end; ++p)
            for (std::size_t q = p; q < d; ++q) moments(p, q) += run(p - begin, q);
    }
}

/// Upper triangle of S = E[x x'].
Array<double> second_moments(const Context& context, const Rows& rows) {
    const std::size_t d = rows.dimension(), group = 8, groups = (d + group - 1) / group;
    Array<double> moments(d, d);
    run_all(context, "moments", groups,
            [&](std::size_t g) { moment_rows(rows, g * group, std::min(d, (g + 1) * group), moments); });
    return moments;
}

/// The error of the second moments, and sqrt(tr S_ref / d), the length scale of the sliced distance.
double put_second_moments(const Context& context, const Rows& samples, const Rows& reference, Figures& out) {
    const Array<double> s = second_moments(context, samples), s_ref = second_moments(context, reference);
    const std::size_t d = reference.dimension();
    double error = 0, norm = 0, trace = 0;
    for (std::size_t p = 0; p < d; ++p) {
        trace += s_ref(p, p);
        for (std::size_t q = p; q < d; ++q) {
            const double times = p == q ? 1 : 2, difference = s(p, q) - s_ref(p, q);
            error += times * difference * difference, norm += times * s_ref(p, q) * s_ref(p, q);
        }
    }
    out.second_moment_error = error == 0 ? 0 : std::sqrt(error / norm);
    return std::sqrt(trace / static_cast<double>(d));
}

void put_sliced(const Context& context, const Rows& samples, const Rows& reference, double scale,
                std::uint64_t seed, Figures& out) {
    std::vector<double> squared(directions);
    run_all(context, "sliced", directions, [&](std::size_t k) {
        const std::vector<double> v = random_direction(seed, k, reference.dimension());
        const auto project = [&](const double* x) {
            double sum = 0;
            for (std::size_t i = 0; i < v.size(); ++i) sum += v[i] * x[i];
            return sum;
        };
        squared[k] = quantile_distance(law_of(samples, project), law_of(reference, project), 2);
    });
    const double distance = std::sqrt(mean_of(squared));
    out.sliced_w = distance == 0 ? 0 : distance / scale;
}

/// Mean and standard deviation of U.
std::pair<double, double> energy_moments(const Context& context, const Rows& rows, const Target& target) {
    const std::size_t count = rows.size(), d = rows.dimension(), block = 4096;
    std::vector<double> u(count), x(std::min(block, count) * d);
    const TargetEnergy energy(context, target);
    for (std::size_t first = 0; first < count; first += block) {
        const std::size_t taken = std::min(block, count - first);
        for (std::size_t n = 0; n < taken; ++n) std::copy_n(rows[first + n], d, x.data() + n * d);
        energy(taken, x.data(), u.data() + first);
    }
    const auto weighted = [&](auto term) {
        return pairwise_sum(
            0, count, [&](std::size_t n) { return rows.mass(n) > 0 ? rows.mass(n) * term(u[n]) : 0.0; });
    };
    const double mean = weighted([](double value) { return value; });
    return {mean, std::sqrt(weighted([mean](double value) { return (value - mean) * (value - mean); }))};
}

Figures measure(const Context& context, const Rows& samples, const Rows& reference, const Target* target,
                std::uint64_t seed) {
    Figures out;
    const double scale = put_second_moments(context, samples, reference, out);
    put_marginals(context, samples, reference, out);
    put_sliced(context, samples, reference, scale, seed, out);
    if (target && target->has_energy()) {
        const auto [mean, deviation] = energy_moments(context, samples, *target);
        const auto [mean_ref, deviation_ref] = energy_moments(context, reference, *target);
        out.energy_mean_error = (mean - mean_ref) / deviation_ref;
        out.energy_std_ratio = deviation / deviation_ref;
    }
    return out;
}

std::vector<double> normalised(std::span<const double> weights, std::size_t rows) {
    if (weights.empty()) return {};
    if (weights.size() != rows)
        throw Error(ErrorKind::usage, "compare: " + std::to_string(weights.size()) + " weights for " +
                                          std::to_string(rows) + " samples");
    for (const double w : weights)
        if (!(std::isfinite(w) && w >= 0))
            throw Error(ErrorKind::usage,
                        "compare: a weight is negative or not finite: " + std::to_string(w));
    const double sum = pairwise_sum(0, rows, [&](std::size_t n) { return weights[n]; });
    require(sum > 0 && std::isfinite(sum), ErrorKind::usage,
            "compare: the weights have no positive finite sum");
    std::vector<double> result(weights.begin(), weights.end());
    for (double& w : result) w /= sum;
    return result;
}

/// Throws when a row that counts holds a number that is not finite.
void check_finite(const Rows& rows, const char* name) {
    for (std::size_t n = 0; n < rows.size(); ++n)
        for (std::size_t i = 0; i < rows.dimension(); ++i)
            if (!std::isfinite(rows[n][i]) && rows.mass(n) > 0)
                throw Error(ErrorKind::input, std::string("compare: ") + name + ", row " + std::to_string(n) +
                                                  ", column " + std::to_string(i) + ": not a finite number");
}

void check(const Rows& samples, const Rows& reference, const Target* target) {
    const std::size_t d = reference.dimension();
    if (samples.dimension() != d || (target && target->dimension() != d))
        throw Error(
            ErrorKind::usage,
            "compare: samples of dimension " + std::to_string(samples.dimension()) +
                ", reference of dimension " + std::to_string(d) +
                (target ? ", target of dimension " + std::to_string(target->dimension()) : std::string()));
    if (samples.size() < 20 || reference.size() < 20)
        throw Error(ErrorKind::usage, "compare: at least 20 rows are needed, got " +
                                          std::to_string(samples.size()) + " samples and " +
                                          std::to_string(reference.size()) + " in the reference");
    check_finite(samples, "samples");
    check_finite(reference, "reference");
}

/// A random half of the rows, floor(m/2) of them, and the others (selection sampling: Knuth, vol. 2,
/// algorithm S).
std::pair<Rows, Rows> random_halves(const Array<double>& data, std::uint64_t seed) {
    std::pair<Rows, Rows> halves{{&data, {}, {}}, {&data, {}, {}}};
    std::size_t wanted = data.rows() / 2;
    for (std::size_t n = 0; n < data.rows(); ++n) {
        const double u = uniform(philox(seed, Stream::half_split, n, 0, 0).v[0]);
        const bool first = u * static_cast<double>(data.rows() - n) < static_cast<double>(wanted);
        (first ? halves.first : halves.second).index.push_back(n);
        wanted -= first;
    }
    return halves;
}

} // namespace

Figures figures(const Context& context, const Array<double>& samples, std::span<const double> weights,
                const Array<double>& reference, const Target* target, std::uint64_t seed) {
    const Rows rows{&samples, {}, normalised(weights, samples.rows())}, rows_ref{&reference, {}, {}};
    check(rows, rows_ref, target);
    return measure(context, rows, rows_ref, target, seed);
}

FiguresWithFloor compare(const Context& context, const Array<double>& samples,
                         std::span<const double> weights, const Array<double>& reference,
                         const Target* target, std::uint64_t seed) {
    FiguresWithFloor result;
    result.figures = figures(context, samples, weights, reference, target, seed);
    const auto [first, second] = random_halves(reference, seed);
    result.floor = measure(context, first, second, target, seed);
    return result;
}

} // namespace dynkin

// metrics.cpp - second moments, marginals, sliced Wasserstein distance and energies of samples against a
// reference.
#include "metrics.h"
#include "../kernels/device.h"
#include "../kernels/laws.h"
#include "../kernels/philox.h"
#include "error.h"
#include "metrics_measured.h"
#include "parallel.h"
#include "progress.h"
#include "summation.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace dynkin {
namespace {

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

/// A one-dimensional empirical law: ascending values, and the mass up to and including each.
struct Law {
    std::vector<double> value, cumulated; ///< cumulated empty: equal masses

    LawView view() const {
        return {value.size(), value.data(), cumulated.empty() ? nullptr : cumulated.data()};
    }
};

/// Masses become what is up to and including each, in the runs and groups of laws.h.
void cumulate(std::vector<double>& mass) {
    double before_group = 0;
    for (std::size_t n = 0; n < mass.size();) {
        double before_run = 0;
        for (std::size_t run = 0; run < law_run && n < mass.size(); ++run) {
            double sum = 0;
            for (std::size_t k = 0; k < law_run && n < mass.size(); ++k, ++n) {
                sum += mass[n];
                mass[n] = std::min(before_group + (before_run + sum), 1.0);
            }
            before_run += sum;
        }
        before_group += before_run;
    }
}

/// The law of the values f(row); `value` is any function of a row. Equal values stand in the order of their
/// rows.
template <class F> Law law_of(const Rows& rows, const F& value) {
    Law law;
    const std::size_t count = rows.size();
    law.value.resize(count);
    for (std::size_t n = 0; n < count; ++n) law.value[n] = value(rows[n]);
    if (rows.weight.empty()) {
        std::sort(law.value.begin(), law.value.end());
        return law;
    }
    std::vector<std::pair<double, double>> pairs(count);
    for (std::size_t n = 0; n < count; ++n) pairs[n] = {law.value[n], rows.weight[n]};
    std::stable_sort(pairs.begin(), pairs.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    law.cumulated.resize(count);
    for (std::size_t n = 0; n < count; ++n) std::tie(law.value[n], law.cumulated[n]) = pairs[n];
    cumulate(law.cumulated);
    return law;
}

double quantile_distance(const Law& f, const Law& g, int power) {
    const QuantilePieces pieces{f.view(), g.view(), power};
    return pairwise_runs(0, pieces.count(),
                         [&](std::size_t begin, std::size_t end) { return pieces.sum(begin, end); });
}

double deviation_of_equal(const std::vector<double>& values) {
    const std::size_t count = values.size();
    const double mass = 1 / static_cast<double>(count);
    const double mean = pairwise_sum(0, count, [&](std::size_t n) { return mass * values[n]; });
    return std::sqrt(pairwise_sum(0, count, [&](std::size_t n) {
        const double from = values[n] - mean;
        return mass * (from * from);
    }));
}

double total_variation(const LawView& law, const LawView& reference) {
    const double lo = reference.value[0], hi = reference.value[reference.size - 1];
    if (!(hi > lo)) return mass_elsewhere(law, lo);
    const auto mass_in = [=](const LawView& of, int bin) {
        return of.first(before_bin(of, lo, hi, bin + 1)) - of.first(before_bin(of, lo, hi, bin));
    };
    double sum = 0;
    for (int bin = 0; bin < law_bins; ++bin) sum += std::abs(mass_in(law, bin) - mass_in(reference, bin));
    return sum / 2;
}

void measure_marginals(const Context& context, const Rows& samples, const Rows& reference, Measured& out) {
    const std::size_t d = reference.dimension();
    out.total_variation.resize(d), out.w1.resize(d);
    run_all(context, "marginals", d, [&](std::size_t i) {
        const auto column = [i](const double* x) { return x[i]; };
        const Law law = law_of(samples, column), law_ref = law_of(reference, column);
        out.total_variation[i] = total_variation(law.view(), law_ref.view());
        out.w1[i] = scaled_w1(quantile_distance(law, law_ref, 1), deviation_of_equal(law_ref.value),
                              law_ref.value.front() == law_ref.value.back());
    });
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

void measure_slices(const Context& context, const Rows& samples, const Rows& reference, std::uint64_t seed,
                    Measured& out) {
    const Array<double> directions = random_directions(seed, reference.dimension());
    out.w2_squared.resize(slice_directions);
    run_all(context, "sliced", slice_directions, [&](std::size_t k) {
        const double* v = directions.row(k);
        const auto project = [&](const double* x) {
            double sum = 0;
            for (std::size_t i = 0; i < directions.cols(); ++i) sum += v[i] * x[i];
            return sum;
        };
        out.w2_squared[k] = quantile_distance(law_of(samples, project), law_of(reference, project), 2);
    });
}

EnergyMoments measure_energy(const Context& context, const Rows& rows, const Target& target) {
    const std::size_t count = rows.size(), d = rows.dimension(), block = 4096;
    std::vector<double> u(count), x(std::min(block, count) * d);
    const TargetEnergy energy(context, target);
    for (std::size_t first = 0; first < count; first += block) {
        const std::size_t taken = std::min(block, count - first);
        for (std::size_t n = 0; n < taken; ++n) std::copy_n(rows[first + n], d, x.data() + n * d);
        energy(taken, x.data(), u.data() + first);
    }
    const double mean = pairwise_sum(0, count, [&](std::size_t n) { return rows.mass(n) * u[n]; });
    return {mean, std::sqrt(pairwise_sum(0, count, [&](std::size_t n) {
                const double from = u[n] - mean;
                return rows.mass(n) * (from * from);
            }))};
}

Measured measure_on_cpu(const Context& context, const Rows& samples, const Rows& reference,
                        const Target* target, std::uint64_t seed) {
    Measured out;
    out.moments = second_moments(context, samples);
    out.moments_reference = second_moments(context, reference);
    measure_marginals(context, samples, reference, out);
    measure_slices(context, samples, reference, seed, out);
    if (target && target->has_energy()) {
        out.energy = measure_energy(context, samples, *target);
        out.energy_reference = measure_energy(context, reference, *target);
    }
    return out;
}

/// The error of the second moments, and sqrt(tr S_ref / d), the length scale of the sliced distance.
double put_second_moments(const Array<double>& s, const Array<double>& s_ref, Figures& out) {
    const std::size_t d = s.cols();
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

double mean_of(const std::vector<double>& values) {
    return pairwise_sum(0, values.size(), [&](std::size_t n) { return values[n]; }) /
           static_cast<double>(values.size());
}

Measured measure_rows(const Context& context, const Rows& samples, const Rows& reference,
                      const Target* target, std::uint64_t seed) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return measure_on_device(context, samples, reference, target, seed);
    return measure_on_cpu(context, samples, reference, target, seed);
}

Figures measure(const Context& context, const Rows& samples, const Rows& reference, const Target* target,
                std::uint64_t seed) {
    const Measured measured = measure_rows(context, samples, reference, target, seed);
    Figures out;
    const double scale = put_second_moments(measured.moments, measured.moments_reference, out);
    out.marginal_tv = mean_of(measured.total_variation);
    out.marginal_w1 = mean_of(measured.w1);
    const double distance = std::sqrt(mean_of(measured.w2_squared));
    out.sliced_w = distance == 0 ? 0 : distance / scale;
    if (target && target->has_energy()) {
        out.energy_mean_error =
            (measured.energy.mean - measured.energy_reference.mean) / measured.energy_reference.deviation;
        out.energy_std_ratio = measured.energy.deviation / measured.energy_reference.deviation;
    }
    return out;
}

/// The rows of positive weight, which the others' numbers may be anything beside.
Rows weighted_rows(const Array<double>& data, std::span<const double> weights) {
    if (weights.empty()) return {&data, {}, {}};
    if (weights.size() != data.rows())
        throw Error(ErrorKind::usage, "compare: " + std::to_string(weights.size()) + " weights for " +
                                          std::to_string(data.rows()) + " samples");
    for (const double w : weights)
        if (!(std::isfinite(w) && w >= 0))
            throw Error(ErrorKind::usage,
                        "compare: a weight is negative or not finite: " + std::to_string(w));
    const double sum = pairwise_sum(0, weights.size(), [&](std::size_t n) { return weights[n]; });
    require(sum > 0 && std::isfinite(sum), ErrorKind::usage,
            "compare: the weights have no positive finite sum");
    Rows rows{&data, {}, {}};
    for (std::size_t n = 0; n < weights.size(); ++n)
        if (weights[n] / sum > 0) rows.index.push_back(n), rows.weight.push_back(weights[n] / sum);
    return rows;
}

void check_finite(const Rows& rows, const char* name) {
    for (std::size_t n = 0; n < rows.size(); ++n)
        for (std::size_t i = 0; i < rows.dimension(); ++i)
            if (!std::isfinite(rows[n][i]))
                throw Error(ErrorKind::input, std::string("compare: ") + name + ", row " +
                                                  std::to_string(rows.index.empty() ? n : rows.index[n]) +
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
    const std::size_t count = samples.data->rows();
    if (count < 20 || reference.size() < 20)
        throw Error(ErrorKind::usage, "compare: at least 20 rows are needed, got " + std::to_string(count) +
                                          " samples and " + std::to_string(reference.size()) +
                                          " in the reference");
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

Array<double> random_directions(std::uint64_t seed, std::size_t d) {
    Array<double> directions(slice_directions, d);
    std::vector<double> v(d + 3);
    for (std::size_t k = 0; k < slice_directions; ++k) {
        for (std::size_t i = 0; i < d; i += 4) {
            const RandomWords r = philox(seed, Stream::projection, k, 0, static_cast<std::uint32_t>(i / 4));
            normal_pair(r.v[0], r.v[1], v[i], v[i + 1]);
            double third = 0, fourth = 0;
            normal_pair(r.v[2], r.v[3], third, fourth);
            if (i + 2 < d) v[i + 2] = third;
            if (i + 3 < d) v[i + 3] = fourth;
        }
        double norm = 0;
        for (std::size_t i = 0; i < d; ++i) norm += v[i] * v[i];
        for (std::size_t i = 0; i < d; ++i) directions(k, i) = v[i] / std::sqrt(norm);
    }
    return directions;
}

double scaled_w1(double distance, double deviation, bool constant) {
    if (!constant) return distance / deviation;
    return distance > 0 ? std::numeric_limits<double>::infinity() : 0.0;
}

Figures figures(const Context& context, const Array<double>& samples, std::span<const double> weights,
                const Array<double>& reference, const Target* target, std::uint64_t seed) {
    const Rows rows = weighted_rows(samples, weights), rows_ref{&reference, {}, {}};
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

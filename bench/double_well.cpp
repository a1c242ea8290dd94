// double_well.cpp - figures of a double well by densities on a grid, without sampling, as CSV for
// scripts/picture. `gap`: what the gap of local laws costs where the noise grows along the schedule of
// diffusion models, gaps constant in intrinsic time beside gaps constant in time. `entropy`: the entropy
// production rate.
#include "engine/local_dsm.h"
#include "tests/fokker_planck.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <string_view>
#include <vector>

namespace {

using dynkin::oracle::Grid, std::size_t;

// dX = b f(X) dt + sqrt(2 b) dW with b(t) = 0.1 + 19.9 t, 0 < t < 1: the process with f and sqrt(2) in the
// time of its clock, the integral of b. Intrinsic time is twice that.
double clock_at(double t) { return 0.1 * t + 9.95 * t * t; }
double time_at(double clock) { return (std::sqrt(0.01 + 39.8 * clock) - 0.1) / 19.9; }
double well(double x) { return -4 * x * (x * x - 1); }

constexpr Grid grid{-2.8, 2.8, 801};

/// E[X(gap) | X(0) = x]: u' = L u, by Crank and Nicolson.
std::vector<double> means(double gap) {
    const auto rates = dynkin::oracle::rates(grid, well, 1);
    const size_t n = grid.n;
    const auto up = [&](size_t i) { return i + 1 < n ? rates.up[i] : 0; };
    const auto down = [&](size_t i) { return i > 0 ? rates.down[i - 1] : 0; };
    std::vector<double> u(n), above(n), value(n);
    for (size_t i = 0; i < n; ++i) u[i] = grid.at(i);
    const int steps = 40;
    const double half = gap / steps / 2;
    for (int step = 0; step < steps; ++step) {
        for (size_t i = 0; i < n; ++i) {
            double flow = -(up(i) + down(i)) * u[i];
            if (i + 1 < n) flow += up(i) * u[i + 1];
            if (i > 0) flow += down(i) * u[i - 1];
            double pivot = 1 + half * (up(i) + down(i)), right = u[i] + half * flow;
            if (i > 0) pivot -= half * down(i) * above[i - 1], right += half * down(i) * value[i - 1];
            above[i] = half * up(i) / pivot, value[i] = right / pivot;
        }
        for (size_t i = n; i-- > 0;) u[i] = value[i] + (i + 1 < n ? above[i] * u[i + 1] : 0);
    }
    return u;
}

struct Errors {
    double mean = 0;  ///< rms of (local mean - mean)/(local standard deviation)
    double score = 0; ///< of the mixture of local laws, relative to the rms score
};

Errors errors(const std::vector<double>& before, const std::vector<double>& after, double gap) {
    const auto process = dynkin::drift_process(dynkin::DoubleWellDrift{}, {std::numbers::sqrt2});
    const std::vector<double> exact_mean = means(gap),
                              exact = dynkin::oracle::log_slope(after.data(), grid.n, grid.h());
    std::vector<double> density(grid.n), slope(grid.n);
    Errors out;
    for (size_t j = 0; j < grid.n; ++j) {
        const double y = grid.at(j);
        const auto law = dynkin::local_gaussian(process, &y, gap, dynkin::Linearisation::linear);
        const double off = (law.mean[0] - exact_mean[j]) / law.factor[0];
        out.mean += before[j] * grid.h() * off * off;
        for (size_t i = 0; i < grid.n; ++i) {
            const double u = (grid.at(i) - law.mean[0]) / law.factor[0];
            if (std::abs(u) > 12) continue;
            const double weight = before[j] * std::exp(-u * u / 2) / law.factor[0];
            density[i] += weight, slope[i] -= weight * u / law.factor[0];
        }
    }
    const double most = *std::max_element(after.begin(), after.end());
    double size = 0;
    for (size_t i = 0; i < grid.n; ++i) {
        if (after[i] < 1e-7 * most) continue;
        const double difference = slope[i] / density[i] - exact[i];
        out.score += after[i] * difference * difference, size += after[i] * exact[i] * exact[i];
    }
    return {std::sqrt(out.mean), std::sqrt(out.score / size)};
}

using Density = std::vector<double>;

/// A quarter of the mass in N(-1.2, 0.25^2), the rest in N(0.8, 0.35^2).
Density start() {
    Density p(grid.n);
    for (size_t i = 0; i < grid.n; ++i) {
        const double u = (grid.at(i) + 1.2) / 0.25, v = (grid.at(i) - 0.8) / 0.35;
        p[i] = std::exp(-u * u / 2) / 0.25 + 3 * std::exp(-v * v / 2) / 0.35;
    }
    dynkin::oracle::normalise(p, grid.h());
    return p;
}

Density carried(const Density& p, double from, double to) {
    if (to <= from) return p;
    return dynkin::oracle::density_1d(grid, well, 1, p, to - from,
                                      std::max(20, static_cast<int>((to - from) * 1000)));
}

void print_gaps() {
    const Density first = start();
    std::puts("schedule,lambda,t,s,mean,score");
    for (const double lambda : {0.02, 0.1}) {
        const double of_clock = lambda / 2, of_time = of_clock / clock_at(1); // the same on average
        for (const bool intrinsic : {true, false})
            for (int k = 1; k <= 50; ++k) {
                const double t = 0.02 * k, clock = clock_at(t),
                             s = intrinsic ? time_at(std::max(clock - of_clock, 0.0))
                                           : std::max(t - of_time, 0.0);
                const Density before = carried(first, 0, clock_at(s)),
                              after = carried(before, clock_at(s), clock);
                const Errors e = errors(before, after, clock - clock_at(s));
                std::printf("%s,%g,%.4f,%.6f,%.5f,%.5f\n", intrinsic ? "intrinsic" : "time", lambda, t, s,
                            e.mean, e.score);
            }
    }
}

/// E[(f - d log p / dx)^2], of noise sqrt(2).
void print_entropy() {
    Density p = start();
    double at = 0;
    std::puts("t,rate");
    for (int k = 0; k <= 60; ++k) {
        const double t = 0.002 * std::pow(1000.0, k / 60.0);
        p = carried(p, at, t), at = t;
        const Density slope = dynkin::oracle::log_slope(p.data(), grid.n, grid.h());
        double rate = 0;
        for (size_t i = 0; i < grid.n; ++i)
            if (p[i] > 1e-12) rate += p[i] * grid.h() * std::pow(well(grid.at(i)) - slope[i], 2);
        std::printf("%.6f,%.6f\n", t, rate);
    }
}

} // namespace

int main(int count, char** arguments) {
    const std::string_view what = count == 2 ? arguments[1] : "";
    if (what == "gap") return print_gaps(), 0;
    if (what == "entropy") return print_entropy(), 0;
    std::fputs("usage: bench_double_well gap|entropy\n", stderr);
    return 2;
}

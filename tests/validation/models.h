// models.h - the path from a target to a fitted model and its samples, and what the validation tests measure
// on them.
#pragma once
#include "engine/fit.h"
#include "engine/mcmc.h"
#include "engine/metrics.h"
#include "engine/sampler.h"
#include "engine/weigh.h"
#include "record.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <unistd.h>
#include <vector>

namespace dynkin::validation {

/// A figure that no bar judges, such as a floor or a sample size: printed, and logged like the others.
inline void note(const std::string& name, std::uint64_t seed, const std::string& figure, double value) {
    std::printf("%s, seed %u: %s = %.6g\n", name.c_str(), static_cast<unsigned>(seed), figure.c_str(), value);
    if (const char* log = std::getenv("DYNKIN_VALIDATION_LOG")) {
        const nlohmann::ordered_json line = {{"name", name},
                                             {"seed", seed},
                                             {"figure", figure},
                                             {"value", value},
                                             {"comparison", "reported"},
                                             {"bar", nullptr},
                                             {"pass", true},
                                             {"scale", scale()}};
        std::ofstream(log, std::ios::app) << line.dump() + "\n" << std::flush;
    }
}

/// The figures of one case under one name and seed.
struct Ledger {
    std::string name;
    std::uint64_t seed = 0;

    void at_most(const std::string& figure, double value, double bar) const {
        std::printf("%s, seed %u: %s = %.6g (<= %g)\n", name.c_str(), static_cast<unsigned>(seed),
                    figure.c_str(), value, bar);
        record(name, seed, figure, value, "<=", bar);
    }
    void at_least(const std::string& figure, double value, double bar) const {
        std::printf("%s, seed %u: %s = %.6g (>= %g)\n", name.c_str(), static_cast<unsigned>(seed),
                    figure.c_str(), value, bar);
        record(name, seed, figure, value, ">=", bar);
    }
    void reported(const std::string& figure, double value) const { note(name, seed, figure, value); }
};

/// A folder for the .npy files that fit() reads; goes away with its contents.
class Folder {
  public:
    Folder()
        : path_(std::filesystem::temp_directory_path() /
                ("dynkin_validation_" + std::to_string(::getpid()))) {
        std::filesystem::create_directories(path_);
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

  private:
    std::filesystem::path path_;
};

/// `count` samples of a law that can be drawn directly.
inline Array<double> direct(const Context& context, const Target& target, std::size_t count,
                            std::uint64_t seed) {
    Array<double> x(count, target.dimension());
    draw_direct(context, target, seed, 0, count, x.data());
    return x;
}

/// `count` samples by Hamiltonian Monte Carlo, in `path`.
inline McmcReport draw_file(const Context& context, const Target& target, std::size_t count,
                            std::uint64_t seed, const std::filesystem::path& path) {
    McmcOptions options;
    options.samples = count, options.seed = seed;
    NpyWriter output(path, {count, target.dimension()}, 8);
    const McmcReport report = run_mcmc(context, target, options, output);
    output.commit();
    return report;
}

/// The options that `dynkin fit --target` resolves to.
inline FitOptions options_for(const Target& target) {
    FitOptions options;
    if (const Lattice* lattice = target.lattice())
        options.lattice = *lattice, options.reflection_symmetric = true;
    options.known_even = target.even();
    return options;
}

struct Generated {
    Array<double> x;
    std::vector<double> log_density; ///< empty for the SDE
    SampleReport report;
};

inline Generated generate(const Context& context, const Model& model, std::size_t count,
                          const SampleOptions& options) {
    Samples samples = sample(context, model, count, options);
    Generated out{Array<double>(count, samples.rows.cols()), std::move(samples.log_density), samples.report};
    std::copy(samples.rows.begin(), samples.rows.end(), out.x.begin());
    return out;
}

/// Weights of ODE samples for the target.
inline Weights weigh(const Context& context, const Target& target, const Generated& samples) {
    std::vector<double> log_weight(samples.x.rows());
    energy(context, target, samples.x.rows(), samples.x.data(), log_weight.data());
    for (std::size_t n = 0; n < log_weight.size(); ++n)
        log_weight[n] = std::isfinite(samples.log_density[n]) ? -log_weight[n] - samples.log_density[n]
                                                              : -std::numeric_limits<double>::infinity();
    return importance_weights(log_weight);
}

/// Second moments E[x x'] uncentred, and mean and standard deviation of the energy.
struct Truth {
    Array<double> second_moments;
    double energy_mean = 0, energy_sd = 1;
};

inline Truth truth_of(const Context& context, const Target* target, const Array<double>& x) {
    const std::size_t n = x.rows(), d = x.cols();
    Truth truth{Array<double>(d, d)};
    for (std::size_t k = 0; k < n; ++k)
        for (std::size_t i = 0; i < d; ++i)
            for (std::size_t j = 0; j < d; ++j)
                truth.second_moments(i, j) += x(k, i) * x(k, j) / static_cast<double>(n);
    if (!target) return truth;
    std::vector<double> u(n);
    energy(context, *target, n, x.data(), u.data());
    double mean = 0, square = 0;
    for (const double v : u) mean += v / static_cast<double>(n);
    for (const double v : u) square += (v - mean) * (v - mean) / static_cast<double>(n);
    truth.energy_mean = mean, truth.energy_sd = std::sqrt(square);
    return truth;
}

/// |S - S_true|_F / |S_true|_F.
inline double second_moment_error(const Truth& truth, const Truth& exact) {
    double error = 0, norm = 0;
    for (std::size_t k = 0; k < exact.second_moments.size(); ++k) {
        error += std::pow(truth.second_moments[k] - exact.second_moments[k], 2);
        norm += std::pow(exact.second_moments[k], 2);
    }
    return std::sqrt(error / norm);
}

/// Difference of the mean energies in exact standard deviations.
inline double energy_error(const Truth& truth, const Truth& exact) {
    return std::abs(truth.energy_mean - exact.energy_mean) / exact.energy_sd;
}

} // namespace dynkin::validation

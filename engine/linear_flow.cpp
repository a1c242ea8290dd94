// linear_flow.cpp - score, densities and samples of a model of a linear process.
#include "../kernels/elementary.h"
#include "../kernels/philox.h"
#include "../kernels/score.h"
#include "error.h"
#include "linear.h"
#include "matrix_exponential.h"
#include "parallel.h"
#include "random.h"
#include <algorithm>
#include <atomic>
#include <cblas.h>
#include <cmath>
#include <lapacke.h>
#include <limits>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Array<double> multiply(const Array<double>& a, bool transpose_a, const Array<double>& b, bool transpose_b) {
    const int d = static_cast<int>(a.rows());
    Array<double> c(a.rows(), a.rows());
    cblas_dgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, d, d, d, 1, a.data(), d, b.data(), d, 0, c.data(),
                d);
    return c;
}

/// The times of the steps and those halfway between them.
std::vector<double> with_middles(const std::vector<double>& times) {
    std::vector<double> out = {times.front()};
    for (size_t k = 0; k + 1 < times.size(); ++k)
        out.push_back(0.5 * (times[k] + times[k + 1])), out.push_back(times[k + 1]);
    return out;
}

std::vector<LinearState> states_at(const Context& context, const LinearField& field,
                                   const std::vector<double>& times) {
    std::vector<LinearState> states(times.size());
    parallel_for(context.threads(), times.size(), [&](size_t k, size_t) { states[k] = field.at(times[k]); });
    return states;
}

/// One step of the classical Runge-Kutta method for dz = f dt and for the integral of div f, from state a
/// over b to c.
double runge_kutta(const LinearField& field, double dt, const LinearState& a, const LinearState& b,
                   const LinearState& c, double* z, double* work) {
    const size_t d = field.dimension();
    double *f1 = work, *f2 = f1 + d, *f3 = f2 + d, *f4 = f3 + d, *trial = f4 + d, *rest = trial + d;
    const double v1 = field.velocity(a, z, f1, rest);
    for (size_t j = 0; j < d; ++j) trial[j] = z[j] + 0.5 * dt * f1[j];
    const double v2 = field.velocity(b, trial, f2, rest);
    for (size_t j = 0; j < d; ++j) trial[j] = z[j] + 0.5 * dt * f2[j];
    const double v3 = field.velocity(b, trial, f3, rest);
    for (size_t j = 0; j < d; ++j) trial[j] = z[j] + dt * f3[j];
    const double v4 = field.velocity(c, trial, f4, rest);
    for (size_t j = 0; j < d; ++j) z[j] += dt / 6 * (f1[j] + 2 * f2[j] + 2 * f3[j] + f4[j]);
    return dt / 6 * (v1 + 2 * v2 + 2 * v3 + v4);
}

/// log N(z; mean, factor factor')
double log_normal(const LinearState& state, const double* z) {
    double square = 0;
    for (size_t i = 0; i < state.mean.size(); ++i) {
        double y = 0;
        for (size_t j = 0; j <= i; ++j) y += state.inverse(i, j) * (z[j] - state.mean[j]);
        square += y * y;
    }
    return -0.5 * square - state.log_normaliser;
}

double log_scales(const Model& model) {
    double sum = 0;
    for (double scale : model.standardization.scale) sum += std::log(scale);
    return sum;
}

} // namespace

LinearSampler::LinearSampler(const Context& context, const Model& model, const SampleOptions& options)
    : context_(context), model_(model), options_(options), field_(model) {
    times_ = model.linear->step_times(options.steps ? options.steps : default_steps(model, options.method));
    if (options.method == Method::ode) {
        states_ = states_at(context, field_, with_middles(times_));
        return;
    }
    states_ = states_at(context, field_, times_);
    const size_t d = field_.dimension();
    const int n = static_cast<int>(d);
    for (size_t k = 0; k + 1 < times_.size(); ++k) {
        // The normal laws are those of one linear equation: z before given z after is normal.
        Array<double> scaled = field_.equation().drift;
        for (double& x : scaled) x *= times_[k + 1] - times_[k];
        const Array<double> forward = matrix_exponential(scaled);
        const Array<double> covariance = multiply(states_[k].factor, false, states_[k].factor, true);
        const Array<double> cross = multiply(covariance, false, forward, true); // C_s E'
        Step step{multiply(multiply(cross, false, states_[k + 1].inverse, true), false,
                           states_[k + 1].inverse, false),
                  covariance};
        const Array<double> explained = multiply(step.gain, false, cross, true);
        for (size_t i = 0; i < step.factor.size(); ++i) step.factor[i] -= explained[i];
        for (size_t i = 0; i < d; ++i)
            for (size_t j = i + 1; j < d; ++j) step.factor(i, j) = 0;
        require(LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', n, step.factor.data(), n) == 0, ErrorKind::numerical,
                "linear process: the law of a step backwards is not positive definite: expected fewer steps");
        steps_.push_back(std::move(step));
    }
}

/// z from the normal law at the end of the times, and its log density.
double LinearSampler::start(std::uint64_t particle, double* z) const {
    const LinearState& last = states_.back();
    const size_t d = field_.dimension();
    std::vector<double> normal(d + 1);
    for (size_t j = 0; j < d; j += 2) {
        const RandomWords w =
            philox(options_.seed, Stream::sampler_start, particle, 0, static_cast<std::uint32_t>(j / 2));
        normals_from_uniforms(uniform(w.v[0]), uniform(w.v[1]), normal[j], normal[j + 1]);
    }
    for (size_t i = 0; i < d; ++i) {
        z[i] = last.mean[i];
        for (size_t j = 0; j <= i; ++j) z[i] += last.factor(i, j) * normal[j];
    }
    return log_normal(last, z);
}

/// Strang splitting: the drift D grad h for dt, the normal law's step backwards, the drift again.
void LinearSampler::diffuse(std::uint64_t particle, double* z, double* work) const {
    const size_t d = field_.dimension();
    double *g = work, *moved = g + d, *normal = moved + d, *rest = normal + d + 1;
    const auto drift = [&](const LinearState& state, double dt) {
        field_.gradient(state, z, g, rest);
        for (size_t i = 0; i < d; ++i)
            for (size_t j = 0; j < d; ++j) z[i] += dt * field_.equation().diffusion(i, j) * g[j];
    };
    for (size_t k = times_.size() - 1; k > 0; --k) {
        const double dt = times_[k] - times_[k - 1];
        drift(states_[k], dt);
        for (size_t j = 0; j < d; j += 2) {
            const RandomWords w = philox(options_.seed, Stream::sampler_noise, particle,
                                         static_cast<std::uint32_t>(k), static_cast<std::uint32_t>(j / 2));
            normals_from_uniforms(uniform(w.v[0]), uniform(w.v[1]), normal[j], normal[j + 1]);
        }
        for (size_t i = 0; i < d; ++i) {
            moved[i] = states_[k - 1].mean[i];
            for (size_t j = 0; j < d; ++j)
                moved[i] += steps_[k - 1].gain(i, j) * (z[j] - states_[k].mean[j]) +
                            (j <= i ? steps_[k - 1].factor(i, j) * normal[j] : 0);
        }
        std::copy_n(moved, d, z);
        drift(states_[k - 1], dt);
    }
}

void LinearSampler::generate(size_t first, Array<float>& x, Array<double>& log_density, Progress& progress) {
    const size_t d = field_.dimension();
    const auto& [mean, scale] = model_.standardization;
    Array<double> space(static_cast<size_t>(context_.threads()), field_.work() + 9 * d + 1);
    std::atomic<size_t> done{0};
    parallel_for(context_.threads(), x.rows(), [&](size_t tile, size_t thread) {
        if (context_.interrupt_signal()) return;
        double *z = space.row(thread), *work = z + d;
        for (size_t p = 0; p < kScoreTile; ++p) {
            const std::uint64_t particle = first + tile * kScoreTile + p;
            double log_q = start(particle, z);
            if (options_.method == Method::sde)
                diffuse(particle, z, work);
            else {
                for (size_t k = times_.size() - 1; k > 0; --k)
                    log_q -= runge_kutta(field_, times_[k - 1] - times_[k], states_[2 * k],
                                         states_[2 * k - 1], states_[2 * k - 2], z, work);
                log_density(tile, p) = log_q - log_scales(model_);
            }
            for (size_t j = 0; j < d; ++j)
                x(tile, j * kScoreTile + p) = static_cast<float>(mean[j] + scale[j] * z[j]);
        }
        done += kScoreTile;
        if (thread == 0) progress.set(first + done);
    });
    if (progress.interrupted()) progress.throw_interrupted();
}

std::vector<double> linear_density(const Context& context, const Model& model, size_t count, const double* x,
                                   int steps) {
    const LinearField field(model);
    const size_t d = field.dimension();
    const std::vector<double> times = model.linear->step_times(steps);
    const std::vector<LinearState> states = states_at(context, field, with_middles(times));
    const auto& [mean, scale] = model.standardization;
    std::vector<double> out(count);
    Array<double> space(static_cast<size_t>(context.threads()), field.work() + 9 * d + 1);
    parallel_for(context.threads(), (count + kScoreTile - 1) / kScoreTile, [&](size_t tile, size_t thread) {
        if (context.interrupt_signal()) return;
        double *z = space.row(thread), *work = z + d;
        for (size_t n = tile * kScoreTile; n < std::min(count, (tile + 1) * kScoreTile); ++n) {
            for (size_t j = 0; j < d; ++j) z[j] = (x[n * d + j] - mean[j]) / scale[j];
            double log_q = -log_scales(model);
            for (size_t k = 0; k + 1 < times.size(); ++k)
                log_q += runge_kutta(field, times[k + 1] - times[k], states[2 * k], states[2 * k + 1],
                                     states[2 * k + 2], z, work);
            log_q += log_normal(states.back(), z);
            out[n] = std::isfinite(log_q) ? log_q : -kInfinity;
        }
    });
    if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    return out;
}

void linear_score(const Context& context, const Model& model, double t, size_t count, const double* x,
                  double* out) {
    const LinearField field(model);
    const LinearState state = field.at(t);
    const size_t d = field.dimension();
    const auto& [mean, scale] = model.standardization;
    Array<double> space(static_cast<size_t>(context.threads()), field.work() + d);
    parallel_for(context.threads(), (count + kScoreTile - 1) / kScoreTile, [&](size_t tile, size_t thread) {
        double *z = space.row(thread), *work = z + d;
        for (size_t n = tile * kScoreTile; n < std::min(count, (tile + 1) * kScoreTile); ++n) {
            for (size_t j = 0; j < d; ++j) z[j] = (x[n * d + j] - mean[j]) / scale[j];
            field.score(state, z, out + n * d, work);
            for (size_t j = 0; j < d; ++j) out[n * d + j] /= scale[j];
        }
    });
}

} // namespace dynkin

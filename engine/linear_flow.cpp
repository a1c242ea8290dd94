// linear_flow.cpp - score, densities and samples of a model of a linear process.
#include "../kernels/score.h"
#include "device_linear.h"
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

} // namespace

double log_scales(const Model& model) {
    double sum = 0;
    for (double scale : model.standardization.scale) sum += std::log(scale);
    return sum;
}

LinearSampler::LinearSampler(const Context& context, const Model& model, const SampleOptions& options)
    : context_(context), model_(model), options_(options), field_(model) {
    times_ = model.linear->step_times(options.steps ? options.steps : default_steps(model, options.method));
    if (options.method == Method::ode) {
        states_ = field_.at(context, with_middles(times_));
        return;
    }
    states_ = field_.at(context, times_);
    const size_t d = field_.dimension();
    const int n = static_cast<int>(d);
    for (size_t k = 0; k + 1 < times_.size(); ++k) {
        // The normal laws are those of one linear equation: z before given z after is normal.
        Array<double> scaled = field_.equation().drift;
        for (double& x : scaled) x *= times_[k + 1] - times_[k];
        const Array<double> forward = matrix_exponential(scaled);
        const Array<double> covariance = multiply(states_[k].factor, false, states_[k].factor, true);
        const Array<double> cross = multiply(covariance, false, forward, true); // C_s E'
        LinearStepMatrices step{multiply(multiply(cross, false, states_[k + 1].inverse, true), false,
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

void LinearSampler::generate_on_device(size_t first, Array<float>& x, Array<double>& log_density,
                                       Progress& progress) {
    if (!device_) {
        device_ = std::make_shared<DeviceLinear>(context_, model_, field_, times_, states_);
        device_->take_steps(steps_);
    }
    device_->draw(options_.method, options_.seed, first, x, log_density, progress);
}

void LinearSampler::generate(size_t first, Array<float>& x, Array<double>& log_density, Progress& progress) {
    if constexpr (built_with_cuda)
        if (context_.device() == Device::cuda) return generate_on_device(first, x, log_density, progress);
    const size_t d = field_.dimension();
    const auto& [mean, scale] = model_.standardization;
    const kernels::LinearModel field = field_.model();
    const auto law = [&](size_t k) { return states_[k].law(); };
    Array<double> space(static_cast<size_t>(context_.threads()), field_.work() + d);
    std::atomic<size_t> done{0};
    parallel_for(context_.threads(), x.rows(), [&](size_t tile, size_t thread) {
        if (context_.interrupt_signal()) return;
        double *z = space.row(thread), *work = z + d;
        for (size_t p = 0; p < kScoreTile; ++p) {
            const std::uint64_t particle = first + tile * kScoreTile + p;
            double log_q =
                kernels::linear_start(field, states_.back().law(), options_.seed, particle, z, work);
            for (size_t k = times_.size() - 1; k > 0; --k)
                if (options_.method == Method::sde)
                    kernels::step_backwards(field, times_[k] - times_[k - 1], law(k), law(k - 1),
                                            steps_[k - 1].step(), options_.seed, particle,
                                            static_cast<std::uint32_t>(k), z, work);
                else
                    log_q -= kernels::runge_kutta(
                        field, times_[k - 1] - times_[k],
                        [&](int n) { return law(2 * k - static_cast<size_t>(n)); }, z, work);
            if (options_.method == Method::ode) log_density(tile, p) = log_q - log_scales(model_);
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
    const std::vector<LinearState> states = field.at(context, with_middles(times));
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return DeviceLinear(context, model, field, times, states).log_density(count, x);
    const auto& [mean, scale] = model.standardization;
    const kernels::LinearModel formulas = field.model();
    std::vector<double> out(count);
    Array<double> space(static_cast<size_t>(context.threads()), field.work() + d);
    parallel_for(context.threads(), (count + kScoreTile - 1) / kScoreTile, [&](size_t tile, size_t thread) {
        if (context.interrupt_signal()) return;
        double *z = space.row(thread), *work = z + d;
        for (size_t n = tile * kScoreTile; n < std::min(count, (tile + 1) * kScoreTile); ++n) {
            for (size_t j = 0; j < d; ++j) z[j] = (x[n * d + j] - mean[j]) / scale[j];
            double log_q = -log_scales(model);
            for (size_t k = 0; k + 1 < times.size(); ++k)
                log_q += kernels::runge_kutta(
                    formulas, times[k + 1] - times[k],
                    [&](int n) { return states[2 * k + static_cast<size_t>(n)].law(); }, z, work);
            log_q += kernels::log_normal(formulas, states.back().law(), z);
            out[n] = std::isfinite(log_q) ? log_q : -kInfinity;
        }
    });
    if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    return out;
}

void linear_score(const Context& context, const Model& model, double t, size_t count, const double* x,
                  double* out) {
    const LinearField field(model);
    const LinearState state = field.at(context, t);
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return DeviceLinear(context, model, field, {t}, {state}).score(count, x, out);
    const size_t d = field.dimension();
    const auto& [mean, scale] = model.standardization;
    const kernels::LinearModel formulas = field.model();
    const kernels::LinearLaw law = state.law();
    Array<double> space(static_cast<size_t>(context.threads()), field.work() + d);
    parallel_for(context.threads(), (count + kScoreTile - 1) / kScoreTile, [&](size_t tile, size_t thread) {
        double *z = space.row(thread), *work = z + d;
        for (size_t n = tile * kScoreTile; n < std::min(count, (tile + 1) * kScoreTile); ++n) {
            for (size_t j = 0; j < d; ++j) z[j] = (x[n * d + j] - mean[j]) / scale[j];
            double* gradient = out + n * d;
            kernels::linear_gradient(formulas, law, true, z, gradient, work);
            for (size_t j = 0; j < d; ++j) gradient[j] /= scale[j];
        }
    });
}

} // namespace dynkin

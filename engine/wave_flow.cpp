// wave_flow.cpp - score, densities and samples of a model in a box or on a torus.
#include "../kernels/elementary.h"
#include "../kernels/philox.h"
#include "../kernels/step.h"
#include "device_waves.h"
#include "error.h"
#include "parallel.h"
#include "waves.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// u of one tile of rows of the modelled columns; 0 beyond the last row.
void to_tile(const Model& model, size_t rows, const double* x, double* u) {
    const auto& [mean, scale] = model.standardization;
    const size_t d = mean.size();
    for (size_t j = 0; j < d; ++j)
        for (size_t n = 0; n < kScoreTile; ++n)
            u[j * kScoreTile + n] = n < rows ? (x[n * d + j] - mean[j]) / scale[j] : 0;
}

} // namespace

double log_uniform(const Model& model) {
    double sum = 0;
    for (double scale : model.standardization.scale)
        sum -= std::log(kernels::wave_side(model.waves->periodic) * scale);
    return sum;
}

template <class T> WaveField<T>::WaveField(const Context& context, const WaveBlock& block)
    : kernels_(&kernels::wave_kernels<T>(context.isa())) {
    const WaveBasis basis = make_wave_basis(block.periodic, block.dimension, block.radius);
    const size_t d = static_cast<size_t>(block.dimension);
    plan_.periodic = block.periodic, plan_.dimension = block.dimension, plan_.functions = basis.functions;
    lambda_ = basis.lambda;
    for (size_t k = 0; k <= basis.size(); ++k) {
        const int* at = basis.indices.data() + k * d;
        if (at[d - 1] == 0) {
            plan_.runs.push_back({{}, 0, k});
            std::copy_n(at, d - 1, plan_.runs.back().prefix);
        }
        ++plan_.runs.back().count;
    }
}

template <class T> kernels::WaveCoefficients<T> WaveField<T>::arrange(const std::vector<double>& c) const {
    kernels::WaveCoefficients<T> out{{T{0}}, {T{0}}}; // k = 0 has none
    for (size_t k = 0; k < c.size(); ++k) {
        out.value.push_back(static_cast<T>(c[k]));
        out.decay.push_back(static_cast<T>(lambda_[k + 1] * c[k]));
    }
    return out;
}

template class WaveField<float>;
template class WaveField<double>;

WaveSampler::WaveSampler(const Context& context, const Model& model, const SampleOptions& options)
    : context_(context), model_(model), block_(*model.waves), options_(options), field_(context, block_),
      sites_(static_cast<size_t>(block_.dimension)), log_uniform_(log_uniform(model)) {
    times_ = block_.step_times(options.steps ? options.steps : default_steps(model, options.method));
    for (double t : times_)
        coefficients_.push_back(field_.arrange(coefficients_at(block_, block_.coefficients, t)));
}

void WaveSampler::start(std::uint64_t first, float* u) const {
    const double side = kernels::wave_side(block_.periodic);
    for (size_t p = 0; p < kScoreTile; ++p) {
        const RandomWords w = philox(options_.seed, Stream::sampler_start, first + p, 0, 0);
        for (size_t j = 0; j < sites_; ++j)
            u[j * kScoreTile + p] = static_cast<float>(side * uniform(w.v[j]));
    }
}

/// Heun's method for dU = grad h ds, d log q = -Lap h ds from t_end down to t_min. Trial points are not
/// folded: h continues beyond the walls as the reflected path would see it.
void WaveSampler::flow(float* u, double* log_q, float* space) const {
    const size_t n = sites_ * kScoreTile;
    float *g1 = space, *g2 = g1 + n, *trial = g2 + n, *lap1 = trial + n, *lap2 = lap1 + kScoreTile,
          *scratch = lap2 + kScoreTile;
    std::fill_n(log_q, kScoreTile, log_uniform_);
    for (size_t k = times_.size() - 1; k > 0; --k) {
        const double dt = times_[k] - times_[k - 1];
        const float step = static_cast<float>(dt), half = 0.5f * step;
        field_.gradient(coefficients_[k], u, g1, lap1, scratch);
        for (size_t i = 0; i < n; ++i) trial[i] = u[i] + step * g1[i];
        field_.gradient(coefficients_[k - 1], trial, g2, lap2, scratch);
        for (size_t i = 0; i < n; ++i) u[i] = kernels::folded(u[i] + half * (g1[i] + g2[i]), block_.periodic);
        for (size_t p = 0; p < kScoreTile; ++p)
            log_q[p] -= 0.5 * dt * (static_cast<double>(lap1[p]) + static_cast<double>(lap2[p]));
    }
}

/// Strang splitting: the drift grad h for dt, the free walk, the drift again, folded after each.
void WaveSampler::diffuse(std::uint64_t first, float* u, float* space) const {
    const size_t n = sites_ * kScoreTile;
    const auto stream = static_cast<std::uint32_t>(Stream::sampler_noise);
    const auto& step_kernels = kernels::step_kernels(context_.isa());
    float *g = space, *noise = g + n, *lap = noise + 4 * kScoreTile, *scratch = lap + kScoreTile;
    const auto move = [&](float scale, const float* by) {
        for (size_t i = 0; i < n; ++i) u[i] = kernels::folded(u[i] + scale * by[i], block_.periodic);
    };
    for (size_t k = times_.size() - 1; k > 0; --k) {
        const double dt = times_[k] - times_[k - 1];
        field_.gradient(coefficients_[k], u, g, lap, scratch);
        move(static_cast<float>(dt), g);
        step_kernels.normals(options_.seed, stream, first, static_cast<std::uint32_t>(k), 0, noise);
        move(static_cast<float>(std::sqrt(2 * dt)), noise);
        field_.gradient(coefficients_[k - 1], u, g, lap, scratch);
        move(static_cast<float>(dt), g);
    }
}

void WaveSampler::generate(size_t first, Array<float>& x, Array<double>& log_density, Progress& progress) {
    if constexpr (built_with_cuda)
        if (context_.device() == Device::cuda) return generate_on_device(first, x, log_density, progress);
    const size_t n = sites_ * kScoreTile;
    Array<float> space(static_cast<size_t>(context_.threads()), 4 * n + 6 * kScoreTile + field_.scratch());
    const auto& [mean, scale] = model_.standardization;
    std::atomic<size_t> done{0};
    parallel_for(context_.threads(), x.rows(), [&](size_t tile, size_t thread) {
        if (context_.interrupt_signal()) return;
        float *u = space.row(thread), *work = u + n, *out = x.row(tile);
        const std::uint64_t particle = first + tile * kScoreTile;
        start(particle, u);
        if (options_.method == Method::ode)
            flow(u, log_density.row(tile), work);
        else
            diffuse(particle, u, work);
        for (size_t i = 0; i < n; ++i)
            out[i] =
                static_cast<float>(mean[i / kScoreTile] + scale[i / kScoreTile] * static_cast<double>(u[i]));
        done += kScoreTile;
        if (thread == 0) progress.set(first + done);
    });
    if (progress.interrupted()) progress.throw_interrupted();
}

void WaveSampler::generate_on_device(size_t first, Array<float>& x, Array<double>& log_density,
                                     Progress& progress) {
    if (!device_) device_ = std::make_shared<DeviceWaves<float>>(context_, model_, times_);
    if (options_.method == Method::ode)
        device_->flow(options_.seed, first, x, log_density, progress);
    else
        device_->diffuse(options_.seed, first, x, progress);
}

std::vector<double> wave_density(const Context& context, const Model& model, size_t count, const double* x,
                                 int steps) {
    const WaveBlock& block = *model.waves;
    const std::vector<double> times = block.step_times(steps);
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return DeviceWaves<double>(context, model, times).log_density(count, x);
    const WaveField<double> field(context, block);
    const size_t d = static_cast<size_t>(block.dimension), size = d * kScoreTile;
    std::vector<kernels::WaveCoefficients<double>> c;
    for (double t : times) c.push_back(field.arrange(coefficients_at(block, block.coefficients, t)));
    std::vector<double> out(count);
    Array<double> space(static_cast<size_t>(context.threads()), 4 * size + 2 * kScoreTile + field.scratch());
    Progress progress(context, "density", count);
    parallel_for(context.threads(), (count + kScoreTile - 1) / kScoreTile, [&](size_t tile, size_t thread) {
        if (context.interrupt_signal()) return;
        double *u = space.row(thread), *g1 = u + size, *g2 = g1 + size, *trial = g2 + size,
               *lap1 = trial + size, *lap2 = lap1 + kScoreTile, *scratch = lap2 + kScoreTile;
        const size_t first = tile * kScoreTile, rows = std::min<size_t>(kScoreTile, count - first);
        to_tile(model, rows, x + first * d, u);
        double log_q[kScoreTile];
        for (size_t p = 0; p < kScoreTile; ++p) {
            log_q[p] = log_uniform(model);
            for (size_t j = 0; j < d; ++j)
                if (!kernels::has_density(u[j * kScoreTile + p], block.periodic)) log_q[p] = -kInfinity;
        }
        for (size_t k = 0; k + 1 < times.size(); ++k) {
            const double dt = times[k + 1] - times[k];
            field.gradient(c[k], u, g1, lap1, scratch);
            for (size_t i = 0; i < size; ++i) trial[i] = u[i] - dt * g1[i];
            field.gradient(c[k + 1], trial, g2, lap2, scratch);
            for (size_t i = 0; i < size; ++i)
                u[i] = kernels::folded(u[i] - 0.5 * dt * (g1[i] + g2[i]), block.periodic);
            for (size_t p = 0; p < kScoreTile; ++p) log_q[p] -= 0.5 * dt * (lap1[p] + lap2[p]);
        }
        for (size_t p = 0; p < rows; ++p) out[first + p] = std::isfinite(log_q[p]) ? log_q[p] : -kInfinity;
        if (thread == 0) progress.set(first + rows);
    });
    if (progress.interrupted()) progress.throw_interrupted();
    return out;
}

void wave_score(const Context& context, const Model& model, double t, size_t count, const double* x,
                double* out) {
    const WaveBlock& block = *model.waves;
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return DeviceWaves<double>(context, model, {t}).score(count, x, out);
    const WaveField<double> field(context, block);
    const size_t d = static_cast<size_t>(block.dimension), size = d * kScoreTile;
    const auto c = field.arrange(coefficients_at(block, block.coefficients, t));
    Array<double> space(static_cast<size_t>(context.threads()), 2 * size + kScoreTile + field.scratch());
    parallel_for(context.threads(), (count + kScoreTile - 1) / kScoreTile, [&](size_t tile, size_t thread) {
        double *u = space.row(thread), *g = u + size, *lap = g + size, *scratch = lap + kScoreTile;
        const size_t first = tile * kScoreTile, rows = std::min<size_t>(kScoreTile, count - first);
        to_tile(model, rows, x + first * d, u);
        field.gradient(c, u, g, lap, scratch);
        for (size_t n = 0; n < rows; ++n)
            for (size_t j = 0; j < d; ++j)
                out[(first + n) * d + j] = g[j * kScoreTile + n] / model.standardization.scale[j];
    });
}

} // namespace dynkin

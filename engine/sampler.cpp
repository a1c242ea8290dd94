#include "sampler.h"
#include "../kernels/elementary.h"
#include "../kernels/philox.h"
#include "../kernels/score.h"
#include "../kernels/step.h"
#include "device_block.h"
#include "error.h"
#include "exact_levels.h"
#include "level_flow.h"
#include "level_table.h"
#include "levels_device.h"
#include "linear.h"
#include "parallel.h"
#include "progress.h"
#include "reach.h"
#include "score.h"
#include "stationary.h"
#include "waves.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <fmt/core.h>
#include <limits>
#include <memory>
#include <optional>

namespace dynkin {
namespace {

using kernels::kScoreTile;
using std::size_t;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The state of a batch: values [tile][column][particle] in the units of the data and log q [tile][particle].
struct Batch {
    size_t first = 0, count = 0;
    Array<float> x;
    Array<double> log_density;
    size_t tiles() const { return (count + kScoreTile - 1) / kScoreTile; }
};

/// Draws the coordinates of one block, all of them together.
class BlockSampler {
  public:
    BlockSampler(const Context& context, const Model& model, const Block& block, const SampleOptions& options)
        : context_(context), model_(model), block_(block), options_(options), field_(context, block_),
          step_(kernels::step_kernels(context.isa())), sites_(block.coordinates.size()) {
        steps_ = options.steps ? options.steps : default_steps(model, options.method);
        times_ = block_.step_times(steps_);
        for (double t : times_) coefficients_.push_back(field_.arrange(coefficients_at(block_, t)));
        fitted_ = block_.reference.families.front().kind == ReferenceKind::fitted;
        circle_ = is_circle(block_.reference.families.front());
        if (fitted_)
            for (const Family& family : block_.reference.families) stationary_.emplace_back(family);
        for (int j : block.coordinates)
            log_scale_ += std::log(model.standardization.scale[static_cast<size_t>(j)]);
    }

    size_t runaways() const { return runaways_; }

    void generate(Batch& batch, Progress& progress) {
        if constexpr (built_with_cuda)
            if (context_.device() == Device::cuda) return generate_on_device(batch, progress);
        Array<float> z(batch.tiles(), sites_ * kScoreTile);
        if (options_.method == Method::ode)
            flow(batch, z, progress);
        else
            diffuse(batch, z, progress);
        parallel_for(context_.threads(), batch.tiles(), [&](size_t tile, size_t) {
            for (size_t j = 0; j < sites_; ++j) {
                const size_t column = static_cast<size_t>(block_.coordinates[j]);
                const double mean = model_.standardization.mean[column],
                             scale = model_.standardization.scale[column];
                const float* from = z.row(tile) + j * kScoreTile;
                float* to = batch.x.row(tile) + column * kScoreTile;
                for (size_t p = 0; p < kScoreTile; ++p)
                    to[p] = static_cast<float>(
                        mean +
                        scale * static_cast<double>(circle_ ? kernels::folded(from[p], true) : from[p]));
            }
        });
    }

  private:
    static std::uint64_t particle(const Batch& batch, size_t tile) { return batch.first + tile * kScoreTile; }

    void generate_on_device(Batch& batch, Progress& progress) {
        if (!device_)
            device_ = std::make_shared<DeviceBlock>(
                BlockSteps<float>{context_, model_, block_, field_, times_, coefficients_}, options_.seed);
        const BlockTarget target{batch.first, batch.count, &batch.x, &batch.log_density};
        if (options_.method == Method::ode)
            device_->flow(target, progress);
        else
            runaways_ += device_->diffuse(target, progress);
    }

    void finish_density(Batch& batch, const Array<float>& z) const {
        for (size_t n = 0; n < batch.tiles() * kScoreTile; ++n) {
            double& log_q = batch.log_density[n];
            log_q -= log_scale_;
            for (size_t j = 0; j < sites_; ++j)
                if (!trusted_reach(block_, j).holds(
                        static_cast<double>(z(n / kScoreTile, j * kScoreTile + n % kScoreTile))))
                    log_q = -kInfinity;
        }
    }

    /// Positions from the stationary law; log p_inf of each when log_density is not null.
    void start(std::uint64_t first, float* z, double* log_density) const {
        if (log_density) std::fill_n(log_density, kScoreTile, 0.0);
        for (size_t j = 0; j < sites_; ++j) {
            const Family& f = block_.reference.of(static_cast<int>(j));
            for (size_t p = 0; p < kScoreTile; ++p) {
                const RandomWords w = philox(options_.seed, Stream::sampler_start, first + p, 0,
                                             static_cast<std::uint32_t>(j / 4));
                double value;
                if (fitted_)
                    value = stationary_[family_index(j)].quantile(uniform(w.v[j % 4]));
                else {
                    double pair[2];
                    normals_from_uniforms(uniform(w.v[j % 4 / 2 * 2]), uniform(w.v[j % 4 / 2 * 2 + 1]),
                                          pair[0], pair[1]);
                    value = pair[j % 2];
                }
                float stored = static_cast<float>(value);
                if (fitted_)
                    stored = std::clamp(stored, std::nextafter(static_cast<float>(f.lo), 0.0f),
                                        std::nextafter(static_cast<float>(f.hi), 0.0f));
                z[j * kScoreTile + p] = stored;
                if (log_density) log_density[p] += f.log_density(static_cast<double>(stored));
            }
        }
    }

    size_t family_index(size_t site) const { return static_cast<size_t>(block_.reference.family_of[site]); }

    /// Heun's method for dY = grad h ds, d log q = -Lap h ds, from t_end down to t_min; each tile by itself.
    void flow(Batch& batch, Array<float>& positions, Progress& progress) {
        const size_t n = sites_ * kScoreTile;
        Array<float> space(static_cast<size_t>(context_.threads()),
                           3 * n + 2 * kScoreTile + field_.scratch());
        std::atomic<size_t> done{0};
        parallel_for(context_.threads(), batch.tiles(), [&](size_t tile, size_t thread) {
            if (context_.interrupt_signal()) return;
            float *g1 = space.row(thread), *g2 = g1 + n, *trial = g2 + n, *lap1 = trial + n,
                  *lap2 = lap1 + kScoreTile;
            float *scratch = lap2 + kScoreTile, *z = positions.row(tile);
            double* log_q = batch.log_density.row(tile);
            start(particle(batch, tile), z, log_q);
            for (size_t k = times_.size() - 1; k > 0; --k) {
                const double dt = times_[k] - times_[k - 1];
                const float step = static_cast<float>(dt), half = 0.5f * step;
                field_.gradient(coefficients_[k], z, g1, lap1, scratch);
                for (size_t i = 0; i < n; ++i) trial[i] = z[i] + step * g1[i];
                field_.gradient(coefficients_[k - 1], trial, g2, lap2, scratch);
                for (size_t i = 0; i < n; ++i) z[i] += half * (g1[i] + g2[i]);
                for (size_t p = 0; p < kScoreTile; ++p)
                    log_q[p] -= 0.5 * dt * (static_cast<double>(lap1[p]) + static_cast<double>(lap2[p]));
            }
            done += kScoreTile;
            if (thread == 0) progress.set(batch.first + done);
        });
        if (progress.interrupted()) progress.throw_interrupted();
        finish_density(batch, positions);
    }

    /// Inverse-CDF tables of one step for every family.
    void make_tables(double dt) {
        const size_t families = block_.reference.families.size();
        if (transitions_.empty()) {
            transitions_.resize(families);
            parallel_for(context_.threads(), families, [&](size_t f, size_t) {
                transitions_[f] = std::make_unique<TransitionTables>(block_.reference.families[f]);
            });
            tables_ = Array<float>(families, TransitionTables::rows * TransitionTables::columns);
        }
        parallel_for(context_.threads(), families,
                     [&](size_t f, size_t) { transitions_[f]->quantiles(dt, tables_.row(f)); });
    }

    /// Strang splitting, all particles of the batch step by step, so that the tables of one step serve them
    /// all.
    void diffuse(Batch& batch, Array<float>& positions, Progress& progress) {
        const size_t n = sites_ * kScoreTile;
        Array<float> space(static_cast<size_t>(context_.threads()), n + 4 * kScoreTile + field_.scratch());
        std::vector<char> projected(batch.count, 0);
        parallel_for(context_.threads(), batch.tiles(), [&](size_t tile, size_t) {
            start(particle(batch, tile), positions.row(tile), nullptr);
        });
        for (size_t k = times_.size() - 1; k > 0; --k) {
            const double dt = times_[k] - times_[k - 1];
            if (fitted_ && !circle_) make_tables(dt);
            parallel_for(context_.threads(), batch.tiles(), [&](size_t tile, size_t thread) {
                if (context_.interrupt_signal()) return;
                float *g = space.row(thread), *random = g + n, *scratch = random + 4 * kScoreTile,
                      *z = positions.row(tile);
                const float step = static_cast<float>(dt);
                field_.gradient(coefficients_[k], z, g, nullptr, scratch);
                for (size_t i = 0; i < n; ++i) z[i] += step * g[i];
                reference_step(particle(batch, tile), static_cast<std::uint32_t>(k), dt, z, random);
                field_.gradient(coefficients_[k - 1], z, g, nullptr, scratch);
                for (size_t i = 0; i < n; ++i) z[i] += step * g[i];
                project(times_[k - 1], z, projected.data() + tile * kScoreTile,
                        std::min<size_t>(kScoreTile, batch.count - tile * kScoreTile));
            });
            if (progress.interrupted()) progress.throw_interrupted();
            progress.set(batch.first + batch.count * (times_.size() - k) / (times_.size() - 1));
        }
        for (char p : projected) runaways_ += p != 0;
    }

    void reference_step(std::uint64_t first, std::uint32_t step, double dt, float* z, float* random) const {
        const auto stream = static_cast<std::uint32_t>(Stream::sampler_noise);
        const bool table = fitted_ && !circle_;
        const float decay = circle_ ? 1 : static_cast<float>(std::exp(-dt)),
                    noise = static_cast<float>(std::sqrt(circle_ ? 2 * dt : -std::expm1(-2 * dt)));
        for (size_t j = 0; j < sites_; ++j) {
            const auto slot = static_cast<std::uint32_t>(j / 4);
            if (j % 4 == 0)
                (table ? step_.uniforms : step_.normals)(options_.seed, stream, first, step, slot, random);
            const float* r = random + j % 4 * kScoreTile;
            float* at = z + j * kScoreTile;
            if (!table) {
                for (size_t p = 0; p < kScoreTile; ++p) at[p] = decay * at[p] + noise * r[p];
                continue;
            }
            const Family& f = block_.reference.of(static_cast<int>(j));
            const kernels::TransitionView view{
                tables_.row(family_index(j)), TransitionTables::rows, TransitionTables::columns,
                static_cast<float>(f.lo), static_cast<float>((TransitionTables::rows - 1) / (f.hi - f.lo))};
            step_.transition(view, r, at);
        }
    }

    /// Keeps particles where data at time t can be.
    void project(double t, float* z, char* projected, size_t used) const {
        for (size_t j = 0; j < sites_; ++j) {
            const Reach reach = noised_reach(block_, j, t);
            const float lo = static_cast<float>(reach.lower), hi = static_cast<float>(reach.upper);
            float* at = z + j * kScoreTile;
            for (size_t p = 0; p < kScoreTile; ++p) {
                const float inside = kernels::kept_within(at[p], lo, hi);
                if (p < used && kernels::ran_away(at[p], inside, fitted_)) projected[p] = 1;
                at[p] = inside;
            }
        }
    }

    const Context& context_;
    const Model& model_;
    const Block& block_;
    const SampleOptions& options_;
    ScoreField<float> field_;
    const kernels::StepKernels& step_;
    size_t sites_;
    int steps_ = 0;
    bool fitted_ = false, circle_ = false;
    std::vector<double> times_;
    std::vector<kernels::ScoreCoefficients<float>> coefficients_;
    std::vector<StationaryLaw> stationary_;
    std::vector<std::unique_ptr<TransitionTables>> transitions_;
    Array<float> tables_;
    double log_scale_ = 0;
    size_t runaways_ = 0;
    std::shared_ptr<DeviceBlock> device_; ///< shared: its destructor exists in builds with CUDA only
};

/// log q of the block's coordinates, of `count` rows of all modelled columns.
std::vector<double> block_density(const Context& context, const Model& model, const Block& block,
                                  size_t count, const double* x, int steps) {
    const ScoreField<double> field(context, block);
    const size_t sites = block.coordinates.size(), size = sites * kScoreTile,
                 d = static_cast<size_t>(model.dimension());
    const std::vector<double> times = block.step_times(steps);
    std::vector<kernels::ScoreCoefficients<double>> coefficients;
    for (double t : times) coefficients.push_back(field.arrange(coefficients_at(block, t)));
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return device_density({context, model, block, field, times, coefficients}, count, x);
    const auto& [mean, scale] = model.standardization;
    std::vector<double> out(count);
    Array<double> space(static_cast<size_t>(context.threads()), 4 * size + 2 * kScoreTile + field.scratch());
    Progress progress(context, "density", count);
    parallel_for(context.threads(), (count + kScoreTile - 1) / kScoreTile, [&](size_t tile, size_t thread) {
        if (context.interrupt_signal()) return;
        double *z = space.row(thread), *g1 = z + size, *g2 = g1 + size, *trial = g2 + size,
               *lap1 = trial + size;
        double *lap2 = lap1 + kScoreTile, *scratch = lap2 + kScoreTile;
        const size_t first = tile * kScoreTile, rows = std::min<size_t>(kScoreTile, count - first);
        double log_q[kScoreTile] = {};
        for (size_t j = 0; j < sites; ++j) {
            const size_t column = static_cast<size_t>(block.coordinates[j]);
            for (size_t p = 0; p < kScoreTile; ++p) {
                const double value = z[j * kScoreTile + p] =
                    p < rows ? (x[(first + p) * d + column] - mean[column]) / scale[column] : 0;
                log_q[p] =
                    trusted_reach(block, j).holds(value) ? log_q[p] - std::log(scale[column]) : -kInfinity;
            }
        }
        for (size_t k = 0; k + 1 < times.size(); ++k) {
            const double dt = times[k + 1] - times[k];
            field.gradient(coefficients[k], z, g1, lap1, scratch);
            for (size_t i = 0; i < size; ++i) trial[i] = z[i] - dt * g1[i];
            field.gradient(coefficients[k + 1], trial, g2, lap2, scratch);
            for (size_t i = 0; i < size; ++i) z[i] -= 0.5 * dt * (g1[i] + g2[i]);
            for (size_t p = 0; p < kScoreTile; ++p) log_q[p] -= 0.5 * dt * (lap1[p] + lap2[p]);
        }
        for (size_t j = 0; j < sites; ++j)
            for (size_t p = 0; p < rows; ++p)
                log_q[p] += block.reference.of(static_cast<int>(j)).log_density(z[j * kScoreTile + p]);
        for (size_t p = 0; p < rows; ++p) out[first + p] = std::isfinite(log_q[p]) ? log_q[p] : -kInfinity;
        if (thread == 0) progress.set(first + rows);
    });
    if (progress.interrupted()) progress.throw_interrupted();
    return out;
}

/// Rms difference of log q between these steps and twice as many, at the first 256 particles that are not
/// flagged.
double step_doubling(const Context& context, const Model& model, const Batch& batch, int steps) {
    const size_t d = static_cast<size_t>(model.dimension());
    std::vector<double> x, log_q;
    for (size_t n = 0; n < batch.count && log_q.size() < 256; ++n) {
        if (!std::isfinite(batch.log_density[n])) continue;
        log_q.push_back(batch.log_density[n]);
        for (size_t j = 0; j < d; ++j)
            x.push_back(static_cast<double>(batch.x(n / kScoreTile, j * kScoreTile + n % kScoreTile)));
    }
    if (log_q.empty()) return 0;
    const std::vector<double> finer =
        model.linear ? linear_density(context, model, log_q.size(), x.data(), 2 * steps)
        : model.waves
            ? wave_density(context, model, log_q.size(), x.data(), 2 * steps)
            : block_density(context, model, model.blocks.front(), log_q.size(), x.data(), 2 * steps);
    double square = 0;
    for (size_t n = 0; n < log_q.size(); ++n) square += (log_q[n] - finer[n]) * (log_q[n] - finer[n]);
    return std::sqrt(square / static_cast<double>(log_q.size()));
}

} // namespace

class Sampling::Engine {
  public:
    Engine(const Context& context, const Model& model, const SampleOptions& options, size_t total)
        : context_(context), model_(model), options_(options), progress_(context, "sample", total) {
        require(options.steps >= 0, ErrorKind::usage,
                fmt::format("steps: expected at least 1, got {}", options.steps));
        if (!model.blocks.empty()) block_.emplace(context, model, model.blocks.front(), options_);
        if (model.waves) waves_.emplace(context, model, options_);
        if (model.linear) linear_.emplace(context, model, options_);
        if (options.exact_stages) use_exact_levels();
        tables_.resize(model.levels.size());
        for (size_t k = 0; k < tables_.size() && options.tables; ++k)
            if (LevelTable::fits(model.levels[k]) && !(exact_ && exact_->draws(k))) {
                tables_[k].emplace(context, model.levels[k]);
                table_sites_ += model.levels[k].targets.size();
            }
        place_levels();
    }

    /// All levels on the device, if it can hold them, else on the CPU.
    void place_levels() {
        std::vector<DeviceLevel> sources;
        for (size_t k = 0; k < tables_.size(); ++k)
            sources.push_back({&model_.levels[k], tables_[k] ? &*tables_[k] : nullptr,
                               exact_ && exact_->draws(k) ? &*exact_ : nullptr, k});
        device_levels_ = levels_on_device<float>(context_, sources, model_.dimension(), options_.steps);
        for (const DeviceLevel& source : sources) {
            levels_.emplace_back();
            if (device_levels_ || source.table || source.exact) continue;
            levels_.back().emplace(context_, *source.level, options_.steps);
            scratch_ = std::max(scratch_, levels_.back()->scratch());
        }
    }

    void use_exact_levels() {
        require(options_.target != nullptr, ErrorKind::usage, "sample: exact last levels need the target");
        exact_.emplace(context_, *options_.target, model_, options_.exact_stages);
    }

    SampleReport run(size_t first, size_t count, const SampleSink& sink) {
        const size_t d = static_cast<size_t>(model_.dimension()), before = runaways();
        const size_t most =
            std::max((size_t{1} << 23) / d / kScoreTile, size_t{1}) * kScoreTile; // 32 MB of values
        const bool ode = options_.method == Method::ode;
        for (size_t done = 0; done < count;) {
            const size_t rows = std::min(most, count - done);
            Batch batch{first + done, rows, {}, {}};
            batch.x = Array<float>(batch.tiles(), d * kScoreTile);
            if (ode) batch.log_density = Array<double>(batch.tiles(), kScoreTile);
            if (block_) block_->generate(batch, progress_);
            if (waves_) waves_->generate(batch.first, batch.x, batch.log_density, progress_);
            if (linear_) linear_->generate(batch.first, batch.x, batch.log_density, progress_);
            if ((block_ || waves_ || linear_) && ode && options_.estimate_error && error_ < 0)
                error_ = step_doubling(context_, model_, batch, steps());
            if (!levels_.empty()) draw_levels(batch);
            for (size_t n = 0; n < rows && ode; ++n)
                if (!std::isfinite(batch.log_density[n])) batch.log_density[n] = -kInfinity, ++flagged_;
            Array<float> out(rows, model_.view.columns);
            restore(batch, out.data());
            sink(first + done, rows, out.data(), ode ? batch.log_density.data() : nullptr);
            done += rows;
        }
        return {count,
                steps(),
                runaways() - before,
                exact_ ? exact_->sites() : 0,
                table_sites_,
                log_density_error()};
    }
    double log_density_error() const { return std::max(error_, 0.0); }

  private:
    int steps() const { return options_.steps ? options_.steps : default_steps(model_, options_.method); }
    size_t runaways() const { return flagged_ + (block_ ? block_->runaways() : 0); }

    void draw_levels(Batch& batch) {
        if (!device_levels_)
            draw_levels_here(batch);
        else if constexpr (built_with_cuda)
            device_levels_->draw(0, levels_.size(), options_.seed, batch.first, batch.tiles(), batch.x.data(),
                                 batch.log_density.data());
        if (progress_.interrupted()) progress_.throw_interrupted();
        progress_.set(batch.first + batch.count);
    }

    /// On the CPU, each tile by itself.
    void draw_levels_here(Batch& batch) {
        Array<double> space(static_cast<size_t>(context_.threads()), scratch_ / sizeof(double));
        std::atomic<size_t> done{0};
        parallel_for(context_.threads(), batch.tiles(), [&](size_t tile, size_t thread) {
            if (context_.interrupt_signal()) return;
            double* log_q = batch.log_density.size() ? batch.log_density.row(tile) : nullptr;
            const std::uint64_t first = batch.first + tile * kScoreTile;
            std::byte* const work = reinterpret_cast<std::byte*>(space.row(thread));
            for (size_t k = 0; k < levels_.size(); ++k) {
                if (exact_ && exact_->draws(k))
                    exact_->draw(k, options_.seed, first, batch.x.row(tile), log_q);
                else if (tables_[k])
                    tables_[k]->draw({options_.seed, Stream::table_draw, first, 0, 0}, batch.x.row(tile),
                                     log_q);
                else
                    levels_[k]->draw(options_.seed, first, batch.x.row(tile), log_q, work);
            }
            done += kScoreTile;
            if (thread == 0) progress_.set(batch.first + done);
        });
    }

    /// A batch as rows of the columns of the data file; integers again where the data were dequantised.
    void restore(const Batch& batch, float* rows) const {
        const DataView& view = model_.view;
        const size_t d = static_cast<size_t>(model_.dimension());
        const auto value = [&](double x) {
            return static_cast<float>(
                view.levels ? std::clamp(std::floor(x * view.levels), 0.0, view.levels - 1.0) : x);
        };
        parallel_for(context_.threads(), batch.tiles(), [&](size_t tile, size_t) {
            const size_t used = std::min<size_t>(kScoreTile, batch.count - tile * kScoreTile);
            for (size_t p = 0; p < used; ++p) {
                float* row = rows + (tile * kScoreTile + p) * view.columns;
                for (size_t j = 0; j < view.columns; ++j) row[j] = value(view.constant[j]);
                for (size_t j = 0; j < d; ++j)
                    row[view.kept[j]] = value(static_cast<double>(batch.x(tile, j * kScoreTile + p)));
            }
        });
    }

    const Context& context_;
    const Model& model_;
    const SampleOptions options_;
    std::optional<BlockSampler> block_;
    std::optional<WaveSampler> waves_;
    std::optional<LinearSampler> linear_;
    std::vector<std::optional<LevelFlow<float>>> levels_; ///< those that are drawn here
    std::shared_ptr<DeviceLevels<float>> device_levels_;  ///< null: on the CPU
    std::optional<ExactLevels> exact_;
    std::vector<std::optional<LevelTable>> tables_;
    size_t scratch_ = 0, table_sites_ = 0;
    Progress progress_;
    double error_ = -1;
    size_t flagged_ = 0;
};

Sampling::Sampling(const Context& context, const Model& model, const SampleOptions& options, size_t total)
    : engine_(std::make_unique<Engine>(context, model, options, total)) {}
Sampling::~Sampling() = default;
SampleReport Sampling::run(size_t first, size_t count, const SampleSink& sink) {
    return engine_->run(first, count, sink);
}
double Sampling::log_density_error() const { return engine_->log_density_error(); }

int default_steps(const Model& model, Method method) {
    return (model.waves || model.linear) && method == Method::sde ? std::max(model.default_steps / 2, 1)
                                                                  : model.default_steps;
}

Samples sample(const Context& context, const Model& model, size_t count, const SampleOptions& options) {
    Samples out;
    out.rows = Array<float>(count, model.view.columns);
    Sampling sampling(context, model, options, count);
    out.report =
        sampling.run(0, count, [&](size_t first, size_t rows, const float* x, const double* log_density) {
            std::copy_n(x, rows * model.view.columns, out.rows.row(first));
            if (log_density) out.log_density.insert(out.log_density.end(), log_density, log_density + rows);
        });
    return out;
}

std::vector<double> log_density(const Context& context, const Model& model, size_t count, const double* x,
                                int steps) {
    require(steps >= 0, ErrorKind::usage, fmt::format("steps: expected at least 1, got {}", steps));
    if (model.linear) return linear_density(context, model, count, x, steps ? steps : model.default_steps);
    if (model.waves) return wave_density(context, model, count, x, steps ? steps : model.default_steps);
    std::vector<double> out(count, 0.0);
    if (!model.blocks.empty())
        out = block_density(context, model, model.blocks.front(), count, x,
                            steps ? steps : model.default_steps);
    if (!model.levels.empty()) add_log_density_of_levels(context, model, count, x, steps, out.data());
    return out;
}

} // namespace dynkin

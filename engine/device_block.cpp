// device_block.cpp - the probability-flow ODE of one block on the device, and what else goes chunk by chunk.
#include "device_block.h"
#include "../kernels/device_times.h"
#include "device_chunks.h"
#include "reach.h"
#include "stationary.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

namespace {

/// Particles in work for so many used: whole tiles, as on the CPU.
size_t whole_tiles(size_t used) { return (used + kScoreTile - 1) / kScoreTile * kScoreTile; }

cuda::StepFamily step_family(const Family& f, const double* law) {
    cuda::StepFamily out{};
    out.fitted = f.kind == ReferenceKind::fitted;
    out.lo = f.lo, out.hi = f.hi, out.log_normaliser = f.log_normaliser;
    std::copy(f.potential.begin(), f.potential.end(), out.potential); // ScorePlan has checked its degree
    if (!out.fitted) return out;
    out.law = StationaryLaw(f).table();
    const size_t nodes = static_cast<size_t>(out.law.cells + 1);
    out.law.density = law, out.law.cumulative = law + nodes;
    out.lowest = std::nextafter(static_cast<float>(f.lo), 0.0f);
    out.highest = std::nextafter(static_cast<float>(f.hi), 0.0f);
    out.table_lo = static_cast<float>(f.lo);
    out.inverse_h = static_cast<float>((TransitionTables::rows - 1) / (f.hi - f.lo));
    if (is_circle(f)) out.lo = -kWinding, out.hi = kWinding;
    return out;
}

/// Density and integral of every fitted family, one after another.
std::vector<double> joined_laws(const Reference& reference) {
    std::vector<double> all;
    for (const Family& f : reference.families) {
        if (f.kind != ReferenceKind::fitted) continue;
        const StationaryLaw law(f);
        const StationaryTable view = law.table();
        all.insert(all.end(), view.density, view.density + view.cells + 1);
        all.insert(all.end(), view.cumulative, view.cumulative + view.cells + 1);
    }
    return all;
}

/// Rows of a chunk into pinned memory; the last one again for the particles that fill the last tile.
void load_rows(const double* x, size_t columns, size_t used, ChunkBuffers& buffers) {
    std::copy_n(x, used * columns, buffers.rows.data());
    for (size_t n = used; n < whole_tiles(used); ++n)
        std::copy_n(x + (used - 1) * columns, columns, buffers.rows.data() + n * columns);
}

} // namespace

DeviceSteps::DeviceSteps(DeviceState& device, const Model& model, const Block& block) {
    const auto there = [&]<class U>(const std::vector<U>& host) {
        return to_device<U>(device, host, "the reference");
    };
    const std::vector<double> laws = joined_laws(block.reference);
    laws_ = there(laws);
    std::vector<cuda::StepFamily> families;
    const double* law = laws_.data();
    for (const Family& f : block.reference.families) {
        families.push_back(step_family(f, law));
        if (families.back().fitted) law += 2 * (families.back().law.cells + 1);
    }
    std::vector<cuda::StepSite> sites;
    for (size_t j = 0; j < block.coordinates.size(); ++j) {
        const size_t column = static_cast<size_t>(block.coordinates[j]);
        const double mean = model.standardization.mean[column], scale = model.standardization.scale[column];
        const Reach reach = trusted_reach(block, j);
        sites.push_back({block.reference.family_of[j], block.coordinates[j], mean, scale, std::log(scale),
                         reach.lower, reach.upper});
    }
    families_ = there(families), sites_ = there(sites);
    shape_ = {static_cast<int>(sites.size()),
              model.dimension(),
              score_chunk(sites.size()),
              families.front().fitted,
              families_.data(),
              sites_.data(),
              is_circle(block.reference.families.front())};
}

template <class T> DeviceFlow<T>::DeviceFlow(const BlockSteps<T>& plan)
    : device_(plan.context.device_state()), times_(plan.times), steps_(device_, plan.model, plan.block),
      score_(device_, plan.field, plan.coefficients),
      space_(device_, 5 * score_.numbers(), "positions and gradients") {}

template <class T> void DeviceFlow<T>::step(size_t from, size_t to, size_t rows, double* log_q) {
    const double dt = std::abs(times_[to] - times_[from]);
    const size_t n = score_.numbers();
    T *z = space_.data(), *trial = z + n, *gradient = trial + n, *first = gradient + n, *second = first + n;
    cuda::ScoreUpdate<T> update;
    update.step = static_cast<T>(to < from ? dt : -dt);
    update.z = z, update.gradient = gradient, update.trial = trial;
    update.use = cuda::ScoreUse::predict, update.laplacian = first;
    score_.gradient(from, z, rows, update);
    update.use = cuda::ScoreUse::correct, update.laplacian = second;
    score_.gradient(to, trial, rows, update);
    timed(device_, "step.flow",
          [&] { cuda::add_flow(device_.compute_stream(), shape(), rows, dt, first, second, log_q); });
}

template <class T> void DeviceFlow<T>::run(bool forwards, size_t rows, double* log_q) {
    const size_t steps = times_.size() - 1;
    for (size_t k = 0; k < steps; ++k)
        if (forwards)
            step(k, k + 1, rows, log_q);
        else
            step(steps - k, steps - k - 1, rows, log_q);
}

template class DeviceFlow<float>;
template class DeviceFlow<double>;

void store_tiles(const Block& block, size_t first, size_t used, const float* values,
                 const BlockTarget& target) {
    const size_t sites = block.coordinates.size(), tiles = whole_tiles(used) / kScoreTile;
    for (size_t tile = 0; tile < tiles; ++tile)
        for (size_t j = 0; j < sites; ++j, values += kScoreTile)
            std::copy_n(values, kScoreTile,
                        target.x->row(first / kScoreTile + tile) +
                            static_cast<size_t>(block.coordinates[j]) * kScoreTile);
}

void DeviceBlock::flow(const BlockTarget& target, Progress& progress) {
    if (!flow_) flow_ = std::make_unique<DeviceFlow<float>>(plan_);
    DeviceFlow<float>& flow = *flow_;
    DeviceState& device = plan_.context.device_state();
    const DeviceStream stream = device.compute_stream();
    const auto work = [&](size_t first, size_t used, ChunkBuffers& b) {
        const size_t rows = whole_tiles(used);
        double* log_q = b.numbers_there.data();
        cuda::start(stream, flow.shape(), {seed_, target.first + first, 0}, rows, flow.positions());
        cuda::fill_zero(stream, log_q, rows * sizeof(double));
        cuda::add_stationary(stream, flow.shape(), rows, flow.positions(), log_q);
        flow.run(false, rows, log_q);
        cuda::finish(stream, flow.shape(), rows, flow.positions(), b.values_there.data(), log_q);
    };
    const auto store = [&](size_t first, size_t used, const ChunkBuffers& b) {
        store_tiles(plan_.block, first, used, b.values.data(), target);
        std::copy_n(b.numbers.data(), whole_tiles(used), target.log_density->row(first / kScoreTile));
        progress.set(target.first + first + used);
    };
    for_chunks(
        device, &progress, target.count, flow.chunk(), {0, flow.numbers(), flow.chunk()},
        [](size_t, size_t, ChunkBuffers&) {}, work, store);
}

size_t DeviceBlock::diffuse(const BlockTarget& target, Progress& progress) {
    if (!diffusion_) diffusion_ = std::make_unique<DeviceDiffusion>(plan_, seed_);
    return diffusion_->run(target, progress);
}

std::vector<double> device_density(const BlockSteps<double>& plan, size_t count, const double* x) {
    std::vector<double> out(count);
    DeviceFlow<double> flow(plan);
    DeviceState& device = plan.context.device_state();
    const DeviceStream stream = device.compute_stream();
    const size_t columns = static_cast<size_t>(plan.model.dimension());
    Progress progress(plan.context, "density", count);
    const auto load = [&](size_t first, size_t used, ChunkBuffers& b) {
        load_rows(x + first * columns, columns, used, b);
    };
    const auto work = [&](size_t, size_t used, ChunkBuffers& b) {
        const size_t rows = whole_tiles(used);
        double* log_q = b.numbers_there.data();
        cuda::standardize(stream, flow.shape(), rows, b.rows_there.data(), flow.positions(), log_q);
        flow.run(true, rows, log_q);
        cuda::add_stationary(stream, flow.shape(), rows, flow.positions(), log_q);
    };
    const auto store = [&](size_t first, size_t used, const ChunkBuffers& b) {
        for (size_t n = 0; n < used; ++n)
            out[first + n] =
                std::isfinite(b.numbers[n]) ? b.numbers[n] : -std::numeric_limits<double>::infinity();
        progress.set(first + used);
    };
    for_chunks(device, &progress, count, flow.chunk(), {flow.chunk() * columns, 0, flow.chunk()}, load, work,
               store);
    return out;
}

void device_score(const Context& context, const Model& model, const ScoreField<double>& field,
                  const kernels::ScoreCoefficients<double>& coefficients, size_t count, const double* x,
                  double* out) {
    DeviceState& device = context.device_state();
    const DeviceStream stream = device.compute_stream();
    const DeviceSteps steps(device, model, model.blocks.front());
    DeviceScore<double> score(device, field, {coefficients});
    DeviceArray<double> space(device, 2 * score.numbers(), "positions and gradients");
    double *z = space.data(), *gradient = z + score.numbers();
    const size_t columns = static_cast<size_t>(model.dimension()), chunk = score.chunk();
    const auto load = [&](size_t first, size_t used, ChunkBuffers& b) {
        load_rows(x + first * columns, columns, used, b);
    };
    const auto work = [&](size_t, size_t used, ChunkBuffers& b) {
        const size_t rows = whole_tiles(used);
        cuda::standardize(stream, steps.shape(), rows, b.rows_there.data(), z, nullptr);
        cuda::ScoreUpdate<double> update;
        update.gradient = gradient;
        score.gradient(0, z, rows, update);
        cuda::score_rows(stream, steps.shape(), rows, z, gradient, b.numbers_there.data());
    };
    const auto store = [&](size_t first, size_t used, const ChunkBuffers& b) {
        std::copy_n(b.numbers.data(), used * columns, out + first * columns);
    };
    for_chunks(device, nullptr, count, chunk, {chunk * columns, 0, chunk * columns}, load, work, store);
}

} // namespace dynkin

// device_diffusion.cpp - the reverse SDE of one block on the device.
#include "../kernels/device_times.h"
#include "device_block.h"
#include "device_chunks.h"
#include "parallel.h"
#include "reach.h"
#include <algorithm>
#include <cmath>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

namespace {

constexpr size_t table_size = static_cast<size_t>(TransitionTables::rows * TransitionTables::columns);

size_t chunks_of(size_t count, size_t chunk) { return (count + chunk - 1) / chunk; }

} // namespace

DeviceDiffusion::DeviceDiffusion(const BlockSteps<float>& plan, std::uint64_t seed)
    : plan_(plan), seed_(seed), device_(plan.context.device_state()), steps_(device_, plan.model, plan.block),
      score_(device_, plan.field, plan.coefficients) {
    make_bounds();
    if (!steps_.shape().fitted || steps_.shape().circle) return;
    const auto& families = plan_.block.reference.families;
    transitions_.resize(families.size());
    parallel_for(plan_.context.threads(), families.size(), [&](size_t f, size_t) {
        transitions_[f] = std::make_unique<TransitionTables>(families[f]);
    });
    for (Slot& slot : slots_) {
        slot.tables = PinnedArray<float>(device_, families.size() * table_size, "transition tables");
        slot.tables_there = DeviceArray<float>(device_, families.size() * table_size, "transition tables");
    }
}

void DeviceDiffusion::make_bounds() {
    const size_t sites = plan_.block.coordinates.size();
    std::vector<float> bounds;
    for (double t : plan_.times) {
        for (size_t j = 0; j < sites; ++j)
            bounds.push_back(static_cast<float>(noised_reach(plan_.block, j, t).lower));
        for (size_t j = 0; j < sites; ++j)
            bounds.push_back(static_cast<float>(noised_reach(plan_.block, j, t).upper));
    }
    bounds_ = to_device<float>(device_, bounds, "bounds");
}

void DeviceDiffusion::make_tables(size_t k) {
    if (transitions_.empty()) return;
    Slot& slot = slots_[k % 2];
    const double dt = plan_.times[k] - plan_.times[k - 1];
    parallel_for(plan_.context.threads(), transitions_.size(), [&](size_t f, size_t) {
        transitions_[f]->quantiles(dt, slot.tables.data() + f * table_size);
    });
    slot.tables_there.upload(device_.copy_stream(), slot.tables.span());
    slot.arrived.record(device_.copy_stream());
}

void DeviceDiffusion::reserve(size_t chunks) {
    if (capacity_ >= chunks) return;
    positions_ = {}, projected_ = {}, capacity_ = 0;
    const size_t values = score_.numbers(), one = values * sizeof(float) + score_.chunk();
    const size_t buffers = chunk_buffer_bytes({0, values, 0}) + 4096; // and what rounding up takes
    const size_t left = device_.memory_left();
    const size_t fitting = left > buffers ? (left - buffers) / one : 0;
    const size_t capacity = std::max<size_t>(std::min(chunks, fitting), 1); // one, or an error that says so
    positions_ = DeviceArray<float>(device_, capacity * values, "positions");
    projected_ = DeviceArray<unsigned char>(device_, capacity * score_.chunk(), "flags");
    capacity_ = capacity;
}

void DeviceDiffusion::step(size_t k, std::uint64_t first, size_t count) {
    const DeviceStream stream = device_.compute_stream();
    const size_t sites = plan_.block.coordinates.size(), chunk = score_.chunk();
    const double dt = plan_.times[k] - plan_.times[k - 1];
    const bool circle = steps_.shape().circle;
    const cuda::StepTransition transition{
        circle ? 1 : static_cast<float>(std::exp(-dt)),
        static_cast<float>(std::sqrt(circle ? 2 * dt : -std::expm1(-2 * dt))), TransitionTables::rows,
        TransitionTables::columns, slots_[k % 2].tables_there.data()};
    for (size_t c = 0; c * chunk < count; ++c) {
        const size_t used = std::min(chunk, count - c * chunk);
        const size_t rows = chunks_of(used, kScoreTile) * kScoreTile;
        float* z = chunk_positions(c);
        cuda::ScoreUpdate<float> update;
        update.step = static_cast<float>(dt), update.z = z;
        update.use = cuda::ScoreUse::drift;
        score_.gradient(k, z, rows, update);
        timed(device_, "step.transition", [&] {
            cuda::reference_step(stream, steps_.shape(),
                                 {seed_, first + c * chunk, static_cast<std::uint32_t>(k)}, transition, rows,
                                 z);
        });
        update.use = cuda::ScoreUse::project;
        update.lo = bounds_.data() + (k - 1) * 2 * sites, update.hi = update.lo + sites;
        update.projected = projected_.data() + c * chunk, update.used = used;
        update.box = steps_.shape().fitted;
        score_.gradient(k - 1, z, rows, update);
    }
}

size_t DeviceDiffusion::runaways(size_t count) const {
    std::vector<unsigned char> flags(count);
    projected_.download(device_.compute_stream(), flags);
    cuda::synchronize(device_.compute_stream());
    return static_cast<size_t>(std::count(flags.begin(), flags.end(), 1));
}

size_t DeviceDiffusion::run_part(const BlockTarget& target, size_t begin, size_t count, Progress& progress) {
    const DeviceStream compute = device_.compute_stream();
    const size_t chunk = score_.chunk(), last = plan_.times.size() - 1;
    const std::uint64_t first = target.first + begin;
    cuda::fill_zero(compute, projected_.data(), projected_.size());
    for (size_t c = 0; c * chunk < count; ++c) {
        const size_t rows = chunks_of(std::min(chunk, count - c * chunk), kScoreTile) * kScoreTile;
        cuda::start(compute, steps_.shape(), {seed_, first + c * chunk, 0}, rows, chunk_positions(c));
    }
    make_tables(last);
    for (size_t k = last; k > 0; --k) {
        slots_[k % 2].arrived.hold_up(compute);
        step(k, first, count);
        slots_[k % 2].used.record(compute);
        slots_[(k - 1) % 2].used.synchronize(); // of step k + 1
        if (progress.interrupted()) {
            cuda::synchronize(compute);
            progress.throw_interrupted();
        }
        if (k > 1) make_tables(k - 1);
        progress.set(first + count * (last - k) / last);
    }
    const auto work = [&](size_t at, size_t used, ChunkBuffers& b) {
        cuda::finish(compute, steps_.shape(), chunks_of(used, kScoreTile) * kScoreTile,
                     chunk_positions(at / chunk), b.values_there.data(), nullptr);
    };
    const auto store = [&](size_t at, size_t used, const ChunkBuffers& b) {
        store_tiles(plan_.block, begin + at, used, b.values.data(), target);
    };
    for_chunks(
        device_, &progress, count, chunk, {0, score_.numbers(), 0}, [](size_t, size_t, ChunkBuffers&) {},
        work, store);
    progress.set(first + count);
    return runaways(count);
}

size_t DeviceDiffusion::run(const BlockTarget& target, Progress& progress) {
    reserve(chunks_of(target.count, score_.chunk()));
    size_t total = 0;
    for (size_t done = 0; done < target.count;) {
        const size_t part = std::min(capacity_ * score_.chunk(), target.count - done);
        total += run_part(target, done, part, progress);
        done += part;
    }
    return total;
}

} // namespace dynkin

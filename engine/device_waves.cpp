// device_waves.cpp - coefficients of waves in the layout of the device's kernels, and chunks of particles.
#include "device_waves.h"
#include "../kernels/device_times.h"
#include "device_chunks.h"
#include "waves.h"
#include <algorithm>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

namespace {

constexpr size_t most_particles = size_t{1} << 17; ///< of a chunk

/// Terms that share all factors but the last: the numbers of these, and where the terms begin.
struct Run {
    int outer, middle;
    size_t first, count;
};

std::vector<Run> runs_of(const WaveBasis& basis) {
    const size_t d = static_cast<size_t>(basis.dimension);
    std::vector<Run> runs;
    for (size_t k = 0; k <= basis.size(); ++k) {
        const int* at = basis.indices.data() + k * d;
        if (at[d - 1] == 0) runs.push_back({d == 3 ? at[0] : 0, d > 1 ? at[d - 2] : 0, k, 0});
        ++runs.back().count;
    }
    return runs;
}

/// Neighbouring runs, at most cuda::wave_runs of them.
using Group = std::span<const Run>;

std::vector<Group> groups_of(const std::vector<Run>& runs) {
    std::vector<Group> groups;
    for (size_t first = 0, last = 0; first < runs.size(); first = last) {
        while (last < runs.size() && last - first < cuda::wave_runs && runs[last].outer == runs[first].outer)
            ++last;
        groups.emplace_back(&runs[first], last - first);
    }
    return groups;
}

int frequencies(bool periodic, const Group& group) {
    size_t most = 0;
    for (const Run& run : group) most = std::max(most, run.count);
    return static_cast<int>(periodic ? (most + 1) / 2 : most);
}

/// The terms of one group, appended.
template <class T> void add_terms(const WaveBasis& basis, const Group& group, const std::vector<double>& c,
                                  std::vector<cuda::WaveTerms<T>>& terms) {
    const int parts = basis.periodic ? 2 : 1, all = frequencies(basis.periodic, group);
    for (int m = 0; m < all; ++m)
        for (int part = 0; part < parts; ++part) {
            cuda::WaveTerms<T>& to = terms.emplace_back();
            if (m == 0 && part == 1) continue; // sin 0
            const size_t n = static_cast<size_t>(!basis.periodic || m == 0 ? m : 2 * m - 1 + part);
            for (size_t r = 0; r < group.size(); ++r) {
                const size_t k = group[r].first + n;
                if (n >= group[r].count || k == 0) continue; // k = 0 has no coefficient
                to.value[r] = static_cast<T>(c[k - 1]);
                to.decay[r] = static_cast<T>(basis.lambda[k] * c[k - 1]);
            }
        }
}

/// Particles at a time: whole tiles, as many as the memory holds, or a tile and an error that says so.
size_t chunk_of(const DeviceState& device, size_t count, const ChunkSizes& of_one) {
    constexpr size_t tile = kScoreTile, rounding = 4096;
    const size_t left = device.memory_left(), bytes = chunk_buffer_bytes(of_one);
    const size_t fitting = left > rounding ? (left - rounding) / bytes : 0;
    const size_t chunk = std::min({most_particles, (count + tile - 1) / tile * tile, fitting / tile * tile});
    return std::max(chunk, tile);
}

} // namespace

template <class T>
DeviceWaves<T>::DeviceWaves(const Context& context, const Model& model, const std::vector<double>& times)
    : context_(context), device_(context.device_state()) {
    const WaveBlock& block = *model.waves;
    const WaveBasis basis = make_wave_basis(block.periodic, block.dimension, block.radius);
    const std::vector<Run> runs = runs_of(basis);
    const std::vector<Group> groups = groups_of(runs);
    std::vector<cuda::WaveGroup> group_list;
    for (size_t g = 0; g < groups.size(); ++g)
        group_list.push_back(
            {frequencies(block.periodic, groups[g]), g > 0 && groups[g][0].outer != groups[g - 1][0].outer});
    std::vector<cuda::WaveTerms<T>> terms;
    for (double t : times) {
        const std::vector<double> c = coefficients_at(block, block.coefficients, t);
        for (const Group& group : groups) add_terms(basis, group, c, terms);
    }
    const char* what = "coefficients of the waves";
    groups_ = to_device<cuda::WaveGroup>(device_, group_list, what);
    terms_ = to_device<cuda::WaveTerms<T>>(device_, terms, what);
    times_ = to_device<double>(device_, times, what);
    model_.periodic = block.periodic, model_.dimension = block.dimension;
    model_.groups = static_cast<int>(groups.size()), model_.group = groups_.data();
    model_.terms = terms.size() / times.size(), model_.terms_at = terms_.data();
    model_.times = times_.data(), model_.steps = static_cast<int>(times.size()) - 1;
    const size_t unused = 3 - static_cast<size_t>(block.dimension);
    std::fill_n(model_.scale, 3, 1.0);
    std::copy(model.standardization.mean.begin(), model.standardization.mean.end(), model_.mean + unused);
    std::copy(model.standardization.scale.begin(), model.standardization.scale.end(), model_.scale + unused);
    model_.log_uniform = log_uniform(model);
}

template <class T> void DeviceWaves<T>::diffuse(std::uint64_t seed, std::uint64_t first, Array<float>& x,
                                                Progress& progress) requires(sizeof(T) == 4) {
    const size_t count = x.rows() * kScoreTile, d = static_cast<size_t>(model_.dimension);
    const size_t chunk = chunk_of(device_, count, {0, d, 0});
    const auto work = [&](size_t at, size_t used, ChunkBuffers& b) {
        timed(device_, "waves.sde", [&] {
            cuda::wave_diffuse(device_.compute_stream(), model_, {seed, first + at}, used,
                               b.values_there.data());
        });
    };
    const auto store = [&](size_t at, size_t used, const ChunkBuffers& b) {
        std::copy_n(b.values.data(), used * d, x.data() + at * d);
        progress.set(first + at + used);
    };
    for_chunks(
        device_, &progress, count, chunk, {0, chunk * d, 0}, [](size_t, size_t, ChunkBuffers&) {}, work,
        store);
}

template <class T> void DeviceWaves<T>::flow(std::uint64_t seed, std::uint64_t first, Array<float>& x,
                                             Array<double>& log_density,
                                             Progress& progress) requires(sizeof(T) == 4) {
    const size_t count = x.rows() * kScoreTile, d = static_cast<size_t>(model_.dimension);
    const size_t chunk = chunk_of(device_, count, {0, d, 1});
    const auto work = [&](size_t at, size_t used, ChunkBuffers& b) {
        timed(device_, "waves.ode", [&] {
            cuda::wave_flow(device_.compute_stream(), model_, {seed, first + at}, used, b.values_there.data(),
                            b.numbers_there.data());
        });
    };
    const auto store = [&](size_t at, size_t used, const ChunkBuffers& b) {
        std::copy_n(b.values.data(), used * d, x.data() + at * d);
        std::copy_n(b.numbers.data(), used, log_density.data() + at);
        progress.set(first + at + used);
    };
    for_chunks(
        device_, &progress, count, chunk, {0, chunk * d, chunk}, [](size_t, size_t, ChunkBuffers&) {}, work,
        store);
}

template <class T>
std::vector<double> DeviceWaves<T>::log_density(size_t count, const double* x) requires(sizeof(T) == 8) {
    std::vector<double> out(count);
    const size_t d = static_cast<size_t>(model_.dimension), chunk = chunk_of(device_, count, {d, 0, 1});
    Progress progress(context_, "density", count);
    map_rows(device_, &progress, count, chunk, d, x, 1, out.data(),
             [&](size_t used, const double* rows, double* log_density) {
                 timed(device_, "waves.density", [&] {
                     cuda::wave_log_density(device_.compute_stream(), model_, used, rows, log_density);
                 });
             });
    return out;
}

template <class T>
void DeviceWaves<T>::score(size_t count, const double* x, double* out) requires(sizeof(T) == 8) {
    const size_t d = static_cast<size_t>(model_.dimension), chunk = chunk_of(device_, count, {d, 0, d});
    map_rows(device_, nullptr, count, chunk, d, x, d, out,
             [&](size_t used, const double* rows, double* score) {
                 timed(device_, "waves.score",
                       [&] { cuda::wave_scores(device_.compute_stream(), model_, used, rows, score); });
             });
}

template class DeviceWaves<float>;
template class DeviceWaves<double>;

} // namespace dynkin

// device_linear.cpp - the tables of a linear process on the device, rows of data and chunks of particles.
#include "device_linear.h"
#include "../kernels/device_times.h"
#include "../kernels/score.h"
#include "device_chunks.h"
#include "solve_device.h"
#include <algorithm>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

namespace {

constexpr size_t most_particles = size_t{1} << 16;   ///< of a chunk
constexpr size_t most_numbers = size_t{1} << 24;     ///< of their working space
constexpr size_t most_row_numbers = size_t{1} << 21; ///< of the rows of a chunk

template <class T> void append(std::vector<double>& to, const T& from) {
    to.insert(to.end(), from.begin(), from.end());
}

} // namespace

void monomial_sums_on_device(const Context& context, const Monomials& monomials, const SampleSource& source,
                             const MomentOptions& options, MomentSums& sums) {
    DeviceState& device = context.device_state();
    const size_t d = static_cast<size_t>(monomials.dimension), size = monomials.size();
    std::vector<int> order(size), coordinates(static_cast<size_t>(monomials.degree) * size);
    for (size_t k = 0; k < size; ++k)
        for (size_t j = 0; j < d; ++j)
            for (int p = 0; p < monomials.at(k)[j]; ++p)
                coordinates[static_cast<size_t>(order[k]++) * size + k] = static_cast<int>(j);
    const char* what = "the monomials";
    const DeviceArray<int> order_there = to_device<int>(device, order, what),
                           coordinates_there = to_device<int>(device, coordinates, what);
    const size_t start = sums.next_row, rows = source.rows - start,
                 parts = (rows + kLinearRows - 1) / kLinearRows,
                 bytes = chunk_buffer_bytes({kLinearRows * d, 0, size});
    const size_t left = device.memory_left() - std::min<size_t>(device.memory_left(), 4096);
    const size_t together =
        std::max<size_t>(std::min({parts, most_row_numbers / (kLinearRows * d), left / bytes}), 1);
    Progress progress(context, "moments", source.rows);
    progress.set(start);
    const auto load = [&](size_t first, size_t used, ChunkBuffers& b) {
        source.read(start + first, used, b.rows.data());
    };
    const auto work = [&](size_t, size_t used, ChunkBuffers& b) {
        timed(device, "linear.monomials", [&] {
            cuda::monomial_sums(device.compute_stream(),
                                {static_cast<int>(d), static_cast<int>(size), order_there.data(),
                                 coordinates_there.data(), used, kLinearRows, b.rows_there.data(),
                                 b.numbers_there.data()});
        });
    };
    const auto store = [&](size_t first, size_t used, const ChunkBuffers& b) {
        add_parts(b.numbers.data(), (used + kLinearRows - 1) / kLinearRows, start + first + used, sums);
        progress.set(sums.next_row);
        try {
            if (options.after_batch) options.after_batch(sums);
        } catch (...) { // the next chunk is under way
            cuda::synchronize(device.compute_stream()), cuda::synchronize(device.copy_stream());
            throw;
        }
    };
    for_chunks(device, &progress, rows, together * kLinearRows,
               {together * kLinearRows * d, 0, together * size}, load, work, store);
}

std::vector<SolveStatus> solve_linear_on_device(const Context& context, const LinearSystems& systems,
                                                const Array<double>& moments, Array<double>& coefficients) {
    constexpr size_t together = 4096; // whose moments are on the device
    DeviceState& device = context.device_state();
    const size_t size = systems.lambda.size(), used = moments.cols();
    const char* const what = "the systems of a linear process";
    const DeviceArray<kernels::LinearProduct> products =
        to_device(device, std::span<const kernels::LinearProduct>(systems.products), what);
    const DeviceArray<int> first = to_device(device, std::span<const int>(systems.first), what);
    DeviceArray<double> there(device, std::min(together, moments.rows()) * used, what);
    const cuda::LinearMatrices matrices{static_cast<int>(size), static_cast<int>(used), products.data(),
                                        first.data()};
    std::vector<SolveStatus> status;
    for (size_t start = 0; start < moments.rows(); start += together) {
        const size_t count = std::min(together, moments.rows() - start);
        there.upload(device.compute_stream(), moments.span().subspan(start * used, count * used));
        Array<double> c(count, size);
        const SystemSource source{count,
                                  systems.lambda,
                                  [&](size_t from, size_t some, double* a) {
                                      timed(device, "linear.matrices", [&] {
                                          cuda::linear_matrices(device.compute_stream(), matrices, some,
                                                                there.data() + from * used, a);
                                      });
                                  },
                                  [&](size_t from, size_t some) {
                                      Array<double> b(some, size);
                                      for (size_t k = 0; k < some; ++k) {
                                          const std::vector<double> side =
                                              systems.right_side(moments.row(start + from + k));
                                          std::copy(side.begin(), side.end(), b.row(k));
                                      }
                                      return b;
                                  },
                                  {}};
        const auto found = solve_in_batches(context, source, systems.ridge, c, nullptr);
        status.insert(status.end(), found.begin(), found.end());
        std::copy(c.begin(), c.end(), coefficients.row(start));
    }
    return status;
}

DeviceLinear::DeviceLinear(const Context& context, const Model& model, const LinearField& field,
                           const std::vector<double>& times, const std::vector<LinearState>& states)
    : context_(context), device_(context.device_state()) {
    const char* what = "the linear process";
    const kernels::LinearModel host = field.model();
    const size_t d = field.dimension(), size = static_cast<size_t>(host.size);
    const auto there = [&]<class U>(const U* from, size_t count) {
        return to_device(device_, std::span<const U>(from, count), what);
    };
    functions_ = there(host.functions, size);
    first_slope_ = there(host.first_slope, d + 1), first_curvature_ = there(host.first_curvature, d * d + 1);
    slopes_ = there(host.slopes, static_cast<size_t>(host.first_slope[d]));
    curvatures_ = there(host.curvatures, static_cast<size_t>(host.first_curvature[d * d]));
    std::vector<double> numbers(field.equation().shift), laws, columns(model.standardization.mean);
    append(numbers, field.equation().drift), append(numbers, field.equation().diffusion);
    append(columns, model.standardization.scale);
    for (const LinearState& state : states) {
        append(laws, state.mean), append(laws, state.factor), append(laws, state.inverse);
        append(laws, state.spread), append(laws, state.c);
        laws.push_back(state.log_normaliser);
    }
    equation_ = there(numbers.data(), numbers.size()), laws_ = there(laws.data(), laws.size());
    columns_ = there(columns.data(), columns.size()), times_ = there(times.data(), times.size());
    model_.model = {host.dimension,
                    host.size,
                    functions_.data(),
                    slopes_.data(),
                    curvatures_.data(),
                    first_slope_.data(),
                    first_curvature_.data(),
                    equation_.data(),
                    equation_.data() + d,
                    equation_.data() + d + d * d,
                    host.trace};
    model_.times = times_.data(), model_.laws = laws_.data();
    model_.steps = static_cast<int>(times.size()) - 1;
    model_.mean = columns_.data(), model_.scale = columns_.data() + d;
    model_.log_scale = log_scales(model);
}

void DeviceLinear::take_steps(const std::vector<LinearStepMatrices>& steps) {
    std::vector<double> numbers;
    for (const LinearStepMatrices& step : steps) append(numbers, step.gain), append(numbers, step.factor);
    matrices_ = to_device<double>(device_, numbers, "the linear process");
    model_.matrices = matrices_.data();
}

/// Working space for a chunk, of a size that the memory holds beside its buffers; at least of a tile, or an
/// error that says so.
size_t DeviceLinear::reserve(size_t count, const Sizes& of_one) {
    constexpr size_t tile = kScoreTile, rounding = 4096;
    const size_t numbers = cuda::linear_numbers(static_cast<size_t>(model_.model.dimension),
                                                static_cast<size_t>(model_.model.size));
    work_ = {};
    const size_t left = device_.memory_left(),
                 bytes = chunk_buffer_bytes({of_one.rows, of_one.values, of_one.numbers}) + 8 * numbers;
    const size_t fitting = left > rounding ? (left - rounding) / bytes : 0;
    const size_t chunk = std::max(
        tile, std::min({most_particles, most_numbers / numbers, fitting, (count + tile - 1) / tile * tile}) /
                  tile * tile);
    work_ = DeviceArray<double>(device_, chunk * numbers, "the particles' working space");
    model_.work = work_.data(), model_.chunk = chunk;
    return chunk;
}

void DeviceLinear::draw(Method method, std::uint64_t seed, size_t first, Array<float>& x,
                        Array<double>& log_density, Progress& progress) {
    const bool ode = method == Method::ode;
    const DeviceStream stream = device_.compute_stream();
    const size_t count = x.rows() * kScoreTile, d = static_cast<size_t>(model_.model.dimension);
    const size_t chunk = reserve(count, {0, d, ode ? size_t{1} : 0});
    const auto work = [&](size_t at, size_t used, ChunkBuffers& b) {
        const cuda::LinearRandom random{seed, first + at};
        timed(device_, ode ? "linear.ode" : "linear.sde", [&] {
            if (ode)
                cuda::linear_flow(stream, model_, random, used, b.values_there.data(),
                                  b.numbers_there.data());
            else
                cuda::linear_diffuse(stream, model_, random, used, b.values_there.data());
        });
    };
    const auto store = [&](size_t at, size_t used, const ChunkBuffers& b) {
        std::copy_n(b.values.data(), used * d, x.data() + at * d);
        if (ode) std::copy_n(b.numbers.data(), used, log_density.data() + at);
        progress.set(first + at + used);
    };
    for_chunks(
        device_, &progress, count, chunk, {0, chunk * d, ode ? chunk : 0},
        [](size_t, size_t, ChunkBuffers&) {}, work, store);
}

std::vector<double> DeviceLinear::log_density(size_t count, const double* x) {
    std::vector<double> out(count);
    const size_t d = static_cast<size_t>(model_.model.dimension), chunk = reserve(count, {d, 0, 1});
    Progress progress(context_, "density", count);
    map_rows(device_, &progress, count, chunk, d, x, 1, out.data(),
             [&](size_t used, const double* rows, double* log_density) {
                 timed(device_, "linear.density", [&] {
                     cuda::linear_log_density(device_.compute_stream(), model_, used, rows, log_density);
                 });
             });
    return out;
}

void DeviceLinear::score(size_t count, const double* x, double* out) {
    const size_t d = static_cast<size_t>(model_.model.dimension), chunk = reserve(count, {d, 0, d});
    map_rows(device_, nullptr, count, chunk, d, x, d, out,
             [&](size_t used, const double* rows, double* score) {
                 timed(device_, "linear.score",
                       [&] { cuda::linear_scores(device_.compute_stream(), model_, used, rows, score); });
             });
}

} // namespace dynkin

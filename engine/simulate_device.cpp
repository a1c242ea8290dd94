// simulate_device.cpp - drifts and bases on the device, and paths: the states stay on the host and pass in
// chunks, all steps of a chunk at once.
#include "device_chunks.h"
#include "device_drift.h"
#include "error.h"
#include <algorithm>
#include <cmath>
#include <span>

namespace dynkin {

using std::size_t;

namespace {

constexpr size_t most_paths = size_t{1} << 18; ///< of a chunk; no result depends on it

template <class T>
DeviceArray<T> copied(DeviceState& device, const T* numbers, size_t count, const char* what) {
    return to_device(device, std::span<const T>(numbers, count), what);
}

/// As many rows of `numbers` doubles as the memory holds, at most `count`.
size_t rows_that_fit(const DeviceState& device, size_t numbers, size_t count) {
    const size_t rounding = 8192, left = device.memory_left();
    return std::clamp<size_t>((left - std::min(left, rounding)) / (numbers * sizeof(double)), 1,
                              std::min(count, most_paths));
}

} // namespace

DeviceDrift::DeviceDrift(DeviceState& device, const DriftProcess& process)
    : noise_(copied(device, process.noise.data(), process.noise.size(), "the noise")) {
    const DriftTable table(process);
    const char* what = "the drift";
    if (const auto* mixture = std::get_if<MixtureDriftView>(&table.view())) {
        const auto k = static_cast<size_t>(mixture->components);
        first_ = copied(device, mixture->log_weight, k, what);
        second_ = copied(device, mixture->mean, k * process.dimension(), what);
        third_ = copied(device, mixture->precision, k, what);
        law_ = MixtureDriftView{mixture->dimension, mixture->components, first_.data(), second_.data(),
                                third_.data()};
    } else if (const auto* polynomial = std::get_if<PolynomialDriftView>(&table.view())) {
        const size_t d = process.dimension(), terms = static_cast<size_t>(polynomial->first[d]);
        begin_ = copied(device, polynomial->first, d + 1, what);
        first_ = copied(device, polynomial->coefficient, terms, what);
        power_ = copied(device, polynomial->power, terms * d, what);
        law_ = PolynomialDriftView{polynomial->dimension, begin_.data(), first_.data(), power_.data()};
    } else if (const auto* well = std::get_if<DoubleWellDriftView>(&table.view()))
        law_ = *well;
    else if (const auto* logistic = std::get_if<LogisticDriftView>(&table.view()))
        law_ = *logistic;
    else
        law_ = std::get<SwimmerDriftView>(table.view());
}

DeviceBasis::DeviceBasis(DeviceState& device, const ScoreBasis& basis)
    : center_(copied(device, basis.center.data(), basis.center.size(), "the basis")),
      scale_(copied(device, basis.scale.data(), basis.scale.size(), "the basis")),
      driven_(copied(device, basis.driven.data(), basis.driven.size(), "the basis")),
      first_(copied(device, basis.first.data(), basis.first.size(), "the basis")),
      coordinate_(copied(device, basis.coordinate.data(), basis.coordinate.size(), "the basis")),
      degree_(copied(device, basis.degree.data(), basis.degree.size(), "the basis")), view_(view_of(basis)) {
    view_.driven = driven_.data(), view_.center = center_.data(), view_.scale = scale_.data();
    view_.first = first_.data(), view_.coordinate = coordinate_.data(), view_.degree = degree_.data();
}

void advance_paths_on_device(const Context& context, const DriftProcess& process, const PathSteps& steps,
                             double time, Array<double>& states) {
    DeviceState& device = context.device_state();
    const DeviceStream stream = device.compute_stream();
    const size_t d = process.dimension(), paths = states.rows();
    const DeviceDrift drift(device, process);
    const size_t chunk = rows_that_fit(device, d + 1, paths);
    DeviceArray<double> x(device, chunk * d, "paths");
    DeviceArray<std::uint32_t> lost(device, chunk, "paths");
    std::vector<std::uint32_t> lost_here(chunk);
    for (size_t first = 0; first < paths; first += chunk) {
        const size_t used = std::min(chunk, paths - first);
        const std::span<double> rows(states.row(first), used * d);
        x.upload(stream, rows);
        cuda::advance_paths(stream, drift.law(), drift.noise(),
                            {steps.scheme, steps.seed, first, steps.first, steps.count, steps.h}, used,
                            x.data(), lost.data());
        x.download(stream, rows);
        lost.download(stream, std::span(lost_here).first(used));
        cuda::synchronize(stream);
        for (size_t n = 0; n < used; ++n) {
            if (lost_here[n] == 0) continue;
            const std::uint32_t k = lost_here[n] - 1; // once more here, to say where it went
            const double* before = states.row(first + n);
            double xi[max_drift_dimension], after[max_drift_dimension];
            const DriftTable table(process);
            std::visit(
                [&](const auto& view) {
                    path_normals(steps.seed, Stream::forward_noise, first + n, steps.first + k, 0,
                                 view.dimension, xi);
                    std::copy_n(before, d, after);
                    one_step(view, steps.scheme, process.noise.data(), steps.h, std::sqrt(steps.h), xi,
                             after);
                },
                table.view());
            throw_lost_path(first + n, d, before, after, time + k * steps.h, steps.h);
        }
    }
}

void pilot_paths_on_device(const Context& context, const DriftProcess& process,
                           const SimulateOptions& options, double h, int n, const std::vector<size_t>& paths,
                           const Array<double>& start, Array<double>& coarse, Array<double>& fine) {
    DeviceState& device = context.device_state();
    const DeviceStream stream = device.compute_stream();
    const DeviceDrift drift(device, process);
    const std::vector<std::uint64_t> numbers(paths.begin(), paths.end());
    const DeviceArray<std::uint64_t> number =
        to_device(device, std::span<const std::uint64_t>(numbers), "pilot paths");
    const DeviceArray<double> x = to_device(device, start.span(), "pilot paths");
    DeviceArray<double> one(device, start.size(), "pilot paths"), two(device, start.size(), "pilot paths");
    cuda::pilot_paths(stream, drift.law(), drift.noise(), options.scheme, h, n, options.seed, paths.size(),
                      number.data(), x.data(), one.data(), two.data());
    one.download(stream, coarse.span()), two.download(stream, fine.span());
    cuda::synchronize(stream);
}

} // namespace dynkin

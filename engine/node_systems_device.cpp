// node_systems_device.cpp - the systems of score matching on the device, as many at a time as its memory
// holds.
#include "error.h"
#include "gram_device.h"
#include "node_systems.h"
#include "progress.h"
#include "solve_device.h"
#include <algorithm>
#include <cmath>

namespace dynkin {

using std::size_t;

namespace {

/// b(t), a row for each time.
Array<double> right_sides(const ScoreSystem& system, const std::vector<double>& means,
                          std::span<const double> times) {
    Array<double> b(times.size(), system.size());
    for (size_t m = 0; m < times.size(); ++m) {
        const std::vector<double> side = system.right_side(means, times[m]);
        std::copy(side.begin(), side.end(), b.row(m));
    }
    return b;
}

} // namespace

std::vector<SolveStatus> solve_nodes_on_device(const Context& context, const ScoreSystem& system,
                                               std::span<const double> moments, std::span<const double> times,
                                               double ridge, Array<double>& coefficients) {
    DeviceState& device = context.device_state();
    const std::vector<double> means = system.means(moments);
    DeviceScoreSystem on_device(device, system);
    const DeviceArray<double> sums = to_device(device, moments, "the moments");
    on_device.reserve(times.size());
    return solve_in_batches(
        context, system.eigenvalues(), times, ridge,
        [&](std::span<const double> nodes, double* a) { on_device.gram(sums, nodes, a); },
        [&](std::span<const double> nodes) { return right_sides(system, means, nodes); }, coefficients);
}

namespace {

/// c' A c / 2 - b' c, A on the device.
double loss_of(DeviceState& device, const double* a, const double* b, std::span<const double> c,
               DeviceArray<double>& vectors) {
    const size_t k = c.size();
    std::vector<double> product(k);
    vectors.upload(device.compute_stream(), c);
    cuda::symmetric_product(device, k, a, vectors.data(), vectors.data() + k);
    vectors.download(device.compute_stream(), product, k);
    cuda::synchronize(device.compute_stream());
    double square = 0, linear = 0;
    for (size_t i = 0; i < k; ++i) square += product[i] * c[i], linear += b[i] * c[i];
    return 0.5 * square - linear;
}

} // namespace

Array<double> held_out_losses_on_device(const Context& context, const ScoreSystem& system,
                                        std::span<const double> train, std::span<const double> test,
                                        std::span<const double> times, std::span<const double> ridges) {
    DeviceState& device = context.device_state();
    const size_t k = system.size();
    DeviceScoreSystem on_device(device, system);
    const DeviceArray<double> train_sums = to_device(device, train, "the moments"),
                              test_sums = to_device(device, test, "the moments");
    on_device.reserve(1);
    const Array<double> b_train = right_sides(system, system.means(train), times),
                        b_test = right_sides(system, system.means(test), times);
    DeviceArray<double> vectors(device, 2 * k, "coefficients"), a_train(device, k * k, "the Gram matrices"),
        a_test(device, k * k, "the Gram matrices");
    DeviceSolver solver(device, system.eigenvalues(), 1);
    Array<double> loss(times.size(), ridges.size()), side(1, k), c(1, k);
    for (size_t m = 0; m < times.size(); ++m) {
        on_device.gram(train_sums, times.subspan(m, 1), a_train.data());
        on_device.gram(test_sums, times.subspan(m, 1), a_test.data());
        std::copy_n(b_train.row(m), k, side.data());
        for (size_t r = 0; r < ridges.size(); ++r) {
            if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
            const SolveStatus status = solver.solve(a_train.data(), side, ridges[r], c)[0];
            loss(m, r) = status.solved && !status.raised
                             ? loss_of(device, a_test.data(), b_test.row(m), c.span(), vectors)
                             : INFINITY;
        }
    }
    return loss;
}

} // namespace dynkin

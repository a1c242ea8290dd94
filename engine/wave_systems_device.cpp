// wave_systems_device.cpp - moments and linear systems of waves on the device.
#include "../kernels/device_times.h"
#include "../kernels/waves_cuda.h"
#include "error.h"
#include "moments_device.h"
#include "solve_device.h"
#include "waves.h"
#include <algorithm>
#include <numeric>

namespace dynkin {

using std::size_t;

namespace {

/// All products of one function of each coordinate, the last one running fastest.
kernels::MomentGroup all_products(const WaveBasis& basis) {
    const int width = basis.width();
    kernels::MomentGroup group;
    std::vector<int>* lists[3] = {&group.weights, &group.rows, &group.cols};
    for (int place = 0; place < 3; ++place) {
        const int coordinate = place - (3 - basis.dimension);
        lists[place]->assign(1, 0); // the constant
        for (int n = 1; coordinate >= 0 && n < width; ++n)
            lists[place]->push_back(coordinate * (width - 1) + n);
    }
    group.ld = group.cols.size();
    return group;
}

} // namespace

void wave_moments_on_device(const Context& context, const WaveBasis& basis, const SampleSource& source,
                            const MomentOptions& options, MomentSums& sums) {
    const kernels::MomentGroup group = all_products(basis);
    const int width = basis.width(), functions = 1 + basis.dimension * (width - 1);
    const auto evaluate = [&](DeviceStream stream, const cuda::MomentBatch& batch, const double* u,
                              double* table) {
        cuda::wave_functions(stream, {batch, basis.periodic, basis.dimension, width, functions, u, table});
    };
    MomentOptions in_batches = options;
    in_batches.after_batch = [&](const MomentSums& at) {
        if (options.after_batch) options.after_batch(at);
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    };
    sum_products_on_device<double>(context,
                                   {std::span<const kernels::MomentGroup>(&group, 1),
                                    static_cast<size_t>(basis.dimension), functions, evaluate},
                                   source, in_batches, sums);
}

void WaveSystem::solve_on_device(const Context& context, const Array<double>& moments,
                                 std::span<const double> all_times, double ridge,
                                 std::vector<SolveStatus>& status, Array<double>& coefficients) const {
    const size_t done = status.size();
    const std::span<const double> times = all_times.subspan(done);
    if (times.empty()) return;
    DeviceState& device = context.device_state();
    const auto there = [&]<class U>(const std::vector<U>& host) {
        return to_device<U>(device, host, "the systems of waves");
    };
    const DeviceArray<double> moments_there = to_device(device, moments.span(), "the moments");
    const DeviceArray<kernels::WaveProduct> products = there(products_);
    const DeviceArray<int> indices = there(
        std::vector<int>(basis_.indices.begin() + basis_.dimension, basis_.indices.end())); // without k = 0
    DeviceArray<double> decays_there(device, times.size() * width_, "the systems of waves");
    const cuda::WaveSystems systems{
        basis_.dimension, basis_.functions, static_cast<int>(width_), static_cast<int>(basis_.size()),
        products.data(),  indices.data(),   moments_there.data(),     decays_there.data()};
    const auto matrices = [&](std::span<const double> nodes, double* a) {
        std::vector<double> decay;
        for (double t : nodes) {
            const std::vector<double> at = decays(t);
            decay.insert(decay.end(), at.begin(), at.end());
        }
        decays_there.upload(device.compute_stream(), decay);
        timed(device, "waves.matrices",
              [&] { cuda::wave_matrices(device.compute_stream(), systems, nodes.size(), a); });
    };
    const auto sides = [&](std::span<const double> nodes) {
        Array<double> b(nodes.size(), basis_.size());
        for (size_t m = 0; m < nodes.size(); ++m) {
            const std::vector<double> side = right_side(noised(moments, nodes[m]));
            std::copy(side.begin(), side.end(), b.row(m));
        }
        return b;
    };
    Array<double> found(times.size(), basis_.size());
    const auto rest = solve_in_batches(context, scaling(), times, ridge, matrices, sides, found);
    status.insert(status.end(), rest.begin(), rest.end());
    std::copy(found.begin(), found.end(), coefficients.row(done));
}

} // namespace dynkin

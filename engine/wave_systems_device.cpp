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

Array<double> wave_moments_on_device(const Context& context, const WaveBasis& basis, size_t rows,
                                     const WaveSource& read) {
    const kernels::MomentGroup group = all_products(basis);
    const int width = basis.width(), functions = 1 + basis.dimension * (width - 1);
    const auto evaluate = [&](DeviceStream stream, const cuda::MomentBatch& batch, const double* u,
                              double* table) {
        cuda::wave_functions(stream, {batch, basis.periodic, basis.dimension, width, functions, u, table});
    };
    MomentSums sums;
    sums.train.assign(group.size(), 0), sums.test.assign(group.size(), 0);
    MomentOptions options;
    options.after_batch = [&](const MomentSums&) {
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    };
    sum_products_on_device<double>(context,
                                   {std::span<const kernels::MomentGroup>(&group, 1),
                                    static_cast<size_t>(basis.dimension), functions, evaluate},
                                   {rows, read}, options, sums);
    const std::vector<double> means = moment_averages(sums, Subset::all);
    Array<double> out(group.weights.size() * group.rows.size(), group.cols.size());
    std::copy(means.begin(), means.end(), out.begin());
    return out;
}

std::vector<SolveStatus> WaveSystem::solve_on_device(const Context& context, const Array<double>& moments,
                                                     std::span<const double> times, double ridge,
                                                     Array<double>& coefficients) const {
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
    return solve_in_batches(context, scaling(), times, ridge, matrices, sides, coefficients);
}

} // namespace dynkin

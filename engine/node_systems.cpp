#include "node_systems.h"
#include "../kernels/device.h"
#include "error.h"
#include "parallel.h"
#include "progress.h"
#include <algorithm>
#include <cmath>

namespace dynkin {

using std::size_t;

std::vector<SolveStatus> solve_nodes(const Context& context, const ScoreSystem& system,
                                     std::span<const double> moments, std::span<const double> times,
                                     double ridge, Array<double>& coefficients) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return solve_nodes_on_device(context, system, moments, times, ridge, coefficients);
    const std::vector<double> means = system.means(moments);
    std::vector<SolveStatus> status(times.size());
    Progress progress(context, "solve", times.size());
    const size_t chunk = static_cast<size_t>(context.threads());
    for (size_t first = 0; first < times.size(); first += chunk) {
        const size_t last = std::min(times.size(), first + chunk);
        parallel_for(context.threads(), last - first, [&](size_t job, size_t) {
            const size_t m = first + job;
            Array<double> a(system.size(), system.size());
            std::vector<double> c;
            system.gram(moments, times[m], a);
            status[m] =
                solve_score_system(a, system.right_side(means, times[m]), system.eigenvalues(), ridge, c);
            if (status[m].solved) std::copy(c.begin(), c.end(), coefficients.row(m));
        });
        progress.set(last);
        if (progress.interrupted()) progress.throw_interrupted();
    }
    return status;
}

Array<double> held_out_losses(const Context& context, const ScoreSystem& system,
                              std::span<const double> train, std::span<const double> test,
                              std::span<const double> times, std::span<const double> ridges) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return held_out_losses_on_device(context, system, train, test, times, ridges);
    const auto mean_train = system.means(train), mean_test = system.means(test);
    Array<double> loss(times.size(), ridges.size());
    parallel_for(context.threads(), times.size(), [&](size_t m, size_t) {
        if (context.interrupt_signal()) return;
        const double t = times[m];
        Array<double> a_train(system.size(), system.size()), a_test(system.size(), system.size());
        system.gram(train, t, a_train), system.gram(test, t, a_test);
        const auto b_train = system.right_side(mean_train, t), b_test = system.right_side(mean_test, t);
        for (size_t r = 0; r < ridges.size(); ++r) {
            Array<double> a = a_train;
            std::vector<double> c;
            const SolveStatus status = solve_score_system(a, b_train, system.eigenvalues(), ridges[r], c);
            loss(m, r) = status.solved && !status.raised ? score_matching_loss(a_test, b_test, c) : INFINITY;
        }
    });
    if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    return loss;
}

} // namespace dynkin

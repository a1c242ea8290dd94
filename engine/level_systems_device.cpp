// level_systems_device.cpp - the systems of a level on the device, as many nodes at a time as its memory
// holds.
#include "error.h"
#include "level_systems.h"
#include "progress.h"
#include "solve_device.h"
#include <algorithm>
#include <span>

namespace dynkin {

using std::size_t;

namespace {

/// g_ijk for degrees below `degrees`.
std::vector<double> gradient_table(const LevelSystems& systems, size_t degrees, size_t functions) {
    std::vector<double> table(degrees * degrees * functions);
    for (size_t i = 1; i < degrees; ++i)
        for (size_t j = 1; j < degrees; ++j)
            for (size_t k = 0; k < functions; ++k)
                table[(i * degrees + j) * functions + k] = systems.gradient(i, j, k);
    return table;
}

} // namespace

std::vector<SolveStatus> solve_level_on_device(const Context& context, const LevelSystems& systems,
                                               double ridge, Array<double>& c) {
    DeviceState& device = context.device_state();
    const size_t size = systems.terms.size(), nodes = systems.right.rows(), functions = systems.decay.cols();
    if (size == 0 || nodes == 0) return std::vector<SolveStatus>(nodes);
    const auto degrees = static_cast<size_t>(systems.terms.back().degree) + 1;
    const char* what = "the systems of a level";
    const DeviceArray<cuda::LevelTerm> terms = to_device(device, std::span(systems.terms), what);
    const std::vector<double> table = gradient_table(systems, degrees, functions);
    const DeviceArray<double> gradient = to_device(device, std::span(table), what),
                              triple = to_device(device, systems.moments->triple.span(), what),
                              decay = to_device(device, systems.decay.span(), what);
    const cuda::LevelMatrices level{size,
                                    terms.data(),
                                    static_cast<int>(degrees),
                                    static_cast<int>(functions),
                                    static_cast<int>(systems.moments->conditions),
                                    gradient.data(),
                                    triple.data()};
    const size_t batch = std::clamp(DeviceSolver::most_systems(device, size), size_t{1}, nodes);
    DeviceArray<double> a(device, batch * size * size, what);
    DeviceSolver solver(device, systems.lambda, batch);
    std::vector<SolveStatus> status;
    for (size_t first = 0; first < nodes; first += batch) {
        const size_t some = std::min(batch, nodes - first);
        cuda::level_matrices(device.compute_stream(), level, some, decay.data() + first * functions,
                             a.data());
        Array<double> b(some, size), solved(some, size);
        std::copy_n(systems.right.row(first), some * size, b.data());
        const std::vector<SolveStatus> found = solver.solve(a.data(), b, ridge, solved);
        status.insert(status.end(), found.begin(), found.end());
        for (size_t m = 0; m < some; ++m)
            if (found[m].solved) std::copy_n(solved.row(m), size, c.row(first + m));
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    }
    return status;
}

} // namespace dynkin

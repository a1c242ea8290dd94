// score_systems_device.cpp - the systems of a nonlinear process's score at one time on the device.
#include "../kernels/device_times.h"
#include "nonlinear_device.h"
#include "solve_device.h"
#include <algorithm>

namespace dynkin {

using std::size_t;

std::vector<ScoreSolution> solve_scores_on_device(const Context& context, const ScoreSums& sums, double ridge,
                                                  std::span<const size_t> leave_out) {
    const char* what = "the systems of a score";
    DeviceState& device = context.device_state();
    std::vector<ScoreSide> sides;
    for (const size_t out : leave_out) sides.push_back(score_side(sums, ridge, out));
    device.libraries();
    const size_t count = leave_out.size(), groups = sums.groups.size(), k = sums.groups[0].right.size();
    std::vector<int> without(count);
    std::vector<double> paths(count);
    for (size_t m = 0; m < count; ++m) {
        without[m] = leave_out[m] < groups ? static_cast<int>(leave_out[m]) : -1;
        paths[m] = sides[m].paths;
    }
    const DeviceArray<int> without_there = to_device(device, std::span<const int>(without), what);
    const DeviceArray<double> paths_there = to_device(device, std::span<const double>(paths), what);
    DeviceArray<double> gram(device, groups * k * k, what);
    for (size_t g = 0; g < groups; ++g)
        gram.upload(device.compute_stream(), sums.groups[g].gram.span(), g * k * k);
    const auto rows = [&](size_t first, size_t some, std::vector<double> ScoreSide::*part) {
        Array<double> out(some, k);
        for (size_t m = 0; m < some; ++m) std::copy_n((sides[first + m].*part).begin(), k, out.row(m));
        return out;
    };
    const SystemSource source{
        count,
        {},
        [&](size_t first, size_t some, double* a) {
            timed(device, "scores.systems", [&] {
                cuda::group_means(device.compute_stream(),
                                  {k, static_cast<int>(groups), gram.data(), without_there.data() + first,
                                   paths_there.data() + first},
                                  some, a);
            });
        },
        [&](size_t first, size_t some) { return rows(first, some, &ScoreSide::right); },
        [&](size_t first, size_t some) { return rows(first, some, &ScoreSide::scale); }};
    Array<double> c(count, k);
    const auto status = solve_in_batches(context, source, ridge, c, nullptr);
    std::vector<ScoreSolution> out;
    for (size_t m = 0; m < count; ++m) out.push_back(score_solution(status[m], {c.row(m), k}));
    return out;
}

} // namespace dynkin

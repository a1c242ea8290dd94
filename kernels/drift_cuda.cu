// drift_cuda.cu - drifts, their derivatives and paths: a thread a point, a direction at a point, or a path.
#include "gpu.h"
#include "nonlinear_cuda.h"

namespace dynkin::cuda {
namespace {

using gpu::blocks_asked, gpu::thread_number;

constexpr unsigned block_threads = 128;
constexpr unsigned pilot_threads = 32; ///< pilot paths are few, and long

template <class View> __global__ void __launch_bounds__(block_threads, blocks_asked)
    values_kernel(View law, std::size_t count, const double* x, double* f) {
    const std::size_t n = thread_number(), d = static_cast<std::size_t>(law.dimension);
    if (n < count) drift(law, x + n * d, f + n * d);
}

template <class View> __global__ void __launch_bounds__(block_threads, blocks_asked)
    derivatives_kernel(View law, const double* noise, std::size_t count, const double* x, double* f,
                       double* jacobian, double* ito) {
    const auto d = static_cast<std::size_t>(law.dimension);
    const std::size_t n = thread_number() / d, j = thread_number() % d;
    if (n >= count) return;
    const int along = static_cast<int>(j);
    double value[max_drift_dimension];
    drift_slope(law, x + n * d, along, value, jacobian + n * d * d + j, law.dimension);
    if (j == 0)
        for (std::size_t i = 0; i < d; ++i) f[n * d + i] = value[i];
    if (ito) drift_curvature(law, noise, x + n * d, along, ito + (n * d + j) * d);
}

template <class View> __global__ void __launch_bounds__(block_threads, blocks_asked)
    advance_kernel(View law, const double* noise, PathLeap leap, std::size_t count, double* x,
                   std::uint32_t* lost) {
    const std::size_t n = thread_number(), d = static_cast<std::size_t>(law.dimension);
    if (n >= count) return;
    double at[max_drift_dimension], next[max_drift_dimension], xi[max_drift_dimension];
    const double root = std::sqrt(leap.h);
    for (std::size_t i = 0; i < d; ++i) at[i] = x[n * d + i];
    std::uint32_t bad = 0;
    for (std::uint32_t k = 0; k < leap.steps && bad == 0; ++k) {
        path_normals(leap.seed, Stream::forward_noise, leap.first + n, leap.first_step + k, 0, law.dimension,
                     xi);
        for (std::size_t i = 0; i < d; ++i) next[i] = at[i];
        one_step(law, leap.scheme, noise, leap.h, root, xi, next);
        for (std::size_t i = 0; i < d; ++i)
            if (!(next[i] - next[i] == 0)) bad = k + 1;
        if (bad == 0)
            for (std::size_t i = 0; i < d; ++i) at[i] = next[i];
    }
    for (std::size_t i = 0; i < d; ++i) x[n * d + i] = at[i];
    lost[n] = bad;
}

template <class View> __global__ void __launch_bounds__(pilot_threads, blocks_asked)
    pilot_kernel(View law, const double* noise, Scheme scheme, double h, int n, std::uint64_t seed,
                 std::size_t count, const std::uint64_t* paths, const double* x, double* coarse,
                 double* fine) {
    const std::size_t row = thread_number(), d = static_cast<std::size_t>(law.dimension);
    if (row >= count) return;
    double one[max_drift_dimension], other[max_drift_dimension];
    pilot_path(law, scheme, noise, h, n, seed, paths[row], x + row * d, one, other);
    for (std::size_t i = 0; i < d; ++i) coarse[row * d + i] = one[i], fine[row * d + i] = other[i];
}

} // namespace

void drift_values(DeviceStream stream, const DriftOnDevice& law, std::size_t count, const double* x,
                  double* f) {
    if (count == 0) return;
    std::visit(
        [&]<class View>(const View& view) {
            gpu::launch(values_kernel<View>, gpu::blocks_for(count, block_threads), block_threads, 0, stream,
                        view, count, x, f);
        },
        law);
}

void drift_derivatives(DeviceStream stream, const DriftOnDevice& law, const double* noise, std::size_t count,
                       const double* x, double* f, double* jacobian, double* ito) {
    if (count == 0) return;
    std::visit(
        [&]<class View>(const View& view) {
            const auto d = static_cast<std::size_t>(view.dimension);
            gpu::launch(derivatives_kernel<View>, gpu::blocks_for(count * d, block_threads), block_threads, 0,
                        stream, view, noise, count, x, f, jacobian, ito);
        },
        law);
}

void advance_paths(DeviceStream stream, const DriftOnDevice& law, const double* noise, const PathLeap& leap,
                   std::size_t count, double* x, std::uint32_t* lost) {
    if (count == 0) return;
    std::visit(
        [&]<class View>(const View& view) {
            gpu::launch(advance_kernel<View>, gpu::blocks_for(count, block_threads), block_threads, 0, stream,
                        view, noise, leap, count, x, lost);
        },
        law);
}

void pilot_paths(DeviceStream stream, const DriftOnDevice& law, const double* noise, Scheme scheme, double h,
                 int n, std::uint64_t seed, std::size_t count, const std::uint64_t* paths, const double* x,
                 double* coarse, double* fine) {
    if (count == 0) return;
    std::visit(
        [&]<class View>(const View& view) {
            gpu::launch(pilot_kernel<View>, gpu::blocks_for(count, pilot_threads), pilot_threads, 0, stream,
                        view, noise, scheme, h, n, seed, count, paths, x, coarse, fine);
        },
        law);
}

} // namespace dynkin::cuda

// level_moments_cuda.cu - the kernel of level_moments_cuda.h: one thread a pair.
#include "gpu.h"
#include "level_moments_cuda.h"

namespace dynkin::cuda {
namespace {

constexpr unsigned block_threads = 256;

__global__ void __launch_bounds__(block_threads)
    functions_kernel(LevelFunctions f, ConditionalWork<double> w) {
    const std::size_t n = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (n >= f.tiles * kMomentTile) return;
    const bool used = n < f.pairs;
    const std::size_t tile = n / kScoreTile, p = n % kScoreTile;
    const int functions = f.family.functions;
    double* const out = f.table +
                        n / kMomentTile * static_cast<std::size_t>(functions + f.conditions) * kMomentTile +
                        n % kMomentTile;
    const double x = w.x[tile * static_cast<std::size_t>(w.columns) * kScoreTile + p],
                 z = used ? (x - w.mean[n]) / f.scale : 0;
    out[0] = used ? 1 : 0;
    const double* const c = f.family.coefficients;
    if (f.family.hermite) {
        double before = 1, now = z;
        for (int k = 1; k < functions; ++k) {
            out[k * kMomentTile] = used ? now : 0;
            const double next = kernels::hermite_next(z, now, before, c[2 * k], c[2 * k + 1]);
            before = now, now = next;
        }
    } else {
        const auto [piece, t] = kernels::table_place(z, f.family.lo, f.family.scale, f.family.pieces);
        const int stride = f.family.stride, degree = f.family.degree;
        const double* row =
            c + static_cast<std::size_t>(piece) * static_cast<std::size_t>((degree + 1) * stride);
        for (int k = 1; k < functions; ++k) {
            double sum = row[degree * stride + k];
            for (int power = degree - 1; power >= 0; --power) sum = fma(sum, t, row[power * stride + k]);
            out[k * kMomentTile] = used ? sum : 0;
        }
    }
    const double* psi = w.psi + tile * static_cast<std::size_t>(f.conditions) * kScoreTile + p;
    for (int a = 0; a < f.conditions; ++a)
        out[(functions + a) * kMomentTile] = used ? psi[a * kScoreTile] : 0;
}

} // namespace

void level_functions(DeviceStream stream, const LevelFunctions& functions,
                     const ConditionalWork<double>& work) {
    if (functions.tiles == 0) return;
    gpu::launch(functions_kernel, gpu::blocks_for(functions.tiles * kMomentTile, block_threads),
                block_threads, 0, stream, functions, work);
}

} // namespace dynkin::cuda

// prior_cuda.cu - the kernels of prior_cuda.h: a thread a number, or a run of rows of a column.
#include "gpu.h"
#include "prior_cuda.h"

namespace dynkin::cuda {
namespace {

using gpu::blocks_asked, gpu::thread_number;

constexpr unsigned block_threads = 128;

std::size_t curve_size(int degree, std::size_t padded) {
    return static_cast<std::size_t>(degree + 3) * padded;
}

template <class T> __global__ void __launch_bounds__(block_threads, blocks_asked)
    curves_kernel(const HermiteTables* tables, MarginalView marginals, double ridge, NoiseView noise,
                  std::size_t levels, std::size_t size, T* curves) {
    const std::size_t level = thread_number() / marginals.padded, j = thread_number() % marginals.padded,
                      at = level * noise.stride;
    if (level >= levels) return;
    kernels::prior_curves<1>(*tables, marginals, j, ridge, noise.sigma[at], noise.alpha[at],
                             curves + level * size + j, marginals.padded);
}

template <class T> __global__ void __launch_bounds__(block_threads, blocks_asked)
    row_scores_kernel(const HermiteTables* tables, MarginalView marginals, double ridge, NoiseView noise,
                      const std::size_t* numbers, std::size_t count, std::size_t d, const T* x, T* out) {
    const std::size_t k = thread_number() / d, j = thread_number() % d;
    if (k >= count) return;
    const std::size_t n = numbers ? numbers[k] : k;
    T curve[kernels::kMaxPriorDegree + 3];
    kernels::prior_curves<1>(*tables, marginals, j, ridge, noise.sigma[n], noise.alpha[n], curve, 1);
    out[n * d + j] = kernels::prior_score(tables->degree, curve, 1, x[n * d + j]);
}

template <class T> __global__ void __launch_bounds__(block_threads, blocks_asked)
    flat_kernel(const HermiteTables* tables, FlatView law, NoiseView noise, const FlatPlace* places,
                std::size_t levels, std::size_t size, T* curves) {
    const std::size_t level = thread_number() / law.padded, j = thread_number() % law.padded,
                      at = level * noise.stride;
    if (level >= levels) return;
    kernels::flat_curves<1>(*tables, law, j, places[level], noise.spread[at], noise.sigma[at],
                            noise.alpha[at], curves + level * size + j, law.padded);
}

template <class T> __global__ void __launch_bounds__(block_threads, blocks_asked)
    scores_kernel(int degree, std::size_t d, std::size_t padded, const T* curves, std::size_t curve_stride,
                  std::size_t rows, const T* x, const T* product, NoiseView noise, T* out) {
    const std::size_t e = thread_number(), n = e / d, j = e % d, at = n * noise.stride;
    if (n >= rows) return;
    T score = kernels::prior_score(degree, curves + n * curve_stride + j, padded, x[e]);
    if (product) score += static_cast<T>(noise.spread[at] / noise.alpha[at]) * product[e];
    out[e] = score;
}

template <class T> __global__ void __launch_bounds__(block_threads, blocks_asked)
    centre_kernel(std::size_t d, std::size_t rows, const T* x, const double* mean, NoiseView noise, T* out) {
    const std::size_t e = thread_number(), n = e / d;
    if (n >= rows) return;
    out[e] = x[e] * static_cast<T>(1 / noise.alpha[n * noise.stride]) - static_cast<T>(mean[e % d]);
}

template <class T> __global__ void __launch_bounds__(block_threads, blocks_asked)
    shrink_kernel(std::size_t d, std::size_t rows, const double* variances, NoiseView noise, T* x) {
    const std::size_t e = thread_number(), n = e / d, at = n * noise.stride;
    if (n >= rows) return;
    const double sigma = noise.sigma[at];
    x[e] *= static_cast<T>(-1 / (noise.alpha[at] * (variances[e % d] + sigma * sigma)));
}

template <class T> __global__ void __launch_bounds__(block_threads, blocks_asked)
    reduce_kernel(FlatView law, std::size_t rows, const T* x, NoiseView noise, T* y) {
    const std::size_t e = thread_number(), n = e / law.columns, j = e % law.columns, at = n * noise.stride;
    if (n >= rows) return;
    const double sigma = noise.sigma[at], value = static_cast<double>(x[e]) / noise.alpha[at],
                 low = law.lower[j] - 3 * sigma, high = law.upper[j] + 3 * sigma;
    y[e] = static_cast<T>(noise.spread[at] * ((value < low    ? low
                                               : value > high ? high
                                                              : value) -
                                              law.mean[j]));
}

template <class T> __global__ void __launch_bounds__(block_threads, blocks_asked)
    weigh_kernel(std::size_t d, std::size_t rows, const FlatPlace* places, const T* x, T* out) {
    const std::size_t e = thread_number(), n = e / (4 * d), j = e % d;
    if (n < rows) out[e] = static_cast<T>(places[n].weight[e / d % 4]) * x[n * d + j];
}

__global__ void __launch_bounds__(block_threads, blocks_asked)
    range_kernel(std::size_t d, std::size_t rows, const double* x, double* least, double* most) {
    const std::size_t e = thread_number(), run = e / d, j = e % d, first = run * prior_run;
    if (first >= rows) return;
    const std::size_t last = rows - first < prior_run ? rows : first + prior_run;
    double low = x[first * d + j], high = low;
    for (std::size_t n = first + 1; n < last; ++n) {
        const double value = x[n * d + j];
        low = value < low ? value : low, high = value > high ? value : high;
    }
    least[e] = low, most[e] = high;
}

__global__ void __launch_bounds__(block_threads, blocks_asked)
    powers_kernel(int top, std::size_t d, std::size_t rows, const double* x, const double* middle,
                  const double* inverse, double* sums) {
    const std::size_t e = thread_number(), run = e / d, j = e % d, first = run * prior_run;
    if (first >= rows) return;
    const std::size_t last = rows - first < prior_run ? rows : first + prior_run;
    double sum[2 * kernels::kMaxPriorDegree + 1];
    for (int k = 0; k <= top; ++k) sum[k] = 0;
    for (std::size_t n = first; n < last; ++n) {
        const double z = (x[n * d + j] - middle[j]) * inverse[j];
        double power = 1;
        for (int k = 0; k <= top; ++k) sum[k] += power, power *= z;
    }
    for (int k = 0; k <= top; ++k)
        sums[(run * static_cast<std::size_t>(top + 1) + static_cast<std::size_t>(k)) * d + j] = sum[k];
}

} // namespace

template <class T> void prior_curves(DeviceStream stream, const HermiteTables* tables, int degree,
                                     const MarginalView& marginals, double ridge, const NoiseView& noise,
                                     std::size_t levels, T* curves) {
    if (levels == 0) return;
    gpu::launch(curves_kernel<T>, gpu::blocks_for(levels * marginals.padded, block_threads), block_threads, 0,
                stream, tables, marginals, ridge, noise, levels, curve_size(degree, marginals.padded),
                curves);
}

template <class T> void prior_row_scores(DeviceStream stream, const HermiteTables* tables,
                                         const MarginalView& marginals, double ridge, const NoiseView& noise,
                                         const std::size_t* numbers, std::size_t count, std::size_t d,
                                         const T* x, T* out) {
    if (count == 0) return;
    gpu::launch(row_scores_kernel<T>, gpu::blocks_for(count * d, block_threads), block_threads, 0, stream,
                tables, marginals, ridge, noise, numbers, count, d, x, out);
}

template <class T> void flat_curves(DeviceStream stream, const HermiteTables* tables, int degree,
                                    const FlatView& law, const NoiseView& noise, const FlatPlace* places,
                                    std::size_t levels, T* curves) {
    if (levels == 0) return;
    gpu::launch(flat_kernel<T>, gpu::blocks_for(levels * law.padded, block_threads), block_threads, 0, stream,
                tables, law, noise, places, levels, curve_size(degree, law.padded), curves);
}

template <class T> void prior_scores(DeviceStream stream, int degree, std::size_t d, std::size_t padded,
                                     const T* curves, std::size_t curve_stride, std::size_t rows, const T* x,
                                     const T* product, const NoiseView& noise, T* out) {
    if (rows == 0) return;
    gpu::launch(scores_kernel<T>, gpu::blocks_for(rows * d, block_threads), block_threads, 0, stream, degree,
                d, padded, curves, curve_stride, rows, x, product, noise, out);
}

template <class T> void centre(DeviceStream stream, std::size_t d, std::size_t rows, const T* x,
                               const double* mean, const NoiseView& noise, T* out) {
    if (rows == 0) return;
    gpu::launch(centre_kernel<T>, gpu::blocks_for(rows * d, block_threads), block_threads, 0, stream, d, rows,
                x, mean, noise, out);
}

template <class T> void shrink(DeviceStream stream, std::size_t d, std::size_t rows, const double* variances,
                               const NoiseView& noise, T* x) {
    if (rows == 0) return;
    gpu::launch(shrink_kernel<T>, gpu::blocks_for(rows * d, block_threads), block_threads, 0, stream, d, rows,
                variances, noise, x);
}

template <class T> void reduce(DeviceStream stream, const FlatView& law, std::size_t rows, const T* x,
                               const NoiseView& noise, T* y) {
    if (rows == 0) return;
    gpu::launch(reduce_kernel<T>, gpu::blocks_for(rows * law.columns, block_threads), block_threads, 0,
                stream, law, rows, x, noise, y);
}

template <class T> void weigh_rows(DeviceStream stream, std::size_t d, std::size_t rows,
                                   const FlatPlace* places, const T* x, T* out) {
    if (rows == 0) return;
    gpu::launch(weigh_kernel<T>, gpu::blocks_for(rows * 4 * d, block_threads), block_threads, 0, stream, d,
                rows, places, x, out);
}

void column_ranges(DeviceStream stream, std::size_t d, std::size_t rows, const double* x, double* least,
                   double* most) {
    if (rows == 0) return;
    const std::size_t runs = (rows + prior_run - 1) / prior_run;
    gpu::launch(range_kernel, gpu::blocks_for(runs * d, block_threads), block_threads, 0, stream, d, rows, x,
                least, most);
}

void power_runs(DeviceStream stream, int top, std::size_t d, std::size_t rows, const double* x,
                const double* middle, const double* inverse, double* sums) {
    if (rows == 0) return;
    const std::size_t runs = (rows + prior_run - 1) / prior_run;
    gpu::launch(powers_kernel, gpu::blocks_for(runs * d, block_threads), block_threads, 0, stream, top, d,
                rows, x, middle, inverse, sums);
}

#define DYNKIN_PRIOR(T)                                                                                      \
    template void prior_curves<T>(DeviceStream, const HermiteTables*, int, const MarginalView&, double,      \
                                  const NoiseView&, std::size_t, T*);                                        \
    template void prior_row_scores<T>(DeviceStream, const HermiteTables*, const MarginalView&, double,       \
                                      const NoiseView&, const std::size_t*, std::size_t, std::size_t,        \
                                      const T*, T*);                                                         \
    template void flat_curves<T>(DeviceStream, const HermiteTables*, int, const FlatView&, const NoiseView&, \
                                 const FlatPlace*, std::size_t, T*);                                         \
    template void prior_scores<T>(DeviceStream, int, std::size_t, std::size_t, const T*, std::size_t,        \
                                  std::size_t, const T*, const T*, const NoiseView&, T*);                    \
    template void centre<T>(DeviceStream, std::size_t, std::size_t, const T*, const double*,                 \
                            const NoiseView&, T*);                                                           \
    template void shrink<T>(DeviceStream, std::size_t, std::size_t, const double*, const NoiseView&, T*);    \
    template void reduce<T>(DeviceStream, const FlatView&, std::size_t, const T*, const NoiseView&, T*);     \
    template void weigh_rows<T>(DeviceStream, std::size_t, std::size_t, const FlatPlace*, const T*, T*);
DYNKIN_PRIOR(float)
DYNKIN_PRIOR(double)
#undef DYNKIN_PRIOR

} // namespace dynkin::cuda

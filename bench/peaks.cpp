// peaks.cpp - what the CPU can do: GEMM of OpenBLAS and STREAM's triad on all threads.
#include "peaks.h"
#include "engine/array.h"
#include "engine/parallel.h"
#include "engine/solve.h"
#include "kernels/device.h"
#include <algorithm>
#include <cblas.h>
#include <memory>
#include <type_traits>
#include <unistd.h>

namespace dynkin::bench {

using std::size_t;

namespace {

template <class T> Run gemm_run(int threads, int n) {
    struct Matrices {
        Array<T> a, b, c;
    };
    const size_t count = static_cast<size_t>(threads), size = static_cast<size_t>(n) * static_cast<size_t>(n);
    const auto m = std::make_shared<Matrices>(
        Matrices{Array<T>(count, size), Array<T>(count, size), Array<T>(count, size)});
    std::fill(m->a.begin(), m->a.end(), T(0.5)), std::fill(m->b.begin(), m->b.end(), T(0.25));
    return [m, threads, n, count](size_t) {
        parallel_for(threads, count, [&](size_t k, size_t) {
            if constexpr (std::is_same_v<T, double>)
                cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, m->a.row(k), n,
                            m->b.row(k), n, 0, m->c.row(k), n);
            else
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, m->a.row(k), n,
                            m->b.row(k), n, 0, m->c.row(k), n);
        });
    };
}

/// a = b + s c; each thread its own part, whose pages it touched first.
Seconds time_triad(Timer& timer, int threads, size_t size) {
    const std::unique_ptr<double[]> a(new double[size]), b(new double[size]), c(new double[size]);
    const auto for_parts = [&](const auto& body) {
        const size_t parts = static_cast<size_t>(threads);
        parallel_for(threads, parts, [&](size_t part, size_t) {
            const size_t first = size * part / parts, last = size * (part + 1) / parts;
            for (size_t i = first; i < last; ++i) body(i);
        });
    };
    for_parts([&](size_t i) { a[i] = 0, b[i] = 1, c[i] = 2; });
    return timer([&](size_t round) {
        const double s = static_cast<double>(round);
        for_parts([&](size_t i) { a[i] = b[i] + s * c[i]; });
    });
}

/// Numbers an array of the triad: four times the last cache, 32 MiB to 256 MiB.
size_t triad_size() {
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const size_t bytes = cache > 0 ? 4 * static_cast<size_t>(cache) : 0;
    return std::clamp(bytes, size_t{32} << 20, size_t{256} << 20) / sizeof(double);
}

} // namespace

Gemm cpu_gemm(int threads, bool single_precision, bool small) {
    use_sequential_blas();
    const int n = small ? 96 : 768;
    return {2.0 * n * n * n * threads,
            single_precision ? gemm_run<float>(threads, n) : gemm_run<double>(threads, n)};
}

Peaks peaks_of_cpu(const Context& context, int repeats, bool small) {
    Timer timer(context, repeats);
    Peaks peaks;
    const int threads = context.threads();
    const size_t numbers = small ? 1 << 16 : triad_size();
    const auto time_gemm = [&](bool single, double& flops) {
        const Gemm gemm = cpu_gemm(threads, single, small);
        flops = gemm.flops;
        return timer(gemm.run);
    };
    peaks.gemm64 = time_gemm(false, peaks.gemm64_flops);
    peaks.gemm32 = time_gemm(true, peaks.gemm32_flops);
    peaks.bandwidth_bytes = 24 * static_cast<double>(numbers);
    peaks.bandwidth = time_triad(timer, threads, numbers);
    return peaks;
}

} // namespace dynkin::bench

// bench_prior.cpp - scores of priors at d = 3072: the product beside the triad a = b + s c, the Gaussian
// beside GEMM, both of the same run and precision. Usage: bench_prior [rows] [threads]; default 4096, all.
// Bytes are numbers read once and written once; flops are those of the two products of matrices.
#include "engine/parallel.h"
#include "engine/prior.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <cstdlib>
#include <fmt/core.h>
#include <functional>
#include <time.h>

using namespace dynkin;
using std::size_t;

namespace {

/// Processor seconds a thread, best of several runs: on a shared machine other programs' time does not count.
double best_seconds(int threads, const std::function<void()>& work, int runs = 5) {
    const auto now = [] {
        timespec t{};
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
    };
    double best = 1e300;
    for (int k = 0; k < runs; ++k) {
        const double start = now();
        work();
        best = std::min(best, (now() - start) / threads);
    }
    return best;
}

/// GB/s over three arrays as large as the batch.
template <class T> double triad_rate(int threads, size_t count) {
    Array<T> a(count), b(count), c(count);
    std::fill(b.begin(), b.end(), T(0.5)), std::fill(c.begin(), c.end(), T(0.25));
    const size_t chunk = count / static_cast<size_t>(8 * threads) + 1;
    const double seconds = best_seconds(threads, [&] {
        parallel_for(threads, (count + chunk - 1) / chunk, [&](size_t job, size_t) {
            const size_t last = std::min(count, (job + 1) * chunk);
            for (size_t k = job * chunk; k < last; ++k) a[k] = b[k] + T(3) * c[k];
        });
    });
    return 3e-9 * static_cast<double>(count * sizeof(T)) / seconds;
}

template <class T> double gemm_rate(int threads) {
    const int n = 768;
    Array<T> a(static_cast<size_t>(threads), static_cast<size_t>(n) * n), b = a, c = a;
    std::fill(a.begin(), a.end(), T(0.5)), std::fill(b.begin(), b.end(), T(0.25));
    const double seconds = best_seconds(threads, [&] {
        parallel_for(threads, static_cast<size_t>(threads), [&](size_t k, size_t) {
            if constexpr (sizeof(T) == 8)
                cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a.row(k), n, b.row(k), n,
                            0, c.row(k), n);
            else
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a.row(k), n, b.row(k), n,
                            0, c.row(k), n);
        });
    });
    return 2.0 * n * n * n * threads / seconds * 1e-9;
}

/// Moments of a uniform law in a window of its own for each coordinate.
Prior product_prior(size_t d) {
    ProductPrior law{std::vector<double>(d, 0.1), std::vector<double>(d, 0.5), Array<double>(13, d)};
    for (size_t j = 0; j < d; ++j) law.moments(0, j) = 1, law.moments(2, j) = 0.236;
    for (size_t j = 0; j < d; ++j) law.scale[j] = 0.4 + 0.1 * static_cast<double>(j % 7);
    return {{}, 1000, {d}, std::move(law)};
}

/// A Householder matrix for the vectors.
Prior gaussian_prior(size_t d) {
    GaussianPrior law{std::vector<double>(d, 0.1), std::vector<double>(d), Array<double>(d, d)};
    for (size_t i = 0; i < d; ++i) {
        law.variances[i] = std::pow(static_cast<double>(i + 1) / static_cast<double>(d), 2);
        for (size_t j = 0; j < d; ++j) law.vectors(i, j) = (i == j) - 2 / static_cast<double>(d);
    }
    return {{.kind = PriorKind::gaussian}, 1000, {d}, std::move(law)};
}

template <class T> double seconds_of(const Context& context, const Prior& prior, size_t rows, bool levels) {
    const size_t d = prior.dimension();
    Array<T> x(rows, d), out(rows, d);
    for (size_t k = 0; k < x.size(); ++k) x[k] = static_cast<T>(static_cast<double>(k % 1001) / 500 - 1);
    std::vector<double> sigma(levels ? rows : 1);
    for (size_t n = 0; n < sigma.size(); ++n) sigma[n] = 0.3 + 1e-4 * static_cast<double>(n);
    const PriorScore<T> score(context, prior);
    return best_seconds(context.threads(), [&] {
        score({rows, x.data(), d, sigma.data(), sigma.size()}, out.data(), d);
    });
}

template <class T> void bench(const Context& context, size_t rows) {
    const size_t d = 3072;
    const char* const name = sizeof(T) == 4 ? "float32" : "float64";
    const double triad = triad_rate<T>(context.threads(), rows * d), gemm = gemm_rate<T>(context.threads());
    fmt::print("triad    {}  {:7.1f} GB/s\nGEMM     {}  {:7.1f} Gflop/s\n", name, triad, name, gemm);
    for (const bool levels : {false, true}) {
        const double seconds = seconds_of<T>(context, product_prior(d), rows, levels);
        const double rate = 2e-9 * static_cast<double>(rows * d * sizeof(T)) / seconds;
        fmt::print("product  {}  {:7.1f} GB/s     {:5.1f} % of triad  {:.3g} rows/s{}\n", name, rate,
                   100 * rate / triad, static_cast<double>(rows) / seconds, levels ? ", a sigma each" : "");
    }
    const size_t some = std::min<size_t>(rows, 512);
    const double seconds = seconds_of<T>(context, gaussian_prior(d), some, true);
    const double rate = 4e-9 * static_cast<double>(some * d * d) / seconds;
    fmt::print("gaussian {}  {:7.1f} Gflop/s  {:5.1f} % of GEMM   {:.3g} rows/s, a sigma each\n", name, rate,
               100 * rate / gemm, static_cast<double>(some) / seconds);
}

} // namespace

int main(int argc, char** argv) {
    ContextOptions options;
    options.threads = argc > 2 ? std::atoi(argv[2]) : 0;
    options.device = Device::cpu;
    const Context context(options);
    openblas_set_num_threads(1);
    const size_t rows = argc > 1 ? static_cast<size_t>(std::atol(argv[1])) : 4096;
    fmt::print("3072 columns, {} rows, {} threads, {}\n", rows, context.threads(), context.isa_name());
    bench<float>(context, rows);
    bench<double>(context, rows);
}

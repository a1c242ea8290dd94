// bench_prior.cpp - scores of priors at d = 3072, at one sigma and at a sigma a row (EDM's law of training,
// log sigma = -1.2 + 1.2 eps): the product beside the triad a = b + s c over arrays of 48 MB, the Gaussian
// beside GEMM, of the same run and precision; the flat prior at d = 128. Usage: bench_prior [rows] [threads];
// default 64, 256, 1024 and 4096, one and two. Bytes are numbers read once and written once; flops are those
// of the products of matrices. OMP_WAIT_POLICY=passive: waiting threads take processor time otherwise.
#include "engine/parallel.h"
#include "engine/prior.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <cstdlib>
#include <fmt/core.h>
#include <functional>
#include <random>
#include <time.h>
#include <vector>

using namespace dynkin;
using std::size_t;

namespace {

/// Processor seconds a thread, best of several runs: on a shared machine other programs' time does not count.
double best_seconds(int threads, const std::function<void()>& work, int runs = 9) {
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

/// GB/s.
template <class T> double triad_rate(int threads) {
    const size_t count = (size_t{48} << 20) / sizeof(T);
    static Array<T> a(count), b(count), c(count);
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

/// Uniform laws in windows of several widths.
Prior product_prior(size_t d, int degree) {
    const size_t orders = static_cast<size_t>(2 * degree + 1);
    ProductPrior law{std::vector<double>(d, 0.1), std::vector<double>(d), Array<double>(orders, d)};
    std::vector<double> mean(orders);
    constexpr int points = 20'000;
    for (int p = 0; p < points; ++p) {
        const double z = (p + 0.5) * 4 / points - 2;
        double now = 1, before = 0; // sqrt(r + 1) phi_(r + 1) = z phi_r - sqrt(r) phi_(r - 1)
        for (size_t r = 0; r < orders; ++r) {
            mean[r] += now / points;
            const double up = (z * now - std::sqrt(static_cast<double>(r)) * before) /
                              std::sqrt(static_cast<double>(r + 1));
            before = now, now = up;
        }
    }
    for (size_t r = 0; r < orders; ++r)
        for (size_t j = 0; j < d; ++j) law.moments(r, j) = r ? mean[r] : 1;
    for (size_t j = 0; j < d; ++j) law.scale[j] = 0.4 + 0.02 * static_cast<double>(j % 7);
    return {{.degree = degree}, 1000, {d}, std::move(law)};
}

/// 41 time nodes of small coefficients.
Prior flat_prior(size_t d) {
    FlatPrior law;
    law.mean.assign(d, 0.1), law.lower.assign(d, -1), law.upper.assign(d, 1), law.varies.assign(d, 1);
    law.scale = 0.5, law.grid.t_min = 0, law.grid.t_end = 8;
    law.grid.node_time = law.grid.step_times(40);
    law.single = Array<double>(41, 6 * d), law.pair = Array<double>(41, d * (d - 1) / 2);
    for (double& c : law.single) c = 0.01;
    for (double& c : law.pair) c = 0.001;
    return {{.kind = PriorKind::flat}, 1000, {d}, std::move(law)};
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
    std::vector<double> sigma(levels ? rows : 1, 0.3);
    std::mt19937_64 engine(1);
    std::normal_distribution<double> normal;
    for (double& level : sigma)
        if (levels) level = std::exp(-1.2 + 1.2 * normal(engine));
    std::uniform_real_distribution<float> data(-0.7f, 0.9f); // within every window
    std::normal_distribution<float> noise;
    Array<float> some(64, d), random(67, d);
    for (float& v : some) v = data(engine);
    for (float& v : random) v = noise(engine);
    for (size_t n = 0; n < rows; ++n)
        for (size_t j = 0; j < d; ++j)
            x(n, j) = static_cast<T>(some(n % 64, j) +
                                     static_cast<float>(sigma[levels ? n : 0]) * random(n % 67, j));
    const PriorScore<T> score(context, prior);
    const NoisyRows<T> in{rows, x.data(), d, sigma.data(), sigma.size()};
    score(in, out.data(), d); // tables
    const int runs = static_cast<int>(std::clamp<size_t>((size_t{1} << 15) / rows, 5, 100));
    return best_seconds(
        context.threads(), [&] { score(in, out.data(), d); }, runs);
}

template <class T> void bench(const Context& context, const std::vector<size_t>& batches) {
    const size_t d = 3072;
    const char* const name = sizeof(T) == 4 ? "float32" : "float64";
    const int threads = context.threads();
    const auto each = [](bool levels) { return levels ? "a sigma a row" : "one sigma"; };
    double gemm = gemm_rate<T>(threads);
    for (const int degree : {6, 10})
        for (const bool levels : {false, true})
            for (const size_t rows : batches) {
                if (sizeof(T) == 8 && levels && rows > 256) continue; // by the equations
                const double before = triad_rate<T>(threads),
                             seconds = seconds_of<T>(context, product_prior(d, degree), rows, levels),
                             triad = std::max(before, triad_rate<T>(threads)),
                             rate = 2e-9 * static_cast<double>(rows * d * sizeof(T)) / seconds;
                fmt::print("{} threads  {}  product K = {:<2}  {:<13}  {:4} rows  {:6.2f} GB/s  {:5.1f} % of "
                           "the triad's "
                           "{:.1f}\n",
                           threads, name, degree, each(levels), rows, rate, 100 * rate / triad, triad);
            }
    const auto products = [&](const char* kind, const Prior& prior, size_t rows, double count, bool levels) {
        const size_t columns = prior.dimension();
        const double seconds = seconds_of<T>(context, prior, rows, levels);
        gemm = std::max(gemm, gemm_rate<T>(threads));
        const double rate = 2e-9 * count * static_cast<double>(rows * columns * columns) / seconds;
        fmt::print(
            "{} threads  {}  {:<14}  {:<13}  {:4} rows  {:6.1f} Gflop/s  {:5.1f} % of GEMM's {:.1f}, {:.3g} "
            "rows/s\n",
            threads, name, kind, each(levels), rows, rate, 100 * rate / gemm, gemm,
            static_cast<double>(rows) / seconds);
    };
    const Prior gaussian = gaussian_prior(d), flat = flat_prior(128);
    for (const bool levels : {false, true})
        products("gaussian", gaussian, std::min<size_t>(batches.back(), 512), 2, levels);
    for (const bool levels : {false, true})
        products("flat, d = 128", flat, batches.back(), levels ? 41 : 1, levels);
}

} // namespace

int main(int argc, char** argv) {
    std::vector<size_t> batches{64, 256, 1024, 4096};
    if (argc > 1) batches = {static_cast<size_t>(std::max(1L, std::atol(argv[1])))};
    std::vector<int> threads{1, 2};
    if (argc > 2) threads = {std::atoi(argv[2])};
    openblas_set_num_threads(1);
    for (const int count : threads) {
        ContextOptions options;
        options.threads = count;
        options.device = Device::cpu;
        const Context context(options);
        fmt::print("3072 columns, {} threads, {}\n", context.threads(), context.isa_name());
        bench<float>(context, batches);
        bench<double>(context, batches);
    }
}

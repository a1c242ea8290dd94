// bench_spine.cpp - rates of the moment pass and of the score beside the GEMM rate of the same run and
// precision. Usage: bench_spine [sites] [threads] [degree of nearest pairs]; default 64, all, 3. Flops are
// the useful ones: the lower triangle of symmetric products, coefficients that are not zero.
#include "engine/fit.h"
#include "engine/parallel.h"
#include "engine/sampler.h"
#include "engine/score.h"
#include "kernels/elementary.h"
#include "kernels/philox.h"
#include "kernels/score.h"
#include <algorithm>
#include <cblas.h>
#include <cstdlib>
#include <fmt/core.h>
#include <functional>
#include <time.h>

using namespace dynkin;
using std::size_t;

namespace {

/// Processor seconds a thread, best of several runs: on a shared machine other programs' time does not count.
double best_seconds(int threads, const std::function<void()>& work, int runs = 7) {
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

/// Every thread multiplies its own matrices: OpenBLAS at its best, without its synchronisation.
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

/// A chain with two-peaked marginals and nearest-neighbour correlation.
Array<double> chain_samples(size_t rows, size_t sites) {
    Array<double> x(rows, sites);
    for (size_t n = 0; n < rows; ++n) {
        double g = 0;
        for (size_t j = 0; j < sites; ++j) {
            const RandomWords w = philox(1, Stream::test, n, 0, static_cast<std::uint32_t>(j));
            double a, b;
            normals_from_uniforms(uniform(w.v[0]), uniform(w.v[1]), a, b);
            g = j ? 0.6 * g + 0.8 * a : a;
            x(n, j) = std::tanh(1.5 * g) + 0.3 * b;
        }
    }
    return x;
}

struct Problem {
    Reference reference;
    IndexSet basis;
    std::vector<ProductTables> tables;
};

Problem make_problem(int sites, int nearest) {
    Problem p;
    p.reference.families = {fitted_family({0, 0, -0.9, 0, 0.6}, -2.8, 2.8)};
    p.reference.family_of.assign(static_cast<size_t>(sites), 0);
    const Lattice lattice{{static_cast<size_t>(sites)}, Boundary::free};
    std::vector<int> places(static_cast<size_t>(sites));
    for (int i = 0; i < sites; ++i) places[static_cast<size_t>(i)] = i;
    auto rules = parse_pair_rules(fmt::format("nearest:{},all:1", nearest));
    p.basis = make_index_set(sites, 6, select_pairs(places, rules, &lattice, {}), 0, true);
    p.tables = {product_tables(p.reference.families[0], 6)};
    return p;
}

void bench_moments(const Context& context, const Problem& problem, const Array<double>& x, bool single,
                   double gemm) {
    const MomentPlan plan(problem.basis, problem.reference, problem.tables);
    const SampleSource source{x.rows(), [&](size_t first, size_t count, double* z) {
                                  std::copy_n(x.row(first), count * x.cols(), z);
                              }};
    MomentOptions options;
    options.single_precision = single;
    const double seconds = best_seconds(
        context.threads(),
        [&] {
            MomentSums sums;
            accumulate_moments(context, plan, problem.reference, source, options, sums);
        },
        3);
    const double rate = 2e-9 * plan.multiply_adds() * static_cast<double>(x.rows()) / seconds;
    fmt::print("moments  {}  {:7.1f} Gflop/s  {:5.1f} % of GEMM   {:.3g} samples/s, {:.0f} flops a sample\n",
               single ? "float32" : "float64", rate, 100 * rate / gemm,
               static_cast<double>(x.rows()) / seconds, 2 * plan.multiply_adds());
}

void bench_score(const Context& context, const Problem& problem, bool laplacian, double gemm) {
    using kernels::kScoreTile;
    Block block;
    block.reference = problem.reference, block.basis = problem.basis;
    const ScoreField<float> field(context, block);
    const auto c = field.arrange(std::vector<double>(block.basis.terms.size(), 0.01));
    const size_t sites = static_cast<size_t>(block.basis.sites), tiles = 512;
    const Array<double> x = chain_samples(kScoreTile, sites);
    Array<float> z(tiles, sites * kScoreTile), g(tiles, sites * kScoreTile + kScoreTile);
    for (size_t tile = 0; tile < tiles; ++tile)
        for (size_t j = 0; j < sites; ++j)
            for (size_t p = 0; p < kScoreTile; ++p) z(tile, j * kScoreTile + p) = static_cast<float>(x(p, j));
    Array<float> scratch(static_cast<size_t>(context.threads()), field.scratch());
    const double seconds = best_seconds(context.threads(), [&] {
        parallel_for(context.threads(), tiles, [&](size_t tile, size_t thread) {
            field.gradient(c, z.row(tile), g.row(tile),
                           laplacian ? g.row(tile) + sites * kScoreTile : nullptr, scratch.row(thread));
        });
    });
    const double particles = static_cast<double>(tiles * kScoreTile);
    const double rate = 2e-9 * field.multiply_adds() * particles / seconds;
    fmt::print("score    float32  {:7.1f} Gflop/s  {:5.1f} % of GEMM   {:.3g} particles/s, {:.0f} flops a "
               "particle{}\n",
               rate, 100 * rate / gemm, particles / seconds, 2 * field.multiply_adds(),
               laplacian ? ", with Laplacian (its flops not counted)" : "");
}

} // namespace

int main(int argc, char** argv) {
    const int sites = argc > 1 ? std::atoi(argv[1]) : 64;
    ContextOptions options;
    options.threads = argc > 2 ? std::atoi(argv[2]) : 0;
    const Context context(options);
    openblas_set_num_threads(1);
    const Problem problem = make_problem(sites, argc > 3 ? std::atoi(argv[3]) : 3);
    fmt::print("{} sites, {} terms, {} threads, {}\n", sites, problem.basis.terms.size(), context.threads(),
               context.isa_name());
    const double gemm64 = gemm_rate<double>(context.threads()), gemm32 = gemm_rate<float>(context.threads());
    fmt::print("GEMM     float64  {:7.1f} Gflop/s\nGEMM     float32  {:7.1f} Gflop/s\n", gemm64, gemm32);
    const Array<double> x = chain_samples(20'480, static_cast<size_t>(sites));
    bench_moments(context, problem, x, false, gemm64);
    bench_moments(context, problem, x, true, gemm32);
    bench_score(context, problem, false, gemm32);
    bench_score(context, problem, true, gemm32);
}

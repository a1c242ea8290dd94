// score_sums_cuda.cu - laws of local steps, draws from them, features of a basis, and sums over points: a few
// threads a law, else one an entry.
#include "gpu.h"
#include "nonlinear_cuda.h"

namespace dynkin::cuda {
namespace {

using gpu::blocks_asked, gpu::thread_number;

constexpr unsigned block_threads = 128;

/// Neighbouring threads of a warp, a power of two, that share the matrices of a path; other paths of the warp
/// may double more often.
struct WarpLanes {
    int size_;
    DYNKIN_HD int lane() const {
#if !defined(__CUDACC__) || defined(__CUDA_ARCH__)
        return static_cast<int>(threadIdx.x) & (size_ - 1);
#else
        return 0;
#endif
    }
    DYNKIN_HD int size() const { return size_; }
    DYNKIN_HD void sync() const {
#if !defined(__CUDACC__) || defined(__CUDA_ARCH__)
        __syncwarp((~0u >> (32 - size_))
                   << (threadIdx.x % 32 / static_cast<unsigned>(size_) * static_cast<unsigned>(size_)));
#endif
    }
};

int lanes_of(int d) {
    int lanes = 1;
    while (lanes < 32 && lanes < d * d) lanes *= 2;
    return lanes;
}

/// Doubles of shared memory that a law takes: its matrices and the Ito term.
__host__ __device__ std::size_t law_numbers(int d) {
    return static_cast<std::size_t>(LinearFlow::matrices * d * d + d);
}

/// Threads without a law of their own work on the last one, and keep it to themselves.
__global__ void __launch_bounds__(block_threads, blocks_asked)
    laws_kernel(LawPlan plan, WarpLanes lanes, std::size_t count, const double* y, const double* f,
                const double* jacobian, const double* ito, double* mean, double* factor,
                unsigned char* failed) {
    const int d = plan.d, lane = lanes.lane();
    const auto width = static_cast<std::size_t>(d);
    const std::size_t number = thread_number() / static_cast<std::size_t>(lanes.size()),
                      n = number < count ? number : count - 1;
    double* const memory =
        gpu::dynamic_shared<double>() + threadIdx.x / static_cast<unsigned>(lanes.size()) * law_numbers(d);
    double* const term = memory + LinearFlow::matrices * d * d;
    if (plan.kind == Linearisation::ito)
        for (int i = lane; i < d; i += lanes.size()) {
            double sum = 0;
            for (int j = 0; j < d; ++j)
                if (plan.noise[j] != 0)
                    sum +=
                        ito[(n * width + static_cast<std::size_t>(j)) * width + static_cast<std::size_t>(i)];
            term[i] = sum;
        }
    lanes.sync();
    const bool idle = number >= count;
    double* const own_mean = idle ? memory + 3 * d * d : mean + n * width;
    double* const own_factor = idle ? memory + 4 * d * d : factor + n * width * width;
    linear_law(lanes, d, plan.noise, y + n * width, plan.gap, plan.kind, f + n * width,
               jacobian + n * width * width, term, LinearFlow::in(memory, d), own_mean, own_factor);
    lanes.sync();
    if (lane != 0 || idle || !failed) return;
    bool bad = false;
    for (int i = 0; i < d; ++i) bad = bad || !(own_mean[i] - own_mean[i] == 0);
    for (int a = 0; a < plan.driven_count; ++a) bad = bad || !(own_factor[plan.driven[a] * (d + 1)] > 0);
    failed[n] = bad;
}

__global__ void __launch_bounds__(block_threads, blocks_asked)
    law_moments_kernel(int d, std::size_t count, const double* mean, const double* factor,
                       const double* origin, double* sums) {
    const auto width = static_cast<std::size_t>(d), entries = width + width * width;
    const std::size_t run = thread_number() / entries, e = thread_number() % entries, first = run * law_run;
    if (first >= count) return;
    const std::size_t last = count - first < law_run ? count : first + law_run;
    double sum = 0;
    for (std::size_t n = first; n < last; ++n)
        sum += law_moment(d, mean + n * width, factor + n * width * width, origin, static_cast<int>(e));
    sums[run * entries + e] = sum;
}

__global__ void __launch_bounds__(block_threads, blocks_asked)
    draws_kernel(DrawPlan plan, std::size_t count, const double* mean, const double* factor, double* points,
                 double* pulls) {
    const auto draws = static_cast<std::size_t>(plan.draws), width = static_cast<std::size_t>(plan.d),
               driven = static_cast<std::size_t>(plan.driven_count);
    const std::size_t n = thread_number() / draws, q = thread_number() % draws;
    if (n >= count) return;
    double xi[max_drift_dimension], pull[max_drift_dimension];
    path_normals(plan.seed, Stream::local_draw, plan.first + n, plan.node, static_cast<std::uint32_t>(8 * q),
                 plan.d, xi);
    for (std::size_t i = 0; i < width; ++i) pull[i] = xi[i];
    const double* const l = factor + n * width * width;
    solve_transposed(plan.d, l, pull);
    for (int s = 0; s < plan.signs; ++s) {
        const int sign = s == 0 ? 1 : -1;
        const std::size_t p =
            (n * draws + q) * static_cast<std::size_t>(plan.signs) + static_cast<std::size_t>(s);
        local_point(plan.d, mean + n * width, l, sign, xi, points + p * width);
        for (std::size_t a = 0; a < driven; ++a) pulls[p * driven + a] = -sign * pull[plan.driven[a]];
    }
}

/// Of one point: values, slopes and perhaps curvatures one after another.
__device__ FunctionTable table_of(const ScoreBasisView& basis, bool curvatures, const double* tables,
                                  std::size_t point) {
    const auto functions = static_cast<std::size_t>(basis.dimension * basis.width());
    double* const own = const_cast<double*>(tables) + point * functions * (curvatures ? 3 : 2);
    return {own, own + functions, curvatures ? own + 2 * functions : nullptr, 1};
}

__global__ void __launch_bounds__(block_threads, blocks_asked)
    tables_kernel(ScoreBasisView basis, std::size_t points, const double* x, bool curvatures, double* table) {
    const auto width = static_cast<std::size_t>(basis.dimension);
    const std::size_t p = thread_number() / width, j = thread_number() % width;
    if (p >= points) return;
    table_of(basis, curvatures, table, p).fill(basis, static_cast<int>(j), x[p * width + j]);
}

__global__ void __launch_bounds__(block_threads, blocks_asked)
    features_kernel(ScoreBasisView basis, std::size_t points, bool curvatures, const double* table,
                    double weight, std::size_t stride, double* features) {
    const auto terms = static_cast<std::size_t>(basis.terms);
    const std::size_t p = thread_number() / terms, k = thread_number() % terms;
    if (p >= points) return;
    const FunctionTable own = table_of(basis, curvatures, table, p);
    for (int a = 0; a < basis.driven_count; ++a) {
        double first, second;
        term_derivatives(basis, static_cast<int>(k), basis.driven[a], own, first, second);
        features[(p * static_cast<std::size_t>(basis.driven_count) + static_cast<std::size_t>(a)) * stride +
                 k] = first * weight;
    }
}

__global__ void __launch_bounds__(block_threads, blocks_asked)
    targets_kernel(ScoreBasisView basis, ReferenceView reference, const double* noise, std::size_t points,
                   const double* x, const double* f, const double* pulls, double weight, std::size_t stride,
                   double* targets) {
    const auto driven = static_cast<std::size_t>(basis.driven_count),
               width = static_cast<std::size_t>(basis.dimension);
    const std::size_t p = thread_number() / driven, a = thread_number() % driven;
    if (p >= points) return;
    const double score = reference_component(reference, basis.dimension, noise, f ? f + p * width : nullptr,
                                             x + p * width, basis.driven[a]);
    targets[(p * driven + a) * stride] = weight * ((pulls ? pulls[p * driven + a] : 0) - score);
}

__global__ void __launch_bounds__(block_threads, blocks_asked)
    laplacian_kernel(ScoreBasisView basis, std::size_t points, const double* table, double* sums) {
    const auto terms = static_cast<std::size_t>(basis.terms);
    const std::size_t run = thread_number() / terms, k = thread_number() % terms, from = run * sum_run;
    if (from >= points) return;
    const std::size_t to = points - from < sum_run ? points : from + sum_run;
    double sum = 0;
    for (std::size_t p = from; p < to; ++p) {
        const FunctionTable own = table_of(basis, true, table, p);
        double laplacian = 0;
        for (int a = 0; a < basis.driven_count; ++a) {
            double first, second;
            term_derivatives(basis, static_cast<int>(k), basis.driven[a], own, first, second);
            laplacian += second;
        }
        sum -= laplacian;
    }
    sums[run * terms + k] = sum;
}

__global__ void __launch_bounds__(block_threads, blocks_asked)
    production_kernel(ScoreBasisView basis, std::size_t points, std::size_t sets, const double* noise,
                      const double* f, const double* references, const double* features,
                      const double* coefficients, double* sums) {
    const std::size_t run = thread_number() / sets, c = thread_number() % sets, from = run * sum_run;
    if (from >= points) return;
    const std::size_t to = points - from < sum_run ? points : from + sum_run;
    const auto terms = static_cast<std::size_t>(basis.terms), d = static_cast<std::size_t>(basis.dimension);
    double sum = 0;
    for (std::size_t p = from; p < to; ++p)
        for (std::size_t i = 0; i < d; ++i) {
            const double* const row = features + (p * d + i) * terms;
            double slope = 0;
            for (std::size_t k = 0; k < terms; ++k) slope += coefficients[k * sets + c] * row[k];
            sum += production_term(noise[i], f[p * d + i], references[p * d + i] + slope);
        }
    sums[run * sets + c] = sum;
}

__global__ void __launch_bounds__(block_threads, blocks_asked)
    add_kernel(std::size_t parts, std::size_t size, const double* part, double* sum) {
    const std::size_t e = thread_number();
    if (e >= size) return;
    double total = sum[e];
    for (std::size_t b = 0; b < parts; ++b) total += part[b * size + e];
    sum[e] = total;
}

std::size_t runs_of(std::size_t count, std::size_t run) { return (count + run - 1) / run; }

} // namespace

void local_laws(DeviceStream stream, const LawPlan& plan, std::size_t count, const double* y, const double* f,
                const double* jacobian, const double* ito, double* mean, double* factor,
                unsigned char* failed) {
    if (count == 0) return;
    const int lanes = lanes_of(plan.d);
    const unsigned laws = block_threads / static_cast<unsigned>(lanes);
    gpu::launch(laws_kernel, gpu::blocks_for(count, laws), block_threads,
                laws * law_numbers(plan.d) * sizeof(double), stream, plan, WarpLanes{lanes}, count, y, f,
                jacobian, ito, mean, factor, failed);
}

void law_moments(DeviceStream stream, int d, std::size_t count, const double* mean, const double* factor,
                 const double* origin, double* sums) {
    if (count == 0) return;
    const auto entries = static_cast<std::size_t>(d + d * d);
    gpu::launch(law_moments_kernel, gpu::blocks_for(runs_of(count, law_run) * entries, block_threads),
                block_threads, 0, stream, d, count, mean, factor, origin, sums);
}

void local_draws(DeviceStream stream, const DrawPlan& plan, std::size_t count, const double* mean,
                 const double* factor, double* points, double* pulls) {
    if (count == 0) return;
    gpu::launch(draws_kernel, gpu::blocks_for(count * static_cast<std::size_t>(plan.draws), block_threads),
                block_threads, 0, stream, plan, count, mean, factor, points, pulls);
}

void basis_tables(DeviceStream stream, const ScoreBasisView& basis, std::size_t points, const double* x,
                  bool curvatures, double* table) {
    if (points == 0) return;
    gpu::launch(tables_kernel,
                gpu::blocks_for(points * static_cast<std::size_t>(basis.dimension), block_threads),
                block_threads, 0, stream, basis, points, x, curvatures, table);
}

void basis_features(DeviceStream stream, const ScoreBasisView& basis, std::size_t points, bool curvatures,
                    const double* table, double weight, std::size_t stride, double* features) {
    if (points == 0) return;
    gpu::launch(features_kernel,
                gpu::blocks_for(points * static_cast<std::size_t>(basis.terms), block_threads), block_threads,
                0, stream, basis, points, curvatures, table, weight, stride, features);
}

void score_targets(DeviceStream stream, const ScoreBasisView& basis, const ReferenceView& reference,
                   const double* noise, std::size_t points, const double* x, const double* f,
                   const double* pulls, double weight, std::size_t stride, double* targets) {
    if (points == 0) return;
    gpu::launch(
        targets_kernel, gpu::blocks_for(points * static_cast<std::size_t>(basis.driven_count), block_threads),
        block_threads, 0, stream, basis, reference, noise, points, x, f, pulls, weight, stride, targets);
}

void laplacian_runs(DeviceStream stream, const ScoreBasisView& basis, std::size_t points, const double* table,
                    double* sums) {
    if (points == 0) return;
    gpu::launch(
        laplacian_kernel,
        gpu::blocks_for(runs_of(points, sum_run) * static_cast<std::size_t>(basis.terms), block_threads),
        block_threads, 0, stream, basis, points, table, sums);
}

void production_runs(DeviceStream stream, const ScoreBasisView& basis, std::size_t points, std::size_t sets,
                     const double* noise, const double* f, const double* references, const double* features,
                     const double* coefficients, double* sums) {
    if (points == 0) return;
    gpu::launch(production_kernel, gpu::blocks_for(runs_of(points, sum_run) * sets, block_threads),
                block_threads, 0, stream, basis, points, sets, noise, f, references, features, coefficients,
                sums);
}

void add_parts(DeviceStream stream, std::size_t parts, std::size_t size, const double* part, double* sum) {
    if (parts == 0 || size == 0) return;
    gpu::launch(add_kernel, gpu::blocks_for(size, block_threads), block_threads, 0, stream, parts, size, part,
                sum);
}

} // namespace dynkin::cuda

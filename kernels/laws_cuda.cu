// laws_cuda.cu - the kernels of laws_cuda.h: cumulated masses, histograms, sums over values.
#include "laws_cuda.h"
#include "pairwise_cuda.h"
#include <cstddef>

namespace dynkin::cuda {
namespace {

constexpr unsigned block_threads = 128;

std::size_t runs_of(std::size_t size) { return (size + law_run - 1) / law_run; }

/// Thread: a run of masses; its sum.
__global__ void __launch_bounds__(block_threads)
    run_sums_kernel(std::size_t size, std::size_t runs, const double* mass, double* run_sum) {
    const std::size_t run = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x,
                      law = blockIdx.y;
    if (run >= runs) return;
    const std::size_t first = run * law_run, last = first + law_run < size ? first + law_run : size;
    double sum = 0;
    for (std::size_t n = first; n < last; ++n) sum += mass[law * size + n];
    run_sum[law * runs + run] = sum;
}

/// Thread: 64 neighbouring sums, which become what stands before each; their total.
__global__ void __launch_bounds__(block_threads)
    offsets_kernel(std::size_t runs, std::size_t groups, std::size_t in_a_group, double* run_sum,
                   double* group_sum) {
    const std::size_t group = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x,
                      law = blockIdx.y;
    if (group >= groups) return;
    const std::size_t first = group * in_a_group,
                      last = first + in_a_group < runs ? first + in_a_group : runs;
    double sum = 0;
    for (std::size_t run = first; run < last; ++run) {
        double& here = run_sum[law * runs + run];
        const double own = here;
        here = sum;
        sum += own;
    }
    if (group_sum) group_sum[law * groups + group] = sum;
}

/// Thread: a run of masses, which become cumulated.
__global__ void __launch_bounds__(block_threads)
    cumulate_kernel(std::size_t size, std::size_t runs, std::size_t groups, const double* run_offset,
                    const double* group_offset, double* mass) {
    const std::size_t run = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x,
                      law = blockIdx.y;
    if (run >= runs) return;
    const std::size_t first = run * law_run, last = first + law_run < size ? first + law_run : size;
    const double before_run = run_offset[law * runs + run],
                 before_group = group_offset[law * groups + run / law_run];
    double sum = 0;
    for (std::size_t n = first; n < last; ++n) {
        double& here = mass[law * size + n];
        sum += here;
        const double all = before_group + (before_run + sum);
        here = all < 1 ? all : 1;
    }
}

struct BinDifferences {
    double of[law_bins];
};

/// Block: a law and its reference; thread: a bin.
__global__ void __launch_bounds__(64)
    total_variation_kernel(LawsView laws, LawsView reference, double* total_variation, double* constant) {
    auto& difference = gpu::shared<BinDifferences>();
    const LawView law = laws.law(blockIdx.x), other = reference.law(blockIdx.x);
    const double lo = other.value[0], hi = other.value[other.size - 1];
    const bool varies = hi > lo;
    const auto mass_in = [=](const LawView& of, int bin) {
        return of.first(before_bin(of, lo, hi, bin + 1)) - of.first(before_bin(of, lo, hi, bin));
    };
    const int bin = static_cast<int>(threadIdx.x);
    if (varies && bin < law_bins) difference.of[bin] = std::fabs(mass_in(law, bin) - mass_in(other, bin));
    __syncthreads();
    if (threadIdx.x > 0) return;
    double sum = 0;
    if (varies)
        for (int b = 0; b < law_bins; ++b) sum += difference.of[b];
    total_variation[blockIdx.x] = varies ? sum / 2 : mass_elsewhere(law, lo);
    constant[blockIdx.x] = varies ? 0 : 1;
}

struct DistanceTerms : Added {
    LawsView laws, reference;
    int power;
    __device__ double leaf(unsigned k, std::size_t first, std::size_t last) const {
        return QuantilePieces{laws.law(k), reference.law(k), power}.sum(first, last);
    }
};

struct MeanTerms : Added {
    std::size_t size;
    const double *value, *mass;
    double equal;
    __device__ double leaf(unsigned k, std::size_t first, std::size_t last) const {
        double sum = 0;
        for (std::size_t n = first; n < last; ++n) sum += (mass ? mass[n] : equal) * value[k * size + n];
        return sum;
    }
};

struct DeviationTerms : Added {
    std::size_t size;
    const double *value, *mass, *center;
    double equal;
    __device__ double leaf(unsigned k, std::size_t first, std::size_t last) const {
        double sum = 0;
        for (std::size_t n = first; n < last; ++n) {
            const double from = value[k * size + n] - center[k];
            sum += (mass ? mass[n] : equal) * (from * from);
        }
        return sum;
    }
};

} // namespace

std::size_t cumulate_space(std::size_t size) { return runs_of(size) + runs_of(runs_of(size)); }

void cumulate(DeviceStream stream, unsigned count, std::size_t size, double* masses, double* space) {
    if (count == 0 || size == 0) return;
    const std::size_t runs = runs_of(size), groups = runs_of(runs);
    double *run_sum = space, *group_sum = space + count * runs;
    const dim3 over_runs(gpu::blocks_for(runs, block_threads), count),
        over_groups(gpu::blocks_for(groups, block_threads), count), once(1, count);
    gpu::launch(run_sums_kernel, over_runs, block_threads, 0, stream, size, runs, masses, run_sum);
    gpu::launch(offsets_kernel, over_groups, block_threads, 0, stream, runs, groups, law_run, run_sum,
                group_sum);
    gpu::launch(offsets_kernel, once, block_threads, 0, stream, groups, std::size_t{1}, groups, group_sum,
                nullptr);
    gpu::launch(cumulate_kernel, over_runs, block_threads, 0, stream, size, runs, groups, run_sum, group_sum,
                masses);
}

void total_variations(DeviceStream stream, unsigned count, const LawsView& laws, const LawsView& reference,
                      double* total_variation, double* constant) {
    if (count == 0) return;
    gpu::launch(total_variation_kernel, count, 64, 0, stream, laws, reference, total_variation, constant);
}

void quantile_distances(DeviceStream stream, unsigned count, const LawsView& laws, const LawsView& reference,
                        int power, double* sums) {
    if (count == 0) return;
    const PairwiseTree tree = PairwiseTree::of(laws.size + reference.size - 1);
    pairwise_blocks(stream, DistanceTerms{{}, laws, reference, power}, tree, whole(tree), count, sums);
}

void means(DeviceStream stream, unsigned count, std::size_t size, const double* value, const double* mass,
           double* sums) {
    if (count == 0) return;
    const PairwiseTree tree = PairwiseTree::of(size);
    pairwise_blocks(stream, MeanTerms{{}, size, value, mass, 1 / static_cast<double>(size)}, tree,
                    whole(tree), count, sums);
}

void squared_deviations(DeviceStream stream, unsigned count, std::size_t size, const double* value,
                        const double* mass, const double* center, double* sums) {
    if (count == 0) return;
    const PairwiseTree tree = PairwiseTree::of(size);
    pairwise_blocks(stream, DeviationTerms{{}, size, value, mass, center, 1 / static_cast<double>(size)},
                    tree, whole(tree), count, sums);
}

} // namespace dynkin::cuda

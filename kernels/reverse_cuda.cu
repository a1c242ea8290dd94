// reverse_cuda.cu - scores of a model and steps of the reversed process: a thread a particle, whose functions
// of single coordinates stand in shared memory.
#include "gpu.h"
#include "nonlinear_cuda.h"

namespace dynkin::cuda {
namespace {

using gpu::blocks_asked, gpu::thread_number;

constexpr unsigned most_threads = 64, least_threads = 32;

std::size_t functions_of(const ScoreBasisView& basis) {
    return static_cast<std::size_t>(basis.dimension * basis.width());
}

/// Threads of a block, and its shared memory: function e of a thread stands beside that of its neighbours.
unsigned threads_for(const ScoreBasisView& basis) {
    const std::size_t bytes = most_threads * 2 * functions_of(basis) * sizeof(double);
    return bytes <= gpu::default_shared_memory ? most_threads : least_threads;
}
std::size_t shared_for(const ScoreBasisView& basis) {
    return threads_for(basis) * 2 * functions_of(basis) * sizeof(double);
}
__device__ FunctionTable own_table(const ScoreBasisView& basis) {
    double* const values = gpu::dynamic_shared<double>() + threadIdx.x;
    return {values, values + static_cast<unsigned>(basis.dimension * basis.width()) * blockDim.x, nullptr,
            static_cast<int>(blockDim.x)};
}

template <class View> __global__ void __launch_bounds__(most_threads, blocks_asked)
    scores_kernel(View law, ReverseModel model, ScoreAtView at, std::size_t count, const double* x,
                  double* score) {
    const std::size_t n = thread_number(), d = static_cast<std::size_t>(law.dimension),
                      driven = static_cast<std::size_t>(model.basis.driven_count);
    if (n >= count) return;
    double f[max_drift_dimension], own[max_drift_dimension];
    drift(law, x + n * d, f);
    model_score(model, at, own_table(model.basis), f, x + n * d, own);
    for (std::size_t a = 0; a < driven; ++a) score[n * driven + a] = own[a];
}

template <class View> __global__ void __launch_bounds__(most_threads, blocks_asked)
    reverse_kernel(View law, ReverseModel model, ScoreAtView from, ScoreAtView to, ReverseStep step,
                   std::size_t count, double* x, std::uint32_t* away) {
    const std::size_t n = thread_number(), d = static_cast<std::size_t>(law.dimension);
    if (n >= count) return;
    double at[max_drift_dimension], xi[max_drift_dimension];
    for (std::size_t i = 0; i < d; ++i) at[i] = x[n * d + i];
    path_normals(step.seed, Stream::reverse_noise, step.first + n, step.step, 0, law.dimension, xi);
    if (reverse_step(law, model, from, to, own_table(model.basis), step.h, xi, at)) away[n] += 1;
    for (std::size_t i = 0; i < d; ++i) x[n * d + i] = at[i];
}

} // namespace

void model_scores(DeviceStream stream, const DriftOnDevice& law, const ReverseModel& model,
                  const ScoreAtView& at, std::size_t count, const double* x, double* score) {
    if (count == 0) return;
    const unsigned threads = threads_for(model.basis);
    std::visit(
        [&]<class View>(const View& view) {
            gpu::launch(scores_kernel<View>, gpu::blocks_for(count, threads), threads,
                        shared_for(model.basis), stream, view, model, at, count, x, score);
        },
        law);
}

void reverse_steps(DeviceStream stream, const DriftOnDevice& law, const ReverseModel& model,
                   const ScoreAtView& from, const ScoreAtView& to, const ReverseStep& step, std::size_t count,
                   double* x, std::uint32_t* away) {
    if (count == 0) return;
    const unsigned threads = threads_for(model.basis);
    std::visit(
        [&]<class View>(const View& view) {
            gpu::launch(reverse_kernel<View>, gpu::blocks_for(count, threads), threads,
                        shared_for(model.basis), stream, view, model, from, to, step, count, x, away);
        },
        law);
}

} // namespace dynkin::cuda

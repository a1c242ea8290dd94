// dispatch.cpp - the kernels of the SIMD level that a context chose.
#include "dispatch.h"
#include "conditional.h"
#include "moments.h"
#include "prior.h"
#include "prior_table.h"
#include "score.h"
#include "step.h"
#include "table.h"
#include "waves.h"

namespace dynkin::kernels {

DYNKIN_DISPATCH(MomentKernels, moment_kernels)
DYNKIN_DISPATCH(ScoreKernels, score_kernels)
DYNKIN_DISPATCH(ConditionalKernels, conditional_kernels)
DYNKIN_DISPATCH(WaveKernels, wave_kernels)
DYNKIN_DISPATCH(PriorKernels, prior_kernels)

DYNKIN_DISPATCH_ONE(StepKernels, step_kernels)
DYNKIN_DISPATCH_ONE(TableKernels, table_kernels)
DYNKIN_DISPATCH_ONE(PriorTableKernels, prior_table_kernels)

template <class T> std::size_t moment_scratch(const MomentGroup& group) {
    // Panels of columns, and rows, of one block of samples, at the widest level.
    constexpr std::size_t depth = 1024 / sizeof(T) < kMomentTile ? 1024 / sizeof(T) : kMomentTile;
    // Cyclic: functions and weights of a sample side by side.
    if (group.cyclic())
        return kMomentCyclicDepth * (moment_cyclic_stride<T>(group) + group.weights.size() + 16);
    const std::size_t rows = moment_rows_are_shared(group) ? group.rows.size() + 3 : 24;
    return kMomentPanels * depth * 64 / sizeof(T) + rows * (depth + 64 / sizeof(T));
}
template std::size_t moment_scratch<float>(const MomentGroup&);
template std::size_t moment_scratch<double>(const MomentGroup&);

} // namespace dynkin::kernels

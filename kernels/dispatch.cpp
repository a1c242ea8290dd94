// dispatch.cpp - the kernels of the SIMD level that a context chose.
#include "dispatch.h"
#include "conditional.h"
#include "moments.h"
#include "prior.h"
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

const StepKernels& step_kernels_baseline();
const StepKernels& step_kernels_avx2();
const StepKernels& step_kernels_avx512();
const StepKernels& step_kernels(Isa isa) {
#if defined(__x86_64__)
    if (isa == Isa::avx512) return step_kernels_avx512();
    if (isa == Isa::avx2) return step_kernels_avx2();
#endif
    (void)isa;
    return step_kernels_baseline();
}

const TableKernels& table_kernels_baseline();
const TableKernels& table_kernels_avx2();
const TableKernels& table_kernels_avx512();
const TableKernels& table_kernels(Isa isa) {
#if defined(__x86_64__)
    if (isa == Isa::avx512) return table_kernels_avx512();
    if (isa == Isa::avx2) return table_kernels_avx2();
#endif
    (void)isa;
    return table_kernels_baseline();
}

template <class T> std::size_t moment_scratch(const MomentGroup& group) {
    // Panels of columns, and rows, of one block of samples, at the widest level.
    constexpr std::size_t depth = 1024 / sizeof(T) < kMomentTile ? 1024 / sizeof(T) : kMomentTile;
    const std::size_t rows = moment_rows_are_shared(group) ? group.rows.size() + 3 : 24;
    return kMomentPanels * depth * 64 / sizeof(T) + rows * (depth + 64 / sizeof(T));
}
template std::size_t moment_scratch<float>(const MomentGroup&);
template std::size_t moment_scratch<double>(const MomentGroup&);

} // namespace dynkin::kernels

// step_simd.cpp - the host loops of step.h for one SIMD level.
#include "elementary.h"
#include "philox.h"
#include "score.h"
#include "simd.h"
#include "step.h"

namespace dynkin::kernels {
namespace DYNKIN_ISA {
namespace {

void words(std::uint64_t seed, std::uint32_t stream, std::uint64_t first, std::uint32_t step,
           std::uint32_t slot, std::uint32_t (*out)[kScoreTile]) {
    for (int p = 0; p < kScoreTile; ++p) {
        const RandomWords w =
            philox(seed, static_cast<Stream>(stream), first + static_cast<std::uint64_t>(p), step, slot);
        for (int k = 0; k < 4; ++k) out[k][p] = w.v[k];
    }
}

void uniforms(std::uint64_t seed, std::uint32_t stream, std::uint64_t first, std::uint32_t step,
              std::uint32_t slot, float* u) {
    std::uint32_t w[4][kScoreTile];
    words(seed, stream, first, step, slot, w);
    for (int k = 0; k < 4; ++k)
        for (int p = 0; p < kScoreTile; ++p) u[k * kScoreTile + p] = uniform_float(w[k][p]);
}

void normals(std::uint64_t seed, std::uint32_t stream, std::uint64_t first, std::uint32_t step,
             std::uint32_t slot, float* n) {
    std::uint32_t w[4][kScoreTile];
    words(seed, stream, first, step, slot, w);
    for (int k = 0; k < 4; k += 2)
        for (int p = 0; p < kScoreTile; ++p) {
            double a, b;
            normals_from_uniforms(uniform(w[k][p]), uniform(w[k + 1][p]), a, b);
            n[k * kScoreTile + p] = static_cast<float>(a),
                               n[(k + 1) * kScoreTile + p] = static_cast<float>(b);
        }
}

void transition_tile(const TransitionView& table, const float* u, float* z) {
    const int rows = table.rows, columns = table.columns;
    const float lo = table.lo, inverse_h = table.inverse_h;
    int at[kScoreTile];
    float fa[kScoreTile], fp[kScoreTile];
    for (int p = 0; p < kScoreTile; ++p) {
        const TransitionCell cell = transition_cell(rows, columns, lo, inverse_h, z[p], u[p]);
        at[p] = cell.at, fa[p] = cell.column_fraction, fp[p] = cell.row_fraction;
    }
    for (int p = 0; p < kScoreTile; p += kLanes<float>) {
        Index<float> k;
        std::memcpy(&k, at + p, sizeof k);
        const auto corner = [&](int offset) { return lookup(table.table + offset, k); };
        store(z + p, transition_value(corner(0), corner(1), corner(columns), corner(columns + 1),
                                      load(fa + p), load(fp + p)));
    }
}

} // namespace
} // namespace DYNKIN_ISA

const StepKernels& DYNKIN_ISA_NAME(step_kernels)() {
    static const StepKernels kernels{DYNKIN_ISA::uniforms, DYNKIN_ISA::normals, DYNKIN_ISA::transition_tile};
    return kernels;
}

} // namespace dynkin::kernels

// waves_simd.cpp - the host loops of waves.h for one SIMD level.
#include "functions_simd.h"
#include "waves.h"

namespace dynkin::kernels {
namespace DYNKIN_ISA {
namespace {

/// f[n][particle] and slope[n][particle] of one coordinate.
template <class T> void evaluate_waves(bool periodic, int functions, const T* u, T* f, T* slope) {
    T first_cos[kScoreTile], first_sin[kScoreTile];
    for (int p = 0; p < kScoreTile; ++p) first_wave(u[p], first_cos[p], first_sin[p]);
    for (int p = 0; p < kScoreTile; p += kLanes<T>) {
        const Vector<T> c1 = load(first_cos + p), s1 = load(first_sin + p);
        Vector<T> c = c1, s = s1;
        store(f + p, broadcast(T{1})), store(slope + p, Vector<T>{});
        for (int n = 1, m = 1; n < functions; ++m) {
            store(f + n * kScoreTile + p, c), store(slope + n * kScoreTile + p, static_cast<T>(-m) * s), ++n;
            if (periodic)
                store(f + n * kScoreTile + p, s), store(slope + n * kScoreTile + p, static_cast<T>(m) * c),
                    ++n;
            next_wave(c1, s1, c, s);
        }
    }
}

/// sum c f, sum c f', sum lambda c f over the last factor of one run, for a part of the tile in registers.
template <class T> struct RunSums {
    Vector<T> value[kPart<T>] = {}, slope[kPart<T>] = {}, decay[kPart<T>] = {};
};
template <class T> inline __attribute__((always_inline)) RunSums<T>
sum_run(const WaveRun& run, const WaveCoefficients<T>& c, const T* f, const T* slope) {
    RunSums<T> s;
    const T *value = c.value.data() + run.offset, *decay = c.decay.data() + run.offset;
    for (int n = 0; n < run.count; ++n) {
        const Vector<T> a = broadcast(value[n]), b = broadcast(decay[n]);
#pragma GCC unroll 4
        for (int v = 0; v < kPart<T>; ++v) {
            const Vector<T> p = load(f + n * kScoreTile + v * kLanes<T>);
            s.value[v] += a * p, s.decay[v] += b * p;
            s.slope[v] += a * load(slope + n * kScoreTile + v * kLanes<T>);
        }
    }
    return s;
}

template <int DIMENSION, class T> void sum_part(const WavePlan& plan, const WaveCoefficients<T>& c,
                                                const T* f, const T* slope, T* gradient, T* laplacian) {
    constexpr int last = DIMENSION - 1;
    const int stride = plan.functions * kScoreTile;
    Vector<T> g[DIMENSION][kPart<T>] = {}, lap[kPart<T>] = {};
    for (const WaveRun& run : plan.runs) {
        const RunSums<T> s = sum_run(run, c, f + last * stride, slope + last * stride);
#pragma GCC unroll 4
        for (int v = 0; v < kPart<T>; ++v) {
            Vector<T> before = broadcast(T{1}); // the factors before the last one
            const auto factor = [&](const T* table, int j) {
                return load(table + j * stride + run.prefix[j] * kScoreTile + v * kLanes<T>);
            };
            if constexpr (DIMENSION == 2) {
                before = factor(f, 0);
                g[0][v] += factor(slope, 0) * s.value[v];
            } else if constexpr (DIMENSION == 3) {
                const Vector<T> a = factor(f, 0), b = factor(f, 1);
                before = a * b;
                g[0][v] += factor(slope, 0) * b * s.value[v];
                g[1][v] += a * factor(slope, 1) * s.value[v];
            }
            g[last][v] += before * s.slope[v];
            lap[v] -= before * s.decay[v];
        }
    }
    for (int v = 0; v < kPart<T>; ++v) {
        for (int j = 0; j < DIMENSION; ++j) store(gradient + j * kScoreTile + v * kLanes<T>, g[j][v]);
        store(laplacian + v * kLanes<T>, lap[v]);
    }
}

template <class T> void wave_gradient(const WavePlan& plan, const WaveCoefficients<T>& c, const T* u,
                                      T* gradient, T* laplacian, T* scratch) {
    const int stride = plan.functions * kScoreTile;
    T *f = scratch, *slope = f + plan.dimension * stride;
    for (int j = 0; j < plan.dimension; ++j)
        evaluate_waves(plan.periodic, plan.functions, u + j * kScoreTile, f + j * stride, slope + j * stride);
    const auto sum = plan.dimension == 1   ? sum_part<1, T>
                     : plan.dimension == 2 ? sum_part<2, T>
                                           : sum_part<3, T>;
    for (int p = 0; p < kScoreTile; p += kPart<T> * kLanes<T>)
        sum(plan, c, f + p, slope + p, gradient + p, laplacian + p);
}

} // namespace
} // namespace DYNKIN_ISA

template <class T> const WaveKernels<T>& DYNKIN_ISA_NAME(wave_kernels)() {
    static const WaveKernels<T> kernels{DYNKIN_ISA::wave_gradient<T>};
    return kernels;
}
template const WaveKernels<float>& DYNKIN_ISA_NAME(wave_kernels)<float>();
template const WaveKernels<double>& DYNKIN_ISA_NAME(wave_kernels)<double>();

} // namespace dynkin::kernels

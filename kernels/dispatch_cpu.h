// dispatch_cpu.h - runs a loop nest compiled for the SIMD level of the context; private to kernels/*_cpu.cpp.
#pragma once
#include "engine/context.h"
#include <utility>

namespace dynkin::cpu {

#if defined(__clang__)
#define DYNKIN_TARGET_AVX512 "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"
#else
#define DYNKIN_TARGET_AVX512 "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512"
#endif

#if defined(__x86_64__)
template <class Body> [[gnu::target(DYNKIN_TARGET_AVX512), gnu::flatten]] void run_avx512(const Body& body) {
    body();
}
template <class Body> [[gnu::target("avx2,fma"), gnu::flatten]] void run_avx2(const Body& body) { body(); }
#endif
template <class Body> [[gnu::flatten]] void run_baseline(const Body& body) { body(); }

// Instrumented code inlined whole, three times over, takes minutes to compile; the bits are the same at every
// level.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define DYNKIN_ONE_LEVEL 1
#else
#define DYNKIN_ONE_LEVEL 0
#endif

/// Calls body() with everything it calls inlined and compiled for `isa` (never `automatic` in a Context). The
/// body holds raw loops only: what throws or allocates stays outside.
template <class Body> void with_isa(Isa isa, const Body& body) {
#if DYNKIN_ONE_LEVEL
    (void)isa;
    body();
#else
#if defined(__x86_64__)
    if (isa == Isa::avx512) return run_avx512(body);
    if (isa == Isa::avx2) return run_avx2(body);
#endif
    (void)isa;
    run_baseline(body);
#endif
}

} // namespace dynkin::cpu

// dispatch.h - chooses the instance of a kernel table that was compiled for a SIMD level.
#pragma once
#include "engine/context.h"

/// Defines `const TABLE<T>& name(Isa)` over the instances name_baseline, name_avx2 and name_avx512.
#if defined(__x86_64__)
#define DYNKIN_DISPATCH(TABLE, name)                                                                         \
    template <class T> const TABLE<T>& name##_baseline();                                                    \
    template <class T> const TABLE<T>& name##_avx2();                                                        \
    template <class T> const TABLE<T>& name##_avx512();                                                      \
    template <class T> const TABLE<T>& name(Isa isa) {                                                       \
        return isa == Isa::avx512 ? name##_avx512<T>()                                                       \
               : isa == Isa::avx2 ? name##_avx2<T>()                                                         \
                                  : name##_baseline<T>();                                                    \
    }                                                                                                        \
    template const TABLE<float>& name(Isa);                                                                  \
    template const TABLE<double>& name(Isa);
#else
#define DYNKIN_DISPATCH(TABLE, name)                                                                         \
    template <class T> const TABLE<T>& name##_baseline();                                                    \
    template <class T> const TABLE<T>& name(Isa) { return name##_baseline<T>(); }                            \
    template const TABLE<float>& name(Isa);                                                                  \
    template const TABLE<double>& name(Isa);
#endif

/// The same for `const TABLE& name(Isa)`: kernels of one type of numbers.
#if defined(__x86_64__)
#define DYNKIN_HIGHER_LEVELS(name)                                                                           \
    if (isa == Isa::avx512) return name##_avx512();                                                          \
    if (isa == Isa::avx2) return name##_avx2();
#else
#define DYNKIN_HIGHER_LEVELS(name)
#endif
#define DYNKIN_DISPATCH_ONE(TABLE, name)                                                                     \
    const TABLE& name##_baseline();                                                                          \
    const TABLE& name##_avx2();                                                                              \
    const TABLE& name##_avx512();                                                                            \
    const TABLE& name([[maybe_unused]] Isa isa) {                                                            \
        DYNKIN_HIGHER_LEVELS(name)                                                                           \
        return name##_baseline();                                                                            \
    }

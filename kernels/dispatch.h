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

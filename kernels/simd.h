// simd.h - vectors of the SIMD level this file is compiled for (GCC vector extensions), included by
// *_simd.cpp only.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef DYNKIN_ISA
#define DYNKIN_ISA baseline
#endif
#define DYNKIN_CONCAT_(a, b) a##b
#define DYNKIN_CONCAT(a, b) DYNKIN_CONCAT_(a, b)
/// name_baseline, name_avx2, name_avx512
#define DYNKIN_ISA_NAME(name) DYNKIN_CONCAT(name##_, DYNKIN_ISA)

namespace dynkin::kernels::DYNKIN_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kRegisters = 16;
#else
constexpr int kVectorBytes = 16, kRegisters = 16;
#endif

template <class T> struct VectorOf;
template <> struct VectorOf<float> {
    typedef float type __attribute__((vector_size(kVectorBytes), may_alias));
    typedef std::int32_t index __attribute__((vector_size(kVectorBytes), may_alias));
};
template <> struct VectorOf<double> {
    typedef double type __attribute__((vector_size(kVectorBytes), may_alias));
    typedef std::int64_t index __attribute__((vector_size(kVectorBytes), may_alias));
};
template <class T> using Vector = typename VectorOf<T>::type;
template <class T> using Index = typename VectorOf<T>::index;
template <class T> constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T> inline __attribute__((always_inline)) Vector<T> load(const T* p) {
    Vector<T> v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class T> inline __attribute__((always_inline)) void store(T* p, Vector<T> v) {
    std::memcpy(p, &v, sizeof v);
}
/// x in every lane. (x - 0 is x for every x, so this is one instruction; 0 + x is not, because of -0.)
template <class T> inline __attribute__((always_inline)) Vector<T> broadcast(T x) { return x - Vector<T>{}; }

/// table[index] for each lane.
template <class T> inline __attribute__((always_inline)) Vector<T> lookup(const T* table, Index<T> index) {
    Vector<T> v;
    for (int lane = 0; lane < kLanes<T>; ++lane) v[lane] = table[index[lane]];
    return v;
}
#if defined(__AVX512F__)
inline __attribute__((always_inline)) Vector<double> lookup(const double* table, Index<double> index) {
    // The masked form: the plain one reads an uninitialised register in GCC's header and warns.
    return _mm512_mask_i64gather_pd(_mm512_setzero_pd(), 0xff, __builtin_bit_cast(__m512i, index), table, 8);
}
inline __attribute__((always_inline)) Vector<float> lookup(const float* table, Index<float> index) {
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, __builtin_bit_cast(__m512i, index), table,
                                    4);
}
#elif defined(__AVX2__)
inline __attribute__((always_inline)) Vector<double> lookup(const double* table, Index<double> index) {
    return _mm256_i64gather_pd(table, __builtin_bit_cast(__m256i, index), 8);
}
inline __attribute__((always_inline)) Vector<float> lookup(const float* table, Index<float> index) {
    return _mm256_i32gather_ps(table, __builtin_bit_cast(__m256i, index), 4);
}
#endif

} // namespace dynkin::kernels::DYNKIN_ISA

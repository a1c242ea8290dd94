// portable.h - what lets a formula stand once: qualifiers that are empty for a host compiler.
#pragma once
#ifdef __CUDACC__
#define DYNKIN_HD __host__ __device__ __forceinline__
#else
#define DYNKIN_HD inline __attribute__((always_inline))
#endif

// loops.cu - kernels whose loops hold known numbers of instructions, for test_kernel_counts. Volatile
// assembly keeps the compiler from removing, joining or repeating them.
namespace {
__device__ void fma(float& x, float y) { asm volatile("fma.rn.f32 %0, %0, %1, %1;" : "+f"(x) : "f"(y)); }
__device__ void add(float& x, float y) { asm volatile("add.rn.f32 %0, %0, %1;" : "+f"(x) : "f"(y)); }
__device__ void fma(double& x, double y) { asm volatile("fma.rn.f64 %0, %0, %1, %1;" : "+d"(x) : "d"(y)); }
__device__ void add(double& x, double y) { asm volatile("add.rn.f64 %0, %0, %1;" : "+d"(x) : "d"(y)); }
__device__ void mul(double& x, double y) { asm volatile("mul.rn.f64 %0, %0, %1;" : "+d"(x) : "d"(y)); }
__device__ void exp2_approximate(float& x) { asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x)); }
__device__ float load_shared(unsigned at) {
    float x;
    asm volatile("ld.volatile.shared.f32 %0, [%1];" : "=f"(x) : "r"(at));
    return x;
}
__device__ float load_global(const float* at) {
    float x;
    asm volatile("ld.volatile.global.f32 %0, [%1];" : "=f"(x) : "l"(at));
    return x;
}
__device__ void multiply_tiles(double& c, double& d, double x, double y) {
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+d"(c), "+d"(d)
                 : "d"(x), "d"(y));
}
} // namespace

/// One loop: 7 FMA, 3 additions, 1 MUFU, 2 shared loads, 1 global load.
extern "C" __global__ void __launch_bounds__(96) planted_mixed(const float* in, float* out, int n) {
    __shared__ float tile[256];
    tile[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    const auto at = static_cast<unsigned>(__cvta_generic_to_shared(tile));
    float x = in[0], y = in[1];
#pragma unroll 1
    for (int k = 0; k < n; ++k) {
        const float a = load_shared(at), b = load_shared(at + 4), c = load_global(in);
        fma(x, a), fma(x, b), fma(x, c), fma(x, y), fma(x, y), fma(x, y), fma(x, y);
        add(x, a), add(x, b), add(x, c);
        exp2_approximate(x);
    }
    out[threadIdx.x] = x;
}

/// Two loops, 5 DFMA in the inner one and 2 DMUL around it: the inner one is hot.
extern "C" __global__ void planted_nested(const double* in, double* out, int n) {
    double x = in[0], y = in[1];
#pragma unroll 1
    for (int k = 0; k < n; ++k) {
        mul(x, y), mul(x, y);
#pragma unroll 1
        for (int l = 0; l < k; ++l) fma(x, y), fma(x, y), fma(x, y), fma(x, y), fma(x, y);
    }
    out[threadIdx.x] = x;
}

/// No loop, but a division, whose rare cases stand behind the end and branch back.
extern "C" __global__ void planted_straight(const double* in, double* out) {
    const double x = in[threadIdx.x], y = in[threadIdx.x + 1];
    out[threadIdx.x] = x / y;
}

/// A loop with a rare branch: 4 FMA on the way through it, 6 with the branch.
extern "C" __global__ void planted_branch(const float* in, float* out, int n) {
    float x = in[0], y = in[1];
#pragma unroll 1
    for (int k = 0; k < n; ++k) {
        fma(x, y), fma(x, y), fma(x, y), fma(x, y);
        if (x > 1e30f) {
            fma(x, y), fma(x, y);
            out[k] = x;
        }
    }
    out[threadIdx.x] = x;
}

/// 3 tensor-core multiplications and 1 addition.
extern "C" __global__ void planted_tensor(const double* in, double* out, int n) {
    double x = in[0], y = in[1], c = in[2], d = in[3];
#pragma unroll 1
    for (int k = 0; k < n; ++k) {
        for (int l = 0; l < 3; ++l) multiply_tiles(c, d, x, y);
        add(x, y);
    }
    out[threadIdx.x] = c + d + x;
}

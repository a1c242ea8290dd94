// spills.cu - a kernel that cannot hold what it needs in the registers that its launch bounds leave it, and
// one with an array that is indexed at run time, for test_resources.
extern "C" __global__ void __launch_bounds__(1024) planted_spills(const double* in, double* out) {
    double x[64];
#pragma unroll
    for (int k = 0; k < 64; ++k) x[k] = in[1024 * k + threadIdx.x];
    __syncthreads(); // all of them are held at once
#pragma unroll
    for (int k = 0; k < 64; ++k) out[1024 * k + threadIdx.x] = x[63 - k] * x[(7 * k + 3) % 64];
}

extern "C" __global__ void __launch_bounds__(256) planted_local(const int* in, int* out) {
    int x[32];
    for (int k = 0; k < 32; ++k) x[k] = in[k];
    for (int k = 0; k < in[32]; ++k) x[in[k] % 32] += k;
    out[threadIdx.x] = x[in[33] % 32];
}

/// 256 threads of 40 KiB shared memory: 4 blocks on an A100, 5 on the others, of 8.
extern "C" __global__ void __launch_bounds__(256) planted_shared(const int* in, int* out) {
    __shared__ int x[10 * 1024];
    for (int k = threadIdx.x; k < 10 * 1024; k += 256) x[k] = in[k];
    __syncthreads();
    out[threadIdx.x] = x[in[threadIdx.x]];
}

extern "C" __global__ void planted_unbounded(int* out) { out[threadIdx.x] = 1; }

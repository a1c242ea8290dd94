// conditional_cuda.cu - the kernels of conditional_cuda.h. A lane has one float64 or two float32 particles of
// one target; a warp of float32 has a tile. The formulas are those of conditional_simd.cpp; what a loop there
// keeps in memory stands in registers (the factors e_a, hence the fixed numbers of pairs) or in shared
// memory.
#include "conditional_cuda.h"
#include "elementary.h"
#include "gpu.h"
#include "philox.h"
#include <cmath>
#include <limits>

namespace dynkin::cuda {
namespace {

constexpr unsigned block_threads = 128;
constexpr unsigned kWarp = 32;

__device__ __forceinline__ float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return fma(a, b, c); }

// ---- conditions

/// (sum_g c_g (sum_e w_e x_e)^power - center) / spread, cut to the range of the data.
template <class T> __device__ double feature(const ConditionsView& v, const Conditions::Feature& f,
                                             const T* x, const int* neighbours) {
    double value = 0;
    for (int g = f.first; g < f.last; ++g) {
        const Conditions::Group group = v.groups[g];
        double sum = 0;
        for (int e = group.first; e < group.last; ++e) {
            const int at = neighbours[v.entries[e].slot];
            if (at >= 0) sum = fused(v.entries[e].weight, static_cast<double>(x[at * kScoreTile]), sum);
        }
        double product = group.coefficient * sum;
        for (int m = 1; m < f.power; ++m) product *= sum;
        value += product;
    }
    const double u = (value - f.center) * f.inverse_spread;
    return u < f.lower ? f.lower : u > f.upper ? f.upper : u;
}

/// Powers of all features in shared memory, [feature][exponent][thread]; the monomials are made from them
/// again for each block of conditions, whose sums stand in registers.
template <class T> __global__ void __launch_bounds__(block_threads)
    describe_kernel(ConditionsView v, ConditionalWork<T> w) {
    const std::size_t n = gpu::thread_number();
    if (n >= w.particles()) return;
    const std::size_t tile = n / kScoreTile, p = n % kScoreTile, target = blockIdx.y;
    const T* x = w.x + tile * static_cast<std::size_t>(w.columns) * kScoreTile + p;
    const int* neighbours = w.neighbours + target * static_cast<std::size_t>(w.slots);
    double mean = v.intercept;
    for (int e = 0; e < v.predictor_count; ++e) {
        const int at = neighbours[v.predictor[e].slot];
        if (at >= 0) mean = fused(v.predictor[e].weight, static_cast<double>(x[at * kScoreTile]), mean);
    }
    w.mean[target * w.particles() + n] = static_cast<T>(mean);

    const int threads = static_cast<int>(blockDim.x);
    double* const power = gpu::dynamic_shared<double>() + threadIdx.x;
    double* at = power;
    for (int k = 0; k < v.feature_count; ++k) {
        const Conditions::Feature f = v.features[k];
        const double u = f.top > 0 ? feature(v, f, x, neighbours) : 0;
        double product = 1;
        for (int m = 0; m <= f.top; ++m, at += threads) *at = product, product *= u;
    }
    T* psi = w.psi + (target * w.tiles + tile) * static_cast<std::size_t>(v.conditions) * kScoreTile + p;
    for (int first = 0; first < v.conditions; first += kConditionBlock) {
        double sum[kConditionBlock] = {};
        const Conditions::Condition range = v.ranges[first / kConditionBlock];
        for (int m = range.first; m < range.last; ++m) {
            double monomial = 1;
            const double* start = power;
            for (int k = 0; k < v.feature_count; ++k) {
                const int exponent = v.exponents[m * v.feature_count + k];
                if (exponent > 0) monomial *= start[exponent * threads];
                start += (v.features[k].top + 1) * threads;
            }
            const double* row = v.transform + m * v.padded() + first;
#pragma unroll
            for (int c = 0; c < kConditionBlock; ++c) sum[c] = fused(row[c], monomial, sum[c]);
        }
#pragma unroll
        for (int c = 0; c < kConditionBlock; ++c)
            if (first + c < v.conditions) psi[(first + c) * kScoreTile] = static_cast<T>(sum[c]);
    }
}

// ---- the reference

__device__ double log_density(const ReferenceView& r, double z) {
    double v = 0;
    for (int k = kernels::kPotentialTerms; k >= 0; --k) v = v * z + r.potential[k];
    return z >= r.lo && z <= r.hi ? -v - r.log_normaliser : -std::numeric_limits<double>::infinity();
}

template <class T> __global__ void __launch_bounds__(block_threads)
    start_kernel(ReferenceView reference, std::uint64_t seed, std::uint64_t first, ConditionalWork<T> w) {
    const std::size_t n = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (n >= w.particles()) return;
    const auto j = static_cast<std::uint32_t>(w.target[blockIdx.y]);
    const RandomWords words = philox(seed, Stream::sampler_start, first + n, 0, j / 4);
    double value;
    if (reference.hermite) {
        double pair[2];
        const std::uint32_t a = j % 4 < 2 ? words.v[0] : words.v[2], b = j % 4 < 2 ? words.v[1] : words.v[3];
        normals_from_uniforms(uniform(a), uniform(b), pair[0], pair[1]);
        value = j % 2 == 0 ? pair[0] : pair[1];
    } else {
        const std::uint32_t word = j % 4 == 0   ? words.v[0]
                                   : j % 4 == 1 ? words.v[1]
                                   : j % 4 == 2 ? words.v[2]
                                                : words.v[3];
        value = stationary_quantile(reference.law, uniform(word));
    }
    T stored = static_cast<T>(value);
    if (!reference.hermite) {
        const T lo = static_cast<T>(reference.inner_lo), hi = static_cast<T>(reference.inner_hi);
        stored = stored < lo ? lo : stored > hi ? hi : stored;
    }
    const std::size_t at = blockIdx.y * w.particles() + n;
    w.z[at] = stored;
    if (w.part) w.part[at] = log_density(reference, static_cast<double>(stored));
}

// ---- the flow

/// As many coefficients as one load brings.
template <class T> struct alignas(16) Chunk { T v[16 / sizeof(T)]; };

/// The factors e_a of one lane's particles, a = 2 h + 1 and 2 h + 2: in registers; those of float64, which
/// would fill them all, in shared memory.
template <class T, int H> struct Factors {
    T odd[kLaneParticles<T>][H], even[kLaneParticles<T>][H];
    __device__ explicit Factors(T*) {}
    __device__ T value(int p, int h, bool is_even) const { return is_even ? even[p][h] : odd[p][h]; }
    __device__ void keep(const T (&sums)[kLaneParticles<T>][H], bool is_even) {
#pragma unroll
        for (int p = 0; p < kLaneParticles<T>; ++p)
#pragma unroll
            for (int h = 0; h < H; ++h) (is_even ? even : odd)[p][h] = sums[p][h];
    }
};
template <int H> struct Factors<double, H> {
    double* at; ///< [function][lane]
    __device__ explicit Factors(double* shared) : at(shared) {}
    __device__ double value(int, int h, bool is_even) const {
        return at[(2 * h + is_even) * static_cast<int>(kWarp)];
    }
    __device__ void keep(const double (&sums)[1][H], bool is_even) {
#pragma unroll
        for (int h = 0; h < H; ++h) at[(2 * h + is_even) * static_cast<int>(kWarp)] = sums[0][h];
    }
};
/// to = from, whose own value is not needed any more.
template <class T, int H> __device__ __forceinline__ void move(Factors<T, H>& to, Factors<T, H>& from) {
    const Factors<T, H> free = to;
    to = from;
    from = free; // in registers no instruction
}
/// Factors in shared memory at two times: numbers a warp.
template <class T> DYNKIN_HD int factor_space(int pairs) {
    return sizeof(T) == 4 ? 0 : 2 * 2 * pairs * static_cast<int>(kWarp);
}

/// One lane's place, and what it shares.
template <class T> struct Lane {
    T *table, *coefficients; ///< shared: functions; coefficients of two times
    T* psi;                  ///< shared: [condition][particle of the warp], from this lane's first
    T* factors;              ///< shared: float64's factors at two times
    std::size_t first;       ///< its first particle; the others follow at distances of a warp
    bool active;             ///< has particles at all
};

template <class T> constexpr int kWarpParticles = static_cast<int>(kWarp) * kLaneParticles<T>;
/// Functions of a double are read through the cache: 8 KB each.
template <class T> constexpr bool kTableShared = sizeof(T) == 4;

/// Divides the shared memory, and loads into it what does not change with time.
template <class T> __device__ Lane<T> enter(const FlowView<T>& v, const ConditionalWork<T>& w) {
    Lane<T> lane;
    lane.table = gpu::dynamic_shared<T>();
    const int functions = kTableShared<T> && !v.hermite ? 2 * v.pairs * v.powers * v.pieces : 0;
    lane.coefficients = lane.table + functions;
    const int warp = static_cast<int>(threadIdx.x / kWarp), inside = static_cast<int>(threadIdx.x % kWarp),
              warps = static_cast<int>(blockDim.x / kWarp);
    const int conditions = v.conditions * kWarpParticles<T>;
    lane.psi = lane.coefficients + 2 * v.coefficients_a_time() +
               warp * (conditions + factor_space<T>(v.pairs)) + inside;
    lane.factors = lane.psi + conditions;
    for (int k = static_cast<int>(threadIdx.x); k < functions; k += static_cast<int>(blockDim.x))
        lane.table[k] = v.table[k];
    lane.first = (static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(warps) +
                  static_cast<std::size_t>(warp)) *
                     kWarpParticles<T> +
                 static_cast<std::size_t>(inside);
    lane.active = lane.first < w.particles();
    if (!lane.active) lane.first = static_cast<std::size_t>(inside);
    const T* psi = w.psi +
                   (blockIdx.y * w.tiles + lane.first / kScoreTile) * static_cast<std::size_t>(v.conditions) *
                       kScoreTile +
                   lane.first % kScoreTile;
    for (int c = 0; c < v.conditions; ++c)
#pragma unroll
        for (int p = 0; p < kLaneParticles<T>; ++p)
            lane.psi[c * kWarpParticles<T> + p * static_cast<int>(kWarp)] =
                psi[c * kScoreTile + p * static_cast<int>(kWarp)];
    return lane;
}

/// sums[p][h] = sum_alpha c[alpha][h] psi[alpha][p] over rows of coefficients.
template <class T, int H> __device__ __forceinline__ void
sum_conditions(const T* c, const T* psi, int first, int last, T (&sums)[kLaneParticles<T>][H]) {
    constexpr int width = flow_row<T>(H), chunk = 16 / static_cast<int>(sizeof(T));
#pragma unroll
    for (int p = 0; p < kLaneParticles<T>; ++p)
#pragma unroll
        for (int h = 0; h < H; ++h) sums[p][h] = 0;
#pragma unroll 2
    for (int alpha = first; alpha < last; ++alpha, c += width) {
        Chunk<T> row[width / chunk];
#pragma unroll
        for (int k = 0; k < width / chunk; ++k) row[k] = reinterpret_cast<const Chunk<T>*>(c)[k];
#pragma unroll
        for (int p = 0; p < kLaneParticles<T>; ++p) {
            const T value = psi[alpha * kWarpParticles<T> + p * static_cast<int>(kWarp)];
#pragma unroll
            for (int h = 0; h < H; ++h) sums[p][h] = fused(row[h / chunk].v[h % chunk], value, sums[p][h]);
        }
    }
}

/// The factors at a time. All threads of the block: its coefficients pass through one of two buffers, which
/// is free again after the next call.
template <class T, int H>
__device__ void factors(const FlowView<T>& v, const Lane<T>& lane, int time, Factors<T, H>& e) {
    const int size = v.coefficients_a_time();
    T* const c = lane.coefficients + (time & 1) * size;
    const T* const from = v.coefficients + static_cast<std::size_t>(time) * static_cast<std::size_t>(size);
    for (int k = static_cast<int>(threadIdx.x); k < size; k += static_cast<int>(blockDim.x)) c[k] = from[k];
    __syncthreads();
    T sums[kLaneParticles<T>][H];
    sum_conditions<T, H>(c, lane.psi, v.first_odd, v.last_odd, sums);
    e.keep(sums, false);
    sum_conditions<T, H>(c + (v.last_odd - v.first_odd) * flow_row<T>(H), lane.psi, v.first_even, v.last_even,
                         sums);
    e.keep(sums, true);
}

/// Adds e phi'(z) and lambda e phi(z) of function a for a polynomial on pieces; the slope is in units of t.
template <class T, int POWERS>
__device__ __forceinline__ void add_function(const T* c, int pieces, T t, T e, T lambda, T& sum, T& decay) {
    T value = c[(POWERS - 1) * pieces], slope = 0;
#pragma unroll
    for (int k = POWERS - 2; k >= 0; --k) {
        slope = k == POWERS - 2 ? value : fused(slope, t, value);
        value = fused(value, t, c[k * pieces]);
    }
    sum = fused(e, slope, sum);
    decay = fused(lambda, e * value, decay); // lambda e would be kept in registers for all a
}

/// g = sum_a e_a phi_a'(z) and its derivative v' g - sum_a lambda_a e_a phi_a of the lane's particle p;
/// beyond the box g is constant.
template <class T, int H> __device__ __forceinline__ void
field(const FlowView<T>& v, const T* table, const Factors<T, H>& e, int p, T z, T& g, T& derivative) {
    constexpr int powers = kTableShared<T> ? 6 : 8, pieces = kTableShared<T> ? 32 : 128;
    T sum = 0, decay = 0;
    bool inside = true;
    if (v.hermite) {
        T before = 1, now = z;
#pragma unroll
        for (int n = 1; n <= 2 * H; ++n) {
            if (n > v.degree) break;
            const T factor = e.value(p, (n - 1) / 2, n % 2 == 0);
            sum = fused(factor, v.root[n] * before, sum);
            decay = fused(v.lambda[n - 1], factor * now, decay);
            const T next = fused(z, now, -(v.root[n] * before)) * (1 / v.root[n + 1]);
            before = now, now = next;
        }
    } else {
        const T scale = static_cast<T>(pieces) / (v.hi - v.lo),
                last = static_cast<T>(pieces) - static_cast<T>(0.5);
        inside = !(z < v.lo) && !(z > v.hi);
        const T clipped = z < v.lo ? v.lo : z > v.hi ? v.hi : z;
        const T u = (clipped - v.lo) * scale;
        const int piece = static_cast<int>(u < last ? (u > 0 ? u : T{0}) : last); // NaN: the last
        const T t = 2 * (u - static_cast<T>(piece)) - 1;
        const T* c = table + piece;
#pragma unroll(kTableShared <T> ? H : 1)
        for (int h = 0; h < H; ++h, c += 2 * powers * pieces) {
            add_function<T, powers>(c, pieces, t, e.value(p, h, false), v.lambda[2 * h], sum, decay);
            add_function<T, powers>(c + powers * pieces, pieces, t, e.value(p, h, true), v.lambda[2 * h + 1],
                                    sum, decay);
        }
        sum *= 2 * scale;
    }
    T slope = v.potential_slope[kernels::kPotentialTerms - 1];
#pragma unroll
    for (int k = kernels::kPotentialTerms - 2; k >= 0; --k) slope = fused(slope, z, v.potential_slope[k]);
    g = sum;
    derivative = inside ? fused(slope, sum, -decay) : T{0};
}

/// One Heun step of the map from a time to the one before it.
template <class T, int H>
__device__ __forceinline__ void step(const FlowView<T>& v, const T* table, const Factors<T, H>& now,
                                     const Factors<T, H>& next, int p, T dt, T z, T& out, T& slope) {
    T g1, d1, g2, d2;
    field(v, table, now, p, z, g1, d1);
    field(v, table, next, p, fused(dt, g1, z), g2, d2);
    out = kernels::heun_value(z, dt, g1, g2);
    slope = kernels::heun_slope(dt, d1, d2);
}

template <class T> __device__ double stretched(double stretch, T slope) {
    return slope > 0 ? stretch * static_cast<double>(slope) : std::numeric_limits<double>::quiet_NaN();
}

/// Where x of this block's target and of the lane's particle p stands.
template <class T> __device__ T* target_value(const ConditionalWork<T>& w, std::size_t n) {
    return w.x +
           ((n / kScoreTile) * static_cast<std::size_t>(w.columns) +
            static_cast<std::size_t>(w.target[blockIdx.y])) *
               kScoreTile +
           n % kScoreTile;
}

template <class T, int H> __global__ void __launch_bounds__(block_threads, sizeof(T) == 4 ? 3 : 2)
    generate_kernel(FlowView<T> v, ConditionalWork<T> w) {
    constexpr int particles = kLaneParticles<T>;
    const Lane<T> lane = enter(v, w);
    const T* const table = kTableShared<T> ? lane.table : v.table;
    T z[particles];
    double stretch[particles];
#pragma unroll
    for (int p = 0; p < particles; ++p)
        z[p] = w.z[blockIdx.y * w.particles() + lane.first + p * kWarp], stretch[p] = 1;
    Factors<T, H> now(lane.factors), next(lane.factors + factor_space<T>(H) / 2);
    factors<T, H>(v, lane, v.steps, now);
    for (int k = v.steps; k > 0; --k) {
        factors<T, H>(v, lane, k - 1, next);
        const T dt = v.dt[k - 1];
#pragma unroll
        for (int p = 0; p < particles; ++p) {
            T slope;
            step<T, H>(v, table, now, next, p, dt, z[p], z[p], slope);
            stretch[p] = stretched(stretch[p], slope);
        }
        move(now, next);
    }
    if (!lane.active) return;
#pragma unroll
    for (int p = 0; p < particles; ++p) {
        const std::size_t n = lane.first + p * kWarp, at = blockIdx.y * w.particles() + n;
        *target_value(w, n) =
            static_cast<T>(static_cast<double>(w.mean[at]) + v.scale * static_cast<double>(z[p]));
        if (w.part) w.part[at] -= portable_log(stretch[p] * v.scale);
    }
}

/// z before a step from z after it: Newton's method, its first guess a Heun step backwards. The step's slope;
/// NaN where there is no inverse.
template <class T, int H> __device__ T solve_step(const FlowView<T>& v, const T* table,
                                                  const Factors<T, H>& now, const Factors<T, H>& next, int p,
                                                  T dt, T& z) {
    constexpr T tolerance = sizeof(T) == 8 ? static_cast<T>(1e-13) : static_cast<T>(1e-6);
    constexpr T accepted = sizeof(T) == 8 ? static_cast<T>(1e-9) : static_cast<T>(1e-4);
    const T y = z, size = (y < 0 ? -y : y) + 1;
    T value, slope, unused;
    T g, ahead;
    field(v, table, next, p, y, g, unused);
    field(v, table, now, p, fused(-dt, g, y), ahead, unused);
    z = kernels::heun_value(y, -dt, g, ahead);
    for (int iteration = 0;; ++iteration) {
        step<T, H>(v, table, now, next, p, dt, z, value, slope);
        const T residual = value - y, distance = residual < 0 ? -residual : residual;
        if (!(distance > tolerance * size)) return slope;
        if (iteration == 5) return distance < accepted * size ? slope : std::numeric_limits<T>::quiet_NaN();
        z -= residual / slope;
    }
}

template <class T, int H> __global__ void __launch_bounds__(block_threads, 2)
    invert_kernel(FlowView<T> v, ReferenceView reference, ConditionalWork<T> w) {
    constexpr int particles = kLaneParticles<T>;
    const Lane<T> lane = enter(v, w);
    const T* const table = kTableShared<T> ? lane.table : v.table;
    T z[particles];
    double stretch[particles];
#pragma unroll
    for (int p = 0; p < particles; ++p) {
        const std::size_t n = lane.first + p * kWarp;
        const T difference = *target_value(w, n) - w.mean[blockIdx.y * w.particles() + n];
        z[p] = static_cast<T>(static_cast<double>(difference) / v.scale), stretch[p] = 1;
    }
    Factors<T, H> now(lane.factors), next(lane.factors + factor_space<T>(H) / 2);
    factors<T, H>(v, lane, 0, next);
    for (int k = 1; k <= v.steps; ++k) {
        factors<T, H>(v, lane, k, now);
        const T dt = v.dt[k - 1];
#pragma unroll
        for (int p = 0; p < particles; ++p)
            stretch[p] = stretched(stretch[p], solve_step<T, H>(v, table, now, next, p, dt, z[p]));
        move(next, now);
    }
    if (!lane.active) return;
#pragma unroll
    for (int p = 0; p < particles; ++p)
        w.part[blockIdx.y * w.particles() + lane.first + p * kWarp] =
            log_density(reference, static_cast<double>(z[p])) - portable_log(stretch[p] * v.scale);
}

__global__ void __launch_bounds__(block_threads)
    add_kernel(int targets, std::size_t particles, const double* part, double* log_q) {
    const std::size_t n = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (n >= particles) return;
    double sum = log_q[n];
    for (int k = 0; k < targets; ++k) sum += part[static_cast<std::size_t>(k) * particles + n];
    log_q[n] = sum;
}

template <class T> dim3 grid_of(const ConditionalWork<T>& w, std::size_t particles_a_block) {
    return {gpu::blocks_for(w.particles(), static_cast<unsigned>(particles_a_block)),
            static_cast<unsigned>(w.targets)};
}

/// launch(integral_constant<int, H>) for the number of pairs of a flow.
template <class Launch> void with_pairs(int pairs, const Launch& launch) {
    switch (pairs) {
    case 3:
        return launch(std::integral_constant<int, 3>{});
    case 4:
        return launch(std::integral_constant<int, 4>{});
    case 6:
        return launch(std::integral_constant<int, 6>{});
    case 8:
        return launch(std::integral_constant<int, 8>{});
    default:
        return launch(std::integral_constant<int, 12>{});
    }
}

} // namespace

template <class T> std::size_t flow_shared_memory(const FlowView<T>& v, int warps) {
    const int functions = kTableShared<T> && !v.hermite ? 2 * v.pairs * v.powers * v.pieces : 0;
    return static_cast<std::size_t>(functions + 2 * v.coefficients_a_time() +
                                    warps * (v.conditions * kWarpParticles<T> + factor_space<T>(v.pairs))) *
           sizeof(T);
}

template <class T> int flow_warps(const FlowView<T>& flow, std::size_t shared_memory) {
    int warps = static_cast<int>(block_threads / kWarp);
    while (warps > 0 && flow_shared_memory(flow, warps) > shared_memory) warps /= 2;
    return warps;
}

template <class T> void describe_conditions(DeviceStream stream, const ConditionsView& conditions,
                                            const ConditionalWork<T>& work) {
    if (work.tiles == 0 || work.targets == 0) return;
    unsigned threads = block_threads;
    const std::size_t bytes = static_cast<std::size_t>(conditions.powers) * sizeof(double);
    while (threads > kWarp && threads * bytes > gpu::default_shared_memory) threads /= 2;
    gpu::launch(describe_kernel<T>, grid_of(work, threads), threads, threads * bytes, stream, conditions,
                work);
}

template <class T> void start_flow(DeviceStream stream, const ReferenceView& reference, std::uint64_t seed,
                                   std::uint64_t first, const ConditionalWork<T>& work) {
    if (work.tiles == 0 || work.targets == 0) return;
    gpu::launch(start_kernel<T>, grid_of(work, block_threads), block_threads, 0, stream, reference, seed,
                first, work);
}

template <class T>
void generate_flow(DeviceStream stream, const FlowView<T>& flow, int warps, const ConditionalWork<T>& work) {
    if (work.tiles == 0 || work.targets == 0) return;
    with_pairs(flow.pairs, [&](auto pairs) {
        gpu::launch(
            generate_kernel<T, pairs()>, grid_of(work, static_cast<std::size_t>(warps * kWarpParticles<T>)),
            static_cast<unsigned>(warps) * kWarp, flow_shared_memory(flow, warps), stream, flow, work);
    });
}

template <class T> void invert_flow(DeviceStream stream, const FlowView<T>& flow, int warps,
                                    const ReferenceView& reference, const ConditionalWork<T>& work) {
    if (work.tiles == 0 || work.targets == 0) return;
    with_pairs(flow.pairs, [&](auto pairs) {
        gpu::launch(invert_kernel<T, pairs()>,
                    grid_of(work, static_cast<std::size_t>(warps * kWarpParticles<T>)),
                    static_cast<unsigned>(warps) * kWarp, flow_shared_memory(flow, warps), stream, flow,
                    reference, work);
    });
}

void add_parts(DeviceStream stream, int targets, std::size_t particles, const double* part, double* log_q) {
    if (targets == 0 || particles == 0) return;
    gpu::launch(add_kernel, gpu::blocks_for(particles, block_threads), block_threads, 0, stream, targets,
                particles, part, log_q);
}

#define DYNKIN_INSTANTIATE(T)                                                                                \
    template int flow_warps(const FlowView<T>&, std::size_t);                                                \
    template std::size_t flow_shared_memory(const FlowView<T>&, int);                                        \
    template void describe_conditions(DeviceStream, const ConditionsView&, const ConditionalWork<T>&);       \
    template void start_flow(DeviceStream, const ReferenceView&, std::uint64_t, std::uint64_t,               \
                             const ConditionalWork<T>&);                                                     \
    template void generate_flow(DeviceStream, const FlowView<T>&, int, const ConditionalWork<T>&);           \
    template void invert_flow(DeviceStream, const FlowView<T>&, int, const ReferenceView&,                   \
                              const ConditionalWork<T>&);
DYNKIN_INSTANTIATE(float)
DYNKIN_INSTANTIATE(double)
#undef DYNKIN_INSTANTIATE

} // namespace dynkin::cuda

// score_simd.cpp - the host loops of score.h for one SIMD level.
#include "circle.h"
#include "functions_simd.h"
#include <algorithm>
#include <type_traits>

namespace dynkin::kernels {
namespace DYNKIN_ISA {
namespace {

/// out[m][particle] = sum_j matrix[m][j] phi[j][particle], SITES rows and a part of the tile in registers.
template <int SITES, int VECTORS, class T> inline __attribute__((always_inline)) void
dense_block(const T* matrix, std::size_t ld, int sites, const T* phi, std::size_t phi_step, T* out) {
    Vector<T> sum[SITES][VECTORS] = {};
    for (int j = 0; j < sites; ++j) {
        Vector<T> p[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v)
            p[v] = load(phi + static_cast<std::size_t>(j) * phi_step + v * kLanes<T>);
#pragma GCC unroll 6
        for (int m = 0; m < SITES; ++m) {
            const Vector<T> c =
                broadcast(matrix[static_cast<std::size_t>(m) * ld + static_cast<std::size_t>(j)]);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) sum[m][v] += c * p[v];
        }
    }
    for (int m = 0; m < SITES; ++m)
        for (int v = 0; v < VECTORS; ++v) store(out + m * kScoreTile + v * kLanes<T>, sum[m][v]);
}

template <class T>
void dense_product(const T* matrix, std::size_t ld, int sites, const T* phi, std::size_t phi_step, T* out) {
    constexpr int vectors = kPart<T>;
    for (int particle = 0; particle < kScoreTile; particle += vectors * kLanes<T>) {
        int i = 0;
        for (; i + 6 <= sites; i += 6)
            dense_block<6, vectors, T>(matrix + static_cast<std::size_t>(i) * ld, ld, sites, phi + particle,
                                       phi_step, out + i * kScoreTile + particle);
        for (; i < sites; ++i)
            dense_block<1, vectors, T>(matrix + static_cast<std::size_t>(i) * ld, ld, sites, phi + particle,
                                       phi_step, out + i * kScoreTile + particle);
    }
}

/// factor[a] += sum_b block[a][b] phi_b(x_j), all in registers for one vector of particles.
template <int DEGREE, class T>
inline __attribute__((always_inline)) void add_block(const T* block, const T* phi, Vector<T>* factor) {
    Vector<T> p[DEGREE];
#pragma GCC unroll 4
    for (int b = 0; b < DEGREE; ++b) p[b] = load(phi + b * kScoreTile);
#pragma GCC unroll 4
    for (int a = 0; a < DEGREE; ++a) {
        Vector<T> sum = factor[a];
#pragma GCC unroll 4
        for (int b = 0; b < DEGREE; ++b) sum += broadcast(block[a * DEGREE + b]) * p[b];
        factor[a] = sum;
    }
}

template <class T> inline __attribute__((always_inline)) void add_neighbour(int degree, const T* block,
                                                                            const T* phi, Vector<T>* factor) {
    if (degree == 1)
        add_block<1>(block, phi, factor);
    else if (degree == 2)
        add_block<2>(block, phi, factor);
    else if (degree == 3)
        add_block<3>(block, phi, factor);
    else
        add_block<4>(block, phi, factor);
}

template <class T> void add_large_neighbour(int degree, const T* block, const T* phi, Vector<T>* factor) {
    for (int a = 0; a < degree; ++a)
        for (int b = 0; b < degree; ++b)
            factor[a] += broadcast(block[a * degree + b]) * load(phi + b * kScoreTile);
}

/// d_i h = sum_a phi_a'(x_i) e_a and the site's part of Lap h: v'(x_i) d_i h - sum_a lambda_a e_a phi_a(x_i).
/// DEGREE > 0: known at compile time, and neighbours of degree 4 at most, so that the factors e_a stay in
/// registers.
template <int DEGREE, class T> void finish_site(const ScorePlan<T>& plan, const ScoreCoefficients<T>& c,
                                                int site, const T* x, const T* phi, const T* slope,
                                                const T* dense, T* gradient, T* laplacian) {
    const ScoreLayout& layout = plan.layout;
    const int n = DEGREE ? DEGREE : layout.degree, sites = layout.sites;
    const SiteFunctions<T>& f =
        plan.families[static_cast<std::size_t>(plan.family_of[static_cast<std::size_t>(site)])];
    const T* own_phi = phi + site * n * kScoreTile;
    const T* own_slope = slope + site * n * kScoreTile;
    const T* single = c.single.data() + site * n;
    const auto* neighbours = layout.neighbours.data();
    const int first = layout.first_neighbour[static_cast<std::size_t>(site)];
    const int last = layout.first_neighbour[static_cast<std::size_t>(site + 1)];
    for (int particle = 0; particle < kScoreTile; particle += kLanes<T>) {
        Vector<T> factor[DEGREE ? DEGREE : kMaxDegree];
#pragma GCC unroll 8
        for (int a = 0; a < n; ++a) factor[a] = broadcast(single[a]);
        for (int e = first; e < last; ++e) {
            const T* block = c.sparse.data() + neighbours[e].offset;
            const T* other = phi + neighbours[e].j * n * kScoreTile + particle;
            if constexpr (DEGREE > 0)
                add_neighbour(neighbours[e].degree, block, other, factor);
            else
                add_large_neighbour(neighbours[e].degree, block, other, factor);
        }
        Vector<T> g = {}, decay = {};
        for (std::size_t k = 0; k < layout.dense.size(); ++k) { // the dense part of e_a, a not known here
            const int a = layout.dense[k].a - 1;
            const Vector<T> part = load(dense + (static_cast<int>(k) * sites + site) * kScoreTile + particle);
            g += load(own_slope + a * kScoreTile + particle) * part;
            decay += f.lambda[a] * load(own_phi + a * kScoreTile + particle) * part;
        }
#pragma GCC unroll 8
        for (int a = 0; a < n; ++a) g += load(own_slope + a * kScoreTile + particle) * factor[a];
        store(gradient + site * kScoreTile + particle, g);
        if (!laplacian) continue;
#pragma GCC unroll 8
        for (int a = 0; a < n; ++a)
            decay += f.lambda[a] * load(own_phi + a * kScoreTile + particle) * factor[a];
        const Vector<T> z = load(x + site * kScoreTile + particle);
        Vector<T> part = potential_slope(f, z) * g - decay;
        if (!f.hermite && !on_circle(f)) {
            part = z < broadcast(f.lo) ? Vector<T>{} : part;
            part = z > broadcast(f.hi) ? Vector<T>{} : part;
        }
        store(laplacian + particle, load(laplacian + particle) + part);
    }
}

template <class T> void gradient(const ScorePlan<T>& plan, const ScoreCoefficients<T>& c, const T* x,
                                 T* gradient, T* laplacian, T* scratch) {
    const ScoreLayout& layout = plan.layout;
    const int n = layout.degree, sites = layout.sites;
    T* phi = scratch;
    T* slope = phi + sites * n * kScoreTile;
    T* dense = slope + sites * n * kScoreTile;
    for (int i = 0; i < sites; ++i) {
        const auto& f = plan.families[static_cast<std::size_t>(plan.family_of[static_cast<std::size_t>(i)])];
        const T* at = x + i * kScoreTile;
        T wound[kScoreTile];
        if (on_circle(f)) {
            for (int p = 0; p < kScoreTile; ++p) wound[p] = folded(at[p], true);
            at = wound;
        }
        evaluate_functions(f, n, at, phi + i * n * kScoreTile, slope + i * n * kScoreTile);
    }
    for (std::size_t k = 0; k < layout.dense.size(); ++k)
        dense_product(c.dense.data() + k * layout.dense_ld * layout.dense_ld, layout.dense_ld, sites,
                      phi + (layout.dense[k].b - 1) * kScoreTile, static_cast<std::size_t>(n * kScoreTile),
                      dense + static_cast<int>(k) * sites * kScoreTile);
    if (laplacian) std::fill_n(laplacian, kScoreTile, T{0});
    int largest = 0;
    for (const auto& neighbour : layout.neighbours) largest = std::max(largest, neighbour.degree);
    const auto finish = largest > 4 ? finish_site<0, T>
                        : n == 8    ? finish_site<8, T>
                        : n == 6    ? finish_site<6, T>
                                    : finish_site<0, T>;
    for (int i = 0; i < sites; ++i) finish(plan, c, i, x, phi, slope, dense, gradient, laplacian);
}

} // namespace
} // namespace DYNKIN_ISA

template <class T> const ScoreKernels<T>& DYNKIN_ISA_NAME(score_kernels)() {
    static const ScoreKernels<T> kernels{DYNKIN_ISA::gradient<T>};
    return kernels;
}
template const ScoreKernels<float>& DYNKIN_ISA_NAME(score_kernels)<float>();
template const ScoreKernels<double>& DYNKIN_ISA_NAME(score_kernels)<double>();

} // namespace dynkin::kernels

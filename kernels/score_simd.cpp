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

/// Degrees of a neighbour's block whose factors e_a stay in registers.
constexpr int kSmallBlock = 4;

/// Numbers of one part of a tile: kPart vectors side by side, so that sums do not wait for each other.
template <class T> struct Part {
    Vector<T> v[kPart<T>];

    static Part all(T x) {
        Part out;
#pragma GCC unroll 4
        for (auto& v : out.v) v = broadcast(x);
        return out;
    }
    static Part at(const T* p) {
        Part out;
#pragma GCC unroll 4
        for (int k = 0; k < kPart<T>; ++k) out.v[k] = load(p + k * kLanes<T>);
        return out;
    }
    void store_at(T* p) const {
#pragma GCC unroll 4
        for (int k = 0; k < kPart<T>; ++k) store(p + k * kLanes<T>, v[k]);
    }
    /// this += a * b
    void add_product(const Part& a, const Part& b) {
#pragma GCC unroll 4
        for (int k = 0; k < kPart<T>; ++k) v[k] += a.v[k] * b.v[k];
    }
    void add_product(T a, const Part& b) { add_product(all(a), b); }
    void add_scaled_product(T s, const Part& a, const Part& b) {
        const Vector<T> scale = broadcast(s);
#pragma GCC unroll 4
        for (int k = 0; k < kPart<T>; ++k) v[k] += scale * a.v[k] * b.v[k];
    }
};

/// factor[a] += sum_b block[a][b] phi_b(x_j).
template <int DEGREE, class T>
inline __attribute__((always_inline)) void add_block(const T* block, const T* phi, Part<T>* factor) {
#pragma GCC unroll 4
    for (int b = 0; b < DEGREE; ++b) {
        const auto p = Part<T>::at(phi + b * kScoreTile);
#pragma GCC unroll 4
        for (int a = 0; a < DEGREE; ++a) factor[a].add_product(block[a * DEGREE + b], p);
    }
}

template <class T> inline __attribute__((always_inline)) void add_neighbour(int degree, const T* block,
                                                                            const T* phi, Part<T>* factor) {
    if (degree == 1)
        add_block<1>(block, phi, factor);
    else if (degree == 2)
        add_block<2>(block, phi, factor);
    else if (degree == 3)
        add_block<3>(block, phi, factor);
    else
        add_block<4>(block, phi, factor);
}

template <class T> void add_large_neighbour(int degree, const T* block, const T* phi, Part<T>* factor) {
    for (int a = 0; a < degree; ++a)
        for (int b = 0; b < degree; ++b)
            factor[a].add_product(block[a * degree + b], Part<T>::at(phi + b * kScoreTile));
}

/// d_i h = sum_a phi_a'(x_i) e_a and the site's part of Lap h: v'(x_i) d_i h - sum_a lambda_a e_a phi_a(x_i).
/// COUPLED: functions that neighbours' blocks may reach to.
template <int COUPLED, bool LAPLACIAN, class T>
void finish_site(const ScorePlan<T>& plan, const ScoreCoefficients<T>& c, int site, const T* x, const T* phi,
                 const T* slope, const T* dense, T* gradient, T* laplacian) {
    const ScoreLayout& layout = plan.layout;
    const int n = layout.degree, sites = layout.sites;
    const SiteFunctions<T>& f =
        plan.families[static_cast<std::size_t>(plan.family_of[static_cast<std::size_t>(site)])];
    const T* single = c.single.data() + site * n;
    const T scale = slope_scale(f);
    const auto* neighbours = layout.neighbours.data();
    const int first = layout.first_neighbour[static_cast<std::size_t>(site)];
    const int last = layout.first_neighbour[static_cast<std::size_t>(site + 1)];
    for (int particle = 0; particle < kScoreTile; particle += kPart<T> * kLanes<T>) {
        const T* own_phi = phi + site * n * kScoreTile + particle;
        const T* own_slope = slope + site * n * kScoreTile + particle;
        Part<T> factor[COUPLED];
#pragma GCC unroll 4
        for (int a = 0; a < COUPLED; ++a) factor[a] = Part<T>::all(a < n ? single[a] : T{0});
        for (int e = first; e < last; ++e) {
            const T* block = c.sparse.data() + neighbours[e].offset;
            const T* other = phi + neighbours[e].j * n * kScoreTile + particle;
            if constexpr (COUPLED == kSmallBlock)
                add_neighbour(neighbours[e].degree, block, other, factor);
            else
                add_large_neighbour(neighbours[e].degree, block, other, factor);
        }
        Part<T> g = {}, decay = {};
        const auto add = [&](int a, const Part<T>& e) {
            g.add_product(Part<T>::at(own_slope + a * kScoreTile), e);
            if constexpr (LAPLACIAN)
                decay.add_scaled_product(f.lambda[a], Part<T>::at(own_phi + a * kScoreTile), e);
        };
#pragma GCC unroll 4
        for (int a = 0; a < COUPLED; ++a)
            if (a < n) add(a, factor[a]);
        for (int a = COUPLED; a < n; ++a) add(a, Part<T>::all(single[a]));
        for (std::size_t k = 0; k < layout.dense.size(); ++k)
            add(layout.dense[k].a - 1,
                Part<T>::at(dense + (static_cast<int>(k) * sites + site) * kScoreTile + particle));
#pragma GCC unroll 4
        for (auto& v : g.v) v *= scale;
        g.store_at(gradient + site * kScoreTile + particle);
        if constexpr (!LAPLACIAN) continue;
        const bool bounded = !f.hermite && !on_circle(f);
#pragma GCC unroll 4
        for (int k = 0; k < kPart<T>; ++k) {
            const Vector<T> z = load(x + site * kScoreTile + particle + k * kLanes<T>);
            Vector<T> part = potential_slope(f, z) * g.v[k] - decay.v[k];
            if (bounded) {
                part = z < broadcast(f.lo) ? Vector<T>{} : part;
                part = z > broadcast(f.hi) ? Vector<T>{} : part;
            }
            T* sum = laplacian + particle + k * kLanes<T>;
            store(sum, load(sum) + part);
        }
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
    const bool small = largest <= kSmallBlock;
    const auto finish = laplacian
                            ? small ? finish_site<kSmallBlock, true, T> : finish_site<kMaxDegree, true, T>
                        : small ? finish_site<kSmallBlock, false, T>
                                : finish_site<kMaxDegree, false, T>;
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

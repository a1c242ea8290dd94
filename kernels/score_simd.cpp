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

/// One call of gradient(). Pairs use the first `coupled` functions of each site: these are stored, the others
/// add what they have to their site's sums at once.
template <class T> struct Tile {
    const ScorePlan<T>& plan;
    const ScoreCoefficients<T>& c;
    int coupled;
    const T* x;
    T *phi, *slope, *dense, *gradient, *laplacian;

    const SiteFunctions<T>& functions(int site) const {
        return plan.families[static_cast<std::size_t>(plan.family_of[static_cast<std::size_t>(site)])];
    }
    const T* single(int site) const { return c.single.data() + site * plan.layout.degree; }
};

/// 0 for particles outside the box of a fitted family.
template <class T> inline __attribute__((always_inline)) Vector<T> inside(const SiteFunctions<T>& f,
                                                                          Vector<T> z, Vector<T> part) {
    part = z < broadcast(f.lo) ? Vector<T>{} : part;
    return z > broadcast(f.hi) ? Vector<T>{} : part;
}
template <class T> bool bounded(const SiteFunctions<T>& f) { return !f.hermite && !on_circle(f); }

/// The site's functions: those of pairs into phi and slope, and the sums of the others into the gradient
/// (over slope_scale()) and the Laplacian.
template <bool LAPLACIAN, class T> void evaluate_site(const Tile<T>& tile, int site) {
    const SiteFunctions<T>& f = tile.functions(site);
    const int n = tile.plan.layout.degree, coupled = tile.coupled;
    const T *x = tile.x + site * kScoreTile, *single = tile.single(site);
    T *phi = tile.phi + site * coupled * kScoreTile, *slope = tile.slope + site * coupled * kScoreTile;
    T wound[kScoreTile];
    if (on_circle(f)) {
        for (int p = 0; p < kScoreTile; ++p) wound[p] = folded(x[p], true);
        x = wound;
    }
    // One vector of particles: function k (from 0) by itself adds c_k phi_k' to d_i h, -lambda_k c_k phi_k to
    // Lap h.
    const auto add = [&](int k, Vector<T> value, Vector<T> derivative, Vector<T>& g, Vector<T>& decay) {
        g += single[k] * derivative;
        if constexpr (LAPLACIAN) decay += f.lambda[k] * single[k] * value;
    };
    const auto finish = [&](int at, Vector<T> g, Vector<T> decay) {
        store(tile.gradient + site * kScoreTile + at, g);
        if constexpr (!LAPLACIAN) return;
        if (bounded(f)) decay = inside(f, load(x + at), decay);
        store(tile.laplacian + at, load(tile.laplacian + at) - decay);
    };
    if (f.hermite) {
        for (int at = 0; at < kScoreTile; at += kLanes<T>) {
            Vector<T> g = {}, decay = {};
            each_hermite<T>(n, load(x + at), [&](int k, Vector<T> value, Vector<T> derivative) {
                if (k >= coupled) return add(k, value, derivative, g, decay);
                store(phi + k * kScoreTile + at, value);
                store(slope + k * kScoreTile + at, derivative);
            });
            finish(at, g, decay);
        }
        return;
    }
    const TilePlaces<T> places(f, x);
    evaluate_fitted(f, places, coupled, phi, slope);
    for (int part = 0; part < kVectors<T>; part += kPart<T>) {
        Vector<T> g[kPart<T>] = {}, decay[kPart<T>] = {};
        for (int k = coupled; k < n; ++k) {
            Vector<T> value[kPart<T>], derivative[kPart<T>];
            fitted(f, places, k, part, value, derivative);
#pragma GCC unroll 4
            for (int v = 0; v < kPart<T>; ++v) add(k, value[v], derivative[v], g[v], decay[v]);
        }
        for (int v = 0; v < kPart<T>; ++v) finish((part + v) * kLanes<T>, g[v], decay[v]);
    }
}

/// d_i h = sum_a phi_a'(x_i) e_a and the site's part of Lap h: v'(x_i) d_i h - sum_a lambda_a e_a phi_a(x_i),
/// on top of what evaluate_site() left there. BLOCK: functions that neighbours' blocks may reach to.
template <int BLOCK, bool LAPLACIAN, class T> void finish_site(const Tile<T>& tile, int site) {
    const ScoreLayout& layout = tile.plan.layout;
    const int coupled = tile.coupled;
    const SiteFunctions<T>& f = tile.functions(site);
    const T* single = tile.single(site);
    const T scale = slope_scale(f);
    const auto* neighbours = layout.neighbours.data();
    const int first = layout.first_neighbour[static_cast<std::size_t>(site)];
    const int last = layout.first_neighbour[static_cast<std::size_t>(site + 1)];
    for (int particle = 0; particle < kScoreTile; particle += kPart<T> * kLanes<T>) {
        const T* phi = tile.phi + particle;
        const T* own_phi = phi + site * coupled * kScoreTile;
        const T* own_slope = tile.slope + site * coupled * kScoreTile + particle;
        Part<T> factor[BLOCK];
#pragma GCC unroll 4
        for (int a = 0; a < BLOCK; ++a) factor[a] = Part<T>::all(a < coupled ? single[a] : T{0});
        for (int e = first; e < last; ++e) {
            const T* block = tile.c.sparse.data() + neighbours[e].offset;
            const T* other = phi + neighbours[e].j * coupled * kScoreTile;
            if constexpr (BLOCK == kSmallBlock)
                add_neighbour(neighbours[e].degree, block, other, factor);
            else
                add_large_neighbour(neighbours[e].degree, block, other, factor);
        }
        T* gradient = tile.gradient + site * kScoreTile + particle;
        Part<T> g = Part<T>::at(gradient), decay = {};
        const auto add = [&](int a, const Part<T>& e) {
            g.add_product(Part<T>::at(own_slope + a * kScoreTile), e);
            if constexpr (LAPLACIAN)
                decay.add_scaled_product(f.lambda[a], Part<T>::at(own_phi + a * kScoreTile), e);
        };
#pragma GCC unroll 4
        for (int a = 0; a < BLOCK; ++a)
            if (a < coupled) add(a, factor[a]);
        for (int a = BLOCK; a < coupled; ++a) add(a, Part<T>::all(single[a]));
        for (std::size_t k = 0; k < layout.dense.size(); ++k)
            add(layout.dense[k].a - 1,
                Part<T>::at(tile.dense + (static_cast<int>(k) * layout.sites + site) * kScoreTile +
                            particle));
#pragma GCC unroll 4
        for (auto& v : g.v) v *= scale;
        g.store_at(gradient);
        if constexpr (!LAPLACIAN) continue;
#pragma GCC unroll 4
        for (int k = 0; k < kPart<T>; ++k) {
            const int at = particle + k * kLanes<T>;
            const Vector<T> z = load(tile.x + site * kScoreTile + at);
            const Vector<T> part = potential_slope(f, z) * g.v[k] - decay.v[k];
            store(tile.laplacian + at, load(tile.laplacian + at) + (bounded(f) ? inside(f, z, part) : part));
        }
    }
}

/// Asks for the site's coordinates and the place of its gradient.
template <class T> inline __attribute__((always_inline)) void ask_for_site(const Tile<T>& tile, int site) {
    if (site >= tile.plan.layout.sites) return;
    for (int at = site * kScoreTile; at < (site + 1) * kScoreTile; at += kLanes<T>)
        __builtin_prefetch(tile.x + at), __builtin_prefetch(tile.gradient + at, 1);
}

/// `block`: the largest degree of a neighbour's block.
template <bool LAPLACIAN, class T> void evaluate_tile(const Tile<T>& tile, int block) {
    const ScoreLayout& layout = tile.plan.layout;
    for (int i = 0; i < layout.sites; ++i) {
        ask_for_site(tile, i + 3); // as far ahead as the third-level cache is away
        evaluate_site<LAPLACIAN>(tile, i);
    }
    for (std::size_t k = 0; k < layout.dense.size(); ++k)
        dense_product(tile.c.dense.data() + k * layout.dense_ld * layout.dense_ld, layout.dense_ld,
                      layout.sites, tile.phi + (layout.dense[k].b - 1) * kScoreTile,
                      static_cast<std::size_t>(tile.coupled * kScoreTile),
                      tile.dense + static_cast<int>(k) * layout.sites * kScoreTile);
    const auto finish =
        block <= kSmallBlock ? finish_site<kSmallBlock, LAPLACIAN, T> : finish_site<kMaxDegree, LAPLACIAN, T>;
    for (int i = 0; i < layout.sites; ++i) finish(tile, i);
}

template <class T> void gradient(const ScorePlan<T>& plan, const ScoreCoefficients<T>& c, const T* x,
                                 T* gradient, T* laplacian, T* scratch) {
    const ScoreLayout& layout = plan.layout;
    int block = 0;
    for (const auto& neighbour : layout.neighbours) block = std::max(block, neighbour.degree);
    int coupled = block;
    for (const auto& pair : layout.dense) coupled = std::max({coupled, pair.a, pair.b});
    const int functions = layout.sites * coupled * kScoreTile;
    const Tile<T> tile{plan,     c,        coupled, x, scratch, scratch + functions, scratch + 2 * functions,
                       gradient, laplacian};
    if (!laplacian) return evaluate_tile<false>(tile, block);
    std::fill_n(laplacian, kScoreTile, T{0});
    evaluate_tile<true>(tile, block);
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

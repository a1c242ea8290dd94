// chain_cpu.cpp - exact draws of chains on the CPU; tables in chain.h. No sum crosses lanes and nothing is
// contracted: the bits are the same at every SIMD level.
#include "chain.h"
#include "dispatch_cpu.h"
#include "elementary.h"
#include "philox.h"
#include <algorithm>
#include <cmath>
#include <vector>

namespace dynkin::cpu {
namespace {

constexpr std::size_t lanes = 8;
constexpr std::uint32_t attempts = 1000;

/// Where the neighbour stands: its nearest point and its distance from that.
struct Neighbour {
    std::size_t centre;
    double offset;
};

inline Neighbour locate(const ChainView& v, double x) {
    const double at = std::clamp((x - v.origin) / v.step, 0.0, static_cast<double>(v.points - 1));
    const auto centre = static_cast<std::size_t>(at + 0.5);
    return {centre, x - (v.origin + static_cast<double>(centre) * v.step)};
}

/// Six-point Lagrange interpolation of a table at the position t, in points.
inline double interpolate(const ChainView& v, const double* table, double t) {
    const double last = static_cast<double>(v.points - 6);
    const double base = std::clamp(std::floor(t) - 2, 0.0, last);
    const double s = t - base, s1 = s - 1, s2 = s - 2, s3 = s - 3, s4 = s - 4, s5 = s - 5;
    const double* f = table + static_cast<std::size_t>(base);
    const double low = s * s1 * s2, high = s3 * s4 * s5;
    return (f[5] * s * s1 * s2 * s3 * s4 - f[0] * s1 * s2 * high) / 120 +
           (f[1] * s * s2 * high - f[4] * low * s3 * s5) / 24 +
           (f[3] * low * s4 * s5 - f[2] * s * s1 * high) / 12;
}

/// Points [from, to), multiples of 8, with weights p: those of the linear interpolant of a density.
struct Window {
    std::size_t from, to;
    double lane[lanes]; ///< sums of p over the points of each lane
    double total;
};

inline Window window_around(const ChainView& v, std::size_t centre, std::size_t reach) {
    const std::size_t from = centre > reach ? (centre - reach) / lanes * lanes : 0;
    const std::size_t to = std::min(v.stride, (centre + reach + lanes) / lanes * lanes);
    return {from, to, {}, 0};
}

/// p = m exp(-(J/2)((x - c)^2 - 2 (x - c) offset)): the Gaussian about the neighbour, up to a factor. On
/// points the second part is a geometric sequence.
inline void weigh(const ChainView& v, const Neighbour& near, const double* m, Window& w, double* p) {
    const double rate = v.coupling * v.step * near.offset;
    const double start = static_cast<double>(w.from) - static_cast<double>(near.centre);
    const double* gauss =
        v.gauss + static_cast<std::ptrdiff_t>(w.from) - static_cast<std::ptrdiff_t>(near.centre);
    double tilt[lanes], sum[lanes];
    for (std::size_t j = 0; j < lanes; ++j) {
        tilt[j] = portable_exp(rate * (start + static_cast<double>(j)));
        sum[j] = 0;
    }
    const double ahead = portable_exp(rate * lanes);
    for (std::size_t k = 0; k < w.to - w.from; k += lanes) {
#pragma omp simd
        for (std::size_t j = 0; j < lanes; ++j) {
            const double value = gauss[k + j] * tilt[j] * m[w.from + k + j];
            p[w.from + k + j] = value > 0 ? value : 0.0; // rounding may leave a message below zero
            sum[j] += p[w.from + k + j];
            tilt[j] *= ahead;
        }
    }
    w.total = 0;
    for (std::size_t j = 0; j < lanes; ++j) w.lane[j] = sum[j], w.total += sum[j];
}

/// Whether the window holds the mass: the weights at its ends, unless they are the ends of the box.
inline bool is_wide_enough(const ChainView& v, const Window& w, const double* p) {
    const double count = static_cast<double>(w.to - w.from), small = 1e-12 * w.total;
    return w.total > 0 && (w.from == 0 || p[w.from] * count < small) &&
           (w.to == v.stride || p[w.to - 1] * count < small);
}

/// A point of the window with probability p / total: lane after lane, the lane's points in order.
inline std::size_t choose(const Window& w, const double* p, double u) {
    double rest = u * w.total;
    std::size_t j = 0;
    while (j + 1 < lanes && rest >= w.lane[j]) rest -= w.lane[j++];
    std::size_t point = w.from + j;
    while (point + lanes < w.to && rest >= p[point]) rest -= p[point], point += lanes;
    return point;
}

/// One row: `memory` holds two tables of points and the coefficients of a ring.
class Row {
  public:
    Row(const ChainView& view, std::uint64_t seed, std::uint64_t sample, double* x, double* memory)
        : v_(view), seed_(seed), sample_(sample), x_(x), p_(memory), m_(p_ + v_.stride),
          coefficient_(m_ + v_.stride) {}

    bool draw() {
        if (!draw_first()) return false;
        if (v_.ring) project_first();
        for (std::size_t i = 1; i < v_.sites; ++i)
            if (!draw_next(i)) return false;
        return true;
    }

  private:
    bool draw_first() {
        Window w = window_around(v_, 0, v_.stride);
        std::copy_n(v_.first, v_.stride, p_);
        for (std::size_t k = 0; k < v_.stride; ++k) w.lane[k % lanes] += p_[k];
        for (const double sum : w.lane) w.total += sum;
        return accept(0, 0, {0, 0.0}, v_.first, w);
    }
    bool draw_next(std::size_t i) {
        const Neighbour near = locate(v_, x_[i - 1]);
        for (std::size_t reach = v_.reach;; reach *= 2) {
            Window w = window_around(v_, near.centre, reach);
            const double* m = message(i, w);
            weigh(v_, near, m, w, p_);
            if (is_wide_enough(v_, w, p_) || w.to - w.from == v_.stride)
                return accept(i, v_.coupling, near, m, w);
        }
    }
    /// psi_r(x_0).
    void project_first() {
        const double t = (x_[0] - v_.origin) / v_.step;
        for (std::size_t r = 0; r < v_.rank[v_.sites]; ++r)
            coefficient_[r] = interpolate(v_, v_.message + r * v_.stride, t);
    }
    const double* message(std::size_t i, const Window& w);
    void sum_modes(std::size_t gap, std::size_t from, std::size_t to);
    bool accept(std::size_t i, double coupling, const Neighbour& near, const double* m, const Window& w);

    const ChainView& v_;
    std::uint64_t seed_, sample_;
    double *x_, *p_, *m_, *coefficient_;
};

/// m of site i on the window, and as far around it as interpolation reaches.
inline const double* Row::message(std::size_t i, const Window& w) {
    if (!v_.ring) return v_.message + (v_.sites - 1 - i) * v_.stride;
    const std::size_t gap = v_.sites - i;
    const std::size_t from = w.from - std::min(w.from, lanes), to = std::min(w.to + lanes, v_.stride);
    if (gap > 1) {
        sum_modes(gap, from, to);
        return m_;
    }
#pragma omp simd
    for (std::size_t k = from; k < to; ++k) {
        const double u = v_.origin + static_cast<double>(k) * v_.step - x_[0];
        m_[k] = v_.weight[k] * portable_exp(-0.5 * v_.coupling * u * u);
    }
    return m_;
}

inline void Row::sum_modes(std::size_t gap, std::size_t from, std::size_t to) {
    const double* power = v_.power + gap * v_.rank[v_.sites];
    for (std::size_t k = from; k < to; k += lanes) {
        double sum[lanes] = {};
        for (std::size_t r = 0; r < v_.rank[gap]; ++r) {
            const double factor = coefficient_[r] * power[r];
            const double* psi = v_.message + r * v_.stride + k;
#pragma omp simd
            for (std::size_t j = 0; j < lanes; ++j) sum[j] += factor * psi[j];
        }
        for (std::size_t j = 0; j < lanes; ++j) m_[k + j] = sum[j];
    }
}

/// A point of the window and a triangular step from it have the law of the linear interpolant.
inline bool Row::accept(std::size_t i, double coupling, const Neighbour& near, const double* m,
                        const Window& w) {
    const auto weight = [&](double point) { // of a point given as a whole number
        return point >= static_cast<double>(w.from) && point < static_cast<double>(w.to)
                   ? p_[static_cast<std::size_t>(point)]
                   : 0.0;
    };
    for (std::uint32_t attempt = 0; attempt < attempts; ++attempt) {
        const RandomWords word =
            philox(seed_, Stream::exact_draw, sample_, static_cast<std::uint32_t>(i), attempt);
        const double t = static_cast<double>(choose(w, p_, uniform(word.v[0]))) +
                         (uniform(word.v[1]) + uniform(word.v[2]) - 1);
        if (!(t >= 0 && t <= static_cast<double>(v_.points - 1))) continue;
        const double below = std::floor(t), part = t - below;
        const double linear = (1 - part) * weight(below) + part * weight(below + 1);
        const double u = (t - static_cast<double>(near.centre)) * v_.step;
        const double density = interpolate(v_, m, t) * portable_exp(coupling * u * (near.offset - 0.5 * u));
        if (uniform(word.v[3]) * linear * v_.slack > density) continue;
        x_[i] = v_.origin + t * v_.step;
        return true;
    }
    return false;
}

struct Block {
    const ChainView& view;
    std::uint64_t seed;
    std::size_t first, count;
    double *x, *memory;
    bool& good;
    void operator()() const {
        for (std::size_t n = 0; n < count; ++n)
            good = Row(view, seed, first + n, x + n * view.sites, memory).draw() && good;
    }
};

} // namespace

bool draw_chains(Isa isa, int threads, const ChainView& view, std::uint64_t seed, std::size_t first,
                 std::size_t count, double* x) {
    constexpr std::size_t block = 16;
    const std::size_t blocks = (count + block - 1) / block, most = static_cast<std::size_t>(threads);
    const int team = static_cast<int>(std::clamp<std::size_t>(count * view.sites / 256, 1, most));
    bool all_good = true;
#pragma omp parallel num_threads(team) reduction(&& : all_good)
    {
        std::vector<double> memory(2 * view.stride + (view.ring ? view.rank[view.sites] : 0) + lanes);
        bool good = true;
#pragma omp for schedule(dynamic)
        for (std::size_t b = 0; b < blocks; ++b) {
            const std::size_t begin = b * block;
            with_isa(isa, Block{view, seed, first + begin, std::min(block, count - begin),
                                x + begin * view.sites, memory.data(), good});
        }
        all_good = all_good && good;
    }
    return all_good;
}

} // namespace dynkin::cpu

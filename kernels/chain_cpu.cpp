// chain_cpu.cpp - exact draws of chains on the CPU; tables in chain.h. No sum crosses lanes and nothing is
// contracted: the bits are the same at every SIMD level.
#include "chain.h"
#include "dispatch_cpu.h"
#include <algorithm>
#include <cmath>
#include <vector>

namespace dynkin::cpu {
namespace {

constexpr std::size_t lanes = chain_lanes;

/// p = m exp(-(J/2)((x - c)^2 - 2 (x - c) offset)): the Gaussian about the neighbour, up to a factor. On
/// points the second part is a geometric sequence.
inline void weigh(const ChainView& v, const ChainNeighbour& near, const double* m, ChainWindow& w,
                  double* p) {
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
        ChainWindow w = window_around(v_, 0, v_.stride);
        std::copy_n(v_.first, v_.stride, p_);
        for (std::size_t k = 0; k < v_.stride; ++k) w.lane[k % lanes] += p_[k];
        for (const double sum : w.lane) w.total += sum;
        return draw_site(v_, w, p_, v_.first, 0, {0, 0.0}, seed_, sample_, 0, x_[0]);
    }
    bool draw_next(std::size_t i) {
        const ChainNeighbour near = locate(v_, x_[i - 1]);
        for (std::size_t reach = v_.reach;; reach *= 2) {
            ChainWindow w = window_around(v_, near.centre, reach);
            const double* m = message(i, w);
            weigh(v_, near, m, w, p_);
            if (is_wide_enough(v_, w, p_) || w.to - w.from == v_.stride)
                return draw_site(v_, w, p_, m, v_.coupling, near, seed_, sample_, i, x_[i]);
        }
    }
    /// psi_r(x_0).
    void project_first() {
        const double t = (x_[0] - v_.origin) / v_.step;
        for (std::size_t r = 0; r < v_.rank[v_.sites]; ++r)
            coefficient_[r] = interpolate(v_, v_.message + r * v_.stride, t);
    }
    const double* message(std::size_t i, const ChainWindow& w);
    void sum_modes(std::size_t gap, std::size_t from, std::size_t to);

    const ChainView& v_;
    std::uint64_t seed_, sample_;
    double *x_, *p_, *m_, *coefficient_;
};

/// m of site i on the window, and as far around it as interpolation reaches.
inline const double* Row::message(std::size_t i, const ChainWindow& w) {
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

// energy_cpu.h - the loops of energy.h over a tile of W samples, element (i, lane) at i * W + lane: energies
// and gradients, one lane a sample. Private to energy_cpu.cpp and hmc_cpu.cpp. No sum crosses lanes, sums
// over coordinates go by strands.h, nothing is contracted: the bits are the same for every W and SIMD level,
// and those of the device.
#pragma once
#include "elementary.h"
#include "energy.h"
#include "strands_cpu.h"
#include <algorithm>
#include <cmath>
#include <limits>

namespace dynkin::cpu {

/// Doubles of working memory a lane needs.
inline std::size_t scratch_per_lane(const EnergyView& law) {
    if (const auto* mixture = std::get_if<MixtureView>(&law)) return mixture->dimension + mixture->components;
    if (std::holds_alternative<PluginView>(law)) return 2 * dimension(law);
    return std::holds_alternative<GaussianView>(law) ? dimension(law) : 0;
}

// Lattice
// ------------------------------------------------------------------------------------------------------

template <int W, int Degree, int Neighbours>
inline void lattice_gradient_site(const LatticeView& law, std::size_t i, const double* x, double* g) {
    const std::int32_t* list = law.neighbour + law.first[i];
    const double links = Neighbours + law.outer[i], outside = law.outer_sum[i];
    const double* own = x + i * W;
    double* out = g + i * W;
#pragma omp simd
    for (int lane = 0; lane < W; ++lane) {
        double sum = outside;
        for (int n = 0; n < Neighbours; ++n)
            sum += x[static_cast<std::size_t>(list[n]) * W + static_cast<std::size_t>(lane)];
        out[lane] =
            site_gradient<Degree>(law.site, own[lane]) + edge_gradient(law.coupling, links, own[lane], sum);
    }
}

template <int W, int Degree>
inline void lattice_gradient(const LatticeView& law, const double* x, double* g) {
    for (std::size_t i = 0; i < law.dimension; ++i) {
        switch (law.first[i + 1] - law.first[i]) {
        case 0:
            lattice_gradient_site<W, Degree, 0>(law, i, x, g);
            break;
        case 1:
            lattice_gradient_site<W, Degree, 1>(law, i, x, g);
            break;
        case 2:
            lattice_gradient_site<W, Degree, 2>(law, i, x, g);
            break;
        case 3:
            lattice_gradient_site<W, Degree, 3>(law, i, x, g);
            break;
        case 4:
            lattice_gradient_site<W, Degree, 4>(law, i, x, g);
            break;
        case 5:
            lattice_gradient_site<W, Degree, 5>(law, i, x, g);
            break;
        default:
            lattice_gradient_site<W, Degree, 6>(law, i, x, g);
            break;
        }
    }
}

template <int W, int Degree> inline void lattice_energy(const LatticeView& law, const double* x, double* u) {
    StrandSum<W> sum(law.dimension);
    for (std::size_t i = 0; i < law.dimension; ++i) {
        const double* own = x + i * W;
        const double outer = law.outer[i], outer_sum = law.outer_sum[i], outer_square = law.outer_square[i];
        double term[W];
#pragma omp simd
        for (int lane = 0; lane < W; ++lane)
            term[lane] = site_energy<Degree>(law.site, own[lane]) + law.constant +
                         outer_energy(law.coupling, outer, outer_sum, outer_square, own[lane]);
        for (std::int32_t n = law.forward[i]; n < law.first[i + 1]; ++n) {
            const double* other = x + static_cast<std::size_t>(law.neighbour[n]) * W;
#pragma omp simd
            for (int lane = 0; lane < W; ++lane)
                term[lane] += edge_energy(law.coupling, own[lane], other[lane]);
        }
        double* out = sum.of(i);
#pragma omp simd
        for (int lane = 0; lane < W; ++lane) out[lane] += term[lane];
    }
    sum.total(u);
}

template <int W> inline void gradient(const LatticeView& law, const double* x, double* g, double*) {
    if (law.degree <= 4)
        lattice_gradient<W, 4>(law, x, g);
    else
        lattice_gradient<W, max_site_degree>(law, x, g);
}
template <int W> inline void energy(const LatticeView& law, const double* x, double* u, double*) {
    if (law.degree <= 4)
        lattice_energy<W, 4>(law, x, u);
    else
        lattice_energy<W, max_site_degree>(law, x, u);
}

// Gaussians
// ----------------------------------------------------------------------------------------------------

/// y = L^-1 (x - mean), by forward substitution.
template <int W> inline void whiten(const GaussianView& law, const double* x, double* y) {
    for (std::size_t i = 0; i < law.dimension; ++i) {
        const double* row = law.cholesky + i * law.dimension;
        double* out = y + i * W;
        const double* in = x + i * W;
#pragma omp simd
        for (int lane = 0; lane < W; ++lane) out[lane] = in[lane] - law.mean[i];
        for (std::size_t j = 0; j < i; ++j) {
            const double* known = y + j * W;
#pragma omp simd
            for (int lane = 0; lane < W; ++lane) out[lane] -= row[j] * known[lane];
        }
#pragma omp simd
        for (int lane = 0; lane < W; ++lane) out[lane] /= row[i];
    }
}

/// y <- L^-T y, by backward substitution, known coordinates from the last on: the gradient, from the whitened
/// point.
template <int W> inline void unwhiten_transposed(const GaussianView& law, double* y) {
    for (std::size_t i = law.dimension; i-- > 0;) {
        double* out = y + i * W;
        for (std::size_t j = law.dimension; j-- > i + 1;) {
            const double factor = law.cholesky[j * law.dimension + i];
            const double* known = y + j * W;
#pragma omp simd
            for (int lane = 0; lane < W; ++lane) out[lane] -= factor * known[lane];
        }
        const double diagonal = law.cholesky[i * law.dimension + i];
#pragma omp simd
        for (int lane = 0; lane < W; ++lane) out[lane] /= diagonal;
    }
}

/// u = |y|^2 / 2 + log_normaliser of a whitened point.
template <int W> inline void half_square(const GaussianView& law, const double* y, double* u) {
    StrandSum<W> sum(law.dimension);
    for (std::size_t i = 0; i < law.dimension; ++i) {
        const double* own = y + i * W;
        double* out = sum.of(i);
#pragma omp simd
        for (int lane = 0; lane < W; ++lane) out[lane] += 0.5 * own[lane] * own[lane];
    }
    sum.total(u);
    for (int lane = 0; lane < W; ++lane) u[lane] += law.log_normaliser;
}

template <int W> inline void gradient(const GaussianView& law, const double* x, double* g, double*) {
    whiten<W>(law, x, g);
    unwhiten_transposed<W>(law, g);
}

template <int W> inline void energy(const GaussianView& law, const double* x, double* u, double* scratch) {
    whiten<W>(law, x, scratch);
    half_square<W>(law, scratch, u);
}

// Mixtures
// -----------------------------------------------------------------------------------------------------

/// Leaves log_weight_k - U_k in terms[k W + lane] and u = -log sum_k exp(terms).
template <int W>
inline void mixture_terms(const MixtureView& law, const double* x, double* u, double* y, double* terms) {
    for (std::size_t k = 0; k < law.components; ++k) {
        double* term = terms + k * W;
        energy<W>(law.component[k], x, term, y);
        for (int lane = 0; lane < W; ++lane) term[lane] = law.log_weight[k] - term[lane];
    }
    for (std::size_t lane = 0; lane < W; ++lane) {
        double largest = terms[lane], sum = 0;
        for (std::size_t k = 1; k < law.components; ++k) largest = std::max(largest, terms[k * W + lane]);
        for (std::size_t k = 0; k < law.components; ++k) sum += portable_exp(terms[k * W + lane] - largest);
        u[lane] = -largest - portable_log(sum);
    }
}

template <int W> inline void energy(const MixtureView& law, const double* x, double* u, double* scratch) {
    mixture_terms<W>(law, x, u, scratch, scratch + law.dimension * W);
}

/// sum_k r_k L_k^-T L_k^-1 (x - mean_k), r_k = exp(terms_k + u) the responsibilities.
template <int W> inline void gradient(const MixtureView& law, const double* x, double* g, double* scratch) {
    double u[W];
    double* terms = scratch + law.dimension * W;
    mixture_terms<W>(law, x, u, scratch, terms);
    std::fill_n(g, law.dimension * W, 0.0);
    for (std::size_t k = 0; k < law.components; ++k) {
        gradient<W>(law.component[k], x, scratch, nullptr);
        for (std::size_t lane = 0; lane < W; ++lane) {
            const double responsibility = portable_exp(terms[k * W + lane] + u[lane]);
            for (std::size_t i = 0; i < law.dimension; ++i)
                g[i * W + lane] += responsibility * scratch[i * W + lane];
        }
    }
}

// Separable wells
// ----------------------------------------------------------------------------------------------

template <int W> inline void energy(const DoubleWellView& law, const double* x, double* u, double*) {
    StrandSum<W> sum(law.dimension);
    for (std::size_t i = 0; i < law.dimension; ++i) {
        const double* own = x + i * W;
        double* out = sum.of(i);
#pragma omp simd
        for (int lane = 0; lane < W; ++lane) out[lane] += double_well_energy(law.a, law.b, own[lane]);
    }
    sum.total(u);
}
template <int W> inline void gradient(const DoubleWellView& law, const double* x, double* g, double*) {
#pragma omp simd
    for (std::size_t n = 0; n < law.dimension * W; ++n) g[n] = double_well_gradient(law.a, law.b, x[n]);
}
template <int W> inline void energy(const ManyWellView& law, const double* x, double* u, double*) {
    StrandSum<W> sum(law.dimension);
    for (std::size_t i = 0; i < law.dimension; i += 2) {
        const double *well = x + i * W, *quadratic = well + W;
        double *first = sum.of(i), *second = sum.of(i + 1);
#pragma omp simd
        for (int lane = 0; lane < W; ++lane) {
            first[lane] += many_well_energy(law.a, law.b, law.c, well[lane]);
            second[lane] += 0.5 * quadratic[lane] * quadratic[lane];
        }
    }
    sum.total(u);
}
template <int W> inline void gradient(const ManyWellView& law, const double* x, double* g, double*) {
    for (std::size_t i = 0; i < law.dimension; i += 2) {
        const double* well = x + i * W;
        double* out = g + i * W;
#pragma omp simd
        for (int lane = 0; lane < W; ++lane) {
            out[lane] = many_well_gradient(law.a, law.b, law.c, well[lane]);
            out[W + lane] = well[W + lane];
        }
    }
}

// Plugins
// ----------------------------------------------------------------------------------------------------------

/// Calls the user's function for the rows of scratch; NaN where it fails.
template <int W> inline void call(const PluginView& law, const double* rows, double* u, double* gradients) {
    if (law.energy(law.parameters, law.parameter_count, law.dimension, W, rows, u, gradients) != 0)
        std::fill_n(u, W, std::numeric_limits<double>::quiet_NaN());
}
/// The tile x as rows: (W, d).
template <int W> inline void to_rows(std::size_t d, const double* x, double* rows) {
    for (std::size_t lane = 0; lane < W; ++lane)
        for (std::size_t i = 0; i < d; ++i) rows[lane * d + i] = x[i * W + lane];
}
template <int W> inline void energy(const PluginView& law, const double* x, double* u, double* scratch) {
    to_rows<W>(law.dimension, x, scratch);
    call<W>(law, scratch, u, nullptr);
}
/// The user's own, or central differences: at step h = e^(1/3) max(1, |x|) their error is some e^(2/3) of the
/// scale of U.
template <int W> inline void gradient(const PluginView& law, const double* x, double* g, double* scratch) {
    const std::size_t d = law.dimension;
    double u[W], before[W];
    to_rows<W>(d, x, scratch);
    if (law.has_gradient) {
        double* rows = scratch + d * W;
        call<W>(law, scratch, u, rows);
        for (std::size_t lane = 0; lane < W; ++lane)
            for (std::size_t i = 0; i < d; ++i)
                g[i * W + lane] = std::isnan(u[lane]) ? u[lane] : rows[lane * d + i];
        return;
    }
    for (std::size_t i = 0; i < d; ++i) {
        const auto move = [&](double sign) {
            for (std::size_t lane = 0; lane < W; ++lane) {
                const double at = x[i * W + lane];
                scratch[lane * d + i] = at + sign * 0x1p-17 * std::max(1.0, std::abs(at));
            }
        };
        move(-1);
        call<W>(law, scratch, before, nullptr);
        move(1);
        call<W>(law, scratch, u, nullptr);
        for (std::size_t lane = 0; lane < W; ++lane) {
            const double at = x[i * W + lane];
            g[i * W + lane] = (u[lane] - before[lane]) / (0x1p-16 * std::max(1.0, std::abs(at)));
            scratch[lane * d + i] = at;
        }
    }
}

} // namespace dynkin::cpu

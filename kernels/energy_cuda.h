// energy_cuda.h - energies and gradients by a team of threads, the twin of energy_cpu.h: the same numbers in
// the same order. Private to energy_cuda.cu and hmc_cuda.cu.
//
// energy(team, law, x, scratch) is the same for all lanes; gradient(team, law, x, g, scratch) leaves g_i with
// the lane of coordinate i. All lanes call; x was written before a team.sync(), and so was what scratch and g
// held.
#pragma once
#include "elementary.h"
#include "energy.h"
#include "team.h"
#include <algorithm>
#include <type_traits>
#include <variant>

namespace dynkin::cuda {

/// Whether a device can compute a law: the functions of plugins are the host's, and DeviceLaw refuses them.
template <class View> inline constexpr bool on_device = !std::is_same_v<View, PluginView>;

/// Doubles of scratch a team needs, in shared memory.
inline std::size_t team_scratch(const EnergyView& law) {
    if (const auto* mixture = std::get_if<MixtureView>(&law)) return mixture->dimension + mixture->components;
    return std::holds_alternative<GaussianView>(law) ? dimension(law) : 0;
}

// Laws whose terms look at few coordinates: U = sum_i term_i, dU/dx_i = slope_i
// ---------------------------------------------------------------------------------------------------------

__device__ inline double term(const LatticeView& law, std::size_t i, const double* x) {
    const double own = x[i];
    const double site =
        law.degree <= 4 ? site_energy<4>(law.site, own) : site_energy<max_site_degree>(law.site, own);
    double u = site + law.constant +
               outer_energy(law.coupling, law.outer[i], law.outer_sum[i], law.outer_square[i], own);
    for (std::int32_t n = law.forward[i]; n < law.first[i + 1]; ++n)
        u += edge_energy(law.coupling, own, x[law.neighbour[n]]);
    return u;
}
__device__ inline double slope(const LatticeView& law, std::size_t i, const double* x) {
    const double own = x[i];
    const std::int32_t from = law.first[i], to = law.first[i + 1];
    double sum = law.outer_sum[i];
    for (std::int32_t n = from; n < to; ++n) sum += x[law.neighbour[n]];
    const double site =
        law.degree <= 4 ? site_gradient<4>(law.site, own) : site_gradient<max_site_degree>(law.site, own);
    return site + edge_gradient(law.coupling, to - from + law.outer[i], own, sum);
}
__device__ inline double term(const DoubleWellView& law, std::size_t i, const double* x) {
    return double_well_energy(law.a, law.b, x[i]);
}
__device__ inline double slope(const DoubleWellView& law, std::size_t i, const double* x) {
    return double_well_gradient(law.a, law.b, x[i]);
}
__device__ inline double term(const ManyWellView& law, std::size_t i, const double* x) {
    return i % 2 == 0 ? many_well_energy(law.a, law.b, law.c, x[i]) : 0.5 * x[i] * x[i];
}
__device__ inline double slope(const ManyWellView& law, std::size_t i, const double* x) {
    return i % 2 == 0 ? many_well_gradient(law.a, law.b, law.c, x[i]) : x[i];
}

template <class View> __device__ double energy(const Team& team, const View& law, const double* x, double*) {
    double u = 0;
    for (std::size_t i = team.lane(); i < law.dimension; i += team.size()) u += term(law, i, x);
    return team.sum(u);
}
template <class View>
__device__ void gradient(const Team& team, const View& law, const double* x, double* g, double*) {
    for (std::size_t i = team.lane(); i < law.dimension; i += team.size()) g[i] = slope(law, i, x);
}

// Gaussians: substitution by columns, which takes the same numbers from a coordinate in the same order as by
// rows
// ---------------------------------------------------------------------------------------------------------

/// y = L^-1 (x - mean).
__device__ inline void whiten(const Team& team, const GaussianView& law, const double* x, double* y) {
    const std::size_t d = law.dimension;
    for (std::size_t i = team.lane(); i < d; i += team.size()) y[i] = x[i] - law.mean[i];
    for (std::size_t j = 0; j < d; ++j) {
        if (team.owns(j)) y[j] /= law.cholesky[j * d + j];
        team.sync();
        const double known = y[j];
        for (std::size_t i = team.first_from(j + 1); i < d; i += team.size())
            y[i] -= law.cholesky[i * d + j] * known;
    }
}

/// y <- L^-T y.
__device__ inline void unwhiten_transposed(const Team& team, const GaussianView& law, double* y) {
    const std::size_t d = law.dimension;
    for (std::size_t j = d; j-- > 0;) {
        if (team.owns(j)) y[j] /= law.cholesky[j * d + j];
        team.sync();
        const double known = y[j];
        for (std::size_t i = team.lane(); i < j; i += team.size()) y[i] -= law.cholesky[j * d + i] * known;
    }
}

__device__ inline double energy(const Team& team, const GaussianView& law, const double* x, double* scratch) {
    whiten(team, law, x, scratch);
    double u = 0;
    for (std::size_t i = team.lane(); i < law.dimension; i += team.size()) u += 0.5 * scratch[i] * scratch[i];
    return team.sum(u) + law.log_normaliser;
}
__device__ inline void gradient(const Team& team, const GaussianView& law, const double* x, double* g,
                                double*) {
    whiten(team, law, x, g);
    team.sync(); // the last coordinates are still being read
    unwhiten_transposed(team, law, g);
}

// Mixtures
// ---------------------------------------------------------------------------------------------------------

/// terms[k] = log_weight_k - U_k; returns -log sum_k exp(terms).
__device__ inline double mixture_terms(const Team& team, const MixtureView& law, const double* x, double* y,
                                       double* terms) {
    for (std::size_t k = 0; k < law.components; ++k) {
        const double u = energy(team, law.component[k], x, y);
        if (team.lane() == 0) terms[k] = law.log_weight[k] - u;
    }
    team.sync();
    double largest = terms[0], sum = 0;
    for (std::size_t k = 1; k < law.components; ++k) largest = std::max(largest, terms[k]);
    for (std::size_t k = 0; k < law.components; ++k) sum += portable_exp(terms[k] - largest);
    return -largest - portable_log(sum);
}

__device__ inline double energy(const Team& team, const MixtureView& law, const double* x, double* scratch) {
    const double u = mixture_terms(team, law, x, scratch, scratch + law.dimension);
    team.sync();
    return u;
}
__device__ inline void gradient(const Team& team, const MixtureView& law, const double* x, double* g,
                                double* scratch) {
    const double* terms = scratch + law.dimension;
    const double u = mixture_terms(team, law, x, scratch, scratch + law.dimension);
    for (std::size_t i = team.lane(); i < law.dimension; i += team.size()) g[i] = 0;
    for (std::size_t k = 0; k < law.components; ++k) {
        team.sync();
        gradient(team, law.component[k], x, scratch, nullptr);
        const double responsibility = portable_exp(terms[k] + u);
        for (std::size_t i = team.lane(); i < law.dimension; i += team.size())
            g[i] += responsibility * scratch[i];
    }
    team.sync();
}

} // namespace dynkin::cuda

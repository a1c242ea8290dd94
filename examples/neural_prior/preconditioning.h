// preconditioning.h - what a network is trained around. With x = x_0 + sigma eps and s = grad log p_sigma,
//     sigma s(x) = P(x, sigma) + r(sigma) F(x, sigma)
// is minus the expected eps given x: P is known, F is the network, and r makes its target of size one. EDM's
// preconditioning is the P of an isotropic Gaussian; a score prior is a better one (docs/method.md).
#pragma once
#include "data.h"
#include <functional>
#include <string>
#include <vector>

namespace neural_prior {

/// out (rows x d) = P at rows x (rows x d) with their noise levels, which are ascending or equal.
using Base = std::function<void(std::size_t rows, const float* x, const double* sigma, float* out)>;

struct Preconditioning {
    Base base;
    std::function<double(double sigma)> residual; ///< r(sigma)
};

/// EDM's: P = -sigma (x - m) / (sigma^2 + v), r^2 = v / (sigma^2 + v), with the mean m of the training rows
/// (zero in the images that EDM is for) and v = mean |x_0 - m|^2 / d.
Preconditioning edm(const dynkin::Array<float>& train);

struct PriorOptions {
    std::string kind =
        "product";  ///< product, gaussian, flat: fit_prior; ve: fit with the variance exploding process
    int degree = 0; ///< 0: the default of the kind
};

/// The closed-form score of a prior fitted to the training rows. Numbers beyond 6, which eps exceeds once in
/// 5e8 draws, are cut: polynomials grow where data are rare.
Base prior(const dynkin::Context& context, const dynkin::Array<float>& train, const PriorOptions& options);

/// P of a prior with r^2 = its loss on the training rows: at 49 levels from low to high, log-linear between.
Preconditioning around(const Base& base, const dynkin::Array<float>& train, double low, double high,
                       std::uint64_t seed);

} // namespace neural_prior

// drift.h - nonlinear forward processes dX = f(X) dt + g dW: drifts as plain structs, from TOML or from any
// callable over dual numbers.
#pragma once
#include "array.h"
#include "dual.h"
#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace dynkin {

/// f_i = -4 a x_i (x_i^2 - 1) - b: with noise sqrt(2) the stationary law is exp(-sum a (x_i^2 - 1)^2 + b
/// x_i).
struct DoubleWellDrift {
    std::size_t dimension = 1;
    double a = 1, b = 0;
};
/// f = grad log of a mixture of isotropic Gaussians: weights w_k, means (k x d), standard deviations sd_k.
struct MixtureDrift {
    std::vector<double> weights;
    Array<double> means;
    std::vector<double> sd;
};
/// f_i = -tanh(x_i / (2 scale)) / scale: with noise sqrt(2) each coordinate is stationary in the logistic
/// law.
struct LogisticDrift {
    std::size_t dimension = 1;
    double scale = 1;
};
/// Active swimmer, dx = (-x^3 + v) dt, dv = -friction v dt + g dW.
struct SwimmerDrift {
    double friction = 0.1;
};
/// f_i = sum of coefficient * prod_j x_j^power_j.
struct PolynomialDrift {
    struct Term {
        double coefficient;
        std::vector<int> power; ///< one per coordinate, 0 to 32
    };
    std::vector<std::vector<Term>> components; ///< one list of terms per coordinate
};
/// A user's function with its derivatives; made by drift_of().
struct CallableDrift {
    std::size_t dimension = 0;
    std::function<void(const double* x, double* f)> value;
    std::function<void(const Dual<double>* x, Dual<double>* f)> slope;
    std::function<void(const Dual<Dual<double>>* x, Dual<Dual<double>>* f)> curvature;
};

/// The drift of any callable `f(const T* x, T* out)` that is templated over the number T: double,
/// Dual<double> and Dual<Dual<double>>. It uses the operators and functions of dual.h, found by the names
/// exp, log, sqrt, sin, cos, tanh, power. It is called from several threads at once.
template <class F> CallableDrift drift_of(std::size_t dimension, F f) {
    return {dimension, [f](const double* x, double* out) { f(x, out); },
            [f](const Dual<double>* x, Dual<double>* out) { f(x, out); },
            [f](const Dual<Dual<double>>* x, Dual<Dual<double>>* out) { f(x, out); }};
}

using DriftVariant =
    std::variant<DoubleWellDrift, MixtureDrift, LogisticDrift, SwimmerDrift, PolynomialDrift, CallableDrift>;

/// dX = f(X) dt + diag(noise) dW; noise_i = 0: no noise in that coordinate (hypoelliptic when another one
/// carries noise into it).
struct DriftProcess {
    DriftVariant drift;
    std::vector<double> noise;
    std::string kind;           ///< as in the TOML, or "callable"
    std::string canonical_json; ///< the table [drift] with every parameter; empty for a callable

    std::size_t dimension() const { return noise.size(); }
    std::vector<int> driven() const; ///< coordinates with noise
};

/// Checks sizes and numbers and fills `kind` and `canonical_json`. `noise`: one number a coordinate, or one
/// for all. Throws Error(usage): dimension above 16, noise negative, not finite or all zero, sd or scale not
/// positive.
DriftProcess drift_process(DriftVariant drift, std::vector<double> noise);

/// Reads `[drift] kind = ...` (docs/formats.md). Unknown and missing keys, wrong types and impossible values
/// throw Error(input) naming file, line, key, expected and got.
DriftProcess read_drift(const std::filesystem::path& path);
/// The same from text; `source` stands for the path in messages.
DriftProcess parse_drift(std::string_view toml, const std::string& source);
/// The process whose canonical_json this is. Throws Error(input).
DriftProcess drift_from_json(const std::string& json, const std::string& source);

/// f at row-major x (count, d), and the Jacobians (count, d, d) unless null. Throws Error(numerical) naming
/// the first row whose drift is not finite.
void drift_values(const DriftProcess& process, std::size_t count, const double* x, double* f,
                  double* jacobian = nullptr);

/// The drift as a polynomial, where it is one.
std::optional<PolynomialDrift> polynomial_form(const DriftProcess& process);

} // namespace dynkin

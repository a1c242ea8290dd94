// process.h - forward processes as data: what carries the law of the data to a law that is known.
#pragma once
#include "array.h"
#include <string>
#include <variant>
#include <vector>

namespace dynkin {

/// dz = -v'(z) dt + sqrt(2) dW in each standardised coordinate, v fitted to the marginal.
struct FittedProcess {};
/// Ornstein-Uhlenbeck in each standardised coordinate, dz = -z dt + sqrt(2) dW.
struct OuProcess {};
/// Brownian motion dz = sqrt(2) dW of the standardised coordinates (variance exploding): the
/// Ornstein-Uhlenbeck process after the change of time tau = log(1 + 2 t) / 2 and of scale z exp(-tau).
struct VeProcess {};
/// Brownian motion in a box with reflecting walls; u = pi (x - lower)/(upper - lower), du = sqrt(2) dW.
struct BoxProcess {
    std::vector<double> lower, upper; ///< per modelled column; empty in options: from the data
    double margin = 0.03;             ///< added on both sides to a box from the data, of its width
};
/// Brownian motion on a torus; u = 2 pi (x - lower)/(upper - lower), du = sqrt(2) dW.
struct TorusProcess {
    std::vector<double> lower, upper; ///< one period, per modelled column; empty in options: an angle's
};
/// dX = drift X dt + noise dW in the units of the data. The drift is stable, noise noise' positive definite.
struct LinearProcess {
    Array<double> drift, noise; ///< d x d, d x m
};
/// dX = f(X, t) dt + g dW, f given by the user.
struct NonlinearProcess {};

using Process = std::variant<FittedProcess, OuProcess, VeProcess, BoxProcess, TorusProcess, LinearProcess,
                             NonlinearProcess>;

/// "fitted", "ou", "ve", "box", "torus", "linear", "nonlinear".
const char* process_name(const Process& process);

} // namespace dynkin

// simulate.h - paths of a nonlinear forward process, and the Gaussian law of a step of the linearised one.
#pragma once
#include "array.h"
#include "context.h"
#include "drift.h"
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace dynkin {

enum class Scheme { euler, heun };

/// How the step from y_s to y_t is approximated: by Euler's increment; by the process linearised at y_s; by
/// that with the Ito term g^2 f'' / 2 of the drift.
enum class Linearisation { euler, linear, ito };

struct SimulateOptions {
    Scheme scheme = Scheme::heun;
    double step = 0;         ///< largest step; 0: by doubling
    double tolerance = 0.01; ///< doubling: rms difference of paths to half the step, in standard deviations
    std::uint64_t seed = 0;
};

/// What paths are at one moment, in the middle of an advance() too.
struct PathsState {
    Array<double> states;
    double time = 0, step = 0;
    std::uint32_t steps = 0;  ///< taken
    double target = 0, h = 0; ///< where an advance() goes, and by what steps
    std::uint32_t left = 0;   ///< of its steps; 0: none is under way
};

/// Paths of dX = f dt + g dW from given starts, all at the same time. On a device when the context has one
/// and the drift is no callable, with the same bits. Path n draws philox(seed; forward_noise, n, step,
/// coordinate / 2), so it depends on nothing but its start, the seed and the times that were asked for: not
/// on threads, and not on the other paths once the step is given.
class Paths {
  public:
    /// start: (paths, dimension) at time 0. With options.step = 0 the step is halved from one that resolves
    /// the drift until up to 256 paths, among them those with the largest drift, driven by the same Brownian
    /// motion with half the step, end within the tolerance (over min(horizon, 1)). Throws Error(usage) for
    /// sizes and options that make no sense, Error(input) when a start is not finite, Error(numerical) when
    /// the drift is not finite or no step is small enough.
    Paths(const Context& context, const DriftProcess& process, Array<double> start, double horizon,
          const SimulateOptions& options = {});
    /// Paths that go on from `state` with the bits that those it is of would have had.
    Paths(const Context& context, const DriftProcess& process, PathsState state,
          const SimulateOptions& options);
    Paths(Paths&& other) noexcept;
    ~Paths();
    /// The same paths, which go on with the same numbers.
    Paths copy() const;

    /// To time t >= time(), in equal steps of at most step(); paths that were restored in the middle of an
    /// advance() go on to its time first. between() is called after some of the steps, when state() is
    /// complete. Throws Error(numerical) with path, time and state when a path leaves the finite numbers, and
    /// Interrupted between two steps.
    void advance(double t, const std::function<void()>& between = {});
    double time() const { return state_.time; } ///< where the last advance() ended
    double step() const { return state_.step; }
    const Array<double>& states() const { return state_.states; }
    const PathsState& state() const { return state_; }

  private:
    struct Law;
    Paths(const Context& context, SimulateOptions options) : context_(context), options_(options) {}
    Context context_;
    std::shared_ptr<const Law> law_;
    SimulateOptions options_;
    void begin(double t);
    void take(std::uint32_t count);
    PathsState state_;
};

/// Why a process stays on the CPU although the context has a device, one line; else "".
std::string drift_notice(const Context& context, const DriftProcess& process);

/// Law of y_(s + gap) given y_s.
struct LocalGaussian {
    std::vector<double> mean;
    Array<double>
        factor; ///< lower Cholesky factor of the covariance; zero columns where there is no variance
};
/// Mean y + integral_0^gap exp(J u) du f, covariance by Van Loan's block exponential (docs/method.md, section
/// 11). Throws Error(usage) for gap < 0, Error(numerical) when the drift or the law is not finite.
LocalGaussian local_gaussian(const DriftProcess& process, const double* y, double gap,
                             Linearisation kind = Linearisation::linear);

} // namespace dynkin

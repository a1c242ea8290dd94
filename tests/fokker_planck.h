// fokker_planck.h - densities of nonlinear processes on a grid, for the errors of fitted scores: finite
// volumes with exponentially fitted fluxes, Crank and Nicolson in time, dimensions split by Strang; advection
// without noise along characteristics. Shares no code with the engine.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

namespace dynkin::oracle {

using std::size_t;

struct Grid {
    double lo, hi;
    size_t n;
    double h() const { return (hi - lo) / static_cast<double>(n - 1); }
    double at(size_t i) const { return lo + static_cast<double>(i) * h(); }
};

/// Rates of the chain on a line: up[i] from i to i + 1, down[i] from i + 1 to i, with drift f and diffusion D
/// (Scharfetter and Gummel).
struct Rates {
    std::vector<double> up, down;
};
template <class F> Rates rates(const Grid& g, const F& f, double diffusion) {
    const auto bernoulli = [](double z) { return std::abs(z) < 1e-8 ? 1 - z / 2 : z / std::expm1(z); };
    Rates r{std::vector<double>(g.n - 1), std::vector<double>(g.n - 1)};
    const double h = g.h();
    for (size_t i = 0; i + 1 < g.n; ++i) {
        const double z = std::clamp(f((g.at(i) + g.at(i + 1)) / 2) * h / diffusion, -300.0, 300.0);
        r.up[i] = diffusion / (h * h) * bernoulli(-z), r.down[i] = diffusion / (h * h) * bernoulli(z);
    }
    return r;
}

/// One step of length dt of Crank and Nicolson on a line with the given stride.
inline void diffuse(const Rates& r, double dt, double* p, size_t stride = 1) {
    const size_t n = r.up.size() + 1;
    thread_local std::vector<double> upper, value;
    upper.resize(n), value.resize(n);
    const auto out = [&](size_t i) { return (i + 1 < n ? r.up[i] : 0) + (i ? r.down[i - 1] : 0); };
    for (size_t i = 0; i < n; ++i) {
        const double own = p[i * stride], below = i ? p[(i - 1) * stride] : 0,
                     above = i + 1 < n ? p[(i + 1) * stride] : 0;
        const double flow =
            (i ? r.up[i - 1] * below : 0) + (i + 1 < n ? r.down[i] * above : 0) - out(i) * own;
        double pivot = 1 + dt / 2 * out(i), right = own + dt / 2 * flow;
        if (i) {
            const double lower = -dt / 2 * r.up[i - 1];
            pivot -= lower * upper[i - 1], right -= lower * value[i - 1];
        }
        upper[i] = i + 1 < n ? -dt / 2 * r.down[i] / pivot : 0;
        value[i] = right / pivot;
    }
    for (size_t i = n; i-- > 0;) {
        if (i + 1 < n) value[i] -= upper[i] * value[i + 1];
        p[i * stride] = value[i];
    }
}

/// d log p / dx by central differences along a line.
inline std::vector<double> log_slope(const double* p, size_t n, double h, size_t stride = 1) {
    const auto l = [&](size_t i) { return std::log(std::max(p[i * stride], 1e-300)); };
    std::vector<double> s(n);
    for (size_t i = 0; i < n; ++i)
        s[i] = (l(std::min(i + 1, n - 1)) - l(i ? i - 1 : 0)) / (h * (i && i + 1 < n ? 2 : 1));
    return s;
}

inline void normalise(std::vector<double>& p, double cell) {
    double sum = 0;
    for (const double v : p) sum += v * cell;
    for (double& v : p) v /= sum;
}

/// Density at time t on a line.
template <class F> std::vector<double> density_1d(const Grid& g, const F& f, double diffusion,
                                                  std::vector<double> p, double t, int steps) {
    const Rates r = rates(g, f, diffusion);
    for (int k = 0; k < steps; ++k) diffuse(r, t / steps, p.data());
    normalise(p, g.h());
    return p;
}

/// Density at time t on the square of a grid, p[i n + j] at (x_i, y_j); f(x, y, out).
inline std::vector<double> density_2d(const Grid& g, const std::function<void(double, double, double*)>& f,
                                      double diffusion, std::vector<double> p, double t, int steps) {
    std::vector<Rates> along_x, along_y;
    for (size_t k = 0; k < g.n; ++k) {
        const double fixed = g.at(k);
        const auto component = [&](double x, double y, int i) {
            double out[2];
            f(x, y, out);
            return out[i];
        };
        along_x.push_back(rates(
            g, [&](double x) { return component(x, fixed, 0); }, diffusion));
        along_y.push_back(rates(
            g, [&](double y) { return component(fixed, y, 1); }, diffusion));
    }
    const double dt = t / steps;
    for (int step = 0; step < steps; ++step) {
        for (size_t j = 0; j < g.n; ++j) diffuse(along_x[j], dt / 2, p.data() + j, g.n);
        for (size_t i = 0; i < g.n; ++i) diffuse(along_y[i], dt, p.data() + i * g.n);
        for (size_t j = 0; j < g.n; ++j) diffuse(along_x[j], dt / 2, p.data() + j, g.n);
    }
    normalise(p, g.h() * g.h());
    return p;
}

/// Density of the active swimmer dx = (v - x^3) dt, dv = -friction v dt + sqrt(2 friction) dW from N(0, I).
class SwimmerDensity {
  public:
    SwimmerDensity(double friction, Grid x, Grid v, double dt)
        : x_(x), v_(v), dt_(dt), speed_(rates(
                                     v, [&](double s) { return -friction * s; }, friction)),
          place_(x.n * v.n), shrink_(x.n * v.n), p_(x.n * v.n) {
        for (size_t i = 0; i < x.n; ++i)
            for (size_t j = 0; j < v.n; ++j) {
                trace(x.at(i), v.at(j), i * v.n + j);
                p_[i * v.n + j] = std::exp(-(x.at(i) * x.at(i) + v.at(j) * v.at(j)) / 2);
            }
        normalise(p_, x.h() * v.h());
    }
    void advance(double t) {
        for (const int steps = static_cast<int>(std::lround(t / dt_)); done_ < steps; ++done_) {
            advect();
            for (size_t i = 0; i < x_.n; ++i) diffuse(speed_, dt_, p_.data() + i * v_.n);
            advect();
            for (double& value : p_) value = std::max(value, 0.0);
            normalise(p_, x_.h() * v_.h());
        }
    }
    const std::vector<double>& density() const { return p_; }

  private:
    /// Half a step back along x' = v - x^3, with the logarithm of the density's change, by Runge and Kutta.
    void trace(double x, double v, size_t cell) {
        double change = 0;
        const int steps = 8;
        const double h = -dt_ / 2 / steps;
        for (int k = 0; k < steps; ++k) {
            const auto f = [&](double at) { return v - at * at * at; };
            const double a = f(x), xb = x + h / 2 * a, b = f(xb), xc = x + h / 2 * b, c = f(xc),
                         xd = x + h * c, d = f(xd);
            change += -3 * h / 6 * (x * x + 2 * xb * xb + 2 * xc * xc + xd * xd);
            x += h / 6 * (a + 2 * b + 2 * c + d);
        }
        place_[cell] = (x - x_.lo) / x_.h();
        shrink_[cell] = std::exp(change);
    }
    /// p(x) = p(start) dstart/dx, cubic interpolation.
    void advect() {
        const std::vector<double> old = p_;
        for (size_t i = 0; i < x_.n; ++i)
            for (size_t j = 0; j < v_.n; ++j) {
                const size_t cell = i * v_.n + j;
                const double place = place_[cell];
                p_[cell] = 0;
                if (!(place >= 1 && place < static_cast<double>(x_.n - 3))) continue;
                const auto left = static_cast<size_t>(place);
                const double s = place - static_cast<double>(left);
                const double w[] = {-s * (s - 1) * (s - 2) / 6, (s + 1) * (s - 1) * (s - 2) / 2,
                                    -(s + 1) * s * (s - 2) / 2, (s + 1) * s * (s - 1) / 6};
                for (size_t k = 0; k < 4; ++k) p_[cell] += w[k] * old[(left + k - 1) * v_.n + j];
                p_[cell] *= shrink_[cell];
            }
    }

    Grid x_, v_;
    double dt_;
    Rates speed_;
    std::vector<double> place_, shrink_, p_;
    int done_ = 0;
};

/// The two moons with unit radius and Gaussian noise, as a density: an average over the arcs.
inline double moons(double x, double y, double noise) {
    const int m = 600;
    double sum = 0;
    for (int k = 0; k < m; ++k) {
        const double a = (k + 0.5) / m * 3.14159265358979323846, c = std::cos(a), s = std::sin(a);
        const double outer = (x - c) * (x - c) + (y - s) * (y - s);
        const double inner = (x - 1 + c) * (x - 1 + c) + (y - 0.5 + s) * (y - 0.5 + s);
        sum += std::exp(-outer / (2 * noise * noise)) + std::exp(-inner / (2 * noise * noise));
    }
    return sum;
}

} // namespace dynkin::oracle

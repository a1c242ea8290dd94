// conditional_simd.cpp - the host loops of conditional.h for one SIMD level.
#include "conditional.h"
#include "functions_simd.h"

namespace dynkin::kernels {
namespace DYNKIN_ISA {
namespace {

constexpr int kTile = kScoreTile;

/// f = sum_g c_g (sum_e w_e x_e)^power for every particle.
template <class T> void feature(const Conditions& plan, const Conditions::Feature& f, const T* x,
                                const int* neighbours, double* out) {
    for (int p = 0; p < kTile; ++p) out[p] = 0;
    double sum[kTile], product[kTile];
    for (int g = f.first; g < f.last; ++g) {
        const auto& group = plan.groups.data()[g];
        for (int p = 0; p < kTile; ++p) sum[p] = 0;
        for (int e = group.first; e < group.last; ++e) {
            const auto& entry = plan.entries.data()[e];
            if (neighbours[entry.slot] < 0) continue;
            const T* at = x + neighbours[entry.slot] * kTile;
            for (int p = 0; p < kTile; ++p) sum[p] += entry.weight * static_cast<double>(at[p]);
        }
        for (int p = 0; p < kTile; ++p) product[p] = group.coefficient * sum[p];
        for (int m = 1; m < f.power; ++m)
            for (int p = 0; p < kTile; ++p) product[p] *= sum[p];
        for (int p = 0; p < kTile; ++p) out[p] += product[p];
    }
    for (int p = 0; p < kTile; ++p) {
        const double u = (out[p] - f.center) * f.inverse_spread;
        out[p] = u < f.lower ? f.lower : u > f.upper ? f.upper : u;
    }
}

template <class T> void describe(const ConditionalPlan<T>& plan, const T* x, const int* neighbours, T* mean,
                                 T* psi, void* scratch) {
    double total[kTile];
    for (int p = 0; p < kTile; ++p) total[p] = plan.intercept;
    for (std::size_t e = 0; e < plan.predictor.size(); ++e) {
        const auto& entry = plan.predictor.data()[e];
        if (neighbours[entry.slot] < 0) continue;
        const T* at = x + neighbours[entry.slot] * kTile;
        for (int p = 0; p < kTile; ++p) total[p] += entry.weight * static_cast<double>(at[p]);
    }
    for (int p = 0; p < kTile; ++p) mean[p] = static_cast<T>(total[p]);

    const int features = static_cast<int>(plan.features.size());
    double* power = static_cast<double*>(scratch); // [feature][exponent][particle]
    double* const monomial = power + plan.powers * kTile;
    const double* start[kMaxFeatures];
    for (int k = 0; k < features; ++k) {
        const auto& f = plan.features.data()[k];
        start[k] = power;
        for (int p = 0; p < kTile; ++p) power[p] = 1;
        power += kTile;
        if (f.top > 0) feature(plan, f, x, neighbours, power);
        for (int m = 1; m < f.top; ++m)
            for (int p = 0; p < kTile; ++p) power[m * kTile + p] = power[(m - 1) * kTile + p] * power[p];
        power += f.top * kTile;
    }
    for (int m = 0; m < plan.monomials; ++m) {
        double* out = monomial + m * kTile;
        for (int p = 0; p < kTile; ++p) out[p] = 1;
        for (int k = 0; k < features; ++k) {
            const int exponent = plan.exponents.data()[m * features + k];
            if (exponent == 0) continue;
            const double* factor = start[k] + exponent * kTile;
            for (int p = 0; p < kTile; ++p) out[p] *= factor[p];
        }
    }
    for (std::size_t c = 0; c < plan.conditions.size(); ++c) {
        double sum[kTile];
        for (int p = 0; p < kTile; ++p) sum[p] = 0;
        const auto& range = plan.conditions.data()[c];
        const double* row = plan.transform.data() + c * static_cast<std::size_t>(plan.monomials);
        for (int m = range.first; m < range.last; ++m) {
            const double weight = row[m];
            const double* at = monomial + m * kTile;
            for (int p = 0; p < kTile; ++p) sum[p] += weight * at[p];
        }
        for (int p = 0; p < kTile; ++p) psi[c * kTile + static_cast<std::size_t>(p)] = static_cast<T>(sum[p]);
    }
}

/// The working space of a flow: factors e_a at two times, eigenfunctions, slopes.
template <class T> struct Space {
    T *now, *next, *phi, *slope;
    Space(const ConditionalPlan<T>& plan, void* scratch)
        : now(static_cast<T*>(scratch)), next(now + plan.degree * kTile), phi(next + plan.degree * kTile),
          slope(phi + plan.degree * kTile) {}
};

/// e_a = sum_alpha c_{a,alpha} psi_alpha for every particle.
template <class T> void factors(const ConditionalPlan<T>& plan, std::size_t time, const T* psi, T* e) {
    const T* c = plan.at(time);
    constexpr int part = kPart<T>;
    for (int a = 0; a < plan.degree; ++a, c += plan.conditions.size()) {
        const auto& range = plan.used.data()[a];
        for (int first = 0; first < kVectors<T>; first += part) {
            Vector<T> sum[part] = {};
            for (int alpha = range.first; alpha < range.last; ++alpha) {
                const Vector<T> weight = broadcast(c[alpha]);
#pragma GCC unroll 4
                for (int v = 0; v < part; ++v)
                    sum[v] += weight * load(psi + alpha * kTile + (first + v) * kLanes<T>);
            }
#pragma GCC unroll 4
            for (int v = 0; v < part; ++v) store(e + a * kTile + (first + v) * kLanes<T>, sum[v]);
        }
    }
}

/// g = sum_a e_a phi_a'(z) and its derivative v' g - sum_a lambda_a e_a phi_a; beyond the box g is constant.
template <class T>
void field(const ConditionalPlan<T>& plan, const T* e, const T* z, Space<T>& space, T* g, T* derivative) {
    const SiteFunctions<T>& f = plan.functions;
    evaluate_functions(f, plan.degree, z, space.phi, space.slope);
    const T scale = slope_scale(f);
    for (int p = 0; p < kTile; p += kLanes<T>) {
        Vector<T> sum = {}, decay = {};
        for (int a = 0; a < plan.degree; ++a) {
            const Vector<T> factor = load(e + a * kTile + p);
            sum += factor * load(space.slope + a * kTile + p);
            decay += f.lambda[a] * factor * load(space.phi + a * kTile + p);
        }
        sum *= scale;
        const Vector<T> at = load(z + p);
        Vector<T> slope = potential_slope(f, at) * sum - decay;
        if (!f.hermite) {
            slope = at < broadcast(f.lo) ? Vector<T>{} : slope;
            slope = at > broadcast(f.hi) ? Vector<T>{} : slope;
        }
        store(g + p, sum), store(derivative + p, slope);
    }
}

/// One Heun step of the map from time k to k - 1 with factors now (k) and next (k - 1).
template <class T>
void step(const ConditionalPlan<T>& plan, T dt, Space<T>& space, const T* z, T* out, T* slope) {
    T g1[kTile], d1[kTile], g2[kTile], d2[kTile], trial[kTile];
    field(plan, space.now, z, space, g1, d1);
    for (int p = 0; p < kTile; ++p) trial[p] = z[p] + dt * g1[p];
    field(plan, space.next, trial, space, g2, d2);
    for (int p = 0; p < kTile; ++p) out[p] = heun_value(z[p], dt, g1[p], g2[p]);
    for (int p = 0; p < kTile; ++p) slope[p] = heun_slope(dt, d1[p], d2[p]);
}

template <class T>
void generate(const ConditionalPlan<T>& plan, const T* psi, T* z, double* stretch, void* scratch) {
    Space<T> space(plan, scratch);
    T slope[kTile];
    for (int p = 0; p < kTile; ++p) stretch[p] = 1;
    factors(plan, plan.dt.size(), psi, space.now);
    for (std::size_t k = plan.dt.size(); k > 0; --k) {
        factors(plan, k - 1, psi, space.next);
        step(plan, static_cast<T>(plan.dt.data()[k - 1]), space, z, z, slope);
        for (int p = 0; p < kTile; ++p)
            stretch[p] = slope[p] > 0 ? stretch[p] * static_cast<double>(slope[p]) : NAN;
        T* const swap = space.now;
        space.now = space.next, space.next = swap;
    }
}

template <class T>
void invert(const ConditionalPlan<T>& plan, const T* psi, T* z, double* stretch, void* scratch) {
    constexpr T tolerance = sizeof(T) == 8 ? static_cast<T>(1e-13) : static_cast<T>(1e-6);
    constexpr T accepted = sizeof(T) == 8 ? static_cast<T>(1e-9) : static_cast<T>(1e-4);
    Space<T> space(plan, scratch);
    T g[kTile], ahead[kTile], unused[kTile], y[kTile], value[kTile], slope[kTile];
    for (int p = 0; p < kTile; ++p) stretch[p] = 1;
    factors(plan, 0, psi, space.next);
    for (std::size_t k = 1; k <= plan.dt.size(); ++k) {
        const T dt = static_cast<T>(plan.dt.data()[k - 1]);
        factors(plan, k, psi, space.now);
        for (int p = 0; p < kTile; ++p) y[p] = z[p];
        field(plan, space.next, y, space, g, unused); // a Heun step backwards is a first guess
        for (int p = 0; p < kTile; ++p) value[p] = y[p] - dt * g[p];
        field(plan, space.now, value, space, ahead, unused);
        for (int p = 0; p < kTile; ++p) z[p] = heun_value(y[p], -dt, g[p], ahead[p]);
        for (int iteration = 0;; ++iteration) {
            step(plan, dt, space, z, value, slope);
            bool done = true;
            for (int p = 0; p < kTile; ++p) {
                const T residual = value[p] - y[p], size = std::abs(y[p]) + 1;
                const bool converged = !(std::abs(residual) > tolerance * size);
                if (!converged && iteration < 5) z[p] -= residual / slope[p], done = false;
                if (iteration == 5 && !(std::abs(residual) < accepted * size)) slope[p] = NAN;
            }
            if (done) break;
        }
        for (int p = 0; p < kTile; ++p)
            stretch[p] = slope[p] > 0 ? stretch[p] * static_cast<double>(slope[p]) : NAN;
        T* const swap = space.now;
        space.now = space.next, space.next = swap;
    }
}

} // namespace
} // namespace DYNKIN_ISA

template <class T> const ConditionalKernels<T>& DYNKIN_ISA_NAME(conditional_kernels)() {
    static const ConditionalKernels<T> kernels{DYNKIN_ISA::describe<T>, DYNKIN_ISA::generate<T>,
                                               DYNKIN_ISA::invert<T>};
    return kernels;
}
template const ConditionalKernels<float>& DYNKIN_ISA_NAME(conditional_kernels)<float>();
template const ConditionalKernels<double>& DYNKIN_ISA_NAME(conditional_kernels)<double>();

} // namespace dynkin::kernels

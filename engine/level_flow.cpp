#include "level_flow.h"
#include "../kernels/elementary.h"
#include "../kernels/philox.h"
#include "error.h"
#include "piecewise.h"
#include "random.h"
#include <algorithm>
#include <cmath>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

kernels::Conditions level_conditions(const Level& level) {
    kernels::Conditions plan;
    const size_t features = level.descriptors.size();
    plan.monomials = static_cast<int>(level.transform.cols());
    plan.exponents = level.exponents;
    for (size_t k = 0; k < features; ++k) {
        const Descriptor& from = level.descriptors[k];
        kernels::Conditions::Feature f{from.power,
                                       static_cast<int>(plan.groups.size()),
                                       0,
                                       level.center[k],
                                       1 / level.spread[k],
                                       level.lower[k],
                                       level.upper[k],
                                       0};
        for (const auto& group : from.groups) {
            const int first = static_cast<int>(plan.entries.size());
            for (const auto& entry : group.entries) plan.entries.push_back({entry.slot, entry.weight});
            plan.groups.push_back({group.coefficient, first, static_cast<int>(plan.entries.size())});
        }
        f.last = static_cast<int>(plan.groups.size());
        for (size_t m = k; m < plan.exponents.size(); m += features)
            f.top = std::max(f.top, plan.exponents[m]);
        plan.powers += f.top + 1;
        plan.features.push_back(f);
    }
    for (size_t s = 0; s < level.predictor.size(); ++s)
        if (level.predictor[s] != 0) plan.predictor.push_back({static_cast<int>(s), level.predictor[s]});
    plan.intercept = level.intercept;
    plan.transform.assign(level.transform.begin(), level.transform.end());
    const int conditions = static_cast<int>(level.conditions());
    for (int c = 0; c < conditions; ++c) {
        const double* row = level.transform.row(static_cast<size_t>(c));
        int first = plan.monomials, last = 0;
        for (int m = 0; m < plan.monomials; ++m)
            if (row[m] != 0) first = std::min(first, m), last = m + 1;
        plan.conditions.push_back({std::min(first, last), last});
    }
    return plan;
}

template <class T> kernels::ConditionalPlan<T> conditional_plan(const Level& level, int steps) {
    kernels::ConditionalPlan<T> plan;
    static_cast<kernels::Conditions&>(plan) = level_conditions(level);
    using Plan = kernels::ConditionalPlan<T>;
    const int conditions = static_cast<int>(level.conditions()), even = level.even_conditions;
    plan.degree = level.degree;
    plan.functions = site_functions<T>(level.family, level.degree);
    for (int a = 1; a <= level.degree; ++a)
        plan.used.push_back(even < 0     ? typename Plan::Condition{0, conditions}
                            : a % 2 == 0 ? typename Plan::Condition{0, even}
                                         : typename Plan::Condition{even, conditions});
    const std::vector<double> times = level.step_times(steps ? steps : level.steps);
    for (size_t k = 0; k + 1 < times.size(); ++k) plan.dt.push_back(times[k + 1] - times[k]);
    for (double t : times)
        for (double c : coefficients_at(level, level.coefficients, t))
            plan.coefficients.push_back(static_cast<T>(c));
    return plan;
}

template <class T> LevelFlow<T>::LevelFlow(const Context& context, const Level& level, int steps)
    : level_(level), plan_(conditional_plan<T>(level, steps)),
      kernels_(kernels::conditional_kernels<T>(context.isa())) {
    if (level.family.kind == ReferenceKind::fitted) law_.emplace(level.family);
    space_ = kScoreTile * ((2 + level.conditions()) * sizeof(T) + sizeof(double)) +
             (plan_.scratch() + 63) / 64 * 64;
}

template <class T> typename LevelFlow<T>::Space LevelFlow<T>::divide(std::byte* scratch) const {
    Space s{};
    s.stretch = reinterpret_cast<double*>(scratch);
    s.kernel = s.stretch + kScoreTile;
    s.mean = reinterpret_cast<T*>(scratch + kScoreTile * sizeof(double) + (plan_.scratch() + 63) / 64 * 64);
    s.z = s.mean + kScoreTile;
    s.psi = s.z + kScoreTile;
    return s;
}

template <class T> void LevelFlow<T>::start(std::uint64_t seed, std::uint64_t first, int target, T* z,
                                            double* log_density) const {
    const Family& f = level_.family;
    const auto j = static_cast<std::uint32_t>(target);
    for (size_t p = 0; p < kScoreTile; ++p) {
        const RandomWords w = philox(seed, Stream::sampler_start, first + p, 0, j / 4);
        double value;
        if (law_)
            value = law_->quantile(uniform(w.v[j % 4]));
        else {
            double pair[2];
            normals_from_uniforms(uniform(w.v[j % 4 / 2 * 2]), uniform(w.v[j % 4 / 2 * 2 + 1]), pair[0],
                                  pair[1]);
            value = pair[j % 2];
        }
        T stored = static_cast<T>(value);
        if (law_)
            stored = std::clamp(stored, std::nextafter(static_cast<T>(f.lo), T{0}),
                                std::nextafter(static_cast<T>(f.hi), T{0}));
        z[p] = stored;
        if (log_density) log_density[p] += f.log_density(static_cast<double>(stored));
    }
}

template <class T> void LevelFlow<T>::draw(std::uint64_t seed, std::uint64_t first, T* x, double* log_density,
                                           std::byte* scratch) const {
    const Space s = divide(scratch);
    for (size_t k = 0; k < level_.targets.size(); ++k) {
        const int target = level_.targets[k];
        kernels_.describe(plan_, x, level_.neighbours.data() + k * static_cast<size_t>(level_.slots), s.mean,
                          s.psi, s.kernel);
        start(seed, first, target, s.z, log_density);
        finish(target, s, x, log_density);
    }
}

template <class T> void LevelFlow<T>::carry(const T* z, T* x, double* log_density, std::byte* scratch) const {
    const Space s = divide(scratch);
    kernels_.describe(plan_, x, level_.neighbours.data(), s.mean, s.psi, s.kernel);
    for (size_t p = 0; p < kScoreTile; ++p) {
        s.z[p] = z[p];
        log_density[p] += level_.family.log_density(static_cast<double>(z[p]));
    }
    finish(level_.targets.front(), s, x, log_density);
}

/// From z of the reference to x of the data.
template <class T> void LevelFlow<T>::finish(int target, const Space& s, T* x, double* log_density) const {
    kernels_.generate(plan_, s.psi, s.z, s.stretch, s.kernel);
    T* out = x + static_cast<size_t>(target) * kScoreTile;
    for (size_t p = 0; p < kScoreTile; ++p) {
        out[p] = static_cast<T>(static_cast<double>(s.mean[p]) + level_.scale * static_cast<double>(s.z[p]));
        if (log_density) log_density[p] -= portable_log(s.stretch[p] * level_.scale);
    }
}

template <class T> void LevelFlow<T>::evaluate(const T* x, double* log_density, std::byte* scratch) const {
    const Space s = divide(scratch);
    for (size_t k = 0; k < level_.targets.size(); ++k) {
        const T* at = x + static_cast<size_t>(level_.targets[k]) * kScoreTile;
        kernels_.describe(plan_, x, level_.neighbours.data() + k * static_cast<size_t>(level_.slots), s.mean,
                          s.psi, s.kernel);
        for (size_t p = 0; p < kScoreTile; ++p) s.z[p] = static_cast<T>((at[p] - s.mean[p]) / level_.scale);
        kernels_.invert(plan_, s.psi, s.z, s.stretch, s.kernel);
        for (size_t p = 0; p < kScoreTile; ++p)
            log_density[p] += level_.family.log_density(static_cast<double>(s.z[p])) -
                              portable_log(s.stretch[p] * level_.scale);
    }
}

template kernels::ConditionalPlan<float> conditional_plan(const Level&, int);
template kernels::ConditionalPlan<double> conditional_plan(const Level&, int);
template class LevelFlow<float>;
template class LevelFlow<double>;

} // namespace dynkin

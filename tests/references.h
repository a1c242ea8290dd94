// references.h - three fitted references and averages over their laws.
#pragma once
#include "oracles.h"

namespace dynkin::cases {

using std::size_t;

inline const Family& double_well() {
    static const Family family = fitted_family({1.5, 0, -3, 0, 1.5}, -2.6, 2.6);
    return family;
}
inline const Family& skewed() {
    static const Family family = fitted_family({0, 0.3, -0.4, 0, 0.3}, -3, 3.1);
    return family;
}
inline const Family& wide_gaussian() {
    static const Family family = fitted_family({0, 0, 0.5}, -9, 9);
    return family;
}

struct Point {
    double phi[26], slope[26];
};
inline Point at(const Family& family, double z) {
    Point p;
    eigenfunctions(family, z, family.top_degree() + 1, p.phi, p.slope);
    return p;
}

/// Simpson's rule over the stationary law: another one than the engine's.
struct Law {
    static constexpr int intervals = 4000;
    const Family& family;
    double h;
    std::vector<double> node, weight;
    std::vector<Point> point;
    explicit Law(const Family& f) : family(f), h((f.hi - f.lo) / intervals) {
        for (int i = 0; i <= intervals; ++i) {
            node.push_back(i == intervals ? f.hi : f.lo + i * h), point.push_back(at(f, node.back()));
            const int factor = i == 0 || i == intervals ? 1 : i % 2 ? 4 : 2;
            weight.push_back(h / 3 * factor * std::exp(f.log_density(node.back())));
        }
    }
    /// Average of f(z, eigenfunctions at z).
    template <class F> double average(const F& f) const {
        double sum = 0;
        for (size_t i = 0; i < node.size(); ++i) sum += weight[i] * f(node[i], point[i]);
        return sum;
    }
    /// Relative error of the rule for a wave of number k.
    double error(double k) const { return std::pow(k * h, 4) / 180; }
};

} // namespace dynkin::cases

// score_cases.h - bases of every layout of the score, and grad h and Lap h as sums over terms.
#pragma once
#include "cases.h"
#include "engine/circle.h"
#include "kernels/score.h"
#include "tolerance.h"

namespace dynkin::cases {

using kernels::kScoreTile;

struct Layout {
    const char* name;
    bool fitted;
    IndexSet set;
    bool circle = false; ///< of angles
};
inline void PrintTo(const Layout& layout, std::ostream* out) { *out << layout.name; }

inline std::vector<Pair> all_pairs(int sites, int degree) {
    std::vector<Pair> pairs;
    for (int i = 0; i < sites; ++i)
        for (int j = i + 1; j < sites; ++j) pairs.push_back({i, j, degree});
    return pairs;
}

inline std::vector<Layout> layouts() {
    std::vector<Layout> all;
    for (bool fitted : {false, true}) {
        all.push_back({"one site", fitted, make_index_set(1, 6, {}, 0, false)});
        all.push_back({"three sites, lists", fitted, make_index_set(3, 4, chain_pairs(3, 3), 0, false)});
        all.push_back({"lists of degree 5", fitted, make_index_set(3, 2, all_pairs(3, 5), 0, false)});
        all.push_back(
            {"nine sites, matrix at (1,1)", fitted, make_index_set(9, 4, chain_pairs(9, 3), 0, false)});
        all.push_back(
            {"thirteen sites, four matrices", fitted, make_index_set(13, 3, all_pairs(13, 2), 0, false)});
        all.push_back({"even, matrix and lists", fitted, make_index_set(8, 4, chain_pairs(8, 3), 0, true)});
        all.push_back(
            {"lists of degree 2", fitted, make_index_set(4, 3, chain_pairs(4, 2, false), 0, false)});
        all.push_back({"seven sites, no matrix", fitted, make_index_set(7, 2, all_pairs(7, 1), 0, false)});
    }
    all.push_back({"angles, lists", true, make_index_set(3, 6, chain_pairs(3, 4), 0, false), true});
    all.push_back({"angles, matrices", true, make_index_set(9, 4, all_pairs(9, 2), 0, false), true});
    return all;
}

/// A tile of positions inside the wells, where functions vary at rates up to sqrt(lambda): the boundary
/// layers are down by exp(v(z) - v(end)) < 1e-10.
template <class T> Array<double> positions(int sites) {
    Array<double> x = rows(kScoreTile, static_cast<size_t>(sites), 2);
    for (double& value : x) value = static_cast<double>(static_cast<T>(std::clamp(value, -1.7, 1.7)));
    return x;
}

inline std::vector<double> coefficients(size_t count) {
    std::mt19937_64 engine(12);
    std::normal_distribution<double> normal;
    std::vector<double> c(count);
    for (double& value : c) value = 0.3 * normal(engine);
    return c;
}

inline Block block_of(const Layout& layout) {
    Reference reference =
        layout.circle
            ? Reference{{circle_family(24)}, std::vector<int>(static_cast<size_t>(layout.set.sites), 0)}
        : layout.fitted ? fitted_reference(layout.set.sites)
                        : hermite_reference(layout.set.sites, 12);
    return empty_model(std::move(reference), layout.set, 4).blocks.front();
}

} // namespace dynkin::cases

namespace dynkin::oracle {

/// What a bound is for: the distance to exact functions, or between two evaluations of the same tables.
enum class Against { exact, same_tables };

/// grad h and Lap h of every row as sums over terms, and bounds for what the kernels may differ.
template <class T> struct Naive {
    Array<double> gradient, gradient_bound;
    std::vector<double> laplacian, laplacian_bound;

    Naive(const Reference& reference, const IndexSet& set, const std::vector<double>& c,
          const Array<double>& x, Against against = Against::exact)
        : gradient(x.rows(), x.cols()), gradient_bound(x.rows(), x.cols()), laplacian(x.rows()),
          laplacian_bound(x.rows()) {
        const oracle::Values values(reference, x, set.max_degree());
        for (size_t n = 0; n < x.rows(); ++n)
            for (size_t k = 0; k < c.size(); ++k)
                for (const auto& [i, a, j, b] :
                     {set.terms[k], Term{set.terms[k].j, set.terms[k].b, set.terms[k].i, set.terms[k].a}}) {
                    if (i < 0) continue;
                    const Factor own = factor(reference, values, x, n, i, a, against);
                    const Factor other =
                        j < 0 ? Factor{1, 0, 1, 0, 0} : factor(reference, values, x, n, j, b, against);
                    const double lambda = reference.of(i).lambda[static_cast<size_t>(a)],
                                 size = std::abs(c[k]);
                    const double dv = reference.of(i).dv(x(n, static_cast<size_t>(i)));
                    const double slope_bound = size * (own.slope_error * other.amplitude +
                                                       own.amplitude * std::sqrt(lambda) * other.error);
                    const double value_bound =
                        size * (own.error * other.amplitude + own.amplitude * other.error);
                    gradient(n, static_cast<size_t>(i)) += c[k] * own.slope * other.value;
                    gradient_bound(n, static_cast<size_t>(i)) += slope_bound;
                    laplacian[n] += c[k] * other.value * (dv * own.slope - lambda * own.value);
                    laplacian_bound[n] += std::abs(dv) * slope_bound + lambda * value_bound;
                }
    }

  private:
    struct Factor {
        double value, slope, amplitude, error, slope_error;
    };
    static Factor factor(const Reference& reference, const oracle::Values& values, const Array<double>& x,
                         size_t row, int site, int n, Against against) {
        const Family& f = reference.of(site);
        const double rate = std::sqrt(f.lambda[static_cast<size_t>(n)]), unit = tolerance::unit<T>;
        const double value = values.phi(row, site, n), slope = values.slope(row, site, n);
        const double amplitude = std::abs(value) + std::abs(slope) / rate;
        const bool single = sizeof(T) == 4;
        const int pieces = single ? 32 : 128, degree = single ? 5 : 7;
        const bool hermite = f.kind == ReferenceKind::hermite;
        const double recurrence = tolerance::hermite(n, x(row, static_cast<size_t>(site)), unit);
        // Sums of at most 64 products of three factors: 64 + 4 roundings of each.
        if (against == Against::same_tables && !hermite) {
            // Horner's rule, and no more: in the variable of a piece of width w the coefficients are those of
            // Taylor but for a little, (k w / 2)^m / m! of the amplitude, and add up to exp(k w / 2).
            const double horner = (68 + 2 * degree) * unit * std::exp(rate * (f.hi - f.lo) / pieces / 2);
            return {value, slope, amplitude, amplitude * horner, amplitude * horner * rate};
        }
        const double value_error =
            68 * unit + (hermite ? recurrence : tolerance::table(rate, f.hi - f.lo, pieces, degree, unit));
        const double slope_error =
            68 * unit * rate +
            (hermite ? recurrence * rate : tolerance::table_slope(rate, f.hi - f.lo, pieces, degree, unit));
        return {value, slope, amplitude, amplitude * value_error, amplitude * slope_error};
    }
};

} // namespace dynkin::oracle

// fit_data.cpp - the first stages of fit(): which columns, what scale and symmetry, which reference.
#include "fitter.h"
#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/core.h>
#include <map>
#include <numbers>
#include <numeric>

namespace dynkin {
namespace {

/// Sites that the symmetries of the lattice make equivalent share a class: all of them when periodic,
/// otherwise those that reflections (and exchanges of equal axes) map onto one another if the law has them,
/// and the values outside do. No lattice: every site by itself.
std::vector<int> site_classes(const std::optional<Lattice>& lattice, bool reflections, int sites) {
    std::vector<int> classes(static_cast<size_t>(sites));
    std::iota(classes.begin(), classes.end(), 0);
    if (!lattice || static_cast<size_t>(sites) != lattice->sites())
        return classes; // some columns were dropped
    if (lattice->boundary == Boundary::periodic) return std::vector<int>(static_cast<size_t>(sites), 0);
    if (!reflections) return classes;
    using Place = std::array<double, 4>; // on an axis: its length, the values outside, the coordinate
    std::map<std::vector<Place>, int> seen;
    const auto& shape = lattice->shape;
    for (int i = 0; i < sites; ++i) {
        std::vector<Place> key;
        size_t rest = static_cast<size_t>(i);
        for (size_t axis = shape.size(); axis-- > 0; rest /= shape[axis]) {
            const size_t x = rest % shape[axis];
            const double below = lattice->outside_value(axis, 0), above = lattice->outside_value(axis, 1);
            const size_t place = below == above ? std::min(x, shape[axis] - 1 - x) : x;
            key.push_back({static_cast<double>(shape[axis]), below, above, static_cast<double>(place)});
        }
        std::sort(key.begin(), key.end());
        classes[static_cast<size_t>(i)] = seen.emplace(key, static_cast<int>(seen.size())).first->second;
    }
    return classes;
}

} // namespace

void Fitter::choose_columns() {
    DataView& view = model_.view;
    view.columns = data_.cols();
    view.levels = options_.dequantise, view.seed = options_.seed;
    view.constant.assign(view.columns, 0);
    view.kept = part_.columns;
    if (view.kept.empty()) {
        view.kept.resize(view.columns);
        std::iota(view.kept.begin(), view.kept.end(), 0);
    }
    model_.sample_shape = data_.sample_shape();
    if (options_.lattice && options_.lattice->sites() != view.columns)
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected {} columns for the lattice {}, got {}", data_.path().string(),
                                options_.lattice->sites(), options_.lattice->describe(), view.columns));
    DataView raw = view;
    raw.levels = 0; // a pixel is constant before noise is added
    columns_ = column_statistics(context_, data_, raw, rows());
    std::vector<int> kept;
    for (size_t k = 0; k < view.kept.size(); ++k) {
        const size_t j = static_cast<size_t>(view.kept[k]);
        if (columns_.max[k] > columns_.min[k]) {
            kept.push_back(view.kept[k]);
            continue;
        }
        if (!options_.drop_constant)
            reject(fmt::format(
                "column {} is constant ({}): expected every column to vary (--drop-constant leaves such "
                "columns out of the model)",
                j, columns_.min[k]));
        view.constant[j] = view.levels ? (columns_.min[k] + 0.5) / view.levels : columns_.min[k];
    }
    if (kept.empty()) reject("every column is constant");
    report_.dropped = view.kept.size() - kept.size();
    view.kept = std::move(kept);
    if (view.levels || report_.dropped) columns_ = column_statistics(context_, data_, view, rows());
}

void Fitter::pool_scales() {
    if (has_walls()) return; // set with the box
    auto& mean = model_.standardization.mean;
    auto& scale = model_.standardization.scale;
    mean = columns_.mean, scale = columns_.sd;
    const int classes = 1 + *std::max_element(class_.begin(), class_.end());
    std::vector<double> count(static_cast<size_t>(classes)), first(count), second(count);
    for (size_t j = 0; j < mean.size(); ++j) {
        const size_t k = static_cast<size_t>(class_[j]);
        count[k] += 1, first[k] += mean[j], second[k] += scale[j] * scale[j] + mean[j] * mean[j];
    }
    for (size_t j = 0; j < mean.size(); ++j) {
        const size_t k = static_cast<size_t>(class_[j]);
        mean[j] = even_ ? 0 : first[k] / count[k];
        scale[j] = std::sqrt(second[k] / count[k] - mean[j] * mean[j]);
    }
}

void Fitter::check_duplicates() const {
    const auto& c = marginal_.correlation;
    for (size_t i = 0; i < c.rows(); ++i)
        for (size_t j = 0; j < i; ++j)
            if (std::abs(c(i, j)) > 1 - 1e-9)
                reject(fmt::format(
                    "columns {} and {} are duplicates (correlation {:.12f}): expected linearly independent "
                    "columns, leave one out",
                    model_.view.kept[j], model_.view.kept[i], c(i, j)));
}

void Fitter::marginals() {
    class_ = site_classes(options_.lattice, options_.reflection_symmetric, model_.dimension());
    even_ = options_.symmetry == Symmetry::even ||
            (options_.symmetry == Symmetry::automatic && options_.known_even);
    pool_scales();
    marginal_ = marginal_statistics(context_, data_, model_.view, model_.standardization, rows());
    if (std::holds_alternative<TorusProcess>(model_.process)) measure_angles();
    check_duplicates();
    const auto& c = marginal_.correlation;
    for (size_t i = 0; i < c.rows(); ++i)
        for (size_t j = 0; j < i; ++j)
            report_.max_correlation = std::max(report_.max_correlation, std::abs(c(i, j)));
}

/// Measured symmetry: all odd statistics of first to third order (E z, E (z^3 - 3 z), E z_i z_j^2) within
/// what independent samples of an even law show in 99 of 100 data sets.
void Fitter::choose_symmetry() {
    if (std::holds_alternative<TorusProcess>(model_.process)) {
        even_ = report_.even = false;
        report_.symmetry_reason = "not used";
        return;
    }
    if (options_.symmetry != Symmetry::automatic || options_.known_even) {
        report_.symmetry_reason =
            options_.symmetry != Symmetry::automatic ? "asked for" : "the target is even";
        report_.even = even_;
        return;
    }
    const double samples = static_cast<double>(rows()), d = static_cast<double>(marginal_.sums.size());
    double worst = 0;
    for (size_t j = 0; j < marginal_.sums.size(); ++j) {
        const auto& s = marginal_.sums[j].power;
        worst = std::max(worst, std::abs(columns_.mean[j] / columns_.sd[j]) * std::sqrt(samples));
        worst = std::max(worst, std::abs(s[3] - 3 * s[1]) / std::sqrt(s[6] - 6 * s[4] + 9 * s[2]));
    }
    const auto& odd = marginal_.odd_correlation;
    const double scale = std::sqrt(static_cast<double>(marginal_.dependence_rows));
    for (size_t i = 0; i < odd.rows(); ++i)
        for (size_t j = 0; j < odd.cols(); ++j)
            if (i != j) worst = std::max(worst, std::abs(odd(i, j)) * scale);
    const double allowed = std::sqrt(2 * std::log((2 * d + d * (d - 1)) / 0.01)); // of so many normal numbers
    even_ = samples >= 1000 && worst < allowed;
    report_.even = even_;
    report_.symmetry_reason =
        samples < 1000 ? "fewer than 1000 samples"
                       : fmt::format("measured: largest odd moment {:.1f} standard errors, {:.1f} allowed",
                                     worst, allowed);
    if (even_) {
        pool_scales();
        marginal_ = marginal_statistics(context_, data_, model_.view, model_.standardization, rows());
    }
}

void Fitter::choose_reference() {
    model_.blocks.emplace_back();
    Block& b = block();
    b.coordinates.resize(static_cast<size_t>(model_.dimension()));
    std::iota(b.coordinates.begin(), b.coordinates.end(), 0);
    const size_t classes = static_cast<size_t>(1 + *std::max_element(class_.begin(), class_.end()));
    std::vector<MarginalSums> pooled(classes);
    for (size_t j = 0; j < class_.size(); ++j) {
        MarginalSums& to = pooled[static_cast<size_t>(class_[j])];
        const MarginalSums& from = marginal_.sums[j];
        if (to.power.empty()) to.power.assign(from.power.size(), 0);
        for (size_t k = 0; k < from.power.size(); ++k) to.power[k] += even_ && k % 2 ? 0 : from.power[k];
        to.count += from.count;
        to.min = std::min(to.min, from.min), to.max = std::max(to.max, from.max);
        to.low_quantile = std::min(to.low_quantile, from.low_quantile);
        to.high_quantile = std::max(to.high_quantile, from.high_quantile);
        b.lower.push_back(from.min), b.upper.push_back(from.max);
    }
    if (even_)
        for (size_t j = 0; j < class_.size(); ++j) {
            b.upper[j] = std::max(-b.lower[j], b.upper[j]), b.lower[j] = -b.upper[j];
        }
    if (has_walls()) return use_box_reference();
    const bool hermite = options_.process && (std::holds_alternative<OuProcess>(*options_.process) ||
                                              std::holds_alternative<VeProcess>(*options_.process));
    if (!hermite) {
        use_fitted_reference(std::move(pooled));
        report_.outside = count_outside();
        const bool heavy = static_cast<double>(report_.outside) > 1e-4 * static_cast<double>(rows());
        if (heavy && options_.process)
            reject(fmt::format("{} of {} samples lie outside the box of the fitted reference, expected at "
                               "most 1e-4 of them: "
                               "heavy tails, use --process ou",
                               report_.outside, rows()));
        if (heavy) use_hermite_reference();
    } else
        use_hermite_reference();
    report_.lambda_1 = INFINITY;
    for (const Family& family : b.reference.families)
        report_.lambda_1 = std::min(report_.lambda_1, family.lambda[1]);
}

int Fitter::default_degree(bool hermite) const {
    const int d = model_.dimension();
    if (d == 1) return std::clamp(static_cast<int>(std::min<size_t>(rows(), 1000) / 10), 2, 16); // at most
    if (d <= 3) return d == 2 ? 12 : 8;
    return hermite ? 4 : options_.lattice ? 8 : 6;
}

/// Clusters of cosines on [0, pi]: eigenfunctions of a potential that is constant.
void Fitter::use_box_reference() {
    Block& b = block();
    b.reference.family_of.assign(b.coordinates.size(), 0);
    if (std::holds_alternative<TorusProcess>(model_.process)) return use_circles();
    b.basis.degree = options_.degree ? options_.degree : default_degree(false);
    b.reference.families = {fitted_family({0, 0}, 0, std::numbers::pi, std::max(24, 2 * b.basis.degree), 96)};
    report_.lambda_1 = b.reference.families.front().lambda[1];
    report_.reference = "reflecting box, cosines";
}

void Fitter::use_hermite_reference() {
    Block& b = block();
    b.basis.degree = options_.degree ? options_.degree : default_degree(true);
    b.reference.families = {hermite_family(2 * b.basis.degree)};
    b.reference.family_of.assign(b.coordinates.size(), 0);
    report_.reference = "Ornstein-Uhlenbeck (Hermite)";
    if (options_.process && std::holds_alternative<VeProcess>(*options_.process))
        model_.process = VeProcess{};
    else
        model_.process = OuProcess{};
    if (report_.outside)
        report_.reference += fmt::format(": {} samples lie outside the box of a fitted one", report_.outside);
    report_.outside = 0;
}

void Fitter::use_fitted_reference(std::vector<MarginalSums> pooled) {
    Block& b = block();
    const int degree = b.basis.degree = options_.degree ? options_.degree : default_degree(false);
    int lowest = 8, highest = 2;
    for (MarginalSums& sums : pooled) {
        if (even_)
            sums.low_quantile = -(sums.high_quantile = std::max(-sums.low_quantile, sums.high_quantile));
        const PotentialFit fit = fit_potential(sums, options_.reference_scale, even_);
        b.reference.families.push_back(
            fitted_family(fit.potential, fit.lo, fit.hi, std::max(24, 2 * degree), degree > 8 ? 96 : 48));
        lowest = std::min(lowest, fit.degree), highest = std::max(highest, fit.degree);
    }
    b.reference.family_of = class_;
    report_.reference = fmt::format(
        "fitted, {} potential{} of degree {}, scale {:g}", pooled.size(), pooled.size() == 1 ? "" : "s",
        lowest == highest ? fmt::format("{}", lowest) : fmt::format("{} to {}", lowest, highest),
        options_.reference_scale);
}

/// Samples with a coordinate outside the box of its reference. Reads the data again only if there are any.
size_t Fitter::count_outside() const {
    const Reference& reference = model_.blocks.front().reference;
    const size_t d = marginal_.sums.size(), batch = 4096;
    bool inside = true;
    for (size_t j = 0; j < d; ++j) {
        const Family& f = reference.of(static_cast<int>(j));
        inside = inside && marginal_.sums[j].min >= f.lo && marginal_.sums[j].max <= f.hi;
    }
    if (inside) return 0;
    size_t outside = 0;
    Array<double> x(batch, d);
    for (size_t first = 0; first < rows(); first += batch) {
        const size_t count = std::min(batch, rows() - first);
        model_.view.read(data_, first, count, x.data());
        for (size_t n = 0; n < count; ++n) {
            bool out = false;
            for (size_t j = 0; j < d; ++j) {
                const double z = (x(n, j) - model_.standardization.mean[j]) / model_.standardization.scale[j];
                const Family& f = reference.of(static_cast<int>(j));
                out = out || z < f.lo || z > f.hi;
            }
            outside += out;
        }
    }
    return outside;
}

} // namespace dynkin

#include "exact_levels.h"
#include "../kernels/dispatch_cpu.h"
#include "../kernels/elementary.h"
#include "../kernels/philox.h"
#include "../kernels/score.h"
#include "error.h"
#include "random.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

ExactLevels::ExactLevels(const Context& context, const Target& target, const Model& model, int stages)
    : isa_(context.isa()) {
    const auto* law = std::get_if<LatticeTarget>(&target.law);
    require(law != nullptr, ErrorKind::usage,
            fmt::format("exact last levels: expected a lattice target, got kind '{}'", target.kind));
    require(
        model.lattice && model.lattice->shape == law->lattice.shape &&
            model.lattice->boundary == law->lattice.boundary && model.view.kept.size() == model.view.columns,
        ErrorKind::usage,
        fmt::format("exact last levels: expected a model of the lattice {}, got {}", law->lattice.describe(),
                    model.lattice ? model.lattice->describe() : "one without a lattice"));
    coupling_ = law->coupling, site_ = law->site;
    kind_.assign(model.levels.size(), Kind::model), places_.resize(model.levels.size());
    choose_box();
    classify(model, *law, stages);
    make_tables();
}

double ExactLevels::site_energy(double x) const {
    double sum = 0;
    for (size_t m = site_.size(); m-- > 0;) sum = (sum + site_[m]) * x;
    return sum;
}

/// Beyond the box the site potential alone is 40 kT above its minimum.
void ExactLevels::choose_box() {
    double lowest = 0;
    for (int i = -4000; i <= 4000; ++i) lowest = std::min(lowest, site_energy(0.005 * i));
    box_ = 0;
    for (double side : {-1.0, 1.0}) {
        double x = 0.01;
        while (x < 1e4 && site_energy(side * x) < lowest + 40) x *= 1.02;
        box_ = std::max(box_, x);
    }
    require(box_ < 1e4, ErrorKind::usage,
            "exact last levels: expected a site potential that confines each site (its edges alone do not "
            "count)");
    step_ = 2 * box_ / static_cast<double>(nodes() - 1);
}

void ExactLevels::classify(const Model& model, const LatticeTarget& law, int stages) {
    const size_t d = law.lattice.sites();
    Geometry g{std::vector<std::vector<int>>(d), std::vector<int>(d, -1), law.lattice.outer_edges()};
    for (const auto& [i, j] : law.lattice.edges()) {
        g.nearest[static_cast<size_t>(i)].push_back(j), g.nearest[static_cast<size_t>(j)].push_back(i);
        ++g.edges[static_cast<size_t>(i)], ++g.edges[static_cast<size_t>(j)];
    }
    int last = 0;
    for (const Level& level : model.levels)
        for (int j : level.targets)
            g.stage[static_cast<size_t>(j)] = level.stage, last = std::max(last, level.stage);
    for (int wanted = last; wanted >= 0 && wanted > last - stages; --wanted)
        for (size_t k = 0; k < model.levels.size(); ++k) {
            if (model.levels[k].stage != wanted) continue;
            kind_[k] = wanted == last ? Kind::last : Kind::decimated;
            for (int target : model.levels[k].targets)
                places_[k].push_back(place(g, law.lattice, target, last));
            sites_ += places_[k].size();
        }
}

/// Neighbours that are known when the target is drawn, and those of the last stage with their other
/// neighbours.
ExactLevels::Site ExactLevels::place(const Geometry& g, const Lattice& lattice, int target, int last) const {
    const auto stage = [&](int j) { return g.stage[static_cast<size_t>(j)]; };
    Site site{target, g.edges[static_cast<size_t>(target)], {}, {}};
    for (int q : g.nearest[static_cast<size_t>(target)]) {
        if (stage(q) < stage(target)) {
            site.neighbours.push_back(q);
            continue;
        }
        bool fits = stage(q) == last && stage(target) < last;
        Site::Group group{g.edges[static_cast<size_t>(q)], {}};
        for (int other : g.nearest[static_cast<size_t>(q)])
            if (other != target) group.others.push_back(other), fits = fits && stage(other) < stage(target);
        require(
            fits, ErrorKind::usage,
            fmt::format(
                "exact last levels: sites {} and {} of {} are neighbours that the colouring does not "
                "separate (odd periodic sides and three axes need more colours): expected --exact-last {}",
                target, q, lattice.describe(), stage(target) == last ? "none" : "odd"));
        site.groups.push_back(std::move(group));
    }
    return site;
}

void ExactLevels::make_tables() {
    const auto base = [&](int n) -> const std::vector<double>& {
        auto& row = base_[n];
        for (size_t i = row.size(); i < nodes(); ++i) {
            const double x = -box_ + step_ * static_cast<double>(i);
            row.push_back(-site_energy(x) - 0.5 * coupling_ * n * x * x);
        }
        return row;
    };
    int most = 1;
    for (const auto& sites : places_)
        for (const Site& site : sites) base(site.edges), most = std::max(most, site.edges);
    table_reach_ = step_ * std::ceil((box_ * 7 + 2 * step_) / step_); // |x + a| with six neighbours at most
    const size_t entries = 2 * static_cast<size_t>(table_reach_ / step_ + 0.5) + 2;
    for (const auto& sites : places_)
        for (const Site& site : sites)
            for (const auto& group : site.groups) {
                auto& table = log_z1_[group.edges];
                if (!table.empty()) continue;
                const auto& f = base(group.edges);
                for (size_t s = 0; s < entries; ++s) {
                    const double sum = -table_reach_ + step_ * static_cast<double>(s);
                    double highest = -INFINITY, total = 0;
                    for (size_t i = 0; i < nodes(); ++i)
                        highest = std::max(highest,
                                           f[i] + coupling_ * sum * (-box_ + step_ * static_cast<double>(i)));
                    for (size_t i = 0; i < nodes(); ++i)
                        total += std::exp(f[i] + coupling_ * sum * (-box_ + step_ * static_cast<double>(i)) -
                                          highest);
                    table.push_back(highest + std::log(total * step_));
                }
            }
}

void ExactLevels::fill(const Site& site, const float* x, size_t particle, double* row) const {
    const auto value = [&](int j) {
        return static_cast<double>(x[static_cast<size_t>(j) * kScoreTile + particle]);
    };
    const size_t n = nodes();
    const double* base = base_.at(site.edges).data();
    double sum = 0;
    for (int j : site.neighbours) sum += value(j);
    const double slope = coupling_ * sum * step_, at = -coupling_ * sum * box_;
    for (size_t i = 0; i < n; ++i) row[i] = base[i] + at + slope * static_cast<double>(i);
    for (const auto& group : site.groups) {
        double a = 0;
        for (int j : group.others) a += value(j);
        const auto& table = log_z1_.at(group.edges);
        const double last = static_cast<double>(table.size() - n - 1);
        const double position = std::clamp((a - box_ + table_reach_) / step_, 0.0, last);
        const size_t first = static_cast<size_t>(position);
        const double f = position - static_cast<double>(first);
        const double* t = table.data() + first;
        for (size_t i = 0; i < n; ++i) row[i] += t[i] + f * (t[i + 1] - t[i]);
    }
}

void ExactLevels::draw(size_t k, std::uint64_t seed, std::uint64_t first, float* x, double* log_density,
                       std::byte* scratch) const {
    const size_t n = nodes();
    double* const row = reinterpret_cast<double*>(scratch);
    double* const cumulative = row + n;
    for (const Site& site : places_[k]) {
        const auto slot = static_cast<std::uint32_t>(site.target);
        for (size_t p = 0; p < kScoreTile; ++p) {
            double u = 0;
            cpu::with_isa(isa_, [&] {
                fill(site, x, p, row);
                double highest = row[0];
                for (size_t i = 1; i < n; ++i) highest = row[i] > highest ? row[i] : highest;
                for (size_t i = 0; i < n; ++i) row[i] = portable_exp(row[i] - highest);
                cumulative[0] = 0;
                for (size_t i = 1; i < n; ++i)
                    cumulative[i] = cumulative[i - 1] + 0.5 * (row[i - 1] + row[i]);
                u = uniform(philox(seed, Stream::sampler_start, first + p, 0, slot / 4).v[slot % 4]);
            });
            const double wanted = u * cumulative[n - 1];
            const size_t cell = static_cast<size_t>(
                std::upper_bound(cumulative + 1, cumulative + n - 1, wanted) - cumulative - 1);
            // area = f0 s + (f1 - f0) s^2 / 2, s in units of the step
            const double f0 = row[cell], slope = row[cell + 1] - f0, area = wanted - cumulative[cell];
            const double root = std::sqrt(std::max(f0 * f0 + 2 * slope * area, 0.0));
            const double s = f0 + root > 0 ? std::clamp(2 * area / (f0 + root), 0.0, 1.0) : 0;
            x[static_cast<size_t>(site.target) * kScoreTile + p] =
                static_cast<float>(-box_ + step_ * (static_cast<double>(cell) + s));
            if (log_density) log_density[p] += portable_log((f0 + slope * s) / (cumulative[n - 1] * step_));
        }
    }
}

} // namespace dynkin

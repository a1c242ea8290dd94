#include "exact_levels.h"
#include "error.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>

namespace dynkin {

using kernels::kExactNodes;
using std::size_t;

ExactLevels::ExactLevels(const Context& context, const Target& target, const Model& model, int stages)
    : isa_(context.isa()) {
    const auto* law = std::get_if<LatticeTarget>(&target.law);
    require(law != nullptr, ErrorKind::usage,
            fmt::format("exact last levels: expected a lattice target, got kind '{}'", target.kind));
    require(model.lattice && *model.lattice == law->lattice && model.view.kept.size() == model.view.columns,
            ErrorKind::usage,
            fmt::format("exact last levels: expected a model of the lattice {}, got {}",
                        law->lattice.describe(),
                        model.lattice ? model.lattice->describe() : "one without a lattice"));
    coupling_ = law->coupling, site_ = law->site;
    choose_box(law->lattice.outside_reach());
    classify(model, *law, stages);
}

double ExactLevels::site_energy(double x) const {
    double sum = 0;
    for (size_t m = site_.size(); m-- > 0;) sum = (sum + site_[m]) * x;
    return sum;
}

/// Beyond the box the site potential alone is 40 kT above its minimum; the values outside are in it.
void ExactLevels::choose_box(double outside) {
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
    box_ = std::max(box_, outside);
    step_ = 2 * box_ / (kExactNodes - 1);
    reach_ = step_ * std::ceil((box_ * 7 + 2 * step_) / step_); // |x + a| with six neighbours at most
    entries_ = 2 * static_cast<size_t>(reach_ / step_ + 0.5) + 2;
}

void ExactLevels::classify(const Model& model, const LatticeTarget& law, int stages) {
    const size_t d = law.lattice.sites();
    Geometry g{std::vector<std::vector<int>>(d), std::vector<int>(d, -1), law.lattice.outer_edges(),
               law.lattice.outer_sums(1)};
    for (const auto& [i, j] : law.lattice.edges()) {
        g.nearest[static_cast<size_t>(i)].push_back(j), g.nearest[static_cast<size_t>(j)].push_back(i);
        ++g.edges[static_cast<size_t>(i)], ++g.edges[static_cast<size_t>(j)];
    }
    int last = 0;
    ranges_.resize(model.levels.size());
    for (const Level& level : model.levels)
        for (int j : level.targets)
            g.stage[static_cast<size_t>(j)] = level.stage, last = std::max(last, level.stage);
    for (int wanted = last; wanted >= 0 && wanted > last - stages; --wanted)
        for (size_t k = 0; k < model.levels.size(); ++k) {
            if (model.levels[k].stage != wanted) continue;
            ranges_[k].first = sites();
            for (int target : model.levels[k].targets) place(g, law.lattice, target, last);
            ranges_[k].last = sites();
        }
}

/// Neighbours that are known when the target is drawn, and those of the last stage with their other
/// neighbours.
void ExactLevels::place(const Geometry& g, const Lattice& lattice, int target, int last) {
    const auto stage = [&](int j) { return g.stage[static_cast<size_t>(j)]; };
    const auto listed = [&] { return static_cast<int>(tables_.neighbours.size()); };
    const auto linked = [&] { return static_cast<int>(tables_.links.size()); };
    kernels::ExactSite site{target, base_of(links_of(g, target)), listed(), 0, linked(), 0};
    std::vector<int> later;
    for (int q : g.nearest[static_cast<size_t>(target)]) {
        if (stage(q) < stage(target))
            tables_.neighbours.push_back(q);
        else
            later.push_back(q);
    }
    site.last_neighbour = listed();
    for (int q : later) {
        bool fits = stage(q) == last && stage(target) < last;
        kernels::ExactLink link{0, listed(), 0};
        for (int other : g.nearest[static_cast<size_t>(q)])
            if (other != target)
                tables_.neighbours.push_back(other), fits = fits && stage(other) < stage(target);
        require(
            fits, ErrorKind::usage,
            fmt::format(
                "exact last levels: sites {} and {} of {} are neighbours that the colouring does not "
                "separate (odd periodic sides and three axes need more colours): expected --exact-last {}",
                target, q, lattice.describe(), stage(target) == last ? "none" : "odd"));
        link.table = log_z1_of(links_of(g, q)), link.last_neighbour = listed();
        tables_.links.push_back(link);
    }
    site.last_link = linked();
    tables_.sites.push_back(site);
}

/// Where -V(x) - J n x^2 / 2 + J x b stands, b the sum of the values outside, made when it is first asked
/// for.
int ExactLevels::base_of(Links links) {
    const auto [entry, is_new] = base_.try_emplace(links, static_cast<int>(tables_.base.size()));
    for (int i = 0; i < kExactNodes && is_new; ++i) {
        const double x = node(i);
        tables_.base.push_back(-site_energy(x) - 0.5 * coupling_ * links.first * x * x +
                               coupling_ * links.second * x);
    }
    return entry->second;
}

int ExactLevels::log_z1_of(Links links) {
    const auto [entry, is_new] = log_z1_.try_emplace(links, static_cast<int>(tables_.log_z1.size()));
    if (!is_new) return entry->second;
    const double* const f = tables_.base.data() + base_of(links);
    for (size_t s = 0; s < entries_; ++s) {
        const double sum = -reach_ + step_ * static_cast<double>(s);
        double highest = -INFINITY, total = 0;
        for (int i = 0; i < kExactNodes; ++i) highest = std::max(highest, f[i] + coupling_ * sum * node(i));
        for (int i = 0; i < kExactNodes; ++i) total += std::exp(f[i] + coupling_ * sum * node(i) - highest);
        tables_.log_z1.push_back(highest + std::log(total * step_));
    }
    return entry->second;
}

kernels::ExactView ExactLevels::view() const {
    return {coupling_,
            box_,
            step_,
            reach_,
            static_cast<double>(entries_ - kExactNodes - 1),
            tables_.base.data(),
            tables_.log_z1.data(),
            tables_.sites.data(),
            tables_.links.data(),
            tables_.neighbours.data()};
}

void ExactLevels::draw(size_t k, std::uint64_t seed, std::uint64_t first, float* x,
                       double* log_density) const {
    const auto [first_site, last_site] = ranges_[k];
    cpu::draw_exact(isa_, view(), first_site, last_site, seed, first, x, log_density);
}

} // namespace dynkin

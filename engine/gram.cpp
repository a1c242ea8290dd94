#include "gram.h"
#include "../kernels/gram.h"
#include <algorithm>
#include <cmath>
#include <iterator>

namespace dynkin {

using std::size_t;

ScoreSystem::ScoreSystem(const IndexSet& set, const Reference& reference,
                         const std::vector<ProductTables>& tables, const MomentPlan& plan)
    : set_(set), reference_(reference), tables_(tables), plan_(plan),
      active_(static_cast<size_t>(set.sites)) {
    const auto lambda = [&](int site, int degree) {
        return reference.of(site).lambda[static_cast<size_t>(degree)];
    };
    for (size_t k = 0; k < set.terms.size(); ++k) {
        const Term& term = set.terms[k];
        lambda_.push_back(lambda(term.i, term.a) + (term.j < 0 ? 0 : lambda(term.j, term.b)));
        const int index = static_cast<int>(k);
        active_[static_cast<size_t>(term.i)].push_back({index, term.a, plan.feature(term.i, term.j, term.b)});
        if (term.j >= 0)
            active_[static_cast<size_t>(term.j)].push_back(
                {index, term.b, plan.feature(term.j, term.i, term.a)});
    }
}

std::vector<double> ScoreSystem::means(std::span<const double> moments) const {
    std::vector<double> mean;
    mean.reserve(set_.terms.size());
    for (const Term& term : set_.terms)
        mean.push_back(
            plan_.triple(moments.data(), term.i, 0, plan_.feature(term.i, term.j, term.b))(term.a));
    return mean;
}

std::vector<double> ScoreSystem::right_side(std::span<const double> means, double t) const {
    std::vector<double> b(means.size());
    for (size_t k = 0; k < b.size(); ++k) b[k] = lambda_[k] * std::exp(-lambda_[k] * t) * means[k];
    return b;
}

void ScoreSystem::gram(std::span<const double> moments, double t, Array<double>& a) const {
    const int degrees = plan_.top_degree() + 1;
    std::fill(a.begin(), a.end(), 0.0);
    std::vector<std::vector<double>> decay; // exp(-lambda_r t) of each family
    for (const Family& family : reference_.families)
        std::transform(family.lambda.begin(), family.lambda.end(), std::back_inserter(decay.emplace_back()),
                       [t](double lambda) { return std::exp(-lambda * t); });
    const auto family_of = [&](int site) {
        return static_cast<size_t>(reference_.family_of[static_cast<size_t>(site)]);
    };
    for (int i = 0; i < set_.sites; ++i) {
        const size_t family = family_of(i);
        const ProductTables& table = tables_[family];
        const auto& features = plan_.features(i);
        const auto& active = active_[static_cast<size_t>(i)];
        const auto feature_decay = [&](const Feature& f) {
            return f.j < 0 ? 1 : decay[family_of(f.j)][static_cast<size_t>(f.b)];
        };
        for (size_t u = 0; u < active.size(); ++u)
            for (size_t v = 0; v <= u; ++v) {
                const Feature &fp = features[static_cast<size_t>(active[u].feature)],
                              &fq = features[static_cast<size_t>(active[v].feature)];
                if (set_.even && (active[u].a + fp.b + active[v].a + fq.b) % 2) continue;
                const double* g = table.gradients(active[u].a, active[v].a);
                double sum = 0;
                if (fp.j >= 0 &&
                    fp.j == fq.j) { // products at the same neighbour: phi_b phi_d expanded in phi_s
                    const auto pair = [&](int parity) {
                        const auto at = plan_.pair_place(i, fp.j, parity);
                        return kernels::PairMoments{moments.data() + at.base, at.stride_r, at.stride_s,
                                                    at.position};
                    };
                    sum = kernels::pair_sum(
                        g, decay[family].data(), tables_[family_of(fp.j)].products(fp.b, fq.b),
                        decay[family_of(fp.j)].data(), degrees, set_.even, pair(0), pair(1));
                } else {
                    const auto at = plan_.triple_place(i, active[u].feature, active[v].feature);
                    sum = kernels::triple_sum(g, decay[family].data(), degrees,
                                              {moments.data() + at.base, at.stride, at.slot});
                    sum *= feature_decay(fp) * feature_decay(fq);
                }
                const int row = std::max(active[u].term, active[v].term),
                          col = std::min(active[u].term, active[v].term);
                a(static_cast<size_t>(row), static_cast<size_t>(col)) += sum;
            }
    }
}

double ScoreSystem::gram_operations() const {
    const int degrees = plan_.top_degree() + 1;
    const auto counts = [](double x) { return std::abs(x) > kernels::negligible_product; };
    double total = 0;
    for (int i = 0; i < set_.sites; ++i) {
        const auto& features = plan_.features(i);
        const auto& active = active_[static_cast<size_t>(i)];
        const ProductTables& table =
            tables_[static_cast<size_t>(reference_.family_of[static_cast<size_t>(i)])];
        for (size_t u = 0; u < active.size(); ++u)
            for (size_t v = 0; v <= u; ++v) {
                const Feature &fp = features[static_cast<size_t>(active[u].feature)],
                              &fq = features[static_cast<size_t>(active[v].feature)];
                const int parity = (active[u].a + active[v].a) % 2;
                if (set_.even && (parity + fp.b + fq.b) % 2) continue;
                if (fp.j < 0 || fp.j != fq.j) { // a sum over r: two products and a sum
                    const int* slot = plan_.triple_place(i, active[u].feature, active[v].feature).slot;
                    total += 3.0 * static_cast<double>(std::count_if(slot, slot + degrees,
                                                                     [](int place) { return place >= 0; }));
                    continue;
                }
                const double* g = table.gradients(active[u].a, active[v].a);
                const double* a =
                    tables_[static_cast<size_t>(reference_.family_of[static_cast<size_t>(fp.j)])].products(
                        fp.b, fq.b);
                double inner[2] = {}; // degrees r of each parity
                for (int r = 0; r < degrees; ++r) inner[r % 2] += counts(g[r]);
                for (int s = 0; s < degrees; ++s)
                    if (counts(a[s])) total += 3 + 3 * (set_.even ? inner[s % 2] : inner[0] + inner[1]);
            }
    }
    return total;
}

} // namespace dynkin

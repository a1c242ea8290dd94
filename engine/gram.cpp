#include "gram.h"
#include <algorithm>
#include <cmath>

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
    const int top = plan_.top_degree();
    const size_t rs = static_cast<size_t>(top + 1);
    std::fill(a.begin(), a.end(), 0.0);
    std::vector<double> decayed_gradient, decay(rs);
    int current = -1, degrees = 0;
    for (int i = 0; i < set_.sites; ++i) {
        const int family = reference_.family_of[static_cast<size_t>(i)];
        const ProductTables& table = tables_[static_cast<size_t>(family)];
        const Family& reference = reference_.of(i);
        if (family != current) { // g(a, c, r) exp(-lambda_r t)
            current = family, degrees = table.degree + 1;
            for (size_t r = 0; r < rs; ++r) decay[r] = std::exp(-reference.lambda[r] * t);
            decayed_gradient.resize(table.g.size());
            for (size_t k = 0; k < table.g.size(); ++k) decayed_gradient[k] = table.g[k] * decay[k % rs];
        }
        const auto& features = plan_.features(i);
        const auto& active = active_[static_cast<size_t>(i)];
        std::vector<double> feature_decay(features.size(), 1);
        for (size_t p = 1; p < features.size(); ++p)
            feature_decay[p] =
                std::exp(-reference_.of(features[p].j).lambda[static_cast<size_t>(features[p].b)] * t);
        for (size_t u = 0; u < active.size(); ++u)
            for (size_t v = 0; v <= u; ++v) {
                const Feature &fp = features[static_cast<size_t>(active[u].feature)],
                              &fq = features[static_cast<size_t>(active[v].feature)];
                if (set_.even && (active[u].a + fp.b + active[v].a + fq.b) % 2) continue;
                const double* g =
                    &decayed_gradient[static_cast<size_t>(active[u].a * degrees + active[v].a) * rs];
                double sum = 0;
                if (fp.j >= 0 &&
                    fp.j == fq.j) { // products at the same neighbour: phi_b phi_d expanded in phi_s
                    const ProductTables& other =
                        tables_[static_cast<size_t>(reference_.family_of[static_cast<size_t>(fp.j)])];
                    const Family& neighbour = reference_.of(fp.j);
                    for (int s = 0; s <= top; ++s) {
                        const double product = other.product(fp.b, fq.b, s);
                        if (std::abs(product) < 1e-13) continue;
                        double inner = 0;
                        for (int r = 0; r <= top; ++r)
                            if (std::abs(table.gradient(active[u].a, active[v].a, r)) > 1e-13)
                                inner += g[r] * plan_.pair(moments.data(), i, fp.j, r, s);
                        sum += product * std::exp(-neighbour.lambda[static_cast<size_t>(s)] * t) * inner;
                    }
                } else {
                    const auto view = plan_.triple(moments.data(), i, active[u].feature, active[v].feature);
                    for (int r = 0; r <= top; ++r) sum += g[r] * view(r);
                    sum *= feature_decay[static_cast<size_t>(active[u].feature)] *
                           feature_decay[static_cast<size_t>(active[v].feature)];
                }
                const int row = std::max(active[u].term, active[v].term),
                          col = std::min(active[u].term, active[v].term);
                a(static_cast<size_t>(row), static_cast<size_t>(col)) += sum;
            }
    }
}

} // namespace dynkin

#include "score.h"
#include "../kernels/device.h"
#include "../kernels/score.h"
#include "device_block.h"
#include "error.h"
#include "linear.h"
#include "parallel.h"
#include "piecewise.h"
#include "waves.h"
#include <algorithm>
#include <map>

namespace dynkin {

using kernels::kScoreTile;
using kernels::ScoreLayout;
using std::size_t;

namespace {

/// A pair of degrees (a, b) that many pairs of sites have is stored as a matrix; other products as lists by
/// site.
ScoreLayout make_layout(const IndexSet& basis, const std::vector<std::vector<char>>& is_dense) {
    ScoreLayout layout;
    layout.sites = basis.sites;
    layout.degree = basis.max_degree();
    layout.dense_ld = static_cast<size_t>(basis.sites);
    const size_t n = static_cast<size_t>(layout.degree);
    for (size_t a = 0; a < n; ++a)
        for (size_t b = 0; b < n; ++b)
            if (is_dense[a][b]) layout.dense.push_back({static_cast<int>(a + 1), static_cast<int>(b + 1)});
    std::vector<std::map<int, int>> neighbours(static_cast<size_t>(basis.sites));
    for (const Term& term : basis.terms) {
        if (term.j < 0 || is_dense[static_cast<size_t>(term.a - 1)][static_cast<size_t>(term.b - 1)])
            continue;
        int& degree = neighbours[static_cast<size_t>(term.i)][term.j];
        degree = std::max({degree, term.a, term.b});
        neighbours[static_cast<size_t>(term.j)][term.i] = degree;
    }
    size_t offset = 0;
    layout.first_neighbour.push_back(0);
    for (const auto& of_site : neighbours) {
        for (const auto& [j, degree] : of_site) {
            layout.neighbours.push_back({j, degree, offset});
            offset += static_cast<size_t>(degree) * static_cast<size_t>(degree);
        }
        layout.first_neighbour.push_back(static_cast<int>(layout.neighbours.size()));
    }
    return layout;
}

std::vector<std::vector<char>> dense_degrees(const IndexSet& basis) {
    const size_t n = static_cast<size_t>(basis.max_degree());
    std::vector<std::vector<double>> count(n, std::vector<double>(n, 0));
    for (const Term& term : basis.terms)
        if (term.j >= 0) {
            count[static_cast<size_t>(term.a - 1)][static_cast<size_t>(term.b - 1)] += 1;
            count[static_cast<size_t>(term.b - 1)][static_cast<size_t>(term.a - 1)] += 1;
        }
    const double worth = 0.25 * basis.sites * (basis.sites - 1.0);
    std::vector<std::vector<char>> dense(n, std::vector<char>(n, 0));
    for (size_t a = 0; a < n; ++a)
        for (size_t b = 0; b < n; ++b) dense[a][b] = basis.sites >= 8 && count[a][b] > worth;
    return dense;
}

} // namespace

template <class T> size_t kernels::ScorePlan<T>::scratch() const {
    const size_t sites = static_cast<size_t>(layout.sites);
    return (2 * sites * static_cast<size_t>(layout.degree) + layout.dense.size() * sites) * kScoreTile;
}
template size_t kernels::ScorePlan<float>::scratch() const;
template size_t kernels::ScorePlan<double>::scratch() const;

template <class T> ScoreField<T>::ScoreField(const Context& context, const Block& block)
    : block_(block), plan_(std::make_unique<kernels::ScorePlan<T>>()),
      kernels_(&kernels::score_kernels<T>(context.isa())) {
    plan_->layout = make_layout(block.basis, dense_degrees(block.basis));
    require(plan_->layout.degree <= kernels::kMaxDegree, ErrorKind::input,
            "score: the basis' degree is too high");
    for (const Family& family : block.reference.families)
        plan_->families.push_back(site_functions<T>(family, plan_->layout.degree));
    plan_->family_of = block.reference.family_of;
}
template <class T> ScoreField<T>::~ScoreField() = default;
template <class T> ScoreField<T>::ScoreField(ScoreField&&) noexcept = default;

template <class T> kernels::ScoreCoefficients<T> ScoreField<T>::arrange(const std::vector<double>& c) const {
    const ScoreLayout& layout = plan_->layout;
    const size_t n = static_cast<size_t>(layout.degree), ld = layout.dense_ld;
    Coefficients out;
    out.single.assign(static_cast<size_t>(layout.sites) * n, T{0});
    out.dense.assign(layout.dense.size() * ld * ld, T{0});
    size_t sparse = 0;
    for (const auto& neighbour : layout.neighbours)
        sparse += static_cast<size_t>(neighbour.degree) * static_cast<size_t>(neighbour.degree);
    out.sparse.assign(sparse, T{0});
    const auto put = [&](int i, int a, int j, int b, T value) {
        for (size_t k = 0; k < layout.dense.size(); ++k)
            if (layout.dense[k].a == a && layout.dense[k].b == b) {
                out.dense[(k * ld + static_cast<size_t>(i)) * ld + static_cast<size_t>(j)] = value;
                return;
            }
        const auto first = layout.neighbours.begin() + layout.first_neighbour[static_cast<size_t>(i)];
        const auto last = layout.neighbours.begin() + layout.first_neighbour[static_cast<size_t>(i + 1)];
        const auto entry =
            std::lower_bound(first, last, j, [](const auto& e, int site) { return e.j < site; });
        out.sparse[entry->offset + static_cast<size_t>((a - 1) * entry->degree + b - 1)] = value;
    };
    for (size_t k = 0; k < block_.basis.terms.size(); ++k) {
        const Term& term = block_.basis.terms[k];
        const T value = static_cast<T>(c[k]);
        if (term.j < 0)
            out.single[static_cast<size_t>(term.i) * n + static_cast<size_t>(term.a - 1)] = value;
        else
            put(term.i, term.a, term.j, term.b, value), put(term.j, term.b, term.i, term.a, value);
    }
    return out;
}

template <class T> size_t ScoreField<T>::scratch() const { return plan_->scratch(); }

template <class T>
void ScoreField<T>::gradient(const Coefficients& c, const T* x, T* gradient, T* laplacian, T* scratch) const {
    kernels_->gradient(*plan_, c, x, gradient, laplacian, scratch);
}

template <class T> double ScoreField<T>::multiply_adds() const {
    const ScoreLayout& layout = plan_->layout;
    double total = 0;
    for (int i = 0; i < layout.sites; ++i) {
        const auto& f = plan_->families[static_cast<size_t>(plan_->family_of[static_cast<size_t>(i)])];
        // A value and a slope by Horner's rule; a recurrence of two and a multiplication for Hermite.
        total += layout.degree * (f.hermite ? 3 : 2 * f.degree - 1);
        total += layout.degree;
    }
    total += static_cast<double>(layout.dense.size()) * layout.sites * layout.sites;
    for (const auto& neighbour : layout.neighbours) total += neighbour.degree * neighbour.degree;
    return total;
}

template class ScoreField<float>;
template class ScoreField<double>;

void score(const Context& context, const Model& model, double t, size_t count, const double* x, double* out) {
    const size_t d = static_cast<size_t>(model.dimension());
    require(model.levels.empty(), ErrorKind::usage, "score: expected a flat model, got one of levels");
    if (model.linear) return linear_score(context, model, t, count, x, out);
    if (model.waves) return wave_score(context, model, t, count, x, out);
    if (std::holds_alternative<VeProcess>(model.process)) {
        // x_t - mean = exp(tau) (x_tau - mean) has the score of x_tau, times exp(-tau).
        Model ou = model;
        ou.process = OuProcess{};
        const double tau = block_time(model.process, t), decay = std::exp(-tau);
        std::vector<double> y(x, x + count * d);
        for (size_t n = 0; n < y.size(); ++n) {
            const double mean = model.standardization.mean[n % d];
            y[n] = mean + decay * (y[n] - mean);
        }
        score(context, ou, tau, count, y.data(), out);
        for (size_t n = 0; n < y.size(); ++n) out[n] *= decay;
        return;
    }
    const Block& block = model.blocks.front();
    const ScoreField<double> field(context, block);
    const auto coefficients = field.arrange(coefficients_at(block, t));
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return device_score(context, model, field, coefficients, count, x, out);
    const auto& [mean, scale] = model.standardization;
    const size_t tiles = (count + kScoreTile - 1) / kScoreTile;
    Array<double> space(static_cast<size_t>(context.threads()), field.scratch() + 2 * d * kScoreTile);
    parallel_for(context.threads(), tiles, [&](size_t tile, size_t thread) {
        double* z = space.row(thread);
        double* g = z + d * kScoreTile;
        const size_t first = tile * kScoreTile, rows = std::min<size_t>(kScoreTile, count - first);
        for (size_t j = 0; j < d; ++j)
            for (size_t n = 0; n < kScoreTile; ++n)
                z[j * kScoreTile + n] = n < rows ? (x[(first + n) * d + j] - mean[j]) / scale[j] : 0;
        field.gradient(coefficients, z, g, nullptr, g + d * kScoreTile);
        for (size_t n = 0; n < rows; ++n)
            for (size_t j = 0; j < d; ++j) {
                const double dv = block.reference.of(static_cast<int>(j)).dv(z[j * kScoreTile + n]);
                out[(first + n) * d + j] = (g[j * kScoreTile + n] - dv) / scale[j];
            }
    });
}

} // namespace dynkin

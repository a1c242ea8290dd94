#include "level_fit.h"
#include "../kernels/device.h"
#include "../kernels/moments.h"
#include "error.h"
#include "level_moments.h"
#include "level_systems.h"
#include "level_trial.h"
#include "parallel.h"
#include "piecewise.h"
#include "solve.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <fmt/format.h>
#include <functional>
#include <lapacke.h>
#include <numeric>

namespace dynkin {

using kernels::kMomentTile;
using std::size_t;

namespace {

constexpr int kTopDegree = 24;
constexpr double kReach = 1.15; ///< of the reference, in ranges of the data
constexpr size_t kGroups = 32;  ///< partial sums: fixed, so that results do not depend on threads

/// One way to fit a level.
struct Candidate {
    DescriptorKind kind = DescriptorKind::none;
    bool regression = false;
    int conditioning_degree = 0, degree = 8;
    int steps = 28;
    double t_min = 1e-3;
    bool hermite = false; ///< Ornstein-Uhlenbeck reference: any tails, low degree

    std::string describe() const {
        static const char* const names[] = {"none",
                                            "predictor",
                                            "predictor and squares",
                                            "l + r, (l - r)^2",
                                            "l, r",
                                            "sums of groups, three powers"};
        return fmt::format("degree {} given {} to degree {}{}", degree, names[static_cast<int>(kind)],
                           conditioning_degree, regression ? ", regression" : "") +
               (hermite ? ", Ornstein-Uhlenbeck" : "");
    }
};

/// What is tried: measured over chains and lattices of short and long correlation length (docs/method.md,
/// section 10).
std::vector<Candidate> candidates(const LevelPlan& plan, size_t pairs) {
    std::vector<Candidate> out;
    const bool few = pairs < 100000;
    for (DescriptorKind kind : plan.kinds) switch (kind) {
        case DescriptorKind::none: // one-dimensional: as rich as the data allow
            out.push_back({kind, false, 0, 8, 64, 1e-4});
            out.push_back({kind, false, 0, 14, 64, 1e-4});
            break;
        case DescriptorKind::interval:
        case DescriptorKind::ends: // a regression where the conditional is narrow, none where it has two
                                   // modes
            out.push_back({kind, true, 8, 6, 64, 1e-4});
            out.push_back({kind, true, 12, 8, 64, 1e-4});
            out.push_back({kind, false, 6, 6, 64, 1e-4});
            out.push_back({kind, false, 12, 12, 64, 1e-4});
            if (few) out.push_back({kind, true, 3, 4, 32, 1e-3});
            break;
        default:
            out.push_back({kind, true, 5, 8, 28, 1e-3});
            if (few) out.push_back({kind, true, 3, 6, 28, 1e-3});
            break;
        }
    if (few && plan.slots > 0)
        for (int degree : {4, 8, 12}) out.push_back({DescriptorKind::predictor, true, 1, degree, 28, 1e-3});
    return out;
}

/// What is left when no fitted reference will do.
Candidate fallback(const LevelPlan& plan) {
    const bool alone = plan.slots == 0;
    return {
        alone ? DescriptorKind::none : DescriptorKind::predictor, !alone, alone ? 0 : 2, 4, 64, 1e-3, true};
}

std::vector<Descriptor> make_descriptors(DescriptorKind kind, const LevelPlan& plan,
                                         const std::vector<double>& beta) {
    const int slots = plan.slots;
    Descriptor linear{1, {{1, {}}}}, squares{2, {}};
    for (int s = 0; s < slots; ++s) {
        const double weight = beta[static_cast<size_t>(s)];
        linear.groups[0].entries.push_back({s, weight});
        squares.groups.push_back({std::abs(weight), {{s, 1}}});
    }
    switch (kind) {
    case DescriptorKind::none:
        return {};
    case DescriptorKind::predictor:
        return {linear};
    case DescriptorKind::squares:
        return {linear, squares};
    case DescriptorKind::interval:
        return {{1, {{1, {{0, 1}, {1, 1}}}}}, {2, {{1, {{0, 1}, {1, -1}}}}}};
    case DescriptorKind::ends:
        return {{1, {{1, {{0, 1}}}}}, {1, {{1, {{1, 1}}}}}};
    case DescriptorKind::decimation:
        break;
    }
    std::vector<Descriptor> out;
    for (int power = 1; power <= 3; ++power) {
        Descriptor d{power, {}};
        for (const auto& group : plan.groups) {
            d.groups.push_back({1, {}});
            for (int s : group) d.groups.back().entries.push_back({s, 1});
        }
        out.push_back(std::move(d));
    }
    return out;
}

/// x = sum over slots of beta x_slot by least squares over the training pairs, slots of one shell sharing a
/// weight.
std::vector<double> regress(const LevelPlan& plan, const LevelPairs& pairs, bool even, double& intercept) {
    const size_t slots = static_cast<size_t>(plan.slots);
    intercept = 0;
    if (slots == 0 && even) return {};
    const size_t shells =
        slots ? 1 + static_cast<size_t>(*std::max_element(plan.shell.begin(), plan.shell.end())) : 0;
    const size_t m = shells + !even, count = pairs.train;
    Array<double> normal(m, m), sums(m, 512);
    std::vector<double> right(m, 0), x(512);
    for (size_t first = 0; first < count; first += 512) {
        const size_t rows = std::min<size_t>(512, count - first);
        std::fill(sums.begin(), sums.end(), 0.0), std::fill(x.begin(), x.end(), 0.0);
        for (size_t n = 0; n < rows; ++n) x[n] = static_cast<double>(pairs.values(0, first + n));
        for (size_t s = 0; s < slots; ++s) {
            double* row = sums.row(static_cast<size_t>(plan.shell[s]));
            const float* from = pairs.values.row(1 + s) + first;
            for (size_t n = 0; n < rows; ++n) row[n] += static_cast<double>(from[n]);
        }
        if (!even) std::fill_n(sums.row(shells), rows, 1.0);
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, static_cast<int>(m), 512, 1, sums.data(), 512, 1,
                    normal.data(), static_cast<int>(m));
        cblas_dgemv(CblasRowMajor, CblasNoTrans, static_cast<int>(m), 512, 1, sums.data(), 512, x.data(), 1,
                    1, right.data(), 1);
    }
    double trace = 0;
    for (size_t k = 0; k < m; ++k) trace += normal(k, k);
    for (size_t k = 0; k < m; ++k) normal(k, k) += 1e-9 * trace + 1e-300;
    LAPACKE_dposv(LAPACK_COL_MAJOR, 'U', static_cast<int>(m), 1, normal.data(), static_cast<int>(m),
                  right.data(), static_cast<int>(m));
    std::vector<double> beta(slots);
    for (size_t s = 0; s < slots; ++s) beta[s] = right[static_cast<size_t>(plan.shell[s])];
    if (!even) intercept = right[shells];
    return beta;
}

/// Evaluates z, the monomials of the descriptors and psi for pairs in tiles of kMomentTile.
class PairReader {
  public:
    PairReader(const Level& level, const LevelPairs& pairs) : level_(level), pairs_(pairs) {}

    void z(size_t first, size_t count, double* out) const {
        const float* x = pairs_.values.row(0) + first;
        for (size_t n = 0; n < count; ++n) out[n] = static_cast<double>(x[n]) - level_.intercept;
        for (size_t s = 0; s < level_.predictor.size(); ++s) {
            const double weight = level_.predictor[s];
            const float* from = pairs_.values.row(1 + s) + first;
            for (size_t n = 0; n < count; ++n) out[n] -= weight * static_cast<double>(from[n]);
        }
        for (size_t n = 0; n < count; ++n) out[n] /= level_.scale;
    }
    void descriptor(size_t k, size_t first, size_t count, double* out) const {
        std::vector<double> sum(count);
        std::fill_n(out, count, 0.0);
        const Descriptor& d = level_.descriptors[k];
        for (const auto& group : d.groups) {
            std::fill(sum.begin(), sum.end(), 0.0);
            for (const auto& entry : group.entries) {
                const float* from = pairs_.values.row(1 + static_cast<size_t>(entry.slot)) + first;
                for (size_t n = 0; n < count; ++n) sum[n] += entry.weight * static_cast<double>(from[n]);
            }
            for (size_t n = 0; n < count; ++n) {
                double product = group.coefficient * sum[n];
                for (int m = 1; m < d.power; ++m) product *= sum[n];
                out[n] += product;
            }
        }
    }
    /// monomials[m * kMomentTile + n] for n < count, 0 beyond.
    void monomials(size_t first, size_t count, double* out) const {
        const size_t features = level_.descriptors.size(),
                     number = features ? level_.exponents.size() / features : 1;
        std::vector<double> u(features * kMomentTile);
        for (size_t k = 0; k < features; ++k) {
            double* at = &u[k * kMomentTile];
            descriptor(k, first, count, at);
            for (size_t n = 0; n < count; ++n)
                at[n] = std::clamp((at[n] - level_.center[k]) / level_.spread[k], level_.lower[k],
                                   level_.upper[k]);
        }
        for (size_t m = 0; m < number; ++m) {
            double* at = out + m * kMomentTile;
            std::fill_n(at, count, 1.0), std::fill(at + count, at + kMomentTile, 0.0);
            for (size_t k = 0; k < features; ++k)
                for (int e = 0; e < level_.exponents[m * features + k]; ++e)
                    for (size_t n = 0; n < count; ++n) at[n] *= u[k * kMomentTile + n];
        }
    }
    void psi(const double* monomials, double* out) const {
        const int p = static_cast<int>(level_.transform.rows()),
                  m = static_cast<int>(level_.transform.cols());
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, p, kMomentTile, m, 1, level_.transform.data(),
                    m, monomials, kMomentTile, 0, out, kMomentTile);
    }

  private:
    const Level& level_;
    const LevelPairs& pairs_;
};

double quantile(std::vector<double>& values, double q) {
    const auto at =
        values.begin() + static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1) + 0.5);
    std::nth_element(values.begin(), at, values.end());
    return *at;
}

/// Throws Error(numerical) when a fitted reference would leave more than 1e-4 of the pairs out of its box.
void choose_reference(const LevelPairs& pairs, const LevelOptions& options, bool hermite, Level& level) {
    const PairReader reader(level, pairs);
    std::vector<double> z(pairs.train);
    reader.z(0, pairs.train, z.data());
    double square = 0;
    for (double v : z) square += v * v;
    level.scale = std::sqrt(square / static_cast<double>(z.size()));
    if (!(level.scale > 0))
        throw Error(ErrorKind::input, fmt::format("level {}: the target does not vary", level.name));
    if (hermite) {
        level.family = hermite_family(2 * level.degree);
        return;
    }
    MarginalSums sums;
    sums.power.assign(15, 0);
    for (double& v : z) {
        v /= level.scale;
        double power = 1;
        for (double& sum : sums.power) sum += power, power *= v;
        sums.min = std::min(sums.min, v), sums.max = std::max(sums.max, v);
    }
    sums.count = static_cast<double>(z.size());
    sums.low_quantile = quantile(z, 0.001), sums.high_quantile = quantile(z, 0.999);
    if (options.even) {
        for (size_t k = 1; k < sums.power.size(); k += 2) sums.power[k] = 0;
        sums.max = std::max(-sums.min, sums.max), sums.min = -sums.max;
        sums.high_quantile = std::max(-sums.low_quantile, sums.high_quantile),
        sums.low_quantile = -sums.high_quantile;
    }
    // The flattened reference reaches further than the data: in the box of the data alone its cut would be
    // felt at four standard deviations.
    sums.min *= kReach, sums.max *= kReach;
    const PotentialFit fit = fit_potential(sums, options.reference_scale, options.even);
    const auto outside =
        std::count_if(z.begin(), z.end(), [&](double v) { return v < fit.lo || v > fit.hi; });
    if (static_cast<double>(outside) > 1e-4 * sums.count)
        throw Error(ErrorKind::numerical,
                    fmt::format("fit: level {}: {} of {} pairs lie outside the box of the reference",
                                level.name, outside, z.size()));
    level.family = fitted_family(fit.potential, fit.lo, fit.hi, std::max(kTopDegree, 3 * level.degree),
                                 level.degree > 8 ? 96 : 48);
}

/// Centres, spreads and ranges of the descriptors over the training pairs, and the monomials up to the
/// degree.
void choose_monomials(const LevelPairs& pairs, bool even, int degree, Level& level) {
    const PairReader reader(level, pairs);
    const size_t features = level.descriptors.size(), count = pairs.train;
    std::vector<double> f(count);
    for (size_t k = 0; k < features; ++k) {
        reader.descriptor(k, 0, count, f.data());
        double mean = 0, square = 0;
        for (double v : f) mean += v, square += v * v;
        mean /= static_cast<double>(count), square /= static_cast<double>(count);
        const bool odd = even && level.descriptors[k].power % 2;
        level.center.push_back(odd ? 0 : mean);
        const double spread = std::sqrt(std::max(odd ? square : square - mean * mean, 0.0));
        level.spread.push_back(spread > 1e-9 * std::sqrt(square) && spread > 0 ? spread : 1);
        // Beyond these few pairs a polynomial would follow the outliers.
        const double low_value = quantile(f, 1e-4), high_value = quantile(f, 1 - 1e-4);
        double low = (low_value - level.center[k]) / level.spread[k],
               high = (high_value - level.center[k]) / level.spread[k];
        if (odd) high = std::max(-low, high), low = -high;
        level.lower.push_back(low), level.upper.push_back(high);
    }
    std::vector<std::vector<int>> all;
    std::vector<int> exponent(features, 0);
    const std::function<void(size_t, int)> extend = [&](size_t k, int left) {
        if (k == features) {
            all.push_back(exponent);
            return;
        }
        for (int e = 0; e * level.descriptors[k].power <= left; ++e)
            exponent[k] = e, extend(k + 1, left - e * level.descriptors[k].power);
        exponent[k] = 0;
    };
    extend(0, degree);
    const auto parity = [&](const std::vector<int>& e) {
        int sum = 0;
        for (size_t k = 0; k < features; ++k) sum += e[k] * level.descriptors[k].power;
        return sum % 2;
    };
    if (even) std::stable_partition(all.begin(), all.end(), [&](const auto& e) { return parity(e) == 0; });
    for (const auto& e : all) level.exponents.insert(level.exponents.end(), e.begin(), e.end());

    // Orthonormal over (at most 1e5 of) the training pairs, each parity by itself.
    const size_t m = all.size(), tiles = (count + kMomentTile - 1) / kMomentTile,
                 step = std::max<size_t>(1, tiles / 400);
    Array<double> gram(m, m), tile(m, kMomentTile);
    double used = 0;
    for (size_t t = 0; t < tiles; t += step) {
        const size_t first = t * kMomentTile, rows = std::min<size_t>(kMomentTile, count - first);
        reader.monomials(first, rows, tile.data());
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, static_cast<int>(m), kMomentTile, 1, tile.data(),
                    kMomentTile, 1, gram.data(), static_cast<int>(m));
        used += static_cast<double>(rows);
    }
    const size_t evens = even ? static_cast<size_t>(std::count_if(
                                    all.begin(), all.end(), [&](const auto& e) { return parity(e) == 0; }))
                              : m;
    std::vector<double> transform;
    size_t conditions = 0;
    for (const auto& [first, last] : {std::pair{size_t{0}, evens}, std::pair{evens, m}}) {
        const size_t n = last - first;
        if (n == 0) continue;
        Array<double> block(n, n);
        std::vector<double> scale(n), eigenvalue(n);
        for (size_t k = 0; k < n; ++k) {
            const double d = gram(first + k, first + k) / used;
            scale[k] = d > 1e-12 ? 1 / std::sqrt(d) : 0;
        }
        for (size_t k = 0; k < n; ++k)
            for (size_t l = 0; l <= k; ++l)
                block(k, l) = gram(first + k, first + l) / used * scale[k] * scale[l];
        LAPACKE_dsyev(LAPACK_COL_MAJOR, 'V', 'U', static_cast<int>(n), block.data(), static_cast<int>(n),
                      eigenvalue.data());
        for (size_t e = n; e-- > 0;) { // largest first
            if (!(eigenvalue[e] > 1e-7)) break;
            transform.resize((conditions + 1) * m, 0);
            for (size_t k = 0; k < n; ++k)
                transform[conditions * m + first + k] = block(e, k) * scale[k] / std::sqrt(eigenvalue[e]);
            ++conditions;
        }
        if (even && first == 0) level.even_conditions = static_cast<int>(conditions);
    }
    level.transform = Array<double>(conditions, m);
    std::copy(transform.begin(), transform.end(), level.transform.begin());
}

LevelMoments level_moments(const Context& context, const Level& level, const LevelPairs& pairs, size_t first,
                           size_t last) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return level_moments_on_device(context, level, pairs, first, last);
    const size_t p = level.conditions(), r = static_cast<size_t>(level.family.top_degree()) + 1,
                 even = level.even_conditions < 0 ? p : static_cast<size_t>(level.even_conditions);
    const bool parity = level.even_conditions >= 0;
    const auto table = function_table<double>(level.family);
    const auto& kernels = kernels::moment_kernels<double>(context.isa());
    const PairReader reader(level, pairs);
    // Each block of sums is one matrix product a tile: rows (k, alpha), columns beta.
    struct Block {
        size_t first_k, step, a, a_end, b, b_end;
        size_t degrees(size_t top) const { return (top - first_k + step - 1) / step; }
    };
    std::vector<Block> blocks;
    if (!parity)
        blocks = {{0, 1, 0, p, 0, p}};
    else
        blocks = {{0, 2, 0, even, 0, even}, {0, 2, even, p, even, p}, {1, 2, 0, even, even, p}};
    std::erase_if(blocks, [](const Block& x) { return x.a == x.a_end || x.b == x.b_end; });
    size_t largest = 0, total = 0;
    for (const Block& x : blocks) {
        largest = std::max(largest, x.degrees(r) * (x.a_end - x.a));
        total += x.degrees(r) * (x.a_end - x.a) * (x.b_end - x.b);
    }
    Array<double> part(kGroups, total + r * p);
    const size_t tiles = (last - first + kMomentTile - 1) / kMomentTile;
    parallel_for(context.threads(), kGroups, [&](size_t g, size_t) {
        if (context.interrupt_signal()) return;
        std::vector<double> z(kMomentTile), phi(r * kMomentTile),
            monomials(level.transform.cols() * kMomentTile), psi(p * kMomentTile),
            product(largest * kMomentTile);
        for (size_t t = g * tiles / kGroups; t < (g + 1) * tiles / kGroups; ++t) {
            const size_t at = first + t * kMomentTile, rows = std::min<size_t>(kMomentTile, last - at);
            reader.z(at, rows, z.data());
            kernels.evaluate(table, z.data(), static_cast<int>(rows), phi.data());
            std::fill_n(phi.data(), rows, 1.0), std::fill(phi.data() + rows, phi.data() + kMomentTile, 0.0);
            reader.monomials(at, rows, monomials.data());
            reader.psi(monomials.data(), psi.data());
            double* out = part.row(g);
            for (const Block& x : blocks) {
                double* to = product.data();
                for (size_t k = x.first_k; k < r; k += x.step)
                    for (size_t c = x.a; c < x.a_end; ++c, to += kMomentTile)
                        for (size_t n = 0; n < kMomentTile; ++n)
                            to[n] = phi[k * kMomentTile + n] * psi[c * kMomentTile + n];
                const int m = static_cast<int>((to - product.data()) / kMomentTile),
                          columns = static_cast<int>(x.b_end - x.b);
                cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, columns, kMomentTile, 1,
                            product.data(), kMomentTile, &psi[x.b * kMomentTile], kMomentTile, 1, out,
                            columns);
                out += m * columns;
            }
            cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(r), static_cast<int>(p),
                        kMomentTile, 1, phi.data(), kMomentTile, psi.data(), kMomentTile, 1, out,
                        static_cast<int>(p));
        }
    });
    if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    for (size_t g = 1; g < kGroups; ++g)
        for (size_t k = 0; k < part.cols(); ++k) part[k] += part(g, k);
    LevelMoments sums{p, Array<double>(r, p * p), Array<double>(r, p), static_cast<double>(last - first)};
    const double* from = part.data();
    for (const Block& x : blocks)
        for (size_t k = x.first_k; k < r; k += x.step)
            for (size_t a = x.a; a < x.a_end; ++a)
                for (size_t b = x.b; b < x.b_end; ++b, ++from)
                    sums.triple(k, a * p + b) = sums.triple(k, b * p + a) = *from;
    std::copy_n(from, r * p, sums.single.data());
    return sums;
}

/// The pairs at regular distances, at most so many of them for training; all that are held out.
LevelPairs thinned(const LevelPairs& pairs, size_t most) {
    const size_t stride = std::max<size_t>(1, pairs.train / most);
    LevelPairs part;
    part.train = pairs.train / stride;
    part.values = Array<float>(pairs.values.rows(), part.train + pairs.size() - pairs.train);
    for (size_t k = 0; k < part.values.rows(); ++k) {
        for (size_t n = 0; n < part.train; ++n) part.values(k, n) = pairs.values(k, n * stride);
        std::copy(pairs.values.row(k) + pairs.train, pairs.values.row(k) + pairs.size(),
                  part.values.row(k) + part.train);
    }
    return part;
}

class LevelFitter {
  public:
    LevelFitter(const Context& context, const LevelPlan& plan, const LevelPairs& pairs,
                const LevelOptions& options, LevelReport& report)
        : context_(context), plan_(plan), pairs_(pairs), options_(options), report_(report),
          beta_(regress(plan, pairs, options.even, intercept_)) {}

    /// The likeliest candidate; where the systems of all pairs have no solution though those of a part had,
    /// the next.
    Level run() const {
        for (const Candidate& c : ranked()) {
            try {
                return finish(c);
            } catch (const Error& error) {
                if (error.kind() != ErrorKind::numerical) throw;
            }
        }
        return finish(fallback(plan_));
    }

  private:
    /// Everything but the coefficients, from all training pairs.
    Level prepare(const Candidate& c) const {
        Level level;
        level.name = plan_.name, level.stage = plan_.stage;
        level.targets = plan_.targets, level.neighbours = plan_.neighbours, level.slots = plan_.slots;
        level.degree = options_.degree ? options_.degree : c.degree;
        level.predictor.assign(beta_.size(), 0);
        if (c.regression)
            level.predictor = beta_, level.intercept = intercept_;
        else if (!options_.even) {
            const float* x = pairs_.values.row(0);
            level.intercept = std::accumulate(x, x + pairs_.train, 0.0) / static_cast<double>(pairs_.train);
        }
        level.descriptors = make_descriptors(c.kind, plan_, beta_);
        choose_reference(pairs_, options_, c.hermite, level);
        choose_monomials(pairs_, options_.even, c.conditioning_degree, level);
        level.t_min = c.t_min;
        level.t_end = options_.t_end > 0 ? options_.t_end : std::max(5.0, 3 / level.family.lambda[1]);
        level.steps = c.steps;
        level.node_time = level.step_times(c.steps);
        return level;
    }

    /// Candidates by held-out likelihood after a fit to a part of the pairs, best first; those whose systems
    /// have no solution (a basis too rich for its reference) are left out.
    std::vector<Candidate> ranked() const {
        const LevelPairs part = thinned(pairs_, 100'000);
        std::vector<std::pair<double, Candidate>> order;
        for (const Candidate& c : candidates(plan_, pairs_.train)) {
            LevelReport unused;
            double value = -INFINITY;
            try {
                Level level = prepare(c);
                solve_level(context_, level_moments(context_, level, part, 0, part.train),
                            options_.ridge < 0 ? 1e-5 : options_.ridge, level, unused);
                value = heldout_likelihood(context_, level, part, 10000);
                order.emplace_back(value, c);
            } catch (const Error& error) {
                if (error.kind() != ErrorKind::numerical) throw;
            }
            report_.tried.emplace_back(c.describe(), value);
        }
        std::stable_sort(order.begin(), order.end(),
                         [](const auto& a, const auto& b) { return a.first > b.first; });
        std::vector<Candidate> out;
        for (const auto& [value, c] : order) out.push_back(c);
        return out;
    }

    /// The ridge by held-out likelihood, then coefficients from all pairs, those held out included.
    Level finish(const Candidate& c) const {
        Level level = prepare(c);
        report_.descriptors = c.describe();
        report_.regression = c.regression, report_.conditioning_degree = c.conditioning_degree;
        LevelMoments moments = level_moments(context_, level, pairs_, 0, pairs_.train);
        double ridge = options_.ridge;
        report_.heldout = -INFINITY;
        std::vector<double> trials = {1e-5, 1e-4, 1e-3};
        if (pairs_.train <= 100'000) trials.insert(trials.end(), {1e-2, 1e-1});
        if (ridge >= 0) trials = {ridge};
        for (double trial : trials) {
            solve_level(context_, moments, trial, level, report_);
            const double value = heldout_likelihood(context_, level, pairs_, 10000);
            if (value > report_.heldout + 1e-5) report_.heldout = value, ridge = trial;
        }
        moments.add(level_moments(context_, level, pairs_, pairs_.train, pairs_.size()));
        solve_level(context_, moments, ridge, level, report_);
        choose_steps(context_, pairs_, level);
        report_.steps = level.steps;
        return level;
    }

    const Context& context_;
    const LevelPlan& plan_;
    const LevelPairs& pairs_;
    const LevelOptions& options_;
    LevelReport& report_;
    double intercept_ = 0;
    std::vector<double> beta_;
};

} // namespace

Level fit_level(const Context& context, const LevelPlan& plan, const LevelPairs& pairs,
                const LevelOptions& options, LevelReport& report) {
    report.name = plan.name, report.targets = plan.targets.size(), report.pairs = pairs.size();
    const size_t needed = std::max<size_t>(100, 5 * static_cast<size_t>(plan.slots + 1));
    if (pairs.train < needed || pairs.train == pairs.size())
        throw Error(
            ErrorKind::input,
            fmt::format("level {}: expected at least {} training pairs and one held out, got {} and {}: more "
                        "samples are needed",
                        plan.name, needed, pairs.train, pairs.size() - pairs.train));
    return LevelFitter(context, plan, pairs, options, report).run();
}

} // namespace dynkin

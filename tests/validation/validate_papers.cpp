// validate_papers.cpp - the experiments of docs/papers.md: the relative error of scores of a quartic double
// well from 1e4 samples, and Ginzburg-Landau lattices between fixed values.
//
// Errors of scores are taken against the exact law of the diffusion, from a finite-volume scheme on a grid
// that shares no code with the engine (fokker_planck.h).
#include "../fokker_planck.h"
#include "engine/eigenbasis.h"
#include "engine/node_systems.h"
#include "engine/score.h"
#include "engine/transfer_matrix.h"
#include "models.h"
#include <functional>
#include <random>

namespace dynkin::validation {
namespace {

// The double well
// -----------------------------------------------------------------------------------------------------

constexpr std::size_t rows = 10'000, nodes = 2001;

double well(double x) { return std::exp(-std::pow(x * x - 1, 2)); }

/// Samples by inverse CDF on a grid of 1e-4.
std::vector<double> well_samples(std::uint64_t seed) {
    constexpr std::size_t cells = 56'000;
    std::vector<double> below(cells + 1);
    const auto at = [](std::size_t k) { return -2.8 + 1e-4 * static_cast<double>(k); };
    for (std::size_t k = 0; k < cells; ++k) below[k + 1] = below[k] + 0.5 * (well(at(k)) + well(at(k + 1)));
    std::mt19937_64 generator(seed);
    std::uniform_real_distribution<double> uniform(0, below[cells]);
    std::vector<double> x(rows);
    for (double& v : x) {
        const double u = uniform(generator);
        const auto k =
            static_cast<std::size_t>(std::upper_bound(below.begin(), below.end(), u) - below.begin());
        v = at(k - 1) + 1e-4 * (u - below[k - 1]) / (below[k] - below[k - 1]);
    }
    return x;
}

/// What carries x = mean + scale z: dz = -v'(z) dt + sqrt(2) dW between walls at lo and hi.
struct Diffusion {
    double mean = 0, scale = 1, lo = -6, hi = 6;
    std::function<double(double)> slope = {}; ///< v'
    std::vector<double> times = {};           ///< ascending
};

/// sqrt of the mean over p_t of |s - s*|^2 over that of |s*|^2: at the first time, and with both integrated
/// over all times, in t and in tau = log(1 + (t - t_min)/t0), of which the times are equidistant.
struct ScoreErrors {
    double first = 0, uniform = 0, logarithmic = 0;
};

/// score(m, z): grad log p at times[m], in units of z.
ScoreErrors score_errors(const Diffusion& d, const std::function<double(std::size_t, double)>& score) {
    const oracle::Grid grid{d.lo, d.hi, nodes};
    const auto rate = oracle::rates(
        grid, [&](double z) { return -d.slope(z); }, 1.0);
    std::vector<double> p(nodes);
    for (std::size_t i = 0; i < nodes; ++i) p[i] = well(d.mean + d.scale * grid.at(i));
    std::vector<double> error(d.times.size()), size(d.times.size());
    double now = 0;
    for (std::size_t m = 0; m < d.times.size(); ++m) {
        constexpr int steps = 12;
        for (int k = 0; k < steps && d.times[m] > now; ++k)
            oracle::diffuse(rate, (d.times[m] - now) / steps, p.data());
        now = d.times[m];
        const double largest = *std::max_element(p.begin(), p.end());
        double mass = 0;
        for (std::size_t i = 0; i + 1 < nodes; ++i) {
            if (std::min(p[i], p[i + 1]) < 1e-14 * largest) continue;
            const double exact = std::log(p[i + 1] / p[i]) / grid.h(), weight = 0.5 * (p[i] + p[i + 1]),
                         found = score(m, 0.5 * (grid.at(i) + grid.at(i + 1)));
            mass += weight, error[m] += weight * std::pow(found - exact, 2),
                size[m] += weight * exact * exact;
        }
        error[m] /= mass, size[m] /= mass;
    }
    const auto ratio = [&](const std::function<double(std::size_t)>& length) {
        double above = 0, below = 0;
        for (std::size_t m = 0; m + 1 < d.times.size(); ++m) {
            above += length(m) * (error[m] + error[m + 1]), below += length(m) * (size[m] + size[m + 1]);
        }
        return std::sqrt(above / below);
    };
    return {std::sqrt(error[0] / size[0]), ratio([&](std::size_t m) { return d.times[m + 1] - d.times[m]; }),
            ratio([](std::size_t) { return 1.0; })};
}

/// Of a model that fit() made.
ScoreErrors model_errors(const Context& context, const Model& model) {
    const Block& block = model.blocks.front();
    const Family& family = block.reference.of(0);
    Diffusion d{model.standardization.mean[0], model.standardization.scale[0]};
    if (family.kind == ReferenceKind::fitted) d.lo = family.lo, d.hi = family.hi;
    d.slope = [&](double z) { return family.dv(z); };
    d.times = block.node_time;
    std::vector<double> x, s;
    std::size_t at = SIZE_MAX;
    return score_errors(d, [&](std::size_t m, double z) {
        if (at != m) { // all points of a time at once
            x.clear();
            const double h = (d.hi - d.lo) / static_cast<double>(nodes - 1);
            for (std::size_t i = 0; i + 1 < nodes; ++i)
                x.push_back(d.mean + d.scale * (d.lo + (static_cast<double>(i) + 0.5) * h));
            s.resize(x.size());
            dynkin::score(context, model, d.times[m], x.size(), x.data(), s.data());
            at = m;
        }
        const auto i = static_cast<std::size_t>((z - d.lo) / (d.hi - d.lo) * static_cast<double>(nodes - 1));
        return s[std::min(i, s.size() - 1)] * d.scale;
    });
}

/// As in the paper: n Hermite functions of the base N(0, 1/beta), data as they are, no ridge.
ScoreErrors plain_errors(const Context& context, const std::vector<double>& x, int n, double beta) {
    Reference reference{{hermite_family(2 * n)}, {0}};
    const IndexSet basis = make_index_set(1, n, {}, 0, false);
    const std::vector<ProductTables> tables{product_tables(reference.families[0], n)};
    const MomentPlan plan(basis, reference, tables);
    const ScoreSystem system(basis, reference, tables, plan);
    const double scale = 1 / std::sqrt(beta);
    MomentSums sums;
    accumulate_moments(context, plan, reference,
                       {x.size(),
                        [&](std::size_t first, std::size_t count, double* z) {
                            for (std::size_t k = 0; k < count; ++k) z[k] = x[first + k] / scale;
                        }},
                       {}, sums);
    Diffusion d;
    d.scale = scale, d.lo = -6, d.hi = 6;
    d.slope = [](double z) { return z; };
    for (int k = 0; k <= 32; ++k)
        d.times.push_back(1e-3 + 0.02 * std::expm1(k / 32.0 * std::log1p(4.999 / 0.02)));
    Array<double> c(d.times.size(), system.size());
    const auto status = solve_nodes(context, system, moment_averages(sums, Subset::all), d.times, 0, c);
    for (const SolveStatus& one : status) EXPECT_TRUE(one.solved);
    std::vector<double> phi(static_cast<std::size_t>(n) + 1), slope(phi);
    return score_errors(d, [&](std::size_t m, double z) {
        eigenfunctions(reference.families[0], z, n + 1, phi.data(), slope.data());
        double s = -z;
        for (int k = 1; k <= n; ++k)
            s += c(m, static_cast<std::size_t>(k - 1)) * slope[static_cast<std::size_t>(k)];
        return s;
    });
}

/// Mean and standard deviation over seeds.
struct Spread {
    std::vector<ScoreErrors> all;
    void log(const Ledger& ledger, double bar = 0) const {
        const auto mean = [&](double ScoreErrors::*figure) {
            double sum = 0, square = 0;
            for (const ScoreErrors& e : all) sum += e.*figure, square += e.*figure * (e.*figure);
            const double n = static_cast<double>(all.size());
            return std::pair(sum / n, std::sqrt(std::max(0.0, (square - sum * sum / n) / (n - 1))));
        };
        const auto [uniform, uniform_sd] = mean(&ScoreErrors::uniform);
        const auto [first, first_sd] = mean(&ScoreErrors::first);
        const auto [logarithmic, logarithmic_sd] = mean(&ScoreErrors::logarithmic);
        if (bar > 0)
            ledger.at_most("relative score error, over t", uniform, bar);
        else
            ledger.reported("relative score error, over t", uniform);
        ledger.reported("over t, standard deviation of seeds", uniform_sd);
        ledger.reported("relative score error, over tau", logarithmic);
        ledger.reported("over tau, standard deviation of seeds", logarithmic_sd);
        ledger.reported("relative score error, at t_min", first);
        ledger.reported("at t_min, standard deviation of seeds", first_sd);
    }
};

/// 20 at full scale.
int seeds() { return std::max(2, static_cast<int>(20 * scale() + 0.5)); }

/// At t = 0, of the true family exp(-(a x^2 + b x^4)), a and b unknown: sqrt(tr(V M)/N / E s*^2), M = E f'
/// f'', V the covariance of the estimate: the inverse of the information (Cramer and Rao), or that of score
/// matching.
std::pair<double, double> floors() {
    double mass = 0, size = 0, mean[2] = {}, cov[2][2] = {}, m[2][2] = {}, g[2][2] = {};
    for (int k = -60'000; k <= 60'000; ++k) {
        const double x = 5e-5 * k, p = well(x), f[2] = {x * x, x * x * x * x}, d[2] = {2 * x, 4 * x * x * x},
                     s = 4 * x - 4 * x * x * x, dd[2] = {2, 12 * x * x};
        mass += p, size += p * s * s;
        for (int i = 0; i < 2; ++i) {
            mean[i] += p * f[i];
            for (int j = 0; j < 2; ++j) {
                cov[i][j] += p * f[i] * f[j], m[i][j] += p * d[i] * d[j];
                g[i][j] += p * (d[i] * s + dd[i]) * (d[j] * s + dd[j]);
            }
        }
    }
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 2; ++j)
            cov[i][j] = cov[i][j] / mass - mean[i] * mean[j] / (mass * mass), m[i][j] /= mass,
            g[i][j] /= mass;
    const auto trace = [](const double a[2][2], const double b[2][2]) { // tr(a^-1 b)
        const double det = a[0][0] * a[1][1] - a[0][1] * a[1][0];
        return (a[1][1] * b[0][0] - a[0][1] * b[1][0] - a[1][0] * b[0][1] + a[0][0] * b[1][1]) / det;
    };
    const double n = static_cast<double>(rows);
    return {std::sqrt(trace(cov, m) / n / (size / mass)), std::sqrt(trace(m, g) / n / (size / mass))};
}

TEST(ValidatePapers, DoubleWellSelected) {
    const Context context;
    const auto [likelihood, matching] = floors();
    note("double well, floors at t = 0", 0, "maximum likelihood in the true family", likelihood);
    note("double well, floors at t = 0", 0, "score matching in the true family", matching);
    const Folder folder;
    Spread automatic, even, ou;
    std::vector<double> degrees(17);
    for (int seed = 201; seed <= 200 + seeds(); ++seed) {
        const auto x = well_samples(static_cast<std::uint64_t>(seed));
        Array<double> data(rows, 1);
        std::copy(x.begin(), x.end(), data.begin());
        write_npy(folder / "train.npy", data);
        const SampleFile file(folder / "train.npy");
        FitOptions options;
        FitReport report;
        const Model fitted = fit(context, file, options, &report);
        automatic.all.push_back(model_errors(context, fitted));
        std::printf("seed %d: degree %d, ridge %g, density of degree %d, shrinkage %g: %g\n", seed,
                    fitted.blocks[0].basis.degree, report.ridge, report.density_degree, report.shrinkage,
                    automatic.all.back().first);
        options.process = OuProcess{};
        const Model model = fit(context, file, options);
        ou.all.push_back(model_errors(context, model));
        degrees[static_cast<std::size_t>(model.blocks[0].basis.degree)] += 1.0 / seeds();
        options.process = {}, options.symmetry = Symmetry::even;
        even.all.push_back(model_errors(context, fit(context, file, options)));
    }
    automatic.log({"double well, fitted reference, automatic", 0}, 0.02);
    even.log({"double well, fitted reference, symmetry even", 0}, 0.02);
    const Ledger ledger{"double well, Ornstein-Uhlenbeck, automatic", 0};
    ou.log(ledger, 0.02);
    for (std::size_t k = 0; k < degrees.size(); ++k)
        if (degrees[k] > 0) ledger.reported("degree " + std::to_string(k) + " chosen", degrees[k]);
}

TEST(ValidatePapers, DoubleWellFixed) {
    const Context context;
    for (const auto& [n, beta] : {std::pair(5, 1.0),
                                  {7, 1.0},
                                  {9, 1.0},
                                  {11, 1.0},
                                  {5, 0.25},
                                  {5, 0.5},
                                  {5, 2.0},
                                  {9, 0.25},
                                  {9, 0.5},
                                  {9, 2.0}}) {
        Spread spread;
        for (int seed = 201; seed <= 200 + seeds(); ++seed)
            spread.all.push_back(
                plain_errors(context, well_samples(static_cast<std::uint64_t>(seed)), n, beta));
        spread.log(
            {"double well, n = " + std::to_string(n) + ", beta " + std::to_string(beta).substr(0, 4), 0});
    }
}

// Boltzmann targets
// ---------------------------------------------------------------------------------------------------------

Target lattice(LatticeTarget law) {
    Target target;
    target.law = std::move(law), target.kind = "lattice", target.source = "validation";
    return target;
}

/// A model's samples, as they are and weighted, against reference samples; floor: other samples of the law.
void log_model(const Context& context, const Ledger& ledger, const Target& target, const Model& model,
               int exact_stages, const Array<double>& reference, double ess_bar) {
    SampleOptions options;
    options.method = Method::ode, options.seed = ledger.seed;
    options.exact_stages = exact_stages, options.target = exact_stages ? &target : nullptr;
    const Generated samples = generate(context, model, 10'000, options);
    const Weights w = weigh(context, target, samples);
    const Figures plain = figures(context, samples.x, {}, reference, &target, ledger.seed),
                  weighted = figures(context, samples.x, w.weight, reference, &target, ledger.seed);
    ledger.at_least("ESS", w.ess_fraction, ess_bar);
    ledger.reported("log Z", w.log_partition), ledger.reported("log Z standard error", w.log_partition_error);
    for (const auto& [name, f] : {std::pair("", &plain), std::pair("weighted: ", &weighted)}) {
        ledger.reported(std::string(name) + "second moments", f->second_moment_error);
        ledger.reported(std::string(name) + "marginals, total variation", f->marginal_tv);
        ledger.reported(std::string(name) + "mean energy, standard deviations", f->energy_mean_error);
    }
}

void log_floor(const Context& context, const Ledger& ledger, const Target& target, const Array<double>& other,
               const Array<double>& reference) {
    const Figures floor = figures(context, other, {}, reference, &target, ledger.seed);
    ledger.reported("floor: second moments", floor.second_moment_error);
    ledger.reported("floor: marginals, total variation", floor.marginal_tv);
    ledger.reported("floor: mean energy, standard deviations", floor.energy_mean_error);
}

TEST(ValidatePapers, GinzburgLandauChain) {
    const Context context;
    const Folder folder;
    const Target target = lattice(ginzburg_landau({{50}, Boundary::zero}, 0.04, 0.125, 1.0 / 51));
    const TransferMatrix exact(std::get<LatticeTarget>(target.law));
    const auto draw = [&](std::uint64_t seed, std::size_t count) {
        Array<double> x(count, 50);
        exact.draw(context, seed, 0, count, x.data());
        return x;
    };
    const Array<double> reference = draw(100, 100'000);
    write_npy(folder / "train.npy", draw(1, 30'000));
    log_floor(context, {"GL 50, lambda 0.04", 1}, target, draw(2, 10'000), reference);
    note("GL 50, lambda 0.04", 1, "log Z, exact", exact.log_partition());
    for (const Structure structure : {Structure::flat, Structure::levels}) {
        FitOptions options = options_for(target);
        options.structure = structure;
        const bool flat = structure == Structure::flat;
        const Model model = fit(context, SampleFile(folder / "train.npy"), options);
        log_model(context, {flat ? "GL 50, flat" : "GL 50, levels", 1}, target, model, 0, reference,
                  flat ? 0.0 : 0.7);
    }
}

TEST(ValidatePapers, GinzburgLandauSquareBetweenRowsAndColumns) {
    const Context context;
    const Folder folder;
    const Target target =
        lattice(ginzburg_landau({{8, 8}, Boundary::fixed, {1, 1, -1, -1}}, 0.03, 0.125, 1.0 / 9));
    const auto draw = [&](std::uint64_t seed, std::size_t count, const std::string& name) {
        McmcOptions options;
        options.samples = count, options.seed = seed, options.method = McmcMethod::tempering;
        NpyWriter output(folder / name, {count, std::size_t{64}}, 8);
        note("GL 8x8, rows 1, columns -1", seed, "R-hat",
             run_mcmc(context, target, options, output).r_hat_max);
        output.commit();
        Array<double> x(count, 64);
        SampleFile(folder / name).read(0, count, x.data());
        return x;
    };
    draw(1, 30'000, "train.npy");
    const Array<double> reference = draw(2, 50'000, "reference.npy");
    log_floor(context, {"GL 8x8, rows 1, columns -1", 1}, target, draw(3, 10'000, "other.npy"), reference);
    for (const Structure structure : {Structure::flat, Structure::levels}) {
        FitOptions options = options_for(target);
        options.structure = structure;
        const Model model = fit(context, SampleFile(folder / "train.npy"), options);
        if (structure == Structure::flat)
            log_model(context, {"GL 8x8 fixed, flat", 1}, target, model, 0, reference, 0.0);
        else
            for (const int stages : {0, 2})
                log_model(context, {stages ? "GL 8x8 fixed, exact last levels" : "GL 8x8 fixed, levels", 1},
                          target, model, stages, reference, 0.7);
    }
}

} // namespace
} // namespace dynkin::validation

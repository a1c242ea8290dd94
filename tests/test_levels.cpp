// test_levels.cpp - conditional diffusions: the discrete map and its derivative, exact laws, whole models,
// files.
#include "cases.h"
#include "engine/fit.h"
#include "engine/level_flow.h"
#include "engine/mcmc.h"
#include "engine/model_file.h"
#include "engine/sampler.h"
#include "engine/tensor_file.h"
#include "engine/transfer_matrix.h"
#include "engine/weigh.h"

namespace dynkin {
namespace {

using kernels::kScoreTile;
using std::size_t;

Target chain(size_t sites, Boundary boundary, double spacing = 1.0 / 17) {
    Target target;
    target.law = ginzburg_landau({{sites}, boundary}, 0.03, 0.125, spacing);
    target.kind = "ginzburg_landau", target.source = "test";
    return target;
}

Array<double> exact_rows(const Target& target, size_t count, std::uint64_t seed) {
    Array<double> x(count, target.dimension());
    TransferMatrix(std::get<LatticeTarget>(target.law)).draw(cases::context(2), seed, 0, count, x.data());
    return x;
}

FitOptions options_for(const Target& target) {
    FitOptions options;
    options.structure = Structure::levels;
    options.lattice = *target.lattice(), options.reflection_symmetric = true,
    options.known_even = target.even();
    options.level_pairs = 10'000;
    return options;
}

class Levels : public cases::Folder {
  protected:
    Model fitted(const Target& target, size_t rows, size_t pairs = 10'000) const {
        FitOptions options = options_for(target);
        options.level_pairs = pairs;
        return fit(cases::context(2), data(exact_rows(target, rows, 1)), options);
    }
};

/// log q of one scalar at many values of x with fixed conditions: column 0 is the target.
std::vector<double> conditional(const Level& level, const std::vector<double>& x,
                                const std::vector<double>& given, Isa isa = Isa::automatic) {
    Level alone = level;
    alone.targets = {0}, alone.neighbours.resize(static_cast<size_t>(level.slots));
    std::iota(alone.neighbours.begin(), alone.neighbours.end(), 1);
    const LevelFlow<double> flow(cases::context(1, isa), alone, 0);
    std::vector<double> values((1 + given.size()) * kScoreTile), out;
    Array<double> space(flow.scratch() / sizeof(double));
    for (size_t first = 0; first < x.size(); first += kScoreTile) {
        double log_q[kScoreTile] = {};
        for (size_t p = 0; p < kScoreTile; ++p) {
            values[p] = x[std::min(first + p, x.size() - 1)];
            for (size_t s = 0; s < given.size(); ++s) values[(s + 1) * kScoreTile + p] = given[s];
        }
        flow.evaluate(values.data(), log_q, reinterpret_cast<std::byte*>(space.data()));
        out.insert(out.end(), log_q, log_q + std::min<size_t>(kScoreTile, x.size() - first));
    }
    return out;
}

TEST_F(Levels, DensitiesIntegrateToOne) {
    const Model model = fitted(chain(7, Boundary::zero), 5'000);
    std::vector<double> x;
    const double h = 0.002;
    for (int i = -1500; i <= 1500; ++i) x.push_back(h * i);
    for (const Level& level : model.levels)
        for (const auto& given : {std::vector<double>{0.9, 0.8}, {-1, 0.7}, {0, 0}, {0.1, -1.1}}) {
            double sum = 0;
            for (double log_q : conditional(level, x, given))
                sum += std::isfinite(log_q) ? h * std::exp(log_q) : 0;
            EXPECT_NEAR(sum, 1, 2e-5)
                << level.name; // the density of the discrete map, not of the flow it approximates
        }
}

TEST_F(Levels, DensityOfADrawIsWhatEvaluateFinds) {
    const Target target = chain(9, Boundary::free);
    const Model model = fitted(target, 5'000);
    SampleOptions options;
    options.method = Method::ode, options.seed = 3;
    const Samples samples = sample(cases::context(2), model, 500, options);
    std::vector<double> x(samples.rows.begin(), samples.rows.end());
    const auto again = log_density(cases::context(), model, 500, x.data());
    for (size_t n = 0; n < 500; ++n) EXPECT_NEAR(samples.log_density[n], again[n], 2e-3) << n;
    for (Isa isa : cases::isas()) {
        const auto other = log_density(cases::context(1, isa), model, 500, x.data());
        for (size_t n = 0; n < 500; ++n) EXPECT_NEAR(again[n], other[n], 1e-7) << n;
    }
    EXPECT_TRUE(cases::same_bytes(again, log_density(cases::context(2), model, 500, x.data())));
    // The rest of a tile and where a run is divided do not matter.
    const Context alone = cases::context();
    Sampling parts(alone, model, options, 500);
    std::vector<float> rows;
    for (size_t first : {size_t{0}, size_t{128}, size_t{320}})
        parts.run(first,
                  first == 0     ? 128
                  : first == 128 ? 192
                                 : 180,
                  [&](size_t, size_t count, const float* row, const double*) {
                      rows.insert(rows.end(), row, row + count * 9);
                  });
    EXPECT_TRUE(cases::same_bytes(rows, samples.rows));
}

/// A Gaussian ring: conditionals are linear and Gaussian, so levels hold it but for what is estimated.
TEST_F(Levels, GaussianRingsHaveTheExactDensity) {
    Target target;
    LatticeTarget law;
    law.lattice = {{8}, Boundary::periodic}, law.coupling = 3, law.site = {0, 0.5};
    target.law = law;
    const Model model = fit(cases::context(2), data(exact_rows(target, 40'000, 5)), options_for(target));
    SampleOptions options;
    options.method = Method::ode;
    const Samples samples = sample(cases::context(2), model, 4000, options);
    std::vector<double> x(samples.rows.begin(), samples.rows.end()), u(4000);
    energy(cases::context(), target, 4000, x.data(), u.data());
    for (size_t n = 0; n < 4000; ++n) u[n] = -u[n] - samples.log_density[n];
    const Weights w = importance_weights(u);
    EXPECT_GT(w.ess_fraction, 0.97);
    EXPECT_NEAR(w.log_partition, TransferMatrix(law).log_partition(), 4 * w.log_partition_error);
}

TEST_F(Levels, ChainsOfEveryBoundaryAndSideHaveTheExactLogZ) {
    for (Boundary boundary : {Boundary::zero, Boundary::free, Boundary::periodic})
        for (size_t sites : {boundary == Boundary::zero ? size_t{2} : size_t{5},
                             size_t{boundary == Boundary::zero ? 12u : 7u}}) {
            const Target target = chain(sites, boundary);
            const Model model = fitted(target, 10'000, 25'000);
            SampleOptions options;
            options.method = Method::ode;
            const Weights w =
                weigh(cases::context(2), sample(cases::context(2), model, 4000, options), target);
            const double exact = TransferMatrix(std::get<LatticeTarget>(target.law)).log_partition();
            EXPECT_GT(w.ess_fraction, 0.9) << sites;
            EXPECT_NEAR(w.log_partition, exact, 4 * w.log_partition_error) << sites;
            EXPECT_EQ(w.flagged, 0u);
        }
}

TEST_F(Levels, ChainsBetweenFixedValuesHaveTheExactLogZ) {
    Target target = chain(12, Boundary::fixed);
    std::get<LatticeTarget>(target.law).lattice.outside = {1, -1};
    const Model model = fitted(target, 10'000, 25'000);
    const double exact = TransferMatrix(std::get<LatticeTarget>(target.law)).log_partition();
    for (const int stages : {0, 2}) {
        SampleOptions options;
        options.method = Method::ode, options.target = &target, options.exact_stages = stages;
        const Weights w = weigh(cases::context(2), sample(cases::context(2), model, 4000, options), target);
        EXPECT_GT(w.ess_fraction, 0.9) << stages;
        EXPECT_NEAR(w.log_partition, exact, 4 * w.log_partition_error) << stages;
    }
    Target other = chain(12, Boundary::zero); // another boundary is another lattice
    SampleOptions options;
    options.method = Method::ode, options.target = &other, options.exact_stages = 1;
    cases::expect_error(
        ErrorKind::usage, [&] { sample(cases::context(), model, 64, options); }, "fixed [1, -1]");
}

/// Last levels of two axes that are drawn exactly, given the others by HMC: log w has no error but log Z's.
TEST_F(Levels, SquareBetweenRowsAndColumns) {
    Target target = chain(16, Boundary::free);
    target.law = ginzburg_landau({{4, 4}, Boundary::fixed, {1, 1, -1, -1}}, 0.03, 0.125, 1.0 / 5);
    McmcOptions mcmc;
    mcmc.samples = 5'000;
    NpyWriter output(path("square.npy"), {mcmc.samples, 16}, 8);
    run_mcmc(cases::context(2), target, mcmc, output);
    output.commit();
    FitOptions fitting = options_for(target);
    const Model model = fit(cases::context(2), SampleFile(path("square.npy")), fitting);
    std::vector<Weights> w;
    for (const int stages : {0, 1, 2}) {
        SampleOptions options;
        options.method = Method::ode, options.target = &target, options.exact_stages = stages;
        w.push_back(weigh(cases::context(2), sample(cases::context(2), model, 4000, options), target));
        EXPECT_GT(w.back().ess_fraction, 0.8) << stages;
        EXPECT_NEAR(w.back().log_partition, w.front().log_partition, 4 * w.front().log_partition_error)
            << stages;
    }
}

TEST_F(Levels, HalvingsFromAFlatSublattice) {
    const Target target = chain(12, Boundary::zero);
    FitOptions options = options_for(target);
    options.halvings = 2;
    const Model model = fit(cases::context(2), data(exact_rows(target, 20'000, 1)), options);
    ASSERT_EQ(model.blocks.size(), 1u);
    EXPECT_EQ(model.blocks[0].coordinates, (std::vector<int>{3, 7, 11}));
    SampleOptions sampling;
    sampling.method = Method::ode;
    const Weights w = weigh(cases::context(2), sample(cases::context(2), model, 4000, sampling), target);
    EXPECT_GT(w.ess_fraction, 0.85);
    EXPECT_NEAR(w.log_partition, TransferMatrix(std::get<LatticeTarget>(target.law)).log_partition(),
                4 * w.log_partition_error);
}

TEST_F(Levels, LastLevelsOfAKnownTargetAreDrawnExactly) {
    const Target target = chain(12, Boundary::free);
    const Model model = fitted(target, 5'000);
    const double exact = TransferMatrix(std::get<LatticeTarget>(target.law)).log_partition();
    SampleOptions options;
    options.method = Method::ode, options.target = &target;
    double ess[3];
    for (int stages : {0, 1, 2}) {
        options.exact_stages = stages;
        const Samples samples = sample(cases::context(2), model, 4000, options);
        const Weights w = weigh(cases::context(2), samples, target);
        EXPECT_NEAR(w.log_partition, exact, 4 * w.log_partition_error) << stages;
        EXPECT_EQ(samples.report.exact_sites > 0, stages > 0);
        ess[stages] = w.ess_fraction;
    }
    EXPECT_GT(ess[1], ess[0]);
    EXPECT_GT(ess[2], ess[0]);
}

/// Two sites of a ring of two: with both drawn from their conditionals the weights only hold what the first
/// one lacks.
TEST_F(Levels, ExactLevelsRefuseWhatTheyCannotDraw) {
    const Target target = chain(8, Boundary::periodic), other = chain(8, Boundary::free);
    const Model model = fitted(target, 2'000);
    SampleOptions options;
    options.exact_stages = 1;
    const auto expect_usage = [&](const std::string& part) {
        cases::expect_error(
            ErrorKind::usage, [&] { sample(cases::context(), model, 1, options); }, part);
    };
    expect_usage("target");
    options.target = &other;
    expect_usage("lattice");
    Target gaussian_target;
    Array<double> identity(8, 8);
    for (size_t j = 0; j < 8; ++j) identity(j, j) = 1;
    gaussian_target.law = gaussian(std::vector<double>(8, 0), identity), gaussian_target.kind = "gaussian";
    options.target = &gaussian_target;
    expect_usage("gaussian");
}

TEST_F(Levels, WithoutALatticeDependenceDecides) {
    const Target target = chain(16, Boundary::zero);
    FitOptions options;
    options.structure = Structure::levels;
    FitReport report;
    const Model model = fit(cases::context(2), data(exact_rows(target, 20'000, 1)), options, &report);
    EXPECT_EQ(model.blocks.size(), 1u);
    EXPECT_EQ(model.levels.size(), 12u);
    SampleOptions sampling;
    sampling.method = Method::ode;
    const Weights w = weigh(cases::context(2), sample(cases::context(2), model, 4000, sampling), target);
    EXPECT_GT(w.ess_fraction, 0.5);
    EXPECT_NEAR(w.log_partition, TransferMatrix(std::get<LatticeTarget>(target.law)).log_partition(),
                5 * w.log_partition_error);
}

TEST_F(Levels, AutomaticSaysWhy) {
    const Target target = chain(8, Boundary::zero, 1.0 / 33);
    FitOptions options = options_for(target);
    options.structure = Structure::automatic;
    FitReport report;
    const Model model = fit(cases::context(2), data(exact_rows(target, 6'000, 1)), options, &report);
    EXPECT_NE(report.structure_reason.find("held-out"), std::string::npos) << report.structure_reason;
    EXPECT_FALSE(model.levels.empty()) << report.structure_reason;
}

/// The stages' parts sum up to the variance of log w, which the effective sample size shows as well.
TEST_F(Levels, VarianceByStage) {
    const Target target = chain(9, Boundary::zero);
    const Model model = fitted(target, 3'000);
    const auto stages = stage_variances(cases::context(2), model, target, 1);
    ASSERT_EQ(stages.size(), model.levels.size());
    double sum = 0;
    size_t targets = 0;
    for (const StageVariance& s : stages) sum += s.own, targets += s.targets;
    EXPECT_EQ(targets, 9u);
    EXPECT_NEAR(sum, stages.front().from_here, 1e-12);
    SampleOptions options;
    options.method = Method::ode;
    const Weights w = weigh(cases::context(2), sample(cases::context(2), model, 4000, options), target);
    EXPECT_NEAR(-std::log(w.ess_fraction), stages.front().from_here, 0.5 * stages.front().from_here);
    const Target other = chain(8, Boundary::zero);
    cases::expect_error(
        ErrorKind::usage, [&] { stage_variances(cases::context(), model, other, 1); }, "dimension");
}

TEST_F(Levels, SameBytesForAnyNumberOfThreads) {
    const Target target = chain(6, Boundary::zero);
    const SampleFile file = data(exact_rows(target, 4'000, 1));
    const Model a = fit(cases::context(1), file, options_for(target)),
                b = fit(cases::context(2), file, options_for(target));
    ASSERT_EQ(a.levels.size(), b.levels.size());
    for (size_t k = 0; k < a.levels.size(); ++k)
        EXPECT_TRUE(cases::same_bytes(a.levels[k].coefficients, b.levels[k].coefficients)) << k;
}

TEST_F(Levels, TooFewSamplesAreRefused) {
    const Target target = chain(6, Boundary::zero);
    cases::expect_error(
        ErrorKind::input, [&] { fitted(target, 60); }, "expected at least");
}

TEST_F(Levels, SurviveTheDiskAndHostileChangesDoNot) {
    const Target target = chain(6, Boundary::zero);
    const Model model = fitted(target, 3'000);
    write_model(path("m.dynkin"), model);
    const Model back = read_model(path("m.dynkin"));
    const Array<double> rows = exact_rows(target, 64, 2);
    EXPECT_TRUE(cases::same_bytes(log_density(cases::context(), model, 64, rows.data()),
                                  log_density(cases::context(), back, 64, rows.data())));
    const TensorFile sound = read_tensor_file(path("m.dynkin"), "dynkin-model");
    const auto refused = [&](const std::string& name, const auto& values) {
        TensorFile file = sound;
        file.put("level1." + name, values);
        write_tensor_file(path("changed"), file);
        cases::expect_error(
            ErrorKind::input, [&] { read_model(path("changed")); }, "changed");
    };
    using I = std::vector<std::int64_t>;
    using D = std::vector<double>;
    refused("targets", I{99});
    refused("targets", I{});
    refused("targets", I{model.levels[0].targets[0]});        // twice
    refused("neighbours", I{model.levels[2].targets[0], -1}); // drawn later
    refused("neighbours", I{-2, -1});
    refused("shape", I{0, 2, 1, 99, 64});
    refused("shape", I{0, 2, 1000, 6, 64});
    refused("shape", I{0, 2, 1, 6, 0});
    refused("affine", D{0, 0});
    refused("affine", D{0, NAN});
    refused("spread", D{1, -1});
    refused("exponents", I{1, 2, 3});
    refused("exponents", I{-1, 0});
    refused("descriptors", I{0, 1, 2, 1});
    refused("groups", I{1});
    refused("coefficients", D{1, 2});
    TensorFile missing = sound;
    missing.tensors.erase("level1.transform");
    write_tensor_file(path("changed"), missing);
    cases::expect_error(
        ErrorKind::input, [&] { read_model(path("changed")); }, "transform");
}

} // namespace
} // namespace dynkin

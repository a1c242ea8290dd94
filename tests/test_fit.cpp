// test_fit.cpp - from samples to a model: exact on Gaussians, the same bytes however it runs, and what it
// refuses.
#include "cases.h"
#include "engine/fit.h"
#include "engine/sampler.h"
#include "engine/score.h"
#include "tolerance.h"
#include <nlohmann/json.hpp>

namespace dynkin {
namespace {

using std::size_t;

class Fit : public cases::Folder {
  protected:
    /// A symmetric, bimodal, correlated chain: quick to fit.
    Array<double> chain(size_t rows, size_t sites, unsigned seed = 1) const {
        Array<double> x = cases::rows(rows, sites, seed, 0.4);
        std::mt19937 engine(seed);
        for (size_t n = 0; n < rows; ++n) {
            const double sign = engine() % 2 ? 1 : -1;
            for (size_t j = 0; j < sites; ++j) x(n, j) *= sign;
        }
        return x;
    }
    FitOptions small(ReferenceKind kind = ReferenceKind::fitted) const {
        FitOptions options;
        options.process = kind == ReferenceKind::hermite ? Process(OuProcess{}) : Process(FittedProcess{});
        options.degree = 3, options.pairs = parse_pair_rules("all:1"), options.time_nodes = 6;
        return options;
    }
    ErrorKind failure(const Array<double>& x, const FitOptions& options,
                      std::string* message = nullptr) const {
        try {
            fit(cases::context(), data(x), options);
        } catch (const Error& error) {
            if (message) *message = error.what();
            return error.kind();
        }
        ADD_FAILURE() << "no error";
        return ErrorKind::io;
    }
};

bool same_model(const Model& a, const Model& b) {
    const Block &p = a.blocks[0], &q = b.blocks[0];
    return cases::same_bytes(p.coefficients, q.coefficients) && p.node_time == q.node_time &&
           p.lower == q.lower && cases::same_bytes(a.standardization.mean, b.standardization.mean) &&
           cases::same_bytes(a.standardization.scale, b.standardization.scale) &&
           a.configuration == b.configuration;
}

// ---- A Gaussian is exact, from the file to score()

TEST_F(Fit, GaussianDataHaveTheExactGaussianScoreAtEveryNode) {
    const Array<double> x = cases::draw(cases::gaussian(4), 3000, 1);
    const oracle::Gaussian law = oracle::empirical(x);
    FitOptions options = small(ReferenceKind::hermite);
    options.degree = 2, options.ridge = 0, options.t_min = 0, options.t_end = 3,
    options.symmetry = Symmetry::none;
    const Model model = fit(cases::context(2), data(x), options);
    const auto& scale = model.standardization.scale;
    oracle::Gaussian z = law; // of the standardised rows: mean 0, correlations
    for (size_t i = 0; i < 4; ++i) {
        EXPECT_NEAR(model.standardization.mean[i], law.mean[i], 1e-12);
        z.mean[i] = 0;
        for (size_t j = 0; j < 4; ++j) z.covariance(i, j) /= scale[i] * scale[j];
    }
    double worst = 0;
    for (double t : model.blocks[0].node_time) {
        const oracle::Gaussian exact = z.noised(t);
        const Array<double> at = cases::draw(exact, 300, 2);
        Array<double> points = at, found(300, 4);
        for (size_t n = 0; n < 300; ++n)
            for (size_t i = 0; i < 4; ++i) points(n, i) = law.mean[i] + scale[i] * at(n, i);
        score(cases::context(), model, t, 300, points.data(), found.data());
        double error = 0, size = 0;
        for (size_t n = 0; n < 300; ++n) {
            const auto expected = exact.score(at.row(n));
            for (size_t i = 0; i < 4; ++i) {
                error = std::max(error, std::abs(found(n, i) * scale[i] - expected[i]));
                size = std::max(size, std::abs(expected[i]));
            }
        }
        EXPECT_LE(error, tolerance::gaussian_score * size) << "t = " << t;
        worst = std::max(worst, error / size);
    }
    RecordProperty("relative_score_error", fmt::format("{:.3g}", worst));
}

TEST_F(Fit, ReportSaysWhatWasDone) {
    FitReport report;
    const Model model = fit(cases::context(2), data(chain(2000, 4)), small(), &report);
    EXPECT_EQ(report.samples, 2000u);
    EXPECT_EQ(report.dimension, 4u);
    EXPECT_EQ(report.dropped, 0u);
    EXPECT_EQ(report.basis_size, model.blocks[0].basis.terms.size());
    EXPECT_GT(report.moments, report.basis_size);
    EXPECT_GT(report.condition, 1);
    EXPECT_GT(report.lambda_1, 0);
    EXPECT_LT(report.heldout_loss, 0) << "better than no model";
    EXPECT_EQ(model.training_rows, 2000);
    EXPECT_EQ(model.sample_shape, std::vector<size_t>{4});
    const auto configuration = nlohmann::json::parse(model.configuration);
    EXPECT_EQ(configuration["degree"], 3);
    EXPECT_EQ(configuration["pairs"], "all:1");
    EXPECT_EQ(configuration["ridge"], report.ridge);
}

TEST_F(Fit, AutomaticRidgeIsTheCandidateOfLeastHeldOutLoss) {
    FitReport report;
    fit(cases::context(2), data(chain(2000, 4)), small(), &report);
    ASSERT_FALSE(report.ridge_losses.empty());
    double least = INFINITY;
    for (const auto& [ridge, loss] : report.ridge_losses) least = std::min(least, loss);
    EXPECT_EQ(report.heldout_loss, least);
    EXPECT_TRUE(std::isfinite(least));
    EXPECT_TRUE(
        std::any_of(report.ridge_losses.begin(), report.ridge_losses.end(), [&](const auto& candidate) {
            return candidate.first == report.ridge && candidate.second == least;
        }));
    FitOptions options = small();
    options.ridge = 0.02;
    fit(cases::context(2), data(chain(2000, 4)), options, &report);
    EXPECT_EQ(report.ridge, 0.02);
}

// ---- the same bytes

TEST_F(Fit, ThreadsAndBatchesLeaveTheSameBytes) {
    const SampleFile file = data(chain(3001, 4));
    for (ReferenceKind kind : {ReferenceKind::fitted, ReferenceKind::hermite}) {
        FitOptions options = small(kind);
        const Model one = fit(cases::context(1), file, options);
        EXPECT_TRUE(same_model(fit(cases::context(3), file, options), one));
        options.batch = 1280;
        EXPECT_TRUE(same_model(fit(cases::context(2), file, options), one));
    }
}

/// A context whose moment pass is interrupted after the first batch.
struct Interrupting {
    std::atomic<int> signal{0};
    Context context() {
        ContextOptions options;
        options.threads = 2, options.interrupt_signal = &signal;
        options.progress = [this](const ProgressEvent& event) {
            if (std::string(event.stage) == "moments") signal = 15;
        };
        return cases::context(options);
    }
};

TEST_F(Fit, AResumedRunEndsInTheSameBytes) {
    const SampleFile file = data(chain(6001, 4));
    FitOptions options = small();
    options.batch = 1280;
    const Model whole = fit(cases::context(), file, options);
    options.checkpoint = {path("checkpoint"), R"({"fit":1})", false, 1e9};
    Interrupting interrupting;
    const Context context = interrupting.context();
    EXPECT_THROW(fit(context, file, options), Interrupted);
    ASSERT_TRUE(std::filesystem::exists(path("checkpoint")));
    const TensorFile state = read_tensor_file(path("checkpoint"), "dynkin-checkpoint");
    EXPECT_EQ(state.u64("rows", 3)[2], cases::on_device() ? 5120u : 1280u) << "stopped after the first batch";
    options.checkpoint.resume = true;
    EXPECT_TRUE(same_model(fit(cases::context(), file, options), whole));
    EXPECT_TRUE(std::filesystem::exists(path("checkpoint")))
        << "the caller removes it once the model is safe";
}

TEST_F(Fit, CheckpointsOfAnotherRunOrPlanAreRefused) {
    const SampleFile file = data(chain(3001, 4));
    FitOptions options = small();
    options.batch = 1280, options.checkpoint = {path("checkpoint"), R"({"fit":1})", false, 1e9};
    Interrupting interrupting;
    EXPECT_THROW(fit(interrupting.context(), file, options), Interrupted);
    options.checkpoint.resume = true;
    FitOptions other = options;
    other.checkpoint.identity = R"({"fit":2})";
    cases::expect_error(
        ErrorKind::input, [&] { fit(cases::context(), file, other); }, "now '2'");
    other = options, other.pairs = parse_pair_rules("none"); // the same identity, but other sums
    cases::expect_error(ErrorKind::input, [&] { fit(cases::context(), file, other); });
}

TEST_F(Fit, AnInterruptBeforeTheMomentsStopsItToo) {
    const std::atomic<int> signal{2};
    ContextOptions options;
    options.interrupt_signal = &signal;
    EXPECT_THROW(fit(cases::context(options), data(chain(1000, 2)), small()), Interrupted);
}

// ---- choices

TEST_F(Fit, SymmetricDataAreRecognised) {
    FitReport report;
    const Model even = fit(cases::context(2), data(chain(4000, 4)), small(), &report);
    EXPECT_TRUE(report.even) << report.symmetry_reason;
    for (const Term& term : even.blocks[0].basis.terms) EXPECT_EQ((term.a + term.b) % 2, 0);
    for (double mean : even.standardization.mean) EXPECT_EQ(mean, 0);
    EXPECT_EQ(even.blocks[0].lower[1], -even.blocks[0].upper[1]);
    fit(cases::context(2), data(cases::rows(4000, 4, 1)), small(), &report);
    EXPECT_FALSE(report.even) << report.symmetry_reason;
    fit(cases::context(2), data(chain(900, 4)), small(), &report);
    EXPECT_FALSE(report.even) << "too few to tell";
    FitOptions options = small();
    options.symmetry = Symmetry::none;
    fit(cases::context(2), data(chain(4000, 4)), options, &report);
    EXPECT_FALSE(report.even);
    options.symmetry = Symmetry::automatic, options.known_even = true;
    fit(cases::context(2), data(cases::rows(900, 4, 1)), options, &report);
    EXPECT_TRUE(report.even);
}

TEST_F(Fit, LatticesPoolSitesAndChooseNeighbours) {
    FitOptions options = small();
    options.pairs.reset();
    const SampleFile file = data(chain(3000, 6));
    const size_t families[] = {1, 6, 3}; // periodic: one; free: each its own; with reflections: three pairs
    for (int k = 0; k < 3; ++k) {
        options.lattice = Lattice{{6}, k == 0 ? Boundary::periodic : Boundary::free};
        options.reflection_symmetric = k == 2;
        const Model model = fit(cases::context(2), file, options);
        const Block& block = model.blocks[0];
        EXPECT_EQ(block.reference.families.size(), families[k]);
        for (const Pair& pair : block.basis.pairs)
            EXPECT_EQ(pair.degree, options.lattice->distance(pair.i, pair.j) == 1 ? 3 : 1);
        EXPECT_EQ(block.basis.pairs.size(), 15u);
        const std::vector<std::vector<int>> family_of = {
            {0, 0, 0, 0, 0, 0}, {0, 1, 2, 3, 4, 5}, {0, 1, 2, 2, 1, 0}};
        EXPECT_EQ(block.reference.family_of, family_of[static_cast<size_t>(k)]);
        for (size_t j = 0; j < 6 && k == 0; ++j)
            EXPECT_EQ(model.standardization.scale[j], model.standardization.scale[0]);
    }
}

TEST_F(Fit, ValuesOutsideDivideTheClassesOfSites) {
    FitOptions options = small();
    options.reflection_symmetric = true;
    const SampleFile file = data(chain(3000, 6));
    const auto classes = [&](std::vector<size_t> shape, std::vector<double> outside) {
        options.lattice = Lattice{std::move(shape), Boundary::fixed, std::move(outside)};
        const Model model = fit(cases::context(2), file, options);
        EXPECT_EQ(*model.lattice, *options.lattice);
        return model.blocks[0].reference.family_of;
    };
    using I = std::vector<int>;
    EXPECT_EQ(classes({6}, {1, 1}), (I{0, 1, 2, 2, 1, 0}));
    EXPECT_EQ(classes({6}, {1, -1}), (I{0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(classes({2, 3}, {1, 1, -1, -1}), (I{0, 1, 0, 0, 1, 0}));
    EXPECT_EQ(classes({2, 3}, {1, 0, -1, -1}), (I{0, 1, 0, 2, 3, 2}));
}

/// Half of two normal laws of different width.
Array<double> two_widths(size_t rows) {
    std::mt19937 engine(3);
    std::normal_distribution<double> normal;
    Array<double> x(rows, 1);
    for (double& v : x) v = engine() % 2 ? -1 + 0.3 * normal(engine) : 1 + normal(engine);
    return x;
}

// A law that no polynomial of degree 8 is the energy of: its own moments remain, and the degree is chosen.
TEST_F(Fit, OneColumnChoosesItsDegree) {
    const Array<double> x = two_widths(20'000);
    FitOptions options;
    options.process = OuProcess{}, options.time_nodes = 6;
    FitReport report;
    const Model model = fit(cases::context(2), data(x), options, &report);
    EXPECT_LT(report.shrinkage, 0.5);
    ASSERT_GE(report.degree_losses.size(), 8u);
    const auto best = std::min_element(report.degree_losses.begin(), report.degree_losses.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    EXPECT_EQ(model.blocks[0].basis.degree, best->first);
    EXPECT_EQ(model.blocks[0].basis.terms.size(), model.blocks[0].coefficients.cols());
    EXPECT_EQ(report.basis_size, model.blocks[0].basis.terms.size());
    options.degree = best->first; // asked for, it gives the same model
    const Model asked = fit(cases::context(2), data(x), options);
    ASSERT_EQ(asked.blocks[0].coefficients.size(), model.blocks[0].coefficients.size());
    for (size_t k = 0; k < asked.blocks[0].coefficients.size(); ++k)
        EXPECT_NEAR(asked.blocks[0].coefficients[k], model.blocks[0].coefficients[k], 1e-9);
}

// A normal law shrinks to one, whose score has no other function than the first two; and few rows do as well.
TEST_F(Fit, OneColumnOfANormalLawHasALinearScore) {
    std::mt19937 engine(3);
    std::normal_distribution<double> normal;
    for (const size_t rows : {100u, 4000u}) {
        Array<double> x(rows, 1);
        for (double& v : x) v = 3 + 2 * normal(engine);
        FitOptions options;
        options.process = OuProcess{}, options.time_nodes = 6;
        FitReport report;
        const Model model = fit(cases::context(2), data(x), options, &report);
        EXPECT_EQ(report.density_degree, 2);
        EXPECT_EQ(report.shrinkage, 1);
        EXPECT_EQ(model.blocks[0].basis.degree, rows == 100 ? 10 : 16);
        for (const double c : model.blocks[0].coefficients)
            EXPECT_NEAR(c, 0, 5e-4); // standardised, nothing is left but what is cut off at 2.5 max|z|
    }
}

TEST_F(Fit, ConstantColumnsAreDroppedOnlyWhenAsked) {
    Array<double> x = chain(2000, 4);
    for (size_t n = 0; n < x.rows(); ++n) x(n, 2) = 7.25;
    FitOptions options = small();
    std::string message;
    EXPECT_EQ(failure(x, options, &message), ErrorKind::input);
    EXPECT_NE(message.find("column 2 is constant (7.25)"), std::string::npos) << message;
    options.drop_constant = true;
    FitReport report;
    const Model model = fit(cases::context(), data(x), options, &report);
    EXPECT_EQ(report.dropped, 1u);
    EXPECT_EQ(report.dimension, 3u);
    EXPECT_EQ(model.view.kept, (std::vector<int>{0, 1, 3}));
    EXPECT_EQ(model.view.constant[2], 7.25);
    const Samples out = sample(cases::context(), model, 64);
    for (size_t n = 0; n < 64; ++n) EXPECT_EQ(out.rows(n, 2), 7.25f);
    std::fill(x.begin(), x.end(), 1.0);
    EXPECT_EQ(failure(x, options), ErrorKind::input);
}

TEST_F(Fit, DroppedColumnsAndIntegerLevelsGoTogether) {
    Array<double> x = chain(2000, 4);
    for (double& value : x) value = std::clamp(std::floor(value * 2 + 4), 0.0, 7.0);
    for (size_t n = 0; n < x.rows(); ++n) x(n, 0) = 5;
    FitOptions options = small();
    options.drop_constant = true, options.dequantise = 8;
    const Model model = fit(cases::context(2), data(x), options);
    EXPECT_EQ(model.view.kept, (std::vector<int>{1, 2, 3}));
    const Samples out = sample(cases::context(2), model, 300);
    for (size_t n = 0; n < 300; ++n) {
        EXPECT_EQ(out.rows(n, 0), 5.0f);
        for (size_t j = 1; j < 4; ++j)
            EXPECT_TRUE(out.rows(n, j) == std::floor(out.rows(n, j)) && out.rows(n, j) <= 7);
    }
    x(3, 1) = 8;
    EXPECT_EQ(failure(x, options), ErrorKind::input);
}

TEST_F(Fit, SinglePrecisionChangesLittle) {
    const SampleFile file = data(chain(3000, 4));
    FitOptions options = small();
    options.ridge = 1e-2;
    const Model exact = fit(cases::context(), file, options);
    options.single_precision = true;
    const Model single = fit(cases::context(), file, options);
    const auto &a = exact.blocks[0].coefficients, &b = single.blocks[0].coefficients;
    double largest = 0, worst = 0;
    for (size_t k = 0; k < a.size(); ++k)
        largest = std::max(largest, std::abs(a[k])), worst = std::max(worst, std::abs(a[k] - b[k]));
    EXPECT_GT(worst, 0);
    EXPECT_LT(worst,
              100 * 1e-5 * largest); // ridge 1e-2: condition at most 100 times the error of a moment, 1e-5
}

// ---- refusals

TEST_F(Fit, DuplicatedColumnsAreNamed) {
    for (double sign : {1.0, -3.0}) {
        Array<double> x = chain(2000, 4);
        for (size_t n = 0; n < x.rows(); ++n) x(n, 3) = sign * x(n, 1) + 2;
        std::string message;
        EXPECT_EQ(failure(x, small(), &message), ErrorKind::input);
        EXPECT_NE(message.find("columns 1 and 3 are duplicates"), std::string::npos) << message;
    }
}

TEST_F(Fit, TooFewSamplesAndWrongLatticesAreRefused) {
    EXPECT_EQ(failure(chain(29, 2), small()), ErrorKind::input);
    EXPECT_EQ(failure(chain(1, 2), small()), ErrorKind::input);
    FitOptions options = small();
    options.lattice = Lattice{{5}, Boundary::free};
    std::string message;
    EXPECT_EQ(failure(chain(500, 4), options, &message), ErrorKind::input);
    EXPECT_NE(message.find("expected 5 columns"), std::string::npos) << message;
}

TEST_F(Fit, OptionsThatCannotBeAreUsageErrors) {
    const auto expect_usage = [&](auto change) {
        FitOptions options = small();
        change(options);
        EXPECT_EQ(failure(chain(500, 4), options), ErrorKind::usage);
    };
    expect_usage([](FitOptions& o) { o.degree = 25; });
    expect_usage([](FitOptions& o) { o.time_nodes = -1; });
    expect_usage([](FitOptions& o) { o.time_nodes = 1025; });
    expect_usage([](FitOptions& o) { o.t_min = 2, o.t_end = 1; });
    expect_usage([](FitOptions& o) { o.pairs = parse_pair_rules("nearest:2"); }); // no lattice
    expect_usage([](FitOptions& o) { o.pairs = parse_pair_rules("all:20"); });    // beyond the eigenfunctions
}

TEST_F(Fit, DataThatCannotBeModelledEndInAClearError) { // or in a model that samples finite numbers
    std::mt19937_64 engine(3);
    std::cauchy_distribution<double> cauchy;
    std::uniform_real_distribution<double> uniform;
    std::vector<std::pair<const char*, Array<double>>> hopeless;
    for (const char* name : {"two values", "Cauchy", "uniform", "one outlier", "tiny"})
        hopeless.emplace_back(name, Array<double>(1500, 2));
    for (size_t k = 0; k < 3000; ++k) {
        hopeless[0].second[k] = engine() % 2 ? 1 : 0;
        hopeless[1].second[k] = cauchy(engine);
        hopeless[2].second[k] = uniform(engine);
        hopeless[3].second[k] = k == 77 ? 1e9 : uniform(engine);
        hopeless[4].second[k] = 1e-200 * uniform(engine);
    }
    for (const auto& [name, x] : hopeless)
        for (int process = 0; process < 3; ++process) {
            FitOptions options = small();
            if (process == 0) options.process.reset();
            if (process == 1) options.process = OuProcess{};
            try {
                const Model model = fit(cases::context(2), data(x), options);
                for (Method method : {Method::sde, Method::ode}) {
                    SampleOptions how;
                    how.method = method, how.steps = 4;
                    for (float value : sample(cases::context(2), model, 200, how).rows)
                        EXPECT_TRUE(std::isfinite(value) || method == Method::ode) << name;
                }
            } catch (const Error& error) {
                EXPECT_TRUE(error.kind() == ErrorKind::input || error.kind() == ErrorKind::numerical)
                    << name << error.what();
                EXPECT_GT(std::string(error.what()).size(), 20u);
            }
        }
}

TEST_F(Fit, HeavyTailsFallBackToOrnsteinUhlenbeckUnlessAFittedReferenceWasAskedFor) {
    Array<double> x(3000, 2);
    std::mt19937_64 engine(3);
    std::student_t_distribution<double> student(2.5);
    for (double& value : x) value = student(engine);
    FitOptions options = small();
    std::string message;
    EXPECT_EQ(failure(x, options, &message), ErrorKind::input);
    EXPECT_NE(message.find("outside the box"), std::string::npos) << message;
    options.process.reset();
    EXPECT_EQ(fit(cases::context(), data(x), options).blocks[0].reference.families[0].kind,
              ReferenceKind::hermite);
    options.process.reset();
    EXPECT_EQ(fit(cases::context(), data(chain(2000, 2)), options).blocks[0].reference.families[0].kind,
              ReferenceKind::fitted);
}

} // namespace
} // namespace dynkin

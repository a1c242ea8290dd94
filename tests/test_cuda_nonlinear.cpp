// test_cuda_nonlinear.cpp - nonlinear processes on the device: paths, local laws, sums of scores, entropy
// production and reversed paths against naive sums and the CPU, in every order of threads and streams.
#include "cases.h"
#include "device_cases.h"
#include "engine/closure.h"
#include "engine/entropy_production.h"
#include "engine/nonlinear_model.h"
#include "kernels/nonlinear_cuda.h"
#include "tolerance.h"
#include <cmath>
#include <numbers>
#include <random>
#include <vector>

namespace dynkin {
namespace {

using std::size_t;

/// Sums over at most 1e4 paths of 8 draws, of numbers up to 1e2, in two orders: 8e4 eps 1e2.
constexpr double sum_rounding = 2e-9;

class CudaNonlinear : public cases::OnDevice {
  protected:
    const Context cpu = cases::cpu_context();
};

Array<double> normals(size_t count, size_t d, unsigned seed) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    Array<double> x(count, d);
    for (double& v : x) v = normal(engine);
    return x;
}

/// One of each kind, of one to five coordinates, one of them without noise.
std::vector<DriftProcess> processes() {
    MixtureDrift mixture{{1, 3}, Array<double>(2, 2), {0.5, 1}};
    mixture.means(0, 0) = 2, mixture.means(1, 1) = -1;
    PolynomialDrift polynomial;
    for (int i = 0; i < 5; ++i) {
        std::vector<int> own(5), cubed(5), next(5);
        own[static_cast<size_t>(i)] = 1, cubed[static_cast<size_t>(i)] = 3;
        next[static_cast<size_t>((i + 1) % 5)] = 1;
        polynomial.components.push_back({{1, own}, {-0.5, cubed}, {0.3, next}});
    }
    return {drift_process(DoubleWellDrift{}, {std::numbers::sqrt2}),
            drift_process(mixture, {std::numbers::sqrt2}), drift_process(LogisticDrift{3, 0.5}, {1, 0.5, 2}),
            drift_process(SwimmerDrift{}, {0, 0.45}), drift_process(polynomial, {1})};
}

ScoreBasis basis_of(const DriftProcess& process, BasisKind kind = BasisKind::polynomial, int order = 2) {
    const size_t d = process.dimension();
    if (kind == BasisKind::polynomial)
        return polynomial_basis(order, process.driven(), std::vector<double>(d, 0.1),
                                std::vector<double>(d, 0.8));
    return cosine_basis(order, process.driven(), std::vector<double>(d, -4), std::vector<double>(d, 4));
}

TEST_P(CudaNonlinear, PathsHaveTheBitsOfTheCpu) {
    for (const size_t count : cases::sample_counts())
        for (const DriftProcess& process : processes()) {
            const Array<double> start = normals(count, process.dimension(), 1);
            for (const Scheme scheme : {Scheme::heun, Scheme::euler}) {
                if (count > 31 && scheme == Scheme::euler) continue;
                const SimulateOptions options{.scheme = scheme, .step = count > 31 ? 0.01 : 0, .seed = 7};
                Paths here(cpu, process, start, 0.5, options), there(context(), process, start, 0.5, options);
                ASSERT_EQ(there.step(), here.step()) << process.kind;
                for (const double t : {0.13, 0.2}) {
                    here.advance(t), there.advance(t);
                    ASSERT_TRUE(cases::same_bytes(there.states(), here.states())) << process.kind << count;
                }
            }
        }
}

TEST_P(CudaNonlinear, GaussiansOfLocalLawsHaveTheBitsOfTheCpu) {
    for (const size_t count : cases::sample_counts())
        for (const DriftProcess& process : processes()) {
            if (count < 31 || (count > 31 && process.kind != "swimmer")) continue;
            const Array<double> states = normals(count, process.dimension(), 2);
            for (const auto kind : {Linearisation::euler, Linearisation::linear, Linearisation::ito})
                for (const double gap : {0.0, 0.07, 0.5}) { // the last one is doubled several times
                    if (count > 31 && (kind != Linearisation::ito || gap != 0.07)) continue;
                    const ScoreReference here = gaussian_reference(cpu, process, states, gap, kind),
                                         there = gaussian_reference(context(), process, states, gap, kind);
                    EXPECT_EQ(there.mean, here.mean) << process.kind << gap;
                    EXPECT_TRUE(cases::same_bytes(there.precision, here.precision)) << process.kind << gap;
                }
        }
}

void expect_close(const ScoreSums& a, const ScoreSums& b, const std::string& what) {
    ASSERT_EQ(a.groups.size(), b.groups.size());
    for (size_t g = 0; g < a.groups.size(); ++g) {
        const auto &one = a.groups[g], &other = b.groups[g];
        ASSERT_EQ(one.paths, other.paths);
        double largest = 1;
        for (size_t k = 0; k < one.right.size(); ++k) largest = std::max(largest, other.gram(k, k));
        for (size_t k = 0; k < one.right.size(); ++k) {
            ASSERT_NEAR(one.right[k], other.right[k], sum_rounding * largest) << what << k;
            for (size_t l = 0; l <= k; ++l)
                ASSERT_NEAR(one.gram(k, l), other.gram(k, l), sum_rounding * largest) << what << k << l;
        }
    }
}

TEST_P(CudaNonlinear, SumsOfScoresAreThoseOfTheCpu) {
    for (const size_t count : cases::sample_counts())
        for (const DriftProcess& process : processes()) {
            const size_t d = process.dimension();
            if (count > 31 && process.kind != "swimmer") continue;
            const Array<double> states = normals(count, d, 3);
            ScoreReference gaussian{ReferenceScore::gaussian, std::vector<double>(d, 0.2),
                                    Array<double>(d, d)};
            for (size_t i = 0; i < d; ++i) gaussian.precision(i, i) = 0.7;
            for (const auto kind : {BasisKind::polynomial, BasisKind::cosine}) {
                if (count > 31 && kind == BasisKind::cosine) continue;
                const ScoreBasis basis = basis_of(process, kind);
                ScoreReference reference = gaussian;
                if (kind == BasisKind::cosine) reference = {ReferenceScore::drift, {}, {}};
                const LocalDsmOptions options{.draws = kind == BasisKind::cosine ? 3 : 1,
                                              .antithetic = kind == BasisKind::cosine,
                                              .seed = 4};
                expect_close(local_score_sums(context(), process, basis, reference, states, 0.1, 2, options),
                             local_score_sums(cpu, process, basis, reference, states, 0.1, 2, options),
                             process.kind);
                expect_close(implicit_score_sums(context(), process, basis, reference, states),
                             implicit_score_sums(cpu, process, basis, reference, states), process.kind);
            }
        }
}

/// Of the same sums: both factorisations are backward stable, and a relative ridge of 1e-4 beside a trace of
/// K bounds the condition by 1e4 K, so solutions agree to K eps 1e4 K of their size.
TEST_P(CudaNonlinear, SolutionsAreThoseOfTheCpu) {
    for (const DriftProcess& process : processes()) {
        const size_t d = process.dimension();
        const Array<double> states = normals(400, d, 12);
        const ScoreBasis basis = basis_of(process, BasisKind::polynomial, d <= 2 ? 6 : 2);
        const ScoreReference reference = gaussian_reference(cpu, process, states, 0.1);
        for (const ScoreSums& sums : {local_score_sums(cpu, process, basis, reference, states, 0.1, 0),
                                      implicit_score_sums(cpu, process, basis, reference, states)}) {
            const auto check = [&](const ScoreSolution& found, const ScoreSolution& expected) {
                const double terms = static_cast<double>(basis.terms()),
                             bound = terms * terms * 1e4 * tolerance::eps;
                double largest = 0;
                for (const double c : expected.coefficients) largest = std::max(largest, std::abs(c));
                ASSERT_EQ(found.coefficients.size(), basis.terms());
                for (size_t k = 0; k < basis.terms(); ++k)
                    ASSERT_NEAR(found.coefficients[k], expected.coefficients[k], bound * largest);
                EXPECT_EQ(found.ridge, expected.ridge);
                EXPECT_EQ(found.ridge_raised, expected.ridge_raised);
                EXPECT_NEAR(found.condition, expected.condition, bound * expected.condition);
            };
            check(solve_score(context(), sums, 1e-4), solve_score(sums, 1e-4));
            const auto without = solve_score_without_each(context(), sums, 1e-4);
            ASSERT_EQ(without.size(), sums.groups.size());
            for (size_t g = 0; g < without.size(); ++g) check(without[g], solve_score(sums, 1e-4, g));
        }
    }
}

TEST_P(CudaNonlinear, SystemsWithoutASolutionAreErrorsOfTheCpu) {
    ScoreSums sums;
    sums.groups.assign(2, {1, Array<double>(2, 2), {1, 1}});
    const auto refused = [&](double ridge, const char* part) {
        cases::expect_error(
            ErrorKind::numerical, [&] { solve_score(context(), sums, ridge); }, part);
        cases::expect_error(
            ErrorKind::numerical, [&] { solve_score(cpu, sums, ridge); }, part);
    };
    refused(1e-4, "not finite or zero");
    sums.groups[0].gram(0, 0) = sums.groups[0].gram(1, 1) = 1, sums.groups[0].gram(1, 0) = NAN;
    refused(1e-4, "cannot be solved");
    sums.groups[0].gram(1, 0) = 1; // singular: a ridge is found
    EXPECT_TRUE(solve_score(context(), sums, 0).ridge_raised);
    EXPECT_EQ(solve_score(context(), sums, 0).ridge, solve_score(cpu, sums, 0).ridge);
}

TEST_P(CudaNonlinear, MomentsOfAClosureAreThoseOfTheCpu) {
    const DriftProcess process = processes()[3]; // the swimmer
    const Array<double> states = normals(500, 2, 13);
    const MomentClosure closure(process, 8, {0.7, 1});
    const Array<double> here = closure.propagator(cpu, 1), there = closure.propagator(context(), 1);
    double largest = 0;
    for (const double x : here) largest = std::max(largest, std::abs(x));
    for (size_t k = 0; k < here.size();
         ++k) // an exponential of norm 1e2: rounding of 1e2 eps, and products of 45
        ASSERT_NEAR(there[k], here[k], 1e-10 * largest);
    const ClosureChoice a = choose_closure_scale(cpu, process, states, 8, 0.5),
                        b = choose_closure_scale(context(), process, states, 8, 0.5);
    EXPECT_EQ(b.scale, a.scale);
    EXPECT_NEAR(b.change, a.change, 1e-10 * (1 + a.change));
}

/// One path of one coordinate, by hand: phi = u = x (He_1, unit scale), score samples from the formula.
TEST_P(CudaNonlinear, OnePathByHand) {
    const DriftProcess process =
        drift_process(DoubleWellDrift{1, 0, 0.5}, {2.0}); // f = -1/2, a Brownian path
    const ScoreBasis basis = polynomial_basis(1, {0}, {0}, {1});
    Array<double> state(1, 1);
    state(0, 0) = 0.3;
    const ScoreSums sums = local_score_sums(context(), process, basis, {ReferenceScore::none, {}, {}}, state,
                                            0.25, 0, {.draws = 1, .antithetic = true});
    EXPECT_EQ(sums.groups.size(), 1u);
    EXPECT_DOUBLE_EQ(sums.groups[0].gram(0, 0), 1); // phi' = 1, twice with weight 1/2
    EXPECT_NEAR(sums.groups[0].right[0], 0, 1e-15); // antithetic samples of the score cancel
    const ScoreSums implicit =
        implicit_score_sums(context(), process, basis, {ReferenceScore::drift, {}, {}}, state);
    EXPECT_DOUBLE_EQ(implicit.groups[0].right[0], 0.25); // - 2 f / g^2
}

TEST_P(CudaNonlinear, EntropyProductionIsThatOfTheCpu) {
    for (const DriftProcess& process : processes()) {
        if (process.driven().size() != process.dimension()) continue;
        for (const size_t count : cases::sample_counts()) {
            if (count < 31 || (count > 31 && process.dimension() != 2)) continue;
            const Array<double> states = normals(count, process.dimension(), 5);
            const ScoreBasis basis = basis_of(process, BasisKind::polynomial, 1);
            const ScoreReference reference = gaussian_reference(cpu, process, states, 0);
            const ScoreSums sums = implicit_score_sums(cpu, process, basis, reference, states);
            const EntropyProduction here = entropy_production(cpu, process, basis, reference, sums, 1e-4,
                                                              states),
                                    there = entropy_production(context(), process, basis, reference, sums,
                                                               1e-4, states);
            // Coefficients agree to 1e4 K^2 eps, K <= 5 (see above); the rate is a difference of 17.
            EXPECT_NEAR(there.plain, here.plain, 1e-10 * here.plain) << process.kind;
            EXPECT_NEAR(there.rate, here.rate, 2e-9 * here.plain) << process.kind;
            EXPECT_NEAR(there.error, here.error, 2e-9 * here.plain) << process.kind;
        }
    }
}

NonlinearFitOptions small_fit() { return {.order = 3, .t_end = 1, .nodes = 3, .seed = 1}; }

TEST_P(CudaNonlinear, FittedScoresAndReversedPaths) {
    for (const DriftProcess& process : processes()) {
        const Array<double> data = normals(200, process.dimension(), 6);
        NonlinearFitOptions options = small_fit();
        if (process.dimension() > 3) options.order = 1;
        const NonlinearModel model = fit_nonlinear(cpu, process, data, options),
                             other = fit_nonlinear(context(), process, data, options);
        EXPECT_EQ(other.step, model.step);
        for (size_t k = 0; k < model.nodes.size(); ++k)
            for (size_t c = 0; c < model.basis.terms(); ++c) // a relative ridge of 1e-4 bounds the condition
                EXPECT_NEAR(other.nodes[k].coefficients[c], model.nodes[k].coefficients[c], 1e-7)
                    << process.kind;
        for (const size_t count : cases::sample_counts()) {
            if (count > 31 && process.kind != "swimmer") continue;
            Array<double> here = draw_prior(model, StartLaw::gaussian, 3, 5, count), there = here;
            const size_t r = process.driven().size();
            std::vector<double> score(count * r), same(count * r);
            nonlinear_score(cpu, model, 0.5, count, here.data(), score.data());
            nonlinear_score(context(), model, 0.5, count, there.data(), same.data());
            EXPECT_TRUE(cases::same_bytes(same, score)) << process.kind;
            const ReverseReport a = reverse(cpu, model, here, 4, 5, 0.6, 2),
                                b = reverse(context(), model, there, 4, 5, 0.6, 2);
            EXPECT_EQ(a.runaways, b.runaways);
            EXPECT_EQ(a.steps, b.steps);
            EXPECT_TRUE(cases::same_bytes(there, here)) << process.kind << count;
        }
    }
}

TEST_P(CudaNonlinear, LittleMemoryGivesTheSameBytes) {
    const DriftProcess process = processes()[1];
    const Array<double> states = normals(2000, 2, 8);
    const Context narrow = cases::device_context(40'000); // of the 48 000 bytes of the paths
    Paths whole(context(), process, states, 0.1, {.step = 0.05}),
        parts(narrow, process, states, 0.1, {.step = 0.05});
    whole.advance(0.1), parts.advance(0.1);
    EXPECT_TRUE(cases::same_bytes(parts.states(), whole.states()));
    const ScoreReference one = gaussian_reference(context(), process, states, 0.1),
                         other = gaussian_reference(narrow, process, states, 0.1);
    EXPECT_EQ(one.mean, other.mean);
    EXPECT_LE(narrow.device_state().memory_peak(), 40'000u);
    cases::expect_error(
        ErrorKind::io, [&] { local_score_sums(narrow, process, basis_of(process), one, states, 0.1, 0); },
        "device memory");
}

TEST_P(CudaNonlinear, ErrorsAreThoseOfTheCpu) {
    const DriftProcess steep =
        drift_process(PolynomialDrift{{{{1e-3, {9}}}}}, {0.1}); // leaves the finite numbers far out
    Array<double> start(40, 1);
    start(33, 0) = 4;
    const auto message = [&](const Context& where, const auto& work) {
        try {
            work(where);
        } catch (const Error& error) {
            EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(ErrorKind::numerical));
            return std::string(error.what());
        }
        return std::string();
    };
    const auto simulate = [&](const Context& where) {
        Paths paths(where, steep, start, 1, {.step = 0.1});
        paths.advance(1);
    };
    EXPECT_NE(message(context(), simulate).find("path 33"), std::string::npos);
    EXPECT_EQ(message(context(), simulate), message(cpu, simulate));
    start(33, 0) = 1e40;
    const auto sums = [&](const Context& where) {
        local_score_sums(where, steep, basis_of(steep), {ReferenceScore::none, {}, {}}, start, 0.1, 0);
    };
    EXPECT_NE(message(context(), sums).find("path 33"), std::string::npos);
    EXPECT_EQ(message(context(), sums), message(cpu, sums));
}

TEST_P(CudaNonlinear, CallablesStayOnTheCpu) {
    const DriftProcess process =
        drift_process(drift_of(1, [](const auto* x, auto* f) { f[0] = -x[0]; }), {1.0});
    const Array<double> start = normals(20, 1, 9);
    Paths here(cpu, process, start, 1), there(context(), process, start, 1);
    here.advance(0.5), there.advance(0.5);
    EXPECT_TRUE(cases::same_bytes(there.states(), here.states()));
    EXPECT_EQ(device().memory_peak(), 0u);
    EXPECT_NE(drift_notice(context(), process).find("callable"), std::string::npos);
    EXPECT_EQ(drift_notice(context(), processes()[0]), "");
}

#if DYNKIN_EMULATED
TEST_P(CudaNonlinear, EachAllocationMayFail) {
    if (std::string_view(GetParam().name) != "forward") GTEST_SKIP() << "the order of threads is no matter";
    const DriftProcess process = processes()[1];
    const Array<double> data = normals(100, 2, 11);
    NonlinearFitOptions options = small_fit();
    options.order = 1, options.nodes = 2, options.simulate.step = 0.5;
    int failures = 0;
    for (int k = 1;; k += 3) {
        ASSERT_LT(k, 1000);
        cuemu::settings.failing_allocation = k;
        bool failed = false;
        try {
            Array<double> rows = data;
            reverse(context(), fit_nonlinear(context(), process, data, options), rows, 1);
        } catch (const Error& error) {
            failed = true;
            EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(ErrorKind::io)) << error.what();
        }
        cuemu::settings.failing_allocation = 0;
        if (!failed) break;
        ++failures;
    }
    EXPECT_GE(failures, 10);
}
#endif

#if DYNKIN_EMULATED
TEST(CudaNonlinearMemory, EachAllocationOfASolutionMayFail) {
    const DriftProcess process = processes()[1];
    const Array<double> states = normals(100, 2, 11);
    const ScoreBasis basis = basis_of(process);
    const ScoreSums sums =
        implicit_score_sums(cases::cpu_context(), process, basis, {ReferenceScore::none, {}, {}}, states);
    EXPECT_GE(cases::expect_each_allocation_may_fail(
                  [&](const Context& where) { solve_score_without_each(where, sums, 1e-4); }),
              10);
}
#endif

INSTANTIATE_TEST_SUITE_P(Run, CudaNonlinear, testing::ValuesIn(cases::device_runs()), cases::run_name);

} // namespace
} // namespace dynkin

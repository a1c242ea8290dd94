// test_cuda_sampler.cpp - the samplers of a block on the device against trajectories in float64 and the CPU.
#include "device_cases.h"
#include "trajectories.h"
#include <atomic>

namespace dynkin {
namespace {

using kernels::kScoreTile;
using oracle::Path;
using oracle::Trajectory;
using std::size_t;

constexpr int steps = 6;
constexpr std::uint64_t seed = 11;

/// Two kinds of reference, a basis of lists only and one with a matrix for all pairs.
struct Case {
    const char* name;
    bool fitted, all_pairs;
    size_t sites() const { return all_pairs ? 9 : 5; }
};
constexpr Case all_cases[] = {{"OU, lists", false, false},
                              {"OU, all pairs", false, true},
                              {"fitted, lists", true, false},
                              {"fitted, all pairs", true, true}};

/// Coefficients of size `strength` that die out as those of data do; standardisation is the identity.
Model model_of(const Case& which, double strength) {
    const int sites = static_cast<int>(which.sites());
    IndexSet set = make_index_set(sites, 4, cases::chain_pairs(sites, 3, which.all_pairs), 0, false);
    Reference reference = which.fitted ? cases::fitted_reference(sites) : cases::hermite_reference(sites, 4);
    Model model = cases::empty_model(std::move(reference), std::move(set), 8);
    Block& block = model.blocks.front();
    const auto c = cases::coefficients(block.basis.terms.size());
    for (size_t n = 0; n < block.node_time.size(); ++n)
        for (size_t k = 0; k < c.size(); ++k)
            block.coefficients(n, k) =
                strength * c[k] *
                std::exp(-oracle::eigenvalue(block.reference, block.basis.terms[k]) * block.node_time[n]);
    return model;
}

SampleOptions options_of(Method method) {
    SampleOptions options;
    options.method = method, options.steps = steps, options.seed = seed, options.estimate_error = false;
    return options;
}

/// The stationary starts of the first particles: what a model without coefficients gives.
Array<double> starts(const Case& which) {
    const Samples out = sample(cases::cpu_context(), model_of(which, 0), kScoreTile, options_of(Method::ode));
    Array<double> z(which.sites(), kScoreTile);
    for (size_t p = 0; p < kScoreTile; ++p)
        for (size_t i = 0; i < z.rows(); ++i) z(i, p) = static_cast<double>(out.rows(p, i));
    return z;
}

double stationary(const Model& model, const Array<double>& z, size_t p) {
    double sum = 0;
    for (size_t i = 0; i < z.rows(); ++i)
        sum += model.blocks.front().reference.of(static_cast<int>(i)).log_density(z(i, p));
    return sum;
}

/// What a tile must be, the same for all runs.
struct Expected {
    Model model;
    Trajectory<float> path, shared; ///< tolerances to the oracle, and between backends with the same tables
    Samples cpu;
    Expected(const Case& which, Method method)
        : model(model_of(which, 0.15)),
          path(model, method == Method::ode ? Path::ode : Path::sde, steps, seed),
          shared(model, method == Method::ode ? Path::ode : Path::sde, steps, seed,
                 oracle::Against::same_tables) {
        const Array<double> z = starts(which);
        path.run(z), shared.run(z);
        for (size_t p = 0; p < kScoreTile; ++p) path.end.log_q[p] += stationary(model, z, p);
        cpu = sample(cases::cpu_context(), model, 10'007, options_of(method));
    }
};
const Expected& expected(size_t which, Method method) {
    static std::map<std::pair<size_t, Method>, std::unique_ptr<Expected>> all;
    auto& one = all[{which, method}];
    if (!one) one = std::make_unique<Expected>(all_cases[which], method);
    return *one;
}

class CudaSampler : public cases::OnDevice {
  protected:
    /// Each backend is within the tolerance of the oracle, and they are within that of rounding of one
    /// another.
    void expect_trajectories(size_t which, Method method, size_t count) const {
        const Expected& e = expected(which, method);
        const Samples found = sample(context(), e.model, count, options_of(method));
        const size_t sites = all_cases[which].sites();
        double worst = 0, worst_log = 0;
        for (size_t p = 0; p < std::min<size_t>(count, kScoreTile); ++p) {
            for (size_t i = 0; i < sites; ++i) {
                const double tolerance = e.path.tolerance(i, p), x = static_cast<double>(found.rows(p, i));
                worst = std::max(worst, e.shared.tolerance(i, p));
                ASSERT_NEAR(x, e.path.end.z(i, p), tolerance) << p << ' ' << i;
                ASSERT_NEAR(static_cast<double>(e.cpu.rows(p, i)), e.path.end.z(i, p), tolerance) << p;
                ASSERT_NEAR(x, static_cast<double>(e.cpu.rows(p, i)), 2 * e.shared.tolerance(i, p)) << p;
            }
            if (method == Method::sde) continue;
            worst_log = std::max(worst_log, e.shared.log_tolerance[p]);
            ASSERT_NEAR(found.log_density[p], e.cpu.log_density[p], 2 * e.shared.log_tolerance[p]) << p;
            ASSERT_NEAR(found.log_density[p], e.path.end.log_q[p], e.path.log_tolerance[p]) << p;
            ASSERT_NEAR(e.cpu.log_density[p], e.path.end.log_q[p], e.path.log_tolerance[p]) << p;
        }
        if (count < kScoreTile) return;
        // Among ten thousand, particles come further out than in the tile: ten times its largest tolerance.
        for (size_t p = 0; p < count; ++p) {
            if (method == Method::ode && std::isinf(found.log_density[p])) {
                ASSERT_EQ(found.log_density[p], e.cpu.log_density[p]); // -inf: both have lost it
                continue;
            }
            for (size_t i = 0; i < sites; ++i)
                ASSERT_NEAR(found.rows(p, i), e.cpu.rows(p, i), 20 * worst) << p << ' ' << i;
            if (method == Method::sde) continue;
            ASSERT_NEAR(found.log_density[p], e.cpu.log_density[p], 20 * worst_log) << p;
        }
        EXPECT_EQ(found.report.runaways, e.cpu.report.runaways);
    }
};
INSTANTIATE_TEST_SUITE_P(Run, CudaSampler, testing::ValuesIn(cases::device_runs()), cases::run_name);

TEST_P(CudaSampler, OdeFollowsTheTrajectoriesOfTheOracleAndTheCpu) {
    for (size_t which = 0; which < std::size(all_cases); ++which)
        for (size_t count : {1u, 31u}) expect_trajectories(which, Method::ode, count);
}

TEST_P(CudaSampler, SdeFollowsTheTrajectoriesOfTheOracleAndTheCpu) {
    for (size_t which = 0; which < std::size(all_cases); ++which)
        for (size_t count : {1u, 31u}) expect_trajectories(which, Method::sde, count);
}

TEST_P(CudaSampler, ManyParticles) {
    for (size_t which : {0u, 2u})
        for (Method method : {Method::ode, Method::sde}) expect_trajectories(which, method, 10'007);
}

TEST_P(CudaSampler, LikelihoodsAreThoseOfTheOracleAndTheCpu) {
    for (size_t which = 0; which < std::size(all_cases); ++which) {
        const Expected& e = expected(which, Method::ode);
        const size_t d = all_cases[which].sites();
        Array<double> x(31, d), z(d, kScoreTile);
        for (size_t p = 0; p < 31; ++p)
            for (size_t i = 0; i < d; ++i) z(i, p) = x(p, i) = static_cast<double>(e.cpu.rows(p, i));
        Trajectory<double> path(e.model, Path::forwards, steps, seed);
        path.run(z);
        for (size_t count : {0u, 1u, 31u}) {
            const auto found = log_density(context(), e.model, count, x.data(), steps);
            const auto cpu = log_density(cases::cpu_context(), e.model, count, x.data(), steps);
            for (size_t p = 0; p < count; ++p) {
                // and the error of the end in log p_inf, to first order
                double tolerance = path.log_tolerance[p];
                for (size_t i = 0; i < d; ++i)
                    tolerance +=
                        2 * path.tolerance(i, p) *
                        (1 +
                         std::abs(e.model.blocks[0].reference.of(static_cast<int>(i)).dv(path.end.z(i, p))));
                const double exact = path.end.log_q[p] + stationary(e.model, path.end.z, p);
                ASSERT_NEAR(found[p], exact, tolerance) << p;
                ASSERT_NEAR(cpu[p], exact, tolerance) << p;
            }
        }
    }
}

TEST_P(CudaSampler, LikelihoodsOutOfReachAreNone) {
    const Model model = model_of(all_cases[2], 0.15);
    Array<double> x(3, 5);
    x(0, 1) = 100, x(1, 4) = NAN;
    const auto found = log_density(context(), model, 3, x.data(), 2);
    EXPECT_EQ(found[0], -INFINITY);
    EXPECT_EQ(found[1], -INFINITY);
    EXPECT_TRUE(std::isfinite(found[2]));
}

TEST_P(CudaSampler, ScalesColumnsAndStepDoublingAreThoseOfTheCpu) {
    Model model = model_of(all_cases[0], 0.15);
    model.standardization = {{1, -2, 3, 0, 5}, {2, 0.5, 1, 3, 0.25}};
    model.view.columns = 7, model.view.kept = {1, 2, 3, 5, 6}, model.view.constant = {9, 0, 0, 0, -4, 0, 0};
    SampleOptions options = options_of(Method::ode);
    options.estimate_error = true;
    const Samples found = sample(context(), model, 100, options),
                  cpu = sample(cases::cpu_context(), model, 100, options);
    // As among many particles; scales are 3 at most, and float32 rounds numbers up to 32.
    const auto& path = expected(0, Method::ode).shared;
    const double worst = *std::max_element(path.tolerance.begin(), path.tolerance.end());
    const double worst_log = *std::max_element(path.log_tolerance.begin(), path.log_tolerance.end());
    for (size_t p = 0; p < 100; ++p) {
        for (size_t j = 0; j < 7; ++j)
            ASSERT_NEAR(found.rows(p, j), cpu.rows(p, j), 3 * 20 * worst + 32 * tolerance::eps32);
        ASSERT_NEAR(found.log_density[p], cpu.log_density[p], 20 * worst_log);
    }
    EXPECT_GT(found.report.log_density_error, 0);
    EXPECT_NEAR(found.report.log_density_error, cpu.report.log_density_error, 20 * worst_log);
}

/// All that a sampling gives in parts.
Samples in_parts(const Context& context, const Model& model, Method method,
                 const std::vector<size_t>& parts) {
    Samples out;
    std::vector<float> rows;
    const size_t total = std::accumulate(parts.begin(), parts.end(), size_t{0});
    Sampling sampling(context, model, options_of(method), total);
    size_t first = 0;
    for (size_t part : parts) {
        out.report.runaways +=
            sampling
                .run(first, part,
                     [&](size_t, size_t count, const float* x, const double* log_q) {
                         rows.insert(rows.end(), x, x + count * model.view.columns);
                         if (log_q) out.log_density.insert(out.log_density.end(), log_q, log_q + count);
                     })
                .runaways;
        first += part;
    }
    out.rows = Array<float>(total, model.view.columns);
    std::copy(rows.begin(), rows.end(), out.rows.begin());
    return out;
}

TEST_P(CudaSampler, TheSameBytesHoweverTheSequenceIsDivided) {
    for (size_t which : {1u, 3u})
        for (Method method : {Method::ode, Method::sde}) {
            const Model model = model_of(all_cases[which], 0.15);
            const Samples whole = in_parts(context(), model, method, {300}),
                          parts = in_parts(context(), model, method, {37, 64, 1, 198});
            EXPECT_TRUE(cases::same_bytes(whole.rows, parts.rows)) << which;
            EXPECT_TRUE(cases::same_bytes(whole.log_density, parts.log_density)) << which;
            EXPECT_EQ(whole.report.runaways, parts.report.runaways);
        }
}

TEST_P(CudaSampler, AWrongModelGivesRunawaysNotNonsense) {
    const Model model = model_of(all_cases[0], 30);
    const Samples sde = sample(context(), model, 300, options_of(Method::sde)),
                  ode = sample(context(), model, 300, options_of(Method::ode));
    EXPECT_GT(sde.report.runaways, 0u);
    for (float x : sde.rows) EXPECT_TRUE(std::isfinite(x));
    for (double log_q : ode.log_density) EXPECT_TRUE(std::isfinite(log_q) || log_q == -INFINITY);
    EXPECT_GT(ode.report.runaways, 0u);
}

// ---- what does not depend on the order of threads

/// Three sites: a chunk of as many particles as there are.
Model small_model() {
    Model model =
        cases::empty_model(cases::fitted_reference(3), make_index_set(3, 2, {{0, 1, 1}}, 0, false), 4);
    for (double& c : model.blocks.front().coefficients) c = 0.01;
    return model;
}

TEST(CudaSamplerMemory, LittleMemoryMeansMorePartsAndTheSameBytes) {
    const Model model = small_model();
    SampleOptions options = options_of(Method::sde);
    options.steps = 1;
    const auto run = [&](const Context& context, size_t count) {
        return sample(context, model, count, options);
    };
    const Context plenty = cases::device_context();
    run(plenty, 100);
    const std::uint64_t one_chunk = plenty.device_state().memory_peak();
    const size_t count = 32768 + 100;
    const Samples whole = run(plenty, count);
    const Context little = cases::device_context(one_chunk);
    const Samples parts = run(little, count);
    EXPECT_TRUE(cases::same_bytes(whole.rows, parts.rows));
    EXPECT_GT(plenty.device_state().memory_peak(), one_chunk);
    EXPECT_LE(little.device_state().memory_peak(), one_chunk);
}

TEST(CudaSamplerMemory, TooLittleIsAnErrorThatNamesWhatWasNeeded) {
    const Context little = cases::device_context(1u << 20);
    cases::expect_error(
        ErrorKind::io, [&] { sample(little, small_model(), 10, options_of(Method::sde)); }, "device memory");
    EXPECT_EQ(little.device_state().memory_in_use(), 0u);
}

#if DYNKIN_EMULATED
TEST(CudaSamplerMemory, EachAllocationMayFail) {
    const Model model = model_of(all_cases[3], 0.15);
    const std::vector<double> x(3 * all_cases[3].sites(), 0.1);
    std::vector<double> gradient(x.size());
    for (const Method method : {Method::sde, Method::ode}) {
        SampleOptions options = options_of(method);
        options.steps = 2;
        EXPECT_GT(cases::expect_each_allocation_may_fail(
                      [&](const Context& where) { sample(where, model, 65, options); }),
                  10);
    }
    EXPECT_GT(cases::expect_each_allocation_may_fail(
                  [&](const Context& where) { log_density(where, model, 3, x.data(), 2); }),
              10);
    EXPECT_GT(cases::expect_each_allocation_may_fail(
                  [&](const Context& where) { score(where, model, 0.1, 3, x.data(), gradient.data()); }),
              10);
}
#endif

TEST(CudaSamplerMemory, AnInterruptStopsIt) {
    const std::atomic<int> signal{15};
    ContextOptions options;
    options.interrupt_signal = &signal, options.device = Device::cuda;
    const Context context(options);
    const Model model = small_model();
    for (Method method : {Method::ode, Method::sde})
        EXPECT_THROW(sample(context, model, 1000, options_of(method)), Interrupted);
    const double x[] = {0, 0, 0};
    EXPECT_THROW(log_density(context, model, 1, x), Interrupted);
    EXPECT_EQ(context.device_state().memory_in_use(), 0u);
}

} // namespace
} // namespace dynkin

// test_mcmc.cpp - HMC and tempering: exact moments, independence of threads, lanes and SIMD level,
// interruption, errors.
#include "backend.h"
#include "engine/error.h"
#include "engine/file.h"
#include "engine/mcmc.h"
#include "engine/transfer_matrix.h"
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <numeric>
#include <thread>
#include <unistd.h>

namespace dynkin {
namespace {

namespace fs = std::filesystem;

class Mcmc : public ::testing::Test {
  protected:
    void SetUp() override {
        folder_ =
            fs::temp_directory_path() / ("dynkin_mcmc_" + std::to_string(::getpid()) + "_" +
                                         ::testing::UnitTest::GetInstance()->current_test_info()->name());
        fs::remove_all(folder_);
        fs::create_directories(folder_);
    }
    void TearDown() override { fs::remove_all(folder_); }

    NpyWriter writer(const Target& target, const McmcOptions& o,
                     OutputFile::Mode mode = OutputFile::Mode::create) const {
        return NpyWriter(folder_ / "x.npy", {o.samples, target.dimension()}, 8, mode);
    }
    Array<double> run(const Target& target, const McmcOptions& o, McmcReport* report = nullptr,
                      ContextOptions where = {}) const {
        NpyWriter output = writer(target, o);
        const McmcReport r = run_mcmc(cases::context(where), target, o, output);
        output.commit();
        if (report) *report = r;
        return read_npy(folder_ / "x.npy");
    }
    fs::path folder_;
};

Target of(TargetVariant law) {
    Target t;
    t.law = std::move(law);
    t.kind = "test";
    return t;
}

Target gaussian_target() {
    Array<double> covariance(3, 3);
    const double a[] = {1, 0.6, 0.2, 0.6, 2, -0.3, 0.2, -0.3, 0.5};
    std::copy(std::begin(a), std::end(a), covariance.begin());
    return of(gaussian({0.5, -1, 2}, covariance));
}

Target chain_target(std::size_t d = 6) {
    return of(ginzburg_landau({{d}, Boundary::zero}, 0.03, 0.125, 1.0 / 17));
}

/// Mean of f(row) less `expected`, in standard errors from the means of single chains (row k chains + c is of
/// chain c): whatever the autocorrelation within a chain, chains are independent.
template <class F> double z_score(const Array<double>& x, std::size_t chains, const F& f, double expected) {
    std::vector<double> mean(chains, 0.0);
    const std::size_t rounds = x.rows() / chains;
    for (std::size_t n = 0; n < rounds * chains; ++n)
        mean[n % chains] += f(x.row(n)) / static_cast<double>(rounds);
    double grand = 0, square = 0;
    for (const double m : mean) grand += m / static_cast<double>(chains);
    for (const double m : mean) square += (m - grand) * (m - grand);
    return (grand - expected) / std::sqrt(square / static_cast<double>(chains * (chains - 1)));
}

constexpr double z_bound = 4.5; // some forty scores in this file, seeds fixed

TEST_F(Mcmc, GaussianMomentsAreExact) {
    const Target target = gaussian_target();
    const auto& law = std::get<GaussianTarget>(target.law);
    McmcOptions o;
    o.samples = 20000, o.seed = 4, o.chains = 64;
    McmcReport report;
    for (const McmcMethod method : {McmcMethod::hmc, McmcMethod::tempering}) {
        o.method = method;
        const Array<double> x = run(target, o, &report);
        EXPECT_LE(report.r_hat_max, 1.02);
        EXPECT_GE(report.ess_min, 14000);
        EXPECT_NEAR(report.acceptance, 0.8, 0.08);
        EXPECT_EQ(report.chains, 64u);
        for (std::size_t i = 0; i < 3; ++i) {
            EXPECT_LE(std::abs(z_score(
                          x, 64, [&](const double* v) { return v[i]; }, law.mean[i])),
                      z_bound);
            for (std::size_t j = 0; j <= i; ++j)
                EXPECT_LE(std::abs(z_score(
                              x, 64, [&](const double* v) { return v[i] * v[j]; },
                              law.covariance(i, j) + law.mean[i] * law.mean[j])),
                          z_bound);
        }
    }
}

/// Moments of exp(-u(x)) on [-4, 4] by the trapezium rule.
template <class U> double quadrature_moment(const U& u, int power) {
    double top = 0, bottom = 0;
    for (int k = -4000; k <= 4000; ++k) {
        const double x = k / 1000.0, w = std::exp(-u(x));
        top += std::pow(x, power) * w, bottom += w;
    }
    return top / bottom;
}

TEST_F(Mcmc, DoubleWellMomentsAreExact) {
    const auto u = [](double x) { return std::pow(x * x - 1, 2) + 0.2 * x; };
    McmcOptions o;
    o.samples = 20000, o.seed = 5, o.chains = 64;
    const Array<double> x = run(of(DoubleWellTarget{2, 1, 0.2}), o);
    for (int power = 1; power <= 4; ++power)
        EXPECT_LE(
            std::abs(z_score(
                x, 64, [&](const double* v) { return std::pow(v[1], power); }, quadrature_moment(u, power))),
            z_bound)
            << power;
}

Target split_target() {
    Array<double> narrow(1, 1);
    narrow[0] = 0.0625;
    return of(GaussianMixtureTarget{{0.3, 0.7}, {gaussian({-1.5}, narrow), gaussian({1.5}, narrow)}});
}

TEST_F(Mcmc, StuckChainsAreReported) {
    McmcOptions o;
    o.samples = 4000, o.warmup = 400, o.thinning = 5;
    McmcReport report;
    run(split_target(), o, &report);
    EXPECT_GE(report.r_hat_max, 1.5);
    EXPECT_LE(report.ess_min, 200);
}

TEST_F(Mcmc, TemperingCrossesBarriers) {
    McmcOptions o; // the barrier is 18 kT
    o.method = McmcMethod::tempering;
    o.samples = 4000, o.seed = 6, o.temperatures = 8;
    McmcReport report;
    const Array<double> x = run(split_target(), o, &report);
    EXPECT_EQ(report.temperatures, 8);
    EXPECT_EQ(report.beta.front(), 1);
    EXPECT_TRUE(std::is_sorted(report.beta.rbegin(), report.beta.rend()));
    EXPECT_GE(report.swap_acceptance, 0.3);
    EXPECT_LE(report.r_hat_max, 1.05);
    EXPECT_LE(std::abs(z_score(
                  x, report.chains, [](const double* v) { return v[0] < 0 ? 1.0 : 0.0; }, 0.3)),
              z_bound);
}

TEST_F(Mcmc, SameBytesForThreadsLanesAndSimdLevel) {
    for (const McmcMethod method : {McmcMethod::hmc, McmcMethod::tempering}) {
        McmcOptions o;
        o.method = method;
        o.samples = 1501, o.seed = 7, o.chains = 37, o.warmup = 120;
        o.temperatures = method == McmcMethod::tempering ? 3 : 0;
        McmcReport first, other;
        const Array<double> expected = run(chain_target(), o, &first, {.threads = 1, .isa = Isa::baseline});
        for (const int threads : {1, 3})
            for (const int lanes : {8, 16})
                for (const Isa isa : {Isa::baseline, best_isa()}) {
                    o.lanes = lanes;
                    const Array<double> x = run(chain_target(), o, &other, {.threads = threads, .isa = isa});
                    EXPECT_TRUE(std::equal(x.begin(), x.end(), expected.begin())) << threads << ' ' << lanes;
                    EXPECT_EQ(other.r_hat_max, first.r_hat_max);
                    EXPECT_EQ(other.ess_min, first.ess_min);
                    EXPECT_EQ(other.acceptance, first.acceptance);
                    EXPECT_EQ(other.swap_acceptance, first.swap_acceptance);
                }
    }
}

TEST_F(Mcmc, AnyNumberOfRows) {
    for (const std::size_t samples : {1u, 3u, 31u, cases::sized(401u, 65u)}) {
        McmcOptions o;
        o.samples = samples, o.chains = cases::sized(0, 8), o.warmup = 60;
        McmcReport report;
        const Array<double> x = run(chain_target(), o, &report);
        EXPECT_EQ(x.rows(), samples);
        EXPECT_TRUE(std::isfinite(report.r_hat_max) && report.r_hat_max > 0);
        EXPECT_LE(report.ess_min, 1.6 * static_cast<double>(samples) + 1);
    }
}

TEST_F(Mcmc, EnergiesOfTheRows) {
    for (const Boundary boundary : {Boundary::zero, Boundary::periodic})
        for (const std::size_t samples : {1501u, 90'001u}) { // all values recorded, and means of several
            Target target = of(ginzburg_landau({{16}, boundary}, 0.03, 0.125, 1.0 / 17)), edges = target;
            auto& law = std::get<LatticeTarget>(edges.law);
            const TransferMatrix exact(law);
            law.coupling = 1, law.site.clear(), law.site_constant = 0;
            McmcOptions o;
            o.samples = samples, o.seed = 9, o.chains = 64, o.warmup = 400, o.thinning = 4;
            McmcReport report;
            const Array<double> x = run(target, o, &report);
            std::vector<double> u(x.rows());
            const auto mean_of = [&](const Target& t) {
                energy(cases::context(), t, x.rows(), x.data(), u.data());
                return std::accumulate(u.begin(), u.end(), 0.0) / static_cast<double>(u.size());
            };
            EXPECT_NEAR(report.energy_mean, mean_of(target), 1e-12 * report.energy_mean);
            EXPECT_NEAR(report.edge_energy, mean_of(edges), 1e-12 * report.edge_energy);
            EXPECT_LE(std::abs(report.energy_mean - exact.energy_mean()), z_bound * report.energy_error);
            EXPECT_LE(std::abs(report.edge_energy - exact.edge_energy()), z_bound * report.edge_energy_error);
            // Independent rows would have this error; a thinning of 4 leaves correlation.
            double square = 0;
            for (const double v : u) square += std::pow(v - report.edge_energy, 2);
            const double independent = std::sqrt(square) / static_cast<double>(u.size());
            EXPECT_GE(report.edge_energy_error, 0.8 * independent);
            EXPECT_LE(report.edge_energy_error, 2 * independent);
        }
}

TEST_F(Mcmc, ChosenSettingsAreSensible) {
    McmcOptions o;
    o.samples = 6400;
    McmcReport report;
    run(chain_target(16), o, &report);
    EXPECT_EQ(report.chains, 64u);
    EXPECT_GE(report.thinning, 1.4 * report.autocorrelation_time);
    EXPECT_GE(report.ess_min, 0.8 * 6400);
}

// ---- interruption

/// Sets the signal after some time, on its own thread.
class Alarm {
  public:
    explicit Alarm(double seconds)
        : thread_([this, seconds] {
              const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
              while (!ended_ && std::chrono::steady_clock::now() < end)
                  std::this_thread::sleep_for(std::chrono::microseconds(200));
              if (!ended_) signal = 2;
          }) {}
    ~Alarm() {
        ended_ = true;
        thread_.join();
    }
    std::atomic<int> signal{0};

  private:
    std::atomic<bool> ended_{false};
    std::thread thread_;
};

class Resumed : public Mcmc {
  protected:
    McmcOptions options(McmcMethod method) const {
        McmcOptions o;
        o.method = method;
        o.samples = 30011, o.seed = 8, o.chains = 37, o.warmup = 2000, o.thinning = 3;
        o.temperatures = method == McmcMethod::tempering ? 3 : 0;
        o.checkpoint.path = folder_ / "x.checkpoint";
        o.checkpoint.identity = "{}";
        o.checkpoint.interval_seconds = 0.01;
        return o;
    }
    fs::path partial() const { return folder_ / "x.npy.partial"; }

    /// One attempt, interrupted after `seconds`; true when it reached its end.
    bool attempt(McmcOptions o, bool resume, double seconds, int threads, McmcReport& report) const {
        Alarm alarm(seconds);
        o.checkpoint.resume = resume;
        NpyWriter output =
            writer(chain_target(), o, resume ? OutputFile::Mode::resume : OutputFile::Mode::create);
        try {
            report = run_mcmc(cases::context({.threads = threads, .interrupt_signal = &alarm.signal}),
                              chain_target(), o, output);
        } catch (const Interrupted& interrupted) {
            EXPECT_EQ(interrupted.signal(), 2);
            EXPECT_TRUE(fs::exists(o.checkpoint.path));
            return false;
        }
        output.commit();
        return true;
    }
    static void expect_equal(const McmcReport& a, const McmcReport& b) {
        EXPECT_EQ(a.acceptance, b.acceptance);
        EXPECT_EQ(a.r_hat_max, b.r_hat_max);
        EXPECT_EQ(a.ess_min, b.ess_min);
        EXPECT_EQ(a.ess_energy, b.ess_energy);
        EXPECT_EQ(a.energy_mean, b.energy_mean);
        EXPECT_EQ(a.edge_energy, b.edge_energy);
        EXPECT_EQ(a.edge_energy_error, b.edge_energy_error);
        EXPECT_EQ(a.step_size, b.step_size);
        EXPECT_EQ(a.swap_acceptance, b.swap_acceptance);
        EXPECT_EQ(a.warmup, b.warmup);
        EXPECT_EQ(a.beta, b.beta);
    }
};

TEST_F(Resumed, SameBytesAndReportAfterManyInterruptions) {
    for (const McmcMethod method : {McmcMethod::hmc, McmcMethod::tempering}) {
        const McmcOptions o = options(method);
        McmcReport expected, report;
        const auto start = std::chrono::steady_clock::now();
        ASSERT_TRUE(attempt(o, false, 1e6, 2, expected));
        const double whole = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        const std::string bytes = read_file(folder_ / "x.npy");
        for (const double part : {0.03, 0.1, 0.3, 0.45}) { // of the whole time between interruptions
            fs::remove(folder_ / "x.npy");
            bool ended = attempt(o, false, part * whole, 2, report);
            for (int k = 0; !ended && k < 60; ++k)
                ended = attempt(o, true, part * whole * (1 + k % 3), 1 + k % 3, report);
            if (!ended) ended = attempt(o, true, 1e6, 2, report);
            ASSERT_TRUE(ended);
            EXPECT_EQ(read_file(folder_ / "x.npy"), bytes) << part;
            expect_equal(report, expected);
        }
    }
}

TEST_F(Resumed, RowsWrittenAfterTheLastSaveAreWrittenAgain) {
    // As after SIGKILL: the partial file is ahead of the checkpoint, and what is ahead is not to be trusted.
    const McmcOptions o = options(McmcMethod::hmc);
    McmcReport expected, report;
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(attempt(o, false, 1e6, 1, expected));
    const double whole = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const std::string bytes = read_file(folder_ / "x.npy");
    fs::remove(folder_ / "x.npy");
    const fs::path early = folder_ / "early";
    bool ended = attempt(o, false, 0.5 * whole, 1, report);
    for (int k = 0; !ended && k < 3; ++k) {
        fs::copy_file(o.checkpoint.path, early, fs::copy_options::overwrite_existing);
        ended = attempt(o, true, 0.1 * whole, 1, report);
    }
    if (!ended) {
        fs::copy_file(early, o.checkpoint.path, fs::copy_options::overwrite_existing);
        std::string content = read_file(partial());
        content += std::string(std::min<std::size_t>(4800, bytes.size() - content.size()), '\x7f');
        { std::ofstream(partial(), std::ios::binary | std::ios::trunc) << content; }
        ASSERT_TRUE(attempt(o, true, 1e6, 2, report));
    }
    EXPECT_EQ(read_file(folder_ / "x.npy"), bytes);
    expect_equal(report, expected);
}

TEST_F(Resumed, PartialOutputThatIsTooShortIsAnError) {
    McmcOptions o = options(McmcMethod::hmc);
    o.samples = 100000, o.thinning = 500;
    McmcReport report;
    bool ended = attempt(o, false, 0.2, 2, report);
    // On until rows are written.
    for (int k = 0; k < 100 && !ended && fs::file_size(partial()) < 4096; ++k)
        ended = attempt(o, true, 0.1, 2, report);
    ASSERT_FALSE(ended);
    fs::resize_file(partial(), 200);
    o.checkpoint.resume = true;
    NpyWriter output = writer(chain_target(), o, OutputFile::Mode::resume);
    try {
        run_mcmc(cases::context(), chain_target(), o, output);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::io) << error.what();
        EXPECT_NE(std::string(error.what()).find("x.npy"), std::string::npos);
    }
}

TEST_F(Resumed, WithoutACheckpointAnInterruptLeavesNothing) {
    McmcOptions o = options(McmcMethod::hmc);
    o.checkpoint = {};
    std::atomic<int> signal{15};
    {
        NpyWriter output = writer(chain_target(), o);
        EXPECT_THROW(run_mcmc(cases::context({.interrupt_signal = &signal}), chain_target(), o, output),
                     Interrupted);
    }
    EXPECT_TRUE(fs::is_empty(folder_));
}

// ---- errors

TEST_F(Mcmc, OptionsOutOfRange) {
    const auto refused = [&](const char* part, auto change, const Target& target = chain_target()) {
        McmcOptions o;
        o.samples = 10, o.warmup = 60;
        NpyWriter output = writer(target, o);
        change(o);
        try {
            run_mcmc(cases::context(), target, o, output);
            ADD_FAILURE() << part;
        } catch (const Error& error) {
            EXPECT_EQ(error.kind(), ErrorKind::usage) << error.what();
            EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
        }
    };
    refused("samples", [](McmcOptions& o) { o.samples = 0; });
    refused("warmup", [](McmcOptions& o) { o.warmup = 7; });
    refused("warmup", [](McmcOptions& o) { o.warmup = -1; });
    refused("thinning", [](McmcOptions& o) { o.thinning = -1; });
    refused("acceptance", [](McmcOptions& o) { o.target_acceptance = 1; });
    refused("acceptance", [](McmcOptions& o) { o.target_acceptance = NAN; });
    refused("temperatures", [](McmcOptions& o) { o.temperatures = 1; });
    refused("lanes", [](McmcOptions& o) { o.lanes = 4; });
    refused("2^32", [](McmcOptions& o) { o.samples = std::size_t{1} << 40, o.chains = 4; });
    refused(
        "energy", [](McmcOptions&) {}, of(ToyTarget{"moons"}));
}

TEST_F(Mcmc, EnergyThatIsNotFiniteIsNumerical) {
    Target target = gaussian_target();
    std::get<GaussianTarget>(target.law).mean[1] = NAN;
    McmcOptions o;
    o.samples = 10;
    NpyWriter output = writer(target, o);
    try {
        run_mcmc(cases::context(), target, o, output);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::numerical);
        EXPECT_NE(std::string(error.what()).find("not finite"), std::string::npos) << error.what();
    }
}

} // namespace
} // namespace dynkin

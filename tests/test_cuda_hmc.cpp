// test_cuda_hmc.cpp - Markov chains on the device: against a naive trajectory, and bit for bit against the
// CPU, kernel by kernel and run by run.
#include "cases.h"
#include "device_cases.h"
#include "engine/energy_law.h"
#include "engine/error.h"
#include "engine/file.h"
#include "engine/mcmc.h"
#include "engine/mcmc_chains.h"
#include "engine/mcmc_device.h"
#include "engine/mcmc_start.h"
#include "kernels/philox.h"
#include "tolerance.h"
#include <cmath>
#include <filesystem>
#include <unistd.h>

namespace dynkin {
namespace {

using cases::correlated;
namespace fs = std::filesystem;

Target of(TargetVariant law) {
    Target target;
    target.law = std::move(law), target.kind = "test";
    return target;
}

Target lattice(std::vector<std::size_t> shape, Boundary boundary = Boundary::zero) {
    LatticeTarget law;
    law.lattice.shape = std::move(shape), law.lattice.boundary = boundary;
    law.coupling = 1.08, law.site = {0.1, -2.08, 0, 1.04};
    return of(std::move(law));
}

std::vector<Target> targets() {
    GaussianMixtureTarget mixture;
    mixture.weights = {0.3, 0.7};
    mixture.components.push_back(correlated(2, -1)), mixture.components.push_back(correlated(2, 1.5));
    std::vector<Target> list;
    list.push_back(lattice({1}, Boundary::free)), list.push_back(lattice({6}));
    list.push_back(lattice({5, 8}, Boundary::periodic)), list.push_back(lattice({12, 11}));
    list.push_back(of(DoubleWellTarget{3, 1.5, 0.2})), list.push_back(of(ManyWellTarget{4, 1, 6, 0.5}));
    list.push_back(of(correlated(3, 0.5))), list.push_back(of(correlated(70, 0))),
        list.push_back(of(mixture));
    return list;
}

/// The same walkers on the CPU and on the device.
struct Twins {
    Target target;
    EnergyLaw law;
    McmcChains cpu;
    DeviceChains device;
    std::vector<std::vector<double>> scale;

    Twins(const Context& host, const Context& on_device, Target which, std::size_t chains, std::size_t levels)
        : target(std::move(which)), law(target), cpu(host, law.view(), chains, levels, 8),
          device(on_device, law.view(), chains, levels, 8) {
        const auto ranges = std::visit([](const auto& t) { return start_ranges(t); }, target.law);
        start_chains(cpu, ranges, 3, target), start_chains(device, ranges, 3, target);
        for (std::size_t k = 0; k < levels; ++k) {
            scale.emplace_back();
            for (std::size_t i = 0; i < ranges.size(); ++i)
                scale.back().push_back(0.5 + 0.1 * static_cast<double>(k) +
                                       0.01 * static_cast<double>(i % 7));
        }
    }
    std::vector<HmcLevel> levels(double step) const {
        std::vector<HmcLevel> list;
        for (std::size_t k = 0; k < scale.size(); ++k)
            list.push_back({1 / (1 + 0.4 * static_cast<double>(k)), step, 3.0 + static_cast<double>(k),
                            scale[k].data()});
        return list;
    }
    void advance(const HmcSpan& span, double step = 0.2) {
        cpu.advance(levels(step), span), device.advance(levels(step), span);
    }
    void expect_equal() {
        EXPECT_EQ(device.positions(), cpu.positions());
        for (std::size_t k = 0; k < cpu.levels(); ++k)
            for (std::size_t c = 0; c < cpu.chains(); ++c) {
                ASSERT_EQ(device.energy(k, c), cpu.energy(k, c)) << k << ' ' << c;
                ASSERT_EQ(device.acceptance(k, c), cpu.acceptance(k, c)) << k << ' ' << c;
                ASSERT_EQ(device.acceptance_sum(k, c), cpu.acceptance_sum(k, c)) << k << ' ' << c;
                if (k + 1 == cpu.levels()) continue;
                ASSERT_EQ(device.swap_sum(k, c), cpu.swap_sum(k, c)) << k << ' ' << c;
            }
    }
};

class CudaHmc : public cases::OnDevice {
  protected:
    const Context host_{ContextOptions{.device = Device::cpu, .threads = 1}};
};
INSTANTIATE_TEST_SUITE_P(Run, CudaHmc, testing::ValuesIn(cases::device_runs()), cases::run_name);

// A trajectory of n steps by the textbook, in long double: kicks and drifts of a mass on U = sum (x^2 - 1)^2.
// A step multiplies an error by at most 1 + h^2 |U''| with |U''| = |12 x^2 - 4| < 44 for |x| < 2 and h <
// 0.116, times the scales, so twelve steps by less than 1.6^12 < 300; each adds the rounding of some ten
// operations on numbers below 30.
TEST_P(CudaHmc, OneTrajectoryIsTheNaiveOne) {
    constexpr double bound = 300 * 12 * tolerance::few_operations(30);
    const std::size_t d = 3, chains = 1001;
    const Target target = of(DoubleWellTarget{d, 1, 0});
    const EnergyLaw law(target);
    DeviceChains device(context(), law.view(), chains, 1, 8);
    std::vector<double> start(chains * d);
    for (std::size_t n = 0; n < start.size(); ++n) start[n] = 1.5 * std::sin(static_cast<double>(n));
    device.set_positions(start);
    const double scale[] = {1, 0.5, 1.6};
    device.advance({{1, 0.06, 8, scale}}, {5, 7, 1, false});
    const std::vector<double> end = device.positions();
    const auto words = [](Stream stream, std::size_t chain, std::uint32_t slot) {
        return philox(5, stream, chain, 7, slot);
    };
    const int steps = static_cast<int>(8 * (0.5 + uniform(words(Stream::chain_accept, 0, 1).v[0])) + 0.5);
    std::size_t moved = 0;
    for (std::size_t c = 0; c < chains; ++c) {
        const RandomWords own = words(Stream::chain_accept, c, 0), w = words(Stream::chain_momentum, c, 0);
        const long double h = 0.06L * (0.8L + 0.4L * uniform(own.v[1]));
        double q[4];
        normal_pair(w.v[0], w.v[1], q[0], q[1]), normal_pair(w.v[2], w.v[3], q[2], q[3]);
        long double before = 0, after = 0, x[d];
        for (std::size_t i = 0; i < d; ++i) {
            const auto u = [](long double v) { return (v * v - 1) * (v * v - 1); };
            const auto force = [](long double v) { return 4 * v * (v * v - 1); };
            long double p = q[i];
            x[i] = start[c * d + i];
            before += u(x[i]) + 0.5L * p * p;
            for (int n = 0; n < steps; ++n) {
                p -= 0.5L * h * scale[i] * force(x[i]);
                x[i] += h * scale[i] * p;
                p -= 0.5L * h * scale[i] * force(x[i]);
            }
            after += u(x[i]) + 0.5L * p * p;
        }
        const bool accepted = std::log(uniform(own.v[0])) < static_cast<double>(before - after);
        moved += accepted;
        for (std::size_t i = 0; i < d; ++i)
            EXPECT_NEAR(end[c * d + i], accepted ? static_cast<double>(x[i]) : start[c * d + i], bound) << c;
    }
    EXPECT_GT(moved, 900u);
    EXPECT_LT(moved, chains); // both ways were seen
}

TEST_P(CudaHmc, SameBitsAsTheCpuForEveryLaw) {
    for (const Target& target : targets())
        for (const std::size_t chains : {std::size_t{1}, target.dimension() == 70 ? 3 : std::size_t{31}}) {
            Twins twins(host_, context(), target, chains, 3);
            SCOPED_TRACE(target.dimension());
            twins.advance({9, 0, 1, false}); // from afar: most are refused
            twins.expect_equal();
            twins.cpu.factor(1, 0) = twins.device.factor(1, 0) = 0.5;
            twins.advance({9, 1, 3, true});
            twins.advance({9, 4, 2, true}, 0.1);
            twins.expect_equal();
        }
}

TEST_P(CudaHmc, ManyChains) {
    Twins twins(host_, context(), lattice({6}), 10'007, 1);
    twins.advance({9, 0, 4, false});
    twins.expect_equal();
}

TEST_P(CudaHmc, StatesThatSharedMemoryDoesNotHold) {
    const std::size_t d = device().properties().shared_memory_a_block / (3 * sizeof(double)) + 7;
    Twins twins(host_, context(), lattice({d}), 2, 2);
    twins.advance({9, 0, 2, true}, 0.02);
    twins.expect_equal();
}

#if DYNKIN_EMULATED
TEST_P(CudaHmc, StatesOfEveryLawInDeviceMemory) {
    cuemu::settings.shared_memory = 2300; // the smallest block of states takes 2304 bytes
    const Context small = cases::device_context();
    GetParam().apply(); // scratch may be larger
    for (const Target& target : targets()) {
        Twins twins(host_, small, target, 3, 2); // blocks that are not full
        twins.advance({9, 0, 1, false}, 0.1);
        twins.expect_equal();
    }
}
#endif

TEST_P(CudaHmc, WatchedQuantitiesAndVariances) {
    for (const Target& target : {lattice({6}), lattice({12, 11}), of(ManyWellTarget{4, 1, 6, 0.5})}) {
        Twins twins(host_, context(), target, 31, 2);
        twins.advance({9, 0, 3, true});
        const std::size_t d = target.dimension();
        std::vector<double> mean(2 * d), square(2 * d), mean_there(2 * d), square_there(2 * d);
        twins.cpu.variances(mean.data(), square.data());
        twins.device.variances(mean_there.data(), square_there.data());
        EXPECT_EQ(mean_there, mean);
        EXPECT_EQ(square_there, square);
        for (const Quantities& q : {Quantities(d, 16, target.lattice() != nullptr), Quantities(d, 64)})
            for (const std::size_t level : {0u, 1u})
                for (const std::size_t count : {1u, 31u}) {
                    std::vector<double> here(q.count() * count), there(here.size());
                    twins.cpu.observe(q, level, count, here.data());
                    twins.device.observe(q, level, count, there.data());
                    EXPECT_EQ(there, here);
                }
    }
}

TEST_P(CudaHmc, KeptStatesInGroupsOfAnySize) {
    const Target target = lattice({6});
    const EnergyLaw law(target);
    const Quantities q(6, 64, true);
    const std::size_t chains = 31, rounds = 23;
    struct Seen {
        std::vector<double> rows, values;
        bool operator==(const Seen&) const = default;
    };
    const auto kept = [&](auto& walkers, const std::vector<HmcLevel>& levels) {
        Seen seen{std::vector<double>(rounds * chains * 6), std::vector<double>(rounds * chains * q.count())};
        walkers.advance_and_keep(levels, {9, 0, 2, true}, rounds, q, seen.rows.data(),
                                 [&](std::size_t c, std::size_t round, std::span<const double> values) {
                                     std::copy(values.begin(), values.end(),
                                               seen.values.begin() +
                                                   static_cast<long>((round * chains + c) * q.count()));
                                 });
        return seen;
    };
    Twins twins(host_, context(), target, chains, 2);
    const Seen expected = kept(twins.cpu, twins.levels(0.2));
    EXPECT_EQ(kept(twins.device, twins.levels(0.2)), expected);
    twins.expect_equal();
    // Room for few rounds at a time: 2 (d + quantities) chains doubles a round, after what the walkers need.
    const std::uint64_t walkers = device().memory_in_use();
    const Context narrow = cases::device_context(walkers / 2 + 60'000);
    Twins again(host_, narrow, target, chains, 2);
    EXPECT_EQ(kept(again.device, again.levels(0.2)), expected);
}

/// 5 chains at a time, and the last batch is smaller.
/// What device memory chains take beside their states.
std::uint64_t fixed_memory(const EnergyLaw& law, std::size_t levels, std::size_t d) {
    const Context context = cases::device_context();
    const DeviceChains chain(context, law.view(), 1, levels, 8);
    return context.device_state().memory_in_use() - 8 * levels * 2 * d;
}
/// Device memory for the states of some five chains.
std::uint64_t narrow_memory(const EnergyLaw& law, std::size_t chains, std::size_t levels, std::size_t d) {
    const std::uint64_t a_chain = 8 * (levels * 2 * d + 2 * d + 3 * most_quantities);
    return fixed_memory(law, levels, d) + 5 * levels * 8 * chains + 5 * a_chain + 6'000;
}

TEST_P(CudaHmc, BatchesOfChainsAreAllAtOnce) {
    for (const Target& target : {lattice({40}), of(correlated(40, 0))}) {
        const std::size_t chains = 31, levels = 2, d = 40;
        const Quantities q(d, 16, target.lattice() != nullptr);
        const EnergyLaw law(target);
        const std::uint64_t fixed = fixed_memory(law, levels, d);
        const Context narrow = cases::device_context(narrow_memory(law, chains, levels, d));
        Twins twins(host_, narrow, target, chains, levels);
        EXPECT_LT(narrow.device_state().memory_in_use(),
                  fixed + 8 * levels * 2 * d * chains); // not all states
        twins.advance({9, 0, 3, true});
        twins.expect_equal();
        std::vector<double> mean(levels * d), square(levels * d), mean_there(levels * d),
            square_there(levels * d);
        twins.cpu.variances(mean.data(), square.data());
        twins.device.variances(mean_there.data(), square_there.data());
        EXPECT_EQ(mean_there, mean);
        EXPECT_EQ(square_there, square);
        for (const std::size_t count : {std::size_t{3}, chains}) {
            std::vector<double> here(q.count() * count), there(here.size());
            twins.cpu.observe(q, 1, count, here.data()), twins.device.observe(q, 1, count, there.data());
            EXPECT_EQ(there, here);
        }
        const std::size_t rounds = 4;
        std::vector<double> rows(rounds * chains * d), rows_there(rows.size());
        std::vector<double> values(rounds * chains * q.count()), values_there(values.size());
        const auto put_to = [&](std::vector<double>& out) {
            return [&](std::size_t c, std::size_t round, std::span<const double> v) {
                std::copy(v.begin(), v.end(),
                          out.begin() + static_cast<long>((round * chains + c) * q.count()));
            };
        };
        twins.cpu.advance_and_keep(twins.levels(0.2), {9, 3, 2, true}, rounds, q, rows.data(),
                                   put_to(values));
        twins.device.advance_and_keep(twins.levels(0.2), {9, 3, 2, true}, rounds, q, rows_there.data(),
                                      put_to(values_there));
        EXPECT_EQ(rows_there, rows);
        EXPECT_EQ(values_there, values);
        twins.expect_equal();
        EXPECT_LE(narrow.device_state().memory_peak(), narrow.device_state().memory_limit());
    }
}

// ---- whole runs

class CudaDraw : public CudaHmc {
  protected:
    void SetUp() override {
        CudaHmc::SetUp();
        folder_ = fs::temp_directory_path() / ("dynkin_cuda_hmc_" + std::to_string(::getpid()));
        fs::remove_all(folder_), fs::create_directories(folder_);
    }
    void TearDown() override {
        fs::remove_all(folder_);
        CudaHmc::TearDown();
    }
    static McmcOptions options(McmcMethod method) {
        McmcOptions o;
        o.method = method, o.samples = 401, o.seed = 7, o.chains = 37, o.warmup = 60, o.thinning = 2;
        o.temperatures = method == McmcMethod::tempering ? 3 : 0;
        return o;
    }
    std::string run(const Context& where, const Target& target, const McmcOptions& o, McmcReport& report,
                    bool resume = false) const {
        NpyWriter output(folder_ / "x.npy", {o.samples, target.dimension()}, 8,
                         resume ? OutputFile::Mode::resume : OutputFile::Mode::create);
        report = run_mcmc(where, target, o, output);
        output.commit();
        return read_file(folder_ / "x.npy");
    }
    static void expect_equal(const McmcReport& a, const McmcReport& b) {
        EXPECT_EQ(a.acceptance, b.acceptance);
        EXPECT_EQ(a.swap_acceptance, b.swap_acceptance);
        EXPECT_EQ(a.r_hat_max, b.r_hat_max);
        EXPECT_EQ(a.ess_min, b.ess_min);
        EXPECT_EQ(a.energy_mean, b.energy_mean);
        EXPECT_EQ(a.energy_error, b.energy_error);
        EXPECT_EQ(a.edge_energy, b.edge_energy);
        EXPECT_EQ(a.edge_energy_error, b.edge_energy_error);
        EXPECT_EQ(a.step_size, b.step_size);
        EXPECT_EQ(a.leapfrog_steps, b.leapfrog_steps);
        EXPECT_EQ(a.beta, b.beta);
        EXPECT_EQ(a.autocorrelation_time, b.autocorrelation_time);
    }
    fs::path folder_;
};
INSTANTIATE_TEST_SUITE_P(Run, CudaDraw, testing::ValuesIn(cases::device_runs()), cases::run_name);

TEST_P(CudaDraw, SameBytesAndReportAsOnTheCpu) {
    for (const McmcMethod method : {McmcMethod::hmc, McmcMethod::tempering})
        for (const Target& target : {lattice({6}), of(DoubleWellTarget{2, 1, 0.2})}) {
            McmcReport here, there;
            const std::string expected = run(host_, target, options(method), here);
            EXPECT_EQ(run(context(), target, options(method), there), expected);
            expect_equal(there, here);
        }
}

TEST_P(CudaDraw, InterruptedRunsGoOnOnEitherDevice) {
    for (const McmcMethod method : {McmcMethod::hmc, McmcMethod::tempering}) {
        McmcOptions o = options(method);
        o.checkpoint.path = folder_ / "x.checkpoint", o.checkpoint.identity = "{}";
        McmcReport expected, report;
        const std::string bytes = run(host_, lattice({6}), o, expected);
        fs::remove(folder_ / "x.npy"), fs::remove(o.checkpoint.path);
        bool ended = false;
        for (int attempt = 0; !ended && attempt < 40; ++attempt) {
            std::atomic<int> signal{0};
            int reports = 0;
            ContextOptions where{.device = attempt % 3 == 2 ? Device::cpu : Device::cuda, .threads = 1};
            where.interrupt_signal = &signal;
            where.progress = [&](const ProgressEvent&) { signal = ++reports > 9 ? 2 : 0; };
            o.checkpoint.resume = attempt > 0;
            try {
                EXPECT_EQ(run(Context(where), lattice({6}), o, report, attempt > 0), bytes);
                ended = true;
            } catch (const Interrupted&) {
                EXPECT_TRUE(fs::exists(o.checkpoint.path));
            }
        }
        EXPECT_TRUE(ended);
        expect_equal(report, expected);
        fs::remove(o.checkpoint.path);
    }
}

TEST_P(CudaDraw, EnergyThatIsNotFiniteIsNumerical) {
    GaussianTarget law = correlated(3, 0);
    law.mean[1] = NAN;
    McmcReport report;
    try {
        run(context(), of(law), options(McmcMethod::hmc), report);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::numerical) << error.what();
    }
}

#if DYNKIN_EMULATED
class CudaDrawMemory : public CudaDraw {};
INSTANTIATE_TEST_SUITE_P(Run, CudaDrawMemory, testing::Values(cases::device_runs().front()), cases::run_name);

TEST_P(CudaDrawMemory, EachAllocationMayFail) {
    for (const McmcMethod method : {McmcMethod::hmc, McmcMethod::tempering}) {
        McmcOptions o = options(method);
        o.samples = 40, o.warmup = 50, o.chains = 5;
        EXPECT_GT(cases::expect_each_allocation_may_fail([&](const Context& where) {
                      McmcReport report;
                      run(where, lattice({2}), o, report);
                  }),
                  20);
    }
}

TEST_P(CudaDrawMemory, EachAllocationOfBatchesOfChainsMayFail) {
    const Target target = lattice({40});
    const EnergyLaw law(target);
    const std::size_t chains = 31, levels = 2, d = 40;
    const Quantities q(d, 16, true);
    const std::vector<double> scale(d, 0.5);
    const std::vector<HmcLevel> steps = {{1, 0.2, 1, scale.data()}, {0.7, 0.2, 1, scale.data()}};
    const auto ranges = std::visit([](const auto& t) { return start_ranges(t); }, target.law);
    std::vector<double> mean(levels * d), square(levels * d), values(chains * q.count()), rows(chains * d);
    const auto all = [&](const Context& where) {
        DeviceChains walkers(where, law.view(), chains, levels, 8);
        start_chains(walkers, ranges, 3, target);
        walkers.advance(steps, {9, 0, 1, true});
        walkers.variances(mean.data(), square.data());
        walkers.observe(q, 1, chains, values.data());
        walkers.advance_and_keep(steps, {9, 1, 1, true}, 1, q, rows.data(),
                                 [](std::size_t, std::size_t, std::span<const double>) {});
    };
    EXPECT_GT(cases::expect_each_allocation_may_fail(all, narrow_memory(law, chains, levels, d)), 10);
}

TEST_P(CudaDrawMemory, LaunchesMayFail) {
    McmcOptions o = options(McmcMethod::hmc);
    o.samples = 40, o.warmup = 50, o.chains = 5;
    for (const int k : {1, 2, 5, 60}) {
        const std::size_t before = cases::live_allocations();
        cuemu::settings.failing_launch = k;
        McmcReport report;
        cases::expect_error(ErrorKind::io, [&] { run(cases::device_context(), lattice({2}), o, report); });
        EXPECT_EQ(cases::live_allocations(), before) << k;
        GetParam().apply();
    }
}
#endif

} // namespace
} // namespace dynkin

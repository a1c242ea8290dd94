// test_cuda_local.cpp - chains that redraw tiles and single sites on the device: the bits of the CPU, move by
// move and run by run, and a stationary law that stays.
#include "cases.h"
#include "device_cases.h"
#include "engine/file.h"
#include "engine/local_chains.h"
#include "engine/local_device.h"
#include "engine/local_metropolis.h"
#include "engine/transfer_matrix.h"
#include "tolerance.h"
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <unistd.h>

namespace dynkin {
namespace {

namespace fs = std::filesystem;
using kernels::kScoreTile;
using std::size_t;

Target lattice(std::vector<size_t> shape, Boundary boundary, std::vector<double> site = {0, -1.5, 0, 1}) {
    LatticeTarget law;
    law.lattice = {std::move(shape), boundary}, law.coupling = 1.3, law.site = std::move(site);
    law.site_constant = 0.25;
    Target target;
    target.law = law, target.kind = "lattice";
    return target;
}
const LatticeTarget& law(const Target& target) { return std::get<LatticeTarget>(target.law); }

/// A level as no fit would make it: the moves must be right with any.
Level rough(const LevelPlan& plan) {
    Level level;
    level.name = plan.name, level.targets = plan.targets, level.neighbours = plan.neighbours;
    level.slots = plan.slots;
    const double share = 1.0 / plan.slots;
    level.predictor.assign(static_cast<size_t>(plan.slots), 0.8 * share);
    level.scale = 0.7;
    level.descriptors = {{1, {{1, {}}}}};
    for (int s = 0; s < plan.slots; ++s) level.descriptors[0].groups[0].entries.push_back({s, share});
    level.center = {0}, level.spread = {1}, level.lower = {-1.5}, level.upper = {1.5};
    level.exponents = {0, 1, 2}, level.transform = Array<double>(3, 3);
    for (size_t c = 0; c < 3; ++c) level.transform(c, c) = 1;
    level.family = fitted_family({0, 0, -0.2, 0, 0.3}, -3, 3), level.degree = 3;
    level.t_end = 3, level.steps = 6, level.node_time = level.step_times(4);
    level.coefficients = Array<double>(level.node_time.size(), 9);
    for (size_t k = 0; k < level.coefficients.size(); ++k)
        level.coefficients[k] = 0.04 * std::sin(static_cast<double>(k));
    return level;
}
Tile tile_for(const Target& target) {
    Tile tile;
    tile.side = 4, tile.axes = static_cast<int>(target.lattice()->shape.size());
    tile.coupling = law(target).coupling, tile.site = law(target).site;
    for (const LevelPlan& plan : tile_levels(TileShape(tile.side, tile.axes)))
        tile.levels.push_back(rough(plan));
    return tile;
}

/// The SIMD levels whose tables have the device's multiply-adds.
std::vector<Isa> fused_isas() {
    std::vector<Isa> out = cases::isas();
    out.erase(out.begin());
    return out;
}
Context on_cpu(Isa isa = Isa::automatic) {
    return Context({.device = Device::cpu, .threads = 1, .isa = isa});
}
Context on_device(std::uint64_t memory = 0, Isa isa = Isa::automatic) {
    return Context({.device = Device::cuda, .device_memory = memory, .threads = 1, .isa = isa});
}

/// What chains leave: states, moves, and what was put and kept of each round.
struct Trace {
    Array<float> states;
    std::vector<std::uint64_t> counts;
    std::vector<double> values;
    std::vector<float> rows;
};
Array<float> start(size_t chains, size_t d) {
    Array<float> x((chains + kScoreTile - 1) / kScoreTile, d * kScoreTile);
    for (size_t n = 0; n < x.size(); ++n) x[n] = 1.3f * std::sin(static_cast<float>(n * 7 % 1009));
    return x;
}
template <class Chains>
Trace run(const Context& context, const Target& target, const Tile* tile, size_t chains, size_t rounds) {
    Chains moving(context, target, tile, chains);
    const size_t d = target.dimension();
    moving.set_states(start(chains, d));
    const Quantities quantities(d, 5, true);
    Trace out;
    out.values.resize(rounds * chains * quantities.count()), out.rows.resize(rounds * chains * d);
    const LocalWatch::Put put = [&](size_t chain, size_t round, std::span<const double> values) {
        std::copy(values.begin(), values.end(),
                  out.values.begin() +
                      static_cast<std::ptrdiff_t>((round * chains + chain) * quantities.count()));
    };
    // From 30 on: a sweep of all sites is at 32.
    moving.advance({7, 30, 1, 1, true}, {quantities, 0, nullptr, put});
    moving.advance({7, 31, rounds, 2, false}, {quantities, chains, out.rows.data(), put});
    out.states = moving.states();
    for (const MoveCount& count : moving.counts())
        out.counts.insert(out.counts.end(), {count.accepted, count.proposed});
    return out;
}
void expect_equal(const Trace& found, const Trace& expected, const std::string& name) {
    EXPECT_TRUE(cases::same_bytes(found.states, expected.states)) << name;
    EXPECT_EQ(found.counts, expected.counts) << name;
    EXPECT_TRUE(cases::same_bytes(found.values, expected.values)) << name;
    EXPECT_TRUE(cases::same_bytes(found.rows, expected.rows)) << name;
}

Target held(std::vector<size_t> shape, std::vector<double> values) {
    Target target = lattice(std::move(shape), Boundary::fixed);
    std::get<LatticeTarget>(target.law).lattice.outside = std::move(values);
    return target;
}

class CudaLocal : public cases::OnDevice {};
INSTANTIATE_TEST_SUITE_P(Run, CudaLocal, testing::ValuesIn(cases::device_runs()), cases::run_name);

TEST_P(CudaLocal, HeatBathsHaveTheBitsOfTheCpu) {
    for (const Isa isa : fused_isas())
        for (const Target& target :
             {lattice({1}, Boundary::zero), lattice({7}, Boundary::periodic, {0.2, -1.5, 0, 1}),
              lattice({3, 5}, Boundary::periodic), lattice({4, 3}, Boundary::free),
              lattice({2, 3, 2}, Boundary::zero, {0, 0.1, 0, 0.2, 0, 0.05}), held({4, 3}, {1, 1, -1, -0.5})})
            expect_equal(run<DeviceLocalChains>(on_device(0, isa), target, nullptr, 67, 3),
                         run<LocalChains>(on_cpu(isa), target, nullptr, 67, 3), target.lattice()->describe());
}

TEST_P(CudaLocal, TilesHaveTheBitsOfTheCpu) {
    for (const Isa isa : fused_isas())
        for (const Target& target :
             {lattice({12}, Boundary::periodic), lattice({4}, Boundary::periodic),
              lattice({3}, Boundary::zero), lattice({9, 8}, Boundary::periodic),
              lattice({5, 6}, Boundary::free, {0.2, -1.5, 0, 1}), lattice({3, 3, 4}, Boundary::zero),
              held({5}, {1, -0.5}), held({5, 4}, {1, 1, -1, -0.5})}) {
            if (target.lattice()->shape.size() > 1 && isa != fused_isas().back()) continue; // many tables
            const Tile tile = tile_for(target);
            const Trace found = run<DeviceLocalChains>(on_device(0, isa), target, &tile, 9, 2);
            expect_equal(found, run<LocalChains>(on_cpu(isa), target, &tile, 9, 2),
                         target.lattice()->describe());
            EXPECT_GT(found.counts[0], 0u);
            EXPECT_LT(found.counts[0], found.counts[1]);
        }
}

TEST_P(CudaLocal, ResultsDoNotDependOnTheMemory) {
    const Target target = lattice({9, 4}, Boundary::periodic);
    const Tile tile = tile_for(target);
    const Trace whole = run<DeviceLocalChains>(context(), target, &tile, 200, 5);
    const std::uint64_t memory = 2'400'000; // of which tables 2.2 MB
    const Context small = on_device(memory);
    expect_equal(run<DeviceLocalChains>(small, target, &tile, 200, 5), whole, "small");
    EXPECT_LE(small.device_state().memory_peak(), memory);
    const Context none = on_device(100'000);
    cases::expect_error(
        ErrorKind::io, [&] { run<DeviceLocalChains>(none, target, &tile, 1, 1); }, "device memory");
}

/// Exact states, and their second moments and energy after some iterations: ten thousand chains.
void expect_stationary(const Context& context, const Target& target, const Tile* tile) {
    const size_t d = target.dimension(), count = cases::sample_counts().back();
    const TransferMatrix exact(law(target));
    Array<double> rows(count, d);
    exact.draw(cases::cpu_context(), 2, 0, count, rows.data());
    DeviceLocalChains chains(context, target, tile, count);
    Array<float> x((count + kScoreTile - 1) / kScoreTile, d * kScoreTile);
    for (size_t c = 0; c < count; ++c)
        for (size_t i = 0; i < d; ++i)
            x(c / kScoreTile, i * kScoreTile + c % kScoreTile) = static_cast<float>(rows(c, i));
    chains.set_states(x);
    const Quantities quantities(d, d, true);
    std::vector<double> values(count * quantities.count());
    const LocalWatch::Put put = [&](size_t chain, size_t, std::span<const double> of_chain) {
        std::copy(of_chain.begin(), of_chain.end(),
                  values.begin() + static_cast<std::ptrdiff_t>(chain * quantities.count()));
    };
    chains.advance({11, 1, 1, 2, false}, {quantities, count, nullptr, put});
    const auto expect_mean = [&](const auto& value, double expected, const char* what) {
        double sum = 0, square = 0;
        for (size_t c = 0; c < count; ++c) {
            const double v = value(values.data() + c * quantities.count());
            sum += v, square += v * v;
        }
        const double n = static_cast<double>(count);
        EXPECT_NEAR(sum / n, expected, tolerance::z_bound * std::sqrt((square / n - sum * sum / (n * n)) / n))
            << what;
    };
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j <= i; ++j)
            expect_mean([&](const double* v) { return v[i] * v[j]; }, exact.second_moments()(i, j), "moment");
    expect_mean([&](const double* v) { return v[quantities.energy()]; }, exact.energy_mean(), "energy");
}

TEST_P(CudaLocal, TheLawStaysAsItIs) {
    expect_stationary(context(), lattice({5}, Boundary::periodic), nullptr);
    const Target target = lattice({5}, Boundary::zero);
    const Tile tile = tile_for(target);
    expect_stationary(context(), target, &tile);
}

class CudaLocalRuns : public cases::OnDevice {
  protected:
    CudaLocalRuns() { fs::create_directories(folder()); }
    ~CudaLocalRuns() override {
        std::error_code ignored;
        fs::remove_all(folder(), ignored);
    }
    static fs::path folder() { return fs::temp_directory_path() / fmt::format("dynkin-{}", ::getpid()); }
    static std::string draw(const Context& where, const Tile* tile, LocalOptions options, McmcReport& report,
                            bool resumed = false) {
        const Target target = lattice({6}, Boundary::periodic);
        const fs::path name = folder() / "draw.npy";
        NpyWriter output(name, {options.samples, 6}, 4,
                         resumed ? OutputFile::Mode::resume : OutputFile::Mode::create);
        report = run_local_metropolis(where, target, tile, options, output);
        output.commit();
        return read_file(name);
    }
    static LocalOptions small() {
        LocalOptions options;
        options.samples = 700, options.chains = 70, options.seed = 3, options.warmup = 64,
        options.thinning = 2;
        return options;
    }
    static void expect_equal(const McmcReport& found, const McmcReport& expected) {
        EXPECT_EQ(found.acceptance, expected.acceptance);
        EXPECT_EQ(found.r_hat_max, expected.r_hat_max);
        EXPECT_EQ(found.ess_min, expected.ess_min);
        EXPECT_EQ(found.energy_mean, expected.energy_mean);
        EXPECT_EQ(found.edge_energy, expected.edge_energy);
        EXPECT_EQ(found.autocorrelation_time, expected.autocorrelation_time);
    }
    const Tile tile_ = tile_for(lattice({6}, Boundary::periodic));
};
INSTANTIATE_TEST_SUITE_P(Run, CudaLocalRuns, testing::ValuesIn(cases::device_runs()), cases::run_name);

TEST_P(CudaLocalRuns, TheWholeRunIsTheSame) {
    if (fused_isas().empty()) GTEST_SKIP() << "the processor does not fuse multiply-adds";
    for (const Tile* tile : {static_cast<const Tile*>(nullptr), &tile_}) {
        McmcReport here, there;
        const std::string expected = draw(on_cpu(), tile, small(), here);
        EXPECT_EQ(draw(context(), tile, small(), there), expected);
        expect_equal(there, here);
    }
}

#if DYNKIN_EMULATED
class CudaLocalMemory : public CudaLocalRuns {};
INSTANTIATE_TEST_SUITE_P(Run, CudaLocalMemory, testing::Values(cases::device_runs().front()),
                         cases::run_name);

TEST_P(CudaLocalMemory, EachAllocationMayFail) {
    LocalOptions options = small();
    options.samples = 6, options.chains = 3, options.warmup = 64;
    for (const Tile* tile : {static_cast<const Tile*>(nullptr), &tile_})
        EXPECT_GT(cases::expect_each_allocation_may_fail([&](const Context& where) {
                      McmcReport report;
                      draw(where, tile, options, report);
                  }),
                  10);
}
#endif

TEST_P(CudaLocalRuns, InterruptedRunsGoOnOnEitherDevice) {
    if (fused_isas().empty()) GTEST_SKIP() << "the processor does not fuse multiply-adds";
    LocalOptions o = small();
    o.samples = 1400;
    McmcReport expected, report;
    const std::string bytes = draw(on_cpu(), &tile_, o, expected);
    o.checkpoint.path = folder() / "draw.checkpoint", o.checkpoint.identity = "{}";
    int interrupted = 0;
    bool ended = false;
    for (int attempt = 0; !ended && attempt < 20; ++attempt) {
        std::atomic<int> signal{0};
        int reports = 0;
        ContextOptions where{.device = attempt % 3 == 2 ? Device::cpu : Device::cuda, .threads = 1};
        where.interrupt_signal = &signal;
        where.progress = [&](const ProgressEvent&) { signal = ++reports > attempt ? 2 : 0; };
        o.checkpoint.resume = attempt > 0;
        try {
            EXPECT_EQ(draw(Context(where), &tile_, o, report,
                           attempt > 0 && fs::exists(folder() / "draw.npy.partial")),
                      bytes);
            ended = true;
        } catch (const Interrupted&) {
            ++interrupted;
        }
    }
    EXPECT_TRUE(ended);
    EXPECT_GT(interrupted, 0);
    expect_equal(report, expected);
}

} // namespace
} // namespace dynkin

// test_local_metropolis.cpp - tiles and heat bath: a stationary law that stays, independence of threads,
// resumption, and what is refused. The statistical bars are in validation/validate_local_metropolis.cpp.
#include "cases.h"
#include "engine/error.h"
#include "engine/file.h"
#include "engine/local_metropolis.h"
#include "engine/local_moves.h"
#include "engine/model_file.h"
#include "engine/tile_fit.h"
#include "engine/transfer_matrix.h"
#include "tolerance.h"
#include <atomic>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace dynkin {
namespace {

using kernels::kScoreTile;
using std::size_t;

Target chain(size_t sites, const char* boundary) {
    return parse_target(
        fmt::format("[target]\nkind = \"lattice\"\nshape = [{}]\nboundary = \"{}\"\ncoupling = 1.5\n"
                    "site = [0, -2, 0, 1.5]\n",
                    sites, boundary),
        "chain");
}
Target held(size_t sites, double first, double last) {
    Target target = chain(sites, "zero");
    std::get<LatticeTarget>(target.law).lattice.outside = {first, last};
    return target;
}
const LatticeTarget& law(const Target& target) { return std::get<LatticeTarget>(target.law); }

Array<double> exact_rows(const Target& target, std::uint64_t seed, size_t count) {
    Array<double> x(count, target.dimension());
    TransferMatrix(law(target)).draw(cases::context(2), seed, 0, count, x.data());
    return x;
}

std::filesystem::path file(const std::string& name) { return testing::TempDir() + "local_" + name; }

/// A tile of side 4 for chains, from few rows: acceptance is then below one, which is what the tests need.
/// Its fit is not tested here.
const Tile& tile() {
    static const Tile fitted = [] {
        const Target target = chain(12, "periodic");
        write_npy(file("train.npy"), exact_rows(target, 1, cases::sized(2000, 500)));
        TileOptions options;
        options.side = 4, options.pairs = cases::sized(20'000, 150), options.ridge = 1e-4;
        return fit_tile(Context({.device = Device::cpu}), SampleFile(file("train.npy")), target, options);
    }();
    return fitted;
}

/// Exact states, a few iterations, and their second moments and energy against those of other exact states.
void expect_stationary(const Target& target, const Tile* with) {
    const LocalMoves moves(cases::context(), target, with);
    const size_t d = target.dimension(), blocks = 150, count = blocks * kScoreTile;
    Array<double> rows = exact_rows(target, 2, count);
    std::vector<float> x(d * kScoreTile), scratch(moves.scratch() + 1);
    Array<double> after(count, d);
    MoveCount moved;
    for (size_t b = 0; b < blocks; ++b) {
        for (size_t i = 0; i < d; ++i)
            for (size_t p = 0; p < kScoreTile; ++p)
                x[i * kScoreTile + p] = static_cast<float>(rows(b * kScoreTile + p, i));
        for (std::uint32_t step = 0; step < 3; ++step)
            moves.advance(7, b * kScoreTile, step, false, x.data(), scratch.data(), moved);
        for (size_t i = 0; i < d; ++i)
            for (size_t p = 0; p < kScoreTile; ++p)
                after(b * kScoreTile + p, i) = static_cast<double>(x[i * kScoreTile + p]);
    }
    EXPECT_GT(moved.accepted, moved.proposed / 2);
    const TransferMatrix exact(law(target));
    const auto& second = exact.second_moments();
    const double n = static_cast<double>(count);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j <= i; ++j) {
            double sum = 0, square = 0;
            for (size_t k = 0; k < count; ++k) {
                const double v = after(k, i) * after(k, j);
                sum += v, square += v * v;
            }
            const double error = std::sqrt((square / n - sum * sum / (n * n)) / n);
            EXPECT_NEAR(sum / n, second(i, j), tolerance::z_bound * error) << i << ' ' << j;
        }
    std::vector<double> u(count);
    energy(cases::context(2), target, count, after.data(), u.data());
    double sum = 0, square = 0;
    for (double v : u) sum += v, square += v * v;
    EXPECT_NEAR(sum / n, exact.energy_mean(),
                tolerance::z_bound * std::sqrt((square / n - sum * sum / (n * n)) / n));
}

TEST(LocalMetropolis, TilesLeaveTheLawAsItIs) {
    for (const char* boundary : {"periodic", "zero", "free"}) expect_stationary(chain(10, boundary), &tile());
    expect_stationary(chain(4, "periodic"), &tile()); // both ends of the frame are one site
    expect_stationary(chain(3, "zero"), &tile());     // walls alone
    expect_stationary(held(10, 1, -0.5), &tile());
}

TEST(LocalMetropolis, HeatBathLeavesTheLawAsItIs) {
    for (const char* boundary : {"periodic", "zero", "free"}) expect_stationary(chain(7, boundary), nullptr);
    expect_stationary(held(7, 1, -0.5), nullptr);
}

TEST(LocalMetropolis, EnergiesAreThoseOfTheTarget) {
    for (Target target : {chain(5, "periodic"), chain(5, "zero"), chain(5, "free"), held(5, 1, -0.5)}) {
        std::get<LatticeTarget>(target.law).site_constant = 0.25;
        const LocalMoves moves(cases::context(), target, nullptr);
        std::vector<float> x(5 * kScoreTile);
        Array<double> rows(kScoreTile, 5);
        for (size_t i = 0; i < 5; ++i)
            for (size_t p = 0; p < kScoreTile; ++p) {
                x[i * kScoreTile + p] = std::sin(static_cast<float>(i * 7 + p));
                rows(p, i) = static_cast<double>(x[i * kScoreTile + p]);
            }
        double expected[kScoreTile];
        energy(cases::context(), target, kScoreTile, rows.data(), expected);
        for (size_t first = 0; first < kScoreTile; first += LocalMoves::lanes) {
            LocalMoves::Watched watched;
            moves.observe(x.data() + first, watched);
            for (size_t p = 0; p < LocalMoves::lanes; ++p)
                EXPECT_NEAR(watched[0][p], expected[first + p], tolerance::few_operations(20));
        }
    }
}

std::string draw(const Context& context, const Tile* with, LocalOptions options, const std::string& name,
                 OutputFile::Mode mode = OutputFile::Mode::create) {
    const Target target = chain(12, "periodic");
    NpyWriter output(file(name), {options.samples, 12}, 4, mode);
    run_local_metropolis(context, target, with, options, output);
    output.commit();
    return read_file(file(name));
}
LocalOptions small() {
    LocalOptions options;
    options.samples = cases::sized(3000, 201), options.chains = cases::sized(100, 33);
    options.seed = 3, options.warmup = 64, options.thinning = 2;
    return options;
}

TEST(LocalMetropolis, BytesDoNotDependOnThreads) {
    for (const Tile* with : {static_cast<const Tile*>(nullptr), &tile()})
        EXPECT_EQ(draw(cases::context(1), with, small(), "one.npy"),
                  draw(cases::context(3), with, small(), "three.npy"));
}

TEST(LocalMetropolis, ResumedRunsWriteTheSameBytes) {
    const std::string whole = draw(cases::context(2), &tile(), small(), "whole.npy");
    LocalOptions options = small();
    options.checkpoint.path = file("run.checkpoint"), options.checkpoint.identity = "{}";
    options.checkpoint.interval_seconds = 0;
    // A signal at ever later reports of progress: in the warm-up, then in the draw.
    int interrupted = 0;
    for (int after = 1; after < 1000; ++after) {
        std::atomic<int> signal = 0;
        int seen = 0;
        ContextOptions settings;
        settings.threads = 2, settings.interrupt_signal = &signal;
        settings.progress = [&](const ProgressEvent&) { signal = ++seen >= after ? 15 : 0; };
        options.checkpoint.resume = interrupted > 0;
        const bool resumed = interrupted > 0 && std::filesystem::exists(file("part.npy.partial"));
        try {
            const std::string part = draw(cases::context(settings), &tile(), options, "part.npy",
                                          resumed ? OutputFile::Mode::resume : OutputFile::Mode::create);
            EXPECT_EQ(part, whole);
            break;
        } catch (const Interrupted&) {
            ++interrupted;
        }
    }
    EXPECT_GT(interrupted, 0);
    Checkpoint(options.checkpoint).remove();
}

ErrorKind kind_of(const Target& target, const Tile* with, const LocalOptions& options) {
    NpyWriter output(file("none.npy"), {options.samples, target.dimension()}, 4);
    try {
        run_local_metropolis(cases::context(), target, with, options, output);
    } catch (const Error& error) {
        return error.kind();
    }
    return ErrorKind{};
}

TEST(LocalMetropolis, RefusesWhatDoesNotFit) {
    Target other = chain(12, "periodic");
    std::get<LatticeTarget>(other.law).coupling = 1.6;
    EXPECT_EQ(kind_of(other, &tile(), small()), ErrorKind::input);
    EXPECT_EQ(kind_of(chain(3, "periodic"), &tile(), small()), ErrorKind::usage);
    EXPECT_EQ(kind_of(chain(4, "free"), &tile(), small()), ErrorKind::usage);
    EXPECT_EQ(kind_of(parse_target("[target]\nkind = \"double_well\"\ndimension = 2\na = 1.0\n", "wells"),
                      nullptr, small()),
              ErrorKind::usage);
    LocalOptions options = small();
    options.warmup = 3;
    EXPECT_EQ(kind_of(chain(12, "periodic"), nullptr, options), ErrorKind::usage);
}

TEST(LocalMetropolis, TilesSurviveTheModelFile) {
    Model model = cases::gaussian_model(cases::gaussian(12), ReferenceKind::fitted, 16);
    model.lattice = law(chain(12, "periodic")).lattice;
    model.tile = tile();
    write_model(file("model"), model);
    const Model back = read_model(file("model"));
    ASSERT_TRUE(back.tile.has_value());
    EXPECT_EQ(back.tile->side, 4);
    EXPECT_EQ(back.tile->site, tile().site);
    EXPECT_EQ(draw(cases::context(), &*back.tile, small(), "back.npy"),
              draw(cases::context(), &tile(), small(), "own.npy"));

    const auto refused = [&](const auto& change) {
        Model broken = model;
        change(*broken.tile);
        write_model(file("broken"), broken);
        EXPECT_THROW(read_model(file("broken")), Error);
    };
    refused([](Tile& t) { t.side = 5; });
    refused([](Tile& t) { t.axes = 2; });
    refused([](Tile& t) { t.levels.pop_back(); });
    refused([](Tile& t) { t.levels[0].targets = {1}; });
    refused([](Tile& t) { t.levels[0].targets = {0}; });
    refused([](Tile& t) { t.levels[0].neighbours[0] = 3; });
    refused([](Tile& t) { t.levels[0].neighbours[0] = 99; });
    refused([](Tile& t) { t.levels.push_back(t.levels[0]); });
    refused([](Tile& t) { t.coupling = NAN; });
}

} // namespace
} // namespace dynkin

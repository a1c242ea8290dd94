// test_checkpoint.cpp - long work: what it runs on (context), what it reports (progress), how it continues
// (checkpoint).
#include "engine/checkpoint.h"
#include "engine/context.h"
#include "engine/file.h"
#include "engine/progress.h"
#include "expect_error.h"
#include <cstdlib>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <sched.h>
#include <thread>
#include <unistd.h>

namespace dynkin {
namespace {

using cases::expect_error;

class CheckpointTest : public testing::Test {
  protected:
    void SetUp() override {
        folder = std::filesystem::temp_directory_path() /
                 fmt::format("dynkin-{}-checkpoint-{}", ::getpid(),
                             testing::UnitTest::GetInstance()->current_test_info()->name());
        std::filesystem::create_directories(folder);
        path = folder / "x.checkpoint";
    }
    void TearDown() override { std::filesystem::remove_all(folder); }
    CheckpointOptions options(const std::string& identity, bool resume) const {
        return {path, identity, resume, 20};
    }
    void save(const std::string& identity) const {
        TensorFile state;
        state.metadata["stage"] = "moments";
        state.put("sums", std::vector<double>{1, 2, 3});
        Checkpoint(options(identity, false)).save(state);
    }
    std::filesystem::path folder, path;
};

TEST_F(CheckpointTest, SavesAndRestores) {
    save(R"({"seed": 1})");
    EXPECT_FALSE(std::filesystem::exists(path.string() + ".partial"));
    const auto state = Checkpoint(options(R"({"seed": 1})", true)).restore();
    ASSERT_TRUE(state);
    EXPECT_EQ(state->format, "dynkin-checkpoint");
    EXPECT_EQ(state->text("stage"), "moments");
    EXPECT_EQ(state->text("identity"), R"({"seed": 1})");
    EXPECT_EQ(state->f64("sums", 3), (std::vector<double>{1, 2, 3}));
}

TEST_F(CheckpointTest, NothingToRestore) {
    EXPECT_FALSE(Checkpoint(options("{}", true)).restore());
    save("{}");
    EXPECT_FALSE(Checkpoint(options("{}", false)).restore());
    EXPECT_TRUE(std::filesystem::exists(path)); // stale until the next save
}

TEST_F(CheckpointTest, WithoutPathNothingHappens) {
    Checkpoint none({{}, "{}", true, 0});
    EXPECT_FALSE(none.enabled());
    EXPECT_FALSE(none.due());
    EXPECT_FALSE(none.restore());
    none.save({});
    none.remove();
    EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST_F(CheckpointTest, RemoveTakesLeftoversToo) {
    save("{}");
    std::ofstream(path.string() + ".partial") << "left by a killed save";
    Checkpoint checkpoint(options("{}", false));
    checkpoint.remove();
    checkpoint.remove();
    EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST_F(CheckpointTest, KilledSaveLeavesTheOneBefore) {
    save("{}");
    std::ofstream(path.string() + ".partial") << "half";
    EXPECT_TRUE(Checkpoint(options("{}", true)).restore());
}

TEST_F(CheckpointTest, DueByInterval) {
    EXPECT_FALSE(Checkpoint({path, "{}", false, 1000}).due());
    Checkpoint soon({path, "{}", false, 0.02});
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    EXPECT_TRUE(soon.due());
    soon.save({});
    EXPECT_FALSE(soon.due());
    EXPECT_TRUE(Checkpoint({path, "{}", false, 0}).due());
}

TEST_F(CheckpointTest, IdentityIsComparedByKey) {
    save(R"({"seed": 1, "fit": {"degree": 6, "pairs": [1, 2]}, "input": "a.npy"})");
    const auto differs = [&](const std::string& now, std::vector<std::string> parts) {
        parts.insert(parts.end(), {"cannot resume from " + path.string(), "delete it or drop --resume"});
        expect_error(ErrorKind::input, parts, [&] { Checkpoint(options(now, true)).restore(); });
    };
    differs(R"({"seed": 1, "fit": {"degree": 8, "pairs": [1, 2]}, "input": "b.npy"})",
            {"'fit.degree' was '6', now '8'"});
    differs(R"({"seed": 1, "fit": {"degree": 6, "pairs": [1, 3]}, "input": "a.npy"})",
            {"'fit.pairs.1' was '2', now '3'"});
    differs(R"({"seed": 1, "fit": {"degree": 6, "pairs": [1]}, "input": "a.npy"})",
            {"'fit.pairs.1' was '2', now absent"});
    differs(R"({"seed": 1, "fit": {"degree": 6, "pairs": [1, 2]}, "input": "a.npy", "isa": "avx2"})",
            {"'isa' was absent, now '\"avx2\"'"});
    differs(R"({"seed": 1, "fit": {"degree": 6, "pairs": [1, 2]}, "input": "c\nd"})",
            {"'input' was '\"a.npy\"', now"});
    differs(R"({"seed": 2, "fit": {"degree": 6, "pairs": [1, 2]}, "input": "a.npy"})",
            {"'seed' was '1', now '2'"});
    differs("{}", {"was absent, now '{}'"});
    differs("not json", {"now 'not json'"});
    differs(std::string(1000000, '['), {"now '[[["});
    // Another order and spacing is the same identity.
    EXPECT_TRUE(Checkpoint(options(R"({"fit":{"pairs":[1,2],"degree":6},"input":"a.npy","seed":1})", true))
                    .restore());
}

TEST_F(CheckpointTest, DamageNamesTheRemedy) {
    save("{}");
    std::string bytes = read_file(path);
    bytes.back() ^= 1;
    std::ofstream(path, std::ios::binary) << bytes;
    const std::vector<std::string> remedy{path.string(), "cannot resume", "delete it or drop --resume"};
    expect_error(ErrorKind::input, remedy, [&] { Checkpoint(options("{}", true)).restore(); });
    std::ofstream(path, std::ios::binary) << "";
    expect_error(ErrorKind::input, remedy, [&] { Checkpoint(options("{}", true)).restore(); });
    TensorFile other;
    other.format = "dynkin-model";
    write_tensor_file(path, other);
    expect_error(ErrorKind::input, remedy, [&] { Checkpoint(options("{}", true)).restore(); });
    other.format = "dynkin-checkpoint"; // without identity
    write_tensor_file(path, other);
    expect_error(ErrorKind::input, remedy, [&] { Checkpoint(options("{}", true)).restore(); });
    save("{}"); // a stale or damaged file is no obstacle to a run that starts anew
    EXPECT_TRUE(Checkpoint(options("{}", true)).restore());
}

TEST_F(CheckpointTest, UnreadableIsIo) {
    std::filesystem::create_directory(path);
    expect_error(ErrorKind::io, {path.string(), "directory"},
                 [&] { Checkpoint(options("{}", true)).restore(); });
    expect_error(ErrorKind::io, {path.string(), "directory"}, [&] { save("{}"); });
    const Checkpoint full({"/dev/full", "{}", false, 20});
    expect_error(ErrorKind::io, {"/dev/full", "No space"}, [&] { Checkpoint(full).save({}); });
}

TEST(ContextTest, Threads) {
    EXPECT_EQ(Context({.threads = 3}).threads(), 3);
    expect_error(ErrorKind::usage, {"threads", "got -1"}, [] { Context({.threads = -1}); });
    expect_error(ErrorKind::usage, {"threads", "got 100000"}, [] { Context({.threads = 100000}); });

    const char* set = std::getenv("OMP_NUM_THREADS");
    const std::string before = set ? set : "";
    ::setenv("OMP_NUM_THREADS", "5,2", 1);
    EXPECT_EQ(Context().threads(), 5);
    EXPECT_EQ(Context({.threads = 2}).threads(), 2);
    cpu_set_t all;
    ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
    for (const char* nonsense : {"", "x", "0", "-3", "4x"}) {
        ::setenv("OMP_NUM_THREADS", nonsense, 1);
        EXPECT_EQ(Context().threads(), CPU_COUNT(&all)) << nonsense;
    }
    set ? ::setenv("OMP_NUM_THREADS", before.c_str(), 1) : ::unsetenv("OMP_NUM_THREADS");
}

TEST(ContextTest, ThreadsFollowTheAffinityMask) {
    if (std::getenv("OMP_NUM_THREADS")) GTEST_SKIP() << "OMP_NUM_THREADS is set";
    cpu_set_t all, one;
    ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (std::size_t k = 0; k < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++k)
        if (CPU_ISSET(k, &all)) CPU_SET(k, &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(Context().threads(), 1);
    ASSERT_EQ(::sched_setaffinity(0, sizeof all, &all), 0);
}

TEST(ContextTest, IsaAndDevice) {
    const Isa best = best_isa();
    EXPECT_NE(best, Isa::automatic);
    EXPECT_EQ(Context().isa(), best);
    EXPECT_EQ(Context({.isa = Isa::baseline}).isa(), Isa::baseline);
    EXPECT_EQ(Context({.isa = Isa::baseline}).isa_name(), "baseline");
    for (const Isa isa : {Isa::avx2, Isa::avx512}) {
        if (isa <= best)
            EXPECT_EQ(Context({.isa = isa}).isa(), isa);
        else
            expect_error(ErrorKind::usage, {"isa: this processor has no"}, [&] { Context({.isa = isa}); });
    }
    EXPECT_EQ(Context({.device = Device::cpu}).device_name(), "cpu");
    const Context automatic;
    if (automatic.device() == Device::cuda) return; // a machine with a GPU: test_device.cpp
    EXPECT_EQ(automatic.device_name(), "cpu");
    expect_error(ErrorKind::usage, {"device: ", "expected cpu or auto, got cuda"},
                 [] { Context({.device = Device::cuda}); });
}

TEST(ContextTest, InterruptSignal) {
    std::atomic<int> signal{0};
    const Context context({.interrupt_signal = &signal});
    Progress progress(context, "stage", 1);
    EXPECT_FALSE(progress.interrupted());
    signal = 15;
    EXPECT_TRUE(progress.interrupted());
    try {
        progress.throw_interrupted();
    } catch (const Interrupted& interrupted) {
        EXPECT_EQ(interrupted.signal(), 15);
    }
    EXPECT_EQ(Context().interrupt_signal(), 0);
}

struct Recorder {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> events;
    Context context{
        {.progress = [this](const ProgressEvent& event) { events.emplace_back(event.done, event.total); }}};
};

TEST(ProgressTest, AtMostTenASecond) {
    Recorder recorder;
    const auto start = std::chrono::steady_clock::now();
    {
        Progress progress(recorder.context, "stage", 250);
        for (int k = 0; k < 250; ++k) {
            progress.advance(1);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    EXPECT_EQ(recorder.events.front(), std::pair(std::uint64_t{0}, std::uint64_t{250}));
    EXPECT_EQ(recorder.events.back().first, 250u);
    EXPECT_GE(recorder.events.size(), 4u); // start, two in between, end
    EXPECT_LE(static_cast<double>(recorder.events.size()), 2 + elapsed.count() * 10);
}

TEST(ProgressTest, EndIsReportedOnceAndOnlyIfReached) {
    Recorder recorder;
    {
        Progress progress(recorder.context, "unfinished", 10);
        progress.advance(4);
    }
    EXPECT_EQ(recorder.events.size(), 1u);
    recorder.events.clear();
    {
        Progress progress(recorder.context, "finished", 10);
        progress.set(4);
        std::this_thread::sleep_for(std::chrono::milliseconds(110));
        progress.advance(100); // beyond the total
    }
    EXPECT_EQ(recorder.events.size(), 2u);
    EXPECT_EQ(recorder.events.back().first, 10u);
    recorder.events.clear();
    { Progress empty(recorder.context, "empty", 0); }
    EXPECT_EQ(recorder.events.size(), 1u);
}

TEST(ProgressTest, FailingDisplayDoesNotEscapeTheDestructor) {
    int calls = 0;
    const Context context({.progress = [&](const ProgressEvent&) {
        if (++calls > 1) throw std::runtime_error("display");
    }});
    {
        Progress progress(context, "stage", 1);
        progress.advance(1);
    }
    EXPECT_EQ(calls, 2);
}

} // namespace
} // namespace dynkin

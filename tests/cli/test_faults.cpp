// test_faults.cpp - calls of the system that fail, one after the other, and SIGKILL at any moment: one clear
// error, nothing lost, nothing half-written (inject.cpp makes the calls fail; docs/faults.md lists what is
// tried).
#include "program.h"
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <sstream>

namespace dynkin::cli_test {
namespace {

using Contents = std::map<std::string, std::string>; ///< of the folder out/: name, bytes

/// With DYNKIN_FAULTS=full every call fails in turn, and more moments are tried.
bool full() {
    const char* text = std::getenv("DYNKIN_FAULTS");
    return text && std::string(text) == "full";
}

/// A run: its arguments, the outputs that it names, and what lies in out/ before it (the state of a killed
/// run).
struct Work {
    Arguments arguments;
    std::vector<std::string> outputs;
    bool resumable = true;
    Contents before = {};
};

struct Fault {
    std::string call, how;
    long at = 0;
};

class Faults : public InFolder {
  protected:
    void SetUp() override {
        write_bytes(path("t.toml"), "[target]\nkind = \"ginzburg_landau\"\nshape = [3]\nlambda = 0.03\n"
                                    "beta = 0.125\nspacing = 0.25\nboundary = \"zero\"\n");
        succeed({"draw", path("t.toml"), "-n", "1000", "-o", path("x.npy"), "--sampler", "exact", "--quiet"},
                conditions());
        succeed(flat().arguments, conditions());
        std::filesystem::copy(path("out/m.dynkin"), path("flat.dynkin"));
        reset({});
    }

    Work flat() {
        std::filesystem::create_directory(path("out"));
        return fit({path("x.npy"), "--target", path("t.toml"), "--levels", "flat"});
    }
    Work levels() { return fit({path("x.npy"), "--target", path("t.toml"), "--levels", "all"}); }
    Work box() { return fit({path("x.npy"), "--process", "box", "--radius", "2"}); }
    Work from_energy() {
        return fit({"--target", path("t.toml"), "--from-energy", "-n", "1000", "--levels", "flat"});
    }
    Work fit(Arguments further) {
        further.insert(further.begin(), {"fit", "-o", path("out/m.dynkin"), "--time-nodes", "4", "--quiet"});
        if (std::find(further.begin(), further.end(), "box") == further.end())
            further.insert(further.end(), {"--degree", "3"});
        return {further, {"m.dynkin"}};
    }
    Work sample(const std::string& method) {
        Work work = {{"sample", path("flat.dynkin"), "-n", "600", "--steps", "4", "--quiet", "-o",
                      path("out/y.npy"), "--method", method},
                     {"y.npy"}};
        if (method == "ode") {
            work.arguments.insert(work.arguments.end(), {"--log-density", path("out/q.npy")});
            work.outputs.push_back("q.npy");
        }
        return work;
    }
    Work draw(const std::string& sampler) {
        Work work = {{"draw", path("t.toml"), "-n", "1000", "--quiet", "--allow-unconverged", "-o",
                      path("out/x.npy"), "--sampler", sampler},
                     {"x.npy"}};
        if (sampler == "hmc")
            work.arguments.insert(work.arguments.end(),
                                  {"--chains", "500", "--warmup", "50", "--thinning", "1"});
        return work;
    }
    Work weigh() {
        const Work samples = sample("ode");
        succeed(samples.arguments, conditions());
        for (const char* name : {"y.npy", "q.npy"})
            std::filesystem::rename(path(std::string("out/") + name), path(name));
        return {{"weigh", path("y.npy"), "--log-density", path("q.npy"), "--target", path("t.toml"),
                 "--quiet", "-o", path("out/w.npy"), "--resampled", path("out/r.npy")},
                {"w.npy", "r.npy"},
                false};
    }
    /// The same run, killed at its last save of a checkpoint and to be resumed.
    Work resumed(Work work) {
        const auto saves = calls_of(work, "sync");
        reset({});
        EXPECT_EQ(run_with(work, {"sync", "kill", saves[saves.size() * 2 / 3]}).exit_code, 128 + SIGKILL);
        work.before = contents();
        work.arguments.push_back("--resume");
        return work;
    }

    /// One thread, small batches, a checkpoint after each, and one choice of kernels: the same calls in each
    /// run.
    Conditions conditions() const {
        Conditions conditions;
        conditions.environment = {{"DYNKIN_CHECKPOINT_SECONDS", "1e-9"},
                                  {"DYNKIN_BATCH", "256"},
                                  {"OMP_NUM_THREADS", "1"},
                                  {"OPENBLAS_NUM_THREADS", "1"},
                                  {"OPENBLAS_CORETYPE", "Haswell"}};
        return conditions;
    }
    Outcome run_with(const Work& work, const Fault& fault) {
        Conditions faulty = conditions();
        std::filesystem::remove(path("log"));
        faulty.environment.insert({{"LD_PRELOAD", DYNKIN_INJECT},
                                   {"ASAN_OPTIONS", "verify_asan_link_order=0"},
                                   {"DYNKIN_FAULT_CALL", fault.call},
                                   {"DYNKIN_FAULT_HOW", fault.how},
                                   {"DYNKIN_FAULT_AT", std::to_string(fault.at)},
                                   {"DYNKIN_FAULT_LOG", path("log")},
                                   {"DYNKIN_FAULT_FOLDER", path("")}});
        return run(work.arguments, faulty);
    }
    /// The numbers of the calls that can fail.
    std::vector<long> calls_of(const Work& work, const std::string& call) {
        reset(work.before);
        EXPECT_EQ(run_with(work, {call, "", 0}).exit_code, 0);
        std::vector<long> numbers;
        if (!std::filesystem::exists(path("log"))) return numbers;
        std::istringstream log(read_bytes(path("log")));
        for (std::string line; std::getline(log, line);) numbers.push_back(std::atol(line.c_str()));
        return numbers;
    }

    void reset(const Contents& before) {
        std::filesystem::remove_all(path("out"));
        std::filesystem::create_directory(path("out"));
        for (const auto& [name, bytes] : before) write_bytes(path("out/" + name), bytes);
    }
    Contents contents() const {
        Contents all;
        for (const auto& entry : std::filesystem::directory_iterator(path("out")))
            all[entry.path().filename().string()] = read_bytes(entry.path());
        return all;
    }

    void expect_whole_or_previous(const Work& work, const Contents& expected, bool previous) {
        const Contents now = contents();
        for (const std::string& name : work.outputs) {
            const auto at = now.find(name);
            EXPECT_TRUE(at == now.end()
                            ? !previous
                            : at->second == expected.at(name) || (previous && at->second == "previous"))
                << name << (at == now.end() ? " is lost" : " is half-written");
        }
    }
    /// What may lie beside the outputs after an error: a checkpoint, with the rows it counts on; the data of
    /// a rename that failed.
    void expect_nothing_left(const Work& work, const Contents& expected, const std::string& error) {
        const Contents now = contents();
        bool checkpoint = false;
        for (const auto& entry : now) checkpoint |= entry.first.ends_with(".checkpoint");
        for (const auto& entry : now) {
            const std::string& name = entry.first;
            const bool kept =
                name.ends_with(".partial") && (checkpoint || error.find("partial") != std::string::npos);
            EXPECT_TRUE(expected.contains(name) || work.before.contains(name) ||
                        name.find(".checkpoint") != std::string::npos || kept)
                << name << " is left";
        }
    }
    /// Runs with the fault, then again without it.
    void expect_survived(const Work& work, const Fault& fault, const Contents& expected) {
        Contents before = work.before;
        const bool previous = fault.at % 2 != 0;
        for (const std::string& name : work.outputs)
            if (previous) before.emplace(name, "previous");
        reset(before);
        const Outcome outcome = run_with(work, fault);
        SCOPED_TRACE(testing::PrintToString(work.arguments) + "\n" + fault.call + " " + fault.how + ": " +
                     (std::filesystem::exists(path("log")) ? read_bytes(path("log")) : "") + outcome.err);
        expect_whole_or_previous(work, expected, previous);
        if (fault.how == "kill") {
            EXPECT_EQ(outcome.exit_code, 128 + SIGKILL);
        } else if (outcome.exit_code == 0) {
            EXPECT_EQ(contents(), expected);
        } else {
            // toml++ without memory for a number takes it for a wrong one.
            const bool misread = fault.call == "allocate" && outcome.err.find("t.toml:") != std::string::npos;
            EXPECT_EQ(outcome.exit_code, misread ? 3 : 5);
            EXPECT_TRUE(fault.how != std::to_string(EINTR) && fault.how != "short");
            EXPECT_EQ(outcome.err.rfind("error: ", 0), 0u);
            EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1);
            EXPECT_NE(outcome.err.find(fault.call == "allocate" && !misread ? "memory" : path("")),
                      std::string::npos);
            expect_nothing_left(work, expected, outcome.err);
        }
        Work again = work;
        if (work.resumable && work.before.empty()) again.arguments.push_back("--resume");
        const Outcome second = run(again.arguments, conditions());
        EXPECT_EQ(second.exit_code, 0) << second.err;
        EXPECT_EQ(contents(), expected) << "after the next run";
    }

    /// Every way in which a call fails, at one call in turn, or at all calls.
    void expect_survived(const Work& work) {
        ASSERT_FALSE(HasFailure());
        reset(work.before);
        succeed(work.arguments, conditions());
        const Contents expected = contents();
        const auto error = [](int number) { return std::to_string(number); };
        const std::map<std::string, std::vector<std::string>> ways = {
            {"open", {error(ENOSPC), error(EMFILE), error(EINTR), "kill"}},
            {"read", {error(EIO), error(EINTR), "short"}},
            {"write", {error(ENOSPC), error(EIO), error(EINTR), "short", "kill"}},
            {"sync", {error(EIO), error(EINTR), "kill"}},
            {"rename", {error(ENOSPC), "kill"}},
            {"truncate", {error(EIO), error(EINTR), "kill"}},
            {"map", {error(ENOMEM)}},
            {"remove", {error(EACCES), "kill"}}};
        std::size_t turn = 0;
        for (const auto& [call, hows] : ways) {
            const std::vector<long> calls = calls_of(work, call);
            for (const std::string& how : hows) {
                const std::size_t one = ++turn * 7;
                for (std::size_t k = 0; k < calls.size(); ++k)
                    if (full() || k == one % calls.size())
                        expect_survived(work, {call, how, calls[k]}, expected);
            }
        }
    }
    /// Memory runs out at some of the places where it is asked for, or at most of them; or at the last ones.
    void expect_survived_without_memory(const Work& work, std::size_t last = 0) {
#ifdef __SANITIZE_ADDRESS__
        GTEST_SKIP() << "AddressSanitizer has allocations of its own";
#endif
        ASSERT_FALSE(HasFailure());
        reset(work.before);
        succeed(work.arguments, conditions());
        const Contents expected = contents();
        std::vector<long> places = calls_of(work, "allocate");
        if (last > 0 && last < places.size())
            places.erase(places.begin(), places.end() - static_cast<long>(last));
        const std::size_t tried = std::min<std::size_t>(full() ? 500 : last ? last : 12, places.size());
        EXPECT_GT(tried, 0u);
        for (std::size_t k = 0; k < tried; ++k)
            expect_survived(work, {"allocate", std::to_string(ENOMEM), places[k * places.size() / tried]},
                            expected);
    }
};

TEST_F(Faults, Flat) { expect_survived(flat()); }
TEST_F(Faults, SampleOde) { expect_survived(sample("ode")); }
TEST_F(Faults, SampleOdeResumed) { expect_survived(resumed(sample("ode"))); }
TEST_F(Faults, Weigh) { expect_survived(weigh()); }
TEST_F(Faults, WhatAFitFromTheEnergyLeaves) {
    const Work work = from_energy();
    succeed(work.arguments, conditions());
    const Contents expected = contents();
    const std::vector<long> calls = calls_of(work, "remove");
    EXPECT_GE(calls.size(), 4u);
    for (const long at : calls) expect_survived(work, {"remove", std::to_string(EACCES), at}, expected);
}
/// Figures as JSON, text, configuration.
TEST_F(Faults, FiguresWithoutMemory) { expect_survived_without_memory(draw("exact"), 200); }
TEST_F(Faults, FitWithoutMemory) { expect_survived_without_memory(flat()); }
TEST_F(Faults, SampleWithoutMemory) { expect_survived_without_memory(sample("ode")); }

/// Slower works, or like those above: only where every call is to fail.
class AllFaults : public Faults {
  protected:
    void SetUp() override {
        if (!full()) GTEST_SKIP() << "with DYNKIN_FAULTS=full";
        Faults::SetUp();
    }
};

TEST_F(AllFaults, Levels) { expect_survived(levels()); }
TEST_F(AllFaults, LevelsResumed) { expect_survived(resumed(levels())); }
TEST_F(AllFaults, FromEnergy) { expect_survived(from_energy()); }
TEST_F(AllFaults, FromEnergyResumed) { expect_survived(resumed(from_energy())); }
TEST_F(AllFaults, Box) { expect_survived(box()); }
TEST_F(AllFaults, FlatResumed) { expect_survived(resumed(flat())); }
TEST_F(AllFaults, SampleSde) { expect_survived(sample("sde")); }
TEST_F(AllFaults, DrawChains) { expect_survived(draw("hmc")); }
TEST_F(AllFaults, DrawChainsResumed) { expect_survived(resumed(draw("hmc"))); }
TEST_F(AllFaults, DrawExactly) { expect_survived(draw("exact")); }
TEST_F(AllFaults, LevelsWithoutMemory) { expect_survived_without_memory(levels()); }
TEST_F(AllFaults, FromEnergyWithoutMemory) { expect_survived_without_memory(from_energy()); }
TEST_F(AllFaults, BoxWithoutMemory) { expect_survived_without_memory(box()); }
TEST_F(AllFaults, SdeWithoutMemory) { expect_survived_without_memory(sample("sde")); }
TEST_F(AllFaults, ChainsWithoutMemory) { expect_survived_without_memory(draw("hmc")); }
TEST_F(AllFaults, DrawWithoutMemory) { expect_survived_without_memory(draw("exact")); }

/// SIGKILL at moments that are uniform over the uninterrupted run, then --resume, on two threads.
class Killed : public Faults {
  protected:
    void expect_survived_at(const Work& work, int moments, unsigned seed) {
        reset({});
        const double seconds = succeed(work.arguments, conditions()).seconds;
        const Contents expected = contents();
        std::mt19937 generator(seed);
        std::uniform_real_distribution<double> moment(0, seconds);
        Arguments resume = work.arguments;
        resume.push_back("--resume");
        for (int k = 0; k < moments; ++k) {
            reset({});
            Conditions killed = conditions();
            killed.environment["OMP_NUM_THREADS"] = "2";
            killed.signal = SIGKILL, killed.signal_after = moment(generator);
            SCOPED_TRACE("killed after " + std::to_string(killed.signal_after) + " s");
            const int code = run(resume, killed).exit_code;
            EXPECT_TRUE(code == 0 || code == 128 + SIGKILL) << code; // a run may end just before
            expect_whole_or_previous(work, expected, false);
            const Outcome second = run(resume, conditions());
            EXPECT_EQ(second.exit_code, 0) << second.err;
            EXPECT_EQ(contents(), expected) << "after the resumed run";
        }
    }
};

TEST_F(Killed, Flat) { expect_survived_at(flat(), full() ? 25 : 1, 1); }
TEST_F(Killed, SampleOde) { expect_survived_at(sample("ode"), full() ? 25 : 1, 2); }
TEST_F(Killed, DrawChains) { expect_survived_at(draw("hmc"), full() ? 25 : 1, 3); }
TEST_F(Killed, Levels) {
    if (full()) expect_survived_at(levels(), 25, 4);
}

} // namespace
} // namespace dynkin::cli_test

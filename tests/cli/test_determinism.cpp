// test_determinism.cpp - the same bytes for any number of threads, any batch, and after any interruption.
#include "program.h"
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>

namespace dynkin::cli_test {
namespace {

/// One command under test: its arguments but for the output, and the outputs that must not change.
struct Work {
    Arguments arguments;
    std::string output;
    std::vector<std::string> outputs;
};

class Determinism : public InFolder {
  protected:
    Work draw(const std::string& samples) {
        return {{"draw", chain_target(), "-n", samples, "--allow-unconverged", "--seed", "3"},
                "train.npy",
                {"train.npy"}};
    }
    Work draw_exactly(const std::string& samples) {
        Work work = draw(samples);
        work.arguments.insert(work.arguments.end(), {"--sampler", "exact"});
        return work;
    }
    /// Of a short chain; levels "auto": flat and levels, compared.
    Work fit(const std::string& samples, int sites, const std::string& levels) {
        succeed({"draw", chain_target(sites), "-n", samples, "-o", path("in.npy"), "--sampler", "exact",
                 "--quiet"});
        return {{"fit", path("in.npy"), "--target", path("target.toml"), "--seed", "3", "--levels", levels},
                "m.dynkin",
                {"m.dynkin"}};
    }
    /// Three batches.
    Work fit_prior(const std::string& kind) {
        write_bytes(path("images.npy"), npy_bytes(16'000, 400, some_samples(16'000, 400)));
        return {{"fit", "--prior", kind, path("images.npy")}, "p.prior", {"p.prior"}};
    }
    /// A fit of another process to a mixture in the plane.
    Work fit_process(const std::string& samples, const Arguments& flags) {
        write_bytes(path("mixture.toml"),
                    "[target]\nkind = \"gaussian_mixture\"\nweights = [0.4, 0.6]\n"
                    "means = [[-1.0, 0.5], [1.0, -0.2]]\n"
                    "covariances = [[[0.2, 0.1], [0.1, 0.3]], [[0.3, 0.0], [0.0, 0.2]]]\n");
        write_bytes(path("law.toml"), "[process]\ndrift = [[-1.0, 0.5], [-0.8, -0.7]]\n"
                                      "noise = [[1.0, 0.0], [0.3, 1.0]]\n");
        write_bytes(path("drift.toml"), "[drift]\nkind = \"double_well\"\ndimension = 2\n");
        succeed({"draw", path("mixture.toml"), "-n", samples, "-o", path("in.npy"), "--quiet"});
        Work work = {{"fit", path("in.npy")}, "m.dynkin", {"m.dynkin"}};
        work.arguments.insert(work.arguments.end(), flags.begin(), flags.end());
        return work;
    }
    Work nonlinear_fit(const std::string& samples, const std::string& t_end) {
        return fit_process(samples, {"--process", "nonlinear", "--drift", path("drift.toml"), "--degree", "4",
                                     "--time-nodes", "6", "--t-end", t_end});
    }
    Work sample(const std::string& method, const std::string& samples) {
        succeed(arguments(fit("4000", 8, "all")));
        Work work = {{"sample", path("m.dynkin"), "-n", samples, "--method", method, "--seed", "3"},
                     "y.npy",
                     {"y.npy"}};
        if (method == "ode") {
            work.arguments.insert(work.arguments.end(), {"--log-density", path("q.npy")});
            work.outputs.push_back("q.npy");
        }
        return work;
    }

    Arguments arguments(const Work& work, const Arguments& further = {}) {
        Arguments all = work.arguments;
        all.insert(all.end(), {"--quiet", "-o", path(work.output)});
        all.insert(all.end(), further.begin(), further.end());
        return all;
    }
    /// Takes the outputs away, so that the next run starts afresh.
    std::vector<std::string> take(const Work& work) {
        std::vector<std::string> contents;
        for (const auto& name : work.outputs) {
            contents.push_back(std::filesystem::exists(path(name)) ? read_bytes(path(name)) : "absent");
            std::filesystem::remove(path(name));
        }
        return contents;
    }

    void expect_same_for_threads_and_batches(const Work& work) {
        succeed(arguments(work, {"--threads", "1"}));
        const auto expected = take(work);
        EXPECT_NE(expected[0], "absent");
        for (const char* threads : {"1", "2"})
            for (const char* batch : {"", "256", "777"}) {
                Conditions conditions;
                if (*batch) conditions.environment["DYNKIN_BATCH"] = batch;
                succeed(arguments(work, {"--threads", threads}), conditions);
                EXPECT_TRUE(take(work) == expected)
                    << threads << " threads, batch " << (*batch ? batch : "default");
            }
    }
};

TEST_F(Determinism, Draw) { expect_same_for_threads_and_batches(draw("3000")); }
TEST_F(Determinism, DrawExactly) { expect_same_for_threads_and_batches(draw_exactly("3000")); }
TEST_F(Determinism, Fit) { expect_same_for_threads_and_batches(fit("3000", 4, "auto")); }
TEST_F(Determinism, FitLevels) { expect_same_for_threads_and_batches(fit("3000", 8, "all")); }
TEST_F(Determinism, SampleSde) { expect_same_for_threads_and_batches(sample("sde", "3000")); }
TEST_F(Determinism, SampleOde) { expect_same_for_threads_and_batches(sample("ode", "3000")); }

class Interrupted : public Determinism {
  protected:
    static int moments(int usual = 4) {
        const char* text = std::getenv("DYNKIN_INTERRUPTIONS");
        return text ? std::atoi(text) : usual;
    }
    static Conditions often_saved() {
        Conditions conditions;
        conditions.environment["DYNKIN_CHECKPOINT_SECONDS"] = "0.05";
        return conditions;
    }

    /// One to three interruptions, SIGINT and SIGKILL in turn, at moments that are uniform over the
    /// uninterrupted run; the last run is left alone. The number of threads changes from run to run.
    void interrupt_and_resume(const Work& work, int trial, double seconds, std::mt19937& generator) {
        std::uniform_real_distribution<double> moment(0, seconds);
        const int interruptions = 1 + trial % 3;
        for (int k = 0; k < interruptions; ++k) {
            Conditions conditions = often_saved();
            conditions.signal = (trial + k) % 2 ? SIGKILL : SIGINT;
            conditions.signal_after = moment(generator);
            const auto before = files(); // with an output, if the run before was killed when it had its name
            const Outcome outcome =
                run(arguments(work, {"--resume", "--threads", k % 2 ? "1" : "2"}), conditions);
            // A run may end just before its signal.
            EXPECT_TRUE(outcome.exit_code == 0 || outcome.exit_code == 128 + conditions.signal)
                << outcome.exit_code << '\n'
                << outcome.err;
            if (outcome.exit_code == 0) break;
            if (outcome.exit_code == 128 + SIGINT) {
                for (const auto& name : work.outputs)
                    EXPECT_TRUE(std::count(before.begin(), before.end(), name) ||
                                !std::filesystem::exists(path(name)))
                        << name;
            }
        }
        succeed(arguments(work, {"--resume"}), often_saved());
    }

    void expect_same_after_interruption(const Work& work, int trials = moments()) {
        const auto before = files();
        const double seconds = succeed(arguments(work)).seconds;
        const auto after = files();
        const auto expected = take(work);
        std::mt19937 generator(20240501);
        for (int trial = 0; trial < trials; ++trial) {
            interrupt_and_resume(work, trial, seconds, generator);
            EXPECT_EQ(files(), after) << "something was left behind";
            EXPECT_TRUE(take(work) == expected) << "trial " << trial;
        }
    }

    /// The signal comes when the last output has its name.
    void expect_success_once_complete(const Work& work) {
        succeed(arguments(work));
        const auto after = files();
        const auto expected = take(work);
        Conditions conditions;
        conditions.signal = SIGINT, conditions.signal_once = path(work.output);
        const Outcome outcome = run(arguments(work), conditions);
        EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
        EXPECT_EQ(outcome.err, "");
        EXPECT_NE(outcome.out, "");
        EXPECT_EQ(files(), after);
        EXPECT_TRUE(take(work) == expected);
    }
};

TEST_F(Interrupted, Draw) { expect_same_after_interruption(draw("200000")); }
TEST_F(Interrupted, DrawExactly) { expect_same_after_interruption(draw_exactly("1000000")); }
TEST_F(Interrupted, Fit) { expect_same_after_interruption(fit("20000", 4, "auto"), moments(2)); }
TEST_F(Interrupted, FitLevels) { expect_same_after_interruption(fit("10000", 8, "all"), moments(2)); }
TEST_F(Interrupted, FitProductPrior) { expect_same_after_interruption(fit_prior("product")); }
TEST_F(Interrupted, FitGaussianPrior) { expect_same_after_interruption(fit_prior("gaussian")); }
TEST_F(Interrupted, SampleSde) { expect_same_after_interruption(sample("sde", "200000")); }
TEST_F(Interrupted, SampleOde) { expect_same_after_interruption(sample("ode", "100000")); }

// The work is done, and the run says so.
TEST_F(Interrupted, FitThatIsComplete) { expect_success_once_complete(fit_process("1000", {})); }
TEST_F(Interrupted, SampleThatIsComplete) { expect_success_once_complete(sample("ode", "2000")); }

TEST_F(Interrupted, FitOfOtherProcesses) {
    const std::string law = path("law.toml");
    const int trials = (moments() + 3) / 4;
    expect_same_after_interruption(fit_process("50000", {"--process", "box", "--radius", "18"}), trials);
    expect_same_after_interruption(
        fit_process("50000", {"--process", "torus", "--box", "-6:6", "--radius", "9"}), trials);
    expect_same_after_interruption(fit_process("100000", {"--process", "ve"}), trials);
    expect_same_after_interruption(
        fit_process("100000", {"--process", "linear", "--drift", law, "--noise", law, "--degree", "6"}),
        trials);
    expect_same_after_interruption(nonlinear_fit("4000", "1"), trials);
}

TEST_F(Interrupted, ResumeIsRefusedWhenTheDriftChanged) {
    const Work work = nonlinear_fit("300000", "3");
    Conditions conditions = often_saved();
    conditions.signal = SIGTERM;
    conditions.signal_once = path("m.dynkin.checkpoint"); // the run takes a minute
    const Outcome stopped = run(arguments(work), conditions);
    ASSERT_EQ(stopped.exit_code, 143) << stopped.err;
    write_bytes(path("drift.toml"), "[drift]\nkind = \"double_well\"\ndimension = 2\na = 1.5\n");
    const Outcome refused = run(arguments(work, {"--resume"}), often_saved());
    EXPECT_EQ(refused.exit_code, 3);
    EXPECT_NE(refused.err.find("drift"), std::string::npos) << refused.err;
}

// A checkpoint is not continued into another result.
TEST_F(Interrupted, ResumeIsRefusedWhenTheConfigurationChanged) {
    const Work work = draw("2000000");
    Conditions conditions = often_saved();
    conditions.signal = SIGINT;
    conditions.signal_once = path("train.npy.checkpoint"); // the run takes more than a second
    EXPECT_EQ(run(arguments(work), conditions).exit_code, 130);
    ASSERT_TRUE(std::filesystem::exists(path("train.npy.checkpoint")));
    Work changed = work;
    changed.arguments.back() = "4"; // the seed
    const Outcome refused = run(arguments(changed, {"--resume"}), often_saved());
    EXPECT_EQ(refused.exit_code, 3);
    EXPECT_EQ(refused.err.rfind("error:", 0), 0u) << refused.err;
    EXPECT_NE(refused.err.find("seed"), std::string::npos) << refused.err;
}

} // namespace
} // namespace dynkin::cli_test

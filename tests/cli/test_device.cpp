// test_device.cpp - the program with --device cuda, on the emulated device: the same files and figures as on
// the CPU.
#include "program.h"
#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>

namespace dynkin::cli_test {
namespace {

class OnEmulator : public InFolder {
  protected:
    static Conditions emulated() {
        Conditions conditions;
        conditions.program = DYNKIN_EMULATED_PROGRAM;
        return conditions;
    }
    /// Runs on both devices; figures and files are those of the CPU, but for what names the device.
    nlohmann::json both(const Arguments& arguments, const std::vector<std::string>& outputs) {
        Arguments all = arguments;
        all.insert(all.end(), {"--json", "--quiet"});
        nlohmann::json figures[2];
        std::vector<std::string> bytes[2];
        for (const bool device : {false, true}) {
            Arguments now = all;
            now.insert(now.end(), {"--device", device ? "cuda" : "cpu"});
            const Outcome outcome = succeed(now, emulated());
            figures[device] = nlohmann::json::parse(outcome.out);
            for (const std::string& output : outputs) bytes[device].push_back(read_bytes(output));
        }
        EXPECT_EQ(figures[0].at("device"), "cpu");
        EXPECT_NE(figures[1].at("device"), "cpu");
        for (nlohmann::json& json : figures) json.erase("device"), json.erase("seconds");
        EXPECT_EQ(figures[1], figures[0]);
        EXPECT_EQ(bytes[1], bytes[0]);
        return figures[1];
    }
};

TEST_F(OnEmulator, GinzburgLandauChainOf16Sites) {
    const std::string target = chain_target(16), train = path("train.npy");
    const auto drawn = both({"draw", target, "-n", "2000", "-o", train, "--seed", "1", "--chains", "64",
                             "--warmup", "400", "--thinning", "4"},
                            {train, train + ".json"});
    EXPECT_LE(drawn.at("r_hat_max").get<double>(), 1.05);
    EXPECT_NEAR(drawn.at("acceptance").get<double>(), 0.8, 0.08);
    both({"draw", target, "-n", "600", "-o", path("t.npy"), "--sampler", "tempering", "--chains", "16",
          "--warmup", "60", "--thinning", "2", "--temperatures", "3", "--allow-unconverged"},
         {path("t.npy")});

    both({"draw", target, "-n", "300", "-o", path("e.npy"), "--sampler", "exact"}, {path("e.npy")});

    std::vector<double> log_q(2000, -3.0); // any numbers: weights are arithmetic
    for (std::size_t n = 0; n < log_q.size(); ++n) log_q[n] += std::sin(static_cast<double>(n));
    log_q[7] = -INFINITY;
    write_bytes(path("logq.npy"), npy_bytes(2000, 1, log_q));
    const auto weighed = both({"weigh", train, "--log-density", path("logq.npy"), "--target", target, "-o",
                               path("w.npy"), "--second-moments", path("m.npy")},
                              {path("w.npy"), path("m.npy")});
    EXPECT_EQ(weighed.at("flagged"), 1);
    both({"evaluate", train, "--against", path("t.npy"), "--target", target}, {});
}

TEST_F(OnEmulator, AnInterruptedDrawGoesOn) {
    const std::string target = chain_target(6), output = path("x.npy");
    const Arguments draw = {"draw",     target, "-n",         "600", "-o",      output,     "--chains", "16",
                            "--warmup", "1000", "--thinning", "2",   "--quiet", "--device", "cuda"};
    const Outcome whole = succeed(draw, emulated());
    EXPECT_EQ(whole.out.rfind("device ", 0), 0u) << whole.out; // its first line
    const std::string bytes = read_bytes(output);
    Arguments resumed = draw;
    resumed.insert(resumed.end(), {"--resume"});
    std::filesystem::remove(output);
    int interrupted = 0;
    for (int k = 0; k < 50 && !std::filesystem::exists(output); ++k) {
        Conditions conditions = emulated();
        conditions.signal = SIGINT, conditions.signal_after = 0.3 * whole.seconds;
        const Outcome outcome = run(resumed, conditions);
        EXPECT_TRUE(outcome.exit_code == 0 || outcome.exit_code == 130) << outcome.err;
        interrupted += outcome.exit_code == 130;
    }
    EXPECT_EQ(read_bytes(output), bytes);
    EXPECT_GE(interrupted, 1);
}

TEST_F(OnEmulator, SamplersOfTheCpuRefuseTheDevice) {
    const Outcome outcome = run({"draw", chain_target(), "-n", "10", "-o", path("x.npy"), "--sampler",
                                 "heatbath", "--device", "cuda"},
                                emulated());
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_NE(outcome.err.find("CPU"), std::string::npos) << outcome.err;
}

TEST_F(OnEmulator, LittleDeviceMemoryIsSaid) {
    const Outcome outcome = run({"draw", chain_target(), "-n", "1000", "-o", path("x.npy"), "--device",
                                 "cuda", "--device-memory", "5000"},
                                emulated());
    EXPECT_EQ(outcome.exit_code, 5);
    EXPECT_NE(outcome.err.find("device memory"), std::string::npos) << outcome.err;
}

} // namespace
} // namespace dynkin::cli_test

// test_bench.cpp - `dynkin bench`: what it prints and what it refuses. No test looks at a time.
#include "program.h"
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

namespace dynkin::cli_test {
namespace {

using Json = nlohmann::json;

const std::set<std::string> all_stages = {"moments", "gram", "solve",       "score",  "sde",  "ode",
                                          "logq",    "hmc",  "conditional", "energy", "prior"};
const Arguments small = {"bench",    "--dimension", "6",       "--degree", "4",         "--samples", "128",
                         "--chains", "16",          "--nodes", "2",        "--repeats", "2"};

Arguments with(Arguments arguments, const Arguments& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

class Bench : public InFolder {
  protected:
    static Json measured(const Outcome& outcome) { return Json::parse(outcome.out); }

    static void expect_spread(const Json& seconds) {
        const double least = seconds.at("least"), lower = seconds.at("lower_quartile"),
                     median = seconds.at("median"), upper = seconds.at("upper_quartile");
        EXPECT_TRUE(0 < least && least <= lower && lower <= median && median <= upper) << seconds;
    }
    /// Rates and percentages belong together: all finite, and as counted.
    static void expect_rates(const Json& json, double units, double seconds, double gemm, double bandwidth) {
        const auto expect = [&](const char* count, const char* rate, const char* percent, double peak) {
            if (!json.contains(count)) return;
            const double expected = json.at(count).get<double>() * units / seconds;
            EXPECT_NEAR(json.at(rate).get<double>(), 1e-9 * expected, 1e-15 * expected);
            const double share = json.at(percent);
            EXPECT_TRUE(std::isfinite(share) && share > 0) << json;
            EXPECT_NEAR(share, 1e-7 * expected / peak, 1e-9 * share);
        };
        expect("flops_per_unit", "gflops", "percent_of_gemm", gemm);
        expect("bytes_per_unit", "gbytes", "percent_of_bandwidth", bandwidth);
    }
    static void expect_schema(const Json& json, bool device) {
        EXPECT_EQ(json.at("command"), "bench");
        EXPECT_EQ(json.at("emulated"), json.at("device") == "emulated device");
        EXPECT_EQ(json.at("clock"), device ? "events" : "wall");
        for (const char* key : {"version", "device", "threads", "isa", "sizes"})
            EXPECT_TRUE(json.contains(key)) << key;
        for (const char* key : {"date", "processor"}) EXPECT_TRUE(json.at("machine").contains(key)) << key;
        const Json& peaks = json.at("peaks");
        const double bandwidth = peaks.at("bandwidth_gbytes");
        std::set<std::string> seen;
        for (const Json& stage : json.at("stages")) {
            SCOPED_TRACE(stage.dump());
            seen.insert(stage.at("stage"));
            const std::string precision = stage.at("precision");
            // On the CPU that of the time of the stage itself.
            const double first = peaks.at("gemm_" + precision + "_gflops"), units = stage.at("units"),
                         gemm = device ? first : stage.at("gemm_gflops").get<double>();
            EXPECT_TRUE(gemm > 0 && std::isfinite(gemm));
            expect_spread(stage.at("seconds"));
            const double seconds = stage.at("seconds").at("median");
            EXPECT_NEAR(stage.at("units_per_second").get<double>(), units / seconds, 1e-9 * units / seconds);
            EXPECT_TRUE(stage.contains("percent_of_gemm") && stage.contains("percent_of_bandwidth"));
            expect_rates(stage, units, seconds, gemm, bandwidth);
            EXPECT_EQ(stage.contains("parts"), device);
            EXPECT_EQ(stage.contains("processor_seconds"), !device);
            if (!device) continue;
            for (const Json& part : stage.at("parts")) {
                expect_spread(part.at("seconds"));
                expect_rates(part, units, part.at("seconds").at("median"), gemm, bandwidth);
            }
        }
        EXPECT_EQ(seen, all_stages);
    }
    /// Exit code 2, one line that says so, and nothing left behind.
    void expect_refused(const Arguments& more, const std::string& part) {
        SCOPED_TRACE(testing::PrintToString(more));
        const auto before = files();
        const Outcome outcome = run(with({"bench", "--device", "cpu"}, more));
        EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
        EXPECT_EQ(outcome.err.rfind("error: ", 0), 0u) << outcome.err;
        EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
        EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
        EXPECT_EQ(outcome.out, "");
        EXPECT_EQ(files(), before);
    }
};

TEST_F(Bench, AllStagesOnTheCpu) {
    const Arguments arguments =
        with(small, {"--device", "cpu", "--json", "--output", path("rates.json"), "--record", "commit=abc"});
    const Outcome outcome = succeed(arguments);
    const Json json = measured(outcome);
    expect_schema(json, false);
    EXPECT_EQ(json.at("recorded").at("commit"), "abc");
    EXPECT_EQ(read_bytes(path("rates.json")), outcome.out);
}

TEST_F(Bench, OneStageAsText) {
    const Outcome outcome = succeed(with(small, {"--device", "cpu", "--stage", "hmc", "--stage", "energy"}));
    EXPECT_NE(outcome.out.find("GEMM float64"), std::string::npos) << outcome.out;
    EXPECT_NE(outcome.out.find("\nhmc "), std::string::npos) << outcome.out;
    EXPECT_NE(outcome.out.find("\nenergy "), std::string::npos) << outcome.out;
    EXPECT_EQ(outcome.out.find("moments"), std::string::npos) << outcome.out;
}

TEST_F(Bench, TheProcessorsClock) {
    const Json json = measured(
        succeed(with(small, {"--device", "cpu", "--stage", "score", "--clock", "processor", "--json"})));
    EXPECT_EQ(json.at("clock"), "processor");
    const Json& stage = json.at("stages").at(0);
    const double units = stage.at("units"), seconds = stage.at("processor_seconds").at("median");
    EXPECT_NEAR(stage.at("units_per_second").get<double>(), units / seconds, 1e-9 * units / seconds);
}

TEST_F(Bench, CountsByHand) {
    const Json json = measured(succeed(with(small, {"--device", "cpu", "--json"})));
    const auto stage = [&](const std::string& name) {
        for (const Json& s : json.at("stages"))
            if (s.at("stage") == name) return s;
        throw std::runtime_error(name);
    };
    EXPECT_EQ(stage("moments").at("bytes_per_unit"), 8 * 6); // a row of six numbers
    EXPECT_EQ(stage("energy").at("flops_per_unit"), 6 * (2 * 4 + 2 * 2 + 5));
    EXPECT_EQ(stage("energy").at("bytes_per_unit"), 8 * 7);
    EXPECT_EQ(stage("energy").at("units"), 128);
    EXPECT_EQ(stage("ode").at("units"), 128 * 32);
    EXPECT_EQ(stage("conditional").at("units"), 128 * 3 * 32); // three of six columns
    EXPECT_EQ(stage("hmc").at("units"), 16 * 6 * 8 * 8);
    // 2 even functions a site, 5 neighbours of 5 products, 10 more pairs of one; K^3 / 3 + 2 K^2 of a system.
    const double k = 6 * 2 + 5 * 5 + 10;
    EXPECT_NEAR(stage("solve").at("flops_per_unit").get<double>(), k * k * k / 3 + 2 * k * k, 1e-9 * k);
}

TEST_F(Bench, ScalingAsATable) {
    const std::string table = path("scaling.csv");
    const Json json = measured(succeed(with(small, {"--device", "cpu", "--threads", "2", "--json", "--stage",
                                                    "moments", "--stage", "hmc", "--scaling", table})));
    std::istringstream lines(read_bytes(table));
    std::string line;
    std::getline(lines, line);
    EXPECT_EQ(line.rfind("axis,value,stage,precision,device,threads,", 0), 0u) << line;
    const auto columns = std::count(line.begin(), line.end(), ',');
    std::map<std::string, std::set<std::string>> values; // of each axis
    std::size_t count = 0;
    for (; std::getline(lines, line); ++count) {
        EXPECT_EQ(std::count(line.begin(), line.end(), ','), columns) << line;
        const auto first = line.find(','), second = line.find(',', first + 1);
        values[line.substr(0, first)].insert(line.substr(first + 1, second - first - 1));
    }
    EXPECT_EQ(json.at("points"), count);
    const std::map<std::string, std::set<std::string>> expected = {
        {"samples", {"64", "128"}}, {"dimension", {"6"}}, {"degree", {"2", "4"}}, {"threads", {"1", "2"}}};
    EXPECT_EQ(values, expected);
}

TEST_F(Bench, BadOptionsAreRefused) {
    expect_refused({"--stage", "everything"}, "--stage");
    expect_refused({"--dimension", "1"}, "dimension: expected 2 to 4096, got 1");
    expect_refused({"--degree", "17"}, "degree: expected 2 to 16, got 17");
    expect_refused({"--degree", "-1"}, "degree: expected 2 to 16, got -1");
    expect_refused({"--samples", "10"}, "samples: expected 64");
    expect_refused({"--samples", "1e12"}, "samples: expected 64");
    expect_refused({"--samples", "-3"}, "--samples");
    expect_refused({"--samples", "2e8", "--dimension", "4096"}, "GiB");
    expect_refused({"--repeats", "-1"}, "repeats");
    expect_refused({"--nodes", "1025"}, "nodes");
    expect_refused({"--chains", "1e9"}, "chains");
    expect_refused({"--clock", "sundial"}, "--clock");
    expect_refused({"--record", "commit"}, "expected KEY=VALUE, got 'commit'");
    expect_refused({"--scaling", path("a.csv"), "--output", path("b.json")}, "--scaling");
    expect_refused({"--threads", "-1"}, "--threads");
}

#ifdef DYNKIN_EMULATED_PROGRAM
TEST_F(Bench, AllStagesOnTheDevice) {
    Conditions conditions;
    conditions.program = DYNKIN_EMULATED_PROGRAM;
    const Json json = measured(succeed(with(small, {"--device", "cuda", "--json"}), conditions));
    expect_schema(json, true);
    for (const char* key : {"toolkit", "driver_cuda", "clock_mhz", "l2_cache_bytes", "compute_capability"})
        EXPECT_TRUE(json.at("machine").contains(key)) << key;
    EXPECT_GT(json.at("peaks").at("to_device_gbytes"), 0);
    // Work is counted from the algorithm, so it does not depend on where it is done.
    const Json cpu = measured(succeed(with(small, {"--device", "cpu", "--json"})));
    ASSERT_EQ(cpu.at("stages").size(), json.at("stages").size());
    for (std::size_t k = 0; k < cpu.at("stages").size(); ++k)
        for (const char* key : {"stage", "precision", "unit", "units", "flops_per_unit", "bytes_per_unit"})
            EXPECT_EQ(cpu.at("stages")[k].at(key), json.at("stages")[k].at(key)) << k;
}
#endif

} // namespace
} // namespace dynkin::cli_test

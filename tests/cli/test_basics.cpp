// test_basics.cpp - help, version, usage errors, and `info` on each kind of file.
#include "program.h"
#include <nlohmann/json.hpp>

namespace dynkin::cli_test {
namespace {

const Arguments commands = {"draw", "fit", "sample", "weigh", "evaluate", "score", "density", "info"};

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

TEST(Basics, HelpNamesEveryCommand) {
    const Outcome help = run({"--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_EQ(help.err, "");
    for (const auto& command : commands) {
        EXPECT_TRUE(contains(help.out, command)) << command;
        const Outcome one = run({command, "--help"});
        EXPECT_EQ(one.exit_code, 0) << command;
        EXPECT_EQ(one.err, "") << command;
        for (const char* flag :
             {"--seed", "--threads", "--device", "--device-memory", "--isa", "--quiet", "--json"})
            EXPECT_TRUE(contains(one.out, flag)) << command << ' ' << flag;
    }
}

TEST(Basics, VersionIsANumber) {
    const Outcome version = run({"--version"});
    EXPECT_EQ(version.exit_code, 0);
    EXPECT_TRUE(contains(version.out, "0.1.0")) << version.out;
}

TEST(Basics, WrongUsageIsNamedAndExitsWithTwo) {
    const std::vector<Arguments> wrong = {{},
                                          {"paint"},
                                          {"info"},
                                          {"info", "--colour", "red"},
                                          {"sample", "model", "-n", "many", "-o", "out.npy"},
                                          {"info", "x.npy", "--device", "abacus"},
                                          {"info", "x.npy", "--device", "cuda"}, // runs on the CPU only
                                          {"info", "x.npy", "--device-memory", "8 parsecs"},
                                          {"info", "x.npy", "--device-memory", "-1"},
                                          {"info", "x.npy", "--threads", "-1"}};
    for (const auto& arguments : wrong) {
        const Outcome outcome = run(arguments);
        EXPECT_EQ(outcome.exit_code, 2) << testing::PrintToString(arguments) << outcome.err;
        EXPECT_EQ(outcome.err.rfind("error:", 0), 0u) << outcome.err;
    }
}

TEST(Basics, DeviceMemoryMayHaveAUnit) {
    for (const char* size : {"0", "1000000", "8G", "512M", "8GiB"}) {
        const Outcome outcome = run({"info", "/no/such/file", "--device-memory", size});
        EXPECT_EQ(outcome.exit_code, 5) << outcome.err; // the size is accepted
    }
}

class Info : public InFolder {
  protected:
    nlohmann::json info(const std::string& file) {
        return nlohmann::json::parse(succeed({"info", file, "--json"}).out);
    }
};

TEST_F(Info, SamplesAreDescribed) {
    write_bytes(path("x.npy"), npy_bytes(50, 3, some_samples(50, 3)));
    const auto json = info(path("x.npy"));
    EXPECT_EQ(json.at("command"), "info");
    EXPECT_TRUE(json.contains("version"));
    const Outcome text = succeed({"info", path("x.npy")});
    EXPECT_TRUE(contains(text.out, "50")) << text.out;
    EXPECT_EQ(text.err, "");
}

TEST_F(Info, TargetIsDescribed) {
    const Outcome text = succeed({"info", chain_target()});
    EXPECT_TRUE(contains(text.out, "ginzburg_landau")) << text.out;
    EXPECT_TRUE(info(path("target.toml")).is_object());
}

TEST_F(Info, ModelIsDescribed) {
    write_bytes(path("x.npy"), npy_bytes(2000, 3, some_samples(2000, 3)));
    succeed({"fit", path("x.npy"), "-o", path("m.dynkin"), "--quiet"});
    EXPECT_TRUE(info(path("m.dynkin")).is_object());
    EXPECT_EQ(files(), (std::vector<std::string>{"m.dynkin", "m.dynkin.json", "x.npy"}));
}

} // namespace
} // namespace dynkin::cli_test

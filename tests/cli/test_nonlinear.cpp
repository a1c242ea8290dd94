// test_nonlinear.cpp - fit, score, sample and info of a nonlinear process as a user runs them.
#include "program.h"
#include <nlohmann/json.hpp>

namespace dynkin::cli_test {
namespace {

class NonlinearCommands : public InFolder {
  protected:
    std::string write(const std::string& name, const std::string& text) const {
        write_bytes(path(name), text);
        return path(name);
    }
};

TEST_F(NonlinearCommands, FitScoreAndSampleASwimmer) {
    const std::string drift = write("swimmer.toml", "[drift]\nkind = \"swimmer\"\n"),
                      data = write("x.npy", npy_bytes(2000, 2, some_samples(2000, 2))),
                      model = path("m.dynkin");
    const Arguments fit = {"fit",      data, "-o",      model, "--process",    "nonlinear", "--drift", drift,
                           "--degree", "3",  "--t-end", "2",   "--time-nodes", "4",         "--json"};
    const auto fitted = nlohmann::json::parse(succeed(fit).out);
    EXPECT_EQ(fitted["process"], "nonlinear");
    EXPECT_EQ(fitted["node_time"].size(), 4u);
    const std::string first = read_bytes(model);
    Arguments again = fit;
    again.insert(again.end(), {"--threads", "1"});
    succeed(again);
    EXPECT_EQ(first, read_bytes(model));
    succeed({"score", model, data, "-t", "1", "-o", path("score.npy")});
    EXPECT_NE(read_bytes(path("score.npy")).find("(2000, 1)"), std::string::npos);
    const Arguments sample = {"sample", model, "-n", "500", "-o", path("new.npy"), "--seed", "3"};
    succeed(sample);
    const std::string rows = read_bytes(path("new.npy"));
    Conditions in_parts;
    in_parts.environment["DYNKIN_BATCH"] = "97";
    succeed(sample, in_parts);
    EXPECT_EQ(rows, read_bytes(path("new.npy")));
    succeed({"sample", model, "-n", "500", "-o", path("other.npy"), "--prior", data, "--time", "0.5"});
    EXPECT_EQ(nlohmann::json::parse(succeed({"info", drift, "--json"}).out)["driven"], nlohmann::json({1}));
    EXPECT_EQ(nlohmann::json::parse(succeed({"info", model, "--json"}).out)["kind"], "nonlinear model");
}

TEST_F(NonlinearCommands, WrongInputIsOneLineAndItsCode) {
    const std::string drift = write("d.toml", "[drift]\nkind = \"double_well\"\n"),
                      data = write("x.npy", npy_bytes(200, 1, some_samples(200, 1))),
                      wide = write("y.npy", npy_bytes(200, 2, some_samples(200, 2))), model = path("m");
    succeed({"fit", data, "-o", model, "--process", "nonlinear", "--drift", drift, "--degree", "2", "--t-end",
             "1", "--time-nodes", "3"});
    const auto expect = [&](int code, const std::string& part, const Arguments& arguments) {
        const Outcome outcome = run(arguments);
        EXPECT_EQ(outcome.exit_code, code) << outcome.err;
        EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
        EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
    };
    const std::string out = path("out");
    expect(2, "needs --drift", {"fit", data, "-o", out, "--process", "nonlinear"});
    expect(2, "go with nothing else", {"fit", data, "-o", out, "--drift", drift});
    expect(3, "expected 1 numbers a sample",
           {"fit", wide, "-o", out, "--process", "nonlinear", "--drift", drift});
    expect(3, "drift.kind",
           {"fit", data, "-o", out, "--process", "nonlinear", "--drift",
            write("bad.toml", "[drift]\nkind = 3\n")});
    expect(5, "cannot open",
           {"fit", data, "-o", out, "--process", "nonlinear", "--drift", path("none.toml")});
    expect(2, "range", {"score", model, data, "-t", "7", "-o", out});
    expect(2, "range", {"sample", model, "-n", "5", "-o", out, "--time", "7"});
    expect(3, "at least 500 rows", {"sample", model, "-n", "500", "-o", out, "--prior", data});
    expect(2, "reversed by its SDE", {"sample", model, "-n", "5", "-o", out, "--method", "ode"});
    expect(3, "", {"density", model, data, "-o", out});
}

} // namespace
} // namespace dynkin::cli_test

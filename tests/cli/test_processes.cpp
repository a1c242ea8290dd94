// test_processes.cpp - box, torus, variance-exploding and linear processes as a user sees them.
#include "program.h"
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace dynkin::cli_test {
namespace {

class Processes : public InFolder {
  protected:
    nlohmann::json json(Arguments arguments) {
        arguments.insert(arguments.end(), {"--json", "--quiet"});
        return nlohmann::json::parse(succeed(arguments).out);
    }
    std::string written(const std::string& name, const std::string& text) {
        write_bytes(path(name), text);
        return path(name);
    }
    std::string mixture() {
        return written("mixture.toml",
                       "[target]\nkind = \"gaussian_mixture\"\nweights = [0.4, 0.6]\n"
                       "means = [[-1.0, 0.5], [1.0, -0.2]]\n"
                       "covariances = [[[0.2, 0.1], [0.1, 0.3]], [[0.3, 0.0], [0.0, 0.2]]]\n");
    }
    void expect_error(int code, const Arguments& arguments, const std::string& part) {
        const Outcome outcome = run(arguments);
        EXPECT_EQ(outcome.exit_code, code) << outcome.err;
        EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
        EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    }
};

/// Weights of a normalised mixture: log Z = 0, and almost all samples count.
TEST_F(Processes, BoxFromDrawToWeigh) {
    const std::string target = mixture(), train = path("train.npy"), model = path("m.dynkin");
    json({"draw", target, "-n", "20000", "-o", train});
    const auto fitted = json({"fit", train, "-o", model, "--process", "box", "--radius", "16"});
    EXPECT_EQ(fitted.at("process"), "box");
    EXPECT_EQ(fitted.at("blocks"), 1);
    EXPECT_EQ(json({"info", model}).at("process"), "box");
    const auto sampled = json({"sample", model, "-n", "4000", "-o", path("x.npy"), "--method", "ode",
                               "--log-density", path("q.npy")});
    EXPECT_EQ(sampled.at("steps"), 96);
    EXPECT_LT(sampled.at("log_density_error").get<double>(), 0.02);
    const auto weighed = json(
        {"weigh", path("x.npy"), "--log-density", path("q.npy"), "--target", target, "-o", path("w.npy")});
    EXPECT_GT(weighed.at("ess_fraction").get<double>(), 0.95);
    EXPECT_NEAR(weighed.at("log_partition").get<double>(), 0, 0.02);
    EXPECT_EQ(json({"sample", model, "-n", "4000", "-o", path("y.npy")}).at("steps"), 48);
    json({"draw", target, "-n", "4000", "-o", path("held.npy"), "--seed", "5"});
    const auto density = json({"density", model, path("held.npy"), "-o", path("held_q.npy")});
    EXPECT_LT(density.at("log_density_step_error").get<double>(), 0.02);
    const auto evaluated = json({"evaluate", path("y.npy"), "--against", path("held.npy"), "--target", target,
                                 "--log-density", path("held_q.npy")});
    EXPECT_NEAR(evaluated.at("entropy_gap").get<double>(), 0.005, 0.012);
    EXPECT_LT(evaluated.at("marginal_tv").get<double>(),
              2.5 * evaluated.at("marginal_tv_floor").get<double>());
    json({"score", model, path("held.npy"), "-t", "0.1", "-o", path("s.npy")});
}

TEST_F(Processes, TorusVarianceExplodingAndLinear) {
    const std::string target = mixture(), train = path("train.npy");
    json({"draw", target, "-n", "5000", "-o", train});
    const std::string matrices =
        written("p.toml", "[process]\ndrift = [[-1.0, 0.5], [-0.8, -0.7]]\nnoise = [[1.0, 0.0], [0.3, 1]]\n");
    const std::vector<Arguments> flags = {{"--process", "torus", "--box", "-5:5", "--radius", "8"},
                                          {"--process", "ve"},
                                          {"--process", "linear", "--drift", matrices, "--noise", matrices}};
    for (const Arguments& process : flags) {
        Arguments fit = {"fit", train, "-o", path("m.dynkin")};
        fit.insert(fit.end(), process.begin(), process.end());
        EXPECT_EQ(json(fit).at("process"), process[1]);
        EXPECT_EQ(json({"info", path("m.dynkin")}).at("process"), process[1]);
        json({"sample", path("m.dynkin"), "-n", "500", "-o", path("x.npy"), "--method", "ode",
              "--log-density", path("q.npy")});
        json({"sample", path("m.dynkin"), "-n", "500", "-o", path("y.npy")});
        json({"density", path("m.dynkin"), path("x.npy"), "-o", path("d.npy")});
        json({"score", path("m.dynkin"), path("x.npy"), "-t", "0.5", "-o", path("s.npy")});
        const auto figures = json({"evaluate", path("y.npy"), "--against", train});
        EXPECT_LT(figures.at("second_moment_error").get<double>(), 0.2) << process[1];
    }
}

TEST_F(Processes, WhatDoesNotFitIsRefused) {
    const std::string train = path("train.npy"), model = path("m.dynkin");
    write_bytes(train, npy_bytes(500, 2, some_samples(500, 2)));
    const Arguments fit = {"fit", train, "-o", model, "--quiet"};
    const auto with = [&](Arguments more) {
        more.insert(more.begin(), fit.begin(), fit.end());
        return more;
    };
    expect_error(3, with({"--process", "box", "--box", "0:0.01"}), "within the box");
    expect_error(3, with({"--process", "torus", "--box", "0:0.01"}), "within the period");
    expect_error(2, with({"--process", "box", "--box", "1"}), "LO:HI");
    expect_error(2, with({"--process", "box", "--box", "-9:9,-9:9,-9:9"}), "columns");
    expect_error(2, with({"--process", "box", "--radius", "500"}), "more than");
    expect_error(2, with({"--box", "0:1"}), "--process box");
    expect_error(2, with({"--process", "linear"}), "--drift");
    const auto matrices = [&](const std::string& drift, const std::string& noise) {
        const std::string file =
            written("p.toml", "[process]\ndrift = " + drift + "\nnoise = " + noise + "\n");
        return with({"--process", "linear", "--drift", file, "--noise", file});
    };
    expect_error(3, matrices("[[1.0, 0.0], [0.0, -1.0]]", "[[1, 0], [0, 1]]"), "unstable");
    expect_error(3, matrices("[[-1.0, 0.0], [0.0, -1.0]]", "[[1, 0], [1, 0]]"), "singular");
    expect_error(3, matrices("[[-1.0, 0.0], [0.0]]", "[[1, 0], [1, 0]]"), "row 1");
    expect_error(3, matrices("[[-1.0]]", "[[1, 0], [0, 1]]"), "2 x 2");
    expect_error(3, with({"--process", "linear", "--drift", train, "--noise", train}), "matrix");
    EXPECT_FALSE(std::filesystem::exists(model));
}

} // namespace
} // namespace dynkin::cli_test

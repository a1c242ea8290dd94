// test_pipeline.cpp - draw, fit, sample, weigh, evaluate, score and density of one chain, each from the
// other's files.
#include "engine/npy.h"
#include "program.h"
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace dynkin::cli_test {
namespace {

class Pipeline : public InFolder {
  protected:
    nlohmann::json json(Arguments arguments) {
        arguments.insert(arguments.end(), {"--json", "--quiet"});
        const Outcome outcome = succeed(arguments);
        EXPECT_EQ(outcome.err, "");
        return nlohmann::json::parse(outcome.out);
    }
    static void expect_keys(const nlohmann::json& json, const std::vector<std::string>& keys) {
        for (const char* key : {"command", "version", "seed", "device", "seconds"})
            EXPECT_TRUE(json.contains(key)) << key;
        for (const auto& key : keys) EXPECT_TRUE(json.contains(key)) << key << " in " << json;
    }
};

// The bars are the demo's, widened for 2e4 training samples and 4e3 generated ones.
TEST_F(Pipeline, GinzburgLandauChainOf16Sites) {
    const std::string target = chain_target(16), train = path("train.npy"), model = path("gl16.dynkin"),
                      generated = path("new.npy"), log_density = path("logq.npy"),
                      weights = path("weights.npy");
    const auto drawn = json({"draw", target, "-n", "20000", "-o", train, "--seed", "1"});
    expect_keys(drawn, {"samples", "dimension", "acceptance", "r_hat_max", "ess_min"});
    EXPECT_EQ(drawn.at("samples"), 20000);
    EXPECT_EQ(drawn.at("dimension"), 16);
    EXPECT_LE(drawn.at("r_hat_max").get<double>(), 1.05);

    const auto fitted =
        json({"fit", train, "-o", model, "--target", target, "--seed", "1", "--levels", "flat"});
    expect_keys(fitted, {"samples", "dimension", "blocks", "basis_size", "moments", "ridge", "condition",
                         "heldout_loss", "reference"});
    EXPECT_EQ(fitted.at("blocks"), 1);

    const auto sampled = json({"sample", model, "-n", "4000", "-o", generated, "--method", "ode",
                               "--log-density", log_density, "--seed", "1"});
    expect_keys(sampled, {"samples", "steps", "method", "runaways", "log_density_error"});

    const auto weighed =
        json({"weigh", generated, "--log-density", log_density, "--target", target, "-o", weights});
    expect_keys(weighed, {"ess_fraction", "log_partition", "log_partition_error", "flagged", "energy_mean"});
    EXPECT_GE(weighed.at("ess_fraction").get<double>(), 0.7);
    EXPECT_NEAR(weighed.at("log_partition").get<double>(), 1.84218, 0.05);

    const auto evaluated =
        json({"evaluate", generated, "--against", train, "--target", target, "--weights", weights});
    for (const char* key : {"second_moment_error", "marginal_tv", "marginal_w1", "sliced_w",
                            "energy_mean_error", "energy_std_ratio"})
        expect_keys(evaluated, {key, std::string(key) + "_floor"});
    EXPECT_LE(evaluated.at("second_moment_error").get<double>(), 0.12);
    EXPECT_LE(std::abs(evaluated.at("energy_mean_error").get<double>()), 0.2);

    json({"score", model, generated, "-t", "0.1", "-o", path("score.npy")});
    json({"density", model, generated, "-o", path("logp.npy")});
    EXPECT_EQ(read_bytes(path("score.npy")).size() - 128, 4000u * 16 * 8);
    // f4 or f8 per sample
    const std::size_t bytes = (read_bytes(path("logp.npy")).size() - 128) / 4000;
    EXPECT_TRUE(bytes == 4 || bytes == 8);
}

TEST_F(Pipeline, SdeSamplesNeedNoTarget) {
    write_bytes(path("x.npy"), npy_bytes(3000, 3, some_samples(3000, 3)));
    json({"fit", path("x.npy"), "-o", path("m.dynkin")});
    const auto sampled =
        json({"sample", path("m.dynkin"), "-n", "2000", "-o", path("y.npy"), "--method", "sde"});
    EXPECT_EQ(sampled.at("method"), "sde");
    const auto evaluated = json({"evaluate", path("y.npy"), "--against", path("x.npy")});
    EXPECT_LE(evaluated.at("second_moment_error").get<double>(), 0.1);
}

// Pixels that are constant in the integers are left out of the model and stand again in what it generates.
TEST_F(Pipeline, DigitsKeepTheirConstantPixels) {
    const std::string digits = DYNKIN_SOURCE_DIR "/data/digits.npy";
    json({"fit", digits, "-o", path("m.dynkin"), "--dequantise", "17", "--drop-constant", "--levels", "flat",
          "--pairs", "all:1", "--degree", "2", "--ridge", "0.03", "--time-nodes", "8"});
    succeed({"sample", path("m.dynkin"), "-n", "100", "-o", path("y.npy"), "--method",
             "ode"}); // which may warn of particles outside the box
    const SampleFile data(digits), generated(path("y.npy"));
    ASSERT_EQ(generated.cols(), 64u);
    std::vector<double> x(data.rows() * 64), y(100 * 64);
    data.read(0, data.rows(), x.data());
    generated.read(0, 100, y.data());
    std::size_t constant = 0;
    for (std::size_t pixel = 0; pixel < 64; ++pixel) {
        double lowest = x[pixel], highest = x[pixel];
        for (std::size_t n = 0; n < data.rows(); ++n)
            lowest = std::min(lowest, x[n * 64 + pixel]), highest = std::max(highest, x[n * 64 + pixel]);
        if (lowest != highest) continue;
        ++constant;
        for (std::size_t n = 0; n < 100; ++n) EXPECT_EQ(y[n * 64 + pixel], lowest) << pixel;
    }
    EXPECT_EQ(constant, 3u);
}

} // namespace
} // namespace dynkin::cli_test

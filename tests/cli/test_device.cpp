// test_device.cpp - the program with --device cuda, on the emulated device: the same files and figures as on
// the CPU.
#include "engine/npy.h"
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
    both({"draw", target, "-n", "300", "-o", path("h.npy"), "--sampler", "heatbath", "--chains", "64",
          "--warmup", "64", "--thinning", "3", "--allow-unconverged"},
         {path("h.npy"), path("h.npy") + ".json"});
    succeed({"fit", train, "--target", target, "-o", path("tile.dynkin"), "--tile", "4", "--levels", "flat",
             "--degree", "4", "--quiet"});
    both({"draw", target, "-n", "300", "-o", path("m.npy"), "--sampler", "model", "--model",
          path("tile.dynkin"), "--chains", "64", "--warmup", "64", "--thinning", "2", "--allow-unconverged"},
         {path("m.npy"), path("m.npy") + ".json"});

    std::vector<double> log_q(2000, -3.0); // any numbers: weights are arithmetic
    for (std::size_t n = 0; n < log_q.size(); ++n) log_q[n] += std::sin(static_cast<double>(n));
    log_q[7] = -INFINITY;
    write_bytes(path("logq.npy"), npy_bytes(2000, 1, log_q));
    const auto weighed = both({"weigh", train, "--log-density", path("logq.npy"), "--target", target, "-o",
                               path("w.npy"), "--resampled", path("r.npy")},
                              {path("w.npy"), path("r.npy")});
    EXPECT_EQ(weighed.at("flagged"), 1);
    both({"evaluate", train, "--against", path("t.npy"), "--target", target}, {});
    both({"evaluate", train, "--against", path("t.npy"), "--target", target, "--weights", path("w.npy")}, {});
    both({"evaluate", train, "--against", path("t.npy"), "--weights", path("w.npy"), "--device-memory",
          "1000000"},
         {});
}

/// The largest difference of two files of numbers; infinities must agree.
double difference(const std::string& a, const std::string& b) {
    const Array<double> x = read_npy(a), y = read_npy(b);
    EXPECT_EQ(x.size(), y.size());
    double largest = 0;
    for (std::size_t k = 0; k < x.size(); ++k)
        if (x[k] != y[k]) largest = std::fmax(largest, std::abs(x[k] - y[k]));
    return largest;
}

/// fit, sample, score and density of one structure on both devices. Models: fits agree to 1e-10, the text of
/// figures is rounded. Samples are float32 trajectories of 32 to 64 steps: 1e-3 is far above their rounding
/// (docs/method.md, section 5.5) and far below any error of method.
class OnBothDevices : public OnEmulator, public ::testing::WithParamInterface<const char*> {};

TEST_P(OnBothDevices, ThePipelineAgrees) {
    const std::string target = chain_target(8), train = path("train.npy"), structure = GetParam();
    succeed({"draw", target, "-n", "3000", "-o", train, "--sampler", "exact", "--quiet"});
    nlohmann::json fits[2];
    for (const bool device : {false, true}) {
        const std::string name = device ? "cuda" : "cpu";
        const auto on = [&](Arguments arguments) {
            arguments.insert(arguments.end(), {"--quiet", "--json", "--device", name});
            return nlohmann::json::parse(succeed(arguments, emulated()).out);
        };
        fits[device] = on({"fit", train, "--target", target, "-o", path(name), "--levels", structure});
        const std::string model = path("cpu");
        for (const std::string method : {"ode", "sde"}) {
            Arguments sample = {"sample", model, "-n", "500", "-o", path(name + method), "--method", method};
            if (method == "ode") sample.insert(sample.end(), {"--log-density", path(name + "q")});
            on(sample);
        }
        if (structure == "all")
            on({"sample", model, "-n", "500", "-o", path(name + "exact"), "--method", "ode", "--log-density",
                path(name + "exactq"), "--exact-last", "all", "--target", target});
        on({"density", model, path("cpuode"), "-o", path(name + "density")});
        if (structure == "flat")
            on({"score", model, path("cpuode"), "-t", "0.1", "-o", path(name + "score")});
    }
    EXPECT_EQ(fits[1].at("basis_size"), fits[0].at("basis_size"));
    EXPECT_EQ(fits[1].at("ridge"), fits[0].at("ridge"));
    const double condition = fits[0].at("condition");
    EXPECT_NEAR(fits[1].at("condition").get<double>(), condition, 1e-4 * condition);
    EXPECT_LE(difference(path("cpuode"), path("cudaode")), 1e-3);
    EXPECT_LE(difference(path("cpusde"), path("cudasde")), 1e-3);
    EXPECT_LE(difference(path("cpuq"), path("cudaq")), 1e-3);
    EXPECT_LE(difference(path("cpudensity"), path("cudadensity")), 1e-7);
    if (structure == "flat") {
        EXPECT_LE(difference(path("cpuscore"), path("cudascore")), 1e-4);
    } else {
        EXPECT_LE(difference(path("cpuexact"), path("cudaexact")), 1e-3);
        EXPECT_LE(difference(path("cpuexactq"), path("cudaexactq")), 1e-3);
    }
}

/// Fit to weigh of a mixture of two Gaussians by each process on both devices: the same model to rounding,
/// and from one model the same samples, scores and densities to what float32 and 24 to 48 steps make of it.
class ProcessesOnBothDevices : public OnEmulator, public ::testing::WithParamInterface<const char*> {};

TEST_P(ProcessesOnBothDevices, ThePipelineAgrees) {
    const std::string target = path("target.toml"), train = path("train.npy"), process = GetParam();
    write_bytes(target, "[target]\nkind = \"gaussian_mixture\"\nweights = [0.4, 0.6]\n"
                        "means = [[-1.5, 0.5], [1.2, -0.5]]\n"
                        "covariances = [[[0.5, 0.1], [0.1, 0.4]], [[0.3, -0.1], [-0.1, 0.6]]]\n");
    succeed({"draw", target, "-n", "1000", "-o", train, "--quiet"});
    Arguments flags = {"--process", process};
    if (process == "linear") {
        write_bytes(path("p.toml"),
                    "[process]\ndrift = [[-1.0, 0.5], [-0.8, -0.7]]\nnoise = [[1.0, 0.0], [0.3, 1]]\n");
        flags.insert(flags.end(), {"--drift", path("p.toml"), "--noise", path("p.toml")});
    } else if (process == "ou" || process == "fitted")
        flags.insert(flags.end(), {"--levels", "flat", "--degree", "4", "--time-nodes", "12"});
    else if (process != "ve")
        flags.insert(flags.end(), {"--radius", "6", "--time-nodes", "12"});
    if (process == "torus") flags.insert(flags.end(), {"--box", "-5:5"});
    nlohmann::json fits[2];
    for (const bool device : {false, true}) {
        const std::string name = device ? "cuda" : "cpu";
        const auto on = [&](Arguments arguments) {
            arguments.insert(arguments.end(), {"--quiet", "--json", "--device", name});
            const auto figures = nlohmann::json::parse(succeed(arguments, emulated()).out);
            EXPECT_EQ(figures.at("device") == "cpu", !device);
            return figures;
        };
        Arguments fit = {"fit", train, "-o", path(name)};
        fit.insert(fit.end(), flags.begin(), flags.end());
        fits[device] = on(fit);
        const std::string model = path("cpu"), steps = process == "linear" ? "24" : "48";
        on({"sample", model, "-n", "100", "-o", path(name + "ode"), "--method", "ode", "--steps", steps,
            "--log-density", path(name + "q")});
        on({"sample", model, "-n", "100", "-o", path(name + "sde"), "--steps", steps});
        on({"density", model, path("cpuode"), "-o", path(name + "density"), "--steps", steps});
        on({"score", model, path("cpuode"), "-t", "0.1", "-o", path(name + "score")});
    }
    const double condition = fits[0].value("condition", 0.0);
    EXPECT_EQ(fits[1].at("ridge"), fits[0].at("ridge"));
    EXPECT_NEAR(fits[1].value("condition", 0.0), condition, 1e-4 * condition);
    EXPECT_LE(difference(path("cpuode"), path("cudaode")), 1e-3);
    EXPECT_LE(difference(path("cpusde"), path("cudasde")), 1e-3);
    EXPECT_LE(difference(path("cpuq"), path("cudaq")), 1e-3);
    EXPECT_LE(difference(path("cpudensity"), path("cudadensity")), 1e-7);
    EXPECT_LE(difference(path("cpuscore"), path("cudascore")), 1e-7);
    both({"weigh", path("cpuode"), "--log-density", path("cpuq"), "--target", target, "-o", path("w.npy")},
         {path("w.npy")});
}
INSTANTIATE_TEST_SUITE_P(Process, ProcessesOnBothDevices,
                         ::testing::Values("fitted", "ou", "box", "torus", "ve", "linear"));

/// Sums of squares of numbers of order 1 over 400 rows, in another order.
TEST_F(OnEmulator, SecondMomentsAgree) {
    const std::string target = chain_target(8), x = path("x.npy");
    succeed({"draw", target, "-n", "400", "-o", x, "--sampler", "exact", "--quiet"});
    write_bytes(path("logq.npy"), npy_bytes(400, 1, std::vector<double>(400, -3.0)));
    for (const std::string name : {"cpu", "cuda"})
        succeed({"weigh", x, "--log-density", path("logq.npy"), "--target", target, "-o", path("w" + name),
                 "--second-moments", path("m" + name), "--second-moments-error", path("e" + name), "--device",
                 name, "--quiet"},
                emulated());
    EXPECT_LE(difference(path("mcpu"), path("mcuda")), 1e-13);
    EXPECT_LE(difference(path("ecpu"), path("ecuda")), 1e-10);
}

/// Paths and reversed paths have the same bits; the sums of the fit are rounded otherwise, and a relative
/// ridge of 1e-4 keeps that below 1e-7.
TEST_F(OnEmulator, NonlinearProcessesAgree) {
    const std::string data = path("x.npy");
    write_bytes(data, npy_bytes(400, 2, some_samples(400, 2)));
    write_bytes(path("drift.toml"), "[drift]\nkind = \"double_well\"\ndimension = 2\n");
    nlohmann::json fits[2];
    for (const bool device : {false, true}) {
        const std::string name = device ? "cuda" : "cpu";
        const auto on = [&](Arguments arguments) {
            arguments.insert(arguments.end(), {"--quiet", "--json", "--device", name});
            return nlohmann::json::parse(succeed(arguments, emulated()).out);
        };
        fits[device] = on({"fit", data, "-o", path(name), "--process", "nonlinear", "--drift",
                           path("drift.toml"), "--degree", "3", "--t-end", "1", "--time-nodes", "4"});
        for (const std::string model : {"cpu", "cuda"})
            if (device || model == "cpu") {
                on({"sample", path(model), "-n", "300", "-o", path(name + model)});
                on({"score", path(model), data, "-t", "0.5", "-o", path(name + model + "score")});
            }
    }
    EXPECT_NE(fits[1].at("device"), "cpu");
    EXPECT_EQ(fits[1].at("step"), fits[0].at("step"));
    EXPECT_EQ(read_bytes(path("cudacpu")), read_bytes(path("cpucpu")));
    EXPECT_EQ(read_bytes(path("cudacpuscore")), read_bytes(path("cpucpuscore")));
    EXPECT_LE(difference(path("cudacuda"), path("cpucpu")), 1e-5);
    EXPECT_LE(difference(path("cudacudascore"), path("cpucpuscore")), 1e-6);
}

/// Sums of the fit and products of matrices are rounded otherwise.
TEST_F(OnEmulator, PriorsAgree) {
    const std::string data = path("x.npy");
    write_bytes(data, npy_bytes(500, 5, some_samples(500, 5)));
    std::vector<double> levels(500);
    for (std::size_t n = 0; n < levels.size(); ++n) levels[n] = 0.1 + 0.01 * static_cast<double>(n % 50);
    write_bytes(path("sigma.npy"), npy_bytes(500, 1, levels));
    for (const std::string kind : {"product", "gaussian", "flat"}) {
        for (const std::string name : {"cpu", "cuda"}) {
            succeed({"fit", "--prior", kind, data, "-o", path(name + kind), "--degree", "3", "--quiet",
                     "--device", name},
                    emulated());
            for (const std::string& sigma : {std::string("0.3"), path("sigma.npy")})
                for (const std::string precision : {"float64", "float32"})
                    succeed({"score", path(name + kind), data, "--sigma", sigma, "-o",
                             path(name + kind + (sigma == "0.3" ? "one" : "each") + precision), "--precision",
                             precision, "--quiet", "--device", name},
                            emulated());
        }
        for (const std::string what : {"one", "each"}) // scores of order 10
            for (const std::string precision : {"float64", "float32"})
                EXPECT_LE(
                    difference(path("cuda" + kind + what + precision), path("cpu" + kind + what + precision)),
                    precision == "float64" ? 1e-7 : 2e-3)
                    << kind << what << precision;
        EXPECT_LE(difference(path("cpu" + kind + "eachfloat32"), path("cpu" + kind + "eachfloat64")), 1e-2);
    }
}

/// Walkers are annealed to the same bits; models, and so all that follows, agree but for roundings.
TEST_F(OnEmulator, ModelsFromTheEnergyAgree) {
    const std::string target = chain_target(3);
    nlohmann::json fits[2];
    for (const bool device : {false, true})
        fits[device] = nlohmann::json::parse(
            succeed({"fit", "--target", target, "--from-energy", "--rows", "1000", "--levels", "flat",
                     "--degree", "4", "--time-nodes", "6", "-o", path("m"), "--quiet", "--json", "--device",
                     device ? "cuda" : "cpu"},
                    emulated())
                .out);
    EXPECT_EQ(fits[1].at("annealing"), fits[0].at("annealing"));
    const double error = fits[0].at("log_partition_error");
    EXPECT_NEAR(fits[1].at("log_partition").get<double>(), fits[0].at("log_partition").get<double>(), error);
    EXPECT_GE(fits[1].at("ess_fraction").get<double>(), 0.8);
}

INSTANTIATE_TEST_SUITE_P(Structure, OnBothDevices, ::testing::Values("flat", "all"));

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
    write_bytes(path("gaussian.toml"), "[target]\nkind = \"gaussian\"\nmean = [0]\ncovariance = [[1]]\n");
    const Outcome outcome =
        run({"draw", path("gaussian.toml"), "-n", "10", "-o", path("x.npy"), "--device", "cuda"}, emulated());
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

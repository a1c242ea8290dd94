// validate_neural_prior.cpp - networks trained on closed-form scores (examples/neural_prior): held-out losses
// of digits and of eight Gaussians, three seeds each, and the program's manners. The curves go to the folder
// that DYNKIN_NEURAL_CURVES names, if it does.
#include "../cli/program.h"
#include "models.h"
#include <csignal>
#include <fmt/format.h>
#include <map>
#include <random>
#include <sstream>

namespace dynkin::validation {
namespace {

using cli_test::Arguments;
using cli_test::Conditions;

const char* const kDigits = DYNKIN_SOURCE_DIR "/data/digits.npy";
const char* const kEightGaussians = DYNKIN_SOURCE_DIR "/examples/targets/eight_gaussians.toml";

/// Loss, mean over the noise levels, by seed, method and step.
using Curves = std::map<std::uint64_t, std::map<std::string, std::map<std::size_t, double>>>;

Curves read_curves(const std::string& path) {
    std::istringstream lines(cli_test::read_bytes(path));
    std::string line, seed, method, step, loss;
    std::getline(lines, line);
    Curves out;
    while (std::getline(lines, line)) {
        std::istringstream fields(line);
        for (std::string* field : {&seed, &method, &step, &loss}) std::getline(fields, *field, ',');
        out[std::stoull(seed)][method][std::stoul(step)] = std::stod(loss);
    }
    return out;
}

class ValidateNeuralPrior : public cli_test::InFolder {
  protected:
    cli_test::Outcome run(const Arguments& arguments, Conditions conditions = {}) const {
        conditions.program = DYNKIN_NEURAL_PRIOR, conditions.timeout = 7000;
        return cli_test::run(arguments, conditions);
    }
    Curves train(const std::string& name, Arguments arguments) const {
        const char* folder = std::getenv("DYNKIN_NEURAL_CURVES");
        const std::string output = folder ? fmt::format("{}/{}.csv", folder, name) : path(name + ".csv");
        arguments.insert(arguments.end(), {"-o", output, "--seeds", scale() < 1 ? "1" : "3"});
        const cli_test::Outcome outcome = run(arguments);
        std::printf("%s\n%s", name.c_str(), outcome.out.c_str());
        EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
        return outcome.exit_code == 0 ? read_curves(output) : Curves{};
    }
};

/// What the better of the two uses of a prior loses against EDM's preconditioning.
void compare_last(const Ledger& ledger, std::map<std::string, std::map<std::size_t, double>> loss) {
    const double better = std::min(loss["residual"][12'000], loss["distillation"][12'000]);
    ledger.at_most("better of residual and distillation / EDM, 12000 steps", better / loss["edm"][12'000], 1);
}

void report(const Ledger& ledger, const std::map<std::string, std::map<std::size_t, double>>& curves) {
    for (const auto& [method, curve] : curves)
        for (const std::size_t step : {0, 300, 1000, 3000, 12'000})
            ledger.reported(fmt::format("{}, held-out loss, {} steps", method, step), curve.at(step));
}

/// The loss of the exact score: eight Gaussians on a circle of radius 4 and of deviation 0.5, over 1.414, in
/// units of the deviation of a column; 16 levels from 0.03 to 5.
double floor_of_eight_gaussians() {
    std::mt19937_64 engine(1);
    std::normal_distribution<double> normal;
    const double unit = std::sqrt(8 + 0.25), variance = std::pow(0.5 / unit, 2);
    const auto centre = [&](std::size_t k, std::size_t j) {
        const double angle = 0.25 * M_PI * static_cast<double>(k);
        return 4 / unit * (j ? std::sin(angle) : std::cos(angle));
    };
    const std::size_t levels = 16, rows = 40'000;
    double sum = 0;
    for (std::size_t n = 0; n < levels * rows; ++n) {
        const double sigma = 0.03 * std::pow(5 / 0.03, static_cast<double>(n % levels) / (levels - 1)),
                     wide = variance + sigma * sigma;
        double x[2], noise[2], mean[2] = {0, 0}, total = 0;
        const std::size_t own = engine() % 8;
        for (std::size_t j = 0; j < 2; ++j) {
            noise[j] = normal(engine);
            x[j] = centre(own, j) + std::sqrt(variance) * normal(engine) + sigma * noise[j];
        }
        for (std::size_t k = 0; k < 8; ++k) {
            const double weight = std::exp((x[0] * centre(k, 0) + x[1] * centre(k, 1)) / wide); // equal radii
            total += weight;
            for (std::size_t j = 0; j < 2; ++j) mean[j] += weight * centre(k, j);
        }
        for (std::size_t j = 0; j < 2; ++j)
            sum += std::pow(-sigma * (x[j] - mean[j] / total) / wide + noise[j], 2) / 2;
    }
    return sum / static_cast<double>(levels * rows);
}

TEST_F(ValidateNeuralPrior, Digits) {
    const Curves curves = train("digits", {kDigits, "--prior", "product"});
    ASSERT_FALSE(curves.empty());
    for (const auto& [seed, of_seed] : curves) {
        const Ledger ledger{"neural prior, digits, product K = 6", seed};
        report(ledger, of_seed);
        ledger.at_most("residual at 300 steps / EDM at 3000",
                       of_seed.at("residual").at(300) / of_seed.at("edm").at(3000), 0.92);
        compare_last(ledger, of_seed);
    }
}

TEST_F(ValidateNeuralPrior, EightGaussians) {
    const Curves curves = train("eight_gaussians", {kEightGaussians, "--scaling", "columns", "--prior", "ve",
                                                    "--width", "128", "--judge-from", "0.03"});
    ASSERT_FALSE(curves.empty());
    const double floor = floor_of_eight_gaussians();
    for (const auto& [seed, of_seed] : curves) {
        const Ledger ledger{"neural prior, eight Gaussians, Hermite 12", seed};
        ledger.reported("loss of the exact score", floor);
        report(ledger, of_seed);
        compare_last(ledger, of_seed);
    }
}

TEST_F(ValidateNeuralPrior, SameSeedSameBytes) {
    const Arguments few{kDigits, "--seeds", "1", "--steps", "20", "--distil-steps", "10", "-o"};
    for (const char* name : {"a.csv", "b.csv"}) {
        Arguments arguments = few;
        arguments.push_back(path(name));
        const auto outcome = run(arguments);
        ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    }
    EXPECT_EQ(cli_test::read_bytes(path("a.csv")), cli_test::read_bytes(path("b.csv")));
    EXPECT_EQ(cli_test::read_bytes(path("a.csv.json")), cli_test::read_bytes(path("b.csv.json")));
}

TEST_F(ValidateNeuralPrior, InterruptedLeavesNothing) {
    Conditions conditions;
    conditions.signal = SIGINT, conditions.signal_after = 20; // loading torch takes seconds
    const auto outcome = run({kDigits, "-o", path("a.csv")}, conditions);
    EXPECT_EQ(outcome.exit_code, 128 + SIGINT);
    EXPECT_NE(outcome.err.find("error: interrupted by SIGINT"), std::string::npos) << outcome.err;
    EXPECT_TRUE(files().empty());
}

TEST_F(ValidateNeuralPrior, BadInput) {
    cli_test::write_bytes(path("few.npy"), cli_test::npy_bytes(3, 2, {1, 2, 3, 4, 5, 6}));
    cli_test::write_bytes(path("equal.npy"), cli_test::npy_bytes(30, 1, std::vector<double>(30, 1.0)));
    cli_test::write_bytes(path("nan.npy"), cli_test::npy_bytes(30, 1, std::vector<double>(30, NAN)));
    const std::string output = path("a.csv");
    const std::map<Arguments, int> cases{
        {{}, 2},
        {{kDigits, "-o", output, "--prior", "ve"}, 2},
        {{kDigits, "-o", output, "--steps", "-1"}, 2},
        {{kDigits, "-o", output, "--held-out", "1797"}, 2},
        {{kDigits, "-o", output, "--rate", "nan"}, 2},
        {{kDigits, "-o", output, "--methods", "other"}, 2},
        {{path("few.npy"), "-o", output}, 3},
        {{path("equal.npy"), "-o", output}, 3},
        {{path("nan.npy"), "-o", output}, 3},
        {{path("none.npy"), "-o", output}, 5},
        {{kDigits, "-o", path("none/a.csv")}, 5},
    };
    for (const auto& [arguments, code] : cases) {
        Arguments quiet = arguments;
        quiet.push_back("--quiet");
        const auto outcome = run(quiet);
        EXPECT_EQ(outcome.exit_code, code) << testing::PrintToString(arguments) << outcome.err;
        EXPECT_EQ(outcome.err.rfind("error: ", 0), 0u) << outcome.err;
        EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    }
    EXPECT_EQ(files(), (std::vector<std::string>{"equal.npy", "few.npy", "nan.npy"}));
}

} // namespace
} // namespace dynkin::validation

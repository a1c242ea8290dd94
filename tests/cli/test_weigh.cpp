// test_weigh.cpp - `dynkin weigh`: figures, warnings, resampled sets and second moments, as files.
#include "program.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numbers>
#include <random>

namespace dynkin::cli_test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// The numbers of a .npy file that the program wrote, and its header.
template <class T> std::vector<T> numbers(const std::string& path) {
    const std::string bytes = read_bytes(path);
    const auto start = static_cast<std::size_t>(10 + static_cast<unsigned char>(bytes[8]) +
                                                256 * static_cast<unsigned char>(bytes[9]));
    std::vector<T> values((bytes.size() - start) / sizeof(T));
    std::memcpy(values.data(), bytes.data() + start, values.size() * sizeof(T));
    return values;
}
std::string header(const std::string& path) { return read_bytes(path).substr(0, 128); }

/// Samples of N(0, 1.2^2) in six sites, shape (N, 2, 3), for the target N(0, 1); f4.
class Weigh : public InFolder {
  protected:
    static constexpr std::size_t rows = 5000, sites = 6;
    std::vector<float> x;
    std::vector<double> log_density;

    void SetUp() override {
        std::mt19937_64 engine(11);
        std::normal_distribution<double> normal;
        for (std::size_t n = 0; n < rows; ++n) {
            log_density.push_back(0);
            for (std::size_t i = 0; i < sites; ++i) {
                x.push_back(static_cast<float>(1.2 * normal(engine)));
                log_density[n] -=
                    x.back() * x.back() / (2 * 1.44) + std::log(1.2 * std::sqrt(2 * std::numbers::pi));
            }
        }
        write_inputs();
        write_target(sites);
    }
    void write_inputs() {
        std::string data(x.size() * sizeof(float), '\0');
        std::memcpy(data.data(), x.data(), data.size());
        write_bytes(path("x.npy"), npy_bytes("<f4", "(" + std::to_string(rows) + ", 2, 3)", data));
        write_bytes(path("q.npy"), npy_bytes(log_density.size(), 1, log_density));
    }
    void write_target(std::size_t dimension) {
        std::string mean, covariance;
        for (std::size_t i = 0; i < dimension; ++i) {
            mean += "0.0, ";
            covariance += "[";
            for (std::size_t j = 0; j < dimension; ++j) covariance += i == j ? "1.0, " : "0.0, ";
            covariance += "], ";
        }
        write_bytes(path("target.toml"), "[target]\nkind = \"gaussian\"\nmean = [" + mean +
                                             "]\ncovariance = [" + covariance + "]\n");
    }
    Arguments weigh(const Arguments& further = {}) const {
        Arguments all = {
            "weigh", path("x.npy"), "--log-density", path("q.npy"), "--target", path("target.toml"),
            "-o",    path("w.npy"), "--json",        "--quiet"};
        all.insert(all.end(), further.begin(), further.end());
        return all;
    }
    nlohmann::json json(const Arguments& further = {}) {
        return nlohmann::json::parse(succeed(weigh(further)).out);
    }
    void expect_refused(int code, const Arguments& further, const std::string& part,
                        const Conditions& conditions = {}) {
        SCOPED_TRACE(testing::PrintToString(further));
        const auto before = files();
        const Outcome outcome = run(weigh(further), conditions);
        EXPECT_EQ(outcome.exit_code, code) << outcome.err;
        EXPECT_EQ(outcome.err.rfind("error: ", 0), 0u) << outcome.err;
        EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
        EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
        EXPECT_EQ(outcome.out, "");
        EXPECT_EQ(files(), before);
    }
};

TEST_F(Weigh, FiguresWithTheirErrors) {
    const auto result = json();
    const double log_z = 3 * std::log(2 * std::numbers::pi);
    const double ess = std::pow(std::sqrt(2 - 1 / 1.44) / 1.2, sites);
    EXPECT_NEAR(result.at("ess_fraction").get<double>(), ess, 0.03);
    EXPECT_LE(std::abs(result.at("log_partition").get<double>() - log_z),
              5 * result.at("log_partition_error").get<double>());
    EXPECT_NEAR(result.at("log_partition_error").get<double>(), std::sqrt((1 / ess - 1) / rows), 1e-3);
    EXPECT_LE(std::abs(result.at("energy_mean").get<double>() - 3),
              5 * result.at("energy_mean_error").get<double>());
    EXPECT_LE(std::abs(result.at("magnetisation").get<double>()),
              5 * result.at("magnetisation_error").get<double>());
    EXPECT_LE(std::abs(result.at("magnetisation_squared").get<double>() - 1.0 / 6),
              5 * result.at("magnetisation_squared_error").get<double>());
    EXPECT_LT(result.at("tail_index").get<double>(), 0.7);
    EXPECT_EQ(result.at("flagged"), 0);
    EXPECT_FALSE(result.contains("resampled"));
    const auto weights = numbers<double>(path("w.npy"));
    ASSERT_EQ(weights.size(), rows);
    EXPECT_EQ(result.at("largest_share").get<double>(), *std::max_element(weights.begin(), weights.end()));
    EXPECT_EQ(files(), (std::vector<std::string>{"q.npy", "target.toml", "w.npy", "w.npy.json", "x.npy"}));
}

// Every row of the set is a sample, in the order of the file, floor or ceil of M w times; none is flagged.
TEST_F(Weigh, ResampledSet) {
    log_density[3] = -infinity, x[7 * sites + 2] = std::numeric_limits<float>::quiet_NaN();
    write_inputs();
    const auto result = json({"--resampled", path("r.npy"), "--seed", "4"});
    EXPECT_EQ(result.at("flagged"), 2);
    const auto count = result.at("resampled").get<std::size_t>();
    EXPECT_NEAR(static_cast<double>(count), result.at("ess_fraction").get<double>() * rows, 0.5);
    EXPECT_NE(header(path("r.npy")).find("(" + std::to_string(count) + ", 2, 3)"), std::string::npos);
    EXPECT_NE(header(path("r.npy")).find("<f4"), std::string::npos);
    const auto drawn = numbers<float>(path("r.npy"));
    ASSERT_EQ(drawn.size(), count * sites);
    const auto weights = numbers<double>(path("w.npy"));
    std::size_t at = 0, distinct = 0;
    for (std::size_t n = 0; n < rows; ++n) {
        std::size_t copies = 0;
        while (at < count && std::equal(&x[n * sites], &x[n * sites] + sites, &drawn[at * sites]))
            ++at, ++copies;
        EXPECT_LT(std::abs(static_cast<double>(copies) - static_cast<double>(count) * weights[n]), 1) << n;
        distinct += copies > 0;
    }
    EXPECT_EQ(at, count);
    EXPECT_EQ(result.at("resampled_distinct").get<std::size_t>(), distinct);
    const auto made = nlohmann::json::parse(read_bytes(path("r.npy.json")));
    EXPECT_EQ(made.at("resample-count").get<std::size_t>(), count);
    EXPECT_EQ(made.at("seed"), 4);
}

TEST_F(Weigh, ResampledSetDependsOnTheSeedOnly) {
    const Arguments more = {"--resampled", path("r.npy"), "--resample-count", "12345"};
    const auto with = [&](const Arguments& further) {
        Arguments all = more;
        all.insert(all.end(), further.begin(), further.end());
        EXPECT_EQ(json(all).at("resampled"), 12345);
        return read_bytes(path("r.npy"));
    };
    const std::string first = with({"--threads", "1"});
    EXPECT_EQ(with({"--threads", "2"}), first);
    EXPECT_NE(with({"--seed", "1"}), first);
}

TEST_F(Weigh, ResampledSetHasTheTypeOfTheSamples) {
    const std::vector<double> wide(x.begin(), x.end());
    write_bytes(path("x.npy"), npy_bytes(rows, sites, wide));
    json({"--resampled", path("r.npy"), "--resample-count", "1"});
    EXPECT_NE(header(path("r.npy")).find("(1, 6)"), std::string::npos);
    EXPECT_EQ(numbers<double>(path("r.npy")).size(), sites);
}

TEST_F(Weigh, SecondMoments) {
    json({"--second-moments", path("s.npy"), "--second-moments-error", path("e.npy")});
    EXPECT_NE(header(path("s.npy")).find("(6, 6)"), std::string::npos);
    const auto mean = numbers<double>(path("s.npy")), error = numbers<double>(path("e.npy"));
    for (std::size_t k = 0; k < sites * sites; ++k)
        EXPECT_LE(std::abs(mean[k] - (k % 7 == 0)), 5 * error[k]) << k;
    const auto weights = numbers<double>(path("w.npy"));
    double direct = 0;
    for (std::size_t n = 0; n < rows; ++n)
        direct += weights[n] * static_cast<double>(x[n * sites + 1]) * static_cast<double>(x[n * sites + 4]);
    EXPECT_NEAR(mean[1 * sites + 4], direct, 1e-12);
    EXPECT_EQ(mean[1 * sites + 4], mean[4 * sites + 1]);
}

// One site, all at x = 0 where U = 0: log w = -log q. Weights with a Pareto tail of index 1.
TEST_F(Weigh, HeavyTailsWarnAndFailWhenStrict) {
    std::mt19937_64 engine(12);
    std::uniform_real_distribution<double> uniform;
    for (double& l : log_density) l = std::log(1 - uniform(engine));
    write_bytes(path("x.npy"), npy_bytes(rows, 1, std::vector<double>(rows)));
    write_bytes(path("q.npy"), npy_bytes(rows, 1, log_density));
    write_target(1);
    const Outcome warned = succeed(weigh());
    EXPECT_EQ(warned.err.rfind("warning: tail index", 0), 0u) << warned.err;
    EXPECT_GT(nlohmann::json::parse(warned.out).at("tail_index").get<double>(), 0.7);
    std::filesystem::remove(path("w.npy"));
    const Outcome strict = run(weigh({"--strict", "--resampled", path("r.npy")}));
    EXPECT_EQ(strict.exit_code, 4);
    EXPECT_NE(strict.err.find("error: --strict"), std::string::npos) << strict.err;
    EXPECT_EQ(numbers<double>(path("w.npy")).size(), rows) << "outputs are complete";
    EXPECT_TRUE(std::filesystem::exists(path("r.npy")));
}

TEST_F(Weigh, AllFlagged) {
    for (const double nothing : {-infinity, infinity, std::numeric_limits<double>::quiet_NaN()}) {
        log_density.assign(rows, nothing);
        write_inputs();
        expect_refused(4, {"--resampled", path("r.npy")}, "all 5000 samples are flagged");
    }
}

TEST_F(Weigh, CountsThatAreWrong) {
    const Arguments to = {"--resampled", path("r.npy"), "--resample-count"};
    for (const char* count : {"0", "-1", "1.5", "nan", "two", "1000000000000000", "99999999999999999999999"})
        expect_refused(2, {to[0], to[1], to[2], count}, "resample-count");
    expect_refused(2, {"--resample-count", "3"}, "--resampled");
}

TEST_F(Weigh, OutputsThatWouldOverwrite) {
    for (const char* option : {"--resampled", "--second-moments", "--second-moments-error"}) {
        for (const char* taken : {"x.npy", "q.npy", "target.toml", "w.npy", "w.npy.json"})
            expect_refused(2, {option, path(taken)}, taken);
        expect_refused(2, {"--resampled", path("a"), "--second-moments", path("a.json")}, "a.json");
    }
}

TEST_F(Weigh, OutputsThatCannotBeWritten) {
    std::filesystem::create_directory(path("folder"));
    for (const char* option : {"--resampled", "--second-moments", "--second-moments-error"})
        for (const std::string& output : {path("absent/out"), path("folder"), std::string("/proc/out")})
            expect_refused(5, {option, output}, output);
}

// Whichever of the files does not fit, none is left behind.
TEST_F(Weigh, DiskThatIsFull) {
    Conditions full;
    full.largest_file = 2048;
    expect_refused(5, {}, path("w.npy"), full);
    full.largest_file = 60'000; // the weights take 40 kB
    expect_refused(5, {"--resampled", path("r.npy"), "--second-moments", path("s.npy")}, path("r.npy"), full);
}

} // namespace
} // namespace dynkin::cli_test

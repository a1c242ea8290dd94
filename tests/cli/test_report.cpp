// test_report.cpp - observables in results, and reports: their files, what is refused, what is left behind.
#include "program.h"
#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

namespace dynkin::cli_test {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_in(const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
}

class Report : public InFolder {
  protected:
    static constexpr std::size_t rows = 200, sites = 6;

    void SetUp() override {
        write_bytes(path("x.npy"), npy_bytes(rows, sites, some_samples(rows, sites)));
        std::vector<double> weight(rows, 1.0 / rows);
        weight[3] = 0;
        write_bytes(path("w.npy"), npy_bytes(rows, 1, weight));
        write_bytes(path("target.toml"),
                    read_bytes(chain_target(sites)) + "\n[observables]\nends = \"x[0] x[5]\"\n");
        if (std::system("gnuplot --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no gnuplot here";
    }
    Arguments evaluate(const Arguments& further) const {
        Arguments all = {"evaluate", path("x.npy"), "--against", path("x.npy"), "--quiet"};
        all.insert(all.end(), further.begin(), further.end());
        return all;
    }
    void expect_refused(int code, const Arguments& arguments, const std::string& part,
                        const Conditions& conditions = {}) {
        SCOPED_TRACE(testing::PrintToString(arguments));
        const auto before = files();
        const Outcome outcome = run(arguments, conditions);
        EXPECT_EQ(outcome.exit_code, code) << outcome.err;
        EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
        EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
        EXPECT_EQ(files(), before);
    }
    static Conditions with_path(const std::string& folders) {
        Conditions conditions;
        conditions.environment["PATH"] = folders;
        return conditions;
    }
    /// A folder with a program `gnuplot` that does what `body` says, to stand first in PATH.
    Conditions with_gnuplot(const std::string& body) {
        fs::create_directory(path("bin"));
        write_bytes(path("bin/gnuplot"), "#!/bin/sh\n" + body + "\n");
        fs::permissions(path("bin/gnuplot"), fs::perms::owner_all);
        return with_path(path("bin") + ":/usr/bin:/bin");
    }
};

using Observed = Report;

TEST_F(Observed, StandInTheResultsOfDrawWeighAndEvaluate) {
    const auto json = [&](Arguments arguments) {
        arguments.insert(arguments.end(), {"--json", "--quiet"});
        return nlohmann::json::parse(succeed(arguments).out).at("observables");
    };
    const auto drawn = json({"draw", path("target.toml"), "-n", "400", "--chains", "8", "-o", path("d.npy"),
                             "--allow-unconverged"});
    for (const char* name : {"magnetisation", "magnetisation_absolute", "susceptibility", "binder_cumulant",
                             "correlation_length", "ends"})
        for (const char* key : {"value", "error", "tau", "tau_error"})
            EXPECT_TRUE(drawn.at(name).at(key).is_number()) << name << ' ' << key;
    EXPECT_EQ(drawn.at("two_point").at("distance"), nlohmann::json({0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(drawn.at("two_point").at("tau").size(), sites);

    write_bytes(path("q.npy"), npy_bytes(rows, 1, std::vector<double>(rows, -3.0)));
    const auto weighed = json({"weigh", path("x.npy"), "--log-density", path("q.npy"), "--target",
                               path("target.toml"), "-o", path("v.npy")});
    EXPECT_FALSE(weighed.at("ends").contains("tau"));
    EXPECT_GT(weighed.at("ends").at("error"), 0);
    const auto evaluated =
        json({"evaluate", path("x.npy"), "--against", path("x.npy"), "--target", path("target.toml")});
    EXPECT_EQ(evaluated.at("ends").at("value"), evaluated.at("ends").at("reference"));
    EXPECT_EQ(evaluated.at("two_point").at("deviation")[1], 0);

    const std::string text = succeed(evaluate({"--target", path("target.toml")})).out;
    EXPECT_NE(text.find("\nsusceptibility "), std::string::npos) << text;
    EXPECT_NE(text.find("\ntwo_point 5 "), std::string::npos) << text;
}

TEST_F(Observed, AWrongFormulaIsRefusedBeforeTheWork) {
    write_bytes(path("bad.toml"),
                read_bytes(chain_target(sites)) + "\n[observables]\nends = \"x[0] x[6]\"\n");
    expect_refused(3, {"draw", path("bad.toml"), "-n", "1000000000", "-o", path("d.npy")},
                   "observables.ends: expected an integer from 0 to 5");
    expect_refused(3, evaluate({"--target", path("bad.toml")}), "bad.toml:");
}

TEST_F(Report, OfSamplesHoldsPageNumbersAndPictures) {
    const auto make = [&] {
        succeed(evaluate(
            {"--target", path("target.toml"), "--weights", path("w.npy"), "--report", path("out/")}));
    };
    make();
    EXPECT_EQ(names_in(path("out")),
              (std::vector<std::string>{"configurations.png", "energy.png", "figures.csv", "marginals.png",
                                        "report.html", "summary.json", "two_point.png", "weights.png"}));
    const std::string page = read_bytes(path("out/report.html"));
    for (const char* part :
         {"<!doctype html>", "width=device-width", "@media print", "1 samples have weight 0", "ends</td>"})
        EXPECT_NE(page.find(part), std::string::npos) << part;
    for (const char* part : {"http:", "https:", "<script", "src=\"/", "url("})
        EXPECT_EQ(page.find(part), std::string::npos) << part;
    std::size_t pictures = 0;
    for (std::size_t at = 0; (at = page.find("src=\"data:image/png;base64,iVBOR", at)) != std::string::npos;
         ++at)
        ++pictures;
    EXPECT_EQ(pictures, 5u);
    const auto summary = nlohmann::json::parse(read_bytes(path("out/summary.json")));
    EXPECT_TRUE(summary.contains("second_moment_error_floor") && summary.at("observables").contains("ends"));
    EXPECT_FALSE(summary.contains("seconds"));
    const std::string csv = read_bytes(path("out/figures.csv"));
    EXPECT_EQ(csv.rfind("figure,value,error,reference,reference_error,floor,tau\n", 0), 0u);
    EXPECT_NE(csv.find("\nsliced_w,"), std::string::npos);
    EXPECT_NE(csv.find("\ntwo_point_5,"), std::string::npos);

    write_bytes(path("out/energy.png"), "of before");
    make(); // replaces the earlier one, with the same bytes
    EXPECT_TRUE(read_bytes(path("out/report.html")) == page);
    EXPECT_EQ(read_bytes(path("out/figures.csv")), csv);
}

TEST_F(Report, OfPlanesAndSheets) {
    write_bytes(path("plane.npy"), npy_bytes(300, 2, some_samples(300, 2)));
    succeed({"evaluate", path("plane.npy"), "--against", path("plane.npy"), "--quiet", "--report",
             path("plane")});
    EXPECT_TRUE(fs::exists(path("plane/plane.png")));
    EXPECT_FALSE(fs::exists(path("plane/energy.png")));

    const std::vector<double> values = some_samples(100, 12);
    const std::string data(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
    write_bytes(path("cube.npy"), npy_bytes("<f8", "(100, 2, 3, 2)", data));
    succeed(
        {"evaluate", path("cube.npy"), "--against", path("cube.npy"), "--quiet", "--report", path("cube")});
    EXPECT_TRUE(fs::exists(path("cube/configurations.png")));
}

TEST_F(Report, OfChainsShowsTracesAndRanks) {
    succeed({"draw", path("target.toml"), "-n", "400", "--chains", "8", "-o", path("d.npy"),
             "--allow-unconverged", "--quiet", "--report", path("out")});
    EXPECT_EQ(names_in(path("out")),
              (std::vector<std::string>{"configurations.png", "energy.png", "figures.csv", "ranks.png",
                                        "report.html", "summary.json", "traces.png", "two_point.png"}));
    const std::string csv = read_bytes(path("out/figures.csv"));
    EXPECT_NE(csv.find("\nr_hat_max,"), std::string::npos) << csv;
}

TEST_F(Report, NamesOfFilesCannotLeaveTheirPlace) {
    const std::string hostile = "<script>alert('1')\"&\n\x01\xff`touch x`$(y).npy";
    fs::copy_file(path("x.npy"), path(hostile));
    succeed(
        {"evaluate", path(hostile), "--against", path("x.npy"), "--quiet", "--report", path("o'u\"t $(z)")});
    const std::string page = read_bytes(path("o'u\"t $(z)/report.html"));
    EXPECT_EQ(page.find("<script"), std::string::npos);
    EXPECT_NE(page.find("&#60;script&#62;alert(&#39;1&#39;)&#34;&#38;???`touch x`"), std::string::npos);
    EXPECT_FALSE(fs::exists(path("x")));
}

TEST_F(Report, FoldersThatCannotBeWrittenAreRefusedBeforeTheWork) {
    write_bytes(path("file"), "x");
    expect_refused(5, evaluate({"--report", path("file")}), "expected a folder");
    expect_refused(5, evaluate({"--report", path("file/out")}), "file/out");
    expect_refused(5, evaluate({"--report", path("none/out")}), "none/out");
    expect_refused(5, evaluate({"--report", "/proc/self/out"}), "/proc/self/out");
    expect_refused(2, evaluate({"--report", ""}), "--report");
    fs::create_directory(path("mine"));
    write_bytes(path("mine/thesis.tex"), "precious");
    expect_refused(5, evaluate({"--report", path("mine")}), "thesis.tex");
    EXPECT_EQ(read_bytes(path("mine/thesis.tex")), "precious");
    expect_refused(3,
                   {"evaluate", path("none.toml"), "--against", path("target.toml"), "--report", path("out")},
                   "target.toml");
    write_bytes(path("gauss.toml"), "[target]\nkind = \"gaussian\"\nmean = [0.0]\ncovariance = [[1.0]]\n");
    expect_refused(2, {"draw", path("gauss.toml"), "-n", "10", "-o", path("g.npy"), "--report", path("out")},
                   "direct draw");
}

TEST_F(Report, WithoutGnuplotSaysWhatToInstall) {
    expect_refused(5, evaluate({"--report", path("out")}), "gnuplot-nox", with_path("/nonexistent"));
}

TEST_F(Report, NothingIsLeftWhenGnuplotFails) {
    const Conditions fails = with_gnuplot(
        "[ \"$2\" = --version ] || { echo; echo '\"plots.gp\" line 7: no such terminal'; exit 1; }");
    expect_refused(5, evaluate({"--report", path("out")}), "no such terminal", fails);
    fs::remove_all(path("bin"));
    expect_refused(5, evaluate({"--report", path("out")}), ".png", with_gnuplot("exit 0"));
}

TEST_F(Report, NothingIsLeftWhenTheDiskIsFull) {
    for (const std::uint64_t bytes : {3'000u, 60'000u}) {
        Conditions conditions;
        conditions.largest_file = bytes;
        expect_refused(5, evaluate({"--report", path("out")}), "", conditions);
    }
}

} // namespace
} // namespace dynkin::cli_test

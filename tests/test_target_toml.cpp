// test_target_toml.cpp - what a target file may say, and what is said of one that is wrong: file, line, key,
// expected, got.
#include "engine/error.h"
#include "engine/target.h"
#include <filesystem>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace dynkin {
namespace {

TEST(TargetToml, GinzburgLandauCoefficients) {
    const Target t =
        parse_target("[target]\nkind = \"ginzburg_landau\"\nshape = [16]\nlambda = 0.03\nbeta = 0.125\n"
                     "spacing = \"1/17\"\nboundary = \"zero\"\n",
                     "t.toml");
    const auto& lattice = std::get<LatticeTarget>(t.law);
    EXPECT_DOUBLE_EQ(lattice.coupling, 0.125 * 0.03 * 17 * 17);
    EXPECT_DOUBLE_EQ(lattice.site_constant, 0.125 / 0.12);
    ASSERT_EQ(lattice.site.size(), 4u);
    EXPECT_DOUBLE_EQ(lattice.site[1], -2 * 0.125 / 0.12);
    EXPECT_DOUBLE_EQ(lattice.site[3], 0.125 / 0.12);
    EXPECT_EQ(lattice.lattice.boundary, Boundary::zero);
    EXPECT_EQ(t.sample_shape(), std::vector<std::size_t>{16});
    EXPECT_EQ(nlohmann::json::parse(t.canonical_json)["spacing"], 1.0 / 17);
    EXPECT_EQ(t.source, "t.toml");
}

TEST(TargetToml, OtherKinds) {
    const auto law = [](const std::string& text) {
        return parse_target("[target]\nkind = " + text, "t").law;
    };
    const auto phi4 = std::get<LatticeTarget>(law(
        "\"lattice\"\nshape = [8, 8]\nboundary = \"periodic\"\ncoupling = 2\nsite = [0, -4, 0, 6.008]\n"));
    EXPECT_EQ(phi4.lattice.sites(), 64u);
    EXPECT_EQ(phi4.coupling, 2);
    EXPECT_EQ(phi4.site, (std::vector<double>{0, -4, 0, 6.008}));
    const auto normal =
        std::get<GaussianTarget>(law("\"gaussian\"\nmean = [1, 2]\ncovariance = [[4, 2], [2, 2]]\n"));
    EXPECT_EQ(normal.cholesky(0, 0), 2);
    EXPECT_EQ(normal.cholesky(1, 0), 1);
    EXPECT_EQ(normal.cholesky(1, 1), 1);
    const auto mixture =
        std::get<GaussianMixtureTarget>(law("\"gaussian_mixture\"\nweights = [1, 3]\nmeans = [[-1.5], "
                                            "[1.2]]\ncovariances = [[[0.25]], [[0.16]]]\n"));
    EXPECT_EQ(mixture.weights, (std::vector<double>{0.25, 0.75}));
    EXPECT_EQ(std::get<DoubleWellTarget>(law("\"double_well\"\ndimension = 3\na = 2\nb = -1\n")).b, -1);
    const auto many = std::get<ManyWellTarget>(law("\"many_well\"\ndimension = 6\n"));
    EXPECT_TRUE(many.dimension == 6 && many.a == 1 && many.b == 6 && many.c == 0.5);
    EXPECT_EQ(std::get<ToyTarget>(law("\"moons\"\nnoise = 0.2\n")).noise, 0.2);
    for (const char* name : {"two_spirals", "pinwheel", "eight_gaussians", "checkerboard"})
        EXPECT_EQ(std::get<ToyTarget>(law("\"" + std::string(name) + "\"\n")).name, name);
}

TEST(TargetToml, OtherTablesAreLeftAlone) {
    EXPECT_NO_THROW(
        parse_target("[draw]\nsamples = 3\n[target]\nkind = \"moons\"\n[observables]\nx = 1\n", "t"));
}

TEST(TargetToml, ExamplesAreRead) {
    int count = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator(std::string(DYNKIN_SOURCE_DIR) + "/examples/targets")) {
        if (entry.path().extension() != ".toml") continue;
        EXPECT_NO_THROW(read_target(entry.path())) << entry.path();
        ++count;
    }
    EXPECT_GE(count, 10);
}

void expect_rejected(const std::string& text, const std::vector<std::string>& parts) {
    try {
        parse_target(text, "file.toml");
        ADD_FAILURE() << "accepted: " << text;
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::input) << text;
        for (const std::string& part : parts)
            EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
                << error.what() << "\nlacks " << part;
    }
}

/// A good file with line `number` (from 1) replaced.
std::string with_line(std::vector<std::string> lines, std::size_t number, const std::string& line) {
    lines[number - 1] = line;
    std::string text;
    for (const std::string& l : lines) text += l + "\n";
    return text;
}

const std::vector<std::string> chain = {
    "[target]",     "kind = \"ginzburg_landau\"", "shape = [16]",        "lambda = 0.03",
    "beta = 0.125", "spacing = \"1/17\"",         "boundary = \"zero\"", ""};
const std::vector<std::string> sheet = {"[target]",       "kind = \"lattice\"",
                                        "shape = [4, 4]", "boundary = \"periodic\"",
                                        "coupling = 2",   "site = [0, -4, 0, 6]"};

TEST(TargetToml, FixedBoundary) {
    std::vector<std::string> lines = sheet;
    lines[3] = "boundary = \"fixed\"\nboundary_values = [1, 1, -1, -1]";
    const Target target = parse_target(with_line(lines, 1, "[target]"), "file.toml");
    EXPECT_EQ(target.lattice()->boundary, Boundary::fixed);
    EXPECT_EQ(target.lattice()->outside, (std::vector<double>{1, 1, -1, -1}));
    EXPECT_NE(target.canonical_json.find("\"boundary_values\":[1.0,1.0,-1.0,-1.0]"), std::string::npos);
    const auto rejected = [&](const std::string& values, const std::vector<std::string>& parts) {
        lines[3] = values;
        expect_rejected(with_line(lines, 1, "[target]"), parts);
    };
    rejected("boundary = \"fixed\"", {"file.toml:1", "boundary_values"});
    rejected("boundary = \"fixed\"\nboundary_values = [1, 1]", {"file.toml:5", "expected 4", "got 2"});
    rejected("boundary = \"fixed\"\nboundary_values = [1, 1, nan, 1]", {"file.toml:5", "finite"});
    rejected("boundary = \"fixed\"\nboundary_values = [1, 1, 1e9, 1]", {"file.toml:5", "1e6"});
    rejected("boundary = \"zero\"\nboundary_values = [1, 1, 1, 1]", {"file.toml:5", "boundary_values"});
}

TEST(TargetToml, WrongFiles) {
    expect_rejected("", {"file.toml", "[target]"});
    expect_rejected("target = 3\n", {"file.toml:1", "table", "3"});
    expect_rejected("[target]\nkind = \"gl", {"file.toml:2"});
    expect_rejected("[target]\nshape = [3]\n", {"file.toml:1", "missing", "kind"});
    expect_rejected("[target]\nkind = \"teapot\"\n", {"file.toml:2", "kind", "teapot", "lattice"});
    expect_rejected("[target]\nmean = [i\n]\n", {"file.toml:2", "saw 'i?"}); // the parser's own
    expect_rejected("[target]\nkind = 3\n", {"file.toml:2", "kind", "3"});
    expect_rejected("[target]\nkind = \"tea\\npot\"\n", {"got 'tea?pot'"}); // messages are one line
    expect_rejected("[target]\nkind = \"moons\"\n\"noi\\nse\" = 1\n", {"unknown key 'noi?se'"});
    try {
        read_target("/nowhere/absent.toml");
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::io);
    }
}

TEST(TargetToml, WrongGinzburgLandau) {
    const auto rejected = [](std::size_t line, const std::string& text, std::vector<std::string> parts) {
        parts.push_back("file.toml:");
        expect_rejected(with_line(chain, line, text), parts);
    };
    rejected(4, "lambda = -0.03", {"file.toml:4", "lambda", "positive", "-0.03"});
    rejected(4, "lambda = 0", {"file.toml:4", "lambda", "positive"});
    rejected(4, "lambda = nan", {"file.toml:4", "lambda"});
    rejected(4, "lambda = inf", {"file.toml:4", "lambda"});
    rejected(4, "lambda = true", {"file.toml:4", "lambda", "true"});
    rejected(4, "lambda = \"0.03\"", {"file.toml:4", "lambda"});
    rejected(4, "lambda = [1]", {"file.toml:4", "lambda", "array"});
    rejected(4, "lambda = 1e308", {"not finite"});
    rejected(4, "", {"missing", "lambda"});
    rejected(8, "lambada = 1", {"file.toml:8", "unknown", "lambada", "lambda"});
    rejected(6, "spacing = \"1/0\"", {"file.toml:6", "spacing", "1/17"});
    rejected(6, "spacing = \"1/x\"", {"file.toml:6", "spacing"});
    rejected(6, "spacing = \"\"", {"file.toml:6", "spacing"});
    rejected(6, "spacing = \"/2\"", {"file.toml:6", "spacing"});
    rejected(6, "spacing = \"1/2/3\"", {"file.toml:6", "spacing"});
    rejected(6, "spacing = \"-1/17\"", {"file.toml:6", "spacing"});
    rejected(6, "spacing = 0", {"file.toml:6", "spacing"});
    rejected(7, "boundary = \"open\"", {"file.toml:7", "boundary", "open", "periodic"});
    rejected(3, "shape = 16", {"file.toml:3", "shape", "16"});
    rejected(3, "shape = []", {"file.toml:3", "shape"});
    rejected(3, "shape = [2, 2, 2, 2]", {"file.toml:3", "shape", "three"});
    rejected(3, "shape = [0]", {"file.toml:3", "shape", "0"});
    rejected(3, "shape = [-4]", {"file.toml:3", "shape", "-4"});
    rejected(3, "shape = [4.0]", {"file.toml:3", "shape"});
    rejected(3, "shape = [4096, 4097]", {"file.toml:3", "shape", "2^24"});
    rejected(3, "shape = [16777217]", {"file.toml:3", "shape"});
}

TEST(TargetToml, WrongLattice) {
    const auto site = [](const std::string& text, const std::string& part) {
        expect_rejected(with_line(sheet, 6, text), {"file.toml:6", "site", part});
    };
    site("site = [0, -4, 1]", "odd");
    site("site = [0, -4, 0, -6]", "-6");
    site("site = [0, 0, 0, 0]", "curvature");
    site("site = []", "curvature");
    site("site = [1]", "curvature");
    site("site = [0, \"a\"]", "a");
    site("site = [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]", "12");
    expect_rejected(with_line(sheet, 6, ""), {"file.toml:1", "bounded"});
    expect_rejected(with_line(sheet, 5, "coupling = inf"), {"file.toml:5", "coupling"});
    expect_rejected(with_line(sheet, 5, "coupling = \"2\""), {"file.toml:5", "coupling"});
}

TEST(TargetToml, WrongGaussians) {
    const std::string start = "[target]\nkind = \"gaussian\"\nmean = [0, 0]\ncovariance = ";
    expect_rejected(start + "[[1, 2], [2, 1]]\n", {"file.toml:4", "covariance", "positive definite"});
    expect_rejected(start + "[[1, 0.5], [0.4, 1]]\n", {"file.toml:4", "covariance", "symmetric"});
    expect_rejected(start + "[[1, 0]]\n", {"file.toml:4", "covariance", "2", "1"});
    expect_rejected(start + "[[1, 0], [0]]\n", {"file.toml:4", "covariance"});
    expect_rejected(start + "[[1, 0], [0, nan]]\n", {"file.toml:4", "covariance"});
    expect_rejected(start + "3\n", {"file.toml:4", "covariance", "3"});
    const auto mixture = [](const std::string& weights, const std::string& means,
                            const std::string& covariances) {
        return "[target]\nkind = \"gaussian_mixture\"\nweights = " + weights + "\nmeans = " + means +
               "\ncovariances = " + covariances + "\n";
    };
    expect_rejected(mixture("[1, -1]", "[[0], [1]]", "[[[1]], [[1]]]"), {"file.toml:3", "weights", "-1"});
    expect_rejected(mixture("[1, 0]", "[[0], [1]]", "[[[1]], [[1]]]"), {"file.toml:3", "weights", "0"});
    expect_rejected(mixture("[1, 1]", "[[0]]", "[[[1]], [[1]]]"), {"file.toml:4", "means", "2"});
    expect_rejected(mixture("[1, 1]", "[[0], [1, 2]]", "[[[1]], [[1]]]"), {"file.toml:5", "covariances"});
    expect_rejected(mixture("[1, 1]", "[[0], [1, 2]]", "[[[1]], [[1, 0], [0, 1]]]"),
                    {"file.toml:4", "means"});
    expect_rejected(mixture("[1, 1]", "[[0], [1]]", "[[[1]], [[-1]]]"),
                    {"file.toml:5", "covariances", "positive definite"});
}

TEST(TargetToml, WrongWellsAndToys) {
    expect_rejected("[target]\nkind = \"double_well\"\na = -1\n", {"file.toml:3", "a", "positive"});
    expect_rejected("[target]\nkind = \"double_well\"\ndimension = 1.5\n", {"file.toml:3", "dimension"});
    expect_rejected("[target]\nkind = \"many_well\"\ndimension = 3\n", {"file.toml:3", "dimension", "even"});
    expect_rejected("[target]\nkind = \"many_well\"\na = 0\n", {"file.toml:3", "a", "positive"});
    expect_rejected("[target]\nkind = \"moons\"\nnoise = -0.1\n", {"file.toml:3", "noise", "-0.1"});
    expect_rejected("[target]\nkind = \"checkerboard\"\nnoise = 0.1\n", {"file.toml:3", "unknown", "noise"});
}

} // namespace
} // namespace dynkin

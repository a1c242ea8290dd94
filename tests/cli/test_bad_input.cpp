// test_bad_input.cpp - every input that is wrong: one clear line, the documented exit code, nothing left
// behind.
#include "engine/tensor_file.h"
#include "program.h"
#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

namespace dynkin::cli_test {
namespace {

constexpr int usage = 2, content = 3, unreadable = 5;

class BadInput : public InFolder {
  protected:
    /// Runs and expects: this exit code; on stderr exactly one line, "error: ..." with each of `parts`;
    /// nothing on stdout; the folder as it was.
    void expect_error(int code, const Arguments& arguments, const std::vector<std::string>& parts = {},
                      const Conditions& conditions = {}) {
        SCOPED_TRACE(testing::PrintToString(arguments));
        const auto before = files();
        const Outcome outcome = run(arguments, conditions);
        EXPECT_EQ(outcome.exit_code, code) << outcome.err;
        EXPECT_EQ(outcome.err.rfind("error: ", 0), 0u) << outcome.err;
        EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
        EXPECT_EQ(outcome.out, "");
        for (const auto& part : parts)
            EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in " << outcome.err;
        EXPECT_EQ(files(), before);
    }
    std::string samples(const std::string& name, std::size_t rows, std::size_t cols) {
        write_bytes(path(name), npy_bytes(rows, cols, some_samples(rows, cols)));
        return path(name);
    }
    std::string file(const std::string& name, const std::string& bytes) {
        write_bytes(path(name), bytes);
        return path(name);
    }
    std::string model(const std::string& name, std::size_t cols) {
        succeed({"fit", samples("for_" + name + ".npy", 3000, cols), "-o", path(name), "--quiet"});
        return path(name);
    }
    std::string out() const { return path("out"); }
};

/// Samples whose file is wrong, whatever is done with them.
class BadSamples : public BadInput {
  protected:
    void expect_refused(int code, const std::string& npy, const std::vector<std::string>& parts = {}) {
        expect_error(code, {"fit", npy, "-o", out()}, parts);
        expect_error(code, {"evaluate", npy, "--against", good_}, parts);
        expect_error(code, {"info", npy}, parts);
    }
    void SetUp() override { good_ = samples("good.npy", 3000, 2); }
    std::string good_;
};

TEST_F(BadSamples, Missing) { expect_refused(unreadable, path("absent.npy"), {"absent.npy"}); }

TEST_F(BadSamples, Directory) {
    std::filesystem::create_directory(path("folder.npy"));
    expect_refused(unreadable, path("folder.npy"), {"folder.npy", "directory"});
}

TEST_F(BadSamples, Empty) { expect_refused(content, file("empty.npy", ""), {"empty.npy", "empty"}); }

TEST_F(BadSamples, WrongMagic) {
    expect_refused(content, file("x.npy", "PK\x03\x04" + std::string(200, 'x')), {"x.npy"});
}

TEST_F(BadSamples, Truncated) {
    const std::string bytes = read_bytes(good_);
    expect_refused(content, file("data.npy", bytes.substr(0, bytes.size() - 1)), {"data.npy", "truncated"});
    expect_refused(content, file("header.npy", bytes.substr(0, 60)), {"header.npy"});
    expect_refused(content, file("magic.npy", bytes.substr(0, 7)), {"magic.npy"});
}

TEST_F(BadSamples, TrailingBytes) {
    expect_refused(content, file("x.npy", read_bytes(good_) + "x"), {"x.npy", "trailing"});
}

TEST_F(BadSamples, HeaderOfOneGigabyte) {
    std::string start("\x93NUMPY\x02\x00\x00\x00\x00\x40", 12); // format 2.0, header length 2^30
    file("x.npy", start);
    std::filesystem::resize_file(path("x.npy"), (1u << 30) + 4096u); // sparse
    expect_refused(content, path("x.npy"), {"x.npy", "header"});
}

TEST_F(BadSamples, ShapeThatOverflows) {
    expect_refused(content, file("x.npy", npy_bytes("<f8", "(4294967296, 4294967296)", std::string(64, 'x'))),
                   {"x.npy", "shape"});
    expect_refused(content,
                   file("y.npy", npy_bytes("<f8", "(99999999999999999999999, 2)", std::string(64, 'x'))),
                   {"y.npy"});
    expect_refused(content, file("z.npy", npy_bytes("<f8", "(-3, 2)", std::string(64, 'x'))), {"z.npy"});
}

TEST_F(BadSamples, TypesThatAreNotReal) {
    expect_refused(content, file("object.npy", npy_bytes("|O", "(8, 2)", std::string(128, 'x'))),
                   {"object.npy", "O"});
    expect_refused(content, file("complex.npy", npy_bytes("<c16", "(4, 2)", std::string(128, 'x'))),
                   {"complex.npy", "c16"});
}

TEST_F(BadSamples, NoRows) {
    expect_refused(content, file("x.npy", npy_bytes("<f8", "(0, 2)", "")), {"x.npy", "0"});
}

TEST_F(BadSamples, OneValueThatIsNotFinite) {
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        auto values = some_samples(3000, 2);
        values[1234 * 2 + 1] = bad;
        const std::string npy = file("x.npy", npy_bytes(3000, 2, values));
        expect_error(content, {"fit", npy, "-o", out()}, {"x.npy", "row 1234", "column 1"});
        expect_error(content, {"evaluate", npy, "--against", good_}, {"x.npy", "row 1234", "column 1"});
    }
}

TEST_F(BadInput, FewerSamplesThanTheBasisNeeds) {
    expect_error(content, {"fit", samples("x.npy", 12, 4), "-o", out()}, {"12"});
}

TEST_F(BadInput, ConstantCoordinate) {
    auto values = some_samples(3000, 3);
    for (std::size_t row = 0; row < 3000; ++row) values[row * 3 + 1] = 0.25;
    const std::string npy = file("x.npy", npy_bytes(3000, 3, values));
    expect_error(content, {"fit", npy, "-o", out()}, {"constant", "--drop-constant", "1"});
    succeed({"fit", npy, "-o", out(), "--drop-constant", "--quiet"});
}

TEST_F(BadInput, DuplicatedCoordinates) {
    auto values = some_samples(3000, 4);
    for (std::size_t row = 0; row < 3000; ++row) values[row * 4 + 3] = values[row * 4 + 1];
    expect_error(content, {"fit", file("x.npy", npy_bytes(3000, 4, values)), "-o", out()}, {"1", "3"});
}

TEST_F(BadInput, DimensionsThatDoNotMatch) {
    const std::string two = samples("two.npy", 3000, 2), three = samples("three.npy", 3000, 3),
                      target = chain_target(6), of_two = model("m.dynkin", 2),
                      log_density = samples("q.npy", 3000, 1),
                      short_log_density = samples("short.npy", 2999, 1);
    expect_error(content, {"fit", three, "-o", out(), "--target", target}, {"3", "6"});
    expect_error(content, {"fit", three, "-o", out(), "--lattice", "2x2"}, {"3", "4"});
    expect_error(content, {"score", of_two, three, "-t", "0.1", "-o", out()}, {"2", "3"});
    expect_error(content, {"density", of_two, three, "-o", out()}, {"2", "3"});
    expect_error(content, {"weigh", three, "--log-density", log_density, "--target", target, "-o", out()},
                 {"3", "6"});
    expect_error(content, {"evaluate", two, "--against", three}, {"2", "3"});
    expect_error(content, {"evaluate", two, "--against", two, "--target", target}, {"2", "6"});
    expect_error(content, {"evaluate", two, "--against", two, "--weights", short_log_density},
                 {"3000", "2999"});
    const std::string six = samples("six.npy", 3000, 6);
    expect_error(content, {"weigh", six, "--log-density", short_log_density, "--target", target, "-o", out()},
                 {"3000", "2999"});
}

TEST_F(BadInput, TargetsThatAreWrong) {
    const std::string good = read_bytes(chain_target(6));
    const auto draw = [&](const std::string& toml, const std::vector<std::string>& parts) {
        file("bad.toml", toml);
        expect_error(content, {"draw", path("bad.toml"), "-n", "100", "-o", out()}, parts);
        expect_error(content, {"info", path("bad.toml")}, parts);
    };
    draw(good + "lambada = 1\n", {"bad.toml", "lambada"});
    draw(good + "nonsense\n", {"bad.toml"});
    draw("[target]\nkind = \"ginzburg_landau\"\nshape = [6]\nlambda = -0.03\nbeta = 0.125\nspacing = 0.1\n"
         "boundary = \"zero\"\n",
         {"bad.toml", "lambda", "-0.03"});
    draw("[target]\nkind = \"teapot\"\n", {"bad.toml", "teapot"});
    draw("", {"bad.toml"});
    expect_error(unreadable, {"draw", path("absent.toml"), "-n", "100", "-o", out()}, {"absent.toml"});
    file("bad.toml", good + "[draw]\nsammples = 3\n");
    expect_error(content, {"draw", path("bad.toml"), "-n", "100", "-o", out()}, {"bad.toml", "sammples"});
}

TEST_F(BadInput, DrawsThatCannotBeExact) {
    const std::string sheet = file("sheet.toml",
                                   "[target]\nkind = \"lattice\"\nshape = [3, 3]\nboundary = \"free\"\n"
                                   "coupling = 1\nsite = [0, 1]\n"),
                      gaussian = file("gaussian.toml", "[target]\nkind = \"gaussian\"\nmean = [0]\n"
                                                       "covariance = [[1]]\n"),
                      stiff = file("stiff.toml",
                                   "[target]\nkind = \"lattice\"\nshape = [4]\nboundary = \"free\"\n"
                                   "coupling = 1e8\nsite = [0, 0, 0, 1]\n");
    const auto exact = [&](const std::string& target, const Arguments& further = {}) {
        Arguments all = {"draw", target, "-n", "100", "-o", out(), "--sampler", "exact"};
        all.insert(all.end(), further.begin(), further.end());
        return all;
    };
    expect_error(usage, exact(sheet), {"--sampler exact", "one axis", "3x3 free"});
    expect_error(usage, exact(gaussian), {"--sampler exact", "one axis", "gaussian"});
    expect_error(usage, exact(chain_target(6), {"--chains", "4"}), {"--chains", "exact"});
    expect_error(usage, exact(chain_target(6), {"--temperatures", "4"}), {"--temperatures", "exact"});
    expect_error(4, exact(stiff), {"4096"});
}

TEST_F(BadInput, NoSamplesAskedFor) {
    expect_error(usage, {"draw", chain_target(6), "-n", "0", "-o", out()});
    expect_error(usage, {"sample", model("m.dynkin", 2), "-n", "0", "-o", out()});
}

TEST_F(BadInput, OutputThatCannotBeWritten) {
    const std::string target = chain_target(6), npy = samples("x.npy", 3000, 2),
                      of_two = model("m.dynkin", 2);
    std::filesystem::create_directory(path("folder"));
    for (const std::string& output : {path("absent/out"), path("folder"), std::string("/proc/out")}) {
        expect_error(unreadable, {"draw", target, "-n", "1000", "-o", output}, {output});
        expect_error(unreadable, {"fit", npy, "-o", output}, {output});
        expect_error(unreadable, {"sample", of_two, "-n", "1000", "-o", output}, {output});
        expect_error(unreadable, {"score", of_two, npy, "-t", "0.1", "-o", output}, {output});
        expect_error(unreadable, {"density", of_two, npy, "-o", output}, {output});
    }
}

TEST_F(BadInput, DiskThatIsFull) {
    const std::string target = chain_target(6), npy = samples("x.npy", 3000, 2),
                      of_two = model("m.dynkin", 2);
    Conditions full;
    full.largest_file = 2048;
    expect_error(unreadable, {"draw", target, "-n", "1000", "-o", out(), "--allow-unconverged"}, {out()},
                 full);
    expect_error(unreadable, {"fit", npy, "-o", out()}, {out()}, full);
    expect_error(unreadable, {"sample", of_two, "-n", "1000", "-o", out()}, {out()}, full);
    expect_error(unreadable, {"score", of_two, npy, "-t", "0.1", "-o", out()}, {out()}, full);
    expect_error(unreadable, {"density", of_two, npy, "-o", out()}, {out()}, full);
}

// Whose JSON dump() would end the process on: it recurses.
TEST_F(BadInput, MetadataThatNestDeeply) {
    TensorFile file;
    const std::string deep = std::string(300'000, '[') + std::string(300'000, ']');
    file.metadata = {{"configuration", deep}, {"identity", deep}, {"drift", "{\"kind\": " + deep + "}"}};
    for (const char* format : {"dynkin-model", "dynkin-checkpoint", "dynkin-nonlinear"}) {
        file.format = format;
        write_tensor_file(path("deep.dynkin"), file);
        succeed({"info", path("deep.dynkin"), "--json"});
    }
    expect_error(content, {"sample", path("deep.dynkin"), "-n", "10", "-o", out()}, {"deep.dynkin", "drift"});
}

TEST_F(BadInput, ModelsThatAreDamaged) {
    const std::string good = read_bytes(model("good.dynkin", 2)), points = samples("x.npy", 100, 2);
    std::string flipped_data = good, flipped_header = good;
    flipped_data[good.size() - 100] ^= 0x10;
    flipped_header[20] ^= 0x10;
    const std::string huge_header = std::string(7, '\xff') + '\x0f' + good.substr(8);
    const std::vector<std::string> damaged = {"",
                                              good.substr(0, 5),
                                              good.substr(0, 100),
                                              good.substr(0, good.size() - 1),
                                              good + "x",
                                              flipped_data,
                                              flipped_header,
                                              huge_header,
                                              read_bytes(points)};
    for (std::size_t k = 0; k < damaged.size(); ++k) {
        SCOPED_TRACE(k);
        const std::string bad = file("bad.dynkin", damaged[k]);
        expect_error(content, {"sample", bad, "-n", "10", "-o", out()}, {"bad.dynkin"});
        expect_error(content, {"score", bad, points, "-t", "0.1", "-o", out()}, {"bad.dynkin"});
        expect_error(content, {"density", bad, points, "-o", out()}, {"bad.dynkin"});
    }
    const std::string chain =
        file("chain.toml", "[target]\nkind = \"lattice\"\nshape = [8]\nboundary = \"free\"\ncoupling = 1\n"
                           "site = [0, -1, 0, 1]\n");
    const std::vector<std::string> draw = {"draw", chain, "-n", "10", "-o", out(), "--sampler"};
    const auto with = [&](std::vector<std::string> more) {
        more.insert(more.begin(), draw.begin(), draw.end());
        return more;
    };
    expect_error(content, with({"model", "--model", path("good.dynkin")}), {"good.dynkin", "--tile"});
    expect_error(usage, with({"model"}), {"--model"});
    expect_error(usage, with({"hmc", "--model", path("good.dynkin")}), {"--model"});
    expect_error(usage, with({"hmc", "--start", points}), {"--start"});
    expect_error(content, with({"heatbath", "--start", points}), {"x.npy", "8", "2"});
    expect_error(unreadable, {"sample", path("absent.dynkin"), "-n", "10", "-o", out()}, {"absent.dynkin"});
}

} // namespace
} // namespace dynkin::cli_test

// test_prior.cpp - score priors as a user fits and reads them.
#include "engine/npy.h"
#include "program.h"
#include <cmath>
#include <nlohmann/json.hpp>

namespace dynkin::cli_test {
namespace {

class PriorCommands : public InFolder {
  protected:
    std::string write(const std::string& name, const std::string& bytes) const {
        write_bytes(path(name), bytes);
        return path(name);
    }
};

/// At sigma = 100, far above the spread of the data, the score is nearly that of the noise, (mean - x) /
/// sigma^2; the mean and variance are of order 1.
TEST_F(PriorCommands, FitAndScoreEveryKind) {
    const std::string data = write("x.npy", npy_bytes(400, 3, some_samples(400, 3))),
                      far = write("far.npy", npy_bytes(2, 3, {100, 0, -100, 50, 200, 0})),
                      levels = write("sigma.npy", npy_bytes(2, 1, {100, 100}));
    for (const std::string kind : {"product", "gaussian", "flat"}) {
        const std::string prior = path(kind);
        const auto fitted = nlohmann::json::parse(
            succeed({"fit", "--prior", kind, data, "-o", prior, "--degree", "3", "--json", "--quiet"}).out);
        EXPECT_EQ(fitted["prior"], kind);
        EXPECT_EQ(fitted["dimension"], 3);
        const auto scored = nlohmann::json::parse(
            succeed({"score", prior, far, "--sigma", "100", "-o", path("s.npy"), "--json"}).out);
        EXPECT_EQ(scored["sigma"], 100);
        const Array<double> x = read_npy(far), s = read_npy(path("s.npy"));
        for (std::size_t k = 0; k < x.size(); ++k) EXPECT_NEAR(s[k], -x[k] * 1e-4, 5e-4) << kind << k;
        succeed({"score", prior, far, "--sigma", "100", "-o", path("one.npy")});
        succeed({"score", prior, far, "--sigma", levels, "-o", path("each.npy")});
        const Array<double> one = read_npy(path("one.npy")), each = read_npy(path("each.npy"));
        for (std::size_t k = 0; k < one.size(); ++k) // the same sums, in another order
            EXPECT_NEAR(each[k], one[k], 1e-12 + 1e-9 * std::abs(one[k])) << kind << k;
        succeed({"score", prior, far, "--sigma", "0.5", "--convention", "vp", "-o", path("vp.npy")});
        EXPECT_EQ(nlohmann::json::parse(succeed({"info", prior, "--json"}).out)["kind"], "prior");
    }
}

TEST_F(PriorCommands, WrongInputIsOneLineAndItsCode) {
    const std::string data = write("x.npy", npy_bytes(50, 2, some_samples(50, 2))), prior = path("p"),
                      out = path("s.npy");
    succeed({"fit", "--prior", "product", data, "-o", prior, "--quiet"});
    const auto expect = [&](int code, const std::string& part, const Arguments& arguments) {
        const Outcome outcome = run(arguments);
        EXPECT_EQ(outcome.exit_code, code) << outcome.err;
        EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
        EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
        EXPECT_FALSE(std::filesystem::exists(out));
    };
    const std::string bytes = read_bytes(prior);
    for (const std::size_t kept : {std::size_t{3}, std::size_t{40}, bytes.size() / 4}) // within the header
        expect(3, "cut", {"score", write("cut", bytes.substr(0, kept)), data, "--sigma", "1", "-o", out});
    expect(3, "cut",
           {"score", write("cut", bytes.substr(0, bytes.size() - 8)), data, "--sigma", "1", "-o", out});
    expect(2, "needs --sigma", {"score", prior, data, "-o", out});
    expect(2, "--sigma", {"score", prior, data, "--sigma", "nan", "-o", out});
    expect(2, "sigma", {"score", prior, data, "--sigma", "0", "-o", out});
    const std::string levels = write("levels.npy", npy_bytes(2, 1, {1, 0})),
                      two = write("two.npy", npy_bytes(2, 2, {0, 0, 1, 1}));
    expect(3, "levels.npy: row 1", {"score", prior, two, "--sigma", levels, "-o", out});
    const std::string large = write("large.npy", npy_bytes(2, 1, {0.5, 1e9}));
    for (const char* convention : {"edm", "vp"})
        expect(3, "large.npy: row 1",
               {"score", prior, two, "--sigma", large, "--convention", convention, "-o", out});
    expect(2, "no times", {"score", prior, data, "-t", "1", "--sigma", "1", "-o", out});
}

} // namespace
} // namespace dynkin::cli_test

// test_plugin.cpp - targets from shared objects: examples/plugin as a user has it, and
// tests/planted/plugin_wrong.cpp.
#include "engine/npy.h"
#include "engine/target.h"
#include "program.h"
#include <cmath>
#include <fstream>
#include <sys/stat.h>

namespace dynkin::cli_test {
namespace {

class Plugin : public InFolder {
  protected:
    std::string write(const std::string& library, const std::string& rest) {
        std::ofstream(path("plugin.toml")) << "[target]\nkind = \"plugin\"\nlibrary = \"" << library << "\"\n"
                                           << rest;
        return path("plugin.toml");
    }
    std::string ring(const std::string& parameters) {
        return write(DYNKIN_PLUGIN, "dimension = 8\nparameters = " + parameters + "\nstart = [-2, 2]\n");
    }
    std::string wrong(int fault) {
        return write(DYNKIN_WRONG_PLUGIN, "dimension = 2\nparameters = [" + std::to_string(fault) + "]\n");
    }
    void refused(const std::string& target, const std::string& text, int code = 3) {
        const Outcome outcome = run({"draw", target, "-n", "1000", "-o", path("x.npy")});
        EXPECT_EQ(outcome.exit_code, code) << outcome.err;
        EXPECT_NE(outcome.err.find(text), std::string::npos) << outcome.err;
        EXPECT_FALSE(std::filesystem::exists(path("x.npy")));
    }
};

// With k and a alone the ring is a lattice target: J = k, V = a (x^2 - 1)^2.
TEST_F(Plugin, EnergiesAndGradientsAreThoseOfTheSameLattice) {
    const Target plugin = read_target(ring("[1.5, 0, 0.7]"));
    const Target lattice = parse_target("[target]\nkind = \"lattice\"\nshape = [8]\nboundary = \"periodic\"\n"
                                        "coupling = 1.5\nsite = [0, -1.4, 0, 0.7]\n",
                                        "lattice");
    const std::size_t count = 31;
    const std::vector<double> x = some_samples(count, 8);
    std::vector<double> u(count), v(count), g(count * 8), h(count * 8);
    const Context context({.device = Device::cpu});
    energy_gradient(context, plugin, count, x.data(), u.data(), g.data());
    energy_gradient(context, lattice, count, x.data(), v.data(), h.data());
    for (std::size_t n = 0; n < count; ++n) EXPECT_NEAR(u[n], v[n] + 8 * 0.7, 1e-12 * std::abs(u[n]));
    for (std::size_t n = 0; n < count * 8; ++n) EXPECT_NEAR(g[n], h[n], 1e-11);
}

// Error of central differences: third derivatives are 0 here, so rounding alone, e U / h.
TEST_F(Plugin, GradientsAreDifferencesWhereThereAreNone) {
    const Target plugin = read_target(wrong(0));
    const std::vector<double> x = some_samples(10, 2);
    std::vector<double> u(10), g(20);
    energy_gradient(Context({.device = Device::cpu}), plugin, 10, x.data(), u.data(), g.data());
    for (std::size_t n = 0; n < 20; ++n)
        EXPECT_NEAR(g[n], x[n], 0x1p-52 * std::max(1.0, u[n / 2]) * 0x1p17 * 4);
}

TEST_F(Plugin, DrawFitWeigh) {
    const std::string target = ring("[1.0, 0.25, 1.0]");
    succeed({"draw", target, "-n", "20000", "-o", path("x.npy"), "--quiet"});
    succeed({"fit", path("x.npy"), "-o", path("m"), "--levels", "flat", "--quiet"});
    succeed({"sample", path("m"), "-n", "4000", "-o", path("y.npy"), "--method", "ode", "--log-density",
             path("q.npy"), "--quiet"});
    const Outcome weighed = succeed({"weigh", path("y.npy"), "--log-density", path("q.npy"), "--target",
                                     target, "-o", path("w.npy"), "--quiet"});
    const std::size_t at = weighed.out.find("ess_fraction");
    ASSERT_NE(at, std::string::npos) << weighed.out;
    EXPECT_GT(std::stod(weighed.out.substr(at + 12)), 0.5) << weighed.out;
}

TEST_F(Plugin, ChainsStayWhereThereIsAnEnergy) {
    succeed({"draw", wrong(4), "-n", "2000", "-o", path("x.npy"), "--allow-unconverged", "--quiet"});
    const SampleFile samples(path("x.npy"));
    std::vector<double> x(2 * samples.rows());
    samples.read(0, samples.rows(), x.data());
    for (std::size_t n = 0; n < samples.rows(); ++n) EXPECT_GE(x[2 * n], -0.5) << n;
}

TEST_F(Plugin, WhatIsWrongIsNamed) {
    refused(write("absent.so", "dimension = 2\n"), path("absent.so"), 5);
    ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
    refused(write("pipe", "dimension = 2\n"), path("pipe"), 5);
    refused(write("/dev/zero", "dimension = 2\n"), "/dev/zero", 5);
    write_bytes(path("text.so"), "not a library");
    refused(write("text.so", "dimension = 2\n"), "expected a shared object");
    refused(write("libm.so.6", "dimension = 2\n"), "libm.so.6", 5); // not looked for in the system's folders
    refused(write(DYNKIN_PLUGIN, ""), "missing key \"dimension\"");
    refused(write(DYNKIN_PLUGIN, "dimension = 0\n"), "plugin.toml:4");
    refused(write(DYNKIN_PLUGIN, "dimension = 2\nstart = [1, 1]\n"), "the smaller first");
    refused(ring("[1.0]"), "expected 0 at the centre of start, got 2");
    refused(wrong(1), "got 7");
    refused(wrong(2), "expected a finite energy");
    refused(wrong(3), "for a gradient, got 8");
}

TEST_F(Plugin, AnotherLibraryIsAnotherTarget) {
    const Target one = read_target(ring("[1, 0, 1]"));
    std::filesystem::copy_file(DYNKIN_PLUGIN, path("copy.so"));
    std::ofstream(path("copy.so"), std::ios::app) << "more"; // still opens
    const Target other =
        read_target(write("copy.so", "dimension = 8\nparameters = [1, 0, 1]\nstart = [-2, 2]\n"));
    EXPECT_NE(one.canonical_json, other.canonical_json);
}

} // namespace
} // namespace dynkin::cli_test

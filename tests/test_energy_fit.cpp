// test_energy_fit.cpp - models from the energy alone: exact log Z of small laws, both wells in their shares,
// the same bytes for any number of threads and after an interruption, and what is refused.
#include "cases.h"
#include "engine/energy_fit.h"
#include "engine/file.h"
#include "engine/model_file.h"
#include "engine/sampler.h"
#include <atomic>
#include <cmath>

namespace dynkin {
namespace {

namespace fs = std::filesystem;
using std::size_t;

Target of(TargetVariant law) {
    Target target;
    target.law = std::move(law);
    target.kind = "test";
    return target;
}

Target tilted_wells() { return of(DoubleWellTarget{2, 2, 0.3}); }
Target chain() { return of(ginzburg_landau({{8}, Boundary::zero}, 0.03, 0.125, 1.0 / 9)); }

/// log of the integral of exp(-a (x^2 - 1)^2 - b x) by the trapezium rule, and the share of x > 0.
std::pair<double, double> well_by_quadrature(double a, double b) {
    double sum = 0, right = 0;
    const int n = 8000;
    for (int k = 0; k <= n; ++k) {
        const double x = -4 + 8.0 * k / n, p = std::exp(-a * std::pow(x * x - 1, 2) - b * x);
        sum += p, right += x > 0 ? p : 0;
    }
    return {std::log(sum * 8.0 / n), right / sum};
}

class EnergyFit : public cases::Folder {
  protected:
    EnergyFitOptions quick(size_t rows = 2000) const {
        EnergyFitOptions options;
        options.rows = rows, options.seed = 5, options.max_iterations = 3;
        options.fit.level_pairs = cases::sized(10'000, 1000), options.fit.degree = 6,
        options.fit.time_nodes = 12;
        return options;
    }
    CheckpointOptions checkpoint(bool resume) const {
        CheckpointOptions options;
        options.path = path("model.checkpoint"), options.identity = "{}", options.resume = resume;
        options.interval_seconds = 0;
        return options;
    }
    std::string bytes(const Model& model) const {
        write_model(path("bytes.dynkin"), model);
        return read_file(path("bytes.dynkin"));
    }
};

constexpr double z_bound = 4.5;

TEST_F(EnergyFit, TiltedWellsHaveTheirLogPartitionAndShares) {
    const Context context = cases::context(2);
    EnergyFitReport report;
    const Model model = fit_from_energy(context, tilted_wells(), quick(4000), &report);
    const auto [log_z, share] = well_by_quadrature(2, 0.3);
    EXPECT_FALSE(model.blocks.empty());
    EXPECT_GE(report.ess_fraction, 0.9);
    EXPECT_TRUE(report.usable);
    EXPECT_NEAR(report.log_partition, 2 * log_z, z_bound * report.log_partition_error);
    EXPECT_EQ(report.annealing.back().beta, 1);
    const Samples samples = sample(context, model, 4000, {.method = Method::ode, .seed = 9});
    double right = 0;
    for (size_t n = 0; n < 4000; ++n) right += samples.rows(n, 0) > 0;
    EXPECT_NEAR(right / 4000, share, 0.05); // of the model, not weighed
}

TEST_F(EnergyFit, AChainFromItsEnergy) {
    EnergyFitReport report;
    const Model model = fit_from_energy(cases::context(2), chain(), quick(cases::sized(2000, 1000)), &report);
    EXPECT_FALSE(model.levels.empty());
    EXPECT_GE(report.ess_fraction, 0.85);
    // transfer matrix by quadrature
    const LatticeTarget law = std::get<LatticeTarget>(chain().law);
    const int n = 600;
    const double h = 6.0 / n, j = law.coupling, g = law.site_constant;
    const auto edge = [&](double x, double y) { return std::exp(-0.5 * j * (x - y) * (x - y)); };
    std::vector<double> v(n + 1), next(n + 1);
    const auto at = [&](int k) { return -3 + h * k; };
    for (int k = 0; k <= n; ++k) v[static_cast<size_t>(k)] = edge(0, at(k));
    for (int site = 0; site < 8; ++site) {
        std::fill(next.begin(), next.end(), 0);
        for (int k = 0; k <= n; ++k) {
            const double x = at(k), w = h * std::exp(-g * std::pow(1 - x * x, 2)) * v[static_cast<size_t>(k)];
            if (site == 7)
                next[0] += w * edge(x, 0);
            else
                for (int m = 0; m <= n; ++m) next[static_cast<size_t>(m)] += w * edge(x, at(m));
        }
        v = next;
    }
    EXPECT_NEAR(report.log_partition, std::log(v[0]), z_bound * report.log_partition_error);
}

TEST_F(EnergyFit, SameBytesForAnyNumberOfThreadsAndNoFilesLeft) {
    EnergyFitOptions options = quick(1000);
    options.max_iterations = 1;
    const std::string one = bytes(fit_from_energy(cases::context(1), chain(), options));
    options.checkpoint = checkpoint(false);
    EXPECT_EQ(bytes(fit_from_energy(cases::context(3), chain(), options)), one);
    remove_energy_fit_state(options.checkpoint);
    for (const auto& entry : fs::directory_iterator(path("bytes.dynkin").parent_path()))
        EXPECT_EQ(entry.path().filename(), "bytes.dynkin");
}

TEST_F(EnergyFit, ResumesToTheSameBytes) {
    EnergyFitOptions options = quick(1000);
    EnergyFitReport whole;
    const std::string expected = bytes(fit_from_energy(cases::context(1), tilted_wells(), options, &whole));
    for (const std::uint64_t stop_after : {0, 1, 2, 4, 6}) { // reports of progress until the signal
        std::atomic<int> signal{0};
        std::uint64_t reports = 0;
        ContextOptions where;
        where.threads = 1, where.interrupt_signal = &signal;
        where.progress = [&](const ProgressEvent&) {
            if (reports++ >= stop_after) signal = 15;
        };
        options.checkpoint = checkpoint(false);
        bool interrupted = false;
        try {
            fit_from_energy(cases::context(where), tilted_wells(), options);
        } catch (const Interrupted& caught) {
            interrupted = caught.signal() == 15;
        }
        EXPECT_TRUE(interrupted) << stop_after;
        options.checkpoint = checkpoint(true);
        EnergyFitReport report;
        EXPECT_EQ(bytes(fit_from_energy(cases::context(2), tilted_wells(), options, &report)), expected)
            << stop_after;
        EXPECT_EQ(report.ess_fraction, whole.ess_fraction);
        EXPECT_EQ(report.iterations.size(), whole.iterations.size());
        remove_energy_fit_state(options.checkpoint);
    }
}

TEST_F(EnergyFit, RefusesWhatItCannotDo) {
    const auto with = [&](const Target& target, const EnergyFitOptions& options) {
        return [target, options] { fit_from_energy(cases::context(), target, options); };
    };
    cases::expect_error(ErrorKind::usage, with(of(ToyTarget{"moons"}), quick()), "no energy");
    LatticeTarget cubic = std::get<LatticeTarget>(chain().law);
    cubic.site = {0, 0, 1};
    cases::expect_error(ErrorKind::input, with(of(cubic), quick()), "normalised");
    cases::expect_error(ErrorKind::usage, with(chain(), quick(10)), "rows");
    EnergyFitOptions options = quick();
    options.ess = 1;
    cases::expect_error(ErrorKind::usage, with(chain(), options), "ESS");
    options = quick(), options.fit.dequantise = 4;
    cases::expect_error(ErrorKind::usage, with(chain(), options), "dequantise");
}

} // namespace
} // namespace dynkin

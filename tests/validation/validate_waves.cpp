// validate_waves.cpp - the toys in a reflecting box: what the model loses against the exact entropy, its
// mass, the error of its steps, and samples of the SDE.
//
// Floor of the gaps: the standard error of the held-out mean, 0.002 to 0.005 nats for 4000 points. Floor of
// the total variation: two independent sets of samples.
#include "models.h"
#include <fmt/core.h>

namespace dynkin::validation {
namespace {

constexpr std::size_t held_out = 4000;

struct Toy {
    const char* name;
    int radius;
    double gap; ///< bar, nats; 0: reported only
};

Target toy_target(const char* name) {
    return parse_target(std::string("[target]\nkind = \"") + name + "\"\n", name);
}

struct Trained {
    Model model;
    FitReport report;
};
Trained train(const Context& context, const Target& target, int radius, std::size_t rows, std::uint64_t seed,
              double margin = 0.03) {
    const Folder folder;
    write_npy(folder / "train.npy", direct(context, target, rows, seed));
    FitOptions options;
    options.process = BoxProcess{{}, {}, margin}, options.radius = radius;
    Trained out;
    out.model = fit(context, SampleFile(folder / "train.npy"), options, &out.report);
    return out;
}

class ValidateWaves : public ::testing::TestWithParam<std::tuple<Toy, std::uint64_t>> {};

TEST_P(ValidateWaves, GapToTheEntropy) {
    const auto& [toy, seed] = GetParam();
    const bool reduced = scale() < 1;
    if (reduced && (toy.radius != 24 || seed != 1)) GTEST_SKIP() << "not in the reduced run";
    const Context context;
    const Ledger ledger{fmt::format("box, {}, radius {}", toy.name, toy.radius), seed};
    const Target target = toy_target(toy.name);
    const Trained trained = train(context, target, toy.radius, 50'000, seed);
    const Array<double> x = direct(context, target, held_out, seed + 1000);
    // Held-out points beyond the box, a few in 1e5, count at its wall.
    Array<double> inside = x;
    const auto& box = std::get<BoxProcess>(trained.model.process);
    for (std::size_t n = 0; n < held_out; ++n)
        for (std::size_t j = 0; j < 2; ++j) inside(n, j) = std::clamp(x(n, j), box.lower[j], box.upper[j]);
    std::vector<double> log_p(held_out);
    exact_log_density(context, target, held_out, x.data(), log_p.data());
    const auto log_q = log_density(context, trained.model, held_out, inside.data());
    double sum = 0, square = 0;
    for (std::size_t n = 0; n < held_out; ++n)
        sum += log_p[n] - log_q[n], square += (log_p[n] - log_q[n]) * (log_p[n] - log_q[n]);
    const double gap = sum / held_out;
    if (toy.gap > 0)
        ledger.at_most("gap to the entropy, nats", gap, toy.gap);
    else
        ledger.reported("gap to the entropy, nats", gap);
    ledger.reported("its standard error", std::sqrt((square / held_out - gap * gap) / held_out));
    ledger.reported("basis size", static_cast<double>(trained.report.basis_size));
    ledger.reported("seconds of fit", trained.report.moment_seconds + trained.report.solve_seconds);
}

INSTANTIATE_TEST_SUITE_P(
    Toys, ValidateWaves,
    ::testing::Combine(::testing::Values(Toy{"eight_gaussians", 24, 0.015}, Toy{"eight_gaussians", 32, 0.015},
                                         Toy{"pinwheel", 32, 0.015}, Toy{"moons", 32, 0.015},
                                         Toy{"two_spirals", 40, 0.032}, Toy{"checkerboard", 40, 0}),
                       ::testing::Values(1, 2, 3)));

/// Mass on a grid as fine as the waves, and log q with few steps against many.
TEST(ValidateWavesFlow, MassAndSteps) {
    const Context context;
    const Ledger ledger{"box, eight_gaussians, radius 24, steps", 1};
    const Target target = toy_target("eight_gaussians");
    const Trained trained = train(context, target, 24, 50'000, 1);
    const auto& box = std::get<BoxProcess>(trained.model.process);
    const std::size_t side = 160;
    Array<double> grid(side * side, 2);
    double cell = 1;
    for (std::size_t j = 0; j < 2; ++j) {
        const double h = (box.upper[j] - box.lower[j]) / static_cast<double>(side);
        cell *= h;
        for (std::size_t n = 0; n < grid.rows(); ++n)
            grid(n, j) = box.lower[j] + h * (static_cast<double>(j ? n % side : n / side) + 0.5);
    }
    double mass = 0;
    for (double v : log_density(context, trained.model, grid.rows(), grid.data())) mass += std::exp(v) * cell;
    ledger.at_most("|mass - 1|", std::abs(mass - 1), 0.005);
    const Array<double> x = direct(context, target, 1000, 1001);
    const auto finest = log_density(context, trained.model, x.rows(), x.data(), 192);
    for (const auto& [steps, bar] : {std::pair{48, 0.015}, std::pair{96, 0.004}}) {
        const auto log_q = log_density(context, trained.model, x.rows(), x.data(), steps);
        double square = 0, count = 0;
        for (std::size_t n = 0; n < log_q.size(); ++n)
            if (std::isfinite(log_q[n])) square += std::pow(log_q[n] - finest[n], 2), count += 1;
        ledger.at_most(fmt::format("rms difference of log q to 192 steps, {} steps", steps),
                       std::sqrt(square / count), bar);
    }
}

/// Total variation of 40 x 40 bins between two sets of points, over the range of the second.
double variation(const Array<double>& x, const Array<double>& reference) {
    constexpr std::size_t bins = 40;
    std::vector<double> difference(bins * bins);
    double lo[2] = {INFINITY, INFINITY}, hi[2] = {-INFINITY, -INFINITY};
    for (std::size_t n = 0; n < reference.rows(); ++n)
        for (std::size_t j = 0; j < 2; ++j)
            lo[j] = std::min(lo[j], reference(n, j)), hi[j] = std::max(hi[j], reference(n, j));
    const auto count = [&](const Array<double>& of, double weight) {
        for (std::size_t n = 0; n < of.rows(); ++n) {
            std::size_t cell = 0;
            for (std::size_t j = 0; j < 2; ++j) {
                const double place = (of(n, j) - lo[j]) / (hi[j] - lo[j]) * bins;
                cell = cell * bins + static_cast<std::size_t>(std::clamp(place, 0.0, bins - 1.0));
            }
            difference[cell] += weight / static_cast<double>(of.rows());
        }
    };
    count(x, 1), count(reference, -1);
    double sum = 0;
    for (double v : difference) sum += std::abs(v);
    return sum / 2;
}

TEST(ValidateWavesSde, TotalVariation) {
    const Context context;
    for (const std::uint64_t seed : {1, 2, 3}) {
        if (scale() < 1 && seed > 1) break;
        const Ledger ledger{"box, eight_gaussians, radius 24, SDE in 48 steps", seed};
        const Target target = toy_target("eight_gaussians");
        const Trained trained = train(context, target, 24, 50'000, seed);
        const Array<double> reference = direct(context, target, 20'000, seed + 2000),
                            other = direct(context, target, 20'000, seed + 3000);
        const Generated samples =
            generate(context, trained.model, 20'000, {.method = Method::sde, .steps = 48, .seed = seed});
        const double floor = variation(other, reference);
        ledger.at_most("total variation beyond the floor", variation(samples.x, reference) - floor, 0.015);
        ledger.reported("floor: independent samples", floor);
    }
}

} // namespace
} // namespace dynkin::validation

// validate_toys.cpp - total variation of generated samples from an asymmetric mixture on
// the line and from the two moons, fitted references.
//
// Floor: the same figure for independent samples of the law itself. 2e4 samples in B equally likely bins give
// about sqrt(B / (2 pi 2e4)), 0.02 in 60 bins.
//
// The bars are for the SDE, as in the prototype. The probability flow keeps what errors the score has where
// the SDE's noise and drift correct them; its figure is reported. It does not change with the steps (moons:
// 0.120 with 64 and with 128).
#include "models.h"

namespace dynkin::validation {
namespace {

constexpr std::size_t rows = 20'000, generated = 20'000, reference_rows = 200'000;

/// sum |p - q| / 2 over bins x bins cells of the reference's range; samples outside count in the cells at the
/// border.
double total_variation(const Array<double>& x, const Array<double>& reference, std::size_t bins) {
    double lo[2], hi[2];
    for (std::size_t j = 0; j < 2; ++j) {
        lo[j] = hi[j] = reference(0, j);
        for (std::size_t n = 0; n < reference.rows(); ++n)
            lo[j] = std::min(lo[j], reference(n, j)), hi[j] = std::max(hi[j], reference(n, j));
    }
    std::vector<double> difference(bins * bins);
    const auto count = [&](const Array<double>& points, double sign) {
        for (std::size_t n = 0; n < points.rows(); ++n) {
            std::size_t cell = 0;
            for (std::size_t j = 0; j < 2; ++j) {
                const double place = (points(n, j) - lo[j]) / (hi[j] - lo[j]) * static_cast<double>(bins);
                cell = cell * bins +
                       static_cast<std::size_t>(std::clamp(place, 0.0, static_cast<double>(bins) - 1));
            }
            difference[cell] += sign / static_cast<double>(points.rows());
        }
    };
    count(x, 1), count(reference, -1);
    double sum = 0;
    for (const double v : difference) sum += std::abs(v);
    return sum / 2;
}

struct Toy {
    const char *name, *file;
    int degree;
    double bar;
};

class ValidateToys : public ::testing::TestWithParam<std::tuple<Toy, std::uint64_t>> {};

TEST_P(ValidateToys, TotalVariation) {
    const auto& [toy, seed] = GetParam();
    const Context context;
    const Folder folder;
    const Ledger ledger{toy.name, seed};
    const Target target = read_target(std::string(DYNKIN_SOURCE_DIR "/examples/targets/") + toy.file);
    const Array<double> reference = direct(context, target, reference_rows, seed + 1000);
    const auto distance = [&](const Array<double>& x) {
        return target.dimension() == 1 ? figures(context, x, {}, reference, nullptr, seed).marginal_tv
                                       : total_variation(x, reference, 40);
    };
    write_npy(folder / "train.npy", direct(context, target, rows, seed));
    FitOptions options;
    options.degree = toy.degree, options.total_degree = target.dimension() == 1 ? 0 : toy.degree;
    FitReport report;
    const Model model = fit(context, SampleFile(folder / "train.npy"), options, &report);
    for (const Method method : {Method::sde, Method::ode}) {
        const Generated samples =
            generate(context, model, generated, {.method = method, .steps = 64, .seed = seed});
        if (method == Method::sde)
            ledger.at_most("total variation, SDE", distance(samples.x), toy.bar);
        else
            ledger.reported("total variation, ODE", distance(samples.x));
    }
    ledger.reported("floor: total variation of independent samples",
                    distance(direct(context, target, generated, seed + 2000)));
    ledger.reported("basis size", static_cast<double>(report.basis_size));
    ledger.reported("training rows", rows);
    ledger.reported("generated rows", generated);
    ledger.reported("reference rows", reference_rows);
}

INSTANTIATE_TEST_SUITE_P(
    Toys, ValidateToys,
    ::testing::Combine(::testing::Values(Toy{"row 5, mixture, 60 bins", "mixture.toml", 10, 0.03},
                                         Toy{"row 6, moons, 40 x 40 bins", "moons.toml", 12, 0.11}),
                       ::testing::Values(1, 2, 3)));

} // namespace
} // namespace dynkin::validation

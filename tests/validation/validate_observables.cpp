// validate_observables.cpp - observables of two Ginzburg-Landau rings against exact values (transfer matrix,
// tests/data/gl1d_*.json): of Markov chains with errors by autocorrelation, of samples of a flat model
// weighted and, where the bias shows, not weighted.
#include "engine/observables.h"
#include "engine/transfer_matrix.h"
#include "models.h"
#include <numbers>

namespace dynkin::validation {
namespace {

struct Exact {
    std::vector<std::pair<std::string, double>> named;
    std::vector<double> two_point;
};

/// Cumulants 2 and 4 of the sum over sites, from the even function log Z(h) of a field: log Z(h) - log Z(0) =
/// kappa_2 h^2 / 2 + kappa_4 h^4 / 24 + ..., fitted through six fields, the largest 1.5 standard deviations.
std::pair<double, double> cumulants(LatticeTarget law, double spread) {
    constexpr int count = 6;
    const double base = TransferMatrix(law).log_partition();
    double a[count][count + 1];
    for (int j = 0; j < count; ++j) {
        const double u = (j + 1.0) / count, h = 1.5 * u / spread;
        law.site[0] = -h;
        for (int k = 0; k < count; ++k) a[j][k] = std::pow(u, 2 * k + 2);
        a[j][count] = TransferMatrix(law).log_partition() - base;
    }
    for (int p = 0; p < count; ++p)
        for (int j = 0; j < count; ++j) {
            if (j == p) continue;
            const double factor = a[j][p] / a[p][p];
            for (int k = p; k <= count; ++k) a[j][k] -= factor * a[p][k];
        }
    const double scale = std::pow(spread / 1.5, 2);
    return {2 * scale * a[0][count] / a[0][0], 24 * scale * scale * a[1][count] / a[1][1]};
}

Exact exact_of(const nlohmann::json& json, const LatticeTarget& law) {
    const std::size_t d = json["d"];
    const auto sites = static_cast<double>(d);
    const double k = 2 * std::numbers::pi / sites;
    double chi = 0, structure = 0;
    Exact exact;
    exact.two_point.assign(d / 2 + 1, 0.0);
    for (std::size_t i = 0; i < d; ++i)
        for (std::size_t j = 0; j < d; ++j) {
            const double moment = json["second_moments"][i][j],
                         distance = static_cast<double>(j) - static_cast<double>(i);
            chi += moment / sites, structure += moment * std::cos(k * distance) / sites;
            if (const std::size_t r = (j + d - i) % d; r <= d / 2) exact.two_point[r] += moment / sites;
        }
    const auto [second, fourth] = cumulants(law, std::sqrt(sites * chi));
    EXPECT_NEAR(second / (sites * chi), 1, 1e-7); // two ways to the same number
    exact.named = {{"magnetisation", 0.0},
                   {"susceptibility", chi},
                   {"binder_cumulant", 1 - (fourth + 3 * second * second) / (3 * second * second)},
                   {"correlation_length", std::sqrt(chi / structure - 1) / (2 * std::sin(k / 2))},
                   {"fourth", json["site_fourth_moment"][0]}};
    return exact;
}

/// The largest deviations in standard errors; where biased, each observable with its deviation.
void judge(const Ledger& ledger, const std::string& of, const ObservableReport& found, const Exact& exact,
           bool unbiased) {
    double named = 0, pairs = 0;
    for (const auto& [name, value] : exact.named) {
        const Estimate& e = *found.find(name);
        const double z = (e.value - value) / e.error;
        named = std::max(named, std::abs(z));
        ledger.reported(name + ", " + of, e.value);
        ledger.reported(name + ", " + of + ": less the exact value, in standard errors", z);
        if (!unbiased && value != 0)
            ledger.reported(name + ", " + of + ": relative bias", (e.value - value) / value);
    }
    for (std::size_t r = 0; r < exact.two_point.size(); ++r) {
        const Estimate& e = found.two_point[r];
        pairs = std::max(pairs, std::abs(e.value - exact.two_point[r]) / e.error);
    }
    const std::string figure = "largest deviation, standard errors: ";
    if (unbiased) {
        ledger.at_most(figure + of, named, 3);
        ledger.at_most(figure + "two-point function, " + of, pairs, 3);
    } else {
        ledger.reported(figure + of, named);
        ledger.reported(figure + "two-point function, " + of, pairs);
    }
}

class ValidateObservables : public ::testing::TestWithParam<const char*> {};

TEST_P(ValidateObservables, OfARing) {
    std::ifstream file(std::string(DYNKIN_SOURCE_DIR "/tests/data/") + GetParam() + ".json");
    const auto json = nlohmann::json::parse(file);
    const std::size_t d = json["d"], rows = 100'000;
    const std::uint64_t seed = 1;
    Target target;
    target.kind = "ginzburg_landau";
    const LatticeTarget law =
        ginzburg_landau({{d}, Boundary::periodic}, json["lam"], json["beta"], json["h"]);
    target.law = law;
    const Exact exact = exact_of(json, law);
    const std::vector<Polynomial> polynomials = {parse_polynomial("fourth", "x^4", d, target.lattice())};

    const Context context;
    const Folder folder;
    const Ledger ledger{std::string("observables, ") + GetParam(), seed};
    const McmcReport drawn = draw_file(context, target, rows, seed, folder / "train.npy");
    const Array<double> train = read_npy(folder / "train.npy");
    const auto of_chains = observe(context, train, {}, target.lattice(), polynomials, drawn.chains);
    judge(ledger, "draw", of_chains, exact, true);
    ledger.reported("autocorrelation time of the susceptibility, draw, kept states",
                    of_chains.find("susceptibility")->tau);

    FitOptions options = options_for(target);
    options.structure = Structure::flat;
    options.seed = seed;
    const Model model = fit(context, SampleFile(folder / "train.npy"), options);
    const Generated samples = generate(context, model, rows, {.method = Method::ode, .seed = seed});
    const Weights weights = weigh(context, target, samples);
    ledger.reported("ESS", weights.ess_fraction);
    judge(ledger, "model, weighted",
          observe(context, samples.x, weights.weight, target.lattice(), polynomials), exact, true);
    judge(ledger, "model, not weighted", observe(context, samples.x, {}, target.lattice(), polynomials),
          exact, false);
}

INSTANTIATE_TEST_SUITE_P(Rings, ValidateObservables,
                         ::testing::Values("gl1d_16_periodic", "gl1d_64_moderate"));

} // namespace
} // namespace dynkin::validation

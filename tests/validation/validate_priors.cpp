// validate_priors.cpp - score priors of 8x8 digits, pixels x/8 - 1: mean of |sigma s + eps|^2 / d on rows
// that were held out, convention vp (x = alpha x_0 + sigma eps); without a score it is 1. 1400 rows are
// fitted, 397 held out, eight draws of noise each. No dequantisation: the priors are of the pixels as they
// are.
#include "engine/prior.h"
#include "models.h"
#include <numeric>
#include <random>

namespace dynkin::validation {
namespace {

struct Bar {
    double sigma, at_most;
};
struct Case {
    const char* name;
    PriorOptions options;
    std::vector<Bar> bars;
};

class ValidatePriors : public ::testing::TestWithParam<Case> {};

TEST_P(ValidatePriors, HeldOutLossOfDigits) {
    const std::uint64_t seed = 1;
    const std::size_t fitted = 1400, draws = 8;
    Array<double> all = read_npy(DYNKIN_SOURCE_DIR "/data/digits.npy");
    for (double& x : all) x = x / 8 - 1;
    const std::size_t d = all.cols(), held_out = all.rows() - fitted;
    std::mt19937_64 engine(seed);
    std::vector<std::size_t> order(all.rows());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), engine);
    Array<double> train(fitted, d);
    for (std::size_t n = 0; n < fitted; ++n) std::copy_n(all.row(order[n]), d, train.row(n));
    const Folder folder;
    write_npy(folder / "train.npy", train);
    const Context context;
    const Prior prior = fit_prior(context, SampleFile(folder / "train.npy"), GetParam().options);
    const PriorScore<double> score(context, prior);
    std::normal_distribution<double> normal;
    for (const Bar& bar : GetParam().bars) {
        const double alpha = std::sqrt(1 - bar.sigma * bar.sigma);
        Array<double> noise(held_out * draws, d), x = noise;
        for (std::size_t n = 0; n < x.rows(); ++n)
            for (std::size_t j = 0; j < d; ++j) {
                noise(n, j) = normal(engine);
                x(n, j) = alpha * all(order[fitted + n / draws], j) + bar.sigma * noise(n, j);
            }
        score({x.rows(), x.data(), d, &bar.sigma, 1, NoiseConvention::vp}, x.data(), d);
        double loss = 0;
        for (std::size_t k = 0; k < x.size(); ++k) loss += std::pow(bar.sigma * x[k] + noise[k], 2);
        Ledger{std::string("prior of digits, ") + GetParam().name, seed}.at_most(
            "held-out |sigma s + eps|^2 / d at sigma " + std::to_string(bar.sigma).substr(0, 4),
            loss / static_cast<double>(x.size()), bar.at_most);
    }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, ValidatePriors,
    ::testing::Values(Case{"product, K = 6",
                           {PriorKind::product, 6, 1e-3},
                           {{0.10, 0.57}, {0.20, 0.52}, {0.31, 0.46}, {0.51, 0.35}, {0.74, 0.19}}},
                      Case{"Gaussian", {PriorKind::gaussian}, {{0.31, 0.45}, {0.51, 0.275}, {0.74, 0.14}}},
                      Case{"flat",
                           {PriorKind::flat, 6, 1e-3},
                           {{0.10, 0.57}, {0.20, 0.44}, {0.31, 0.36}, {0.51, 0.26}, {0.74, 0.14}}}),
    [](const auto& info) { return std::string(prior_kind_name(info.param.options.kind)); });

} // namespace
} // namespace dynkin::validation

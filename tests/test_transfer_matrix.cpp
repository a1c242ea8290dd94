// test_transfer_matrix.cpp - log Z, moments and draws of chains against stored answers, Gaussian algebra,
// direct sums and messages of another discretisation.
#include "backend.h"
#include "engine/error.h"
#include "engine/transfer_matrix.h"
#include <cmath>
#include <fstream>
#include <gtest/gtest.h>
#include <lapacke.h>
#include <nlohmann/json.hpp>
#include <numbers>
#include <string>

namespace dynkin {
namespace {

using std::size_t;

const Boundary boundaries[] = {Boundary::zero, Boundary::free, Boundary::periodic};

LatticeTarget chain(size_t d, Boundary boundary, double coupling, std::vector<double> site,
                    double constant = 0) {
    return {{{d}, boundary}, coupling, std::move(site), constant};
}

/// Between fixed values.
LatticeTarget held(LatticeTarget target, double first, double last) {
    target.lattice.boundary = Boundary::fixed, target.lattice.outside = {first, last};
    return target;
}

/// Everything that is asked of a TransferMatrix.
struct Answers {
    double log_partition = 0;
    std::vector<double> means;
    Array<double> second_moments;
};

void expect_answers(const LatticeTarget& target, const Answers& expected, double tolerance) {
    const TransferMatrix matrix(target);
    const size_t d = target.lattice.sites();
    EXPECT_NEAR(matrix.log_partition(), expected.log_partition,
                tolerance * std::max(static_cast<double>(d), std::abs(expected.log_partition)));
    const std::vector<double> means = matrix.means();
    const Array<double> moments = matrix.second_moments();
    double size = 0;
    for (size_t i = 0; i < d; ++i) size = std::max(size, expected.second_moments(i, i));
    for (size_t i = 0; i < d; ++i) {
        EXPECT_NEAR(means[i], expected.means[i], tolerance * std::sqrt(size)) << i;
        for (size_t j = 0; j < d; ++j)
            EXPECT_NEAR(moments(i, j), expected.second_moments(i, j), tolerance * size) << i << ' ' << j;
    }
}

/// Largest |z| of the second moments of N draws, pair by pair, and of means, energy and edges.
double largest_z(const TransferMatrix& matrix, const LatticeTarget& law, size_t rows, std::uint64_t seed) {
    const size_t d = law.lattice.sites();
    Array<double> x(rows, d);
    const Context context = cases::context();
    matrix.draw(context, seed, 0, rows, x.data());
    double largest = 0;
    const auto score = [&](const auto& f, double expected) {
        double sum = 0, square = 0;
        for (size_t n = 0; n < rows; ++n) {
            const double deviation = f(n) - expected;
            sum += deviation, square += deviation * deviation;
        }
        const double count = static_cast<double>(rows), mean = sum / count;
        const double z = mean / std::sqrt((square / count - mean * mean) / count);
        EXPECT_TRUE(std::isfinite(z));
        largest = std::max(largest, std::abs(z));
    };
    const Array<double> moments = matrix.second_moments();
    const std::vector<double> means = matrix.means();
    for (size_t i = 0; i < d; ++i) {
        score([&](size_t n) { return x(n, i); }, means[i]);
        for (size_t j = 0; j <= i; ++j) score([&](size_t n) { return x(n, i) * x(n, j); }, moments(i, j));
    }
    Target target;
    target.kind = "lattice", target.law = law;
    std::vector<double> u(rows);
    energy(context, target, rows, x.data(), u.data());
    score([&](size_t n) { return u[n]; }, matrix.energy_mean());
    if (law.lattice.edges().empty() && law.lattice.boundary != Boundary::zero) return largest;
    target.law = LatticeTarget{law.lattice, 1, {}, 0};
    energy(context, target, rows, x.data(), u.data());
    score([&](size_t n) { return u[n]; }, matrix.edge_energy());
    return largest;
}

constexpr double z_bound = 4.5; // a thousand or two scores a case, strongly correlated; seeds fixed

// Stored answers
// -----------------------------------------------------------------------------------------------------

class Stored : public ::testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        std::ifstream file(std::string(DYNKIN_SOURCE_DIR "/tests/data/") + GetParam() + ".json");
        answers_ = nlohmann::json::parse(file);
        const size_t d = answers_["d"];
        law_ = ginzburg_landau({{d}, answers_["boundary"] == "zero" ? Boundary::zero : Boundary::periodic},
                               answers_["lam"], answers_["beta"], answers_["h"]);
    }
    nlohmann::json answers_;
    LatticeTarget law_;
};

TEST_P(Stored, Averages) {
    const TransferMatrix matrix(law_);
    EXPECT_NEAR(matrix.log_partition(), answers_["log_partition"], 1e-11);
    EXPECT_NEAR(matrix.energy_mean(), answers_["energy_mean"], 1e-9); // theirs by a difference of log Z
    const Array<double> moments = matrix.second_moments();
    for (size_t i = 0; i < moments.rows(); ++i)
        for (size_t j = 0; j < moments.cols(); ++j)
            EXPECT_NEAR(moments(i, j), answers_["second_moments"][i][j], 1e-12) << i << ' ' << j;
}

TEST_P(Stored, Draws) {
    EXPECT_LE(largest_z(TransferMatrix(law_), law_, cases::sized(20'000u, 200u), 1), z_bound);
}

INSTANTIATE_TEST_SUITE_P(Chains, Stored,
                         ::testing::Values("gl1d_16_periodic", "gl1d_64_moderate", "gl1d_50_zero",
                                           "gl1d_64_strong"));

// Gaussian chains
// ----------------------------------------------------------------------------------------------------

/// U = x'Ax/2 + f'x + constant: log Z, mean and second moments by Cholesky.
Answers gaussian_answers(const LatticeTarget& target) {
    const size_t d = target.lattice.sites();
    const int size = static_cast<int>(d);
    Array<double> a(d, d);
    const auto outer = target.lattice.outer_edges();
    for (size_t i = 0; i < d; ++i) a(i, i) = 2 * target.site[1] + target.coupling * outer[i];
    for (const auto& [first, second] : target.lattice.edges()) {
        const auto i = static_cast<size_t>(first), j = static_cast<size_t>(second);
        a(i, i) += target.coupling, a(j, j) += target.coupling;
        a(i, j) -= target.coupling, a(j, i) -= target.coupling;
    }
    EXPECT_EQ(LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', size, a.data(), size), 0);
    Answers answers{0.5 * static_cast<double>(d) * std::log(2 * std::numbers::pi), std::vector<double>(d),
                    Array<double>(d, d)};
    for (size_t i = 0; i < d; ++i) answers.log_partition -= std::log(a(i, i));
    LAPACKE_dpotri(LAPACK_ROW_MAJOR, 'L', size, a.data(), size);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < i; ++j) a(j, i) = a(i, j);
    std::vector<double> field(d, target.site[0]);
    if (!target.lattice.outside.empty())
        for (const auto& [i, value] :
             {std::pair(size_t{0}, target.lattice.outside[0]), std::pair(d - 1, target.lattice.outside[1])}) {
            field[i] -= target.coupling * value;
            answers.log_partition -= 0.5 * target.coupling * value * value;
        }
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j) answers.means[i] -= a(i, j) * field[j];
    for (size_t i = 0; i < d; ++i) {
        answers.log_partition -= target.site_constant + 0.5 * field[i] * answers.means[i];
        for (size_t j = 0; j < d; ++j)
            answers.second_moments(i, j) = a(i, j) + answers.means[i] * answers.means[j];
    }
    return answers;
}

TEST(TransferMatrix, GaussianChains) {
    for (const Boundary boundary : boundaries)
        for (const size_t d : {1u, 2u, 3u, 31u}) {
            const LatticeTarget target = chain(d, boundary, 1.7, {0.4, 0.3}, 0.1);
            expect_answers(target, gaussian_answers(target), 1e-12);
            EXPECT_LE(largest_z(TransferMatrix(target), target, cases::sized(20'000u, 200u), 2), z_bound)
                << d;
        }
}

TEST(TransferMatrix, GaussianChainsBetweenFixedValues) {
    for (const size_t d : {1u, 2u, 3u, 31u})
        for (const auto& [first, last] : {std::pair(1.0, 1.0), std::pair(1.0, -0.5), std::pair(0.0, 12.0)}) {
            const LatticeTarget target = held(chain(d, Boundary::fixed, 1.7, {0.4, 0.3}, 0.1), first, last);
            expect_answers(target, gaussian_answers(target), 1e-12);
            EXPECT_LE(largest_z(TransferMatrix(target), target, cases::sized(20'000u, 200u), 2), z_bound)
                << d << ' ' << first << ' ' << last;
        }
}

TEST(TransferMatrix, ZerosOutsideAreFixedZeros) {
    const LatticeTarget target = chain(9, Boundary::zero, 2, {0.1, -2, 0, 1});
    const TransferMatrix a(target), b(held(target, 0, 0));
    EXPECT_EQ(a.log_partition(), b.log_partition());
    EXPECT_EQ(a.means(), b.means());
    EXPECT_EQ(a.edge_energy(), b.edge_energy());
}

// Bound by the zeros outside alone; at the limit of what is bound; and so weakly coupled that sites are
// nearly independent.
TEST(TransferMatrix, GaussianChainsFarFromASite) {
    for (const LatticeTarget& target :
         {chain(40, Boundary::zero, 2, {0.01, 0}), chain(10, Boundary::zero, 2, {0, -0.05}),
          chain(10, Boundary::free, 2, {1, 0.001}), chain(7, Boundary::periodic, 1e-6, {0, 0.5}),
          chain(7, Boundary::periodic, 0, {-2, 0.5}), chain(8, Boundary::free, -0.2, {0, 0.5}),
          chain(9, Boundary::periodic, -0.2, {0, 0.5})}) {
        expect_answers(target, gaussian_answers(target), 1e-11);
        EXPECT_LE(largest_z(TransferMatrix(target), target, cases::sized(20'000u, 200u), 3), z_bound)
            << target.coupling;
    }
}

// Direct sums
// ---------------------------------------------------------------------------------------------------------

/// Two or three sites, by the trapezium rule over all of them.
Answers direct_sums(const LatticeTarget& law) {
    const size_t d = law.lattice.sites();
    Target target;
    target.kind = "lattice", target.law = law;
    const int side = 121, count = d == 2 ? side * side : side * side * side;
    const double h = 7.0 / (side - 1);
    Array<double> x(static_cast<size_t>(count), d);
    for (size_t n = 0; n < x.rows(); ++n) {
        size_t rest = n;
        for (size_t i = 0; i < d; ++i, rest /= side) x(n, i) = -3.5 + h * static_cast<double>(rest % side);
    }
    std::vector<double> u(x.rows());
    energy(Context({.device = Device::cpu}), target, x.rows(), x.data(), u.data()); // on either backend
    Answers answers{0, std::vector<double>(d), Array<double>(d, d)};
    double z = 0;
    for (size_t n = 0; n < x.rows(); ++n) {
        const double w = std::exp(-u[n]);
        z += w;
        for (size_t i = 0; i < d; ++i) {
            answers.means[i] += w * x(n, i);
            for (size_t j = 0; j < d; ++j) answers.second_moments(i, j) += w * x(n, i) * x(n, j);
        }
    }
    for (double& m : answers.means) m /= z;
    for (double& m : answers.second_moments) m /= z;
    answers.log_partition = std::log(z) + static_cast<double>(d) * std::log(h);
    return answers;
}

TEST(TransferMatrix, TwoAndThreeSites) {
    for (const Boundary boundary : boundaries)
        for (const size_t d : {2u, 3u})
            for (const double coupling : {2.0, -0.7}) {
                const LatticeTarget target = chain(d, boundary, coupling, {0.3, -2, -0.4, 1.1}, 0.2);
                expect_answers(target, direct_sums(target), 1e-11);
                EXPECT_LE(largest_z(TransferMatrix(target), target, cases::sized(30'000u, 300u), 4), z_bound);
            }
}

TEST(TransferMatrix, TwoAndThreeSitesBetweenFixedValues) {
    for (const size_t d : {2u, 3u})
        for (const auto& [first, last] : {std::pair(1.0, -1.0), std::pair(0.5, 0.5)}) {
            const LatticeTarget target =
                held(chain(d, Boundary::fixed, 2, {0.3, -2, -0.4, 1.1}, 0.2), first, last);
            expect_answers(target, direct_sums(target), 1e-11);
            EXPECT_LE(largest_z(TransferMatrix(target), target, cases::sized(30'000u, 300u), 4), z_bound);
        }
}

/// Mean of a function of x_0 that no second moment determines: the law of one site, not only its width.
TEST(TransferMatrix, DrawsHaveTheShapeOfTheDensity) {
    const TransferMatrix matrix(chain(3, Boundary::periodic, 3, {0.3, -4, 0, 2}));
    const size_t rows = cases::sized(100'000u, 1000u);
    Array<double> x(rows, 3);
    matrix.draw(cases::context(), 5, 0, rows, x.data());
    // dlog Z / dc_4 = -3 E[x^4], by a difference of log Z.
    const double step = 1e-4;
    const double fourth =
        (TransferMatrix(chain(3, Boundary::periodic, 3, {0.3, -4, 0, 2 - step})).log_partition() -
         TransferMatrix(chain(3, Boundary::periodic, 3, {0.3, -4, 0, 2 + step})).log_partition()) /
        (6 * step);
    double sum = 0, square = 0;
    for (size_t n = 0; n < rows; ++n)
        for (size_t i = 0; i < 3; ++i) {
            const double v = std::pow(x(n, i), 4) - fourth;
            sum += v, square += v * v;
        }
    EXPECT_LE(std::abs(sum) / std::sqrt(3 * square), z_bound); // three sites count as one, to be safe
}

// Strong coupling
// ------------------------------------------------------------------------------------------------------

/// log Z of a chain between zeros by messages at 3001 points.
double log_partition_by_messages(const LatticeTarget& t, double box) {
    const size_t d = t.lattice.sites(), n = 3001;
    const double h = 2 * box / static_cast<double>(n - 1);
    std::vector<double> message(n), next(n), kernel(n);
    const auto x = [&](size_t g) { return -box + h * static_cast<double>(g); };
    const auto weight = [&](size_t g) {
        double v = 0;
        for (size_t m = t.site.size(); m-- > 0;) v = (v + t.site[m]) * x(g);
        return std::exp(-v - t.site_constant) * h;
    };
    for (size_t g = 0; g < n; ++g) {
        message[g] = std::exp(-0.5 * t.coupling * x(g) * x(g)) * weight(g);
        kernel[g] = std::exp(-0.5 * t.coupling * std::pow(h * static_cast<double>(g), 2));
    }
    double log_z = 0;
    for (size_t i = 1; i <= d; ++i) {
        double top = 0;
        for (size_t g = 0; g < n; ++g) {
            double sum = 0;
            for (size_t k = g > 200 ? g - 200 : 0; k < std::min(g + 201, n); ++k)
                sum += kernel[g > k ? g - k : k - g] * message[k];
            next[g] = i < d ? sum * weight(g) : sum;
            top = std::max(top, next[g]);
        }
        if (i == d) return log_z + std::log(next[n / 2]); // at 0
        for (size_t g = 0; g < n; ++g) message[g] = next[g] / top;
        log_z += std::log(top);
    }
    return log_z;
}

// Between zeros this chain ends where the leading mode of the transfer matrix is some 1e-10 of its maximum.
TEST(TransferMatrix, StiffChain) {
    const LatticeTarget target = ginzburg_landau({{128}, Boundary::zero}, 0.03, 0.125, 1.0 / 400);
    const TransferMatrix matrix(target);
    EXPECT_NEAR(matrix.log_partition(), log_partition_by_messages(target, 3), 1e-9);
    EXPECT_LE(largest_z(matrix, target, cases::sized(4000u, 100u), 6), z_bound);
}

TEST(TransferMatrix, SlopeOfLogZIsTheEdgeEnergy) {
    for (const LatticeTarget& law :
         {chain(12, Boundary::zero, 2, {0.1, -2, 0, 1}), chain(12, Boundary::free, 2, {0.1, -2, 0, 1}),
          chain(12, Boundary::periodic, 2, {0.1, -2, 0, 1}),
          held(chain(12, Boundary::fixed, 2, {0.1, -2, 0, 1}), 1, -1)}) {
        const auto log_z = [&](double coupling) {
            LatticeTarget other = law;
            other.coupling = coupling;
            return TransferMatrix(other).log_partition();
        };
        const double step = 1e-3, slope = (log_z(2 - 2 * step) - 8 * log_z(2 - step) + 8 * log_z(2 + step) -
                                           log_z(2 + 2 * step)) /
                                          (12 * step);
        EXPECT_NEAR(TransferMatrix(law).edge_energy(), -slope, 1e-8);
    }
}

// Long chains: log Z is additive, and every site is drawn.
TEST(TransferMatrix, LongChains) {
    for (const Boundary boundary : boundaries) {
        const auto at = [&](size_t d) { return TransferMatrix(chain(d, boundary, 2, {0, -2, 0, 1})); };
        const TransferMatrix longest = at(1024);
        const double increment = at(513).log_partition() - at(512).log_partition();
        EXPECT_NEAR(longest.log_partition() - at(512).log_partition(), 512 * increment, 1e-8);
        Array<double> x(8, 1024);
        longest.draw(cases::context(), 7, 0, 8, x.data());
        for (const double v : x) EXPECT_TRUE(v != 0 && std::abs(v) < 3);
    }
}

// Same bytes, errors
// --------------------------------------------------------------------------------------------------

TEST(TransferMatrix, SameBytesForThreadsSplitsAndSimdLevel) {
    for (const Boundary boundary : boundaries) {
        const TransferMatrix matrix(chain(9, boundary, 5, {0.2, -4, 0, 3}));
        const size_t rows = cases::sized(1001u, 67u);
        Array<double> expected(rows, 9), x(rows, 9);
        matrix.draw(cases::context({.threads = 1, .isa = Isa::baseline}), 8, 5, rows, expected.data());
        for (const int threads : {1, 3})
            for (const Isa isa : {Isa::baseline, best_isa()})
                for (const size_t split : {size_t{1}, rows / 3, rows - 1}) {
                    const Context context = cases::context({.threads = threads, .isa = isa});
                    matrix.draw(context, 8, 5, split, x.data());
                    matrix.draw(context, 8, 5 + split, rows - split, x.row(split));
                    EXPECT_TRUE(std::equal(x.begin(), x.end(), expected.begin())) << threads << ' ' << split;
                }
    }
}

void expect_refused(const LatticeTarget& target, ErrorKind kind, const std::string& part) {
    try {
        const TransferMatrix matrix(target);
        ADD_FAILURE() << part;
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), kind);
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
}

TEST(TransferMatrix, RefusedTargets) {
    LatticeTarget sheet = chain(4, Boundary::free, 1, {0, 1});
    sheet.lattice.shape = {4, 4};
    expect_refused(sheet, ErrorKind::usage, "4x4 free");
    expect_refused(chain(4, Boundary::free, 1, {0, 0}), ErrorKind::input, "curvature");
    expect_refused(chain(4, Boundary::free, 1, {0, 0, 1}), ErrorKind::input, "odd");
    expect_refused(chain(4, Boundary::free, 1e7, {0, 0, 0, 1}), ErrorKind::numerical, "4096");
}

} // namespace
} // namespace dynkin

// test_target.cpp - lattices, energies against naive sums, forces against differences, direct draws.
#include "backend.h"
#include "engine/error.h"
#include "engine/target.h"
#include "kernels/elementary.h"
#include <cmath>
#include <complex>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

namespace dynkin {
namespace {

// Sums of a few hundred terms of the size of U.
constexpr double sum_tolerance = 1e-13;
// Central differences with h = 1e-4: h^2 U'''/6 and rounding U / h, both below 1e-6 of 1 + |U| here.
constexpr double difference_step = 1e-4, difference_tolerance = 1e-6;

std::vector<double> random_rows(std::size_t count, std::size_t d, unsigned seed, double spread = 0.8) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal(0, spread);
    std::vector<double> x(count * d);
    for (double& v : x) v = normal(generator);
    return x;
}

Target lattice_target(std::vector<std::size_t> shape, Boundary boundary, double coupling,
                      std::vector<double> site, double constant = 0) {
    Target t;
    t.kind = "lattice";
    t.law = LatticeTarget{{std::move(shape), boundary}, coupling, std::move(site), constant};
    return t;
}

// ---- oracles: coordinates of three axes, pairs as a set

struct Cell {
    std::size_t c[3];
};
Cell cell(const std::vector<std::size_t>& shape, std::size_t site) {
    Cell result{{0, 0, 0}};
    for (std::size_t axis = shape.size(); axis-- > 0; site /= shape[axis])
        result.c[axis] = site % shape[axis];
    return result;
}
std::size_t site_of(const std::vector<std::size_t>& shape, const Cell& at) {
    std::size_t site = 0;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) site = site * shape[axis] + at.c[axis];
    return site;
}

/// Pairs of neighbours, and the number of missing neighbours of each site, by stepping both ways along each
/// axis.
void naive_neighbours(const Lattice& lattice, std::set<std::pair<int, int>>& pairs,
                      std::vector<int>& missing) {
    missing.assign(lattice.sites(), 0);
    for (std::size_t site = 0; site < lattice.sites(); ++site)
        for (std::size_t axis = 0; axis < lattice.shape.size(); ++axis)
            for (const int step : {-1, 1}) {
                Cell other = cell(lattice.shape, site);
                const long n = static_cast<long>(lattice.shape[axis]);
                long to = static_cast<long>(other.c[axis]) + step;
                if ((to < 0 || to >= n) && lattice.boundary != Boundary::periodic) {
                    missing[site] += lattice.boundary == Boundary::zero;
                    continue;
                }
                other.c[axis] = static_cast<std::size_t>((to + n) % n);
                const std::size_t j = site_of(lattice.shape, other);
                if (j != site)
                    pairs.insert({static_cast<int>(std::min(site, j)), static_cast<int>(std::max(site, j))});
            }
}

/// Edges to values outside one by one.
double naive_outside(const LatticeTarget& t, const double* x) {
    double u = 0;
    for (std::size_t site = 0; site < t.lattice.sites() && !t.lattice.outside.empty(); ++site)
        for (std::size_t axis = 0; axis < t.lattice.shape.size(); ++axis) {
            const std::size_t at = cell(t.lattice.shape, site).c[axis];
            if (at == 0) u += t.coupling / 2 * std::pow(x[site] - t.lattice.outside[2 * axis], 2);
            if (at + 1 == t.lattice.shape[axis])
                u += t.coupling / 2 * std::pow(x[site] - t.lattice.outside[2 * axis + 1], 2);
        }
    return u;
}

double naive_energy(const LatticeTarget& t, const double* x) {
    std::set<std::pair<int, int>> pairs;
    std::vector<int> missing;
    naive_neighbours(t.lattice, pairs, missing);
    double u = naive_outside(t, x);
    if (!t.lattice.outside.empty()) missing.assign(missing.size(), 0);
    for (const auto& [i, j] : pairs) u += t.coupling / 2 * std::pow(x[i] - x[j], 2);
    for (std::size_t i = 0; i < missing.size(); ++i) {
        u += missing[i] * t.coupling / 2 * x[i] * x[i] + t.site_constant;
        for (std::size_t m = 0; m < t.site.size(); ++m)
            u += t.site[m] * std::pow(x[i], static_cast<double>(m + 1));
    }
    return u;
}

const std::vector<std::vector<std::size_t>> shapes = {{1},    {2},    {3},       {7},       {1, 5},
                                                      {2, 3}, {4, 4}, {2, 2, 2}, {3, 2, 4}, {1, 1, 1}};
constexpr Boundary boundaries[] = {Boundary::periodic, Boundary::free, Boundary::zero};

TEST(Lattice, EdgesAreThePairsOfNeighboursOnce) {
    for (const auto& shape : shapes)
        for (const Boundary boundary : boundaries) {
            const Lattice lattice{shape, boundary};
            std::set<std::pair<int, int>> pairs;
            std::vector<int> missing;
            naive_neighbours(lattice, pairs, missing);
            const auto edges = lattice.edges();
            EXPECT_EQ(edges.size(), pairs.size()) << lattice.describe();
            EXPECT_TRUE(std::equal(edges.begin(), edges.end(), pairs.begin(), pairs.end()))
                << lattice.describe();
            EXPECT_EQ(lattice.outer_edges(), missing) << lattice.describe();
        }
}

TEST(Lattice, DistanceIsTheShortestPathAlongEdges) {
    for (const auto& shape : shapes)
        for (const Boundary boundary : boundaries) {
            const Lattice lattice{shape, boundary};
            const std::size_t d = lattice.sites();
            std::vector<std::vector<int>> path(d, std::vector<int>(d, 1000));
            for (std::size_t i = 0; i < d; ++i) path[i][i] = 0;
            for (const auto& [i, j] : lattice.edges())
                path[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] =
                    path[static_cast<std::size_t>(j)][static_cast<std::size_t>(i)] = 1;
            for (std::size_t k = 0; k < d; ++k)
                for (std::size_t i = 0; i < d; ++i)
                    for (std::size_t j = 0; j < d; ++j)
                        path[i][j] = std::min(path[i][j], path[i][k] + path[k][j]);
            for (std::size_t i = 0; i < d; ++i)
                for (std::size_t j = 0; j < d; ++j)
                    EXPECT_EQ(lattice.distance(static_cast<int>(i), static_cast<int>(j)), path[i][j])
                        << lattice.describe();
        }
    EXPECT_EQ((Lattice{{8, 8}, Boundary::periodic}.describe()), "8x8 periodic");
}

TEST(Energy, LatticeEqualsTheNaiveSum) {
    const Context context = cases::context();
    for (const auto& shape : shapes)
        for (const Boundary boundary : boundaries)
            for (const std::vector<double>& site :
                 {std::vector<double>{0, -4, 0, 6.008}, {0.3, -1, 0.2, 0.5, -0.1, 0.25}, {}}) {
                const Target target = lattice_target(shape, boundary, 1.7, site, 0.4);
                const std::size_t d = target.dimension(), count = 9;
                const std::vector<double> x = random_rows(count, d, 1);
                std::vector<double> u(count);
                energy(context, target, count, x.data(), u.data());
                for (std::size_t n = 0; n < count; ++n) {
                    const double expected =
                        naive_energy(std::get<LatticeTarget>(target.law), x.data() + n * d);
                    EXPECT_NEAR(u[n], expected, sum_tolerance * (50 + std::abs(expected)))
                        << target.lattice()->describe();
                }
            }
}

std::vector<double> wall_values(std::size_t axes) {
    const std::vector<double> values{1, -0.7, -1, 0.3, 2.5, 1};
    return {values.begin(), values.begin() + static_cast<std::ptrdiff_t>(2 * axes)};
}

TEST(Energy, FixedBoundaryEqualsTheNaiveSum) {
    for (const auto& shape : shapes) {
        Target target = lattice_target(shape, Boundary::fixed, 1.7, {0.3, -1, 0.2, 0.5}, 0.4);
        auto& lattice = std::get<LatticeTarget>(target.law).lattice;
        const std::size_t d = target.dimension(), count = 9;
        const std::vector<double> x = random_rows(count, d, 1);
        std::vector<double> zero(count), u(count), g(count * d), zero_g(count * d);
        energy_gradient(cases::context(), target, count, x.data(), zero.data(), zero_g.data());
        lattice.outside.assign(2 * shape.size(), 0.0);
        energy_gradient(cases::context(), target, count, x.data(), u.data(), g.data());
        EXPECT_EQ(u, zero);
        EXPECT_EQ(g, zero_g);
        lattice.outside = wall_values(shape.size());
        EXPECT_FALSE(target.even());
        energy(cases::context(), target, count, x.data(), u.data());
        for (std::size_t n = 0; n < count; ++n) {
            const double expected = naive_energy(std::get<LatticeTarget>(target.law), x.data() + n * d);
            EXPECT_NEAR(u[n], expected, sum_tolerance * (50 + std::abs(expected))) << lattice.describe();
        }
    }
}

// J = 2: edges 3/4, and 1/2 and 3/4 to 1 and -1 outside: 0.5625 + 0.25 + 0.5625; force 2 (3 x_0 - ...) below.
TEST(Energy, FixedBoundaryByHand) {
    Target target = lattice_target({2}, Boundary::fixed, 2, {0, 0, 0, 0});
    std::get<LatticeTarget>(target.law).lattice.outside = {1, -1};
    const double x[] = {0.5, -0.25};
    double u, g[2];
    energy_gradient(cases::context(), target, 1, x, &u, g);
    EXPECT_DOUBLE_EQ(u, 1.375);
    EXPECT_DOUBLE_EQ(g[0], 2 * ((0.5 + 0.25) + (0.5 - 1)));
    EXPECT_DOUBLE_EQ(g[1], 2 * ((-0.25 - 0.5) + (-0.25 + 1)));
    EXPECT_EQ(target.lattice()->describe(), "2 fixed [1, -1]");
}

TEST(Energy, FixedBoundaryOfAnotherShapeIsRefused) {
    const double x[] = {0, 0};
    double u;
    for (const std::vector<double>& values :
         {std::vector<double>{1}, {1, 2, 3, 4}, {1, NAN}, {1, INFINITY}, {1, 1e7}}) {
        Target target = lattice_target({2}, Boundary::fixed, 2, {0, 1});
        std::get<LatticeTarget>(target.law).lattice.outside = values;
        EXPECT_THROW(energy(cases::context(), target, 1, x, &u), Error);
    }
    Target target = lattice_target({2}, Boundary::free, 2, {0, 1});
    std::get<LatticeTarget>(target.law).lattice.outside = {1, 1};
    EXPECT_THROW(energy(cases::context(), target, 1, x, &u), Error);
}

TEST(Energy, TwoSitesByHand) {
    // Ginzburg-Landau, lambda = 1, beta = 4, spacing = 2: J = 1, g = 1. x = (1, 2): edge 1/2, sites 0 and 9.
    Target target;
    target.law = ginzburg_landau({{2}, Boundary::periodic}, 1, 4, 2);
    const double x[] = {1, 2};
    double u, g[2];
    energy_gradient(cases::context(), target, 1, x, &u, g);
    EXPECT_DOUBLE_EQ(u, 9.5);
    EXPECT_DOUBLE_EQ(g[0], -1);
    EXPECT_DOUBLE_EQ(g[1], 1 + 4 * 2 * 3);
}

// Z = Tr K^d with K(x, y) = exp(-(J/2)(x - y)^2 - V(x)/2 - V(y)/2) on a grid: the rule converges
// geometrically.
TEST(Energy, LogPartitionOfTheReferenceChain) {
    std::ifstream file(std::string(DYNKIN_SOURCE_DIR) + "/tests/data/gl1d_16_periodic.json");
    const auto json = nlohmann::json::parse(file);
    const LatticeTarget t = ginzburg_landau({{16}, Boundary::periodic}, json["lam"], json["beta"], json["h"]);
    constexpr std::size_t n = 160;
    const double box = 2.6, h = 2 * box / (n - 1);
    Array<double> k(n, n);
    const auto v = [&](double x) { return t.site_constant + t.site[1] * x * x + t.site[3] * std::pow(x, 4); };
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) {
            const double x = -box + h * static_cast<double>(i), y = -box + h * static_cast<double>(j);
            k(i, j) = h * std::exp(-t.coupling / 2 * (x - y) * (x - y) - v(x) / 2 - v(y) / 2);
        }
    for (int square = 0; square < 4; ++square) {
        Array<double> product(n, n);
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t l = 0; l < n; ++l)
                for (std::size_t j = 0; j < n; ++j) product(i, j) += k(i, l) * k(l, j);
        k = product;
    }
    double trace = 0;
    for (std::size_t i = 0; i < n; ++i) trace += k(i, i);
    EXPECT_NEAR(std::log(trace), json["log_partition"].get<double>(), 1e-9);
}

std::vector<Target> all_with_energy() {
    std::vector<Target> targets;
    for (const Boundary boundary : boundaries) {
        targets.push_back(lattice_target({5}, boundary, 1.3, {0.2, -4, 0.1, 6.008}));
        targets.push_back(lattice_target({3, 4}, boundary, -0.4, {0.1, -1, 0, 0.5, 0, 0.125, 0, 0.02}, 0.3));
        targets.push_back(lattice_target({2, 3, 3}, boundary, 2, {0, 1}));
    }
    for (const auto& shape : {std::vector<std::size_t>{5}, {3, 4}, {2, 3, 3}}) {
        targets.push_back(lattice_target(shape, Boundary::fixed, 1.3, {0.2, -4, 0.1, 6.008}));
        std::get<LatticeTarget>(targets.back().law).lattice.outside = wall_values(shape.size());
    }
    Target t;
    t.law = ginzburg_landau({{16}, Boundary::zero}, 0.03, 0.125, 1.0 / 17);
    targets.push_back(t);
    Array<double> covariance(3, 3), other(3, 3);
    const double a[] = {1, 0.6, 0.2, 0.6, 2, -0.3, 0.2, -0.3, 0.5};
    std::copy(std::begin(a), std::end(a), covariance.begin());
    for (std::size_t i = 0; i < 3; ++i) other(i, i) = 0.2 + 0.1 * static_cast<double>(i);
    const GaussianTarget first = gaussian({0.5, -1, 2}, covariance), second = gaussian({-1, 0, 1}, other);
    t.law = first;
    targets.push_back(t);
    t.law = GaussianMixtureTarget{{0.3, 0.7}, {first, second}};
    targets.push_back(t);
    t.law = DoubleWellTarget{5, 1.2, 0.3};
    targets.push_back(t);
    t.law = ManyWellTarget{6};
    targets.push_back(t);
    return targets;
}

TEST(Energy, GradientsAreTheDerivatives) {
    const Context context = cases::context();
    for (const Target& target : all_with_energy()) {
        const std::size_t d = target.dimension();
        std::vector<double> x = random_rows(3, d, 7), u(3), g(3 * d), up(3), down(3);
        energy_gradient(context, target, 3, x.data(), u.data(), g.data());
        for (std::size_t i = 0; i < d; ++i) {
            std::vector<double> moved = x;
            for (std::size_t n = 0; n < 3; ++n) moved[n * d + i] = x[n * d + i] + difference_step;
            energy(context, target, 3, moved.data(), up.data());
            for (std::size_t n = 0; n < 3; ++n) moved[n * d + i] = x[n * d + i] - difference_step;
            energy(context, target, 3, moved.data(), down.data());
            for (std::size_t n = 0; n < 3; ++n)
                EXPECT_NEAR(g[n * d + i], (up[n] - down[n]) / (2 * difference_step),
                            difference_tolerance * (1 + std::abs(u[n])))
                    << target.law.index() << " coordinate " << i;
        }
    }
}

TEST(Energy, GaussianAndMixtureByHand) {
    Target target;
    Array<double> unit(1, 1), quarter(1, 1);
    unit[0] = 1, quarter[0] = 0.25;
    target.law = gaussian({1}, quarter);
    const double x[] = {2};
    double u;
    energy(cases::context(), target, 1, x, &u);
    EXPECT_DOUBLE_EQ(u, 2);
    target.law = GaussianMixtureTarget{{0.3, 0.7}, {gaussian({1}, quarter), gaussian({0}, unit)}};
    energy(cases::context(), target, 1, x, &u);
    const double density = (0.3 * std::exp(-2.0) / 0.5 + 0.7 * std::exp(-2.0)) / std::sqrt(2 * M_PI);
    EXPECT_NEAR(u, -std::log(density), 1e-15);
}

TEST(Energy, SameBytesForAnyThreadsBatchAndSimdLevel) {
    for (const Target& target : all_with_energy()) {
        const std::size_t d = target.dimension(), count = 31;
        const std::vector<double> x = random_rows(count, d, 3);
        std::vector<double> u(count), g(count * d);
        energy_gradient(cases::context({.threads = 1, .isa = Isa::baseline}), target, count, x.data(),
                        u.data(), g.data());
        for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
            if (isa > best_isa()) continue;
            const Context context = cases::context({.threads = 3, .isa = isa});
            for (std::size_t first = 0; first < count; first += 10) {
                const std::size_t now = std::min<std::size_t>(10, count - first);
                std::vector<double> some(now), force(now * d);
                energy_gradient(context, target, now, x.data() + first * d, some.data(), force.data());
                EXPECT_TRUE(std::equal(some.begin(), some.end(), u.begin() + static_cast<long>(first)));
                EXPECT_TRUE(std::equal(force.begin(), force.end(), g.begin() + static_cast<long>(first * d)));
            }
        }
    }
}

TEST(Energy, NotFiniteStaysNotFinite) {
    for (const Target& target : all_with_energy()) {
        std::vector<double> x(target.dimension(), 0.1);
        double u;
        for (const double bad : {std::nan(""), HUGE_VAL, 1e200}) {
            x[0] = bad;
            energy(cases::context(), target, 1, x.data(), &u);
            EXPECT_TRUE(bad == 1e200 || !std::isfinite(u)) << target.law.index();
        }
    }
}

TEST(Target, EvenIsKnownFromTheParameters) {
    EXPECT_TRUE(lattice_target({4}, Boundary::free, 1, {0, -1, 0, 1}).even());
    EXPECT_FALSE(lattice_target({4}, Boundary::free, 1, {0.1, -1, 0, 1}).even());
    EXPECT_FALSE(lattice_target({4}, Boundary::free, 1, {0, -1, 0.1, 1}).even());
    Target t;
    t.law = ginzburg_landau({{4}, Boundary::zero}, 0.03, 0.125, 0.2);
    EXPECT_TRUE(t.even());
    Array<double> one(1, 1), two(1, 1);
    one[0] = 1, two[0] = 2;
    t.law = gaussian({0}, one);
    EXPECT_TRUE(t.even());
    t.law = gaussian({0.5}, one);
    EXPECT_FALSE(t.even());
    t.law = GaussianMixtureTarget{{0.5, 0.5}, {gaussian({1}, one), gaussian({-1}, one)}};
    EXPECT_TRUE(t.even());
    t.law = GaussianMixtureTarget{{0.5, 0.5}, {gaussian({1}, one), gaussian({-1}, two)}};
    EXPECT_FALSE(t.even());
    t.law = GaussianMixtureTarget{{0.4, 0.6}, {gaussian({1}, one), gaussian({-1}, one)}};
    EXPECT_FALSE(t.even());
    t.law = DoubleWellTarget{3, 1, 0};
    EXPECT_TRUE(t.even());
    t.law = DoubleWellTarget{3, 1, 0.2};
    EXPECT_FALSE(t.even());
    t.law = ManyWellTarget{4, 1, 6, 0};
    EXPECT_TRUE(t.even());
    t.law = ManyWellTarget{4};
    EXPECT_FALSE(t.even());
    t.law = ToyTarget{"moons"};
    EXPECT_FALSE(t.even());
    double x[] = {0, 0};
    EXPECT_THROW(energy(cases::context(), t, 1, x, x), Error);
}

TEST(Target, UnboundedEnergiesAreRecognised) {
    const auto bounded = [](std::vector<std::size_t> shape, Boundary boundary, double coupling,
                            std::vector<double> site) {
        return unbounded_reason({{std::move(shape), boundary}, coupling, std::move(site), 0}).empty();
    };
    EXPECT_TRUE(bounded({4}, Boundary::periodic, 1, {0, -4, 0, 6}));
    EXPECT_FALSE(bounded({4}, Boundary::periodic, 1, {0, 1, 0, -6}));
    EXPECT_FALSE(bounded({4}, Boundary::periodic, 1, {0, 1, 0.1}));
    EXPECT_FALSE(bounded({4}, Boundary::periodic, 1, {}));
    EXPECT_FALSE(bounded({4}, Boundary::free, 1, {0.5}));
    EXPECT_TRUE(bounded({4}, Boundary::zero, 1, {}));
    EXPECT_TRUE(bounded({4}, Boundary::zero, 1, {0.5}));
    EXPECT_TRUE(bounded({4}, Boundary::free, 1, {0, 0.1, 0, 0}));
    EXPECT_FALSE(bounded({4}, Boundary::free, 1, {0, -0.1}));
    // -J times the largest Laplacian eigenvalue: 4 on an even ring, 2 + sqrt(2) on a free chain of 4, 3 on a
    // ring of 3.
    EXPECT_FALSE(bounded({4}, Boundary::periodic, -1, {0, 2}));
    EXPECT_TRUE(bounded({4}, Boundary::periodic, -1, {0, 2.001}));
    EXPECT_FALSE(bounded({4}, Boundary::free, -1, {0, 1.707}));
    EXPECT_TRUE(bounded({4}, Boundary::free, -1, {0, 1.708}));
    EXPECT_FALSE(bounded({3}, Boundary::periodic, -1, {0, 1.499}));
    EXPECT_TRUE(bounded({3}, Boundary::periodic, -1, {0, 1.501}));
    // Smallest eigenvalue with zeros outside: 2 - 2 cos(pi / 5) = 0.381966.
    EXPECT_TRUE(bounded({4}, Boundary::zero, 1, {0, -0.19}));
    EXPECT_FALSE(bounded({4}, Boundary::zero, 1, {0, -0.192}));
}

// ---- direct draws: |z| <= 5 for each of some dozens of averages, seeds fixed

constexpr double z_bound = 5;

std::vector<double> drawn(const Target& target, std::size_t count) {
    std::vector<double> x(count * target.dimension());
    draw_direct(cases::context(), target, 11, 0, count, x.data());
    return x;
}

void expect_mean(const std::vector<double>& values, double expected) {
    double sum = 0, square = 0;
    for (const double v : values) sum += v, square += v * v;
    const double n = static_cast<double>(values.size()), mean = sum / n;
    EXPECT_LE(std::abs(mean - expected), z_bound * std::sqrt((square / n - mean * mean) / n))
        << mean << " for " << expected;
}

template <class F> std::vector<double> mapped(const std::vector<double>& x, std::size_t d, const F& f) {
    std::vector<double> values;
    for (std::size_t n = 0; n < x.size(); n += d) values.push_back(f(x.data() + n));
    return values;
}

TEST(DirectDraw, GaussianAndMixtureMoments) {
    for (const Target& target : all_with_energy()) {
        if (!target.can_draw_directly()) continue;
        const auto* one = std::get_if<GaussianTarget>(&target.law);
        const auto* mixture = std::get_if<GaussianMixtureTarget>(&target.law);
        const std::vector<double> x = drawn(target, 40000);
        for (std::size_t i = 0; i < 3; ++i)
            for (std::size_t j = 0; j <= i; ++j) {
                double mean = 0, second = 0;
                for (std::size_t k = 0; k < (one ? 1 : 2); ++k) {
                    const GaussianTarget& c = one ? *one : mixture->components[k];
                    const double w = one ? 1 : mixture->weights[k];
                    mean += w * c.mean[i], second += w * (c.covariance(i, j) + c.mean[i] * c.mean[j]);
                }
                if (i == j) expect_mean(mapped(x, 3, [&](const double* v) { return v[i]; }), mean);
                expect_mean(mapped(x, 3, [&](const double* v) { return v[i] * v[j]; }), second);
            }
    }
}

TEST(DirectDraw, SameRowsForAnySplitAndThreads) {
    std::vector<Target> targets;
    for (const char* name : {"moons", "two_spirals", "pinwheel", "eight_gaussians", "checkerboard"}) {
        targets.emplace_back();
        targets.back().law = ToyTarget{name};
    }
    for (const Target& target : all_with_energy())
        if (target.can_draw_directly()) targets.push_back(target);
    for (const Target& target : targets) {
        const std::size_t d = target.dimension();
        std::vector<double> all(101 * d), part(101 * d);
        draw_direct(cases::context({.threads = 1}), target, 5, 0, 101, all.data());
        draw_direct(cases::context({.threads = 3}), target, 5, 0, 37, part.data());
        draw_direct(cases::context({.threads = 2}), target, 5, 37, 64, part.data() + 37 * d);
        EXPECT_EQ(all, part);
    }
    double x;
    EXPECT_THROW(draw_direct(cases::context(), lattice_target({1}, Boundary::free, 1, {0, 1}), 1, 0, 1, &x),
                 Error);
}

TEST(DirectDraw, Toys) {
    Target t;
    t.law = ToyTarget{"moons", 0};
    for (std::size_t n = 0; const double v : mapped(drawn(t, 100), 2, [](const double* x) {
                                const double upper = std::hypot(x[0], x[1]),
                                             lower = std::hypot(x[0] - 1, x[1] - 0.5);
                                return std::min(std::abs(upper - 1), std::abs(lower - 1));
                            }))
        EXPECT_LE(v, 1e-14) << n++;
    t.law = ToyTarget{"moons", 0.1};
    auto x = drawn(t, 20000);
    expect_mean(mapped(x, 2, [](const double* v) { return v[0]; }), 0.5);
    expect_mean(mapped(x, 2, [](const double* v) { return v[1]; }), 0.25);
    t.law = ToyTarget{"checkerboard"};
    std::map<std::pair<long, long>, int> squares;
    x = drawn(t, 16000);
    for (std::size_t n = 0; n < x.size(); n += 2)
        ++squares[{std::lround(std::floor(x[n] / 2)), std::lround(std::floor(x[n + 1] / 2))}];
    EXPECT_EQ(squares.size(), 8u);
    for (const auto& [square, count] : squares) {
        EXPECT_EQ((square.first + square.second) % 2, 0);
        EXPECT_TRUE(square.first >= -2 && square.first < 2 && square.second >= -2 && square.second < 2);
        EXPECT_LE(std::abs(count - 2000), z_bound * std::sqrt(2000 * 7.0 / 8));
    }
    t.law = ToyTarget{"eight_gaussians"};
    x = drawn(t, 20000);
    expect_mean(mapped(x, 2, [](const double* v) { return v[0]; }), 0);
    expect_mean(mapped(x, 2, [](const double* v) { return v[0] * v[0] + v[1] * v[1]; }),
                (16 + 2 * 0.25) / (1.414 * 1.414));
    // w -> w^8 is analytic, so its mean over a circular Gaussian is its value at the centre: the 8th power of
    // each centre.
    const auto eighth = [](const double* v) {
        return std::pow(std::complex<double>(v[0], v[1]) * 1.414 / 4.0, 8);
    };
    expect_mean(mapped(x, 2, [&](const double* v) { return eighth(v).real(); }), 1);
    expect_mean(mapped(x, 2, [&](const double* v) { return eighth(v).imag(); }), 0);
    t.law = ToyTarget{"pinwheel"};
    x = drawn(t, 20000);
    expect_mean(mapped(x, 2, [](const double* v) { return v[0]; }), 0);
    expect_mean(mapped(x, 2, [](const double* v) { return v[0] * v[0] + v[1] * v[1]; }),
                4 * (1 + 0.09 + 0.01));
    t.law = ToyTarget{"two_spirals"};
    x = drawn(t, 20000);
    expect_mean(mapped(x, 2, [](const double* v) { return v[1]; }), 0);
    // |(-n cos n + u/2, n sin n + v/2)|^2 with n = 3 pi sqrt(w), over uniform u, v, w: the mean over w by
    // midpoints.
    const double top = 3 * M_PI;
    double cross = 0;
    for (int k = 0; k < 20000; ++k) {
        const double n = top * std::sqrt((k + 0.5) / 20000);
        cross += 0.5 * n * (std::sin(n) - std::cos(n)) / 20000;
    }
    expect_mean(mapped(x, 2, [](const double* v) { return v[0] * v[0] + v[1] * v[1]; }),
                (top * top / 2 + cross + 2 * 0.25 / 3) / 9 + 0.02);
}

// ---- elementary functions

double ulps(double got, double expected) {
    return std::abs(got - expected) / (std::nextafter(std::abs(expected), HUGE_VAL) - std::abs(expected));
}

TEST(Elementary, AgreeWithTheLibrary) {
    std::mt19937_64 generator(1);
    for (int n = 0; n < 100000; ++n) {
        const double u = std::uniform_real_distribution<double>(0, 1)(generator);
        const double wide = std::exp(std::uniform_real_distribution<double>(-700, 700)(generator));
        EXPECT_LE(ulps(portable_log(u), std::log(u)), 1.5) << u;
        EXPECT_LE(ulps(portable_log(wide), std::log(wide)), 1.5) << wide;
        const double power = 1400 * (u - 0.5);
        EXPECT_LE(ulps(portable_exp(power), std::exp(power)), 2.5) << power;
        double sine, cosine;
        sincos_turns(u, sine, cosine);
        EXPECT_NEAR(sine, std::sin(2 * M_PI * u), 1e-15);
        EXPECT_NEAR(cosine, std::cos(2 * M_PI * u), 1e-15);
    }
    EXPECT_EQ(portable_exp(0), 1);
    EXPECT_EQ(portable_exp(-1000), 0);
    EXPECT_EQ(portable_log(1), 0);
    EXPECT_EQ(portable_log(0), -HUGE_VAL);
    EXPECT_EQ(portable_log(HUGE_VAL), HUGE_VAL);
    EXPECT_TRUE(std::isnan(portable_log(-1)) && std::isnan(portable_log(NAN)) &&
                std::isnan(portable_exp(NAN)));
}

} // namespace
} // namespace dynkin

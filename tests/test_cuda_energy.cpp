// test_cuda_energy.cpp - energies and gradients on the device: against naive sums, and bit for bit against
// the CPU.
#include "cases.h"
#include "device_cases.h"
#include "engine/error.h"
#include "engine/target.h"
#include "tolerance.h"
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

namespace dynkin {
namespace {

using cases::correlated;

constexpr std::size_t counts[] = {1, 31, 10'007};

Target of(TargetVariant law, const char* kind) {
    Target target;
    target.law = std::move(law), target.kind = kind;
    return target;
}

/// C_ij = 0.5^|i - j|: condition number below (1.5 / 0.5)^2 = 9.
Target lattice(const char* kind, std::vector<std::size_t> shape, Boundary boundary, double coupling,
               std::vector<double> site, double constant) {
    LatticeTarget law;
    law.lattice.shape = std::move(shape), law.lattice.boundary = boundary;
    law.coupling = coupling, law.site = std::move(site), law.site_constant = constant;
    return of(std::move(law), kind);
}

GaussianMixtureTarget two_components() {
    GaussianMixtureTarget law;
    law.weights = {0.3, 0.7};
    law.components.push_back(correlated(2, -1)), law.components.push_back(correlated(2, 1.5));
    return law;
}

/// Teams of 1 to 128 threads, more coordinates than threads, sites of 0 to 6 neighbours, both degrees.
std::vector<Target> targets() {
    std::vector<Target> list;
    list.push_back(lattice("site", {1}, Boundary::free, 1, {0, 1}, 0.5));
    list.push_back(lattice("chain", {16}, Boundary::zero, 1.08, {0, -2.08, 0, 1.04}, 1.04));
    list.push_back(
        lattice("degree 6", {3, 4}, Boundary::periodic, 1.7, {0.3, -1, 0.2, 0.5, -0.1, 0.25}, 0.4));
    list.push_back(lattice("three axes", {3, 3, 5}, Boundary::periodic, 0.7, {0, -4, 0, 6}, 0));
    list.push_back(lattice("two axes", {13, 11}, Boundary::zero, 2, {0.1, -4, 0, 6.008}, 0.2));
    list.push_back(lattice("fixed ends", {31}, Boundary::fixed, 1.08, {0, -2.08, 0, 1.04}, 1.04));
    std::get<LatticeTarget>(list.back().law).lattice.outside = {1, -0.5};
    list.push_back(lattice("fixed sides", {5, 4, 3}, Boundary::fixed, 2, {0.1, -4, 0, 6.008, 0, 1}, 0.2));
    std::get<LatticeTarget>(list.back().law).lattice.outside = {1, 1, -1, -1, 0, 2.5};
    list.push_back(of(DoubleWellTarget{5, 1.5, 0.2}, "wells"));
    list.push_back(of(ManyWellTarget{6, 1, 6, 0.5}, "pairs of wells"));
    list.push_back(of(correlated(3, 0.5), "gaussian"));
    list.push_back(of(correlated(40, -1), "gaussian of two warps"));
    list.push_back(of(correlated(131, 0.1), "gaussian of a block"));
    list.push_back(of(two_components(), "mixture"));
    return list;
}

// ---- naive sums in long double; `size`: of the absolute terms, which rounding is relative to

using Real = long double;
struct Answer {
    Real energy = 0, size = 0;
    std::vector<Real> gradient;
    void add(Real term) { energy += term, size += std::abs(term); }
};

/// Neighbours of a site one step along an axis; -1: outside.
long step(const Lattice& lattice, std::size_t site, std::size_t axis, long by) {
    std::size_t stride = 1;
    for (std::size_t a = axis + 1; a < lattice.shape.size(); ++a) stride *= lattice.shape[a];
    const long n = static_cast<long>(lattice.shape[axis]);
    const long here = static_cast<long>(site / stride) % n;
    const long there = here + by;
    if ((there < 0 || there >= n) && lattice.boundary != Boundary::periodic) return -1;
    return static_cast<long>(site) + ((there + n) % n - here) * static_cast<long>(stride);
}

Answer naive(const LatticeTarget& t, const double* x) {
    Answer a;
    for (std::size_t i = 0; i < t.lattice.sites(); ++i) {
        Real slope = 0;
        a.add(t.site_constant);
        for (std::size_t m = 0; m < t.site.size(); ++m) {
            a.add(t.site[m] * std::pow(Real(x[i]), m + 1));
            slope += t.site[m] * Real(m + 1) * std::pow(Real(x[i]), m);
        }
        for (std::size_t axis = 0; axis < t.lattice.shape.size(); ++axis)
            for (const long by : {-1L, 1L}) {
                const long j = step(t.lattice, i, axis, by);
                if (j < 0 && t.lattice.boundary == Boundary::free) continue;
                const Real outside = t.lattice.outside_value(axis, by > 0);
                const Real difference = Real(x[i]) - (j < 0 ? outside : Real(x[j]));
                a.add(t.coupling / 2 * difference * difference * (j < 0 ? 1.0L : 0.5L));
                slope += t.coupling * difference;
            }
        a.gradient.push_back(slope);
    }
    return a;
}

/// C^-1 v by elimination.
std::vector<Real> solve(const Array<double>& covariance, std::vector<Real> v) {
    const std::size_t d = v.size();
    std::vector<Real> a(covariance.begin(), covariance.end());
    for (std::size_t k = 0; k < d; ++k)
        for (std::size_t i = 0; i < d; ++i) {
            if (i == k) continue;
            const Real factor = a[i * d + k] / a[k * d + k];
            for (std::size_t j = k; j < d; ++j) a[i * d + j] -= factor * a[k * d + j];
            v[i] -= factor * v[k];
        }
    for (std::size_t k = 0; k < d; ++k) v[k] /= a[k * d + k];
    return v;
}

Real log_determinant(const GaussianTarget& t) {
    Real sum = 0;
    for (std::size_t i = 0; i < t.mean.size(); ++i) sum += 2 * std::log(Real(t.cholesky(i, i)));
    return sum;
}

Answer naive(const GaussianTarget& t, const double* x) {
    Answer a;
    std::vector<Real> v;
    for (std::size_t i = 0; i < t.mean.size(); ++i) v.push_back(Real(x[i]) - t.mean[i]);
    a.gradient = solve(t.covariance, v);
    for (std::size_t i = 0; i < v.size(); ++i) a.add(0.5L * v[i] * a.gradient[i]);
    return a;
}

Answer naive(const GaussianMixtureTarget& t, const double* x) {
    Real sum = 0;
    std::vector<Real> top(t.components[0].mean.size());
    for (std::size_t k = 0; k < t.weights.size(); ++k) {
        const Answer one = naive(t.components[k], x);
        const Real density = t.weights[k] * std::exp(-one.energy - 0.5L * log_determinant(t.components[k]));
        sum += density;
        for (std::size_t i = 0; i < top.size(); ++i) top[i] += density * one.gradient[i];
    }
    Answer a;
    a.add(-std::log(sum)), a.add(0.5L * static_cast<Real>(top.size()) * std::log(2 * std::acos(-1.0L)));
    for (const Real g : top) a.gradient.push_back(g / sum);
    return a;
}

Answer naive(const DoubleWellTarget& t, const double* x) {
    Answer a;
    for (std::size_t i = 0; i < t.dimension; ++i) {
        const Real v = x[i], w = v * v - 1;
        a.add(t.a * w * w), a.add(t.b * v);
        a.gradient.push_back(4 * t.a * v * w + t.b);
    }
    return a;
}

Answer naive(const ManyWellTarget& t, const double* x) {
    Answer a;
    for (std::size_t i = 0; i < t.dimension; i += 2) {
        const Real v = x[i], y = x[i + 1];
        a.add(t.a * v * v * v * v), a.add(-t.b * v * v), a.add(t.c * v), a.add(0.5L * y * y);
        a.gradient.push_back(4 * t.a * v * v * v - 2 * t.b * v + t.c), a.gradient.push_back(y);
    }
    return a;
}
Answer naive(const ToyTarget&, const double*) { return {}; }
Answer naive(const PluginTarget&, const double*) { return {}; }

// A term is a polynomial of at most 13 operations on numbers whose absolute values add up to `size`, and it
// passes through one sum of 7 halvings and d / 128 additions, d <= 143. Gaussians: substitution adds d terms
// for each coordinate, and its error is multiplied by the condition number, 9 (Higham 2002, theorem 8.5);
// sizes with 1.
double bound(const Target& target, double size) {
    const double local = 24 * tolerance::eps * size;
    const bool dense = std::holds_alternative<GaussianTarget>(target.law) ||
                       std::holds_alternative<GaussianMixtureTarget>(target.law);
    return dense ? 9 * static_cast<double>(target.dimension()) * tolerance::eps * (1 + size) : local;
}

class CudaEnergy : public cases::OnDevice {
  protected:
    static std::vector<double> rows(const Target& target, std::size_t count) {
        std::mt19937 generator(11);
        std::normal_distribution<double> normal(0, 0.9);
        std::vector<double> x(count * target.dimension());
        for (double& v : x) v = normal(generator);
        return x;
    }
};
INSTANTIATE_TEST_SUITE_P(Run, CudaEnergy, testing::ValuesIn(cases::device_runs()), cases::run_name);

TEST_P(CudaEnergy, EqualsTheNaiveSumAndTheCpuBitForBit) {
    const Context cpu({.device = Device::cpu, .threads = 1});
    for (const Target& target : targets())
        for (const std::size_t count : counts) {
            const std::size_t d = target.dimension();
            if (count * d > 200'000) continue; // the emulator takes more than a second
            const std::vector<double> x = rows(target, count);
            std::vector<double> u(count), g(count * d), only(count), expected(count), force(count * d);
            energy_gradient(context(), target, count, x.data(), u.data(), g.data());
            energy(context(), target, count, x.data(), only.data());
            energy_gradient(cpu, target, count, x.data(), expected.data(), force.data());
            ASSERT_EQ(std::memcmp(u.data(), expected.data(), count * sizeof(double)), 0) << target.kind;
            ASSERT_EQ(std::memcmp(g.data(), force.data(), count * d * sizeof(double)), 0) << target.kind;
            ASSERT_EQ(u, only) << target.kind;
            for (std::size_t n = 0; n < count; n += 37) {
                const Answer answer =
                    std::visit([&](const auto& t) { return naive(t, x.data() + n * d); }, target.law);
                const double size = static_cast<double>(answer.size);
                ASSERT_NEAR(u[n], static_cast<double>(answer.energy), bound(target, size)) << target.kind;
                for (std::size_t i = 0; i < d;
                     ++i) // the slope of a polynomial is at most 6 times its terms, over |x|
                    ASSERT_NEAR(g[n * d + i], static_cast<double>(answer.gradient[i]),
                                6 * bound(target, 1 + size))
                        << target.kind << ' ' << i;
            }
        }
}

TEST_P(CudaEnergy, RowsInPartsOfAnySizeAreTheSame) {
    // A limit that leaves room for few rows at a time; one call after another uses the same buffers.
    const Target target = targets()[1];
    const std::size_t d = target.dimension(), count = 1000;
    const std::vector<double> x = rows(target, count);
    std::vector<double> u(count), g(count * d), parts(count), force(count * d);
    const Context cpu({.device = Device::cpu, .threads = 1}), narrow = cases::device_context(20'000);
    energy_gradient(cpu, target, count, x.data(), u.data(), g.data());
    const TargetEnergy energy(narrow, target);
    for (const std::size_t first : {0u, 1u, 32u}) {
        energy(count - first, x.data() + first * d, parts.data(), nullptr);
        EXPECT_TRUE(std::equal(u.begin() + static_cast<long>(first), u.end(), parts.begin())) << first;
    }
    energy(count, x.data(), parts.data(), force.data());
    EXPECT_EQ(parts, u);
    EXPECT_EQ(force, g);
}

TEST_P(CudaEnergy, NotFiniteStaysNotFinite) {
    for (const Target& target : targets()) {
        const std::size_t d = target.dimension();
        std::vector<double> x = rows(target, 3), u(3);
        x[d] = std::numeric_limits<double>::quiet_NaN();
        x[2 * d] = std::numeric_limits<double>::infinity();
        energy(context(), target, 3, x.data(), u.data());
        EXPECT_TRUE(std::isfinite(u[0]) && !std::isfinite(u[1]) && !std::isfinite(u[2])) << target.kind;
    }
}

TEST_P(CudaEnergy, NoRowsAreNoLaunchAndNoEnergyIsAnError) {
    EXPECT_NO_THROW(energy(context(), targets()[0], 0, nullptr, nullptr));
    EXPECT_THROW(energy(context(), of(ToyTarget{"moons"}, "moons"), 0, nullptr, nullptr), Error);
}

TEST_P(CudaEnergy, TooLittleMemoryIsSaid) {
    const Context tiny = cases::device_context(2'000);
    std::vector<double> x = rows(targets()[4], 4), u(4);
    try {
        energy(tiny, targets()[4], 4, x.data(), u.data());
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::io);
        EXPECT_NE(std::string(error.what()).find("the target's"), std::string::npos) << error.what();
    }
}

} // namespace
} // namespace dynkin

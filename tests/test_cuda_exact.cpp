// test_cuda_exact.cpp - last levels of a known target on the device: the bits of the CPU, and the law by
// quadrature.
#include "cases.h"
#include "device_cases.h"
#include "engine/exact_levels.h"
#include "engine/level_plan.h"
#include "engine/levels_device.h"
#include "kernels/philox.h"
#include "tolerance.h"
#include <algorithm>
#include <cmath>

namespace dynkin {
namespace {

using kernels::kScoreTile;
using std::size_t;

Target lattice(std::vector<size_t> shape, Boundary boundary, double coupling = 1.3,
               std::vector<double> site = {0.1, -1.5, 0, 1}) {
    LatticeTarget law;
    law.lattice = {std::move(shape), boundary}, law.coupling = coupling, law.site = std::move(site);
    Target target;
    target.law = law, target.kind = "lattice";
    return target;
}

/// Places alone: exact levels look at nothing else of a model.
Model places(const Lattice& lattice) {
    Model model;
    model.lattice = lattice, model.view.columns = lattice.sites();
    for (int j = 0; j < static_cast<int>(lattice.sites()); ++j) model.view.kept.push_back(j);
    for (const LevelPlan& plan : lattice_levels(lattice, {}).levels) {
        Level& level = model.levels.emplace_back();
        level.name = plan.name, level.stage = plan.stage, level.targets = plan.targets;
        level.slots = plan.slots, level.neighbours = plan.neighbours;
    }
    return model;
}

struct Drawn {
    Array<float> x;
    std::vector<double> log_q;
};

struct Case {
    Target target;
    Model model;
    ExactLevels exact;
    Case(const Target& of, int stages, Isa isa = Isa::automatic)
        : target(of), model(places(*of.lattice())), exact(cases::context(1, isa), target, model, stages) {}

    /// Coarse sites anywhere between the wells, log q so far.
    Drawn start(size_t tiles) const {
        Drawn out{Array<float>(tiles, target.dimension() * kScoreTile),
                  std::vector<double>(tiles * kScoreTile)};
        for (size_t n = 0; n < out.x.size(); ++n)
            out.x[n] = 1.4f * std::sin(static_cast<float>(n * 7 % 1009));
        for (size_t n = 0; n < out.log_q.size(); ++n) out.log_q[n] = -0.1 * static_cast<double>(n % 13);
        return out;
    }
    Drawn on_cpu(std::uint64_t first, size_t tiles) const {
        Drawn out = start(tiles);
        for (size_t tile = 0; tile < tiles; ++tile)
            for (size_t k = 0; k < model.levels.size(); ++k)
                exact.draw(k, 5, first + tile * kScoreTile, out.x.row(tile), &out.log_q[tile * kScoreTile]);
        return out;
    }
    Drawn on_device(const Context& context, std::uint64_t first, size_t tiles) const {
        Drawn out = start(tiles);
        std::vector<DeviceLevel> sources;
        for (size_t k = 0; k < model.levels.size(); ++k)
            if (exact.draws(k)) sources.push_back({&model.levels[k], nullptr, &exact, k});
        DeviceLevels<float>(context, sources, static_cast<int>(target.dimension()), 0)
            .draw(0, sources.size(), 5, first, tiles, out.x.data(), out.log_q.data());
        return out;
    }
};

class CudaExact : public cases::OnDevice {};
INSTANTIATE_TEST_SUITE_P(Run, CudaExact, testing::ValuesIn(cases::device_runs()), cases::run_name);

TEST_P(CudaExact, SameBitsAsTheCpu) {
    const std::uint64_t first = 0xffffffe0; // passes 2^32
    struct Shape {
        std::vector<size_t> shape;
        Boundary boundary;
        int stages;
    };
    for (const auto& [shape, boundary, stages] :
         {Shape{{1}, Boundary::zero, 1}, Shape{{7}, Boundary::zero, 2}, Shape{{6}, Boundary::periodic, 2},
          Shape{{5}, Boundary::free, 2}, Shape{{5, 4}, Boundary::free, 2},
          Shape{{4, 4}, Boundary::periodic, 2}, Shape{{2, 2, 3}, Boundary::zero, 1}})
        for (Isa isa : cases::isas()) {
            Target target = lattice(shape, boundary);
            if (shape.size() == 1 && boundary == Boundary::fixed)
                std::get<LatticeTarget>(target.law).lattice.outside = {1, -0.5};
            const Case c(target, stages, isa);
            const Drawn expected = c.on_cpu(first, 2), found = c.on_device(context(), first, 2);
            EXPECT_TRUE(cases::same_bytes(found.x, expected.x)) << c.target.lattice()->describe();
            EXPECT_TRUE(cases::same_bytes(found.log_q, expected.log_q)) << c.target.lattice()->describe();
            EXPECT_FALSE(cases::same_bytes(found.x, c.start(2).x));
        }
}

/// Ten thousand particles, in one launch and in as many batches as a small memory needs.
TEST_P(CudaExact, ResultsDoNotDependOnTheMemory) {
    const Case c(lattice({2}, Boundary::free), 1);
    const size_t tiles = cases::sample_counts().back() / kScoreTile + 1;
    const Drawn expected = c.on_cpu(0, tiles), whole = c.on_device(context(), 0, tiles);
    EXPECT_TRUE(cases::same_bytes(whole.x, expected.x));
    EXPECT_TRUE(cases::same_bytes(whole.log_q, expected.log_q));
    const Context small = cases::device_context(32 << 10); // of which tables 11 KB
    const Drawn parts = c.on_device(small, 0, tiles);
    EXPECT_TRUE(cases::same_bytes(parts.x, whole.x));
    EXPECT_TRUE(cases::same_bytes(parts.log_q, whole.log_q));
    EXPECT_LE(small.device_state().memory_peak(), 32u << 10);
    const Context none = cases::device_context(2 << 10);
    cases::expect_error(
        ErrorKind::io, [&] { c.on_device(none, 0, 1); }, "device memory");
}

/// The law of one site by quadrature, its later neighbours integrated out point by point: the density at
/// points of twice as fine a grid.
struct Quadrature {
    static constexpr int count = 321;
    double box, step;
    std::vector<double> density;

    double point(int i) const { return -box + step * i; }
    Quadrature(const Case& c, double width, int target, const std::vector<double>& x)
        : box(width), step(2 * width / (count - 1)) {
        const auto& law = std::get<LatticeTarget>(c.target.law);
        std::vector<int> stage(x.size());
        for (const Level& level : c.model.levels)
            for (int j : level.targets) stage[static_cast<size_t>(j)] = level.stage;
        std::vector<std::vector<int>> nearest(x.size());
        for (const auto& [a, b] : law.lattice.edges())
            nearest[static_cast<size_t>(a)].push_back(b), nearest[static_cast<size_t>(b)].push_back(a);
        const std::vector<int> outer = law.lattice.outer_edges();
        const auto site = [&](int j, double v) {
            double u = 0.5 * law.coupling * v * v * outer[static_cast<size_t>(j)];
            for (size_t m = 0; m < law.site.size(); ++m)
                u += law.site[m] * std::pow(v, static_cast<int>(m + 1));
            return u;
        };
        const auto edge = [&](double a, double b) { return 0.5 * law.coupling * (a - b) * (a - b); };
        for (int i = 0; i < count; ++i) density.push_back(std::exp(-site(target, point(i))));
        for (int q : nearest[static_cast<size_t>(target)]) {
            const bool known = stage[static_cast<size_t>(q)] < stage[static_cast<size_t>(target)];
            std::vector<double> weight; // of q's values
            for (int k = 0; k < count && !known; ++k) {
                double u = site(q, point(k));
                for (int other : nearest[static_cast<size_t>(q)])
                    if (other != target) u += edge(point(k), x[static_cast<size_t>(other)]);
                weight.push_back(std::exp(-u));
            }
            for (int i = 0; i < count; ++i) {
                double sum = known ? std::exp(-edge(point(i), x[static_cast<size_t>(q)])) : 0;
                for (int k = 0; k < count && !known; ++k)
                    sum += weight[static_cast<size_t>(k)] * std::exp(-edge(point(k), point(i)));
                density[static_cast<size_t>(i)] *= sum;
            }
        }
        double total = 0;
        for (double v : density) total += v * step;
        for (double& v : density) v /= total;
    }
    /// Integral of |f - f made linear| of twice the step, h^2 / 12 |f''|, and its largest value, h^2 / 8.
    double bent(bool largest) const {
        double sum = 0, most = 0;
        for (int i = 1; i + 1 < count; ++i) {
            const auto at = density.begin() + i;
            const double second = std::abs(at[1] - 2 * at[0] + at[-1]);
            sum += second * step * 4 / 12, most = std::max(most, second * 4 / 8);
        }
        return largest ? most : sum;
    }
    double below(double v) const {
        double sum = 0;
        for (int i = 0; i + 1 < count && point(i) < v; ++i) {
            const double s = std::min((v - point(i)) / step, 1.0);
            sum += step * s *
                   (density[static_cast<size_t>(i)] * (1 - 0.5 * s) +
                    density[static_cast<size_t>(i) + 1] * 0.5 * s);
        }
        return sum;
    }
    double at(double v) const {
        const double place = (v + box) / step;
        const size_t i = std::min(static_cast<size_t>(place), static_cast<size_t>(count - 2));
        return density[i] + (place - static_cast<double>(i)) * (density[i + 1] - density[i]);
    }
};

// Three sources of difference. The density is linear between nodes: Quadrature::bent. log Z1(S) is linear in
// S between entries of step h, which is wrong by h^2 / 8 of its second derivative J^2 var(x | S); with two
// wells at +-1 the variance is below 1.2. x is rounded to float32. Coarser sites may only be those that were
// drawn before, so each level is looked at by itself.
TEST_P(CudaExact, TheLawIsThatOfQuadrature) {
    for (const Target& target :
         {lattice({5}, Boundary::zero), lattice({6}, Boundary::periodic), lattice({3, 4}, Boundary::free)}) {
        const Case c(target, 2);
        const double box = c.exact.view().box, h = c.exact.view().step;
        const Drawn drawn = c.on_device(context(), 3, 1);
        const Drawn before = c.start(1);
        double coupling = std::get<LatticeTarget>(target.law).coupling;
        for (size_t k = 0; k < c.model.levels.size(); ++k) {
            if (!c.exact.draws(k)) continue;
            const int site = c.model.levels[k].targets.back();
            for (const size_t p : {0u, 17u}) {
                std::vector<double> x;
                for (size_t j = 0; j < target.dimension(); ++j)
                    x.push_back(static_cast<double>(drawn.x[j * kScoreTile + p]));
                const double v = x[static_cast<size_t>(site)];
                const Quadrature law(c, box, site, x);
                const double links = 4, table = links * h * h / 8 * coupling * coupling * 1.2;
                const auto slot = static_cast<std::uint32_t>(site);
                const double u = uniform(philox(5, Stream::sampler_start, 3 + p, 0, slot / 4).v[slot % 4]);
                EXPECT_NEAR(law.below(v), u, law.bent(false) + table + tolerance::eps32 * box * law.at(v))
                    << site << ' ' << p;
            }
        }
        // log q of a whole particle: densities one after another.
        for (const size_t p : {0u, 17u}) {
            std::vector<double> x;
            for (size_t j = 0; j < target.dimension(); ++j)
                x.push_back(static_cast<double>(drawn.x[j * kScoreTile + p]));
            double expected = before.log_q[p], bound = 1e-5; // of x in float32: |d log q / dx| < 20
            for (size_t k = 0; k < c.model.levels.size(); ++k)
                for (int site : c.model.levels[k].targets) {
                    if (!c.exact.draws(k)) continue;
                    const Quadrature law(c, box, site, x);
                    const double q = law.at(x[static_cast<size_t>(site)]);
                    expected += std::log(q);
                    bound += law.bent(true) / q + 4 * h * h / 4 * coupling * coupling * 1.2;
                }
            EXPECT_NEAR(drawn.log_q[p], expected, bound) << p;
        }
    }
}

/// A Gaussian site given its neighbour: known mean and variance, to z standard errors.
TEST_P(CudaExact, GaussianMoments) {
    const double coupling = 2, width = 1 / std::sqrt(1 + coupling);
    const Case c(lattice({2}, Boundary::free, coupling, {0, 0.5}), 1);
    const auto drawn_level = std::find_if(c.model.levels.begin(), c.model.levels.end(), [&](const Level& l) {
        return c.exact.draws(static_cast<size_t>(&l - c.model.levels.data()));
    });
    ASSERT_NE(drawn_level, c.model.levels.end());
    const auto site = static_cast<size_t>(drawn_level->targets[0]);
    const size_t tiles = cases::sample_counts().back() / kScoreTile + 1, count = tiles * kScoreTile;
    const Drawn drawn = c.on_device(context(), 0, tiles);
    double sum = 0, square = 0;
    for (size_t tile = 0; tile < tiles; ++tile)
        for (size_t p = 0; p < kScoreTile; ++p) {
            const double given = static_cast<double>(drawn.x(tile, (1 - site) * kScoreTile + p)),
                         z = (static_cast<double>(drawn.x(tile, site * kScoreTile + p)) -
                              coupling * given / (1 + coupling)) /
                             width;
            sum += z, square += z * z;
        }
    const double n = static_cast<double>(count);
    EXPECT_NEAR(sum / n, 0, tolerance::z_bound / std::sqrt(n));
    // Linear between the nodes is wider: h^2 / 6 of a variance in all.
    EXPECT_NEAR(square / n, 1,
                tolerance::z_bound * std::sqrt(2 / n) + std::pow(c.exact.view().step / width, 2) / 6);
}

} // namespace
} // namespace dynkin

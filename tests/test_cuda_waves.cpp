// test_cuda_waves.cpp - waves on the device against sums over terms, particle by particle in float64, and the
// CPU.
#include "device_cases.h"
#include "engine/score.h"
#include "kernels/philox.h"
#include "kernels/waves_cuda.h"
#include "process_cases.h"
#include "wave_cases.h"
#include <atomic>

namespace dynkin {
namespace {

using cases::WaveCase;
using kernels::kScoreTile;
using std::numbers::pi, std::size_t;

constexpr WaveCase all_cases[] = {{false, 1, 7}, {false, 2, 11}, {false, 3, 3},
                                  {true, 1, 5},  {true, 2, 6},   {true, 3, 2}};
constexpr int steps = 6;
constexpr std::uint64_t seed = 23; ///< of cases::few_steps()

double side(const WaveCase& which) { return which.periodic ? 2 * pi : pi; }

class CudaWaves : public cases::OnDevice {};
INSTANTIATE_TEST_SUITE_P(Run, CudaWaves, testing::ValuesIn(cases::device_runs()), cases::run_name);

// Moments and systems -------------------------------------------------------------------------------------

Array<double> moments_of(const Context& context, const WaveBasis& basis, const Array<double>& u) {
    MomentSums sums;
    return wave_moments(context, basis, cases::Basis::source(u), {}, sums);
}

/// Averages of products of at most three numbers of at most 1: sums of 4096 terms one after another, each
/// rounded once, and in each factor at most 2 radius rotations of four roundings.
double moment_tolerance(const WaveBasis& basis) { return tolerance::eps / 2 * (4096 + 3 * 8 * basis.radius); }

TEST_P(CudaWaves, MomentsAreAveragesOfProducts) {
    std::vector<WaveCase> each(std::begin(all_cases), std::end(all_cases));
    each.push_back({false, 1, 70}); // more functions than a block of sums has products
    for (const WaveCase& which : each) {
        const WaveBasis basis = make_wave_basis(which.periodic, which.dimension, which.radius);
        const size_t d = static_cast<size_t>(which.dimension), width = static_cast<size_t>(basis.width());
        for (const size_t rows : cases::sample_counts()) {
            const Array<double> u = cases::points(rows, d, 3, side(which));
            const Array<double> found = moments_of(context(), basis, u),
                                cpu = moments_of(cases::cpu_context(), basis, u);
            ASSERT_EQ(found.size(), cpu.size());
            for (size_t k = 0; k < found.size(); ++k)
                ASSERT_NEAR(found[k], cpu[k], 2 * moment_tolerance(basis)) << rows << ' ' << k;
            for (size_t k = 0; k < found.size(); k += 1 + found.size() / 11) {
                int n[3];
                for (size_t j = d, rest = k; j-- > 0; rest /= width) n[j] = static_cast<int>(rest % width);
                double sum = 0;
                for (size_t r = 0; r < rows; ++r) sum += oracle::term(which.periodic, n, u.row(r), d);
                ASSERT_NEAR(found[k], sum / static_cast<double>(rows), 2 * moment_tolerance(basis))
                    << rows << ' ' << k;
            }
        }
    }
}

TEST_P(CudaWaves, MatricesHaveTheBitsOfTheCpu) {
    for (const WaveCase& which : all_cases) {
        const WaveBasis basis = make_wave_basis(which.periodic, which.dimension, which.radius);
        const WaveSystem system(basis);
        const size_t n = basis.size(), d = static_cast<size_t>(which.dimension);
        const Array<double> moments =
            moments_of(cases::cpu_context(), basis, cases::points(31, d, 4, side(which)));
        const std::vector<double> times = {0, 0.01, 0.7};
        std::vector<double> decays;
        for (double t : times)
            for (double decay : system.decays(t)) decays.push_back(decay);
        const auto there = [&]<class T>(const std::vector<T>& host) {
            return to_device<T>(device(), host, "test");
        };
        const auto products = there(system.products());
        const auto indices =
            there(std::vector<int>(basis.indices.begin() + which.dimension, basis.indices.end()));
        const auto moments_there = to_device(device(), moments.span(), "test"), decays_there = there(decays);
        DeviceArray<double> a(device(), times.size() * n * n, "test");
        cuda::wave_matrices(device().compute_stream(),
                            {which.dimension, basis.functions, basis.width(), static_cast<int>(n),
                             products.data(), indices.data(), moments_there.data(), decays_there.data()},
                            times.size(), a.data());
        const std::vector<double> found = to_host(device(), a);
        Array<double> expected(n, n);
        std::vector<double> b;
        for (size_t m = 0; m < times.size(); ++m) {
            system.assemble(system.noised(moments, times[m]), expected, b);
            for (size_t k = 0; k < n; ++k)
                for (size_t l = 0; l <= k; ++l) {
                    ASSERT_EQ(found[(m * n + k) * n + l], expected(k, l)) << k << ' ' << l;
                    ASSERT_EQ(found[(m * n + l) * n + k], expected(k, l)) << k << ' ' << l;
                }
        }
    }
}

/// Coefficients differ by what rounding of the moments does: the condition times it, of the largest.
TEST_P(CudaWaves, FitsAreThoseOfTheCpu) {
    for (const WaveCase& which : {all_cases[1], all_cases[5]}) {
        const Array<double> x = cases::points(1000, static_cast<size_t>(which.dimension), 9, 1);
        const Process process = which.periodic ? Process(TorusProcess{{0}, {1}}) : Process(BoxProcess{});
        FitReport report, cpu_report;
        const Model found = cases::fitted(context(), x, process, which.radius, &report),
                    cpu = cases::fitted(cases::cpu_context(), x, process, which.radius, &cpu_report);
        EXPECT_NEAR(report.condition, cpu_report.condition, 1e-6 * cpu_report.condition);
        const Array<double>&a = found.waves->coefficients, &b = cpu.waves->coefficients;
        const double most = std::abs(*std::max_element(
            b.begin(), b.end(), [](double x, double y) { return std::abs(x) < std::abs(y); }));
        const WaveBasis basis = make_wave_basis(which.periodic, which.dimension, which.radius);
        ASSERT_EQ(a.size(), b.size());
        for (size_t k = 0; k < a.size(); ++k)
            ASSERT_NEAR(a[k], b[k], cpu_report.condition * moment_tolerance(basis) * most) << k;
    }
}

// Trajectories --------------------------------------------------------------------------------------------

/// Coefficients that sum to 0.5 and die out as those of data do; columns in other units.
Model model_of(const WaveCase& which) {
    Model model;
    const size_t d = static_cast<size_t>(which.dimension);
    model.view.columns = d, model.view.constant.assign(d, 0);
    for (int j = 0; j < which.dimension; ++j) model.view.kept.push_back(j);
    const double mean[3] = {1, -2, 0.5}, scale[3] = {2, 0.5, 3};
    model.standardization = {std::vector<double>(mean, mean + d), std::vector<double>(scale, scale + d)};
    model.process = which.periodic ? Process(TorusProcess{}) : Process(BoxProcess{});
    model.default_steps = steps;
    WaveBlock& block = model.waves.emplace();
    block.periodic = which.periodic, block.dimension = which.dimension, block.radius = which.radius;
    block.t_min = 1e-4, block.t0 = 0.003, block.node_time = block.step_times(12);
    const WaveBasis basis = make_wave_basis(which.periodic, which.dimension, which.radius);
    block.coefficients = Array<double>(block.node_time.size(), basis.size());
    std::mt19937_64 engine(5);
    std::vector<double> c;
    double sum = 0;
    for (size_t k = 0; k < basis.size(); ++k)
        c.push_back(static_cast<double>(engine() % 2001) / 1000 - 1), sum += std::abs(c.back());
    for (size_t m = 0; m < block.node_time.size(); ++m)
        for (size_t k = 0; k < basis.size(); ++k)
            block.coefficients(m, k) = 0.5 * c[k] / sum * std::exp(-basis.lambda[k + 1] * block.node_time[m]);
    return model;
}

/// h at one time by its sum over terms, and bounds of its derivatives.
class Naive {
  public:
    Naive(const WaveBlock& block, double t)
        : basis_(make_wave_basis(block.periodic, block.dimension, block.radius)),
          c_(coefficients_at(block, block.coefficients, t)) {}
    /// Lap h
    double gradient(const double* u, double* g) const {
        const size_t d = static_cast<size_t>(basis_.dimension);
        double laplacian = 0;
        std::fill_n(g, d, 0.0);
        for (size_t k = 0; k < c_.size(); ++k) {
            const int* index = &basis_.indices[(k + 1) * d];
            for (size_t i = 0; i < d; ++i)
                g[i] += c_[k] * oracle::term_slope(basis_.periodic, index, u, d, i);
            laplacian -= c_[k] * basis_.lambda[k + 1] * oracle::term(basis_.periodic, index, u, d);
        }
        return laplacian;
    }
    /// No derivative of this order, nor its norm, is larger.
    double bound(int order) const {
        double sum = 0;
        for (size_t k = 0; k < c_.size(); ++k)
            sum += std::abs(c_[k]) * std::pow(basis_.lambda[k + 1], 0.5 * order);
        return sum;
    }
    /// Of gradient and Laplacian in a type with this rounding (test_waves.cpp).
    double rounding(double unit) const { return unit * bound(2) * 4 * (basis_.radius + 3); }

  private:
    WaveBasis basis_;
    std::vector<double> c_;
};

/// One particle in float64, and what rounding in a smaller type may have come to: errors of a step grow by at
/// most 1 + dt |Hess h| in the next.
class Particle {
  public:
    Particle(const WaveCase& which, const Model& model, double rounding)
        : which_(which), unit_(rounding), times_(model.waves->step_times(steps)) {
        for (double t : times_) at_.emplace_back(*model.waves, t);
    }

    double u[3] = {}, log_q = 0, error = 0, log_error = 0;

    void start(std::uint64_t number) {
        const RandomWords w = philox(seed, Stream::sampler_start, number, 0, 0);
        for (int j = 0; j < which_.dimension; ++j)
            u[j] = static_cast<double>(static_cast<float>(side(which_) * uniform(w.v[j])));
        error = log_error = 0, log_q = 0;
    }
    void diffuse(std::uint64_t number) {
        for (size_t k = times_.size() - 1; k > 0; --k) {
            const double dt = times_[k] - times_[k - 1];
            drift(at_[k], dt);
            const RandomWords w =
                philox(seed, Stream::sampler_noise, number, static_cast<std::uint32_t>(k), 0);
            double normal[4];
            normal_pair(w.v[0], w.v[1], normal[0], normal[1]);
            normal_pair(w.v[2], w.v[3], normal[2], normal[3]);
            for (int j = 0; j < which_.dimension; ++j) u[j] += std::sqrt(2 * dt) * normal[j];
            fold(7 * std::sqrt(2 * dt));
            drift(at_[k - 1], dt);
        }
    }
    /// Backwards, or forwards.
    void flow(bool forwards) {
        const size_t last = times_.size() - 1;
        for (size_t k = 0; k < last; ++k)
            forwards ? heun(at_[k], at_[k + 1], times_[k] - times_[k + 1])
                     : heun(at_[last - k], at_[last - k - 1], times_[last - k] - times_[last - k - 1]);
    }

  private:
    void fold(double move) {
        for (int j = 0; j < which_.dimension; ++j) {
            u[j] -= 2 * pi * std::floor(u[j] / (2 * pi));
            if (!which_.periodic && u[j] > pi) u[j] = 2 * pi - u[j];
        }
        error += 4 * unit_ * (3 * side(which_) + move); // a few roundings of numbers as large
    }
    void drift(const Naive& h, double dt) {
        double g[3];
        h.gradient(u, g);
        for (int j = 0; j < which_.dimension; ++j) u[j] += dt * g[j];
        error += dt * (h.bound(2) * error + h.rounding(unit_));
        fold(dt * h.bound(1));
    }
    void heun(const Naive& from, const Naive& to, double dt) {
        double first[3], second[3], trial[3];
        const double lap = from.gradient(u, first), size = std::abs(dt);
        for (int j = 0; j < which_.dimension; ++j) trial[j] = u[j] + dt * first[j];
        const double lap_too = to.gradient(trial, second);
        for (int j = 0; j < which_.dimension; ++j) u[j] += 0.5 * dt * (first[j] + second[j]);
        log_q -= 0.5 * size * (lap + lap_too);
        const double slope = from.bound(2) * error + from.rounding(unit_),
                     trial_error = error + size * slope + 4 * unit_ * (3 * side(which_));
        log_error +=
            0.5 * size *
            (from.bound(3) * error + from.rounding(unit_) + to.bound(3) * trial_error + to.rounding(unit_));
        error += 0.5 * size * (slope + to.bound(2) * trial_error + to.rounding(unit_));
        fold(size * from.bound(1));
    }

    WaveCase which_;
    double unit_;
    std::vector<double> times_;
    std::vector<Naive> at_;
};

/// Distance of two numbers of a column, on the torus the shorter way.
double distance(const WaveCase& which, double x, double y, double scale) {
    const double apart = std::abs(x - y) / scale;
    return which.periodic ? std::min(apart, std::abs(2 * pi - apart)) : apart;
}

SampleOptions options_of(Method method) { return cases::few_steps(method, steps); }

TEST_P(CudaWaves, SamplesFollowTheParticlesOfTheOracleAndTheCpu) {
    for (const WaveCase& which : all_cases) {
        const Model model = model_of(which);
        const auto& [mean, scale] = model.standardization;
        for (const Method method : {Method::sde, Method::ode}) {
            const Samples cpu = sample(cases::cpu_context(), model, 200, options_of(method));
            Particle particle(which, model, tolerance::eps32);
            for (const size_t count : {1u, 31u, 200u}) {
                const Samples found = sample(context(), model, count, options_of(method));
                for (size_t p = 0; p < count; ++p) {
                    if (p < 31) {
                        particle.start(p);
                        method == Method::sde ? particle.diffuse(p) : particle.flow(false);
                    }
                    const double error = particle.error + 8 * tolerance::eps32 * side(which); // of the units
                    for (size_t j = 0; j < mean.size(); ++j) {
                        const double x = static_cast<double>(found.rows(p, j));
                        ASSERT_LE(distance(which, x, static_cast<double>(cpu.rows(p, j)), scale[j]),
                                  2 * error)
                            << p << ' ' << j;
                        if (p < 31) {
                            ASSERT_LE(distance(which, x, mean[j] + scale[j] * particle.u[j], scale[j]), error)
                                << which.periodic << which.dimension << ' ' << p << ' ' << j;
                        }
                    }
                    if (method == Method::sde) continue;
                    ASSERT_NEAR(found.log_density[p], cpu.log_density[p], 2 * particle.log_error);
                    if (p < 31) {
                        ASSERT_NEAR(found.log_density[p], log_uniform(model) + particle.log_q,
                                    particle.log_error);
                    }
                }
            }
        }
    }
}

TEST_P(CudaWaves, ScoresAndDensitiesAreThoseOfTheOracleAndTheCpu) {
    for (const WaveCase& which : all_cases) {
        const Model model = model_of(which);
        const auto& [mean, scale] = model.standardization;
        const size_t d = mean.size();
        const double t = model.waves->node_time[3];
        const Naive h(*model.waves, t);
        Particle particle(which, model, tolerance::eps);
        for (const size_t count : {0u, 1u, 31u, 300u}) {
            Array<double> u = cases::points(count, d, 8, side(which)), x = u, found(count, d), cpu(count, d);
            for (size_t n = 0; n < count; ++n)
                for (size_t j = 0; j < d; ++j) x(n, j) = mean[j] + scale[j] * u(n, j);
            score(context(), model, t, count, x.data(), found.data());
            score(cases::cpu_context(), model, t, count, x.data(), cpu.data());
            const auto log_q = log_density(context(), model, count, x.data(), steps),
                       cpu_log_q = log_density(cases::cpu_context(), model, count, x.data(), steps);
            // u comes back from x with a few roundings
            const double of_u = tolerance::few_operations(side(which) + 2);
            for (size_t n = 0; n < count; ++n) {
                double g[3];
                h.gradient(u.row(n), g);
                for (size_t j = 0; j < d; ++j) {
                    const double error = h.rounding(tolerance::eps) + h.bound(2) * of_u;
                    ASSERT_NEAR(found(n, j) * scale[j], g[j], error) << n;
                    ASSERT_NEAR(found(n, j) * scale[j], cpu(n, j) * scale[j], 2 * error) << n;
                }
                std::copy_n(u.row(n), d, particle.u);
                particle.log_q = particle.log_error = 0, particle.error = of_u;
                particle.flow(true);
                ASSERT_NEAR(log_q[n], log_uniform(model) + particle.log_q,
                            particle.log_error + tolerance::few_operations(10));
                ASSERT_NEAR(log_q[n], cpu_log_q[n], 2 * particle.log_error + tolerance::few_operations(10));
            }
        }
    }
}

TEST_P(CudaWaves, PointsOutsideTheBoxHaveNoDensity) {
    const double x[] = {2, -1, 0.9, -1, 2, NAN, 2 + 2 * pi, -1};
    for (const bool periodic : {false, true}) {
        const Model model = model_of({periodic, 2, 3});
        const auto found = log_density(context(), model, 4, x),
                   cpu = log_density(cases::cpu_context(), model, 4, x);
        for (size_t n = 0; n < 4; ++n) EXPECT_EQ(std::isfinite(found[n]), std::isfinite(cpu[n])) << n;
        EXPECT_TRUE(std::isfinite(found[0]));
        EXPECT_EQ(std::isfinite(found[1]), periodic);
        EXPECT_EQ(found[2], -INFINITY);
    }
}

// Chunks --------------------------------------------------------------------------------------------------

TEST_P(CudaWaves, TheSameBytesHoweverTheSequenceIsDivided) {
    std::vector<Model> models;
    for (const bool periodic : {false, true}) models.push_back(model_of({periodic, 2, 5}));
    for (const Model& model : models)
        for (const Method method : {Method::sde, Method::ode}) {
            const Samples whole = cases::in_parts(context(), model, options_of(method), {300}),
                          parts = cases::in_parts(context(), model, options_of(method), {37, 64, 1, 198});
            const Context little = cases::device_context(50'000); // a few tiles at a time
            const Samples chunks = cases::in_parts(little, model, options_of(method), {300});
            EXPECT_TRUE(cases::same_bytes(whole.rows, parts.rows));
            EXPECT_TRUE(cases::same_bytes(whole.log_density, parts.log_density));
            EXPECT_TRUE(cases::same_bytes(whole.rows, chunks.rows));
            EXPECT_TRUE(cases::same_bytes(whole.log_density, chunks.log_density));
            EXPECT_LE(little.device_state().memory_peak(), 50'000u);
        }
}

TEST_P(CudaWaves, LittleMemoryGivesTheSameMoments) {
    const size_t rows = cases::sample_counts().back();
    const Array<double> u = cases::points(rows, 2, 3, 2);
    const WaveBasis basis = make_wave_basis(false, 2, 5);
    const Context little = cases::device_context(1'500'000);
    EXPECT_TRUE(cases::same_bytes(moments_of(context(), basis, u), moments_of(little, basis, u)));
    cases::expect_error(
        ErrorKind::io, [&] { moments_of(cases::device_context(100'000), basis, u); }, "device memory");
}

TEST(CudaWavesMemory, AnInterruptStopsThem) {
    const std::atomic<int> signal{15};
    ContextOptions options;
    options.interrupt_signal = &signal, options.device = Device::cuda;
    const Context context(options);
    const Model model = model_of(all_cases[1]);
    for (const Method method : {Method::ode, Method::sde})
        EXPECT_THROW(sample(context, model, 100, options_of(method)), Interrupted);
    const double x[] = {2, -1};
    EXPECT_THROW(log_density(context, model, 1, x), Interrupted);
    EXPECT_THROW(moments_of(context, make_wave_basis(false, 2, 5), cases::points(31, 2, 3, 2)), Interrupted);
    EXPECT_EQ(context.device_state().memory_in_use(), 0u);
}

} // namespace
} // namespace dynkin

// trajectories.h - the samplers of a block in float64, particle by particle of a tile, with what rounding in
// a smaller type may add up to: the oracle of both backends. It shares the score field in float64
// (test_score.cpp has its own oracle) and the tables' entries with the engine, and no loop.
#pragma once
#include "engine/reach.h"
#include "engine/sampler.h"
#include "engine/score.h"
#include "kernels/philox.h"
#include "score_cases.h"

namespace dynkin::oracle {

using kernels::kScoreTile;

enum class Path { sde, ode, forwards }; ///< forwards: of log_density()

/// A tile on its way: z[site][particle] and log q, less the stationary law's and the scales' parts.
struct TileState {
    Array<double> z;
    std::vector<double> log_q = std::vector<double>(kScoreTile, 0.0);
};

/// T: the type whose rounding the tolerances are for. Particles 0 to 63. The model's standardisation is the
/// identity.
template <class T> class Trajectory {
  public:
    Trajectory(const Model& model, Path path, int steps, std::uint64_t seed, Against against = Against::exact)
        : block_(model.blocks.front()), path_(path), seed_(seed), against_(against),
          field_(Context({.device = Device::cpu, .threads = 1}), block_), times_(block_.step_times(steps)),
          scratch_(field_.scratch()) {
        for (double t : times_) {
            plain_.push_back(coefficients_at(block_, t));
            coefficients_.push_back(field_.arrange(plain_.back()));
        }
        if (path == Path::sde && fitted()) make_tables();
    }

    TileState end;                     ///< where the tile arrives
    Array<double> tolerance;           ///< of z, [site][particle]
    std::vector<double> log_tolerance; ///< of log q

    /// Follows a tile from z and adds up, over steps and coordinates, the error of one step times how much of
    /// it arrives: a displacement of 1e-6 followed to the end. Twice that, for terms of second order.
    void run(const Array<double>& z) {
        const size_t steps = times_.size() - 1, sites = z.rows();
        tolerance = Array<double>(sites, kScoreTile), log_tolerance.assign(kScoreTile, 0.0);
        TileState state{z};
        std::vector<TileState> before;
        for (size_t k = 0; k < steps; ++k) before.push_back(state), step(k, state, nullptr);
        end = state;
        for (size_t k = 0; k < steps; ++k) {
            TileState error{Array<double>(sites, kScoreTile)}, copy = before[k];
            step(k, copy, &error);
            for (size_t j = 0; j < sites; ++j) add_arrival(k + 1, copy, error, j);
            for (size_t p = 0; p < kScoreTile; ++p) log_tolerance[p] += 2 * error.log_q[p];
        }
    }

  private:
    bool fitted() const { return block_.reference.families.front().kind == ReferenceKind::fitted; }

    void add_arrival(size_t k, const TileState& from, const TileState& error, size_t j) {
        const double shift = 1e-6;
        TileState moved = from, still = from;
        for (size_t p = 0; p < kScoreTile; ++p) moved.z(j, p) += shift;
        for (; k + 1 < times_.size(); ++k) step(k, moved, nullptr), step(k, still, nullptr);
        for (size_t p = 0; p < kScoreTile; ++p) {
            for (size_t i = 0; i < moved.z.rows(); ++i)
                tolerance(i, p) += 2 * std::abs(moved.z(i, p) - still.z(i, p)) / shift * error.z(j, p);
            log_tolerance[p] += 2 * std::abs(moved.log_q[p] - still.log_q[p]) / shift * error.z(j, p);
        }
    }

    /// grad h and Lap h; their bounds (those of test_score.cpp) times dt are added to the error.
    void gradient(size_t k, const Array<double>& z, double dt, Array<double>& g, double* laplacian,
                  TileState* error) {
        field_.gradient(coefficients_[k], z.data(), g.data(), laplacian, scratch_.data());
        if (!error) return;
        Array<double> rows(kScoreTile, z.rows());
        for (size_t p = 0; p < kScoreTile; ++p)
            for (size_t i = 0; i < z.rows(); ++i) rows(p, i) = z(i, p);
        const Naive<T> naive(block_.reference, block_.basis, plain_[k], rows, against_);
        for (size_t p = 0; p < kScoreTile; ++p) {
            if (laplacian) error->log_q[p] += dt * naive.laplacian_bound[p];
            for (size_t i = 0; i < z.rows(); ++i)
                error->z(i, p) += dt * naive.gradient_bound(p, i) +
                                  4 * tolerance::unit<T> * (std::abs(z(i, p)) + dt * std::abs(g(i, p)));
        }
    }

    void step(size_t index, TileState& state, TileState* error) {
        const size_t last = times_.size() - 1;
        const size_t from = path_ == Path::forwards ? index : last - index;
        const size_t to = path_ == Path::forwards ? index + 1 : from - 1;
        if (path_ == Path::sde) return strang(from, state, error);
        const double dt = std::abs(times_[to] - times_[from]), signed_dt = to < from ? dt : -dt;
        Array<double> g1(state.z.rows(), kScoreTile), g2 = g1, trial = state.z;
        double lap1[kScoreTile], lap2[kScoreTile];
        gradient(from, state.z, dt / 2, g1, lap1, error);
        for (size_t i = 0; i < trial.size(); ++i) trial[i] += signed_dt * g1[i];
        gradient(to, trial, dt / 2, g2, lap2, error);
        for (size_t i = 0; i < trial.size(); ++i) state.z[i] += signed_dt / 2 * (g1[i] + g2[i]);
        for (size_t p = 0; p < kScoreTile; ++p) state.log_q[p] -= dt / 2 * (lap1[p] + lap2[p]);
    }

    void strang(size_t k, TileState& state, TileState* error) {
        const double dt = times_[k] - times_[k - 1];
        Array<double> g(state.z.rows(), kScoreTile);
        gradient(k, state.z, dt, g, nullptr, error);
        for (size_t i = 0; i < g.size(); ++i) state.z[i] += dt * g[i];
        for (size_t j = 0; j < g.rows(); ++j)
            for (size_t p = 0; p < kScoreTile; ++p) {
                const RandomWords w = philox(seed_, Stream::sampler_noise, p, static_cast<std::uint32_t>(k),
                                             static_cast<std::uint32_t>(j / 4));
                double rounding = 0;
                state.z(j, p) = fitted() ? table(k, j, state.z(j, p), uniform_float(w.v[j % 4]), rounding)
                                         : ou(dt, state.z(j, p), w, j % 4, rounding);
                if (error) error->z(j, p) += rounding;
            }
        gradient(k - 1, state.z, dt, g, nullptr, error);
        for (size_t i = 0; i < g.size(); ++i) state.z[i] += dt * g[i];
        for (size_t j = 0; j < g.rows(); ++j)
            for (size_t p = 0; p < kScoreTile; ++p) {
                const Reach reach = noised_reach(block_, j, times_[k - 1]);
                state.z(j, p) = std::clamp(state.z(j, p), reach.lower, reach.upper);
            }
    }

    static double ou(double dt, double z, const RandomWords& w, size_t k, double& rounding) {
        double pair[2];
        normal_pair(w.v[k / 2 * 2], w.v[k / 2 * 2 + 1], pair[0], pair[1]);
        const double decay = std::exp(-dt), noise = std::sqrt(-std::expm1(-2 * dt));
        rounding = 4 * tolerance::unit<T> * (decay * std::abs(z) + noise * std::abs(pair[k % 2]));
        return decay * z + noise * pair[k % 2];
    }

    /// Bilinear; the rounding of a position among n columns or rows is 4 n units.
    double table(size_t k, size_t site, double z, double u, double& rounding) const {
        constexpr int rows = TransitionTables::rows, columns = TransitionTables::columns;
        const Family& f = block_.reference.of(static_cast<int>(site));
        const float* values = tables_[k].row(static_cast<size_t>(block_.reference.family_of[site]));
        const double s = std::sqrt(std::min(u, 1 - u) / 2), a = (columns - 1) * (u < 0.5 ? s : 1 - s);
        const double p = std::clamp((z - f.lo) * (rows - 1) / (f.hi - f.lo), 0.0, rows - 1.0);
        const int column = std::min(static_cast<int>(a), columns - 2),
                  row = std::min(static_cast<int>(p), rows - 2);
        const double fa = a - column, fp = p - row;
        const auto at = [&](int i, int j) {
            return static_cast<double>(values[(row + i) * columns + column + j]);
        };
        const double low = at(0, 0) + fa * (at(0, 1) - at(0, 0)),
                     high = at(1, 0) + fa * (at(1, 1) - at(1, 0));
        const double slope = std::max(std::abs(at(0, 1) - at(0, 0)), std::abs(at(1, 1) - at(1, 0)));
        rounding = 4 * tolerance::unit<T> *
                   (columns * slope + rows * std::abs(high - low) + std::abs(low) + std::abs(high));
        return low + fp * (high - low);
    }

    void make_tables() {
        const auto& families = block_.reference.families;
        for (size_t k = 0; k < times_.size(); ++k) {
            tables_.emplace_back(families.size(),
                                 static_cast<size_t>(TransitionTables::rows * TransitionTables::columns));
            for (size_t f = 0; f < families.size() && k > 0; ++f)
                TransitionTables(families[f]).quantiles(times_[k] - times_[k - 1], tables_[k].row(f));
        }
    }

    const Block& block_;
    Path path_;
    std::uint64_t seed_;
    Against against_;
    ScoreField<double> field_;
    std::vector<double> times_;
    std::vector<std::vector<double>> plain_;
    std::vector<kernels::ScoreCoefficients<double>> coefficients_;
    std::vector<Array<float>> tables_; ///< per time
    Array<double> scratch_;
};

} // namespace dynkin::oracle

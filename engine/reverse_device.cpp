// reverse_device.cpp - scores of a nonlinear model and its reversed process on the device, whose particles
// pass in chunks, all steps of a chunk before the next.
#include "device_drift.h"
#include "error.h"
#include "progress.h"
#include <algorithm>
#include <span>

namespace dynkin {

using std::size_t;

namespace {

constexpr size_t most_particles = size_t{1} << 18; ///< of a chunk; no result depends on it

/// Some scores, one after another: coefficients, lower, upper, offset, precision of each.
class DeviceScores {
  public:
    DeviceScores(DeviceState& device, const std::vector<ScoreAt>& scores)
        : kind_(scores[0].kind), terms_(scores[0].coefficients.size()), d_(scores[0].lower.size()) {
        std::vector<double> numbers;
        const auto append = [&](const auto& list) {
            numbers.insert(numbers.end(), list.begin(), list.end());
        };
        for (const ScoreAt& at : scores)
            append(at.coefficients), append(at.lower), append(at.upper), append(at.offset),
                append(at.precision);
        numbers_ = to_device(device, std::span<const double>(numbers), "coefficients of the scores");
        stride_ = numbers.size() / scores.size();
    }
    ScoreAtView at(size_t k) const {
        const double* const own = numbers_.data() + k * stride_;
        return {kind_, own, own + terms_, own + terms_ + d_, own + terms_ + 2 * d_, own + terms_ + 3 * d_};
    }

  private:
    ReferenceScore kind_;
    size_t terms_, d_, stride_ = 0;
    DeviceArray<double> numbers_;
};

} // namespace

struct DeviceReverse::State {
    const Context& context;
    DeviceState& device;
    DeviceDrift drift;
    DeviceBasis basis;
    size_t d;

    State(const Context& where, const DriftProcess& process, const ScoreBasis& of)
        : context(where), device(where.device_state()), drift(device, process), basis(device, of),
          d(process.dimension()) {}
    ReverseModel model() const { return {basis.view(), drift.noise()}; }
    /// Particles of a chunk, of so many doubles.
    size_t chunk(size_t numbers, size_t count) const {
        const size_t rounding = 4096, left = device.memory_left();
        return std::clamp<size_t>((left - std::min(left, rounding)) / (numbers * sizeof(double)), 1,
                                  std::min(count, most_particles));
    }
    void walk(const std::vector<ReverseLeap>& leaps, const std::vector<DeviceScores>& scores,
              std::uint64_t seed, std::uint64_t first, size_t count, double* x, std::uint32_t* away) const;
};

DeviceReverse::DeviceReverse(const Context& context, const DriftProcess& process, const ScoreBasis& basis)
    : state_(std::make_unique<State>(context, process, basis)) {}
DeviceReverse::~DeviceReverse() = default;

void DeviceReverse::scores(const ScoreAt& at, size_t count, const double* x, double* score) const {
    if (count == 0) return;
    const State& s = *state_;
    const DeviceStream stream = s.device.compute_stream();
    const DeviceScores numbers(s.device, {at});
    const size_t r = s.basis.driven(), chunk = s.chunk(s.d + r, count);
    DeviceArray<double> points(s.device, chunk * s.d, "points"), out(s.device, chunk * r, "scores");
    for (size_t first = 0; first < count; first += chunk) {
        const size_t used = std::min(chunk, count - first);
        points.upload(stream, {x + first * s.d, used * s.d});
        cuda::model_scores(stream, s.drift.law(), s.model(), numbers.at(0), used, points.data(), out.data());
        out.download(stream, {score + first * r, used * r});
        cuda::synchronize(stream);
    }
}

/// All steps of a chunk of particles.
void DeviceReverse::State::walk(const std::vector<ReverseLeap>& leaps,
                                const std::vector<DeviceScores>& scores, std::uint64_t seed,
                                std::uint64_t first, size_t count, double* x, std::uint32_t* away) const {
    const DeviceStream stream = device.compute_stream();
    cuda::fill_zero(stream, away, count * sizeof(std::uint32_t));
    std::uint32_t step = 0;
    for (size_t k = 0; k < leaps.size(); ++k) {
        for (int s = 0; s < leaps[k].count; ++s, ++step)
            cuda::reverse_steps(stream, drift.law(), model(), scores[k].at(static_cast<size_t>(s)),
                                scores[k].at(static_cast<size_t>(s) + 1), {seed, first, step, leaps[k].h},
                                count, x, away);
        if (const int signal = context.interrupt_signal()) {
            cuda::synchronize(stream);
            throw Interrupted(signal);
        }
    }
}

ReverseReport DeviceReverse::run(const std::vector<ReverseLeap>& leaps,
                                 const std::function<ScoreAt(double)>& score_at, std::uint64_t seed,
                                 size_t first, Array<double>& rows) const {
    const State& s = *state_;
    const DeviceStream stream = s.device.compute_stream();
    std::vector<DeviceScores> scores;
    ReverseReport report;
    for (const ReverseLeap& leap : leaps) {
        std::vector<ScoreAt> at;
        for (int k = 0; k <= leap.count; ++k) at.push_back(score_at(leap.time(k)));
        scores.emplace_back(s.device, at);
        report.steps += static_cast<size_t>(leap.count);
    }
    if (rows.rows() == 0) return report;
    const size_t chunk = s.chunk(s.d + 1, rows.rows());
    DeviceArray<double> x(s.device, chunk * s.d, "particles");
    DeviceArray<std::uint32_t> away(s.device, chunk, "particles");
    std::vector<std::uint32_t> away_here(chunk);
    for (size_t from = 0; from < rows.rows(); from += chunk) {
        const size_t used = std::min(chunk, rows.rows() - from);
        x.upload(stream, {rows.row(from), used * s.d});
        s.walk(leaps, scores, seed, first + from, used, x.data(), away.data());
        x.download(stream, {rows.row(from), used * s.d});
        away.download(stream, std::span(away_here).first(used));
        cuda::synchronize(stream);
        for (size_t n = 0; n < used; ++n) report.runaways += away_here[n];
    }
    return report;
}

} // namespace dynkin

// fit_waves.cpp - fit() in a box or on a torus: where the walls are, moments of products of waves, one linear
// system per time node.
#include "circle.h"
#include "fitter.h"
#include "parallel.h"
#include "solve.h"
#include "waves.h"
#include <algorithm>
#include <cblas.h>
#include <chrono>
#include <cmath>
#include <fmt/core.h>
#include <numbers>

namespace dynkin {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Given for every column of the file, or one number for all of them; of the modelled columns.
std::vector<double> of_columns(const std::vector<double>& given, const DataView& view) {
    require(given.size() == 1 || given.size() == view.columns, ErrorKind::usage,
            fmt::format("fit: expected one box or one for each of {} columns, got {}", view.columns,
                        given.size()));
    std::vector<double> out;
    for (int column : view.kept) out.push_back(given[given.size() == 1 ? 0 : static_cast<size_t>(column)]);
    return out;
}

/// The frequencies that N >= 2e4 rows support; a torus has twice as many functions of each.
int default_radius(bool periodic, int dimension) {
    const int radius = dimension == 1 ? 64 : dimension == 2 ? 32 : 12;
    return periodic ? radius / 2 : radius;
}

double default_ridge(size_t rows) { return rows >= 20'000 ? 1e-5 : rows >= 5'000 ? 1e-3 : 1e-2; }

} // namespace

/// Clusters of sines and cosines, at most so many frequencies.
void Fitter::use_circles() {
    constexpr int most = kernels::kMaxDegree / 2;
    const int frequencies = options_.degree ? options_.degree : options_.lattice ? 4 : 3;
    require(frequencies <= most, ErrorKind::usage,
            fmt::format("fit: expected frequencies up to {} on a torus, got --degree {}", most, frequencies));
    require(options_.total_degree == 0, ErrorKind::usage, "fit: --total-degree goes with no torus");
    block().basis.degree = 2 * frequencies;
    block().reference.families = {circle_family(4 * frequencies)};
    report_.lambda_1 = 1;
    report_.reference = "torus, sines and cosines";
}

/// Correlations of cosines and sines in the place of those of the angles: the largest of the four.
void Fitter::measure_angles() {
    constexpr size_t tile = 256;
    const size_t d = static_cast<size_t>(model_.dimension()), n = 2 * d;
    // Every stride-th tile: enough rows for a correlation.
    const size_t wanted = std::clamp(2'000'000'000 / (n * n), size_t{4096}, size_t{100'000});
    const size_t stride = (rows() + wanted - 1) / wanted * tile;
    Array<double> u(tile, d), f(tile, n), cross(n, n);
    std::vector<double> sum(n);
    double total = 0;
    for (size_t first = 0; first < rows(); first += stride) {
        const size_t count = std::min(tile, rows() - first);
        model_.view.read(data_, first, count, u.data());
        for (size_t k = 0; k < count * d; ++k) {
            const size_t row = k / d, j = k % d;
            const double angle = (u[k] - model_.standardization.mean[j]) / model_.standardization.scale[j];
            sum[j] += f(row, j) = std::cos(angle), sum[d + j] += f(row, d + j) = std::sin(angle);
        }
        const int size = static_cast<int>(n);
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, size, size, static_cast<int>(count), 1, f.data(),
                    size, f.data(), size, 1, cross.data(), size);
        total += static_cast<double>(count);
    }
    const auto covariance = [&](size_t a, size_t b) {
        return cross(a, b) / total - sum[a] / total * (sum[b] / total);
    };
    marginal_.square_correlation = Array<double>(d, d);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j) {
            double& largest = marginal_.correlation(i, j) = 0;
            for (const size_t a : {i, d + i})
                for (const size_t b : {j, d + j}) {
                    const double scale = covariance(a, a) * covariance(b, b);
                    if (scale > 1e-24)
                        largest = std::max(largest, std::abs(covariance(a, b)) / std::sqrt(scale));
                }
        }
}

bool Fitter::has_walls() const {
    return options_.process && (std::holds_alternative<BoxProcess>(*options_.process) ||
                                std::holds_alternative<TorusProcess>(*options_.process));
}

/// The box of the process, resolved, and u = (x - mean)/scale on [0, pi] (torus: [0, 2 pi)).
void Fitter::choose_box() {
    std::vector<double> lower, upper;
    double turns = 1;
    if (const auto* box = std::get_if<BoxProcess>(&*options_.process)) {
        require(box->margin >= 0 && box->margin <= 10, ErrorKind::usage,
                fmt::format("fit: expected a margin from 0 to 10, got {}", box->margin));
        lower = box->lower, upper = box->upper;
        if (lower.empty()) {
            for (size_t j = 0; j < columns_.min.size(); ++j) {
                const double margin = box->margin * (columns_.max[j] - columns_.min[j]);
                lower.push_back(columns_.min[j] - margin), upper.push_back(columns_.max[j] + margin);
            }
        } else
            lower = of_columns(lower, model_.view), upper = of_columns(upper, model_.view);
        model_.process = BoxProcess{lower, upper, box->margin};
    } else {
        const auto& torus = std::get<TorusProcess>(*options_.process);
        lower = torus.lower, upper = torus.upper, turns = 2;
        if (lower.empty()) { // angles: from 0, or from -pi when there are negative ones
            for (double least : columns_.min) {
                lower.push_back(least < 0 ? -std::numbers::pi : 0);
                upper.push_back(lower.back() + 2 * std::numbers::pi);
            }
        } else
            lower = of_columns(lower, model_.view), upper = of_columns(upper, model_.view);
        model_.process = TorusProcess{lower, upper};
    }
    model_.standardization.mean = lower, model_.standardization.scale.clear();
    for (size_t j = 0; j < lower.size(); ++j) {
        require(std::isfinite(lower[j]) && std::isfinite(upper[j]) && lower[j] < upper[j], ErrorKind::usage,
                fmt::format("fit: expected lower < upper for the box of column {}, got {} and {}",
                            model_.view.kept[j], lower[j], upper[j]));
        if (columns_.min[j] < lower[j] || columns_.max[j] > upper[j])
            reject(fmt::format("column {} has values from {:g} to {:g}, expected all of them within the {} "
                               "[{:g}, {:g}]",
                               model_.view.kept[j], columns_.min[j], columns_.max[j],
                               turns == 2 ? "period" : "box", lower[j], upper[j]));
        model_.standardization.scale.push_back((upper[j] - lower[j]) / (turns * std::numbers::pi));
    }
}

void Fitter::fit_waves() {
    WaveBlock& b = model_.waves.emplace();
    b.periodic = std::holds_alternative<TorusProcess>(model_.process);
    b.dimension = model_.dimension();
    b.radius = options_.radius ? options_.radius : default_radius(b.periodic, b.dimension);
    b.t_min = options_.t_min >= 0 ? options_.t_min : 1e-4;
    b.t_end = options_.t_end > 0 ? options_.t_end : 5;
    b.t0 = 0.003;
    require(b.t_min < b.t_end, ErrorKind::usage,
            fmt::format("times: expected t_min < t_end, got {} and {}", b.t_min, b.t_end));
    const int nodes = options_.time_nodes ? options_.time_nodes : 96;
    require(nodes >= 1 && nodes <= 1024, ErrorKind::usage,
            fmt::format("time nodes: expected 1 to 1024, got {}", nodes));
    b.node_time = b.step_times(nodes);
    model_.default_steps = 96;
    const WaveBasis basis = make_wave_basis(b.periodic, b.dimension, b.radius);
    report_.basis_size = basis.size();
    report_.lambda_1 = 1, report_.heldout_loss = NAN;
    report_.symmetry_reason = "not used", report_.structure_reason = "one joint basis";
    report_.reference =
        fmt::format("{}, frequencies up to {}",
                    b.periodic ? "torus, sines and cosines" : "reflecting box, cosines", b.radius);
    solve_waves(basis);
}

void Fitter::solve_waves(const WaveBasis& basis) {
    Array<double> moments;
    size_t products = 1;
    for (int j = 0; j < basis.dimension; ++j) products *= static_cast<size_t>(basis.width());
    pass_over_moments(products, static_cast<double>(products),
                      [&](const SampleSource& source, const MomentOptions& options) {
                          moments = wave_moments(context_, basis, source, options, sums_);
                      });
    const auto start = Clock::now();
    WaveBlock& block = *model_.waves;
    const WaveSystem system(basis);
    const size_t n = basis.size(), nodes = block.node_time.size();
    report_.ridge = options_.ridge >= 0 ? options_.ridge : default_ridge(rows());
    block.coefficients = Array<double>(nodes, n);
    std::vector<SolveStatus> status;
    if (saved_ && saved_->tensors.contains("status")) status = restore_waves();
    const auto state = [&] { return wave_state(status); };
    guard(context_, checkpoint_, state, [&](const auto& between) {
        system.solve(context_, moments, block.node_time, report_.ridge, status, block.coefficients, between);
    });
    for (size_t m = 0; m < nodes; ++m) {
        if (!status[m].solved)
            throw Error(ErrorKind::numerical,
                        fmt::format("fit: the system at t = {:g} has no solution even with ridge {:g}",
                                    block.node_time[m], status[m].ridge));
        report_.ridges_raised += status[m].raised > 0;
        report_.condition = std::max(report_.condition, status[m].condition);
    }
    report_.solve_seconds = seconds_since(start);
}

/// Moments, and what is solved so far.
TensorFile Fitter::wave_state(const std::vector<SolveStatus>& status) const {
    const Array<double>& c = model_.waves->coefficients;
    TensorFile state = moment_state();
    std::vector<double> numbers;
    for (const SolveStatus& s : status)
        numbers.insert(numbers.end(),
                       {s.ridge, static_cast<double>(s.raised), s.condition, s.solved ? 1.0 : 0.0});
    state.put("status", std::move(numbers));
    state.put("coefficients", std::vector<double>(c.data(), c.data() + status.size() * c.cols()));
    return state;
}

std::vector<SolveStatus> Fitter::restore_waves() {
    Array<double>& c = model_.waves->coefficients;
    const std::vector<double>& numbers = saved_->f64("status");
    std::vector<SolveStatus> status;
    for (size_t k = 0; k + 4 <= std::min(numbers.size(), 4 * c.rows()); k += 4)
        status.push_back({numbers[k], static_cast<int>(numbers[k + 1]), numbers[k + 2], numbers[k + 3] > 0});
    const std::vector<double>& solved = saved_->f64("coefficients", status.size() * c.cols());
    std::copy(solved.begin(), solved.end(), c.begin());
    return status;
}

} // namespace dynkin

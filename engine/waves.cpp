#include "waves.h"
#include "../kernels/device.h"
#include "error.h"
#include "parallel.h"
#include "solve.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <fmt/core.h>
#include <numbers>

namespace dynkin {

using std::size_t;

namespace {

constexpr size_t kMostFunctions = 6'000, kMostMoments = size_t{1} << 24;
constexpr size_t kRows = 256; ///< of one matrix product

int frequency(bool periodic, int function) { return periodic ? (function + 1) / 2 : function; }
int functions_up_to(bool periodic, int radius) { return periodic ? 2 * radius + 1 : radius + 1; }

/// f_0 .. f_{width-1} at u.
void waves_at(bool periodic, size_t width, double u, double* f) {
    f[0] = 1;
    kernels::each_wave(periodic, static_cast<int>(width), u, [f](int n, double value) { f[n] = value; });
}

/// Adds the sums of all products over `count` rows of u. `left`: products of all coordinates but the last;
/// `right`: functions of the last one.
void add_products(bool periodic, size_t dimension, size_t width, size_t count, const double* u, double* left,
                  double* right, double* sums) {
    size_t columns = 1;
    for (size_t j = 0; j + 1 < dimension; ++j) columns *= width;
    std::vector<double> f(width);
    for (size_t n = 0; n < count; ++n) {
        double* row = left + n * columns;
        row[0] = 1;
        size_t have = 1;
        for (size_t j = 0; j + 1 < dimension; ++j, have *= width) {
            waves_at(periodic, width, u[n * dimension + j], f.data());
            for (size_t k = have; k-- > 0;) // from the end: row[0 .. have) are still to be read
                for (size_t m = width; m-- > 0;) row[k * width + m] = row[k] * f[m];
        }
        waves_at(periodic, width, u[n * dimension + dimension - 1], right + n * width);
    }
    const int m = static_cast<int>(columns), w = static_cast<int>(width);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, w, static_cast<int>(count), 1, left, m, right, w,
                1, sums, w);
}

/// wave_moments() on the CPU. Parts of fixed rows, added in order: the threads do not show in the sums.
void sum_waves(const Context& context, const WaveBasis& basis, const SampleSource& source,
               const MomentOptions& options, MomentSums& total) {
    const size_t d = static_cast<size_t>(basis.dimension), width = static_cast<size_t>(basis.width()),
                 columns = total.train.size() / width, rows = source.rows;
    const size_t threads = static_cast<size_t>(context.threads()), part = 16 * kRows;
    Array<double> sums(threads, columns * width), left(threads, kRows * columns),
        right(threads, kRows * width), u(threads, part * d);
    Progress progress(context, "moments", rows);
    progress.set(total.next_row);
    while (total.next_row < rows) {
        const size_t first = total.next_row, parts = std::min(threads, (rows - first + part - 1) / part);
        parallel_for(context.threads(), parts, [&](size_t p, size_t) {
            const size_t at = first + p * part, count = std::min(part, rows - at);
            source.read(at, count, u.row(p));
            std::fill_n(sums.row(p), sums.cols(), 0.0);
            for (size_t n = 0; n < count; n += kRows)
                add_products(basis.periodic, d, width, std::min(kRows, count - n), u.row(p) + n * d,
                             left.row(p), right.row(p), sums.row(p));
        });
        for (size_t p = 0; p < parts; ++p)
            for (size_t k = 0; k < total.train.size(); ++k) total.train[k] += sums(p, k);
        total.next_row = total.train_rows = std::min(rows, first + parts * part);
        progress.set(total.next_row);
        if (options.after_batch) options.after_batch(total);
        if (progress.interrupted()) progress.throw_interrupted();
    }
}

} // namespace

std::vector<int> WaveBlock::indices() const {
    const WaveBasis basis = make_wave_basis(periodic, dimension, radius);
    return {basis.indices.begin() + dimension, basis.indices.end()};
}

int WaveBasis::width() const { return functions_up_to(periodic, 2 * radius); }

WaveBasis make_wave_basis(bool periodic, int dimension, int radius) {
    require(dimension >= 1 && dimension <= kernels::kMaxWaveDimension && radius >= 1 && radius <= 1024,
            ErrorKind::usage,
            fmt::format("waves: expected 1 to {} coordinates and frequencies from 1 to 1024, got {} and {}",
                        kernels::kMaxWaveDimension, dimension, radius));
    WaveBasis basis{periodic, dimension, radius, functions_up_to(periodic, radius), {}, {}, {}};
    std::vector<int> k(static_cast<size_t>(dimension), 0);
    for (;;) {
        double lambda = 0, square = 1;
        for (int n : k) {
            const int m = frequency(periodic, n);
            lambda += m * m, square *= n ? 0.5 : 1;
        }
        if (lambda <= static_cast<double>(radius) * radius) {
            basis.indices.insert(basis.indices.end(), k.begin(), k.end());
            basis.lambda.push_back(lambda), basis.square.push_back(square);
            require(basis.size() <= kMostFunctions, ErrorKind::usage,
                    fmt::format("waves: frequencies up to {} in {} coordinates are more than {} functions",
                                radius, dimension, kMostFunctions));
        }
        size_t j = k.size();
        while (j > 0 && ++k[j - 1] == basis.functions) k[--j] = 0;
        if (j == 0) return basis;
    }
}

Array<double> wave_moments(const Context& context, const WaveBasis& basis, const SampleSource& source,
                           const MomentOptions& options, MomentSums& sums) {
    const size_t d = static_cast<size_t>(basis.dimension), width = static_cast<size_t>(basis.width());
    size_t columns = 1;
    for (size_t j = 0; j + 1 < d; ++j) columns *= width;
    require(
        columns * width <= kMostMoments, ErrorKind::usage,
        fmt::format("waves: {} moments are too many, expected at most {}", columns * width, kMostMoments));
    if (sums.train.empty()) sums.train.assign(columns * width, 0), sums.test.assign(columns * width, 0);
    require(sums.train.size() == columns * width, ErrorKind::usage,
            "waves: the sums belong to another basis");
    bool done = false;
    if constexpr (built_with_cuda)
        if ((done = context.device() == Device::cuda))
            wave_moments_on_device(context, basis, source, options, sums);
    if (!done) sum_waves(context, basis, source, options, sums);
    const std::vector<double> means = moment_averages(sums, Subset::all);
    Array<double> out(columns, width);
    std::copy(means.begin(), means.end(), out.begin());
    return out;
}

WaveSystem::WaveSystem(const WaveBasis& basis) : basis_(basis), width_(static_cast<size_t>(basis.width())) {
    for (int a = 0; a < basis.functions; ++a)
        for (int b = 0; b < basis.functions; ++b) products_.push_back(product(a, b));
    const size_t d = static_cast<size_t>(basis.dimension);
    for (size_t k = 0; k <= basis.size(); ++k) {
        size_t place = 0;
        for (size_t j = 0; j < d; ++j) place = place * width_ + static_cast<size_t>(basis.indices[k * d + j]);
        place_.push_back(place);
    }
}

kernels::WaveProduct WaveSystem::product(int a, int b) const {
    const int m = frequency(basis_.periodic, a), n = frequency(basis_.periodic, b);
    const bool sine_a = basis_.periodic && a > 0 && a % 2 == 0,
               sine_b = basis_.periodic && b > 0 && b % 2 == 0;
    const double half = 0.5 * m * n, sign = n > m ? 1 : n < m ? -1 : 0; // of sin((n - m) u)
    const auto number = [&](int multiple, bool sine) {
        return !basis_.periodic ? multiple : multiple == 0 ? 0 : 2 * multiple - (sine ? 0 : 1);
    };
    const bool sine = sine_a != sine_b;
    kernels::WaveProduct p{{number(std::abs(m - n), sine), number(m + n, sine)}, {}, {}};
    if (!sine_a && !sine_b) // cos cos; slopes m n sin sin
        p.product[0] = 0.5, p.product[1] = 0.5, p.slope[0] = half, p.slope[1] = -half;
    else if (sine_a && sine_b)
        p.product[0] = 0.5, p.product[1] = -0.5, p.slope[0] = half, p.slope[1] = half;
    else {
        const double s = sine_b ? sign : -sign; // of the sine's frequency less the cosine's
        p.product[0] = 0.5 * s, p.product[1] = 0.5, p.slope[0] = half * s, p.slope[1] = -half;
    }
    return p;
}

std::vector<double> WaveSystem::scaling() const {
    std::vector<double> d(basis_.size());
    for (size_t k = 0; k < d.size(); ++k) d[k] = basis_.lambda[k + 1] * basis_.square[k + 1];
    return d;
}

std::vector<double> WaveSystem::decays(double t) const {
    std::vector<double> decay(width_);
    for (size_t n = 0; n < width_; ++n) {
        const double m = frequency(basis_.periodic, static_cast<int>(n));
        decay[n] = std::exp(-m * m * t);
    }
    return decay;
}

Array<double> WaveSystem::noised(const Array<double>& moments, double t) const {
    Array<double> out = moments;
    const std::vector<double> decay = decays(t);
    for (size_t k = 0; k < out.size(); ++k)
        for (size_t rest = k, j = 0; j < static_cast<size_t>(basis_.dimension); ++j, rest /= width_)
            out[k] *= decay[rest % width_];
    return out;
}

std::vector<double> WaveSystem::right_side(const Array<double>& noised) const {
    std::vector<double> b(basis_.size());
    for (size_t k = 0; k < b.size(); ++k) b[k] = basis_.lambda[k + 1] * noised[place_[k + 1]];
    return b;
}

template <int DIMENSION> void WaveSystem::fill(const Array<double>& noised, Array<double>& a) const {
    const auto moment = [&](const int(&index)[DIMENSION]) {
        size_t place = 0;
        for (int j = 0; j < DIMENSION; ++j) place = place * width_ + static_cast<size_t>(index[j]);
        return noised[place];
    };
    const int* indices = basis_.indices.data() + DIMENSION; // k = 0 is not among the terms
    for (size_t k = 0; k < basis_.size(); ++k)
        for (size_t l = 0; l <= k; ++l)
            a(k, l) = kernels::wave_entry<DIMENSION>(
                products_.data(), basis_.functions, indices + k * DIMENSION, indices + l * DIMENSION, moment);
}

void WaveSystem::assemble(const Array<double>& noised, Array<double>& a, std::vector<double>& b) const {
    b = right_side(noised);
    if (basis_.dimension == 1)
        fill<1>(noised, a);
    else if (basis_.dimension == 2)
        fill<2>(noised, a);
    else
        fill<3>(noised, a);
}

void WaveSystem::solve(const Context& context, const Array<double>& moments, std::span<const double> times,
                       double ridge, std::vector<SolveStatus>& status, Array<double>& coefficients,
                       const std::function<void()>& between) const {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda) {
            solve_on_device(context, moments, times, ridge, status, coefficients);
            if (between) between();
            return;
        }
    const std::vector<double> lambda = scaling();
    const size_t threads = std::min(static_cast<size_t>(context.threads()), times.size());
    std::vector<Array<double>> matrices(threads);
    Progress progress(context, "solve", times.size());
    progress.set(status.size());
    while (status.size() < times.size()) {
        const size_t first = status.size(), count = std::min(threads, times.size() - first);
        std::vector<SolveStatus> found(count);
        parallel_for(static_cast<int>(threads), count, [&](size_t job, size_t) {
            Array<double>& a = matrices[job];
            if (a.size() == 0) a = Array<double>(basis_.size(), basis_.size());
            std::vector<double> b, c;
            assemble(noised(moments, times[first + job]), a, b);
            found[job] = solve_score_system(a, b, lambda, ridge, c);
            if (found[job].solved) std::copy(c.begin(), c.end(), coefficients.row(first + job));
        });
        status.insert(status.end(), found.begin(), found.end());
        progress.set(status.size());
        if (between) between();
        if (progress.interrupted()) progress.throw_interrupted();
    }
}

} // namespace dynkin

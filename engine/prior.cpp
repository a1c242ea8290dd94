// prior.cpp - scores of noisy rows. Rows are cut into chunks by their number alone, so that threads do not
// change results.
#include "prior.h"
#include "error.h"
#include "parallel.h"
#include "prior_device.h"
#include "prior_flat.h"
#include "prior_table.h"
#include "solve.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <fmt/core.h>
#include <mutex>
#include <numeric>
#include <optional>
#include <type_traits>

namespace dynkin {

using std::size_t;

namespace {

/// Beyond it moments of degree 2K and sigma^2 in float32 would lose their range.
constexpr double kLargest = 1e8;

void gemm(bool transpose_b, size_t m, size_t n, size_t k, double alpha, const double* a, size_t lda,
          const double* b, size_t ldb, double beta, double* c, size_t ldc) {
    cblas_dgemm(CblasRowMajor, CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(m),
                static_cast<int>(n), static_cast<int>(k), alpha, a, static_cast<int>(lda), b,
                static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}
void gemm(bool transpose_b, size_t m, size_t n, size_t k, float alpha, const float* a, size_t lda,
          const float* b, size_t ldb, float beta, float* c, size_t ldc) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(m),
                static_cast<int>(n), static_cast<int>(k), alpha, a, static_cast<int>(lda), b,
                static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}

NoiseLevel level_of(double sigma, NoiseConvention convention, double largest) {
    const bool vp = convention == NoiseConvention::vp;
    NoiseLevel level{sigma, vp ? std::sqrt((1 - sigma) * (1 + sigma)) : 1};
    level.sigma = sigma / level.alpha;
    if (!(sigma > 0 && level.sigma <= largest)) // NaN as well
        throw Error(ErrorKind::usage, fmt::format("prior: expected sigma in (0, {:g}{}, got {:g}",
                                                  vp ? largest / std::sqrt(1 + largest * largest) : largest,
                                                  vp && largest >= kLargest ? ")" : "]", sigma));
    return level;
}

/// Rows of a chunk of a batch.
size_t chunk_rows(size_t count) { return std::clamp<size_t>(count / 8, 64, 256); }

} // namespace

kernels::HermiteTables hermite_tables(int degree) {
    kernels::HermiteTables t;
    t.degree = degree;
    const ProductTables tables = product_tables(hermite_family(2 * degree), degree);
    int q = 0, entry = 0;
    for (int k = 1; k <= degree; ++k)
        for (int l = 1; l <= k; ++l) {
            t.first[q++] = entry;
            for (int r = k - l; r <= k + l - 2; r += 2)
                t.r[entry] = r, t.gradient[entry++] = tables.gradient(k, l, r);
        }
    t.first[q] = entry;
    const Array<double> hermite = hermite_polynomials(degree);
    for (int n = 0; n < degree; ++n) // phi_{n+1}' = sqrt(n + 1) phi_n
        for (int i = 0; i <= n; ++i)
            t.slope[n][i] = std::sqrt(n + 1.0) * hermite(static_cast<size_t>(n), static_cast<size_t>(i));
    return t;
}

double Prior::largest_noise() const {
    if (const auto* flat = std::get_if<FlatPrior>(&law))
        return std::min(kLargest, flat->scale * std::sqrt(std::expm1(2 * flat->grid.t_end)));
    return kLargest;
}

template <class T> struct PriorScore<T>::State {
    Context context;
    const Prior& prior;
    const kernels::PriorKernels<T>& kernels;
    size_t d, padded;
    kernels::HermiteTables tables;
    std::optional<PaddedMarginals> product;
    mutable std::once_flag tabulated; ///< at the first batch of float32 with a sigma a row
    mutable std::unique_ptr<const PriorTable> table;
    Array<T> vectors; ///< gaussian
    std::optional<FlatNodes> flat;
    Array<T> matrices;                      ///< flat: of the pairs, one after the other
    std::shared_ptr<DevicePrior<T>> device; ///< null: scores on the CPU (builds without CUDA have no deleter)

    State(const Context& where, const Prior& of)
        : context(where), prior(of), kernels(kernels::prior_kernels<T>(where.isa())), d(of.dimension()),
          padded(prior_padded(d)), tables(hermite_tables(of.options.degree)) {
        use_sequential_blas(); // parallelism is over rows
        if constexpr (built_with_cuda)
            if (context.device() == Device::cuda) {
                device = std::make_shared<DevicePrior<T>>(context, prior);
                return;
            }
        std::visit([&](const auto& law) { prepare(law); }, prior.law);
    }

    void prepare(const ProductPrior& law) { product.emplace(law); }
    void prepare(const GaussianPrior& law) {
        vectors = Array<T>(d, d);
        std::transform(law.vectors.begin(), law.vectors.end(), vectors.begin(),
                       [](double v) { return static_cast<T>(v); });
    }
    void prepare(const FlatPrior& law) {
        flat.emplace(law);
        matrices = flat->matrices<T>();
    }

    kernels::MarginalView marginals() const { return product->view(); }
    void solve(const NoiseLevel& level, T* curves) const {
        kernels.solve(tables, marginals(), prior.options.ridge, level.sigma, level.alpha, curves);
    }
    void evaluate(const T* curves, size_t rows, const T* x, size_t x_stride, T* out,
                  size_t out_stride) const {
        kernels.evaluate(tables.degree, d, padded, curves, rows, x, x_stride, out, out_stride);
    }
    size_t curve_numbers() const { return static_cast<size_t>(tables.degree + 3) * padded; }

    void score(const ProductPrior&, const NoisyRows<T>& in, const NoiseLevels& levels, T* out,
               size_t out_stride) const;
    void score_each(const NoisyRows<T>& in, const NoiseLevels& levels, const std::vector<size_t>& rows,
                    T* out, size_t out_stride) const;
    std::vector<size_t> score_tabulated(const NoisyRows<float>& in, const NoiseLevels& levels, float* out,
                                        size_t out_stride) const;
    void score(const GaussianPrior& law, const NoisyRows<T>& in, const NoiseLevels& levels, T* out,
               size_t out_stride) const;
    void score(const FlatPrior& law, const NoisyRows<T>& in, const NoiseLevels& levels, T* out,
               size_t out_stride) const;
    void score_flat_each(const FlatPrior& law, const NoisyRows<T>& in, const NoiseLevels& levels, T* out,
                         size_t out_stride) const;
    void flat_curves(const NoiseLevel& level, const kernels::FlatPlace& place, T* curves) const {
        kernels.flat(tables, flat->view(), place, flat->spread(level), level.sigma, level.alpha, curves);
    }
    void reduce(const FlatPrior& law, const NoiseLevel& level, const T* x, T* y) const;
};

template <class T> void PriorScore<T>::State::score(const ProductPrior&, const NoisyRows<T>& in,
                                                    const NoiseLevels& levels, T* out,
                                                    size_t out_stride) const {
    if (levels.each) {
        std::vector<size_t> rows;
        if constexpr (std::is_same_v<T, float>)
            rows = score_tabulated(in, levels, out, out_stride);
        else
            rows.resize(in.count), std::iota(rows.begin(), rows.end(), size_t{0});
        return score_each(in, levels, rows, out, out_stride);
    }
    const size_t chunk = chunk_rows(in.count), jobs = (in.count + chunk - 1) / chunk;
    Array<T> curves(curve_numbers());
    solve(levels.of(0), curves.data());
    parallel_for(context.threads(), jobs, [&](size_t job, size_t) {
        const size_t first = job * chunk, last = std::min(in.count, first + chunk);
        evaluate(curves.data(), last - first, in.x + first * in.stride, in.stride, out + first * out_stride,
                 out_stride);
    });
}

/// By the equations of each row's level.
template <class T> void PriorScore<T>::State::score_each(const NoisyRows<T>& in, const NoiseLevels& levels,
                                                         const std::vector<size_t>& rows, T* out,
                                                         size_t out_stride) const {
    if (rows.empty()) return;
    constexpr size_t chunk = 16;
    Array<T> curves(static_cast<size_t>(context.threads()), curve_numbers());
    parallel_for(context.threads(), (rows.size() + chunk - 1) / chunk, [&](size_t job, size_t thread) {
        T* const own = curves.row(thread);
        const size_t first = job * chunk, last = std::min(rows.size(), first + chunk);
        for (size_t k = first; k < last; ++k) {
            const size_t n = rows[k];
            const NoiseLevel& level = levels.of(n);
            if (k == first || level.sigma != levels.of(rows[k - 1]).sigma ||
                level.alpha != levels.of(rows[k - 1]).alpha)
                solve(level, own);
            evaluate(own, 1, in.x + n * in.stride, in.stride, out + n * out_stride, out_stride);
        }
    });
}

/// Rows in the order of their levels, in blocks of columns: as many as keep the four nodes' coefficients in
/// the first-level cache, or, where many rows share them, as make long runs of a row. Returns the rows that
/// are not in the table.
template <class T> std::vector<size_t> PriorScore<T>::State::score_tabulated(const NoisyRows<float>& in,
                                                                             const NoiseLevels& levels,
                                                                             float* out,
                                                                             size_t out_stride) const {
    std::call_once(tabulated, [&] {
        table = std::make_unique<const PriorTable>(context, tables, marginals(), d, prior.options.ridge);
    });
    const TabulatedRows order(*table, levels, 0, in.count);
    const kernels::PriorTableView view = table->view();
    const auto& score = kernels::prior_table_kernels(context.isa()).score;
    const size_t count = order.rows.size(), blocks = table->blocks(),
                 threads = static_cast<size_t>(context.threads()),
                 together = count >= 2048       ? 16
                            : tables.degree > 6 ? 2
                                                : 4,
                 parts = (blocks + together - 1) / together,
                 chunk = std::max<size_t>(64, (count + 4 * threads - 1) / (4 * threads)),
                 chunks = (count + chunk - 1) / chunk;
    parallel_for(context.threads(), parts * chunks, [&](size_t job, size_t) {
        const size_t block = job / chunks * together, first = job % chunks * chunk;
        score(view, block, std::min(blocks, block + together), order.rows.data() + first,
              std::min(chunk, count - first), in.x, in.stride, out, out_stride);
    });
    return order.others;
}

template <class T> void PriorScore<T>::State::score(const GaussianPrior& law, const NoisyRows<T>& in,
                                                    const NoiseLevels& levels, T* out,
                                                    size_t out_stride) const {
    const size_t chunk = chunk_rows(in.count), jobs = (in.count + chunk - 1) / chunk;
    Array<T> space(static_cast<size_t>(context.threads()), 2 * chunk * d);
    parallel_for(context.threads(), jobs, [&](size_t job, size_t thread) {
        const size_t first = job * chunk, rows = std::min(chunk, in.count - first);
        T *centred = space.row(thread), *rotated = centred + chunk * d;
        for (size_t n = 0; n < rows; ++n) {
            const T inverse = static_cast<T>(1 / levels.of(first + n).alpha);
            const T* const x = in.x + (first + n) * in.stride;
            for (size_t j = 0; j < d; ++j) centred[n * d + j] = x[j] * inverse - static_cast<T>(law.mean[j]);
        }
        gemm(false, rows, d, d, T(1), centred, d, vectors.data(), d, T(0), rotated, d);
        for (size_t n = 0; n < rows; ++n) {
            const NoiseLevel& level = levels.of(first + n);
            for (size_t k = 0; k < d; ++k)
                rotated[n * d + k] *=
                    static_cast<T>(-1 / (level.alpha * (law.variances[k] + level.sigma * level.sigma)));
        }
        gemm(true, rows, d, d, T(1), rotated, d, vectors.data(), d, T(0), out + first * out_stride,
             out_stride);
    });
}

/// y = spread (x / alpha - mean), x / alpha cut to the range of the noisy data.
template <class T>
void PriorScore<T>::State::reduce(const FlatPrior& law, const NoiseLevel& level, const T* x, T* y) const {
    const double spread = flat->spread(level);
    for (size_t j = 0; j < d; ++j) {
        const double value = static_cast<double>(x[j]) / level.alpha, low = law.lower[j] - 3 * level.sigma,
                     high = law.upper[j] + 3 * level.sigma;
        y[j] = static_cast<T>(spread * ((value < low ? low : value > high ? high : value) - law.mean[j]));
    }
}

template <class T> void PriorScore<T>::State::score(const FlatPrior& law, const NoisyRows<T>& in,
                                                    const NoiseLevels& levels, T* out,
                                                    size_t out_stride) const {
    if (levels.each) return score_flat_each(law, in, levels, out, out_stride);
    const NoiseLevel& level = levels.of(0);
    const kernels::FlatPlace place = flat->at(level);
    const size_t chunk = chunk_rows(in.count), jobs = (in.count + chunk - 1) / chunk;
    Array<T> curves(curve_numbers()), matrix(d, d);
    flat_curves(level, place, curves.data());
    flat_matrix(matrices, place, matrix.data());
    const T factor = static_cast<T>(flat->spread(level) / level.alpha);
    Array<T> space(static_cast<size_t>(context.threads()), 2 * chunk * d);
    parallel_for(context.threads(), jobs, [&](size_t job, size_t thread) {
        const size_t first = job * chunk, rows = std::min(chunk, in.count - first);
        T *y = space.row(thread), *product = y + chunk * d;
        for (size_t n = 0; n < rows; ++n) reduce(law, level, in.x + (first + n) * in.stride, y + n * d);
        gemm(false, rows, d, d, T(1), y, d, matrix.data(), d, T(0), product, d);
        T* const to = out + first * out_stride;
        evaluate(curves.data(), rows, in.x + first * in.stride, in.stride, to, out_stride);
        for (size_t n = 0; n < rows; ++n)
            for (size_t j = 0; j < d; ++j) to[n * out_stride + j] += factor * product[n * d + j];
    });
}

/// Rows between the same time nodes are multiplied together, each with its weights times y, by the four
/// matrices there, which stand one below the other.
template <class T> void PriorScore<T>::State::score_flat_each(const FlatPrior& law, const NoisyRows<T>& in,
                                                              const NoiseLevels& levels, T* out,
                                                              size_t out_stride) const {
    constexpr size_t together = 16; // rows of every product, the last ones 0: rounding may depend on it
    const FlatOrder order(*flat, levels, in.count);
    std::vector<size_t> begin;
    for (size_t k = 0; k < in.count; k = order.end_of_run(k, std::min(k + together, in.count)))
        begin.push_back(k);
    begin.push_back(in.count);
    const size_t threads = static_cast<size_t>(context.threads());
    Array<T> curves(threads, curve_numbers()), space(threads, (together * 5 + 1) * d);
    parallel_for(context.threads(), begin.size() - 1, [&](size_t block, size_t thread) {
        const size_t *const rows = order.rows.data() + begin[block], count = begin[block + 1] - begin[block];
        T *weighted = space.row(thread), *product = weighted + together * 4 * d, *y = product + together * d;
        for (size_t r = 0; r < count; ++r) {
            reduce(law, levels.of(rows[r]), in.x + rows[r] * in.stride, y);
            const double* const weight = order.place[rows[r]].weight;
            for (size_t q = 0; q < 4; ++q)
                for (size_t j = 0; j < d; ++j)
                    weighted[(r * 4 + q) * d + j] = static_cast<T>(weight[q]) * y[j];
        }
        std::fill(weighted + count * 4 * d, weighted + together * 4 * d, T(0));
        gemm(false, together, d, 4 * d, T(1), weighted, 4 * d, matrices.row(order.place[rows[0]].first * d),
             d, T(0), product, d);
        for (size_t r = 0; r < count; ++r) {
            const NoiseLevel& level = levels.of(rows[r]);
            T* const to = out + rows[r] * out_stride;
            flat_curves(level, order.place[rows[r]], curves.row(thread));
            evaluate(curves.row(thread), 1, in.x + rows[r] * in.stride, in.stride, to, out_stride);
            const T factor = static_cast<T>(flat->spread(level) / level.alpha);
            for (size_t j = 0; j < d; ++j) to[j] += factor * product[r * d + j];
        }
    });
}

template <class T> PriorScore<T>::PriorScore(const Context& context, const Prior& prior)
    : state_(std::make_unique<State>(context, prior)) {}
template <class T> PriorScore<T>::~PriorScore() = default;
template <class T> PriorScore<T>::PriorScore(PriorScore&&) noexcept = default;

template <class T> void PriorScore<T>::operator()(const NoisyRows<T>& rows, T* out, size_t out_stride) const {
    const State& s = *state_;
    require(rows.stride >= s.d && out_stride >= s.d, ErrorKind::usage,
            fmt::format("prior: expected strides of at least {} numbers, got {} and {}", s.d, rows.stride,
                        out_stride));
    NoiseLevels noise{rows.sigmas != 1, {}};
    require(
        !noise.each || rows.sigmas == rows.count || rows.sigmas == NoisyRows<T>::each_row, ErrorKind::usage,
        fmt::format("prior: expected 1 sigma, or one for each of {} rows, got {}", rows.count, rows.sigmas));
    const double largest = s.prior.largest_noise();
    for (size_t n = 0; n < (noise.each ? rows.count : 1); ++n)
        noise.levels.push_back(level_of(rows.sigma[n], rows.convention, largest));
    if (rows.count == 0) return;
    if constexpr (built_with_cuda)
        if (s.device) return s.device->score(rows, noise, out, out_stride);
    std::visit([&](const auto& law) { s.score(law, rows, noise, out, out_stride); }, s.prior.law);
}

template class PriorScore<float>;
template class PriorScore<double>;

} // namespace dynkin

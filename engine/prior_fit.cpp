// prior_fit.cpp - priors from samples: power sums of each coordinate, the covariance, or the systems of one
// OU process.
#include "checkpoint.h"
#include "error.h"
#include "gram.h"
#include "node_systems.h"
#include "parallel.h"
#include "prior_device.h"
#include "progress.h"
#include "solve.h"
#include <algorithm>
#include <cblas.h>
#include <chrono>
#include <cmath>
#include <fmt/core.h>
#include <lapacke.h>
#include <numeric>
#include <optional>

namespace dynkin {
namespace {

using std::size_t;

constexpr size_t kColumns = 64; ///< a job
constexpr double kBeyond = 1e100;
constexpr size_t kMostColumns = 16384, kMostFunctions = 20000;

size_t batch_rows(const SampleFile& data) {
    return std::clamp<size_t>((size_t{1} << 21) / data.cols(), 1, data.rows());
}

/// Sums on disk. Batches begin at the same rows in every run, so what a resumed run adds is what was missing.
struct SavedSums {
    Checkpoint checkpoint;
    std::optional<TensorFile> from;

    explicit SavedSums(const CheckpointOptions& options) : checkpoint(options), from(checkpoint.restore()) {}
    const std::vector<double>& numbers(const char* name, size_t size) const { return from->f64(name, size); }
    void restore(const char* name, double* to, size_t size) const {
        std::copy_n(numbers(name, size).data(), size, to);
    }
    /// Where to go on, the beginning of a batch or the end.
    size_t next_row(const SampleFile& data) const {
        if (!from) return 0;
        const std::uint64_t row = from->u64("row", 1)[0];
        if (row > data.rows() || (row < data.rows() && row % batch_rows(data) != 0))
            throw Error(ErrorKind::input, from->source + ": not a consistent checkpoint: delete it");
        return row;
    }
    void save(TensorFile state, size_t row) {
        state.put("row", std::vector<std::uint64_t>{row});
        checkpoint.save(std::move(state));
    }
};

std::vector<double> numbers(const Array<double>& a) { return {a.begin(), a.end()}; }

/// Calls use(x, count) for all rows in turn, row-major; state() gives what is saved after a batch, and at the
/// end of work of more than two seconds.
template <class Use, class State> void for_each_batch(const Context& context, const SampleFile& data,
                                                      const char* stage, SavedSums& saved, const Use& use,
                                                      const State& state) {
    const size_t d = data.cols(), batch = batch_rows(data), begin = saved.next_row(data);
    const auto start = std::chrono::steady_clock::now();
    Array<double> rows(batch, d);
    Progress progress(context, stage, data.rows());
    progress.set(begin);
    for (size_t first = begin; first < data.rows(); first += batch) {
        const size_t count = std::min(batch, data.rows() - first);
        data.read(first, count, rows.data());
        for (size_t k = 0; k < count * d; ++k)
            if (!(std::abs(rows[k]) <= kBeyond))
                throw Error(ErrorKind::input,
                            fmt::format("{}: row {}, column {}: expected a number of at most {:g}, got {:g}",
                                        data.path().string(), first + k / d, k % d, kBeyond, rows[k]));
        use(rows.data(), count);
        progress.advance(count);
        const bool ends = first + count == data.rows() &&
                          std::chrono::steady_clock::now() - start > std::chrono::seconds(2);
        if (saved.checkpoint.enabled() && (progress.interrupted() || saved.checkpoint.due() || ends))
            saved.save(state(), first + count);
        if (progress.interrupted()) progress.throw_interrupted();
    }
}

/// Sums of z^k, z = (x - middle) / scale, whose window grows with the range of the data: |z| <= 2 always, so
/// that moving sums into a wider window loses nothing.
struct PowerSums {
    std::vector<double> low, high, middle, scale;
    Array<double> sum; ///< (top + 1) x d

    PowerSums(size_t d, int top)
        : low(d, INFINITY), high(d, -INFINITY), middle(d), scale(d), sum(static_cast<size_t>(top + 1), d) {}

    /// z_new = ratio z_old + shift, binomially.
    void widen(size_t j, double least, double most) {
        low[j] = std::min(low[j], least), high[j] = std::max(high[j], most);
        const double center = 0.5 * low[j] + 0.5 * high[j], width = 0.25 * high[j] - 0.25 * low[j];
        const double ratio = width > 0 ? scale[j] / width : 0;
        const double shift = width > 0 ? (middle[j] - center) / width : 0;
        if (sum(0, j) > 0)
            for (size_t k = sum.rows(); k-- > 1;) {
                double total = 0, binomial = 1; // by Horner's rule in the ratio of terms
                for (size_t i = 0; i <= k; ++i) {
                    total += binomial * std::pow(ratio, static_cast<double>(i)) *
                             std::pow(shift, static_cast<double>(k - i)) * sum(i, j);
                    binomial *= static_cast<double>(k - i) / static_cast<double>(i + 1);
                }
                sum(k, j) = total;
            }
        middle[j] = center, scale[j] = width;
    }
    /// inverse[j] once the window of each column holds least .. most.
    void widen_all(const std::vector<double>& least, const std::vector<double>& most,
                   std::vector<double>& inverse) {
        for (size_t j = 0; j < low.size(); ++j) {
            if (least[j] < low[j] || most[j] > high[j]) widen(j, least[j], most[j]);
            inverse[j] = scale[j] > 0 ? 1 / scale[j] : 0;
        }
    }
    void add(const kernels::PriorKernels<double>& kernels, const double* x, size_t rows, size_t stride,
             size_t first, size_t columns) {
        double least[kColumns], most[kColumns], inverse[kColumns];
        std::copy_n(x + first, columns, least), std::copy_n(x + first, columns, most);
        for (size_t n = 1; n < rows; ++n)
            for (size_t j = 0; j < columns; ++j) {
                const double value = x[n * stride + first + j];
                least[j] = value < least[j] ? value : least[j];
                most[j] = value > most[j] ? value : most[j];
            }
        for (size_t j = 0; j < columns; ++j) {
            if (least[j] < low[first + j] || most[j] > high[first + j]) widen(first + j, least[j], most[j]);
            inverse[j] = scale[first + j] > 0 ? 1 / scale[first + j] : 0;
        }
        std::vector<double> batch(sum.rows() * kColumns);
        kernels.power_sums(static_cast<int>(sum.rows()) - 1, columns, &middle[first], inverse, rows,
                           x + first, stride, batch.data());
        for (size_t k = 0; k < sum.rows(); ++k)
            for (size_t j = 0; j < columns; ++j) sum(k, first + j) += batch[k * kColumns + j];
    }
};

TensorFile state_of(const PowerSums& sums) {
    TensorFile state;
    state.put("low", sums.low), state.put("high", sums.high);
    state.put("middle", sums.middle), state.put("scale", sums.scale);
    state.put("sums", numbers(sums.sum), {sums.sum.rows(), sums.sum.cols()});
    return state;
}

ProductPrior fit_product(const Context& context, const SampleFile& data, int degree, SavedSums& saved) {
    const size_t d = data.cols();
    const auto& kernels = kernels::prior_kernels<double>(context.isa());
    PowerSums sums(d, 2 * degree);
    if (saved.from) {
        sums.low = saved.numbers("low", d), sums.high = saved.numbers("high", d);
        sums.middle = saved.numbers("middle", d), sums.scale = saved.numbers("scale", d);
        saved.restore("sums", sums.sum.data(), sums.sum.size());
    }
    std::shared_ptr<DevicePriorSums> device;
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            device = std::make_shared<DevicePriorSums>(context, d, batch_rows(data), 2 * degree, false);
    std::vector<double> least(d), most(d), inverse(d);
    const auto add = [&](const double* x, size_t count) {
        if constexpr (built_with_cuda)
            if (device) {
                device->range(x, count, least.data(), most.data());
                sums.widen_all(least, most, inverse);
                return device->add_powers(x, count, sums.middle.data(), inverse.data(), sums.sum);
            }
        parallel_for(context.threads(), (d + kColumns - 1) / kColumns, [&](size_t job, size_t) {
            const size_t first = job * kColumns;
            sums.add(kernels, x, count, d, first, std::min(kColumns, d - first));
        });
    };
    for_each_batch(context, data, "moments", saved, add, [&] { return state_of(sums); });
    const Array<double> hermite = hermite_polynomials(2 * degree);
    Array<double> moments(sums.sum.rows(), d);
    for (size_t r = 0; r < moments.rows(); ++r)
        for (size_t i = r % 2; i <= r; i += 2)
            for (size_t j = 0; j < d; ++j) moments(r, j) += hermite(r, i) * (sums.sum(i, j) / sums.sum(0, j));
    return {std::move(sums.middle), std::move(sums.scale), std::move(moments)};
}

/// Sums of (x - shift) and of their products, the lower triangle in blocks of columns.
struct Products {
    static constexpr size_t block = 256;
    std::vector<double> shift, first;
    Array<double> second, centred;

    std::shared_ptr<DevicePriorSums> device; ///< null: on the CPU

    void add(const Context& context, const double* x, size_t count, size_t d) {
        if (shift.empty()) start(x, count, d);
        if constexpr (built_with_cuda)
            if (device) return device->add_products(x, count, shift.data(), first.data());
        parallel_for(context.threads(), (count + kColumns - 1) / kColumns, [&](size_t job, size_t) {
            for (size_t n = job * kColumns; n < std::min(count, (job + 1) * kColumns); ++n)
                for (size_t j = 0; j < d; ++j) centred(n, j) = x[n * d + j] - shift[j];
        });
        const size_t blocks = (d + block - 1) / block;
        parallel_for(context.threads(), blocks * (blocks + 1) / 2, [&](size_t job, size_t) {
            size_t row = 0;
            while ((row + 1) * (row + 2) / 2 <= job) ++row;
            multiply(row * block, (job - row * (row + 1) / 2) * block, count, d);
        });
        for (size_t n = 0; n < count; ++n)
            for (size_t j = 0; j < d; ++j) first[j] += centred(n, j);
    }

    TensorFile state() const {
        TensorFile out;
        out.put("shift", shift), out.put("first", first);
        const size_t d = shift.size();
        if constexpr (built_with_cuda)
            if (device) {
                out.put("second", numbers(device->products()), {d, d});
                return out;
            }
        out.put("second", numbers(second), {d, d});
        return out;
    }
    void restore(const SavedSums& saved, size_t batch, size_t d) {
        shift = saved.numbers("shift", d), first = saved.numbers("first", d);
        Array<double> products(d, d);
        saved.restore("second", products.data(), d * d);
        if constexpr (built_with_cuda)
            if (device) return device->restore_products(products);
        second = std::move(products), centred = Array<double>(batch, d);
    }

  private:
    void start(const double* x, size_t count, size_t d) { // the mean of the first batch
        shift.assign(d, 0), first.assign(d, 0);
        for (size_t n = 0; n < count; ++n)
            for (size_t j = 0; j < d; ++j) shift[j] += x[n * d + j] / static_cast<double>(count);
        if (!device) second = Array<double>(d, d), centred = Array<double>(count, d);
    }
    void multiply(size_t row, size_t column, size_t count, size_t d) {
        const int ld = static_cast<int>(d), k = static_cast<int>(count),
                  m = static_cast<int>(std::min(block, d - row)),
                  n = static_cast<int>(std::min(block, d - column));
        if (row == column)
            cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, m, k, 1, centred.data() + row, ld, 1,
                        second.data() + row * d + row, ld);
        else
            cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, n, k, 1, centred.data() + row, ld,
                        centred.data() + column, ld, 1, second.data() + row * d + column, ld);
    }
};

/// By cuSOLVER where the sums were made, else by LAPACK.
bool eigenvectors(DevicePriorSums* device, Array<double>& c, std::vector<double>& values) {
    if constexpr (built_with_cuda)
        if (device) return device->eigenvectors(c, values);
    const int n = static_cast<int>(values.size());
    return LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'V', 'L', n, c.data(), n, values.data()) == 0;
}

GaussianPrior fit_gaussian(const Context& context, const SampleFile& data, SavedSums& saved) {
    const size_t d = data.cols();
    if (d > kMostColumns)
        throw Error(ErrorKind::input, fmt::format("{}: expected at most {} columns for a Gaussian, got {}",
                                                  data.path().string(), kMostColumns, d));
    Products products;
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            products.device = std::make_shared<DevicePriorSums>(context, d, batch_rows(data), 0, true);
    if (saved.from) products.restore(saved, batch_rows(data), d);
    for_each_batch(
        context, data, "covariance", saved,
        [&](const double* x, size_t count) { products.add(context, x, count, d); },
        [&] { return products.state(); });
    const double rows = static_cast<double>(data.rows());
    if constexpr (built_with_cuda)
        if (products.device) products.second = products.device->products();
    GaussianPrior law{std::vector<double>(d), std::vector<double>(d), std::move(products.second)};
    Array<double>& c = law.vectors;
    for (size_t i = 0; i < d; ++i) {
        law.mean[i] = products.shift[i] + products.first[i] / rows;
        for (size_t j = 0; j <= i; ++j)
            c(i, j) = c(i, j) / rows - products.first[i] / rows * (products.first[j] / rows);
    }
    const std::shared_ptr<DevicePriorSums> device = std::move(products.device);
    products = {};
    if (!eigenvectors(device.get(), c, law.variances))
        throw Error(ErrorKind::numerical, "prior: the covariance has no eigenvectors");
    for (double& variance : law.variances) variance = std::max(variance, 0.0);
    return law;
}

/// What the systems of the flat prior need of the coordinates that vary.
struct FlatBasis {
    std::vector<int> columns;
    Reference reference;
    IndexSet set;
    std::vector<ProductTables> tables;

    FlatBasis(const FlatPrior& law, int degree) {
        for (size_t j = 0; j < law.varies.size(); ++j)
            if (law.varies[j]) columns.push_back(static_cast<int>(j));
        const int sites = static_cast<int>(columns.size());
        std::vector<Pair> pairs;
        for (int i = 0; i < sites; ++i)
            for (int j = i + 1; j < sites; ++j) pairs.push_back({i, j, 1});
        reference.families = {hermite_family(2 * degree)};
        reference.family_of.assign(columns.size(), 0);
        set = make_index_set(sites, degree, std::move(pairs), 0, false);
        tables = {product_tables(reference.families[0], degree)};
    }
};

FlatPrior flat_range(const Context& context, const SampleFile& data, int degree) {
    const size_t d = data.cols(), k = static_cast<size_t>(degree);
    if (d > kMostFunctions || d * k + d * (d - 1) / 2 > kMostFunctions)
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected a flat basis of at most {} functions, got {} columns",
                                data.path().string(), kMostFunctions, d));
    if (data.rows() < 10 * k)
        throw Error(ErrorKind::input, fmt::format("{}: expected at least {} samples for degree {}, got {}",
                                                  data.path().string(), 10 * k, degree, data.rows()));
    DataView view;
    view.columns = d, view.kept.resize(d);
    std::iota(view.kept.begin(), view.kept.end(), 0);
    const ColumnStatistics columns = column_statistics(context, data, view);
    FlatPrior law;
    law.mean = columns.mean, law.lower = columns.min, law.upper = columns.max;
    double square = 0, varying = 0;
    for (size_t j = 0; j < d; ++j) {
        const bool varies = columns.max[j] > columns.min[j];
        law.varies.push_back(varies);
        if (!varies) law.mean[j] = columns.min[j];
        if (std::max(std::abs(columns.min[j]), std::abs(columns.max[j])) > kBeyond)
            throw Error(ErrorKind::input, fmt::format("{}: column {}: expected numbers of at most {:g}",
                                                      data.path().string(), j, kBeyond));
        square += columns.sd[j] * columns.sd[j], varying += varies;
    }
    if (varying == 0) throw Error(ErrorKind::input, data.path().string() + ": every column is constant");
    law.scale = std::sqrt(square / varying);
    return law;
}

FlatPrior fit_flat(const Context& context, const SampleFile& data, const PriorOptions& options,
                   SavedSums& saved) {
    FlatPrior law = flat_range(context, data, options.degree);
    const FlatBasis basis(law, options.degree);
    const MomentPlan plan(basis.set, basis.reference, basis.tables);
    const size_t d = data.cols(), kept = basis.columns.size(), degree = static_cast<size_t>(options.degree);
    const SampleSource source{data.rows(), [&](size_t first, size_t count, double* z) {
                                  std::vector<double> x(count * d);
                                  data.read(first, count, x.data());
                                  for (size_t n = 0; n < count; ++n)
                                      for (size_t k = 0; k < kept; ++k) {
                                          const size_t j = static_cast<size_t>(basis.columns[k]);
                                          z[n * kept + k] = (x[n * d + j] - law.mean[j]) / law.scale;
                                      }
                              }};
    MomentSums sums;
    if (saved.from) {
        const auto& counts = saved.from->u64("counts", 2);
        sums.train = saved.numbers("train", plan.size()), sums.test = saved.numbers("test", plan.size());
        sums.train_rows = counts[0], sums.test_rows = counts[1], sums.next_row = saved.from->u64("row", 1)[0];
    }
    MomentOptions moment_options;
    moment_options.after_batch = [&](const MomentSums& now) {
        const int signal = context.interrupt_signal();
        if (saved.checkpoint.enabled() && (signal || saved.checkpoint.due())) {
            TensorFile state;
            state.put("train", now.train), state.put("test", now.test);
            state.put("counts", std::vector<std::uint64_t>{now.train_rows, now.test_rows});
            saved.save(std::move(state), now.next_row);
        }
        if (signal) throw Interrupted(signal);
    };
    accumulate_moments(context, plan, basis.reference, source, moment_options, sums);
    const ScoreSystem system(basis.set, basis.reference, basis.tables, plan);
    law.grid.t_min = 0, law.grid.t_end = 8;
    law.grid.node_time = law.grid.step_times(40);
    const size_t nodes = law.grid.node_time.size();
    Array<double> c(nodes, system.size());
    const auto status = solve_nodes(context, system, moment_averages(sums, Subset::all), law.grid.node_time,
                                    options.ridge, c);
    for (size_t m = 0; m < nodes; ++m)
        require(status[m].solved, ErrorKind::numerical,
                fmt::format("prior: the system at t = {:g} has no solution", law.grid.node_time[m]));
    law.single = Array<double>(nodes, d * degree), law.pair = Array<double>(nodes, d * (d - 1) / 2);
    for (size_t k = 0; k < basis.set.terms.size(); ++k) {
        const Term& term = basis.set.terms[k];
        const auto column = [&](int site) {
            return static_cast<size_t>(basis.columns[static_cast<size_t>(site)]);
        };
        const size_t i = column(term.i), j = term.j < 0 ? 0 : column(term.j);
        for (size_t m = 0; m < nodes; ++m)
            if (term.j < 0)
                law.single(m, i * degree + static_cast<size_t>(term.a - 1)) = c(m, k);
            else
                law.pair(m, i * d - i * (i + 1) / 2 + j - i - 1) = c(m, k);
    }
    return law;
}

} // namespace

Prior fit_prior(const Context& context, const SampleFile& data, const PriorOptions& options,
                const CheckpointOptions& checkpoint) {
    require(options.degree >= 2 && options.degree <= kernels::kMaxPriorDegree, ErrorKind::usage,
            fmt::format("prior: expected a degree from 2 to {}, got {}", kernels::kMaxPriorDegree,
                        options.degree));
    require(options.ridge >= 0 && options.ridge <= 1, ErrorKind::usage,
            fmt::format("prior: expected a ridge from 0 to 1, got {:g}", options.ridge));
    if (data.rows() < 2)
        throw Error(ErrorKind::input,
                    data.path().string() + ": expected at least 2 samples for a prior, got 1");
    use_sequential_blas();
    SavedSums saved(checkpoint);
    Prior prior{options, data.rows(), data.sample_shape(), {}};
    if (options.kind == PriorKind::product)
        prior.law = fit_product(context, data, options.degree, saved);
    else if (options.kind == PriorKind::gaussian)
        prior.law = fit_gaussian(context, data, saved);
    else
        prior.law = fit_flat(context, data, options, saved);
    return prior;
}

} // namespace dynkin

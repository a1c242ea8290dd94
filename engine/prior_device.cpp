// prior_device.cpp - score priors on the device: rows pass in chunks.
#include "prior_device.h"
#include "../kernels/cuda_libraries.h"
#include "../kernels/device_times.h"
#include "../kernels/prior_cuda.h"
#include "prior_flat.h"
#include "prior_table_device.h"
#include <algorithm>
#include <cmath>
#include <mutex>
#include <numeric>
#include <optional>
#include <span>
#include <type_traits>

namespace dynkin {

using std::size_t;

namespace {

constexpr size_t prior_chunk = size_t{1} << 23; ///< numbers of the rows in a chunk, about

template <class T>
DeviceArray<T> on_device(DeviceState& device, const std::vector<T>& numbers, const char* what) {
    return to_device(device, std::span<const T>(numbers), what);
}

size_t runs_in(size_t count, size_t size) { return (count + size - 1) / size; }

} // namespace

template <class T> struct DevicePrior<T>::State {
    Context context;
    DeviceState& device;
    const Prior& prior;
    DeviceStream stream;
    size_t d, padded;
    int degree;
    std::mutex one_at_a_time;
    DeviceArray<kernels::HermiteTables> tables;
    DeviceArray<double> middle, scale, moments; // product, padded
    DeviceArray<double> mean, variances;        // gaussian
    DeviceArray<double> columns, single;        // flat
    DeviceArray<T> vectors, matrices;           ///< gaussian; flat: of the pairs, one after the other
    std::optional<FlatNodes> nodes;             ///< flat
    Array<T> matrices_here;
    std::optional<DevicePriorTable> table; ///< product, float32: at the first batch with a sigma a row

    State(const Context& where, const Prior& of)
        : context(where), device(where.device_state()), prior(of), stream(device.compute_stream()),
          d(of.dimension()), padded(prior_padded(d)), degree(of.options.degree) {
        const kernels::HermiteTables here = hermite_tables(degree);
        tables = to_device(device, std::span<const kernels::HermiteTables>(&here, 1), "a prior");
        std::visit([&](const auto& law) { prepare(law); }, prior.law);
    }
    void prepare(const ProductPrior& law);
    void prepare(const GaussianPrior& law);
    void prepare(const FlatPrior& law);
    cuda::MarginalView marginals() const { return {padded, middle.data(), scale.data(), moments.data()}; }
    cuda::FlatView flat() const {
        const double* const mean = columns.data();
        return {d, padded, mean, mean + padded, mean + 2 * padded, mean + 3 * padded, single.data()};
    }
    size_t curve_numbers() const { return static_cast<size_t>(degree + 3) * padded; }
    /// Levels of rows, or of all; of a flat prior the places as well.
    struct Noise {
        DeviceArray<double> numbers;
        cuda::NoiseView view;
        std::vector<cuda::FlatPlace> places_here;
        DeviceArray<cuda::FlatPlace> places;
        size_t levels;
        bool common;
    };
    /// Of rows [first, first + count), in this order if there is one.
    Noise noise_of(const NoiseLevels& levels, const std::vector<size_t>& order, size_t first,
                   size_t count) const;
    /// Numbers that a row takes.
    size_t row_numbers(bool common) const;
    struct Chunk {
        size_t rows;
        DeviceArray<T> x, y, z, curves;
    };
    Chunk make_chunk(bool common, size_t count);
    void make_table(const ProductPrior& law);
    void score_each(const NoiseLevels& levels, size_t first, size_t rows, Chunk& c);
    void mix(const NoiseLevel& level);
    void score(const ProductPrior& law, const Noise& noise, size_t rows, Chunk& c);
    void score(const GaussianPrior& law, const Noise& noise, size_t rows, Chunk& c);
    void score(const FlatPrior& law, const Noise& noise, size_t rows, Chunk& c);
    DeviceArray<T> matrix; ///< flat, one level: of the pairs there
};

template <class T> void DevicePrior<T>::State::prepare(const ProductPrior& law) {
    const PaddedMarginals here(law);
    middle = on_device(device, here.middle, "a prior"), scale = on_device(device, here.scale, "a prior");
    moments = to_device(device, here.moments.span(), "a prior");
}

template <class T> void DevicePrior<T>::State::prepare(const GaussianPrior& law) {
    mean = on_device(device, law.mean, "a prior"), variances = on_device(device, law.variances, "a prior");
    std::vector<T> all(law.vectors.size());
    std::transform(law.vectors.begin(), law.vectors.end(), all.begin(),
                   [](double v) { return static_cast<T>(v); });
    vectors = on_device(device, all, "the eigenvectors of a prior");
}

template <class T> void DevicePrior<T>::State::prepare(const FlatPrior& law) {
    nodes.emplace(law);
    columns = to_device(device, nodes->columns().span(), "a prior");
    single = to_device(device, nodes->single().span(), "a prior");
    matrices_here = nodes->template matrices<T>();
}

template <class T>
typename DevicePrior<T>::State::Noise DevicePrior<T>::State::noise_of(const NoiseLevels& levels,
                                                                      const std::vector<size_t>& order,
                                                                      size_t first, size_t count) const {
    Noise noise;
    noise.common = !levels.each, noise.levels = levels.each ? count : 1;
    std::vector<double> numbers(3 * noise.levels);
    for (size_t n = 0; n < noise.levels; ++n) {
        const NoiseLevel& level = levels.of(order.empty() ? first + n : order[first + n]);
        numbers[n] = level.sigma, numbers[noise.levels + n] = level.alpha;
        if (!nodes) continue;
        numbers[2 * noise.levels + n] = nodes->spread(level);
        noise.places_here.push_back(nodes->at(level));
    }
    noise.numbers = on_device(device, numbers, "noise levels");
    noise.places = on_device(device, noise.places_here, "noise levels");
    const double* const data = noise.numbers.data();
    noise.view = {data, data + noise.levels, data + 2 * noise.levels, levels.each ? size_t{1} : size_t{0}};
    return noise;
}

template <class T> size_t DevicePrior<T>::State::row_numbers(bool common) const {
    const size_t curve = common ? 0 : curve_numbers();
    if (std::holds_alternative<ProductPrior>(prior.law)) return 2 * d;
    if (std::holds_alternative<GaussianPrior>(prior.law)) return 3 * d;
    return (common ? 3 : 7) * d + curve + 16; // and levels and places, about
}

/// Chunks by the problem alone, unless the memory holds less.
template <class T>
typename DevicePrior<T>::State::Chunk DevicePrior<T>::State::make_chunk(bool common, size_t count) {
    if (!std::holds_alternative<ProductPrior>(prior.law)) device.libraries(); // before what is left is asked
    const bool flat = std::holds_alternative<FlatPrior>(prior.law),
               gaussian = std::holds_alternative<GaussianPrior>(prior.law);
    const size_t curves = gaussian || (!flat && !common) ? 0 : common ? 1 : SIZE_MAX; // SIZE_MAX: one a row
    const size_t row = row_numbers(common) * sizeof(T) + 48 * sizeof(double),
                 once = 16384 + (curves == 1 ? curve_numbers() * sizeof(T) : 0), left = device.memory_left();
    Chunk c;
    c.rows = std::min(std::clamp<size_t>(prior_chunk / row_numbers(common), 64, count < 64 ? 64 : count),
                      std::max<size_t>((left - std::min(left, once)) / row, 1));
    c.rows = std::min(c.rows, count);
    c.x = {device, c.rows * d, "rows of a prior"}, c.y = {device, c.rows * d, "rows of a prior"};
    if (flat || gaussian) c.z = {device, c.rows * d, "rows of a prior"};
    if (curves) c.curves = {device, std::min(curves, c.rows) * curve_numbers(), "curves of a prior"};
    return c;
}

template <class T>
void DevicePrior<T>::State::score(const ProductPrior&, const Noise& noise, size_t rows, Chunk& c) {
    timed(device, "prior.curves", [&] {
        cuda::prior_curves(stream, tables.data(), degree, marginals(), prior.options.ridge, noise.view,
                           noise.levels, c.curves.data());
    });
    timed(device, "prior.scores", [&] {
        cuda::prior_scores<T>(stream, degree, d, padded, c.curves.data(), 0, rows, c.x.data(), nullptr,
                              noise.view, c.y.data());
    });
}

template <class T> void DevicePrior<T>::State::make_table(const ProductPrior& law) {
    if constexpr (std::is_same_v<T, float>)
        if (!table) {
            const PaddedMarginals here(law);
            table.emplace(context,
                          PriorTable(context, hermite_tables(degree), here.view(), d, prior.options.ridge));
        }
}

/// A sigma a row of a product: float32 from the table; rows that are not in it, and float64, by the
/// equations.
template <class T>
void DevicePrior<T>::State::score_each(const NoiseLevels& levels, size_t first, size_t rows, Chunk& c) {
    std::vector<size_t> others;
    if constexpr (std::is_same_v<T, float>) {
        TabulatedRows order(table->host(), levels, first, rows);
        table->score(order.rows, c.x.data(), c.y.data());
        others = std::move(order.others);
    }
    const bool all = !std::is_same_v<T, float>;
    if (!all && others.empty()) return;
    const Noise noise = noise_of(levels, {}, first, rows);
    const DeviceArray<size_t> numbers = on_device(device, others, "rows of a prior");
    timed(device, "prior.equations", [&] {
        cuda::prior_row_scores(stream, tables.data(), marginals(), prior.options.ridge, noise.view,
                               all ? nullptr : numbers.data(), all ? rows : others.size(), d, c.x.data(),
                               c.y.data());
    });
}

template <class T>
void DevicePrior<T>::State::score(const GaussianPrior&, const Noise& noise, size_t rows, Chunk& c) {
    timed(device, "prior.products", [&] {
        cuda::centre(stream, d, rows, c.x.data(), mean.data(), noise.view, c.y.data());
        cuda::product(device, false, rows, d, d, c.y.data(), vectors.data(), c.z.data());
        cuda::shrink(stream, d, rows, variances.data(), noise.view, c.z.data());
        cuda::product(device, true, rows, d, d, c.z.data(), vectors.data(), c.y.data());
    });
}

/// The pairs at one noise level.
template <class T> void DevicePrior<T>::State::mix(const NoiseLevel& level) {
    Array<T> mixed(d, d);
    flat_matrix(matrices_here, nodes->at(level), mixed.data());
    if (matrix.size() == 0) matrix = {device, d * d, "the pairs of a prior"};
    matrix.upload(stream, mixed.span());
    cuda::synchronize(stream);
}

/// Rows with a level each are in the order of their places: one product for those between the same nodes.
template <class T>
void DevicePrior<T>::State::score(const FlatPrior&, const Noise& noise, size_t rows, Chunk& c) {
    timed(device, "prior.curves", [&] {
        cuda::flat_curves(stream, tables.data(), degree, flat(), noise.view, noise.places.data(),
                          noise.levels, c.curves.data());
    });
    DeviceArray<T> weighted;
    if (!noise.common) weighted = {device, rows * 4 * d, "rows of a prior"};
    timed(device, "prior.products", [&] {
        cuda::reduce(stream, flat(), rows, c.x.data(), noise.view, c.y.data());
        if (noise.common)
            return cuda::product(device, false, rows, d, d, c.y.data(), matrix.data(), c.z.data());
        cuda::weigh_rows(stream, d, rows, noise.places.data(), c.y.data(), weighted.data());
        for (size_t n = 0, last = 0; n < rows; n = last) {
            const size_t first = noise.places_here[n].first;
            while (last < rows && noise.places_here[last].first == first) ++last;
            cuda::product(device, false, last - n, d, 4 * d, weighted.data() + n * 4 * d,
                          matrices.data() + first * d * d, c.z.data() + n * d);
        }
    });
    timed(device, "prior.scores", [&] {
        cuda::prior_scores<T>(stream, degree, d, padded, c.curves.data(), noise.common ? 0 : curve_numbers(),
                              rows, c.x.data(), c.z.data(), noise.view, c.y.data());
    });
}

template <class T> DevicePrior<T>::DevicePrior(const Context& context, const Prior& prior)
    : state_(std::make_unique<State>(context, prior)) {}
template <class T> DevicePrior<T>::~DevicePrior() = default;

template <class T> void DevicePrior<T>::score(const NoisyRows<T>& in, const NoiseLevels& levels, T* out,
                                              size_t out_stride) const {
    State& s = *state_;
    const std::lock_guard lock(s.one_at_a_time);
    const bool common = !levels.each;
    const auto* const product = common ? nullptr : std::get_if<ProductPrior>(&s.prior.law);
    if (product) s.make_table(*product);
    std::vector<size_t> order; // of the rows; empty: as they are
    if (s.nodes && common) s.mix(levels.of(0));
    if (s.nodes && !common) {
        order = FlatOrder(*s.nodes, levels, in.count).rows;
        if (s.matrices.size() == 0)
            s.matrices = to_device(s.device, std::as_const(s.matrices_here).span(), "the pairs of a prior");
    }
    typename State::Chunk c = s.make_chunk(common, in.count);
    std::vector<T> packed(order.empty() && in.stride == s.d && out_stride == s.d ? 0 : c.rows * s.d);
    for (size_t first = 0; first < in.count; first += c.rows) {
        const size_t used = std::min(c.rows, in.count - first);
        const auto row = [&](size_t n) { return order.empty() ? first + n : order[first + n]; };
        const T* x = in.x + first * in.stride;
        if (!packed.empty()) {
            for (size_t n = 0; n < used; ++n)
                std::copy_n(in.x + row(n) * in.stride, s.d, packed.data() + n * s.d);
            x = packed.data();
        }
        c.x.upload(s.stream, {x, used * s.d});
        if (product)
            s.score_each(levels, first, used, c);
        else {
            const typename State::Noise noise = s.noise_of(levels, order, first, used);
            std::visit([&](const auto& law) { s.score(law, noise, used, c); }, s.prior.law);
        }
        T* const to = packed.empty() ? out + first * out_stride : packed.data();
        c.y.download(s.stream, {to, used * s.d});
        cuda::synchronize(s.stream);
        if (!packed.empty())
            for (size_t n = 0; n < used; ++n)
                std::copy_n(packed.data() + n * s.d, s.d, out + row(n) * out_stride);
    }
}

template class DevicePrior<float>;
template class DevicePrior<double>;

struct DevicePriorSums::State {
    DeviceState& device;
    DeviceStream stream;
    size_t d, rows; ///< on the device at a time, whole runs
    int top;
    DeviceArray<double> x, part, low, high, second, centred, ones;

    State(const Context& context, size_t columns, size_t batch, int highest, bool covariance)
        : device(context.device_state()), stream(device.compute_stream()), d(columns), top(highest) {
        if (covariance) {
            device.libraries();
            second = {device, d * d, "a covariance"};
            cuda::fill_zero(stream, second.data(), second.size() * sizeof(double));
        }
        const double one = 1;
        ones = to_device(device, std::span<const double>(&one, 1), "rows of a prior");
        const size_t a_run = (cuda::prior_run * (covariance ? 2 : 1) + 2 * static_cast<size_t>(top + 3)) * d *
                             sizeof(double),
                     rounding = 16384, left = device.memory_left(),
                     // Products of fewer rows may be rounded otherwise: as many as there are.
            fit = covariance ? SIZE_MAX : (left - std::min(left, rounding)) / a_run;
        const size_t runs = std::clamp<size_t>(fit, 1, runs_in(batch, cuda::prior_run));
        rows = runs * cuda::prior_run;
        x = {device, std::min(rows, batch) * d, "rows of a prior"};
        part = {device, runs * static_cast<size_t>(top + 1 + covariance) * d, "sums of a prior"};
        low = {device, runs * d, "ranges of columns"}, high = {device, runs * d, "ranges of columns"};
        if (covariance) centred = {device, std::min(rows, batch) * d, "rows of a prior"};
    }
    size_t runs(size_t count) const { return runs_in(count, cuda::prior_run); }
    /// use(count) for the rows in parts, each on the device.
    template <class Use> void pass(const double* from, size_t count, const Use& use) {
        for (size_t first = 0; first < count; first += rows) {
            const size_t used = std::min(rows, count - first);
            x.upload(stream, {from + first * d, used * d});
            use(used);
        }
    }
};

DevicePriorSums::DevicePriorSums(const Context& context, size_t d, size_t batch, int top, bool covariance)
    : state_(std::make_unique<State>(context, d, batch, top, covariance)) {}
DevicePriorSums::~DevicePriorSums() = default;

void DevicePriorSums::range(const double* x, size_t count, double* least, double* most) {
    State& s = *state_;
    std::fill_n(least, s.d, INFINITY), std::fill_n(most, s.d, -INFINITY);
    s.pass(x, count, [&](size_t used) {
        cuda::column_ranges(s.stream, s.d, used, s.x.data(), s.low.data(), s.high.data());
        std::vector<double> low(s.runs(used) * s.d), high(low.size());
        s.low.download(s.stream, low), s.high.download(s.stream, high);
        cuda::synchronize(s.stream);
        for (size_t e = 0; e < low.size(); ++e) {
            least[e % s.d] = std::min(least[e % s.d], low[e]);
            most[e % s.d] = std::max(most[e % s.d], high[e]);
        }
    });
}

void DevicePriorSums::add_powers(const double* x, size_t count, const double* middle, const double* inverse,
                                 Array<double>& sums) {
    State& s = *state_;
    const DeviceArray<double> there = to_device(s.device, std::span<const double>(middle, s.d), "ranges"),
                              by = to_device(s.device, std::span<const double>(inverse, s.d), "ranges");
    s.pass(x, count, [&](size_t used) {
        cuda::power_runs(s.stream, s.top, s.d, used, s.x.data(), there.data(), by.data(), s.part.data());
        std::vector<double> part(s.runs(used) * sums.size());
        s.part.download(s.stream, part);
        cuda::synchronize(s.stream);
        for (size_t e = 0; e < part.size(); ++e) sums[e % sums.size()] += part[e];
    });
}

void DevicePriorSums::add_products(const double* x, size_t count, const double* shift, double* first) {
    State& s = *state_;
    const DeviceArray<double> mean = to_device(s.device, std::span<const double>(shift, s.d), "the mean");
    const std::vector<double> one(s.d, 1.0), none(s.d);
    const DeviceArray<double> unit = to_device(s.device, std::span<const double>(one), "the mean"),
                              zero = to_device(s.device, std::span<const double>(none), "the mean");
    s.pass(x, count, [&](size_t used) {
        cuda::centre(s.stream, s.d, used, s.x.data(), mean.data(),
                     cuda::NoiseView{s.ones.data(), s.ones.data(), s.ones.data(), 0}, s.centred.data());
        cuda::add_gram(s.device, s.d, used, s.centred.data(), s.second.data());
        cuda::power_runs(s.stream, 1, s.d, used, s.centred.data(), zero.data(), unit.data(), s.part.data());
        std::vector<double> part(s.runs(used) * 2 * s.d);
        s.part.download(s.stream, part);
        cuda::synchronize(s.stream);
        for (size_t run = 0; run < s.runs(used); ++run)
            for (size_t j = 0; j < s.d; ++j) first[j] += part[(2 * run + 1) * s.d + j];
    });
}

Array<double> DevicePriorSums::products() const {
    Array<double> out(state_->d, state_->d);
    state_->second.download(state_->stream, out.span());
    cuda::synchronize(state_->stream);
    return out;
}

void DevicePriorSums::restore_products(const Array<double>& products) {
    state_->second.upload(state_->stream, products.span());
    cuda::synchronize(state_->stream);
}

bool DevicePriorSums::eigenvectors(Array<double>& matrix, std::vector<double>& values) {
    State& s = *state_;
    s.x = {}, s.centred = {}, s.part = {}; // room for the workspace
    s.second.upload(s.stream, matrix.span());
    DeviceArray<double> found(s.device, s.d, "eigenvalues");
    const size_t numbers = cuda::eigen_workspace(s.device, s.d, s.second.data(), found.data());
    DeviceArray<double> workspace(s.device, numbers, "the workspace of an eigenproblem");
    DeviceArray<int> info(s.device, 1, "an eigenproblem");
    cuda::eigenvectors(s.device, s.d, s.second.data(), found.data(), workspace.data(), numbers, info.data());
    const std::vector<int> status = to_host(s.device, info);
    values = to_host(s.device, found);
    Array<double> rows = products();
    for (size_t i = 0; i < s.d; ++i)
        for (size_t j = 0; j < s.d; ++j) matrix(i, j) = rows(j, i);
    return status[0] == 0;
}

} // namespace dynkin

// moments_device.cpp - the moment pass on the device: what its blocks compute, its memory, and the stream of
// rows.
#include "moments_device.h"
#include "../kernels/device_times.h"
#include "error.h"
#include "piecewise.h"
#include "progress.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/core.h>

namespace dynkin {

using kernels::kMomentTile;
using kernels::MomentGroup;
using std::size_t;

namespace {

// ---- the groups of the plan as items of the device

/// One of the three lists of a group, and how far apart its functions stand in the result.
struct Axis {
    const std::vector<int>* functions;
    size_t stride;
};

struct Items {
    std::vector<cuda::MomentProduct> products;
    std::vector<size_t> product_place, factor_place;
    std::vector<int> factors;
    std::vector<cuda::MomentItem> narrow, wide; ///< 16 and 32 columns

    size_t blocks() const { return narrow.size() + wide.size(); }
};

size_t pieces(size_t count, size_t size) { return (count + size - 1) / size; }

/// Appends one group: which of its three lists are the factors, and how wide blocks are, is what needs the
/// fewest blocks.
void add_group(const MomentGroup& group, Items& items) {
    const Axis axes[3] = {
        {&group.weights, group.lines() * group.ld}, {&group.rows, group.ld}, {&group.cols, 1}};
    const int order[3][3] = {{0, 1, 2}, {1, 0, 2}, {2, 0, 1}}; // factors, and the two that are multiplied
    size_t least = SIZE_MAX, columns = 0;
    const int* best = nullptr;
    for (const auto& axis : order) {
        if (group.cyclic() && axis[0] != 0) continue; // rows and columns go together
        for (const size_t width : {size_t{32}, size_t{16}}) {
            const size_t count = axis[0] == 0
                                     ? group.pair_count()
                                     : axes[axis[1]].functions->size() * axes[axis[2]].functions->size();
            const size_t blocks =
                pieces(axes[axis[0]].functions->size(), width) * pieces(count, cuda::block_sums / width);
            if (blocks < least) least = blocks, columns = width, best = axis;
        }
    }
    const Axis &factor = axes[best[0]], &a = axes[best[1]], &b = axes[best[2]];
    const size_t first_product = items.products.size(), first_factor = items.factors.size();
    const auto add = [&](int one, int other, size_t place) {
        items.products.push_back({one, other});
        items.product_place.push_back(group.offset + place);
    };
    if (best[0] == 0)
        group.each_pair(add);
    else
        for (size_t m = 0; m < a.functions->size(); ++m)
            for (size_t n = 0; n < b.functions->size(); ++n)
                add((*a.functions)[m], (*b.functions)[n], m * a.stride + n * b.stride);
    for (size_t k = 0; k < factor.functions->size(); ++k) {
        items.factors.push_back((*factor.functions)[k]);
        items.factor_place.push_back(k * factor.stride);
    }
    const size_t rows = cuda::block_sums / columns;
    for (size_t p = first_product; p < items.products.size(); p += rows)
        for (size_t f = first_factor; f < items.factors.size(); f += columns)
            (columns == 16 ? items.narrow : items.wide)
                .push_back({static_cast<int>(p), static_cast<int>(std::min(rows, items.products.size() - p)),
                            static_cast<int>(f),
                            static_cast<int>(std::min(columns, items.factors.size() - f))});
}

/// Items on the device.
class DeviceItems {
  public:
    DeviceItems(DeviceState& device, std::span<const MomentGroup> groups) {
        Items items;
        for (const MomentGroup& group : groups) add_group(group, items);
        require(items.products.size() < size_t{1} << 31, ErrorKind::usage,
                "moments: too many products for the device");
        const auto copy = [&](const auto& list) {
            using T = typename std::decay_t<decltype(list)>::value_type;
            return to_device(device, std::span<const T>(list), "the plan of the moments");
        };
        products_ = copy(items.products), product_place_ = copy(items.product_place);
        factors_ = copy(items.factors), factor_place_ = copy(items.factor_place);
        narrow_ = copy(items.narrow), wide_ = copy(items.wide);
    }
    size_t blocks() const { return narrow_.size() + wide_.size(); }

    template <class T> void accumulate(DeviceStream stream, const T* table, int functions,
                                       const cuda::MomentBatch& batch,
                                       const cuda::MomentResult& result) const {
        const cuda::MomentLists lists{products_.data(), product_place_.data(), factors_.data(),
                                      factor_place_.data()};
        cuda::accumulate_products(stream, 32, wide_.data(), wide_.size(), lists, table, functions, batch,
                                  result);
        cuda::accumulate_products(stream, 16, narrow_.data(), narrow_.size(), lists, table, functions, batch,
                                  result);
        if (result.partial) cuda::add_partial(stream, batch, result);
    }

  private:
    DeviceArray<cuda::MomentProduct> products_;
    DeviceArray<size_t> product_place_, factor_place_;
    DeviceArray<int> factors_;
    DeviceArray<cuda::MomentItem> narrow_, wide_;
};

// ---- functions

/// The tables of a reference on the device.
template <class T> class DeviceReference {
  public:
    DeviceReference(DeviceState& device, const Reference& reference) {
        std::vector<cuda::DeviceFunctions<T>> families;
        for (const Family& family : reference.families) {
            kernels::FunctionTable<T> table = function_table<T>(family);
            require(table.functions <= cuda::most_functions, ErrorKind::usage,
                    fmt::format("moments: at most {} eigenfunctions a site, got {}", cuda::most_functions,
                                table.functions));
            if (table.hermite) table.coefficients = hermite_coefficients(table.functions);
            coefficients_.push_back(
                to_device(device, std::span<const T>(table.coefficients), "the tables of eigenfunctions"));
            const T scale = table.hermite ? T{0} : static_cast<T>(table.pieces / (table.hi - table.lo));
            families.push_back({table.hermite, table.functions, table.pieces, table.degree, table.stride,
                                static_cast<T>(table.lo), scale, coefficients_.back().data()});
        }
        families_ = to_device(device, std::span<const cuda::DeviceFunctions<T>>(families), "the reference");
        family_of_ = to_device(device, std::span<const int>(reference.family_of), "the reference");
    }
    const cuda::DeviceFunctions<T>* families() const { return families_.data(); }
    const int* family_of() const { return family_of_.data(); }

  private:
    static std::vector<T> hermite_coefficients(int functions) {
        std::vector<T> c(2 * static_cast<size_t>(functions));
        for (size_t n = 0; 2 * n < c.size(); ++n) {
            c[2 * n] = static_cast<T>(std::sqrt(static_cast<double>(n)));
            c[2 * n + 1] = static_cast<T>(1 / std::sqrt(static_cast<double>(n) + 1));
        }
        return c;
    }
    std::vector<DeviceArray<T>> coefficients_;
    DeviceArray<cuda::DeviceFunctions<T>> families_;
    DeviceArray<int> family_of_;
};

// ---- the pass

constexpr size_t most_slabs = 16;               ///< in a batch that is not asked for: 80 thousand rows
constexpr size_t blocks_a_multiprocessor = 16;  ///< with fewer of them the slabs run side by side
constexpr double seconds_between_reports = 0.5; ///< where batches are not asked for
constexpr size_t slab_tiles = 5 * cuda::slab_units;

/// How many slabs stand on the device at once.
struct Plan {
    size_t slabs;
    bool split; ///< side by side, each with sums of its own
};

template <class T> class DevicePass {
  public:
    DevicePass(const Context& context, const DeviceMoments<T>& moments, const SampleSource& source,
               const MomentOptions& options, MomentSums& sums)
        : context_(context), device_(context.device_state()), moments_(moments), source_(source),
          options_(options), sums_(sums), next_row_(sums.next_row), sites_(moments.sites),
          functions_(moments.functions), items_(device_, moments.groups),
          train_(to_device(device_, std::span<const double>(sums.train), "the moments")),
          test_(to_device(device_, std::span<const double>(sums.test), "the moments")), plan_(choose_plan()) {
        const size_t rows = plan_.slabs * cuda::slab_rows;
        table_ = {device_, plan_.slabs * slab_tiles * static_cast<size_t>(functions_) * kMomentTile,
                  "the eigenfunctions of a batch"};
        for (Buffer& buffer : buffers_) {
            buffer.pinned = {device_, rows * sites_, "the rows of a batch"};
            buffer.z = {device_, rows * sites_, "the rows of a batch"};
        }
        if (!plan_.split) return;
        partial_ = {device_, plan_.slabs * 2 * sums.train.size(), "the moments of a batch"};
        cuda::fill_zero(device_.compute_stream(), partial_.data(), partial_.size() * sizeof(double));
    }
    ~DevicePass() { // what is on its way refers to the buffers
        try {
            cuda::synchronize(device_.copy_stream());
            cuda::synchronize(device_.compute_stream());
        } catch (...) { // was thrown before, or will be by the next call
        }
    }
    DevicePass(const DevicePass&) = delete;
    DevicePass& operator=(const DevicePass&) = delete;

    void run() {
        Progress progress(context_, "moments", source_.rows);
        progress.set(next_row_);
        auto reported = std::chrono::steady_clock::now();
        for (size_t number = 0; next_row_ < source_.rows; ++number) {
            // Batches end where slabs do, whatever row the first begins with.
            const size_t whole = plan_.slabs * cuda::slab_rows - next_row_ % cuda::slab_rows;
            const size_t count = std::min(whole, source_.rows - next_row_);
            enqueue(buffers_[number % 2], count);
            next_row_ += count;
            progress.set(next_row_);
            const std::chrono::duration<double> since = std::chrono::steady_clock::now() - reported;
            if (next_row_ == source_.rows || options_.batch || since.count() > seconds_between_reports) {
                commit();
                reported = std::chrono::steady_clock::now();
            }
        }
    }

  private:
    /// Rows on their way: the host writes `pinned`, the copy stream moves it to `z`, the compute stream reads
    /// it.
    struct Buffer {
        PinnedArray<double> pinned;
        DeviceArray<double> z;
        DeviceEvent copied, evaluated;
    };

    Plan choose_plan() const {
        const size_t row = 2 * sites_ * sizeof(double), asked = pieces(options_.batch, cuda::slab_rows);
        const size_t most =
            std::min(options_.batch ? asked : most_slabs, pieces(source_.rows, cuda::slab_rows));
        const size_t slab =
            cuda::slab_rows * row + slab_tiles * static_cast<size_t>(functions_) * kMomentTile * sizeof(T);
        const size_t sums = 2 * train_.size() * sizeof(double);
        const size_t rounding = 4096,
                     left = device_.memory_left() - std::min<size_t>(device_.memory_left(), rounding);
        const auto wanted =
            blocks_a_multiprocessor * static_cast<size_t>(device_.properties().multiprocessors);
        const bool split = 2 * items_.blocks() < wanted && slab + sums <= left;
        return {std::clamp(left / (slab + (split ? sums : 0)), size_t{1}, std::max(most, size_t{1})), split};
    }

    void enqueue(Buffer& buffer, size_t count) {
        buffer.copied.synchronize(); // the copy of the batch before the last
        source_.read(next_row_, count, buffer.pinned.data());
        buffer.evaluated.hold_up(device_.copy_stream());
        buffer.z.upload(device_.copy_stream(), buffer.pinned.span().first(count * sites_));
        buffer.copied.record(device_.copy_stream());
        buffer.copied.hold_up(device_.compute_stream());
        const cuda::MomentBatch batch{count,
                                      static_cast<int>(next_row_ / cuda::unit_rows % cuda::slab_units)};
        timed(device_, "moments.functions",
              [&] { moments_.evaluate(device_.compute_stream(), batch, buffer.z.data(), table_.data()); });
        buffer.evaluated.record(device_.compute_stream());
        timed(device_, "moments.products", [&] {
            items_.accumulate(device_.compute_stream(), static_cast<const T*>(table_.data()), functions_,
                              batch, {train_.size(), train_.data(), test_.data(), partial_.data()});
        });
    }

    /// Brings the sums up to next_row_ to the host and shows them to the caller.
    void commit() {
        train_.download(device_.compute_stream(), sums_.train);
        test_.download(device_.compute_stream(), sums_.test);
        cuda::synchronize(device_.compute_stream());
        for (size_t k = sums_.next_row; k < next_row_; ++k)
            ++(k % 5 == 4 ? sums_.test_rows : sums_.train_rows);
        sums_.next_row = next_row_;
        if (options_.after_batch) options_.after_batch(sums_);
    }

    const Context& context_;
    DeviceState& device_;
    const DeviceMoments<T>& moments_;
    const SampleSource& source_;
    const MomentOptions& options_;
    MomentSums& sums_;
    size_t next_row_; ///< of what is enqueued; sums_.next_row: of what is on the host
    size_t sites_;
    int functions_;
    DeviceItems items_;
    DeviceArray<double> train_, test_, partial_;
    Plan plan_;
    DeviceArray<T> table_;
    Buffer buffers_[2];
};

/// The eigenfunctions of a reference.
template <class T> void run(const Context& context, const MomentPlan& plan, const Reference& reference,
                            const SampleSource& source, const MomentOptions& options, MomentSums& sums) {
    const DeviceReference<T> tables(context.device_state(), reference);
    const int sites = plan.sites(), top = plan.top_degree(), functions = 1 + sites * top;
    const auto evaluate = [&](DeviceStream stream, const cuda::MomentBatch& batch, const double* z,
                              T* table) {
        cuda::evaluate_functions(stream,
                                 cuda::MomentEvaluation<T>{batch, sites, top, functions, tables.families(),
                                                           tables.family_of(), z, table});
    };
    sum_products_on_device<T>(context, {plan.groups(), static_cast<size_t>(sites), functions, evaluate},
                              source, options, sums);
}

} // namespace

template <class T> void sum_products_on_device(const Context& context, const DeviceMoments<T>& moments,
                                               const SampleSource& source, const MomentOptions& options,
                                               MomentSums& sums) {
    DevicePass<T>(context, moments, source, options, sums).run();
}
template void sum_products_on_device(const Context&, const DeviceMoments<float>&, const SampleSource&,
                                     const MomentOptions&, MomentSums&);
template void sum_products_on_device(const Context&, const DeviceMoments<double>&, const SampleSource&,
                                     const MomentOptions&, MomentSums&);

void accumulate_moments_on_device(const Context& context, const MomentPlan& plan, const Reference& reference,
                                  const SampleSource& source, const MomentOptions& options,
                                  MomentSums& sums) {
    require(sums.next_row >= source.rows || sums.next_row % cuda::unit_rows == 0, ErrorKind::usage,
            fmt::format("moments: sums to continue must end with a multiple of {} rows, got {}",
                        cuda::unit_rows, sums.next_row));
    if (options.single_precision)
        run<float>(context, plan, reference, source, options, sums);
    else
        run<double>(context, plan, reference, source, options, sums);
}

} // namespace dynkin

// level_moments_device.cpp - the moments of a level on the device: pairs in slabs, the functions whose
// products are summed, and the sums of moments_cuda.h over them.
#include "../kernels/level_moments_cuda.h"
#include "conditions_device.h"
#include "error.h"
#include "level_flow.h"
#include "level_moments.h"
#include "parallel.h"
#include "piecewise.h"
#include <algorithm>
#include <cmath>

namespace dynkin {

using kernels::kMomentTile;
using kernels::kScoreTile;
using std::size_t;

namespace {

constexpr size_t kMostSlabs = 32; ///< at a time: 160 thousand pairs fill any device

/// All products of phi_k psi_a with some psi_b, and with the constant.
class Items {
  public:
    /// Sums stand at ((k p + a) (p + 1) + b), those with the constant at b = p.
    Items(size_t functions, size_t conditions) : functions_(functions), p_(conditions) {}

    /// k = first_k, first_k + step ..; a < a_end; b < b_end, and the constant if asked for.
    void add(size_t first_k, size_t step, size_t a, size_t a_end, size_t b, size_t b_end, bool constant) {
        const size_t first_product = products.size(), first_factor = factors.size();
        for (size_t k = first_k; k < functions_; k += step)
            for (size_t alpha = a; alpha < a_end; ++alpha) {
                products.push_back({static_cast<int>(k), static_cast<int>(functions_ + alpha)});
                product_place.push_back((k * p_ + alpha) * (p_ + 1));
            }
        for (size_t beta = b; beta < b_end; ++beta)
            factors.push_back(static_cast<int>(functions_ + beta)), factor_place.push_back(beta);
        if (constant) factors.push_back(0), factor_place.push_back(p_);
        const size_t rows = cuda::block_sums / columns;
        for (size_t m = first_product; m < products.size(); m += rows)
            for (size_t n = first_factor; n < factors.size(); n += columns)
                items.push_back({static_cast<int>(m), static_cast<int>(std::min(rows, products.size() - m)),
                                 static_cast<int>(n),
                                 static_cast<int>(std::min(columns, factors.size() - n))});
    }

    static constexpr size_t columns = 16;
    std::vector<cuda::MomentProduct> products;
    std::vector<size_t> product_place, factor_place;
    std::vector<int> factors;
    std::vector<cuda::MomentItem> items;

  private:
    size_t functions_, p_;
};

Items make_items(const Level& level, size_t functions) {
    const size_t p = level.conditions();
    Items items(functions, p);
    if (level.even_conditions < 0) {
        items.add(0, 1, 0, p, 0, p, true);
        return items;
    }
    const size_t even = static_cast<size_t>(level.even_conditions);
    items.add(0, 2, 0, even, 0, even, true);
    items.add(0, 2, even, p, even, p, false);
    items.add(1, 2, 0, even, even, p, false);
    items.add(1, 2, even, p, 0, 0, true);
    return items;
}

/// The sums of one level, from pairs in slabs.
class LevelSums {
  public:
    LevelSums(DeviceState& device, const Level& level, size_t rows)
        : device_(device), columns_(static_cast<size_t>(level.slots) + 1), p_(level.conditions()) {
        conditions_ = device_conditions(device, level_conditions(level));
        const int target = 0;
        std::vector<int> neighbours;
        for (int s = 1; s <= level.slots; ++s) neighbours.push_back(s);
        target_ = to_device(device, std::span(&target, 1), "a level");
        neighbours_ = to_device(device, std::span<const int>(neighbours), "a level");
        set_functions(level);
        const Items items = make_items(level, functions());
        products_ = to_device(device, std::span(items.products), "the moments of a level");
        product_place_ = to_device(device, std::span(items.product_place), "the moments of a level");
        factors_ = to_device(device, std::span(items.factors), "the moments of a level");
        factor_place_ = to_device(device, std::span(items.factor_place), "the moments of a level");
        items_ = to_device(device, std::span(items.items), "the moments of a level");
        allocate(rows);
    }

    size_t rows() const { return slabs_ * cuda::slab_rows; } ///< pairs that add() takes at most
    size_t functions() const { return static_cast<size_t>(family_.functions); }
    size_t size() const { return functions() * p_ * (p_ + 1); }

    /// Adds `count` pairs: x[tile][column][pair] in tiles of kScoreTile, whatever behind the last.
    void add(const Array<double>& x, size_t count) {
        const DeviceStream stream = device_.compute_stream();
        const size_t unit = cuda::unit_rows, padded = (count + unit - 1) / unit * unit;
        cuda::ConditionalWork<double> w{};
        w.tiles = padded / kScoreTile, w.columns = static_cast<int>(columns_), w.targets = 1;
        w.slots = static_cast<int>(columns_) - 1, w.target = target_.data(),
        w.neighbours = neighbours_.data();
        w.x = x_.data(), w.mean = mean_.data(), w.psi = psi_.data();
        x_.upload(stream, {x.data(), padded * columns_});
        cuda::describe_conditions(stream, conditions_.view, w);
        cuda::level_functions(
            stream, {count, padded / kMomentTile, family_, static_cast<int>(p_), scale_, table_.data()}, w);
        const cuda::MomentBatch batch{padded, 0};
        const cuda::MomentResult result{size(), sums_.data(), sums_.data() + size(), partial_.data()};
        const cuda::MomentLists lists{products_.data(), product_place_.data(), factors_.data(),
                                      factor_place_.data()};
        cuda::accumulate_products(stream, static_cast<int>(Items::columns), items_.data(), items_.size(),
                                  lists, table_.data(), static_cast<int>(functions() + p_), batch, result);
        cuda::add_partial(stream, batch, result);
        cuda::synchronize(stream);
    }

    /// Of both halves of the tiles: to the moments all pairs are alike.
    std::vector<double> sums() const {
        std::vector<double> both = to_host(device_, sums_);
        for (size_t k = 0; k < size(); ++k) both[k] += both[size() + k];
        both.resize(size());
        return both;
    }

  private:
    void set_functions(const Level& level) {
        kernels::FunctionTable<double> table = function_table<double>(level.family);
        if (table.hermite)
            for (int n = 0; n < table.functions; ++n) {
                table.coefficients.push_back(std::sqrt(static_cast<double>(n)));
                table.coefficients.push_back(1 / std::sqrt(n + 1.0));
            }
        functions_ =
            to_device(device_, std::span<const double>(table.coefficients), "the functions of a level");
        family_ = {table.hermite,
                   table.functions,
                   table.pieces,
                   table.degree,
                   table.stride,
                   table.lo,
                   table.hermite ? 0 : table.pieces / (table.hi - table.lo),
                   functions_.data()};
        scale_ = level.scale;
    }

    /// For as many of the rows as the memory holds, in whole slabs.
    void allocate(size_t rows) {
        const size_t numbers = columns_ + 1 + 2 * p_ + functions(),
                     slab = (cuda::slab_rows * numbers + 2 * size()) * sizeof(double),
                     kept = std::min<size_t>(device_.memory_left(), 2 * size() * sizeof(double)),
                     wanted = (rows + cuda::slab_rows - 1) / cuda::slab_rows;
        slabs_ = std::clamp<size_t>((device_.memory_left() - kept) / slab, 1, std::min(wanted, kMostSlabs));
        sums_ = {device_, 2 * size(), "the moments of a level"};
        partial_ = {device_, slabs_ * 2 * size(), "the moments of a level, in parts"};
        x_ = {device_, this->rows() * columns_, "training pairs"};
        mean_ = {device_, this->rows(), "training pairs"};
        psi_ = {device_, this->rows() * p_, "conditions of training pairs"};
        table_ = {device_, this->rows() * (functions() + p_), "functions of training pairs"};
        cuda::fill_zero(device_.compute_stream(), sums_.data(), sums_.size() * sizeof(double));
        cuda::fill_zero(device_.compute_stream(), partial_.data(), partial_.size() * sizeof(double));
    }

    DeviceState& device_;
    size_t columns_, p_, slabs_ = 0;
    double scale_ = 1;
    DeviceConditions conditions_;
    DeviceArray<int> target_, neighbours_, factors_;
    DeviceArray<cuda::MomentProduct> products_;
    DeviceArray<size_t> product_place_, factor_place_;
    DeviceArray<cuda::MomentItem> items_;
    cuda::DeviceFunctions<double> family_{};
    DeviceArray<double> functions_, sums_, partial_, x_, mean_, psi_, table_;
};

} // namespace

LevelMoments level_moments_on_device(const Context& context, const Level& level, const LevelPairs& pairs,
                                     size_t first, size_t last) {
    LevelSums sums(context.device_state(), level, last - first);
    const size_t columns = pairs.values.rows();
    Array<double> x(sums.rows() / kScoreTile, columns * kScoreTile);
    for (size_t at = first; at < last; at += sums.rows()) {
        const size_t count = std::min(sums.rows(), last - at);
        parallel_for(context.threads(), (count + kScoreTile - 1) / kScoreTile, [&](size_t tile, size_t) {
            for (size_t k = 0; k < columns; ++k)
                for (size_t q = 0; q < kScoreTile; ++q) {
                    const size_t n = at + std::min(tile * kScoreTile + q, count - 1);
                    x(tile, k * kScoreTile + q) = static_cast<double>(pairs.values(k, n));
                }
        });
        sums.add(x, count);
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    }
    const size_t p = level.conditions(), r = sums.functions();
    LevelMoments out{p, Array<double>(r, p * p), Array<double>(r, p), static_cast<double>(last - first)};
    const std::vector<double> from = sums.sums();
    for (size_t k = 0; k < r; ++k)
        for (size_t a = 0; a < p; ++a) {
            const double* row = &from[(k * p + a) * (p + 1)];
            for (size_t b = 0; b < p; ++b)
                if (row[b] != 0) out.triple(k, a * p + b) = out.triple(k, b * p + a) = row[b];
            out.single(k, a) = row[p];
        }
    return out;
}

} // namespace dynkin

#include "moments.h"
#include "../kernels/device.h"
#include "../kernels/moments.h"
#include "error.h"
#include "moments_device.h"
#include "parallel.h"
#include "piecewise.h"
#include "progress.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>

namespace dynkin {

using kernels::kMomentTile;
using kernels::MomentGroup;
using kernels::MomentPairs;
using std::size_t;

/// Where a site's sums stand: one group for each combination of parities that can occur, -1 where there is
/// none.
struct MomentPlan::SiteLayout {
    std::vector<int> row, col; ///< per feature: position among the group's rows (near ones) and columns
    int near_all = -1;         ///< rows near (odd ones, if even), columns all (odd ones, if even)
    int near_near = -1, odd_weight = -1; ///< even bases: even x even, and odd r: even rows x odd columns
    int far = -1;
    std::vector<int> far_position;
    std::vector<std::vector<int>> slot; ///< per group of the four, in this order: weight position of r
    // E[phi_r(x_i) phi_s(x_j)] for neighbours j > i: groups by class of pair and parity.
    struct PairTable {
        int j;
        int group[2] = {-1, -1}; ///< even and odd s (even bases); [0] only otherwise
        int first_row[2] = {0, 0}, first_col[2] = {0, 0};
        int position[2] = {0, 0}; ///< which of pair_position_
    };
    std::vector<PairTable> pairs;
};

MomentPlan::~MomentPlan() = default;
MomentPlan::MomentPlan(MomentPlan&&) noexcept = default;

namespace {

constexpr double kNegligible = 1e-12; ///< relative to the largest coefficient of the same kind

/// r such that some coefficient with k, l <= degree is not negligible.
std::vector<char> needed_degrees(const std::vector<ProductTables>& tables, int degree, bool products,
                                 int top) {
    std::vector<char> needed(static_cast<size_t>(top + 1), 0);
    for (const ProductTables& t : tables) {
        const int n = std::min(degree, t.degree);
        double largest = 0;
        for (int pass = 0; pass < 2; ++pass)
            for (int k = 1; k <= n; ++k)
                for (int l = 1; l <= n; ++l)
                    for (int r = 0; r <= top; ++r) {
                        const double c = std::abs(products ? t.product(k, l, r) : t.gradient(k, l, r));
                        if (pass == 0)
                            largest = std::max(largest, c);
                        else if (c > kNegligible * largest)
                            needed[static_cast<size_t>(r)] = 1;
                    }
    }
    return needed;
}

std::vector<char> either(std::vector<char> a, const std::vector<char>& b) {
    for (size_t r = 0; r < a.size(); ++r) a[r] = static_cast<char>(a[r] | b[r]);
    return a;
}

std::vector<int> positions(const std::vector<int>& degrees, int top) {
    std::vector<int> at(static_cast<size_t>(top + 1), -1);
    for (size_t k = 0; k < degrees.size(); ++k) at[static_cast<size_t>(degrees[k])] = static_cast<int>(k);
    return at;
}

} // namespace

std::vector<int> MomentPlan::degrees(int parity, const std::vector<char>& needed) const {
    std::vector<int> list;
    for (int r = 0; r <= top_degree_; ++r)
        if (needed[static_cast<size_t>(r)] && (parity < 0 || r % 2 == parity)) list.push_back(r);
    return list;
}

int MomentPlan::add_group(MomentGroup group) {
    if (group.weights.empty() || group.rows.empty() || group.cols.empty()) return -1;
    group.ld = (group.cols.size() + 15) / 16 * 16;
    group.offset = size_;
    size_ += group.size();
    groups_.push_back(std::move(group));
    return static_cast<int>(groups_.size()) - 1;
}

MomentPlan::MomentPlan(const IndexSet& set, const Reference& reference,
                       const std::vector<ProductTables>& tables)
    : even_(set.even) {
    const int sites = set.sites, degree = set.max_degree();
    top_degree_ = reference.families.front().top_degree();
    needed_all_ = needed_degrees(tables, degree, false, top_degree_);
    needed_far_ = needed_degrees(tables, 1, false, top_degree_);
    needed_pair_all_ = either(needed_all_, needed_degrees(tables, degree, true, top_degree_));
    needed_pair_far_ = either(needed_far_, needed_degrees(tables, 1, true, top_degree_));
    // First moments E[phi_a(x_i) phi_b(x_j)] are read as triples with the constant, so every degree of a term
    // is needed.
    for (int r = 0; r <= degree; ++r) needed_all_[static_cast<size_t>(r)] = 1;

    std::vector<std::vector<int>> pair_degree(static_cast<size_t>(sites),
                                              std::vector<int>(static_cast<size_t>(sites), 0));
    for (const Term& term : set.terms)
        if (term.j >= 0) {
            int& d = pair_degree[static_cast<size_t>(term.i)][static_cast<size_t>(term.j)];
            d = std::max({d, term.a, term.b});
            pair_degree[static_cast<size_t>(term.j)][static_cast<size_t>(term.i)] = d;
        }
    features_.resize(static_cast<size_t>(sites));
    layout_.resize(static_cast<size_t>(sites));
    for (int i = 0; i < sites; ++i) plan_site(i, set, pair_degree);
    // Where most pairs are in, several sites share one product, so that packing its columns pays.
    const bool crowded =
        4 * set.pairs.size() > static_cast<size_t>(sites) * static_cast<size_t>(sites - 1) / 2;
    const int step = crowded ? 8 : 1;
    for (int i = 0; i < sites; i += step) plan_pairs(i, std::min(i + step, sites), pair_degree);
    if (size_ > (size_t{1} << 31))
        throw Error(ErrorKind::usage,
                    fmt::format("moments: {} sums are needed ({} GB), at most 2^31 are supported: "
                                "use fewer pairs or a lower degree",
                                size_, size_ * 16 >> 30));
}

void MomentPlan::plan_site(int i, const IndexSet& set, const std::vector<std::vector<int>>& pair_degree) {
    auto& features = features_[static_cast<size_t>(i)];
    features.push_back({-1, 0, false});
    for (int pass = 0; pass < 2; ++pass) // near ones first
        for (int j = 0; j < set.sites; ++j) {
            const int degree = pair_degree[static_cast<size_t>(i)][static_cast<size_t>(j)];
            if (degree == 0 || (degree == 1) != (pass == 1)) continue;
            for (int b = 1; b <= degree; ++b) features.push_back({j, b, degree == 1});
        }
    SiteLayout& at = layout_[static_cast<size_t>(i)];
    at.row.assign(features.size(), -1), at.col = at.far_position = at.row;
    MomentGroup near_all, near_near, odd_weight, far;
    for (size_t p = 0; p < features.size(); ++p) {
        const Feature& f = features[p];
        const int id = f.j < 0 ? 0 : function(f.j, f.b);
        const bool odd = f.b % 2;
        if (f.far) at.far_position[p] = static_cast<int>(far.rows.size()), far.rows.push_back(id);
        if (!even_ || odd) {
            at.col[p] = static_cast<int>(near_all.cols.size()), near_all.cols.push_back(id);
            if (!f.far) at.row[p] = static_cast<int>(near_all.rows.size()), near_all.rows.push_back(id);
        } else
            at.row[p] = at.col[p] = static_cast<int>(near_near.rows.size()), near_near.rows.push_back(id);
    }
    near_near.cols = odd_weight.rows = near_near.rows;
    odd_weight.cols = near_all.cols;
    far.cols = far.rows;
    const int even_parity = even_ ? 0 : -1;
    const std::vector<int> lists[4] = {degrees(even_parity, needed_all_), degrees(0, needed_all_),
                                       degrees(1, needed_all_), degrees(even_parity, needed_far_)};
    MomentGroup* groups[4] = {&near_all, &near_near, &odd_weight, &far};
    int* where[4] = {&at.near_all, &at.near_near, &at.odd_weight, &at.far};
    at.slot.resize(4);
    for (int k = 0; k < 4; ++k) {
        at.slot[static_cast<size_t>(k)] = positions(lists[k], top_degree_);
        if (!even_ && (k == 1 || k == 2)) continue;
        for (int r : lists[k]) groups[k]->weights.push_back(function(i, r));
        if (k == 3)
            far.pairs =
                far.weights.size() < kernels::kMomentCyclicWeights ? MomentPairs::lower : MomentPairs::cyclic;
        *where[k] = add_group(std::move(*groups[k]));
    }
}

void MomentPlan::plan_pairs(int first, int last, const std::vector<std::vector<int>>& pair_degree) {
    for (int far = 0; far < 2; ++far)
        for (int parity = 0; parity < (even_ ? 2 : 1); ++parity) {
            const std::vector<int> list =
                degrees(even_ ? parity : -1, far ? needed_pair_far_ : needed_pair_all_);
            const auto wanted = [&](int i, int j) {
                const int degree = pair_degree[static_cast<size_t>(i)][static_cast<size_t>(j)];
                return j > i && degree > 0 && (degree == 1) == (far == 1);
            };
            MomentGroup group;
            group.weights = {0};
            for (int i = first; i < last; ++i)
                for (int r : list) group.rows.push_back(function(i, r));
            const int id = static_cast<int>(groups_.size());
            for (int j = first; j < sites() && !list.empty(); ++j) {
                bool any = false;
                for (int i = first; i < last; ++i) {
                    if (!wanted(i, j)) continue;
                    any = true;
                    auto& pairs = layout_[static_cast<size_t>(i)].pairs;
                    auto entry =
                        std::find_if(pairs.begin(), pairs.end(), [j](const auto& p) { return p.j == j; });
                    if (entry == pairs.end()) entry = pairs.insert(entry, SiteLayout::PairTable{j});
                    entry->group[parity] = id;
                    entry->first_row[parity] = (i - first) * static_cast<int>(list.size());
                    entry->first_col[parity] = static_cast<int>(group.cols.size());
                    entry->position[parity] = far * 2 + parity;
                }
                if (any)
                    for (int s : list) group.cols.push_back(function(j, s));
            }
            pair_position_[far * 2 + parity] = positions(list, top_degree_);
            add_group(std::move(group));
        }
    for (int i = first; i < last; ++i) {
        auto& pairs = layout_[static_cast<size_t>(i)].pairs;
        std::sort(pairs.begin(), pairs.end(), [](const auto& a, const auto& b) { return a.j < b.j; });
    }
}

int MomentPlan::feature(int site, int j, int b) const {
    if (j < 0) return 0;
    const auto& list = features_[static_cast<size_t>(site)];
    for (size_t p = 1; p < list.size(); ++p)
        if (list[p].j == j && list[p].b == b) return static_cast<int>(p);
    throw Error(ErrorKind::usage, "moments: no such feature");
}

MomentPlan::TriplePlace MomentPlan::triple_place(int site, int p, int q) const {
    const SiteLayout& at = layout_[static_cast<size_t>(site)];
    const auto& list = features_[static_cast<size_t>(site)];
    const Feature &fp = list[static_cast<size_t>(p)], &fq = list[static_cast<size_t>(q)];
    const auto place = [&](int group, int kind, int row, int col) {
        const MomentGroup& g = groups_[static_cast<size_t>(group)];
        return TriplePlace{g.offset + g.place(static_cast<size_t>(row), static_cast<size_t>(col)),
                           g.lines() * g.ld, at.slot[static_cast<size_t>(kind)].data()};
    };
    if (fp.far && fq.far) {
        const int a = at.far_position[static_cast<size_t>(p)], b = at.far_position[static_cast<size_t>(q)];
        return place(at.far, 3, std::max(a, b), std::min(a, b));
    }
    const bool odd_p = fp.b % 2, odd_q = fq.b % 2;
    int row = p, col = q;
    if (fp.far || (even_ && odd_p && !odd_q)) std::swap(row, col);
    const int m = at.row[static_cast<size_t>(row)], n = at.col[static_cast<size_t>(col)];
    if (!even_ || (odd_p && odd_q)) return place(at.near_all, 0, m, n);
    return odd_p || odd_q ? place(at.odd_weight, 2, m, n) : place(at.near_near, 1, m, n);
}

MomentPlan::View MomentPlan::triple(const double* sums, int site, int p, int q) const {
    const TriplePlace at = triple_place(site, p, q);
    return {sums + at.base, at.stride, at.slot};
}

MomentPlan::PairPlace MomentPlan::pair_place(int i, int j, int parity) const {
    const int low = std::min(i, j), high = std::max(i, j);
    const auto& pairs = layout_[static_cast<size_t>(low)].pairs;
    const auto entry = std::lower_bound(pairs.begin(), pairs.end(), high,
                                        [](const auto& p, int value) { return p.j < value; });
    if (entry == pairs.end() || entry->j != high || entry->group[parity] < 0) return {};
    const MomentGroup& g = groups_[static_cast<size_t>(entry->group[parity])];
    PairPlace at{g.offset + static_cast<size_t>(entry->first_row[parity]) * g.ld +
                     static_cast<size_t>(entry->first_col[parity]),
                 g.ld, 1, pair_position_[entry->position[parity]].data()};
    if (i > j) std::swap(at.stride_r, at.stride_s);
    return at;
}

double MomentPlan::pair(const double* sums, int i, int j, int r, int s) const {
    if (even_ && (r + s) % 2) return 0;
    const PairPlace at = pair_place(i, j, even_ ? r % 2 : 0);
    if (!at.position || at.position[r] < 0 || at.position[s] < 0) return 0;
    return sums[at.base + static_cast<size_t>(at.position[r]) * at.stride_r +
                static_cast<size_t>(at.position[s]) * at.stride_s];
}

double MomentPlan::multiply_adds() const {
    double total = 0;
    for (const SiteLayout& at : layout_) {
        for (const int id : {at.near_all, at.near_near, at.odd_weight, at.far}) {
            if (id < 0) continue;
            const MomentGroup& g = groups_[static_cast<size_t>(id)];
            const double rows = static_cast<double>(g.rows.size()), cols = static_cast<double>(g.cols.size());
            total += static_cast<double>(g.weights.size()) *
                     (g.pairs == MomentPairs::all ? rows * cols : rows * (rows + 1) / 2);
        }
        for (const auto& pair : at.pairs)
            for (int parity = 0; parity < 2; ++parity) {
                if (pair.group[parity] < 0) continue;
                double degrees = 0;
                for (int at_r : pair_position_[pair.position[parity]]) degrees += at_r >= 0;
                total += degrees * degrees;
            }
    }
    return total;
}

namespace {

/// A range of rows of one group: the unit of work of one thread. How rows are divided does not change any
/// sum.
struct Unit {
    int group, first, last;
};

std::vector<Unit> divide(const std::vector<MomentGroup>& groups, int row_step, int threads) {
    double total = 0;
    const auto cost = [](const MomentGroup& g) {
        return static_cast<double>(g.weights.size() * g.rows.size()) * static_cast<double>(g.cols.size());
    };
    for (const MomentGroup& g : groups) total += cost(g);
    std::vector<Unit> units;
    for (size_t k = 0; k < groups.size(); ++k) {
        const MomentGroup& g = groups[k];
        const int rows = static_cast<int>(g.cyclic() ? g.lines() : g.weights.size() * g.rows.size());
        // Lines in whole register blocks of any number of weights.
        const int block = g.cyclic()                      ? 8
                          : g.pairs == MomentPairs::lower ? static_cast<int>(g.rows.size())
                                                          : row_step;
        const double share = cost(g) / total * 8 * threads;
        const int pieces = std::clamp(static_cast<int>(share), 1, (rows + block - 1) / block);
        const int step = ((rows + block - 1) / block + pieces - 1) / pieces * block;
        for (int first = 0; first < rows; first += step)
            units.push_back({static_cast<int>(k), first, std::min(rows, first + step)});
    }
    return units;
}

/// One group of five rows gives four to the training tiles and one to the held-out tile.
constexpr size_t kBatchUnit = 5 * kMomentTile;

struct TileRef {
    bool held_out;
    int count;    ///< samples in it
    size_t first; ///< of its samples in the order of rows below
};

template <class T> class Accumulator {
  public:
    Accumulator(const Context& context, const MomentPlan& plan, const Reference& reference)
        : context_(context), plan_(plan), kernels_(kernels::moment_kernels<T>(context.isa())),
          units_(divide(plan.groups(), kernels_.row_step, context.threads())) {
        for (const Family& family : reference.families) tables_.push_back(function_table<T>(family));
        family_of_ = reference.family_of;
        functions_ = static_cast<size_t>(1 + plan.sites() * plan.top_degree());
        size_t scratch = 0;
        for (const MomentGroup& g : plan.groups()) scratch = std::max(scratch, kernels::moment_scratch<T>(g));
        scratch_ = Array<T>(static_cast<size_t>(context.threads()), scratch);
    }

    void add(const double* z, size_t first_row, size_t rows, MomentSums& sums) {
        split(first_row, rows);
        if (table_.size() < tiles_.size() * functions_ * kMomentTile)
            table_ = Array<T>(tiles_.size(), functions_ * kMomentTile);
        evaluate(z);
        parallel_for(context_.threads(), units_.size(), [&](size_t u, size_t thread) {
            for (size_t tile = 0; tile < tiles_.size(); ++tile)
                kernels_.accumulate(plan_.groups()[static_cast<size_t>(units_[u].group)], units_[u].first,
                                    units_[u].last, table_.row(tile),
                                    (tiles_[tile].held_out ? sums.test : sums.train).data(),
                                    scratch_.row(thread));
        });
    }

  private:
    /// Each kBatchUnit rows give four training tiles and one held-out tile: tiles do not depend on the batch.
    void split(size_t first_row, size_t rows) {
        tiles_.clear();
        order_.clear();
        for (size_t start = 0; start < rows; start += kBatchUnit)
            for (const bool held_out : {false, true}) {
                int room = 0;
                for (size_t k = start; k < std::min(start + kBatchUnit, rows); ++k) {
                    if (((first_row + k) % 5 == 4) != held_out) continue;
                    if (room == 0) tiles_.push_back({held_out, 0, order_.size()}), room = kMomentTile;
                    order_.push_back(k);
                    ++tiles_.back().count, --room;
                }
            }
    }

    void evaluate(const double* z) {
        const size_t sites = static_cast<size_t>(plan_.sites());
        parallel_for(context_.threads(), tiles_.size() * sites, [&](size_t job, size_t) {
            const TileRef& tile = tiles_[job / sites];
            const size_t site = job % sites;
            alignas(64) T column[kMomentTile];
            for (int s = 0; s < tile.count; ++s)
                column[s] = static_cast<T>(z[order_[tile.first + static_cast<size_t>(s)] * sites + site]);
            T* values = table_.row(job / sites);
            if (site == 0)
                for (int s = 0; s < kMomentTile; ++s) values[s] = s < tile.count ? T{1} : T{0};
            // The kernel writes functions 1 .. R behind its argument; function 0 of a site is shared.
            const size_t first = 1 + site * static_cast<size_t>(plan_.top_degree());
            kernels_.evaluate(tables_[static_cast<size_t>(family_of_[site])], column, tile.count,
                              values + (first - 1) * kMomentTile);
        });
    }

    const Context& context_;
    const MomentPlan& plan_;
    const kernels::MomentKernels<T>& kernels_;
    std::vector<Unit> units_;
    std::vector<kernels::FunctionTable<T>> tables_;
    std::vector<int> family_of_;
    size_t functions_;
    Array<T> table_, scratch_;
    std::vector<TileRef> tiles_;
    std::vector<size_t> order_;
};

template <class T> void run(const Context& context, const MomentPlan& plan, const Reference& reference,
                            const SampleSource& source, const MomentOptions& options, MomentSums& sums) {
    Accumulator<T> accumulator(context, plan, reference);
    const size_t sites = static_cast<size_t>(plan.sites());
    const size_t table_bytes = (1 + sites * static_cast<size_t>(plan.top_degree())) * kBatchUnit * sizeof(T);
    // A batch's functions stay close, in the third-level cache at least.
    const size_t chosen = std::clamp((size_t{16} << 20) / table_bytes, size_t{1}, size_t{16});
    const size_t batch =
        (options.batch ? (options.batch + kBatchUnit - 1) / kBatchUnit : chosen) * kBatchUnit;
    Array<double> z(std::min(batch, source.rows), sites);
    Progress progress(context, "moments", source.rows);
    progress.set(sums.next_row);
    while (sums.next_row < source.rows) {
        const size_t first = sums.next_row, count = std::min(batch, source.rows - first);
        source.read(first, count, z.data());
        accumulator.add(z.data(), first, count, sums);
        for (size_t k = first; k < first + count; ++k) ++(k % 5 == 4 ? sums.test_rows : sums.train_rows);
        sums.next_row = first + count;
        progress.set(sums.next_row);
        if (options.after_batch) options.after_batch(sums);
    }
}

} // namespace

void accumulate_moments(const Context& context, const MomentPlan& plan, const Reference& reference,
                        const SampleSource& source, const MomentOptions& options, MomentSums& sums) {
    if (sums.train.empty()) sums.train.assign(plan.size(), 0), sums.test.assign(plan.size(), 0);
    require(sums.train.size() == plan.size() && sums.test.size() == plan.size(), ErrorKind::usage,
            "moments: the sums to continue belong to another plan");
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return accumulate_moments_on_device(context, plan, reference, source, options, sums);
    if (options.single_precision)
        run<float>(context, plan, reference, source, options, sums);
    else
        run<double>(context, plan, reference, source, options, sums);
}

std::vector<double> moment_averages(const MomentSums& sums, Subset subset) {
    const double rows = static_cast<double>(subset == Subset::train  ? sums.train_rows
                                            : subset == Subset::test ? sums.test_rows
                                                                     : sums.train_rows + sums.test_rows);
    std::vector<double> average(sums.train.size());
    for (size_t k = 0; k < average.size(); ++k)
        average[k] =
            ((subset != Subset::test ? sums.train[k] : 0) + (subset != Subset::train ? sums.test[k] : 0)) /
            rows;
    return average;
}

} // namespace dynkin

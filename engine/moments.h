// moments.h - every average over the data that the score needs, computed once, in one streaming pass.
#pragma once
#include "context.h"
#include "eigenbasis.h"
#include "index_set.h"
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace dynkin {

/// The one-dimensional references of all sites; equivalent sites share one.
struct Reference {
    std::vector<Family> families;
    std::vector<int> family_of; ///< per site
    const Family& of(int site) const {
        return families[static_cast<std::size_t>(family_of[static_cast<std::size_t>(site)])];
    }
    int sites() const { return static_cast<int>(family_of.size()); }
};

/// phi_b(x_j) as it appears beside a factor of site i; j = -1, b = 0: the constant.
struct Feature {
    int j, b;
    bool far; ///< only ever multiplies phi_1(x_i): a pair of degree 1
};

namespace kernels {
struct MomentGroup;
}

/// Which sums are needed and where each stands: E[phi_r(x_i) phi_b(x_j) phi_d(x_q)] for each site i and pair
/// of its features
/// ("triple"), and E[phi_r(x_i) phi_s(x_j)] for each pair ("pair"). Derived in docs/method.md, section 4.
class MomentPlan {
  public:
    /// `tables`: one per family of the reference. Sums whose coefficient in A vanishes are left out.
    MomentPlan(const IndexSet& set, const Reference& reference, const std::vector<ProductTables>& tables);
    ~MomentPlan();
    MomentPlan(MomentPlan&&) noexcept;

    int sites() const { return static_cast<int>(features_.size()); }
    int top_degree() const { return top_degree_; }
    std::size_t size() const { return size_; } ///< numbers in the result
    /// Useful multiply-adds per sample: what the bench counts.
    double multiply_adds() const;
    const std::vector<Feature>& features(int site) const { return features_[static_cast<std::size_t>(site)]; }
    /// Index of feature (j, b) of a site; 0 is the constant.
    int feature(int site, int j, int b) const;

    /// The sums for all r at once: value(r) = slot[r] < 0 ? 0 : base[slot[r] * stride].
    struct View {
        const double* base;
        std::size_t stride;
        const int* slot;
        double operator()(int r) const {
            return slot[r] < 0 ? 0 : base[static_cast<std::size_t>(slot[r]) * stride];
        }
    };
    View triple(const double* sums, int site, int feature_p, int feature_q) const;
    /// E[phi_r(x_i) phi_s(x_j)]; 0 where the plan leaves it out.
    double pair(const double* sums, int i, int j, int r, int s) const;

    /// Where triple() stands: base + slot[r] * stride; slot: top_degree() + 1 numbers, the same for many
    /// triples.
    struct TriplePlace {
        std::size_t base, stride;
        const int* slot;
    };
    TriplePlace triple_place(int site, int feature_p, int feature_q) const;
    /// Where pair() stands for r and s of one parity (even bases; else parity 0 holds all): base +
    /// position[r] * stride_r + position[s] * stride_s; position null, or negative: 0.
    struct PairPlace {
        std::size_t base = 0, stride_r = 0, stride_s = 0;
        const int* position = nullptr;
    };
    PairPlace pair_place(int i, int j, int parity) const;
    bool even() const { return even_; }

    const std::vector<kernels::MomentGroup>& groups() const { return groups_; }

  private:
    struct SiteLayout;
    void plan_site(int site, const IndexSet& set, const std::vector<std::vector<int>>& degree);
    void plan_pairs(int first_site, int last_site, const std::vector<std::vector<int>>& degree);
    int add_group(kernels::MomentGroup group);
    int function(int site, int degree) const { return degree ? 1 + site * top_degree_ + degree - 1 : 0; }
    std::vector<int> degrees(int parity, const std::vector<char>& needed) const;

    int top_degree_ = 0;
    bool even_ = false;
    std::size_t size_ = 0;
    std::vector<char> needed_all_, needed_far_, needed_pair_all_, needed_pair_far_;
    std::vector<int>
        pair_position_[4]; ///< degree -> position in a pair group: far and near class, even and odd
    std::vector<std::vector<Feature>> features_;
    std::vector<SiteLayout> layout_;
    std::vector<kernels::MomentGroup> groups_;
};

/// Standardised samples: fills z (count x sites, row-major) with rows [first, first + count).
struct SampleSource {
    std::size_t rows = 0;
    std::function<void(std::size_t first, std::size_t count, double* z)> read;
};

/// Sums over the rows that are kept for training and over the fifth that is held out (row % 5 == 4).
struct MomentSums {
    std::vector<double> train, test;
    std::uint64_t train_rows = 0, test_rows = 0, next_row = 0;
};

struct MomentOptions {
    bool single_precision = false; ///< float32 products, summed in float64 every 256 samples
    std::size_t batch = 0;         ///< rows at a time, 0: chosen; does not change results
    /// Called between batches, with sums complete up to next_row; may throw to stop.
    std::function<void(const MomentSums&)> after_batch;
};

/// Continues `sums` (empty: from the start) through all rows, on the context's device. Same bytes for any
/// thread count, batch and device memory. Cost: 2 multiply_adds() flops a row. Throws what the source throws.
void accumulate_moments(const Context& context, const MomentPlan& plan, const Reference& reference,
                        const SampleSource& source, const MomentOptions& options, MomentSums& sums);

/// Averages: train / n, test / n, or both together / n.
enum class Subset { train, test, all };
std::vector<double> moment_averages(const MomentSums& sums, Subset subset);

} // namespace dynkin

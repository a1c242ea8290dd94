// prior.h - closed-form scores of noisy data at every noise level, as a prior that networks are trained on.
#pragma once
#include "array.h"
#include "checkpoint.h"
#include "context.h"
#include "model.h"
#include "npy.h"
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace dynkin {

/// product: each coordinate by itself, K eigenfunctions of the OU process. gaussian: mean and covariance.
/// flat: K eigenfunctions a coordinate and all products of two coordinates.
enum class PriorKind { product, gaussian, flat };

/// edm: x = x_0 + sigma eps. vp: x = alpha x_0 + sigma eps, alpha = sqrt(1 - sigma^2).
enum class NoiseConvention { edm, vp };

struct PriorOptions {
    PriorKind kind = PriorKind::product;
    int degree = 6; ///< K, 2 to 10 (gaussian: not used)
    /// product: relative to the diagonal of each system; flat: as in solve_score_system. gaussian: not used.
    double ridge = 1e-3;
};

/// z = (x - middle) / scale lies in [-2, 2] on the data; scale 0: a constant coordinate.
struct ProductPrior {
    std::vector<double> middle, scale;
    Array<double> moments; ///< E[phi_r(z_j)], r = 0 .. 2K: (2K + 1) x d
};

/// covariance = vectors diag(variances) vectors'.
struct GaussianPrior {
    std::vector<double> mean, variances; ///< variances ascending, not negative
    Array<double> vectors;               ///< d x d, one a column
};

/// h_t of one OU process of z = (x - mean) / scale, one scale for all coordinates. Constant coordinates have
/// no functions.
struct FlatPrior {
    std::vector<double> mean, lower, upper; ///< range of the data
    double scale = 1;
    TimeGrid grid;            ///< t_min = 0
    std::vector<char> varies; ///< per coordinate
    Array<double> single;     ///< nodes x (d K): of phi_{k+1}(z_j) at j K + k
    Array<double> pair;       ///< nodes x d (d - 1) / 2: of z_i z_j, i < j, rows of the upper triangle
};

struct Prior {
    PriorOptions options;
    std::size_t rows = 0;                  ///< that it was fitted to
    std::vector<std::size_t> sample_shape; ///< of the data file, trailing axes
    std::variant<ProductPrior, GaussianPrior, FlatPrior> law;

    std::size_t dimension() const;
    /// Of sigma in the convention edm; vp: largest / sqrt(1 + largest^2), and below 1.
    double largest_noise() const;
};

/// product: streams the rows once, d (2K + 1) numbers in memory; gaussian: once, 2 d^2 numbers, N d^2 flops
/// and an eigenproblem; flat: twice. Throws Error(usage) for options out of range; Error(input) for numbers
/// that are not finite or beyond 1e100, fewer than two rows (flat: 10 K), too many columns (gaussian: 16384;
/// flat: a basis of more than 20000 functions); Error(numerical); Interrupted. A checkpoint holds the sums of
/// the rows so far (gaussian: d^2 numbers); the caller removes it once the prior is safe.
Prior fit_prior(const Context& context, const SampleFile& data, const PriorOptions& options = {},
                const CheckpointOptions& checkpoint = {});

/// A file of format "dynkin-prior" (docs/formats.md). Throw as write_tensor_file and read_tensor_file do, and
/// Error(input) for content that is not a consistent prior.
void write_prior(const std::filesystem::path& path, const Prior& prior);
Prior read_prior(const std::filesystem::path& path);

const char* prior_kind_name(PriorKind kind);
/// Throws Error(usage) for other names.
PriorKind prior_kind(const std::string& name);

/// Rows of noisy data, and their noise levels in the same units.
template <class T> struct NoisyRows {
    std::size_t count = 0;
    const T* x = nullptr;
    std::size_t stride = 0; ///< numbers from row to row, at least d
    const double* sigma = nullptr;
    /// 1: one for all rows; each_row, or `count` where that is not 1: one a row.
    std::size_t sigmas = 1;
    static constexpr std::size_t each_row = SIZE_MAX;
    NoiseConvention convention = NoiseConvention::edm;
};

/// grad log p_sigma of a prior, in the units of the data. The prior must outlive it.
/// product: at one sigma a polynomial of degree K - 1 a number. At a sigma a row, float32: from a table over
/// sigma made at the first such batch, within 5e-4 of max(1, |sigma score|) (engine/prior_table.h says where,
/// and its memory, as a rule 77 K numbers a column), four polynomials a number; outside it and in
/// float64: 56 multiply-adds (K = 6) for the row's systems and as many for the solution in addition.
/// gaussian: two products of matrices. flat: one, at a sigma a row of four times its depth. Rows are computed
/// in parallel; results do not depend on threads, nor on the other rows or on how many they are: batches with
/// a sigma a row that may be of one row say each_row. On the device of the context, whose table is the same.
/// NaN in a row gives NaN in that row.
template <class T> class PriorScore {
  public:
    PriorScore(const Context& context, const Prior& prior);
    ~PriorScore();
    PriorScore(PriorScore&&) noexcept;

    /// out[n * out_stride + j], which may be x itself when the strides agree. Throws Error(usage) for a sigma
    /// that is not in (0, largest], and for strides below d. Safe to call from several threads.
    void operator()(const NoisyRows<T>& rows, T* out, std::size_t out_stride) const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace dynkin

// target.h - Boltzmann targets p(x) ~ exp(-U(x)), energies in kT, and laws that can be drawn directly.
#pragma once
#include "array.h"
#include "context.h"
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace dynkin {

/// fixed: edges to values outside, Lattice::outside; zero is fixed with none given.
enum class Boundary { periodic, free, zero, fixed = zero };

/// A rectangular lattice of one to three axes, sites in C order.
struct Lattice {
    std::vector<std::size_t> shape;
    Boundary boundary = Boundary::free;
    /// Of a fixed boundary: the values before the first and after the last site of each axis in turn, 2 a
    /// axis (two axes: above, below, left, right). Empty: zeros.
    std::vector<double> outside = {};
    std::size_t sites() const;
    /// Nearest-neighbour edges (i < j) in lexicographic order, each once: an axis of two periodic sites has
    /// one edge, an axis of one site none.
    std::vector<std::pair<int, int>> edges() const;
    /// Number of edges from each site to fixed values outside (otherwise zeros).
    std::vector<int> outer_edges() const;
    /// The sum over those edges of the values outside to this power.
    std::vector<double> outer_sums(int power) const;
    /// The value beyond the lower (side 0) or upper (1) end of an axis; 0 unless fixed to another.
    double outside_value(std::size_t axis, int side) const;
    bool zero_outside() const; ///< no fixed value but zeros
    /// The largest |value| outside.
    double outside_reach() const;
    /// Throws Error(input) unless `outside` is empty, or finite, two numbers an axis, with a fixed boundary.
    void check_outside(const std::string& who) const;
    bool operator==(const Lattice& other) const; ///< shape, boundary and values outside
    /// Graph distance of two sites (L1, with wrap-around when periodic).
    int distance(int i, int j) const;
    std::string describe() const; ///< e.g. "8x8 periodic", "8x8 fixed [1, 1, -1, -1]"
};

/// U = sum_edges (J/2)(x_i - x_j)^2 + sum_i sum_m c_m x_i^m + constant * sites, edges to fixed values outside
/// included; `ginzburg_landau` is one of these.
struct LatticeTarget {
    Lattice lattice;
    double coupling = 1;      ///< J
    std::vector<double> site; ///< c_1, c_2, ..., at most 12
    double site_constant = 0; ///< c_0, per site: beta/(4 lambda) for Ginzburg-Landau
};
/// U = (x - mean)' covariance^-1 (x - mean) / 2. Made by gaussian(), which fills the factor.
struct GaussianTarget {
    std::vector<double> mean;
    Array<double> covariance;
    Array<double> cholesky; ///< lower factor of the covariance
};
/// U = -log sum_k w_k N(x; m_k, C_k), weights normalised.
struct GaussianMixtureTarget {
    std::vector<double> weights;
    std::vector<GaussianTarget> components;
};
/// Separable: U = sum_i a (x_i^2 - 1)^2 + b x_i, in `dimension` coordinates (`double_well`);
/// `many_well`: pairs (x, y) with U = a x^4 - b x^2 + c x + y^2/2, dimension even (defaults 1, 6, 0.5).
struct DoubleWellTarget {
    std::size_t dimension = 1;
    double a = 1, b = 0;
};
struct ManyWellTarget {
    std::size_t dimension = 2;
    double a = 1, b = 6, c = 0.5;
};
/// Two-dimensional laws that can only be drawn: moons, two_spirals, pinwheel, eight_gaussians, checkerboard.
struct ToyTarget {
    std::string name;
    double noise = 0.1; ///< moons only
};
/// U from a shared object of the user's (plugin.h); made by plugin_target(). Its energies are computed on the
/// CPU.
struct PluginTarget {
    std::string library;
    std::size_t dimension = 1;
    std::vector<double> parameters;
    double start_low = -3, start_high = 3; ///< chains start around this range of every coordinate
    std::uint64_t content = 0;             ///< checksum of the file
    bool has_gradient = false;
    int (*energy)(const double*, std::size_t, std::size_t, std::size_t, const double*, double*,
                  double*) = nullptr;
    std::shared_ptr<void> handle; ///< keeps the library open
};
using TargetVariant = std::variant<LatticeTarget, GaussianTarget, GaussianMixtureTarget, DoubleWellTarget,
                                   ManyWellTarget, ToyTarget, PluginTarget>;

struct Target {
    TargetVariant law;
    std::string kind;           ///< as in the TOML
    std::string source;         ///< path, for messages
    std::string canonical_json; ///< every parameter, resolved; part of the resolved configuration

    std::size_t dimension() const;
    bool has_energy() const;                       ///< false for toys
    bool has_device_energy() const;                ///< has one that a device can compute: not of a plugin
    bool can_draw_directly() const;                ///< Gaussians, mixtures, toys
    bool even() const;                             ///< U(-x) = U(x), known from the parameters
    const Lattice* lattice() const;                ///< nullptr when there is none
    std::vector<std::size_t> sample_shape() const; ///< lattice shape or {dimension}
};

/// U = beta [ sum_edges (lambda/2) ((x_i - x_j)/spacing)^2 + sum_i (1 - x_i^2)^2 / (4 lambda) ] as a lattice
/// target: J = beta lambda / spacing^2, c_0 = c_4 = g, c_2 = -2 g with g = beta / (4 lambda). All parameters
/// positive.
LatticeTarget ginzburg_landau(Lattice lattice, double lambda, double beta, double spacing);
/// With the Cholesky factor. Throws Error(input) unless the covariance is d x d, symmetric (relative
/// difference of entries <= 1e-12) and positive definite.
GaussianTarget gaussian(std::vector<double> mean, Array<double> covariance);
/// Opens the library and calls it once, at the centre of the start. Throws Error(io) when the file cannot be
/// read, Error(input) when it is not a shared object with a dynkin_energy() that gives a finite number there.
PluginTarget plugin_target(const std::filesystem::path& library, std::size_t dimension,
                           std::vector<double> parameters = {}, double start_low = -3, double start_high = 3);
/// Empty when exp(-U) can be normalised; otherwise why not ("highest power of site is odd", ...). A
/// polynomial of degree 2 or less is judged by the eigenvalues 2 c_2 + J (lattice Laplacian).
std::string unbounded_reason(const LatticeTarget& target);

/// Reads `[target] kind = ...` (design: docs/formats.md). Unknown keys, missing keys, wrong types and
/// impossible values (negative lambda, a covariance that is not positive definite, U not bounded below, sites
/// > 2^24) throw Error(input) naming file, line, key, expected and got. Other tables of the file are left to
/// the caller. A `spacing` is a number or a fraction as text ("1/17").
Target read_target(const std::filesystem::path& path);
/// The same from text; `source` stands for the path in messages.
Target parse_target(std::string_view toml, const std::string& source);

/// energies[n] = U(x_n) for row-major x of shape (count, d). Throws Error(usage) when the target has no
/// energy. Parallel over rows, on the context's device; same bytes for any thread count, SIMD level and
/// device. NaN or Inf where x is. For many calls TargetEnergy is cheaper.
void energy(const Context& context, const Target& target, std::size_t count, const double* x,
            double* energies);
/// The same with gradients (count, d).
void energy_gradient(const Context& context, const Target& target, std::size_t count, const double* x,
                     double* energies, double* gradients);

/// out[n] = log p(x_n) of a normalised law that can be drawn directly, -inf outside its support: Gaussians,
/// mixtures, toys (one quadrature a point for moons, two_spirals and pinwheel). Error(usage) for others.
void exact_log_density(const Context& context, const Target& target, std::size_t count, const double* x,
                       double* out);

/// Energies of one target for many calls: its tables, and on a device the buffers that rows go through, are
/// set up once. Rows are copied in parts that fit into the device's memory, one part while another is
/// computed.
class TargetEnergy {
  public:
    /// Throws Error(usage) when the target has no energy. The target must outlive it.
    TargetEnergy(const Context& context, const Target& target);
    /// As energy(), and energy_gradient() unless gradients is null. One thread at a time.
    void operator()(std::size_t count, const double* x, double* energies, double* gradients = nullptr) const;

  private:
    struct State;
    std::shared_ptr<State> state_;
};

/// Draws samples [first, first + count) of the infinite sequence of this seed, for laws that can be drawn
/// directly; Error(usage) for others. first + count <= 2^48. Parallel over rows; same bytes for any thread
/// count and split.
void draw_direct(const Context& context, const Target& target, std::uint64_t seed, std::size_t first,
                 std::size_t count, double* x);

} // namespace dynkin

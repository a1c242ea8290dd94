// observables.h - means over configurations of a lattice with their errors: magnetisation, susceptibility,
// Binder cumulant, two-point function, correlation length, polynomials; of chains, weighted or independent.
#pragma once
#include "array.h"
#include "context.h"
#include "target.h"
#include <cstddef>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dynkin {

/// sum of terms coefficient * mean_i(x_i^each) * m^mean * prod_s x_s^p, m the mean over sites.
struct Polynomial {
    struct Term {
        double coefficient = 1;
        int each = 0, mean = 0;                         ///< powers
        std::vector<std::pair<std::size_t, int>> sites; ///< sites in ascending order, with their powers
    };
    std::string name;
    std::vector<Term> terms; ///< no two of the same powers
};

/// A formula in `x` (every site; a term with it is averaged over the sites), `m` (the mean over sites) and
/// `x[i]` or, on a lattice of several axes, also `x[i,j,k]` (one site, from 0), with numbers, + - * / ^ and
/// parentheses; factors other than numbers may stand beside one another: "6.008 x^4 - 4 x^2", "(x^2 - 1)^2",
/// "x[0] x[8]", "m^4". After / only numbers, after ^ only integers; degree at most 16, at most 256 terms.
/// Throws Error(input), with the place in the formula.
Polynomial parse_polynomial(const std::string& name, std::string_view formula, std::size_t dimension,
                            const Lattice* lattice);

/// The table [observables] of a target's file, `name = "formula"`; empty when there is none. Names have
/// letters, digits, _ and -, at most 40, and are none of those of ObservableReport. Throws Error(input)
/// naming file, line and key.
std::vector<Polynomial> read_observables(const std::filesystem::path& path, const Target& target);
std::vector<Polynomial> parse_observables(std::string_view toml, const std::string& source,
                                          const Target& target);

struct Autocorrelation {
    double tau = 0;         ///< integrated autocorrelation time 1/2 + sum_{1 <= t <= W} rho(t)
    double tau_error = 0;   ///< tau sqrt((4 W + 2) / S) for S values (Madras and Sokal 1988)
    std::size_t window = 0; ///< W: the first W >= 6 max(tau(W), 1), or length - 1
    double variance = 0;    ///< of the values
};
/// By windowing (Sokal 1997, section 3): the autocovariance of all chains about their common mean, so that
/// chains which do not meet count as correlated; tau corrected by 1 + (2 W + 1) / S for that mean being
/// estimated (Wolff 2004, eq. 49). values[chain * length + iteration]; the error of their mean is
/// sqrt(2 tau variance / S). tau is NaN when nothing moves. Throws Error(usage) for length < 4.
Autocorrelation integrated_autocorrelation(std::span<const double> values, std::size_t chains,
                                           std::size_t length);

struct Estimate {
    double value = std::numeric_limits<double>::quiet_NaN();
    double error = std::numeric_limits<double>::quiet_NaN(); ///< standard error; NaN: too few rows
    /// Of chains: integrated autocorrelation time and its error, in rows of one chain. Independent rows: 1/2.
    double tau = std::numeric_limits<double>::quiet_NaN();
    double tau_error = std::numeric_limits<double>::quiet_NaN();
};
struct NamedEstimate {
    std::string name;
    Estimate estimate;
};

/// With m the mean over the d sites and E the mean over (weighted) rows. On lattices:
///   magnetisation           E m
///   magnetisation_absolute  E |m|
///   susceptibility          chi = d (E m^2 - (E m)^2)
///   binder_cumulant         1 - E m^4 / (3 (E m^2)^2)
///   correlation_length      sqrt(chi / S - 1) / (2 sin(k/2)), k = 2 pi / L, L the longest axis, S = E |sum_j
///                           exp(i k j_a) x_j|^2 / d averaged over the axes a of that length (the second
///                           moment of the two-point function); NaN when chi < S or L = 1
///   two_point               at distance r = 0, 1, ... along these axes: the mean over pairs of sites of E
///   x_i
///                           x_j, less (E m)^2; up to L/2 when periodic, else L - 1, at most 128
/// and every polynomial under its name. Estimates that are not linear in means are biased by O(1/rows).
struct ObservableReport {
    std::vector<NamedEstimate> named;
    std::vector<Estimate> two_point;
    std::size_t chains = 0; ///< 0: independent rows
    const Estimate* find(std::string_view name) const;
};

/// Takes rows in their order, and reports. Memory: a number for each row and mean, up to 64 MiB; beyond that
/// means of b successive rows (of a chain). Rows in parallel, sums in their order: the same bits for any
/// thread count and split into calls. Computed on the CPU.
class Observables {
  public:
    /// `rows` in all. chains: row k * chains + c is the k-th of chain c (as run_mcmc() writes them), and
    /// errors account for autocorrelation by the windowing method; with fewer than 4 rows a chain they are
    /// NaN. chains = 0: independent rows. `lattice` may be null: polynomials only. Throws Error(usage) for
    /// no rows or another number of sites.
    Observables(std::size_t dimension, const Lattice* lattice, std::vector<Polynomial> polynomials,
                std::size_t rows, std::size_t chains = 0);

    bool any() const { return count_ > 0; } ///< whether there is anything to measure
    /// The next rows (count, d); weights, for independent rows only, or null. Rows of weight 0 are not looked
    /// at. Throws Error(usage) for more rows than announced.
    void add(const Context& context, std::size_t count, const double* x, const double* weight = nullptr);
    /// Errors by linearisation about the means (delta method). Of weighted rows: as those of weighted_mean().
    ObservableReport report() const;

  private:
    struct Part { ///< a combination of means: its derivative by one of them
        std::size_t mean;
        double derivative;
    };
    void set_lattice(const Lattice& lattice);
    void measure(const double* x, double* out) const;
    void measure_axis(const double* x, std::size_t stride, double* out) const;
    void measure_polynomials(const double* x, double mean, double* out) const;
    void take(const double* values, double weight);
    std::vector<double> means() const;
    Estimate estimate(double value, const std::vector<Part>& parts) const;
    void of_chains(const std::vector<Part>& parts, Estimate& result) const;
    void of_independent(const std::vector<Part>& parts, Estimate& result) const;
    void put_lattice(const std::vector<double>& mean, ObservableReport& report) const;

    std::size_t dimension_, rows_, chains_, length_; ///< length: rows a chain
    std::vector<Polynomial> polynomials_;
    int top_power_ = 0; ///< of mean_i(x_i^p) in the polynomials

    // The lattice: its longest axes.
    std::vector<std::size_t> strides_;
    std::size_t side_ = 0, distances_ = 0;
    bool periodic_ = false;
    std::vector<double> cosine_, sine_; ///< of k j

    // Bins of rows.
    std::size_t count_ = 0;      ///< means
    std::size_t bin_ = 1;        ///< rows in one
    Array<double> sums_;         ///< (bins, means): sum of w a
    Array<double> first_;        ///< the first row of each, when bins have several
    std::vector<double> weight_; ///< sum of w
    std::size_t next_ = 0;
};

/// All rows of an array.
ObservableReport observe(const Context& context, const Array<double>& x, std::span<const double> weights,
                         const Lattice* lattice, const std::vector<Polynomial>& polynomials,
                         std::size_t chains = 0);

} // namespace dynkin

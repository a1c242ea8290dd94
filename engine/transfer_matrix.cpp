// transfer_matrix.cpp - the box, messages or spectrum, and exact averages of a chain or ring.
#include "transfer_matrix.h"
#include "error.h"
#include "solve.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <fmt/format.h>
#include <lapacke.h>
#include <numeric>
#include <utility>

namespace dynkin {

using std::size_t;

namespace {

constexpr size_t most_nodes = 4096;
constexpr double range = 40;         // kT above the minimum, where the first box ends
constexpr double edge = 1e-13;       // density times length that may be left at the ends of the box
constexpr double negligible = 1e-17; // of the largest eigenvalue

double polynomial(const std::vector<double>& c, double x) {
    double v = 0;
    for (size_t m = c.size(); m-- > 0;) v = (v + c[m]) * x;
    return v;
}
double curvature(const std::vector<double>& c, double x) {
    double v = 0;
    for (size_t m = c.size(); m > 1; --m) v = v * x + static_cast<double>(m * (m - 1)) * c[m - 1];
    return v;
}

/// Ends of the region where the potential is within `range` of its minimum, on a grid of [-B, B], B the first
/// power of two with V(+-B) > V(0) + 2 range.
std::pair<double, double> region(const std::vector<double>& c) {
    double box = 0x1p-20;
    while (box < 0x1p40 && !(std::min(polynomial(c, box), polynomial(c, -box)) > 2 * range)) box *= 2;
    constexpr int cells = 8000;
    const auto at = [&](int n) { return box * (2.0 * n / cells - 1); };
    double lowest = 0;
    for (int n = 0; n <= cells; ++n) lowest = std::min(lowest, polynomial(c, at(n)));
    int from = 0, to = cells;
    while (polynomial(c, at(from)) > lowest + range) ++from;
    while (polynomial(c, at(to)) > lowest + range) --to;
    return {at(std::max(from - 1, 0)), at(std::min(to + 1, cells))};
}

} // namespace

TransferMatrix::TransferMatrix(const LatticeTarget& target)
    : target_(target), d_(target.lattice.sites()),
      ring_(target.lattice.boundary == Boundary::periodic && d_ > 2),
      outer_(target.lattice.boundary == Boundary::fixed ? 1 : 0) {
    require(
        target.lattice.shape.size() == 1, ErrorKind::usage,
        fmt::format("transfer matrix: expected a lattice of one axis, got {}", target.lattice.describe()));
    target.lattice.check_outside("transfer matrix");
    for (int side : {0, 1}) outside_[side] = target.lattice.outside_value(0, side);
    const std::string unbounded = unbounded_reason(target);
    require(unbounded.empty(), ErrorKind::input, "transfer matrix: " + unbounded);
    use_sequential_blas(); // its threads would change the order of sums
    choose_box();
    do {
        choose_step();
        solve();
    } while (!box_is_wide_enough());
    tabulate();
}

double TransferMatrix::potential(double x) const {
    return target_.site_constant + polynomial(target_.site, x);
}

// Box and step
// -----------------------------------------------------------------------------------------------------

/// A first box. Edges pull sites together (J < 0 pushes them apart, at most as -2 |J| x^2 a site does), so no
/// site leaves the region where the potential is low, or the way from there to the values outside.
void TransferMatrix::choose_box() {
    const double j = target_.coupling;
    std::vector<double> bound = target_.site;
    bound.resize(std::max<size_t>(bound.size(), 2), 0.0);
    bound[1] -= 2 * std::max(-j, 0.0);
    LatticeTarget alone = target_;
    alone.lattice = {{1}, Boundary::free};
    alone.site = bound;
    if (unbounded_reason(alone).empty())
        std::tie(lo_, hi_) = region(bound);
    else // bound by the coupling alone: widened until it is enough
        lo_ = -4 / std::sqrt(std::abs(j)), hi_ = -lo_;
    for (const double value : outside_)
        if (outer_ > 0) lo_ = std::min(lo_, value), hi_ = std::max(hi_, value);
}

/// h = 1 / (2 sqrt K): a Gaussian of curvature K is integrated to exp(-2 pi^2 4) = 1e-34.
void TransferMatrix::choose_step() {
    double steepest = 0;
    for (int n = 0; n <= 4000; ++n)
        steepest = std::max(steepest, curvature(target_.site, lo_ + (hi_ - lo_) * n / 4000));
    const double k = steepest + 2 * std::abs(target_.coupling);
    const double cells = std::ceil((hi_ - lo_) * 2 * std::sqrt(k));
    if (!(cells < static_cast<double>(most_nodes)))
        throw Error(ErrorKind::numerical,
                    fmt::format("transfer matrix: {:.3g} nodes are needed for sites in [{:.3g}, {:.3g}] with "
                                "curvatures up to {:.3g}, more than {}",
                                cells + 1, lo_, hi_, k, most_nodes));
    n_ = std::max<size_t>(static_cast<size_t>(cells), 16) + 1;
    h_ = (hi_ - lo_) / static_cast<double>(n_ - 1);
}

/// Ends where a site still has density move outwards by a quarter of the box.
bool TransferMatrix::box_is_wide_enough() {
    const double length = hi_ - lo_;
    double left = 0, right = 0;
    for (size_t i = 0; i < marginal_.rows(); ++i) {
        left = std::max(left, marginal_(i, 0));
        right = std::max(right, marginal_(i, n_ - 1));
    }
    const bool left_good = left * length < edge, right_good = right * length < edge;
    if (!left_good) lo_ -= 0.25 * length;
    if (!right_good) hi_ += 0.25 * length;
    return left_good && right_good;
}

// Messages and spectrum
// --------------------------------------------------------------------------------------------

void TransferMatrix::solve() {
    std::vector<double> v(n_);
    for (size_t g = 0; g < n_; ++g) v[g] = potential(node(g));
    lowest_ = *std::min_element(v.begin(), v.end());
    matrix_ = Array<double>(n_, n_);
    for (size_t g = 0; g < n_; ++g)
        for (size_t k = 0; k < n_; ++k) {
            const double u = node(g) - node(k);
            matrix_(g, k) = h_ * std::exp(lowest_ - 0.5 * (v[g] + v[k]) - 0.5 * target_.coupling * u * u);
        }
    ring_ ? solve_ring() : solve_open();
    log_partition_ -= static_cast<double>(d_) * lowest_;
}

void TransferMatrix::solve_ring() {
    Array<double> s = matrix_;
    std::vector<double> eigenvalue(n_);
    const int n = static_cast<int>(n_); // column-major: the vectors come as rows
    if (LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', n, s.data(), n, eigenvalue.data()) != 0)
        throw Error(ErrorKind::numerical, "transfer matrix: the eigenproblem did not converge");
    std::vector<size_t> order(n_);
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return std::pair(std::abs(eigenvalue[b]), b) < std::pair(std::abs(eigenvalue[a]), a);
    });
    const double largest = eigenvalue[order[0]];
    size_t rank = 0;
    while (rank < n_ && std::abs(eigenvalue[order[rank]]) > negligible * largest) ++rank;
    lambda_.resize(rank);
    vectors_ = Array<double>(rank, n_);
    marginal_ = Array<double>(1, n_);
    double z = 0;
    for (size_t r = 0; r < rank; ++r) {
        lambda_[r] = eigenvalue[order[r]] / largest;
        const double power = std::pow(lambda_[r], static_cast<double>(d_));
        z += power;
        for (size_t g = 0; g < n_; ++g) {
            vectors_(r, g) = s(order[r], g) / std::sqrt(h_);
            marginal_[g] += power * vectors_(r, g) * vectors_(r, g);
        }
    }
    for (double& p : marginal_) p /= z;
    log_partition_ = std::log(z) + static_cast<double>(d_) * std::log(largest);
}

/// Messages S^i u from one end on, and the logarithm of what they were divided by.
double TransferMatrix::pass(double outside, Array<double>& messages, std::vector<double>& scale) const {
    messages = Array<double>(d_, n_);
    scale.assign(d_, 1.0);
    double highest = -INFINITY;
    for (size_t g = 0; g < n_; ++g) {
        const double apart = node(g) - outside;
        messages(0, g) =
            0.5 * (lowest_ - potential(node(g))) - 0.5 * target_.coupling * outer_ * apart * apart;
        highest = std::max(highest, messages(0, g));
    }
    double log_scale = outside == 0 ? 0 : highest; // far values outside leave nothing above underflow
    for (size_t g = 0; g < n_; ++g) messages(0, g) = std::exp(messages(0, g) - log_scale);
    for (size_t i = 1; i < d_; ++i) {
        multiply(1, messages.row(i - 1), messages.row(i));
        scale[i] = *std::max_element(messages.row(i), messages.row(i) + n_);
        for (size_t g = 0; g < n_; ++g) messages(i, g) /= scale[i];
        log_scale += std::log(scale[i]);
    }
    return log_scale;
}

/// Sums of positive terms, so that messages are right in their tails too, which the modes are not: between
/// zeros a strongly coupled chain ends where the leading mode is below rounding.
void TransferMatrix::solve_open() {
    log_partition_ = pass(outside_[0], messages_, scale_);
    back_ = {};
    if (outside_[0] != outside_[1]) {
        std::vector<double> scale;
        log_partition_ = pass(outside_[1], back_, scale);
    }
    double first_scale = 0; // of the one factor of the first site that is not among those of the later ones
    if (outside_[0] != 0)
        for (size_t g = 0; g < n_; ++g) {
            const double at = 0.5 * (lowest_ - potential(node(g))) + end(0, node(g));
            first_scale = g == 0 ? at : std::max(first_scale, at);
        }
    marginal_ = Array<double>(d_, n_);
    for (size_t i = 0; i < d_; ++i) {
        double z = 0;
        for (size_t g = 0; g < n_; ++g) {
            marginal_(i, g) = messages_(i, g) * later()(d_ - 1 - i, g);
            z += marginal_(i, g) * h_;
        }
        for (size_t g = 0; g < n_; ++g) marginal_(i, g) /= z;
        if (i == 0) log_partition_ += std::log(z) + first_scale;
    }
}

/// out = S in for rows of numbers at the nodes, without the part of S that is below exp(-50).
void TransferMatrix::multiply(size_t rows, const double* in, double* out) const {
    constexpr size_t block = 64;
    const double width = target_.coupling > 0 ? 10 / std::sqrt(target_.coupling) : hi_ - lo_;
    const size_t band = static_cast<size_t>(std::min(width / h_ + 1, static_cast<double>(n_)));
    for (size_t first = 0; first < n_; first += block) {
        const size_t end = std::min(first + block, n_), from = first - std::min(first, band),
                     to = std::min(end + band, n_);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(rows),
                    static_cast<int>(end - first), static_cast<int>(to - from), 1, in + from,
                    static_cast<int>(n_), matrix_.row(from) + first, static_cast<int>(n_), 0, out + first,
                    static_cast<int>(n_));
    }
}

// Averages
// ---------------------------------------------------------------------------------------------------------

/// E f(x_i) for values f at the nodes.
double TransferMatrix::site_average(size_t i, const std::vector<double>& f) const {
    const double* p = marginal_.row(ring_ ? 0 : i);
    double sum = 0;
    for (size_t g = 0; g < n_; ++g) sum += f[g] * p[g] * h_;
    return sum;
}

std::vector<double> TransferMatrix::means() const {
    std::vector<double> x(n_), mean(d_);
    for (size_t g = 0; g < n_; ++g) x[g] = node(g);
    for (size_t i = 0; i < d_; ++i) mean[i] = site_average(i, x);
    return mean;
}

Array<double> TransferMatrix::second_moments() const { return pair_moments(d_); }

/// E[x_i x_j] for sites at most `reach` edges apart; zeros elsewhere.
Array<double> TransferMatrix::pair_moments(size_t reach) const {
    Array<double> moments(d_, d_);
    std::vector<double> square(n_);
    for (size_t g = 0; g < n_; ++g) square[g] = node(g) * node(g);
    for (size_t i = 0; i < d_; ++i) moments(i, i) = site_average(i, square);
    ring_ ? ring_pairs(reach, moments) : open_pairs(reach, moments);
    return moments;
}

/// sum_rs lambda_r^k lambda_s^(d-k) <v_r, x v_s>^2 / Z at distance k.
void TransferMatrix::ring_pairs(size_t reach, Array<double>& moments) const {
    const size_t rank = lambda_.size();
    const int n = static_cast<int>(n_), r_int = static_cast<int>(rank);
    Array<double> times_x(rank, n_), position(rank, rank);
    for (size_t r = 0; r < rank; ++r)
        for (size_t g = 0; g < n_; ++g) times_x(r, g) = node(g) * vectors_(r, g);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, r_int, r_int, n, h_, times_x.data(), n,
                vectors_.data(), n, 0, position.data(), r_int);
    double z = 0;
    for (const double lambda : lambda_) z += std::pow(lambda, static_cast<double>(d_));
    std::vector<double> near(rank), far(rank);
    for (size_t k = 1; k <= std::min(reach, d_ / 2); ++k) {
        for (size_t r = 0; r < rank; ++r) {
            near[r] = std::pow(lambda_[r], static_cast<double>(k));
            far[r] = std::pow(lambda_[r], static_cast<double>(d_ - k));
        }
        double sum = 0;
        for (size_t r = 0; r < rank; ++r)
            for (size_t s = 0; s < rank; ++s) sum += near[r] * far[s] * position(r, s) * position(r, s);
        for (size_t i = 0; i < d_; ++i) moments(i, (i + k) % d_) = moments((i + k) % d_, i) = sum / z;
    }
}

/// Row i of `travelling` is S^k (x S^i u), scaled as the message of site i + k is.
void TransferMatrix::open_pairs(size_t reach, Array<double>& moments) const {
    Array<double> travelling(d_, n_), next(d_, n_);
    for (size_t i = 0; i < d_; ++i)
        for (size_t g = 0; g < n_; ++g) travelling(i, g) = node(g) * messages_(i, g);
    for (size_t k = 1; k <= std::min(reach, d_ - 1); ++k) {
        multiply(d_ - k, travelling.data(), next.data());
        std::swap(travelling, next);
        for (size_t i = 0; i + k < d_; ++i) {
            const size_t j = i + k;
            double sum = 0, z = 0;
            for (size_t g = 0; g < n_; ++g) {
                const double later = this->later()(d_ - 1 - j, g);
                travelling(i, g) /= scale_[j];
                sum += travelling(i, g) * node(g) * later;
                z += messages_(j, g) * later;
            }
            moments(i, j) = moments(j, i) = sum / z;
        }
    }
}

double TransferMatrix::edge_energy() const {
    const Array<double> m = pair_moments(1);
    double sum = 0;
    for (const auto& [first, second] : target_.lattice.edges()) {
        const auto i = static_cast<size_t>(first), j = static_cast<size_t>(second);
        sum += 0.5 * (m(i, i) + m(j, j)) - m(i, j);
    }
    const std::vector<int> outer = target_.lattice.outer_edges();
    for (size_t i = 0; i < d_; ++i) sum += 0.5 * outer[i] * m(i, i);
    if (target_.lattice.zero_outside()) return sum;
    const std::vector<double> mean = means(), value = target_.lattice.outer_sums(1),
                              square = target_.lattice.outer_sums(2);
    for (size_t i = 0; i < d_; ++i) sum += 0.5 * square[i] - value[i] * mean[i];
    return sum;
}

double TransferMatrix::energy_mean() const {
    std::vector<double> v(n_);
    for (size_t g = 0; g < n_; ++g) v[g] = potential(node(g));
    double sum = target_.coupling * edge_energy();
    for (size_t i = 0; i < d_; ++i) sum += site_average(i, v);
    return sum;
}

} // namespace dynkin

// transfer_matrix_draw.cpp - the tables that draws of a chain or ring are made from.
#include "error.h"
#include "kernels/chain.h"
#include "transfer_matrix.h"
#include "transfer_matrix_device.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>

namespace dynkin {

using std::size_t;

namespace {

constexpr size_t refinement = 4; // points a node
constexpr double reach = 8;      // of the coupling's width: exp(-32)

bool draw_rows(const Context& context, const ChainView& view, std::uint64_t seed, size_t first, size_t count,
               double* x) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return draw_chains_on_device(context.device_state(), view, seed, first, count, x);
    return cpu::draw_chains(context.isa(), context.threads(), view, seed, first, count, x);
}

} // namespace

/// exp(-V(x)/2) [S f](x) at the points, for functions f at the nodes (rows).
Array<double> TransferMatrix::extended(const Array<double>& functions) const {
    constexpr size_t block = 256;
    const size_t count = functions.rows();
    Array<double> out(count, stride_), kernel(block, n_);
    std::vector<double> v(n_);
    for (size_t g = 0; g < n_; ++g) v[g] = potential(node(g));
    for (size_t first = 0; first < points_; first += block) {
        const size_t rows = std::min(block, points_ - first);
        for (size_t k = 0; k < rows; ++k) {
            const double x = point(first + k), own = potential(x);
            for (size_t g = 0; g < n_; ++g) {
                const double u = x - node(g);
                kernel(k, g) =
                    h_ * std::exp(1.5 * lowest_ - own - 0.5 * v[g] - 0.5 * target_.coupling * u * u);
            }
        }
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(count), static_cast<int>(rows),
                    static_cast<int>(n_), 1, functions.data(), static_cast<int>(n_), kernel.data(),
                    static_cast<int>(n_), 0, out.data() + first, static_cast<int>(stride_));
    }
    return out;
}

void TransferMatrix::tabulate() {
    step_ = h_ / static_cast<double>(refinement);
    points_ = refinement * (n_ - 1) + 1;
    stride_ = (points_ + 7) / 8 * 8;
    gauss_.resize(2 * stride_ + 1);
    for (size_t m = 0; m <= stride_; ++m) {
        const double u = static_cast<double>(m) * step_;
        gauss_[stride_ + m] = gauss_[stride_ - m] = std::exp(-0.5 * target_.coupling * u * u);
    }
    weight_.assign(stride_, 0.0), first_.assign(stride_, 0.0);
    for (size_t p = 0; p < points_; ++p) weight_[p] = std::exp(lowest_ - potential(point(p)));
    ring_ ? tabulate_ring() : tabulate_open();
}

/// Row `gap` is exp(-V/2) S^gap u; the last one, times the end's part of exp(-V/2) u, is the density of x_0.
/// Both ends in units of their largest value where that could be below underflow.
void TransferMatrix::tabulate_open() {
    const auto close = [&](int side, const double* from, double* to) {
        double highest = 0;
        if (outside_[side] != 0) {
            highest = -INFINITY;
            for (size_t p = 0; p < points_; ++p)
                if (from[p] > 0) highest = std::max(highest, std::log(from[p]) + end(side, point(p)));
        }
        for (size_t p = 0; p < points_; ++p)
            to[p] = highest == 0 ? from[p] * std::exp(end(side, point(p)))
                                 : std::exp(std::log(from[p]) + end(side, point(p)) - highest);
    };
    const Array<double> after = extended(later());
    table_ = Array<double>(d_, stride_);
    close(1, weight_.data(), table_.row(0));
    std::copy_n(after.data(), (d_ - 1) * stride_, table_.row(1));
    close(0, table_.row(d_ - 1), first_.data());
}

/// Rows exp(-V/2) S v_r.
void TransferMatrix::tabulate_ring() {
    const size_t rank = lambda_.size();
    table_ = extended(vectors_);
    powers_ = Array<double>(d_, rank);
    ranks_.assign(d_ + 1, static_cast<std::uint32_t>(rank));
    for (size_t gap = 2; gap < d_; ++gap)
        for (size_t r = 0; r < rank; ++r) {
            powers_(gap, r) = std::pow(lambda_[r], static_cast<double>(gap - 2));
            if (std::abs(powers_(gap, r) * lambda_[r] * lambda_[r]) > 1e-17)
                ranks_[gap] = static_cast<std::uint32_t>(r + 1);
        }
    for (size_t r = 0; r < rank; ++r) {
        const double power = std::pow(lambda_[r], static_cast<double>(d_ - 2));
        for (size_t p = 0; p < points_; ++p) first_[p] += power * table_(r, p) * table_(r, p) / weight_[p];
    }
}

void TransferMatrix::draw(const Context& context, std::uint64_t seed, size_t first, size_t count,
                          double* x) const {
    require(first + count <= size_t{1} << 48, ErrorKind::usage, "draw: expected at most 2^48 samples");
    ChainView view{};
    view.sites = d_, view.points = points_, view.stride = stride_, view.ring = ring_;
    view.coupling = target_.coupling, view.origin = lo_, view.step = step_;
    const double width = target_.coupling > 0 ? reach / (std::sqrt(target_.coupling) * step_) : 1e9;
    view.reach = static_cast<size_t>(std::min(width, static_cast<double>(stride_)));
    view.slack = std::exp(1.0 / 512); // K step^2 / 8
    view.gauss = gauss_.data() + stride_;
    view.first = first_.data(), view.weight = weight_.data(), view.message = table_.data();
    view.power = powers_.data(), view.rank = ranks_.data();
    view.messages = table_.rows();
    if (!draw_rows(context, view, seed, first, count, x))
        throw Error(ErrorKind::numerical, "transfer matrix: a site was refused 1000 times in succession");
}

} // namespace dynkin

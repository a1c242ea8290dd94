// data.cpp - rows in, split and scaled; held-out noise.
#include "data.h"
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fmt/format.h>
#include <numeric>
#include <random>

namespace neural_prior {

using dynkin::Array;
using dynkin::Error;
using dynkin::ErrorKind;
using std::size_t;

Folder::Folder() {
    std::error_code failed;
    std::string name = (std::filesystem::temp_directory_path(failed) / "neural_prior_XXXXXX").string();
    if (failed || !mkdtemp(name.data()))
        throw Error(ErrorKind::io, name + ": cannot make a temporary folder");
    path_ = name;
}

Folder::~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

namespace {

Array<double> read_rows(const dynkin::Context& context, const DataOptions& options, std::uint64_t seed) {
    if (options.source.extension() != ".toml") return dynkin::read_npy(options.source);
    const dynkin::Target target = dynkin::read_target(options.source);
    Array<double> x(options.rows, target.dimension());
    dynkin::draw_direct(context, target, seed, 0, x.rows(), x.data());
    return x;
}

struct Affine {
    double shift = 0, factor = 1;
};

/// One map for all columns, or one for each.
std::vector<Affine> scales(const Array<double>& x, const std::vector<size_t>& rows, bool columns) {
    const size_t d = x.cols();
    std::vector<Affine> out(d);
    if (!columns) {
        double low = INFINITY, high = -INFINITY;
        for (const size_t n : rows)
            for (size_t j = 0; j < d; ++j) low = std::min(low, x(n, j)), high = std::max(high, x(n, j));
        std::fill(out.begin(), out.end(), Affine{0.5 * low + 0.5 * high, 2 / (high - low)});
    } else
        for (size_t j = 0; j < d; ++j) {
            double mean = 0, square = 0;
            for (const size_t n : rows) mean += x(n, j) / static_cast<double>(rows.size());
            for (const size_t n : rows) square += std::pow(x(n, j) - mean, 2);
            out[j] = {mean, 1 / std::sqrt(square / static_cast<double>(rows.size()))};
        }
    return out;
}

Array<float> scaled(const Array<double>& x, const std::vector<size_t>& rows, const std::vector<Affine>& by) {
    Array<float> out(rows.size(), x.cols());
    for (size_t n = 0; n < rows.size(); ++n)
        for (size_t j = 0; j < x.cols(); ++j)
            out(n, j) = static_cast<float>((x(rows[n], j) - by[j].shift) * by[j].factor);
    return out;
}

} // namespace

Data load(const dynkin::Context& context, const DataOptions& options, std::uint64_t seed) {
    const Array<double> x = read_rows(context, options, seed);
    const std::string name = options.source.string();
    if (x.rows() < 20)
        throw Error(ErrorKind::input, fmt::format("{}: expected at least 20 rows, got {}", name, x.rows()));
    const size_t held_out = options.held_out ? options.held_out : std::min<size_t>(4000, x.rows() / 5);
    if (held_out + 10 > x.rows())
        throw Error(ErrorKind::usage,
                    fmt::format("--held-out: expected at most {} of the {} rows of {}, got {}", x.rows() - 10,
                                x.rows(), name, held_out));
    std::vector<size_t> order(x.rows());
    std::iota(order.begin(), order.end(), size_t{0});
    std::mt19937_64 generator(seed);
    std::shuffle(order.begin(), order.end(), generator);
    const std::vector<size_t> last(order.end() - static_cast<std::ptrdiff_t>(held_out), order.end());
    order.resize(x.rows() - held_out);
    const std::vector<Affine> by = scales(x, order, options.columns);
    for (size_t j = 0; j < x.cols(); ++j)
        if (!std::isfinite(by[j].factor))
            throw Error(ErrorKind::input, options.columns ? fmt::format("{}: column {} is constant", name, j)
                                                          : fmt::format("{}: all numbers are equal", name));
    return {scaled(x, order, by), scaled(x, last, by)};
}

HeldOut noisy(const Array<float>& rows, size_t levels, double low, double high, std::uint64_t seed) {
    const size_t d = rows.cols(), repeats = (1500 + rows.rows() - 1) / rows.rows();
    HeldOut out;
    out.rows = repeats * rows.rows();
    out.x = Array<float>(levels * out.rows, d), out.noise = out.x;
    std::mt19937_64 generator(seed);
    std::normal_distribution<float> normal;
    for (size_t level = 0; level < levels; ++level) {
        const double part = levels > 1 ? static_cast<double>(level) / static_cast<double>(levels - 1) : 0;
        out.sigma.push_back(std::exp(std::log(low) + part * std::log(high / low)));
        for (size_t n = 0; n < out.rows; ++n)
            for (size_t j = 0; j < d; ++j) {
                const float noise = out.noise(level * out.rows + n, j) = normal(generator);
                out.x(level * out.rows + n, j) =
                    rows(n % rows.rows(), j) + static_cast<float>(out.sigma[level]) * noise;
            }
    }
    return out;
}

} // namespace neural_prior

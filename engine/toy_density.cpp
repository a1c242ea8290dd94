#include "toy_density.h"
#include "eigenbasis.h"
#include "error.h"
#include <cmath>
#include <fmt/core.h>
#include <numbers>

namespace dynkin {
namespace {

using std::numbers::pi;

double square(double x) { return x * x; }

/// P(a < Z < b) of a standard normal number, a < b.
double normal_between(double a, double b) {
    constexpr double root = std::numbers::sqrt2 / 2;
    return a > 0 ? 0.5 * (std::erfc(root * a) - std::erfc(root * b))
                 : 0.5 * (std::erfc(-root * b) - std::erfc(-root * a));
}

/// Eight normal laws of standard deviation 0.5 on a circle of radius 4, all over 1.414.
double eight_gaussians(const double* x) {
    const double sd = 0.5 / 1.414;
    double terms[8], most = -INFINITY, sum = 0;
    for (int k = 0; k < 8; ++k) {
        const double angle = k * pi / 4, a = 4 * std::cos(angle) / 1.414, b = 4 * std::sin(angle) / 1.414;
        terms[k] = -0.5 * (square(x[0] - a) + square(x[1] - b)) / square(sd);
        most = std::max(most, terms[k]);
    }
    for (double term : terms) sum += std::exp(term - most);
    return most + std::log(sum) - std::log(8 * 2 * pi * square(sd));
}

/// x/2 is (r, q) turned by -angle(r), angle(r) = exp(r)/4 plus any multiple of 2 pi/5; r = rho cos(alpha), q
/// = rho sin(alpha). Every alpha with alpha - angle(r) = the polar angle of x is one preimage, of density
/// N(r; 1, 0.3^2) N(q; 0, 0.1^2) / (5 * 4 |1 + angle'(r) q|).
double pinwheel(const double* x) {
    constexpr int intervals = 1200;
    const double rho = 0.5 * std::hypot(x[0], x[1]), psi = std::atan2(x[1], x[0]), arm = 2 * pi / 5;
    const auto turns = [&](double alpha) {
        return (alpha - 0.25 * std::exp(rho * std::cos(alpha)) - psi) / arm;
    };
    double sum = 0, left = turns(-pi);
    for (int k = 0; k < intervals; ++k) {
        const double from = -pi + 2 * pi * k / intervals, to = -pi + 2 * pi * (k + 1) / intervals,
                     right = turns(to);
        const double low = std::min(left, right), high = std::max(left, right);
        for (double m = std::ceil(low); m < high; m += 1) {
            double a = from, b = to;
            for (int step = 0; step < 50; ++step) {
                const double middle = 0.5 * (a + b);
                ((turns(middle) < m) == (left < m) ? a : b) = middle;
            }
            const double r = rho * std::cos(a), q = rho * std::sin(a),
                         turn = std::abs(1 + 0.25 * std::exp(r) * q);
            sum += std::exp(-0.5 * (square((r - 1) / 0.3) + square(q / 0.1))) /
                   (2 * pi * 0.3 * 0.1 * 20 * std::max(turn, 1e-9));
        }
        left = right;
    }
    return std::log(sum);
}

/// Unit squares of a 4 x 4 board, one in two, all times 2.
double checkerboard(const double* x) {
    constexpr double slack = 1e-6;
    for (const double dx : {-slack, slack})
        for (const double dy : {-slack, slack}) {
            const double across = 0.5 * (x[0] + dx), up = 0.5 * (x[1] + dy);
            const double i = std::floor(across), j = std::floor(up);
            if (i >= -2 && i < 2 && j >= -2 && j < 2 && std::fmod(i + j + 4, 2) == 0) return -std::log(32.0);
        }
    return -INFINITY;
}

} // namespace

ToyDensity::ToyDensity(const ToyTarget& toy) : toy_(toy) {
    std::vector<double> t, w;
    if (toy.name == "moons") {
        require(toy.noise >= 0.01, ErrorKind::usage,
                fmt::format("moons: expected a noise of at least 0.01 for a log density, got {}", toy.noise));
        // Nodes a twelfth of the noise apart.
        gauss_legendre(static_cast<int>(std::ceil(40 / std::min(toy.noise, 0.2))), 0, pi, t, w);
        for (std::size_t k = 0; k < t.size(); ++k)
            nodes_.push_back({std::cos(t[k]), std::sin(t[k]), 0.5 * w[k] / pi});
    } else if (toy.name == "two_spirals") {
        const double end = 3 * pi;
        gauss_legendre(400, 0, end, t, w); // half a noise apart, enough for rounding
        for (std::size_t k = 0; k < t.size(); ++k)
            nodes_.push_back(
                {-std::cos(t[k]) * t[k] / 3, std::sin(t[k]) * t[k] / 3, 0.5 * w[k] * 2 * t[k] / square(end)});
    }
}

/// Half circles of radius 1, one about 0 and one upside down about (1, 1/2), with normal noise.
double ToyDensity::moons(const double* x) const {
    const double inverse = 0.5 / square(toy_.noise);
    double sum = 0;
    for (const Node& n : nodes_)
        sum += n.weight * (std::exp(-inverse * (square(x[0] - n.x) + square(x[1] - n.y))) +
                           std::exp(-inverse * (square(x[0] - 1 + n.x) + square(x[1] - 0.5 + n.y))));
    return std::log(sum * inverse / pi);
}

/// A spiral and its image under x -> -x; uniform noise of width 1/6 in both coordinates, normal noise 0.1.
double ToyDensity::two_spirals(const double* x) const {
    constexpr double width = 1.0 / 6, sd = 0.1;
    double sum = 0;
    for (const Node& n : nodes_)
        for (const double sign : {1.0, -1.0}) {
            const double a = (sign * x[0] - n.x) / sd, b = (sign * x[1] - n.y) / sd;
            sum += n.weight * normal_between(a - width / sd, a) * normal_between(b - width / sd, b);
        }
    return std::log(sum / square(width));
}

double ToyDensity::operator()(const double* x) const {
    if (toy_.name == "moons") return moons(x);
    if (toy_.name == "two_spirals") return two_spirals(x);
    if (toy_.name == "pinwheel") return pinwheel(x);
    if (toy_.name == "eight_gaussians") return eight_gaussians(x);
    return checkerboard(x);
}

} // namespace dynkin

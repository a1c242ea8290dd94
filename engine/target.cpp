// target.cpp - lattices, properties of targets, their energies (by way of kernels/energy.h), and direct
// draws.
#include "target.h"
#include "energy_device.h"
#include "energy_law.h"
#include "error.h"
#include "kernels/elementary.h"
#include "kernels/philox.h"
#include "parallel.h"
#include "toy_density.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <numbers>
#include <numeric>

namespace dynkin {
namespace {

template <class... F> struct Overloaded : F... { using F::operator()...; };
template <class... F> Overloaded(F...) -> Overloaded<F...>; // clang 14 does not find it

/// Calls f(site, axis, coordinate, stride) for every site in C order and every axis.
template <class F> void for_each_axis(const std::vector<std::size_t>& shape, const F& f) {
    const std::size_t sites =
        std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
    for (std::size_t site = 0; site < sites; ++site) {
        std::size_t stride = 1;
        for (std::size_t axis = shape.size(); axis-- > 0; stride *= shape[axis])
            f(site, axis, site / stride % shape[axis], stride);
    }
}

const char* name_of(Boundary boundary) {
    switch (boundary) {
    case Boundary::periodic:
        return "periodic";
    case Boundary::free:
        return "free";
    case Boundary::zero:
        return "zero";
    }
    return "unknown";
}

/// Smallest and largest eigenvalue of sum_edges (x_i - x_j)^2 + sum_i outer_i x_i^2, exactly (values outside
/// shift the minimum only): axes add up,
/// and on one axis they are 2 - 2 cos of the mode's wave number.
std::pair<double, double> laplacian_range(const Lattice& lattice) {
    double smallest = 0, largest = 0;
    for (const std::size_t n : lattice.shape) {
        const double size = static_cast<double>(n), pi = std::numbers::pi;
        const auto mode = [](double wave_number) { return 2 - 2 * std::cos(wave_number); };
        switch (lattice.boundary) {
        case Boundary::zero:
            smallest += mode(pi / (size + 1));
            largest += mode(pi * size / (size + 1));
            break;
        case Boundary::free:
            largest += mode(pi * (size - 1) / size);
            break;
        case Boundary::periodic:
            largest += n == 1 ? 0 : n == 2 ? 2 : mode(2 * pi * static_cast<double>(n / 2) / size);
            break;
        }
    }
    return {smallest, largest};
}

bool mirrored(const GaussianTarget& a, const GaussianTarget& b) {
    for (std::size_t i = 0; i < a.mean.size(); ++i)
        if (a.mean[i] != -b.mean[i]) return false;
    return std::equal(a.covariance.begin(), a.covariance.end(), b.covariance.begin());
}

bool mixture_is_even(const GaussianMixtureTarget& mixture) {
    for (std::size_t k = 0; k < mixture.components.size(); ++k) {
        bool found = false;
        for (std::size_t l = 0; l < mixture.components.size(); ++l)
            found = found || (mixture.weights[k] == mixture.weights[l] &&
                              mirrored(mixture.components[k], mixture.components[l]));
        if (!found) return false;
    }
    return true;
}

} // namespace

// Lattice
// ------------------------------------------------------------------------------------------------------

std::size_t Lattice::sites() const {
    return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

std::vector<std::pair<int, int>> Lattice::edges() const {
    std::vector<std::pair<int, int>> list;
    for_each_axis(shape, [&](std::size_t site, std::size_t axis, std::size_t coordinate, std::size_t stride) {
        const std::size_t n = shape[axis];
        if (coordinate + 1 < n) list.emplace_back(static_cast<int>(site), static_cast<int>(site + stride));
        if (boundary == Boundary::periodic && coordinate == 0 && n > 2)
            list.emplace_back(static_cast<int>(site), static_cast<int>(site + (n - 1) * stride));
    });
    std::sort(list.begin(), list.end());
    return list;
}

double Lattice::outside_value(std::size_t axis, int side) const {
    const std::size_t k = 2 * axis + static_cast<std::size_t>(side);
    return boundary == Boundary::fixed && k < outside.size() ? outside[k] : 0;
}

bool Lattice::zero_outside() const { return outside_reach() == 0; }

double Lattice::outside_reach() const {
    double largest = 0;
    for (std::size_t axis = 0; axis < shape.size(); ++axis)
        for (int side : {0, 1}) largest = std::max(largest, std::abs(outside_value(axis, side)));
    return largest;
}

void Lattice::check_outside(const std::string& who) const {
    if (outside.empty()) return;
    require(boundary == Boundary::fixed, ErrorKind::input,
            fmt::format("{}: values outside go with a fixed boundary, got {}", who, name_of(boundary)));
    require(outside.size() == 2 * shape.size(), ErrorKind::input,
            fmt::format("{}: expected two values outside an axis, {} in all, got {}", who, 2 * shape.size(),
                        outside.size()));
    for (const double value : outside)
        require(std::abs(value) <= 1e6, ErrorKind::input,
                fmt::format("{}: expected values outside between -1e6 and 1e6, got {}", who, value));
}

bool Lattice::operator==(const Lattice& other) const {
    if (shape != other.shape || boundary != other.boundary) return false;
    for (std::size_t axis = 0; axis < shape.size(); ++axis)
        for (int side : {0, 1})
            if (outside_value(axis, side) != other.outside_value(axis, side)) return false;
    return true;
}

std::vector<double> Lattice::outer_sums(int power) const {
    std::vector<double> sum(sites(), 0.0);
    if (zero_outside()) return sum;
    const auto value = [&](std::size_t axis, int side) { return std::pow(outside_value(axis, side), power); };
    for_each_axis(shape, [&](std::size_t site, std::size_t axis, std::size_t coordinate, std::size_t) {
        if (coordinate == 0) sum[site] += value(axis, 0);
        if (coordinate + 1 == shape[axis]) sum[site] += value(axis, 1);
    });
    return sum;
}

std::vector<int> Lattice::outer_edges() const {
    std::vector<int> count(sites(), 0);
    if (boundary != Boundary::zero) return count;
    for_each_axis(shape, [&](std::size_t site, std::size_t axis, std::size_t coordinate, std::size_t) {
        count[site] += static_cast<int>(coordinate == 0) + static_cast<int>(coordinate + 1 == shape[axis]);
    });
    return count;
}

int Lattice::distance(int i, int j) const {
    int sum = 0, a = i, b = j;
    for (std::size_t axis = shape.size(); axis-- > 0;) {
        const int n = static_cast<int>(shape[axis]);
        const int apart = std::abs(a % n - b % n);
        sum += boundary == Boundary::periodic ? std::min(apart, n - apart) : apart;
        a /= n, b /= n;
    }
    return sum;
}

std::string Lattice::describe() const {
    if (!zero_outside()) return fmt::format("{} fixed [{}]", fmt::join(shape, "x"), fmt::join(outside, ", "));
    return fmt::format("{} {}", fmt::join(shape, "x"), name_of(boundary));
}

// Properties
// ---------------------------------------------------------------------------------------------------

std::size_t Target::dimension() const {
    return std::visit(
        Overloaded{[](const LatticeTarget& t) { return t.lattice.sites(); },
                   [](const GaussianTarget& t) { return t.mean.size(); },
                   [](const GaussianMixtureTarget& t) { return t.components.at(0).mean.size(); },
                   [](const DoubleWellTarget& t) { return t.dimension; },
                   [](const ManyWellTarget& t) { return t.dimension; },
                   [](const ToyTarget&) { return std::size_t{2}; },
                   [](const PluginTarget& t) { return t.dimension; }},
        law);
}

bool Target::has_energy() const { return !std::holds_alternative<ToyTarget>(law); }

bool Target::has_device_energy() const { return has_energy() && !std::holds_alternative<PluginTarget>(law); }

bool Target::can_draw_directly() const {
    return std::holds_alternative<GaussianTarget>(law) ||
           std::holds_alternative<GaussianMixtureTarget>(law) || std::holds_alternative<ToyTarget>(law);
}

bool Target::even() const {
    return std::visit(Overloaded{[](const LatticeTarget& t) {
                                     if (!t.lattice.zero_outside()) return false;
                                     for (std::size_t m = 0; m < t.site.size(); m += 2)
                                         if (t.site[m] != 0) return false;
                                     return true;
                                 },
                                 [](const GaussianTarget& t) { return mirrored(t, t); },
                                 [](const GaussianMixtureTarget& t) { return mixture_is_even(t); },
                                 [](const DoubleWellTarget& t) { return t.b == 0; },
                                 [](const ManyWellTarget& t) { return t.c == 0; },
                                 [](const ToyTarget&) { return false; },
                                 [](const PluginTarget&) { return false; }},
                      law);
}

const Lattice* Target::lattice() const {
    const auto* t = std::get_if<LatticeTarget>(&law);
    return t ? &t->lattice : nullptr;
}

std::vector<std::size_t> Target::sample_shape() const {
    return lattice() ? lattice()->shape : std::vector<std::size_t>{dimension()};
}

LatticeTarget ginzburg_landau(Lattice lattice, double lambda, double beta, double spacing) {
    require(lambda > 0 && beta > 0 && spacing > 0, ErrorKind::input,
            fmt::format("ginzburg_landau: expected lambda, beta, spacing > 0, got {}, {}, {}", lambda, beta,
                        spacing));
    const double g = beta / (4 * lambda);
    return {std::move(lattice), beta * lambda / (spacing * spacing), {0, -2 * g, 0, g}, g};
}

GaussianTarget gaussian(std::vector<double> mean, Array<double> covariance) {
    const std::size_t d = mean.size();
    require(d > 0 && covariance.rows() == d && covariance.cols() == d, ErrorKind::input,
            fmt::format("gaussian: expected a covariance of shape ({}, {}), got ({}, {})", d, d,
                        covariance.rows(), covariance.cols()));
    Array<double> factor(d, d);
    for (std::size_t i = 0; i < d; ++i)
        for (std::size_t j = 0; j <= i; ++j) {
            const double a = covariance(i, j), b = covariance(j, i);
            // Relative to the diagonal: a covariance summed in another order differs by rounding of its
            // terms.
            const double size = std::sqrt(std::abs(covariance(i, i) * covariance(j, j)));
            require(std::abs(a - b) <= 1e-12 * size, ErrorKind::input,
                    fmt::format("gaussian: covariance is not symmetric: entries ({}, {}) are {} and {}", i, j,
                                a, b));
            double sum = a;
            for (std::size_t k = 0; k < j; ++k) sum -= factor(i, k) * factor(j, k);
            if (i != j) {
                factor(i, j) = sum / factor(j, j);
                continue;
            }
            require(std::isfinite(sum) && sum > 0, ErrorKind::input,
                    fmt::format("gaussian: covariance is not positive definite (pivot {} is {})", i, sum));
            factor(i, i) = std::sqrt(sum);
        }
    return {std::move(mean), std::move(covariance), std::move(factor)};
}

std::string unbounded_reason(const LatticeTarget& target) {
    std::size_t degree = target.site.size();
    while (degree > 0 && target.site[degree - 1] == 0) --degree;
    if (degree > 2) {
        if (degree % 2 == 1) return fmt::format("the highest power of site, {}, is odd", degree);
        const double leading = target.site[degree - 1];
        return leading > 0 ? ""
                           : fmt::format("the highest coefficient of site, of x^{}, is {}", degree, leading);
    }
    const double curvature = target.site.size() < 2 ? 0 : 2 * target.site[1];
    const auto [smallest, largest] = laplacian_range(target.lattice);
    const double lowest = curvature + std::min(target.coupling * smallest, target.coupling * largest);
    if (lowest > 0) return "";
    return fmt::format(
        "U is quadratic and its smallest curvature, 2 c_2 + J k, is {} (a free direction needs a site "
        "term that grows)",
        lowest);
}

// Energies
// -----------------------------------------------------------------------------------------------------

EnergyLaw::EnergyLaw(const Target& target)
    : view_(std::visit(
          Overloaded{[&](const LatticeTarget& t) -> EnergyView { return lattice_view(t); },
                     [&](const GaussianTarget& t) -> EnergyView {
                         return GaussianView{t.mean.size(), t.mean.data(), t.cholesky.data(), 0.0};
                     },
                     [&](const GaussianMixtureTarget& t) -> EnergyView { return mixture_view(t); },
                     [&](const DoubleWellTarget& t) -> EnergyView {
                         return DoubleWellView{t.dimension, t.a, t.b};
                     },
                     [&](const ManyWellTarget& t) -> EnergyView {
                         return ManyWellView{t.dimension, t.a, t.b, t.c};
                     },
                     [&](const PluginTarget& t) -> EnergyView {
                         return PluginView{t.dimension, t.energy, t.parameters.data(), t.parameters.size(),
                                           t.has_gradient};
                     },
                     [&](const ToyTarget& t) -> EnergyView {
                         throw Error(ErrorKind::usage,
                                     fmt::format("energy: {} can only be drawn, it has no energy", t.name));
                     }},
          target.law)) {}

LatticeView EnergyLaw::lattice_view(const LatticeTarget& target) {
    const std::size_t d = target.lattice.sites();
    require(target.site.size() <= max_site_degree, ErrorKind::usage,
            fmt::format("energy: expected at most {} site coefficients, got {}", max_site_degree,
                        target.site.size()));
    const auto edges = target.lattice.edges();
    first_.assign(d + 1, 0);
    for (const auto& [i, j] : edges)
        ++first_[static_cast<std::size_t>(i) + 1], ++first_[static_cast<std::size_t>(j) + 1];
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    forward_.assign(first_.begin(), first_.end() - 1);
    neighbour_.resize(2 * edges.size());
    for (const auto& [i, j] : edges)
        neighbour_[static_cast<std::size_t>(forward_[static_cast<std::size_t>(j)]++)] = i;
    std::vector<std::int32_t> next = forward_;
    for (const auto& [i, j] : edges)
        neighbour_[static_cast<std::size_t>(next[static_cast<std::size_t>(i)]++)] = j;
    target.lattice.check_outside("energy");
    const auto outer = target.lattice.outer_edges();
    outer_.assign(outer.begin(), outer.end());
    outer_sum_ = target.lattice.outer_sums(1), outer_square_ = target.lattice.outer_sums(2);
    LatticeView view{d,
                     first_.data(),
                     forward_.data(),
                     neighbour_.data(),
                     outer_.data(),
                     outer_sum_.data(),
                     outer_square_.data(),
                     target.coupling,
                     target.site_constant,
                     0,
                     {}};
    for (std::size_t m = 0; m < target.site.size(); ++m) {
        view.site[m] = target.site[m];
        if (target.site[m] != 0) view.degree = static_cast<int>(m) + 1;
    }
    return view;
}

MixtureView EnergyLaw::mixture_view(const GaussianMixtureTarget& target) {
    for (const GaussianTarget& component : target.components) {
        const std::size_t d = component.mean.size();
        double normaliser = 0.5 * static_cast<double>(d) * std::log(2 * std::numbers::pi);
        for (std::size_t i = 0; i < d; ++i) normaliser += std::log(component.cholesky(i, i));
        components_.push_back({d, component.mean.data(), component.cholesky.data(), normaliser});
    }
    for (const double w : target.weights) log_weight_.push_back(std::log(w));
    return {components_.at(0).dimension, components_.size(), components_.data(), log_weight_.data()};
}

void energy(const Context& context, const Target& target, std::size_t count, const double* x,
            double* energies) {
    energy_gradient(context, target, count, x, energies, nullptr);
}

void energy_gradient(const Context& context, const Target& target, std::size_t count, const double* x,
                     double* energies, double* gradients) {
    TargetEnergy(context, target)(count, x, energies, gradients);
}

struct TargetEnergy::State {
    Context context;
    EnergyLaw law;
    std::shared_ptr<DeviceEnergy> device;
};

TargetEnergy::TargetEnergy(const Context& context, const Target& target)
    : state_(new State{context, EnergyLaw(target), nullptr}) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda && target.has_device_energy())
            state_->device = make_device_energy(context.device_state(), state_->law.view());
}

void TargetEnergy::operator()(std::size_t count, const double* x, double* energies, double* gradients) const {
    const Context& context = state_->context;
    if constexpr (built_with_cuda)
        if (state_->device) return energy_on_device(*state_->device, count, x, energies, gradients);
    cpu::energy_gradient(context.isa(), context.threads(), state_->law.view(), count, x, energies, gradients);
}

// Direct draws
// -------------------------------------------------------------------------------------------------

namespace {

/// The random numbers of one directly drawn sample: uniforms and normals by slot.
struct Source {
    std::uint64_t seed, sample;
    RandomWords words(std::uint32_t slot) const { return philox(seed, Stream::direct_draw, sample, 0, slot); }
    void normals(std::uint32_t slot, double (&z)[4]) const {
        const RandomWords w = words(slot);
        normals_from_uniforms(uniform(w.v[0]), uniform(w.v[1]), z[0], z[1]);
        normals_from_uniforms(uniform(w.v[2]), uniform(w.v[3]), z[2], z[3]);
    }
};
constexpr std::uint32_t choice_slot = 0xffffffffu; // which component; beyond the coordinates' slots

void draw_gaussian(const GaussianTarget& target, const Source& source, double* x) {
    const std::size_t d = target.mean.size();
    std::copy(target.mean.begin(), target.mean.end(), x);
    double z[4];
    for (std::size_t j = 0; j < d; ++j) {
        if (j % 4 == 0) source.normals(static_cast<std::uint32_t>(j / 4), z);
        for (std::size_t i = j; i < d; ++i) x[i] += target.cholesky(i, j) * z[j % 4];
    }
}

void draw_mixture(const GaussianMixtureTarget& target, const Source& source, double* x) {
    double rest = uniform(source.words(choice_slot).v[0]);
    std::size_t k = 0;
    while (k + 1 < target.weights.size() && rest >= target.weights[k]) rest -= target.weights[k++];
    draw_gaussian(target.components[k], source, x);
}

// The toys: two uniforms and an index from slot 0, normals from slot 1. Constants of FFJORD (Grathwohl et al.
// 2019).

void draw_moons(double noise, const Source& source, double* x) {
    const RandomWords w = source.words(0);
    double z[4], sine, cosine;
    source.normals(1, z);
    sincos_turns(0.5 * uniform(w.v[0]), sine, cosine);
    const bool inner = uniform(w.v[1]) < 0.5;
    x[0] = (inner ? 1 - cosine : cosine) + noise * z[0];
    x[1] = (inner ? 0.5 - sine : sine) + noise * z[1];
}

void draw_two_spirals(const Source& source, double* x) {
    const RandomWords w = source.words(0);
    double z[4];
    source.normals(1, z);
    const double n = std::sqrt(uniform(w.v[0])) * 540 * 2 * std::numbers::pi / 360;
    const double sign = (source.words(2).v[0] & 1u) ? 1 : -1;
    x[0] = sign * (-std::cos(n) * n + 0.5 * uniform(w.v[1])) / 3 + 0.1 * z[0];
    x[1] = sign * (std::sin(n) * n + 0.5 * uniform(w.v[2])) / 3 + 0.1 * z[1];
}

void draw_pinwheel(const Source& source, double* x) {
    double z[4];
    source.normals(1, z);
    const double arm = std::floor(5 * uniform(source.words(0).v[0]));
    const double radial = 1 + 0.3 * z[0], tangential = 0.1 * z[1];
    const double angle = 2 * std::numbers::pi * arm / 5 + 0.25 * std::exp(radial);
    x[0] = 2 * (radial * std::cos(angle) + tangential * std::sin(angle));
    x[1] = 2 * (tangential * std::cos(angle) - radial * std::sin(angle));
}

void draw_eight_gaussians(const Source& source, double* x) {
    double z[4], sine, cosine;
    source.normals(1, z);
    sincos_turns(std::floor(8 * uniform(source.words(0).v[0])) / 8, sine, cosine);
    x[0] = (4 * cosine + 0.5 * z[0]) / 1.414;
    x[1] = (4 * sine + 0.5 * z[1]) / 1.414;
}

void draw_checkerboard(const Source& source, double* x) {
    const RandomWords w = source.words(0);
    const double across = 4 * uniform(w.v[0]) - 2;
    const double column = std::floor(across) - 2 * std::floor(0.5 * std::floor(across)); // modulo 2
    const double up = uniform(w.v[1]) - ((w.v[2] & 1u) ? 2 : 0) + column;
    x[0] = 2 * across;
    x[1] = 2 * up;
}

void draw_toy(const ToyTarget& target, const Source& source, double* x) {
    if (target.name == "moons")
        draw_moons(target.noise, source, x);
    else if (target.name == "two_spirals")
        draw_two_spirals(source, x);
    else if (target.name == "pinwheel")
        draw_pinwheel(source, x);
    else if (target.name == "eight_gaussians")
        draw_eight_gaussians(source, x);
    else
        draw_checkerboard(source, x);
}

} // namespace

void exact_log_density(const Context& context, const Target& target, std::size_t count, const double* x,
                       double* out) {
    if (!target.can_draw_directly())
        throw Error(ErrorKind::usage,
                    fmt::format("{}: its density is known up to a factor only", target.kind));
    if (const auto* toy = std::get_if<ToyTarget>(&target.law)) {
        const ToyDensity density(*toy);
        return parallel_for(context.threads(), count,
                            [&](std::size_t n, std::size_t) { out[n] = density(x + 2 * n); });
    }
    energy(context, target, count, x, out);
    double log_normaliser = 0; // a mixture's energy has it
    if (const auto* gaussian = std::get_if<GaussianTarget>(&target.law))
        for (std::size_t j = 0; j < gaussian->mean.size(); ++j)
            log_normaliser += 0.5 * std::log(2 * std::numbers::pi) + std::log(gaussian->cholesky(j, j));
    for (std::size_t n = 0; n < count; ++n) out[n] = -out[n] - log_normaliser;
}

void draw_direct(const Context& context, const Target& target, std::uint64_t seed, std::size_t first,
                 std::size_t count, double* x) {
    if (!target.can_draw_directly())
        throw Error(ErrorKind::usage,
                    fmt::format("draw: {} cannot be drawn directly, use hmc or tempering", target.kind));
    require(first + count <= std::size_t{1} << 48, ErrorKind::usage, "draw: expected at most 2^48 samples");
    const std::size_t d = target.dimension();
    const auto most = static_cast<std::size_t>(context.threads());
    const int team =
        static_cast<int>(std::clamp<std::size_t>(count * d / 4096, 1, most)); // some 50 microseconds each
#pragma omp parallel for schedule(static) num_threads(team)
    for (std::size_t n = 0; n < count; ++n) {
        const Source source{seed, first + n};
        double* row = x + n * d;
        if (const auto* g = std::get_if<GaussianTarget>(&target.law))
            draw_gaussian(*g, source, row);
        else if (const auto* m = std::get_if<GaussianMixtureTarget>(&target.law))
            draw_mixture(*m, source, row);
        else
            draw_toy(std::get<ToyTarget>(target.law), source, row);
    }
}

} // namespace dynkin

#include "drift_view.h"
#include "error.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <numbers>
#include <numeric>

namespace dynkin {
namespace {

using Json = nlohmann::ordered_json;
using std::size_t;
constexpr size_t max_terms = 4096;
constexpr int max_power = 32;

void check(bool condition, const std::string& message) {
    require(condition, ErrorKind::usage, "drift: " + message);
}

/// Checks one law, gives its dimension and describes it.
struct Describe {
    Json& json;

    size_t operator()(const DoubleWellDrift& law) const {
        check(std::isfinite(law.a) && std::isfinite(law.b), "expected finite a and b");
        json = {{"kind", "double_well"}, {"dimension", law.dimension}, {"a", law.a}, {"b", law.b}};
        return law.dimension;
    }
    size_t operator()(const LogisticDrift& law) const {
        check(law.scale > 0 && std::isfinite(law.scale), "expected a positive scale");
        json = {{"kind", "logistic"}, {"dimension", law.dimension}, {"scale", law.scale}};
        return law.dimension;
    }
    size_t operator()(const SwimmerDrift& law) const {
        check(std::isfinite(law.friction), "expected a finite friction");
        json = {{"kind", "swimmer"}, {"friction", law.friction}};
        return 2;
    }
    size_t operator()(const MixtureDrift& law) const {
        const size_t k = law.weights.size();
        check(k >= 1 && k <= max_terms && law.means.rows() == k && law.sd.size() == k,
              fmt::format("expected as many means and sd as weights, 1 to {}, got {}, {} and {}", max_terms,
                          law.means.rows(), law.sd.size(), k));
        json = {{"kind", "mixture"}, {"weights", law.weights}, {"means", Json::array()}, {"sd", law.sd}};
        for (size_t i = 0; i < k; ++i) {
            check(law.weights[i] > 0 && std::isfinite(law.weights[i]), "expected positive weights");
            check(law.sd[i] > 0 && std::isfinite(law.sd[i]), "expected positive sd");
            json["means"].push_back(
                std::vector<double>(law.means.row(i), law.means.row(i) + law.means.cols()));
        }
        for (const double x : law.means) check(std::isfinite(x), "expected finite means");
        return law.means.cols();
    }
    size_t operator()(const PolynomialDrift& law) const {
        const size_t d = law.components.size();
        size_t terms = 0;
        json = {{"kind", "polynomial"}, {"terms", Json::array()}};
        for (const auto& component : law.components) {
            Json list = Json::array();
            for (const auto& term : component) {
                check(++terms <= max_terms, fmt::format("expected at most {} terms", max_terms));
                check(std::isfinite(term.coefficient), "expected finite coefficients");
                check(term.power.size() == d,
                      fmt::format("expected {} powers a term, got {}", d, term.power.size()));
                Json one = Json::array({term.coefficient});
                for (const int p : term.power) {
                    check(p >= 0 && p <= max_power,
                          fmt::format("expected powers from 0 to {}, got {}", max_power, p));
                    one.push_back(p);
                }
                list.push_back(std::move(one));
            }
            json["terms"].push_back(std::move(list));
        }
        return d;
    }
    size_t operator()(const CallableDrift& law) const {
        check(law.value && law.slope && law.curvature, "a callable without functions: use drift_of()");
        return law.dimension;
    }
};

} // namespace

std::vector<int> DriftProcess::driven() const {
    std::vector<int> out;
    for (size_t i = 0; i < noise.size(); ++i)
        if (noise[i] > 0) out.push_back(static_cast<int>(i));
    return out;
}

DriftProcess drift_process(DriftVariant law, std::vector<double> noise) {
    Json json;
    DriftProcess process;
    const size_t d = std::visit(Describe{json}, law);
    check(d >= 1 && d <= static_cast<size_t>(max_drift_dimension),
          fmt::format("expected 1 to {} coordinates, got {}", max_drift_dimension, d));
    if (noise.size() == 1) noise.assign(d, noise[0]);
    check(noise.size() == d, fmt::format("expected {} numbers of noise, or one, got {}", d, noise.size()));
    for (const double g : noise)
        check(g >= 0 && std::isfinite(g), fmt::format("expected noise >= 0, got {}", g));
    process.drift = std::move(law), process.noise = std::move(noise);
    check(!process.driven().empty(), "expected noise in at least one coordinate");
    if (json.is_null()) {
        process.kind = "callable";
        return process;
    }
    json["noise"] = process.noise;
    process.kind = json["kind"], process.canonical_json = json.dump();
    return process;
}

DriftTable::DriftTable(const DriftProcess& process) {
    const int d = static_cast<int>(process.dimension());
    if (const auto* well = std::get_if<DoubleWellDrift>(&process.drift))
        view_ = DoubleWellDriftView{d, well->a, well->b};
    else if (const auto* logistic = std::get_if<LogisticDrift>(&process.drift))
        view_ = LogisticDriftView{d, logistic->scale};
    else if (const auto* swimmer = std::get_if<SwimmerDrift>(&process.drift))
        view_ = SwimmerDriftView{swimmer->friction};
    else if (const auto* callable = std::get_if<CallableDrift>(&process.drift))
        view_ = CallableDriftView{d, callable};
    else if (const auto* mixture = std::get_if<MixtureDrift>(&process.drift)) {
        for (size_t k = 0; k < mixture->weights.size(); ++k) {
            numbers_.push_back(std::log(mixture->weights[k]) - d * std::log(mixture->sd[k]));
            precision_.push_back(1 / (mixture->sd[k] * mixture->sd[k]));
        }
        more_.assign(mixture->means.begin(), mixture->means.end());
        view_ = MixtureDriftView{d, static_cast<int>(numbers_.size()), numbers_.data(), more_.data(),
                                 precision_.data()};
    } else {
        first_.push_back(0);
        for (const auto& component : std::get<PolynomialDrift>(process.drift).components) {
            for (const auto& term : component) {
                numbers_.push_back(term.coefficient);
                power_.insert(power_.end(), term.power.begin(), term.power.end());
            }
            first_.push_back(static_cast<int>(numbers_.size()));
        }
        view_ = PolynomialDriftView{d, first_.data(), numbers_.data(), power_.data()};
    }
}

void drift_values(const DriftProcess& process, size_t count, const double* x, double* f, double* jacobian) {
    const DriftTable table(process);
    const size_t d = process.dimension();
    std::visit(
        [&](const auto& view) {
            for (size_t n = 0; n < count; ++n) {
                if (jacobian)
                    drift_jacobian(view, x + n * d, f + n * d, jacobian + n * d * d);
                else
                    drift(view, x + n * d, f + n * d);
                for (size_t i = 0; i < d; ++i)
                    if (!std::isfinite(f[n * d + i]))
                        throw Error(ErrorKind::numerical,
                                    fmt::format("drift: component {} is {} at row {}, ({:g})", i,
                                                f[n * d + i], n,
                                                fmt::join(x + n * d, x + (n + 1) * d, ", ")));
            }
        },
        table.view());
}

std::optional<PolynomialDrift> polynomial_form(const DriftProcess& process) {
    if (const auto* polynomial = std::get_if<PolynomialDrift>(&process.drift)) return *polynomial;
    if (const auto* swimmer = std::get_if<SwimmerDrift>(&process.drift))
        return PolynomialDrift{{{{-1, {3, 0}}, {1, {0, 1}}}, {{-swimmer->friction, {0, 1}}}}};
    const auto* well = std::get_if<DoubleWellDrift>(&process.drift);
    if (!well) return {};
    PolynomialDrift out;
    for (size_t i = 0; i < well->dimension; ++i) {
        const auto term = [&](double c, int power) {
            PolynomialDrift::Term t{c, std::vector<int>(well->dimension, 0)};
            t.power[i] = power;
            return t;
        };
        out.components.push_back({term(-4 * well->a, 3), term(4 * well->a, 1), term(-well->b, 0)});
    }
    return out;
}

} // namespace dynkin

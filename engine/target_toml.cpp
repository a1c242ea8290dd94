// target_toml.cpp - targets from TOML: every value checked, every message with file, line and key.
#include "error.h"
#include "file.h"
#include "kernels/energy.h"
#include "target.h"
#include "toml_reader.h"
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

namespace dynkin {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t max_sites = std::size_t{1} << 24;
constexpr std::size_t max_dense = 4096; // dimension of targets with a covariance

using Reader = TomlReader;

Lattice read_lattice(Reader& reader) {
    Lattice lattice;
    const toml::node& shape = reader.need("shape");
    if (reader.list(shape, "shape").size() > 3) reader.fail(shape, "shape", "expected one to three axes");
    for (const toml::node& axis : *shape.as_array())
        lattice.shape.push_back(reader.count(axis, "shape", max_sites));
    std::size_t sites = 1;
    for (const std::size_t n : lattice.shape) {
        if (sites > max_sites / n) reader.fail(shape, "shape", fmt::format("expected at most 2^24 sites"));
        sites *= n;
    }
    const std::string boundary = reader.text("boundary", {"periodic", "free", "zero", "fixed"});
    lattice.boundary = boundary == "periodic" ? Boundary::periodic
                       : boundary == "free"   ? Boundary::free
                                              : Boundary::fixed;
    if (boundary != "fixed") return lattice;
    const toml::node& values = reader.need("boundary_values");
    lattice.outside = reader.numbers(values, "boundary_values", 2 * lattice.shape.size());
    for (const double value : lattice.outside)
        if (!(std::abs(value) <= 1e6))
            reader.fail(values, "boundary_values",
                        fmt::format("expected numbers between -1e6 and 1e6, got {}", value));
    return lattice;
}

Json lattice_json(const Lattice& lattice, const std::string& kind) {
    const char* names[] = {"periodic", "free", "zero"};
    Json json = {
        {"kind", kind}, {"shape", lattice.shape}, {"boundary", names[static_cast<int>(lattice.boundary)]}};
    if (!lattice.outside.empty()) json["boundary"] = "fixed", json["boundary_values"] = lattice.outside;
    return json;
}

/// A positive number, or a fraction of two as text: "1/17".
double read_spacing(Reader& reader) {
    const toml::node& node = reader.need("spacing");
    const auto* text = node.as_string();
    if (!text) return reader.positive(node, "spacing");
    const std::string& s = text->get();
    double top = 0, bottom = 0;
    const auto [slash, error] = std::from_chars(s.data(), s.data() + s.size(), top);
    bool good = error == std::errc() && slash != s.data() + s.size() && *slash == '/';
    if (good) {
        const auto [end, second] = std::from_chars(slash + 1, s.data() + s.size(), bottom);
        good = second == std::errc() && end == s.data() + s.size();
    }
    const double value = good ? top / bottom : 0;
    if (!(value > 0) || !std::isfinite(value))
        reader.fail_expected(node, "spacing", "a positive number or a fraction such as \"1/17\"");
    return value;
}

TargetVariant read_ginzburg_landau(Reader& reader, Json& json) {
    Lattice lattice = read_lattice(reader);
    const double lambda = reader.positive("lambda"), beta = reader.positive("beta"),
                 spacing = read_spacing(reader);
    json = lattice_json(lattice, "ginzburg_landau");
    json["lambda"] = lambda, json["beta"] = beta, json["spacing"] = spacing;
    LatticeTarget target = ginzburg_landau(std::move(lattice), lambda, beta, spacing);
    if (!std::isfinite(target.coupling) || !std::isfinite(target.site_constant) || !(target.coupling > 0))
        reader.fail_whole("lambda, beta and spacing give coefficients that are not finite");
    return target;
}

TargetVariant read_lattice_target(Reader& reader, Json& json) {
    LatticeTarget target{read_lattice(reader), reader.number(reader.need("coupling"), "coupling"), {}, 0};
    const toml::node* site = reader.find("site");
    if (site && !(site->is_array() && site->as_array()->empty())) target.site = reader.numbers(*site, "site");
    if (target.site.size() > max_site_degree)
        reader.fail(
            *site, "site",
            fmt::format("expected at most {} coefficients, got {}", max_site_degree, target.site.size()));
    const std::string reason = unbounded_reason(target);
    if (!reason.empty()) {
        const std::string message = "U is not bounded below, exp(-U) cannot be normalised: " + reason;
        if (site) reader.fail(*site, "site", message);
        reader.fail_whole(message);
    }
    json = lattice_json(target.lattice, "lattice");
    json["coupling"] = target.coupling, json["site"] = target.site;
    return target;
}

Json matrix_json(const Array<double>& matrix) {
    Json rows = Json::array();
    for (std::size_t i = 0; i < matrix.rows(); ++i)
        rows.push_back(std::vector<double>(matrix.row(i), matrix.row(i) + matrix.cols()));
    return rows;
}

GaussianTarget read_component(Reader& reader, const toml::node& mean_node, const std::string& mean_key,
                              const toml::node& covariance_node, const std::string& covariance_key) {
    std::vector<double> mean = reader.numbers(mean_node, mean_key);
    const std::size_t d = mean.size();
    if (d > max_dense)
        reader.fail(mean_node, mean_key,
                    fmt::format("expected at most {} coordinates, got {}", max_dense, d));
    Array<double> covariance(d, d);
    std::size_t i = 0;
    for (const toml::node& row : reader.list(covariance_node, covariance_key, d)) {
        const std::vector<double> values = reader.numbers(row, covariance_key, d);
        std::copy(values.begin(), values.end(), covariance.row(i++));
    }
    try {
        return gaussian(std::move(mean), std::move(covariance));
    } catch (const Error& error) {
        reader.fail(covariance_node, covariance_key, error.what());
    }
}

TargetVariant read_gaussian(Reader& reader, Json& json) {
    const toml::node& mean = reader.need("mean");
    GaussianTarget target = read_component(reader, mean, "mean", reader.need("covariance"), "covariance");
    json = {{"kind", "gaussian"}, {"mean", target.mean}, {"covariance", matrix_json(target.covariance)}};
    return target;
}

TargetVariant read_mixture(Reader& reader, Json& json) {
    GaussianMixtureTarget target;
    const toml::node& weights = reader.need("weights");
    target.weights = reader.numbers(weights, "weights");
    for (const double w : target.weights)
        if (!(w > 0)) reader.fail(weights, "weights", fmt::format("expected positive numbers, got {}", w));
    const double sum = std::accumulate(target.weights.begin(), target.weights.end(), 0.0);
    if (!std::isfinite(sum)) reader.fail(weights, "weights", "their sum is not finite");
    for (double& w : target.weights) w /= sum;
    const std::size_t k = target.weights.size();
    const toml::array& means = reader.list(reader.need("means"), "means", k);
    const toml::array& covariances = reader.list(reader.need("covariances"), "covariances", k);
    json = {{"kind", "gaussian_mixture"},
            {"weights", target.weights},
            {"means", Json::array()},
            {"covariances", Json::array()}};
    for (std::size_t i = 0; i < k; ++i) {
        target.components.push_back(read_component(reader, means[i], "means", covariances[i], "covariances"));
        const GaussianTarget& component = target.components.back();
        if (component.mean.size() != target.components[0].mean.size())
            reader.fail(means[i], "means",
                        fmt::format("expected {} numbers as in the first, got {}",
                                    target.components[0].mean.size(), component.mean.size()));
        json["means"].push_back(component.mean),
            json["covariances"].push_back(matrix_json(component.covariance));
    }
    return target;
}

TargetVariant read_double_well(Reader& reader, Json& json) {
    DoubleWellTarget target;
    if (const toml::node* d = reader.find("dimension"))
        target.dimension = reader.count(*d, "dimension", max_sites);
    target.a = reader.positive_or("a", target.a);
    target.b = reader.number_or("b", target.b);
    json = {{"kind", "double_well"}, {"dimension", target.dimension}, {"a", target.a}, {"b", target.b}};
    return target;
}

TargetVariant read_many_well(Reader& reader, Json& json) {
    ManyWellTarget target;
    if (const toml::node* d = reader.find("dimension")) {
        target.dimension = reader.count(*d, "dimension", max_sites);
        if (target.dimension % 2 != 0) reader.fail_expected(*d, "dimension", "an even number");
    }
    target.a = reader.positive_or("a", target.a);
    target.b = reader.number_or("b", target.b);
    target.c = reader.number_or("c", target.c);
    json = {{"kind", "many_well"},
            {"dimension", target.dimension},
            {"a", target.a},
            {"b", target.b},
            {"c", target.c}};
    return target;
}

TargetVariant read_moons(Reader& reader, Json& json) {
    const toml::node* node = reader.find("noise");
    const double noise = node ? reader.number(*node, "noise") : 0.1;
    if (noise < 0) reader.fail_expected(*node, "noise", "a number >= 0");
    json = {{"kind", "moons"}, {"noise", noise}};
    return ToyTarget{"moons", noise};
}

TargetVariant read_plugin(Reader& reader, Json& json) {
    const toml::node& library = reader.need("library");
    const auto* name = library.as_string();
    if (!name || name->get().empty()) reader.fail_expected(library, "library", "the path of a shared object");
    const std::size_t d = reader.count(reader.need("dimension"), "dimension", max_sites);
    std::vector<double> parameters;
    if (const toml::node* node = reader.find("parameters")) parameters = reader.numbers(*node, "parameters");
    std::vector<double> start{-3, 3};
    if (const toml::node* node = reader.find("start")) {
        start = reader.numbers(*node, "start", 2);
        if (!(start[0] < start[1])) reader.fail(*node, "start", "expected two numbers, the smaller first");
    }
    std::filesystem::path path(name->get());
    if (path.is_relative()) path = std::filesystem::path(reader.source()).parent_path() / path;
    PluginTarget target = plugin_target(path, d, parameters, start[0], start[1]);
    json = {
        {"kind", "plugin"}, {"library", name->get()},   {"content", fmt::format("{:016x}", target.content)},
        {"dimension", d},   {"parameters", parameters}, {"start", start}};
    return target;
}

template <const char* const& Name> TargetVariant read_toy(Reader&, Json& json) {
    json = {{"kind", Name}};
    return ToyTarget{Name, 0};
}
const char* const two_spirals = "two_spirals";
const char* const pinwheel = "pinwheel";
const char* const eight_gaussians = "eight_gaussians";
const char* const checkerboard = "checkerboard";

using Read = TargetVariant (*)(Reader&, Json&);
const std::map<std::string, Read>& kinds() {
    static const std::map<std::string, Read> table{{"ginzburg_landau", read_ginzburg_landau},
                                                   {"lattice", read_lattice_target},
                                                   {"gaussian", read_gaussian},
                                                   {"gaussian_mixture", read_mixture},
                                                   {"double_well", read_double_well},
                                                   {"many_well", read_many_well},
                                                   {"plugin", read_plugin},
                                                   {"moons", read_moons},
                                                   {"two_spirals", read_toy<two_spirals>},
                                                   {"pinwheel", read_toy<pinwheel>},
                                                   {"eight_gaussians", read_toy<eight_gaussians>},
                                                   {"checkerboard", read_toy<checkerboard>}};
    return table;
}

} // namespace

Target parse_target(std::string_view toml, const std::string& source) {
    toml::table file;
    Reader reader(toml_table(toml, source, "target", file), source, "target");
    std::set<std::string> names;
    for (const auto& entry : kinds()) names.insert(entry.first);
    Target target;
    target.kind = reader.text("kind", names);
    target.source = source;
    Json json;
    target.law = kinds().at(target.kind)(reader, json);
    reader.finish(target.kind);
    target.canonical_json = json.dump();
    return target;
}

Target read_target(const std::filesystem::path& path) { return parse_target(read_file(path), path.string()); }

} // namespace dynkin

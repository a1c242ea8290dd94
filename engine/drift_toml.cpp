// drift_toml.cpp - drifts from TOML and from a model's JSON, by one strict reader.
#include "drift.h"
#include "error.h"
#include "file.h"
#include "json_text.h"
#include "toml_reader.h"
#include <map>

namespace dynkin {
namespace {

using std::size_t;
constexpr size_t max_dimension = 16, max_list = 4096;
constexpr std::int64_t max_power = 32;

size_t dimension_of(TomlReader& reader) {
    const toml::node* node = reader.find("dimension");
    return node ? reader.count(*node, "dimension", max_dimension) : 1;
}

DriftVariant read_double_well(TomlReader& reader) {
    DoubleWellDrift law;
    law.dimension = dimension_of(reader);
    law.a = reader.number_or("a", law.a), law.b = reader.number_or("b", law.b);
    return law;
}

DriftVariant read_logistic(TomlReader& reader) {
    LogisticDrift law;
    law.dimension = dimension_of(reader);
    law.scale = reader.positive_or("scale", law.scale);
    return law;
}

DriftVariant read_swimmer(TomlReader& reader) {
    return SwimmerDrift{reader.positive_or("friction", SwimmerDrift{}.friction)};
}

DriftVariant read_mixture(TomlReader& reader) {
    MixtureDrift law;
    const toml::node& weights = reader.need("weights");
    if (reader.list(weights, "weights").size() > max_list)
        reader.fail(weights, "weights", fmt::format("expected at most {} of them", max_list));
    for (const toml::node& weight : *weights.as_array())
        law.weights.push_back(reader.positive(weight, "weights"));
    const size_t k = law.weights.size();
    const toml::node &sd = reader.need("sd"), &means = reader.need("means");
    if (sd.is_array())
        for (const toml::node& entry : reader.list(sd, "sd", k))
            law.sd.push_back(reader.positive(entry, "sd"));
    else
        law.sd.assign(k, reader.positive(sd, "sd"));
    size_t row = 0;
    for (const toml::node& entry : reader.list(means, "means", k)) {
        const std::vector<double> mean =
            reader.numbers(entry, "means", row ? law.means.cols() : std::size_t{SIZE_MAX});
        if (mean.size() > max_dimension)
            reader.fail(entry, "means",
                        fmt::format("expected at most {} coordinates, got {}", max_dimension, mean.size()));
        if (row == 0) law.means = Array<double>(k, mean.size());
        std::copy(mean.begin(), mean.end(), law.means.row(row++));
    }
    return law;
}

PolynomialDrift::Term read_term(const TomlReader& reader, const toml::node& node, size_t d) {
    const toml::array& numbers = reader.list(node, "terms");
    if (numbers.size() != d + 1)
        reader.fail(node, "terms",
                    fmt::format("expected [coefficient, power of each of {} coordinates], got {} entries", d,
                                numbers.size()));
    PolynomialDrift::Term term{reader.number(numbers[0], "terms", "a finite coefficient"), {}};
    for (size_t j = 1; j <= d; ++j) {
        const auto* power = numbers[j].as_integer();
        if (!power || power->get() < 0 || power->get() > max_power)
            reader.fail_expected(numbers[j], "terms", fmt::format("a power from 0 to {}", max_power));
        term.power.push_back(static_cast<int>(power->get()));
    }
    return term;
}

DriftVariant read_polynomial(TomlReader& reader) {
    const toml::node& terms = reader.need("terms");
    const size_t d = reader.list(terms, "terms").size();
    if (d > max_dimension)
        reader.fail(terms, "terms", fmt::format("expected at most {} components, got {}", max_dimension, d));
    PolynomialDrift law;
    size_t count = 0;
    for (const toml::node& component : *terms.as_array()) {
        if (!component.is_array()) reader.fail_expected(component, "terms", "a list of terms a component");
        law.components.emplace_back();
        for (const toml::node& term : *component.as_array()) {
            if (++count > max_list)
                reader.fail(term, "terms", fmt::format("expected at most {} terms", max_list));
            law.components.back().push_back(read_term(reader, term, d));
        }
    }
    return law;
}

using Read = DriftVariant (*)(TomlReader&);
const std::map<std::string, Read>& kinds() {
    static const std::map<std::string, Read> table{{"double_well", read_double_well},
                                                   {"logistic", read_logistic},
                                                   {"mixture", read_mixture},
                                                   {"polynomial", read_polynomial},
                                                   {"swimmer", read_swimmer}};
    return table;
}

std::vector<double> read_noise(TomlReader& reader, const DriftVariant& law) {
    const toml::node* node = reader.find("noise");
    if (!node) {
        const auto* swimmer = std::get_if<SwimmerDrift>(&law);
        if (!swimmer) return {std::sqrt(2.0)};
        return {0, std::sqrt(2 * swimmer->friction)};
    }
    std::vector<double> noise;
    if (node->is_array())
        noise = reader.numbers(*node, "noise");
    else
        noise.push_back(reader.number(*node, "noise"));
    for (const double g : noise)
        if (g < 0) reader.fail(*node, "noise", fmt::format("expected numbers >= 0, got {}", g));
    return noise;
}

} // namespace

DriftProcess parse_drift(std::string_view toml, const std::string& source) {
    toml::table file;
    TomlReader reader(toml_table(toml, source, "drift", file), source, "drift");
    std::set<std::string> names;
    for (const auto& entry : kinds()) names.insert(entry.first);
    const std::string kind = reader.text("kind", names);
    DriftVariant law = kinds().at(kind)(reader);
    std::vector<double> noise = read_noise(reader, law);
    reader.finish(kind);
    try {
        return drift_process(std::move(law), std::move(noise));
    } catch (const Error& error) {
        reader.fail_whole(error.what());
    }
}

DriftProcess read_drift(const std::filesystem::path& path) {
    return parse_drift(read_file(path), path.string());
}

// Numbers, texts and lists are written alike in JSON and TOML.
DriftProcess drift_from_json(const std::string& text, const std::string& source) {
    const auto json = parse_json<nlohmann::ordered_json>(text);
    require(json.is_object(), ErrorKind::input, source + ": the drift is not a JSON object");
    std::string toml = "[drift]\n";
    for (const auto& [key, value] : json.items())
        toml += nlohmann::ordered_json(key).dump() + " = " + value.dump() + "\n";
    return parse_drift(toml, source);
}

} // namespace dynkin

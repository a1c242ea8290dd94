// toml_reader.h - one table of a TOML file, strictly: every value checked, every message with file, line and
// key (private: included by .cpp files only).
#pragma once
#include "error.h"
#include "file.h"
#include <cmath>
#include <cstdint>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <toml++/toml.h>
#include <vector>

namespace dynkin {

inline std::string describe_node(const toml::node& node) {
    if (const auto* v = node.as_integer()) return fmt::format("{}", v->get());
    if (const auto* v = node.as_floating_point()) return fmt::format("{}", v->get());
    if (const auto* v = node.as_boolean()) return v->get() ? "true" : "false";
    if (const auto* v = node.as_string()) return excerpt(v->get());
    return node.is_array() ? "an array" : node.is_table() ? "a table" : "a date or time";
}

/// Reads the keys of the table [name], remembers which were asked for, and rejects the rest at the end.
class TomlReader {
  public:
    TomlReader(const toml::table& table, std::string source, std::string name)
        : table_(table), source_(std::move(source)), name_(std::move(name)) {}

    [[noreturn]] void fail(const toml::node& node, const std::string& key, const std::string& message) const {
        throw Error(ErrorKind::input,
                    fmt::format("{}:{}: {}.{}: {}", source_, node.source().begin.line, name_, key, message));
    }
    [[noreturn]] void fail_expected(const toml::node& node, const std::string& key,
                                    const std::string& expected) const {
        fail(node, key, fmt::format("expected {}, got {}", expected, describe_node(node)));
    }
    [[noreturn]] void fail_whole(const std::string& message) const {
        throw Error(ErrorKind::input,
                    fmt::format("{}:{}: {}: {}", source_, table_.source().begin.line, name_, message));
    }

    const toml::node* find(const std::string& key) {
        asked_.insert(key);
        return table_.get(key);
    }
    const toml::node& need(const std::string& key) {
        const toml::node* node = find(key);
        if (!node) fail_whole(fmt::format("missing key \"{}\"", key));
        return *node;
    }
    double number(const toml::node& node, const std::string& key,
                  const std::string& expected = "a finite number") const {
        const auto value = node.is_number() ? node.value<double>() : std::nullopt;
        if (!value || !std::isfinite(*value)) fail_expected(node, key, expected);
        return *value;
    }
    double number_or(const std::string& key, double otherwise) {
        const toml::node* node = find(key);
        return node ? number(*node, key) : otherwise;
    }
    double positive(const std::string& key) { return positive(need(key), key); }
    double positive(const toml::node& node, const std::string& key) const {
        const double value = number(node, key, "a positive number");
        if (!(value > 0)) fail_expected(node, key, "a positive number");
        return value;
    }
    double positive_or(const std::string& key, double otherwise) {
        const toml::node* node = find(key);
        return node ? positive(*node, key) : otherwise;
    }
    std::string text(const std::string& key, const std::set<std::string>& allowed) {
        const toml::node& node = need(key);
        const auto* value = node.as_string();
        if (!value || !allowed.contains(value->get()))
            fail_expected(node, key, fmt::format("one of {}", fmt::join(allowed, ", ")));
        return value->get();
    }
    const toml::array& list(const toml::node& node, const std::string& key,
                            std::size_t length = SIZE_MAX) const {
        const toml::array* array = node.as_array();
        if (!array || array->empty()) fail_expected(node, key, "a non-empty array");
        if (length != SIZE_MAX && array->size() != length)
            fail(node, key, fmt::format("expected {} entries, got {}", length, array->size()));
        return *array;
    }
    std::vector<double> numbers(const toml::node& node, const std::string& key,
                                std::size_t length = SIZE_MAX) const {
        std::vector<double> values;
        for (const toml::node& entry : list(node, key, length)) values.push_back(number(entry, key));
        return values;
    }
    std::size_t count(const toml::node& node, const std::string& key, std::size_t largest) const {
        const auto* value = node.as_integer();
        if (!value || value->get() < 1 || static_cast<std::uint64_t>(value->get()) > largest)
            fail_expected(node, key, fmt::format("an integer from 1 to {}", largest));
        return static_cast<std::size_t>(value->get());
    }
    void finish(const std::string& kind) const {
        for (const auto& [key, node] : table_)
            if (!asked_.contains(std::string(key.str())))
                throw Error(ErrorKind::input, fmt::format("{}:{}: {}: unknown key {}; {} has {}", source_,
                                                          node.source().begin.line, name_, excerpt(key.str()),
                                                          kind, fmt::join(asked_, ", ")));
    }
    const toml::table& table() const { return table_; }
    const std::string& source() const { return source_; }

  private:
    const toml::table& table_;
    std::string source_, name_;
    std::set<std::string> asked_;
};

/// The table [name] of a file, which must be there. `file` keeps it alive.
inline const toml::table& toml_table(std::string_view toml, const std::string& source,
                                     const std::string& name, toml::table& file) {
    try {
        file = toml::parse(toml, source);
    } catch (const toml::parse_error& error) {
        throw Error(ErrorKind::input,
                    fmt::format("{}:{}:{}: {}", source, error.source().begin.line,
                                error.source().begin.column, excerpt(error.description(), 200)));
    }
    const toml::node* node = file.get(name);
    if (!node)
        throw Error(ErrorKind::input, fmt::format("{}: expected a table [{}], found none", source, name));
    if (!node->is_table())
        throw Error(ErrorKind::input,
                    fmt::format("{}:{}: {}: expected a table [{}], got {}", source, node->source().begin.line,
                                name, name, describe_node(*node)));
    return *node->as_table();
}

} // namespace dynkin

#include "index_set.h"
#include "error.h"
#include <algorithm>
#include <charconv>
#include <fmt/core.h>
#include <map>

namespace dynkin {
namespace {

int parse_number(std::string_view text, std::string_view rule) {
    int value = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (status != std::errc{} || end != text.data() + text.size() || value < 1 || value > 24)
        throw Error(ErrorKind::usage,
                    fmt::format("pairs: expected a number from 1 to 24 in '{}', got '{}'", rule, text));
    return value;
}

PairRule parse_rule(std::string_view text) {
    const size_t colon = text.find(':');
    const std::string_view name = text.substr(0, colon);
    if (colon == std::string_view::npos)
        throw Error(ErrorKind::usage, fmt::format("pairs: expected NAME:DEGREE, got '{}'", text));
    PairRule rule;
    rule.degree = parse_number(text.substr(colon + 1), text);
    if (name == "all")
        rule.kind = PairRule::Kind::all;
    else if (name == "nearest")
        rule.kind = PairRule::Kind::range;
    else if (name == "dependent")
        rule.kind = PairRule::Kind::dependent;
    else if (name.starts_with("range")) {
        rule.kind = PairRule::Kind::range;
        rule.range = parse_number(name.substr(5), text);
    } else
        throw Error(ErrorKind::usage,
                    fmt::format("pairs: expected all, nearest, rangeN or dependent, got '{}'", name));
    return rule;
}

/// The 2 d pairs of largest dependence, as a threshold on it.
double dependence_threshold(int sites, const Array<double>& dependence) {
    std::vector<double> values;
    for (int i = 0; i < sites; ++i)
        for (int j = i + 1; j < sites; ++j)
            values.push_back(dependence(static_cast<size_t>(i), static_cast<size_t>(j)));
    const size_t kept = std::min(values.size(), static_cast<size_t>(2 * sites));
    if (kept == 0) return 0;
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(kept - 1), values.end(),
                     std::greater<>());
    return values[kept - 1];
}

} // namespace

std::vector<PairRule> parse_pair_rules(std::string_view text) {
    std::vector<PairRule> rules;
    if (text.empty() || text == "none") return rules;
    while (true) {
        const size_t comma = text.find(',');
        rules.push_back(parse_rule(text.substr(0, comma)));
        if (comma == std::string_view::npos) return rules;
        text.remove_prefix(comma + 1);
    }
}

std::string format_pair_rules(const std::vector<PairRule>& rules) {
    std::string text;
    for (const PairRule& rule : rules) {
        if (!text.empty()) text += ',';
        switch (rule.kind) {
        case PairRule::Kind::all:
            text += "all";
            break;
        case PairRule::Kind::dependent:
            text += "dependent";
            break;
        case PairRule::Kind::range:
            text += rule.range == 1 ? "nearest" : fmt::format("range{}", rule.range);
            break;
        }
        text += fmt::format(":{}", rule.degree);
    }
    return text.empty() ? "none" : text;
}

std::vector<Pair> select_pairs(const std::vector<int>& places, const std::vector<PairRule>& rules,
                               const Lattice* lattice, const Array<double>& dependence) {
    const int sites = static_cast<int>(places.size());
    std::vector<Pair> pairs;
    for (const PairRule& rule : rules) {
        require(rule.kind != PairRule::Kind::range || lattice, ErrorKind::usage,
                "pairs: 'nearest' and 'rangeN' need a lattice (--lattice or --target), none was given");
        require(rule.kind != PairRule::Kind::dependent || dependence.size(), ErrorKind::usage,
                "pairs: 'dependent' needs measured dependence");
    }
    double threshold = 0;
    if (dependence.size()) threshold = dependence_threshold(sites, dependence);
    for (int i = 0; i < sites; ++i)
        for (int j = i + 1; j < sites; ++j) {
            int degree = 0;
            for (const PairRule& rule : rules) {
                const bool selected =
                    rule.kind == PairRule::Kind::all ||
                    (rule.kind == PairRule::Kind::range &&
                     lattice->distance(places[static_cast<size_t>(i)], places[static_cast<size_t>(j)]) <=
                         rule.range) ||
                    (rule.kind == PairRule::Kind::dependent &&
                     dependence(static_cast<size_t>(i), static_cast<size_t>(j)) >= threshold);
                if (selected) degree = std::max(degree, rule.degree);
            }
            if (degree) pairs.push_back({i, j, degree});
        }
    return pairs;
}

int IndexSet::max_degree() const {
    int top = 0;
    for (const Term& term : terms) top = std::max({top, term.a, term.b});
    return top;
}

IndexSet make_index_set(int sites, int degree, std::vector<Pair> pairs, int total_degree, bool even) {
    require(sites >= 1 && degree >= 1 && degree <= 24, ErrorKind::usage,
            fmt::format("basis: expected a degree from 1 to 24, got {}", degree));
    IndexSet set{sites, degree, total_degree, even, std::move(pairs), {}};
    for (int i = 0; i < sites; ++i)
        for (int a = 1; a <= degree; ++a)
            if (!even || a % 2 == 0) set.terms.push_back({i, a, -1, 0});
    const Pair* before = nullptr;
    for (const Pair& pair : set.pairs) {
        if (pair.i < 0 || pair.i >= pair.j || pair.j >= sites || pair.degree < 1 || pair.degree > 24)
            throw Error(
                ErrorKind::usage,
                fmt::format("basis: pair ({}, {}) of degree {}: expected two of {} sites in ascending "
                            "order and a degree from 1 to 24",
                            pair.i, pair.j, pair.degree, sites));
        if (before && std::pair(before->i, before->j) >= std::pair(pair.i, pair.j))
            throw Error(ErrorKind::usage,
                        fmt::format("basis: pair ({}, {}) follows ({}, {}): expected pairs sorted and unique",
                                    pair.i, pair.j, before->i, before->j));
        before = &pair;
        for (int a = 1; a <= pair.degree; ++a)
            for (int b = 1; b <= pair.degree; ++b) {
                if (even && (a + b) % 2) continue;
                if (total_degree && a + b > std::max(2, total_degree)) continue;
                set.terms.push_back({pair.i, a, pair.j, b});
            }
    }
    return set;
}

} // namespace dynkin

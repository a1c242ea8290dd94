// polynomial.cpp - observables as formulas: parsed into sums of monomials; the table [observables] of a TOML.
#include "error.h"
#include "file.h"
#include "observables.h"
#include "toml_reader.h"
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <map>

namespace dynkin {
namespace {

using std::size_t;

constexpr int top_degree = 16;
constexpr size_t most_terms = 256, most_polynomials = 256, most_characters = 4096;
constexpr int deepest = 32; // parentheses within one another

constexpr size_t every_site = SIZE_MAX, site_mean = SIZE_MAX - 1; // variables beside the sites

/// Powers of variables in ascending order -> coefficient.
using Monomial = std::map<size_t, int>;
using MonomialSum = std::map<Monomial, double>;

class FormulaParser {
  public:
    FormulaParser(const std::string& name, std::string_view formula, size_t dimension, const Lattice* lattice)
        : name_(name), text_(formula), dimension_(dimension) {
        if (lattice) shape_ = lattice->shape;
    }

    MonomialSum whole() {
        if (text_.size() > most_characters) fail(fmt::format("at most {} characters", most_characters));
        const MonomialSum sum = expression();
        if (next() != 0) fail("an operator or the end");
        return sum;
    }

  private:
    [[noreturn]] void fail(const std::string& expected) const {
        throw Error(ErrorKind::input, fmt::format("{}: expected {} at character {} of {}", name_, expected,
                                                  at_ + 1, excerpt(text_)));
    }
    char next() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
        return at_ < text_.size() ? text_[at_] : '\0';
    }
    bool accept(char c) {
        if (next() != c || at_ >= text_.size()) return false;
        ++at_;
        return true;
    }

    MonomialSum expression() {
        if (++depth_ > deepest) fail(fmt::format("at most {} parentheses within one another", deepest));
        MonomialSum sum;
        double sign = accept('-') ? -1 : (accept('+'), 1);
        while (true) {
            for (const auto& [monomial, coefficient] : term()) sum[monomial] += sign * coefficient;
            if (accept('+'))
                sign = 1;
            else if (accept('-'))
                sign = -1;
            else
                break;
        }
        check(sum);
        --depth_;
        return sum;
    }
    MonomialSum term() {
        MonomialSum product = factor();
        while (true) {
            const char c = next();
            if (c == '*') {
                ++at_;
                product = times(product, factor());
            } else if (c == '/') {
                ++at_;
                const size_t start = at_;
                const double divisor = number();
                if (divisor == 0) at_ = start, fail("a number other than 0");
                for (auto& entry : product) entry.second /= divisor;
                check(product);
            } else if (c == 'x' || c == 'm' || c == '(') {
                product = times(product, factor());
            } else {
                return product;
            }
        }
    }
    MonomialSum factor() {
        const MonomialSum base = primary();
        if (!accept('^')) return base;
        MonomialSum power{{Monomial{}, 1.0}};
        for (int p = exponent(); p > 0; --p) power = times(power, base);
        return power;
    }
    MonomialSum primary() {
        if (accept('(')) {
            const MonomialSum inner = expression();
            if (!accept(')')) fail("')'");
            return inner;
        }
        if (accept('m')) return {{Monomial{{site_mean, 1}}, 1.0}};
        if (accept('x')) return {{Monomial{{accept('[') ? site() : every_site, 1}}, 1.0}};
        return {{Monomial{}, number()}};
    }
    double number() {
        next();
        double value = 0;
        const char* end = text_.data() + text_.size();
        const auto [stop, error] = std::from_chars(text_.data() + at_, end, value);
        // from_chars also takes "inf", "nan" and signs
        const char c = next();
        if (error != std::errc() || !(c == '.' || std::isdigit(static_cast<unsigned char>(c))) ||
            !std::isfinite(value))
            fail("a number, x, m or '('");
        at_ = static_cast<size_t>(stop - text_.data());
        return value;
    }
    size_t index(size_t below) {
        next();
        size_t value = 0;
        const auto [stop, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
        if (error != std::errc() || value >= below) fail(fmt::format("an integer from 0 to {}", below - 1));
        at_ = static_cast<size_t>(stop - text_.data());
        return value;
    }
    int exponent() { return static_cast<int>(index(top_degree + 1)); }
    /// What stands in x[...]: one index of all sites, or one for each axis.
    size_t site() {
        const size_t start = at_;
        size_t axes = 1;
        for (size_t k = at_; k < text_.size() && text_[k] != ']'; ++k) axes += text_[k] == ',';
        size_t result = 0;
        if (axes == 1) {
            result = index(dimension_);
        } else {
            if (axes != shape_.size())
                at_ = start,
                fail(shape_.size() > 1 ? fmt::format("one index or {}", shape_.size()) : "one index");
            for (size_t a = 0; a < axes; ++a) {
                if (a > 0 && !accept(',')) fail("','");
                result = result * shape_[a] + index(shape_[a]);
            }
        }
        if (!accept(']')) fail("']'");
        return result;
    }
    MonomialSum times(const MonomialSum& a, const MonomialSum& b) const {
        MonomialSum product;
        for (const auto& [left, x] : a)
            for (const auto& [right, y] : b) {
                Monomial both = left;
                for (const auto& [variable, power] : right) both[variable] += power;
                int degree = 0;
                for (const auto& entry : both) degree += entry.second;
                if (degree > top_degree) fail(fmt::format("a degree of at most {}", top_degree));
                product[both] += x * y;
                if (product.size() > most_terms) fail(fmt::format("at most {} terms", most_terms));
            }
        check(product);
        return product;
    }
    void check(const MonomialSum& sum) const {
        if (sum.size() > most_terms) fail(fmt::format("at most {} terms", most_terms));
        for (const auto& entry : sum)
            if (!std::isfinite(entry.second)) fail("coefficients that are finite");
    }

    const std::string& name_;
    std::string_view text_;
    size_t dimension_;
    std::vector<size_t> shape_;
    size_t at_ = 0;
    int depth_ = 0;
};

bool plain_name(const std::string& name) {
    return !name.empty() && name.size() <= 40 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return (c < 128 && std::isalnum(c)) || c == '_' || c == '-';
    });
}

} // namespace

Polynomial parse_polynomial(const std::string& name, std::string_view formula, size_t dimension,
                            const Lattice* lattice) {
    Polynomial result{name, {}};
    for (const auto& [monomial, coefficient] : FormulaParser(name, formula, dimension, lattice).whole()) {
        Polynomial::Term term{coefficient, 0, 0, {}};
        for (const auto& [variable, power] : monomial)
            if (variable == every_site)
                term.each = power;
            else if (variable == site_mean)
                term.mean = power;
            else
                term.sites.emplace_back(variable, power);
        result.terms.push_back(std::move(term));
    }
    return result;
}

std::vector<Polynomial> parse_observables(std::string_view toml, const std::string& source,
                                          const Target& target) {
    const std::set<std::string> taken = {"magnetisation",   "magnetisation_absolute", "susceptibility",
                                         "binder_cumulant", "correlation_length",     "two_point"};
    toml::table file;
    toml_table(toml, source, "target", file);
    std::vector<Polynomial> result;
    if (!file.get("observables")) return result;
    const toml::table& table = toml_table(toml, source, "observables", file);
    const TomlReader reader(table, source, "observables");
    if (table.size() > most_polynomials)
        reader.fail_whole(fmt::format("expected at most {} of them, got {}", most_polynomials, table.size()));
    for (const auto& [key, node] : table) {
        const std::string name(key.str());
        if (!plain_name(name))
            reader.fail(node, excerpt(name), "expected a name of at most 40 letters, digits, _ and -");
        if (taken.contains(name)) reader.fail(node, name, "this observable is there already");
        const auto* formula = node.as_string();
        if (!formula) reader.fail_expected(node, name, "a formula as text, like \"x^4\"");
        try {
            result.push_back(parse_polynomial(name, formula->get(), target.dimension(), target.lattice()));
        } catch (const Error& error) {
            throw Error(ErrorKind::input,
                        fmt::format("{}:{}: observables.{}", source, node.source().begin.line, error.what()));
        }
    }
    return result;
}

std::vector<Polynomial> read_observables(const std::filesystem::path& path, const Target& target) {
    return parse_observables(read_file(path), path.string(), target);
}

} // namespace dynkin

#include "model_file.h"
#include "../kernels/conditional.h"
#include "circle.h"
#include "error.h"
#include "file.h"
#include "model_tensors.h"
#include "tensor_file.h"
#include "tile.h"
#include "waves.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace dynkin {
namespace {

using std::size_t;

template <class T> std::vector<double> doubles(const std::vector<T>& values) {
    return {values.begin(), values.end()};
}
template <class T> std::vector<std::int64_t> integers(const std::vector<T>& values) {
    std::vector<std::int64_t> out;
    for (const T& value : values) out.push_back(static_cast<std::int64_t>(value));
    return out;
}

/// Reads parts of one file and says what is wrong in its name.
class Reader {
  public:
    explicit Reader(const TensorFile& file) : file_(file) {}
    [[noreturn]] void reject(const std::string& what) const {
        throw Error(ErrorKind::input, file_.source + ": not a consistent model: " + what);
    }
    void check(bool condition, const std::string& what) const {
        if (!condition) reject(what);
    }
    std::vector<double> numbers(const std::string& name, size_t size = SIZE_MAX) const {
        const auto& values = file_.f64(name, size);
        for (double x : values)
            check(std::isfinite(x), fmt::format("'{}' has a number that is not finite", name));
        return values;
    }
    /// Integers in [low, high].
    std::vector<int> indices(const std::string& name, std::int64_t low, std::int64_t high,
                             size_t size = SIZE_MAX) const {
        std::vector<int> out;
        for (std::int64_t x : file_.i64(name, size)) {
            check(x >= low && x <= high, fmt::format("'{}': expected {} to {}, got {}", name, low, high, x));
            out.push_back(static_cast<int>(x));
        }
        return out;
    }
    const TensorFile& file() const { return file_; }

  private:
    const TensorFile& file_;
};

constexpr std::int64_t kMost = std::int64_t{1} << 30;

void put_family(TensorFile& file, const std::string& name, const Family& f) {
    file.put(name + "kind", std::vector<std::int64_t>{is_circle(f) ? 2 : f.kind == ReferenceKind::fitted});
    file.put(name + "lambda", f.lambda);
    if (f.kind == ReferenceKind::hermite || is_circle(f)) return;
    file.put(name + "box", std::vector<double>{f.lo, f.hi, f.log_normaliser});
    file.put(name + "potential", f.potential);
    file.put(name + "recurrence_a", f.recurrence_a);
    file.put(name + "recurrence_b", f.recurrence_b);
    file.put(name + "expansion", std::vector<double>(f.expansion.begin(), f.expansion.end()),
             {f.expansion.rows(), f.expansion.cols()});
}

Family read_family(const Reader& reader, const std::string& name) {
    const int kind = reader.indices(name + "kind", 0, 2, 1)[0];
    const auto lambda = reader.numbers(name + "lambda");
    reader.check(lambda.size() >= 2 && lambda.size() <= 65,
                 fmt::format("'{}lambda' has {} numbers", name, lambda.size()));
    if (kind != 1) {
        const int top = static_cast<int>(lambda.size()) - 1;
        const Family known = kind == 0 ? hermite_family(top) : circle_family(top);
        reader.check(known.lambda == lambda, fmt::format("'{}lambda' are not those of {}", name,
                                                         kind == 0 ? "Hermite polynomials" : "a circle"));
        return known;
    }
    Family f;
    f.kind = ReferenceKind::fitted;
    f.lambda = lambda;
    for (size_t n = 0; n < lambda.size(); ++n)
        reader.check(n == 0 ? lambda[n] == 0 : lambda[n] > lambda[n - 1],
                     fmt::format("'{}lambda' does not ascend from 0", name));
    const auto box = reader.numbers(name + "box", 3);
    f.lo = box[0], f.hi = box[1], f.log_normaliser = box[2];
    reader.check(f.lo < f.hi, fmt::format("'{}box' is empty", name));
    f.potential = reader.numbers(name + "potential");
    reader.check(f.potential.size() >= 2 && f.potential.size() <= 10,
                 fmt::format("'{}potential' has {} numbers", name, f.potential.size()));
    f.recurrence_a = reader.numbers(name + "recurrence_a");
    const size_t m = f.recurrence_a.size();
    reader.check(m >= lambda.size() && m <= 128, fmt::format("'{}recurrence_a' has {} numbers", name, m));
    f.recurrence_b = reader.numbers(name + "recurrence_b", m + 1);
    for (size_t k = 1; k < m; ++k)
        reader.check(f.recurrence_b[k] > 0, fmt::format("'{}recurrence_b' is not positive", name));
    const auto expansion = reader.numbers(name + "expansion", m * lambda.size());
    f.expansion = Array<double>(m, lambda.size());
    std::copy(expansion.begin(), expansion.end(), f.expansion.begin());
    return f;
}

void put_times(TensorFile& file, const std::string& name, const TimeGrid& grid) {
    file.put(name + "times", std::vector<double>{grid.t_min, grid.t_end, grid.t0});
    file.put(name + "node_time", grid.node_time);
}

void put_block(TensorFile& file, const std::string& name, const Block& b) {
    file.put(name + "coordinates", integers(b.coordinates));
    file.put(name + "family_of", integers(b.reference.family_of));
    file.put(name + "families",
             std::vector<std::int64_t>{static_cast<std::int64_t>(b.reference.families.size())});
    for (size_t k = 0; k < b.reference.families.size(); ++k)
        put_family(file, fmt::format("{}family{}.", name, k), b.reference.families[k]);
    file.put(name + "basis", std::vector<std::int64_t>{b.basis.degree, b.basis.total_degree, b.basis.even});
    std::vector<std::int64_t> pairs;
    for (const Pair& pair : b.basis.pairs) pairs.insert(pairs.end(), {pair.i, pair.j, pair.degree});
    file.put(name + "pairs", pairs);
    put_times(file, name, b);
    file.put(name + "coefficients", std::vector<double>(b.coefficients.begin(), b.coefficients.end()),
             {b.coefficients.rows(), b.coefficients.cols()});
    file.put(name + "lower", b.lower), file.put(name + "upper", b.upper);
}

void put_level(TensorFile& file, const std::string& name, const Level& level) {
    file.metadata[name + "name"] = level.name;
    file.put(name + "shape", std::vector<std::int64_t>{level.stage, level.slots, level.even_conditions,
                                                       level.degree, level.steps});
    file.put(name + "targets", integers(level.targets)),
        file.put(name + "neighbours", integers(level.neighbours));
    file.put(name + "predictor", level.predictor);
    file.put(name + "affine", std::vector<double>{level.intercept, level.scale});
    std::vector<std::int64_t> powers, groups, slots; // descriptors; of which one; of which group
    std::vector<double> coefficients, weights;
    for (const Descriptor& d : level.descriptors) {
        powers.insert(powers.end(), {d.power, static_cast<std::int64_t>(d.groups.size())});
        for (const auto& group : d.groups) {
            groups.push_back(static_cast<std::int64_t>(group.entries.size())),
                coefficients.push_back(group.coefficient);
            for (const auto& entry : group.entries)
                slots.push_back(entry.slot), weights.push_back(entry.weight);
        }
    }
    file.put(name + "descriptors", powers), file.put(name + "groups", groups);
    file.put(name + "group_coefficients", coefficients);
    file.put(name + "entries", slots), file.put(name + "entry_weights", weights);
    file.put(name + "center", level.center), file.put(name + "spread", level.spread);
    file.put(name + "lower", level.lower), file.put(name + "upper", level.upper);
    file.put(name + "exponents", integers(level.exponents));
    file.put(name + "transform", std::vector<double>(level.transform.begin(), level.transform.end()),
             {level.transform.rows(), level.transform.cols()});
    put_family(file, name + "family.", level.family);
    put_times(file, name, level);
    file.put(name + "coefficients", std::vector<double>(level.coefficients.begin(), level.coefficients.end()),
             {level.coefficients.rows(), level.coefficients.cols()});
}

void read_basis(const Reader& reader, const std::string& name, Block& b, int sites) {
    const auto basis = reader.indices(name + "basis", 0, 1024, 3);
    const auto flat = reader.indices(name + "pairs", 0, kMost);
    reader.check(flat.size() % 3 == 0, fmt::format("'{}pairs' has {} numbers", name, flat.size()));
    std::vector<Pair> pairs;
    for (size_t k = 0; k < flat.size(); k += 3) pairs.push_back({flat[k], flat[k + 1], flat[k + 2]});
    try {
        b.basis = make_index_set(sites, basis[0], std::move(pairs), basis[1], basis[2] != 0);
    } catch (const Error& error) {
        reader.reject(error.what());
    }
    for (const Family& f : b.reference.families)
        reader.check(b.basis.max_degree() <= f.top_degree(),
                     fmt::format("'{}basis': a degree beyond the eigenfunctions", name));
}

void read_times(const Reader& reader, const std::string& name, TimeGrid& b) {
    const auto times = reader.numbers(name + "times", 3);
    b.t_min = times[0], b.t_end = times[1], b.t0 = times[2];
    reader.check(b.t_min >= 0 && b.t_end > b.t_min && b.t0 > 0,
                 fmt::format("'{}times' are not in order", name));
    b.node_time = reader.numbers(name + "node_time");
    reader.check(b.node_time.size() >= 2 && b.node_time.size() <= 1025,
                 fmt::format("'{}node_time' has {} numbers", name, b.node_time.size()));
    const auto nodes = b.step_times(static_cast<int>(b.node_time.size()) - 1);
    for (size_t n = 0; n < nodes.size(); ++n)
        reader.check(std::abs(b.node_time[n] - nodes[n]) <= 1e-9 * nodes[n],
                     fmt::format("'{}node_time' is not the grid of '{}times'", name, name));
}

Block read_block(const Reader& reader, const std::string& name, int dimension) {
    Block b;
    b.coordinates = reader.indices(name + "coordinates", 0, dimension - 1);
    const size_t sites = b.coordinates.size();
    reader.check(sites >= 1, fmt::format("'{}coordinates' is empty", name));
    const int families = reader.indices(name + "families", 1, kMost, 1)[0];
    b.reference.family_of = reader.indices(name + "family_of", 0, families - 1, sites);
    for (int k = 0; k < families; ++k)
        b.reference.families.push_back(read_family(reader, fmt::format("{}family{}.", name, k)));
    for (const Family& f : b.reference.families)
        reader.check(f.kind == b.reference.families.front().kind,
                     fmt::format("'{}': references of two kinds", name));
    read_basis(reader, name, b, static_cast<int>(sites));
    read_times(reader, name, b);
    const auto c = reader.numbers(name + "coefficients", b.node_time.size() * b.basis.terms.size());
    b.coefficients = Array<double>(b.node_time.size(), b.basis.terms.size());
    std::copy(c.begin(), c.end(), b.coefficients.begin());
    b.lower = reader.numbers(name + "lower", sites), b.upper = reader.numbers(name + "upper", sites);
    for (size_t j = 0; j < sites; ++j)
        reader.check(b.lower[j] <= b.upper[j], fmt::format("'{}lower' is above '{}upper'", name, name));
    return b;
}

std::vector<Descriptor> read_descriptors(const Reader& reader, const std::string& name, int slots) {
    const auto shape = reader.indices(name + "descriptors", 0, kMost);
    const auto groups = reader.indices(name + "groups", 0, kMost),
               entries = reader.indices(name + "entries", 0, slots - 1);
    const auto coefficients = reader.numbers(name + "group_coefficients", groups.size()),
               weights = reader.numbers(name + "entry_weights", entries.size());
    reader.check(shape.size() % 2 == 0 && shape.size() <= 2 * kernels::kMaxFeatures,
                 fmt::format("'{}descriptors' has {} numbers", name, shape.size()));
    std::vector<Descriptor> out;
    size_t group = 0, entry = 0;
    for (size_t k = 0; k < shape.size(); k += 2) {
        reader.check(shape[k] >= 1 && shape[k] <= 8,
                     fmt::format("'{}descriptors': expected powers from 1 to 8", name));
        Descriptor d{shape[k], {}};
        for (int g = 0; g < shape[k + 1]; ++g, ++group) {
            reader.check(group < groups.size(), fmt::format("'{}groups' is too short", name));
            d.groups.push_back({coefficients[group], {}});
            for (int e = 0; e < groups[group]; ++e, ++entry) {
                reader.check(entry < entries.size(), fmt::format("'{}entries' is too short", name));
                d.groups.back().entries.push_back({entries[entry], weights[entry]});
            }
        }
        out.push_back(std::move(d));
    }
    reader.check(group == groups.size() && entry == entries.size(),
                 fmt::format("'{}groups' is too long", name));
    return out;
}

void read_conditions(const Reader& reader, const std::string& name, Level& level) {
    const size_t features = level.descriptors.size();
    level.center = reader.numbers(name + "center", features),
    level.spread = reader.numbers(name + "spread", features);
    level.lower = reader.numbers(name + "lower", features),
    level.upper = reader.numbers(name + "upper", features);
    for (size_t k = 0; k < features; ++k)
        reader.check(level.spread[k] > 0 && level.lower[k] <= level.upper[k],
                     fmt::format("'{}spread', '{}lower' or '{}upper' is out of order", name, name, name));
    level.exponents = reader.indices(name + "exponents", 0, 64);
    reader.check(features == 0 ? level.exponents.empty() : level.exponents.size() % features == 0,
                 fmt::format("'{}exponents' has {} numbers", name, level.exponents.size()));
    const size_t monomials = features ? level.exponents.size() / features : 1;
    reader.file().f64(name + "transform"); // or an error that names it
    const auto& shape = reader.file().tensors.at(name + "transform").shape;
    reader.check(shape.size() == 2 && shape[0] >= 1 && shape[1] == monomials,
                 fmt::format("'{}transform' has the wrong shape", name));
    const auto transform = reader.numbers(name + "transform", shape[0] * shape[1]);
    level.transform = Array<double>(shape[0], shape[1]);
    std::copy(transform.begin(), transform.end(), level.transform.begin());
}

Level read_level(const Reader& reader, const std::string& name, int dimension) {
    Level level;
    level.name = reader.file().text(name + "name");
    const auto shape = reader.indices(name + "shape", -1, 1 << 20, 5);
    level.stage = shape[0], level.slots = shape[1], level.even_conditions = shape[2], level.degree = shape[3],
    level.steps = shape[4];
    reader.check(level.slots >= 0 && level.slots <= dimension && level.degree >= 1 &&
                     level.degree <= kernels::kMaxDegree && level.steps >= 1,
                 fmt::format("'{}shape' is out of range", name));
    level.targets = reader.indices(name + "targets", 0, dimension - 1);
    reader.check(!level.targets.empty(), fmt::format("'{}targets' is empty", name));
    const size_t slots = static_cast<size_t>(level.slots);
    level.neighbours = reader.indices(name + "neighbours", -1, dimension - 1, level.targets.size() * slots);
    level.predictor = reader.numbers(name + "predictor", slots);
    const auto affine = reader.numbers(name + "affine", 2);
    level.intercept = affine[0], level.scale = affine[1];
    reader.check(level.scale > 0, fmt::format("'{}affine': the scale is not positive", name));
    level.descriptors = read_descriptors(reader, name, level.slots);
    read_conditions(reader, name, level);
    reader.check(level.even_conditions <= static_cast<int>(level.conditions()),
                 fmt::format("'{}shape' is out of range", name));
    level.family = read_family(reader, name + "family.");
    reader.check(level.degree <= level.family.top_degree(),
                 fmt::format("'{}shape': a degree beyond the eigenfunctions", name));
    read_times(reader, name, level);
    const size_t columns = static_cast<size_t>(level.degree) * level.conditions();
    const auto c = reader.numbers(name + "coefficients", level.node_time.size() * columns);
    level.coefficients = Array<double>(level.node_time.size(), columns);
    std::copy(c.begin(), c.end(), level.coefficients.begin());
    return level;
}

/// Each modelled column belongs to one block, which lists its own in ascending order, or is a target of one
/// level, whose neighbours have been drawn before.
void check_partition(const Reader& reader, const Model& model) {
    std::vector<char> seen(model.view.kept.size(), 0);
    size_t count = 0;
    for (const Block& b : model.blocks)
        for (size_t k = 0; k < b.coordinates.size(); ++k, ++count) {
            char& there = seen[static_cast<size_t>(b.coordinates[k])];
            reader.check(!there && (k == 0 || b.coordinates[k - 1] < b.coordinates[k]),
                         "'coordinates' of the blocks are not ascending and distinct");
            there = 1;
        }
    for (size_t k = 0; k < model.levels.size(); ++k) {
        const Level& level = model.levels[k];
        for (int j : level.neighbours)
            reader.check(j < 0 || seen[static_cast<size_t>(j)], "'neighbours' of a level come after it");
        for (int j : level.targets) {
            reader.check(!seen[static_cast<size_t>(j)], "'targets' of the levels are not distinct");
            seen[static_cast<size_t>(j)] = 1, ++count;
        }
    }
    reader.check(count == seen.size(), "blocks and levels leave columns out");
}

const char* boundary_name(Boundary boundary) {
    return boundary == Boundary::periodic ? "periodic" : boundary == Boundary::free ? "free" : "zero";
}

void put_process(TensorFile& file, const Model& model) {
    const Process& process = model.process;
    file.metadata["process"] = process_name(process);
    if (process.index() < 2 && !model.blocks.empty()) // what the block is counts
        file.metadata["process"] =
            model.blocks.front().reference.families.front().kind == ReferenceKind::hermite ? "ou" : "fitted";
    const auto put_box = [&](const std::vector<double>& lower, const std::vector<double>& upper) {
        file.put("process.lower", lower), file.put("process.upper", upper);
    };
    const auto put_matrix = [&](const std::string& name, const Array<double>& a) {
        file.put(name, std::vector<double>(a.begin(), a.end()), {a.rows(), a.cols()});
    };
    if (const auto* box = std::get_if<BoxProcess>(&process)) put_box(box->lower, box->upper);
    if (const auto* torus = std::get_if<TorusProcess>(&process)) put_box(torus->lower, torus->upper);
    if (const auto* linear = std::get_if<LinearProcess>(&process))
        put_matrix("process.drift", linear->drift), put_matrix("process.noise", linear->noise);
    // Models that older programs can read stay in their version.
    if (process.index() > 1) file.version = 2;
}

Array<double> read_matrix(const Reader& reader, const std::string& name, size_t rows) {
    const auto values = reader.numbers(name);
    const auto& shape = reader.file().tensors.at(name).shape;
    reader.check(shape.size() == 2 && shape[0] == rows, fmt::format("'{}' has the wrong shape", name));
    Array<double> a(rows, shape[1]);
    std::copy(values.begin(), values.end(), a.begin());
    return a;
}

/// Files of version 1 that do not name it: what the family of their block is.
Process read_process(const Reader& reader, size_t dimension) {
    const std::string name = process_of(reader.file());
    const auto box = [&](auto process) {
        process.lower = reader.numbers("process.lower", dimension);
        process.upper = reader.numbers("process.upper", dimension);
        for (size_t j = 0; j < dimension; ++j)
            reader.check(process.lower[j] < process.upper[j], "'process.lower' is not below 'process.upper'");
        return Process(std::move(process));
    };
    if (name == "fitted" || name.empty()) return FittedProcess{};
    if (name == "ou") return OuProcess{};
    if (name == "ve") return VeProcess{};
    if (name == "box") return box(BoxProcess{});
    if (name == "torus") return box(TorusProcess{});
    if (name == "linear")
        return LinearProcess{read_matrix(reader, "process.drift", dimension),
                             read_matrix(reader, "process.noise", dimension)};
    reader.reject("unknown process " + excerpt(name));
}

/// The levels draw each even point of the interior once, given points of the frame and those before.
void check_tile(const Reader& reader, const Tile& tile) {
    const TileShape shape(tile.side, tile.axes);
    std::vector<char> seen(static_cast<size_t>(shape.points()));
    for (int p = 0; p < shape.points(); ++p) seen[static_cast<size_t>(p)] = !shape.interior(p);
    for (const Level& level : tile.levels) {
        reader.check(level.descriptors.size() <= 2 && level.family.kind == ReferenceKind::fitted,
                     "a level of the tile has no table");
        for (int j : level.neighbours)
            reader.check(j >= 0 && seen[static_cast<size_t>(j)],
                         "'neighbours' of a level of the tile come after it");
        for (int j : level.targets) {
            reader.check(!seen[static_cast<size_t>(j)] && !shape.odd(j),
                         "'targets' of the levels of the tile are not distinct even points of its interior");
            seen[static_cast<size_t>(j)] = 1;
        }
    }
    for (int p = 0; p < shape.points(); ++p)
        reader.check(seen[static_cast<size_t>(p)] || shape.odd(p), "the levels of the tile leave points out");
}

void put_waves(TensorFile& file, const WaveBlock& b) {
    file.put("waves.shape", std::vector<std::int64_t>{b.periodic, b.radius});
    put_times(file, "waves.", b);
    file.put("waves.coefficients", std::vector<double>(b.coefficients.begin(), b.coefficients.end()),
             {b.coefficients.rows(), b.coefficients.cols()});
}

WaveBlock read_waves(const Reader& reader, const Model& model) {
    WaveBlock b;
    const auto shape = reader.indices("waves.shape", 0, 1024, 2);
    b.periodic = shape[0] == 1, b.radius = shape[1], b.dimension = model.dimension();
    reader.check(shape[0] <= 1 && (b.periodic ? std::holds_alternative<TorusProcess>(model.process)
                                              : std::holds_alternative<BoxProcess>(model.process)),
                 "'waves.shape' does not match the process");
    read_times(reader, "waves.", b);
    size_t terms = 0;
    try {
        terms = make_wave_basis(b.periodic, b.dimension, b.radius).size();
    } catch (const Error& error) {
        reader.reject(error.what());
    }
    const auto c = reader.numbers("waves.coefficients", b.node_time.size() * terms);
    b.coefficients = Array<double>(b.node_time.size(), terms);
    std::copy(c.begin(), c.end(), b.coefficients.begin());
    return b;
}

void put_linear(TensorFile& file, const LinearBlock& b) {
    file.put("linear.shape", std::vector<std::int64_t>{b.degree});
    file.put("linear.times", std::vector<double>{b.t_min, b.t_end, b.t0});
    file.put("linear.ridge", std::vector<double>{b.ridge});
    file.put("linear.moments", b.moments);
}

LinearBlock read_linear(const Reader& reader, const Model& model) {
    LinearBlock b;
    reader.check(std::holds_alternative<LinearProcess>(model.process),
                 "'linear.shape' does not match the process");
    b.degree = reader.indices("linear.shape", 1, 64, 1)[0];
    const auto times = reader.numbers("linear.times", 3);
    b.t_min = times[0], b.t_end = times[1], b.t0 = times[2];
    reader.check(b.t_min >= 0 && b.t_end > b.t_min && b.t0 > 0, "'linear.times' are not in order");
    b.ridge = reader.numbers("linear.ridge", 1)[0];
    size_t moments = 1; // binomial(d + 2 degree, d)
    for (int k = 1; k <= 2 * b.degree && moments < size_t{1} << 20; ++k)
        moments = moments * static_cast<size_t>(model.dimension() + k) / static_cast<size_t>(k);
    b.moments = reader.numbers("linear.moments", moments);
    reader.check(b.ridge >= 0 && b.moments[0] == 1, "'linear.moments' do not begin with 1");
    return b;
}

void put_tile(TensorFile& file, const Tile& tile) {
    file.put("tile.shape", std::vector<std::int64_t>{tile.side, tile.axes});
    file.put("tile.coupling", std::vector<double>{tile.coupling});
    file.put("tile.site", tile.site);
    put_levels(file, tile.levels, "tile.");
}

Tile read_tile(const Reader& reader, const Model& model) {
    Tile tile;
    const auto shape = reader.indices("tile.shape", 1, 16, 2);
    tile.side = shape[0], tile.axes = shape[1];
    reader.check((tile.side == 4 || tile.side == 8 || tile.side == 16) && model.lattice &&
                     model.lattice->shape.size() == static_cast<size_t>(tile.axes),
                 "'tile.shape' is out of range");
    tile.coupling = reader.numbers("tile.coupling", 1)[0];
    tile.site = reader.numbers("tile.site");
    reader.check(tile.site.size() <= 12, fmt::format("'tile.site' has {} numbers", tile.site.size()));
    tile.levels = read_levels(reader.file(), TileShape(tile.side, tile.axes).points(), "tile.");
    check_tile(reader, tile);
    return tile;
}

} // namespace

void put_levels(TensorFile& file, const std::vector<Level>& levels, const std::string& prefix) {
    file.put(prefix + "levels", std::vector<std::int64_t>{static_cast<std::int64_t>(levels.size())});
    for (size_t k = 0; k < levels.size(); ++k)
        put_level(file, fmt::format("{}level{}.", prefix, k), levels[k]);
}

std::vector<Level> read_levels(const TensorFile& file, int dimension, const std::string& prefix) {
    const Reader reader(file);
    std::vector<Level> levels;
    const int count = reader.indices(prefix + "levels", 0, kMost, 1)[0];
    for (int k = 0; k < count; ++k)
        levels.push_back(read_level(reader, fmt::format("{}level{}.", prefix, k), dimension));
    return levels;
}

std::string process_of(const TensorFile& model) {
    if (const auto name = model.metadata.find("process"); name != model.metadata.end()) return name->second;
    const auto kind = model.tensors.find("block0.family0.kind");
    if (kind == model.tensors.end() || kind->second.i64.empty()) return "";
    return kind->second.i64[0] ? "fitted" : "ou";
}

void write_model(const std::filesystem::path& path, const Model& model) {
    TensorFile file;
    file.format = "dynkin-model";
    file.metadata["configuration"] = model.configuration;
    file.metadata["seed"] = fmt::format("{}", model.view.seed);
    put_process(file, model);
    file.put("view.columns",
             std::vector<std::int64_t>{static_cast<std::int64_t>(model.view.columns), model.view.levels});
    file.put("view.kept", integers(model.view.kept));
    file.put("view.constant", model.view.constant);
    file.put("view.seed", std::vector<std::uint64_t>{model.view.seed});
    file.put("mean", model.standardization.mean), file.put("scale", model.standardization.scale);
    file.put("sample_shape", integers(model.sample_shape));
    file.put("default_steps", std::vector<std::int64_t>{model.default_steps});
    file.put("training_rows", std::vector<double>{model.training_rows});
    if (model.lattice) {
        file.metadata["lattice_boundary"] = boundary_name(model.lattice->boundary);
        if (!model.lattice->zero_outside()) {
            file.metadata["lattice_boundary"] = "fixed";
            file.put("lattice.outside", model.lattice->outside);
        }
        file.put("lattice.shape", integers(model.lattice->shape));
    }
    file.put("blocks", std::vector<std::int64_t>{static_cast<std::int64_t>(model.blocks.size())});
    for (size_t k = 0; k < model.blocks.size(); ++k)
        put_block(file, fmt::format("block{}.", k), model.blocks[k]);
    put_levels(file, model.levels);
    if (model.waves) put_waves(file, *model.waves);
    if (model.linear) put_linear(file, *model.linear);
    if (model.tile) put_tile(file, *model.tile);
    write_tensor_file(path, file);
}

Model read_model(const std::filesystem::path& path) {
    const TensorFile file = read_tensor_file(path, "dynkin-model", 2);
    const Reader reader(file);
    Model model;
    model.configuration = file.text("configuration");
    const auto columns = reader.indices("view.columns", 0, kMost, 2);
    model.view.columns = static_cast<size_t>(columns[0]), model.view.levels = columns[1];
    model.view.seed = file.u64("view.seed", 1)[0];
    model.view.kept = reader.indices("view.kept", 0, columns[0] - 1);
    reader.check(!model.view.kept.empty() && std::is_sorted(model.view.kept.begin(), model.view.kept.end()) &&
                     std::adjacent_find(model.view.kept.begin(), model.view.kept.end()) ==
                         model.view.kept.end(),
                 "'view.kept' does not ascend");
    model.view.constant = reader.numbers("view.constant", model.view.columns);
    const size_t d = model.view.kept.size();
    model.standardization.mean = reader.numbers("mean", d),
    model.standardization.scale = reader.numbers("scale", d);
    for (double s : model.standardization.scale) reader.check(s > 0, "'scale' is not positive");
    size_t product = 1;
    for (int n : reader.indices("sample_shape", 1, kMost)) {
        model.sample_shape.push_back(static_cast<size_t>(n));
        reader.check(product <= model.view.columns, "'sample_shape' does not match the columns");
        product *= static_cast<size_t>(n);
    }
    reader.check(product == model.view.columns, "'sample_shape' does not match the columns");
    model.default_steps = reader.indices("default_steps", 1, 1 << 20, 1)[0];
    model.training_rows = reader.numbers("training_rows", 1)[0];
    if (file.metadata.contains("lattice_boundary")) {
        const std::string& name = file.text("lattice_boundary");
        reader.check(name == "periodic" || name == "free" || name == "zero" || name == "fixed",
                     "unknown 'lattice_boundary'");
        Lattice lattice;
        lattice.boundary = name == "periodic" ? Boundary::periodic
                           : name == "free"   ? Boundary::free
                                              : Boundary::fixed;
        for (int n : reader.indices("lattice.shape", 1, kMost))
            lattice.shape.push_back(static_cast<size_t>(n));
        reader.check(lattice.shape.size() <= 3 && lattice.sites() == model.view.columns,
                     "'lattice.shape' does not match the columns");
        if (name == "fixed") {
            lattice.outside = reader.numbers("lattice.outside", 2 * lattice.shape.size());
            lattice.check_outside("lattice.outside");
        }
        model.lattice = lattice;
    }
    model.process = read_process(reader, d);
    const int blocks = reader.indices("blocks", 0, 1, 1)[0];
    for (int k = 0; k < blocks; ++k)
        model.blocks.push_back(read_block(reader, fmt::format("block{}.", k), static_cast<int>(d)));
    model.levels = read_levels(file, static_cast<int>(d));
    if (file.tensors.contains("waves.shape")) model.waves = read_waves(reader, model);
    if (file.tensors.contains("linear.shape")) model.linear = read_linear(reader, model);
    const int kinds = (model.waves ? 1 : 0) + (model.linear ? 1 : 0) +
                      (model.blocks.empty() && model.levels.empty() ? 0 : 1);
    reader.check(kinds == 1, "expected one diffusion: blocks and levels, waves or linear");
    if (!model.waves && !model.linear) check_partition(reader, model);
    for (const Block& b : model.blocks)
        for (const Family& family : b.reference.families)
            reader.check(is_circle(family) == std::holds_alternative<TorusProcess>(model.process),
                         "the families of the block do not match the process");
    if (file.tensors.contains("tile.shape")) model.tile = read_tile(reader, model);
    return model;
}

} // namespace dynkin

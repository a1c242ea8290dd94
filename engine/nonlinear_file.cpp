// nonlinear_file.cpp - nonlinear models on disk, and what is checked of one that is read.
#include "error.h"
#include "nonlinear_nodes.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace dynkin {
namespace {

using std::size_t;
constexpr const char* format = "dynkin-nonlinear";

std::vector<double> flat(const Array<double>& a) { return {a.begin(), a.end()}; }

class NonlinearReader {
  public:
    explicit NonlinearReader(const TensorFile& file) : file_(file) {}
    void check(bool condition, const std::string& what) const {
        if (!condition)
            throw Error(ErrorKind::input, file_.source + ": not a consistent nonlinear model: " + what);
    }
    std::vector<double> numbers(const std::string& name, size_t size = SIZE_MAX) const {
        const auto& values = file_.f64(name, size);
        for (const double x : values)
            check(std::isfinite(x), fmt::format("'{}' has a number that is not finite", name));
        return values;
    }
    Array<double> matrix(const std::string& name, size_t rows, size_t cols) const {
        const auto values = numbers(name, rows * cols);
        Array<double> out(rows, cols);
        std::copy(values.begin(), values.end(), out.begin());
        return out;
    }
    std::int64_t integer(const std::string& name, size_t k, std::int64_t low, std::int64_t high) const {
        const auto& values = file_.i64(name);
        check(k < values.size(), fmt::format("'{}' has {} numbers", name, values.size()));
        check(values[k] >= low && values[k] <= high,
              fmt::format("'{}': expected {} to {}, got {}", name, low, high, values[k]));
        return values[k];
    }

  private:
    const TensorFile& file_;
};

} // namespace

std::vector<NonlinearNode> read_nodes(const TensorFile& file, size_t d, size_t terms, ReferenceScore kind) {
    std::vector<NonlinearNode> nodes;
    if (!file.tensors.contains("node_time")) return nodes;
    const NonlinearReader reader(file);
    const auto times = reader.numbers("node_time"), gaps = reader.numbers("node_gap", times.size());
    const auto solves = reader.numbers("node_solve", 2 * times.size());
    reader.check(times.size() <= 1024, fmt::format("'node_time' has {} numbers", times.size()));
    const Array<double> c = reader.matrix("coefficients", times.size(), terms);
    const Array<double> lower = reader.matrix("lower", times.size(), d),
                        upper = reader.matrix("upper", times.size(), d);
    const bool gaussian = kind == ReferenceScore::gaussian, entropy = file.tensors.contains("entropy");
    Array<double> mean, precision, rates;
    if (gaussian)
        mean = reader.matrix("reference_mean", times.size(), d),
        precision = reader.matrix("reference_precision", times.size(), d * d);
    if (entropy) rates = reader.matrix("entropy", times.size(), 3);
    for (size_t k = 0; k < times.size(); ++k) {
        reader.check(times[k] > (k ? times[k - 1] : 0), "'node_time' does not ascend from above 0");
        NonlinearNode node;
        node.time = times[k], node.gap = gaps[k];
        node.ridge = solves[2 * k], node.condition = solves[2 * k + 1];
        node.coefficients.assign(c.row(k), c.row(k) + terms);
        node.lower.assign(lower.row(k), lower.row(k) + d), node.upper.assign(upper.row(k), upper.row(k) + d);
        for (size_t j = 0; j < d; ++j)
            reader.check(node.lower[j] <= node.upper[j], "'lower' is above 'upper'");
        node.reference.kind = kind;
        if (gaussian) {
            node.reference.mean.assign(mean.row(k), mean.row(k) + d);
            node.reference.precision = Array<double>(d, d);
            std::copy_n(precision.row(k), d * d, node.reference.precision.data());
        }
        if (entropy) node.entropy = EntropyProduction{rates(k, 0), rates(k, 1), rates(k, 2)};
        nodes.push_back(std::move(node));
    }
    return nodes;
}

void put_nodes(TensorFile& file, std::span<const NonlinearNode> nodes) {
    if (nodes.empty()) return;
    const size_t count = nodes.size(), d = nodes.front().lower.size();
    std::vector<double> time, gap, solve, c, lower, upper, mean, precision, entropy;
    for (const NonlinearNode& node : nodes) {
        const auto append = [](std::vector<double>& to, const auto& from) {
            to.insert(to.end(), from.begin(), from.end());
        };
        time.push_back(node.time), gap.push_back(node.gap);
        solve.push_back(node.ridge), solve.push_back(std::isfinite(node.condition) ? node.condition : 1e300);
        append(c, node.coefficients), append(lower, node.lower), append(upper, node.upper);
        append(mean, node.reference.mean), append(precision, node.reference.precision);
        if (node.entropy)
            append(entropy,
                   std::vector<double>{node.entropy->rate, node.entropy->error, node.entropy->plain});
    }
    file.put("node_time", time), file.put("node_gap", gap), file.put("node_solve", solve, {count, 2});
    file.put("coefficients", c, {count, c.size() / count});
    file.put("lower", lower, {count, d}), file.put("upper", upper, {count, d});
    if (nodes.front().reference.kind == ReferenceScore::gaussian)
        file.put("reference_mean", mean, {count, d}),
            file.put("reference_precision", precision, {count, d * d});
    if (entropy.size() == 3 * count) file.put("entropy", entropy, {count, 3});
}

void write_nonlinear_model(const std::filesystem::path& path, const NonlinearModel& model) {
    require(!model.process.canonical_json.empty(), ErrorKind::usage,
            "model file: a drift made of a callable cannot be written");
    const size_t d = model.process.dimension();
    TensorFile file;
    file.format = format;
    file.metadata["configuration"] = model.configuration;
    file.metadata["drift"] = model.process.canonical_json;
    const ReferenceScore kind = model.nodes.front().reference.kind;
    file.put("shape", std::vector<std::int64_t>{static_cast<int>(model.basis.kind), model.basis.order,
                                                static_cast<int>(kind)});
    file.put("sample_shape", std::vector<std::int64_t>(model.sample_shape.begin(), model.sample_shape.end()));
    file.put("center", model.basis.center), file.put("scale", model.basis.scale);
    file.put("numbers", std::vector<double>{model.step, model.training_rows});
    file.put("final_mean", model.final_mean), file.put("final_factor", flat(model.final_factor), {d, d});
    put_nodes(file, model.nodes);
    write_tensor_file(path, file);
}

NonlinearModel read_nonlinear_model(const std::filesystem::path& path) {
    const TensorFile file = read_tensor_file(path, format);
    const NonlinearReader reader(file);
    NonlinearModel model;
    model.configuration = file.text("configuration");
    model.process = drift_from_json(file.text("drift"), file.source);
    const size_t d = model.process.dimension();
    const auto center = reader.numbers("center", d), scale = reader.numbers("scale", d);
    for (const double s : scale) reader.check(s > 0, "'scale' is not positive");
    const auto kind = static_cast<BasisKind>(reader.integer("shape", 0, 0, 1));
    const int order = static_cast<int>(reader.integer("shape", 1, 1, 32));
    try {
        model.basis = polynomial_basis(order, model.process.driven(), center, scale);
        if (kind == BasisKind::cosine) {
            std::vector<double> high(d);
            for (size_t j = 0; j < d; ++j) high[j] = center[j] + 3.14 * scale[j];
            model.basis = cosine_basis(order, model.process.driven(), center, high);
            model.basis.scale = scale;
        }
    } catch (const Error& error) {
        reader.check(false, error.what());
    }
    model.step = reader.numbers("numbers", 2)[0], model.training_rows = reader.numbers("numbers", 2)[1];
    reader.check(model.step > 0, "the step is not positive");
    model.final_mean = reader.numbers("final_mean", d);
    model.final_factor = reader.matrix("final_factor", d, d);
    size_t product = 1;
    for (size_t k = 0; k < file.i64("sample_shape").size(); ++k) {
        model.sample_shape.push_back(static_cast<size_t>(reader.integer("sample_shape", k, 1, 16)));
        product *= model.sample_shape.back();
        reader.check(product <= d, "'sample_shape' does not match the drift");
    }
    reader.check(product == d, "'sample_shape' does not match the drift");
    model.nodes = read_nodes(file, d, model.basis.terms(),
                             static_cast<ReferenceScore>(reader.integer("shape", 2, 0, 2)));
    reader.check(model.nodes.size() >= 2,
                 fmt::format("'node_time' has {} numbers", reader.numbers("node_time").size()));
    return model;
}

} // namespace dynkin

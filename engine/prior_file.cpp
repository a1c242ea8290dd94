// prior_file.cpp - what a prior is, and priors in files of format "dynkin-prior".
#include "error.h"
#include "file.h"
#include "prior.h"
#include "prior_tables.h"
#include "tensor_file.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>

namespace dynkin {
namespace {

using std::size_t;

std::vector<double> numbers(const Array<double>& a) { return {a.begin(), a.end()}; }

void put(TensorFile& file, const std::string& name, const Array<double>& a) {
    file.put(name, numbers(a), {a.rows(), a.cols()});
}

void put(TensorFile& file, const ProductPrior& law) {
    file.put("middle", law.middle), file.put("scale", law.scale);
    put(file, "moments", law.moments);
}

void put(TensorFile& file, const GaussianPrior& law) {
    file.put("mean", law.mean), file.put("variances", law.variances);
    put(file, "vectors", law.vectors);
}

void put(TensorFile& file, const FlatPrior& law) {
    file.put("mean", law.mean), file.put("lower", law.lower), file.put("upper", law.upper);
    file.put("scale", std::vector<double>{law.scale});
    file.put("times", std::vector<double>{law.grid.t_end, law.grid.t0});
    file.put("varies", std::vector<std::int64_t>(law.varies.begin(), law.varies.end()));
    put(file, "single", law.single), put(file, "pair", law.pair);
}

/// Reads parts of one file and says what is wrong in its name.
struct Reader {
    const TensorFile& file;

    void check(bool condition, const std::string& what) const {
        if (!condition) throw Error(ErrorKind::input, file.source + ": not a consistent prior: " + what);
    }
    std::vector<double> numbers(const std::string& name, size_t size = SIZE_MAX) const {
        const auto& values = file.f64(name, size);
        check(std::all_of(values.begin(), values.end(), [](double x) { return std::abs(x) <= 1e150; }),
              fmt::format("'{}' has a number that is not finite or beyond 1e150", name));
        return values;
    }
    std::vector<double> not_negative(const std::string& name, size_t size = SIZE_MAX) const {
        auto values = numbers(name, size);
        check(std::all_of(values.begin(), values.end(), [](double x) { return x >= 0; }),
              fmt::format("'{}' has a negative number", name));
        return values;
    }
    Array<double> matrix(const std::string& name, size_t rows, size_t cols) const {
        const auto values = numbers(name, rows * cols);
        Array<double> out(rows, cols);
        std::copy(values.begin(), values.end(), out.begin());
        return out;
    }
};

ProductPrior read_product(const Reader& reader, int degree) {
    ProductPrior law;
    law.middle = reader.numbers("middle");
    const size_t d = law.middle.size();
    law.scale = reader.not_negative("scale", d);
    law.moments = reader.matrix("moments", static_cast<size_t>(2 * degree + 1), d);
    for (size_t j = 0; j < d; ++j) {
        reader.check(law.moments(0, j) == 1, "'moments' do not begin with 1");
        // |phi_r| <= 2^r (r + 1) on [-2, 2]
        for (size_t r = 1; r < law.moments.rows(); ++r)
            reader.check(std::abs(law.moments(r, j)) <=
                             std::ldexp(static_cast<double>(r + 1), static_cast<int>(r)),
                         "'moments' are not those of numbers in [-2, 2]");
    }
    return law;
}

GaussianPrior read_gaussian(const Reader& reader) {
    GaussianPrior law;
    law.mean = reader.numbers("mean");
    law.variances = reader.not_negative("variances", law.mean.size());
    law.vectors = reader.matrix("vectors", law.mean.size(), law.mean.size());
    return law;
}

FlatPrior read_flat(const Reader& reader, int degree) {
    FlatPrior law;
    law.mean = reader.numbers("mean");
    const size_t d = law.mean.size();
    law.lower = reader.numbers("lower", d), law.upper = reader.numbers("upper", d);
    law.scale = reader.not_negative("scale", 1)[0];
    const auto times = reader.not_negative("times", 2);
    law.grid.t_min = 0, law.grid.t_end = times[0], law.grid.t0 = times[1];
    reader.check(law.scale > 0 && times[0] > 0 && times[0] <= 100 && times[1] > 0,
                 "'scale' or 'times' out of range");
    for (const std::int64_t varies : reader.file.i64("varies", d)) law.varies.push_back(varies != 0);
    for (size_t j = 0; j < d; ++j) reader.check(law.lower[j] <= law.upper[j], "'lower' is above 'upper'");
    const size_t each = d * static_cast<size_t>(degree), total = reader.file.f64("single").size();
    const size_t nodes = each ? total / each : 0;
    reader.check(nodes >= 4 && nodes <= 1025, fmt::format("'single' has {} numbers", total));
    law.single = reader.matrix("single", nodes, each);
    law.pair = reader.matrix("pair", nodes, d * (d - 1) / 2);
    law.grid.node_time = law.grid.step_times(static_cast<int>(nodes) - 1);
    return law;
}

} // namespace

size_t Prior::dimension() const {
    if (const auto* product = std::get_if<ProductPrior>(&law)) return product->middle.size();
    if (const auto* gaussian = std::get_if<GaussianPrior>(&law)) return gaussian->mean.size();
    return std::get<FlatPrior>(law).mean.size();
}

const char* prior_kind_name(PriorKind kind) {
    return kind == PriorKind::product ? "product" : kind == PriorKind::gaussian ? "gaussian" : "flat";
}

PriorKind prior_kind(const std::string& name) {
    for (const PriorKind kind : {PriorKind::product, PriorKind::gaussian, PriorKind::flat})
        if (name == prior_kind_name(kind)) return kind;
    throw Error(ErrorKind::usage,
                fmt::format("prior: expected product, gaussian or flat, got {}", excerpt(name)));
}

void write_prior(const std::filesystem::path& path, const Prior& prior) {
    TensorFile file;
    file.format = "dynkin-prior";
    file.metadata["kind"] = prior_kind_name(prior.options.kind);
    file.put("degree", std::vector<std::int64_t>{prior.options.degree});
    file.put("ridge", std::vector<double>{prior.options.ridge});
    file.put("rows", std::vector<std::uint64_t>{prior.rows});
    file.put("sample_shape",
             std::vector<std::uint64_t>(prior.sample_shape.begin(), prior.sample_shape.end()));
    std::visit([&](const auto& law) { put(file, law); }, prior.law);
    write_tensor_file(path, file);
}

Prior read_prior(const std::filesystem::path& path) {
    const TensorFile file = read_tensor_file(path, "dynkin-prior");
    const Reader reader{file};
    Prior prior;
    try {
        prior.options.kind = prior_kind(file.text("kind"));
    } catch (const Error& error) {
        if (error.kind() != ErrorKind::usage) throw;
        reader.check(false, std::string("'kind': ") + error.what());
    }
    const std::int64_t degree = file.i64("degree", 1)[0];
    reader.check(degree >= 2 && degree <= kernels::kMaxPriorDegree, fmt::format("'degree' is {}", degree));
    prior.options.degree = static_cast<int>(degree);
    prior.options.ridge = reader.not_negative("ridge", 1)[0];
    reader.check(prior.options.ridge <= 1, "'ridge' is above 1");
    prior.rows = file.u64("rows", 1)[0];
    if (prior.options.kind == PriorKind::product)
        prior.law = read_product(reader, prior.options.degree);
    else if (prior.options.kind == PriorKind::gaussian)
        prior.law = read_gaussian(reader);
    else
        prior.law = read_flat(reader, prior.options.degree);
    reader.check(prior.dimension() > 0, "it has no coordinates");
    size_t product = 1;
    for (const std::uint64_t side : file.u64("sample_shape")) {
        reader.check(side >= 1 && side <= prior.dimension(), "'sample_shape' is not that of the coordinates");
        prior.sample_shape.push_back(side), product *= side;
    }
    reader.check(product == prior.dimension() || prior.sample_shape.empty(),
                 "'sample_shape' is not that of the coordinates");
    return prior;
}

} // namespace dynkin

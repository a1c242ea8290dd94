// info.cpp - `dynkin info`: what a file holds: samples, a target, a model or a checkpoint.
#include "command.h"
#include "engine/drift.h"
#include "engine/error.h"
#include "engine/file.h"
#include "engine/json_text.h"
#include "engine/model_file.h"
#include "engine/npy.h"
#include "engine/progress.h"
#include "engine/target.h"
#include "engine/tensor_file.h"
#include "prior.h"
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>

namespace dynkin::app {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

struct Options {
    Common common;
    std::string file;
};

/// Count, range, mean and variance of finite numbers (Welford over blocks: Chan, Golub and LeVeque 1979).
struct Statistics {
    std::uint64_t count = 0, nan = 0, infinite = 0;
    double low = std::numeric_limits<double>::infinity(), high = -low, mean = 0, squares = 0;

    void add(const double* x, std::size_t size) {
        Statistics block;
        for (std::size_t k = 0; k < size; ++k) {
            if (!std::isfinite(x[k])) {
                ++(std::isnan(x[k]) ? nan : infinite);
                continue;
            }
            ++block.count;
            low = std::min(low, x[k]), high = std::max(high, x[k]);
            const double change = x[k] - block.mean;
            block.mean += change / static_cast<double>(block.count);
            block.squares += change * (x[k] - block.mean);
        }
        if (block.count == 0) return;
        const auto a = static_cast<double>(count), b = static_cast<double>(block.count);
        const double change = block.mean - mean;
        mean += change * b / (a + b);
        squares += block.squares + change * change * a * b / (a + b);
        count += block.count;
    }
    double deviation() const { return std::sqrt(squares / static_cast<double>(count)); }
};

void put_samples(Result& result, const Context& context, const std::string& path) {
    const SampleFile file(path);
    const std::size_t rows = file.rows(), d = file.cols(),
                      block = std::clamp<std::size_t>((1u << 16) / d, 1, rows);
    std::vector<double> x(block * d);
    Statistics statistics;
    Progress progress(context, "read", rows);
    for (std::size_t first = 0; first < rows; first += block) {
        if (progress.interrupted()) progress.throw_interrupted();
        const std::size_t count = std::min(block, rows - first);
        file.read_any(first, count, x.data());
        statistics.add(x.data(), count * d);
        progress.advance(count);
    }
    result["kind"] = "samples";
    result["shape"] = file.header().shape;
    result["dtype"] = file.header().type.descr();
    result["order"] = file.header().fortran_order ? "Fortran" : "C";
    result["samples"] = rows;
    result["dimension"] = d;
    result["nan"] = statistics.nan;
    result["infinite"] = statistics.infinite;
    if (statistics.count == 0) return;
    result["min"] = statistics.low;
    result["max"] = statistics.high;
    result["mean"] = statistics.mean;
    result["sd"] = statistics.deviation();
}

void put_drift(Result& result, const std::string& path) {
    const DriftProcess process = read_drift(path);
    result["kind"] = "drift";
    result["drift"] = process.kind;
    result["dimension"] = process.dimension();
    result["driven"] = process.driven();
    result["polynomial"] = polynomial_form(process).has_value();
    result["parameters"] = Json::parse(process.canonical_json);
}

/// A file with a table [drift] and none that is called [target].
bool is_drift(const std::string& path) {
    const std::string text = "\n" + read_file(path);
    return text.find("\n[drift]") != std::string::npos && text.find("\n[target]") == std::string::npos;
}

void put_target(Result& result, const std::string& path) {
    if (is_drift(path)) return put_drift(result, path);
    const Target target = read_target(path);
    result["kind"] = "target";
    result["target"] = target.kind;
    result["dimension"] = target.dimension();
    result["shape"] = target.sample_shape();
    if (target.lattice()) result["lattice"] = target.lattice()->describe();
    result["energy"] = target.has_energy();
    result["even"] = target.even();
    result["drawn_directly"] = target.can_draw_directly();
    result["parameters"] = Json::parse(target.canonical_json);
}

std::string element_type(const Tensor& tensor) {
    return !tensor.u64.empty() ? "U64" : !tensor.i64.empty() ? "I64" : "F64";
}

/// Metadata that hold JSON are shown as such, other text as it is.
Json structured(const std::string& text) {
    const Json json = parse_json<Json>(text);
    return json.is_object() || json.is_array() ? json : Json(text);
}

void put_tensors(Result& result, const std::string& path, const std::string& format) {
    const TensorFile file = read_tensor_file(path, format, format == "dynkin-model" ? 2 : 1);
    result["kind"] = format == "dynkin-model"        ? "model"
                     : format == "dynkin-nonlinear"  ? "nonlinear model"
                     : format == "dynkin-checkpoint" ? "checkpoint"
                                                     : "tensors";
    result["format"] = file.format;
    result["format_version"] = file.version;
    if (const std::string process = process_of(file); !process.empty()) result["process"] = process;
    Json metadata = Json::object(), tensors = Json::object();
    for (const auto& [key, text] : file.metadata) metadata[key] = structured(text);
    for (const auto& [name, tensor] : file.tensors)
        tensors[name] = fmt::format("{} ({})", element_type(tensor), fmt::join(tensor.shape, ", "));
    result["metadata"] = metadata;
    result["tensors"] = tensors;
}

std::string first_bytes(const fs::path& path, std::size_t count) {
    std::error_code failure;
    if (fs::is_directory(path, failure))
        throw Error(ErrorKind::io, fmt::format("{}: cannot read: is a directory", path.string()));
    std::ifstream file(path, std::ios::binary);
    if (!file)
        throw Error(ErrorKind::io, fmt::format("{}: cannot open: {}", path.string(), std::strerror(errno)));
    std::string bytes(count, '\0');
    file.read(bytes.data(), static_cast<std::streamsize>(count));
    if (file.bad())
        throw Error(ErrorKind::io, fmt::format("{}: cannot read: {}", path.string(), std::strerror(errno)));
    bytes.resize(static_cast<std::size_t>(file.gcount()));
    return bytes;
}

int run(const Options& options) {
    const Context context = make_context(options.common);
    Result result("info", options.common, context);
    result.stage("read");
    result["file"] = options.file;
    const std::string extension = fs::path(options.file).extension().string();
    if (first_bytes(options.file, 6) == "\x93NUMPY" || extension == ".npy") {
        put_samples(result, context, options.file);
    } else if (const auto format = tensor_format(options.file); format || extension == ".dynkin") {
        if (format == "dynkin-prior")
            put_prior(result, options.file);
        else
            put_tensors(result, options.file, format && !format->empty() ? *format : "dynkin-model");
    } else if (extension == ".toml") {
        put_target(result, options.file);
    } else {
        throw Error(ErrorKind::input,
                    options.file + ": expected an .npy, a target (.toml), a model or a checkpoint");
    }
    result.print();
    return 0;
}

} // namespace

Command info_command(CLI::App& parent) {
    CLI::App* command =
        parent.add_subcommand("info", "what a file holds: samples, target, model or checkpoint");
    auto options = std::make_shared<Options>();
    command->add_option("file", options->file, ".npy, target .toml, model or checkpoint")
        ->required()
        ->type_name("FILE");
    add_common_flags(*command, options->common, false);
    command->footer("Examples:\n  dynkin info train.npy\n  dynkin info model.dynkin --json");
    return {command, [options] { return run(*options); }};
}

} // namespace dynkin::app

#include "process_files.h"
#include "engine/error.h"
#include "engine/file.h"
#include "engine/npy.h"
#include <fmt/format.h>
#include <toml++/toml.h>

namespace dynkin::app {
namespace {

constexpr std::size_t kMost = 64; ///< rows and columns

Array<double> from_npy(const std::string& path) {
    const SampleFile file(path);
    if (file.header().shape.size() != 2 || file.rows() > kMost || file.cols() > kMost)
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected a matrix of at most {} x {} numbers, got shape ({})", path,
                                kMost, kMost, fmt::join(file.header().shape, ", ")));
    Array<double> out(file.rows(), file.cols());
    file.read(0, file.rows(), out.data());
    return out;
}

Array<double> from_toml(const std::string& path, const std::string& key) {
    const auto reject = [&](const std::string& what) { throw Error(ErrorKind::input, path + ": " + what); };
    toml::table table;
    try {
        table = toml::parse(read_file(path, 1 << 20), path);
    } catch (const toml::parse_error& error) {
        reject(fmt::format("line {}: {}", error.source().begin.line, excerpt(error.description(), 200)));
    }
    const toml::array* rows = table["process"][key].as_array();
    if (!rows || rows->empty() || rows->size() > kMost)
        reject(fmt::format("[process] {}: expected rows of numbers, at most {}", key, kMost));
    Array<double> out;
    for (std::size_t i = 0; i < rows->size(); ++i) {
        const toml::array* row = (*rows)[i].as_array();
        if (!row || row->empty() || row->size() > kMost || (i > 0 && row->size() != out.cols()))
            reject(fmt::format("[process] {}: row {} is not {} numbers", key, i,
                               i > 0 ? fmt::format("{}", out.cols()) : "a list of"));
        if (i == 0) out = Array<double>(rows->size(), row->size());
        for (std::size_t j = 0; j < row->size(); ++j) {
            const auto value = (*row)[j].value<double>();
            if (!value) reject(fmt::format("[process] {}: row {}, number {}: expected a number", key, i, j));
            out(i, j) = *value;
        }
    }
    return out;
}

} // namespace

Array<double> read_matrix(const std::string& path, const std::string& key) {
    return path.ends_with(".toml") ? from_toml(path, key) : from_npy(path);
}

} // namespace dynkin::app

// tensor_file.h - named arrays with metadata in one file, in the layout of safetensors: 8 bytes header
// length, JSON header, data. Models and checkpoints are such files.
#pragma once
#include "array.h"
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace dynkin {

/// A tensor of float64 ("F64"), uint64 ("U64") or int64 ("I64") numbers; exactly one of the vectors is in
/// use.
struct Tensor {
    std::vector<std::size_t> shape;
    std::vector<double> f64;
    std::vector<std::uint64_t> u64;
    std::vector<std::int64_t> i64;
};

struct TensorFile {
    std::string format;                          ///< e.g. "dynkin-model", "dynkin-checkpoint"
    int version = 1;                             ///< of that format
    std::map<std::string, std::string> metadata; ///< any further text, JSON for structured values
    std::map<std::string, Tensor> tensors;

    /// Shape {}: (number of values). Error(usage) when the shape does not match.
    void put(const std::string& name, std::vector<double> values, std::vector<std::size_t> shape = {});
    void put(const std::string& name, std::vector<std::uint64_t> values);
    void put(const std::string& name, std::vector<std::int64_t> values);
    /// Throw Error(input) when the tensor is absent, of another type, or (size given) of another size.
    const std::vector<double>& f64(const std::string& name, std::size_t size = SIZE_MAX) const;
    const std::vector<std::uint64_t>& u64(const std::string& name, std::size_t size = SIZE_MAX) const;
    const std::vector<std::int64_t>& i64(const std::string& name, std::size_t size = SIZE_MAX) const;
    const std::string& text(const std::string& name) const; ///< metadata, Error(input) when absent
    std::string source;                                     ///< path it was read from, for messages
};

/// Writes by OutputFile (temporary name, fsync, rename). The metadata get `format`, `format_version` and
/// `checksum` (of tensors and metadata; docs/formats.md), so these three names are reserved. Metadata that
/// are not UTF-8 have the offending bytes replaced by U+FFFD. Throws Error(usage) for a tensor whose shape
/// does not match its numbers or with a reserved name, Error(io).
void write_tensor_file(const std::filesystem::path& path, const TensorFile& file);

/// Throws Error(io) when it cannot be read (or is a directory, pipe or device), Error(input) when it is not
/// of this format and version, is truncated, has trailing bytes, overlapping or out-of-range tensors, a
/// header beyond 64 MiB, or another checksum. A file of another `format` is named as what it is.
TensorFile read_tensor_file(const std::filesystem::path& path, const std::string& format,
                            int max_version = 1);

/// The `format` that a file in this layout names, "" when it names none, nothing when it is no such file.
/// Only the header is read, and nothing checked. Throws Error(io) as read_tensor_file().
std::optional<std::string> tensor_format(const std::filesystem::path& path);

} // namespace dynkin

// tensor_file.cpp - the safetensors layout, checked down to the last byte before a number is believed.
#include "engine/tensor_file.h"
#include "engine/error.h"
#include "engine/file.h"
#include <algorithm>
#include <bit>
#include <charconv>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <new>
#include <nlohmann/json.hpp>
#include <set>
#include <span>

namespace dynkin {
namespace {

using json = nlohmann::json;
static_assert(std::endian::native == std::endian::little, "data are written in the machine's byte order");

constexpr std::uint64_t largest_header = 1u << 26;
constexpr std::size_t largest_rank = 32, most_keys = 1u << 20;
constexpr std::uint64_t number_bytes = 8;
constexpr const char* metadata_key = "__metadata__";
const std::set<std::string> reserved{"format", "format_version", "checksum"};

[[noreturn]] void reject(const std::string& source, std::string_view what) {
    throw Error(ErrorKind::input, fmt::format("{}: {}", source, what));
}

const char* dtype(const Tensor& tensor) {
    return !tensor.u64.empty() ? "U64" : !tensor.i64.empty() ? "I64" : "F64";
}

std::size_t size_of(const Tensor& tensor) {
    return tensor.f64.size() + tensor.u64.size() + tensor.i64.size();
}

std::span<const std::byte> bytes_of(const Tensor& tensor) {
    if (!tensor.u64.empty()) return std::as_bytes(std::span(tensor.u64));
    if (!tensor.i64.empty()) return std::as_bytes(std::span(tensor.i64));
    return std::as_bytes(std::span(tensor.f64));
}

/// False when the product overflows 64 bits.
bool multiply(std::span<const std::size_t> shape, std::uint64_t& product) {
    return std::all_of(shape.begin(), shape.end(),
                       [&](std::size_t n) { return !__builtin_mul_overflow(product, n, &product); });
}

/// Error(usage) unless exactly one vector is in use (or none) and the shape holds as many numbers.
void check_consistent(const std::string& name, const Tensor& tensor) {
    const int in_use = !tensor.f64.empty() + !tensor.u64.empty() + !tensor.i64.empty();
    std::uint64_t product = 1;
    if (in_use > 1 || tensor.shape.size() > largest_rank || !multiply(tensor.shape, product) ||
        product != size_of(tensor) || name == metadata_key)
        throw Error(ErrorKind::usage,
                    fmt::format("tensor '{}': {} numbers of {} type(s) do not fill shape ({})", name,
                                size_of(tensor), in_use, fmt::join(tensor.shape, ", ")));
}

/// Each string enters with its length (XXH64 hashes it), so moving bytes from one to the next changes the
/// sum.
std::uint64_t add(std::uint64_t sum, std::string_view text) { return checksum(text, sum); }

std::uint64_t sum_of(const std::map<std::string, Tensor>& tensors,
                     const std::map<std::string, std::string>& metadata) {
    std::uint64_t sum = 0;
    for (const auto& [name, tensor] : tensors) {
        sum = add(add(add(sum, name), dtype(tensor)), fmt::format("{}", fmt::join(tensor.shape, "x")));
        sum = checksum(bytes_of(tensor), sum);
    }
    for (const auto& [key, value] : metadata)
        if (key != "checksum") sum = add(add(sum, key), value);
    return sum;
}

/// What a reader of the JSON will see of a text: file names, for one, need not be UTF-8.
std::string as_utf8(const std::string& text) {
    return json::parse(json(text).dump(-1, ' ', false, json::error_handler_t::replace)).get<std::string>();
}

std::map<std::string, std::string> written_metadata(const TensorFile& file) {
    std::map<std::string, std::string> metadata;
    for (const auto& [key, value] : file.metadata) metadata[as_utf8(key)] = as_utf8(value);
    metadata["format"] = as_utf8(file.format);
    metadata["format_version"] = fmt::format("{}", file.version);
    metadata["checksum"] = fmt::format("{:016x}", sum_of(file.tensors, metadata));
    return metadata;
}

std::string header_text(const TensorFile& file) {
    auto header =
        nlohmann::ordered_json::object(); // one that is made by [] cannot be destroyed without memory
    header[metadata_key] = written_metadata(file);
    std::uint64_t offset = 0;
    for (const auto& [name, tensor] : file.tensors) {
        check_consistent(name, tensor);
        const std::uint64_t end = offset + bytes_of(tensor).size();
        header[name] = {{"dtype", dtype(tensor)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
        offset = end;
    }
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');
    return text;
}

/// What a file of another kind is, as far as its first bytes tell.
std::string_view kind_of(std::string_view start) {
    if (start.starts_with("\x93NUMPY")) return " (it is a .npy file)";
    if (start.starts_with("PK")) return " (it is a zip archive)";
    if (start.starts_with("{") || start.starts_with("[")) return " (it is text)";
    return "";
}

/// Parses the header. nlohmann keeps the last of two equal keys and nests without limit; both are refused
/// here, as are long arrays and many keys, before they cost memory.
json parse_header(const std::string& source, const std::string& text) {
    std::vector<std::set<std::string>> keys; // of the objects that are open
    std::size_t key_count = 0, elements = 0;
    const auto check = [&](int depth, json::parse_event_t event, json& value) {
        using Event = json::parse_event_t;
        const bool opens = event == Event::object_start || event == Event::array_start;
        if (opens && depth > 2) reject(source, "header: expected tensors nested at most 3 deep, got more");
        if (opens) elements = 0;
        if (event == Event::object_start) keys.emplace_back();
        if (event == Event::object_end) keys.pop_back();
        if (event == Event::value && depth == 3 && ++elements > largest_rank)
            reject(source, fmt::format("header: expected at most {} axes, got more", largest_rank));
        if (event == Event::key) {
            const auto& key = value.get_ref<const std::string&>();
            if (++key_count > most_keys)
                reject(source, fmt::format("header: expected at most {} keys, got more", most_keys));
            if (!keys.back().insert(key).second)
                reject(source, fmt::format("header: key {} stands twice", excerpt(key)));
        }
        return true;
    };
    try {
        json header = json::parse(text, check);
        if (!header.is_object()) reject(source, "header: expected a JSON object, got " + excerpt(text));
        return header;
    } catch (const json::parse_error& error) {
        reject(source, fmt::format("header: expected JSON, got something else at byte {} of it", error.byte));
    } catch (const json::exception&) { // a number out of range
        reject(source, "header: expected JSON with numbers of at most 64 bits");
    }
}

std::string read_header(const InputFile& file, const std::string& format, std::uint64_t size) {
    const std::string source = file.path().string();
    std::string start(static_cast<std::size_t>(std::min<std::uint64_t>(size, 8)), '\0');
    file.read_at(0, std::as_writable_bytes(std::span(start)));
    if (size < 8)
        reject(source, fmt::format("expected a {} file, got {} bytes{}", format, size, kind_of(start)));
    std::uint64_t length = 0;
    for (std::size_t k = 8; k-- > 0;) length = length << 8 | static_cast<unsigned char>(start[k]);
    if (length > largest_header)
        reject(source, fmt::format("expected a {} file with a header of at most {} bytes, got {}{}", format,
                                   largest_header, length, kind_of(start)));
    if (length > size - 8)
        reject(source, fmt::format("truncated: expected {} bytes of header, got {}", length, size - 8));
    std::string text(static_cast<std::size_t>(length), '\0');
    file.read_at(8, std::as_writable_bytes(std::span(text)));
    return text;
}

void read_metadata(const json& header, const std::string& format, int max_version, TensorFile& file) {
    const auto entry = header.find(metadata_key);
    if (entry == header.end() || !entry->is_object() || !entry->contains("format"))
        reject(file.source,
               fmt::format("expected a {} file, got one without 'format' in its metadata", format));
    for (const auto& [key, value] : entry->items()) {
        if (!value.is_string()) reject(file.source, fmt::format("metadata {}: expected text", excerpt(key)));
        file.metadata[key] = value.get<std::string>();
    }
    file.format = file.metadata["format"];
    if (file.format != format)
        reject(file.source, fmt::format("expected a {} file, got a {} file", format, excerpt(file.format)));
    const std::string version = file.metadata["format_version"];
    const auto [end, error] = std::from_chars(version.data(), version.data() + version.size(), file.version);
    if (error != std::errc{} || end != version.data() + version.size() || file.version < 1)
        reject(file.source,
               fmt::format("format_version: expected a positive number, got {}", excerpt(version)));
    if (file.version > max_version)
        reject(file.source, fmt::format("format_version: this program reads {} up to version {}, got {}",
                                        format, max_version, file.version));
}

struct Extent {
    std::string name;
    std::uint64_t begin, end;
};

/// One entry of the header, checked by itself; the tensor gets its shape and the room for its numbers is left
/// to later.
Extent read_entry(const std::string& source, const std::string& name, const json& entry, Tensor& tensor) {
    const auto expect = [&](bool condition, std::string_view what) {
        if (!condition) reject(source, fmt::format("tensor {}: {}", excerpt(name), what));
    };
    expect(entry.is_object() && entry.size() == 3 && entry.contains("dtype") && entry.contains("shape") &&
               entry.contains("data_offsets"),
           "expected dtype, shape and data_offsets");
    const json &shape = entry["shape"], &offsets = entry["data_offsets"];
    const auto is_count = [](const json& value) { return value.is_number_unsigned(); };
    expect(shape.is_array() && std::all_of(shape.begin(), shape.end(), is_count),
           "shape: expected lengths of 0 or more");
    expect(offsets.is_array() && offsets.size() == 2 && std::all_of(offsets.begin(), offsets.end(), is_count),
           "data_offsets: expected two numbers of 0 or more");
    tensor.shape = shape.get<std::vector<std::size_t>>();
    const Extent extent{name, offsets[0].get<std::uint64_t>(), offsets[1].get<std::uint64_t>()};
    std::uint64_t bytes = number_bytes;
    expect(multiply(tensor.shape, bytes), "shape: its size overflows 64 bits");
    expect(extent.begin <= extent.end && extent.end - extent.begin == bytes,
           fmt::format("expected {} bytes for shape ({}), got data_offsets {} to {}", bytes,
                       fmt::join(tensor.shape, ", "), extent.begin, extent.end));
    return extent;
}

/// The tensors must cover the data section without gap or overlap.
void check_extents(const std::string& source, std::vector<Extent> extents, std::uint64_t data_bytes) {
    std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
        return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    std::uint64_t expected = 0;
    for (const Extent& extent : extents) {
        if (extent.begin != expected)
            reject(source, fmt::format("tensor {}: expected data_offsets from {} ({}), got {}",
                                       excerpt(extent.name), expected,
                                       extent.begin < expected ? "it overlaps the one before"
                                                               : "there is a gap before it",
                                       extent.begin));
        expected = extent.end;
    }
    if (data_bytes != expected)
        reject(source,
               fmt::format("{}: expected {} bytes of data, got {}",
                           data_bytes < expected ? "truncated" : "trailing bytes", expected, data_bytes));
}

template <class T>
void load(const InputFile& file, std::uint64_t offset, std::uint64_t bytes, std::vector<T>& numbers) {
    numbers.resize(static_cast<std::size_t>(bytes / number_bytes));
    file.read_at(offset, std::as_writable_bytes(std::span(numbers)));
}

void read_tensors(const InputFile& input, const json& header, std::uint64_t data_start,
                  std::uint64_t data_bytes, TensorFile& file) {
    std::vector<Extent> extents;
    for (const auto& [name, entry] : header.items())
        if (name != metadata_key) extents.push_back(read_entry(file.source, name, entry, file.tensors[name]));
    check_extents(file.source, extents, data_bytes);
    for (const Extent& extent : extents) {
        Tensor& tensor = file.tensors[extent.name];
        const json& type = header[extent.name]["dtype"];
        const std::uint64_t offset = data_start + extent.begin, bytes = extent.end - extent.begin;
        if (type == "F64")
            load(input, offset, bytes, tensor.f64);
        else if (type == "U64")
            load(input, offset, bytes, tensor.u64);
        else if (type == "I64")
            load(input, offset, bytes, tensor.i64);
        else
            reject(file.source, fmt::format("tensor {}: dtype: expected F64, U64 or I64, got {}",
                                            excerpt(extent.name), excerpt(type.dump())));
    }
}

template <class T> const std::vector<T>& find(const TensorFile& file, const std::string& name,
                                              std::size_t size, std::vector<T> Tensor::*numbers,
                                              const char* type) {
    const auto at = file.tensors.find(name);
    if (at == file.tensors.end())
        reject(file.source, fmt::format("tensor '{}': expected one, got none", name));
    const std::vector<T>& found = at->second.*numbers;
    if (found.empty() && size_of(at->second) > 0)
        reject(file.source, fmt::format("tensor '{}': expected {}, got {}", name, type, dtype(at->second)));
    if (size != SIZE_MAX && found.size() != size)
        reject(file.source,
               fmt::format("tensor '{}': expected {} numbers, got {}", name, size, found.size()));
    return found;
}

} // namespace

void TensorFile::put(const std::string& name, std::vector<double> values, std::vector<std::size_t> shape) {
    if (shape.empty()) shape = {values.size()};
    Tensor tensor{std::move(shape), std::move(values), {}, {}};
    check_consistent(name, tensor);
    tensors[name] = std::move(tensor);
}
void TensorFile::put(const std::string& name, std::vector<std::uint64_t> values) {
    tensors[name] = {{values.size()}, {}, values, {}};
}
void TensorFile::put(const std::string& name, std::vector<std::int64_t> values) {
    tensors[name] = {{values.size()}, {}, {}, values};
}

const std::vector<double>& TensorFile::f64(const std::string& name, std::size_t size) const {
    return find(*this, name, size, &Tensor::f64, "F64");
}
const std::vector<std::uint64_t>& TensorFile::u64(const std::string& name, std::size_t size) const {
    return find(*this, name, size, &Tensor::u64, "U64");
}
const std::vector<std::int64_t>& TensorFile::i64(const std::string& name, std::size_t size) const {
    return find(*this, name, size, &Tensor::i64, "I64");
}
const std::string& TensorFile::text(const std::string& name) const {
    const auto at = metadata.find(name);
    if (at == metadata.end()) reject(source, fmt::format("metadata '{}': expected text, got none", name));
    return at->second;
}

void write_tensor_file(const std::filesystem::path& path, const TensorFile& file) {
    const std::string header = header_text(file);
    const std::uint64_t length = header.size();
    OutputFile output(path);
    output.append(std::as_bytes(std::span(&length, 1)));
    output.append(header);
    for (const auto& [name, tensor] : file.tensors) output.append(bytes_of(tensor));
    output.commit();
}

TensorFile read_tensor_file(const std::filesystem::path& path, const std::string& format, int max_version) {
    const InputFile input(path);
    TensorFile file;
    file.source = path.string();
    try {
        const std::uint64_t size = input.size();
        const std::string text = read_header(input, format, size);
        const json header = parse_header(file.source, text);
        read_metadata(header, format, max_version, file);
        read_tensors(input, header, 8 + text.size(), size - 8 - text.size(), file);
    } catch (const std::bad_alloc&) {
        throw Error(ErrorKind::io, fmt::format("cannot read {}: not enough memory", file.source));
    }
    const std::string expected = fmt::format("{:016x}", sum_of(file.tensors, file.metadata));
    if (const std::string& got = file.metadata["checksum"]; got != expected)
        reject(file.source, fmt::format("checksum: the content gives {}, the file says {}: it is damaged",
                                        expected, excerpt(got)));
    for (const std::string& key : reserved) file.metadata.erase(key);
    return file;
}

std::optional<std::string> tensor_format(const std::filesystem::path& path) {
    InputFile file(path);
    std::uint64_t length = 0;
    if (file.size() <= sizeof length) return {};
    file.read_at(0, std::as_writable_bytes(std::span(&length, 1)));
    if (length > std::min(file.size() - sizeof length, largest_header)) return {};
    std::string header(length, '\0');
    file.read_at(sizeof length, std::as_writable_bytes(std::span(header)));
    const json parsed = json::parse(header, nullptr, false);
    if (!parsed.is_object()) return {};
    const auto metadata = parsed.find("__metadata__");
    if (metadata == parsed.end() || !metadata->is_object()) return "";
    const auto format = metadata->find("format");
    return format != metadata->end() && format->is_string() ? format->get<std::string>() : "";
}

} // namespace dynkin

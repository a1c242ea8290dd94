// npy.cpp - .npy header by a strict parser; rows by memory map, converted in blocks; rows out at their final
// place.
#include "engine/npy.h"
#include "engine/error.h"
#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <utility>

namespace dynkin {
namespace {

static_assert(std::endian::native == std::endian::little, "files are written in the machine's byte order");

constexpr std::uint64_t largest_header = 1u << 16;
constexpr std::size_t largest_rank = 32;           // as NumPy
constexpr std::uint64_t block_bytes = 1u << 22;    // converted between two looks at the file size
constexpr std::uint64_t released_bytes = 1u << 26; // mapped in before pages are given back
constexpr std::size_t run = 512,
                      abreast = 16; // Fortran order: rows of a column at a time, columns side by side
constexpr std::string_view magic = "\x93NUMPY";

[[noreturn]] void reject(const std::filesystem::path& path, std::string_view what) {
    throw Error(ErrorKind::input, fmt::format("{}: {}", path.string(), what));
}

std::uint64_t product(std::span<const std::size_t> shape, std::uint64_t start, bool& overflow) {
    std::uint64_t result = start;
    for (const std::size_t n : shape)
        if (__builtin_mul_overflow(result, n, &result)) overflow = true;
    return result;
}

std::string shape_text(std::span<const std::size_t> shape) {
    return fmt::format("({}{})", fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
}

/// Reads {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }: each key once, in any order, nothing
/// else.
class HeaderParser {
  public:
    HeaderParser(const std::filesystem::path& path, std::string_view text) : path_(path), text_(text) {}

    NpyHeader parse() {
        NpyHeader header;
        bool seen[3] = {};
        expect('{');
        while (!accept('}')) {
            parse_entry(header, seen);
            if (!accept(',')) {
                expect('}');
                break;
            }
        }
        skip_blanks();
        if (at_ != text_.size()) fail("the end of the header");
        for (std::size_t k = 0; k < 3; ++k)
            if (!seen[k]) reject(path_, fmt::format("header: expected the key '{}', got none", keys[k]));
        return header;
    }

  private:
    static constexpr std::string_view keys[3] = {"descr", "fortran_order", "shape"};

    void parse_entry(NpyHeader& header, bool (&seen)[3]) {
        const std::string_view key = parse_string("a key or '}'");
        const auto k = static_cast<std::size_t>(std::find(keys, keys + 3, key) - keys);
        if (k == 3)
            reject(path_, fmt::format("header: expected the keys descr, fortran_order, shape, got {}",
                                      excerpt(key)));
        if (std::exchange(seen[k], true))
            reject(path_, fmt::format("header: the key '{}' stands twice", key));
        expect(':');
        if (k == 0) header.type = parse_descr();
        if (k == 1) header.fortran_order = parse_bool();
        if (k == 2) header.shape = parse_shape();
    }

    NpyType parse_descr() {
        if (accept('[')) reject_type("a structured type (void)");
        const std::string_view descr = parse_string("a type such as '<f8'");
        NpyType type;
        const char order = descr.empty() ? ' ' : descr[0];
        type.kind = descr.size() < 2 ? ' ' : descr[1];
        const std::string_view digits = descr.substr(std::min<std::size_t>(2, descr.size()));
        type.bytes = digits.size() == 1 ? digits[0] - '0' : 0;
        const bool sized = type.kind == 'f' ? type.bytes == 4 || type.bytes == 8
                           : type.kind == 'b'
                               ? type.bytes == 1
                               : type.bytes == 1 || type.bytes == 2 || type.bytes == 4 || type.bytes == 8;
        const bool ordered = order == '<' || order == '>' || (order == '|' && type.bytes == 1);
        if (!sized || !ordered || std::string_view("fiub").find(type.kind) == std::string_view::npos)
            reject_type(fmt::format("{}{}", excerpt(descr), kind_text(type.kind)));
        type.swapped = order == '>' && type.bytes > 1;
        return type;
    }

    static std::string_view kind_text(char kind) {
        switch (kind) {
        case 'O':
            return " (Python objects)";
        case 'c':
            return " (complex)";
        case 'V':
            return " (void)";
        case 'S':
        case 'a':
            return " (bytes)";
        case 'U':
            return " (text)";
        case 'M':
        case 'm':
            return " (time)";
        default:
            return "";
        }
    }

    [[noreturn]] void reject_type(std::string_view got) const {
        reject(path_, fmt::format("dtype: expected f4, f8, i1 to i8, u1 to u8 or bool, got {}", got));
    }

    bool parse_bool() {
        skip_blanks();
        for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}})
            if (text_.substr(at_).starts_with(word)) {
                at_ += word.size();
                return value;
            }
        fail("True or False");
    }

    std::vector<std::size_t> parse_shape() {
        std::vector<std::size_t> shape;
        expect('(');
        while (!accept(')')) {
            shape.push_back(parse_length());
            if (shape.size() > largest_rank)
                reject(path_, fmt::format("shape: expected at most {} axes", largest_rank));
            if (accept(',')) continue;
            if (shape.size() == 1) fail("',' (a tuple of one)");
            expect(')');
            break;
        }
        return shape;
    }

    std::size_t parse_length() {
        skip_blanks();
        const std::size_t start = at_;
        std::size_t value = 0;
        for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_)
            if (__builtin_mul_overflow(value, 10u, &value) ||
                __builtin_add_overflow(value, static_cast<unsigned>(text_[at_] - '0'), &value))
                reject(path_, "shape: a length overflows 64 bits");
        if (at_ == start || (text_[start] == '0' && at_ - start > 1)) fail("a length");
        return value;
    }

    std::string_view parse_string(const char* expected) {
        skip_blanks();
        const char quote = at_ < text_.size() ? text_[at_] : ' ';
        if (quote != '\'' && quote != '"') fail(expected);
        const std::size_t end = text_.find_first_of(quote == '"' ? "\"\\\n" : "'\\\n", at_ + 1);
        if (end == std::string_view::npos || text_[end] != quote) fail("a string without escapes");
        const std::size_t start = std::exchange(at_, end + 1) + 1;
        return text_.substr(start, end - start);
    }

    bool accept(char c) {
        skip_blanks();
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    void expect(char c) {
        if (!accept(c)) fail(fmt::format("'{}'", c));
    }
    void skip_blanks() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
    }
    [[noreturn]] void fail(std::string_view expected) const {
        const std::string got = at_ < text_.size() ? excerpt(text_.substr(at_)) : "the end of the header";
        reject(path_, fmt::format("header, character {}: expected {}, got {}", at_, expected, got));
    }

    const std::filesystem::path& path_;
    std::string_view text_;
    std::size_t at_ = 0;
};

/// Where the header text starts, and its length: version 1.0 has 2 bytes of length, 2.0 and 3.0 have 4.
std::pair<std::uint64_t, std::uint64_t> locate_header(const InputFile& file, std::uint64_t size) {
    if (size == 0) reject(file.path(), "expected a .npy file, got an empty file");
    unsigned char start[12] = {};
    file.read_at(0, std::as_writable_bytes(std::span(start))
                        .first(static_cast<std::size_t>(std::min<std::uint64_t>(size, 12))));
    if (std::memcmp(start, magic.data(), std::min<std::size_t>(size, magic.size())) != 0)
        reject(file.path(), fmt::format("expected a .npy file (first bytes 93 4e 55 4d 50 59), got {:02x}{}",
                                        fmt::join(start, start + std::min<std::uint64_t>(size, 6), " "),
                                        std::memcmp(start, "PK", 2) == 0 ? " (a zip or .npz archive)" : ""));
    const std::uint64_t offset = size > 6 && start[6] >= 2 ? 12 : 10;
    if (size < offset)
        reject(file.path(),
               fmt::format("truncated: expected a .npy header of {} bytes or more, got {}", offset, size));
    if (start[6] < 1 || start[6] > 3 || start[7] != 0)
        reject(file.path(),
               fmt::format("expected .npy version 1.0, 2.0 or 3.0, got {}.{}", start[6], start[7]));
    std::uint64_t length = start[8] + 256u * start[9];
    if (offset == 12) length += (std::uint64_t{start[10]} << 16) + (std::uint64_t{start[11]} << 24);
    if (length > largest_header)
        reject(file.path(),
               fmt::format("header length: expected at most {} bytes, got {}", largest_header, length));
    if (length > size - offset)
        reject(file.path(),
               fmt::format("truncated: expected {} bytes of header, got {}", length, size - offset));
    return {offset, length};
}

NpyHeader read_header(const InputFile& file, std::uint64_t size) {
    const auto [offset, length] = locate_header(file, size);
    std::string text(static_cast<std::size_t>(length), '\0');
    file.read_at(offset, std::as_writable_bytes(std::span(text)));
    NpyHeader header = HeaderParser(file.path(), text).parse();
    header.data_offset = offset + length;

    const std::string shape = shape_text(header.shape);
    if (header.shape.empty()) reject(file.path(), "shape: expected (N), (N, d) or (N, *lattice), got ()");
    for (std::size_t k = 0; k < header.shape.size(); ++k)
        if (header.shape[k] == 0)
            reject(file.path(),
                   fmt::format("shape: expected at least one {}, got {}", k == 0 ? "row" : "column", shape));
    bool overflow = false;
    const std::uint64_t bytes =
        product(header.shape, static_cast<std::uint64_t>(header.type.bytes), overflow);
    if (overflow || bytes > static_cast<std::uint64_t>(INT64_MAX) - header.data_offset)
        reject(file.path(), fmt::format("shape: the size of {} overflows 64 bits", shape));
    const std::uint64_t got = size - header.data_offset;
    if (got != bytes)
        reject(file.path(), fmt::format("{}: expected {} bytes of data for shape {} of {}, got {}",
                                        got < bytes ? "truncated" : "trailing bytes", bytes, shape,
                                        header.type.descr(), got));
    return header;
}

/// A byte of a NumPy bool.
struct Bool {
    unsigned char byte;
    template <class T> explicit operator T() const { return static_cast<T>(byte != 0); }
};

template <class T> T swap_bytes(T value) {
    if constexpr (sizeof(T) == 2)
        return std::bit_cast<T>(__builtin_bswap16(std::bit_cast<std::uint16_t>(value)));
    if constexpr (sizeof(T) == 4)
        return std::bit_cast<T>(__builtin_bswap32(std::bit_cast<std::uint32_t>(value)));
    if constexpr (sizeof(T) == 8)
        return std::bit_cast<T>(__builtin_bswap64(std::bit_cast<std::uint64_t>(value)));
    return value;
}

/// Adding one to the exponent field carries into the sign bit exactly when the field is all ones (NaN, Inf):
/// and, add and or are vectorised at every SIMD level, comparisons of 64-bit integers are not.
template <class T> bool any_not_finite(const T* values, std::size_t count) {
    using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
    constexpr Bits exponent = std::bit_cast<Bits>(std::numeric_limits<T>::infinity());
    constexpr Bits one = exponent & (~exponent + 1);
    Bits carried = 0;
#pragma omp simd reduction(| : carried)
    for (std::size_t i = 0; i < count; ++i) carried |= (std::bit_cast<Bits>(values[i]) & exponent) + one;
    return carried >> (8 * sizeof(T) - 1) != 0;
}

/// Converts a run of adjacent numbers; true if one of them is not finite. The file's data need not be
/// aligned.
template <class Source, bool swapped, class T>
bool convert_run(const std::byte* from, std::size_t count, T* out) {
    constexpr std::size_t piece = 2048; // checked while it is in the first-level cache
    bool bad = false;
    for (std::size_t start = 0; start < count; start += piece) {
        const std::size_t n = std::min(piece, count - start);
        const std::byte* source = from + start * sizeof(Source);
        T* target = out + start;
        if constexpr (std::is_same_v<Source, T> && !swapped) {
            std::memcpy(target, source, n * sizeof(T));
        } else {
#pragma omp simd
            for (std::size_t i = 0; i < n; ++i) {
                Source value;
                std::memcpy(&value, source + i * sizeof(Source), sizeof(Source));
                target[i] = static_cast<T>(swapped ? swap_bytes(value) : value);
            }
        }
        if constexpr (std::is_floating_point_v<Source>) bad |= any_not_finite(target, n);
    }
    return bad;
}

template <class T> using ConvertRun = bool (*)(const std::byte*, std::size_t, T*);

template <class T> ConvertRun<T> converter(const NpyType& type) {
    const auto pick = [&]<class Source>(Source) -> ConvertRun<T> {
        return type.swapped ? convert_run<Source, true, T> : convert_run<Source, false, T>;
    };
    switch (type.kind) {
    case 'f':
        return type.bytes == 4 ? pick(float{}) : pick(double{});
    case 'i':
        return type.bytes == 1   ? pick(std::int8_t{})
               : type.bytes == 2 ? pick(std::int16_t{})
               : type.bytes == 4 ? pick(std::int32_t{})
                                 : pick(std::int64_t{});
    case 'u':
        return type.bytes == 1   ? pick(std::uint8_t{})
               : type.bytes == 2 ? pick(std::uint16_t{})
               : type.bytes == 4 ? pick(std::uint32_t{})
                                 : pick(std::uint64_t{});
    default:
        return pick(Bool{});
    }
}

/// Fortran order: the column of the file, whose trailing axes run first axis fastest, that holds column c of
/// a row in C order. A few divisions per run of a column; a table of columns could be larger than memory.
std::size_t fortran_column(std::span<const std::size_t> axes, std::size_t cols, std::size_t c) {
    std::size_t memory = 0, stride = cols;
    for (std::size_t k = axes.size(); k-- > 0; c /= axes[k]) {
        stride /= axes[k]; // product of the axes before k
        memory += c % axes[k] * stride;
    }
    return memory;
}

} // namespace

std::string NpyType::descr() const {
    return fmt::format("{}{}{}", bytes == 1 ? '|' : swapped ? '>' : '<', kind, bytes);
}

SampleFile::SampleFile(const std::filesystem::path& path) : file_(path), map_bytes_(file_.size()) {
    header_ = read_header(file_, map_bytes_);
    rows_ = header_.shape[0];
    for (const std::size_t n : sample_shape()) cols_ *= n;
    void* map = ::mmap(nullptr, map_bytes_, PROT_READ, MAP_SHARED, file_.descriptor(), 0);
    if (map == MAP_FAILED)
        throw Error(ErrorKind::io, fmt::format("cannot read {}: mmap: {}", path.string(),
                                               std::generic_category().message(errno)));
    map_ = static_cast<const std::byte*>(map);
    if (!header_.fortran_order)
        ::madvise(map, map_bytes_, MADV_SEQUENTIAL); // a hint: failure changes nothing
}

SampleFile::~SampleFile() {
    if (map_) ::munmap(const_cast<std::byte*>(map_), map_bytes_);
}

SampleFile::SampleFile(SampleFile&& other) noexcept
    : file_(std::move(other.file_)), header_(std::move(other.header_)), rows_(other.rows_),
      cols_(other.cols_), map_(std::exchange(other.map_, nullptr)), map_bytes_(other.map_bytes_) {}

std::vector<std::size_t> SampleFile::sample_shape() const {
    return {header_.shape.begin() + 1, header_.shape.end()};
}

void SampleFile::read(std::size_t first, std::size_t count, double* out) const {
    convert(first, count, out, true);
}
void SampleFile::read(std::size_t first, std::size_t count, float* out) const {
    convert(first, count, out, true);
}
void SampleFile::read_any(std::size_t first, std::size_t count, double* out) const {
    convert(first, count, out, false);
}

template <class T> void SampleFile::convert(std::size_t first, std::size_t count, T* out, bool check) const {
    if (first > rows_ || count > rows_ - first)
        throw Error(ErrorKind::usage, fmt::format("{}: rows {} + {} asked for, expected at most {}",
                                                  path().string(), first, count, rows_));
    const std::uint64_t row_bytes = cols_ * static_cast<std::uint64_t>(header_.type.bytes);
    const auto block = static_cast<std::size_t>(
        std::max<std::uint64_t>(header_.fortran_order ? run : 1, block_bytes / row_bytes));
    for (std::size_t done = 0; done < count; done += block) {
        const std::size_t n = std::min(block, count - done);
        // Touching a page beyond the end of a mapped file kills the process (SIGBUS): look before each block.
        if (const std::uint64_t size = file_.size(); size < map_bytes_)
            throw Error(
                ErrorKind::io,
                fmt::format("cannot read {}: the file shrank while it was read, expected {} bytes, got {}",
                            path().string(), map_bytes_, size));
        const bool bad = convert_block(first + done, n, out + done * cols_);
        if (bad && check) throw_not_finite(first + done, n, out + done * cols_);
        // The kernel maps 64 KiB around each fault: in Fortran order each column costs as much.
        release_pages(n * row_bytes + (header_.fortran_order ? cols_ << 16 : 0));
    }
}

template <class T> bool SampleFile::convert_block(std::size_t first, std::size_t count, T* out) const {
    const ConvertRun<T> convert_run = converter<T>(header_.type);
    const auto bytes = static_cast<std::size_t>(header_.type.bytes);
    const std::byte* data = map_ + header_.data_offset;
    if (!header_.fortran_order) return convert_run(data + first * cols_ * bytes, count * cols_, out);
    const std::span<const std::size_t> axes = std::span(header_.shape).subspan(1);
    bool bad = false;
    T columns[abreast][run];
    for (std::size_t i = 0; i < count; i += run) {
        const std::size_t n = std::min(run, count - i);
        for (std::size_t j = 0; j < cols_; j += abreast) {
            const std::size_t width = std::min(abreast, cols_ - j);
            for (std::size_t c = 0; c < width; ++c)
                bad |= convert_run(data + (fortran_column(axes, cols_, j + c) * rows_ + first + i) * bytes, n,
                                   columns[c]);
            for (std::size_t r = 0; r < n; ++r)
                for (std::size_t c = 0; c < width; ++c) out[(i + r) * cols_ + j + c] = columns[c][r];
        }
    }
    return bad;
}

template <class T>
void SampleFile::throw_not_finite(std::size_t first, std::size_t count, const T* values) const {
    std::size_t k = 0;
    while (k + 1 < count * cols_ && std::isfinite(values[k])) ++k;
    const std::size_t row = first + k / cols_, column = k % cols_;
    std::vector<double> exact(cols_);
    convert_block(row, 1, exact.data());
    reject(path(),
           fmt::format("row {}, column {} (counted from 0): expected a finite {}, got {}", row, column,
                       std::isfinite(exact[column]) ? "number in the range of float32" : "number",
                       exact[column]));
}

void SampleFile::release_pages(std::uint64_t touched) const {
    if (touched_.fetch_add(touched, std::memory_order_relaxed) + touched < released_bytes) return;
    touched_.store(0, std::memory_order_relaxed);
    // Drops this process's view only; another thread that is reading faults its pages in again.
    ::madvise(const_cast<std::byte*>(map_), map_bytes_, MADV_DONTNEED);
}

std::uint64_t SampleFile::fingerprint() const {
    struct stat status;
    if (::fstat(file_.descriptor(), &status) != 0)
        throw Error(ErrorKind::io, fmt::format("cannot read {}: fstat: {}", path().string(),
                                               std::generic_category().message(errno)));
    const auto size = static_cast<std::uint64_t>(status.st_size);
    const std::int64_t facts[] = {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
    const std::uint64_t end = std::min(size, std::max<std::uint64_t>(header_.data_offset, 1u << 16));
    std::vector<std::byte> head(static_cast<std::size_t>(end)),
        tail(static_cast<std::size_t>(std::min<std::uint64_t>(size, 1u << 16)));
    file_.read_at(0, head);
    file_.read_at(size - tail.size(), tail);
    return checksum(tail, checksum(head, checksum(std::as_bytes(std::span(facts)))));
}

Array<double> read_npy(const std::filesystem::path& path, bool any) {
    const SampleFile file(path);
    Array<double> values;
    try {
        values = Array<double>(file.rows(), file.cols());
    } catch (const std::bad_alloc&) {
        throw Error(ErrorKind::io, fmt::format("cannot read {}: not enough memory for {} x {} numbers",
                                               path.string(), file.rows(), file.cols()));
    }
    any ? file.read_any(0, file.rows(), values.data()) : file.read(0, file.rows(), values.data());
    return values;
}

namespace {

/// Version 1.0, padded with spaces so that the data start at a multiple of 64 bytes, as NumPy writes it.
std::string header_text(std::span<const std::size_t> shape, int bytes_per_number) {
    std::string dict = fmt::format("{{'descr': '<f{}', 'fortran_order': False, 'shape': {}, }}",
                                   bytes_per_number, shape_text(shape));
    dict.append((64 - (dict.size() + 11) % 64) % 64, ' ');
    dict += '\n';
    std::string text(magic);
    for (const std::size_t byte : {std::size_t{1}, std::size_t{0}, dict.size() % 256, dict.size() / 256})
        text += static_cast<char>(byte);
    return text + dict;
}

} // namespace

NpyWriter::NpyWriter(const std::filesystem::path& path, std::vector<std::size_t> shape, int bytes_per_number,
                     OutputFile::Mode mode)
    : file_(path, mode), bytes_per_number_(bytes_per_number) {
    bool overflow = false;
    const std::uint64_t bytes = product(shape, static_cast<std::uint64_t>(bytes_per_number), overflow);
    require((bytes_per_number == 4 || bytes_per_number == 8) && !shape.empty() &&
                shape.size() <= largest_rank && !overflow && bytes <= INT64_MAX / 2,
            ErrorKind::usage,
            fmt::format("{}: expected 4 or 8 bytes per number and a shape of 1 to {} axes, got {} and {}",
                        path.string(), largest_rank, bytes_per_number, shape_text(shape)));
    rows_ = shape[0];
    cols_ = static_cast<std::size_t>(product(std::span(shape).subspan(1), 1, overflow));
    const std::string header = header_text(shape, bytes_per_number);
    data_offset_ = header.size();
    if (mode == OutputFile::Mode::create) {
        file_.append(header);
        return;
    }
    file_.keep(); // what an earlier run has written is not to be lost to a failure of this one
    std::string found(static_cast<std::size_t>(std::min<std::uint64_t>(file_.size(), header.size())), '\0');
    file_.read_at(0, std::as_writable_bytes(std::span(found)));
    if (found != header || file_.size() > data_offset_ + bytes)
        reject(path, fmt::format("cannot resume: the partial file is not a .npy of shape {} of <f{}",
                                 shape_text(shape), bytes_per_number));
}

void NpyWriter::write(std::size_t first_row, std::size_t count, const float* rows) {
    write_rows(first_row, count, rows);
}
void NpyWriter::write(std::size_t first_row, std::size_t count, const double* rows) {
    write_rows(first_row, count, rows);
}

template <class T> void NpyWriter::write_rows(std::size_t first_row, std::size_t count, const T* rows) {
    if (first_row > rows_ || count > rows_ - first_row)
        throw Error(ErrorKind::usage, fmt::format("{}: rows {} + {} written, expected at most {}",
                                                  path().string(), first_row, count, rows_));
    const auto bytes = static_cast<std::size_t>(bytes_per_number_);
    const std::uint64_t offset = data_offset_ + first_row * cols_ * bytes;
    const std::size_t size = count * cols_;
    if (bytes == sizeof(T)) return file_.write_at(offset, std::as_bytes(std::span(rows, size)));
    using Other = std::conditional_t<sizeof(T) == 8, float, double>;
    std::vector<Other> piece(std::min<std::size_t>(size, 1u << 16));
    for (std::size_t start = 0; start < size; start += piece.size()) {
        const std::size_t n = std::min(piece.size(), size - start);
        for (std::size_t i = 0; i < n; ++i) piece[i] = static_cast<Other>(rows[start + i]);
        file_.write_at(offset + start * bytes, std::as_bytes(std::span(piece.data(), n)));
    }
}

std::size_t NpyWriter::rows_present() const {
    const std::uint64_t row_bytes = cols_ * static_cast<std::uint64_t>(bytes_per_number_);
    return row_bytes == 0 ? rows_ : static_cast<std::size_t>((file_.size() - data_offset_) / row_bytes);
}

void NpyWriter::require_rows_present(std::size_t rows) const {
    if (rows_present() < rows)
        throw Error(ErrorKind::io, fmt::format("{}.partial: {} rows, and the checkpoint was saved after {}: "
                                               "delete the checkpoint to start again",
                                               path().string(), rows_present(), rows));
}

void NpyWriter::commit() {
    if (rows_present() < rows_)
        throw Error(ErrorKind::usage, fmt::format("{}: expected {} rows before commit, got {}",
                                                  path().string(), rows_, rows_present()));
    file_.commit();
}

namespace {

template <class T> void write_array(const std::filesystem::path& path, const Array<T>& values, bool flat) {
    std::vector<std::size_t> shape{values.rows()};
    if (!flat || values.cols() != 1) shape.push_back(values.cols());
    NpyWriter writer(path, shape, sizeof(T));
    writer.write(0, values.rows(), values.data());
    writer.commit();
}

} // namespace

void write_npy(const std::filesystem::path& path, const Array<double>& values, bool flat) {
    write_array(path, values, flat);
}
void write_npy(const std::filesystem::path& path, const Array<float>& values, bool flat) {
    write_array(path, values, flat);
}

} // namespace dynkin

// npy.h - NumPy .npy files: samples in by memory map, in any byte order and memory order; results out.
#pragma once
#include "array.h"
#include "file.h"
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace dynkin {

/// Element types that can be read: floats of 2 (no), 4 and 8 bytes, signed and unsigned integers of 1 to 8
/// bytes, bool.
struct NpyType {
    char kind = 'f'; ///< 'f', 'i', 'u', 'b'
    int bytes = 8;
    bool swapped = false;      ///< byte order differs from this machine's
    std::string descr() const; ///< e.g. "<f4"
};

struct NpyHeader {
    NpyType type;
    bool fortran_order = false;
    std::vector<std::size_t> shape;
    std::uint64_t data_offset = 0;
};

/// A set of samples in a .npy file of shape (N), (N, d) or (N, *lattice): N rows of d numbers (d = 1 for
/// shape (N)). The file is mapped, never loaded: read() converts the rows asked for and releases the pages
/// behind it, so that memory stays below about 64 MiB plus one read. In Fortran order, read many rows at a
/// time (each column is a run).
class SampleFile {
  public:
    /// Throws Error(io) if it cannot be opened (missing, a directory, a pipe, no permission), Error(input) if
    /// the content is not a valid .npy of a numeric type: the message names file, what was expected and what
    /// was found (empty file, magic, header length > 64 KiB, shape overflow, dtype, truncated data, trailing
    /// bytes, no rows, no columns).
    explicit SampleFile(const std::filesystem::path& path);
    ~SampleFile();
    SampleFile(SampleFile&& other) noexcept;
    SampleFile& operator=(SampleFile&&) = delete;

    std::size_t rows() const { return rows_; }
    std::size_t cols() const { return cols_; }
    const NpyHeader& header() const { return header_; }
    const std::filesystem::path& path() const { return file_.path(); }
    /// The trailing axes: (8, 8) for shape (N, 8, 8); (d) for shape (N, d); empty for shape (N).
    std::vector<std::size_t> sample_shape() const;

    /// Rows [first, first + count) as row-major doubles or floats. Throws Error(input) at the first NaN or
    /// Inf (or number beyond the range of a float), naming file, row and column, both counted from 0 (the
    /// column in C order of the trailing axes); Error(io) when the file has shrunk since it was opened.
    /// Integers beyond 2^53 (2^24 for float) are rounded. Safe to call from several threads.
    void read(std::size_t first, std::size_t count, double* out) const;
    void read(std::size_t first, std::size_t count, float* out) const;
    /// Like read(), but NaN and Inf are passed on.
    void read_any(std::size_t first, std::size_t count, double* out) const;

    /// Changes when the content changes in all likelihood (size, modification time, header, first and last 64
    /// KiB): what --resume compares.
    std::uint64_t fingerprint() const;

  private:
    template <class T> void convert(std::size_t first, std::size_t count, T* out, bool check) const;
    template <class T> bool convert_block(std::size_t first, std::size_t count, T* out) const;
    template <class T> void throw_not_finite(std::size_t first, std::size_t count, const T* values) const;
    void release_pages(std::uint64_t touched) const;

    InputFile file_;
    NpyHeader header_;
    std::size_t rows_ = 0, cols_ = 1;
    const std::byte* map_ = nullptr;
    std::uint64_t map_bytes_ = 0;
    mutable std::atomic<std::uint64_t> touched_{0}; ///< bytes mapped in since the last release
};

/// All rows of a file as doubles (for files that fit; N x d). NaN and Inf: as read(), or passed on when `any`
/// is set (log densities are -inf outside the box).
Array<double> read_npy(const std::filesystem::path& path, bool any = false);

/// Writes rows of a C-order little-endian .npy (f4 or f8) in any order of rows, then commit(). The row count
/// is fixed at construction; a file resumed keeps the rows already written, and must have the same header
/// (Error(input) otherwise; Error(io) when there is no partial file), and is kept on failure. Doubles beyond
/// the range of a float become infinite in f4.
class NpyWriter {
  public:
    NpyWriter(const std::filesystem::path& path, std::vector<std::size_t> shape, int bytes_per_number,
              OutputFile::Mode mode = OutputFile::Mode::create);
    void write(std::size_t first_row, std::size_t count,
               const float* rows); ///< converted when the file is f8
    void write(std::size_t first_row, std::size_t count,
               const double* rows); ///< converted when the file is f4
    void sync() { file_.sync(); }
    void keep() { file_.keep(); }
    void commit(); ///< throws Error(usage) when the last row has not been written
    /// Rows that the partial file reaches to: a resumed run must find those its checkpoint counts on. (Rows
    /// written out of order leave holes that are counted.)
    std::size_t rows_present() const;
    /// Throws Error(io) where there are fewer.
    void require_rows_present(std::size_t rows) const;
    const std::filesystem::path& path() const { return file_.path(); }

  private:
    template <class T> void write_rows(std::size_t first_row, std::size_t count, const T* rows);
    OutputFile file_;
    std::uint64_t data_offset_ = 0;
    std::size_t cols_ = 1, rows_ = 0;
    int bytes_per_number_;
};

/// Writes a whole array of shape (rows, cols), or (rows) when cols == 1 and `flat`.
void write_npy(const std::filesystem::path& path, const Array<double>& values, bool flat = false);
void write_npy(const std::filesystem::path& path, const Array<float>& values, bool flat = false);

} // namespace dynkin

// file.h - files that are either complete or absent: temporary name, fsync, rename; and checked reads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace dynkin {

/// A file that is being written under `path + ".partial"` and gets its name by commit(). Every failure throws
/// Error(io) with the path, the call and the system's reason. Without commit() the destructor removes the
/// partial file, unless keep() was called (work that will be resumed).
class OutputFile {
  public:
    enum class Mode { create, resume }; ///< resume: open an existing partial file, keep its bytes
    explicit OutputFile(std::filesystem::path path, Mode mode = Mode::create);
    ~OutputFile();
    OutputFile(OutputFile&& other) noexcept;
    OutputFile& operator=(OutputFile&&) = delete;

    void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
    void append(std::span<const std::byte> bytes);
    void append(std::string_view text);
    std::uint64_t size() const; ///< bytes in the partial file
    void truncate(std::uint64_t size);
    void sync();
    void keep() { keep_ = true; }
    void commit(); ///< fsync, rename over `path`, fsync the folder
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_, partial_;
    int descriptor_ = -1;
    std::uint64_t end_ = 0;
    bool keep_ = false;
};

/// Writes a whole text or binary file by way of OutputFile.
void write_file(const std::filesystem::path& path, std::string_view content);

/// Reads a whole file of at most `limit` bytes. Throws Error(io) when it cannot be opened or read or is a
/// directory, Error(input) when it is larger than the limit.
std::string read_file(const std::filesystem::path& path, std::uint64_t limit = 1u << 26);

/// Fails with Error(io) at once when `path` could not be written later: folder missing, a directory, no permission.
void require_writable(const std::filesystem::path& path);

/// 64-bit checksum (XXH64-like quality is enough; stable across machines) used by model files and checkpoints.
std::uint64_t checksum(std::span<const std::byte> bytes, std::uint64_t seed = 0);

} // namespace dynkin

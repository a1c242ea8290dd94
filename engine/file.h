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
/// A path that names a character device or a pipe (/dev/null, /dev/stdout) is written directly, without a
/// partial file; a pipe must be written in order. A symbolic link stays, the file that it names is replaced.
/// The partial file is locked (flock): a second writer of the same path is refused. Not for use by two
/// threads at once.
class OutputFile {
  public:
    enum class Mode {
        create,
        resume
    }; ///< resume: open an existing partial file, keep its bytes; Error(io) if absent
    explicit OutputFile(std::filesystem::path path, Mode mode = Mode::create);
    ~OutputFile();
    OutputFile(OutputFile&& other) noexcept;
    OutputFile& operator=(OutputFile&&) = delete;

    void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
    void append(std::span<const std::byte> bytes);
    void append(std::string_view text);
    void read_at(std::uint64_t offset, std::span<std::byte> bytes) const; ///< what the partial file holds
    std::uint64_t size() const { return end_; }                           ///< bytes in the partial file
    void truncate(std::uint64_t size);
    void sync();
    void keep() { keep_ = true; }
    /// fsync, rename over `path`, fsync the folder. If the rename fails the partial file, complete, is kept.
    void commit();
    const std::filesystem::path& path() const { return path_; }

  private:
    void open_stream(Mode mode);
    void open_partial(Mode mode);

    std::filesystem::path path_, target_,
        partial_; // as asked; with links followed; empty when written directly
    int descriptor_ = -1;
    std::uint64_t end_ = 0;
    bool keep_ = false, seekable_ = true;
};

/// A regular file opened for reading at any offset, from any thread. Directories, pipes and devices are
/// refused.
class InputFile {
  public:
    explicit InputFile(std::filesystem::path path); ///< throws Error(io)
    ~InputFile();
    InputFile(InputFile&& other) noexcept;
    InputFile& operator=(InputFile&&) = delete;

    const std::filesystem::path& path() const { return path_; }
    int descriptor() const { return descriptor_; }
    std::uint64_t size() const; ///< now: another program may truncate the file at any time
    /// Throws Error(io) when it cannot be read or ends before the last byte asked for.
    void read_at(std::uint64_t offset, std::span<std::byte> bytes) const;

  private:
    std::filesystem::path path_;
    int descriptor_ = -1;
};

/// Writes a whole text or binary file by way of OutputFile.
void write_file(const std::filesystem::path& path, std::string_view content);

/// Reads a whole file (or pipe) of at most `limit` bytes. Throws Error(io) when it cannot be opened or read
/// or is a directory, Error(input) when it is larger than the limit.
std::string read_file(const std::filesystem::path& path, std::uint64_t limit = 1u << 26);

/// Fails with Error(io) at once when `path` could not be written later: folder missing, a directory, no
/// permission.
void require_writable(const std::filesystem::path& path);

/// XXH64 (docs/formats.md): a 64-bit checksum, the same on every machine, used by model files and
/// checkpoints. Finds damage, not forgery.
std::uint64_t checksum(std::span<const std::byte> bytes, std::uint64_t seed = 0);
std::uint64_t checksum(std::string_view text, std::uint64_t seed = 0);

/// Text found in a file, made fit for a message of one line: quoted, control and non-ASCII bytes replaced by
/// '?', cut short after `limit` bytes.
std::string excerpt(std::string_view text, std::size_t limit = 60);

} // namespace dynkin

// file.cpp - POSIX files behind checked calls: every failure names the path, the call and the system's
// reason.
#include "engine/file.h"
#include "engine/error.h"
#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace dynkin {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t largest_transfer = 1u << 30; // Linux moves at most 2 GiB - 4 KiB per call

[[noreturn]] void fail(const char* verb, const fs::path& path, std::string_view reason) {
    throw Error(ErrorKind::io, fmt::format("cannot {} {}: {}", verb, path.string(), reason));
}

[[noreturn]] void fail(const char* verb, const fs::path& path, const char* call, int error) {
    fail(verb, path, fmt::format("{}: {}", call, std::generic_category().message(error)));
}

/// Closes on scope exit unless released.
struct Descriptor {
    int value;
    explicit Descriptor(int descriptor) : value(descriptor) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (value >= 0) ::close(value);
    }
    int release() { return std::exchange(value, -1); }
};

/// Calls until no signal interrupts the call.
template <class Call> int uninterrupted(const Call& call) {
    int result;
    do result = call();
    while (result < 0 && errno == EINTR);
    return result;
}

int open_file(const fs::path& path, int flags) {
    return uninterrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0666); });
}

fs::path folder_of(const fs::path& path) {
    return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// /dev/stdout and its like lead into /proc, where names stand for open descriptors and nothing can be
/// renamed.
bool names_descriptor(const fs::path& path) {
    std::error_code error;
    return fs::canonical(folder_of(path), error).string().starts_with("/proc/");
}

fs::path follow_links(const fs::path& path) {
    fs::path name = path;
    std::error_code error;
    for (int i = 0; i < 40 && fs::is_symlink(name, error) && !names_descriptor(name); ++i) {
        const fs::path link = fs::read_symlink(name, error);
        if (error) break;
        name = link.is_absolute() ? link : folder_of(name) / link;
    }
    return name;
}

struct Place {
    fs::path target, partial; // partial empty: the target is a stream, written directly
};

void require_folder(const fs::path& path, const fs::path& folder) {
    struct stat status;
    if (::stat(folder.c_str(), &status) != 0) {
        if (errno == ENOENT)
            fail("write", path, fmt::format("the folder {} does not exist", folder.string()));
        fail("write", path, "stat", errno);
    }
    if (::access(folder.c_str(), W_OK | X_OK) != 0)
        fail("write", path, fmt::format("folder {}: access", folder.string()).c_str(), errno);
}

/// Where output for `path` goes; throws when it cannot go there.
Place place_of(const fs::path& path) {
    if (path.empty()) fail("write", "''", "the path is empty");
    Place place{follow_links(path), {}};
    struct stat status;
    if (::stat(place.target.c_str(), &status) == 0) {
        if (S_ISDIR(status.st_mode)) fail("write", path, "it is a directory");
        if (S_ISBLK(status.st_mode) || S_ISSOCK(status.st_mode))
            fail("write", path, "it is a block device or a socket, expected a file");
        if (::access(place.target.c_str(), W_OK) != 0) fail("write", path, "access", errno);
        if (!S_ISREG(status.st_mode) || names_descriptor(place.target)) return place;
    } else if (errno != ENOENT) {
        fail("write", path, "stat", errno);
    }
    place.partial = place.target;
    place.partial += ".partial";
    require_folder(path, folder_of(place.target));
    if (::lstat(place.partial.c_str(), &status) == 0) {
        if (!S_ISREG(status.st_mode))
            fail("write", path, fmt::format("{} is in the way and not a file", place.partial.string()));
    } else if (errno != ENOENT) {
        fail("write", path, "stat", errno);
    }
    return place;
}

/// A rename is on disk once its folder is. Folders that cannot be opened or synced (some network file
/// systems) are left to the system: the file has its name already.
void sync_folder(const fs::path& path, const fs::path& folder) {
    Descriptor descriptor(open_file(folder, O_RDONLY | O_DIRECTORY));
    if (descriptor.value >= 0 && uninterrupted([&] { return ::fsync(descriptor.value); }) != 0 &&
        errno == EIO)
        fail("write", path, "fsync of its folder", errno);
}

void read_fully(int descriptor, const fs::path& path, std::uint64_t offset, std::span<std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t got = ::pread(descriptor, bytes.data(), std::min(bytes.size(), largest_transfer),
                                    static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail("read", path, "pread", errno);
        if (got == 0)
            fail("read", path,
                 fmt::format("expected {} more bytes at byte {}, got the end of the file", bytes.size(),
                             offset));
        offset += static_cast<std::uint64_t>(got);
        bytes = bytes.subspan(static_cast<std::size_t>(got));
    }
}

} // namespace

OutputFile::OutputFile(fs::path path, Mode mode) : path_(std::move(path)) {
    Place place = place_of(path_);
    target_ = std::move(place.target);
    partial_ = std::move(place.partial);
    partial_.empty() ? open_stream(mode) : open_partial(mode);
}

void OutputFile::open_stream(Mode mode) {
    if (mode == Mode::resume) fail("resume", path_, "it is a device or a pipe, which keeps nothing");
    descriptor_ = open_file(target_, O_WRONLY | O_TRUNC);
    if (descriptor_ < 0) fail("write", path_, "open", errno);
    seekable_ = ::lseek(descriptor_, 0, SEEK_CUR) >= 0;
}

void OutputFile::open_partial(Mode mode) {
    const bool resume = mode == Mode::resume;
    for (;;) {
        // O_NONBLOCK has no effect on a file; it keeps a pipe put there meanwhile from blocking for ever.
        Descriptor descriptor(open_file(partial_, O_RDWR | O_NOFOLLOW | O_NONBLOCK | (resume ? 0 : O_CREAT)));
        if (descriptor.value < 0)
            fail(resume ? "resume" : "write", path_, ("open " + partial_.string()).c_str(), errno);
        if (::flock(descriptor.value, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
            fail("write", path_, fmt::format("{} is being written by another process", partial_.string()));
        struct stat opened, named;
        if (::fstat(descriptor.value, &opened) != 0) fail("write", path_, "fstat", errno);
        // Another writer may have renamed or removed the file between open and flock: then this is not the
        // partial file any more, but a finished output, and must not be touched.
        if (::lstat(partial_.c_str(), &named) != 0 || named.st_ino != opened.st_ino ||
            named.st_dev != opened.st_dev)
            continue;
        if (!resume && uninterrupted([&] { return ::ftruncate(descriptor.value, 0); }) != 0) {
            const int error = errno;
            ::unlink(partial_.c_str());
            fail("write", path_, "ftruncate", error);
        }
        end_ = resume ? static_cast<std::uint64_t>(opened.st_size) : 0;
        descriptor_ = descriptor.release();
        return;
    }
}

OutputFile::~OutputFile() {
    if (descriptor_ < 0) return;
    if (!keep_ && !partial_.empty()) ::unlink(partial_.c_str());
    ::close(descriptor_);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), target_(std::move(other.target_)), partial_(std::move(other.partial_)),
      descriptor_(std::exchange(other.descriptor_, -1)), end_(other.end_), keep_(other.keep_),
      seekable_(other.seekable_) {}

void OutputFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
    if (!seekable_ && offset != end_)
        fail("write", path_,
             fmt::format("a pipe is written in order, expected byte {} next, got {}", end_, offset));
    while (!bytes.empty()) {
        const std::size_t count = std::min(bytes.size(), largest_transfer);
        const ssize_t written = seekable_
                                    ? ::pwrite(descriptor_, bytes.data(), count, static_cast<off_t>(offset))
                                    : ::write(descriptor_, bytes.data(), count);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) fail("write", path_, "write", written < 0 ? errno : EIO);
        offset += static_cast<std::uint64_t>(written);
        end_ = std::max(end_, offset);
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

void OutputFile::append(std::span<const std::byte> bytes) { write_at(end_, bytes); }
void OutputFile::append(std::string_view text) { append(std::as_bytes(std::span(text))); }

void OutputFile::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
    read_fully(descriptor_, partial_, offset, bytes);
}

void OutputFile::truncate(std::uint64_t size) {
    if (uninterrupted([&] { return ::ftruncate(descriptor_, static_cast<off_t>(size)); }) != 0)
        fail("write", path_, "ftruncate", errno);
    end_ = size;
}

void OutputFile::sync() {
    if (partial_.empty()) return; // devices and pipes have nothing to sync
    if (uninterrupted([&] { return ::fsync(descriptor_); }) != 0) fail("write", path_, "fsync", errno);
}

void OutputFile::commit() {
    sync();
    if (!partial_.empty() && ::rename(partial_.c_str(), target_.c_str()) != 0) {
        const int error = errno;
        keep_ = true;
        fail("write", path_,
             fmt::format("rename: {}; the complete data stay in {}", std::generic_category().message(error),
                         partial_.string()));
    }
    // Errors of written data have come out of fsync; a stream has no such call, so its close is checked.
    const int status = ::close(std::exchange(descriptor_, -1));
    if (partial_.empty() && status != 0 && errno != EINTR) fail("write", path_, "close", errno);
    if (!partial_.empty()) sync_folder(path_, folder_of(target_));
}

InputFile::InputFile(fs::path path) : path_(std::move(path)) {
    // O_NONBLOCK: opening a pipe without a writer must fail below, not wait.
    Descriptor descriptor(open_file(path_, O_RDONLY | O_NONBLOCK));
    if (descriptor.value < 0) fail("open", path_, "open", errno);
    struct stat status;
    if (::fstat(descriptor.value, &status) != 0) fail("open", path_, "fstat", errno);
    if (S_ISDIR(status.st_mode)) fail("read", path_, "it is a directory, expected a file");
    if (!S_ISREG(status.st_mode))
        fail("read", path_,
             S_ISFIFO(status.st_mode) ? "it is a pipe, expected a regular file"
                                      : "it is a device or a socket, expected a regular file");
    descriptor_ = descriptor.release();
}

InputFile::~InputFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

std::uint64_t InputFile::size() const {
    struct stat status;
    if (::fstat(descriptor_, &status) != 0) fail("read", path_, "fstat", errno);
    return static_cast<std::uint64_t>(status.st_size);
}

void InputFile::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
    read_fully(descriptor_, path_, offset, bytes);
}

void write_file(const fs::path& path, std::string_view content) {
    OutputFile file(path);
    file.append(content);
    file.commit();
}

std::string read_file(const fs::path& path, std::uint64_t limit) {
    Descriptor descriptor(open_file(path, O_RDONLY));
    if (descriptor.value < 0) fail("open", path, "open", errno);
    struct stat status;
    if (::fstat(descriptor.value, &status) != 0) fail("read", path, "fstat", errno);
    if (S_ISDIR(status.st_mode)) fail("read", path, "it is a directory, expected a file");
    const auto too_large = [&](std::string_view got) {
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected at most {} bytes, got {}", path.string(), limit, got));
    };
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size > limit) too_large(fmt::format("{}", size));
    std::string content;
    content.reserve(static_cast<std::size_t>(size));
    char buffer[1 << 16];
    for (;;) { // read to the end whatever fstat said: pipes and /proc have no size
        const ssize_t got = ::read(descriptor.value, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail("read", path, "read", errno);
        if (got == 0) return content;
        if (static_cast<std::uint64_t>(got) > limit - content.size()) too_large("more");
        content.append(buffer, static_cast<std::size_t>(got));
    }
}

void require_writable(const fs::path& path) { place_of(path); }

namespace {

constexpr std::uint64_t prime1 = 0x9E3779B185EBCA87, prime2 = 0xC2B2AE3D27D4EB4F, prime3 = 0x165667B19E3779F9,
                        prime4 = 0x85EBCA77C2B2AE63, prime5 = 0x27D4EB2F165667C5;

template <class T> T load_little(const std::byte* bytes) {
    T value;
    std::memcpy(&value, bytes, sizeof value);
    if constexpr (std::endian::native == std::endian::big)
        value = sizeof(T) == 8 ? static_cast<T>(__builtin_bswap64(value))
                               : static_cast<T>(__builtin_bswap32(static_cast<std::uint32_t>(value)));
    return value;
}

std::uint64_t mix(std::uint64_t lane, std::uint64_t word) {
    return std::rotl(lane + word * prime2, 31) * prime1;
}

/// The four lanes over all whole blocks of 32 bytes, joined. Advances `bytes`.
std::uint64_t mix_blocks(std::span<const std::byte>& bytes, std::uint64_t seed) {
    std::uint64_t lane[4] = {seed + prime1 + prime2, seed + prime2, seed, seed - prime1};
    const std::byte* at = bytes.data();
    for (const std::byte* end = at + bytes.size() / 32 * 32; at != end; at += 32)
        for (std::size_t k = 0; k < 4; ++k) lane[k] = mix(lane[k], load_little<std::uint64_t>(at + 8 * k));
    bytes = bytes.last(bytes.size() % 32);
    std::uint64_t hash =
        std::rotl(lane[0], 1) + std::rotl(lane[1], 7) + std::rotl(lane[2], 12) + std::rotl(lane[3], 18);
    for (const std::uint64_t each : lane) hash = (hash ^ mix(0, each)) * prime1 + prime4;
    return hash;
}

} // namespace

std::uint64_t checksum(std::span<const std::byte> bytes, std::uint64_t seed) {
    const std::uint64_t length = bytes.size();
    std::uint64_t hash = (length >= 32 ? mix_blocks(bytes, seed) : seed + prime5) + length;
    const std::byte* at = bytes.data();
    const std::byte* const end = at + bytes.size();
    for (; end - at >= 8; at += 8)
        hash = std::rotl(hash ^ mix(0, load_little<std::uint64_t>(at)), 27) * prime1 + prime4;
    for (; end - at >= 4; at += 4)
        hash = std::rotl(hash ^ (load_little<std::uint32_t>(at) * prime1), 23) * prime2 + prime3;
    for (; at != end; ++at) hash = std::rotl(hash ^ (static_cast<std::uint64_t>(*at) * prime5), 11) * prime1;
    hash = (hash ^ (hash >> 33)) * prime2;
    hash = (hash ^ (hash >> 29)) * prime3;
    return hash ^ (hash >> 32);
}

std::uint64_t checksum(std::string_view text, std::uint64_t seed) {
    return checksum(std::as_bytes(std::span(text)), seed);
}

std::string excerpt(std::string_view text, std::size_t limit) {
    std::string line = "'";
    for (const char c : text.substr(0, limit)) line += c >= ' ' && c != '\x7f' ? c : '?';
    return line + (text.size() > limit ? "...'" : "'");
}

} // namespace dynkin

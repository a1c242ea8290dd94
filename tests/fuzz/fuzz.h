// fuzz.h - what the targets share: a file that lives in memory, and which exceptions a reader may throw.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace dynkin::fuzz {

using Bytes = std::span<const std::uint8_t>;

inline std::string_view text(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A folder in /dev/shm that goes away with the process.
class Folder {
  public:
    Folder();
    ~Folder();
    std::string path(const char* name) const { return path_ + "/" + name; }
    /// Writes a file there and returns its path.
    std::string write(const char* name, std::string_view content) const;

  private:
    std::string path_;
};

/// Runs a reader. Wrong content must throw Error(input) with one printable line; everything else ends the
/// process. Returns the message, or "".
std::string expect_input_error(const std::function<void()>& read);

/// A tensor file changed in one place that keeps its layout and checksum: a number, a length, a text, a
/// tensor less or twice. Returns its size in `data`, at most `capacity`; 0 when `data` is no such file or
/// does not fit.
std::size_t mutate_tensors(const Folder& folder, std::uint8_t* data, std::size_t size, std::size_t capacity,
                           unsigned seed);

} // namespace dynkin::fuzz

// error.h - the one exception type of the library, and the signal that interrupts long work.
#pragma once
#include <stdexcept>
#include <string>

namespace dynkin {

/// The class of a failure; the value is the exit code of the command-line program. io: a file, or the device,
/// does not do what it is asked.
enum class ErrorKind { usage = 2, input = 3, numerical = 4, io = 5 };

/// What every public function throws: one line that names the place, what was expected and what was got.
class Error : public std::runtime_error {
  public:
    Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
    ErrorKind kind() const { return kind_; }

  private:
    ErrorKind kind_;
};

/// Thrown out of long work after SIGINT or SIGTERM, once the checkpoint is on disk.
class Interrupted : public std::runtime_error {
  public:
    explicit Interrupted(int signal) : std::runtime_error("interrupted"), signal_(signal) {}
    int signal() const { return signal_; }

  private:
    int signal_;
};

/// Throws Error(kind, message) unless the condition holds. Build costly messages with `if (...) throw`
/// instead.
inline void require(bool condition, ErrorKind kind, const std::string& message) {
    if (!condition) throw Error(kind, message);
}

} // namespace dynkin

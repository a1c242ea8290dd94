// progress.h - progress of one stage of long work, and the place where it may be interrupted.
#pragma once
#include "context.h"
#include <chrono>
#include <cstdint>

namespace dynkin {

/// Counts units of one stage and passes reports on to the context: one at the start, then at most ten a
/// second, and one at the end. To be used by the thread that made it only (inside a parallel region: by
/// nobody).
class Progress {
  public:
    Progress(const Context& context, const char* stage, std::uint64_t total);
    ~Progress(); ///< reports the end of the stage if it was reached
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void advance(std::uint64_t units); ///< counts stop at the total
    void set(std::uint64_t done);      ///< e.g. where a resumed run starts
    /// True once SIGINT or SIGTERM has arrived: write the checkpoint, then call throw_interrupted().
    bool interrupted() const { return context_.interrupt_signal() != 0; }
    [[noreturn]] void throw_interrupted() const; ///< Interrupted, with the signal

  private:
    void report_if_due();

    const Context& context_;
    const char* stage_;
    std::uint64_t done_ = 0, total_, reported_ = 0;
    std::chrono::steady_clock::time_point last_;
};

} // namespace dynkin

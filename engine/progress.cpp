// progress.cpp - rate-limited reports of one stage.
#include "engine/progress.h"
#include "engine/error.h"
#include <algorithm>

namespace dynkin {
namespace {
constexpr std::chrono::milliseconds report_interval{100};
}

Progress::Progress(const Context& context, const char* stage, std::uint64_t total)
    : context_(context), stage_(stage), total_(total), last_(std::chrono::steady_clock::now()) {
    context_.report(stage_, 0, total_);
}

Progress::~Progress() {
    if (done_ != total_ || reported_ == total_) return;
    try {
        context_.report(stage_, done_, total_);
    } catch (...) { // a display that fails must not end the work it displays
    }
}

void Progress::advance(std::uint64_t units) { set(units < total_ - done_ ? done_ + units : total_); }

void Progress::set(std::uint64_t done) {
    done_ = std::min(done, total_);
    report_if_due();
}

void Progress::report_if_due() {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < report_interval) return;
    last_ = now;
    reported_ = done_;
    context_.report(stage_, done_, total_);
}

void Progress::throw_interrupted() const { throw Interrupted(context_.interrupt_signal()); }

} // namespace dynkin

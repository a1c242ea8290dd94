// timing.cpp - clocks of the CPU, and statistics.
#include "timing.h"
#include "engine/error.h"
#include "kernels/device.h"
#include <algorithm>
#include <chrono>
#include <ctime>

namespace dynkin::bench {

using std::size_t;

Spread spread_of(std::vector<double> values) {
    if (values.empty()) return {};
    std::sort(values.begin(), values.end());
    const auto quantile = [&](double share) {
        const double place = share * static_cast<double>(values.size() - 1);
        const auto below = static_cast<size_t>(place), above = std::min(below + 1, values.size() - 1);
        return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
    };
    return {quantile(0.5), values.front(), quantile(0.25), quantile(0.75)};
}

namespace {

double wall_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double processor_now() {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Of the CPU, by both clocks.
class Stopwatch {
  public:
    explicit Stopwatch(int threads) : threads_(threads) {}
    void time(const Run& run, size_t round) {
        const double wall_start = wall_now(), processor_start = processor_now();
        run(round);
        processor_.push_back((processor_now() - processor_start) / threads_);
        wall_.push_back(wall_now() - wall_start);
    }
    Seconds seconds() const { return {spread_of(wall_), spread_of(processor_)}; }

  private:
    int threads_;
    std::vector<double> wall_, processor_;
};

} // namespace

Timer::Timer(const Context& context, int repeats) : context_(context), repeats_(repeats) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda) device_ = make_device_timer(context.device_state());
}

void Timer::begin(const Run& prepare) {
    if (const int signal = context_.interrupt_signal()) throw Interrupted(signal);
    if (prepare) prepare(round_);
}

Seconds Timer::operator()(const Run& run, const Run& prepare) {
    begin(prepare);
    run(round_++);
    std::vector<double> on_device;
    Stopwatch stopwatch(context_.threads());
    for (int k = 0; k < repeats_; ++k, ++round_) {
        begin(prepare);
        if constexpr (built_with_cuda)
            if (device_) {
                on_device.push_back(device_seconds(*device_, run, round_));
                continue;
            }
        stopwatch.time(run, round_);
    }
    return on_device.empty() ? stopwatch.seconds() : Seconds{spread_of(on_device), {}};
}

std::pair<Seconds, Seconds> Timer::in_turn(const Run& run, const Run& prepare, const Run& other) {
    begin(prepare);
    run(round_++), other(0);
    Stopwatch one(context_.threads()), two(context_.threads());
    for (int k = 0; k < repeats_; ++k, ++round_) {
        begin(prepare);
        one.time(run, round_), two.time(other, round_);
    }
    return {one.seconds(), two.seconds()};
}

std::map<std::string, Spread> Timer::parts(const Run& run, const Run& prepare) {
    std::map<std::string, std::vector<double>> times;
    if constexpr (built_with_cuda)
        for (int k = 0; device_ && k < repeats_; ++k, ++round_) {
            begin(prepare);
            for (const auto& [part, seconds] : device_part_seconds(*device_, run, round_))
                times[part].push_back(seconds);
        }
    std::map<std::string, Spread> out;
    for (const auto& [part, seconds] : times) out[part] = spread_of(seconds);
    return out;
}

} // namespace dynkin::bench

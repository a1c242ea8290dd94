// streams.cpp - the part of the CUDA runtime that orders work: streams, events, launches, errors. Work is
// enqueued and runs by settings.schedule, so that a missing wait shows as wrong data.
#include "cuemu.h"
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace cuemu {
namespace {

/// What outlives the handle of an event while streams still refer to it.
struct EventState {
    std::uint64_t recorded = 0, passed = 0; // how many records were enqueued, and have run
    cudaStream_t stream = nullptr;          // of the last record
    bool timed = false;
    double at = 0; // milliseconds
};
using Event = std::shared_ptr<EventState>;

struct Command {
    std::function<void()> work;
    Event awaited{}; // a wait, when set: for record number `record`
    std::uint64_t record = 0;
    bool blocked() const { return awaited && awaited->passed < record; }
};

double milliseconds_now() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double, std::milli>(now).count();
}

} // namespace
} // namespace cuemu

struct CUstream_st {
    std::deque<cuemu::Command> commands;
};
struct CUevent_st {
    cuemu::Event state;
};

namespace cuemu {
namespace {

std::vector<cudaStream_t> streams;
std::vector<cudaEvent_t> events;
cudaError_t last_error = cudaSuccess, sticky_error = cudaSuccess;
std::string explanation; // of the last refusal
cudaError_t explained = cudaSuccess;

template <class T> bool contains(const std::vector<T>& all, T one) {
    return std::find(all.begin(), all.end(), one) != all.end();
}

/// What the work did wrong ends all work, as on a device.
void break_device(const std::string& why) {
    sticky_error = refuse(cudaErrorLaunchFailure, why);
    for (cudaStream_t stream : streams) stream->commands.clear();
}

void run_front(CUstream_st& stream) {
    const Command command = std::move(stream.commands.front());
    stream.commands.pop_front();
    try {
        if (command.work) command.work();
    } catch (const std::exception& error) {
        break_device(error.what());
    }
}

/// Runs what stands before the front command of `stream` by the schedule, and what it waits for, then the
/// command.
void advance(CUstream_st& stream) {
    if (settings.schedule == Schedule::others_first)
        for (cudaStream_t other : streams)
            while (other != &stream && !other->commands.empty() && !other->commands.front().blocked())
                run_front(*other);
    while (!stream.commands.empty() && stream.commands.front().blocked())
        advance(*stream.commands.front().awaited->stream);
    if (!stream.commands.empty()) run_front(stream);
}

cudaError_t enqueue_command(cudaStream_t stream, const char* call, Command command) {
    if (broken()) return broken();
    if (!stream)
        return refuse(cudaErrorInvalidResourceHandle,
                      std::string(call) + ": the default stream is not used here");
    if (!is_stream(stream))
        return refuse(cudaErrorInvalidResourceHandle, std::string(call) + ": not a live stream");
    stream->commands.push_back(std::move(command));
    if (settings.schedule == Schedule::at_once) run_stream(stream);
    return broken();
}

cudaError_t check_event(cudaEvent_t event, const char* call) {
    if (broken()) return broken();
    if (!contains(events, event))
        return refuse(cudaErrorInvalidResourceHandle, std::string(call) + ": not a live event");
    return cudaSuccess;
}

} // namespace

Settings settings_from_environment() {
    Settings s;
    const auto value = [](const char* name) {
        const char* text = std::getenv(name);
        return std::string_view(text ? text : "");
    };
    const auto order = value("DYNKIN_EMULATOR_ORDER"), schedule = value("DYNKIN_EMULATOR_SCHEDULE");
    if (order == "reverse") s.order = Order::reverse;
    if (order == "random") s.order = Order::random;
    if (schedule == "at_once") s.schedule = Schedule::at_once;
    if (schedule == "others_first") s.schedule = Schedule::others_first;
    if (value("DYNKIN_EMULATOR_DEVICES") == "0") s.devices = 0;
    s.digest = !value("DYNKIN_EMULATOR_DIGEST").empty();
    return s;
}
Settings settings = settings_from_environment();
Statistics statistics;

void reset() {
    settings = settings_from_environment();
    last_error = sticky_error = explained = cudaSuccess;
    for (cudaStream_t stream : streams) stream->commands.clear();
}

cudaError_t refuse(cudaError_t status, const std::string& why) {
    explanation = std::string("emulator: ") + why;
    explained = status;
    return last_error = status;
}

cudaError_t broken() {
    if (sticky_error) last_error = sticky_error;
    return sticky_error;
}

bool is_stream(cudaStream_t stream) { return contains(streams, stream); }

cudaError_t enqueue_work(cudaStream_t stream, const char* call, std::function<void()> work) {
    return enqueue_command(stream, call, {std::move(work)});
}

void run_stream(cudaStream_t stream) {
    while (!stream->commands.empty()) advance(*stream);
}

void run_everything() {
    for (cudaStream_t stream : streams) run_stream(stream);
}

cudaError_t enqueue_launch(cudaStream_t stream, dim3 grid, dim3 block, std::size_t shared_bytes,
                           std::function<void()> thread) {
    if (broken()) return broken();
    ++statistics.launches;
    if (settings.failing_launch > 0 && --settings.failing_launch == 0)
        return refuse(cudaErrorLaunchOutOfResources, "this launch was to fail");
    const std::size_t threads = std::size_t{block.x} * block.y * block.z;
    if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 || shared_bytes > settings.shared_memory)
        return refuse(cudaErrorInvalidConfiguration, "invalid launch configuration");
    return enqueue_work(stream, "launch",
                        [=, thread = std::move(thread)] { run_grid(grid, block, shared_bytes, thread); });
}

} // namespace cuemu

using namespace cuemu;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    if (broken()) return broken();
    if (flags != cudaStreamNonBlocking)
        return refuse(cudaErrorInvalidValue,
                      "cudaStreamCreateWithFlags: streams here are cudaStreamNonBlocking");
    *stream = new CUstream_st;
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    if (!is_stream(stream))
        return refuse(cudaErrorInvalidResourceHandle, "cudaStreamDestroy: not a live stream");
    run_stream(stream);
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return broken();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (broken()) return broken();
    if (!is_stream(stream))
        return refuse(cudaErrorInvalidResourceHandle, "cudaStreamSynchronize: not a live stream");
    run_stream(stream);
    return broken();
}

cudaError_t cudaDeviceSynchronize() {
    if (!broken()) run_everything();
    return broken();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
    if (broken()) return broken();
    *event = new CUevent_st{std::make_shared<EventState>()};
    (*event)->state->timed = !(flags & cudaEventDisableTiming);
    events.push_back(*event);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    if (!contains(events, event))
        return refuse(cudaErrorInvalidResourceHandle, "cudaEventDestroy: not a live event");
    events.erase(std::find(events.begin(), events.end(), event));
    delete event;
    return broken();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    if (const cudaError_t status = check_event(event, "cudaEventRecord")) return status;
    const Event state = event->state;
    if (is_stream(stream)) ++state->recorded, state->stream = stream;
    return enqueue_work(stream, "cudaEventRecord", [state, record = state->recorded] {
        state->passed = record, state->at = milliseconds_now();
    });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    if (const cudaError_t status = check_event(event, "cudaStreamWaitEvent")) return status;
    return enqueue_command(stream, "cudaStreamWaitEvent", {nullptr, event->state, event->state->recorded});
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (const cudaError_t status = check_event(event, "cudaEventSynchronize")) return status;
    const EventState& state = *event->state;
    while (state.passed < state.recorded && !state.stream->commands.empty()) advance(*state.stream);
    return broken();
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
    for (cudaEvent_t event : {from, to}) {
        if (const cudaError_t status = check_event(event, "cudaEventElapsedTime")) return status;
        const EventState& state = *event->state;
        if (!state.timed || state.recorded == 0)
            return refuse(cudaErrorInvalidResourceHandle, "cudaEventElapsedTime: not timed, or not recorded");
        if (state.passed < state.recorded)
            return refuse(cudaErrorNotReady, "cudaEventElapsedTime: the event has not happened");
    }
    *milliseconds = static_cast<float>(to->state->at - from->state->at);
    return cudaSuccess;
}

cudaError_t cudaGetLastError() {
    const cudaError_t status = sticky_error ? sticky_error : last_error;
    last_error = cudaSuccess;
    return status;
}

cudaError_t cudaPeekAtLastError() { return sticky_error ? sticky_error : last_error; }

const char* cudaGetErrorString(cudaError_t status) {
    if (status == cudaSuccess) return "no error";
    return status == explained ? explanation.c_str() : "emulator: CUDA error";
}

const char* cudaGetErrorName(cudaError_t status) {
    switch (status) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorInvalidConfiguration:
        return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidResourceHandle:
        return "cudaErrorInvalidResourceHandle";
    case cudaErrorIllegalAddress:
        return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    case cudaErrorLaunchOutOfResources:
        return "cudaErrorLaunchOutOfResources";
    case cudaErrorNoDevice:
        return "cudaErrorNoDevice";
    default:
        return "cudaError";
    }
}
}

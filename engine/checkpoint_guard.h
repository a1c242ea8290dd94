// checkpoint_guard.h - long work that saves itself between its steps: one way for every fit (private).
#pragma once
#include "checkpoint.h"
#include "context.h"
#include "error.h"

namespace dynkin {

/// Runs work(between), which calls between() after each of its steps: state() is saved then when a save is
/// due, and Interrupted thrown when the context says so. state() is saved, too, when the work throws
/// Interrupted itself, so it must be complete whenever that can happen.
template <class State, class Work>
void guard(const Context& context, Checkpoint& checkpoint, const State& state, const Work& work) {
    try {
        work([&] {
            if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
            if (checkpoint.due()) checkpoint.save(state());
        });
    } catch (const Interrupted&) {
        if (checkpoint.enabled()) checkpoint.save(state());
        throw;
    }
}

} // namespace dynkin

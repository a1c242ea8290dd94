// parallel.h - loops over independent jobs, with exceptions carried out of the threads (private).
#pragma once
#include <cstddef>
#include <exception>
#include <mutex>
#include <omp.h>

namespace dynkin {

/// body(job, thread) for job = 0 .. jobs-1, dynamically scheduled. The first exception thrown is rethrown at
/// the end; jobs not begun by then are skipped.
template <class Body> void parallel_for(int threads, std::size_t jobs, const Body& body) {
    std::exception_ptr failure;
    std::mutex lock;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (std::size_t job = 0; job < jobs; ++job) {
        {
            const std::lock_guard guard(lock);
            if (failure) continue;
        }
        try {
            body(job, static_cast<std::size_t>(omp_get_thread_num()));
        } catch (...) {
            const std::lock_guard guard(lock);
            if (!failure) failure = std::current_exception();
        }
    }
    if (failure) std::rethrow_exception(failure);
}

} // namespace dynkin

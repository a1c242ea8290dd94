// fibers.h - stacks to switch between, one for each emulated CUDA thread, known to the sanitizers.
#pragma once
#include <cstddef>
#include <new>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define CUEMU_ASAN 1
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#error                                                                                                       \
    "for a ThreadSanitizer build compile the scheduler alone with -DCUEMU_TSAN in place of -fsanitize=thread"
#endif
#ifdef CUEMU_TSAN // every CUDA thread is a thread of TSan's, only barriers and fences order them: a race
                  // detector
extern "C" {
void *__tsan_create_fiber(unsigned), *__tsan_get_current_fiber(void);
void __tsan_switch_to_fiber(void*, unsigned), __tsan_acquire(void*), __tsan_release(void*);
}
#endif

// 20 lines of assembly where we have them, else ucontext (slower: two system calls a switch).
#if defined(__x86_64__)
extern "C" void cuemu_switch(void** save, void* load);
asm(R"(.text
.globl cuemu_switch
.type cuemu_switch,@function
cuemu_switch: pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
 movq %rsp,(%rdi); movq %rsi,%rsp
 popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; ret
.size cuemu_switch,.-cuemu_switch
)");
#else
#include <ucontext.h>
#endif

namespace cuemu {

#if defined(__x86_64__)
struct Machine {
    void* sp = nullptr;
    void start(char* stack, std::size_t size, void (*entry)()) {
        auto p = reinterpret_cast<void**>(stack + size) - 1; // entry's own return address: null
        *--p = reinterpret_cast<void*>(entry);               // where the first switch "returns" to
        sp = p - 6;
    }
    void jump(Machine& to) { cuemu_switch(&sp, to.sp); }
};
#else
struct Machine {
    ucontext_t c;
    void start(char* stack, std::size_t size, void (*entry)()) {
        getcontext(&c);
        c.uc_stack.ss_sp = stack, c.uc_stack.ss_size = size, c.uc_link = nullptr;
        makecontext(&c, entry, 0);
    }
    void jump(Machine& to) { swapcontext(&c, &to.c); }
};
#endif

/// One stack. The first switch to it calls `entry`, which never returns.
struct Fiber {
    Machine machine;
    char* stack = nullptr;
    std::size_t stack_size = 0;
    void *tsan = nullptr, *fake_stack = nullptr; // the sanitizers' state

    void create(std::size_t bytes, void (*entry)()) {
        stack_size = bytes;
        void* memory =
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        mprotect(memory, 4096, PROT_NONE); // a guard page
        stack = static_cast<char*>(memory);
        machine.start(stack, bytes, entry);
#ifdef CUEMU_TSAN
        tsan = __tsan_create_fiber(0);
#endif
    }
    /// Makes this the fiber of the caller's own stack.
    void adopt() {
#ifdef CUEMU_TSAN
        tsan = __tsan_get_current_fiber();
#endif
    }
    /// Leaves this fiber for another; returns when something switches back.
    void switch_to(Fiber& to) {
#ifdef CUEMU_ASAN
        __sanitizer_start_switch_fiber(&fake_stack, to.stack, to.stack_size);
#endif
#ifdef CUEMU_TSAN
        __tsan_switch_to_fiber(to.tsan, 1); // 1: a switch orders nothing
#endif
        machine.jump(to.machine);
    }
    /// To be called after each arrival on this fiber. `host`: the caller's own, whose bounds are learnt here.
    void arrived([[maybe_unused]] Fiber& host) {
#ifdef CUEMU_ASAN
        const void* bottom = nullptr;
        std::size_t size = 0;
        __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
        if (!host.stack) host.stack = static_cast<char*>(const_cast<void*>(bottom)), host.stack_size = size;
#endif
    }
};

/// What orders memory between emulated threads, said to ThreadSanitizer.
inline void acquire([[maybe_unused]] void* p) {
#ifdef CUEMU_TSAN
    __tsan_acquire(p);
#endif
}
inline void release([[maybe_unused]] void* p) {
#ifdef CUEMU_TSAN
    __tsan_release(p);
#endif
}

} // namespace cuemu

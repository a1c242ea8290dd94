// inject.cpp - a shared object that, preloaded, makes one call of the program fail: test_faults.cpp says
// which.
//   DYNKIN_FAULT_CALL  open, read, write, sync, rename, truncate, map, remove or allocate
//   DYNKIN_FAULT_AT    which of these calls, from 1; 0: none
//   DYNKIN_FAULT_HOW   an errno; "short": half of the bytes, where there are any; "kill": SIGKILL in place of
//   the call DYNKIN_FAULT_LOG   file that gets a line for every call that failed; with DYNKIN_FAULT_AT=0 one
//   for each call (of
//                      allocations: for the first from each place)
// Calls count from the moment that main has set the program up, which is when it ignores SIGPIPE.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <new>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

constexpr std::size_t places = 1 << 16; // of allocations, remembered by hash
std::atomic<bool> started{false};
std::atomic<long> calls{0};
std::atomic<std::uint64_t> seen[places];
const char *wanted = nullptr, *how = "";
long at = 0;
int log_file = -1;

template <class Function> Function* next(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

[[gnu::constructor]] void read_environment() {
    wanted = std::getenv("DYNKIN_FAULT_CALL");
    if (const char* text = std::getenv("DYNKIN_FAULT_HOW")) how = text;
    if (const char* text = std::getenv("DYNKIN_FAULT_AT")) at = std::atol(text);
    const char* log = std::getenv("DYNKIN_FAULT_LOG");
    if (log)
        log_file =
            next<int(const char*, int, ...)>("open")(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    void* warm[4];
    backtrace(warm, 4); // loads libgcc, which allocates
}

void note(const char* call, long number, const char* what) {
    char line[600];
    const int length = std::snprintf(line, sizeof line, "%ld %s %.500s\n", number, call, what);
    static const auto real = next<ssize_t(int, const void*, std::size_t)>("write");
    if (log_file >= 0) [[maybe_unused]]
        const auto ignored = real(log_file, line, static_cast<std::size_t>(length));
}

/// The first allocation from this place, up to ten callers deep?
bool new_place() {
    void* callers[14];
    const int depth = backtrace(callers, 14);
    std::uint64_t hash = 14695981039346656037u;
    for (int k = 3; k < depth; ++k)
        hash = (hash ^ reinterpret_cast<std::uintptr_t>(callers[k])) * 1099511628211u;
    for (std::size_t k = 0; k < places; ++k) {
        std::uint64_t found = 0;
        std::atomic<std::uint64_t>& slot = seen[(hash + k) % places];
        if (slot.compare_exchange_strong(found, hash)) return true;
        if (found == hash) return false;
    }
    return false;
}

/// Whether this call is the one to fail. What the tests do not ask for runs as ever.
bool fails(const char* call, const char* what) {
    if (!wanted || !started.load() || std::strcmp(call, wanted) != 0) return false;
    const int before = errno;
    const long number = ++calls;
    static thread_local bool inside = false; // the places are found by functions that may allocate
    if (at == 0 && log_file >= 0 && !inside) {
        inside = true;
        if (std::strcmp(call, "allocate") != 0 || new_place()) note(call, number, what);
        inside = false;
    }
    errno = before;
    if (number != at) return false;
    note(call, number, what);
    if (std::strcmp(how, "kill") == 0) kill(getpid(), SIGKILL);
    errno = std::atoi(how);
    return true;
}

bool shortened(std::size_t& count) { // a failing call that goes on with less
    if (std::strcmp(how, "short") != 0) return false;
    count = std::max<std::size_t>(count / 2, count > 0);
    return true;
}

const char* name_of(int descriptor) {
    static thread_local char link[64], name[512];
    std::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const ssize_t length = readlink(link, name, sizeof name - 1);
    name[length > 0 ? length : 0] = 0;
    return name;
}

/// Files of the tests; not /proc, /dev and the system's libraries.
bool ours(const char* path) {
    const char* folder = std::getenv("DYNKIN_FAULT_FOLDER");
    return folder && std::strncmp(path, folder, std::strlen(folder)) == 0;
}

} // namespace

extern "C" {

sighandler_t signal(int number, sighandler_t handler) noexcept {
    if (number == SIGPIPE) started = true;
    return next<sighandler_t(int, sighandler_t)>("signal")(number, handler);
}

int open(const char* path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    const auto mode = static_cast<mode_t>(flags & O_CREAT ? va_arg(more, int) : 0);
    va_end(more);
    if (ours(path) && fails("open", path)) return -1;
    static const auto real = next<int(const char*, int, ...)>("open");
    return real(path, flags, mode);
}

ssize_t read(int descriptor, void* bytes, size_t count) {
    if (started && ours(name_of(descriptor)) && fails("read", name_of(descriptor)) && !shortened(count))
        return -1;
    static const auto real = next<ssize_t(int, void*, size_t)>("read");
    return real(descriptor, bytes, count);
}

ssize_t pread(int descriptor, void* bytes, size_t count, off_t offset) {
    if (ours(name_of(descriptor)) && fails("read", name_of(descriptor)) && !shortened(count)) return -1;
    static const auto real = next<ssize_t(int, void*, size_t, off_t)>("pread");
    return real(descriptor, bytes, count, offset);
}

ssize_t write(int descriptor, const void* bytes, size_t count) {
    if (started && ours(name_of(descriptor)) && fails("write", name_of(descriptor)) && !shortened(count))
        return -1;
    static const auto real = next<ssize_t(int, const void*, size_t)>("write");
    return real(descriptor, bytes, count);
}

ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t offset) {
    if (fails("write", name_of(descriptor)) && !shortened(count)) return -1;
    static const auto real = next<ssize_t(int, const void*, size_t, off_t)>("pwrite");
    return real(descriptor, bytes, count, offset);
}

int fsync(int descriptor) {
    if (fails("sync", name_of(descriptor))) return -1;
    return next<int(int)>("fsync")(descriptor);
}

int rename(const char* from, const char* to) noexcept {
    if (fails("rename", from)) return -1;
    return next<int(const char*, const char*)>("rename")(from, to);
}

int ftruncate(int descriptor, off_t size) noexcept {
    if (fails("truncate", name_of(descriptor))) return -1;
    return next<int(int, off_t)>("ftruncate")(descriptor, size);
}

int remove(const char* path) noexcept {
    if (ours(path) && fails("remove", path)) return -1;
    return next<int(const char*)>("remove")(path);
}

int unlink(const char* path) noexcept {
    if (ours(path) && fails("remove", path)) return -1;
    return next<int(const char*)>("unlink")(path);
}

void* mmap(void* address, size_t bytes, int protection, int flags, int descriptor, off_t offset) noexcept {
    if (descriptor >= 0 && ours(name_of(descriptor)) && fails("map", name_of(descriptor))) return MAP_FAILED;
    static const auto real = next<void*(void*, size_t, int, int, int, off_t)>("mmap");
    return real(address, bytes, protection, flags, descriptor, offset);
}
}

#ifndef __SANITIZE_ADDRESS__ // which has allocations of its own
namespace {

void* allocate(std::size_t bytes, std::size_t alignment) {
    if (fails("allocate", "")) return nullptr;
    const std::size_t whole = (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    return alignment <= alignof(std::max_align_t) ? std::malloc(bytes ? bytes : 1)
                                                  : std::aligned_alloc(alignment, whole);
}

void* allocate_or_throw(std::size_t bytes, std::size_t alignment = 1) {
    if (void* memory = allocate(bytes, alignment)) return memory;
    throw std::bad_alloc();
}

} // namespace

void* operator new(std::size_t bytes) { return allocate_or_throw(bytes); }
void* operator new[](std::size_t bytes) { return allocate_or_throw(bytes); }
void* operator new(std::size_t bytes, std::align_val_t a) {
    return allocate_or_throw(bytes, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t bytes, std::align_val_t a) {
    return allocate_or_throw(bytes, static_cast<std::size_t>(a));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes, 1); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes, 1); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
#endif

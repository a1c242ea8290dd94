// cuemu.cpp - the scheduler behind cuemu.h: blocks one after another, the threads of a block as fibers.
#include "cuemu.h"
#include "fibers.h"
#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#ifdef CUEMU_TSAN
extern "C" const char* __tsan_default_options() { return "halt_on_error=1"; } // the first race ends the test
#endif

namespace cuemu {
namespace {

enum class State : unsigned char { ready, at_barrier, at_warp, done };

struct Thread {
    Fiber fiber;
    uint3 id{};
    unsigned index = 0;
    State state = State::done;
    Site site{};
};

/// One warp-wide operation in flight; unread != 0: complete, not yet read by all.
struct WarpOp {
    unsigned mask = 0, arrived = 0, unread = 0;
    Site site{};
    Word values[32];
};
struct Warp {
    unsigned live = 0;
    std::vector<std::unique_ptr<WarpOp>> ops;
};

struct FreeDeleter {
    void operator()(void* p) const { std::free(p); }
};
struct Slot {
    std::unique_ptr<void, FreeDeleter> memory;
    std::size_t size = 0;
};
Slot make_slot(std::size_t size, std::size_t align) {
    void* memory = nullptr;
    if (posix_memalign(&memory, align, size)) throw std::bad_alloc();
    std::memset(memory, 0xff, size);
    return {std::unique_ptr<void, FreeDeleter>(memory), size};
}

/// A block's threads; kept, with their stacks, for the next block.
struct Block {
    std::vector<Thread> threads;
    Thread host; // the caller's own stack
    Thread* current = &host;
    std::vector<Warp> warps;
    std::vector<unsigned> ready; // indices; forward and reverse take from the back
    std::size_t count = 0, done = 0, at_barrier = 0;
    Site barrier_site{};
    unsigned votes[3]{}, result[3]{}; // by Vote
    std::map<const void*, Slot> slots;
    std::mt19937_64 random;
    const std::function<void()>* body = nullptr;
    std::string error;
    unsigned parity = 0; // of the barrier being gathered
    // Addresses by which ThreadSanitizer knows what orders threads:
    char started = 0, ended = 0, left = 0, passed[2]{};

    void prepare(std::size_t threads_wanted, const std::function<void()>& thread);
    void run(uint3 index);
    void next();
    void push(unsigned i) { threads[i].state = State::ready, ready.push_back(i); }
    void release_barrier();

  private:
    static void entry();
    void switch_to(Thread& to);
    void complete(unsigned warp, WarpOp& op);
    void finished();
    std::string stuck() const;
    /// Makes threads ready; the one at the back runs first.
    template <class P> void push_if(P wanted) {
        for (std::size_t k = 0; k < count; ++k) {
            const std::size_t i = settings.order == Order::reverse ? k : count - 1 - k;
            if (wanted(threads[i])) push(static_cast<unsigned>(i));
        }
    }
    friend WarpView warp_exchange_in(Block&, unsigned, Word, bool, Site);
};
thread_local Block* block = nullptr;

std::string where(Site s) { return std::string(s.op) + " at " + s.file + ":" + std::to_string(s.line); }
std::string name(uint3 t) {
    return "(" + std::to_string(t.x) + "," + std::to_string(t.y) + "," + std::to_string(t.z) + ")";
}
unsigned lane_bit(unsigned lane) { return 1u << lane; }

void Block::prepare(std::size_t threads_wanted, const std::function<void()>& thread) {
    threads.reserve(1024); // fibers hold pointers to their threads
    while (threads.size() < threads_wanted) {
        Thread& t = threads.emplace_back();
        t.index = static_cast<unsigned>(threads.size() - 1);
        t.fiber.create(settings.stack, entry);
    }
    host.fiber.adopt();
    count = threads_wanted, body = &thread;
    error.clear();
    random.seed(settings.seed);
    warps.resize((count + 31) / 32);
    for (Warp& warp : warps) warp.ops.reserve(32); // a lane is in one operation at a time
    slots.clear();
}

void Block::switch_to(Thread& to) {
    Thread& from = *current;
    ++statistics.switches;
    current = &to;
    threadIdx = to.id;
    release(&left);
    from.fiber.switch_to(to.fiber);
    current->fiber.arrived(host.fiber);
}

/// Leaves the current thread for a ready one, or for the host when none is.
void Block::next() {
    if (ready.empty() || !error.empty()) return switch_to(host);
    if (settings.order == Order::random) std::swap(ready.back(), ready[random() % ready.size()]);
    Thread& thread = threads[ready.back()];
    ready.pop_back();
    if (&thread != current) switch_to(thread);
}

void Block::release_barrier() {
    at_barrier = 0, parity ^= 1;
    std::copy_n(votes, 3, result);
    push_if([](const Thread& t) { return t.state == State::at_barrier; });
}

void Block::complete(unsigned warp, WarpOp& op) {
    op.unread = op.arrived;
    for (unsigned k = 0; k < 32; ++k) {
        const unsigned lane = settings.order == Order::reverse ? k : 31 - k;
        if (op.arrived & lane_bit(lane)) push(warp * 32 + lane);
    }
}

/// The current thread has returned from the kernel.
void Block::finished() {
    current->state = State::done, ++done;
    const unsigned w = current->index / 32;
    warps[w].live &= ~lane_bit(current->index % 32);
    for (auto& op : warps[w].ops)
        if (op->arrived && !op->unread && op->arrived == (op->mask & warps[w].live)) complete(w, *op);
    if (at_barrier && !settings.strict_exit && at_barrier + done == count) release_barrier();
}

void Block::entry() {
    Block& b = *block;
    b.current->fiber.arrived(b.host.fiber);
    for (;;) {
        acquire(&b.started);
        try {
            (*b.body)();
        } catch (const std::exception& e) {
            b.error = e.what();
        }
        release(&b.ended);
        b.finished();
        b.next(); // comes back when the same fiber is started for a later block
    }
}

std::string Block::stuck() const {
    std::map<std::string, std::pair<std::size_t, std::string>> groups;
    for (std::size_t i = 0; i < count; ++i) {
        const Thread& t = threads[i];
        auto& group =
            groups[t.state == State::done ? "returned from the kernel" : "wait in " + where(t.site)];
        if (!group.first++) group.second = name(t.id);
    }
    std::string text = "deadlock in block " + name(blockIdx) + ":";
    for (const auto& [what, group] : groups)
        text += " " + std::to_string(group.first) + " thread(s), first " + group.second + ", " + what + ";";
    return text;
}

void Block::run(uint3 index) {
    blockIdx = index;
    done = at_barrier = 0;
    for (auto& [key, slot] : slots) std::memset(slot.memory.get(), 0xff, slot.size); // not zero: NaN, -1
    for (std::size_t w = 0; w < warps.size(); ++w) {
        const std::size_t lanes = std::min<std::size_t>(32, count - w * 32);
        warps[w].live = lanes == 32 ? ~0u : lane_bit(static_cast<unsigned>(lanes)) - 1;
        for (auto& op : warps[w].ops) op->arrived = op->unread = 0;
    }
    for (unsigned i = 0; i < count; ++i)
        threads[i].id = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    ready.clear();
    push_if([](const Thread&) { return true; });
    release(&started);
    next();
    acquire(&ended);
    statistics.threads += count;
    if (error.empty() && done != count) error = stuck();
}

/// The operation that the caller joins, or a fresh one.
WarpOp& join_operation(Warp& warp, unsigned mask, Site site) {
    WarpOp *joined = nullptr, *unused = nullptr;
    for (auto& op : warp.ops) {
        if (!op->arrived) unused = op.get();
        if (op->arrived && !op->unread && op->mask & mask) joined = op.get();
    }
    if (joined && (joined->mask != mask || std::strcmp(joined->site.op, site.op) != 0))
        fail("overlapping lanes of the warp are in " + where(joined->site) +
                 " with another mask or operation",
             site);
    if (!joined) joined = unused ? unused : warp.ops.emplace_back(std::make_unique<WarpOp>()).get();
    joined->mask = mask, joined->site = site;
    return *joined;
}

WarpView warp_exchange_in(Block& b, unsigned mask, Word value, bool orders_memory, Site site) {
    const unsigned lane = b.current->index % 32, w = b.current->index / 32;
    Warp& warp = b.warps[w];
    if (!(mask & lane_bit(lane))) fail("the caller's own lane is not in the mask", site);
    WarpOp& op = join_operation(warp, mask, site);
    op.arrived |= lane_bit(lane);
    op.values[lane] = value;
    b.current->state = State::at_warp, b.current->site = site;
    if (orders_memory) release(&op);
    if (op.arrived == (mask & warp.live)) b.complete(w, op);
    b.next();
    if (orders_memory) acquire(&op);
    const unsigned present = op.arrived;
    op.unread &= ~lane_bit(lane);
    if (!op.unread) op.arrived = 0; // free for reuse
    return {lane, present, op.values};
}

} // namespace

void fail(const std::string& what, Site site) {
    throw Fault("thread " + name(threadIdx) + " of block " + name(blockIdx) + ", " + where(site) + ": " +
                what);
}

void maybe_yield() {
    Block& b = *block;
    if (settings.order != Order::random || b.random() % 4) return;
    b.push(b.current->index);
    b.next();
}

void fence() { // ThreadSanitizer knows no fences: order all that fence (may hide a race, invents none)
    static char all;
    release(&all), acquire(&all);
    maybe_yield();
}

int block_barrier(unsigned value, Vote vote, Site site) {
    Block& b = *block;
    char* passed = &b.passed[b.parity];
    release(passed);
    unsigned& number = b.votes[static_cast<int>(Vote::count)];
    unsigned& all = b.votes[static_cast<int>(Vote::all)];
    unsigned& any = b.votes[static_cast<int>(Vote::any)];
    if (!b.at_barrier) b.barrier_site = site, number = any = 0, all = 1;
    if (site.line != b.barrier_site.line || std::strcmp(site.file, b.barrier_site.file) != 0)
        fail("other threads of the block are in " + where(b.barrier_site), site);
    number += value, all &= value, any |= value;
    b.current->state = State::at_barrier, b.current->site = site;
    ++b.at_barrier;
    if (b.at_barrier + (settings.strict_exit ? 0 : b.done) == b.count) b.release_barrier();
    b.next();
    acquire(passed);
    return static_cast<int>(b.result[static_cast<int>(vote)]);
}

WarpView warp_exchange(unsigned mask, Word value, bool orders_memory, Site site) {
    return warp_exchange_in(*block, mask, value, orders_memory, site);
}

void* shared_slot(const void* key, std::size_t size, std::size_t align) {
    Slot& slot = block->slots[key];
    if (!slot.memory && key) {
        slot = make_slot(size, std::max<std::size_t>(align, 16));
        release(&slot);
    }
    acquire(&slot);
    return slot.memory.get();
}

void run_grid(dim3 grid, dim3 dim, std::size_t shared_bytes, const std::function<void()>& thread) {
    if (block) throw Fault("a launch inside a kernel");
    static thread_local std::unique_ptr<Block> pool;
    static thread_local std::vector<std::unique_ptr<Block>> failed;
    if (!pool) pool = std::make_unique<Block>();
    Block& b = *pool;
    b.prepare(std::size_t{dim.x} * dim.y * dim.z, thread);
    if (shared_bytes) b.slots[nullptr] = make_slot(shared_bytes, 128);
    gridDim = grid, blockDim = dim, block = &b;
    for (unsigned z = 0; z < grid.z && b.error.empty(); ++z)
        for (unsigned y = 0; y < grid.y && b.error.empty(); ++y)
            for (unsigned x = 0; x < grid.x && b.error.empty(); ++x) b.run({x, y, z});
    block = nullptr;
    if (b.error.empty()) return;
    acquire(&b.left); // of threads that will not return; nobody else acquires it, so it orders nothing
                      // between threads
    const std::string error = std::move(b.error);
    failed.push_back(std::move(pool)); // its fibers hold unfinished calls: never used again
    throw Fault(error);
}

} // namespace cuemu

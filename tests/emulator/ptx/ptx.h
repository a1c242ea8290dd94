// ptx.h - what code made by translate.py calls: instructions of PTX that C++ has no operator for, on the
// fibers of the emulator; and the table of translated kernels, in which a launch finds them by their names.
#pragma once
#include "cuemu.h"
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

namespace ptx {

// Registers that were never written
constexpr float nan_float = std::bit_cast<float>(~0u);
constexpr double nan_double = std::bit_cast<double>(~0ull);

// ---- integers

template <class T> constexpr unsigned bits = 8 * sizeof(T);
template <class T> using Wide =
    std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>,
                       std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>>;

template <class T> T high_product(T a, T b) { return static_cast<T>(Wide<T>(a) * b >> bits<T>); }
/// By zero: all ones, as devices give; likewise for what overflows.
template <class T> T quotient(T a, T b) {
    if (b == 0) return static_cast<T>(~T{});
    if (std::is_signed_v<T> && b == static_cast<T>(-1))
        return static_cast<T>(T{} - std::make_unsigned_t<T>(a));
    return static_cast<T>(a / b);
}
template <class T> T remainder(T a, T b) {
    if (b == 0) return a;
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
    return static_cast<T>(a % b);
}
template <class T> T shift_left(T a, std::uint32_t n) { return n >= bits<T> ? T{} : static_cast<T>(a << n); }
template <class T> T shift_right(T a, std::uint32_t n) {
    if (n >= bits<T>) return static_cast<T>(a < 0 ? -1 : 0);
    return static_cast<T>(a >> n);
}
/// The high word of (b:a) << n, n <= 32.
inline std::uint32_t funnel_left(std::uint32_t a, std::uint32_t b, std::uint32_t n) {
    return static_cast<std::uint32_t>((std::uint64_t{b} << 32 | a) << n >> 32);
}
/// The low word of (b:a) >> n, n <= 32.
inline std::uint32_t funnel_right(std::uint32_t a, std::uint32_t b, std::uint32_t n) {
    return static_cast<std::uint32_t>((std::uint64_t{b} << 32 | a) >> n);
}
/// `length` bits from bit `position` on; where a has no more, its sign, or zero.
template <class T> T extract(T a, std::uint32_t position, std::uint32_t length) {
    position &= 255, length &= 255;
    if (length == 0) return 0;
    const T low = shift_right(a, position);
    const std::uint32_t unused = bits<T> - (length < bits<T> ? length : bits<T>);
    return static_cast<T>(
        shift_right(static_cast<T>(shift_left(std::make_unsigned_t<T>(low), unused)), unused));
}
/// b with the low `length` bits of a at bit `position`.
template <class T> T insert(T a, T b, std::uint32_t position, std::uint32_t length) {
    position &= 255, length &= 255;
    const T low = length >= bits<T> ? ~T{} : (T{1} << length) - 1, mask = shift_left(low, position);
    return (b & ~mask) | (shift_left(a, position) & mask);
}
template <class T> T reversed(T a) {
    T result = 0;
    for (unsigned k = 0; k < bits<T>; ++k) result |= (a >> k & 1) << (bits<T> - 1 - k);
    return result;
}
/// Bytes of (b:a), named by the four low nibbles of `selector`; with its high bit, only the byte's sign.
inline std::uint32_t permute(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
    const std::uint64_t both = std::uint64_t{b} << 32 | a;
    std::uint32_t result = 0;
    for (unsigned k = 0; k < 4; ++k) {
        const std::uint32_t nibble = selector >> 4 * k & 15;
        std::uint32_t byte = both >> 8 * (nibble & 7) & 255;
        if (nibble & 8) byte = byte & 128 ? 255 : 0;
        result |= byte << 8 * k;
    }
    return result;
}
/// Bit by bit: the bit of `table` that those of a, b and c number.
inline std::uint32_t three_way(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t table) {
    std::uint32_t result = 0;
    for (unsigned k = 0; k < 8; ++k)
        if (table >> k & 1) result |= (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
    return result;
}

// ---- numbers; of a NaN and a number the number, and -0 < +0

template <class T> T minimum(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) {
        if (a != a) return b;
        if (a == b) return std::signbit(a) ? a : b;
        return b < a ? b : a;
    }
    return b < a ? b : a;
}
template <class T> T maximum(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) {
        if (a != a) return b;
        if (a == b) return std::signbit(a) ? b : a;
        return a < b ? b : a;
    }
    return a < b ? b : a;
}
/// x is whole. What is beyond the type becomes its nearest number; NaN becomes 0, or 2^(bits - 1) where a
/// type has 64 bits.
template <class D, class S> D to_integer(S x) {
    using Limits = std::numeric_limits<D>;
    if (x != x) return sizeof(S) == 8 || sizeof(D) == 8 ? static_cast<D>(D{1} << (bits<D> - 1)) : D{};
    if (x <= static_cast<S>(Limits::min())) return Limits::min();
    if (x >= static_cast<S>(Limits::max())) return Limits::max();
    return static_cast<D>(x);
}

// ---- memory, and what threads do together

/// The address of a vector of that many bytes, which devices refuse elsewhere.
template <unsigned size> std::uint64_t aligned(std::uint64_t address, cuemu::Site site) {
    if (address % size) cuemu::fail("the address is not aligned to " + std::to_string(size), site);
    return address;
}
inline std::uint32_t lane() {
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}

enum class Mode { up, down, bfly, idx };
struct Shuffled {
    std::uint32_t value;
    bool inside; ///< the source lane was in the range that `bounds` allow; else the value is the caller's
};
inline Shuffled shuffle(Mode mode, std::uint32_t value, std::uint32_t b, std::uint32_t bounds,
                        std::uint32_t mask, cuemu::Site site) {
    const cuemu::WarpView view = cuemu::warp_exchange(mask, cuemu::to_word(value), false, site);
    const std::uint32_t lane = view.lane, segment = bounds >> 8 & 31, by = b & 31,
                        last = (lane & segment) | (bounds & 31 & ~segment);
    const std::uint32_t source = mode == Mode::up     ? lane - by
                                 : mode == Mode::down ? lane + by
                                 : mode == Mode::bfly ? lane ^ by
                                                      : (lane & segment) | (by & ~segment);
    const bool inside = mode == Mode::up
                            ? static_cast<std::int32_t>(source) >= static_cast<std::int32_t>(last)
                            : source <= last;
    return {cuemu::warp_read<std::uint32_t>(view, inside ? source : lane, site), inside};
}
inline std::uint32_t ballot(bool value, std::uint32_t mask, cuemu::Site site) {
    const cuemu::WarpView view = cuemu::warp_exchange(mask, cuemu::to_word(value), false, site);
    std::uint32_t votes = 0;
    for (unsigned k = 0; k < 32; ++k)
        if (view.present >> k & 1 && cuemu::warp_read<bool>(view, k, site)) votes |= 1u << k;
    return votes;
}

// ---- kernels

struct Parameter {
    std::size_t offset, size;
};
struct Kernel {
    const char* name;
    void (*run)(std::uint64_t parameters, std::uint64_t shared); ///< one thread; addresses
    std::size_t shared_bytes;                                    ///< without dynamic memory
    std::size_t most_threads;                                    ///< of a block: __launch_bounds__
    std::vector<Parameter> parameters;
};

/// One translated file, which makes its kernels known.
class Module {
  public:
    explicit Module(std::vector<Kernel> kernels);
};
/// nullptr when there is none. What differs between compilations of one file is no part of a name.
const Kernel* find(const std::string& name);
std::vector<std::string> never_launched();

} // namespace ptx

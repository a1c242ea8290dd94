// libraries.h - what the stand-ins for cuBLAS and cuSOLVER share: arguments are checked where the originals
// would fail or, worse, would not; the work is enqueued on the handle's stream and done by CBLAS and LAPACK.
#pragma once
#include "engine/array.h"
#include "machine.h"
#include <algorithm>
#include <cstddef>
#include <string>
#include <type_traits>

namespace cuemu {

/// Refuses a call: the caller returns the library's status, and the reason stands in last_objection().
std::string& last_objection();

/// A column-major matrix argument. "" when it is whole: leading dimension, pointer to device memory, extent.
template <class T>
std::string matrix_objection(const char* name, const T* a, int rows, int columns, int leading) {
    const std::string matrix = std::string("matrix ") + name;
    if (rows < 0 || columns < 0) return matrix + ": negative size";
    if (leading < std::max(1, rows))
        return matrix + ": leading dimension " + std::to_string(leading) + ", expected at least " +
               std::to_string(std::max(1, rows));
    if (rows == 0 || columns == 0) return "";
    const auto used = (static_cast<std::size_t>(columns) - 1) * static_cast<std::size_t>(leading) +
                      static_cast<std::size_t>(rows);
    if (!is_device_memory(a, used * sizeof(T)))
        return matrix + ": not device memory of " + std::to_string(used) + " numbers";
    return "";
}

template <class T> std::string vector_objection(const char* name, const T* x, int size, int step) {
    if (step == 0) return std::string("vector ") + name + ": step 0";
    return matrix_objection(name, x, 1, size, std::abs(step));
}

template <class T> std::string array_objection(const char* name, const T* a, std::size_t size) {
    if (size == 0 || is_device_memory(a, size * sizeof(T))) return "";
    return std::string("array ") + name + ": not device memory of " + std::to_string(size) + " elements";
}

/// The first that is not "".
inline std::string first_of(std::initializer_list<std::string> objections) {
    for (const std::string& objection : objections)
        if (!objection.empty()) return objection;
    return "";
}

/// A column-major matrix at an address of fixed alignment while the CPU's library computes with it: what that
/// library rounds may depend on the alignment, and the results of the originals do not.
template <class T> class Aligned {
  public:
    Aligned(T* matrix, int rows, int columns, int leading)
        : matrix_(matrix),
          copy_(rows > 0 && columns > 0
                    ? (static_cast<std::size_t>(columns) - 1) * static_cast<std::size_t>(leading) +
                          static_cast<std::size_t>(rows)
                    : 0) {
        std::copy_n(matrix, copy_.size(), copy_.data());
    }
    Aligned(const Aligned&) = delete;
    Aligned& operator=(const Aligned&) = delete;
    ~Aligned() {
        if constexpr (!std::is_const_v<T>) std::copy_n(copy_.data(), copy_.size(), matrix_);
    }
    operator std::remove_const_t<T>*() { return copy_.data(); }

  private:
    T* matrix_;
    dynkin::Array<std::remove_const_t<T>> copy_;
};

} // namespace cuemu

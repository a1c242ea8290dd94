// array.h - owned, 64-byte aligned, zero-initialised numbers: a row-major matrix, or a vector when cols == 1.
#pragma once
#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <utility>

namespace dynkin {

template <class T> class Array {
  public:
    Array() = default;
    explicit Array(std::size_t rows, std::size_t cols = 1)
        : rows_(rows), cols_(cols), data_(allocate(rows * cols)) {
        std::fill_n(data_.get(), size(), T{});
    }
    Array(const Array& other) : rows_(other.rows_), cols_(other.cols_), data_(allocate(other.size())) {
        std::copy_n(other.data(), size(), data_.get());
    }
    Array(Array&& other) noexcept { swap(other); }
    Array& operator=(Array other) noexcept {
        swap(other);
        return *this;
    }

    std::size_t rows() const { return rows_; }
    std::size_t cols() const { return cols_; }
    std::size_t size() const { return rows_ * cols_; }
    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }
    T* row(std::size_t i) { return data() + i * cols_; }
    const T* row(std::size_t i) const { return data() + i * cols_; }
    T& operator[](std::size_t i) { return data()[i]; }
    const T& operator[](std::size_t i) const { return data()[i]; }
    T& operator()(std::size_t i, std::size_t j) { return data()[i * cols_ + j]; }
    const T& operator()(std::size_t i, std::size_t j) const { return data()[i * cols_ + j]; }
    T* begin() { return data(); }
    T* end() { return data() + size(); }
    const T* begin() const { return data(); }
    const T* end() const { return data() + size(); }
    std::span<T> span() { return {data(), size()}; }
    std::span<const T> span() const { return {data(), size()}; }

  private:
    struct Free {
        void operator()(T* p) const { ::operator delete (p, std::align_val_t{64}); }
    };
    static T* allocate(std::size_t count) {
        return count ? static_cast<T*>(::operator new (count * sizeof(T), std::align_val_t{64})) : nullptr;
    }
    void swap(Array& other) noexcept {
        std::swap(rows_, other.rows_), std::swap(cols_, other.cols_), std::swap(data_, other.data_);
    }

    std::size_t rows_ = 0, cols_ = 1;
    std::unique_ptr<T, Free> data_;
};

} // namespace dynkin

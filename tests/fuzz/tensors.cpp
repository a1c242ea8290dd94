// tensors.cpp - mutations of tensor files that keep the layout: what is behind the checks of the header is
// reached.
#include "engine/error.h"
#include "engine/file.h"
#include "engine/tensor_file.h"
#include "fuzz.h"
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <random>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t capacity);

namespace dynkin::fuzz {
namespace {

using Random = std::mt19937;

std::size_t below(Random& random, std::size_t n) { return random() % n; }

double number(Random& random, double old) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const double values[] = {
        0,     -0.0,   1,        -1,        0.5,      1e-300,   1e300,
        1e150, 1e-320, -old,     old * 2,   old + 1,  old - 1,  std::nextafter(old, infinity),
        NAN,   100,    infinity, -infinity, old * .5, old * 1e9};
    return values[below(random, std::size(values))];
}

template <class T> T integer(Random& random, T old) {
    const auto one = static_cast<std::uint64_t>(old); // which may wrap
    const std::uint64_t values[] = {0,          1,       2,          4,         8,       16,
                                    64,         1 << 20, 1 << 30,    one + 1,   one - 1, one * 2,
                                    1ULL << 40, ~0ULL,   ~0ULL >> 1, 1ULL << 63};
    return static_cast<T>(values[below(random, std::size(values))]);
}
double changed(Random& random, double old) { return number(random, old); }
std::int64_t changed(Random& random, std::int64_t old) { return integer(random, old); }
std::uint64_t changed(Random& random, std::uint64_t old) { return integer(random, old); }

/// One number changed, or one less or more (then the shape is the plain length).
template <class T> void change(Random& random, std::vector<T>& numbers, std::vector<std::size_t>& shape) {
    const std::size_t how = below(random, 8);
    if (how == 0) {
        if (numbers.size() > 1) numbers.pop_back();
        shape = {numbers.size()};
    } else if (how == 1) {
        numbers.push_back(numbers[below(random, numbers.size())]);
        shape = {numbers.size()};
    } else if (how == 2 && shape.size() > 1) {
        std::swap(shape[0], shape[1]);
    } else {
        T& one = numbers[below(random, numbers.size())];
        one = changed(random, one);
    }
}

void change(Random& random, Tensor& tensor) {
    if (!tensor.f64.empty()) return change(random, tensor.f64, tensor.shape);
    if (!tensor.i64.empty()) return change(random, tensor.i64, tensor.shape);
    if (!tensor.u64.empty()) return change(random, tensor.u64, tensor.shape);
    tensor.f64 = {1}, tensor.shape = {1};
}

void change(Random& random, TensorFile& file) {
    const std::size_t how = below(random, 16);
    if (how < 2 && !file.metadata.empty()) {
        std::string& value =
            std::next(file.metadata.begin(), static_cast<long>(below(random, file.metadata.size())))->second;
        value.resize(value.size() + 16);
        const std::size_t old = value.size() - 16;
        value.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(value.data()), old, value.size()));
        return;
    }
    if (file.tensors.empty()) return;
    const auto at = std::next(file.tensors.begin(), static_cast<long>(below(random, file.tensors.size())));
    if (how == 2) {
        file.tensors.erase(at);
    } else if (how == 3) { // the numbers of another
        at->second =
            std::next(file.tensors.begin(), static_cast<long>(below(random, file.tensors.size())))->second;
    } else {
        change(random, at->second);
    }
}

} // namespace

std::size_t mutate_tensors(const Folder& folder, std::uint8_t* data, std::size_t size, std::size_t capacity,
                           unsigned seed) {
    Random random(seed);
    const std::string path = folder.write("mutated", text({data, size}));
    try {
        const auto format = tensor_format(path);
        if (!format || format->empty()) return 0;
        TensorFile file = read_tensor_file(path, *format, 1 << 20);
        for (std::size_t n = 1 + below(random, 3); n > 0; --n) change(random, file);
        write_tensor_file(path, file);
        const std::string bytes = read_file(path);
        if (bytes.size() > capacity) return 0;
        std::memcpy(data, bytes.data(), bytes.size());
        return bytes.size();
    } catch (const Error&) { // no tensor file, as most mutations of bytes
        return 0;
    }
}

} // namespace dynkin::fuzz

// mcmc_archive.h - one list of fields, written to a checkpoint or read from it; private to mcmc.cpp and
// local_metropolis.cpp.
#pragma once
#include "tensor_file.h"
#include <concepts>
#include <cstdint>
#include <string>
#include <vector>

namespace dynkin {

struct Saver {
    TensorFile file;
    void operator()(const std::string& name, const std::vector<double>& values, std::size_t = SIZE_MAX) {
        file.put(name, values);
    }
    void operator()(const std::string& name, const std::vector<std::uint64_t>& values) {
        file.put(name, values);
    }
    template <class First, class... T>
    requires std::same_as<First, double> || std::same_as<First, std::uint64_t>
    void operator()(const std::string& name, First& first, T&... rest) {
        file.put(name, std::vector<First>{first, rest...});
    }
};
struct Loader {
    const TensorFile& file;
    void operator()(const std::string& name, std::vector<double>& values, std::size_t size = SIZE_MAX) {
        values = file.f64(name, size);
    }
    void operator()(const std::string& name, std::vector<std::uint64_t>& values) { values = file.u64(name); }
    template <class... T> void operator()(const std::string& name, double& first, T&... rest) {
        assign(file.f64(name, 1 + sizeof...(rest)), first, rest...);
    }
    template <class... T> void operator()(const std::string& name, std::uint64_t& first, T&... rest) {
        assign(file.u64(name, 1 + sizeof...(rest)), first, rest...);
    }

  private:
    template <class V, class... T> void assign(const std::vector<V>& values, T&... scalars) {
        std::size_t n = 0;
        ((scalars = values[n++]), ...);
    }
};

} // namespace dynkin

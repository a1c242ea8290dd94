// launch.cpp - the part of the CUDA runtime between the code that nvcc makes for the host and the kernels:
// objects register kernels by their names, and a launch runs those names' translated PTX.
#include "ptx.h"
#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <stdexcept>

namespace ptx {
namespace {

/// What the host knows a kernel by.
struct Function {
    std::string name;
    std::size_t dynamic_bytes = 48 * 1024; ///< that it may be launched with
};
std::map<const void*, Function>& functions() {
    static std::map<const void*, Function> all;
    return all;
}
std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}
std::set<std::string> launched;

/// A kernel's name without what in that of its anonymous namespace differs between compilations of its file:
/// hashes, maybe a process. As canonical() in translate.py.
std::string canonical(const std::string& name) {
    static const std::regex space("([0-9]+)(_GLOBAL__N__)"),
        hashes("_GLOBAL__N__[0-9a-f]{8}|_[0-9a-f]{8}(_[0-9]+)?$");
    std::string result, rest = name;
    for (std::smatch match; std::regex_search(rest, match, space);) {
        const auto begin = static_cast<std::size_t>(match.position(2)), size = std::stoul(match[1]);
        result +=
            match.prefix().str() + "_GLOBAL__N_" + std::regex_replace(rest.substr(begin, size), hashes, "");
        rest = rest.substr(std::min(rest.size(), begin + size));
    }
    return result + rest;
}

std::vector<unsigned char> pack(const Kernel& kernel, void* const* arguments) {
    std::vector<unsigned char> memory;
    for (std::size_t k = 0; k < kernel.parameters.size(); ++k) {
        const auto [offset, size] = kernel.parameters[k];
        memory.resize(offset + size);
        std::memcpy(&memory[offset], arguments[k], size);
    }
    return memory;
}

cudaError_t launch(const Function& function, const cudaLaunchConfig_t& how, void* const* arguments) {
    const Kernel* kernel = find(function.name);
    if (!kernel)
        return cuemu::refuse(cudaErrorInvalidDeviceFunction, "no translated PTX of " + function.name);
    if (std::size_t{how.blockDim.x} * how.blockDim.y * how.blockDim.z > kernel->most_threads)
        return cuemu::refuse(cudaErrorInvalidConfiguration, "more threads than the kernel's launch bounds");
    if (how.dynamicSmemBytes > function.dynamic_bytes || how.numAttrs != 0)
        return cuemu::refuse(cudaErrorInvalidValue, "more shared memory than the kernel may have");
    launched.insert(kernel->name);
    const std::size_t shared_bytes = kernel->shared_bytes + how.dynamicSmemBytes;
    return cuemu::enqueue_launch(
        how.stream, how.gridDim, how.blockDim, shared_bytes, [=, memory = pack(*kernel, arguments)] {
            const auto* shared = shared_bytes ? cuemu::dynamic_shared<char>() : nullptr;
            kernel->run(reinterpret_cast<std::uint64_t>(memory.data()),
                        reinterpret_cast<std::uint64_t>(shared));
        });
}

} // namespace

Module::Module(std::vector<Kernel> translated) {
    for (Kernel& kernel : translated) {
        const std::string name = kernel.name;
        if (!kernels().emplace(name, std::move(kernel)).second)
            throw std::logic_error("two translated kernels of the name " + name);
    }
}

const Kernel* find(const std::string& name) {
    const auto found = kernels().find(canonical(name));
    return found == kernels().end() ? nullptr : &found->second;
}

std::vector<std::string> never_launched() {
    std::vector<std::string> names;
    for (const auto& [name, kernel] : kernels())
        if (!launched.count(name)) names.push_back(name);
    return names;
}

} // namespace ptx

extern "C" {

// What the constructors of nvcc's objects call. The machine code that they bring is left alone.
void** __cudaRegisterFatBinary(void*) {
    static void* handle = nullptr;
    return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*,
                            dim3*, int*) {
    ptx::functions()[host] = {name};
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* how, const void* function, void** arguments) {
    const auto found = ptx::functions().find(function);
    if (found == ptx::functions().end())
        return cuemu::refuse(cudaErrorInvalidDeviceFunction, "a launch of what is no kernel");
    return ptx::launch(found->second, *how, arguments);
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
    const auto found = ptx::functions().find(function);
    const ptx::Kernel* kernel = found == ptx::functions().end() ? nullptr : ptx::find(found->second.name);
    if (!kernel) return cuemu::refuse(cudaErrorInvalidDeviceFunction, "an attribute of what is no kernel");
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        kernel->shared_bytes + static_cast<std::size_t>(value) > cuemu::settings.shared_memory)
        return cuemu::refuse(cudaErrorInvalidValue, "an attribute, or a size, that is not for kernels here");
    found->second.dynamic_bytes = static_cast<std::size_t>(value);
    return cudaSuccess;
}

// Launches by <<<>>>, which the kernels' sources do not hold: their stubs are linked, and never called.
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { return cudaErrorNotSupported; }
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, std::size_t*, void*) { return cudaErrorNotSupported; }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, std::size_t, cudaStream_t) {
    return cudaErrorNotSupported;
}
}

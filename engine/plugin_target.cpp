// plugin_target.cpp - energies from a user's shared object: opened once, tried at one point, described for
// the configuration by its content.
#include "error.h"
#include "file.h"
#include "plugin.h"
#include "target.h"
#include <cmath>
#include <dlfcn.h>
#include <fmt/format.h>
#include <vector>

namespace dynkin {
namespace {

using Energy = decltype(&dynkin_energy);

[[noreturn]] void fail(const std::filesystem::path& library, const std::string& message) {
    throw Error(ErrorKind::input, fmt::format("{}: {}", library.string(), message));
}

std::uint64_t checksum_of(const std::filesystem::path& library) {
    const InputFile file(library); // a regular one: no pipe, which would be waited for
    std::vector<std::byte> content(file.size());
    file.read_at(0, content);
    return checksum(content);
}

std::shared_ptr<void> open_library(const std::filesystem::path& library) {
    // A name without a slash would be looked for in the system's folders.
    void* handle = dlopen(std::filesystem::absolute(library).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char* why = dlerror();
        fail(library, fmt::format("expected a shared object, got: {}", why ? why : "no reason"));
    }
    return {handle, [](void* open) { dlclose(open); }};
}

} // namespace

PluginTarget plugin_target(const std::filesystem::path& library, std::size_t dimension,
                           std::vector<double> parameters, double start_low, double start_high) {
    PluginTarget target;
    target.library = library.string();
    target.dimension = dimension, target.parameters = std::move(parameters);
    target.start_low = start_low, target.start_high = start_high;
    target.content = checksum_of(library);
    target.handle = open_library(library);
    target.energy = reinterpret_cast<Energy>(dlsym(target.handle.get(), "dynkin_energy"));
    if (!target.energy) fail(library, "expected a function dynkin_energy (engine/plugin.h), found none");

    const std::vector<double> x(dimension, 0.5 * (start_low + start_high));
    std::vector<double> gradient(dimension);
    double energy = 0;
    const auto call = [&](double* gradients) {
        return target.energy(target.parameters.data(), target.parameters.size(), dimension, 1, x.data(),
                             &energy, gradients);
    };
    if (const int status = call(nullptr); status != 0)
        fail(library, fmt::format("dynkin_energy: expected 0 at the centre of start, got {}", status));
    if (!std::isfinite(energy))
        fail(library,
             fmt::format("dynkin_energy: expected a finite energy at the centre of start, got {}", energy));
    const int status = call(gradient.data());
    if (status != 0 && status != DYNKIN_NO_GRADIENT)
        fail(library, fmt::format("dynkin_energy: expected 0 or {} for a gradient, got {}",
                                  DYNKIN_NO_GRADIENT, status));
    target.has_gradient = status == 0;
    return target;
}

} // namespace dynkin

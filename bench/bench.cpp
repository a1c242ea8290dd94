// bench.cpp - the list of stages, the sizes they run at, and the loop over them.
#include "bench.h"
#include "engine/error.h"
#include "kernels/device.h"
#include "peaks.h"
#include "stage.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <iterator>
#include <tuple>
#include <type_traits>
#include <unistd.h>

namespace dynkin::bench {

using std::size_t;

namespace {

struct Entry {
    const char* name;
    std::vector<Stage> (*make)(Setup&);
};
constexpr Entry entries[] = {{"moments", moment_stages}, {"gram", gram_stages},
                             {"solve", solve_stages},    {"score", score_stages},
                             {"sde", sde_stages},        {"ode", ode_stages},
                             {"logq", density_stages},   {"conditional", conditional_stages},
                             {"hmc", hmc_stages},        {"energy", energy_stages},
                             {"prior", prior_stages}};

/// Sizes that fill each device for some milliseconds; of the emulator, that take it no more than seconds.
struct Sizes {
    size_t dimension, samples, chains, nodes;
    int degree, repeats;
};
constexpr Sizes cpu_sizes{64, 16'384, 256, 2, 6, 11}, device_sizes{64, 262'144, 16'384, 8, 6, 31},
    emulator_sizes{8, 256, 16, 2, 4, 3};

/// Nobody waits for exact peaks with so few samples.
bool small(const Options& options) { return options.samples <= 1024; }

template <class T>
void require_range(const char* name, T value, std::type_identity_t<T> least, std::type_identity_t<T> most) {
    if (value < least || value > most)
        throw Error(ErrorKind::usage,
                    fmt::format("bench: {}: expected {} to {}, got {}", name, least, most, value));
}

/// Rows of samples and of a prior's data, three matrices of a prior and of a system (two on a device as
/// well), against the memory there is.
void require_memory(const Options& o) {
    const double d = static_cast<double>(o.dimension), n = static_cast<double>(o.degree);
    const double terms = d * n / 2 + d * d / 2 + 4 * d; // about; neighbours have 5 products of even degree
    const double bytes =
        8 * (3 * static_cast<double>(o.samples + 5120) * d +
             prior_numbers_a_sample * static_cast<double>(o.samples) * d +
             3 * std::pow(std::min<double>(prior_columns_a_site * d, prior_most_dense_columns), 2) +
             3 * static_cast<double>(o.nodes) * terms * terms);
    const double there =
        static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
    if (bytes > 0.8 * there)
        throw Error(ErrorKind::usage,
                    fmt::format("bench: the sizes asked for need about {:.1f} GiB, the machine has {:.1f}",
                                bytes / 0x1p30, there / 0x1p30));
}

} // namespace

std::vector<std::string> stage_names() {
    std::vector<std::string> names;
    for (const Entry& entry : entries) names.push_back(entry.name);
    return names;
}

std::vector<Stage> make_stages(Setup& setup, const std::string& name) {
    const auto entry =
        std::find_if(std::begin(entries), std::end(entries), [&](const Entry& e) { return e.name == name; });
    require(entry != std::end(entries), ErrorKind::usage, "bench: there is no stage '" + name + "'");
    return entry->make(setup);
}

bool emulated(const Context& context) {
    return context.device() == Device::cuda && context.device_name() == "emulated device"; // tests/emulator
}

DeviceFacts device_facts(const Context& context) {
    if constexpr (built_with_cuda) {
        const DeviceProperties& p = context.device_state().properties();
        return {p.major, p.minor,        p.multiprocessors, p.memory, p.l2_cache,
                p.clock, p.memory_clock, p.driver,          p.runtime};
    }
    throw Error(ErrorKind::usage, "bench: this build has no CUDA backend");
}

Options resolved(const Context& context, Options o) {
    const Sizes& sizes = emulated(context)                  ? emulator_sizes
                         : context.device() == Device::cuda ? device_sizes
                                                            : cpu_sizes;
    const auto choose = [](auto& value, auto otherwise) {
        if (value == 0) value = otherwise;
    };
    const auto threads = static_cast<size_t>(context.threads());
    choose(o.dimension, sizes.dimension), choose(o.degree, sizes.degree), choose(o.samples, sizes.samples);
    choose(o.chains, sizes.chains), choose(o.repeats, sizes.repeats);
    choose(o.nodes, context.device() == Device::cpu ? threads : sizes.nodes);
    require_range("dimension", o.dimension, 2, 4096);
    require_range("degree", o.degree, 2, 16);
    require_range("samples", o.samples, 64, size_t{1} << 28);
    require_range("chains", o.chains, 1, size_t{1} << 24);
    require_range("nodes", o.nodes, 1, 1024);
    require_range("repeats", o.repeats, 1, 10'000);
    o.samples = (o.samples + 63) / 64 * 64; // whole tiles
    const std::vector<std::string> names = stage_names();
    for (const std::string& stage : o.stages)
        require(std::find(names.begin(), names.end(), stage) != names.end(), ErrorKind::usage,
                fmt::format("bench: expected one of {}, got stage '{}'", fmt::join(names, ", "), stage));
    require_memory(o);
    return o;
}

Peaks measure_peaks(const Context& context, const Options& options) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return peaks_of_device(context, options.repeats, emulated(context));
    return peaks_of_cpu(context, options.repeats, small(options));
}

void measure_stages(const Context& context, const Options& options,
                    const std::function<void(const Figure&)>& show) {
    Setup setup(context, options);
    Timer timer(context, options.repeats);
    for (const Entry& entry : entries) {
        const auto& asked = options.stages;
        if (!asked.empty() && std::find(asked.begin(), asked.end(), entry.name) == asked.end()) continue;
        for (const Stage& stage : entry.make(setup)) {
            Figure figure{entry.name, stage.variant, stage.single_precision,
                          stage.unit, stage.units,   stage.work};
            if (context.device() == Device::cpu) {
                const Gemm gemm = cpu_gemm(context.threads(), stage.single_precision, small(options));
                figure.gemm_flops = gemm.flops;
                std::tie(figure.seconds, figure.gemm) = timer.in_turn(stage.run, stage.prepare, gemm.run);
            } else
                figure.seconds = timer(stage.run, stage.prepare);
            for (const auto& [name, seconds] : timer.parts(stage.run, stage.prepare)) {
                const auto counted = stage.parts.find(name);
                figure.parts.push_back(
                    {name, counted == stage.parts.end() ? Work{} : counted->second, seconds});
            }
            show(figure);
        }
    }
}

} // namespace dynkin::bench

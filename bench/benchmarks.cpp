// benchmarks.cpp - the stages of `dynkin bench` and GEMM as Google Benchmarks: its filters, repetitions,
// statistics and comparisons between versions (compare.py). Names:
// STAGE/VARIANT/PRECISION/DIMENSION/SAMPLES/THREADS.
#include "peaks.h"
#include "stage.h"
#include <algorithm>
#include <benchmark/benchmark.h>
#include <exception>
#include <fmt/format.h>

namespace dynkin::bench {
namespace {

using benchmark::Counter;

Counter rate(double each) { return Counter(each, Counter::kIsIterationInvariantRate); }

void run_stage(benchmark::State& state, const std::string& name, std::size_t variant, const Context& context,
               const Options& options) {
    Setup setup(context, options);
    const Stage stage = make_stages(setup, name)[variant];
    std::size_t round = 0;
    for (auto _ : state) {
        if (stage.prepare) {
            state.PauseTiming();
            stage.prepare(round);
            state.ResumeTiming();
        }
        stage.run(round++);
    }
    state.counters[stage.unit + "s"] = rate(stage.units);
    if (stage.work.flops > 0) state.counters["flops"] = rate(stage.work.flops * stage.units);
    if (stage.work.bytes > 0) state.counters["bytes"] = rate(stage.work.bytes * stage.units);
}

void run_gemm(benchmark::State& state, bool single_precision, int threads) {
    const Gemm gemm = cpu_gemm(threads, single_precision, false);
    for (auto _ : state) gemm.run(0);
    state.counters["flops"] = rate(gemm.flops);
}

std::string precision(bool single) { return single ? "float32" : "float64"; }

void register_all(int threads) {
    const Context context({.device = Device::cpu, .threads = threads});
    const auto add = [](const std::string& name, const auto& run) {
        benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime()->Unit(benchmark::kMillisecond);
    };
    for (const bool single : {false, true})
        add(fmt::format("gemm/{}/threads:{}", precision(single), threads),
            [=](benchmark::State& state) { run_gemm(state, single, threads); });
    Setup tiny(context,
               resolved(context, {.dimension = 4, .degree = 2, .samples = 64, .chains = 1})); // names only
    for (const std::string& name : stage_names()) {
        const std::vector<Stage> stages = make_stages(tiny, name);
        for (const std::size_t dimension : {16, 64})
            for (const std::size_t samples : {1024, 8192})
                for (std::size_t k = 0; k < stages.size(); ++k) {
                    const Options options = resolved(
                        context, {.dimension = dimension, .samples = samples, .chains = samples / 64});
                    std::string full = name;
                    if (!stages[k].variant.empty()) full += "/" + stages[k].variant;
                    std::replace(full.begin(), full.end(), ' ', '_');
                    add(fmt::format("{}/{}/dimension:{}/samples:{}/threads:{}", full,
                                    precision(stages[k].single_precision), dimension, samples, threads),
                        [=](benchmark::State& state) { run_stage(state, name, k, context, options); });
                }
    }
}

} // namespace
} // namespace dynkin::bench

int main(int argc, char** argv) {
    try {
        const int all = dynkin::Context().threads();
        dynkin::bench::register_all(1);
        if (all > 1) dynkin::bench::register_all(all);
        benchmark::Initialize(&argc, argv);
        if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
        benchmark::RunSpecifiedBenchmarks();
        benchmark::Shutdown();
        return 0;
    } catch (const std::exception& e) {
        fmt::print(stderr, "error: {}\n", e.what());
        return 1;
    }
}

// scaling.cpp - how cost grows with each size by itself.
#include "bench.h"
#include "engine/error.h"
#include <algorithm>
#include <array>
#include <set>

namespace dynkin::bench {

using std::size_t;

namespace {

/// value, value / 2, value / 4 .. down to `least`, ascending, at most four.
std::vector<size_t> halvings(size_t value, size_t least) {
    std::vector<size_t> out;
    for (; value >= least && out.size() < 4; value /= 2) out.insert(out.begin(), value);
    return out;
}

} // namespace

void measure_scaling(const ContextOptions& where, const Options& options,
                     const std::function<void(const ScalingPoint&)>& show) {
    const Context context(where);
    Options base = resolved(context, options);
    if (base.stages.empty()) base.stages = {"moments", "gram", "solve", "ode", "conditional", "hmc"};
    const auto measure = [&](const char* axis, size_t value, const Context& here, const Options& o,
                             const std::vector<std::string>& stages) {
        Options some = o;
        some.stages.clear();
        for (const std::string& stage : base.stages)
            if (stages.empty() || std::find(stages.begin(), stages.end(), stage) != stages.end())
                some.stages.push_back(stage);
        if (some.stages.empty()) return;
        measure_stages(here, some, [&](const Figure& figure) {
            show({axis, value, o, here.threads(), figure});
        });
    };
    for (const size_t samples : halvings(base.samples, 64)) {
        Options o = base;
        o.samples = samples;
        measure("samples", samples, context, resolved(context, o),
                {"moments", "score", "sde", "ode", "logq", "conditional", "energy"});
    }
    for (const size_t dimension : halvings(base.dimension, 4)) {
        Options o = base;
        o.dimension = dimension;
        measure("dimension", dimension, context, resolved(context, o), {});
    }
    for (int degree = 2; degree <= base.degree; degree += 2) {
        Options o = base;
        o.degree = degree;
        measure("degree", static_cast<size_t>(degree), context, o,
                {"moments", "gram", "solve", "score", "sde", "ode", "logq", "conditional"});
    }
    if (context.device() != Device::cpu) return;
    std::set<int> threads{context.threads()};
    for (int count = 1; count < context.threads(); count *= 2) threads.insert(count);
    for (const int count : threads) {
        ContextOptions few = where;
        few.threads = count;
        measure("threads", static_cast<size_t>(count), Context(few), base, {});
    }
}

} // namespace dynkin::bench

// process_cases.h - fits and samples of the processes of process.h, for their tests on the device.
#pragma once
#include "cases.h"
#include "engine/fit.h"
#include "engine/sampler.h"

namespace dynkin::cases {

inline Model fitted(const Context& where, const Array<double>& x, const Process& process,
                    int degree_or_radius, FitReport* report = nullptr) {
    const auto path =
        std::filesystem::temp_directory_path() / fmt::format("dynkin-processes-{}.npy", ::getpid());
    write_npy(path, x);
    const SampleFile file(path); // mapped: the name may go
    std::filesystem::remove(path);
    FitOptions options;
    options.process = process, options.radius = options.degree = degree_or_radius;
    options.time_nodes = 6, options.symmetry = Symmetry::none;
    return fit(where, file, options, report);
}

inline SampleOptions few_steps(Method method, int steps) {
    SampleOptions options;
    options.method = method, options.steps = steps, options.seed = 23, options.estimate_error = false;
    return options;
}

/// All that a sampling of 300 gives in parts.
inline Samples in_parts(const Context& context, const Model& model, const SampleOptions& options,
                        const std::vector<size_t>& parts) {
    Samples out;
    std::vector<float> rows;
    Sampling sampling(context, model, options, 300);
    for (size_t first = 0, part = 0; part < parts.size(); first += parts[part++])
        sampling.run(first, parts[part], [&](size_t, size_t count, const float* x, const double* log_q) {
            rows.insert(rows.end(), x, x + count * model.view.columns);
            if (log_q) out.log_density.insert(out.log_density.end(), log_q, log_q + count);
        });
    out.rows = Array<float>(rows.size() / model.view.columns, model.view.columns);
    std::copy(rows.begin(), rows.end(), out.rows.begin());
    return out;
}

} // namespace dynkin::cases

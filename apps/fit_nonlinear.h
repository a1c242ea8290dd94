// fit_nonlinear.h - `dynkin fit --process nonlinear`, and what score and sample do with its models.
#pragma once
#include "command.h"
#include <cstddef>
#include <string>

namespace dynkin::app {

/// Flags of fit that go with --process nonlinear only.
struct NonlinearFlags {
    std::string basis = "polynomial", reference_score = "gaussian", estimator = "local",
                linearisation = "linear";
    int draws = 4;
    bool plain_draws = false;
    double intrinsic_gap = 0, gap = 0, step = 0;
};
void add_nonlinear_flags(CLI::App& command, NonlinearFlags& flags);
/// Throws Error(usage) when one of them was given.
void require_no_nonlinear_flags(const CLI::App& command);

/// What fit's other flags say: degree 0, nodes 0, ridge < 0 and times < 0: chosen.
struct NonlinearRun {
    std::string samples, output, drift;
    int degree = 0, time_nodes = 0;
    double ridge = -1, t_min = -1, t_end = -1;
};
int run_nonlinear_fit(const Common& common, const NonlinearFlags& flags, const NonlinearRun& run);

/// True when the file names the format of models of nonlinear processes; throws Error(io) when it cannot be
/// read.
bool is_nonlinear_model(const std::string& path);

int run_nonlinear_score(const Common& common, const std::string& model, const std::string& points,
                        double time, const std::string& output);

struct NonlinearSampling {
    std::string model, output, prior = "auto", dtype = "f4";
    std::size_t samples = 0;
    int steps = 0;
    double time = 0;
};
int run_nonlinear_sample(const Common& common, const NonlinearSampling& run);

} // namespace dynkin::app

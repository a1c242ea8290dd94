// report_pages.h - what `dynkin evaluate --report` and `dynkin draw --report` show.
#pragma once
#include "engine/array.h"
#include "engine/npy.h"
#include "engine/observables.h"
#include "engine/target.h"
#include "report.h"
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dynkin::app {

using Facts = std::vector<std::pair<std::string, std::string>>;

/// What evaluate knows. The figures are those of its result.
struct Evaluation {
    const Array<double>& samples;
    std::span<const double> weight; ///< empty: equal
    const Array<double>& reference;
    const Target* target;           ///< may be null
    std::vector<std::size_t> shape; ///< of one sample
    ObservableReport of_samples, of_reference;
    nlohmann::ordered_json result;
    Facts facts; ///< names of files and the like, for the page
    std::uint64_t seed = 0;
};
/// Pictures, page, figures.csv and summary.json into `folder`. Throws Error(io).
void write_evaluation(const Context& context, const Evaluation& evaluation, const ReportFolder& folder);

/// What draw knows of its chains; the samples are read from their file.
struct ChainsDrawn {
    const SampleFile& samples; ///< row k * chains + c
    const Target& target;
    std::size_t chains, thinning;
    ObservableReport observables;
    nlohmann::ordered_json result;
    Facts facts;
};
void write_chains(const Context& context, const ChainsDrawn& drawn, const ReportFolder& folder);

} // namespace dynkin::app

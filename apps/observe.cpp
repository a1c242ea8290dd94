#include "observe.h"
#include "engine/progress.h"
#include <algorithm>
#include <cmath>

namespace dynkin::app {
namespace {

using Json = nlohmann::ordered_json;

/// Adds one estimate to an object of numbers, or of lists.
void put(Json& object, const char* key, double value, bool list) {
    Json& entry = object[key];
    if (!list) {
        entry = value;
        return;
    }
    if (entry.is_null()) entry = Json::array();
    entry.push_back(value);
}

void put(Json& object, const ObservableReport& report, const Estimate& estimate, bool list) {
    put(object, "value", estimate.value, list), put(object, "error", estimate.error, list);
    if (report.chains == 0) return;
    put(object, "tau", estimate.tau, list), put(object, "tau_error", estimate.tau_error, list);
}

void put_reference(Json& object, const Estimate& estimate, const Estimate& reference, bool list) {
    put(object, "reference", reference.value, list);
    put(object, "reference_error", reference.error, list);
    put(object, "deviation", (estimate.value - reference.value) / std::hypot(estimate.error, reference.error),
        list);
}

Json all(const ObservableReport& report, const ObservableReport* reference) {
    Json json = Json::object();
    for (std::size_t k = 0; k < report.named.size(); ++k) {
        Json& entry = json[report.named[k].name] = Json::object();
        put(entry, report, report.named[k].estimate, false);
        if (reference) put_reference(entry, report.named[k].estimate, reference->named[k].estimate, false);
    }
    if (report.two_point.empty()) return json;
    Json& entry = json["two_point"] = {{"distance", Json::array()}};
    for (std::size_t r = 0; r < report.two_point.size(); ++r) {
        entry["distance"].push_back(r);
        put(entry, report, report.two_point[r], true);
        if (reference) put_reference(entry, report.two_point[r], reference->two_point[r], true);
    }
    return json;
}

} // namespace

ObservableReport observe_file(const Context& context, const SampleFile& samples, const Lattice* lattice,
                              const std::vector<Polynomial>& polynomials, std::span<const double> weights,
                              std::size_t chains, bool interruptible) {
    const std::size_t rows = samples.rows(), d = samples.cols(),
                      block = std::clamp<std::size_t>((1u << 20) / d, 1, rows);
    Observables observables(d, lattice, polynomials, rows, chains);
    if (!observables.any()) return observables.report();
    std::vector<double> x(block * d);
    Progress progress(context, "observe", rows);
    for (std::size_t first = 0; first < rows; first += block) {
        if (interruptible && progress.interrupted()) progress.throw_interrupted();
        const std::size_t count = std::min(block, rows - first);
        samples.read_any(first, count, x.data()); // runaways have weight 0
        observables.add(context, count, x.data(), weights.empty() ? nullptr : weights.data() + first);
        progress.advance(count);
    }
    return observables.report();
}

Json observables_json(const ObservableReport& report) { return all(report, nullptr); }
Json observables_json(const ObservableReport& samples, const ObservableReport& reference) {
    return all(samples, &reference);
}

} // namespace dynkin::app

// report_pages.cpp - from samples and figures to pictures, tables and files of a report.
#include "report_pages.h"
#include "engine/file.h"
#include "engine/weigh.h"
#include "gnuplot.h"
#include "plots.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace dynkin::app {
namespace {

using std::size_t;
using Json = nlohmann::ordered_json;

double number(const Json& json) {
    return json.is_number() ? json.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

struct Figure {
    const char *name, *meaning;
};
constexpr Figure figures[] = {
    {"second_moment_error", "second moments, relative error"},
    {"marginal_tv", "total variation of the marginals"},
    {"marginal_w1", "Wasserstein-1 distance of the marginals, sd"},
    {"sliced_w", "sliced Wasserstein-2 distance"},
    {"energy_mean_error", "mean energy, difference in sd"},
    {"energy_std_ratio", "sd of the energy, ratio"},
};

ReportTable figures_table(const Json& result) {
    ReportTable table{
        "Distances",
        "The floor is the same figure between two random halves of the reference: what independent "
        "samples of the law itself reach at half the reference's size. 0 for equal laws, the ratio 1.",
        {"figure", "value", "floor"},
        {}};
    for (const Figure& figure : figures)
        if (result.contains(figure.name))
            table.rows.push_back({figure.meaning, shown(number(result[figure.name])),
                                  shown(number(result[std::string(figure.name) + "_floor"]))});
    if (result.contains("entropy_gap"))
        table.rows.push_back({"gap to the exact entropy, nats", shown(number(result["entropy_gap"])), "-"});
    return table;
}

/// One row an observable; a list, as the two-point function, one a distance.
std::vector<std::pair<std::string, Json>> entries_of(const Json& observables) {
    std::vector<std::pair<std::string, Json>> entries;
    for (const auto& [name, entry] : observables.items()) {
        if (!entry.contains("distance")) {
            entries.emplace_back(name, entry);
            continue;
        }
        for (size_t r = 0; r < entry["distance"].size(); ++r) {
            Json one = Json::object();
            for (const auto& [key, values] : entry.items())
                if (key != "distance") one[key] = values[r];
            entries.emplace_back(fmt::format("{}_{}", name, r), one);
        }
    }
    return entries;
}

void put_observables(const Json& result, const std::string& note, ReportPage& page) {
    if (!result.contains("observables")) return;
    ReportTable table{"Observables", note, {"observable"}, {}};
    for (const auto& [name, entry] : entries_of(result["observables"])) {
        if (table.rows.empty())
            for (const auto& [key, value] : entry.items()) {
                std::string column = key;
                std::replace(column.begin(), column.end(), '_', ' ');
                table.columns.push_back(column == "reference error" ? "its error" : column);
            }
        std::vector<std::string> row = {name};
        for (const auto& value : entry) row.push_back(shown(number(value)));
        std::replace(row[0].begin(), row[0].end(), '_', ' ');
        table.rows.push_back(std::move(row));
    }
    page.tables.push_back(std::move(table));
}

std::string cell(const Json& entry, const char* key) {
    const double value = entry.contains(key) ? number(entry[key]) : std::numeric_limits<double>::quiet_NaN();
    return std::isnan(value) ? "" : fmt::format("{}", value);
}

/// figures.csv and summary.json: every number, without what differs from run to run.
void write_numbers(const Json& result, const std::filesystem::path& folder) {
    std::string csv = "figure,value,error,reference,reference_error,floor,tau\n";
    for (const auto& [name, value] : result.items()) {
        if (!value.is_number_float() || name.ends_with("_floor")) continue;
        csv += fmt::format("{},{},,,,{},\n", name, cell(result, name.c_str()),
                           cell(result, (name + "_floor").c_str()));
    }
    for (const auto& [name, entry] : entries_of(result.value("observables", Json::object())))
        csv += fmt::format("{},{},{},{},{},,{}\n", name, cell(entry, "value"), cell(entry, "error"),
                           cell(entry, "reference"), cell(entry, "reference_error"), cell(entry, "tau"));
    write_file(folder / "figures.csv", csv);
    Json summary = result;
    for (const char* key : {"seconds", "threads", "device", "isa"}) summary.erase(key);
    write_file(folder / "summary.json", summary.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Array<double> rows_at(const Array<double>& x, const std::vector<size_t>& taken) {
    Array<double> rows(taken.size(), x.cols());
    for (size_t k = 0; k < taken.size(); ++k) std::copy_n(x.row(taken[k]), x.cols(), rows.row(k));
    return rows;
}

std::vector<size_t> spread(size_t all, size_t count) {
    std::vector<size_t> taken;
    for (size_t k = 0; k < std::min(count, all); ++k) taken.push_back(k * all / std::min(count, all));
    return taken;
}

/// Rows that stand for all: by their weights, or evenly spread.
std::vector<size_t> typical(const Evaluation& e, size_t count) {
    if (e.weight.empty()) return spread(e.samples.rows(), count);
    std::vector<size_t> taken;
    const auto copies = resample(e.weight, count, e.seed);
    for (size_t n = 0; n < copies.size(); ++n) taken.insert(taken.end(), copies[n], n);
    return taken;
}

std::string caption_of(const std::vector<size_t>& shape) {
    if (shape.size() < 2) return "Each line is one configuration, shifted upwards.";
    return shape.size() == 2
               ? "Each square is one configuration."
               : "Each square is the middle slice, across the first axis, of one configuration.";
}

void put_energies(const Context& context, const Evaluation& e, Plots& plots, ReportPage& page) {
    if (!e.target || !e.target->has_energy()) return;
    const auto energies = [&](const Array<double>& x) {
        std::vector<double> u(x.rows());
        energy(context, *e.target, x.rows(), x.data(), u.data());
        return u;
    };
    const std::vector<double> of_samples = energies(e.samples);
    std::vector<Plots::Series> series = {{"reference", energies(e.reference), {}}};
    if (e.weight.empty())
        series.push_back({"samples", of_samples, {}});
    else
        series.insert(series.end(), {{"samples, not weighted", of_samples, {}},
                                     {"samples, weighted", of_samples, {e.weight.begin(), e.weight.end()}}});
    plots.histograms("energy.png", "energy, kT", series);
    page.pictures.push_back(
        {"energy.png", "Energy", "Histograms of the energy over the range of the reference."});
}

void put_weights(const Evaluation& e, Plots& plots, ReportPage& page) {
    if (e.weight.empty()) return;
    double sum = 0, squares = 0, largest = 0;
    size_t zero = 0;
    for (const double w : e.weight)
        sum += w, squares += w * w, largest = std::max(largest, w), zero += w == 0;
    plots.weights("weights.png", e.weight);
    page.pictures.push_back(
        {"weights.png", "Weights",
         fmt::format(
             "Importance weights of the samples. Effective sample size: {:.3g} of the samples; the largest "
             "weight is {:.2g} of their sum; {} samples have weight 0.",
             sum * sum / squares / static_cast<double>(e.weight.size()), largest / sum, zero)});
}

} // namespace

void write_evaluation(const Context& context, const Evaluation& e, const ReportFolder& folder) {
    Plots plots;
    ReportPage page;
    const std::string what = e.weight.empty() ? "samples" : "samples, weighted";
    page.title = "Samples beside their reference";
    page.summary =
        fmt::format("{} {}samples of {} numbers, compared with {} of the reference.", e.samples.rows(),
                    e.weight.empty() ? "" : "weighted ", e.samples.cols(), e.reference.rows());
    page.facts = e.facts;
    page.tables.push_back(figures_table(e.result));
    put_observables(
        e.result,
        "Deviation: the difference in joint standard errors, for independent rows. Two-point function: "
        "connected, along the longest axes.",
        page);
    if (e.samples.cols() == 2 && !(e.target && e.target->lattice())) {
        plots.plane("plane.png", {what, e.samples}, e.weight, {"reference", e.reference});
        page.pictures.push_back(
            {"plane.png", "Both coordinates", "The first coordinate to the right, the second upwards."});
    } else if (e.samples.cols() > 1) {
        const size_t count = Plots::shown(e.shape);
        plots.configurations("configurations.png", e.shape, {what, rows_at(e.samples, typical(e, count))},
                             {"reference", rows_at(e.reference, spread(e.reference.rows(), count))});
        page.pictures.push_back({"configurations.png", "Configurations", caption_of(e.shape)});
    }
    put_energies(context, e, plots, page);
    plots.marginals("marginals.png", e.reference, e.samples, e.weight);
    page.pictures.push_back(
        {"marginals.png", "Marginals",
         "Single coordinates, evenly spread over those that are not constant: reference filled, " + what +
             " as a line."});
    if (!e.of_samples.two_point.empty()) {
        plots.two_point("two_point.png",
                        {{"reference", e.of_reference.two_point}, {what, e.of_samples.two_point}});
        page.pictures.push_back({"two_point.png", "Two-point function", "With standard errors."});
    }
    put_weights(e, plots, page);
    run_gnuplot(plots.script(), folder.work());
    write_numbers(e.result, folder.work());
    write_page(page, folder.work());
}

namespace {

/// Energy and mean over sites of every `step`-th kept state, chain by chain.
std::vector<Plots::Chains> series_of(const Context& context, const ChainsDrawn& drawn, size_t length,
                                     size_t step) {
    const size_t d = drawn.samples.cols(), chains = drawn.chains, points = length / step;
    std::vector<Plots::Chains> series = {{"energy, kT", {}}, {"mean over sites", {}}};
    for (Plots::Chains& quantity : series) quantity.values.resize(chains * points);
    std::vector<double> x(chains * d), u(chains);
    for (size_t k = 0; k < points; ++k) {
        drawn.samples.read(k * step * chains, chains, x.data());
        energy(context, drawn.target, chains, x.data(), u.data());
        for (size_t c = 0; c < chains; ++c) {
            double mean = 0;
            for (size_t i = 0; i < d; ++i) mean += x[c * d + i] / static_cast<double>(d);
            series[0].values[c * points + k] = u[c], series[1].values[c * points + k] = mean;
        }
    }
    return series;
}

Array<double> rows_of(const SampleFile& samples, const std::vector<size_t>& taken) {
    Array<double> rows(taken.size(), samples.cols());
    for (size_t k = 0; k < taken.size(); ++k) samples.read(taken[k], 1, rows.row(k));
    return rows;
}

} // namespace

void write_chains(const Context& context, const ChainsDrawn& drawn, const ReportFolder& folder) {
    const size_t length = drawn.samples.rows() / drawn.chains, step = std::max<size_t>(length / 20'000, 1);
    Plots plots;
    ReportPage page;
    page.title = "Markov chains of a target";
    page.summary =
        fmt::format("{} samples of {} numbers from {} chains; R-hat at most {}, effective sample size at "
                    "least {}.",
                    drawn.samples.rows(), drawn.samples.cols(), drawn.chains,
                    shown(number(drawn.result["r_hat_max"])), shown(number(drawn.result["ess_min"])));
    page.facts = drawn.facts;
    ReportTable table{"Chains", "", {"figure", "value"}, {}};
    for (const char* key : {"acceptance", "r_hat_max", "ess_min", "ess_energy", "energy_mean", "energy_error",
                            "autocorrelation_time", "warmup", "thinning"})
        if (drawn.result.contains(key)) {
            std::string name = key;
            std::replace(name.begin(), name.end(), '_', ' ');
            table.rows.push_back({name, shown(number(drawn.result[key]))});
        }
    page.tables.push_back(std::move(table));
    put_observables(
        drawn.result,
        "Errors count the autocorrelation of the chains. tau: integrated autocorrelation time in kept "
        "states, 1/2 when they are independent.",
        page);
    if (length >= 8) {
        const std::vector<Plots::Chains> series = series_of(context, drawn, length, step);
        plots.traces("traces.png", series, drawn.chains, length / step, step * drawn.thinning);
        plots.ranks("ranks.png", series, drawn.chains, length / step);
        plots.histograms("energy.png", "energy, kT", {{"energy", series[0].values, {}}});
        page.pictures.insert(
            page.pictures.end(),
            {{"traces.png", "Traces", "Up to four chains. Chains that mix lie over one another."},
             {"ranks.png", "Ranks",
              "Histograms of a chain's ranks among the values of all chains, for up to four of them: flat, "
              "with the "
              "band of two standard deviations of independent values, when the chains agree."},
             {"energy.png", "Energy", "All chains."}});
    }
    if (!drawn.observables.two_point.empty()) {
        plots.two_point("two_point.png", {{"chains", drawn.observables.two_point}});
        page.pictures.push_back({"two_point.png", "Two-point function", "With standard errors."});
    }
    const std::vector<size_t> shape = drawn.target.sample_shape();
    const size_t count = std::min(Plots::shown(shape), drawn.samples.rows()), rows = drawn.samples.rows();
    if (drawn.samples.cols() > 1 && rows >= 2 * count) {
        std::vector<size_t> first(count), last(count);
        for (size_t k = 0; k < count; ++k) first[k] = k, last[k] = rows - count + k;
        plots.configurations("configurations.png", shape, {"first kept", rows_of(drawn.samples, first)},
                             {"last kept", rows_of(drawn.samples, last)});
        page.pictures.push_back({"configurations.png", "Configurations", caption_of(shape)});
    }
    run_gnuplot(plots.script(), folder.work());
    write_numbers(drawn.result, folder.work());
    write_page(page, folder.work());
}

} // namespace dynkin::app

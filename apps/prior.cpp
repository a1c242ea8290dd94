// prior.cpp - score priors on the command line: fit, score, info.
#include "prior.h"
#include "engine/error.h"
#include "engine/npy.h"
#include "engine/tensor_file.h"
#include "run_state.h"
#include <algorithm>
#include <charconv>
#include <cmath>
#include <fmt/format.h>

namespace dynkin::app {
namespace {

double parse_number(const char* option, const std::string& text, double low, double high) {
    double value = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (status != std::errc{} || end != text.data() + text.size() || !(value >= low && value <= high))
        throw Error(ErrorKind::usage, fmt::format("{}: expected a number from {:g} to {:g}, got '{}'", option,
                                                  low, high, text));
    return value;
}

nlohmann::ordered_json law_figures(const Prior& prior) {
    nlohmann::ordered_json out = {{"prior", prior_kind_name(prior.options.kind)}};
    out["samples"] = prior.rows, out["dimension"] = prior.dimension();
    out["shape"] = prior.sample_shape;
    if (prior.options.kind != PriorKind::gaussian)
        out["degree"] = prior.options.degree, out["ridge"] = prior.options.ridge;
    if (const auto* law = std::get_if<ProductPrior>(&prior.law))
        out["constant_columns"] = std::count(law->scale.begin(), law->scale.end(), 0.0);
    if (const auto* law = std::get_if<GaussianPrior>(&prior.law))
        out["smallest_variance"] = law->variances.front(), out["largest_variance"] = law->variances.back();
    if (const auto* law = std::get_if<FlatPrior>(&prior.law)) {
        out["constant_columns"] = std::count(law->varies.begin(), law->varies.end(), 0);
        out["scale"] = law->scale, out["time_nodes"] = law->grid.node_time.size();
    }
    out["largest_sigma"] = prior.largest_noise();
    return out;
}

void put(Result& result, const nlohmann::ordered_json& figures) {
    for (const auto& [key, value] : figures.items()) result[key.c_str()] = value;
}

/// --sigma: one number, or an .npy of one number a point, none beyond the prior's largest.
std::vector<double> noise_levels(const std::string& text, const SampleFile& points, double largest) {
    if (!text.ends_with(".npy")) return {parse_number("--sigma", text, 0, 1e300)};
    const Array<double> levels = read_npy(text);
    if (levels.cols() != 1 || levels.rows() != points.rows())
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected one sigma for each of the {} points, got shape ({}, {})", text,
                                points.rows(), levels.rows(), levels.cols()));
    for (std::size_t n = 0; n < levels.rows(); ++n)
        require(
            levels[n] > 0 && levels[n] <= largest, ErrorKind::input,
            fmt::format("{}: row {} (counted from 0): expected a positive sigma of at most {:g}, got {:g}",
                        text, n, largest, levels[n]));
    return {levels.begin(), levels.end()};
}

/// Scores of all points, in batches, at one sigma or at one each; the sum of their squares.
template <class T> double write_scores(const Context& context, const Prior& prior, const SampleFile& points,
                                       const std::vector<double>& sigma, bool one, NoiseConvention convention,
                                       NpyWriter& writer) {
    const std::size_t d = prior.dimension(), given = batch_from_environment(),
                      batch = std::min(points.rows(),
                                       given ? given : std::clamp<std::size_t>((1u << 21) / d, 256, 1 << 17));
    const PriorScore<T> score(context, prior);
    Array<double> read(batch, d);
    Array<T> x(batch, d);
    double square = 0;
    for (std::size_t first = 0; first < points.rows(); first += batch) {
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
        const std::size_t count = std::min(batch, points.rows() - first);
        points.read(first, count, read.data());
        std::transform(read.data(), read.data() + count * d, x.data(),
                       [](double v) { return static_cast<T>(v); });
        score({count, x.data(), d, sigma.data() + (one ? 0 : first), one ? 1 : NoisyRows<T>::each_row,
               convention},
              x.data(), d);
        writer.write(first, count, x.data());
        for (std::size_t k = 0; k < count * d; ++k)
            square += static_cast<double>(x[k]) * static_cast<double>(x[k]);
    }
    return square;
}

} // namespace

int run_prior_fit(const Common& common, const PriorFit& options) {
    const Context context = make_context(common, Runs::on_cpu_or_device);
    Result result("fit", common, context);
    result.stage("fit");
    require_distinct(options.output, {options.samples});
    require_writable(options.output);
    PriorOptions fit;
    fit.kind = prior_kind(options.kind);
    if (options.degree) fit.degree = options.degree;
    if (options.ridge != "auto") fit.ridge = parse_number("--ridge", options.ridge, 0, 1);
    const SampleFile data(options.samples);
    const nlohmann::ordered_json configuration = {{"command", "fit"},
                                                  {"samples", options.samples},
                                                  {"prior", options.kind},
                                                  {"degree", fit.degree},
                                                  {"ridge", fit.ridge}};
    nlohmann::ordered_json identity = configuration;
    identity["input"] = data.fingerprint();
    identity["device"] = device_of(context);
    const CheckpointOptions checkpoint = checkpoint_of(options.output, identity, common, context);
    const Prior prior = fit_prior(context, data, fit, checkpoint);
    result.stage("write");
    write_prior(options.output, prior);
    Checkpoint(checkpoint).remove();
    write_configuration(options.output, configuration);
    put(result, law_figures(prior));
    result.print();
    return 0;
}

int run_prior_score(const Common& common, const PriorScoring& options) {
    const Context context = make_context(common, Runs::on_cpu_or_device);
    Result result("score", common, context);
    result.stage("score");
    require(!options.sigma.empty(), ErrorKind::usage,
            fmt::format("{}: a prior needs --sigma (and no -t)", options.prior));
    require_distinct(options.output, {options.prior, options.points});
    require_writable(options.output);
    const Prior prior = read_prior(options.prior);
    const std::size_t d = prior.dimension();
    const SampleFile points(options.points);
    if (points.cols() != d)
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected {} numbers a point, the dimension of {}, got {}",
                                options.points, d, options.prior, points.cols()));
    const auto convention = options.convention == "vp" ? NoiseConvention::vp : NoiseConvention::edm;
    double largest = prior.largest_noise();
    if (convention == NoiseConvention::vp) largest = std::min(largest / std::hypot(1, largest), 1 - 0x1p-53);
    const std::vector<double> sigma = noise_levels(options.sigma, points, largest);
    const bool single = options.precision == "float32", one = !options.sigma.ends_with(".npy");
    std::vector<std::size_t> shape{points.rows()};
    shape.insert(shape.end(), prior.sample_shape.begin(), prior.sample_shape.end());
    NpyWriter writer(options.output, shape, single ? 4 : 8);
    const double square = (single ? write_scores<float> : write_scores<double>)(context, prior, points, sigma,
                                                                                one, convention, writer);
    writer.commit();
    write_configuration(options.output, {{"command", "score"},
                                         {"prior", options.prior},
                                         {"points", options.points},
                                         {"sigma", options.sigma},
                                         {"convention", options.convention},
                                         {"precision", options.precision}});
    result["points"] = points.rows(), result["dimension"] = d;
    result["convention"] = options.convention;
    if (one) result["sigma"] = sigma[0];
    result["mean_square_score"] = square / static_cast<double>(points.rows());
    result.print();
    return 0;
}

bool is_prior_file(const std::string& path) { return tensor_format(path) == "dynkin-prior"; }

void put_prior(Result& result, const std::string& path) {
    result["kind"] = "prior";
    result["format"] = "dynkin-prior", result["format_version"] = 1;
    put(result, law_figures(read_prior(path)));
}

} // namespace dynkin::app

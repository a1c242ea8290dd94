// fit.cpp - `dynkin fit`: a model from samples, without training.
#include "engine/fit.h"
#include "command.h"
#include "engine/error.h"
#include "engine/file.h"
#include "engine/model_file.h"
#include "engine/target.h"
#include "engine/tile_fit.h"
#include "fit_energy.h"
#include "fit_nonlinear.h"
#include "prior.h"
#include "process_files.h"
#include "run_state.h"
#include <algorithm>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <memory>

namespace dynkin::app {
namespace {

struct Options {
    Common common;
    std::string samples, output, target, lattice, boundary = "free", process = "auto", pairs = "auto",
                                                  ridge = "auto";
    std::string symmetry = "auto", precision = "float64", levels = "auto", prior;
    std::size_t level_pairs = 1'000'000;
    int degree = 0, total_degree = 0, time_nodes = 0, dequantise = 0;
    double t_min = -1, t_end = -1, reference_scale = 0.6;
    bool drop_constant = false, from_energy = false;
    std::size_t rows = 0;
    int tile = 0, radius = 0;
    std::vector<double> boundary_values;
    std::string box, drift, noise; ///< drift of a linear or a nonlinear process
    double margin = 0.03;
    NonlinearFlags nonlinear;
};

std::vector<std::size_t> parse_shape(const std::string& text) {
    std::vector<std::size_t> shape;
    const char *at = text.data(), *end = at + text.size();
    while (true) {
        std::size_t n = 0;
        const auto [next, status] = std::from_chars(at, end, n);
        if (status != std::errc{} || n == 0 || n > (1u << 24) || shape.size() == 3 ||
            (next != end && *next != 'x'))
            throw Error(
                ErrorKind::usage,
                fmt::format("--lattice: expected one to three sides such as 16, 8x8 or 4x4x4, got '{}'",
                            text));
        shape.push_back(n);
        if (next == end) return shape;
        at = next + 1;
    }
}

double parse_ridge(const std::string& text) {
    if (text == "auto") return -1;
    double value = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (status != std::errc{} || end != text.data() + text.size() || !(value >= 0 && value <= 1))
        throw Error(ErrorKind::usage,
                    fmt::format("--ridge: expected auto or a number from 0 to 1, got '{}'", text));
    return value;
}

void use_levels(const Options& options, FitOptions& fit) {
    const std::string& text = options.levels;
    fit.structure = text == "auto"   ? Structure::automatic
                    : text == "flat" ? Structure::flat
                                     : Structure::levels;
    if (text == "auto" || text == "flat" || text == "all") return;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), fit.halvings);
    if (status != std::errc{} || end != text.data() + text.size() || fit.halvings < 1 || fit.halvings > 20)
        throw Error(
            ErrorKind::usage,
            fmt::format("--levels: expected auto, flat, all or a number of halvings from 1 to 20, got '{}'",
                        text));
}

/// Lattice and symmetry from the target, if one is given; its dimension must be the data's.
void use_target(const Options& options, const SampleFile& data, FitOptions& fit) {
    const Target target = read_target(options.target);
    if (target.dimension() != data.cols())
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected {} numbers a sample, the dimension of {}, got {}",
                                options.samples, target.dimension(), options.target, data.cols()));
    if (const Lattice* lattice = target.lattice()) fit.lattice = *lattice, fit.reflection_symmetric = true;
    fit.known_even = target.even();
}

/// "LO:HI" or one for each column, separated by commas.
void use_box(const Options& options, FitOptions& fit) {
    std::vector<double> lower, upper;
    const char *at = options.box.data(), *end = at + options.box.size();
    while (at != end) {
        double pair[2] = {};
        for (int k = 0; k < 2; ++k) {
            const auto [next, status] = std::from_chars(at, end, pair[k]);
            const bool good =
                status == std::errc{} &&
                (k == 0 ? next != end && *next == ':' : next == end || (*next == ',' && next + 1 != end));
            if (!good || !std::isfinite(pair[k]) || (k == 1 && !(pair[0] < pair[1])))
                throw Error(
                    ErrorKind::usage,
                    fmt::format("--box: expected LO:HI with LO < HI, or one for each column separated by "
                                "commas, got '{}'",
                                options.box));
            at = next == end ? end : next + 1;
        }
        lower.push_back(pair[0]), upper.push_back(pair[1]);
    }
    if (options.process == "box")
        fit.process = BoxProcess{std::move(lower), std::move(upper), options.margin};
    else
        fit.process = TorusProcess{std::move(lower), std::move(upper)};
}

FitOptions resolve(const Options& options, const SampleFile* data) {
    FitOptions fit;
    if (options.process == "ou") fit.process = OuProcess{};
    if (options.process == "ve") fit.process = VeProcess{};
    require(
        (options.process == "linear") == (!options.drift.empty() && !options.noise.empty()) &&
            options.drift.empty() == options.noise.empty(),
        ErrorKind::usage,
        "--process linear: needs --drift and --noise (nonlinear: --drift alone), which go with nothing else");
    if (options.process == "linear")
        fit.process = LinearProcess{read_matrix(options.drift, "drift"), read_matrix(options.noise, "noise")};
    if (options.process == "box" || options.process == "torus")
        use_box(options, fit);
    else
        require(options.box.empty() && options.radius == 0, ErrorKind::usage,
                "--box, --radius: go with --process box or torus");
    fit.radius = options.radius;
    if (options.process == "fitted") fit.process = FittedProcess{};
    fit.degree = options.degree, fit.total_degree = options.total_degree;
    if (options.pairs != "auto") fit.pairs = parse_pair_rules(options.pairs);
    fit.symmetry = options.symmetry == "even"   ? Symmetry::even
                   : options.symmetry == "none" ? Symmetry::none
                                                : Symmetry::automatic;
    fit.ridge = parse_ridge(options.ridge);
    use_levels(options, fit);
    fit.level_pairs = options.level_pairs;
    fit.time_nodes = options.time_nodes, fit.t_min = options.t_min, fit.t_end = options.t_end;
    fit.reference_scale = options.reference_scale;
    fit.drop_constant = options.drop_constant, fit.dequantise = options.dequantise;
    fit.single_precision = options.precision == "float32";
    fit.seed = options.common.seed, fit.batch = batch_from_environment();
    if (data && !options.target.empty()) use_target(options, *data, fit);
    if (!options.lattice.empty()) {
        Lattice lattice{parse_shape(options.lattice), Boundary::free};
        if (options.boundary == "periodic") lattice.boundary = Boundary::periodic;
        if (options.boundary == "zero" || options.boundary == "fixed") lattice.boundary = Boundary::fixed;
        require((options.boundary == "fixed") == !options.boundary_values.empty(), ErrorKind::usage,
                "--boundary fixed: needs --boundary-values, which go with nothing else");
        lattice.outside = options.boundary_values;
        lattice.check_outside("--boundary-values");
        fit.lattice = lattice, fit.reflection_symmetric = false;
    }
    return fit;
}

nlohmann::ordered_json configuration_of(const Options& options) {
    return {{"command", "fit"},
            {"samples", options.samples},
            {"seed", options.common.seed},
            {"target", options.target},
            {"lattice", options.lattice},
            {"boundary", options.boundary},
            {"boundary-values", options.boundary_values},
            {"process", options.process},
            {"degree", options.degree},
            {"total-degree", options.total_degree},
            {"pairs", options.pairs},
            {"ridge", options.ridge},
            {"symmetry", options.symmetry},
            {"time-nodes", options.time_nodes},
            {"t-min", options.t_min},
            {"t-end", options.t_end},
            {"reference-scale", options.reference_scale},
            {"dequantise", options.dequantise},
            {"drop-constant", options.drop_constant},
            {"precision", options.precision},
            {"box", options.box},
            {"margin", options.margin},
            {"drift", options.drift},
            {"noise", options.noise},
            {"radius", options.radius},
            {"levels", options.levels},
            {"level-pairs", options.level_pairs},
            {"tile", options.tile}};
}

void put_figures(Result& result, const FitReport& report, const Model& model) {
    auto levels = nlohmann::ordered_json::array();
    result["samples"] = report.samples, result["dimension"] = report.dimension;
    result["dropped_columns"] = report.dropped;
    result["blocks"] = model.blocks.size() + model.levels.size() + (model.waves || model.linear ? 1 : 0),
    result["basis_size"] = report.basis_size, result["moments"] = report.moments;
    result["symmetry"] = fmt::format("{} ({})", report.even ? "even" : "none", report.symmetry_reason);
    result["reference"] = report.reference, result["lambda_1"] = report.lambda_1;
    result["product_residual"] = report.product_residual, result["outside_box"] = report.outside;
    result["ridge"] = report.ridge, result["ridges_raised"] = report.ridges_raised;
    result["condition"] = report.condition, result["heldout_loss"] = report.heldout_loss;
    if (report.density_degree > 0)
        result["density_degree"] = report.density_degree, result["shrinkage"] = report.shrinkage;
    result["structure"] =
        fmt::format("{} ({})", model.levels.empty() ? "flat" : "levels", report.structure_reason);
    for (const LevelReport& level : report.levels) {
        nlohmann::ordered_json tried = nlohmann::ordered_json::object();
        for (const auto& [name, value] : level.tried) tried[name] = value;
        levels.push_back({{"name", level.name},
                          {"targets", level.targets},
                          {"pairs", level.pairs},
                          {"basis_size", level.basis_size},
                          {"basis", level.descriptors},
                          {"ridge", level.ridge},
                          {"steps", level.steps},
                          {"heldout", level.heldout},
                          {"tried", tried}});
    }
    if (!report.levels.empty()) result["levels"] = levels;
    result["max_correlation"] = report.max_correlation;
    if (model.levels.empty())
        result["process"] = process_name(model.process),
        result["t_min"] = process_time(model.process, model.times().t_min),
        result["t_end"] = process_time(model.process, model.times().t_end);
    result["moment_seconds"] = report.moment_seconds, result["moment_gflops"] = report.moment_gflops;
    result["solve_seconds"] = report.solve_seconds;
}

/// The conditionals of a tile beside the model of the whole lattice.
void add_tile(const Context& context, const Options& options, const SampleFile& data, Result& result,
              Model& model) {
    TileOptions tile;
    tile.side = options.tile, tile.seed = options.common.seed;
    tile.pairs = std::min(options.level_pairs, tile.pairs);
    std::vector<LevelReport> reports;
    result.stage("tile");
    model.tile = fit_tile(context, data, read_target(options.target), tile, &reports);
    nlohmann::ordered_json configuration = nlohmann::ordered_json::parse(model.configuration);
    auto levels = nlohmann::ordered_json::array();
    for (const LevelReport& level : reports)
        levels.push_back({{"name", level.name},
                          {"pairs", level.pairs},
                          {"basis_size", level.basis_size},
                          {"descriptors", level.descriptors},
                          {"ridge", level.ridge},
                          {"heldout", level.heldout}});
    configuration["tile"] = {{"side", options.tile}, {"levels", std::move(levels)}};
    model.configuration = configuration.dump();
    result["tile_levels"] = reports.size();
}

int run(const Options& options) {
    require(options.prior.empty() || options.process == "auto", ErrorKind::usage,
            "--prior: no model, so it goes without --process");
    if (options.process == "nonlinear") {
        require(!options.samples.empty(), ErrorKind::usage, "--process nonlinear: needs training samples");
        return run_nonlinear_fit(options.common, options.nonlinear,
                                 {options.samples, options.output, options.drift, options.degree,
                                  options.time_nodes, parse_ridge(options.ridge), options.t_min,
                                  options.t_end});
    }
    if (!options.prior.empty()) {
        require(!options.samples.empty() && !options.from_energy, ErrorKind::usage,
                "--prior: expected training samples");
        return run_prior_fit(options.common,
                             {options.samples, options.output, options.prior, options.degree, options.ridge});
    }
    require(options.tile == 0 || (!options.target.empty() && !options.from_energy), ErrorKind::usage,
            "--tile: needs samples and --target, whose conditionals draw the odd points");
    require(options.samples.empty() == options.from_energy, ErrorKind::usage,
            "fit: expected either training samples or --from-energy");
    require(!options.from_energy || options.process == "auto" || options.process == "fitted" ||
                options.process == "ou",
            ErrorKind::usage, "--from-energy: goes with --process fitted or ou");
    require(options.rows == 0 || options.from_energy, ErrorKind::usage, "-n: goes with --from-energy");
    if (options.from_energy)
        return run_energy_fit(options.common, options.target, options.output, options.rows,
                              resolve(options, nullptr), configuration_of(options));
    const Context context = make_context(options.common, Runs::on_cpu_or_device);
    Result result("fit", options.common, context);
    result.stage("fit");
    require_distinct(options.output, {options.samples, options.target});
    require_writable(options.output);
    const SampleFile data(options.samples);
    FitOptions fit_options = resolve(options, &data);
    nlohmann::ordered_json identity = configuration_of(options);
    identity["input"] = data.fingerprint();
    for (const auto& [name, file] :
         {std::pair("target_checksum", &options.target), std::pair("drift_checksum", &options.drift),
          std::pair("noise_checksum", &options.noise)})
        if (!file->empty()) identity[name] = checksum(read_file(*file, std::uint64_t{1} << 32));
    identity["device"] = device_of(context);
    fit_options.checkpoint = checkpoint_of(options.output, identity, options.common, context);
    FitReport report;
    Model model = fit(context, data, fit_options, &report);
    if (options.tile) add_tile(context, options, data, result, model);
    result.stage("write");
    write_model(options.output, model);
    Checkpoint(fit_options.checkpoint).remove();
    nlohmann::ordered_json written = configuration_of(options);
    written["resolved"] = nlohmann::ordered_json::parse(model.configuration);
    write_configuration(options.output, written);
    put_figures(result, report, model);
    result.print();
    if (report.ridges_raised)
        warn(fmt::format(
            "the ridge had to be raised in {} of the systems: more samples or fewer functions would help",
            report.ridges_raised));
    return 0;
}

const char* const footer =
    R"(No training: moments of the samples in the eigenfunctions of a reference diffusion, then one linear system per
time node. Rows stream from the file three times; memory does not grow with their number.

Examples:
  dynkin fit train.npy -o model.dynkin --target target.toml
  dynkin fit train.npy -o model.dynkin --lattice 8x8 --boundary periodic
  dynkin fit --target target.toml --from-energy -o model.dynkin
  dynkin fit train.npy -o model.dynkin --process nonlinear --drift swimmer.toml
  dynkin fit --prior product images.npy -o images.prior
  dynkin fit digits.npy -o digits.dynkin --dequantise 17 --drop-constant --pairs all:1)";

void add_basis_flags(CLI::App& command, Options& o) {
    command.add_option("--process", o.process, "forward process; auto: fitted, or ou for heavy tails")
        ->check(CLI::IsMember({"auto", "fitted", "ou", "ve", "box", "torus", "linear", "nonlinear"}))
        ->capture_default_str();
    command
        .add_option(
            "--degree", o.degree,
            "degree of one-coordinate functions, 0: 8 with a lattice, 6 without, 4 for ou; of one column: "
            "chosen; torus of more than three columns: frequencies, as in --pairs, 0: 4 with a lattice, 3 "
            "without")
        ->check(CLI::Range(0, 24))
        ->capture_default_str();
    command
        .add_option("--pairs", o.pairs,
                    "two-coordinate functions, e.g. nearest:3,all:1 - or range2:2, dependent:2, none, auto")
        ->capture_default_str();
    command
        .add_option(
            "--box", o.box,
            "box, torus: LO:HI of the box or of one period, or one for each column separated by commas; "
            "by default from the data (torus: 0 or -pi and 2 pi more)")
        ->type_name("LO:HI");
    command.add_option("--margin", o.margin, "box: added on both sides of one from the data, of its width")
        ->check(CLI::Range(0.0, 10.0))
        ->capture_default_str();
    command
        .add_option(
            "--radius", o.radius,
            "box, torus: largest frequency of the basis in up to three dimensions, 0: 64, 32, 12 (torus: "
            "half)")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
    command
        .add_option(
            "--drift", o.drift,
            "linear: B of dX = B X dt + S dW, an .npy, or a .toml with [process] drift = [[...], ...]; "
            "nonlinear: f and g of dX = f(X) dt + g dW, a .toml with [drift]")
        ->type_name("FILE");
    command.add_option("--noise", o.noise, "linear: S, in the same way")->type_name("FILE");
    command.add_option("--total-degree", o.total_degree, "largest total degree of a pair, 0: no limit")
        ->check(CLI::Range(0, 48))
        ->capture_default_str();
    command.add_option("--symmetry", o.symmetry, "even: the law is symmetric under x -> -x")
        ->check(CLI::IsMember({"auto", "even", "none"}))
        ->capture_default_str();
    command.add_option("--reference-scale", o.reference_scale, "scale of the fitted potential")
        ->check(CLI::Range(0.05, 2.0))
        ->capture_default_str();
    command
        .add_option("--levels", o.levels,
                    "flat: one joint diffusion; all: levels from coarse to fine; N: N halvings of a flat "
                    "sublattice; auto: by "
                    "held-out log-likelihood")
        ->capture_default_str();
    command
        .add_option("--tile", o.tile,
                    "side of the tiles of draw --sampler model (4, 8 or 16), whose conditionals are fitted "
                    "as well; 0: none")
        ->check(CLI::IsMember({0, 4, 8, 16}))
        ->capture_default_str();
    command.add_option("--level-pairs", o.level_pairs, "at most so many training pairs a level")
        ->capture_default_str();
    command.add_option("--ridge", o.ridge, "ridge, or auto: by held-out score-matching loss")
        ->capture_default_str();
    command.add_option("--time-nodes", o.time_nodes, "intervals between solved times, 0: chosen")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
    command.add_option("--t-min", o.t_min, "smallest time, negative: chosen")->capture_default_str();
    command.add_option("--t-end", o.t_end, "largest time, negative: chosen")->capture_default_str();
    command.add_option("--precision", o.precision, "of the moments' products")
        ->check(CLI::IsMember({"float64", "float32"}))
        ->capture_default_str();
}

} // namespace

Command fit_command(CLI::App& parent) {
    CLI::App* command = parent.add_subcommand("fit", "fit a model to samples, without training");
    auto options = std::make_shared<Options>();
    Options& o = *options;
    command->add_option("samples", o.samples, "training samples, .npy of shape (N, d) or (N, *lattice)")
        ->type_name("FILE");
    command->add_option("-o,--output", o.output, "the model")->required()->type_name("FILE");
    auto* target =
        command->add_option("--target", o.target, "target: gives lattice and symmetry")->type_name("TOML");
    command->add_flag("--from-energy", o.from_energy, "no samples: from the energy of --target alone");
    command->add_option("-n,--rows", o.rows, "rows of each set of --from-energy, 0: 20000")
        ->capture_default_str();
    command->add_option("--lattice", o.lattice, "sides of the lattice, e.g. 16 or 8x8")->excludes(target);
    command->add_option("--boundary", o.boundary, "of --lattice; periodic: all sites are equivalent")
        ->check(CLI::IsMember({"periodic", "free", "zero", "fixed"}))
        ->capture_default_str();
    command
        ->add_option("--boundary-values", o.boundary_values,
                     "of --boundary fixed: before the first and after the last site of each axis, 2 an axis")
        ->delimiter(',')
        ->type_name("NUMBERS");
    command->add_flag("--drop-constant", o.drop_constant, "leave constant columns out; sample restores them");
    command
        ->add_option("--dequantise", o.dequantise,
                     "L: the data are integers 0 .. L-1, made continuous as (x + u)/L")
        ->check(CLI::Range(0, 1 << 20))
        ->capture_default_str();
    command
        ->add_option("--prior", o.prior,
                     "no model but a score prior: product (each column alone), gaussian or flat (all pairs); "
                     "of the other options --degree (0: 6) and --ridge (auto: 1e-3) apply")
        ->check(CLI::IsMember({"product", "gaussian", "flat"}));
    add_basis_flags(*command, o);
    add_nonlinear_flags(*command, o.nonlinear);
    add_common_flags(*command, o.common, true);
    command->footer(footer);
    return {command, [options, command] {
                if (options->process != "nonlinear") require_no_nonlinear_flags(*command);
                return run(*options);
            }};
}

} // namespace dynkin::app

#include "local_metropolis.h"
#include "error.h"
#include "local_chains.h"
#include "local_device.h"
#include "mcmc_archive.h"
#include "mcmc_chains.h"
#include "mcmc_record.h"
#include "mcmc_start.h"
#include "parallel.h"
#include "progress.h"
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <optional>

namespace dynkin {

using kernels::kScoreTile;
using std::size_t;

namespace {

constexpr size_t measured_chains = 64, measured_coordinates = 16; // for autocorrelation times
constexpr std::uint64_t burn_in = 32, longest_measurement = 6400;
constexpr double good_r_hat = 1.02;

enum class Stage : std::uint64_t { burn_in, measure, draw };

/// Chains: LocalChains on the CPU, DeviceLocalChains on the device.
template <class Chains> class Run {
  public:
    Run(const Context& context, const Target& target, const Tile* tile, const LocalOptions& options,
        NpyWriter& output)
        : context_(context), target_(target), options_(options), output_(output),
          chains_(chosen_chains(options)), blocks_((chains_ + kScoreTile - 1) / kScoreTile),
          d_(target.dimension()), watched_(d_, measured_coordinates), recorded_(d_, record_coordinates, true),
          moving_(context, target, tile, chains_), checkpoint_(options.checkpoint) {}

    McmcReport operator()() {
        if (const auto saved = checkpoint_.restore())
            restore(*saved);
        else
            begin();
        warm_up();
        draw();
        return report();
    }

  private:
    static size_t chosen_chains(const LocalOptions& options) {
        return options.chains ? options.chains
                              : std::clamp<size_t>(std::bit_floor(std::max<size_t>(options.samples / 100, 1)),
                                                   kScoreTile, 1024);
    }
    void begin();
    void over_dispersed(Array<float>& x) const;
    void begin_measurement(std::uint64_t length);
    void warm_up();
    void end_of_measurement();
    void prepare_draw();
    void draw();
    McmcReport report();

    void advance(std::uint64_t rounds, std::uint64_t each, const LocalWatch& watch);
    std::uint64_t rounds_at_once(std::uint64_t each) const;

    void save_if_due(const Progress& progress);
    void save();
    void restore(const TensorFile& saved);
    template <class Archive> void transfer(Archive& archive);

    const Context& context_;
    const Target& target_;
    const LocalOptions& options_;
    NpyWriter& output_;
    size_t chains_, blocks_, d_;
    Quantities watched_, recorded_;
    Chains moving_;
    Checkpoint checkpoint_;

    Stage stage_ = Stage::burn_in;
    std::uint64_t done_ = 0, length_ = 0; ///< iterations of this stage
    std::uint64_t iteration_ = 0, warmup_ = 0, thinning_ = 0, round_ = 0, rounds_ = 0;
    double slowest_ = 0;           ///< autocorrelation time in iterations
    std::vector<double> measured_; ///< (quantity, chain, iteration)
    std::optional<Record> record_;
};

template <class Chains> void Run<Chains>::begin() {
    Array<float> x(blocks_, d_ * kScoreTile);
    if (options_.start.empty())
        over_dispersed(x);
    else {
        const SampleFile file(options_.start);
        require(
            file.cols() == d_, ErrorKind::input,
            fmt::format("{}: expected {} numbers a row, got {}", options_.start.string(), d_, file.cols()));
        std::vector<float> row(d_);
        for (size_t c = 0; c < blocks_ * kScoreTile; ++c) {
            file.read(c % file.rows(), 1, row.data());
            for (size_t i = 0; i < d_; ++i) x(c / kScoreTile, i * kScoreTile + c % kScoreTile) = row[i];
        }
    }
    const float box = static_cast<float>(0.999 * moving_.box());
    for (float& v : x.span()) v = std::clamp(v, -box, box);
    moving_.set_states(std::move(x));
    stage_ = Stage::burn_in, length_ = burn_in;
}

/// The same on every device: these chains are the CPU's.
template <class Chains> void Run<Chains>::over_dispersed(Array<float>& x) const {
    const EnergyLaw law(target_);
    McmcChains chains(context_, law.view(), blocks_ * kScoreTile, 1, 8);
    start_chains(chains, std::visit([](const auto& t) { return start_ranges(t); }, target_.law),
                 options_.seed, target_);
    for (size_t c = 0; c < blocks_ * kScoreTile; ++c)
        for (size_t i = 0; i < d_; ++i)
            x(c / kScoreTile, i * kScoreTile + c % kScoreTile) = static_cast<float>(chains.x(0, c, i));
}

template <class Chains>
void Run<Chains>::advance(std::uint64_t rounds, std::uint64_t each, const LocalWatch& watch) {
    moving_.advance({options_.seed, iteration_, rounds, each, stage_ == Stage::burn_in}, watch);
    iteration_ += rounds * each;
}

/// Bounded by 16 MiB of rows and about 2^24 site updates a thread, so that interrupts are seen soon.
template <class Chains> std::uint64_t Run<Chains>::rounds_at_once(std::uint64_t each) const {
    const double row = static_cast<double>(blocks_ * kScoreTile * d_);
    const double most =
        std::min(0x1p21 / row, 0x1p24 * context_.threads() / (row * static_cast<double>(each)));
    return static_cast<std::uint64_t>(std::max(most, 1.0));
}

template <class Chains> void Run<Chains>::begin_measurement(std::uint64_t length) {
    stage_ = Stage::measure, done_ = 0, length_ = length;
    measured_.assign(watched_.count() * std::min(chains_, measured_chains) * length_, 0.0);
}

template <class Chains> void Run<Chains>::warm_up() {
    Progress progress(context_, "warm-up",
                      options_.warmup ? static_cast<std::uint64_t>(options_.warmup) : 160);
    while (stage_ != Stage::draw) {
        const std::uint64_t now = std::min(rounds_at_once(1), length_ - done_), first = done_;
        const size_t chains = std::min(chains_, measured_chains);
        const LocalWatch::Put put = [&](size_t chain, size_t round, std::span<const double> values) {
            for (size_t q = 0; q < values.size(); ++q)
                measured_[(q * chains + chain) * length_ + first + round] = values[q];
        };
        advance(now, 1, {watched_, stage_ == Stage::measure ? chains : 0, nullptr, put});
        done_ += now;
        if (done_ == length_) {
            if (stage_ == Stage::burn_in)
                begin_measurement(
                    options_.warmup
                        ? std::max<std::uint64_t>(static_cast<std::uint64_t>(options_.warmup) - burn_in, 8)
                        : 128);
            else
                end_of_measurement();
        }
        progress.set(iteration_);
        save_if_due(progress);
    }
}

/// The slowest quantity sets the thinning; a measurement too short for it, or in which the chains still
/// remember where they began, is repeated at twice the length.
template <class Chains> void Run<Chains>::end_of_measurement() {
    const size_t count = std::min(chains_, measured_chains), size = count * length_;
    slowest_ = 1;
    double r_hat = 1;
    for (size_t q = 0; q < watched_.count(); ++q) {
        const auto values = std::span(measured_).subspan(q * size, size);
        const double ess = effective_sample_size(values, count, length_);
        slowest_ = std::max(slowest_, ess > 0 ? static_cast<double>(size) / ess : static_cast<double>(size));
        r_hat = std::max(r_hat, split_r_hat(values, count, length_));
    }
    const bool enough = r_hat <= good_r_hat && static_cast<double>(length_) >= 50 * slowest_;
    if (!options_.warmup && !enough && 2 * length_ <= longest_measurement)
        return begin_measurement(2 * length_);
    measured_.clear();
    warmup_ = iteration_;
    thinning_ = options_.thinning
                    ? static_cast<std::uint64_t>(options_.thinning)
                    : static_cast<std::uint64_t>(std::clamp(std::ceil(1.5 * slowest_), 1.0, 1000.0));
    stage_ = Stage::draw;
    moving_.set_counts(std::vector<MoveCount>(blocks_));
    prepare_draw();
}

template <class Chains> void Run<Chains>::prepare_draw() {
    // As run_mcmc(): enough rounds for an R-hat; those beyond the samples are not written.
    const size_t wanted = (options_.samples + chains_ - 1) / chains_;
    rounds_ = std::max({wanted, size_t{8}, (400 + chains_ - 1) / chains_});
    if (rounds_ > (std::numeric_limits<std::uint32_t>::max() - iteration_) / thinning_)
        throw Error(ErrorKind::usage,
                    fmt::format("draw: {} iterations of each chain are more than 2^32; use more chains",
                                static_cast<double>(rounds_) * static_cast<double>(thinning_)));
    record_.emplace(recorded_.count(), chains_, rounds_, options_.samples);
}

template <class Chains> void Run<Chains>::draw() {
    const std::uint64_t most = rounds_at_once(thinning_);
    std::vector<float> rows(most * chains_ * d_);
    Progress progress(context_, "draw", rounds_);
    progress.set(round_);
    while (round_ < rounds_) {
        const std::uint64_t now = std::min(most, rounds_ - round_);
        const LocalWatch::Put put = [&](size_t chain, size_t round, std::span<const double> values) {
            record_->put(chain, round_ + round, values);
        };
        advance(now, thinning_, {recorded_, chains_, rows.data(), put});
        const size_t first = round_ * chains_;
        if (first < options_.samples)
            output_.write(first, std::min<size_t>(now * chains_, options_.samples - first), rows.data());
        round_ += now;
        progress.set(round_);
        if (round_ < rounds_) save_if_due(progress);
    }
}

template <class Chains> template <class Archive> void Run<Chains>::transfer(Archive& archive) {
    auto stage = static_cast<std::uint64_t>(stage_);
    archive("position", stage, done_, length_, iteration_, warmup_, thinning_, round_, rounds_);
    stage_ = static_cast<Stage>(stage);
    archive("slowest", slowest_);
    archive("measured", measured_);
    std::vector<std::uint64_t> counts;
    std::vector<double> x;
    if constexpr (std::is_same_v<Archive, Saver>) {
        const Array<float>& states = moving_.states();
        x.assign(states.begin(), states.end());
        for (const MoveCount& count : moving_.counts())
            counts.insert(counts.end(), {count.accepted, count.proposed});
    }
    archive("counts", counts), archive("x", x);
    if constexpr (std::is_same_v<Archive, Loader>) {
        require(x.size() == blocks_ * d_ * kScoreTile && counts.size() == 2 * blocks_, ErrorKind::input,
                archive.file.source + ": the checkpoint is of another number of chains");
        Array<float> states(blocks_, d_ * kScoreTile);
        std::transform(x.begin(), x.end(), states.begin(), [](double v) { return static_cast<float>(v); });
        moving_.set_states(std::move(states));
        std::vector<MoveCount> moved;
        for (size_t b = 0; b < blocks_; ++b) moved.push_back({counts[2 * b], counts[2 * b + 1]});
        moving_.set_counts(moved);
    }
}

template <class Chains> void Run<Chains>::save_if_due(const Progress& progress) {
    const bool stop = progress.interrupted();
    if (checkpoint_.enabled() && (stop || checkpoint_.due())) save();
    if (stop) progress.throw_interrupted();
}

template <class Chains> void Run<Chains>::save() {
    output_.sync();
    Saver saver;
    transfer(saver);
    if (record_) record_->transfer(saver);
    checkpoint_.save(std::move(saver.file));
    output_.keep();
}

template <class Chains> void Run<Chains>::restore(const TensorFile& saved) {
    Loader loader{saved};
    transfer(loader);
    const bool sound = stage_ == Stage::burn_in || stage_ == Stage::draw ||
                       measured_.size() == watched_.count() * std::min(chains_, measured_chains) * length_;
    require(sound && stage_ <= Stage::draw && done_ <= length_, ErrorKind::input,
            saved.source + ": not a consistent checkpoint");
    if (stage_ != Stage::draw) return;
    const size_t rows = std::min<size_t>(round_ * chains_, options_.samples);
    output_.require_rows_present(rows);
    record_.emplace(recorded_.count(), chains_, rounds_, options_.samples);
    record_->transfer(loader);
}

template <class Chains> McmcReport Run<Chains>::report() {
    McmcReport r;
    MoveCount count;
    for (const MoveCount& c : moving_.counts()) count.accepted += c.accepted, count.proposed += c.proposed;
    r.acceptance =
        static_cast<double>(count.accepted) / static_cast<double>(std::max<std::uint64_t>(count.proposed, 1));
    r.chains = chains_, r.warmup = static_cast<int>(warmup_), r.thinning = static_cast<int>(thinning_);
    r.autocorrelation_time = slowest_;
    const size_t judged = recorded_.judged();
    std::vector<double> r_hat(judged), ess(judged);
    parallel_for(context_.threads(), judged, [&](size_t q, size_t) {
        r_hat[q] = split_r_hat(record_->of(record_->first, q), chains_, record_->length);
        ess[q] = record_->effective_rows(q);
    });
    r.r_hat_max = *std::max_element(r_hat.begin(), r_hat.end());
    r.ess_min = *std::min_element(ess.begin(), ess.end());
    r.ess_energy = ess[recorded_.energy()];
    r.energy_mean = record_->mean(recorded_.energy()), r.energy_error = record_->error(recorded_.energy());
    r.edge_energy = record_->mean(judged), r.edge_energy_error = record_->error(judged);
    return r;
}

} // namespace

McmcReport run_local_metropolis(const Context& context, const Target& target, const Tile* tile,
                                const LocalOptions& options, NpyWriter& output) {
    const auto within = [](bool good, const char* name, const char* expected, auto got) {
        require(good, ErrorKind::usage, fmt::format("draw: {}: expected {}, got {}", name, expected, got));
    };
    within(options.samples > 0, "samples", "at least 1", options.samples);
    within(options.chains <= (size_t{1} << 24), "chains", "at most 2^24", options.chains);
    within(options.warmup == 0 || (options.warmup >= 64 && options.warmup <= 1 << 24), "warmup",
           "at least 64", options.warmup);
    within(options.thinning >= 0 && options.thinning <= 1 << 20, "thinning", "1 to 2^20", options.thinning);
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return Run<DeviceLocalChains>(context, target, tile, options, output)();
    return Run<LocalChains>(context, target, tile, options, output)();
}

} // namespace dynkin

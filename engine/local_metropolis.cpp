#include "local_metropolis.h"
#include "error.h"
#include "local_moves.h"
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
constexpr std::uint64_t burn_in = 32, sweep_every = 32, longest_measurement = 6400;
constexpr double good_r_hat = 1.02;

enum class Stage : std::uint64_t { burn_in, measure, draw };

class Run {
  public:
    Run(const Context& context, const Target& target, const Tile* tile, const LocalOptions& options,
        NpyWriter& output)
        : context_(context), target_(target), options_(options), output_(output),
          moves_(context, target, tile), even_(target.even()), chains_(chosen_chains(options)),
          blocks_((chains_ + kScoreTile - 1) / kScoreTile), d_(target.dimension()),
          watched_(d_, measured_coordinates), recorded_(d_, record_coordinates, true),
          x_(blocks_, d_ * kScoreTile),
          scratch_(static_cast<size_t>(context.threads()), moves_.scratch() + 1), counts_(blocks_),
          checkpoint_(options.checkpoint) {}

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
    void over_dispersed();
    void begin_measurement(std::uint64_t length);
    void warm_up();
    void end_of_measurement();
    void prepare_draw();
    void draw();
    McmcReport report();

    template <class Visit> void advance(std::uint64_t rounds, std::uint64_t each, const Visit& visit);
    void observe(const Quantities& quantities, size_t block, double* out, size_t quantity_stride,
                 size_t chain_stride, size_t chains) const;
    std::uint64_t rounds_at_once(std::uint64_t each) const;

    void save_if_due(const Progress& progress);
    void save();
    void restore(const TensorFile& saved);
    template <class Archive> void transfer(Archive& archive);

    const Context& context_;
    const Target& target_;
    const LocalOptions& options_;
    NpyWriter& output_;
    LocalMoves moves_;
    bool even_;
    size_t chains_, blocks_, d_;
    Quantities watched_, recorded_;
    Array<float> x_; ///< (block, site, chain)
    Array<float> scratch_;
    std::vector<MoveCount> counts_; ///< of each block, while drawing
    Checkpoint checkpoint_;

    Stage stage_ = Stage::burn_in;
    std::uint64_t done_ = 0, length_ = 0; ///< iterations of this stage
    std::uint64_t iteration_ = 0, warmup_ = 0, thinning_ = 0, round_ = 0, rounds_ = 0;
    double slowest_ = 0;           ///< autocorrelation time in iterations
    std::vector<double> measured_; ///< (quantity, chain, iteration)
    std::optional<Record> record_;
};

void Run::begin() {
    if (options_.start.empty())
        over_dispersed();
    else {
        const SampleFile file(options_.start);
        require(
            file.cols() == d_, ErrorKind::input,
            fmt::format("{}: expected {} numbers a row, got {}", options_.start.string(), d_, file.cols()));
        std::vector<float> row(d_);
        for (size_t c = 0; c < blocks_ * kScoreTile; ++c) {
            file.read(c % file.rows(), 1, row.data());
            for (size_t i = 0; i < d_; ++i) x_(c / kScoreTile, i * kScoreTile + c % kScoreTile) = row[i];
        }
    }
    const float box = static_cast<float>(0.999 * moves_.box());
    for (float& v : x_.span()) v = std::clamp(v, -box, box);
    stage_ = Stage::burn_in, length_ = burn_in;
}

void Run::over_dispersed() {
    const EnergyLaw law(target_);
    McmcChains chains(context_, law.view(), blocks_ * kScoreTile, 1, 8);
    start_chains(chains, std::visit([](const auto& t) { return start_ranges(t); }, target_.law),
                 options_.seed, target_);
    for (size_t c = 0; c < blocks_ * kScoreTile; ++c)
        for (size_t i = 0; i < d_; ++i)
            x_(c / kScoreTile, i * kScoreTile + c % kScoreTile) = static_cast<float>(chains.x(0, c, i));
}

/// `rounds` times `each` iterations; after each round, visit(round, block) on the thread that moved the
/// block.
template <class Visit> void Run::advance(std::uint64_t rounds, std::uint64_t each, const Visit& visit) {
    parallel_for(context_.threads(), blocks_, [&](size_t block, size_t thread) {
        std::uint64_t step = iteration_;
        for (std::uint64_t round = 0; round < rounds; ++round) {
            for (std::uint64_t k = 0; k < each; ++k, ++step)
                moves_.advance(options_.seed, block * kScoreTile, static_cast<std::uint32_t>(step),
                               stage_ == Stage::burn_in || step % sweep_every == 0, x_.row(block),
                               scratch_.row(thread), counts_[block]);
            visit(round, block);
        }
    });
    iteration_ += rounds * each;
}

/// out[quantity * quantity_stride + chain * chain_stride] of the first chains of a block.
void Run::observe(const Quantities& quantities, size_t block, double* out, size_t quantity_stride,
                  size_t chain_stride, size_t chains) const {
    const float* x = x_.row(block);
    double energy[kScoreTile], edges[kScoreTile], sum[kScoreTile] = {}, square[kScoreTile] = {};
    moves_.energies(x, energy, edges);
    for (size_t i = 0; i < d_; ++i)
        for (size_t p = 0; p < kScoreTile; ++p) {
            const double v = static_cast<double>(x[i * kScoreTile + p]);
            sum[p] += v, square[p] += v * v;
        }
    for (size_t p = 0; p < chains; ++p) {
        double* at = out + p * chain_stride;
        for (const size_t i : quantities.coordinates) {
            *at = static_cast<double>(x[i * kScoreTile + p]);
            at += quantity_stride;
        }
        at[0] = energy[p];
        const double mean = sum[p] / static_cast<double>(d_);
        at[quantity_stride] = even_ ? mean * mean : mean;
        at[2 * quantity_stride] = square[p] / static_cast<double>(d_);
        if (quantities.edges) at[3 * quantity_stride] = edges[p];
    }
}

/// Bounded by 16 MiB of rows and about 2^24 site updates a thread, so that interrupts are seen soon.
std::uint64_t Run::rounds_at_once(std::uint64_t each) const {
    const double row = static_cast<double>(blocks_ * kScoreTile * d_);
    const double most =
        std::min(0x1p21 / row, 0x1p24 * context_.threads() / (row * static_cast<double>(each)));
    return static_cast<std::uint64_t>(std::max(most, 1.0));
}

void Run::begin_measurement(std::uint64_t length) {
    stage_ = Stage::measure, done_ = 0, length_ = length;
    measured_.assign(watched_.count() * std::min(chains_, measured_chains) * length_, 0.0);
}

void Run::warm_up() {
    Progress progress(context_, "warm-up",
                      options_.warmup ? static_cast<std::uint64_t>(options_.warmup) : 160);
    while (stage_ != Stage::draw) {
        const std::uint64_t now = std::min(rounds_at_once(1), length_ - done_), first = done_;
        const size_t chains = std::min(chains_, measured_chains);
        advance(now, 1, [&](std::uint64_t round, size_t block) {
            if (stage_ == Stage::measure && block == 0)
                observe(watched_, 0, measured_.data() + first + round, chains * length_, length_, chains);
        });
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
void Run::end_of_measurement() {
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
    counts_.assign(blocks_, {});
    prepare_draw();
}

void Run::prepare_draw() {
    // As run_mcmc(): enough rounds for an R-hat; those beyond the samples are not written.
    const size_t wanted = (options_.samples + chains_ - 1) / chains_;
    rounds_ = std::max({wanted, size_t{8}, (400 + chains_ - 1) / chains_});
    if (rounds_ > (std::numeric_limits<std::uint32_t>::max() - iteration_) / thinning_)
        throw Error(ErrorKind::usage,
                    fmt::format("draw: {} iterations of each chain are more than 2^32; use more chains",
                                static_cast<double>(rounds_) * static_cast<double>(thinning_)));
    record_.emplace(recorded_.count(), chains_, rounds_, options_.samples);
}

void Run::draw() {
    const std::uint64_t most = rounds_at_once(thinning_);
    std::vector<float> rows(most * chains_ * d_);
    Progress progress(context_, "draw", rounds_);
    progress.set(round_);
    while (round_ < rounds_) {
        const std::uint64_t now = std::min(most, rounds_ - round_);
        advance(now, thinning_, [&](std::uint64_t round, size_t block) {
            const size_t begin = block * kScoreTile,
                         chains = std::min(kScoreTile * (block + 1), chains_) - begin,
                         quantities = recorded_.count();
            std::array<double, (record_coordinates + 4) * kScoreTile> values;
            observe(recorded_, block, values.data(), 1, quantities, chains);
            for (size_t p = 0; p < chains; ++p) {
                for (size_t i = 0; i < d_; ++i)
                    rows[(round * chains_ + begin + p) * d_ + i] = x_(block, i * kScoreTile + p);
                record_->put(begin + p, round_ + round,
                             std::span(values).subspan(p * quantities, quantities));
            }
        });
        const size_t first = round_ * chains_;
        if (first < options_.samples)
            output_.write(first, std::min<size_t>(now * chains_, options_.samples - first), rows.data());
        round_ += now;
        progress.set(round_);
        if (round_ < rounds_) save_if_due(progress);
    }
}

template <class Archive> void Run::transfer(Archive& archive) {
    auto stage = static_cast<std::uint64_t>(stage_);
    archive("position", stage, done_, length_, iteration_, warmup_, thinning_, round_, rounds_);
    stage_ = static_cast<Stage>(stage);
    archive("slowest", slowest_);
    archive("measured", measured_);
    std::vector<std::uint64_t> counts;
    std::vector<double> x(x_.begin(), x_.end());
    for (const MoveCount& count : counts_) counts.insert(counts.end(), {count.accepted, count.proposed});
    archive("counts", counts), archive("x", x);
    if constexpr (std::is_same_v<Archive, Loader>) {
        require(x.size() == x_.size() && counts.size() == 2 * blocks_, ErrorKind::input,
                archive.file.source + ": the checkpoint is of another number of chains");
        std::transform(x.begin(), x.end(), x_.begin(), [](double v) { return static_cast<float>(v); });
        for (size_t b = 0; b < blocks_; ++b) counts_[b] = {counts[2 * b], counts[2 * b + 1]};
    }
}

void Run::save_if_due(const Progress& progress) {
    const bool stop = progress.interrupted();
    if (checkpoint_.enabled() && (stop || checkpoint_.due())) save();
    if (stop) progress.throw_interrupted();
}

void Run::save() {
    output_.sync();
    output_.keep();
    Saver saver;
    transfer(saver);
    if (record_) {
        saver("record.first", record_->first);
        saver("record.sum", record_->sum);
        saver("record.total", record_->total);
    }
    checkpoint_.save(std::move(saver.file));
}

void Run::restore(const TensorFile& saved) {
    Loader loader{saved};
    transfer(loader);
    const bool sound = stage_ == Stage::burn_in || stage_ == Stage::draw ||
                       measured_.size() == watched_.count() * std::min(chains_, measured_chains) * length_;
    require(sound && stage_ <= Stage::draw && done_ <= length_, ErrorKind::input,
            saved.source + ": not a consistent checkpoint");
    if (stage_ != Stage::draw) return;
    const size_t rows = std::min<size_t>(round_ * chains_, options_.samples);
    if (output_.rows_present() < rows)
        throw Error(ErrorKind::io,
                    fmt::format("{}.partial: {} rows, and the checkpoint was saved after {}: delete the "
                                "checkpoint to start again",
                                output_.path().string(), output_.rows_present(), rows));
    record_.emplace(recorded_.count(), chains_, rounds_, options_.samples);
    record_->first = saved.f64("record.first", record_->first.size());
    record_->sum = saved.f64("record.sum", record_->sum.size());
    record_->total = saved.f64("record.total", record_->total.size());
}

McmcReport Run::report() {
    McmcReport r;
    MoveCount count;
    for (const MoveCount& c : counts_) count.accepted += c.accepted, count.proposed += c.proposed;
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
    return Run(context, target, tile, options, output)();
}

} // namespace dynkin

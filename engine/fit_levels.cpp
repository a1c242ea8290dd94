// fit_levels.cpp - fit() of a multilevel model: which levels, their training pairs, one after another.
#include "../kernels/philox.h"
#include "fitter.h"
#include "parallel.h"
#include "progress.h"
#include "random.h"
#include <algorithm>
#include <cmath>
#include <fmt/core.h>

namespace dynkin {

bool Fitter::use_levels() { return options_.structure == Structure::levels; }

/// The lattice distance at which correlations have fallen below 0.02.
double Fitter::measured_reach() const {
    if (options_.level_reach > 0) return options_.level_reach;
    const Lattice& lattice = *options_.lattice;
    const auto& c = marginal_.correlation;
    std::vector<double> sum, count;
    for (size_t i = 0; i < c.rows(); ++i)
        for (size_t j = 0; j < i; ++j) {
            const size_t r = static_cast<size_t>(lattice.distance(static_cast<int>(i), static_cast<int>(j)));
            if (r >= sum.size()) sum.resize(r + 1, 0), count.resize(r + 1, 0);
            sum[r] += std::abs(c(i, j)), count[r] += 1;
        }
    size_t reach = sum.size();
    while (reach > 1 && (count[reach - 1] == 0 || sum[reach - 1] < 0.02 * count[reach - 1])) --reach;
    return std::max(8.0, static_cast<double>(reach));
}

/// Pairs from all rows: of each an equal share of the places that look like the targets', at a random offset.
/// Held out: every fifth row.
LevelPairs Fitter::collect_pairs(const LevelPlan& plan) const {
    const size_t width = static_cast<size_t>(plan.slots) + 1, places = plan.training.size() / width,
                 rows = data_.rows();
    const std::uint64_t most = std::min<std::uint64_t>(options_.level_pairs, std::uint64_t{rows} * places);
    const auto upto = [&](size_t row) {
        return static_cast<size_t>(
            static_cast<double>(row) / static_cast<double>(rows) * static_cast<double>(most) + 0.5);
    };
    LevelPairs pairs;
    for (size_t n = 0; n < rows; ++n) pairs.train += n % 5 == 4 ? 0 : upto(n + 1) - upto(n);
    pairs.values = Array<float>(width, upto(rows));
    const size_t d = static_cast<size_t>(model_.dimension()),
                 batch = std::max<size_t>(1, (size_t{1} << 20) / d);
    std::vector<double> x(batch * d);
    size_t train = 0, test = pairs.train;
    for (size_t first = 0; first < rows; first += batch) {
        const size_t count = std::min(batch, rows - first);
        model_.view.read(data_, first, count, x.data());
        for (size_t n = first; n < first + count; ++n) {
            const size_t share = upto(n + 1) - upto(n);
            if (share == 0) continue;
            const std::uint64_t start =
                philox(options_.seed, Stream::level_pairs, n, static_cast<std::uint32_t>(plan.stage), 0).v[0];
            size_t& to = n % 5 == 4 ? test : train;
            for (size_t k = 0; k < share; ++k, ++to) {
                const int* place = plan.training.data() + (start + k * places / share) % places * width;
                for (size_t s = 0; s < width; ++s)
                    pairs.values(s, to) =
                        place[s] < 0 ? 0
                                     : static_cast<float>(x[(n - first) * d + static_cast<size_t>(place[s])]);
            }
        }
        if (const int signal = context_.interrupt_signal()) throw Interrupted(signal);
    }
    return pairs;
}

void Fitter::fit_levels() {
    const bool homogeneous =
        options_.reflection_symmetric || options_.lattice->boundary == Boundary::periodic;
    const auto plans =
        lattice_levels(*options_.lattice, homogeneous, options_.reflection_symmetric, measured_reach());
    model_.lattice = options_.lattice;
    LevelOptions options;
    options.even = even_, options.ridge = options_.ridge, options.degree = options_.degree,
    options.t_end = options_.t_end;
    Progress progress(context_, "levels", plans.size());
    for (const LevelPlan& plan : plans) {
        report_.levels.emplace_back();
        model_.levels.push_back(
            fit_level(context_, plan, collect_pairs(plan), options, report_.levels.back()));
        model_.default_steps = std::max(model_.default_steps, model_.levels.back().steps);
        progress.advance(1);
        const LevelReport& r = report_.levels.back();
        if (getenv("DYNKIN_TRACE")) {
            fmt::print(stderr,
                       "{:12s} stage {:2d} targets {:4d} pairs {:8d} slots {:2d} K {:4d} {} sd {:.4f} ridge "
                       "{:g} heldout {:.5f}\n",
                       r.name, plan.stage, r.targets, r.pairs, plan.slots, r.basis_size, r.descriptors,
                       model_.levels.back().scale, r.ridge, r.heldout);
            for (auto& [n, v] : r.tried) fmt::print(stderr, "      {} {:.5f}\n", n, v);
        }
    }
}

} // namespace dynkin

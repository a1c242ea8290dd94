// plots_chains.cpp - pictures of Markov chains: traces and ranks.
#include "plots.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <numeric>

namespace dynkin::app {
namespace {

using std::size_t;
const char* const inks[] = {"#c4450c", "#0a5aa0", "#2a7a3b", "#8a5a00"};
constexpr size_t most_chains = 4, most_points = 400;

std::vector<size_t> spread(size_t all, size_t count) {
    std::vector<size_t> taken;
    for (size_t k = 0; k < std::min(count, all); ++k) taken.push_back(k * all / std::min(count, all));
    return taken;
}

/// Rank of each value among all, in (0, 1).
std::vector<double> ranks_of(const std::vector<double>& values) {
    std::vector<size_t> order(values.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
    std::vector<double> ranks(values.size());
    for (size_t r = 0; r < order.size(); ++r)
        ranks[order[r]] = (static_cast<double>(r) + 0.5) / static_cast<double>(order.size());
    return ranks;
}

} // namespace

void Plots::traces(const std::string& file, const std::vector<Chains>& quantities, size_t chains,
                   size_t length, size_t thinning) {
    const std::vector<size_t> taken = spread(chains, most_chains), times = spread(length, most_points);
    std::vector<std::string> plots;
    for (const Chains& quantity : quantities) {
        std::string plot;
        for (size_t k = 0; k < taken.size(); ++k) {
            std::vector<std::vector<double>> columns(2);
            for (const size_t n : times) {
                columns[0].push_back(static_cast<double>(n * thinning));
                columns[1].push_back(quantity.values[taken[k] * length + n]);
            }
            plot += fmt::format("{}{} using 1:2 with lines lw 1 lc rgb '{}'", k ? ", " : "", data(columns),
                                inks[k]);
        }
        plots.push_back(plot);
    }
    begin(file, 900, static_cast<int>(100 + 280 * quantities.size()), 15);
    line(fmt::format("set multiplot layout {},1", quantities.size()));
    line(fmt::format("unset key; set lmargin 10; set rmargin 2; set xrange [0:{}]",
                     std::max<size_t>(length * thinning, 1)));
    for (size_t q = 0; q < quantities.size(); ++q) {
        if (q + 1 == quantities.size()) line("set xlabel 'iteration after warm-up'");
        line(fmt::format("set ylabel '{}'\nplot {}", quantities[q].name, plots[q]));
    }
    line("unset multiplot");
}

void Plots::ranks(const std::string& file, const std::vector<Chains>& quantities, size_t chains,
                  size_t length) {
    const std::vector<size_t> taken = spread(chains, most_chains);
    const size_t bins = std::clamp<size_t>(length / 10, 4, 20);
    const double expected = static_cast<double>(length) / static_cast<double>(bins),
                 deviation = std::sqrt(expected * (1 - 1 / static_cast<double>(bins)));
    std::vector<std::string> panels, titles;
    double top = expected + 3 * deviation;
    for (const Chains& quantity : quantities) {
        const std::vector<double> ranks = ranks_of(quantity.values);
        for (const size_t c : taken) {
            std::vector<std::vector<double>> columns(2, std::vector<double>(bins));
            for (size_t b = 0; b < bins; ++b)
                columns[0][b] = (static_cast<double>(b) + 0.5) / static_cast<double>(bins);
            for (size_t n = 0; n < length; ++n)
                columns[1][std::min(static_cast<size_t>(ranks[c * length + n] * static_cast<double>(bins)),
                                    bins - 1)] += 1;
            top = std::max(top, *std::max_element(columns[1].begin(), columns[1].end()));
            panels.push_back(data(columns));
            titles.push_back(
                fmt::format("{}, chain {}", quantity.name.substr(0, quantity.name.find_first_of(", ")), c));
        }
    }
    begin(file, 900, static_cast<int>(60 + 250 * quantities.size()), 12);
    line(fmt::format("set multiplot layout {},{}", quantities.size(), taken.size()));
    line(fmt::format("unset key; unset grid; set border 3 lc rgb '#555555'; set xrange [0:1]; set yrange "
                     "[0:{:.7g}]; set xtics 0.5",
                     1.1 * top));
    line(fmt::format("set boxwidth {:.7g}", 0.9 / static_cast<double>(bins)));
    line(fmt::format(
        "set object 1 rectangle from 0,{:.7g} to 1,{:.7g} behind fc rgb '#dddddd' fs solid noborder",
        std::max(expected - 2 * deviation, 0.0), expected + 2 * deviation));
    for (size_t p = 0; p < panels.size(); ++p)
        line(fmt::format(
            "set title '{}'\nplot {} using 1:2 with boxes fs solid noborder lc rgb '{}', {:.7g} lc rgb "
            "'#333333' lw 1",
            titles[p], panels[p], inks[1], expected));
    line("unset multiplot");
}

} // namespace dynkin::app

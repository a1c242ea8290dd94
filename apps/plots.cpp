#include "plots.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <numeric>

namespace dynkin::app {
namespace {

using std::size_t;
using Columns = std::vector<std::vector<double>>;

// Apart for the colour-blind, and in grey print.
const char* const filled = "#b8b8b8";
const char* const inks[] = {"#c4450c", "#0a5aa0", "#2a7a3b"};

struct Range {
    double lo, hi;
};

/// A range that is not empty.
Range widened(double lo, double hi) {
    const double margin = hi > lo ? 0.0 : 0.5 + 1e-3 * std::abs(lo);
    return {lo - margin, hi + margin};
}

double quantile(std::vector<double> values, double p) {
    const auto k = static_cast<std::ptrdiff_t>(p * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), values.begin() + k, values.end());
    return values[static_cast<size_t>(k)];
}

std::vector<double> finite(const std::vector<double>& values) {
    std::vector<double> kept;
    std::copy_if(values.begin(), values.end(), std::back_inserter(kept),
                 [](double v) { return std::isfinite(v); });
    return kept;
}

/// All of the first, and all but 1 in 1000 at each end of the others.
Range range_of(const std::vector<Plots::Series>& series) {
    double lo = std::numeric_limits<double>::infinity(), hi = -lo;
    for (size_t k = 0; k < series.size(); ++k) {
        const std::vector<double> values = finite(series[k].values);
        if (values.empty()) continue;
        lo = std::min(lo, quantile(values, k == 0 ? 0 : 0.001));
        hi = std::max(hi, quantile(values, k == 0 ? 1 : 0.999));
    }
    return lo <= hi ? widened(lo, hi) : Range{0, 1};
}

bool whole(const std::vector<Plots::Series>& series) {
    return std::all_of(series.begin(), series.end(), [](const Plots::Series& one) {
        return std::all_of(one.values.begin(), one.values.end(), [](double v) { return v == std::floor(v); });
    });
}

struct Bins {
    Range range;
    size_t count;
};

/// `count` of them over the range, or one for each integer when there are few and all values are integers.
Bins bins_of(const std::vector<Plots::Series>& series, size_t count) {
    Range range = range_of(series);
    if (!whole(series) || range.hi - range.lo > 100) return {range, count};
    range = {std::ceil(range.lo) - 0.5, std::floor(range.hi) + 0.5};
    return {range, static_cast<size_t>(range.hi - range.lo)};
}

/// Centres and densities of the bins.
Columns histogram(const Plots::Series& series, const Bins& of) {
    const auto [range, bins] = of;
    const double width = (range.hi - range.lo) / static_cast<double>(bins);
    Columns columns(2, std::vector<double>(bins));
    double total = 0;
    for (size_t n = 0; n < series.values.size(); ++n) {
        const double w = series.weight.empty() ? 1 : series.weight[n], v = series.values[n];
        if (w == 0 || !std::isfinite(v)) continue;
        total += w;
        if (v < range.lo || v > range.hi) continue;
        columns[1][std::min(static_cast<size_t>((v - range.lo) / width), bins - 1)] += w;
    }
    for (size_t b = 0; b < bins; ++b) {
        columns[0][b] = range.lo + (static_cast<double>(b) + 0.5) * width;
        columns[1][b] /= total > 0 ? total * width : 1;
    }
    return columns;
}

std::vector<double> column_of(const Array<double>& x, size_t j) {
    std::vector<double> values(x.rows());
    for (size_t n = 0; n < x.rows(); ++n) values[n] = x(n, j);
    return values;
}

/// Indices of `count` of `all` things, evenly spread.
std::vector<size_t> spread(size_t all, size_t count) {
    std::vector<size_t> taken;
    for (size_t k = 0; k < std::min(count, all); ++k) taken.push_back(k * all / std::min(count, all));
    return taken;
}

} // namespace

void Plots::begin(const std::string& file, int width, int height, int font) {
    line("reset");
    line(fmt::format("set terminal pngcairo size {},{} font 'sans,{}' noenhanced linewidth 1.5", width,
                     height, font));
    line(fmt::format("set output '{}'", file));
    line("set border 3 lc rgb '#555555'; set tics nomirror; set grid ytics lc rgb '#e4e4e4' lw 1");
}

std::string Plots::data(const Columns& columns) {
    const std::string name = fmt::format("$d{}", blocks_++);
    line(name + " << EOD");
    for (size_t n = 0; n < columns[0].size(); ++n) {
        for (const auto& column : columns)
            script_ += std::isfinite(column[n]) ? fmt::format("{:.7g} ", column[n]) : "NaN ";
        script_ += "\n";
    }
    line("EOD");
    return name;
}

std::string Plots::matrix(const Array<double>& values) {
    Columns columns(values.cols(), std::vector<double>(values.rows()));
    for (size_t n = 0; n < values.rows(); ++n)
        for (size_t j = 0; j < values.cols(); ++j) columns[j][n] = values(n, j);
    return data(columns);
}

void Plots::histograms(const std::string& file, const std::string& label, const std::vector<Series>& series) {
    const Bins bins = bins_of(series, 60);
    std::string plots;
    for (size_t k = 0; k < series.size(); ++k) {
        const std::string block = data(histogram(series[k], bins));
        plots += fmt::format("{}{} using 1:2 title '{}' {}", k ? ", " : "", block, series[k].name,
                             k == 0 ? fmt::format("with boxes lc rgb '{}' lw 0.5 fs solid border", filled)
                                    : fmt::format("with histeps lw {} lc rgb '{}'",
                                                  k + 1 == series.size() ? 2.5 : 1.5,
                                                  inks[k + 1 == series.size() ? 0 : 1]));
    }
    begin(file, 900, 560, 17);
    line(fmt::format("set xlabel '{}'; set ylabel 'density'; set yrange [0:*]; set xrange [{:.7g}:{:.7g}]",
                     label, bins.range.lo, bins.range.hi));
    line("set key above");
    line("plot " + plots);
}

void Plots::marginals(const std::string& file, const Array<double>& reference, const Array<double>& samples,
                      std::span<const double> weight) {
    std::vector<size_t> moving;
    for (size_t j = 0; j < reference.cols(); ++j)
        for (size_t n = 1; n < reference.rows(); ++n)
            if (reference(n, j) != reference(0, j)) {
                moving.push_back(j);
                break;
            }
    if (moving.empty()) moving.push_back(0);
    const std::vector<size_t> taken = spread(moving.size(), 9);
    const size_t across = std::min<size_t>(taken.size(), 3), down = (taken.size() + 2) / 3;
    struct Panel {
        size_t site;
        std::string reference, samples;
        Range range;
    };
    std::vector<Panel> panels;
    for (const size_t k : taken) {
        const Series given{"", column_of(reference, moving[k]), {}},
            found{"", column_of(samples, moving[k]), {weight.begin(), weight.end()}};
        const Bins bins = bins_of({given, found}, 40);
        panels.push_back({moving[k], data(histogram(given, bins)), data(histogram(found, bins)), bins.range});
    }
    begin(file, 900, static_cast<int>(60 + 280 * down), 14);
    line(fmt::format("set multiplot layout {},{} margins 0.02,0.98,{:.3f},{:.3f} spacing 0.03,{:.3f}", down,
                     across, 0.14 / static_cast<double>(down), 1 - 0.14 / static_cast<double>(down),
                     0.3 / static_cast<double>(down)));
    line("unset ytics; unset grid; set border 1 lc rgb '#555555'; set yrange [0:*]; set xtics autofreq; "
         "unset key");
    for (const Panel& p : panels) {
        line(fmt::format("set xrange [{:.7g}:{:.7g}]; set xtics {:.1g}; set title 'x[{}]' offset 0,-0.6",
                         p.range.lo, p.range.hi, (p.range.hi - p.range.lo) / 3, p.site));
        line(fmt::format(
            "plot {} using 1:2 with boxes lc rgb '{}' lw 0.5 fs solid border, {} using 1:2 with histeps lw 2 "
            "lc rgb '{}'",
            p.reference, filled, p.samples, inks[0]));
    }
    line("unset multiplot");
}

void Plots::two_point(const std::string& file,
                      const std::vector<std::pair<std::string, std::vector<Estimate>>>& functions) {
    std::string plots = "0 notitle lc rgb '#999999' lw 1";
    for (size_t k = 0; k < functions.size(); ++k) {
        Columns columns(3);
        const auto& estimates = functions[k].second;
        for (size_t r = 0; r < estimates.size(); ++r) {
            columns[0].push_back(static_cast<double>(r) + 0.12 * static_cast<double>(k));
            columns[1].push_back(estimates[r].value), columns[2].push_back(estimates[r].error);
        }
        plots += fmt::format(", {} using 1:2:3 title '{}' with yerrorbars pt {} ps 0.9 lw 2 lc rgb '{}'",
                             data(columns), functions[k].first, k == 0 ? 7 : 5,
                             functions.size() > 1 && k == 0 ? "#888888" : inks[0]);
    }
    begin(file, 900, 560, 17);
    line("set xlabel 'distance, sites'; set ylabel 'two-point function'; set key above; set xrange "
         "[-0.5:*]");
    line(fmt::format("set xtics {}", functions[0].second.size() / 12 + 1));
    line("plot " + plots);
}

void Plots::weights(const std::string& file, std::span<const double> weight) {
    const double mean =
        std::accumulate(weight.begin(), weight.end(), 0.0) / static_cast<double>(weight.size());
    Series logs;
    for (const double w : weight)
        if (w > 0) logs.values.push_back(std::log10(w / mean));
    const double lowest = quantile(logs.values, 0.0005),
                 highest = *std::max_element(logs.values.begin(), logs.values.end());
    const Range range = widened(lowest, highest);
    const std::string block = data(histogram(logs, {range, 60}));
    begin(file, 900, 560, 17);
    line("set xlabel 'log10 of weight over mean weight'; set ylabel 'density'; set yrange [0:*]; unset key");
    line("set arrow from 0, graph 0 to 0, graph 1 nohead lc rgb '#555555' dt 2");
    line(fmt::format("plot {} using 1:2 with boxes lc rgb '{}' lw 0.5 fs solid border", block, inks[0]));
}

// ---- configurations

size_t Plots::shown(const std::vector<size_t>& shape) {
    if (shape.size() < 2) return 8;
    const size_t longest = std::max(shape[shape.size() - 1], shape[shape.size() - 2]);
    const size_t side = std::clamp<size_t>(72 / (longest + 1), 1, 8);
    return side * side;
}

void Plots::configurations(const std::string& file, const std::vector<size_t>& shape, const Half& left,
                           const Half& right) {
    if (shape.size() < 2)
        lines(file, left, right);
    else
        sheet(file, shape, left, right);
}

/// Each configuration above the one before.
void Plots::lines(const std::string& file, const Half& left, const Half& right) {
    double largest = 1e-300;
    for (const Half* half : {&left, &right})
        for (const double v : half->rows) largest = std::max(largest, std::abs(v));
    std::string plots[2];
    const Half* halves[] = {&left, &right};
    for (int h = 0; h < 2; ++h) {
        const Array<double>& x = halves[h]->rows;
        for (size_t n = 0; n < x.rows(); ++n) {
            Columns columns(2);
            const double base = 2.2 * largest * static_cast<double>(n);
            for (size_t i = 0; i < x.cols(); ++i)
                columns[0].push_back(static_cast<double>(i)), columns[1].push_back(base + x(n, i));
            plots[h] += fmt::format(
                "{}{:.7g} notitle lc rgb '#c8c8c8' lw 1, {} using 1:2 with {} pt 7 ps 0.5 lw 1.5 lc rgb '{}'",
                n ? ", " : "", base, data(columns), x.cols() <= 64 ? "linespoints" : "lines",
                h == 0 ? inks[0] : "#444444");
        }
    }
    begin(file, 900, 700, 15);
    line("set multiplot layout 1,2 margins 0.02,0.98,0.13,0.92 spacing 0.04,0.1");
    line(fmt::format("unset ytics; unset grid; unset key; set border 1 lc rgb '#555555'; set xlabel 'site'; "
                     "set xrange [0:{}]; set yrange [{:.7g}:{:.7g}]",
                     left.rows.cols() - 1, -1.3 * largest,
                     largest * (2.2 * static_cast<double>(left.rows.rows()) - 0.9)));
    for (int h = 0; h < 2; ++h) line(fmt::format("set title '{}'\nplot {}", halves[h]->name, plots[h]));
    line("unset multiplot");
}

/// Images with a gap of one cell between them. Fields of both signs in two colours, others in grey.
void Plots::sheet(const std::string& file, const std::vector<size_t>& shape, const Half& left,
                  const Half& right) {
    const size_t h = shape[shape.size() - 2], w = shape[shape.size() - 1],
                 slices = shape.size() > 2 ? shape[0] : 1;
    const size_t offset = slices / 2 * h * w, side = std::clamp<size_t>(72 / (std::max(h, w) + 1), 1, 8);
    std::vector<double> all(right.rows.begin(), right.rows.end());
    const double lo = quantile(all, 0.005), hi = quantile(all, 0.995),
                 bound = std::max({std::abs(lo), std::abs(hi), 1e-300});
    const bool two_signs = lo < -0.05 * bound && hi > 0.05 * bound;
    std::string blocks[2];
    const Half* halves[] = {&left, &right};
    for (int k = 0; k < 2; ++k) {
        Array<double> cells(side * (h + 1) - 1, side * (w + 1) - 1);
        std::fill(cells.begin(), cells.end(), std::numeric_limits<double>::quiet_NaN());
        for (size_t n = 0; n < std::min(side * side, halves[k]->rows.rows()); ++n)
            for (size_t i = 0; i < h * w; ++i)
                cells(n / side * (h + 1) + i / w, n % side * (w + 1) + i % w) =
                    halves[k]->rows(n, offset + i);
        blocks[k] = matrix(cells);
    }
    begin(file, 1100, 600, 16);
    line("set multiplot layout 1,2 margins 0.01,0.99,0.01,0.92 spacing 0.02,0");
    line("unset tics; unset border; unset grid; unset key; unset colorbox; set size ratio -1; set yrange [] "
         "reverse");
    if (two_signs)
        line(fmt::format(
            "set palette defined (-1 '#0a4a90', 0 '#ffffff', 1 '#b03000'); set cbrange [{:.7g}:{:.7g}]",
            -bound, bound));
    else
        line(fmt::format("set palette defined (0 '#f4f4f4', 1 '#101010'); set cbrange [{:.7g}:{:.7g}]", lo,
                         std::max(hi, lo + 1e-300)));
    for (int k = 0; k < 2; ++k)
        line(fmt::format("set title '{}'\nplot {} matrix with image pixels", halves[k]->name, blocks[k]));
    line("unset multiplot");
}

namespace {

/// Centres of bins x bins cells and the part of the rows in each.
Array<double> density_of(const Array<double>& x, std::span<const double> weight, const Range* range,
                         size_t bins) {
    Array<double> density(bins * bins, 3);
    const auto width = [&](size_t j) { return (range[j].hi - range[j].lo) / static_cast<double>(bins); };
    for (size_t c = 0; c < bins * bins; ++c) {
        density(c, 0) = range[0].lo + (static_cast<double>(c % bins) + 0.5) * width(0);
        density(c, 1) = range[1].lo + (static_cast<double>(c / bins) + 0.5) * width(1);
        density(c, 2) = 0;
    }
    double total = 0;
    for (size_t n = 0; n < x.rows(); ++n) {
        const double w = weight.empty() ? 1 : weight[n], u = (x(n, 0) - range[0].lo) / width(0),
                     v = (x(n, 1) - range[1].lo) / width(1), side = static_cast<double>(bins);
        total += w;
        if (w > 0 && u >= 0 && v >= 0 && u < side && v < side)
            density(static_cast<size_t>(v) * bins + static_cast<size_t>(u), 2) += w;
    }
    for (size_t c = 0; c < bins * bins; ++c) density(c, 2) /= total;
    return density;
}

} // namespace

void Plots::plane(const std::string& file, const Half& left, std::span<const double> weight,
                  const Half& right) {
    Range range[2];
    for (size_t j = 0; j < 2; ++j)
        range[j] = range_of({{"", column_of(right.rows, j), {}}, {"", column_of(left.rows, j), {}}});
    const Half* halves[] = {&left, &right};
    const bool dense = std::min(left.rows.rows(), right.rows.rows()) >= 5000;
    const size_t bins = 90;
    double top = 0;
    std::string plots[2];
    for (size_t k = 0; k < 2; ++k) {
        const Array<double>& x = halves[k]->rows;
        if (!dense) {
            plots[k] = fmt::format("{} using 1:2 with points pt 7 ps 0.35 lc rgb '{}'",
                                   data({column_of(x, 0), column_of(x, 1)}), k == 0 ? inks[0] : "#444444");
            continue;
        }
        const Array<double> density = density_of(x, k == 0 ? weight : std::span<const double>(), range, bins);
        if (k == 1)
            for (size_t c = 0; c < bins * bins; ++c) top = std::max(top, density(c, 2));
        plots[k] = matrix(density) + " using 1:2:3 with image pixels";
    }
    begin(file, 1100, 600, 16);
    line("set multiplot layout 1,2 margins 0.06,0.99,0.09,0.92 spacing 0.05,0");
    line("unset grid; unset key; unset colorbox; set size ratio -1");
    line("set palette defined (0 '#ffffff', 0.15 '#bcd3ea', 0.5 '#3a7ab8', 1 '#08254a')");
    line(fmt::format("set cbrange [0:{:.7g}]; set xrange [{:.7g}:{:.7g}]; set yrange [{:.7g}:{:.7g}]",
                     std::max(top, 1e-300), range[0].lo, range[0].hi, range[1].lo, range[1].hi));
    for (size_t k = 0; k < 2; ++k) line(fmt::format("set title '{}'\nplot {}", halves[k]->name, plots[k]));
    line("unset multiplot");
}

} // namespace dynkin::app

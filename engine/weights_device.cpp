// weights_device.cpp - numbers and rows of the host through the device: sums over weights, the largest of
// them, energies and weights of rows, second moments.
#include "weights_device.h"
#include "../kernels/rows_cuda.h"
#include "../kernels/sort_cuda.h"
#include "../kernels/weights_cuda.h"
#include "device_chunks.h"
#include "energy_device.h"
#include "energy_law.h"
#include "npy.h"
#include "progress.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace dynkin {

using std::size_t;

namespace {

constexpr size_t most_nodes = size_t{1} << 14; ///< of a piece, about 2^20 numbers

/// Numbers on their way: up to two arrays in, up to one out, which may be one of those.
struct Stream {
    std::span<const double> first, second;
    std::span<double> out;
};

/// launch(piece, first, second, out) for pieces of the numbers; the numbers of blocks of nodes, one after
/// another. Pieces are as large as the memory allows, which changes no result.
template <class Launch>
std::vector<double> through_pieces(const Context& context, const Stream& numbers, const Launch& launch) {
    DeviceState& device = context.device_state();
    const PairwiseTree tree = PairwiseTree::of(numbers.first.size());
    const size_t arrays = numbers.second.empty() ? 1 : 2;
    const auto sizes_for = [&](size_t nodes) {
        const size_t room = nodes * (pairwise_leaf + 1), blocks = cuda::PairwisePiece{0, nodes}.blocks();
        return ChunkSizes{arrays * room, 0, blocks + (numbers.out.empty() ? 0 : room)};
    };
    size_t nodes = std::min(tree.nodes(), most_nodes);
    while (nodes > 1 && chunk_buffer_bytes(sizes_for(nodes)) + 4096 > device.memory_left()) nodes /= 2;
    const ChunkSizes sizes = sizes_for(nodes);
    const size_t room = sizes.rows / arrays, blocks = cuda::PairwisePiece{0, nodes}.blocks();
    std::vector<double> sums(tree.nodes() / nodes * blocks);
    const auto range = [&](size_t node) {
        const size_t first = tree.begin(node);
        return std::pair(first, tree.begin(node + nodes) - first);
    };
    const Progress progress(context, "sums", tree.nodes());
    for_chunks(
        device, &progress, tree.nodes(), nodes, sizes,
        [&](size_t node, size_t, ChunkBuffers& b) {
            const auto [first, size] = range(node);
            std::copy_n(numbers.first.data() + first, size, b.rows.data());
            if (arrays == 2) std::copy_n(numbers.second.data() + first, size, b.rows.data() + room);
        },
        [&](size_t node, size_t, ChunkBuffers& b) {
            const double* in = b.rows_there.data();
            double* out = b.numbers_there.data();
            launch(cuda::WeightPiece{tree, {node, nodes}, out}, in, in + room, out + blocks);
        },
        [&](size_t node, size_t, ChunkBuffers& b) {
            const auto [first, size] = range(node);
            std::copy_n(b.numbers.data(), blocks, sums.data() + node / nodes * blocks);
            if (!numbers.out.empty()) std::copy_n(b.numbers.data() + blocks, size, &numbers.out[first]);
        });
    return sums;
}

} // namespace

FiniteNumbers finite_on_device(const Context& context, std::span<const double> log_weight) {
    const DeviceStream stream = context.device_state().compute_stream();
    FiniteNumbers found;
    found.largest =
        join_tree(through_pieces(context, {log_weight, {}, {}},
                                 [&](const cuda::WeightPiece& piece, const double* l, const double*,
                                     double*) { cuda::largest_finite(stream, piece, l); }),
                  [](double a, double b) { return std::max(a, b); });
    found.count = static_cast<size_t>(
        tree_sum(through_pieces(context, {log_weight, {}, {}},
                                [&](const cuda::WeightPiece& piece, const double* l, const double*, double*) {
                                    cuda::count_finite(stream, piece, l);
                                })));
    return found;
}

double exponentials_on_device(const Context& context, std::span<const double> log_weight, double largest,
                              double exponent, std::span<double> weight) {
    const DeviceStream stream = context.device_state().compute_stream();
    return tree_sum(
        through_pieces(context, {log_weight, {}, weight},
                       [&](const cuda::WeightPiece& piece, const double* l, const double*, double* out) {
                           cuda::sum_exponentials(stream, piece, l, largest, exponent, out);
                       }));
}

double squares_on_device(const Context& context, std::span<double> weight, double divisor) {
    const DeviceStream stream = context.device_state().compute_stream();
    return tree_sum(through_pieces(context, {weight, {}, weight},
                                   [&](const cuda::WeightPiece& piece, const double* w, const double*,
                                       double* out) { cuda::sum_squares(stream, piece, w, divisor, out); }));
}

double sum_on_device(const Context& context, std::span<const double> weight) {
    const DeviceStream stream = context.device_state().compute_stream();
    return tree_sum(through_pieces(context, {weight, {}, {}},
                                   [&](const cuda::WeightPiece& piece, const double* w, const double*,
                                       double*) { cuda::sum_weights(stream, piece, w); }));
}

double weighted_sum_on_device(const Context& context, std::span<const double> weight,
                              std::span<const double> values) {
    const DeviceStream stream = context.device_state().compute_stream();
    return tree_sum(through_pieces(context, {weight, values, {}},
                                   [&](const cuda::WeightPiece& piece, const double* w, const double* v,
                                       double*) { cuda::sum_weighted(stream, piece, w, v); }));
}

double weighted_squares_on_device(const Context& context, std::span<const double> weight,
                                  std::span<const double> values, double total, double mean) {
    const DeviceStream stream = context.device_state().compute_stream();
    return tree_sum(
        through_pieces(context, {weight, values, {}},
                       [&](const cuda::WeightPiece& piece, const double* w, const double* v, double*) {
                           cuda::sum_weighted_squares(stream, piece, w, v, total, mean);
                       }));
}

// The largest
// ---------------------------------------------------------------------------------------------------------

/// Pieces are sorted on the device, and their ends merged on the host.
std::vector<double> largest_on_device(const Context& context, std::span<const double> numbers, size_t count) {
    DeviceState& device = context.device_state();
    const DeviceStream stream = device.compute_stream();
    constexpr double none = -std::numeric_limits<double>::infinity();
    const auto sizes_for = [&](size_t piece) { return ChunkSizes{piece, 0, std::min(piece, count)}; };
    const auto bytes_for = [&](size_t piece) {
        return chunk_buffer_bytes(sizes_for(piece)) + piece * sizeof(double) +
               cuda::sort_workspace(piece, false) + 4096;
    };
    size_t piece = std::min(numbers.size(), size_t{1} << 20);
    while (piece > 1 && bytes_for(piece) > device.memory_left()) piece /= 2;
    DeviceArray<double> sorted(device, piece, "sorted weights");
    DeviceArray<unsigned char> workspace(device, cuda::sort_workspace(piece, false), "sorting");
    std::vector<double> found;
    const Progress progress(context, "sort", numbers.size());
    for_chunks(
        device, &progress, numbers.size(), piece, sizes_for(piece),
        [&](size_t first, size_t used, ChunkBuffers& b) {
            for (size_t n = 0; n < piece; ++n)
                b.rows[n] = n < used && std::isfinite(numbers[first + n]) ? numbers[first + n] : none;
        },
        [&](size_t, size_t, ChunkBuffers& b) {
            cuda::ascending(stream, piece, b.rows_there.data(), sorted.data(), nullptr, nullptr,
                            workspace.data(), workspace.size());
            const size_t taken = b.numbers.size();
            cuda::copy_on_device(stream, b.numbers_there.data(), sorted.data() + piece - taken,
                                 taken * sizeof(double));
        },
        [&](size_t, size_t, ChunkBuffers& b) {
            for (const double value : b.numbers.span())
                if (value != none) found.push_back(value);
            std::sort(found.begin(), found.end());
            if (found.size() > count)
                found.erase(found.begin(), found.end() - static_cast<std::ptrdiff_t>(count));
        });
    return found;
}

// Rows
// ---------------------------------------------------------------------------------------------------------

WeighedRows weigh_rows_on_device(const Context& context, const Target& target, const SampleFile& samples,
                                 const SampleFile& log_density) {
    DeviceState& device = context.device_state();
    const DeviceStream stream = device.compute_stream();
    const size_t rows = samples.rows(), d = samples.cols();
    const EnergyLaw law(target);
    const DeviceLaw there(device, law.view());
    const auto sizes_for = [&](size_t chunk) { return ChunkSizes{chunk * (d + 1), 0, 3 * chunk}; };
    size_t chunk = std::clamp<size_t>((size_t{1} << 18) / d, 1, rows);
    while (chunk > 1 && chunk_buffer_bytes(sizes_for(chunk)) + 4096 > device.memory_left()) chunk /= 2;
    WeighedRows out{std::vector<double>(rows), std::vector<double>(rows), std::vector<double>(rows)};
    Progress progress(context, "weigh", rows);
    for_chunks(
        device, &progress, rows, chunk, sizes_for(chunk),
        [&](size_t first, size_t used, ChunkBuffers& b) {
            samples.read_any(first, used, b.rows.data());
            log_density.read_any(first, used, b.rows.data() + chunk * d);
        },
        [&](size_t, size_t used, ChunkBuffers& b) {
            double *log_weight = b.numbers_there.data(), *energy = log_weight + chunk, *mean = energy + chunk;
            const double *x = b.rows_there.data(), *log_q = x + chunk * d;
            cuda::energy_gradient(stream, there.view(), used, x, energy, nullptr);
            cuda::log_weights(stream, used, energy, log_q, log_weight);
            cuda::row_means(stream, used, d, x, mean);
        },
        [&](size_t first, size_t used, ChunkBuffers& b) {
            const double* from = b.numbers.data();
            std::copy_n(from, used, &out.log_weight[first]);
            std::copy_n(from + chunk, used, &out.energy[first]);
            std::copy_n(from + 2 * chunk, used, &out.site_mean[first]);
            progress.advance(used);
        });
    return out;
}

// Second moments
// ---------------------------------------------------------------------------------------------------------

struct DeviceSecondMoments::State {
    State(const Context& c, size_t dimension, bool with_errors)
        : context(c), device(context.device_state()), d(dimension), first(device, d * d, "second moments"),
          squares(device, with_errors ? d * d : 0, "errors of second moments"),
          fourth(device, with_errors ? d * d : 0, "errors of second moments") {
        for (DeviceArray<double>* sums : {&first, &squares, &fourth})
            if (sums->size() > 0)
                cuda::fill_zero(device.compute_stream(), sums->data(), sums->size() * sizeof(double));
    }

    Context context;
    DeviceState& device;
    size_t d;
    DeviceArray<double> first, squares, fourth;
};

DeviceSecondMoments::DeviceSecondMoments(const Context& context, size_t dimension, bool with_errors)
    : state_(std::make_shared<State>(context, dimension, with_errors)) {}

void DeviceSecondMoments::add(size_t count, const double* weight, const double* x) {
    if (count == 0) return;
    State& s = *state_;
    const size_t d = s.d, runs = std::max<size_t>((size_t{1} << 18) / d / cuda::moment_run, 1);
    const size_t chunk = std::min(runs * cuda::moment_run, count);
    const ChunkSizes sizes{chunk * (d + 2), 0, 0}; // rows, w, w^2
    const DeviceStream stream = s.device.compute_stream();
    for_chunks(
        s.device, nullptr, count, chunk, sizes,
        [&](size_t first, size_t used, ChunkBuffers& b) {
            double *w = b.rows.data() + chunk * d, *square = w + chunk;
            std::copy_n(x + first * d, used * d, b.rows.data());
            for (size_t n = 0; n < used; ++n) w[n] = weight[first + n], square[n] = w[n] * w[n];
        },
        [&](size_t, size_t used, ChunkBuffers& b) {
            const double *rows = b.rows_there.data(), *w = rows + chunk * d, *square = w + chunk;
            cuda::add_second_moments(stream, used, d, rows, w, 0, false, s.first.data());
            if (s.squares.size() == 0) return;
            cuda::add_second_moments(stream, used, d, rows, square, 0, false, s.squares.data());
            cuda::add_second_moments(stream, used, d, rows, square, 0, true, s.fourth.data());
        },
        [](size_t, size_t, ChunkBuffers&) {});
}

void DeviceSecondMoments::read(Array<double>& first, Array<double>& squares, Array<double>& fourth) const {
    const State& s = *state_;
    const auto take = [&](const DeviceArray<double>& from, Array<double>& to) {
        if (from.size() == 0) return;
        const std::vector<double> upper = to_host(s.device, from);
        for (size_t p = 0; p < s.d; ++p)
            for (size_t q = p; q < s.d; ++q) to(q, p) = upper[p * s.d + q];
    };
    take(s.first, first), take(s.squares, squares), take(s.fourth, fourth);
}

} // namespace dynkin

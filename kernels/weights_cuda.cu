// weights_cuda.cu - the terms of the sums of weights_cuda.h.
#include "pairwise_cuda.h"
#include "weights.h"
#include "weights_cuda.h"
#include <cmath>
#include <cstddef>
#include <limits>

namespace dynkin::cuda {
namespace {

constexpr unsigned block_threads = 128;

struct LargestTerms : Largest {
    std::size_t start;
    const double* log_weight;
    __device__ double leaf(unsigned, std::size_t first, std::size_t last) const {
        double largest = -std::numeric_limits<double>::infinity();
        for (std::size_t n = first; n < last; ++n) {
            const double l = log_weight[n - start];
            if (std::isfinite(l) && largest < l) largest = l;
        }
        return largest;
    }
};

/// Sums of term(place) over the places of a piece.
template <class Term> struct Terms : Added {
    std::size_t start;
    Term term;
    __device__ double leaf(unsigned, std::size_t first, std::size_t last) const {
        double sum = 0;
        for (std::size_t n = first; n < last; ++n) sum += term(n - start);
        return sum;
    }
};

struct Finite {
    const double* log_weight;
    __device__ double operator()(std::size_t n) const { return std::isfinite(log_weight[n]) ? 1 : 0; }
};
struct Exponential {
    const double* log_weight;
    double largest, exponent;
    double* weight;
    __device__ double operator()(std::size_t n) const {
        return weight[n] = weight_of(log_weight[n], largest, exponent);
    }
};
struct Square {
    const double* weight;
    double divisor;
    double* out;
    __device__ double operator()(std::size_t n) const {
        const double w = weight[n] / divisor;
        out[n] = w;
        return w * w;
    }
};
struct Weight {
    const double* weight;
    __device__ double operator()(std::size_t n) const { return weight[n]; }
};
struct Weighted {
    const double *weight, *value;
    __device__ double operator()(std::size_t n) const { return weighted(weight[n], value[n]); }
};
struct WeightedSquare {
    const double *weight, *value;
    double total, mean;
    __device__ double operator()(std::size_t n) const {
        return weighted_square(weight[n], value[n], total, mean);
    }
};

template <class Term> void sum(DeviceStream stream, const WeightPiece& p, const Term& term) {
    pairwise_blocks(stream, Terms<Term>{{}, p.first(), term}, p.tree, p.piece, 1, p.sums);
}

__global__ void __launch_bounds__(block_threads)
    log_weight_kernel(std::size_t count, const double* energy, const double* log_density, double* out) {
    const std::size_t n = static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x;
    if (n < count) out[n] = log_weight_of(energy[n], log_density[n]);
}

} // namespace

void largest_finite(DeviceStream stream, const WeightPiece& piece, const double* log_weight) {
    pairwise_blocks(stream, LargestTerms{{}, piece.first(), log_weight}, piece.tree, piece.piece, 1,
                    piece.sums);
}
void count_finite(DeviceStream stream, const WeightPiece& piece, const double* log_weight) {
    sum(stream, piece, Finite{log_weight});
}
void sum_exponentials(DeviceStream stream, const WeightPiece& piece, const double* log_weight, double largest,
                      double exponent, double* weight) {
    sum(stream, piece, Exponential{log_weight, largest, exponent, weight});
}
void sum_squares(DeviceStream stream, const WeightPiece& piece, const double* weight, double divisor,
                 double* out) {
    sum(stream, piece, Square{weight, divisor, out});
}
void sum_weights(DeviceStream stream, const WeightPiece& piece, const double* weight) {
    sum(stream, piece, Weight{weight});
}
void sum_weighted(DeviceStream stream, const WeightPiece& piece, const double* weight, const double* value) {
    sum(stream, piece, Weighted{weight, value});
}
void sum_weighted_squares(DeviceStream stream, const WeightPiece& piece, const double* weight,
                          const double* value, double total, double mean) {
    sum(stream, piece, WeightedSquare{weight, value, total, mean});
}

void log_weights(DeviceStream stream, std::size_t count, const double* energy, const double* log_density,
                 double* out) {
    if (count == 0) return;
    gpu::launch(log_weight_kernel, gpu::blocks_for(count, block_threads), block_threads, 0, stream, count,
                energy, log_density, out);
}

} // namespace dynkin::cuda

// weights_cuda.h - sums over importance weights on the device, a piece of the samples at a time. Plain C++;
// all is enqueued on the stream.
#pragma once
#include "device.h"
#include "pairwise_device.h"
#include <cstddef>

namespace dynkin::cuda {

/// Samples tree.begin(first_node) ... of a piece of the tree; `sums` takes piece.blocks() numbers. Arrays
/// hold the piece alone.
struct WeightPiece {
    PairwiseTree tree;
    PairwisePiece piece;
    double* sums;
    std::size_t first() const { return tree.begin(piece.first_node); }
    std::size_t size() const { return tree.begin(piece.first_node + piece.nodes) - first(); }
};

/// The largest finite number (-inf: none), by the tree; how many are finite.
void largest_finite(DeviceStream stream, const WeightPiece& piece, const double* log_weight);
void count_finite(DeviceStream stream, const WeightPiece& piece, const double* log_weight);
/// weight = weight_of(log_weight, largest, exponent), and their sum.
void sum_exponentials(DeviceStream stream, const WeightPiece& piece, const double* log_weight, double largest,
                      double exponent, double* weight);
/// out = weight / divisor, and the sum of their squares.
void sum_squares(DeviceStream stream, const WeightPiece& piece, const double* weight, double divisor,
                 double* out);
void sum_weights(DeviceStream stream, const WeightPiece& piece, const double* weight);
/// Sums of weighted() and weighted_square() of weights.h.
void sum_weighted(DeviceStream stream, const WeightPiece& piece, const double* weight, const double* value);
void sum_weighted_squares(DeviceStream stream, const WeightPiece& piece, const double* weight,
                          const double* value, double total, double mean);

/// out[n] = log_weight_of(energy[n], log_density[n]).
void log_weights(DeviceStream stream, std::size_t count, const double* energy, const double* log_density,
                 double* out);

} // namespace dynkin::cuda

// laws_cuda.h - many one-dimensional laws on the device, and their distances in pairs. Plain C++; all is
// enqueued on the stream.
#pragma once
#include "device.h"
#include "laws.h"
#include "pairwise_device.h"
#include <cstddef>

namespace dynkin::cuda {

/// `count` laws of one size, one after another in memory.
struct LawsView {
    std::size_t size;
    const double* value;
    const double* cumulated; ///< null: equal masses

    DYNKIN_HD LawView law(std::size_t k) const {
        return {size, value + k * size, cumulated ? cumulated + k * size : nullptr};
    }
};

/// Numbers of working space that cumulate() takes for a law.
std::size_t cumulate_space(std::size_t size);
/// masses (count, size) become the masses up to and including each, as laws.h says.
void cumulate(DeviceStream stream, unsigned count, std::size_t size, double* masses, double* space);

/// total_variation[k]: half the sum over bins of the reference's range of |p - p_ref|, or the mass elsewhere
/// than a constant reference, for which constant[k] is 1, else 0.
void total_variations(DeviceStream stream, unsigned count, const LawsView& laws, const LawsView& reference,
                      double* total_variation, double* constant);

/// Sums by the tree, a number for each 256 nodes: sums[k * blocks + block], blocks of whole(tree).
/// Integrals of quantile distances, over PairwiseTree::of(QuantilePieces::count()).
void quantile_distances(DeviceStream stream, unsigned count, const LawsView& laws, const LawsView& reference,
                        int power, double* sums);
/// sum of m value, and of m (value - center[k])^2, for equal masses m = 1/size or those given (size, the same
/// for all); over PairwiseTree::of(size).
void means(DeviceStream stream, unsigned count, std::size_t size, const double* value, const double* mass,
           double* sums);
void squared_deviations(DeviceStream stream, unsigned count, std::size_t size, const double* value,
                        const double* mass, const double* center, double* sums);

} // namespace dynkin::cuda

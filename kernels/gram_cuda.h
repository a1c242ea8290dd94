// gram_cuda.h - Gram matrices of many time nodes on the device. Plain C++.
#pragma once
#include "device.h"
#include <cstddef>

namespace dynkin::cuda {

/// One site's part of an entry. Numbers into the lists of GramTables; decays: into the row of a node.
struct GramPart {
    std::size_t base, stride; ///< of the triple's moments
    int slots;                ///< of the triple
    int gradient;             ///< g of the two degrees at the site
    int decay;                ///< of the site's family
    int left, right;          ///< decays of the two features: single numbers
    int pair;                 ///< < 0: a triple; else in `pairs`, for terms that share both sites
};
/// PairMoments in numbers; position < 0: none.
struct GramPairMoments {
    std::size_t base, stride_r, stride_s;
    int position;
};
struct GramPair {
    GramPairMoments all, odd;
    int product; ///< a of the two degrees at the neighbour
    int decay;   ///< of the neighbour's family
};
/// A(row, col), row >= col: the sum of its parts, one or two.
struct GramEntry {
    int row, col, first, count;
};
struct GramTables {
    const GramEntry* entries;
    std::size_t entry_count;
    const GramPart* parts;
    const GramPair* pairs;
    const int* slots; ///< and positions
    const double *gradients, *products;
    int degrees; ///< R + 1
    bool even;
};

/// a[node] (size x size, both triangles; what no entry names stays as it is) for nodes 0 .. nodes - 1, from
/// averaged moments; decays[node * decay_count + k]. The sums are those of ScoreSystem::gram, in the same
/// order. Cost: for each node and entry 3 (R + 1) flops, or up to 4 (R + 1)^2 where terms share both sites.
void gram_matrices(DeviceStream stream, const GramTables& tables, const double* moments, const double* decays,
                   std::size_t decay_count, std::size_t nodes, std::size_t size, double* a);

} // namespace dynkin::cuda

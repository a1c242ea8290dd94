// exact_cpu.cpp - the loop of exact.h on the CPU: particle after particle, its nodes in vectors. The twin is
// exact_cuda.cu, with the same bits.
#include "dispatch_cpu.h"
#include "exact.h"
#include "philox.h"
#include <utility>

namespace dynkin::cpu {
namespace {

using namespace kernels;

/// The densities at the nodes, relative to the highest.
inline void fill(const ExactView& v, const ExactSite& site, const float* x, double* row) {
    const auto value = [x](int j) {
        return static_cast<double>(x[static_cast<std::size_t>(j) * kScoreTile]);
    };
    const double* const base = v.base + site.base;
    const ExactLine line =
        exact_line(v, exact_sum(v.neighbours, site.first_neighbour, site.last_neighbour, value));
    for (int i = 0; i < kExactNodes; ++i) row[i] = base[i] + line.at + line.slope * i;
    for (int k = site.first_link; k < site.last_link; ++k) {
        const ExactLink& link = v.links[k];
        const ExactPlace place =
            exact_place(v, link, exact_sum(v.neighbours, link.first_neighbour, link.last_neighbour, value));
        for (int i = 0; i < kExactNodes; ++i) row[i] += place.at(i);
    }
    double highest = row[0];
    for (int i = 1; i < kExactNodes; ++i) highest = row[i] > highest ? row[i] : highest;
    for (int i = 0; i < kExactNodes; ++i) row[i] = portable_exp(row[i] - highest);
}

/// Mass up to the end of each group; zeros stand before the first.
struct Masses {
    double space[2][kExactGroups / 2 + kExactGroups];
    double* ends = space[0] + kExactGroups / 2;

    explicit Masses(const double* row) : space{} {
        for (int g = 0; g < kExactGroups; ++g) {
            const double* at = row + g * kExactCells;
            double sum = exact_mass(at[0], at[1]);
            for (int k = 1; k < kExactCells; ++k) sum += exact_mass(at[k], at[k + 1]);
            ends[g] = sum;
        }
        double* next = space[1] + kExactGroups / 2;
        for (int reach = 1; reach < kExactGroups; reach *= 2) {
            for (int g = 0; g < kExactGroups; ++g) next[g] = ends[g] + ends[g - reach];
            std::swap(ends, next);
        }
    }
    double total() const { return ends[kExactGroups - 1]; }
};

/// A cell, and the mass below it.
struct Cell {
    int index;
    double below;
};
inline Cell find(const double* row, const Masses& masses, double wanted) {
    int group = 0;
    for (int g = 0; g + 1 < kExactGroups; ++g) group += masses.ends[g] <= wanted ? 1 : 0;
    const double start = masses.ends[group - 1]; // 0 before the first
    Cell cell{group * kExactCells, start};
    const double* at = row + cell.index;
    double sum = 0;
    for (int k = 0; k + 1 < kExactCells; ++k) {
        sum += exact_mass(at[k], at[k + 1]);
        if (start + sum <= wanted) cell = {group * kExactCells + k + 1, start + sum};
    }
    return cell;
}

inline void draw_site(const ExactView& v, const ExactSite& site, double u, float* x, double* log_density) {
    double row[kExactNodes];
    fill(v, site, x, row);
    const Masses masses(row);
    const double total = masses.total(), wanted = u * total;
    const Cell cell = find(row, masses, wanted);
    const double low = row[cell.index], high = row[cell.index + 1],
                 s = exact_inverse(low, high, wanted - cell.below);
    x[static_cast<std::size_t>(site.target) * kScoreTile] = exact_value(v, cell.index, s);
    if (log_density) *log_density += exact_log_density(v, low, high, s, total);
}

} // namespace

void draw_exact(Isa isa, const ExactView& view, std::size_t first_site, std::size_t last_site,
                std::uint64_t seed, std::uint64_t first, float* x, double* log_density) {
    with_isa(isa, [&] {
        for (std::size_t k = first_site; k < last_site; ++k) {
            const ExactSite& site = view.sites[k];
            const auto slot = static_cast<std::uint32_t>(site.target);
            for (std::size_t p = 0; p < kScoreTile; ++p) {
                const RandomWords words = philox(seed, Stream::sampler_start, first + p, 0, slot / 4);
                draw_site(view, site, uniform(words.v[slot % 4]), x + p,
                          log_density ? log_density + p : nullptr);
            }
        }
    });
}

} // namespace dynkin::cpu

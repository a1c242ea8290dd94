// level_table.h - a level whose conditional law is a table: drawn by the inverse of its distribution
// function, without integration (private).
#pragma once
#include "../kernels/table.h"
#include "context.h"
#include "model.h"
#include "random.h"
#include <cstddef>
#include <cstdint>
#include <functional>

namespace dynkin {

struct TableOptions {
    double floor = 1e-7; ///< share of a uniform law in every row, so that no weight is infinite
    double margin = 0;   ///< the table reaches so many widths of the reference's box beyond it, on each side
};

/// Which random numbers: those of philox(seed, stream, first + particle, step, slot + target).
struct DrawKey {
    std::uint64_t seed = 0;
    Stream stream = Stream::table_draw;
    std::uint64_t first = 0;
    std::uint32_t step = 0, slot = 0;
};

/// q(z | u) of a level on a grid of its descriptors u (two at most) and of z, taken from the probability
/// flow; linear in z between the nodes, normalised as such, and between the rows of u the mixture of those
/// beside it. Another law than the flow's, but as close as its weights can tell, and its own log q is exact.
/// Coordinates stand as in LevelFlow; log q agrees between draw() and evaluate() bit for bit.
class LevelTable {
  public:
    static bool fits(const Level& level) {
        return level.descriptors.size() <= 2 && level.family.kind == ReferenceKind::fitted;
    }
    /// Throws Error(usage) unless it fits.
    LevelTable(const Context& context, const Level& level, const TableOptions& options = {});
    /// Given the sum of the neighbours in [-reach, reach]: density(sum, x), not normalised, for |x| <= box.
    /// `places` has the targets and neighbours, and nothing else is read of it.
    LevelTable(const Context& context, const Level& places, double reach, double box,
               const std::function<double(double sum, double x)>& log_density);

    /// Draws all targets of particles key.first .. + 63 given what is in x, and adds log q unless null.
    void draw(const DrawKey& key, float* x, double* log_density) const;
    /// Adds log q of the targets in x; -inf beyond the table.
    void evaluate(const float* x, double* log_density) const;

    const std::vector<int>& targets() const { return targets_; }
    const int* neighbours(std::size_t k) const { return neighbours_.data() + k * slots_; }
    int slots() const { return static_cast<int>(slots_); }
    const kernels::LawTable& law() const { return law_; }

  private:
    void take_places(const Level& level);
    void make_axes(const Level& level);
    void fill(const std::vector<double>& density, double floor);
    std::size_t rows() const;

    const kernels::TableKernels& kernels_;
    kernels::LawTable law_;
    std::vector<int> targets_, neighbours_;
    std::size_t slots_ = 0;
};

} // namespace dynkin

// stationary.h - draws from a stationary law on a box: the formula for engine/stationary.h and the device.
#pragma once
#include "portable.h"
#include <cmath>

namespace dynkin {

/// A density that is linear between the nodes lo + i h, i = 0 .. cells, and its integral up to each node.
struct StationaryTable {
    const double *density, *cumulative;
    int cells;
    double lo, h;
};

/// Where the share u, 0 < u < 1, of the mass lies below.
DYNKIN_HD double stationary_quantile(const StationaryTable& law, double u) {
    const double wanted = u * law.cumulative[law.cells];
    int cell = 0; // the last node but one with no more than that below it
    for (int count = law.cells; count > 0;) {
        const int half = count / 2;
        const bool beyond = wanted < law.cumulative[cell + half];
        cell += beyond ? 0 : half + 1;
        count = beyond ? half : count - half - 1;
    }
    cell -= cell > 0;
    // area = f0 s + (f1 - f0) s^2 / (2 h), solved without cancellation
    const double area = wanted - law.cumulative[cell], f0 = law.density[cell],
                 slope = (law.density[cell + 1] - f0) / law.h;
    const double square = f0 * f0 + 2 * slope * area, root = std::sqrt(square > 0 ? square : 0);
    const double s = f0 + root > 0 ? 2 * area / (f0 + root) : 0;
    return law.lo + law.h * cell + (s < 0 ? 0 : s > law.h ? law.h : s);
}

} // namespace dynkin

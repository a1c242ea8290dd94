// plugin_wrong.cpp - fails as its first parameter says: 0 energies alone, 1 a status, 2 a NaN at the start, 3
// a status for gradients, 4 a NaN where x_0 < -0.5.
#include <cmath>
#include <dynkin/plugin.h>

extern "C" int dynkin_energy(const double* parameters, size_t, size_t dimension, size_t count,
                             const double* x, double* energies, double* gradients) {
    const int fault = static_cast<int>(parameters[0]);
    if (fault == 1) return 7;
    if (gradients) return fault == 3 ? 8 : DYNKIN_NO_GRADIENT;
    for (size_t n = 0; n < count; ++n) {
        energies[n] = 0;
        for (size_t i = 0; i < dimension; ++i)
            energies[n] += 0.5 * x[n * dimension + i] * x[n * dimension + i];
        if (fault == 2 || (fault == 4 && x[n * dimension] < -0.5)) energies[n] = NAN;
    }
    return 0;
}

// ring.cpp - a target of one's own: a ring of double wells with springs to the neighbours and to theirs.
//
//   c++ -O2 -fPIC -shared ring.cpp -o libring.so $(pkg-config --cflags dynkin)
//   dynkin draw ring.toml -n 10000 -o samples.npy
//
// U = sum_i k/2 (x_i - x_{i+1})^2 + l/2 (x_i - x_{i+2})^2 + a (x_i^2 - 1)^2, parameters = [k, l, a].
#include <dynkin/plugin.h>

extern "C" int dynkin_energy(const double* parameters, size_t parameter_count, size_t dimension, size_t count,
                             const double* x, double* energies, double* gradients) {
    if (parameter_count != 3) return 2; // anything but 0 and DYNKIN_NO_GRADIENT is a failure
    const double k = parameters[0], l = parameters[1], a = parameters[2];
    const size_t d = dimension;
    for (size_t n = 0; n < count; ++n) {
        const double* at = x + n * d;
        double u = 0;
        for (size_t i = 0; i < d; ++i) {
            const double next = at[i] - at[(i + 1) % d], second = at[i] - at[(i + 2) % d],
                         well = at[i] * at[i] - 1;
            u += 0.5 * k * next * next + 0.5 * l * second * second + a * well * well;
        }
        energies[n] = u;
        if (!gradients) continue; // without gradients at all: if (gradients) return DYNKIN_NO_GRADIENT
        double* g = gradients + n * d;
        for (size_t i = 0; i < d; ++i) {
            const double neighbours = at[(i + 1) % d] + at[(i + d - 1) % d],
                         others = at[(i + 2) % d] + at[(i + 2 * d - 2) % d];
            g[i] =
                k * (2 * at[i] - neighbours) + l * (2 * at[i] - others) + 4 * a * at[i] * (at[i] * at[i] - 1);
        }
    }
    return 0;
}

/* plugin.h - a target of one's own, as a shared object that `kind = "plugin"` names (docs/formats.md). C and
 * C++. */
#pragma once
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What dynkin_energy() returns besides 0. */
#define DYNKIN_NO_GRADIENT 1

/**
 * Defined and exported by the shared object: energies[n] = U(x_n) in kT of `count` points, x row-major of
 * shape (count, dimension); unless `gradients` is null also their gradients dU/dx, of the same shape as x.
 * `parameters` are the numbers of the target's file.
 *
 * Returns 0; or DYNKIN_NO_GRADIENT when gradients are asked for and it has none (differences of energies are
 * then taken, 2 dimension energies a gradient); anything else when it fails, and then all points count as
 * points without energy. So does a NaN. It is called by several threads at once, depends on nothing but its
 * arguments, so that results can be repeated, and throws nothing.
 */
int dynkin_energy(const double* parameters, size_t parameter_count, size_t dimension, size_t count,
                  const double* x, double* energies, double* gradients);

#ifdef __cplusplus
}
#endif

// circle.h - the reference of an angle: Brownian motion on a circle of length 2 pi (private).
#pragma once
#include "eigenbasis.h"

namespace dynkin {

/// The uniform law on [0, 2 pi); phi_{2m-1} = sqrt 2 cos m u, phi_{2m} = sqrt 2 sin m u, lambda = m^2. A
/// family of the kind fitted that has no potential and no polynomials.
Family circle_family(int top_degree);

/// By its eigenvalues, in pairs: those of a diffusion on an interval are simple.
inline bool is_circle(const Family& family) {
    return family.kind == ReferenceKind::fitted && family.lambda.size() > 2 &&
           family.lambda[1] == family.lambda[2];
}

/// Functions of one frequency: what the degrees of a basis are multiples of.
inline int functions_of_frequency(const Family& family) { return is_circle(family) ? 2 : 1; }

} // namespace dynkin

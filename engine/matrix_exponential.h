// matrix_exponential.h - exp of a square matrix (private).
#pragma once
#include "array.h"
#include "context.h"
#include <array>
#include <initializer_list>
#include <utility>

namespace dynkin {

/// exp(a): Taylor's polynomial of degree 16 of a matrix scaled to a 1-norm of at most 3/4, where the
/// remainder is below rounding, squared again (Moler, Van Loan, SIAM Review 45 (2003) 3): products of
/// matrices alone. Throws Error(numerical) when it is not finite.
Array<double> matrix_exponential(Array<double> a);
/// The same on the context's device, by cuBLAS.
Array<double> matrix_exponential(const Context& context, Array<double> a);
Array<double> matrix_exponential_on_device(const Context& context, const Array<double>& a, double norm);

/// Throws Error(numerical) when it is not finite.
double one_norm(const Array<double>& a);
void require_finite_exponential(const double* exponential, std::size_t count);

/// How often a matrix of this 1-norm is halved.
inline int exponential_squarings(double norm) {
    int squarings = 0;
    for (; norm > 0.75; norm /= 2) ++squarings;
    return squarings;
}

constexpr std::size_t exponential_matrices = 6;
using MatrixTerms = std::initializer_list<std::pair<double, int>>; ///< factors, and numbers of matrices
/// exp(2^squarings a) for matrix 0, which is a. on.product(a, b, to) and on.sum(diagonal, terms, to) work on
/// six matrices by their numbers, on either backend. Returns the number of the result.
template <class Matrices> int scaled_exponential(Matrices& on, int squarings) {
    std::array<double, 17> c{1};
    for (std::size_t k = 1; k < c.size(); ++k) c[k] = c[k - 1] / static_cast<double>(k);
    on.product(0, 0, 1), on.product(1, 0, 2), on.product(1, 1, 3);
    int from = 4, to = 5;
    on.sum(c[12], {{c[13], 0}, {c[14], 1}, {c[15], 2}, {c[16], 3}}, from);
    for (std::size_t part = 3; part-- > 0;) {
        const std::size_t k = 4 * part;
        on.product(3, from, to);
        on.sum(c[k], {{c[k + 1], 0}, {c[k + 2], 1}, {c[k + 3], 2}, {1, to}}, from);
    }
    for (; squarings > 0; --squarings) {
        on.product(from, from, to);
        std::swap(from, to);
    }
    return from;
}

} // namespace dynkin

// score_basis.h - functions that span the potential of a score: polynomials of bounded total degree, or
// cosines on a box.
#pragma once
#include "array.h"
#include <cstddef>
#include <vector>

namespace dynkin {

enum class BasisKind { polynomial, cosine };

/// phi_k(x) = prod_j h_(k_j)(u_j), u_j = (x_j - center_j) / scale_j. Polynomials: h_n = He_n / sqrt(n!), all
/// |k|_1 <= order. Cosines: h_n = cos(n u), u cut to [0, pi], all |k|_2 <= order. Only terms that depend on
/// a driven coordinate; gradients and the Laplacian are those in the driven coordinates.
struct ScoreBasis {
    BasisKind kind = BasisKind::polynomial;
    int order = 4;
    std::vector<int> driven;
    std::vector<double> center, scale;
    /// Factors of term k: entries [first[k], first[k+1]) of (coordinate, degree).
    std::vector<int> first, coordinate, degree;

    std::size_t dimension() const { return center.size(); }
    std::size_t terms() const { return first.empty() ? 0 : first.size() - 1; }
};

/// Polynomials about `center` in units of `scale`. Throws Error(usage): order outside 1 to 32, more than 4096
/// terms, sizes that do not match, scale not positive.
ScoreBasis polynomial_basis(int order, std::vector<int> driven, std::vector<double> center,
                            std::vector<double> scale);
/// Cosines on the box [low, high].
ScoreBasis cosine_basis(int order, std::vector<int> driven, const std::vector<double>& low,
                        const std::vector<double>& high);

/// Gradients at x: gradient[j * terms + k] for the j-th driven coordinate; the Laplacians and the values of
/// the terms unless null.
void evaluate(const ScoreBasis& basis, const double* x, double* gradient, double* laplacian = nullptr,
              double* value = nullptr);

} // namespace dynkin

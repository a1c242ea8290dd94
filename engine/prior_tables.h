// prior_tables.h - Hermite functions as the kernels of priors want them (private).
#pragma once
#include "../kernels/prior.h"
#include "prior.h"
#include <algorithm>
#include <cmath>
#include <vector>

namespace dynkin {

/// `columns` padded to what the kernels work on at a time.
inline std::size_t prior_padded(std::size_t columns) {
    return (columns + kernels::kPriorLanes - 1) / kernels::kPriorLanes * kernels::kPriorLanes;
}

/// A product prior's columns, padded.
struct PaddedMarginals {
    std::size_t padded;
    std::vector<double> middle, scale;
    Array<double> moments;

    explicit PaddedMarginals(const ProductPrior& law)
        : padded(prior_padded(law.middle.size())), middle(law.middle), scale(law.scale),
          moments(law.moments.rows(), padded) {
        for (std::size_t r = 0; r < moments.rows(); ++r)
            std::copy_n(law.moments.row(r), middle.size(), moments.row(r));
        std::fill_n(moments.row(0), padded, 1.0);
        middle.resize(padded), scale.resize(padded);
    }
    kernels::MarginalView view() const { return {padded, middle.data(), scale.data(), moments.data()}; }
};

/// rows[n][i]: coefficient of y^i in He_n / sqrt(n!), n <= top.
inline Array<double> hermite_polynomials(int top) {
    const auto size = static_cast<std::size_t>(top + 1);
    Array<double> p(size, size);
    p(0, 0) = 1;
    for (std::size_t n = 1; n < size; ++n)
        for (std::size_t i = 0; i <= n; ++i) { // sqrt(n) phi_n = y phi_{n-1} - sqrt(n-1) phi_{n-2}
            const double up = i > 0 ? p(n - 1, i - 1) : 0;
            const double down = n > 1 ? std::sqrt(static_cast<double>(n - 1)) * p(n - 2, i) : 0;
            p(n, i) = (up - down) / std::sqrt(static_cast<double>(n));
        }
    return p;
}

kernels::HermiteTables hermite_tables(int degree);

} // namespace dynkin

#include "piecewise.h"
#include "error.h"
#include <algorithm>
#include <cmath>
#include <numbers>
#include <type_traits>

namespace dynkin {

using std::size_t;

std::vector<double> piecewise_coefficients(const Family& family, int functions, int pieces, int degree) {
    const size_t nodes = static_cast<size_t>(degree + 1), count = static_cast<size_t>(functions);
    std::vector<double> t(nodes);
    for (size_t m = 0; m < nodes; ++m)
        t[m] = std::cos(std::numbers::pi * (static_cast<double>(m) + 0.5) / static_cast<double>(nodes));
    std::vector<double> coefficients(static_cast<size_t>(pieces) * nodes * count), value(nodes * count);
    std::vector<double> power(nodes), difference(nodes);
    for (int piece = 0; piece < pieces; ++piece) {
        const double width = (family.hi - family.lo) / pieces;
        for (size_t m = 0; m < nodes; ++m)
            eigenfunctions(family, family.lo + width * (piece + 0.5 * (t[m] + 1)), functions,
                           &value[m * count], nullptr);
        for (size_t n = 0; n < count; ++n) {
            // Newton's divided differences, then expanded into powers of t.
            for (size_t m = 0; m < nodes; ++m) difference[m] = value[m * count + n];
            for (size_t order = 1; order < nodes; ++order)
                for (size_t m = nodes - 1; m >= order; --m)
                    difference[m] = (difference[m] - difference[m - 1]) / (t[m] - t[m - order]);
            std::fill(power.begin(), power.end(), 0.0);
            for (size_t m = nodes; m-- > 0;) {
                for (size_t k = nodes - 1; k > 0; --k) power[k] = power[k - 1] - t[m] * power[k];
                power[0] = difference[m] - t[m] * power[0];
            }
            for (size_t k = 0; k < nodes; ++k)
                coefficients[(static_cast<size_t>(piece) * nodes + k) * count + n] = power[k];
        }
    }
    return coefficients;
}

template <class T> kernels::FunctionTable<T> function_table(const Family& family) {
    kernels::FunctionTable<T> table;
    table.functions = family.top_degree() + 1;
    table.hermite = family.kind == ReferenceKind::hermite;
    if (table.hermite) return table;
    table.pieces = std::is_same_v<T, double> ? 256 : 512;
    table.degree = std::is_same_v<T, double> ? 7 : 3;
    table.stride = (table.functions + 15) / 16 * 16;
    table.lo = family.lo, table.hi = family.hi;
    const std::vector<double> c = piecewise_coefficients(family, table.functions, table.pieces, table.degree);
    const size_t rows = c.size() / static_cast<size_t>(table.functions);
    table.coefficients.assign(rows * static_cast<size_t>(table.stride), T{0});
    for (size_t row = 0; row < rows; ++row)
        for (size_t n = 0; n < static_cast<size_t>(table.functions); ++n)
            table.coefficients[row * static_cast<size_t>(table.stride) + n] =
                static_cast<T>(c[row * static_cast<size_t>(table.functions) + n]);
    return table;
}
template kernels::FunctionTable<float> function_table(const Family&);
template kernels::FunctionTable<double> function_table(const Family&);

template <class T> kernels::SiteFunctions<T> site_functions(const Family& family, int functions) {
    kernels::SiteFunctions<T> f;
    f.hermite = family.kind == ReferenceKind::hermite;
    f.functions = functions;
    for (int n = 1; n <= functions; ++n)
        f.lambda[n - 1] = static_cast<T>(family.lambda[static_cast<size_t>(n)]);
    require(family.potential.size() <= kernels::kPotentialTerms + 1, ErrorKind::input,
            "score: the potential's degree is too high");
    for (size_t k = 1; k < family.potential.size(); ++k)
        f.potential_slope[k - 1] = static_cast<T>(static_cast<double>(k) * family.potential[k]);
    if (f.hermite) return f;
    f.lo = static_cast<T>(family.lo), f.hi = static_cast<T>(family.hi);
    f.pieces = kernels::kPieces<T>, f.degree = kernels::kPieceDegree<T>;
    f.scale = static_cast<T>(f.pieces) / (f.hi - f.lo);
    const auto c = piecewise_coefficients(family, functions + 1, f.pieces, f.degree);
    const size_t powers = static_cast<size_t>(f.degree + 1), pieces = static_cast<size_t>(f.pieces);
    f.coefficients.resize(static_cast<size_t>(functions) * powers * pieces);
    for (size_t piece = 0; piece < pieces; ++piece)
        for (size_t power = 0; power < powers; ++power)
            for (size_t n = 0; n < static_cast<size_t>(functions); ++n)
                f.coefficients[(n * powers + power) * pieces + piece] =
                    static_cast<T>(c[(piece * powers + power) * static_cast<size_t>(functions + 1) + n + 1]);
    return f;
}
template kernels::SiteFunctions<float> site_functions(const Family&, int);
template kernels::SiteFunctions<double> site_functions(const Family&, int);

} // namespace dynkin

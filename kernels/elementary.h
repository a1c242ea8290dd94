// elementary.h - log, exp, sine and cosine without tables, branches or fused multiply-adds: loops over them
// vectorise, and they give the same bits on every machine and at every SIMD level, which libm does not
// promise.
#pragma once
#include "portable.h"
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace dynkin {

/// log(x), within 1 ulp (fdlibm e_log.c: x = 2^k (1 + f), atanh series in s = f/(2 + f)); -inf from 0 to
/// 2^-1022, NaN for NaN and x < 0.
DYNKIN_HD double portable_log(double x) {
    constexpr double infinity = std::numeric_limits<double>::infinity(),
                     largest = std::numeric_limits<double>::max();
    constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
    const std::uint64_t bits = std::bit_cast<std::uint64_t>(x);
    const std::uint64_t shifted =
        bits - 0x3fe6a09e667f3bcdull + (1024ull << 52); // k + 1024 in the exponent field
    const std::uint64_t exponent = shifted >> 52;
    const double f = std::bit_cast<double>(bits - (exponent << 52) + (1024ull << 52)) - 1.0;
    const double k = std::bit_cast<double>(exponent | 0x4330000000000000ull) - (0x1p52 + 1024.0);
    const double s = f / (2.0 + f), z = s * s, half = 0.5 * f * f;
    double r = 1.479819860511658591e-01;
    r = r * z + 1.531383769920937332e-01;
    r = r * z + 1.818357216161805012e-01;
    r = r * z + 2.222219843214978396e-01;
    r = r * z + 2.857142874366239149e-01;
    r = r * z + 3.999999999940941908e-01;
    r = r * z + 6.666666666666735130e-01;
    r = r * z;
    const double value =
        k * 6.93147180369123816490e-01 - ((half - (s * (half + r) + k * 1.90821492927058770002e-10)) - f);
    const double below = x >= 0.0 ? -infinity : not_a_number;
    return x > largest ? infinity : (x >= 0x1p-1022 ? value : below);
}

/// exp(x), within 2 ulp; 0 below -708, and x is cut at 709.
DYNKIN_HD double portable_exp(double x) {
    const double cut = x < -708.0 ? -708.0 : (x > 709.0 ? 709.0 : x);
    const double shifted = cut * 1.44269504088896340736 + 0x1.8p52; // round to nearest, in the low bits
    const double n = shifted - 0x1.8p52;
    const double r = (cut - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    double sum = 1.6059043836821613e-10; // 1/13!
    sum = sum * r + 2.08767569878681e-09;
    sum = sum * r + 2.505210838544172e-08;
    sum = sum * r + 2.755731922398589e-07;
    sum = sum * r + 2.7557319223985893e-06;
    sum = sum * r + 2.48015873015873e-05;
    sum = sum * r + 1.984126984126984e-04;
    sum = sum * r + 1.388888888888889e-03;
    sum = sum * r + 8.333333333333333e-03;
    sum = sum * r + 4.1666666666666664e-02;
    sum = sum * r + 1.6666666666666666e-01;
    sum = sum * r + 0.5;
    sum = sum * r + 1.0;
    sum = sum * r + 1.0;
    const double power = std::bit_cast<double>((std::bit_cast<std::uint64_t>(shifted) + 1023u) << 52);
    return x < -708.0 ? 0.0 : sum * power;
}

/// Sine and cosine of 2 pi u for u in [0, 1], within 2 ulp (fdlibm k_sin.c, k_cos.c on [-pi/4, pi/4]).
DYNKIN_HD void sincos_turns(double u, double& sine, double& cosine) {
    const double shifted = 4.0 * u + 0x1.8p52;
    const double quarter = shifted - 0x1.8p52;
    const double r = (4.0 * u - quarter) * 1.57079632679489661923, z = r * r;
    double s = 1.58969099521155010221e-10;
    s = s * z - 2.50507602534068634195e-08;
    s = s * z + 2.75573137070700676789e-06;
    s = s * z - 1.98412698298579493134e-04;
    s = s * z + 8.33333333332248946124e-03;
    s = s * z - 1.66666666666666324348e-01;
    s = r + r * (z * s);
    double c = -1.13596475577881948265e-11;
    c = c * z + 2.08757232129817482790e-09;
    c = c * z - 2.75573143513906633035e-07;
    c = c * z + 2.48015872894767294178e-05;
    c = c * z - 1.38888888888741095749e-03;
    c = c * z + 4.16666666666666019037e-02;
    c = 1.0 - (0.5 * z - z * z * c);
    const std::uint64_t turn = std::bit_cast<std::uint64_t>(shifted);
    const bool swapped = (turn & 1u) != 0;
    const double a = swapped ? c : s, b = swapped ? s : c;
    sine = (turn & 2u) != 0 ? -a : a;
    cosine = ((turn + 1u) & 2u) != 0 ? -b : b;
}

/// Box-Muller as in normal_pair() of philox.h, for loops over many: (0, 1) uniforms in, two independent
/// normals out.
DYNKIN_HD void normals_from_uniforms(double u, double v, double& first, double& second) {
    const double radius = std::sqrt(-2.0 * portable_log(u));
    double sine, cosine;
    sincos_turns(v, sine, cosine);
    first = radius * cosine;
    second = radius * sine;
}

} // namespace dynkin

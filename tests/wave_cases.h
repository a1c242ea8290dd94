// wave_cases.h - waves by the library's sines and cosines, and points, for the tests of both backends.
#pragma once
#include "cases.h"
#include "engine/waves.h"
#include "tolerance.h"
#include <cmath>
#include <numbers>
#include <random>

namespace dynkin {

namespace oracle {

/// f_n and f_n' of one coordinate, by the library's cosine.
inline double wave(bool periodic, int n, double u) {
    const int m = periodic ? (n + 1) / 2 : n;
    return periodic && n > 0 && n % 2 == 0 ? std::sin(m * u) : std::cos(m * u);
}
inline double wave_slope(bool periodic, int n, double u) {
    const int m = periodic ? (n + 1) / 2 : n;
    return periodic && n > 0 && n % 2 == 0 ? m * std::cos(m * u) : -m * std::sin(m * u);
}
inline double frequency_square(bool periodic, const int* k, std::size_t d) {
    double sum = 0;
    for (std::size_t j = 0; j < d; ++j) sum += std::pow(periodic ? (k[j] + 1) / 2 : k[j], 2);
    return sum;
}
inline double term(bool periodic, const int* k, const double* u, std::size_t d) {
    double product = 1;
    for (std::size_t j = 0; j < d; ++j) product *= wave(periodic, k[j], u[j]);
    return product;
}
inline double term_slope(bool periodic, const int* k, const double* u, std::size_t d, std::size_t i) {
    double product = 1;
    for (std::size_t j = 0; j < d; ++j)
        product *= j == i ? wave_slope(periodic, k[j], u[j]) : wave(periodic, k[j], u[j]);
    return product;
}

} // namespace oracle

namespace cases {

struct WaveCase {
    bool periodic;
    int dimension, radius;
};

inline Array<double> points(size_t rows, size_t d, unsigned seed, double side) {
    std::mt19937_64 engine(seed);
    std::uniform_real_distribution<double> uniform(0, 1);
    Array<double> u(rows, d);
    for (size_t n = 0; n < rows; ++n)
        for (size_t j = 0; j < d; ++j) u(n, j) = side * std::pow(uniform(engine), j + 1); // not uniform
    return u;
}

} // namespace cases

} // namespace dynkin
